"""Where do workers meet, and what is to be found? Claims, versions, and the projection of what is current; derived, never precious.

The projection is a function of the set of current versions, not of the order they came in: study-, series- and patient-level attributes
are those of the instance with the smallest (received, SOP Instance UID). So a rebuilt index equals the old one row for row.
Thread-safe: one connection writes behind a lock, each reading thread has its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import apsw
import msgspec

from leadglass.archive.index_schema import PATIENT_TAGS, SERIES_TAGS, STUDY_TAGS
from leadglass.archive.matching import column_text
from leadglass.archive.query import Rows, Selection
from leadglass.archive.sqlite import Value, connect, patiently
from leadglass.terms import (
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
from leadglass.wire import tags
from leadglass.wire.values import integer_of

KEY_LENGTH_BYTES = 32
POINTER = "current"
_UNNUMBERED = 2**62
_encode = msgspec.msgpack.Encoder().encode
_settled = msgspec.msgpack.Decoder(Settled).decode
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


@dataclass(frozen=True, slots=True)
class Visibility:
    """What of the current versions a permit shows; None for all SOP classes."""

    sop_classes: frozenset[str] | None = None


class Index:
    """One process's view of the index. Raises StoreFault where it does not answer, KeyFault where the key is another's."""

    def __init__(self, path: Path, pointer: Path, key: bytes) -> None:
        self._path, self._pointer, self._key = path, pointer, key
        self._gate = threading.Lock()
        self._writing = connect(path, key, write=True)
        self._local = threading.local()
        self._readers: list[apsw.Connection] = []
        self._generation = 0
        self._seen = _mark(pointer)

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
        return cls(_pointed(base, pointer), pointer, key)

    # ---- claims

    def claim(self, instance: Instance, digest: bytes, writer: bytes) -> Granted | Known | Pending:
        """One transaction: what is kept, what is pending, else the claim."""
        sop, study, patient = instance.sop_instance_uid, instance.study_instance_uid, instance.patient
        with self._transaction() as db:
            held = db.execute("SELECT writer FROM claims WHERE sop = ?", (sop,)).fetchone()
            if held is not None:
                return Pending(held[0])
            newest = 0
            current: tuple[bytes, bytes] | None = None
            for version, standing, known, settled in db.execute(
                "SELECT version, standing, digest, settled FROM versions WHERE sop = ?", (sop,)
            ):
                if known == digest:
                    return Known(_settled(settled))
                newest = max(newest, version)
                current = (known, settled) if standing == Standing.CURRENT else current
            rival = db.execute(
                "SELECT writer FROM claims WHERE study = ? AND (patient_id <> ? OR issuer <> ?) LIMIT 1",
                (study, patient.patient_id, patient.issuer),
            ).fetchone()
            if rival is not None:
                return Pending(rival[0])
            row = (sop, digest, writer, newest + 1, study, patient.patient_id, patient.issuer)
            db.execute("INSERT INTO claims VALUES(?,?,?,?,?,?,?)", row)
            owner = db.execute("SELECT raw_id, issuer FROM studies WHERE study = ?", (study,)).fetchone()
        facts = StudyFacts(
            PatientIdentity(*owner) if owner is not None else None,
            current[0] if current else None,
            _settled(current[1]).instance.transfer_syntax_uid if current else None,
        )
        return Granted(newest + 1, facts)

    def release_claim(self, sop_instance_uid: str, writer: bytes) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM claims WHERE sop = ? AND writer = ?", (sop_instance_uid, writer))

    def drop_claims(self, writer: bytes) -> int:
        """All of a writer that is dead and recovered: how many."""
        with self._transaction() as db:
            db.execute("DELETE FROM claims WHERE writer = ?", (writer,))
            return int(db.changes())

    # ---- publishing

    def publish(self, settled: Sequence[Settled]) -> None:
        """One transaction for all of them; harmless to repeat. A version whose standing was changed since keeps that standing."""
        with self._transaction() as db:
            for each in settled:
                self._publish(db, each)
            for writer, last in {each.writer: each for each in sorted(settled, key=_record)}.items():
                db.execute(
                    "INSERT INTO applied VALUES(?,?,?) ON CONFLICT(writer) DO UPDATE SET record = excluded.record, location = excluded.location"
                    " WHERE excluded.record > record",
                    (writer, last.location.record, _encode(last.location)),
                )

    def _publish(self, db: apsw.Connection, each: Settled) -> None:
        sop = each.instance.sop_instance_uid
        db.execute("DELETE FROM claims WHERE sop = ? AND writer = ?", (sop, each.writer))
        row = (
            sop,
            each.version,
            each.standing,
            ",".join(sorted(each.holds)),
            each.digest,
            each.received_at_ns,
            each.data_set_length,
        )
        db.execute("INSERT OR IGNORE INTO versions VALUES(?,?,?,?,?,?,?,?)", (*row, _encode(each)))
        if db.changes() and each.standing is Standing.CURRENT:
            _project(db, each)

    def applied(self, writer: bytes) -> Location | None:
        """The last record of a writer that was published."""
        row = self._one("SELECT location FROM applied WHERE writer = ?", (writer,))
        return None if row is None else _location(row[0])

    def change_standing(
        self, sop_instance_uid: str, version: int, standing: Standing, holds: frozenset[HoldReason]
    ) -> None:
        with self._transaction() as db:
            row = db.execute(
                "SELECT standing, settled FROM versions WHERE sop = ? AND version = ?", (sop_instance_uid, version)
            ).fetchone()
            if row is None:
                return
            changed = replace(_settled(row[1]), standing=standing, holds=holds)
            db.execute(
                "UPDATE versions SET standing = ?, holds = ?, settled = ? WHERE sop = ? AND version = ?",
                (standing, ",".join(sorted(holds)), _encode(changed), sop_instance_uid, version),
            )
            if row[0] == Standing.CURRENT and standing is not Standing.CURRENT:
                _withdraw(db, changed)
            elif standing is Standing.CURRENT and row[0] != Standing.CURRENT:
                _project(db, changed)

    # ---- looking up

    def versions(self, sop_instance_uid: str) -> list[Settled]:
        """Every kept version, whatever its standing, in their order."""
        rows = self._all("SELECT settled FROM versions WHERE sop = ? ORDER BY version", (sop_instance_uid,))
        return [_settled(row[0]) for row in rows]

    def current(self, sop_instance_uid: str) -> Settled | None:
        row = self._one("SELECT settled FROM versions WHERE sop = ? AND standing = 'current'", (sop_instance_uid,))
        return None if row is None else _settled(row[0])

    def held(self, limit: int, after: tuple[str, int] | None = None) -> list[Settled]:
        """A page of held versions behind (SOP Instance UID, version)."""
        statement = "SELECT settled FROM versions WHERE standing = 'held' AND (sop, version) > (?, ?) ORDER BY sop, version LIMIT ?"
        return [_settled(row[0]) for row in self._all(statement, (*(after or ("", 0)), limit))]

    def study_patient(self, study_instance_uid: str) -> PatientIdentity | None:
        row = self._one("SELECT raw_id, issuer FROM studies WHERE study = ?", (study_instance_uid,))
        return None if row is None else PatientIdentity(*row)

    def find(self, query: Query, visible: Visibility) -> Iterator[Mapping[int, str]]:
        """Answers with the keys that were asked for, page by page, each page a read of its own. Raises Mismatched, Malformed."""
        return Rows(self._all, query, visible.sop_classes).answers()

    def select(self, retrieval: Retrieval, visible: Visibility) -> Iterator[Settled]:
        """What a C-GET or C-MOVE names, in the order of series and instance number, page by page."""
        return (_settled(blob) for blob in Selection(self._all, retrieval, visible.sop_classes).pages())

    def count(self, retrieval: Retrieval, visible: Visibility) -> int:
        return Selection(self._all, retrieval, visible.sop_classes).count()

    def statistics(self) -> dict[str, int]:
        counted = {}
        for name in ("patients", "studies", "series", "instances"):
            row = self._one(f"SELECT count(*) FROM {name}")
            counted[name] = int(row[0]) if row else 0
        row = self._one("SELECT count(*) FROM versions WHERE standing = 'held'")
        return {**counted, "held": int(row[0]) if row else 0}

    def bytes_since(self, received_ns: int) -> int:
        row = self._one("SELECT coalesce(sum(size), 0) FROM versions WHERE received >= ?", (received_ns,))
        return int(row[0]) if row else 0

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Everything but claims and applied offsets, in a canonical order: what two indexes are compared by."""
        for name in ("versions", "patients", "studies", "series", "instances"):
            for row in self._all(f"SELECT * FROM {name} ORDER BY 1, 2"):
                yield (name, *row)

    # ---- epochs, upkeep

    def next_epoch(self) -> Index:
        """An empty index beside this one, which nobody reads until `exchange`."""
        base = self._pointer.with_name(self._pointer.name.removesuffix(f".{POINTER}"))
        number = 1 + max(
            (int(path.suffix[1:]) for path in base.parent.glob(f"{base.name}.*") if path.suffix[1:].isdigit()),
            default=0,
        )
        fresh = base.with_name(f"{base.name}.{number}")
        return Index(fresh, self._pointer, self._key)

    def exchange(self, fresh: Index) -> None:
        """The fresh one serves from now on, pending claims included; nobody writes meanwhile (the caller holds the barrier)."""
        with self._transaction() as db, fresh._transaction(follow=False) as new:
            for row in db.execute("SELECT * FROM claims"):
                new.execute("INSERT OR IGNORE INTO claims VALUES(?,?,?,?,?,?,?)", row)
        fresh._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        part = self._pointer.with_name(f".{self._pointer.name}")
        part.write_text(fresh._path.name)
        part.replace(self._pointer)

    def discard(self) -> None:
        """An epoch that will not be exchanged: its files go."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def checkpoint(self) -> None:
        """The keeper's, so that no publish pays for it."""
        with suppress(apsw.Error), self._gate:
            self._follow()
            self._writing.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._writing.execute("PRAGMA optimize").fetchall()

    def close(self) -> None:
        with self._gate:
            for connection in (self._writing, *self._readers):
                with suppress(apsw.Error):
                    connection.close()
            self._readers.clear()

    # ---- connections

    @contextmanager
    def _transaction(self, *, follow: bool = True) -> Iterator[apsw.Connection]:
        try:
            with self._gate:
                if follow:
                    self._follow()
                patiently(lambda: self._writing.execute("BEGIN IMMEDIATE"))
                try:
                    yield self._writing
                except BaseException:
                    self._writing.execute("ROLLBACK")
                    raise
                patiently(lambda: self._writing.execute("COMMIT"))
        except apsw.Error as error:
            raise StoreFault(
                f"the index does not answer: {error}", hint="`leadglass index rebuild` makes it again"
            ) from error

    def _follow(self) -> None:
        """Goes over to a rebuilt index. Under the gate."""
        mark = _mark(self._pointer)
        if mark == self._seen:
            return
        base = self._pointer.with_name(self._pointer.name.removesuffix(f".{POINTER}"))
        self._path = _pointed(base, self._pointer)
        self._writing.close()
        self._writing = connect(self._path, self._key, write=True)
        self._seen = mark
        self._generation += 1

    def _reader(self) -> apsw.Connection:
        if _mark(self._pointer) != self._seen:  # one stat, about 2 microseconds: what was published is found at once
            with self._gate:
                self._follow()
        found: tuple[int, apsw.Connection] | None = getattr(self._local, "reader", None)
        if found is not None and found[0] == self._generation:
            return found[1]
        connection = connect(self._path, self._key, write=False)
        with self._gate:
            self._readers.append(connection)
        self._local.reader = (self._generation, connection)
        return connection

    def _all(self, statement: str, values: Sequence[Value] = ()) -> list[tuple]:  # type: ignore[type-arg]
        try:
            reader = self._reader()
            return patiently(lambda: reader.execute(statement, values).fetchall())
        except apsw.Error as error:
            raise StoreFault(
                f"the index cannot be read: {error}", hint="`leadglass index rebuild` makes it again"
            ) from error

    def _one(self, statement: str, values: Sequence[Value] = ()) -> tuple | None:  # type: ignore[type-arg]
        return next(iter(self._all(statement, values)), None)


