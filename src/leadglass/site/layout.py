"""Where is what, below a site's directory? The names, and nothing that decides."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

CA_DIRECTORY = "ca"
DEVICE_CA = "device-ca"  # device-ca.pem; further ones that are trusted during a roll-over: device-ca-2.pem ...
SERVING_CA = "serving-ca"
DOORS_DIRECTORY = "doors"
DIMSE_DOOR = "dimse"
WEB_DOOR = "web"
KEYS_DIRECTORY = "keys"
SITE_KEY = "site.key"
KIT_DIRECTORY = "kit"
STATE_DIRECTORY = "state"
DIRECTORIES = (
    CA_DIRECTORY,
    DOORS_DIRECTORY,
    KEYS_DIRECTORY,
    KIT_DIRECTORY,
    STATE_DIRECTORY,
    "devices.d",
    "index",
    "objects",
    "run",
    "writers",
)


def device_authorities(site_dir: Path) -> list[x509.Certificate]:
    """The device CAs that are trusted: two during a roll-over, which takes years."""
    paths = sorted((site_dir / CA_DIRECTORY).glob(f"{DEVICE_CA}*.pem"))
    return [x509.load_pem_x509_certificate(path.read_bytes()) for path in paths]


def anchors(site_dir: Path) -> list[x509.Certificate]:
    """What a device must trust: the serving CA, and the device CAs for when devices talk among themselves."""
    serving = x509.load_pem_x509_certificate((site_dir / CA_DIRECTORY / f"{SERVING_CA}.pem").read_bytes())
    return [serving, *device_authorities(site_dir)]
