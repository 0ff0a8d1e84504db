"""Who called, when, with which software? Read from the journal, so that it can be thrown away and made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from leadglass.terms import Event, EventKind, JournalFault

UNKNOWN_MAX = 1000  # strangers that are told apart; further ones are counted under the last


class Recorded(Protocol):
    """An event as it is read back."""

    @property
    def event(self) -> Event: ...
    @property
    def at_ns(self) -> int: ...


class Readable(Protocol):
    """The journal, as far as an inventory needs it."""

    def read(self, since: None, broken: Callable[[JournalFault], None]) -> Iterable[Recorded]: ...


@dataclass(slots=True)
class Seen:
    """A device's latest call. `implementation`: class UID and version name as its A-ASSOCIATE-RQ said."""

    last_ns: int = 0
    address: str = ""
    implementation: str = ""


@dataclass(slots=True)
class Stranger:
    """Somebody who called and is not enrolled."""

    address: str
    calling_ae_title: str
    last_ns: int = 0
    count: int = 0
    reason: str = ""


@dataclass(slots=True)
class Inventory:
    """What the journal tells about callers. `of` reads all of it; `notice` takes one more event."""

    seen: dict[str, Seen] = field(default_factory=dict)
    _strangers: dict[tuple[str, str], Stranger] = field(default_factory=dict)

    @classmethod
    def of(cls, journal: Readable) -> Inventory:
        inventory = cls()
        for recorded in journal.read(
            None, lambda fault: None
        ):  # an inventory of what can be read; others name the rest
            inventory.notice(recorded.event, recorded.at_ns)
        return inventory

    @property
    def unknown(self) -> Iterator[Stranger]:
        return iter(sorted(self._strangers.values(), key=lambda each: -each.last_ns))

    def notice(self, event: Event, at_ns: int) -> None:
        if event.kind is EventKind.ASSOCIATION_ADMITTED:
            seen = self.seen.setdefault(event.actor, Seen())
            if at_ns >= seen.last_ns:
                seen.last_ns, seen.address = at_ns, event.address
                seen.implementation = str(event.details.get("implementation", ""))
        elif event.kind is EventKind.ASSOCIATION_REFUSED and not event.actor:
            key = (event.address, str(event.details.get("calling", "")))
            if key not in self._strangers and len(self._strangers) >= UNKNOWN_MAX:
                return
            stranger = self._strangers.setdefault(key, Stranger(*key))
            stranger.count += int(event.details.get("count", 1))
            stranger.last_ns, stranger.reason = max(at_ns, stranger.last_ns), event.reason
