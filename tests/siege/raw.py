"""Somebody who says whatever they like: bytes over mutual TLS, and in words what comes back."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from leadglass.wire import uids
from leadglass.wire.negotiation import RequestedContext, request
from leadglass.wire.pdu import PDU_HEADER, AssociateRQ, encode
from tests.running import Bundle, RunningSite

HEARD_WITHIN_SECONDS = 60.0
_ADDRESSES = itertools.cycle(range(1, 250))
CT = str(uids.storage_class_of("CTImageStorage"))
FIELD, MESSAGE_ID, DATA_SET_TYPE, PRIORITY = 0x0100, 0x0110, 0x0800, 0x0700
NO_DATA_SET, WITH_DATA_SET = 0x0101, 0x0001


class Raw:
    """One TLS connection on which nothing is checked before it is sent."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock = sock
        self._heard = b""

    def say(self, data: bytes) -> None:
        """Whoever was cut off may find that out here."""
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def hear(self) -> str:
        """The next PDU in words, `closed` at the end."""
        head = self._exactly(6)
        if head is None:
            return "closed"
        kind, length = PDU_HEADER.unpack(head)
        body = self._exactly(length) or b""
        match kind:
            case 0x02:
                return "accepted"
            case 0x03:
                return f"rejected {body[1]},{body[2]},{body[3]}"
            case 0x04:
                return self._message(body)
            case 0x06:
                return "released"
            case 0x07:
                return f"aborted {body[2]},{body[3]}"
        return f"PDU {kind:02X}H"

    def associate(self, *abstract_syntaxes: str, rq: AssociateRQ | None = None) -> str:
        self.say(encode(rq or asking("CT1", *abstract_syntaxes)))
        return self.hear()

    def hear_echo(self) -> str:
        """Whether this association is still good for a C-ECHO, or for a refusal of it where it is for something else."""
        elements: dict[int, bytes | int | str] = {
            0x0002: uids.VERIFICATION,
            FIELD: 0x0030,
            MESSAGE_ID: 2,
            DATA_SET_TYPE: NO_DATA_SET,
        }
        self.say(p_data(1, command_set(elements), command=True))
        return self.hear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()

    def _message(self, body: bytes) -> str:
        at = body.index(struct.pack("<HHL", 0, 0x0900, 2))  # found by hand: it may answer a command that does not exist
        return f"status {struct.unpack_from('<H', body, at + 8)[0]:04X}H"

    def _exactly(self, count: int) -> bytes | None:
        while len(self._heard) < count:
            try:
                more = self.sock.recv(65536)
            except (ssl.SSLError, ConnectionError):
                return None
            if not more:
                return None
            self._heard += more
        taken, self._heard = self._heard[:count], self._heard[count:]
        return taken


@contextmanager
def raw(site: RunningSite, name: str = "CT1") -> Iterator[Raw]:
    """A connection of an enrolled device, from an address of its own, because what one address makes us write is budgeted."""
    connection = Raw(tls(site, site.bundles[name], f"127.0.{next(_ADDRESSES)}.1"))
    try:
        yield connection
    finally:
        connection.close()


def tls(site: RunningSite, bundle: Bundle, source: str = "127.0.0.1") -> ssl.SSLSocket:
    sock = socket.create_connection(("127.0.0.1", site.port), HEARD_WITHIN_SECONDS, (source, 0))
    return bundle.client_context().wrap_socket(sock, server_hostname="localhost")


def asking(name: str, *abstract_syntaxes: str) -> AssociateRQ:
    contexts = [RequestedContext(uid, (uids.EXPLICIT_VR_LITTLE_ENDIAN,)) for uid in abstract_syntaxes or (CT,)]
    return request(calling_ae_title=name, called_ae_title="LEADGLASS", contexts=contexts, pdu_length_max_bytes=131_072)


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A PDU whose header may lie about its length."""
    return PDU_HEADER.pack(kind, len(body) if length is None else length) + body


def p_data(context_id: int, payload: bytes, *, command: bool, last: bool = True) -> bytes:
    value = struct.pack(">LBB", len(payload) + 2, context_id, command | last << 1) + payload
    return pdu(0x04, value)


def command_set(elements: Mapping[int, bytes | int | str], group_length: int | None = None) -> bytes:
    """Group 0000 in implicit VR little endian, with these elements; numbers are US."""
    body = b""
    for element, value in sorted(elements.items()):
        if isinstance(value, int):
            value = struct.pack("<H", value)
        elif isinstance(value, str):
            value = value.encode() + b"\0" * (len(value) % 2)
        body += struct.pack("<HHL", 0, element, len(value)) + value
    return struct.pack("<HHLL", 0, 0, 4, len(body) if group_length is None else group_length) + body


def store_command(sop_instance_uid: str, sop_class_uid: str = CT, **changed: int) -> bytes:
    """The command set of a C-STORE-RQ."""
    elements: dict[int, bytes | int | str] = {
        0x0002: sop_class_uid,
        FIELD: 0x0001,
        MESSAGE_ID: 1,
        PRIORITY: 0,
        DATA_SET_TYPE: WITH_DATA_SET,
        0x1000: sop_instance_uid,
    }
    return command_set({**elements, **{int(key[1:], 16): value for key, value in changed.items()}})
