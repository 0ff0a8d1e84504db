"""What is somebody to a study? From relations that were told (an import, an order, a window that was opened), and from what the study says.

What a study says of itself comes in by this: it names its referring and requesting clinician and the department that made it, and the person's
record names how studies spell them and where they work. Text is compared as the index folds it. Pure: the time is an argument.

A feed of orders and admissions (HL7) will make the same `Related` rows that an import makes; nothing here asks where they came from.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from leadglass.terms import (
    Act,
    AnyOf,
    Caller,
    Dossier,
    Has,
    Malformed,
    PatientIdentity,
    Related,
    Relation,
    StudyRule,
    key_of,
)
from leadglass.wire.charset import normalise_for_matching

ROWS_MAX = 1_000_000  # of one import
TEXT_CHARACTERS_MAX = 256  # of one field of it
ERRORS_TOLD_MAX = 20
COLUMNS = ("person", "relation", "patient_id", "issuer", "study", "until", "source")
REQUIRED = ("person", "relation")
# Relations that others may tell. What a study says itself, and windows that people open here, are nobody's to import.
TOLD = frozenset({Relation.ORDERED, Relation.SCHEDULED, Relation.CARE_TEAM, Relation.PRIOR})
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class Ties:
    """What one person is to studies, laid out so that asking about many studies costs little: made once a query, asked for each study."""

    patients: Mapping[str, tuple[Related, ...]]  # by `key_of`
    studies: Mapping[str, tuple[Related, ...]]
    departments: frozenset[str]
    names: frozenset[str]

    @classmethod
    def of(cls, caller: Caller, act: Act) -> Ties:
        """As far as they count for the act: what was granted to be looked at does not leave the house by that."""
        patients: dict[str, list[Related]] = {}
        studies: dict[str, list[Related]] = {}
        for each in caller.related:
            if act is Act.STUDY_EXPORT and each.relation is Relation.GRANTED and each.act is not act:
                continue
            if each.study_instance_uid:
                studies.setdefault(each.study_instance_uid, []).append(each)
            elif each.patient is not None and each.patient.patient_id:
                patients.setdefault(key_of(each.patient), []).append(each)
        return cls(
            {key: tuple(rows) for key, rows in patients.items()},
            {uid: tuple(rows) for uid, rows in studies.items()},
            _folded(caller.person.departments),
            _folded(caller.person.names),
        )

    def to(self, study: Dossier, now_ns: int) -> frozenset[Relation]:
        """Every relation to this study that is in force."""
        told = (*self.patients.get(key_of(study.patient), ()), *self.studies.get(study.study_instance_uid, ()))
        found = {each.relation for each in told if _in_force(each, now_ns) and _of_its_patient(each, study)}
        if not self.departments.isdisjoint(study.departments):
            found.add(Relation.DEPARTMENT)
        if not self.names.isdisjoint(study.clinicians):
            found.add(Relation.CLINICIAN)
        return frozenset(found)

    def studies_of(self, relations: Collection[Relation], now_ns: int) -> StudyRule:
        """To which studies this person has any of these relations; where a row names study and patient, by the study: `to` looks at both."""
        patients = frozenset(key for key, rows in self.patients.items() if _any_of(rows, relations, now_ns))
        studies = frozenset(uid for uid, rows in self.studies.items() if _any_of(rows, relations, now_ns))
        parts = [Has("patient", patients), Has("study", studies)]
        if Relation.DEPARTMENT in relations:
            parts.append(Has("department", self.departments))
        if Relation.CLINICIAN in relations:
            parts.append(Has("clinician", self.names))
        return AnyOf(tuple(part for part in parts if part.values))


def _folded(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(folded for text in texts if (folded := normalise_for_matching(text).rstrip("^")))


def _any_of(rows: Iterable[Related], relations: Collection[Relation], now_ns: int) -> bool:
    return any(each.relation in relations and _in_force(each, now_ns) for each in rows)


def _in_force(each: Related, now_ns: int) -> bool:
    return each.from_ns <= now_ns and (not each.until_ns or now_ns < each.until_ns)


def _of_its_patient(each: Related, study: Dossier) -> bool:
    """Whoever names a study and a patient means that study while it is that patient's."""
    return each.patient is None or not each.patient.patient_id or key_of(each.patient) == key_of(study.patient)


