"""Who called, when, with which software? Counted from the journal where the audit search is fed, and derived like it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apsw

from leadglass.terms import Event, EventKind

STRANGERS_MAX = 1_000  # that are told apart: those who called last, for they choose what they call themselves

TABLES = """
CREATE TABLE called(device TEXT PRIMARY KEY, last_ns INTEGER NOT NULL, address TEXT NOT NULL, software TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE strangers(address TEXT, ae_title TEXT, times INTEGER NOT NULL, last_ns INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY(address, ae_title)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A device's latest call. `software`: class UID and version name as its A-ASSOCIATE-RQ said."""

    last_ns: int
    address: str
    software: str


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody who called and is not enrolled. `reason`: of the last refusal."""

    address: str
    calling_ae_title: str
    times: int
    last_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class Callers:
    """`seen`: by device. `strangers`: who called last first."""

    seen: dict[str, Seen]
    strangers: tuple[Stranger, ...]


class Calls:
    """Of some events; written in the transaction that remembers how far the journal was read."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}
        self._strangers: dict[tuple[str, str], Stranger] = {}

    def note(self, event: Event, at_ns: int) -> None:
        if event.kind is EventKind.ASSOCIATION_ADMITTED:
            known = self._seen.get(event.actor)
            if known is None or at_ns >= known.last_ns:
                software = str(event.details.get("implementation", ""))
                self._seen[event.actor] = Seen(at_ns, event.address, software)
        elif event.kind is EventKind.ASSOCIATION_REFUSED and not event.actor:
            key = (event.address, str(event.details.get("calling", "")))
            before = self._strangers.get(key, Stranger(*key, 0, 0, ""))
            times = before.times + int(event.details.get("count", 1))
            latest = (at_ns, event.reason) if at_ns >= before.last_ns else (before.last_ns, before.reason)
            self._strangers[key] = Stranger(*key, times, *latest)

    def write(self, db: apsw.Connection) -> None:
        """Inside a transaction. Raises apsw.Error."""
        db.executemany(
            "INSERT INTO called VALUES(?,?,?,?) ON CONFLICT DO UPDATE SET last_ns = excluded.last_ns, address = excluded.address,"
            " software = excluded.software WHERE excluded.last_ns >= last_ns",
            [(device, each.last_ns, each.address, each.software) for device, each in self._seen.items()],
        )
        db.executemany(
            "INSERT INTO strangers VALUES(?,?,?,?,?) ON CONFLICT DO UPDATE SET times = times + excluded.times,"
            " reason = iif(excluded.last_ns >= last_ns, excluded.reason, reason), last_ns = max(last_ns, excluded.last_ns)",
            [
                (each.address, each.calling_ae_title, each.times, each.last_ns, each.reason)
                for each in self._strangers.values()
            ],
        )
        if self._strangers:
            db.execute(
                "DELETE FROM strangers WHERE (address, ae_title) NOT IN"
                " (SELECT address, ae_title FROM strangers ORDER BY last_ns DESC LIMIT ?)",
                (STRANGERS_MAX,),
            )


def callers(rows: Callable[[str, Sequence[int | str]], list[tuple]]) -> Callers:  # type: ignore[type-arg]
    """As far as the search was fed. Raises what `rows` raises."""
    seen = rows("SELECT device, last_ns, address, software FROM called", ())
    strangers = rows("SELECT address, ae_title, times, last_ns, reason FROM strangers ORDER BY last_ns DESC", ())
    return Callers({device: Seen(*facts) for device, *facts in seen}, tuple(Stranger(*row) for row in strangers))
