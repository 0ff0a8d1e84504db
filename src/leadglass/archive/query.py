"""How does a query become pages of answers? One index of the tables is walked, the other keys narrow, `matching` decides.

Which index is walked is said in each statement and never left to statistics, so that exact keys stay logarithmic. Each page is a read of
its own (keyset pagination in the order of that index), so no reader holds up a writer, and a query is dropped between any two answers.
Hierarchical, as the Standard's baseline is: one value in the unique key of every level above (PS3.4 C.4.1.2.2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from leadglass.archive.index_schema import (
    COLUMNS,
    PATIENT_COUNTS,
    PATIENT_TAGS,
    SERIES_COUNTS,
    SERIES_TAGS,
    STUDY_COUNTS,
    STUDY_TAGS,
)
from leadglass.archive.matching import END, Key, keys_to_match, name_forms, told, unique_values
from leadglass.archive.projection import UNNUMBERED, attributes_of, settled_of
from leadglass.archive.sqlite import Value
from leadglass.terms import Level, Malformed, Mismatched, Query, Retrieval, Root, Settled
from leadglass.wire import tags

PAGE_ROWS = 500
IN_LIST_MAX = 500  # values of one IN (...); a longer list is asked for in parts
SELECTIVE_PREFIX_CHARACTERS = 3

Found = tuple[Any, ...]  # a row of the index; its statement says of what types
Read = Callable[[str, Sequence[Value]], list[Found]]
Row = Mapping[int, str]

_UNIQUE = {
    Level.PATIENT: tags.PATIENT_ID,
    Level.STUDY: tags.STUDY_INSTANCE_UID,
    Level.SERIES: tags.SERIES_INSTANCE_UID,
    Level.IMAGE: tags.SOP_INSTANCE_UID,
}
_LEVELS = tuple(_UNIQUE)
_COUNTED = PATIENT_COUNTS | STUDY_COUNTS | SERIES_COUNTS
_KNOWN = {
    Level.PATIENT: PATIENT_TAGS | PATIENT_COUNTS,
    Level.STUDY: PATIENT_TAGS | PATIENT_COUNTS | STUDY_TAGS | STUDY_COUNTS,
    Level.SERIES: PATIENT_TAGS | STUDY_TAGS | SERIES_TAGS | _COUNTED,
    Level.IMAGE: tags.INDEXED - {tags.SPECIFIC_CHARACTER_SET} | _COUNTED,
}


@dataclass(frozen=True, slots=True)
class _Condition:
    """A piece of SQL that is true of what is wanted, with its values."""

    text: str = "1"
    values: tuple[Value, ...] = ()

    def __and__(self, other: _Condition) -> _Condition:
        return _Condition(f"{self.text} AND {other.text}", self.values + other.values)


@dataclass(frozen=True, slots=True)
class _Walk:
    """An index that is walked: `source` says which, `order` is its key, the first column of which lies between `low` and `high`.

    `tag`: the key that this serves, which then narrows no more. `name`: the same row may come under several groups of a name. The
    smaller the rank, the fewer rows are expected.
    """

    rank: int
    source: str
    order: tuple[str, ...]
    low: str = ""
    high: str = END
    tag: int = 0
    name: bool = False


def _one_of(column: str, values: Sequence[Value]) -> _Condition:
    return _Condition(f"{column} IN ({', '.join('?' * len(values))})", tuple(values))


def _visible(sop_classes: frozenset[str] | None, *on: str) -> _Condition:
    """That there is, among the counts with these columns in common, one of a visible class."""
    if sop_classes is None:
        return _Condition()
    of_class = _one_of("c.sop_class", sorted(sop_classes))
    return _Condition(f"EXISTS(SELECT 1 FROM counts c WHERE {' AND '.join(on)} AND {of_class.text})", of_class.values)


class _Pages:
    """Reads that never hold more than a page."""

    def __init__(self, read: Read) -> None:
        self.read = read

    def walk(self, columns: str, walk: _Walk, where: _Condition) -> Iterator[Found]:
        """The rows of a walk in its order: first the columns of the order, then those asked for."""
        key, width = ", ".join(walk.order), len(walk.order)
        marks = ", ".join("?" * width)
        after: Sequence[Value] = (walk.low, *[""] * (width - 1))
        operator = ">="
        while True:
            statement = (
                f"SELECT {key}, {columns} FROM {walk.source} WHERE ({key}) {operator} ({marks}) AND {walk.order[0]} <= ?"
                f" AND {where.text} ORDER BY {key} LIMIT ?"
            )
            rows = self.read(statement, (*after, walk.high, *where.values, PAGE_ROWS))
            yield from rows
            if len(rows) < PAGE_ROWS:
                return
            after, operator = rows[-1][:width], ">"

    def listed(self, statement: str, column: str, values: Sequence[str], where: _Condition) -> Iterator[Found]:
        """The rows that a list of values of a unique column names, at most a page at a time."""
        for start in range(0, len(values), IN_LIST_MAX):
            narrowed = _one_of(column, values[start : start + IN_LIST_MAX]) & where
            yield from self.read(f"{statement} WHERE {narrowed.text} ORDER BY {column}", narrowed.values)


class Rows:
    """The answers of one C-FIND. Raises Mismatched, Malformed."""

    def __init__(self, read: Read, query: Query, sop_classes: frozenset[str] | None) -> None:
        self._pages, self._level, self._classes = _Pages(read), query.level, sop_classes
        known = _KNOWN[query.level]
        self._asked = tuple(tag for tag in query.keys if tag in known)
        self._keys = keys_to_match(query.keys, known)
        self._unique = {level: unique_values(query.keys, tag) for level, tag in _UNIQUE.items()}
        top = 0 if query.root is Root.PATIENT else 1
        for upper in _LEVELS[top : _LEVELS.index(query.level)]:
            values = self._unique[upper]
            if len(values) != 1 or (upper is Level.PATIENT and ("*" in values[0] or "?" in values[0])):
                raise Mismatched(
                    f"a query at {query.level} level needs one value in the unique key of {upper} level {told(_UNIQUE[upper])}:"
                    " queries are hierarchical"
                )

    def answers(self) -> Iterator[Row]:
        """Rows of tag -> text, at most one page read ahead."""
        match self._level:
            case Level.PATIENT:
                yield from self._patients()
            case Level.STUDY:
                yield from self._studies()
            case Level.SERIES:
                yield from self._series()
            case Level.IMAGE:
                yield from self._instances()

    # ---- levels

    def _patients(self) -> Iterator[Row]:
        visible = _visible(self._classes, "c.study = s.study")
        confined = _Condition()
        if self._classes is not None:
            owned = "EXISTS(SELECT 1 FROM studies s INDEXED BY studies_owner WHERE s.raw_id = p.raw_id AND s.issuer = p.issuer"
            confined = _Condition(f"{owned} AND {visible.text})", visible.values)
        for walk in _patient_walks(self._keys):
            where = _narrow(self._keys, "p", {tags.PATIENT_ID, tags.PATIENT_NAME} - {walk.tag}) & confined
            for *place, raw_id, issuer, blob in self._pages.walk("p.raw_id, p.issuer, p.attributes", walk, where):
                row = {**attributes_of(blob), tags.PATIENT_ID: raw_id, tags.ISSUER_OF_PATIENT_ID: issuer}
                if not (walk.name and _met_before(walk, place[0], row)):
                    yield from self._answer(row, _Counts(self._pages.read, self._classes, raw_id, issuer))

    def _studies(self) -> Iterator[Row]:
        visible = _visible(self._classes, "c.study = s.study")
        if uids := self._unique[Level.STUDY]:
            for found in self._pages.listed(f"SELECT {_STUDY} FROM studies s NOT INDEXED", "s.study", uids, visible):
                yield from self._study(found)
            return
        for walk in _study_walks(self._keys):
            where = _narrow(self._keys, "s", COLUMNS.keys() - {walk.tag}) & _of_modality(self._keys) & visible
            last = ""
            for found in self._pages.walk(_STUDY, walk, where):
                place, own = found[0], found[len(walk.order) :]
                if own[0] != last and not (walk.name and _met_before(walk, place, _study_row(own))):
                    yield from self._study(own)
                last = own[0]

    def _study(self, found: Found) -> Iterator[Row]:
        study, raw_id, issuer, _ = found
        yield from self._answer(_study_row(found), _Counts(self._pages.read, self._classes, raw_id, issuer, study))

    def _series(self) -> Iterator[Row]:
        for row, counts in self._series_above(self._unique[Level.SERIES]):
            yield from self._answer(row, counts)

    def _instances(self) -> Iterator[Row]:
        for upper, counts in self._series_above(self._unique[Level.SERIES]):
            for sop, sop_class, blob in self._instances_of(counts.study, counts.series):
                own = {tags.SOP_INSTANCE_UID: sop, tags.SOP_CLASS_UID: sop_class}
                yield from self._answer({**upper, **attributes_of(blob), **own}, counts)

    def _series_above(self, wanted: Sequence[str]) -> Iterator[tuple[Row, _Counts]]:
        """The series of the study that the keys name, those of `wanted` where there are some, each with what it inherits."""
        studies = self._pages.listed(
            f"SELECT {_STUDY} FROM studies s", "s.study", self._unique[Level.STUDY], _Condition()
        )
        for found in studies:
            study, raw_id, issuer, _ = found
            above = _study_row(found)
            where = _Condition("r.study = ?", (study,)) & _visible(
                self._classes, "c.study = r.study", "c.series = r.series"
            )
            if wanted:
                rows = self._pages.listed(
                    "SELECT r.series, r.attributes FROM series r NOT INDEXED", "r.series", wanted, where
                )
            else:
                walk = _Walk(0, "series r NOT INDEXED", ("r.series",))
                rows = (row[1:] for row in self._pages.walk("r.series, r.attributes", walk, where))
            for series, blob in rows:
                counts = _Counts(self._pages.read, self._classes, raw_id, issuer, study, series)
                yield {**above, **attributes_of(blob), tags.SERIES_INSTANCE_UID: series}, counts

    def _instances_of(self, study: str, series: str) -> Iterator[Found]:
        where = _Condition("i.study = ? AND i.series = ?", (study, series))
        if self._classes is not None:
            where &= _one_of("i.sop_class", sorted(self._classes))
        columns = "i.sop, i.sop_class, i.attributes"
        if uids := self._unique[Level.IMAGE]:
            yield from self._pages.listed(
                f"SELECT {columns} FROM instances i INDEXED BY instances_sop", "i.sop", uids, where
            )
            return
        after: tuple[Value, ...] = (-UNNUMBERED, "")
        statement = f"SELECT i.number, {columns} FROM instances i NOT INDEXED WHERE {where.text} AND (i.number, i.sop) > (?, ?) ORDER BY i.number, i.sop LIMIT ?"
        while True:
            rows = self._pages.read(statement, (*where.values, *after, PAGE_ROWS))
            yield from (row[1:] for row in rows)
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1][:2]

    # ---- one answer

    def _answer(self, row: Row, counts: _Counts) -> Iterator[Row]:
        def value(tag: int) -> str:
            return counts.told(tag) if tag in _COUNTED else row.get(tag, "")

        if all(key.matches(value(key.tag)) for key in self._keys):
            yield {tag: value(tag) for tag in self._asked}


_STUDY = "s.study, s.raw_id, s.issuer, s.attributes"


class _Counts:
    """What is counted for one answer, once, and only if it is asked for."""

    def __init__(
        self,
        read: Read,
        sop_classes: frozenset[str] | None,
        raw_id: str,
        issuer: str,
        study: str = "",
        series: str = "",
    ) -> None:
        self.study, self.series = study, series
        self._read, self._owner = read, (raw_id, issuer)
        self._of_class = _Condition() if sop_classes is None else _one_of("c.sop_class", sorted(sop_classes))
        self._of_study: dict[int, str] = {}
        self._of_patient: dict[int, str] = {}

    def told(self, tag: int) -> str:
        if tag in PATIENT_COUNTS:
            self._of_patient = self._of_patient or self._count_patient()
            return self._of_patient[tag]
        self._of_study = self._of_study or self._count_study()
        return self._of_study[tag]

    def _count_patient(self) -> dict[int, str]:
        statement = (
            "SELECT count(DISTINCT study), count(*), coalesce(sum(n), 0) FROM (SELECT c.study, c.series, sum(c.instances) AS n"
            " FROM studies s INDEXED BY studies_owner CROSS JOIN counts c ON c.study = s.study WHERE s.raw_id = ? AND s.issuer = ?"
            f" AND {self._of_class.text} GROUP BY c.study, c.series) AS each_series"
        )
        studies, series, instances = self._read(statement, (*self._owner, *self._of_class.values))[0]
        return {
            tags.NUMBER_OF_PATIENT_RELATED_STUDIES: str(studies),
            tags.NUMBER_OF_PATIENT_RELATED_SERIES: str(series),
            tags.NUMBER_OF_PATIENT_RELATED_INSTANCES: str(instances),
        }

    def _count_study(self) -> dict[int, str]:
        statement = (
            "SELECT c.series, c.sop_class, c.instances, r.modality FROM counts c CROSS JOIN series r ON r.study = c.study AND r.series = c.series"
            f" WHERE c.study = ? AND {self._of_class.text}"
        )
        rows = self._read(statement, (self.study, *self._of_class.values))
        return {
            tags.MODALITIES_IN_STUDY: "\\".join(sorted({row[3] for row in rows} - {""})),
            tags.SOP_CLASSES_IN_STUDY: "\\".join(sorted({row[1] for row in rows})),
            tags.NUMBER_OF_STUDY_RELATED_SERIES: str(len({row[0] for row in rows})),
            tags.NUMBER_OF_STUDY_RELATED_INSTANCES: str(sum(row[2] for row in rows)),
            tags.NUMBER_OF_SERIES_RELATED_INSTANCES: str(sum(row[2] for row in rows if row[0] == self.series)),
        }


class Selection:
    """What the unique keys of a C-GET or C-MOVE select. Raises Mismatched, Malformed.

    The unique key of its own level is required, those of the levels above confine where they are there: UIDs are unique by themselves, and
    many requestors leave them out. A Patient ID is taken exactly, in its case: it decides what leaves.
    """

    def __init__(self, read: Read, retrieval: Retrieval, sop_classes: frozenset[str] | None) -> None:
        self._pages, self._level = _Pages(read), retrieval.level
        self._unique = {level: unique_values(retrieval.keys, tag) for level, tag in _UNIQUE.items()}
        if retrieval.root is Root.STUDY:
            self._unique[Level.PATIENT] = ()
        if not self._unique[retrieval.level]:
            raise Mismatched(
                f"a retrieval at {retrieval.level} level without its unique key {told(_UNIQUE[retrieval.level])}"
            )
        for upper in _LEVELS[: _LEVELS.index(retrieval.level)]:
            if len(self._unique[upper]) > IN_LIST_MAX:
                raise Malformed(f"more than {IN_LIST_MAX} values in the key {told(_UNIQUE[upper])} of a level above")
        self._of_class = _Condition() if sop_classes is None else _one_of("c.sop_class", sorted(sop_classes))
        self._issuers = unique_values(retrieval.keys, tags.ISSUER_OF_PATIENT_ID)

    def count(self) -> int:
        """How many instances `instances` yields, if nothing changes meanwhile."""
        if self._level is Level.IMAGE:
            return len(self._places())
        counted = f"SELECT coalesce(sum(c.instances), 0) FROM counts c WHERE c.study = ? AND {self._of_class.text}"
        total = 0
        for study, series in self._scopes():
            values = (study, *self._of_class.values, *((series,) if series else ()))
            total += int(self._pages.read(counted + (" AND c.series = ?" if series else ""), values)[0][0])
        return total

    def instances(self) -> Iterator[Settled]:
        """In the order of study, series and instance number."""
        if self._level is Level.IMAGE:
            for *_, sop in self._places():
                found = self._pages.read("SELECT settled FROM versions WHERE sop = ? AND standing = 'current'", (sop,))
                yield from (settled_of(row[0]) for row in found)
            return
        for study, series in self._scopes():
            where = _Condition("c.study = ?", (study,)) & self._of_class
            if series:
                where &= _Condition("c.series = ?", (series,))
            yield from self._page_through(where)

    def _page_through(self, where: _Condition) -> Iterator[Settled]:
        statement = (
            "SELECT c.series, c.number, c.sop, v.settled FROM instances c NOT INDEXED CROSS JOIN versions v ON v.sop = c.sop AND v.standing = 'current'"
            f" WHERE {where.text} AND (c.series, c.number, c.sop) > (?, ?, ?) ORDER BY c.series, c.number, c.sop LIMIT ?"
        )
        after: tuple[Value, ...] = ("", -UNNUMBERED, "")
        while True:
            rows = self._pages.read(statement, (*where.values, *after, PAGE_ROWS))
            yield from (settled_of(row[3]) for row in rows)
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1][:3]

    def _scopes(self) -> Iterator[tuple[str, str]]:
        """The studies that are selected whole, or the series, in order."""
        match self._level:
            case Level.PATIENT:
                owned = _one_of("s.raw_id", self._unique[Level.PATIENT][:IN_LIST_MAX])
                if self._issuers:
                    owned &= _one_of("s.issuer", self._issuers[:IN_LIST_MAX])
                found = self._pages.read(
                    f"SELECT s.study FROM studies s INDEXED BY studies_owner WHERE {owned.text} ORDER BY s.study",
                    owned.values,
                )
            case Level.STUDY:
                found = list(
                    self._pages.listed(
                        "SELECT s.study FROM studies s NOT INDEXED",
                        "s.study",
                        self._unique[Level.STUDY],
                        self._above("s"),
                    )
                )
            case _:
                series = "SELECT s.study, s.series FROM series s INDEXED BY series_series"
                found = sorted(self._pages.listed(series, "s.series", self._unique[Level.SERIES], self._above("s")))
        yield from ((row[0], row[1] if len(row) > 1 else "") for row in found)

    def _places(self) -> list[Found]:
        """Where the images that are asked for stand in the order; at most as many as a key has values."""
        where = self._above("c") & self._of_class
        if self._unique[Level.SERIES]:
            where &= _one_of("c.series", self._unique[Level.SERIES])
        statement = "SELECT c.study, c.series, c.number, c.sop FROM instances c INDEXED BY instances_sop"
        return sorted(self._pages.listed(statement, "c.sop", self._unique[Level.IMAGE], where))

    def _above(self, alias: str) -> _Condition:
        """What the keys of patient and study confine."""
        where = _Condition()
        if self._level is not Level.STUDY and self._unique[Level.STUDY]:
            where &= _one_of(f"{alias}.study", self._unique[Level.STUDY])
        if patients := self._unique[Level.PATIENT]:
            owned = _one_of("o.raw_id", patients)
            where &= _Condition(
                f"EXISTS(SELECT 1 FROM studies o WHERE o.study = {alias}.study AND {owned.text})", owned.values
            )
        return where


# ---- which index is walked, and what narrows


def _study_walks(keys: Sequence[Key]) -> Sequence[_Walk]:
    """The way that is expected to meet the fewest rows; several where a key has several values."""
    ways: list[list[_Walk]] = [[_Walk(9, "studies s NOT INDEXED", ("s.study",))]]
    for key in keys:
        if key.tag == tags.PATIENT_NAME and key.prefix:
            ways.append([_name_walk(key, "study_names n CROSS JOIN studies s ON s.study = n.study", ("n.study",))])
        elif key.tag == tags.MODALITIES_IN_STUDY and len(key.exact) == 1:
            source = "series d INDEXED BY series_modality CROSS JOIN studies s ON s.study = d.study"
            modality = key.exact[0].upper()
            ways.append([_Walk(8, source, ("d.modality", "d.study"), modality, modality)])
        elif key.tag in COLUMNS:
            ways.append(_column_walks(key, "studies", ("s.study",)))
    return min((way for way in ways if way), key=lambda way: way[0].rank)


def _patient_walks(keys: Sequence[Key]) -> Sequence[_Walk]:
    ways: list[list[_Walk]] = [[_Walk(9, "patients p NOT INDEXED", ("p.raw_id", "p.issuer"))]]
    for key in keys:
        if key.tag == tags.PATIENT_NAME and key.prefix:
            source = "patient_names n CROSS JOIN patients p ON p.raw_id = n.raw_id AND p.issuer = n.issuer"
            ways.append([_name_walk(key, source, ("n.raw_id", "n.issuer"))])
        elif key.tag == tags.PATIENT_ID:
            ways.append(_column_walks(key, "patients", ("p.raw_id", "p.issuer")))
    return min((way for way in ways if way), key=lambda way: way[0].rank)


def _column_walks(key: Key, table: str, rest: tuple[str, ...]) -> list[_Walk]:
    alias, column = table[0], COLUMNS[key.tag]
    source, order = f"{table} {alias} INDEXED BY {table}_{column}", (f"{alias}.{column}", *rest)
    if key.span is not None:
        first, last = key.span
        return [_Walk(4 if "~" not in last and first != "0" else 7, source, order, first, last, key.tag)]
    if key.exact:
        rank = {tags.ACCESSION_NUMBER: 1, tags.PATIENT_ID: 2}.get(key.tag, 6)
        return [_Walk(rank, source, order, value, value, key.tag) for value in key.exact]
    return [_Walk(5, source, order, key.prefix, key.prefix + END, key.tag)] if key.prefix else []


def _name_walk(key: Key, source: str, rest: tuple[str, ...]) -> _Walk:
    rank = 3 if len(key.prefix) >= SELECTIVE_PREFIX_CHARACTERS else 5
    return _Walk(rank, source, ("n.name", *rest), key.prefix, key.prefix + END, key.tag, name=True)


def _met_before(walk: _Walk, place: str, row: Row) -> bool:
    """Whether another group of the name led to this row already."""
    forms = (form for form in name_forms(row.get(tags.PATIENT_NAME, "")) if walk.low <= form <= walk.high)
    return place != min(forms)


def _narrow(keys: Sequence[Key], alias: str, known: Set[int]) -> _Condition:
    """What the keys of `known` confine. It leaves out no row that matches; `matching` decides about the rest."""
    where = _Condition()
    for key in keys:
        if key.tag not in known:
            continue
        column = f"{alias}.{COLUMNS[key.tag]}"
        if key.span is not None:
            where &= _Condition(f"{column} BETWEEN ? AND ?", key.span)
        elif key.exact and len(key.exact) <= IN_LIST_MAX:
            where &= _one_of(column, key.exact)
        elif key.piece:
            where &= _Condition(f"instr({column}, ?) > 0", (key.piece,))
    return where


def _of_modality(keys: Sequence[Key]) -> _Condition:
    key = next((key for key in keys if key.tag == tags.MODALITIES_IN_STUDY and key.exact), None)
    if key is None or len(key.exact) > IN_LIST_MAX:
        return _Condition()
    wanted = _one_of("m.modality", [value.upper() for value in key.exact])
    return _Condition(
        f"EXISTS(SELECT 1 FROM series m NOT INDEXED WHERE m.study = s.study AND {wanted.text})", wanted.values
    )


def _study_row(found: Found) -> Row:
    study, raw_id, issuer, blob = found
    own = {tags.STUDY_INSTANCE_UID: study, tags.PATIENT_ID: raw_id, tags.ISSUER_OF_PATIENT_ID: issuer}
    return {**attributes_of(blob), **own}
