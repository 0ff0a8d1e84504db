"""Who saw this patient, and what did this person see? An index over the journal: derived, encrypted, made again when it is lost.

It holds what concerns people and patients and skips what only modalities do. Patients and studies stand in it as keyed tokens, and so do the
people and requests that changes are about; what names a patient stays in the event's own box under its study's key, so that erasure reaches it
here too. The keeper feeds it behind a cursor that lies in the
same file and moves in the same transaction; every process may read.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import apsw

from leadglass.assets.inventory import Callers, callers
from leadglass.audit.codec import (
    Recorded,
    decode_event,
    matter_token,
    passage_token,
    patient_token,
    study_token,
    tokens_in,
)
from leadglass.audit.events import ON_DEMAND
from leadglass.audit.journal.cursors import Cursors
from leadglass.audit.journal.read import Broken, JournalReader, raised
from leadglass.audit.usage import TABLES as USAGE_TABLES
from leadglass.audit.usage import Tally, Usage, usage
from leadglass.site.keyring import Keyring
from leadglass.site.people import fold_name
from leadglass.terms import (
    AuditQuestion,
    Body,
    ChangeKind,
    Event,
    EventKind,
    Permit,
    Progress,
    Reference,
    Settled,
    StoreFault,
    Unsupported,
)

FILE = Path("state") / "search.db"
FORMAT = 4
BATCH_EVENTS_MAX = 20_000  # a transaction: a page that many of them touch is written once
FEEDING_LOG_PAGES = 50_000  # written to the log, 200 MB, before they go to their places: most of them come again
# Of whoever feeds it: tokens come in no order, and each is a page to read, open, seal and write. Once it has caught up, a few events come at a time,
# and a cache that fills over days would be memory that nobody has a use for.
CATCHING_UP_CACHE_KIB, FOLLOWING_CACHE_KIB = 64 << 10, 4 << 10
PAGE_ROWS_MAX = 200
BUSY_SECONDS = 10.0
LACKS_COUNTED_MAX = 10_000
LACKS_LOOK_SECONDS = 0.05
FOREVER_NS = (1 << 63) - 1

# What a person, or a device in a person's hand, did or tried; who stored something is found in the archive itself.
SEARCHED = frozenset(
    {
        EventKind.CHANGE_ABANDONED, EventKind.CHANGE_COMPLETED, EventKind.CHANGE_REFUSED, EventKind.PERSON_RECOGNISED,
        EventKind.PERSON_REFUSED, EventKind.RELEASE_ENDED, EventKind.RELEASE_STARTED, EventKind.REQUEST_REFUSED,
    }
)  # fmt: skip
# What somebody who sits at a device does by it stands in it too; those are looked up by who did it, never by a patient.
BY_SOMEBODY = frozenset(
    {
        EventKind.ASSOCIATION_ADMITTED, EventKind.ASSOCIATION_ENDED, EventKind.INSTANCE_CONFLICTED, EventKind.INSTANCE_HELD,
        EventKind.INSTANCE_REPEATED, EventKind.INSTANCE_STORED,
    }
)  # fmt: skip
# What passed by a flow on demand stands in it too, whoever did it; that is looked up by the request which opened the flow.
CHANGES = frozenset({EventKind.CHANGE_ABANDONED, EventKind.CHANGE_COMPLETED, EventKind.CHANGE_REFUSED})
OF_PEOPLE = frozenset(
    {
        ChangeKind.ACCESS_APPROVE, ChangeKind.ACCESS_CANCEL, ChangeKind.PERSON_DISABLE, ChangeKind.PERSON_ENABLE, ChangeKind.PERSON_RESET,
        ChangeKind.PERSON_VOUCH, ChangeKind.ROLE_GRANT, ChangeKind.ROLE_REVOKE, ChangeKind.SESSION_END,
    }
)  # fmt: skip
SEEN = ("release:started", "release:ended")  # the kinds by which images or their names left

_TABLES = """
CREATE TABLE events(id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, actor TEXT NOT NULL, kind TEXT NOT NULL, action TEXT NOT NULL,
    outcome TEXT NOT NULL, writer BLOB NOT NULL, sequence INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE(writer, sequence));
