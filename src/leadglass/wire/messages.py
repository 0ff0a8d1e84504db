"""Which messages do the fragments make? Commands are assembled, data sets pass through in pieces (PS3.7 6.3, PS3.8 Annex E)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from leadglass.wire.dimse import Command, CommandRefused, decode_command
from leadglass.wire.indications import DataFragment
from leadglass.wire.items import invalid
from leadglass.wire.limits import AssociationLimits


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A whole command set. If it has a data set, `DataSetFragment`s and one `DataSetEnd` follow."""

    context_id: int
    command: Command


class DataSetFragment(NamedTuple):
    """A piece of the data set, valid as long as its `DataFragment`. A tuple, for there are very many."""

    context_id: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class DataSetEnd:
    """The data set is whole."""

    context_id: int


_new = tuple.__new__  # half the time of a named tuple's own constructor

Message = CommandReceived | DataSetFragment | DataSetEnd


class MessageReader:
    """Turns the fragments of one association into messages.

    `feed` raises RemoteProtocolError where fragments do not make a message: the association cannot go on. It raises `CommandRefused`
    where only this command cannot be carried out: its `answer` can be sent, its data set is dropped as it comes, and reading goes on.
    """

    def __init__(self, limits: AssociationLimits) -> None:
        self._limits = limits
        self._command = bytearray()
        self._command_fragments = 0
        self._command_context = 0  # 0 (never a context's) between commands
        self._data_set_context = 0  # 0 between data sets
        self._passing = 0  # the same, unless the data set is being dropped

    @property
    def idle(self) -> bool:
        """True between messages."""
        return not self._command_context and not self._data_set_context

    @property
    def passing(self) -> int:
        """The presentation context of the data set that passes through at this moment, 0 where none does."""
        return self._passing

    def feed(self, fragment: DataFragment) -> Sequence[Message]:
        """The messages, or pieces of one, that a fragment completes; most often one."""
        context_id, is_command, is_last, data = fragment
        if context_id == self._passing and not is_command and not is_last:
            return (_new(DataSetFragment, (context_id, data)),)
        if is_command:
            return self._feed_command(fragment)
        if context_id != self._data_set_context:
            raise invalid(
                f"a data set fragment in presentation context {context_id}, "
                + (
                    f"one of {self._data_set_context} is not complete"
                    if self._data_set_context
                    else "no command announced it"
                )
            )
        if not is_last:
            return ()
        passing, self._data_set_context, self._passing = self._passing, 0, 0
        if not passing:
            return ()
        return (DataSetFragment(context_id, data), DataSetEnd(context_id)) if data else (DataSetEnd(context_id),)

    def _feed_command(self, fragment: DataFragment) -> Sequence[Message]:
        context_id = fragment.context_id
        if self._data_set_context:
            raise invalid(
                f"a command fragment before the data set in presentation context {self._data_set_context} ended"
            )
        if self._command_context not in (0, context_id):
            raise invalid(f"a command fragment in context {context_id}, one of {self._command_context} is not complete")
        self._command_context = context_id
        self._command_fragments += 1
        self._command += fragment.data
        if len(self._command) > self._limits.command_set_length_max_bytes:
            raise invalid(f"a command set of more than {self._limits.command_set_length_max_bytes} bytes")
        if self._command_fragments > self._limits.command_fragments_max:
            raise invalid(f"a command set in more than {self._limits.command_fragments_max} pieces")
        if not fragment.is_last:
            return ()
        whole, self._command = bytes(self._command), bytearray()
        self._command_context = self._command_fragments = 0
        try:
            command = decode_command(whole)
        except CommandRefused as refused:
            self._data_set_context = context_id if refused.has_data_set else 0
            raise
        if command.has_data_set:
            self._data_set_context = self._passing = context_id
        return (CommandReceived(context_id, command),)


def with_last(pieces: Iterable[memoryview | bytes] | None) -> Iterator[tuple[memoryview | bytes, bool]]:
    """Each piece of a data set, and whether it is the last, which carries the last-fragment bit: so one stays behind. Nothing for None."""
    if pieces is None:
        return
    held: memoryview | bytes | None = None
    for piece in pieces:
        if held is not None:
            yield held, False
        held = piece
    yield held or b"", True
