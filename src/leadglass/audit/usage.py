"""What was used on which day, and what was refused? Counted from the journal beside the audit search; derived like it, and no patient stands in it.

A row is a day, who did what by which rule: what `leadglass zones tighten` and the map know of the past. Nobody's sign-ins are counted by name: of
people at the web door only the address stands there, because that is what a flow opens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import apsw

from leadglass.assets.inventory import TABLES as CALLERS_TABLES
from leadglass.assets.inventory import Calls
from leadglass.terms import Action, Event, EventKind

DAY_NS = 86_400 * 1_000_000_000
DAYS_KEPT = 800
REFUSED_ROWS_A_DAY_MAX = 5_000  # strangers choose what they call themselves; beyond it they are counted together
PEOPLE = "people"  # the action of whatever somebody does at the web door
PACKETS = "packets"  # of what a kernel let pass, or dropped
WATCHED = "watched"  # that day the counters of the kernel's table were heard
LOST = "lost"  # that day a journal ended without being closed: what was not synced yet is gone
_PERSON = "person:"  # begins the actor of whoever is at the web door
_KEPT = frozenset(
    {EventKind.INSTANCE_CONFLICTED, EventKind.INSTANCE_HELD, EventKind.INSTANCE_REPEATED, EventKind.INSTANCE_STORED}
)
# Refusals that some change of the policy would not have made; what is malformed or contained would be refused anyhow.
_BY_POLICY = frozenset({"NotIdentified", "NotPermitted", "UnknownDestination"})

TABLES = f"""{CALLERS_TABLES}
CREATE TABLE used(day INTEGER, who TEXT, rule TEXT, action TEXT, what TEXT, times INTEGER NOT NULL, last_ns INTEGER NOT NULL,
    PRIMARY KEY(day, who, rule, action, what)) WITHOUT ROWID;
CREATE INDEX used_rule ON used(rule, last_ns);
CREATE TABLE refused(day INTEGER, who TEXT, source TEXT, target TEXT, action TEXT, what TEXT, rule TEXT, why TEXT, times INTEGER NOT NULL,
    last_ns INTEGER NOT NULL, PRIMARY KEY(day, who, source, target, action, what, rule, why)) WITHOUT ROWID;
