"""The other end of a connection, whose images they are, and who runs a command."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OpenFlow:
    """A flow on demand that is open until then (Unix nanoseconds). `requests`: ids of the access requests that opened it. `record`: what passes by it is
    told of those."""

    flow: str
    until_ns: int
    requests: tuple[str, ...]
    record: bool = True


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection, before anything it says is believed. `certificate`: DER of the leaf, or None. `opened`: flows on demand that are
    open to it at this moment."""

    address: str
    port: int
    door: str
    certificate: bytes | None = None
    tls: str = ""
    opened: tuple[OpenFlow, ...] = ()


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """Who a study belongs to: Patient ID with its issuer (PS3.3 C.7.1.1)."""

    patient_id: str
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who runs a command: the uid at the other end of the Unix socket, or of this process, with its name."""

    uid: int
    name: str

    @property
    def actor(self) -> str:
        """As events name them."""
        return f"uid:{self.uid}"

    @property
    def peer(self) -> Peer:
        """A shell has no address."""
        return Peer("", 0, "shell")

    @property
    def fingerprint(self) -> str:
        return ""


def fingerprint_of(peer: Peer) -> str:
    """`sha256:<hex>` of the DER leaf that the peer presented, "" where it presented none."""
    return "sha256:" + hashlib.sha256(peer.certificate).hexdigest() if peer.certificate else ""
