"""What is neither image nor event, and must not be lost? Certificates, waivers, changes, proven policies, commitments not yet reported; people.

One encrypted SQLite file, WAL with full sync; its own locking is the one exception to one file, one writer. Changed by `change` only
(pending commitments excepted: the peer's request itself is their reason; and what guards people against replay: sessions, used codes, sign
counts). What it keeps about people is `site/people.py`'s, through `read` and `transaction`.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from leadglass.site.enrolments import ENROLMENTS, WITHDRAWN
from leadglass.site.erasures import ERASURES
from leadglass.site.exports import EXPORTS
from leadglass.site.kits import KITS
from leadglass.site.migrations import migrate_database, script
from leadglass.site.people_schema import HINTS, MACHINES, PEOPLE
from leadglass.terms import KeyFault, Reference, Refused, StoreFault

BUSY_SECONDS = 10.0
KEY_LENGTH_BYTES = 32

STATES = ("issued", "active", "superseded", "revoked")

_FIRST = """
CREATE TABLE certificates(
    fingerprint TEXT PRIMARY KEY, device TEXT NOT NULL, serial TEXT NOT NULL, not_before_ns INTEGER NOT NULL, not_after_ns INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK(kind IN ('issued', 'pinned')), pem TEXT NOT NULL,
    state TEXT NOT NULL CHECK(state IN ('issued', 'active', 'superseded', 'revoked')), issued_ns INTEGER NOT NULL, changed_ns INTEGER NOT NULL);
CREATE INDEX certificates_device ON certificates(device);
CREATE TABLE waivers(
    id TEXT PRIMARY KEY, device TEXT NOT NULL, fingerprint TEXT NOT NULL, until_ns INTEGER NOT NULL, reason TEXT NOT NULL,
    operator TEXT NOT NULL, at_ns INTEGER NOT NULL);