CREATE TABLE reach(one INTEGER PRIMARY KEY CHECK(one = 1), first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Used:
    """`who`: a device, "" where only its address or nothing is known. `rule`: a flow's id. `what`: of a store its SOP class ("" where its study is
    erased), of a move the AE title, of people the address. `times`: of `packets` how many."""

    who: str
    rule: str
    action: str
    what: str
    times: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class Denied:
    """`who`: a device or a person, "" for a stranger. `source`, `target`: names or addresses. `what`: SOP class, AE title, or protocol/port.

    `why`: the refusal's type, or for packets the kernel's reason. `rule`: the flow that came nearest, "" where none did.
    """

    who: str
    source: str
    target: str
    action: str
    what: str
    rule: str
    why: str
    times: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a time. `first_ns`, `last_ns`: what the journal reaches from and to at all, 0 and 0 where it is empty. `watched`: days, since 1970."""

    used: tuple[Used, ...]
    denied: tuple[Denied, ...]
    watched: frozenset[int]
    first_ns: int
    last_ns: int


Rows = Callable[[str, Sequence[int | str]], list[tuple]]  # type: ignore[type-arg]
_UseKey = tuple[int, str, str, str, str]
_DeniedKey = tuple[int, str, str, str, str, str, str, str]


class Tally:
    """Some events, counted; written in the transaction that remembers how far the journal was read."""

    def __init__(self) -> None:
        self._used: dict[_UseKey, list[int]] = defaultdict(lambda: [0, 0])
        self._denied: dict[_DeniedKey, list[int]] = defaultdict(lambda: [0, 0])
        self._calls = Calls()
        self._first_ns, self._last_ns = 1 << 63, 0

    def note(self, event: Event, at_ns: int) -> None:
        self._calls.note(event, at_ns)
        self._first_ns, self._last_ns = min(self._first_ns, at_ns), max(self._last_ns, at_ns)
        day = at_ns // DAY_NS
        for key, times in _uses(event):
            _add(self._used[day, *key], times, at_ns)
        if (refusal := _refusal(event)) is not None:
            _add(self._denied[day, *refusal], _times(event), at_ns)

    def write(self, db: apsw.Connection) -> None:
        """Inside a transaction. Raises apsw.Error."""
        if not self._last_ns:
            return
        self._calls.write(db)
        db.execute(
            "INSERT INTO reach VALUES(1,?,?) ON CONFLICT DO UPDATE SET first_ns = min(first_ns, excluded.first_ns),"
            " last_ns = max(last_ns, excluded.last_ns)",
            (self._first_ns, self._last_ns),
        )
        db.executemany(
            "INSERT INTO used VALUES(?,?,?,?,?,?,?)"
            " ON CONFLICT DO UPDATE SET times = times + excluded.times, last_ns = max(last_ns, excluded.last_ns)",
            [(*key, *counted) for key, counted in self._used.items()],
        )
        room = {day: REFUSED_ROWS_A_DAY_MAX - _rows_of(db, day) for day in {key[0] for key in self._denied}}
        db.executemany(
            "INSERT INTO refused VALUES(?,?,?,?,?,?,?,?,?,?)"
            " ON CONFLICT DO UPDATE SET times = times + excluded.times, last_ns = max(last_ns, excluded.last_ns)",
            [(*_bounded(key, room), *counted) for key, counted in self._denied.items()],
        )
        oldest = self._last_ns // DAY_NS - DAYS_KEPT
        db.execute("DELETE FROM used WHERE day < ?", (oldest,))
        db.execute("DELETE FROM refused WHERE day < ?", (oldest,))


def usage(rows: Rows, from_ns: int) -> Usage:
    """From the day of `from_ns` on, that whole day included."""
    day = from_ns // DAY_NS
    used = rows(
        "SELECT who, rule, action, what, sum(times), max(last_ns) FROM used WHERE day >= ? GROUP BY who, rule, action, what",
        (day,),
    )
    denied = rows(
        "SELECT who, source, target, action, what, rule, why, sum(times), max(last_ns) FROM refused WHERE day >= ?"
        " GROUP BY who, source, target, action, what, rule, why",
        (day,),
    )
    watched = rows("SELECT DISTINCT day FROM used WHERE action = ? AND day >= ?", (WATCHED, day))
    reach = rows("SELECT first_ns, last_ns FROM reach", ())
    return Usage(
        tuple(Used(*row) for row in used),
        tuple(Denied(*row) for row in denied),
        frozenset(day for (day,) in watched),
        *(reach[0] if reach else (0, 0)),
    )


# ---- of one event


def _uses(event: Event) -> Iterator[tuple[tuple[str, str, str, str], int]]:
    if event.kind is EventKind.NETWORK_USED:
        yield ("", str(event.details.get("flow", "")), PACKETS, ""), int(event.details.get("packets", 0))
    elif event.kind is EventKind.NETWORK_WATCHED:
        yield ("", "", WATCHED, ""), 1
    elif event.kind is EventKind.JOURNAL_RECOVERED:
        yield ("", "", LOST, ""), 1
    elif event.actor.startswith(_PERSON):
        if event.kind in (EventKind.PERSON_RECOGNISED, EventKind.RELEASE_STARTED, EventKind.CHANGE_COMPLETED):
            yield ("", "", PEOPLE, event.address), 1
    elif event.kind is EventKind.ASSOCIATION_ADMITTED or event.kind in _KEPT or event.kind is EventKind.RELEASE_STARTED:
        for rule in event.rule.split("+"):
            yield (event.actor, rule, event.action, _what(event)), 1


def _what(event: Event) -> str:
    if event.kind in _KEPT:
        return event.settled.instance.sop_class_uid if event.settled else str(event.details.get("sop_class", ""))
    return str(event.details.get("destination", "")) if event.action == Action.MOVE else ""


def _refusal(event: Event) -> tuple[str, str, str, str, str, str, str] | None:
    """Who, source, target, action, what, rule, why."""
    details = event.details
    why = str(details.get("refusal", details.get("why", "")))
    if event.kind is EventKind.NETWORK_DROPPED:
        source, target = (_end(event, end) for end in ("from", "to"))
        port = details.get("port", 0)
        service = f"{details.get('protocol', '')}/{port}" if port else str(details.get("protocol", ""))
        return str(details.get("member_from", "")), source, target, PACKETS, service, "", why
    if event.kind is EventKind.CHANGE_REFUSED and event.actor.startswith(_PERSON):
        return event.actor, "", "", event.action, "", event.rule, "NotPermitted"
    if why not in _BY_POLICY:
        return None
    if event.kind is EventKind.ASSOCIATION_REFUSED:
        return event.actor, event.address, "", event.action, str(details.get("calling", "")), event.rule, why
    if event.kind is EventKind.REQUEST_REFUSED:
        what = str(details.get("sop_class", details.get("destination", "")))
        return event.actor, "", "", event.action, what, event.rule, why
    return None


def _end(event: Event, end: str) -> str:
    """A member's name, else its zone's, else its address."""
    address = "source" if end == "from" else "target"
    return str(event.details.get(f"member_{end}") or event.details.get(f"zone_{end}") or event.details.get(address, ""))


def _times(event: Event) -> int:
    return max(1, int(event.details.get("count", 1)))


def _add(counted: list[int], times: int, at_ns: int) -> None:
    counted[0] += times
    counted[1] = max(counted[1], at_ns)


# ---- bounds


def _rows_of(db: apsw.Connection, day: int) -> int:
    (row,) = db.execute("SELECT count(*) FROM refused WHERE day = ?", (day,)).fetchall()
    return int(str(row[0]))


def _bounded(key: _DeniedKey, room: dict[int, int]) -> _DeniedKey:
    """As it is while there is room on its day; then as one of many."""
    day, _, _, _, action, *_, why = key
    if room[day] <= 0:
        return day, "", "many", "", action, "", "", why
    room[day] -= 1
    return key
