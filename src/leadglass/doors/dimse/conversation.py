"""What does one peer say? A conversation from the first byte to the last: handshake, association, messages, farewell.

It is a `Visitor`: stepped by a pool thread while its peer talks, parked while the peer is quiet. Nothing it holds before the peer is
identified is larger than one A-ASSOCIATE-RQ.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from leadglass import gateway
from leadglass.doors.blocking import Entered, run
from leadglass.doors.dimse.asides import Asides
from leadglass.doors.dimse.connection import Connection, ConnectionLost
from leadglass.doors.dimse.proposed import ANSWERED, proposal_of
from leadglass.doors.dimse.reception import Next
from leadglass.doors.dimse.requestor import Requestor
from leadglass.doors.dimse.supported import extended
from leadglass.doors.replies import reply_to
from leadglass.identity.certificates import RESUMED
from leadglass.site.model import Limits
from leadglass.terms import Fault, Malformed, NotIdentified, OpenFlow, Peer, Refused, Request, Subject, Unsupported
from leadglass.wire.association import (
    Aborted,
    AcceptedContext,
    ArtimExpired,
    AssociateIndication,
    Association,
    DataFragment,
    ReleaseIndication,
    Role,
    TransportClosed,
)
from leadglass.wire.dimse import Command, CommandField, CommandRefused, encode_command
from leadglass.wire.errors import AbortHint, RemoteProtocolError
from leadglass.wire.limits import AssociationLimits
from leadglass.wire.messages import CommandReceived, DataSetEnd, DataSetFragment, MessageReader, with_last
from leadglass.wire.negotiation import Supported, accept
from leadglass.wire.pdu import Abort, AssociateRJ, AssociateRQ, ReleaseRP

LINGER_SECONDS = 0.1  # how long a thread waits for the next message before the association parks
IDENTIFIER_LENGTH_MAX_BYTES = 1 << 20  # of a C-FIND, C-GET or C-MOVE identifier and of an N-ACTION payload
PIECE_LENGTH_BYTES = 16 << 10  # of such a one, and of what nobody wants, read at once
TOGETHER_BYTES = 16 << 10  # of answers that wait for each other; a TLS record's worth
FIRST_BYTE_OF_TLS = 0x16  # a handshake record (RFC 8446 5.1)
UNEXPECTED = AbortHint(2, 2)  # service-provider, unexpected PDU (PS3.8 9.3.8)

log = structlog.get_logger()

Service = Callable[["Conversation", AcceptedContext, Command], None]
"""Answers one kind of request; raises Refused or Fault where there is nothing better to say."""


@dataclass(frozen=True, slots=True)
class Hall:
    """What every conversation of this worker shares. `tls` gives the context for the next handshake."""

    do: gateway.Stages
    tls: Callable[[], ssl.SSLContext]
    limits: Limits
    supported: Callable[[str], Supported | None]
    services: Mapping[CommandField, Service]
    door: str = "dimse"


class Conversation:
    """One connection to the DIMSE door."""

    def __init__(self, hall: Hall, sock: socket.socket, name: tuple[str, int]) -> None:
        self.hall = hall
        self._address, self._port = name
        self._socket = sock
        self._connection: Connection | None = None
        self._association: Association | None = None
        self._messages = MessageReader(AssociationLimits())
        self._items: deque[object] = deque()
        self._admission: Entered[gateway.Admission] | None = None
        self.subject: Subject | None = None
        # Generation and open flows that it was let in under, or looked at last.
        self.known: tuple[int, tuple[OpenFlow, ...]] = (0, ())
        self.request: Request | None = None  # that is being answered
        self._in_data_set = False
        self._rest = memoryview(b"")  # of a piece of the data set, as long as nothing else is read
        self._waiting = 0  # bytes of answers that leave together with what follows them
        self._cancelled = False  # that request, by a C-CANCEL that came in place of something else
        self.asides = Asides()  # what we ask of the peer by ourselves
        self._calling: Requestor | None = None  # the association of a sub-operation, while it lasts
        self._ended = "the peer went away without a release"
        self._released = False
        now = time.monotonic()
        self._since = self._asked = now  # `_asked`: when the message that is being heard began
        self._heard = 0  # its bytes so far
        self._handshake_by = now + hall.limits.handshake_seconds

    # ---- Visitor

    def fileno(self) -> int:
        return self._socket.fileno()

    def deadline(self) -> float | None:
        if self._association is None:
            return self._handshake_by
        idle = self._since + self.hall.limits.idle_seconds
        artim = self._association.deadline()
        return idle if artim is None else min(idle, artim)

    def step(self) -> Next:
        try:
            if self._association is None and not self._shake_hands():
                return Next.PARK
            return self._converse()
        except ConnectionLost as lost:
            self._ended = self._cut_reason() or str(lost)
        except RemoteProtocolError as broken:
            self._ended = f"the peer broke the protocol: {broken}"
            if self._admission is None:  # nobody else will say so
                self._turn_away(self._ended)
            if self._association is not None:
                self._association.abort_for(broken)
            self._farewell()
        except Refused as refusal:
            self._ended = refusal.reason
        except Fault as fault:
            self._ended = f"we failed: {fault}"
            self._abort()
        except Exception as defect:  # ours: it ends no other association, and does not pass for the peer's doing
            log.exception("an association met a defect", address=self._address)
            self._ended = f"we failed: {type(defect).__name__}"
            self._abort()
        return Next.LEAVE

    def expire(self) -> Next:
        deadline = self.deadline()
        if deadline is None or deadline > time.monotonic():
            return Next.PARK
        if self._association is None:
            self._turn_away("the TLS handshake did not end in time")
        elif self.subject is None:
            self._turn_away("no A-ASSOCIATE-RQ came in time (ARTIM)")
        else:
            self._ended = "idle for too long"
            self._abort()
        return Next.LEAVE

    def cut(self, reason: str) -> None:
        self._ended = reason
        if self._connection is not None:
            self._connection.cut(reason)
        else:
            self._socket.close()
        if (calling := self._calling) is not None:
            calling.cut(reason)

    def leave(self) -> None:
        why = "the peer released the association" if self._released else self._cut_reason() or self._ended
        admission, self._admission = self._admission, None
        try:
            self.asides.leave(ConnectionLost(why))
            if admission is not None:
                admission.leave(None if self._released else ConnectionLost(why))
        finally:
            (self._connection or self._socket).close()

    # ---- before identity

    def _shake_hands(self) -> bool:
        if self._connection is None:
            try:
                first = self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            if not first:
                raise ConnectionLost("the peer connected and said nothing")
            if first[0] != FIRST_BYTE_OF_TLS:
                plain = "plain DICOM" if first[0] == 1 else f"a first byte of 0x{first[0]:02X}"
                self._turn_away(f"{plain} on the TLS port: switch the device to TLS, or put it behind an edge")
                raise ConnectionLost("not TLS")
            self._connection = Connection(
                self._socket, self.hall.tls(), server_side=True, stall_seconds=self.hall.limits.stall_seconds
            )
        try:
            if not self._connection.handshake(wait=False):
                return False
        except ssl.SSLError as error:
            self._turn_away(f"the TLS handshake failed: {error.reason or error}")
            raise ConnectionLost("no TLS") from error
        if self._connection.resumed:
            self._turn_away(RESUMED)
            raise ConnectionLost("a resumed TLS session")
        limits = AssociationLimits(
            pdu_length_max_bytes=self.hall.limits.pdu_length_max_bytes, artim_seconds=self.hall.limits.artim_seconds
        )
        self._association = Association(Role.ACCEPTOR, limits, time.monotonic())
        return True

    def _peer(self) -> Peer:
        connection = self._connection if self._association is not None else None  # once the handshake is done
        return Peer(
            self._address,
            self._port,
            self.hall.door,
            connection.certificate() if connection is not None else None,
            connection.version() if connection is not None else "",
        )

    def _turn_away(self, why: str) -> None:
        """Records that somebody without a name was turned away; goes through the path like every refusal."""
        self._ended = why
        run(gateway.turn_away(self.hall.do, self._peer(), NotIdentified(why)))

    def _associate(self, rq: AssociateRQ) -> None:
        association = self._association
        assert association is not None
        proposal = proposal_of(rq)
        admission = Entered(gateway.admit(self.hall.do, self._peer(), proposal))
        try:
            admitted = admission.__enter__()
        except (Refused, Fault) as refusal:
            result, source, reason = reply_to(refusal).associate_rj
            association.send(AssociateRJ(result, source, reason))
            self._ended = str(refusal)
            self._write()
            raise
        self._admission = admission
        self.known = (admitted.permit.generation, admitted.subject.peer.opened)
        self.subject = admitted.subject  # from here on it is looked at when the generation rises, or rose meanwhile
        answer = accept(
            rq,
            self.hall.supported,
            pdu_length_max_bytes=self.hall.limits.pdu_length_max_bytes,
            extended=extended,
            user_identity_response=b"" if proposal.user_identity_type in ANSWERED else None,
        )
        association.send(answer)
        self._write()

    # ---- messages

    def _converse(self) -> Next:
        connection, association = self._connection, self._association
        assert connection is not None and association is not None
        while True:
            item = self._next(wait=False)
            if item is None:
                if self.asides.ask() or (self.subject is not None and connection.readable_within(LINGER_SECONDS)):
                    continue
                association.rest()
                return Next.PARK
            self._since = time.monotonic()
            match item:
                case AssociateIndication(rq):
                    self._associate(rq)
                case CommandReceived(context_id, command) if command.field is not CommandField.C_CANCEL_RQ:
                    self._serve(association.contexts[context_id], command)
                case CommandReceived():
                    continue  # our last answer and it met on the way: there is nothing to cancel, and it has no answer (PS3.7 9.3.2.3)
                case DataSetFragment() | DataSetEnd():
                    continue  # what is left of a data set that was refused
                case ReleaseIndication():
                    association.send(ReleaseRP())
                    self._released = True
                    self._write()
                    return Next.LEAVE
                case ArtimExpired():
                    self._ended = "the peer did not close in time (ARTIM)"
                    return Next.LEAVE
                case Aborted() as aborted:
                    self._ended = f"aborted by the peer ({aborted.source}, {aborted.reason})"
                    return Next.LEAVE
                case TransportClosed():
                    return Next.LEAVE
                case _:
                    raise RemoteProtocolError(f"unexpected {type(item).__name__}")

    def _next(self, *, wait: bool) -> object | None:
        """The next thing the peer said; None where it has said nothing more yet (never with `wait`)."""
        connection, association = self._connection, self._association
        assert connection is not None and association is not None
        while True:
            while self._items:
                if not self.asides.takes(item := self._items.popleft()):
                    return item
            event = association.next_event()
            if event is None:
                self._not_too_slow(wait)
                count = connection.read(association.buffer(), wait=wait)
                if count is None:
                    return None
                if count == 0:
                    association.receive_eof(time.monotonic())
                else:
                    self._heard += count
                    association.received(count, time.monotonic())
            elif isinstance(event, DataFragment):
                self._feed(event)
            else:
                return event

    def _not_too_slow(self, wait: bool) -> None:
        """A byte now and then keeps a thread busy for ever: in the middle of a message there is a least rate. Raises ConnectionLost."""
        limits, now = self.hall.limits, time.monotonic()
        if not wait:
            self._asked, self._heard = now, 0
        taken = now - self._asked
        if taken > limits.stall_seconds and self._heard < taken * limits.slowest_bytes_per_second:
            raise ConnectionLost(
                f"the peer sends a message at less than limits.slowest_bytes_per_second = {limits.slowest_bytes_per_second}"
            )

    def _feed(self, fragment: DataFragment) -> None:
        assert self._association is not None
        try:
            self._items.extend(self._messages.feed(fragment))
        except CommandRefused as refused:  # this command cannot be carried out; the association goes on
            self._record(Malformed(str(refused)))
            self._association.send_data(fragment.context_id, is_command=True, payload=refused.answer, is_last=True)
            self._write()

    def _serve(self, context: AcceptedContext, command: Command) -> None:
        if command.field.is_response:
            raise RemoteProtocolError(f"{command.field.name} where we asked for nothing", abort=UNEXPECTED)
        self._in_data_set, self._cancelled = command.has_data_set, False
        service = self.hall.services.get(command.field)
        try:
            if service is None:
                raise Unsupported(f"{command.field.name} is not offered here")
            service(self, context, command)
        except (Refused, Fault) as refusal:
            self.request = None  # that is not looked at again: its data set is only read past
            if isinstance(refusal, Refused):
                self._record(refusal)
            self.finish_data_set()
            row = reply_to(refusal)
            self.respond(context, command, row.dimse_status, comment=row.comment)
        self.request = None

    def _record(self, refusal: Refused) -> None:
        """What was refused before it came to the gateway goes through it all the same, so that an event says so."""
        if not refusal.recorded:
            refusal.subject = refusal.subject or self.subject
            run(gateway.turn_away(self.hall.do, self._peer(), refusal))

    # ---- what services use

    def read_into(self, into: memoryview) -> int:
        """`terms.Incoming`: of the data set that follows the command; waits for at least one byte, 0 at its end."""
        association = self._association
        assert association is not None
        while self._in_data_set:
            if rest := self._rest:
                count = min(len(rest), len(into))
                into[:count], self._rest = rest[:count], rest[count:]
                return count
            if (
                not self._items
                and (passing := self._messages.passing)
                and (count := association.take_data(passing, into))
            ):
                return count
            match self._next(wait=True):
                case DataSetFragment(_, data):
                    self._rest = data
                case DataSetEnd():
                    self._in_data_set = False
                case _:
                    raise ConnectionLost("the association ended in the middle of a data set")
        return 0

    def finish_data_set(self) -> None:
        """Reads past what is left of a data set that nobody wants, so that the answer can be heard."""
        left, piece = self.hall.limits.instance_length_max_bytes, memoryview(bytearray(PIECE_LENGTH_BYTES))
        while count := self.read_into(piece):
            left -= count
            if left < 0:
                raise ConnectionLost("a refused data set has no end")

    def identifier(self) -> bytes:
        """The whole data set of a query, retrieval or action."""
        whole, piece = bytearray(), memoryview(bytearray(PIECE_LENGTH_BYTES))
        while count := self.read_into(piece):
            whole += piece[:count]
            if len(whole) > IDENTIFIER_LENGTH_MAX_BYTES:
                raise Malformed(f"an identifier longer than {IDENTIFIER_LENGTH_MAX_BYTES} bytes")
        return bytes(whole)

    def respond(
        self,
        context: AcceptedContext,
        request: Command,
        status: int,
        *,
        comment: str = "",
        data: bytes | None = None,
        fields: Mapping[str, Any] | None = None,
        more: bool = False,
    ) -> None:
        """One response message to a request (PS3.7 9, 10). `fields`: others of `Command`, by name. `more`: another message follows at once,
        and both may leave together."""
        response = request.response(status, has_data_set=data is not None, comment=comment, **(fields or {}))
        association, encoded = self._association, encode_command(response)
        assert association is not None
        association.send_data(context.id, is_command=True, payload=encoded, is_last=True)
        if data is not None:
            association.send_data(context.id, is_command=False, payload=data, is_last=True)
        self._waiting += len(encoded) + len(data or b"")
        if not more or self._waiting >= TOGETHER_BYTES:
            self._write()

    def send(self, context: AcceptedContext, command: Command, data: bytes | Iterable[memoryview] | None) -> None:
        """One message: a command, and its data set in pieces where it has one."""
        association = self._association
        assert association is not None
        association.send_data(context.id, is_command=True, payload=encode_command(command), is_last=True)
        for piece, is_last in with_last((data,) if isinstance(data, bytes) else data):
            association.send_data(context.id, is_command=False, payload=piece, is_last=is_last)
            if not is_last:
                self._write()
        self._write()

    def cancelled(self, message_id: int) -> bool:
        """True once the peer sent C-CANCEL for the message (PS3.7 9.3.2.3). Never waits."""
        if self._cancelled:
            return True
        item = self._next(wait=False)
        match item:
            case None:
                return False
            case CommandReceived(_, command) if command.field is CommandField.C_CANCEL_RQ:
                self._cancelled = command.message_id_responded_to == message_id
                return self._cancelled
            case CommandReceived() | DataSetFragment() | DataSetEnd():
                raise RemoteProtocolError("a request while another is answered: the window is 1", abort=UNEXPECTED)
            case _:
                raise ConnectionLost(self._cut_reason() or "the association ended while its request was being answered")

    def reply_from_peer(self, message_id: int) -> Command:
        """Waits for the peer's response to a sub-operation of that message (C-STORE-RSP of a C-GET); a C-CANCEL before it is for `cancelled`."""
        while True:
            item = self._next(wait=True)
            match item:
                case CommandReceived(_, command) if command.field is CommandField.C_CANCEL_RQ:
                    self._cancelled |= command.message_id_responded_to == message_id
                case CommandReceived(_, command):
                    return command
                case _:
                    raise ConnectionLost(self._cut_reason() or "the association ended in the middle of a sub-operation")

    @contextmanager
    def calling(self, requestor: Requestor) -> Iterator[None]:
        """While we speak to another peer for this one: whatever cuts this association cuts that one too."""
        self._calling = requestor
        try:
            if reason := self._cut_reason():
                raise ConnectionLost(reason)
            yield
        finally:
            self._calling = None

    def contexts(self) -> Mapping[int, AcceptedContext]:
        assert self._association is not None
        return self._association.contexts

    # ---- the end

    def _write(self) -> None:
        assert self._connection is not None and self._association is not None
        self._waiting = 0
        self._connection.write(self._association.data_to_send())

    def _farewell(self) -> None:
        """What the state machine queued as its last word."""
        try:
            if self._association is not None:
                self._write()
        except ConnectionLost:
            return

    def _abort(self) -> None:
        if self._association is not None:
            self._association.send(Abort(2, 0))  # service-provider, reason not specified
            self._farewell()

    def _cut_reason(self) -> str:
        return self._connection.cut_reason if self._connection is not None else ""
