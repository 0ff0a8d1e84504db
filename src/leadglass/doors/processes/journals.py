"""Do the journals still hold what they held? How far each came is noted every few seconds, after a look whether what was noted before is still there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import structlog

from leadglass.audit.journal.ends import NOTE, End, Ends
from leadglass.audit.journal.read import JournalReader
from leadglass.terms import Detection, EventKind, Fault, Severity

NOTED_EVERY_SECONDS = 10.0
ALL_LOOKED_AT_EVERY = 60  # of these times; else those only that are being written

_UNKNOWN = "nobody knows how far they had come"

log = structlog.get_logger()


class JournalWatch:
    """The keeper's: it alone writes the note."""

    def __init__(self, reader: JournalReader, ends: Ends) -> None:
        self._reader, self._ends = reader, ends
        self._noted: dict[bytes, End] | None = None
        self._told: set[str] = set()
        self._times, self._due = count(), 0.0

    def notice(self, now: float, *, last: bool = False) -> list[Detection]:
        """`now`: monotonic seconds. Each thing is told once; `last`: noted once more, whenever that was done."""
        if now < self._due and not last:
            return []
        self._due = now + NOTED_EVERY_SECONDS
        found: list[Detection] = []
        try:
            found.extend(each for each in self._look() if each.reason not in self._told)
        except (Fault, OSError) as error:  # what was found before is told all the same
            log.error("how far the journals came could not be noted", reason=str(error))
        self._told |= {each.reason for each in found}
        return found

    def _look(self) -> Iterator[Detection]:
        known, there = self._noted, None
        try:
            there = self._ends.noted()
            if known is None and there is None:
                yield _alarm(
                    "journals", f"{_UNKNOWN}: there was no {NOTE}. After an update or a restore that is so once"
                )
            elif known is not None and there != known:
                yield _alarm("journals", f"{NOTE} was changed or removed while this site ran: it is written anew")
        except Fault as fault:
            yield _alarm("journals", f"{fault}; {fault.hint}")
            if known is None:  # the note of before cannot be read, and is not written over
                return
        known = known if known is not None else there or {}
        lost = list(self._ends.lost(known, final=next(self._times) % ALL_LOOKED_AT_EVERY == 0))
        yield from (_alarm(each.writer.hex(), f"{each.fault}; {each.fault.hint}") for each in lost)
        now, broken = self._reader.ends(known)
        yield from (_alarm("journals", f"{fault}; {fault.hint}") for fault in broken)
        now |= {each.writer: known[each.writer] for each in lost}  # it stays noted until it is back
        if now != there:
            self._ends.note(now)
        self._noted = now


def _alarm(about: str, reason: str) -> Detection:
    return Detection(EventKind.JOURNAL_LOST, Severity.ALARM, about, reason)
