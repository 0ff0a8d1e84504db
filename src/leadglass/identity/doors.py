"""What do our own doors present? Certificates of the serving CA, short-lived, renewed by the supervisor long before they end."""

from __future__ import annotations

import datetime as dt
import socket
from pathlib import Path

from cryptography import x509

from leadglass.identity.authority import DOOR_DAYS, Authority, KeyKind, key_pem, new_key, pem, write_file
from leadglass.site.layout import CA_DIRECTORY, DIMSE_DOOR, DOORS_DIRECTORY, SERVING_CA, WEB_DOOR
from leadglass.site.model import Site

RENEW_BEFORE = dt.timedelta(days=30)


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
        return door_certificate(site_dir, door).not_valid_after_utc - now <= RENEW_BEFORE
    except FileNotFoundError:
        return door == WEB_DOOR  # a site made before it had a web door
