"""Which versions are there, and whose turn is it? Versions, what is current among them, and claims (`claimtable.py`); derived, never precious.

Thread-safe: one connection writes behind a lock, a few read. A rebuilt index takes this one's place by a pointer file that every process
looks at before each read and write.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import msgspec

from leadglass.archive import paging
from leadglass.archive.claimtable import ClaimTable
from leadglass.archive.projection import encode, erase, exclude, include, keep, restand, settled_of, versions_of
from leadglass.archive.query import Rows
from leadglass.archive.selection import Selection
from leadglass.archive.sqlite import Readers, Value, connect, load, patiently, settle
from leadglass.archive.visibility import STUDY_COLUMNS, Sight, Visibility
from leadglass.terms import (
    Dossier,
    HoldReason,
    Instance,
    KeyFault,
    Location,
    PatientIdentity,
    Query,
    Retrieval,
    Settled,
    Standing,
    StoreFault,
    StudyFacts,
)

KEY_LENGTH_BYTES = 32
POINTER = "current"
_KEYS = {
    "versions": "sop, version",
    "patients": "raw_id, issuer",
    "patient_names": "name, raw_id, issuer",
    "studies": "study",
    "study_names": "name, study",
    "study_clinicians": "name, study",
    "series": "study, series",
    "counts": "study, series, sop_class",
    "instances": "study, series, number, sop",
}
CATCH_UP_SECONDS_MAX = 5.0
# Every version of a UID, and whose study it says it belongs to: one statement, so one look at the index.
_KEPT_OF = (
    "SELECT version, standing, digest, settled, NULL, NULL FROM versions WHERE sop = ?"
    " UNION ALL SELECT 0, '', NULL, NULL, raw_id, issuer FROM studies WHERE study = ?"
)
_location = msgspec.msgpack.Decoder(Location).decode


@dataclass(frozen=True, slots=True)
class Granted:
    """The UID is the claimant's until it is published or released."""

    version: int
    facts: StudyFacts


@dataclass(frozen=True, slots=True)
class Known:
    """These bytes are kept already, whatever their standing."""

    settled: Settled


@dataclass(frozen=True, slots=True)
class Pending:
    """Somebody else's claim must settle first: on this UID, or on its study for another patient."""

    writer: bytes