# ---- the projection


def _project(db: apsw.Connection, each: Settled) -> None:
    """A version became current: its instance row, and the rows above it where it is the earliest."""
    instance = each.instance
    attributes = instance.attributes
    sop, series, study = instance.sop_instance_uid, instance.series_instance_uid, instance.study_instance_uid
    number = integer_of(attributes.get(tags.INSTANCE_NUMBER, ""))
    db.execute(
        "INSERT OR REPLACE INTO instances VALUES(?,?,?,?,?,?,?)",
        (
            study,
            series,
            _UNNUMBERED if number is None else number,
            sop,
            instance.sop_class_uid,
            each.received_at_ns,
            _own(attributes),
        ),
    )
    at = (each.received_at_ns, sop)
    earlier = " WHERE (excluded.received, excluded.source) < (received, source)"
    db.execute(
        "INSERT INTO series VALUES(?,?,?,?,?,?) ON CONFLICT(study, series) DO UPDATE SET modality = excluded.modality,"
        " received = excluded.received, source = excluded.source, attributes = excluded.attributes" + earlier,
        (series, study, attributes.get(tags.MODALITY, ""), *at, _part(attributes, SERIES_TAGS)),
    )
    patient, text = instance.patient, {tag: column_text(tag, attributes.get(tag, "")) for tag in _COLUMNS}
    db.execute(
        "INSERT INTO studies VALUES(?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT(study) DO UPDATE SET raw_id = excluded.raw_id, issuer = excluded.issuer,"
        " patient_id = excluded.patient_id, patient_name = excluded.patient_name, study_date = excluded.study_date,"
        " accession = excluded.accession, study_id = excluded.study_id, received = excluded.received, source = excluded.source,"
        " attributes = excluded.attributes" + earlier,
        (
            study,
            patient.patient_id,
            patient.issuer,
            *(text[tag] for tag in _COLUMNS),
            *at,
            _part(attributes, STUDY_TAGS | PATIENT_TAGS),
        ),
    )
    db.execute(
        "INSERT INTO patients VALUES(?,?,?,?,?,?,?) ON CONFLICT(raw_id, issuer) DO UPDATE SET patient_name = excluded.patient_name,"
        " received = excluded.received, source = excluded.source, attributes = excluded.attributes" + earlier,
        (
            text[tags.PATIENT_ID],
            patient.issuer,
            text[tags.PATIENT_NAME],
            *at,
            _part(attributes, PATIENT_TAGS),
            patient.patient_id,
        ),
    )


