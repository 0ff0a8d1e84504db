"""Messages of nfnetlink (linux/netfilter/nfnetlink.h), as far as conntrack and NFLOG need them."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PROTOCOL = 12  # NETLINK_NETFILTER
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
RECEIVE_LENGTH_MAX_BYTES = 1 << 20
ANSWER_SECONDS = 5.0
_ERROR, _DONE, _OVERRUN = 2, 3, 4
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port (linux/netlink.h)
_GENERIC = struct.Struct("=BB2s")  # family, version, resource id in network order
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=i")
_TYPE_MASK = 0x3FFF  # the two high bits say nested and byte order
NESTED = 0x8000


class KernelFault(Exception):
    """The kernel refused, or said something that it never says."""


@dataclass(frozen=True, slots=True)
class Message:
    """`type`: subsystem times 256 plus the message of that subsystem. `attributes`: the bytes after the generic header."""

    type: int
    family: int
    attributes: bytes


class Netlink:
    """One socket. `receive_buffer_bytes`: what the kernel keeps for us while we are busy; 0 for its own measure. `group`: whose news it hears."""

    def __init__(self, receive_buffer_bytes: int = 0, group: int = 0) -> None:
        self._sequence = 0
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, PROTOCOL)
        except OSError as error:
            raise KernelFault(f"netlink: {error}") from error
        self._socket.bind((0, 1 << (group - 1) if group else 0))
        self._socket.settimeout(ANSWER_SECONDS)
        if receive_buffer_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def tell(self, of: int, attributes: bytes, *, family: int = 0, resource: int = 0) -> None:
        """Does something, and waits until it is done. Raises KernelFault."""
        for _ in self._asked(of, REQUEST | ACK, attributes, family, resource):
            pass

    def dump(self, of: int, *, family: int = 0) -> Iterator[Message]:
        """Raises KernelFault."""
        yield from self._asked(of, REQUEST | DUMP, b"", family, 0)

    def heard(self, seconds: float) -> list[Message]:
        """What the kernel says by itself; nothing where it says nothing for so long. Raises KernelFault; Overrun where some was lost."""
        self._socket.settimeout(seconds)
        try:
            content = self._socket.recv(RECEIVE_LENGTH_MAX_BYTES)
        except TimeoutError:
            return []
        except OSError as error:
            if error.errno == 105:  # ENOBUFS
                raise Overrun from error
            raise KernelFault(f"netlink: {error}") from error
        return [message for _, message in messages(content) if message is not None]

    def _asked(self, of: int, flags: int, attributes: bytes, family: int, resource: int) -> Iterator[Message]:
        self._sequence += 1
        body = _GENERIC.pack(family, 0, resource.to_bytes(2, "big")) + attributes
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            self._socket.send(_HEADER.pack(_HEADER.size + len(body), of, flags, self._sequence, 0) + body)
            while True:
                for sequence, message in messages(self._socket.recv(RECEIVE_LENGTH_MAX_BYTES)):
                    if sequence != self._sequence:
                        continue
                    if message is None:
                        return
                    yield message
        except OSError as error:
            raise KernelFault(f"netlink: {error}") from error


class Overrun(Exception):
    """The kernel had more to say than it could keep for us."""


def messages(content: bytes) -> Iterator[tuple[int, Message | None]]:
    """Sequence number and message of each; None ends an answer. Raises KernelFault."""
    at = 0
    while at + _HEADER.size <= len(content):
        length, of, _, sequence, _ = _HEADER.unpack_from(content, at)
        if length < _HEADER.size or at + length > len(content):
            raise KernelFault("netlink: a message is cut off")
        body = content[at + _HEADER.size : at + length]
        at += _aligned(length)
        if of == _ERROR:
            number = -_NUMBER.unpack_from(body)[0] if len(body) >= _NUMBER.size else 0
            if number:
                raise KernelFault(os.strerror(number))
            yield sequence, None
        elif of == _DONE:
            yield sequence, None
        elif of > _OVERRUN and len(body) >= _GENERIC.size:
            yield sequence, Message(of, body[0], body[_GENERIC.size :])


def attribute(of: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, of) + value + bytes(_aligned(length) - length)


def attributes(content: bytes) -> Mapping[int, bytes]:
    """By type; the last of a type where there are several. What is cut off is left out."""
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(content):
        length, of = _ATTRIBUTE.unpack_from(content, at)
        if length < _ATTRIBUTE.size or at + length > len(content):
            break
        found[of & _TYPE_MASK] = content[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
