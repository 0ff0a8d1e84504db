"""What do our own doors present? Certificates of the serving CA, short-lived, renewed by the supervisor long before they end."""

from __future__ import annotations

import datetime as dt
import socket
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from leadglass.identity.authority import DOOR_DAYS, Authority, KeyKind, key_pem, new_key, pem, write_file
from leadglass.site.layout import CA_DIRECTORY, DIMSE_DOOR, DOORS_DIRECTORY, SERVING_CA, WEB_DOOR
from leadglass.site.model import Site
from leadglass.terms import Unenrollable

RENEW_BEFORE = dt.timedelta(days=30)
HOSPITAL_KEY = "web-hospital.key"  # of a certificate that the hospital's CA signs, as long as it is asked for
HOSPITAL_CERTIFICATE = "web-hospital.pem"


def issue_door(site_dir: Path, host: str, now: dt.datetime, door: str = DIMSE_DOOR) -> dt.datetime:
    """A fresh key and certificate for a door: when it ends. The key first, then the certificate that names it."""
    authority = Authority.open(site_dir / CA_DIRECTORY, SERVING_CA, None)
    key = new_key(KeyKind.EC)
    known = {host, "localhost", socket.gethostname()} & permitted(authority.certificate) | {host}
    names = [*sorted(known), "127.0.0.1"]
    certificate = authority.issue(key.public_key(), host, names, now, DOOR_DAYS)
    both = key_pem(key, None) + pem(certificate) + pem(authority.certificate)
    write_file(
        site_dir / DOORS_DIRECTORY / f"{door}.pem", both, 0o600
    )  # one file, so that key and certificate change at once
    return certificate.not_valid_after_utc


def permitted(certificate: x509.Certificate) -> set[str]:
    """The DNS names that a serving CA may vouch for."""
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    return {str(each.value) for each in constraints.permitted_subtrees or () if isinstance(each, x509.DNSName)}


def door_certificate(site_dir: Path, door: str = DIMSE_DOOR) -> x509.Certificate:
    return x509.load_pem_x509_certificate((site_dir / DOORS_DIRECTORY / f"{door}.pem").read_bytes())


def web_credentials(site: Site) -> Path:
    """The key and certificate chain that the web door presents: the hospital's, or ours."""
    door = site.doors.web
    if door is not None and door.certificate:
        return site.path / door.certificate
    return site.path / DOORS_DIRECTORY / f"{WEB_DOOR}.pem"


def web_certificate_ends(site: Site) -> dt.datetime | None:
    """When what the web door presents ends; None where there is no door, or nothing to read."""
    if site.doors.web is None:
        return None
    try:
        return x509.load_pem_x509_certificate(web_credentials(site).read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None


def requested(site: Site) -> bytes:
    """A fresh key for the web door, kept beside its certificates, and the PEM of a request for the site's name."""
    key = new_key(KeyKind.EC)
    write_file(site.path / DOORS_DIRECTORY / HOSPITAL_KEY, key_pem(key, None), 0o600)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site.name)])
    names = x509.SubjectAlternativeName([x509.DNSName(site.name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(names, critical=False)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def installed(site: Site, certificates_pem: bytes, now: dt.datetime) -> tuple[Path, dt.datetime]:
    """Key and chain in one file: where, and when the first certificate ends. Raises Unenrollable where browsers would not take it."""
    try:
        key_file = (site.path / DOORS_DIRECTORY / HOSPITAL_KEY).read_bytes()
        first, *_ = x509.load_pem_x509_certificates(certificates_pem)
    except FileNotFoundError as error:
        raise Unenrollable("nobody asked for a certificate yet: `leadglass door csr`") from error
    except ValueError as error:
        raise Unenrollable(f"this is no PEM certificate: {error}") from error
    key = serialization.load_pem_private_key(key_file, None)
    if key.public_key() != first.public_key():
        raise Unenrollable(
            "the first certificate is for another key: name the one that was signed for `leadglass door csr`"
        )
    if not first.not_valid_before_utc <= now < first.not_valid_after_utc:
        raise Unenrollable(
            f"the certificate is good until {first.not_valid_after_utc:%Y-%m-%d} only: look at the clock, or ask for a new one"
        )
    try:
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    except x509.ExtensionNotFound:
        names = []
    if not any(_covers(each, site.name) for each in names):
        raise Unenrollable(
            f"the certificate names {', '.join(names) or 'nobody'}, people open {site.name}: ask for one with that name"
        )
    path = site.path / DOORS_DIRECTORY / HOSPITAL_CERTIFICATE
    write_file(path, key_file.strip() + b"\n" + certificates_pem, 0o600)
    return path, first.not_valid_after_utc


def _covers(pattern: str, name: str) -> bool:
    """As browsers match names (RFC 9525 6.3): a star is the first label and nothing else."""
    pattern, name = pattern.lower(), name.lower()
    return pattern == name or (pattern.startswith("*.") and pattern[2:] == name.partition(".")[2])


def renew_doors(site: Site, now: dt.datetime) -> list[str]:
    """The doors that got a new certificate of ours, or their first; workers take it up when the generation rises."""
    doors = [DIMSE_DOOR]
    if site.doors.web is not None and not site.doors.web.certificate:
        doors.append(WEB_DOOR)
    due = [door for door in doors if _is_due(site.path, door, now)]
    for door in due:
        issue_door(site.path, site.name, now, door)
    return due


def _is_due(site_dir: Path, door: str, now: dt.datetime) -> bool:
    try:
        certificate = door_certificate(site_dir, door)
        early = now < certificate.not_valid_before_utc  # made by a clock that was ahead: nobody else takes it for years
        return early or certificate.not_valid_after_utc - now <= RENEW_BEFORE
    except FileNotFoundError:
        return door == WEB_DOOR  # a site made before it had a web door