_COLUMNS = (tags.PATIENT_ID, tags.PATIENT_NAME, tags.STUDY_DATE, tags.ACCESSION_NUMBER, tags.STUDY_ID)


def _withdraw(db: apsw.Connection, each: Settled) -> None:
    """A version is current no more: its rows go, and what it was the source of is projected again from what is left."""
    instance = each.instance
    sop, study = instance.sop_instance_uid, instance.study_instance_uid
    db.execute("DELETE FROM instances WHERE sop = ?", (sop,))
    db.execute(
        "DELETE FROM series WHERE study = ? AND series = ? AND source = ?", (study, instance.series_instance_uid, sop)
    )
    db.execute("DELETE FROM studies WHERE study = ? AND source = ?", (study, sop))
    db.execute(
        "DELETE FROM patients WHERE raw_id = ? AND issuer = ? AND source = ?",
        (instance.patient.patient_id, instance.patient.issuer, sop),
    )
    siblings = db.execute(
        "SELECT sop FROM instances WHERE study = ? UNION SELECT i.sop FROM studies s JOIN instances i ON i.study = s.study"
        " WHERE s.raw_id = ? AND s.issuer = ?",
        (study, instance.patient.patient_id, instance.patient.issuer),
    ).fetchall()
    for (sibling,) in siblings:
        row = db.execute("SELECT settled FROM versions WHERE sop = ? AND standing = 'current'", (sibling,)).fetchone()
        if row is not None:
            _project(db, _settled(row[0]))


def _part(attributes: Mapping[int, str], wanted: frozenset[int]) -> bytes:
    return _encode({tag: attributes[tag] for tag in sorted(attributes) if tag in wanted})


def _own(attributes: Mapping[int, str]) -> bytes:
    above = PATIENT_TAGS | STUDY_TAGS | SERIES_TAGS
    return _encode({tag: attributes[tag] for tag in sorted(attributes) if tag not in above})


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
