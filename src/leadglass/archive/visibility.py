"""Which studies does a permit show? A rule becomes a condition of SQL, or a way to the few studies that it can mean; policy decides about each again.

For devices there is no rule, and nothing here costs them anything. For people the condition keeps out what nobody need look at, and every
study that passes is laid before policy with its facts, a page at a time, before anything of it is told, counted or sent. An answer lasts as long
as its peer takes to read it: what was allowed a moment ago is laid before policy again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from leadglass.archive.paging import IN_LIST_MAX, Condition, Found, Read, among, one_of
from leadglass.archive.projection import attributes_of, clinicians_of
from leadglass.archive.sqlite import Value
from leadglass.policy.people import DECIDE_AGAIN_SECONDS
from leadglass.terms import (
    EVERY_STUDY,
    AllOf,
    AnyOf,
    Dossier,
    Has,
    NotPermitted,
    NotSo,
    PatientIdentity,
    StudyRule,
)

Row = TypeVar("Row")

RECHECK_ROWS = 100  # studies that policy is asked about at once
CANDIDATES_MAX = 5_000  # more studies than that are found faster by the keys of the query
STUDY_COLUMNS = "s.study, s.raw_id, s.issuer, s.attributes"
Recheck = Callable[[Sequence[Dossier]], Sequence[bool]]

# As terms.key_of: issuer, unit separator, Patient ID.
_OWNER = "(s.issuer || char(31) || s.raw_id)"
_OWNED = (
    "SELECT s.study AS study FROM (SELECT substr(value, 1, instr(value, char(31)) - 1) AS issuer,"
    " substr(value, instr(value, char(31)) + 1) AS raw_id FROM json_each(?)) AS p"
    " CROSS JOIN studies s INDEXED BY studies_owner ON s.raw_id = p.raw_id AND s.issuer = p.issuer"
)


@dataclass(frozen=True, slots=True)
class Visibility:
    """What of the current versions a permit shows; None for all SOP classes. `recheck`: policy's word about each study; None for a device."""

    sop_classes: frozenset[str] | None = None
    studies: StudyRule = EVERY_STUDY
    recheck: Recheck | None = None

    @property
    def confined(self) -> bool:
        """Whether there may be studies that it does not show."""
        return self.recheck is not None or self.studies != EVERY_STUDY


def of_class(sop_classes: frozenset[str] | None, *on: str) -> Condition:
    """That there is, among the counts with these columns in common, one of a visible class."""
    if sop_classes is None:
        return Condition()
    wanted = one_of("c.sop_class", sorted(sop_classes))
    return Condition(f"EXISTS(SELECT 1 FROM counts c WHERE {' AND '.join(on)} AND {wanted.text})", wanted.values)


@dataclass(slots=True)
class Lasting:
    """Whether a study may be seen, asked when an answer comes to it and again for as long as it stays with it."""

    seen: Callable[[str], bool]
    _study: str = field(init=False, default="")
    _looked: float = field(init=False, default=0.0)

    def still(self, study: str) -> None:
        """Raises NotPermitted where it may not."""
        now = time.monotonic()
        if study == self._study and now - self._looked < DECIDE_AGAIN_SECONDS:
            return
        if not self.seen(study):
            raise NotPermitted("the right to see this study ended while it was being answered: ask again")
        self._study, self._looked = study, now


