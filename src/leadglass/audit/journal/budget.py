"""How much may strangers make us write? The first refusals of a source in a minute one by one, the rest as one counted summary. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from leadglass.terms import Event

REFUSALS_PER_SOURCE_MAX = 5
WINDOW_SECONDS = 60.0
SOURCES_MAX = 4096
OTHERS = "many addresses"  # what all beyond SOURCES_MAX are counted under


@dataclass(slots=True)
class _Window:
    began: float
    seen: int = 0
    last: Event | None = None


@dataclass(frozen=True, slots=True)
class Suppressed:
    """`count` refusals of one source that were not written one by one; `last` is the latest of them."""

    source: str
    count: int
    last: Event


@dataclass(slots=True)
class RefusalBudget:
    """Bounded in memory whatever comes. Times are seconds of any clock that does not step back. Not for two threads."""

    _windows: dict[str, _Window] = field(default_factory=dict)

    def admit(self, source: str, event: Event, now: float) -> bool:
        """Whether this refusal is written on its own; one that is not comes back in a summary."""
        if source not in self._windows and len(self._windows) >= SOURCES_MAX:
            source = OTHERS
        window = self._windows.setdefault(source, _Window(now))
        window.seen += 1
        if window.seen <= REFUSALS_PER_SOURCE_MAX:
            return True
        window.last = event
        return False

    def due(self, now: float, *, all_of_them: bool = False) -> list[Suppressed]:
        """Summaries of the minutes that are over; at the end, of all of them."""
        over = [name for name, window in self._windows.items() if all_of_them or now - window.began >= WINDOW_SECONDS]
        ended = [(name, self._windows.pop(name)) for name in over]
        return [
            Suppressed(name, window.seen - REFUSALS_PER_SOURCE_MAX, window.last)
            for name, window in ended
            if window.last is not None
        ]