CREATE INDEX events_actor ON events(actor, at_ns, id);
CREATE TABLE about(token BLOB NOT NULL, at_ns INTEGER NOT NULL, id INTEGER NOT NULL, actor TEXT NOT NULL, kind TEXT NOT NULL,
    PRIMARY KEY(token, at_ns, id)) WITHOUT ROWID;
CREATE TABLE place(one INTEGER PRIMARY KEY CHECK(one = 1), cursors TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event that was found. `place`: where the next page begins. `sealed`: why its patient is not shown, "" where it is."""

    event: Event
    at_ns: int
    place: tuple[int, int]
    sealed: str = ""


@dataclass(frozen=True, slots=True)
class Seer:
    """Somebody who saw something of a patient, with how often and when."""

    actor: str
    times: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class Span:
    """From when (included) to when (not included), Unix nanoseconds."""

    from_ns: int = 0
    until_ns: int = FOREVER_NS


class Source(Protocol):
    """Where events come from: the journal's reader."""

    def read(self, since: Cursors | None = None, broken: Broken = ...) -> Iterator[Recorded]: ...


class AuditSearch:
    """Thread-safe: one connection a process, behind a lock. Raises StoreFault where it does not answer."""

    def __init__(self, connection: apsw.Connection, keyring: Keyring) -> None:
        self._connection, self._keyring, self._lock = connection, keyring, threading.Lock()
        self._catching_up = False

    @classmethod
    def open(cls, site_dir: Path, keyring: Keyring, *, feeds: bool = False) -> AuditSearch:
        """Who `feeds` it makes it anew where it is missing, damaged, of another format or under another key: the journal has it all.

        Raises StoreFault.
        """
        path = site_dir / FILE
        key = keyring.site_key.derive("search")
        try:
            return cls(_connected(path, key, make=feeds), keyring)
        except (apsw.NotADBError, apsw.CorruptError, _OtherFormat) as error:
            if not feeds:
                raise StoreFault(
                    "the audit search is damaged", hint="the keeper makes it again: wait, or restart it"
                ) from error
        except apsw.Error as error:
            raise StoreFault(
                f"the audit search does not open: {error}", hint="the keeper makes it: is it running?"
            ) from error
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return cls(_connected(path, key, make=True), keyring)

    # ---- feeding

    def catch_up(self, journal: Source, broken: Broken = raised) -> int:
        """Takes what the journal has beyond the cursor, a batch at a time; how many events were read."""
        taken, batch = 0, list[Recorded]()
        for recorded in journal.read(self._place(), broken):
            batch.append(recorded)
            if len(batch) == BATCH_EVENTS_MAX:
                self._take(batch)
                taken, batch = taken + len(batch), []
        if batch:
            self._take(batch)
        return taken + len(batch)

    def follow(
        self,
        journal: JournalReader,
        poll_seconds: float,
        stop: threading.Event,
        caught_up: Callable[[], None],
        broken: Broken,
    ) -> None:
        """As `catch_up`, then what comes next, until `stop`; `caught_up` is called whenever all was taken. Past writers are not asked again.

        What is broken is told to `broken`, and everybody else's is taken.
        """
        batch = list[Recorded]()

        def taken() -> None:
            if batch:
                self._take(batch)
                batch.clear()
            caught_up()

        for recorded in journal.follow(poll_seconds, stop, self._place(), taken, broken):
            batch.append(recorded)
            if len(batch) == BATCH_EVENTS_MAX:
                self._take(batch)
                batch.clear()

    def _place(self) -> Cursors:
        return _cursors(self._one("SELECT cursors FROM place"))

    def _take(self, batch: Sequence[Recorded]) -> None:
        """Each event once, whoever else feeds it meanwhile: how far everybody is stands in the same transaction."""
        try:
            with self._lock:
                self._make_room(len(batch) == BATCH_EVENTS_MAX)
            with self._lock, _alone(self._connection) as db:
                known = _cursors(next(iter(db.execute("SELECT cursors FROM place").fetchall()), None))
                fresh = [
                    each for each in batch if each.writer not in known or each.sequence > known[each.writer].sequence
                ]
                about, tally = list[tuple[bytes, int, int, str, str]](), Tally()
                for recorded in fresh:
                    tally.note(recorded.event, recorded.at_ns)
                    if _searched(recorded.event):
                        about += self._inserted(recorded)
                about.sort()  # so that each page of the tree is come to once
                db.executemany("INSERT INTO about VALUES(?,?,?,?,?)", about)
                tally.write(db)
                place = json.dumps(known.after(fresh).to_json())
                db.execute("INSERT OR REPLACE INTO place VALUES(1, ?)", (place,))
        except apsw.Error as error:
            raise StoreFault(f"the audit search cannot be written: {error}", hint="look at the disk") from error

    def _make_room(self, catching_up: bool) -> None:
        """For many events to come, or for few again."""
        if catching_up != self._catching_up:
            self._catching_up = catching_up
            room = CATCHING_UP_CACHE_KIB if catching_up else FOLLOWING_CACHE_KIB
            self._connection.execute(f"PRAGMA cache_size = -{room}")
            self._connection.execute("PRAGMA shrink_memory")

    def _inserted(self, recorded: Recorded) -> Iterator[tuple[bytes, int, int, str, str]]:
        """Puts an event in; its rows of `about`."""
        event, db = recorded.event, self._connection
        actor = actor_of(event)
        what = (actor, event.kind, event.action, event.outcome)
        row = (recorded.at_ns, *what, recorded.writer, recorded.sequence, recorded.body)
        db.execute("INSERT INTO events VALUES(NULL,?,?,?,?,?,?,?,?)", row)
        number = db.last_insert_rowid()
        tokens = tokens_in(recorded.body) if event.kind in SEARCHED else frozenset()
        for token in tokens | _matters(event, self._keyring) | self.passing(requests_in(event)):
            yield token, recorded.at_ns, number, actor, event.kind

    # ---- asking

    def tokens(self, patient_id: str, studies: Iterable[str]) -> tuple[bytes, ...]:
        """What a patient is searched by: the id, and the studies that the archive knows to be theirs."""
        found = [patient_token(self._keyring, patient_id)] if patient_id else []
        return (*found, *(study_token(self._keyring, study) for study in studies))

    def seers(self, tokens: Sequence[bytes], span: Span) -> list[Seer]:
        """Who saw anything of it, most often first. A release counts once, whether it ended or broke off."""
        rows = self._all(
            "SELECT actor, count(*), min(at_ns), max(at_ns) FROM (SELECT DISTINCT actor, at_ns, id FROM about"
            " WHERE token IN (SELECT unhex(value) FROM json_each(?)) AND at_ns >= ? AND at_ns < ? AND kind = ?)"
            " GROUP BY actor ORDER BY 2 DESC, actor",
            (json.dumps([token.hex() for token in tokens]), span.from_ns, span.until_ns, SEEN[0]),
        )
        return [Seer(*row) for row in rows]

    def about(self, tokens: Sequence[bytes], span: Span, before: tuple[int, int] | None = None) -> Iterator[Entry]:
        """A page of what concerns it, newest first, older than `before`."""
        at_ns, number = before or (span.until_ns, 0)
        rows = self._all(
            "SELECT e.at_ns, e.id, e.body FROM events e WHERE e.id IN (SELECT id FROM about WHERE token IN"
            " (SELECT unhex(value) FROM json_each(?)) AND at_ns >= ? AND (at_ns, id) < (?, ?)"
            " ORDER BY at_ns DESC, id DESC LIMIT ?) ORDER BY e.at_ns DESC, e.id DESC",
            (json.dumps([token.hex() for token in tokens]), span.from_ns, at_ns, number, PAGE_ROWS_MAX),
        )
        return self._entries(rows)

    def by(self, actor: str, span: Span, before: tuple[int, int] | None = None) -> Iterator[Entry]:
        """A page of what somebody did, newest first, older than `before`."""
        at_ns, number = before or (span.until_ns, 0)
        rows = self._all(
            "SELECT at_ns, id, body FROM events WHERE actor = ? AND at_ns >= ? AND (at_ns, id) < (?, ?)"
            " ORDER BY at_ns DESC, id DESC LIMIT ?",
            (actor, span.from_ns, at_ns, number, PAGE_ROWS_MAX),
        )
        return self._entries(rows)

    def by_following(self, actor: str, after: tuple[int, int], until_ns: int) -> list[Entry]:
        """A page of what somebody did, oldest first, beyond `after` and before `until_ns`."""
        rows = self._all(
            "SELECT at_ns, id, body FROM events WHERE actor = ? AND at_ns < ? AND (at_ns, id) > (?, ?) ORDER BY at_ns, id LIMIT ?",
            (actor, until_ns, *after, PAGE_ROWS_MAX),
        )
        return list(self._entries(rows))

    def about_following(self, tokens: Sequence[bytes], after: tuple[int, int], until_ns: int) -> list[Entry]:
        """As `by_following`, of what concerns these."""
        rows = self._all(
            "SELECT e.at_ns, e.id, e.body FROM events e WHERE e.id IN (SELECT id FROM about WHERE token IN"
            " (SELECT unhex(value) FROM json_each(?)) AND at_ns < ? AND (at_ns, id) > (?, ?) ORDER BY at_ns, id LIMIT ?)"
            " ORDER BY e.at_ns, e.id",
            (json.dumps([token.hex() for token in tokens]), until_ns, *after, PAGE_ROWS_MAX),
        )
        return list(self._entries(rows))

    def begun(self, actor: str, span: Span) -> dict[str, int]:
        """By action, how much somebody began in that time that did not end in it: releases and associations."""
        rows = self._all(
            "SELECT action, sum(kind IN ('release:started', 'association:admitted')) - sum(kind IN ('release:ended', 'association:ended'))"
            " FROM events WHERE actor = ? AND at_ns >= ? AND at_ns < ? GROUP BY action",
            (actor, span.from_ns, span.until_ns),
        )
        return {action: count for action, count in rows if count > 0}

    def usage(self, from_ns: int) -> Usage:
        """What was used and refused since then."""
        return usage(self._all, from_ns)

    def callers(self) -> Callers:
        """Who called last."""
        return callers(self._all)

    def matters(self, names: Iterable[str]) -> tuple[bytes, ...]:
        """What changes are searched by that are about these people or requests: names, and ids of requests."""
        return tuple(matter_token(self._keyring, fold_name(each)) for each in names)

    def passing(self, requests: Iterable[str]) -> frozenset[bytes]:
        """What is searched by that passed by a flow on demand, as these requests opened it."""
        return frozenset(passage_token(self._keyring, each) for each in requests)

    def lacks(self, journal: JournalReader, seconds: float) -> int:
        """How many events that are durable now it does not have yet, after waiting so long for the keeper; at most LACKS_COUNTED_MAX are counted."""
        since = self._place()
        after = since.after(itertools.islice(journal.read(since), LACKS_COUNTED_MAX))
        end = time.monotonic() + seconds
        while True:
            place = self._place()
            here = {writer: place[writer].sequence if writer in place else 0 for writer in after}
            missing = sum(max(0, cursor.sequence - here[writer]) for writer, cursor in after.items())
            if not missing or time.monotonic() >= end:
                return missing
            time.sleep(LACKS_LOOK_SECONDS)

    def _entries(self, rows: Sequence[tuple]) -> Iterator[Entry]:  # type: ignore[type-arg]
        for at_ns, number, body in rows:
            event, sealed = decode_event(body, self._keyring)
            yield Entry(event, at_ns, (at_ns, number), sealed)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # ---- the database

    def _all(self, statement: str, values: Sequence[apsw.SQLiteValue] = ()) -> list[tuple]:  # type: ignore[type-arg]
        try:
            with self._lock:
                return self._connection.execute(statement, tuple(values)).fetchall()
        except apsw.Error as error:
            raise StoreFault(f"the audit search cannot be read: {error}", hint=f"remove SITE/{FILE}") from error

    def _one(self, statement: str) -> tuple | None:  # type: ignore[type-arg]
        return next(iter(self._all(statement)), None)


@contextmanager
def _alone(connection: apsw.Connection) -> Iterator[apsw.Connection]:
    """A transaction that nobody else writes beside from its first statement on. Said in words: apsw's own blocks wait for the lock with the GIL held."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _cursors(row: tuple | None) -> Cursors:  # type: ignore[type-arg]
    return Cursors.from_json(json.loads(row[0])) if row else Cursors()


def _searched(event: Event) -> bool:
    by_somebody = event.kind in BY_SOMEBODY and "person" in event.details
    return event.kind in SEARCHED or by_somebody or ON_DEMAND in event.details


def _matters(event: Event, keyring: Keyring) -> frozenset[bytes]:
    """A request's asking is found by its id, which is the change's; every other change by whom or which request it is about."""
    if event.kind not in CHANGES:
        return frozenset()
    if event.action == ChangeKind.ACCESS_REQUEST:
        return frozenset({matter_token(keyring, str(event.details.get("change", "")))})
    about = fold_name(str(event.details.get("about", "")))
    return frozenset({matter_token(keyring, about)} if event.action in OF_PEOPLE else ())


def requests_in(event: Event) -> list[str]:
    return str(event.details.get(ON_DEMAND, "")).split()


def actor_of(event: Event) -> str:
    """Whoever did it: who sat at the device, where somebody is known to."""
    return str(event.details.get("person", event.actor))


class AuditAnswer:
    """What an `AuditQuestion` may have, in the shape of every answer; of the archive itself it holds nothing."""

    def __init__(self, request: AuditQuestion, permit: Permit, search: AuditSearch, studies: Sequence[str]) -> None:
        self.request, self.permit, self.progress = request, permit, Progress()
        self._search, self._span = search, Span(request.from_ns, request.until_ns)
        patient = request.patient
        self._tokens = search.tokens(patient.patient_id, studies) if patient is not None else ()

    def seers(self) -> list[Seer]:
        """Who saw the patient, most often first."""
        patient = self.request.patient
        if patient is None or not patient.issuer:
            return self._search.seers(self._tokens, self._span)
        times: dict[str, list[int]] = {}
        for entry in self.entries():  # the token is the Patient ID's, whoever issued it: each is looked at
            if entry.event.kind == SEEN[0]:
                times.setdefault(actor_of(entry.event), []).append(entry.at_ns)
        found = [Seer(actor, len(each), min(each), max(each)) for actor, each in times.items()]
        return sorted(found, key=lambda each: (-each.times, each.actor))

    def page(self, before: tuple[int, int] | None = None) -> list[Entry]:
        """What concerns the patient, or what the actor did; newest first, older than `before`. An empty page is the last."""
        found: list[Entry] = []
        while len(found) < PAGE_ROWS_MAX and (rows := self._read(before)):
            found += [each for each in rows if self._theirs(each)]
            before = rows[-1].place
        return found[:PAGE_ROWS_MAX]

    def _read(self, before: tuple[int, int] | None) -> list[Entry]:
        if self.request.patient is not None:
            return list(self._search.about(self._tokens, self._span, before))
        return list(self._search.by(self.request.who, self._span, before))

    def _theirs(self, entry: Entry) -> bool:
        """Not about somebody who has the same Patient ID from another issuer."""
        asked, told = self.request.patient, entry.event.patient
        return not (asked and told and asked.issuer and told.issuer) or asked.issuer == told.issuer

    def entries(self) -> Iterator[Entry]:
        """All pages."""
        before: tuple[int, int] | None = None
        while page := self.page(before):
            yield from page
            before = page[-1].place

    def rows(self) -> Iterator[Mapping[int, str]]:
        return iter(())

    def instances(self) -> Iterator[Settled]:
        return iter(())

    def verdicts(self) -> Iterator[tuple[Reference, int]]:
        return iter(())

    def still(self) -> None:
        """Nothing of it lasts."""

    def read(self, settled: Settled) -> Body:
        raise Unsupported("an answer of the audit holds no images")


class _OtherFormat(Exception):
    """It was written by a program that laid it out differently."""


def _connected(path: Path, key: bytes, *, make: bool) -> apsw.Connection:
    path.parent.mkdir(exist_ok=True)
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if make else 0)
    connection = apsw.Connection(str(path), flags=flags)
    try:
        connection.execute("PRAGMA cipher='chacha20'")
        connection.execute(f"PRAGMA key='raw:{key.hex()}'")
        connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute("PRAGMA synchronous=NORMAL")
        version = int(connection.pragma("user_version") or 0)
        if make:
            connection.execute(f"PRAGMA cache_size = -{FOLLOWING_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {FEEDING_LOG_PAGES}")
        if not tables and make:
            with connection:
                connection.execute(_TABLES + USAGE_TABLES)
                connection.execute(f"PRAGMA user_version = {FORMAT}")
        elif version != FORMAT:
            raise _OtherFormat
    except BaseException:
        connection.close()
        raise
    path.chmod(0o600)
    return connection