class Index:
    """One process's view of the index. Raises StoreFault where it does not answer, KeyFault where the key is another's."""

    def __init__(
        self, path: Path, pointer: Path, key: bytes, seen: tuple[int, int], claims: ClaimTable | None = None
    ) -> None:
        self._path, self._pointer, self._key = path, pointer, key
        self._table = claims  # None in one that is being rebuilt: nobody claims there
        self._gate = threading.Lock()
        self._writing = connect(path, key, write=True)
        self._readers = Readers(lambda: connect(self._path, key, write=False))
        self._seen = seen
        self._rebuilding: int | None = None
        self._loading = False

    @classmethod
    def open(cls, url: str, site_dir: Path, key: bytes) -> Index:
        """`url`: `sqlite:PATH`, relative to the site."""
        scheme, _, rest = url.partition(":")
        if scheme != "sqlite":
            raise StoreFault(f"{scheme!r} is no index that is known here", hint="[site] index = sqlite:PATH")
        if len(key) != KEY_LENGTH_BYTES:
            raise KeyFault(f"the index's key has {KEY_LENGTH_BYTES} bytes")
        base = site_dir / rest
        base.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        pointer = base.with_name(f"{base.name}.{POINTER}")
        seen = _mark(pointer)  # first: where it changes in between, it is followed
        return cls(_pointed(base, pointer), pointer, key, seen, ClaimTable(base.with_name(f"{base.name}.claims")))

    @property
    def _claims(self) -> ClaimTable:
        assert self._table is not None
        return self._table

    # ---- claims

    def claim(self, instance: Instance, digest: bytes, writer: bytes) -> Granted | Known | Pending:
        """The claim, then what is kept: nobody else may publish this UID in between."""
        rival = self._claims.take(instance, writer)
        if rival is not None:
            return Pending(rival)
        sop = instance.sop_instance_uid
        newest = 0
        current: tuple[bytes, bytes] | None = None
        owner: PatientIdentity | None = None
        try:
            for version, standing, known, settled, raw_id, issuer in self._all(
                _KEPT_OF, (sop, instance.study_instance_uid)
            ):
                if raw_id is not None:
                    owner = PatientIdentity(raw_id, issuer)
                    continue
                if known == digest:
                    self._claims.release([sop], writer)
                    return Known(settled_of(settled))
                newest = max(newest, version)
                current = (known, settled) if standing == Standing.CURRENT else current
        except BaseException:
            self._claims.release([sop], writer)
            raise
        facts = StudyFacts(
            owner,
            current[0] if current else None,
            settled_of(current[1]).instance.transfer_syntax_uid if current else None,
        )
        return Granted(newest + 1, facts)

    def release_claim(self, sop_instance_uid: str, writer: bytes) -> None:
        self._claims.release([sop_instance_uid], writer)

    def drop_claims(self, writer: bytes) -> int:
        """All of a writer that is dead and recovered: how many."""
        return self._claims.drop([writer])

    def keep_claims(self, writers: Iterable[bytes]) -> int:
        """Drops all but these writers', who live: how many."""
        return self._claims.drop(but=writers)

    def land(self, sop_instance_uid: str, writer: bytes) -> None:
        """Durable, and not yet published: from now on `catch_up` waits for it."""
        self._claims.land(sop_instance_uid, writer)

    def catch_up(self) -> None:
        """Returns when what any worker answered before is published. Raises StoreFault where that takes too long."""
        self._claims.catch_up(CATCH_UP_SECONDS_MAX)

    def wanted(self) -> bool:
        """Whether somebody waits in `catch_up`; asking takes the wish."""
        return self._claims.wanted()

    # ---- publishing

    def publish(self, settled: Sequence[Settled]) -> None:
        """One transaction for all of them; harmless to repeat. A version whose standing was changed since keeps that standing."""
        with self._transaction() as db:
            include(db, keep(db, settled))
            for writer, last in {each.writer: each for each in sorted(settled, key=_record)}.items():
                db.execute(
                    "INSERT INTO applied VALUES(?,?,?) ON CONFLICT(writer) DO UPDATE SET record = excluded.record, location = excluded.location"
                    " WHERE excluded.record > record",
                    (writer, last.location.record, encode(last.location)),
                )
        if self._table is not None:
            for each in settled:
                self._table.release([each.instance.sop_instance_uid], each.writer)

    def applied(self, writer: bytes) -> Location | None:
        """The last record of a writer that was published."""
        row = self._one("SELECT location FROM applied WHERE writer = ?", (writer,))
        return None if row is None else _location(row[0])

    def change_standing(
        self, sop_instance_uid: str, version: int, standing: Standing, holds: frozenset[HoldReason]
    ) -> None:
        """One transaction, in which what is found changes too; a version that becomes current supersedes the one that was."""
        with self._transaction() as db:
            found: list[Any] = db.execute("SELECT settled FROM versions WHERE sop = ?", (sop_instance_uid,)).fetchall()
            known = {settled.version: settled for settled in (settled_of(row[0]) for row in found)}
            if version not in known:
                return
            former = next((each for each in known.values() if each.standing is Standing.CURRENT), None)
            if former is not None and (former.version == version or standing is Standing.CURRENT):
                restand(db, former, Standing.SUPERSEDED, former.holds)
                exclude(db, former)
            changed = restand(db, known[version], standing, holds)
            if standing is Standing.CURRENT:
                include(db, [changed])

    def erase(self, studies: Collection[str]) -> int:
        """Every version of these studies goes, whatever its standing, and what is found of them; how many. What lay there is overwritten with zeros."""
        gone = [each for study in studies for each in versions_of(self._all, study)]
        with self._transaction() as db:
            erase(db, studies, gone)
        with suppress(apsw.Error), self._gate:
            self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return len(gone)

    def claimed(self, study_instance_uid: str) -> bool:
        """Whether anything of a study is in flight, or has landed and is not to be found yet."""
        return self._claims.claimed(study_instance_uid)

    # ---- looking up

    def versions(self, sop_instance_uid: str) -> list[Settled]:
        """Every kept version, whatever its standing, in their order."""
        rows = self._all("SELECT settled FROM versions WHERE sop = ? ORDER BY version", (sop_instance_uid,))
        return [settled_of(row[0]) for row in rows]

    def current(self, sop_instance_uid: str) -> Settled | None:
        row = self._one("SELECT settled FROM versions WHERE sop = ? AND standing = 'current'", (sop_instance_uid,))
        return None if row is None else settled_of(row[0])

    def held(self, limit: int, after: tuple[str, int] | None = None) -> list[Settled]:
        """A page of held versions behind (SOP Instance UID, version)."""
        statement = "SELECT settled FROM versions WHERE standing = 'held' AND (sop, version) > (?, ?) ORDER BY sop, version LIMIT ?"
        return [settled_of(row[0]) for row in self._all(statement, (*(after or ("", 0)), limit))]

    def find(self, query: Query, visible: Visibility) -> Iterator[Mapping[int, str]]:
        """Answers with the keys that were asked for, page by page, each page a read of its own.

        Raises Mismatched where the unique key of a level above is missing, Malformed where a key means nothing or is too long.
        """
        return Rows(self._all, query, visible).answers()

    def select(self, retrieval: Retrieval, visible: Visibility) -> Iterator[Settled]:
        """What a C-GET or C-MOVE names, in the order of study, series and instance number, page by page. Raises Mismatched, Malformed."""
        return Selection(self._all, retrieval, visible).instances()

    def count(self, retrieval: Retrieval, visible: Visibility) -> int:
        """How many `select` yields."""
        return Selection(self._all, retrieval, visible).count()

    def seen(self, studies: Iterable[str], visible: Visibility) -> set[str]:
        """Which of these studies a permit shows."""
        return Sight(self._all, visible).seen(studies)

    def dossiers(self, named: str, limit: int) -> list[Dossier]:
        """The study of that UID, or the studies of the patients with that Patient ID, whoever issued it, up to a limit."""
        statement = f"SELECT {STUDY_COLUMNS} FROM studies s WHERE s.study = ? OR s.raw_id = ? ORDER BY s.study LIMIT ?"
        return Sight(self._all, Visibility()).dossiers(self._all(statement, (named, named, limit)))

    def studies_of(self, patient: PatientIdentity) -> list[str]:
        """The studies of a patient; of everybody with that Patient ID where no issuer is named."""
        statement = "SELECT study FROM studies WHERE raw_id = ?1 AND (?2 = '' OR issuer = ?2) ORDER BY study"
        return [row[0] for row in self._all(statement, (patient.patient_id, patient.issuer))]

    def studies_with(self, sop_classes: Iterable[str]) -> int:
        """How many studies have a current instance of any of these SOP classes."""
        classes = sorted(sop_classes)
        marks = ",".join("?" * len(classes))
        row = self._one(
            f"SELECT count(DISTINCT study) FROM counts WHERE instances > 0 AND sop_class IN ({marks})", classes
        )
        return int(row[0]) if row else 0

    def patient_of(self, study_instance_uid: str) -> PatientIdentity | None:
        """Whose study it is; None where none of it is current."""
        row = self._one("SELECT raw_id, issuer FROM studies WHERE study = ?", (study_instance_uid,))
        return None if row is None else PatientIdentity(row[0], row[1])

    def patients_called(self, patient_id: str) -> list[PatientIdentity]:
        """Everybody with a Patient ID, whoever issued it."""
        rows = self._all("SELECT raw_id, issuer FROM patients WHERE raw_id = ? ORDER BY issuer", (patient_id,))
        return [PatientIdentity(*row) for row in rows]

    def statistics(self) -> dict[str, int]:
        """How many patients, studies, series and instances are current, and how many versions are held."""
        counted = "SELECT (SELECT count(*) FROM patients), (SELECT count(*) FROM studies), (SELECT count(*) FROM series), (SELECT coalesce(sum(instances), 0) FROM counts), (SELECT count(*) FROM versions WHERE standing = 'held')"
        return dict(zip(("patients", "studies", "series", "instances", "held"), self._all(counted)[0], strict=True))

    def bytes_since(self, received_ns: int) -> int:
        row = self._one("SELECT coalesce(sum(size), 0) FROM versions WHERE received >= ?", (received_ns,))
        return int(row[0]) if row else 0

    def newest_received_ns(self) -> int:
        """When the newest version was received; 0 where there is none."""
        row = self._one("SELECT coalesce(max(received), 0) FROM versions", ())
        return int(row[0]) if row else 0

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Everything but applied offsets, in a canonical order: what two indexes are compared by."""
        for table, key in _KEYS.items():
            width = key.count(",") + 1
            marks = ", ".join("?" * width)
            columns = f"SELECT {key}, * FROM {table}"
            page = self._all(f"{columns} ORDER BY {key} LIMIT ?", (paging.PAGE_ROWS,))
            while page:
                yield from ((table, *row[width:]) for row in page)
                after = page[-1][:width]
                page = self._all(
                    f"{columns} WHERE ({key}) > ({marks}) ORDER BY {key} LIMIT ?", (*after, paging.PAGE_ROWS)
                )

    # ---- epochs, upkeep

    def next_epoch(self) -> Index:
        """An empty index beside this one, loaded until `settle`, which nobody reads until `exchange`. Raises StoreFault where there is one already."""
        base = self._base
        lock = os.open(base.with_name(f"{base.name}.rebuild"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise StoreFault("the index is being rebuilt already", hint="wait for that rebuild to end") from error
        serving = _pointed(base, self._pointer).name
        epoch = re.compile(rf"({re.escape(base.name)}(?:\.(\d+))?)(?:-wal|-shm)?")
        numbers = [0]
        for path in base.parent.iterdir():
            if found := epoch.fullmatch(path.name):
                numbers.append(int(found[2] or 0))
                if found[1] != serving:  # of a past epoch, or of a rebuild that died
                    path.unlink(missing_ok=True)
        fresh = Index(base.with_name(f"{base.name}.{max(numbers) + 1}"), self._pointer, self._key, _mark(self._pointer))
        fresh._rebuilding = lock
        load(fresh._writing)
        fresh._loading = True
        return fresh

    def settle(self) -> None:
        """What was loaded into a fresh one becomes durable, outside the barrier: that takes a while. Harmless to repeat."""
        with self._storing(), self._gate:
            if self._loading:
                settle(self._writing)
                self._loading = False

    def exchange(self, fresh: Index) -> None:
        """The fresh one serves from now on, and is closed; nobody writes meanwhile (the caller holds the barrier)."""
        fresh.settle()
        fresh._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        part = self._pointer.with_name(f".{self._pointer.name}")
        with part.open("w") as file:
            file.write(fresh._path.name)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._pointer)
        directory = os.open(self._pointer.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        fresh.close()

    def checkpoint(self) -> None:
        """The keeper's, so that no publish pays for it."""
        with suppress(apsw.Error), self._gate:
            self._follow()
            self._writing.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def make_durable(self) -> None:
        """All that was published outlives a power cut. Raises StoreFault.

        A checkpoint alone may sync nothing: while another one runs, or where somebody reads an older state.
        """
        self.checkpoint()
        try:
            with self._gate, suppress(FileNotFoundError):
                # Nobody locks this file: to close it lets no lock of SQLite's go.
                descriptor = os.open(self._path.with_name(f"{self._path.name}-wal"), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fdatasync(descriptor)
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise StoreFault(f"the index cannot be synced: {error.strerror}", hint="look at the disk") from error

    def rest(self) -> None:
        """What only a crowd of readers needs goes back; call it as often as you look around."""
        self._readers.rest()

    def close(self) -> None:
        with self._gate:
            self._readers.renew()
            with suppress(apsw.Error):
                self._writing.close()
            if self._table is not None:
                self._table.close()
            if self._rebuilding is not None:
                os.close(self._rebuilding)
                self._rebuilding = None

    # ---- connections

    @contextmanager
    def _transaction(self, *, follow: bool = True) -> Iterator[apsw.Connection]:
        with self._storing(), self._gate:
            if follow:
                self._follow()
            patiently(lambda: self._writing.execute("BEGIN IMMEDIATE"))
            try:
                yield self._writing
                patiently(lambda: self._writing.execute("COMMIT"))
            except BaseException:
                if self._writing.in_transaction:  # a full disk may have ended it already
                    self._writing.execute("ROLLBACK")
                raise

    @contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except apsw.FullError as error:
            raise StoreFault(f"the index has no room: {error}", hint="free space; storing goes on by itself") from error
        except apsw.Error as error:
            raise StoreFault(
                f"the index does not answer: {error}", hint="`leadglass index rebuild` makes it again"
            ) from error

    @property
    def _base(self) -> Path:
        return self._pointer.with_name(self._pointer.name.removesuffix(f".{POINTER}"))

    def _follow(self) -> None:
        """Goes over to a rebuilt index. Under the gate."""
        mark = _mark(self._pointer)
        if mark == self._seen:
            return
        self._writing.close()
        self._path = _pointed(self._base, self._pointer)
        self._writing = connect(self._path, self._key, write=True)
        self._readers.renew()
        self._seen = mark

    def _all(self, statement: str, values: Sequence[Value] = ()) -> list[tuple]:  # type: ignore[type-arg]
        try:
            if (
                _mark(self._pointer) != self._seen
            ):  # one stat, about 2 microseconds: what was published is found at once
                with self._gate:
                    self._follow()
            with self._readers.one() as reader:
                return patiently(lambda: reader.execute(statement, values).fetchall())
        except apsw.Error as error:
            raise StoreFault(
                f"the index cannot be read: {error}", hint="`leadglass index rebuild` makes it again"
            ) from error

    def _one(self, statement: str, values: Sequence[Value] = ()) -> tuple | None:  # type: ignore[type-arg]
        return next(iter(self._all(statement, values)), None)


def _record(settled: Settled) -> int:
    return settled.location.record


def _mark(pointer: Path) -> tuple[int, int]:
    try:
        found = pointer.stat()
    except OSError:
        return (0, 0)
    return (found.st_ino, found.st_mtime_ns)


def _pointed(base: Path, pointer: Path) -> Path:
    try:
        return base.with_name(Path(pointer.read_text().strip()).name)
    except OSError:
        return base
