"""What does the peer want, and what must it hear? One association of the upper layer: bytes and time in, events and bytes out (PS3.8 9).

The shell owns the transport and the clock:

    count = sock.recv_into(association.buffer())        bytes in, without a copy
    association.received(count, now)                    or receive_eof(now)
    while (event := association.next_event()) is not None: ...
    association.send(pdu); association.send_data(...)
    sock.sendmsg(association.data_to_send())            bytes out, without a copy of what was queued

P-DATA streams: a fragment is handed out as far as it has arrived, and a data set may be taken with `take_data`, so memory does not grow with a
length that a peer claims. Only PDUs of association control wait in the buffer until they are whole; their length is refused at the header.

Errors: when the peer breaks the protocol, `next_event` queues the A-ABORT or A-ASSOCIATE-RJ that Table 9-10 wants and raises
RemoteProtocolError, once; the shell writes `data_to_send()` and closes. What arrives after that is thrown away unread. No input raises
anything else. LocalProtocolError is a defect of the caller.
"""

from __future__ import annotations

from collections import deque
from typing import NoReturn

from leadglass.wire.errors import AbortHint, LocalProtocolError, RemoteProtocolError
from leadglass.wire.indications import (
    Aborted,
    ArtimExpired,
    AssociateConfirmation,
    AssociateIndication,
    AssociateRejected,
    DataFragment,
    Event,
    ReleaseConfirmation,
    ReleaseIndication,
    TransportClosed,
)
from leadglass.wire.items import invalid
from leadglass.wire.limits import PDU_HEADER_LENGTH_BYTES, PDV_HEADERS_LENGTH_BYTES, AssociationLimits
from leadglass.wire.negotiation import AcceptedContext, accepted_contexts, disagreement
from leadglass.wire.passing import copy_values
from leadglass.wire.pdu import (
    COMMAND_FRAGMENT,
    FIXED_LENGTH_BYTES,
    LAST_FRAGMENT,
    PDU_HEADER,
    PDV_HEADER,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    Pdu,
    PduType,
    ReleaseRP,
    ReleaseRQ,
    decode,
    encode,
    p_data_header,
    read_pdv_header,
    unacceptable,
)
from leadglass.wire.transitions import (
    EFFECTS,
    EVENT_OF_PDU,
    NOT_ACCEPTABLE,
    TRANSITIONS,
    Action,
    Cell,
    CloseTransport,
    Effect,
    Evt,
    Role,
    SendAbort,
    SendPDU,
    StartARTIM,
    State,
    StopARTIM,
)

__all__ = [
    "Aborted",
    "AcceptedContext",
    "ArtimExpired",
    "AssociateConfirmation",
    "AssociateIndication",
    "AssociateRejected",
    "Association",
    "DataFragment",
    "Event",
    "ReleaseConfirmation",
    "ReleaseIndication",
    "Role",
    "State",
    "TransportClosed",
]


_UNRECOGNIZED, _UNEXPECTED = AbortHint(2, 1), AbortHint(2, 2)  # PDU (PS3.8 9.3.8)
_PEER_MAXIMUM_LENGTH_UNSAID = 16_384  # what we send at most to a peer that left out the sub-item
_DATA_STATES = frozenset({State.STA6, State.STA8})  # where Evt9 has a cell
_FOREIGN = {0x16: "TLS", ord("G"): "HTTP", ord("P"): "HTTP", ord("H"): "HTTP", ord("S"): "SSH"}
_new = tuple.__new__  # half the time of a named tuple's own constructor


