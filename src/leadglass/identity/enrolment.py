"""What does a device get? The bundle for a USB stick: certificate and key in every form a modality may want, and a sheet to print."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.hazmat.primitives.serialization.pkcs12 import PBES

from leadglass.identity.authority import (
    DEVICE_DAYS,
    Authority,
    KeyKind,
    PrivateKey,
    key_pem,
    new_key,
    pem,
)
from leadglass.identity.certificates import fingerprint
from leadglass.terms import Unenrollable

PASSPHRASE_WORDS = 5  # groups of five characters from 30: 5 * 5 * log2(30) = 122 bits
_ALPHABET = "abcdefghjkmnpqrstuvwxyz2345678"  # nothing that looks like something else on paper
_P12_ROUNDS = 100_000


@dataclass(frozen=True, slots=True)
class Issued:
    """One certificate and the facts of it that the register keeps."""

    certificate: x509.Certificate
    der: bytes
    fingerprint: str

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Issued:
        der = certificate.public_bytes(serialization.Encoding.DER)
        return cls(certificate, der, fingerprint(der))

    def facts(self) -> dict[str, object]:
        """JSON-able: what a change of enrolment carries."""
        return {
            "fingerprint": self.fingerprint,
            "serial": format(self.certificate.serial_number, "x"),
            "not_before": self.certificate.not_valid_before_utc.isoformat(),
            "not_after": self.certificate.not_valid_after_utc.isoformat(),
            "pem": pem(self.certificate).decode(),
        }


AS_BEFORE = "as before"  # what a device may whose certificate alone is new


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the printed sheet says besides the certificate."""

    device: str
    ae_titles: tuple[str, ...]
    called_ae_title: str
    host: str
    port: int
    network: str
    may: tuple[str, ...]


def passphrase() -> str:
    """For the PKCS#12 files; it stands on the sheet and nowhere else."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(PASSPHRASE_WORDS))


def enroll(authority: Authority, device: str, kind: KeyKind, now: dt.datetime) -> tuple[Issued, PrivateKey]:
    """A fresh key and its certificate."""
    key = new_key(kind)
    public = key.public_key()
    return Issued.of(authority.issue(public, device, [_host_name(device)], now, DEVICE_DAYS)), key


def sign(authority: Authority, device: str, csr_pem: bytes, now: dt.datetime) -> Issued:
    """A certificate for a key that never left the device. Only the key is taken from the CSR, never its names. Raises Unenrollable."""
    return Issued.of(authority.issue(requested_key(csr_pem), device, [_host_name(device)], now, DEVICE_DAYS))


def requested_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """The key that a PEM certificate request is for, and is signed by. Raises Unenrollable."""
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        public, valid = csr.public_key(), csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unenrollable("this is not a PEM certificate request") from error
    if not valid:
        raise Unenrollable("the certificate request is not signed by its own key")
    return checked_key(public)


def foreign(certificate_pem: bytes) -> Issued:
    """A certificate of the hospital's own PKI, to be pinned for one device. Raises Unenrollable."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as error:
        raise Unenrollable(f"this is not a PEM certificate: {error}") from error
    checked_key(certificate.public_key())
    if isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
        raise Unenrollable("the certificate is signed with SHA-1 or MD5: ask the PKI for one with SHA-256")
    return Issued.of(certificate)


def checked_key(public: object) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """Raises Unenrollable for a key that is too weak or of another kind."""
    match public:
        case rsa.RSAPublicKey() if public.key_size < 2048:
            raise Unenrollable(f"RSA-{public.key_size} is too short: 2048 bits at least")
        case rsa.RSAPublicKey():
            return public
        case ec.EllipticCurvePublicKey() if public.curve.key_size >= 256:
            return public
        case _:
            raise Unenrollable("only RSA (2048 bits or more) and EC (P-256 or more) keys can be enrolled")


def bundle(
    issued: Issued, key: PrivateKey | None, anchors: list[x509.Certificate], sheet: Sheet
) -> Mapping[str, bytes]:
    """File name -> content for the stick. Without a key (CSR, foreign certificate) there is no PKCS#12 and no `client.key`."""
    secret = passphrase() if key is not None else ""
    files = {
        "client.pem": pem(issued.certificate),
        "ca.pem": b"".join(pem(each) for each in anchors),
        "sheet.txt": text_sheet(issued, sheet, secret).encode(),
    }
    if key is not None:
        name = sheet.device.encode()
        files["client.key"] = key_pem(key, None)
        modern = (
            serialization.PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(_P12_ROUNDS)
            .key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC)
            .hmac_hash(hashes.SHA256())
            .build(secret.encode())
        )
        legacy = (  # what an old modality reads; the passphrase is as strong as the other's
            serialization.PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(_P12_ROUNDS)
            .key_cert_algorithm(PBES.PBESv1SHA1And3KeyTripleDESCBC)
            .hmac_hash(hashes.SHA1())  # noqa: S303 - the format's own
            .build(secret.encode())
        )
        for file, sealing in (("client.p12", modern), ("client-legacy.p12", legacy)):
            files[file] = pkcs12.serialize_key_and_certificates(name, key, issued.certificate, anchors, sealing)
    return files


def text_sheet(issued: Issued, sheet: Sheet, secret: str) -> str:
    """One page to print and to read from beside the modality."""
    rows = [
        ("Device", sheet.device),
        ("Its AE title", ", ".join(sheet.ae_titles) or "none: it speaks no DIMSE"),
        ("It comes from", sheet.network),
        ("It may", ", ".join(sheet.may) or "nothing yet"),
        ("Archive AE title", sheet.called_ae_title),
        ("Archive host and port", f"{sheet.host}  port {sheet.port}  (TLS, client certificate required)"),
        (
            "Certificate valid",
            f"{issued.certificate.not_valid_before_utc:%Y-%m-%d} to {issued.certificate.not_valid_after_utc:%Y-%m-%d}",
        ),
        ("Fingerprint SHA-256", issued.fingerprint.removeprefix("sha256:")),
    ]
    if secret:
        rows.append(("PKCS#12 passphrase", secret))
    width = max(len(name) for name, _ in rows)
    lines = ["LEADGLASS  device enrolment sheet", "=" * 72, ""]
    lines += [f"{name:<{width}}  {value}" for name, value in rows]
    lines += [
        "",
        "-" * 72,
        "1. Import client.p12 (or client-legacy.p12 where the device refuses it) with the passphrase above,",
        "   or client.pem with client.key where it wants PEM; import ca.pem as trusted.",
        "2. Set AE titles, host and port as above; switch TLS with client authentication on (TLS 1.2 or 1.3).",
        "3. Send a C-ECHO. If it is refused, `leadglass events` on the archive says why.",
        "4. Erase the stick. Shred this sheet once the device works.",
        "",
    ]
    return "\n".join(lines)


def _host_name(device: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in device.lower()).strip("-") or "device"
