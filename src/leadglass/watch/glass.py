"""Which broken glass waits for its review? Said when a day has gone by, and again each day: none stays unreviewed unseen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from leadglass.terms import Detection, EventKind, Severity

REVIEW_WITHIN_HOURS = 24
_HOUR_NS = 3600 * 1_000_000_000


class Broken(Protocol):
    """Broken glass as the register keeps it."""

    @property
    def id(self) -> str: ...
    @property
    def from_ns(self) -> int: ...
    @property
    def reviewed_ns(self) -> int: ...


@dataclass(slots=True)
class GlassWatch:
    """Remembers what it has said, for as long as the keeper lives; a restart says it once more."""

    _said_ns: dict[str, int] = field(default_factory=dict)

    def notice(self, glasses: Iterable[Broken], now_ns: int) -> Iterator[Detection]:
        """Those that should have been reviewed by now, one detection for all that are newly late."""
        late = []
        for each in glasses:
            if each.reviewed_ns:
                self._said_ns.pop(each.id, None)
                continue
            due = self._said_ns.get(each.id, each.from_ns) + REVIEW_WITHIN_HOURS * _HOUR_NS
            if due <= now_ns:
                self._said_ns[each.id] = now_ns
                late.append(each)
        if late:
            oldest = (now_ns - min(each.from_ns for each in late)) // _HOUR_NS
            yield Detection(
                EventKind.GLASS_UNREVIEWED,
                Severity.ALARM,
                f"{len(late)} broken glass",
                f"{len(late)} times the glass was broken and nobody has reviewed it, the oldest {oldest} h ago: the console's reviews show them",
                {"count": len(late), "oldest_hours": int(oldest)},
            )
