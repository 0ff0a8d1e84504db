"""The web door's certificate from the hospital's CA: asked for, installed, and refused where browsers would not take it."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from leadglass.identity.authority import Authority, pem
from leadglass.identity.certificates import web_context
from leadglass.identity.doors import installed, issue_door, renew_doors, requested, web_credentials
from leadglass.site.layout import CA_DIRECTORY, DIMSE_DOOR, SERVING_CA, WEB_DOOR
from leadglass.site.load import load
from leadglass.site.model import Site
from leadglass.terms import Unenrollable

NOW = dt.datetime.now(dt.UTC)
NAME = "pacs.hospital.example"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return made(tmp_path)


def made(tmp_path: Path, certificate: str = "") -> Site:
    named = f'certificate = "{certificate}"\n' if certificate else ""
    text = f'schema = 1\n[site]\nname = "{NAME}"\n[doors.web]\nlisten = "0.0.0.0:443"\n{named}'
    (tmp_path / "leadglass.toml").write_text(text)
    return load(tmp_path)


def signed(request: bytes, *names: str, days: int = 90) -> bytes:
    public = x509.load_pem_x509_csr(request).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return pem(Authority.create("Hospital CA", NOW).issue(public, names[0], names, NOW, days))


def test_what_the_hospitals_ca_signed_is_served(site: Site) -> None:
    request = requested(site)
    csr = x509.load_pem_x509_csr(request)
    asked = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert csr.is_signature_valid and asked.get_values_for_type(x509.DNSName) == [NAME]
    path, ends = installed(site, signed(request, NAME), NOW)
    assert path.stat().st_mode & 0o777 == 0o600 and ends > NOW
    served = made(site.path, "doors/web-hospital.pem")
    assert web_credentials(served) == path
    assert web_context(path, []).verify_mode is ssl.CERT_OPTIONAL
    (site.path / CA_DIRECTORY).mkdir()
    Authority.create("serving", NOW, names=[NAME]).save(site.path / CA_DIRECTORY, SERVING_CA, None)
    issue_door(site.path, NAME, NOW)
    assert renew_doors(served, NOW) == [], "what the hospital's CA signed is never replaced by ours"
    assert renew_doors(made(site.path), NOW) == [WEB_DOOR]
    assert renew_doors(made(site.path), NOW) == []
    assert set(renew_doors(made(site.path), NOW + dt.timedelta(days=61))) == {DIMSE_DOOR, WEB_DOOR}
    assert set(renew_doors(made(site.path), NOW)) == {DIMSE_DOOR, WEB_DOOR}, (
        "by a clock that was ahead: nobody takes them"
    )
    assert renew_doors(made(site.path), NOW) == []


@pytest.mark.parametrize("name", ["*.hospital.example", NAME.upper()])
def test_names_match_as_in_browsers(site: Site, name: str) -> None:
    path, ends = installed(site, signed(requested(site), name), NOW)
    assert path.exists() and ends > NOW


@pytest.mark.parametrize("name", ["other.hospital.example", "*.example", "*.pacs.hospital.example", "hospital.example"])
def test_a_certificate_for_another_name(site: Site, name: str) -> None:
    with pytest.raises(Unenrollable, match="people open pacs.hospital.example"):
        installed(site, signed(requested(site), name), NOW)


def test_what_browsers_would_not_take(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(Unenrollable, match="door csr"):
        installed(site, b"", NOW)
    request = requested(site)
    with pytest.raises(Unenrollable, match="no PEM certificate"):
        installed(site, b"hello", NOW)
    with pytest.raises(Unenrollable, match="look at the clock"):
        installed(site, signed(request, NAME), NOW + dt.timedelta(days=91))
    other = requested(made(tmp_path_factory.mktemp("other")))
    with pytest.raises(Unenrollable, match="another key"):
        installed(site, signed(other, NAME), NOW)


def test_a_web_certificate_says_who_may_not_be_fooled_by_it(site: Site) -> None:
    """Ours: the site's name, and nothing that the serving CA may not vouch for."""
    (site.path / CA_DIRECTORY).mkdir()
    Authority.create("serving", NOW, names=[NAME, "127.0.0.0/8"]).save(site.path / CA_DIRECTORY, SERVING_CA, None)
    issue_door(site.path, NAME, NOW, WEB_DOOR)
    first, authority = x509.load_pem_x509_certificates(web_credentials(site).read_bytes())
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NAME]
    assert first.issuer == authority.subject and authority.fingerprint(hashes.SHA256())
    assert (
        serialization.load_pem_private_key(web_credentials(site).read_bytes(), None).public_key() == first.public_key()
    )
