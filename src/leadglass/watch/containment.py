"""Can it be read who is contained? Said when it no longer can, and once more an hour while it stays so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from leadglass.policy.containment import COPY_FILE, STATE_FILE
from leadglass.terms import Detection, EventKind, Severity

REPEATED_AFTER_LOOKS = 7200  # an hour of looks every half second


@dataclass(slots=True)
class ReadableWatch:
    """Counts the looks since the state could last be read."""

    _looks: int = 0

    def notice(self, unreadable: bool) -> Iterator[Detection]:
        if not unreadable:
            self._looks = 0
            return
        if self._looks % REPEATED_AFTER_LOOKS == 0:
            yield Detection(
                EventKind.CONTAINMENT_UNREADABLE,
                Severity.ALARM,
                str(STATE_FILE),
                "the last known containment holds, and only what stores is let in: "
                f"put {COPY_FILE}, or the one of the backup, in its place",
            )
        self._looks += 1
