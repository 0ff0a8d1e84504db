"""Do the journals still hold what they held? How far each came is noted every few seconds, after a look whether what was noted before is still there.

Whatever they hold is read again in turn, a little at a time, for a bit that fell over is in what nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import structlog

from leadglass.audit.journal.ends import NOTE, End, Ends
from leadglass.audit.journal.read import JournalReader
from leadglass.terms import Detection, EventKind, Fault, Severity

NOTED_EVERY_SECONDS = 10.0
ALL_LOOKED_AT_EVERY = 60  # of these times; else those only that are being written
READ_AGAIN_BYTES = 2 << 20  # at each of these times: some 50 ms of a processor, and 17 GiB a day

_UNKNOWN = "nobody knows how far they had come"

log = structlog.get_logger()


class JournalWatch:
    """The keeper's: it alone writes the note."""

    def __init__(self, reader: JournalReader, ends: Ends) -> None:
        self._reader, self._ends = reader, ends
        self._noted: dict[bytes, End] | None = None
        self._told: set[str] = set()
        self._times, self._due = count(), 0.0
        self._again = reader.verified(self._breaks)
        self._broken: list[Fault] = []  # as far as it was read again
        self._broken_before: list[Fault] = []  # when all was read the last time

    def notice(self, now: float, *, last: bool = False) -> list[Detection]:
        """`now`: monotonic seconds. Each thing is told once; `last`: noted once more, whenever that was done."""
        if now < self._due and not last:
            return []
        self._due = now + NOTED_EVERY_SECONDS
        found: list[Detection] = []
        try:
            for each in self._look():
                if each.reason not in self._told:
                    self._told.add(each.reason)
                    found.append(each)
        except (Fault, OSError) as error:  # what was found before is told all the same
            log.error("how far the journals came could not be noted", reason=str(error))
        return found

    def _look(self) -> Iterator[Detection]:
        known, there = self._noted, None
        try:
            there = self._ends.noted()
            if known is None and there is None:
                yield lost("journals", f"{_UNKNOWN}: there was no {NOTE}. After an update or a restore that is so once")
            elif known is not None and there != known:
                yield lost("journals", f"{NOTE} was changed or removed while this site ran: it is written anew")
        except Fault as fault:
            yield lost("journals", f"{fault}; {fault.hint}")
            if known is None:  # the note of before cannot be read, and is not written over
                return
        known = known if known is not None else there or {}
        gone = list(self._ends.lost(known, final=next(self._times) % ALL_LOOKED_AT_EVERY == 0))
        yield from (lost(each.writer.hex(), f"{each.fault}; {each.fault.hint}") for each in gone)
        now, broken = self._reader.ends(known)
        yield from (lost("journals", f"{fault}; {fault.hint}") for fault in (*broken, *self._read_again()))
        now |= {each.writer: known[each.writer] for each in gone}  # it stays noted until it is back
        if now != there:
            self._ends.note(now)
        self._noted = now

    def broken(self) -> Sequence[str]:
        """In words an operator can act on, until it was read whole again."""
        return sorted({f"{fault}; {fault.hint}" for fault in (*self._broken_before, *self._broken)})

    def _read_again(self) -> Sequence[Fault]:
        """What is broken in the next of all that was written, and in what came before."""
        read = 0
        for length in self._again:
            read += length
            if read >= READ_AGAIN_BYTES:
                return self._broken
        self._broken_before, self._broken = self._broken, []
        self._again = self._reader.verified(self._breaks)
        return self._broken_before

    def _breaks(self, fault: Fault) -> None:
        self._broken.append(fault)


def lost(about: str, reason: str) -> Detection:
    """A journal does not hold what it held."""
    return Detection(EventKind.JOURNAL_LOST, Severity.ALARM, about, reason)
