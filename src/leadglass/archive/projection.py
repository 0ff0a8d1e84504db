"""What is to be found? Patients, studies, series and counts as a function of the set of current versions, not of the order they came in.

A series' and a study's attributes are those of its instance with the smallest (received, SOP Instance UID), a patient's those of the
study whose source is the smallest. So a rebuilt index equals the old one row for row. All of this runs inside the index's transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import apsw
import msgspec

from leadglass.archive.index_schema import COLUMNS, KEPT_TABLES, PATIENT_TAGS, PROJECTED_TABLES, SERIES_TAGS, STUDY_TAGS
from leadglass.archive.matching import column_text, name_forms
from leadglass.site.migrations import Migration
from leadglass.terms import HoldReason, Settled, Standing
from leadglass.wire import tags
from leadglass.wire.values import integer_of

PROJECTED_AT_ONCE = 1_000  # versions in memory, where an older index is projected anew
UNNUMBERED = 2**62  # an Instance Number has at most 12 digits, so these come last
encode = msgspec.msgpack.Encoder().encode
Value = str | int | float | bytes | None
settled_of = msgspec.msgpack.Decoder(Settled).decode
attributes_of = msgspec.msgpack.Decoder(dict[int, str]).decode
_ABOVE = PATIENT_TAGS | STUDY_TAGS | SERIES_TAGS


def encode_settled(each: Settled) -> bytes:
    """The same bytes in every process: a set has no order of its own, and rows are compared."""
    if len(each.holds) > 1:
        each = replace(each, holds=cast("frozenset[HoldReason]", tuple(sorted(each.holds))))
    return encode(each)


def keep(db: apsw.Connection, settled: Iterable[Settled]) -> list[Settled]:
    """Every version that was not there yet gets its row; those among them that are current."""
    current, rows = [], db.cursor()
    for each in settled:
        row = (
            each.instance.sop_instance_uid,
            each.version,
            each.standing,
            ",".join(sorted(each.holds)),
            each.digest,
            each.received_at_ns,
            each.data_set_length,
            encode_settled(each),
        )
        rows.execute("INSERT OR IGNORE INTO versions VALUES(?,?,?,?,?,?,?,?)", row)
        if db.changes() and each.standing is Standing.CURRENT:
            current.append(each)
    return current


def restand(db: apsw.Connection, each: Settled, standing: Standing, holds: frozenset[HoldReason]) -> Settled:
    """A version gets another standing: the version as it is now."""
    changed = replace(each, standing=standing, holds=holds)
    db.execute(
        "UPDATE versions SET standing = ?, holds = ?, settled = ? WHERE sop = ? AND version = ?",
        (standing, ",".join(sorted(holds)), encode_settled(changed), each.instance.sop_instance_uid, each.version),
    )
    return changed


def include(db: apsw.Connection, settled: Iterable[Settled]) -> None:
    """Versions became current, in any order and any number at once: what is above an instance is looked at once for all of them.

    Raises apsw.ConstraintError where another version of its UID is current.
    """
    rows: list[tuple[Value, ...]] = []
    counts: dict[tuple[str, str, str], int] = {}
    series: dict[tuple[str, str], Settled] = {}
    studies: dict[str, Settled] = {}
    for each in settled:
        instance = each.instance
        number = integer_of(instance.attributes.get(tags.INSTANCE_NUMBER, ""))
        own = encode({tag: text for tag, text in instance.attributes.items() if tag not in _ABOVE})
        sop, sop_class, study = instance.sop_instance_uid, instance.sop_class_uid, instance.study_instance_uid
        key = study, instance.series_instance_uid
        rows.append((*key, UNNUMBERED if number is None else number, sop, sop_class, each.received_at_ns, own))
        counts[*key, sop_class] = counts.get((*key, sop_class), 0) + 1
        if key not in series or _place(each) < _place(series[key]):
            series[key] = each
        if study not in studies or _place(each) < _place(studies[study]):
            studies[study] = each
    db.executemany("INSERT INTO instances VALUES(?,?,?,?,?,?,?)", rows)
    db.executemany(
        "INSERT INTO counts VALUES(?,?,?,?) ON CONFLICT DO UPDATE SET instances = instances + excluded.instances",
        [(*key, instances) for key, instances in counts.items()],
    )
    for key, each in series.items():
        earliest = db.execute("SELECT received, source FROM series WHERE study = ? AND series = ?", key).fetchone()
        if earliest is None or _place(each) < earliest:
            _put_series(db, each)
    for study, each in studies.items():
        earliest = db.execute("SELECT received, source FROM studies WHERE study = ?", (study,)).fetchone()
        if earliest is None or _place(each) < earliest:
            _put_study(db, each)


def exclude(db: apsw.Connection, each: Settled) -> None:
    """A version is current no more: what it was the source of is made again from what is left."""
    instance = each.instance
    sop, series, study = instance.sop_instance_uid, instance.series_instance_uid, instance.study_instance_uid
    key = (study, series, instance.sop_class_uid)
    db.execute("DELETE FROM instances WHERE sop = ?", (sop,))
    db.execute("UPDATE counts SET instances = instances - 1 WHERE study = ? AND series = ? AND sop_class = ?", key)
    db.execute("DELETE FROM counts WHERE study = ? AND series = ? AND sop_class = ? AND instances = 0", key)
    if db.execute(
        "DELETE FROM series WHERE study = ? AND series = ? AND source = ? RETURNING 1", (study, series, sop)
    ).fetchall():
        left = "SELECT sop FROM instances WHERE study = ? AND series = ? ORDER BY received, sop LIMIT 1"
        if row := db.execute(left, (study, series)).fetchone():
            _put_series(db, _current(db, row[0]))
    if db.execute("SELECT 1 FROM studies WHERE study = ? AND source = ?", (study, sop)).fetchone():
        left = "SELECT sop FROM instances WHERE study = ? ORDER BY received, sop LIMIT 1"
        if row := db.execute(left, (study,)).fetchone():
            _put_study(db, _current(db, row[0]))
        else:
            _drop_study(db, study)


def versions_of(read: Callable[[str, Sequence[Value]], list[Any]], study: str) -> Iterator[tuple[str, int]]:
    """SOP Instance UID and number of every version of a study, whatever its standing; no index leads to all of them."""
    for (settled,) in read("SELECT settled FROM versions WHERE instr(settled, ?) > 0", (study.encode(),)):
        if (each := settled_of(settled)).instance.study_instance_uid == study:
            yield each.instance.sop_instance_uid, each.version


def erase(db: apsw.Connection, studies: Iterable[str], versions: Iterable[tuple[str, int]]) -> None:
    """These studies and versions of theirs are not there any more, nor what was written where they lay."""
    db.execute("PRAGMA secure_delete = ON")
    try:
        for study in studies:
            for table in ("instances", "counts", "series"):
                db.execute(f"DELETE FROM {table} WHERE study = ?", (study,))  # noqa: S608 - our own words
            _drop_study(db, study)
        db.executemany("DELETE FROM versions WHERE sop = ? AND version = ?", list(versions))
    finally:
        db.execute("PRAGMA secure_delete = OFF")


def _place(each: Settled) -> tuple[int, str]:
    """The smallest of them is the source of what stands above."""
    return each.received_at_ns, each.instance.sop_instance_uid


def _current(db: apsw.Connection, sop: str) -> Settled:
    row = db.execute("SELECT settled FROM versions WHERE sop = ? AND standing = 'current'", (sop,)).fetchone()
    assert row is not None  # every row of `instances` is a current version
    return settled_of(row[0])


def _put_series(db: apsw.Connection, each: Settled) -> None:
    instance = each.instance
    modality = column_text(tags.MODALITY, instance.attributes.get(tags.MODALITY, ""))
    key = (instance.study_instance_uid, instance.series_instance_uid)
    own = _part(instance.attributes, SERIES_TAGS)
    department = column_text(
        tags.INSTITUTIONAL_DEPARTMENT_NAME, instance.attributes.get(tags.INSTITUTIONAL_DEPARTMENT_NAME, "")
    )
    row = (*key, modality, each.received_at_ns, instance.sop_instance_uid, own, department)
    db.execute("INSERT OR REPLACE INTO series VALUES(?,?,?,?,?,?,?)", row)


def _put_study(db: apsw.Connection, each: Settled) -> None:
    instance, study = each.instance, each.instance.study_instance_uid
    _drop_study(db, study)
    columns = [column_text(tag, instance.attributes.get(tag, "")) for tag in COLUMNS]
    owner = (instance.patient.patient_id, instance.patient.issuer)
    own = _part(instance.attributes, STUDY_TAGS | PATIENT_TAGS)
    row = (study, *owner, *columns, each.received_at_ns, instance.sop_instance_uid, own)
    db.execute("INSERT INTO studies VALUES(?,?,?,?,?,?,?,?,?,?,?)", row)
    for name in _names(instance.attributes):
        db.execute("INSERT INTO study_names VALUES(?,?)", (name, study))
    for name in clinicians_of(instance.attributes):
        db.execute("INSERT INTO study_clinicians VALUES(?,?)", (name, study))
    _put_patient(db, *owner)


def _drop_study(db: apsw.Connection, study: str) -> None:
    gone = "DELETE FROM studies WHERE study = ? RETURNING raw_id, issuer, attributes"
    rows: list[Any] = db.execute(gone, (study,)).fetchall()
    for raw_id, issuer, attributes in rows:
        for name in _names(attributes_of(attributes)):
            db.execute("DELETE FROM study_names WHERE name = ? AND study = ?", (name, study))
        for name in clinicians_of(attributes_of(attributes)):
            db.execute("DELETE FROM study_clinicians WHERE name = ? AND study = ?", (name, study))
        _put_patient(db, raw_id, issuer)


def _put_patient(db: apsw.Connection, raw_id: str, issuer: str) -> None:
    """A patient as the earliest of its studies says it, one step down `studies_owner`; none where there is no study left."""
    found = "SELECT patient_id, patient_name, received, source, attributes FROM studies WHERE raw_id = ? AND issuer = ? ORDER BY received, source LIMIT 1"
    row = db.execute(found, (raw_id, issuer)).fetchone()
    old = db.execute(
        "SELECT received, source, attributes FROM patients WHERE raw_id = ? AND issuer = ?", (raw_id, issuer)
    ).fetchone()
    if row is not None and old is not None and old[:2] == row[2:4]:
        return
    if old is not None:
        db.execute("DELETE FROM patients WHERE raw_id = ? AND issuer = ?", (raw_id, issuer))
        for name in _names(attributes_of(old[2])):
            db.execute("DELETE FROM patient_names WHERE name = ? AND raw_id = ? AND issuer = ?", (name, raw_id, issuer))
    if row is not None:
        attributes = attributes_of(row[4])
        own = _part(attributes, PATIENT_TAGS)
        db.execute("INSERT INTO patients VALUES(?,?,?,?,?,?,?)", (raw_id, issuer, *row[:4], own))
        for name in _names(attributes):
            db.execute("INSERT INTO patient_names VALUES(?,?,?)", (name, raw_id, issuer))


def _names(attributes: Mapping[int, str]) -> frozenset[str]:
    return frozenset(name for name in name_forms(attributes.get(tags.PATIENT_NAME, "")) if name)


def clinicians_of(attributes: Mapping[int, str]) -> frozenset[str]:
    """Whom a study names as its referring or requesting physician: each group of each name, folded."""
    referring = attributes.get(tags.REFERRING_PHYSICIAN_NAME, "")
    requesting = attributes.get(tags.REQUESTING_PHYSICIAN, "")
    return _clinicians(referring, requesting) if referring or requesting else frozenset()


@lru_cache(maxsize=4096)
def _clinicians(referring: str, requesting: str) -> frozenset[str]:
    named = (*referring.split("\\"), *requesting.split("\\"))
    return frozenset(form for name in named for form in name_forms(name) if form)


def _part(attributes: Mapping[int, str], wanted: frozenset[int]) -> bytes:
    return encode({tag: text for tag, text in attributes.items() if tag in wanted})


# ---- growing older

_PROJECTED = (
    "patients",
    "patient_names",
    "studies",
    "study_names",
    "study_clinicians",
    "series",
    "counts",
    "instances",
)


def _kept(db: apsw.Connection) -> None:
    db.execute(KEPT_TABLES)


def _projected(db: apsw.Connection) -> None:
    """Projects what is current anew, whatever was there."""
    for table in _PROJECTED:
        db.execute(f"DROP TABLE IF EXISTS {table}")
    db.execute(PROJECTED_TABLES)
    current: list[Any] = db.execute("SELECT sop FROM versions WHERE standing = 'current'").fetchall()
    for start in range(0, len(current), PROJECTED_AT_ONCE):
        include(db, [_current(db, sop) for (sop,) in current[start : start + PROJECTED_AT_ONCE]])


def _claims_gone(db: apsw.Connection) -> None:
    db.execute("DROP TABLE IF EXISTS claims")


MIGRATIONS: tuple[Migration[apsw.Connection], ...] = (
    Migration(1, "claims and versions", _kept),
    Migration(2, "what is current, with counts by SOP class and names by group", _projected),
    Migration(3, "claims lie in a file of their own", _claims_gone),
    Migration(4, "clinicians and departments, by which people see studies", _projected),
)
