"""Who vouches for a device, and for us? Two certificate authorities, apart on purpose.

The device CA signs what devices present; only the enrolment command opens its key. The serving CA signs what our doors present; it is
name-constrained to the site, and the supervisor may open it so that door certificates renew themselves.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import ipaddress
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from leadglass.terms import KeyFault

AUTHORITY_DAYS = 20 * 365  # a modality lives for 15 years; two device CAs may be trusted at once for the roll-over
DEVICE_DAYS = 825
DOOR_DAYS = 90
CRL_DAYS = 400  # a by-product for others, signed at each enrolment; our own list never waits for it
BACKDATED = dt.timedelta(hours=24)  # a modality whose clock is behind must still see a valid certificate

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class KeyKind(enum.StrEnum):
    """`ec` is P-256; `rsa` is RSA-2048, for modalities that know nothing else."""

    EC = "ec"
    RSA = "rsa"


def new_key(kind: KeyKind) -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1()) if kind is KeyKind.EC else rsa.generate_private_key(65537, 2048)


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that is open: whoever holds this can issue."""

    certificate: x509.Certificate
    key: PrivateKey

    @classmethod
    def create(cls, name: str, now: dt.datetime, *, names: Iterable[str] | None = None) -> Authority:
        """A new self-signed P-256 CA. `names`: the DNS names and addresses it is confined to, None for none."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            _dated(x509.CertificateBuilder(), now, AUTHORITY_DAYS)
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if names is not None:
            permitted = [_constraint(each) for each in names]
            builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def open(cls, directory: Path, name: str, passphrase: bytes | None, key_file: Path | None = None) -> Authority:
        """From `NAME.pem`, and `NAME.key` or the key where it lies elsewhere. Raises KeyFault."""
        try:
            certificate = x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())
            key = serialization.load_pem_private_key((key_file or directory / f"{name}.key").read_bytes(), passphrase)
        except FileNotFoundError as error:
            raise KeyFault(f"{error.filename} is missing", hint="restore it from the recovery kit") from error
        except OSError as error:
            hint = "whoever runs this may not read it: deploy/README.md says whose it is"
            raise KeyFault(f"{error.filename} cannot be read: {error.strerror}", hint=hint) from error
        except (ValueError, TypeError) as error:
            raise KeyFault(
                f"the key of {name} does not open: {error}", hint="give its passphrase with --passphrase-file"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise KeyFault(f"the key of {name} is neither EC nor RSA")
        if key.public_key() != certificate.public_key():
            raise KeyFault(f"the key of {name} is not that of its certificate", hint="which of the two was changed?")
        return cls(certificate, key)

    def save(self, directory: Path, name: str, passphrase: bytes | None) -> None:
        """`NAME.pem`, and `NAME.key` with mode 0600, sealed by the passphrase where there is one."""
        write_file(directory / f"{name}.pem", pem(self.certificate), 0o644)
        write_file(directory / f"{name}.key", key_pem(self.key, passphrase), 0o600)

    def issue(
        self, public_key: PublicKey, common_name: str, alternative_names: Iterable[str], now: dt.datetime, days: int
    ) -> x509.Certificate:
        """A leaf for TLS in both roles: a device is server for C-MOVE and client for C-STORE."""
        ends = min(now + dt.timedelta(days=days), self.certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName([_general(each) for each in alternative_names]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(_public(self.certificate)), critical=False
            )
        )
        return builder.sign(self.key, hashes.SHA256())

    def revocation_list(self, revoked: Mapping[int, dt.datetime], now: dt.datetime) -> bytes:
        """A CRL, PEM, for others who trust this CA. `revoked`: serial number -> when."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - BACKDATED)
            .next_update(now + dt.timedelta(days=CRL_DAYS))
        )
        for serial, when in revoked.items():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """PKCS#8, sealed by the passphrase where there is one."""
    sealing: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealing)


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Durably and never half: a temporary file with the final mode, fsync, rename, fsync of the directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _dated(builder: x509.CertificateBuilder, now: dt.datetime, days: int) -> x509.CertificateBuilder:
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=not certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _constraint(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_network(name))
    except ValueError:
        return x509.DNSName(name)


def _public(certificate: x509.Certificate) -> PublicKey:
    public = certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise KeyFault("a CA whose key is neither EC nor RSA")
    return public
