"""Which broken glass waits for its review? Said when a day has gone by, and again each day: none stays unreviewed unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from leadglass.terms import Detection, EventKind, Severity

REVIEW_WITHIN_HOURS = 24
RATE_DAYS = 30
_HOUR_NS = 3600 * 1_000_000_000


class Broken(Protocol):
    """Broken glass as the register keeps it."""

    @property
    def id(self) -> str: ...
    @property
    def person(self) -> str: ...
    @property
    def from_ns(self) -> int: ...
    @property
    def reviewed_ns(self) -> int: ...
    @property
    def verdict(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Rate:
    """How often the glass was broken in the last days, by how many people, the most by one; how many of the reviewed were not justified.

    `late`: reviewed after more than a day, or waiting for longer.
    """

    days: int
    times: int
    people: int
    most_by_one: int
    not_justified: int
    late: int


def rate(glasses: Iterable[Broken], now_ns: int) -> Rate:
    """Of the last `RATE_DAYS`."""
    latest = [each for each in glasses if now_ns - each.from_ns < RATE_DAYS * 24 * _HOUR_NS]
    by_person = Counter(each.person for each in latest)
    taken_ns = ((each.reviewed_ns or now_ns) - each.from_ns for each in latest)
    return Rate(
        RATE_DAYS,
        len(latest),
        len(by_person),
        max(by_person.values(), default=0),
        sum(each.verdict == "not-justified" for each in latest),
        sum(each > REVIEW_WITHIN_HOURS * _HOUR_NS for each in taken_ns),
    )


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
