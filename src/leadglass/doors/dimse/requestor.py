"""How do we call a device? As requestor over mutual TLS, accepting only that device's certificate: C-MOVE sub-operations, commitment reports."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from leadglass.doors.dimse.connection import Connection, ConnectionLost
from leadglass.site.model import Limits
from leadglass.terms import Device, UpstreamFault
from leadglass.wire.association import (
    AcceptedContext,
    AssociateConfirmation,
    AssociateRejected,
    Association,
    DataFragment,
    ReleaseConfirmation,
    Role,
)
from leadglass.wire.dimse import RESPONSE, Command, encode_command
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.limits import AssociationLimits
from leadglass.wire.messages import CommandReceived, MessageReader, with_last
from leadglass.wire.negotiation import RequestedContext, request
from leadglass.wire.pdu import Abort, ReleaseRQ

CONNECT_SECONDS = 10.0
PRESENTATION_CONTEXTS_MAX = 128  # PS3.8 9.3.2.2: odd ids 1 to 255


class Requestor:
    """An association that we asked for. One thread; messages one at a time."""

    def __init__(self, connection: Connection, association: Association) -> None:
        self._connection, self._association = connection, association
        self._messages = MessageReader(AssociationLimits())
        self._items: list[object] = []
        self._message_id = 0
        self._said = Command.c_echo_rq(0)  # the last message

    @property
    def contexts(self) -> dict[int, AcceptedContext]:
        return self._association.contexts

    def message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def call(self, context: AcceptedContext, command: Command, pieces: Iterable[memoryview | bytes] | None) -> Command:
        """Sends one message and waits for its response."""
        self.say(context, command, pieces)
        return self.response()

    def say(self, context: AcceptedContext, command: Command, pieces: Iterable[memoryview | bytes] | None) -> None:
        """Sends one message."""
        association, self._said = self._association, command
        association.send_data(context.id, is_command=True, payload=encode_command(command), is_last=True)
        for piece, is_last in with_last(pieces):
            association.send_data(context.id, is_command=False, payload=piece, is_last=is_last)
            if not is_last:
                self._write()
        self._write()

    def response(self) -> Command:
        """Waits for that of the message that was said last. Raises RemoteProtocolError where the peer says something else."""
        item = self.next()
        if not isinstance(item, CommandReceived):
            raise ConnectionLost(f"{type(item).__name__} where a response was due")
        answer, due = item.command, self._said
        if (answer.field, answer.message_id_responded_to) != (due.field | RESPONSE, due.message_id):
            told = f"{answer.field.name} to message {answer.message_id_responded_to}"
            raise RemoteProtocolError(f"{told} where the response to {due.field.name} {due.message_id} was due")
        return answer

    def next(self) -> object:
        """The next thing the peer said; waits for it."""
        while not self._items:
            event = self._association.next_event()
            if event is None:
                count = self._connection.read(self._association.buffer(), wait=True)
                if not count:
                    raise ConnectionLost("the device closed the connection")
                self._association.received(count, time.monotonic())
            elif isinstance(event, DataFragment):
                self._items.extend(self._messages.feed(event))
            else:
                return event
        return self._items.pop(0)

    def cut(self, reason: str) -> None:
        """Ends it now, from any thread."""
        self._connection.cut(reason)

    def release(self) -> None:
        self._association.send(ReleaseRQ())
        self._write()
        while not isinstance(self.next(), ReleaseConfirmation):
            continue

    def abort(self) -> None:
        self._association.send(Abort(0, 0))
        self._write()

    def _write(self) -> None:
        self._connection.write(self._association.data_to_send())


@contextmanager
def associated(
    device: Device,
    context: ssl.SSLContext,
    accepts: Callable[[bytes | None], bool],
    wanted: list[RequestedContext],
    limits: Limits,
    *,
    calling_ae_title: str,
) -> Iterator[Requestor]:
    """An association with the device for the time of the block; released at its end, aborted where it fails.

    `accepts` looks at the DER of the certificate that the device presents. Raises UpstreamFault.
    """
    host, _, port = device.address.rpartition(":")
    try:
        sock = socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise UpstreamFault(f"{device.name} does not answer at {device.address}: {error}") from error
    connection = Connection(sock, context, server_side=False, stall_seconds=limits.stall_seconds)
    try:
        connection.handshake(wait=True)
        if not accepts(connection.certificate()):
            raise UpstreamFault(f"whoever answers at {device.address} is not {device.name}: another certificate")
        requestor = _associate(connection, device, wanted, limits, calling_ae_title)
        try:
            yield requestor
        except BaseException:
            requestor.abort()
            raise
        requestor.release()
    except (ssl.SSLError, ConnectionLost, RemoteProtocolError) as error:
        raise UpstreamFault(f"{device.name} at {device.address}: {error}") from error
    finally:
        connection.close()


def _associate(
    connection: Connection, device: Device, wanted: list[RequestedContext], limits: Limits, calling_ae_title: str
) -> Requestor:
    association_limits = AssociationLimits(
        pdu_length_max_bytes=limits.pdu_length_max_bytes, artim_seconds=limits.artim_seconds
    )
    association = Association(Role.REQUESTOR, association_limits, time.monotonic())
    requestor = Requestor(connection, association)
    association.send(
        request(
            calling_ae_title=calling_ae_title,
            called_ae_title=device.ae_titles[0] if device.ae_titles else "",
            contexts=wanted[:PRESENTATION_CONTEXTS_MAX],
            pdu_length_max_bytes=limits.pdu_length_max_bytes,
        )
    )
    connection.write(association.data_to_send())
    answer = requestor.next()
    if isinstance(answer, AssociateRejected):
        rj = answer.rj
        raise UpstreamFault(f"{device.name} rejected the association ({rj.result}, {rj.source}, {rj.reason})")
    if not isinstance(answer, AssociateConfirmation):
        raise UpstreamFault(f"{device.name} answered the A-ASSOCIATE-RQ with {type(answer).__name__}")
    return requestor
