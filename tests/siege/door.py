"""What does an association make of a stream, said so that two ways of cutting it can be compared?

The door as it is in the product, without socket and clock: association, messages, an answer to each request, and a local user who releases or aborts
where the script says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat

from leadglass.doors.dimse.supported import supported_by
from leadglass.wire.association import (
    AssociateIndication,
    Association,
    DataFragment,
    Event,
    ReleaseConfirmation,
    ReleaseIndication,
    Role,
    State,
)
from leadglass.wire.dimse import CommandField, CommandRefused, Status, encode_command
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.limits import AssociationLimits
from leadglass.wire.messages import CommandReceived, DataSetEnd, DataSetFragment, Message, MessageReader
from leadglass.wire.negotiation import accept
from leadglass.wire.pdu import Abort, AssociateRQ, ReleaseRP, ReleaseRQ
from leadglass.wire.transitions import TRANSITIONS, Evt

SUPPORTED = supported_by(())
EVENTS_HELD_MAX = 2  # what next_event() has not handed out yet; a peer must not be able to pile more up

READ_AT_ONCE_MAX_BYTES = 128 << 10  # half a receive buffer, as `receive_data` wants it


@dataclass(slots=True)
class Heard:
    """What was indicated. Fragments and data sets are put together, for how they are cut is the transport's chance."""

    events: list[object] = field(default_factory=list)
    fragments: list[tuple[int, bool, bytearray, bool]] = field(default_factory=list)
    messages: list[object] = field(default_factory=list)
    output: bytearray = field(default_factory=bytearray)
    commands: int = 0
    refused: str = ""


class Door:
    """One association and its local user. `script`: position in the peer's stream -> what our user does there. `taken`: how many bytes of a data
    set it would take at once, for one who does not wait for them to be told."""

    def __init__(
        self,
        role: Role,
        limits: AssociationLimits,
        rq: AssociateRQ | None,
        script: Mapping[int, str] | None = None,
        taken: Iterator[int] | None = None,
    ) -> None:
        self.association, self.reader = Association(role, limits, 0.0), MessageReader(limits)
        self.heard, self.over = Heard(), False
        self._limits, self._position, self._script, self._taken = limits, 0, dict(script or {}), taken or repeat(0)
        if rq is not None:
            self.association.send(rq, 0.0)
            self._write()

    def feed(self, data: bytes, sizes: Iterator[int]) -> None:
        """The peer's bytes in pieces; our user acts exactly where the script says, whatever the pieces are."""
        view, at, end = memoryview(data), 0, len(data)
        while at < end and not self.over:
            self._act()
            stop = min(at + min(next(sizes), READ_AT_ONCE_MAX_BYTES), end)
            for each in self._script:
                stop = min(stop, at + each - self._position)
            self.association.receive_data(view[at:stop], 0.0)
            self._listen()
            self._hold_to_the_bounds()
            self._position += stop - at
            at = stop

    def close(self) -> Heard:
        """The peer closes the transport."""
        if not self.over:
            self._act()
        self.association.receive_eof(1.0)
        self._listen()
        self.heard.events.append((self.association.state, self.association.close_due))
        return self.heard

    def _act(self) -> None:
        if self._position not in self._script:
            return
        match self._script.pop(self._position):
            case "release" if TRANSITIONS[Evt.EVT11][self.association.state] is not None:
                self.association.send(ReleaseRQ(), 0.0)
            case "abort":
                self.association.send(Abort(0, 0), 0.0)
        self._write()

    def _listen(self) -> None:
        while True:
            self._take()
            try:
                event = self.association.next_event()
            except RemoteProtocolError as error:
                self._refuse(error)
                return
            if event is None:
                return
            try:
                self._hear(event)
            except RemoteProtocolError as error:  # the fragments make no message: what was heard of it is nobody's
                self.heard.fragments.pop()
                self.association.abort_for(error, 0.0)
                self._refuse(error)
                return

    def _take(self) -> None:
        """Of a data set that passes, and to which nothing can be said any more."""
        while size := self.reader.passing and next(self._taken):
            into = memoryview(bytearray(size))
            count = self.association.take_data(self.reader.passing, into)
            if not count:
                return
            self._hear_fragment(DataFragment(self.reader.passing, False, False, into[:count]))

    def _refuse(self, error: RemoteProtocolError) -> None:
        self.over = True
        self.heard.refused = str(error)
        self.heard.events.append((type(error), str(error), error.abort, error.reject))
        self._write()

    def _hear(self, event: Event) -> None:
        if isinstance(event, DataFragment):
            self._hear_fragment(event)
            return
        self.heard.events.append(event)
        match event:
            case AssociateIndication(rq):
                self.association.send(accept(rq, SUPPORTED, pdu_length_max_bytes=self._limits.pdu_length_max_bytes))
            case ReleaseIndication() | ReleaseConfirmation() if (
                TRANSITIONS[Evt.EVT14][self.association.state] is not None
            ):
                self.association.send(ReleaseRP())
        self._write()

    def _hear_fragment(self, fragment: DataFragment) -> None:
        context_id, is_command, is_last, data = fragment
        fragments = self.heard.fragments
        if fragments and fragments[-1][:2] == (context_id, is_command) and not fragments[-1][3]:
            whole = fragments.pop()[2]
            whole += data
        else:
            whole = bytearray(data)
        fragments.append((context_id, is_command, whole, is_last))
        try:
            messages = self.reader.feed(fragment)
        except CommandRefused as refused:  # told to the peer, and the association goes on
            self.heard.messages.append(("refused", str(refused), refused.has_data_set))
            self._answer(context_id, refused.answer)
            return
        for message in messages:
            self._hear_message(message)

    def _hear_message(self, message: Message) -> None:
        heard = self.heard.messages
        match message:
            case CommandReceived(context_id, command):
                heard.append((context_id, command))
                self.heard.commands += 1
                if not (command.field.is_response or command.field is CommandField.C_CANCEL_RQ):
                    self._answer(context_id, encode_command(command.response(Status.SUCCESS)))
            case DataSetFragment(context_id, data):
                if heard and isinstance(heard[-1], bytearray):
                    heard[-1] += data
                else:
                    heard.append(bytearray(data))
            case DataSetEnd(context_id):
                heard.append((context_id, "end"))

    def _answer(self, context_id: int, command: bytes) -> None:
        if self.association.state in (State.STA6, State.STA8):
            self.association.send_data(context_id, True, command, True)
            self._write()

    def _write(self) -> None:
        for piece in self.association.data_to_send():
            self.heard.output += piece

    def _hold_to_the_bounds(self) -> None:
        """What one peer may cost: one buffer, one command set, and no events that pile up."""
        association = self.association
        assert len(association._bytes) <= self._limits.receive_buffer_bytes
        assert len(self.reader._command) <= self._limits.command_set_length_max_bytes
        assert len(association._events) <= EVENTS_HELD_MAX