@dataclass(slots=True)
class Sight:
    """What one request may see of the studies in the index."""

    read: Read
    visible: Visibility
    where: Condition = field(init=False)  # about a study `s`
    _last: tuple[tuple[str, str], list[Found]] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.where = condition(self.visible.studies) if self.visible.studies != EVERY_STUDY else Condition()

    def only(self, found: Iterable[Found]) -> Iterator[Found]:
        """Those rows, each beginning with `STUDY_COLUMNS`, whose study policy allows; asked about a page at a time, and again where that lasts."""
        recheck = self.visible.recheck
        if recheck is None:
            yield from found
            return
        rows = iter(found)
        while page := list(islice(rows, RECHECK_ROWS)):
            allowed, looked = list(recheck(self.dossiers(page))), time.monotonic()
            for number, row in enumerate(page):
                if time.monotonic() - looked >= DECIDE_AGAIN_SECONDS:
                    allowed[number:], looked = recheck(self.dossiers(page[number:])), time.monotonic()
                if allowed[number]:
                    yield row

    def while_seen(self, rows: Iterable[Row], study_of: Callable[[Row], str]) -> Iterator[Row]:
        """The rows, in which each study's stand together, for as long as the study of each may be seen. Raises NotPermitted when that ends."""
        if not self.visible.confined:
            yield from rows
            return
        lasting = Lasting(lambda study: bool(self.seen([study])))
        for row in rows:
            lasting.still(study_of(row))
            yield row

    def seen(self, studies: Iterable[str]) -> set[str]:
        """Which of these studies may be seen, of those that are here."""
        listed = sorted(set(studies))
        if not self.visible.confined:
            return set(listed)
        found: set[str] = set()
        for start in range(0, len(listed), IN_LIST_MAX):
            where = one_of("s.study", listed[start : start + IN_LIST_MAX]) & self.where
            statement = f"SELECT {STUDY_COLUMNS} FROM studies s NOT INDEXED WHERE {where.text} ORDER BY s.study"
            found.update(row[0] for row in self.only(self.read(statement, where.values)))
        return found

    def of_patient(self, raw_id: str, issuer: str) -> list[Found]:
        """The patient's studies that may be seen, the one that was received first at the head; remembered for the patient asked about last."""
        if self._last is None or self._last[0] != (raw_id, issuer):
            where = self.where & of_class(self.visible.sop_classes, "c.study = s.study")
            statement = (
                f"SELECT {STUDY_COLUMNS} FROM studies s INDEXED BY studies_owner WHERE s.raw_id = ? AND s.issuer = ? AND {where.text}"
                " ORDER BY s.received, s.source"
            )
            rows = self.only(self.read(statement, (raw_id, issuer, *where.values)))
            self._last = (raw_id, issuer), list(rows)
        return self._last[1]

    def candidates(self) -> list[str] | None:
        """The studies that the rule lets pass, where they are few; None where they are not, or where the rule does not lead to them."""
        way = _way(self.visible.studies)
        if way is None:
            return None
        if not way.text:
            return []
        # Counted first, in the index alone: a department of many studies would be read and sorted to learn that it is too large. A study of several
        # series counts for each of them; where that is too many, the keys of the query lead there as well.
        counted = f"SELECT count(*) FROM (SELECT 1 FROM ({way.text}) LIMIT ?)"
        if int(self.read(counted, (*way.values, CANDIDATES_MAX + 1))[0][0]) > CANDIDATES_MAX:
            return None
        return sorted(row[0] for row in self.read(f"SELECT DISTINCT study FROM ({way.text})", way.values))

    def dossiers(self, rows: Sequence[Found]) -> list[Dossier]:
        """What a decision is given about each study; rows begin with `STUDY_COLUMNS`."""
        said: dict[str, tuple[set[str], set[str]]] = {row[0]: (set(), set()) for row in rows}
        where = among("r.study", said)
        for study, modality, department in self.read(
            f"SELECT r.study, r.modality, r.department FROM series r NOT INDEXED WHERE {where.text}", where.values
        ):
            modalities, departments = said[study]
            modalities.add(modality)
            departments.add(department)
        return [
            Dossier(
                study,
                PatientIdentity(raw_id, issuer),
                frozenset(said[study][1] - {""}),
                clinicians_of(attributes_of(blob)),
                frozenset(said[study][0] - {""}),
            )
            for study, raw_id, issuer, blob, *_ in rows
        ]


# ---- rules in SQL


def condition(rule: StudyRule) -> Condition:
    """True of the studies `s` that a rule shows."""
    match rule:
        case Has(name, values):
            return _HAS[name](values)
        case AnyOf(rules):
            return _joined(" OR ", [condition(each) for each in rules], "0")
        case AllOf(rules):
            return _joined(" AND ", [condition(each) for each in rules], "1")
        case NotSo(inner):
            denied = condition(inner)
            return Condition(f"NOT ({denied.text})", denied.values)


def _joined(word: str, parts: Sequence[Condition], empty: str) -> Condition:
    text = word.join(part.text for part in parts)
    return Condition(f"({text})" if parts else empty, tuple(value for part in parts for value in part.values))


def _said_in_series(column: str) -> Callable[[Iterable[str]], Condition]:
    def condition_of(values: Iterable[str]) -> Condition:
        named = among(f"x.{column}", values)
        exists = f"EXISTS(SELECT 1 FROM series x NOT INDEXED WHERE x.study = s.study AND {named.text})"
        return Condition(exists, named.values)

    return condition_of


def _of_clinician(values: Iterable[str]) -> Condition:
    named = among("k.name", values)
    return Condition(f"EXISTS(SELECT 1 FROM study_clinicians k WHERE {named.text} AND k.study = s.study)", named.values)


_HAS: Mapping[str, Callable[[Iterable[str]], Condition]] = {
    "study": lambda values: among("s.study", values),
    "patient": lambda values: among(_OWNER, values),
    "department": _said_in_series("department"),
    "modality": _said_in_series("modality"),
    "clinician": _of_clinician,
}


def _way(rule: StudyRule) -> Condition | None:
    """A statement whose column `study` names the studies that the rule lets pass; None where no index leads to exactly them."""
    match rule:
        case Has(name, values) if name in _WAYS:
            return Condition(_WAYS[name], (json.dumps(sorted(values)),))
        case AnyOf(rules):
            ways = [_way(each) for each in rules]
            if any(way is None for way in ways):
                return None
            known = [way for way in ways if way is not None and way.text]
            bound: tuple[Value, ...] = tuple(value for way in known for value in way.values)
            return Condition(" UNION ALL ".join(way.text for way in known), bound)
        case _:
            return None


_WAYS: Mapping[str, str] = {
    "study": "SELECT value AS study FROM json_each(?)",
    "patient": _OWNED,
    "department": (
        "SELECT study FROM series INDEXED BY series_department"
        " WHERE department != '' AND department IN (SELECT value FROM json_each(?))"
    ),
    "clinician": "SELECT study FROM study_clinicians WHERE name IN (SELECT value FROM json_each(?))",
}