# ---- an import


def parse_relations(text: str, *, source: str, now_ns: int) -> tuple[Related, ...]:
    """The rows of a CSV file with a heading, or of a JSON array of objects, in the columns of `COLUMNS`; `person` is left as it is given.

    `until`: a date, or a date and time with its offset; "" for no end. `source`: of rows that name none. All or nothing: raises Malformed
    with the line (of JSON: the number) of everything that is wrong, up to a few.
    """
    rows = _json_rows(text) if text.lstrip().startswith(("[", "{")) else _csv_rows(text)
    found: list[Related] = []
    wrong: list[str] = []
    for place, row in rows:
        try:
            found.append(_related(row, source, now_ns))
        except ValueError as error:
            wrong.append(f"{place}: {error}")
        if len(found) > ROWS_MAX:
            raise Malformed(f"more than {ROWS_MAX:,} rows: import them in parts, each with a source of its own")
        if len(wrong) == ERRORS_TOLD_MAX:
            break
    if wrong:
        raise Malformed("nothing was imported. " + "; ".join(wrong))
    return tuple(found)


def _csv_rows(text: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        _known_columns(reader.fieldnames or ())
        for row in reader:
            if None in row:
                raise Malformed(f"nothing was imported. line {reader.line_num}: more values than columns")
            if any(row.values()):
                yield f"line {reader.line_num}", {name: value or "" for name, value in row.items()}
    except csv.Error as error:
        raise Malformed(f"nothing was imported. line {reader.line_num}: {error}") from error


def _json_rows(text: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"nothing was imported: this is neither CSV nor JSON: {error}") from error
    if not isinstance(listed, list):
        raise Malformed("nothing was imported: the JSON is no array of objects")
    for number, row in enumerate(listed, start=1):
        if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
            raise Malformed(f"nothing was imported. row {number}: it is no object of texts")
        _known_columns(row)
        yield f"row {number}", row


def _known_columns(names: Iterable[str]) -> None:
    given = list(names)
    if unknown := [name for name in given if name not in COLUMNS]:
        raise Malformed(f"nothing was imported: {unknown[0][:64]!r} is no column; there are {', '.join(COLUMNS)}")
    if lacking := [name for name in REQUIRED if name not in given]:
        raise Malformed(f"nothing was imported: the column {lacking[0]!r} is missing")


def _related(row: Mapping[str, str], source: str, now_ns: int) -> Related:
    values = {name: row.get(name, "").strip() for name in COLUMNS}
    for name, value in values.items():
        if len(value) > TEXT_CHARACTERS_MAX or not value.isprintable():
            raise ValueError(f"{name} is longer than {TEXT_CHARACTERS_MAX} characters, or holds a control character")
    if not values["person"]:
        raise ValueError("it names no person")
    if values["relation"] not in TOLD:
        raise ValueError(f"{values['relation']!r} is no relation that can be imported: {', '.join(sorted(TOLD))}")
    study = values["study"]
    if not values["patient_id"] and not study:
        raise ValueError("it names neither a patient_id nor a study")
    if study and not _UID.fullmatch(study):
        raise ValueError(f"{study!r} is no Study Instance UID")
    patient = PatientIdentity(values["patient_id"], values["issuer"]) if values["patient_id"] else None
    until_ns = _until_ns(values["until"], now_ns)
    relation = Relation(values["relation"])
    return Related(values["person"], relation, patient, study, 0, until_ns, values["source"] or source)


def _until_ns(text: str, now_ns: int) -> int:
    """A date counts with all of its day, in UTC."""
    if not text:
        return 0
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            at = dt.datetime.combine(dt.date.fromisoformat(text), dt.time(), dt.UTC) + dt.timedelta(days=1)
        else:
            at = dt.datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ValueError(
            f"until {text!r} is no date such as 2026-12-31, and no time such as 2026-12-31T18:00+01:00"
        ) from None
    if at.tzinfo is None:
        raise ValueError(f"until {text!r} has no offset from UTC: write it with Z, or +01:00")
    until_ns = int(at.timestamp()) * 1_000_000_000
    if until_ns <= now_ns:
        raise ValueError(f"until {text!r} is over already")
    return until_ns
