"""The bundle opens with what stands on its sheet, in every form, and weak keys are refused."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from cryptography.x509.oid import NameOID

from leadglass.identity.authority import Authority, KeyKind
from leadglass.identity.enrolment import Sheet, bundle, enroll, foreign, sign
from leadglass.terms import Unenrollable

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
AUTHORITY = Authority.create("test device CA", NOW)
SHEET = Sheet("CT1", ("CT1",), "LEADGLASS", "pacs.example", 2762, "10.20.1.11/32", ("echo", "store"))


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str = "whatever the device says") -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize("kind", list(KeyKind))
def test_every_form_opens_and_holds_the_same_key(kind: KeyKind) -> None:
    issued, key = enroll(AUTHORITY, "CT1", kind, NOW)
    files = bundle(issued, key, [AUTHORITY.certificate], SHEET)
    assert set(files) == {"client.pem", "client.key", "client.p12", "client-legacy.p12", "ca.pem", "sheet.txt"}
    found = re.search(r"passphrase\s+(\S+)", files["sheet.txt"].decode())
    assert found is not None
    public = issued.certificate.public_key()
    assert serialization.load_pem_private_key(files["client.key"], None).public_key() == public
    for name in ("client.p12", "client-legacy.p12"):
        inside, certificate, chain = pkcs12.load_key_and_certificates(files[name], found[1].encode())
        assert inside is not None and certificate == issued.certificate and chain == [AUTHORITY.certificate]
        with pytest.raises(ValueError, match=r".*"):
            pkcs12.load_key_and_certificates(files[name], b"wrong")


def test_the_passphrase_is_new_each_time() -> None:
    issued, key = enroll(AUTHORITY, "CT1", KeyKind.EC, NOW)
    sheets = {bundle(issued, key, [], SHEET)["sheet.txt"] for _ in range(3)}
    assert len(sheets) == 3


def test_a_request_gives_its_key_and_nothing_else() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issued = sign(AUTHORITY, "CT1", request(key, "ADMIN"), NOW)
    assert issued.certificate.public_key() == key.public_key()
    assert "ADMIN" not in issued.certificate.subject.rfc4514_string()
    assert "client.key" not in bundle(issued, None, [], SHEET)


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP192R1())], ids=["rsa-1024", "p-192"]
)
def test_weak_keys_are_refused(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    with pytest.raises(Unenrollable, match="bits|P-256"):
        sign(AUTHORITY, "CT1", request(key), NOW)


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(Unenrollable, match="not a PEM certificate request"):
        sign(AUTHORITY, "CT1", b"hello", NOW)
    with pytest.raises(Unenrollable, match="not a PEM certificate"):
        foreign(b"hello")


def test_an_authority_opens_with_its_passphrase_only(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from leadglass.terms import KeyFault

    AUTHORITY.save(tmp_path, "device-ca", b"secret")
    assert (tmp_path / "device-ca.key").stat().st_mode & 0o777 == 0o600
    assert Authority.open(tmp_path, "device-ca", b"secret").certificate == AUTHORITY.certificate
    for wrong in (None, b"guess"):
        with pytest.raises(KeyFault):
            Authority.open(tmp_path, "device-ca", wrong)


def test_the_revocation_list_names_what_was_revoked() -> None:
    issued, _ = enroll(AUTHORITY, "CT1", KeyKind.EC, NOW)
    serial = issued.certificate.serial_number
    crl = x509.load_pem_x509_crl(AUTHORITY.revocation_list({serial: NOW}, NOW))
    assert crl.is_signature_valid(AUTHORITY.certificate.public_key())  # type: ignore[arg-type]
    assert crl.get_revoked_certificate_by_serial_number(serial) is not None
