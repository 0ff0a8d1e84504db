"""What does each control cost? Loaded by the bench's own Leadglass processes alone, it takes out what BENCH_WITHOUT names.

The product has no such switch. `tls`, `policy`, `encryption`, `digest`, `event`, `durability`; what is kept without one of the first five can be
read back without it alone.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

_WITHOUT = frozenset(filter(None, os.environ.get("BENCH_WITHOUT", "").split(",")))


def _replace(where: Any, name: str, by: object) -> None:
    setattr(where, name, by)


def _tls() -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from leadglass.doors.dimse import connection, conversation

    with open(os.environ["BENCH_CERTIFICATE"], "rb") as file:
        der = x509.load_pem_x509_certificate(file.read()).public_bytes(Encoding.DER)

    class Plain(connection.Connection):
        def handshake(self, *, wait: bool) -> bool:
            return True

        def certificate(self) -> bytes:
            return der

        def version(self) -> str:
            return "none"

        def read(self, into: memoryview, *, wait: bool) -> int | None:
            try:
                return self.socket.recv_into(into, 0, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None

        def readable_within(self, seconds: float) -> bool:
            return bool(self._poll.poll(seconds * 1000))

        def write(self, buffers: Any) -> None:
            self.socket.sendall(b"".join(bytes(each) for each in buffers))

        def close(self) -> None:
            self.socket.close()

    _replace(conversation, "Connection", Plain)
    _replace(conversation, "FIRST_BYTE_OF_TLS", 0x01)


def _policy() -> None:
    from leadglass.identity import certificates
    from leadglass.policy import decide as module

    decide: Any = module.decide
    known: dict[Any, Any] = {}
    identify: Any = certificates.identify
    seen: dict[Any, Any] = {}

    def once(site: Any, containment: Any, subject: Any, request: Any, **more: Any) -> Any:
        key = (subject.device.name, type(request), getattr(request, "action", None))
        if key not in known:
            known[key] = decide(site, containment, subject, request, **more)
        return known[key]

    def remembered(enrolled: Any, peer: Any, proposal: Any, now: Any) -> Any:
        if peer.address not in seen:
            seen[peer.address] = identify(enrolled, peer, proposal, now)
        return seen[peer.address]

    _replace(module, "decide", once)
    _replace(certificates, "identify", remembered)


def _encryption() -> None:
    from leadglass.archive import seal

    def seal_chunk(self: Any, index: int, plaintext: memoryview, into: memoryview, *, final: bool) -> int:
        length = len(plaintext)
        seal._FRAME.pack_into(into, 0, length | (seal.FINAL_BIT if final else 0))
        into[seal.FRAME_HEAD_LENGTH_BYTES : seal.FRAME_HEAD_LENGTH_BYTES + length] = plaintext
        return seal.FRAME_HEAD_LENGTH_BYTES + length + seal.TAG_LENGTH_BYTES

    def open_chunk(self: Any, index: int, sealed: memoryview, into: memoryview, *, final: bool) -> int:
        length = len(sealed) - seal.TAG_LENGTH_BYTES
        into[:length] = sealed[:length]
        return length

    _replace(seal.InstanceSeal, "seal_chunk", seal_chunk)
    _replace(seal.InstanceSeal, "open_chunk", open_chunk)


def _digest() -> None:
    from leadglass.archive import arrival, read

    class Nothing:
        def __init__(self) -> None:
            self._digest = os.urandom(32)

        def update(self, data: object) -> None:
            return

        def digest(self) -> bytes:
            return self._digest

    class Hashes:
        sha256 = Nothing

    def pieces(self: Any, settled: Any) -> Iterator[memoryview]:
        for piece, _ in self._verified(settled, read.PIECE_CHUNKS):
            yield piece

    _replace(arrival, "hashlib", Hashes)
    _replace(read.Reader, "pieces", pieces)


def _event() -> None:
    from leadglass.audit.journal.append import JournalWriter

    for name in ("append", "record"):
        _replace(JournalWriter, name, lambda self, event: 0)


def _durability() -> None:
    from leadglass.archive.backends.local import LocalSegment

    _replace(LocalSegment, "sync", lambda self: None)


if _WITHOUT and "leadglass" in " ".join(sys.orig_argv):
    for _name, _take_out in (
        ("tls", _tls), ("policy", _policy), ("encryption", _encryption), ("digest", _digest), ("event", _event),
        ("durability", _durability),
    ):  # fmt: skip
        if _name in _WITHOUT:
            _take_out()
