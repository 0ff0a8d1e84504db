"""How does a query become pages of answers? One index of the tables is walked, the other keys narrow, `matching` decides.

Which index is walked is said in each statement and never left to statistics, so that exact keys stay logarithmic. A query is dropped between
any two answers. Who may see some studies only gets the answers that an index of those studies would give: `visibility` says which they are.
Hierarchical, as the Standard's baseline is: one value in the unique key of every level above (PS3.4 C.4.1.2.2.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

from leadglass.archive import paging
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
from leadglass.archive.paging import Condition, Found, Pages, Read, Walk, among, one_of
from leadglass.archive.projection import UNNUMBERED, attributes_of
from leadglass.archive.sqlite import Value
from leadglass.archive.visibility import RECHECK_ROWS, STUDY_COLUMNS, Sight, Visibility, of_class
from leadglass.terms import Level, Mismatched, Query, Root
from leadglass.wire import tags

SELECTIVE_PREFIX_CHARACTERS = 3
BROAD_RANK = 3  # of a walk: from here on the few studies of somebody who sees few are the shorter way

Row = Mapping[int, str]

UNIQUE = {
    Level.PATIENT: tags.PATIENT_ID,
    Level.STUDY: tags.STUDY_INSTANCE_UID,
    Level.SERIES: tags.SERIES_INSTANCE_UID,
    Level.IMAGE: tags.SOP_INSTANCE_UID,
}
LEVELS = tuple(UNIQUE)
_COUNTED = PATIENT_COUNTS | STUDY_COUNTS | SERIES_COUNTS
_KNOWN = {
    Level.PATIENT: PATIENT_TAGS | PATIENT_COUNTS,
    Level.STUDY: PATIENT_TAGS | PATIENT_COUNTS | STUDY_TAGS | STUDY_COUNTS,
    Level.SERIES: PATIENT_TAGS | STUDY_TAGS | SERIES_TAGS | _COUNTED,
    Level.IMAGE: tags.INDEXED - {tags.SPECIFIC_CHARACTER_SET} | _COUNTED,
}


class Rows:
    """The answers of one C-FIND. Raises Mismatched, Malformed; NotPermitted where the right to see them ends in their middle."""

    def __init__(self, read: Read, query: Query, visible: Visibility) -> None:
        self._pages = Pages(read, RECHECK_ROWS) if visible.confined else Pages(read)
        self._level, self._classes = query.level, visible.sop_classes
        self._sight = Sight(read, visible)
        known = _KNOWN[query.level]
        self._asked = tuple(tag for tag in query.keys if tag in known)
        self._keys = keys_to_match(query.keys, known)
        self._unique = {level: unique_values(query.keys, tag) for level, tag in UNIQUE.items()}
        top = 0 if query.root is Root.PATIENT else 1
        for upper in LEVELS[top : LEVELS.index(query.level)]:
            values = self._unique[upper]
            if len(values) != 1 or (upper is Level.PATIENT and ("*" in values[0] or "?" in values[0])):
                raise Mismatched(
                    f"a query at {query.level} level needs one value in the unique key of {upper} level {told(UNIQUE[upper])}:"
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
        if self._sight.visible.confined:
            yield from self._patients_seen()
            return
        visible = of_class(self._classes, "c.study = s.study")
        confined = Condition()
        if self._classes is not None:
            owned = "EXISTS(SELECT 1 FROM studies s INDEXED BY studies_owner WHERE s.raw_id = p.raw_id AND s.issuer = p.issuer"
            confined = Condition(f"{owned} AND {visible.text})", visible.values)
        for walk in _patient_walks(self._keys):
            where = _narrow(self._keys, "p", {tags.PATIENT_ID, tags.PATIENT_NAME} - {walk.tag}) & confined
            for *place, raw_id, issuer, blob in self._pages.walk("p.raw_id, p.issuer, p.attributes", walk, where):
                row = {**attributes_of(blob), tags.PATIENT_ID: raw_id, tags.ISSUER_OF_PATIENT_ID: issuer}
                if not (walk.name and _met_before(walk, place[0], row)):
                    yield from self._answer(row, self._counts(raw_id, issuer))

    def _patients_seen(self) -> Iterator[Row]:
        """A patient is there by the studies that may be seen, and is as the one says that was received first."""
        for found in self._sight.only(self._places(())):
            study, raw_id, issuer, blob = found
            if self._sight.of_patient(raw_id, issuer)[0][0] == study:
                said = {tag: text for tag, text in attributes_of(blob).items() if tag in PATIENT_TAGS}
                row = {**said, tags.PATIENT_ID: raw_id, tags.ISSUER_OF_PATIENT_ID: issuer}
                yield from self._answer(row, self._counts(raw_id, issuer))

    def _studies(self) -> Iterator[Row]:
        for found in self._sight.only(self._places(self._unique[Level.STUDY])):
            study, raw_id, issuer, _ = found
            yield from self._answer(_study_row(found), self._counts(raw_id, issuer, study))

    def _places(self, uids: Sequence[str]) -> Iterator[Found]:
        """Each study once that the keys do not leave out and the rule lets pass."""
        shown = of_class(self._classes, "c.study = s.study")
        visible = shown & self._sight.where
        listed = f"SELECT {STUDY_COLUMNS} FROM studies s NOT INDEXED"
        if uids:
            yield from self._pages.listed(listed, "s.study", uids, visible)
            return
        walks = _study_walks(self._keys)
        if walks[0].rank >= BROAD_RANK and self._sight.visible.confined:
            few = self._sight.candidates()
            if few is not None:
                where = _narrow(self._keys, "s", COLUMNS.keys()) & _of_modality(self._keys) & shown
                yield from self._pages.listed(listed, "s.study", few, where)
                return
        for walk in walks:
            where = _narrow(self._keys, "s", COLUMNS.keys() - {walk.tag}) & _of_modality(self._keys) & visible
            last = ""
            for found in self._pages.walk(STUDY_COLUMNS, walk, where):
                place, own = found[0], found[len(walk.order) :]
                if own[0] != last and not (walk.name and _met_before(walk, place, _study_row(own))):
                    yield own
                last = own[0]

    def _series(self) -> Iterator[Row]:
        for row, counts in self._while_seen(self._series_above(self._unique[Level.SERIES])):
            yield from self._answer(row, counts)

    def _instances(self) -> Iterator[Row]:
        for row, counts in self._while_seen(self._instances_below()):
            yield from self._answer(row, counts)

    def _instances_below(self) -> Iterator[tuple[Row, _Counts]]:
        for upper, counts in self._series_above(self._unique[Level.SERIES]):
            for sop, sop_class, blob in self._instances_of(counts.study, counts.series):
                own = {tags.SOP_INSTANCE_UID: sop, tags.SOP_CLASS_UID: sop_class}
                yield {**upper, **attributes_of(blob), **own}, counts

    def _while_seen(self, rows: Iterator[tuple[Row, _Counts]]) -> Iterator[tuple[Row, _Counts]]:
        return self._sight.while_seen(rows, lambda row: row[1].study)

    def _series_above(self, wanted: Sequence[str]) -> Iterator[tuple[Row, _Counts]]:
        """The series of the study that the keys name, those of `wanted` where there are some, each with what it inherits."""
        studies = self._pages.listed(
            f"SELECT {STUDY_COLUMNS} FROM studies s", "s.study", self._unique[Level.STUDY], self._sight.where
        )
        for found in self._sight.only(studies):
            study, raw_id, issuer, _ = found
            above = _study_row(found)
            where = Condition("r.study = ?", (study,)) & of_class(
                self._classes, "c.study = r.study", "c.series = r.series"
            )
            if wanted:
                rows = self._pages.listed(
                    "SELECT r.series, r.attributes FROM series r NOT INDEXED", "r.series", wanted, where
                )
            else:
                walk = Walk(0, "series r NOT INDEXED", ("r.series",))
                rows = (row[1:] for row in self._pages.walk("r.series, r.attributes", walk, where))
            for series, blob in rows:
                counts = self._counts(raw_id, issuer, study, series)
                yield {**above, **attributes_of(blob), tags.SERIES_INSTANCE_UID: series}, counts

    def _instances_of(self, study: str, series: str) -> Iterator[Found]:
        where = Condition("i.study = ? AND i.series = ?", (study, series))
        if self._classes is not None:
            where &= one_of("i.sop_class", sorted(self._classes))
        columns = "i.sop, i.sop_class, i.attributes"
        if uids := self._unique[Level.IMAGE]:
            yield from self._pages.listed(
                f"SELECT {columns} FROM instances i INDEXED BY instances_sop", "i.sop", uids, where
            )
            return
        after: tuple[Value, ...] = (-UNNUMBERED, "")
        statement = f"SELECT i.number, {columns} FROM instances i NOT INDEXED WHERE {where.text} AND (i.number, i.sop) > (?, ?) ORDER BY i.number, i.sop LIMIT ?"
        while True:
            rows = self._pages.read(statement, (*where.values, *after, paging.PAGE_ROWS))
            yield from (row[1:] for row in rows)
            if len(rows) < paging.PAGE_ROWS:
                return
            after = rows[-1][:2]

    # ---- one answer

    def _counts(self, raw_id: str, issuer: str, study: str = "", series: str = "") -> _Counts:
        return _Counts(self._pages.read, self._sight, raw_id, issuer, study, series)

    def _answer(self, row: Row, counts: _Counts) -> Iterator[Row]:
        def value(tag: int) -> str:
            return counts.told(tag) if tag in _COUNTED else row.get(tag, "")

        if all(key.matches(value(key.tag)) for key in self._keys):
            yield {tag: value(tag) for tag in self._asked}


class _Counts:
    """What is counted for one answer, once, and only if it is asked for."""

    def __init__(
        self,
        read: Read,
        sight: Sight,
        raw_id: str,
        issuer: str,
        study: str = "",
        series: str = "",
    ) -> None:
        self.study, self.series = study, series
        self._read, self._sight, self._owner = read, sight, (raw_id, issuer)
        sop_classes = sight.visible.sop_classes
        self._of_class = Condition() if sop_classes is None else one_of("c.sop_class", sorted(sop_classes))
        self._of_study: dict[int, str] = {}
        self._of_patient: dict[int, str] = {}

    def told(self, tag: int) -> str:
        if tag in PATIENT_COUNTS:
            self._of_patient = self._of_patient or self._count_patient()
            return self._of_patient[tag]
        self._of_study = self._of_study or self._count_study()
        return self._of_study[tag]

    def _count_patient(self) -> dict[int, str]:
        whose = Condition(
            "studies s INDEXED BY studies_owner CROSS JOIN counts c ON c.study = s.study WHERE s.raw_id = ? AND s.issuer = ?",
            self._owner,
        )
        if self._sight.visible.confined:
            seen = among("c.study", [row[0] for row in self._sight.of_patient(*self._owner)])
            whose = Condition(f"counts c WHERE {seen.text}", seen.values)
        statement = (
            "SELECT count(DISTINCT study), count(*), coalesce(sum(n), 0) FROM (SELECT c.study, c.series, sum(c.instances) AS n"
            f" FROM {whose.text} AND {self._of_class.text} GROUP BY c.study, c.series) AS each_series"
        )
        studies, series, instances = self._read(statement, (*whose.values, *self._of_class.values))[0]
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


# ---- which index is walked, and what narrows


def _study_walks(keys: Sequence[Key]) -> Sequence[Walk]:
    """The way that is expected to meet the fewest rows; several where a key has several values."""
    ways: list[list[Walk]] = [[Walk(9, "studies s NOT INDEXED", ("s.study",))]]
    for key in keys:
        if key.tag == tags.PATIENT_NAME and key.prefix:
            ways.append([_name_walk(key, "study_names n CROSS JOIN studies s ON s.study = n.study", ("n.study",))])
        elif key.tag == tags.MODALITIES_IN_STUDY and len(key.exact) == 1:
            source = "series d INDEXED BY series_modality CROSS JOIN studies s ON s.study = d.study"
            modality = key.exact[0].upper()
            ways.append([Walk(8, source, ("d.modality", "d.study"), modality, modality)])
        elif key.tag in COLUMNS:
            ways.append(_column_walks(key, "studies", ("s.study",)))
    return min((way for way in ways if way), key=lambda way: way[0].rank)


def _patient_walks(keys: Sequence[Key]) -> Sequence[Walk]:
    ways: list[list[Walk]] = [[Walk(9, "patients p NOT INDEXED", ("p.raw_id", "p.issuer"))]]
    for key in keys:
        if key.tag == tags.PATIENT_NAME and key.prefix:
            source = "patient_names n CROSS JOIN patients p ON p.raw_id = n.raw_id AND p.issuer = n.issuer"
            ways.append([_name_walk(key, source, ("n.raw_id", "n.issuer"))])
        elif key.tag == tags.PATIENT_ID:
            ways.append(_column_walks(key, "patients", ("p.raw_id", "p.issuer")))
    return min((way for way in ways if way), key=lambda way: way[0].rank)


def _column_walks(key: Key, table: str, rest: tuple[str, ...]) -> list[Walk]:
    alias, column = table[0], COLUMNS[key.tag]
    source, order = f"{table} {alias} INDEXED BY {table}_{column}", (f"{alias}.{column}", *rest)
    if key.span is not None:
        first, last = key.span
        return [Walk(4 if "~" not in last and first != "0" else 7, source, order, first, last, key.tag)]
    if key.exact:
        rank = {tags.ACCESSION_NUMBER: 1, tags.PATIENT_ID: 2}.get(key.tag, 6)
        return [Walk(rank, source, order, value, value, key.tag) for value in key.exact]
    return [Walk(5, source, order, key.prefix, key.prefix + END, key.tag)] if key.prefix else []


def _name_walk(key: Key, source: str, rest: tuple[str, ...]) -> Walk:
    rank = 3 if len(key.prefix) >= SELECTIVE_PREFIX_CHARACTERS else 5
    return Walk(rank, source, ("n.name", *rest), key.prefix, key.prefix + END, key.tag, name=True)


def _met_before(walk: Walk, place: str, row: Row) -> bool:
    """Whether another group of the name led to this row already."""
    forms = (form for form in name_forms(row.get(tags.PATIENT_NAME, "")) if walk.low <= form <= walk.high)
    return place != min(forms)


def _narrow(keys: Sequence[Key], alias: str, known: Set[int]) -> Condition:
    """What the keys of `known` confine. It leaves out no row that matches; `matching` decides about the rest."""
    where = Condition()
    for key in keys:
        if key.tag not in known:
            continue
        column = f"{alias}.{COLUMNS[key.tag]}"
        if key.span is not None:
            where &= Condition(f"{column} BETWEEN ? AND ?", key.span)
        elif key.exact and len(key.exact) <= paging.IN_LIST_MAX:
            where &= one_of(column, key.exact)
        elif key.piece:
            where &= Condition(f"instr({column}, ?) > 0", (key.piece,))
    return where


def _of_modality(keys: Sequence[Key]) -> Condition:
    key = next((key for key in keys if key.tag == tags.MODALITIES_IN_STUDY and key.exact), None)
    if key is None or len(key.exact) > paging.IN_LIST_MAX:
        return Condition()
    wanted = one_of("m.modality", [value.upper() for value in key.exact])
    return Condition(
        f"EXISTS(SELECT 1 FROM series m NOT INDEXED WHERE m.study = s.study AND {wanted.text})", wanted.values
    )


def _study_row(found: Found) -> Row:
    study, raw_id, issuer, blob = found
    own = {tags.STUDY_INSTANCE_UID: study, tags.PATIENT_ID: raw_id, tags.ISSUER_OF_PATIENT_ID: issuer}
    return {**attributes_of(blob), **own}
