"""Which device is at the other end? The checks that turn a connection into a `Subject`, and the TLS contexts they need.

A connection is a device only if all of these agree:
    (1) it presented a certificate;
    (2) exactly one enrolled device pins that certificate;
    (3) neither the certificate nor the device is revoked, superseded, disabled;
    (4) the certificate's time holds, or a recorded waiver covers it;
    (5) the calling AE title is one of the device's;
    (6) the called AE title is ours;
    (7) the source address lies in the device's networks.
TLS has proven possession of the key before; OpenSSL ignores time (it has no call-back here), so (4) is ours for every device.
What each device may do is not decided here but in `policy/`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from leadglass.terms import Contained, Containment, Device, NotIdentified, Peer, Proposal, Refused, Subject

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME
_PARTIAL_CHAIN = 0x80000  # X509_V_FLAG_PARTIAL_CHAIN: a pinned foreign leaf is an anchor of its own
_OPTIONS = ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
_TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL:!MD5:!DSS"  # BCP 195 (RFC 9325 4.2)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What is known about devices at one moment. `waivers`: fingerprint -> (waiver id, until)."""

    devices: Mapping[str, Device]
    ae_title: str
    containment: Containment
    waivers: Mapping[str, tuple[str, dt.datetime]]


def pins_of(der: bytes) -> frozenset[str]:
    """The two ways to pin a certificate: `sha256:` of the DER, `spki-sha256:` of its SubjectPublicKeyInfo."""
    public = x509.load_der_x509_certificate(der).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return frozenset({fingerprint(der), "spki-sha256:" + hashlib.sha256(spki).hexdigest()})


def fingerprint(der: bytes) -> str:
    return "sha256:" + hashlib.sha256(der).hexdigest()


def presents(device: Device, der: bytes | None, containment: Containment) -> bool:
    """True where this is a certificate of that device and not contained: what we demand as a client."""
    if der is None or (pins := pins_of(der)) & containment.revoked.keys():
        return False
    return bool(pins & set(device.certificates))


def identify(enrolled: Enrolled, peer: Peer, proposal: Proposal, now: dt.datetime) -> Subject:
    """The checks of the module's docstring, in their order. Raises NotIdentified, Contained; the reason is the operator's."""
    # (1)
    if peer.certificate is None:
        raise NotIdentified("no certificate: enrol the device and install its bundle")
    shown = fingerprint(peer.certificate)
    # (2)
    try:
        pins = pins_of(peer.certificate)
    except ValueError as error:
        raise NotIdentified(f"the certificate {shown} cannot be read: {error}") from error
    owners = [device for device in enrolled.devices.values() if pins & set(device.certificates)]
    if len(owners) != 1:
        known = "several devices pin" if owners else "no enrolled device has"
        raise NotIdentified(f"{known} the certificate {shown}; enrol it, or remove the stray pin")
    device = owners[0]
    subject = Subject(device, peer, proposal, shown)
    # (3)
    _contained(enrolled.containment, device, pins, subject)
    # (4)
    waiver = _in_time(enrolled.waivers, peer.certificate, shown, subject, now)
    # (5)
    if proposal.calling_ae_title not in device.ae_titles:
        raise _not(f"calls itself {proposal.calling_ae_title!r}, which is not one of its AE titles", subject)
    # (6)
    if proposal.called_ae_title != enrolled.ae_title:
        raise _not(f"calls {proposal.called_ae_title!r}, this door is {enrolled.ae_title!r}", subject)
    # (7)
    address = ip_address(peer.address)
    if not any(address in network for network in device.networks if network.version == address.version):
        networks = ", ".join(str(network) for network in device.networks)
        raise _not(f"comes from {peer.address}, it is enrolled for {networks}", subject)
    return Subject(device, peer, proposal, shown, waiver)


def _contained(containment: Containment, device: Device, pins: frozenset[str], subject: Subject) -> None:
    """`pins`: both ways to name the certificate, so that a revoked key stays revoked under a new certificate."""
    if revoked := pins & containment.revoked.keys():
        why = containment.revoked[min(revoked)]
        raise Contained(f"{device.name}: its certificate is revoked: {why}", subject=subject)
    if pins & containment.superseded.keys():
        raise Contained(f"{device.name}: its renewed certificate was used, this is the old one", subject=subject)
    if device.name in containment.disabled:
        raise Contained(f"{device.name} is disabled: {containment.disabled[device.name]}", subject=subject)
    if not device.enabled:
        raise Contained(f"{device.name} is disabled in the site file", subject=subject)


def _in_time(
    waivers: Mapping[str, tuple[str, dt.datetime]], der: bytes, shown: str, subject: Subject, now: dt.datetime
) -> str:
    certificate = x509.load_der_x509_certificate(der)
    if now < certificate.not_valid_before_utc:
        raise _not(
            f"its certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}; check the clock", subject
        )
    if now <= certificate.not_valid_after_utc:
        return ""
    waiver, until = waivers.get(shown, ("", now))
    if waiver and now < until:
        return waiver
    name = subject.device.name
    raise _not(
        f"its certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}; renew it (`leadglass device renew {name}`), or let it "
        f"in for a few hours (`leadglass device waive {name} --hours N --reason ...`)",
        subject,
    )


def _not(what: str, subject: Subject) -> Refused:
    return NotIdentified(f"{subject.device.name} {what}", subject=subject)


# ---- TLS ------------------------------------------------------------------------------------------------------------------


def server_context(credentials: Path, anchors: Iterable[str], *, tls_minimum: str) -> ssl.SSLContext:
    """For a door: mutual, TLS 1.2 or 1.3. `anchors`: PEM certificates.

    No session is resumed (that would skip the chain's verification): in TLS 1.3 none can be, in TLS 1.2 none as long as whoever accepts makes another
    context where this one is `spent`, and turns away whoever resumed one that was begun in it meanwhile (`RESUMED`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    return _finish(context, credentials, anchors, tls_minimum)


RESUMED = "it resumed a TLS session, which verifies no certificate: its next connection shakes hands in full"


def spent(context: ssl.SSLContext) -> bool:
    """Whether a session of it could be resumed. OpenSSL keeps those of TLS 1.2 for two hours, 20,480 of them, and CPython has no switch for it."""
    return context.session_stats()["number"] > 0


def web_context(credentials: Path, anchors: Iterable[str]) -> ssl.SSLContext:
    """For the web door: as the others, but a certificate is presented by machines and by workstations that have one, not by browsers."""
    context = server_context(credentials, anchors, tls_minimum="1.2")
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(credentials: Path, anchors: Iterable[str], *, tls_minimum: str) -> ssl.SSLContext:
    """For calling a device: whoever answers is then held against that device's pins, so host names do not matter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _finish(context, credentials, anchors, tls_minimum)


def _finish(context: ssl.SSLContext, credentials: Path, anchors: Iterable[str], tls_minimum: str) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls_minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_CIPHERS)
    context.options |= _OPTIONS
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME | _PARTIAL_CHAIN)
    context.load_cert_chain(credentials)
    pems = "\n".join(anchors)
    if pems.strip():
        context.load_verify_locations(cadata=pems)
    return context