class Association:
    """One association, from an open transport to its close. `now`: seconds on any clock that never goes back."""

    def __init__(self, role: Role, limits: AssociationLimits, now: float) -> None:
        self.role = role
        self.limits = limits
        self.state = State.STA1
        self.contexts: dict[int, AcceptedContext] = {}
        self.peer_maximum_length = _PEER_MAXIMUM_LENGTH_UNSAID  # as announced, 0 for any (PS3.8 D.1)
        self.close_due = False  # the machine wants the transport closed once the output is written
        self._now = now
        self._artim: float | None = None
        self._rq: AssociateRQ | None = None
        self._announced = limits.pdu_length_max_bytes  # the longest P-DATA-TF that the peer may send
        self._fragment_length = 0  # data bytes of a full fragment that we send
        self._events: deque[Event] = deque()
        self._output: list[bytes | memoryview] = []
        self._bytes = bytearray()
        self._view = memoryview(self._bytes)
        self._start = self._end = 0  # what is unread in `_bytes`
        self._streaming = False  # the state takes P-DATA-TF
        self._deaf = False  # nothing that arrives means anything any more
        self._skip_left = 0  # of a PDU that Sta13 ignores
        self._pdu_left = 0  # of a P-DATA-TF, behind the current value
        self._pdv_left = 0  # of a presentation data value
        self._pdv_context = 0
        self._pdv_is_command = self._pdv_is_last = False
        self._empty_fragments = 0
        if role is Role.ACCEPTOR:
            self._take(Evt.EVT5)

    # ---- bytes in

    def buffer(self) -> memoryview:
        """Free space to read into, never empty. Ask only after `next_event` said None: what lies in the buffer may move."""
        size = self.limits.receive_buffer_bytes
        if self._start == self._end and len(self._bytes) == size:
            self._start = self._end = 0
            return self._view
        if len(self._bytes) != size or self._end > size // 2:
            unread = bytes(self._view[self._start : self._end])
            if len(unread) > size // 2:
                raise LocalProtocolError("the buffer is full: ask next_event() until it says None before reading more")
            if len(self._bytes) != size:
                self._bytes = bytearray(size)
                self._view = memoryview(self._bytes)
            self._view[: len(unread)] = unread
            self._start, self._end = 0, len(unread)
        return self._view[self._end :]

    def received(self, count: int, now: float) -> None:
        """`count` bytes were read into `buffer()`."""
        end = self._end + count
        if not self._end < end <= len(self._bytes):
            raise LocalProtocolError(f"{count} bytes cannot have been read; the end is told by receive_eof()")
        self._end = end
        self._now = now

    def receive_data(self, data: bytes | memoryview, now: float) -> None:
        """The same with a copy. At most half a buffer at a time."""
        space = self.buffer()
        if len(data) > len(space):
            raise LocalProtocolError(f"{len(data)} bytes at once, {len(space)} have room")
        if data:
            space[: len(data)] = data
            self.received(len(data), now)

    def receive_eof(self, now: float) -> None:
        """The peer closed the transport (or it broke). What is unread is lost."""
        self._now = now
        if TRANSITIONS[Evt.EVT17][self.state] is not None:
            orderly = self.state is State.STA13
            self._take(Evt.EVT17)
            self._events.append(TransportClosed(orderly))
        self._deafen()

    def rest(self) -> None:
        """The peer is quiet: gives the buffer back, but for an unfinished PDU in it. `buffer()` gets a new one."""
        if len(self._bytes) == self.limits.receive_buffer_bytes:
            self._bytes = bytearray(self._view[self._start : self._end])
            self._view = memoryview(self._bytes)
            self._start, self._end = 0, len(self._bytes)

    # ---- events

    def next_event(self) -> Event | None:
        """The next thing that happened; None where more bytes are needed. Raises RemoteProtocolError, see the module's docstring."""
        while True:
            left = self._pdv_left
            if left:
                start, end = self._start, self._end
                if start == end:
                    return None
                stop = start + left
                if stop <= end:
                    self._start, self._pdv_left, is_last = stop, 0, self._pdv_is_last
                else:
                    self._start, self._pdv_left, is_last = end, stop - end, False
                return _new(
                    DataFragment, (self._pdv_context, self._pdv_is_command, is_last, self._view[start : self._start])
                )
            if self._events:
                return self._events.popleft()
            if not self._advance():
                return None

    def take_data(self, context_id: int, into: memoryview) -> int:
        """Copies what has come of a data set in that context, up to whatever only `next_event` can tell: how many bytes."""
        left = self._pdv_left
        other = left and (self._pdv_context != context_id or self._pdv_is_command or self._pdv_is_last)
        if other or self._pdu_left or self._events or self._deaf or not self._streaming:
            return 0
        count, self._start, self._pdv_left = copy_values(
            self._view, self._start, self._end, left, context_id, self._announced, into
        )
        if count or self._pdv_left:
            self._pdv_context, self._pdv_is_command, self._pdv_is_last, self._empty_fragments = (
                context_id,
                False,
                False,
                0,
            )
        return count

    def _advance(self) -> bool:
        """Reads one header, or one PDU of association control; False where its bytes are not all there."""
        if self._deaf:
            self._start = self._end
            return False
        unread = self._end - self._start
        if self._skip_left:
            skipped = min(self._skip_left, unread)
            self._start += skipped
            self._skip_left -= skipped
            return skipped > 0
        if self._pdu_left:
            return self._read_pdv_header(unread)
        if self.state is State.STA1 and self.close_due:
            self._deafen()
            return True
        if unread < PDU_HEADER_LENGTH_BYTES or self.state is State.STA1:
            return False
        kind, length = PDU_HEADER.unpack_from(self._bytes, self._start)
        if kind == PduType.P_DATA_TF and self._streaming:
            return self._begin_p_data(length)
        evt = EVENT_OF_PDU.get(kind)
        if evt is None:
            what = f"; this looks like {_FOREIGN[kind]}" if kind in _FOREIGN else ""
            self._refuse(RemoteProtocolError(f"unknown PDU type {kind:02X}H{what}", abort=_UNRECOGNIZED))
        cell = TRANSITIONS[evt][self.state]
        assert cell is not None  # only Sta1 and Sta4 have blanks for PDUs, and a shell's transport is open already
        return self._begin_pdu(PduType(kind), length, evt, cell)

    def _begin_p_data(self, length: int) -> bool:
        if length > self._announced:
            self._refuse(invalid(f"P-DATA-TF of {length} bytes, we announced {self._announced}"))
        if length < PDV_HEADERS_LENGTH_BYTES:
            self._refuse(invalid(f"P-DATA-TF of {length} bytes has no room for a presentation data value"))
        self._start += PDU_HEADER_LENGTH_BYTES
        self._pdu_left = length
        return self._read_pdv_header(self._end - self._start)

    def _begin_pdu(self, kind: PduType, length: int, evt: Evt, cell: Cell) -> bool:
        match cell.action:
            case Action.AA_6:
                self._start += PDU_HEADER_LENGTH_BYTES
                self._skip_left = length
                return True
            case Action.AA_7:  # said once: a peer that goes on asking hears nothing more
                self._take(evt, Abort(_UNEXPECTED.source, _UNEXPECTED.reason))
                self._deafen()
                return False
            case Action.AA_1 | Action.AA_8:
                what = f"{kind.name} in {self.state.name} ({self.state.value})"
                self._refuse(RemoteProtocolError(what, abort=_UNEXPECTED), evt)
        return self._read_control_pdu(kind, length, evt)

    def _read_control_pdu(self, kind: PduType, length: int, evt: Evt) -> bool:
        is_associate = kind in (PduType.ASSOCIATE_RQ, PduType.ASSOCIATE_AC)
        longest = self.limits.associate_rq_length_max_bytes if is_associate else FIXED_LENGTH_BYTES
        if length > longest:
            message = f"{kind.name} of {length} bytes, {longest} at most"
            self._refuse(unacceptable(message) if kind is PduType.ASSOCIATE_RQ else invalid(message))
        start = self._start + PDU_HEADER_LENGTH_BYTES
        if self._end - start < length:
            return False
        self._start = start + length
        try:
            pdu = decode(kind, bytes(self._view[start : self._start]), self.limits)
            event = self._event_of(pdu)
        except RemoteProtocolError as error:
            self._refuse(error)
        self._take(evt)
        self._events.append(event)
        return True

    def _event_of(self, pdu: Pdu) -> Event:
        """What a PDU of association control tells the shell, after it was checked against what we said ourselves."""
        match pdu:
            case AssociateRQ():
                self._learn_maximum_length(pdu.user_information.maximum_length)
                self._rq = pdu
                return AssociateIndication(pdu)
            case AssociateAC():
                assert self._rq is not None
                if problem := disagreement(self._rq, pdu):
                    raise invalid(problem)
                self._learn_maximum_length(pdu.user_information.maximum_length)
                self.contexts = accepted_contexts(self._rq, pdu, self.role)
                return AssociateConfirmation(pdu)
            case AssociateRJ():
                return AssociateRejected(pdu)
            case ReleaseRQ():
                return ReleaseIndication(collision=self.state is State.STA7)
            case ReleaseRP():
                return ReleaseConfirmation()
            case Abort(source, reason):
                return Aborted(source, reason)
        raise AssertionError("P-DATA-TF is streamed")

    def _read_pdv_header(self, unread: int) -> bool:
        if unread < PDV_HEADER.size <= self._pdu_left:
            return False
        try:
            context_id, control, length = read_pdv_header(self._bytes, self._start, self._pdu_left)
            if context_id not in self.contexts:
                raise invalid(f"P-DATA-TF for presentation context {context_id}, which was not accepted")
            self._empty_fragments = 0 if length else self._empty_fragments + 1
            if self._empty_fragments > self.limits.empty_fragments_max:
                raise invalid(f"more than {self.limits.empty_fragments_max} values without data in a row")
        except RemoteProtocolError as error:
            self._refuse(error)
        self._start += PDV_HEADER.size
        self._pdu_left -= PDV_HEADER.size + length
        self._pdv_left = length
        self._pdv_context = context_id
        self._pdv_is_command = bool(control & COMMAND_FRAGMENT)
        self._pdv_is_last = bool(control & LAST_FRAGMENT)
        if not length and self._pdv_is_last:
            self._events.append(DataFragment(context_id, self._pdv_is_command, True, self._view[:0]))
        return True

    # ---- bytes out

    def send(
        self, pdu: AssociateRQ | AssociateAC | AssociateRJ | ReleaseRQ | ReleaseRP | Abort, now: float | None = None
    ) -> None:
        """Queues what the service user says. Raises LocalProtocolError where the state has no cell for it.

        An Abort is always welcome: where nobody is left to hear it, it only closes. `now` restarts ARTIM from there, else from the last
        time that was told.
        """
        self._now = self._now if now is None else now
        match pdu:
            case AssociateRQ():
                self._take(Evt.EVT1)
                self._take(Evt.EVT2, pdu)  # the shell hands in a transport that is open already
                self._rq = pdu
                self._announce(pdu.user_information.maximum_length)
            case AssociateAC():
                self._accept(pdu)
            case AssociateRJ():
                self._take(Evt.EVT8, pdu)
            case ReleaseRQ():
                self._take(Evt.EVT11, pdu)
            case ReleaseRP():
                self._take(Evt.EVT14, pdu)
            case Abort() if TRANSITIONS[Evt.EVT15][self.state] is None:
                self.close_due = True
            case Abort():
                self._take(Evt.EVT15, pdu)
                self._drop_p_data()

    def abort_for(self, error: RemoteProtocolError, now: float | None = None) -> None:
        """Queues the A-ABORT for an error that a layer above found. Harmless where the association has ended already."""
        hint = error.abort or AbortHint(2, 0)
        self.send(Abort(hint.source, hint.reason), now)

    def send_data(self, context_id: int, is_command: bool, payload: bytes | memoryview, is_last: bool) -> None:
        """Queues a message, or a piece of one, in fragments that the peer takes. `payload` is not copied: leave it alone until written."""
        if self.state not in _DATA_STATES:
            raise LocalProtocolError(f"P-DATA cannot be sent in {self.state.name} ({self.state.value})")
        if context_id not in self.contexts:
            raise LocalProtocolError(f"presentation context {context_id} was not accepted")
        size, output = self._fragment_length, self._output
        control = COMMAND_FRAGMENT if is_command else 0
        view, total, offset = memoryview(payload), len(payload), 0
        if total > size:
            header = p_data_header(size, context_id, control)
            while total - offset > size:
                output += (header, view[offset : offset + size])
                offset += size
        left = total - offset
        if is_last:
            control |= LAST_FRAGMENT
        elif not left:
            return
        output.append(p_data_header(left, context_id, control))
        if left:
            output.append(view[offset:])

    def data_to_send(self) -> list[bytes | memoryview]:
        """What to write now, in this order; each byte is handed out once."""
        output, self._output = self._output, []
        return output

    def _accept(self, ac: AssociateAC) -> None:
        if self._rq is None or (problem := disagreement(self._rq, ac)):
            raise LocalProtocolError(f"not the answer to what was asked: {problem if self._rq else 'nothing was'}")
        self._take(Evt.EVT7, ac)
        self.contexts = accepted_contexts(self._rq, ac, self.role)
        self._announce(ac.user_information.maximum_length)

    def _announce(self, maximum_length: int | None) -> None:
        self._announced = maximum_length or 0xFFFFFFFF

    def _learn_maximum_length(self, announced: int | None) -> None:
        """PS3.8 D.1: what the peer receives. Raises RemoteProtocolError where it is too little to be of use."""
        maximum = _PEER_MAXIMUM_LENGTH_UNSAID if announced is None else announced
        if 0 < maximum < self.limits.peer_pdu_length_min_bytes:
            raise unacceptable(f"a maximum length of {maximum} bytes, {self.limits.peer_pdu_length_min_bytes} at least")
        self.peer_maximum_length = maximum
        longest = min(maximum or self.limits.pdu_length_max_bytes, self.limits.pdu_length_max_bytes)
        self._fragment_length = (longest - PDV_HEADERS_LENGTH_BYTES) & ~1  # even (PS3.8 9.3.5.1)

    # ---- time

    def deadline(self) -> float | None:
        """When `expire` is due, None where no timer runs."""
        return self._artim

    def expire(self, now: float) -> None:
        """Time has passed. Does nothing before the deadline."""
        self._now = now
        if self._artim is None or now < self._artim:
            return
        expired = ArtimExpired(self.state)
        self._take(Evt.EVT18)
        self._events.append(expired)
        self._deafen()

    # ---- the machine

    def _take(self, evt: Evt, pdu: Pdu | None = None, *, otherwise: bool = False) -> None:
        """Carries out the cell of Table 9-10 for an event. `otherwise`: AE-6 where the request is not acceptable."""
        cell = TRANSITIONS[evt][self.state]
        if cell is None:
            raise LocalProtocolError(f"{evt.value}: not possible in {self.state.name} ({self.state.value})")
        if cell.action is Action.AR_8:
            otherwise = self.role is Role.ACCEPTOR
        effects = NOT_ACCEPTABLE if otherwise and cell.action is Action.AE_6 else EFFECTS[cell.action]
        for effect in effects:
            self._perform(effect, pdu)
        self.state = cell.otherwise if otherwise and cell.otherwise is not None else cell.next_state
        arriving = TRANSITIONS[Evt.EVT10][self.state]
        self._streaming = arriving is not None and arriving.action in (Action.DT_2, Action.AR_6)

    def _perform(self, effect: Effect, pdu: Pdu | None) -> None:
        match effect:
            case SendPDU():
                assert pdu is not None
                self._output.append(encode(pdu))
            case SendAbort(source):
                self._output.append(encode(pdu if isinstance(pdu, Abort) else Abort(source, 0)))
            case StartARTIM():
                self._artim = self._now + self.limits.artim_seconds
            case StopARTIM():
                self._artim = None
            case CloseTransport():
                self._artim = None
                self.close_due = True
            # OpenTransport is the shell's, and whoever calls `_take` has the event that Indicate stands for

    def _refuse(self, error: RemoteProtocolError, evt: Evt = Evt.EVT19) -> NoReturn:
        """Answers a broken protocol as the table wants and raises the error."""
        if error.reject is not None and self.state is State.STA2:
            hint = error.reject
            self._take(Evt.EVT6, AssociateRJ(hint.result, hint.source, hint.reason), otherwise=True)
        else:
            cell = TRANSITIONS[evt][self.state]
            by_provider = cell is not None and cell.action is not Action.AA_1
            reason = error.abort.reason if error.abort is not None else 0
            self._take(evt, Abort(2, reason) if by_provider else Abort(0, 0))
        self._deafen()
        raise error

    def _drop_p_data(self) -> None:
        """Sta13 ignores P-DATA-TF (AA-6): the rest of one that was being read too."""
        self._skip_left += self._pdv_left + self._pdu_left
        self._pdv_left = self._pdu_left = 0

    def _deafen(self) -> None:
        self._drop_p_data()
        self._deaf = True