CREATE TABLE budgets(name TEXT PRIMARY KEY, began_ns INTEGER NOT NULL, spent INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE proven(digest TEXT NOT NULL, operator TEXT NOT NULL, at_ns INTEGER NOT NULL);
CREATE TABLE changes(
    id TEXT PRIMARY KEY, digest TEXT NOT NULL, kind TEXT NOT NULL, about TEXT NOT NULL,
    state TEXT NOT NULL CHECK(state IN ('intended', 'completed', 'abandoned')), at_ns INTEGER NOT NULL);
CREATE TABLE commitments(
    id INTEGER PRIMARY KEY, device TEXT NOT NULL, transaction_uid TEXT NOT NULL, calling_ae_title TEXT NOT NULL,
    referenced TEXT NOT NULL, at_ns INTEGER NOT NULL);
"""


MIGRATIONS = (
    script(1, "the first tables", _FIRST),
    script(2, "people", PEOPLE),
    script(3, "sessions elsewhere", HINTS),
    script(4, "who asked for a commitment", "ALTER TABLE commitments ADD COLUMN session TEXT NOT NULL DEFAULT ''"),
    script(5, "enrolments asked for at the console", ENROLMENTS),
    script(6, "enrolments may be withdrawn", WITHDRAWN),
    script(7, "exports", EXPORTS),
    script(8, "erasures", ERASURES),
    script(9, "machine clients are found", MACHINES),
    script(10, "recovery kits", KITS),
)


class Taken(Refused):
    """That certificate vouches for another device already."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One that a device has or had. `kind`: issued (by our CA) or pinned; `state`: issued, active (used), superseded, revoked."""

    fingerprint: str
    device: str
    serial: str
    not_before_ns: int
    not_after_ns: int
    kind: str
    pem: str
    state: str
    issued_ns: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Waiver:
    """An expired certificate that is let in until then, and who said so."""

    id: str
    device: str
    fingerprint: str
    until_ns: int
    reason: str
    operator: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class PendingCommitment:
    """A storage commitment that was asked for and not reported yet. `session`: of whoever sat at the device, "" where nobody did."""

    id: int
    device: str
    transaction_uid: str
    calling_ae_title: str
    references: tuple[Reference, ...]
    session: str = ""


def copy_register(path: Path, target: Path, key: bytes) -> None:
    """The register as it is at one moment, beside those who use it; encrypted with the same key. Raises StoreFault."""
    target.unlink(missing_ok=True)
    try:
        with contextlib.ExitStack() as opened:
            source, copy = apsw.Connection(str(path)), apsw.Connection(str(target))
            for connection in (source, copy):
                opened.callback(connection.close)
                _unlock(connection, key)
            source.set_busy_timeout(int(BUSY_SECONDS * 1000))
            with copy.backup("main", source, "main") as backup:
                backup.step()  # all pages at once: under WAL it stops no writer
            target.chmod(0o600)
    except apsw.Error as error:
        raise StoreFault(f"the register cannot be copied: {error}", hint="look at the disk") from error


def _unlock(connection: apsw.Connection, key: bytes) -> None:
    connection.execute("PRAGMA cipher='chacha20'")
    connection.execute(f"PRAGMA key='raw:{key.hex()}'")


class Register:
    """Thread-safe: one connection a process, behind a lock."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, key: bytes) -> Register:
        """Raises KeyFault where the key does not open it, Fault where a newer Leadglass wrote it."""
        if len(key) != KEY_LENGTH_BYTES:
            raise KeyFault(f"the register's key has {KEY_LENGTH_BYTES} bytes")
        try:
            connection = apsw.Connection(str(path))
        except apsw.Error as error:
            raise StoreFault(f"{path}: {error}", hint="check the permissions of the site's directory") from error
        try:
            _unlock(connection, key)
            connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
            connection.execute("PRAGMA synchronous=FULL")
            migrate_database("register", connection, MIGRATIONS)
        except apsw.NotADBError as error:
            connection.close()
            raise KeyFault("the register does not open with this site key", hint="is it this site's key?") from error
        except apsw.Error as error:
            connection.close()
            raise StoreFault(
                f"the register does not open: {error}", hint="look at the disk, or restore a backup"
            ) from error
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    # ---- certificates and waivers

    def add_certificate(
        self, *, device: str, fingerprint: str, serial: str, not_before_ns: int, not_after_ns: int, kind: str, pem: str
    ) -> None:
        """Harmless to repeat. Raises Taken where another device presents it; one that nobody ever presented may change hands."""
        now = time.time_ns()
        row = (fingerprint, device, serial, not_before_ns, not_after_ns, kind, pem, "issued", now, now)
        with self.transaction() as connection:
            known = connection.execute(
                "SELECT device, state FROM certificates WHERE fingerprint = ?", (fingerprint,)
            ).fetchone()
            if known is not None and known[0] == device:
                return
            if known is not None and known[1] != "issued":
                raise Taken(f"that certificate is {known[0]}'s ({known[1]}): give {device} one of its own")
            connection.execute("INSERT OR REPLACE INTO certificates VALUES(?,?,?,?,?,?,?,?,?,?)", row)

    def certificates(self) -> list[Certificate]:
        """In the order of issue."""
        return [Certificate(*row) for row in self.read("SELECT * FROM certificates ORDER BY issued_ns, rowid")]

    def set_certificate_state(self, fingerprint: str, state: str) -> None:
        """Only ever onward, from issued to active to superseded to revoked: what comes late takes nothing back. Unknown ones are none."""
        before = STATES[: STATES.index(state)]
        places = ",".join("?" * len(before))
        self._write(
            f"UPDATE certificates SET state = ?, changed_ns = ? WHERE fingerprint = ? AND state IN ({places})",  # noqa: S608
            (state, time.time_ns(), fingerprint, *before),
        )

    def add_waiver(
        self, waiver_id: str, device: str, fingerprint: str, until_ns: int, reason: str, operator: str
    ) -> None:
        row = (waiver_id, device, fingerprint, until_ns, reason, operator, time.time_ns())
        self._write("INSERT OR REPLACE INTO waivers VALUES(?,?,?,?,?,?,?)", row)

    def waivers(self) -> list[Waiver]:
        """Those whose time is not over; a later one of the same certificate comes later."""
        rows = self.read("SELECT * FROM waivers WHERE until_ns > ? ORDER BY at_ns", (time.time_ns(),))
        return [Waiver(*row) for row in rows]

    # ---- policies and changes

    def add_proven(self, digest: str, operator: str) -> None:
        self._write("INSERT INTO proven VALUES(?,?,?)", (digest, operator, time.time_ns()))

    def change_intended(self, change_id: str, digest: str, kind: str, about: str) -> None:
        row = (change_id, digest, kind, about, "intended", time.time_ns())
        self._write("INSERT OR IGNORE INTO changes VALUES(?,?,?,?,?,?)", row)

    def change_settled(self, change_id: str, state: str) -> None:
        self._write("UPDATE changes SET state = ? WHERE id = ?", (state, change_id))

    def unfinished_changes(self) -> list[tuple[str, str, str]]:
        """Intents without an end: id, kind, about."""
        rows = self.read("SELECT id, kind, about FROM changes WHERE state = 'intended' ORDER BY at_ns")
        return [(str(row[0]), str(row[1]), str(row[2])) for row in rows]

    def latest_changes(self, kinds: Iterable[str], limit: int) -> list[tuple[str, str, str, str, int]]:
        """The newest of these kinds: id, kind, about, state, and when it was intended, Unix nanoseconds."""
        statement = "SELECT id, kind, about, state, at_ns FROM changes WHERE kind IN (SELECT value FROM json_each(?)) ORDER BY at_ns DESC LIMIT ?"
        rows = self.read(statement, (json.dumps(list(kinds)), limit))
        return [(str(row[0]), str(row[1]), str(row[2]), str(row[3]), int(row[4])) for row in rows]

    # ---- budgets

    def spend(self, budget: str, amount: int, *, limit: int, window_seconds: int) -> bool:
        """Whether `amount` is left of `limit` in this window, which then holds it as spent: for all processes together."""
        now = time.time_ns()
        with self.transaction() as connection:
            row = connection.execute("SELECT began_ns, spent FROM budgets WHERE name = ?", (budget,)).fetchone()
            began, spent = row or (now, 0)
            if not 0 <= now - began < window_seconds * 1_000_000_000:
                began, spent = now, 0
            if spent + amount > limit:
                return False
            connection.execute("INSERT OR REPLACE INTO budgets VALUES(?, ?, ?)", (budget, began, spent + amount))
        return True

    # ---- commitments

    def add(
        self,
        device: str,
        transaction_uid: str,
        references: tuple[Reference, ...],
        calling_ae_title: str,
        session: str = "",
    ) -> None:
        """Durable when it returns; the same transaction again replaces what was asked before."""
        told = json.dumps([[each.sop_class_uid, each.sop_instance_uid] for each in references])
        with self.transaction() as connection:
            connection.execute(
                "DELETE FROM commitments WHERE device = ? AND transaction_uid = ?", (device, transaction_uid)
            )
            connection.execute(
                "INSERT INTO commitments(device, transaction_uid, calling_ae_title, referenced, at_ns, session) VALUES(?,?,?,?,?,?)",
                (device, transaction_uid, calling_ae_title, told, time.time_ns(), session),
            )

    def pending_commitments(self) -> list[PendingCommitment]:
        rows = self.read(
            "SELECT id, device, transaction_uid, calling_ae_title, referenced, session FROM commitments ORDER BY id"
        )
        return [
            PendingCommitment(
                row[0], row[1], row[2], row[3], tuple(Reference(*pair) for pair in json.loads(row[4])), row[5]
            )
            for row in rows
        ]

    def commitment_reported(self, commitment_id: int) -> None:
        self._write("DELETE FROM commitments WHERE id = ?", (commitment_id,))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # ---- the database

    def read(self, statement: str, values: Iterable[apsw.SQLiteValue] = ()) -> list[tuple]:  # type: ignore[type-arg]
        """Every row. Raises StoreFault."""
        try:
            with self._lock:
                return self._connection.execute(statement, tuple(values)).fetchall()
        except apsw.Error as error:
            raise StoreFault(f"the register cannot be read: {error}", hint="look at the disk") from error

    def _write(self, statement: str, values: Iterable[apsw.SQLiteValue]) -> None:
        with self.transaction() as connection:
            connection.execute(statement, tuple(values))

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """All or nothing; what is raised inside undoes it. Raises StoreFault."""
        try:
            with self._lock:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
        except apsw.Error as error:
            raise StoreFault(f"the register cannot be written: {error}", hint="look at the disk") from error
