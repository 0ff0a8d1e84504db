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
        found = [each for each in self._look() if each.reason not in self._told]
        self._told |= {each.reason for each in found}
        return found

    def _look(self) -> Iterator[Detection]:
        try:
            if self._noted is None:
                self._noted = self._ends.noted()
            if self._noted is None:
                yield _alarm(
                    "journals",
                    f"nobody knows how far they had come: there was no {NOTE}. After an update or a restore that is so once",
                )
                self._noted = {}
            lost = list(self._ends.lost(final=next(self._times) % ALL_LOOKED_AT_EVERY == 0))
            yield from (_alarm(each.writer.hex(), str(each.fault)) for each in lost)
            now, broken = self._reader.ends(self._noted)
            yield from (_alarm("journals", str(fault)) for fault in broken)
            now |= {
                each.writer: self._noted[each.writer] for each in lost
            }  # what was lost stays noted until it is back
            if now != self._noted:
                self._ends.note(now)
                self._noted = now
        except Fault as fault:
            yield _alarm("journals", str(fault))
        except OSError as error:
            log.error("how far the journals came could not be noted", reason=str(error))


def _alarm(about: str, reason: str) -> Detection:
    return Detection(EventKind.JOURNAL_LOST, Severity.ALARM, about, reason)
