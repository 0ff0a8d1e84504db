"""What left the house as files, in whose hands, for whom? A row a study; and, counted over a day, how much more may.

Every worker spends from it, and a row is written in the same transaction in which it is counted, before the first byte leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leadglass.terms import Export, PatientIdentity, Purpose

if TYPE_CHECKING:
    from leadglass.site.register import Register

EXPORTS = """
CREATE TABLE exports(
    id TEXT NOT NULL, study TEXT NOT NULL, person TEXT NOT NULL, issuer TEXT NOT NULL, patient_id TEXT NOT NULL, purpose TEXT NOT NULL,
    recipient TEXT NOT NULL, at_ns INTEGER NOT NULL, PRIMARY KEY(id, study)) WITHOUT ROWID;
CREATE INDEX exports_person ON exports(person, at_ns);
CREATE INDEX exports_at ON exports(at_ns);
CREATE INDEX exports_patient ON exports(patient_id, issuer);
"""
DAY_NS = 24 * 3600 * 1_000_000_000
# Of two kinds of values one text: a unit separator stands in no Patient ID (PS3.5 6.2, LO).
_COUNTED = "SELECT count(DISTINCT issuer || char(31) || patient_id) FROM exports WHERE at_ns > ?"


@dataclass(frozen=True, slots=True)
class Exported:
    """One study that left. `person`: an id. `at_ns`: when it began to, Unix nanoseconds."""

    id: str
    study_instance_uid: str
    person: str
    patient: PatientIdentity
    purpose: Purpose
    recipient: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Spent:
    """How many other patients' studies left within a day: in this person's hands, and in anybody's."""

    by_person: int
    by_all: int


class Exports:
    """Thread-safe, as the register is."""

    def __init__(self, register: Register) -> None:
        self._register = register

    def spent(self, export: Export, now_ns: int) -> Spent:
        """What left before this one."""
        return Spent(*(self._register.read(*each)[0][0] for each in _counts(export, now_ns)))

    def spend(self, export: Export, now_ns: int, judge: Callable[[Spent], None]) -> None:
        """Writes that the study leaves, if `judge` does not raise; the same patient again costs nothing more."""
        patient, who = export.patient, export.subject.person
        row = (export.id, export.study_instance_uid, who.id, patient.issuer, patient.patient_id, export.purpose, export.recipient, now_ns)  # fmt: skip
        with self._register.transaction() as connection:
            counted: list[Any] = [connection.execute(*each).fetchall()[0][0] for each in _counts(export, now_ns)]
            judge(Spent(*counted))
            connection.execute("INSERT OR IGNORE INTO exports VALUES(?,?,?,?,?,?,?,?)", row)

    def latest(self, limit: int, person: str = "") -> list[Exported]:
        """The newest first; of one person, "" for everybody's."""
        rows = self._register.read(
            "SELECT id, study, person, issuer, patient_id, purpose, recipient, at_ns FROM exports WHERE ?1 = '' OR person = ?1"
            " ORDER BY at_ns DESC, id, study LIMIT ?2",
            (person, limit),
        )
        return [
            Exported(row[0], row[1], row[2], PatientIdentity(row[4], row[3]), Purpose(row[5]), row[6], row[7])
            for row in rows
        ]


def _counts(export: Export, now_ns: int) -> Iterator[tuple[str, tuple[int | str, ...]]]:
    """The statements that `Spent` is made of. The patient whose study it is counts once, and is not counted here."""
    other = (export.patient.patient_id, export.patient.issuer)
    counted = f"{_COUNTED} AND NOT (patient_id = ? AND issuer = ?)"
    yield f"{counted} AND person = ?", (now_ns - DAY_NS, *other, export.subject.person.id)
    yield counted, (now_ns - DAY_NS, *other)
