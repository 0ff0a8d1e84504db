"""How does a query become pages of answers? SQL narrows by the index's columns, `matching` decides, the keys that were asked for leave.

Each page is a read of its own (keyset pagination), so no reader holds up a writer, and a query is dropped between any two answers.
Hierarchical, as the Standard's baseline is: the unique key of every level above is required (PS3.4 C.4.1.2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from leadglass.archive.index_schema import PATIENT_COLUMNS, PATIENT_TAGS, SERIES_TAGS, STUDY_COLUMNS, STUDY_TAGS
from leadglass.archive.matching import Key, column_text, keys_to_match
from leadglass.archive.sqlite import Value
from leadglass.terms import Level, Mismatched, Query, Retrieval, Root
from leadglass.wire import tags

PAGE_ROWS = 500
IN_LIST_MAX = 500  # values of one IN (...); a longer list is asked for in parts
_attributes = msgspec.msgpack.Decoder(dict[int, str]).decode

Read = Callable[[str, Sequence[Value]], "list[tuple]"]  # type: ignore[type-arg]
Row = Mapping[int, str]

_UNIQUE = {
    Level.PATIENT: tags.PATIENT_ID,
    Level.STUDY: tags.STUDY_INSTANCE_UID,
    Level.SERIES: tags.SERIES_INSTANCE_UID,
    Level.IMAGE: tags.SOP_INSTANCE_UID,
}
_LEVELS = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
_COMPUTED = frozenset(
    (tags.MODALITIES_IN_STUDY, tags.SOP_CLASSES_IN_STUDY, tags.NUMBER_OF_PATIENT_RELATED_STUDIES, tags.NUMBER_OF_PATIENT_RELATED_SERIES,
     tags.NUMBER_OF_PATIENT_RELATED_INSTANCES, tags.NUMBER_OF_STUDY_RELATED_SERIES, tags.NUMBER_OF_STUDY_RELATED_INSTANCES,
     tags.NUMBER_OF_SERIES_RELATED_INSTANCES)
)  # fmt: skip
_SEEN = {
    Level.PATIENT: PATIENT_TAGS,
    Level.STUDY: PATIENT_TAGS | STUDY_TAGS,
    Level.SERIES: PATIENT_TAGS | STUDY_TAGS | SERIES_TAGS,
}
_ROW_COLUMNS = "raw_id, issuer"


class _Visible:
    """A condition on instances that confines to SOP classes, and its values."""

    def __init__(self, sop_classes: frozenset[str] | None) -> None:
        self.all = sop_classes is None
        self.values: tuple[str, ...] = tuple(sorted(sop_classes or ()))
        marks = ", ".join("?" * len(self.values))
        self.condition = "1" if self.all else f"i.sop_class IN ({marks})"


class Rows:
    """The answers of one C-FIND."""

    def __init__(self, read: Read, query: Query, sop_classes: frozenset[str] | None) -> None:
        self._read, self._query, self._visible = read, query, _Visible(sop_classes)
        asked = {tag: value for tag, value in query.keys.items() if tag != tags.SPECIFIC_CHARACTER_SET}
        self._asked = frozenset(asked) - {tags.QUERY_RETRIEVE_LEVEL}
        known = self._known_tags()
        self._keys = tuple(key for key in keys_to_match(asked) if key.tag in known)
        _require_upper_keys(query.root, query.level, query.keys)

    def answers(self) -> Iterator[Row]:
        """Rows of tag -> text, at most one page read ahead."""
        match self._query.level:
            case Level.PATIENT:
                yield from self._patients()
            case Level.STUDY:
                yield from self._studies()
            case Level.SERIES:
                yield from self._series()
            case Level.IMAGE:
                yield from self._instances()

    def _known_tags(self) -> frozenset[int]:
        level = self._query.level
        if level is Level.IMAGE:
            return frozenset(self._asked)
        return (_SEEN[level] | _COMPUTED) - (
            frozenset() if level is not Level.PATIENT else _SEEN[Level.STUDY] - PATIENT_TAGS
        )

    # ---- levels

    def _patients(self) -> Iterator[Row]:
        where, values = _narrow(self._keys, PATIENT_COLUMNS)
        exists = f"EXISTS(SELECT 1 FROM studies s JOIN instances i ON i.study = s.study WHERE s.raw_id = p.raw_id AND s.issuer = p.issuer AND {self._visible.condition})"
        statement = (
            f"SELECT raw_id, issuer, attributes FROM patients p WHERE (raw_id, issuer) > (?, ?) AND {where} AND {exists}"
            " ORDER BY raw_id, issuer LIMIT ?"
        )
        after: tuple[str, str] = ("", "")
        first = True
        while True:
            start = ("", "") if first else after
            rows = self._read(
                statement.replace("> (?, ?)", ">= (?, ?)") if first else statement,
                (*start, *values, *self._visible.values, PAGE_ROWS),
            )
            for raw_id, issuer, blob in rows:
                row = {**_attributes(blob), tags.PATIENT_ID: raw_id, tags.ISSUER_OF_PATIENT_ID: issuer}
                yield from self._answer(row, partial(self._patient_count, raw_id, issuer))
            if len(rows) < PAGE_ROWS:
                return
            after, first = (rows[-1][0], rows[-1][1]), False

    def _studies(self) -> Iterator[Row]:
        where, values = _narrow(self._keys, STUDY_COLUMNS)
        where, values = self._narrow_by_modality(where, values)
        exists = (
            "1"
            if self._visible.all
            else f"EXISTS(SELECT 1 FROM instances i WHERE i.study = studies.study AND {self._visible.condition})"
        )
        statement = (
            f"SELECT study, raw_id, issuer, attributes FROM studies WHERE study > ? AND {where} AND {exists}"
            " ORDER BY study LIMIT ?"
        )
        after = ""
        while True:
            rows = self._read(statement, (after, *values, *self._visible.values, PAGE_ROWS))
            for study, raw_id, issuer, blob in rows:
                yield from self._answer(_with_study(blob, study, raw_id, issuer), partial(self._study_count, study))
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1][0]

    def _series(self) -> Iterator[Row]:
        for study, above in self._studies_above():
            for series, blob in self._read(
                "SELECT series, attributes FROM series WHERE study = ? ORDER BY series", (study,)
            ):
                if self._class_count(study, series) == 0:
                    continue
                row = {**above, **_attributes(blob), tags.SERIES_INSTANCE_UID: series}
                yield from self._answer(row, partial(self._series_count, study, series))

    def _instances(self) -> Iterator[Row]:
        wanted = _values(self._query.keys, tags.SERIES_INSTANCE_UID)
        for study, above in self._studies_above():
            for series, blob in self._read(
                "SELECT series, attributes FROM series WHERE study = ? ORDER BY series", (study,)
            ):
                if wanted and series not in wanted:
                    continue
                upper = {**above, **_attributes(blob), tags.SERIES_INSTANCE_UID: series}
                yield from self._instances_of(study, series, upper)

    def _instances_of(self, study: str, series: str, upper: Row) -> Iterator[Row]:
        statement = (
            "SELECT number, sop, sop_class, attributes FROM instances i WHERE study = ? AND series = ? AND (number, sop) > (?, ?)"
            f" AND {self._visible.condition} ORDER BY number, sop LIMIT ?"
        )
        after: tuple[int, str] = (-(2**62), "")
        while True:
            rows = self._read(statement, (study, series, *after, *self._visible.values, PAGE_ROWS))
            for _, sop, sop_class, blob in rows:
                row = {**upper, **_attributes(blob), tags.SOP_INSTANCE_UID: sop, tags.SOP_CLASS_UID: sop_class}
                yield from self._answer(row, lambda tag: "")
            if len(rows) < PAGE_ROWS:
                return
            after = (rows[-1][0], rows[-1][1])

    def _studies_above(self) -> Iterator[tuple[str, Row]]:
        """The studies that the keys above series level name, each as the row that its series inherit."""
        for part in _parts(_values(self._query.keys, tags.STUDY_INSTANCE_UID)):
            marks = ", ".join("?" * len(part))
            statement = f"SELECT study, raw_id, issuer, attributes FROM studies WHERE study IN ({marks}) ORDER BY study"
            for study, raw_id, issuer, blob in self._read(statement, part):
                yield study, _with_study(blob, study, raw_id, issuer)

    # ---- one answer

    def _answer(self, row: Row, computed: Callable[[int], str]) -> Iterator[Row]:
        for key in self._keys:
            value = computed(key.tag) if key.tag in _COMPUTED else row.get(key.tag, "")
            if not key.matches(value):
                return
        yield {
            tag: computed(tag) if tag in _COMPUTED else row.get(tag, "")
            for tag in self._asked
            if tag in _COMPUTED or tag in row or tag in _SEEN.get(self._query.level, self._asked)
        }

    def _narrow_by_modality(self, where: str, values: list[Value]) -> tuple[str, list[Value]]:
        key = next((key for key in self._keys if key.tag == tags.MODALITIES_IN_STUDY and key.exact), None)
        if key is None or len(key.exact) > IN_LIST_MAX:
            return where, values
        marks = ", ".join("?" * len(key.exact))
        narrowed = f"{where} AND study IN (SELECT study FROM series WHERE modality IN ({marks}))"
        return narrowed, [*values, *(value.upper() for value in key.exact)]

    # ---- what is counted when asked

    def _patient_count(self, raw_id: str, issuer: str, tag: int) -> str:
        what = {
            tags.NUMBER_OF_PATIENT_RELATED_STUDIES: "count(DISTINCT i.study)",
            tags.NUMBER_OF_PATIENT_RELATED_SERIES: "count(DISTINCT i.study || ' ' || i.series)",
            tags.NUMBER_OF_PATIENT_RELATED_INSTANCES: "count(*)",
        }.get(tag)
        if what is None:
            return ""
        joined = "FROM studies s JOIN instances i ON i.study = s.study WHERE s.raw_id = ? AND s.issuer = ?"
        return self._told(f"SELECT {what} {joined} AND {self._visible.condition}", (raw_id, issuer))

    def _study_count(self, study: str, tag: int) -> str:
        match tag:
            case tags.MODALITIES_IN_STUDY:
                what = (
                    "SELECT DISTINCT s.modality FROM series s WHERE s.study = ? AND s.modality <> '' AND EXISTS(SELECT 1 FROM instances i"
                    f" WHERE i.study = s.study AND i.series = s.series AND {self._visible.condition}) ORDER BY 1"
                )
            case tags.SOP_CLASSES_IN_STUDY:
                what = f"SELECT DISTINCT i.sop_class FROM instances i WHERE i.study = ? AND {self._visible.condition} ORDER BY 1"
            case tags.NUMBER_OF_STUDY_RELATED_SERIES:
                what = (
                    f"SELECT count(DISTINCT i.series) FROM instances i WHERE i.study = ? AND {self._visible.condition}"
                )
            case tags.NUMBER_OF_STUDY_RELATED_INSTANCES:
                what = f"SELECT count(*) FROM instances i WHERE i.study = ? AND {self._visible.condition}"
            case _:
                return self._owner_count(study, tag)
        return self._told(what, (study,))

    def _owner_count(self, study: str, tag: int) -> str:
        """A patient's counts, asked for below patient level."""
        rows = self._read(f"SELECT {_ROW_COLUMNS} FROM studies WHERE study = ?", (study,))
        return self._patient_count(rows[0][0], rows[0][1], tag) if rows else ""

    def _series_count(self, study: str, series: str, tag: int) -> str:
        if tag == tags.NUMBER_OF_SERIES_RELATED_INSTANCES:
            return str(self._class_count(study, series))
        return self._study_count(study, tag)

    def _class_count(self, study: str, series: str) -> int:
        statement = f"SELECT count(*) FROM instances i WHERE i.study = ? AND i.series = ? AND {self._visible.condition}"
        return int(self._read(statement, (study, series, *self._visible.values))[0][0])

    def _told(self, statement: str, values: tuple[str, ...]) -> str:
        rows = self._read(statement, (*values, *self._visible.values))
        return "\\".join(str(row[0]) for row in rows)


class Selection:
    """What the unique keys of a C-GET or C-MOVE select."""

    def __init__(self, read: Read, retrieval: Retrieval, sop_classes: frozenset[str] | None) -> None:
        self._read, self._visible = read, _Visible(sop_classes)
        own = _UNIQUE[retrieval.level]
        if not _values(retrieval.keys, own):
            raise Mismatched(
                f"a retrieval at {retrieval.level} level without its unique key ({own >> 16:04X},{own & 0xFFFF:04X})"
            )
        conditions: list[str] = []
        self._values: list[Value] = []
        self._parts: list[tuple[str, ...]] = [()]
        self._column = ""
        for level in _LEVELS[: _LEVELS.index(retrieval.level) + 1]:
            tag = _UNIQUE[level]
            values = _values(retrieval.keys, tag)
            if not values or (level is Level.PATIENT and retrieval.root is Root.STUDY):
                continue
            column = {Level.STUDY: "i.study", Level.SERIES: "i.series", Level.IMAGE: "i.sop"}.get(level, "")
            if level is Level.PATIENT:
                conditions.append("i.study IN (SELECT study FROM studies WHERE patient_id = ?)")
                self._values.append(column_text(tag, values[0]))
            elif level is retrieval.level:
                self._column, self._parts = column, list(_parts(values))
            else:
                conditions.append(f"{column} IN ({', '.join('?' * len(values[:IN_LIST_MAX]))})")
                self._values += values[:IN_LIST_MAX]
        self._condition = " AND ".join([*conditions, self._visible.condition])

    def count(self) -> int:
        return sum(
            int(self._read(f"SELECT count(*) FROM instances i WHERE {where}", values)[0][0])
            for where, values in self._each()
        )

    def pages(self) -> Iterator[bytes]:
        """The encoded `Settled` of each instance, in order of study, series, instance number."""
        for where, values in self._each():
            statement = (
                "SELECT i.study, i.series, i.number, i.sop, v.settled FROM instances i JOIN versions v ON v.sop = i.sop AND v.standing = 'current'"
                f" WHERE {where} AND (i.study, i.series, i.number, i.sop) > (?, ?, ?, ?) ORDER BY i.study, i.series, i.number, i.sop LIMIT ?"
            )
            after: tuple[Value, ...] = ("", "", -(2**62), "")
            while True:
                rows = self._read(statement, (*values, *after, PAGE_ROWS))
                for row in rows:
                    yield row[4]
                if len(rows) < PAGE_ROWS:
                    break
                after = rows[-1][:4]

    def _each(self) -> Iterator[tuple[str, list[Value]]]:
        for part in self._parts:
            values = [*self._values, *self._visible.values]
            if not self._column:
                yield self._condition, values
                continue
            marks = ", ".join("?" * len(part))
            yield f"{self._condition} AND {self._column} IN ({marks})", [*values, *part]


def _require_upper_keys(root: Root, level: Level, keys: Row) -> None:
    top = 0 if root is Root.PATIENT else 1
    for upper in _LEVELS[top : _LEVELS.index(level)]:
        tag = _UNIQUE[upper]
        if not _values(keys, tag):
            raise Mismatched(
                f"a query at {level} level needs the unique key of {upper} level ({tag >> 16:04X},{tag & 0xFFFF:04X}): it is hierarchical"
            )


def _values(keys: Row, tag: int) -> tuple[str, ...]:
    return tuple(value.strip() for value in keys.get(tag, "").split("\\") if value.strip("* "))


def _parts(values: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(values), IN_LIST_MAX):
        yield tuple(values[start : start + IN_LIST_MAX])


def _with_study(blob: bytes, study: str, raw_id: str, issuer: str) -> Row:
    return {
        **_attributes(blob),
        tags.STUDY_INSTANCE_UID: study,
        tags.PATIENT_ID: raw_id,
        tags.ISSUER_OF_PATIENT_ID: issuer,
    }


def _narrow(keys: Sequence[Key], columns: Mapping[int, str]) -> tuple[str, list[Value]]:
    """A condition that leaves out no row that matches; `matching` decides about the rest."""
    conditions: list[str] = ["1"]
    values: list[Value] = []
    for key in keys:
        column = columns.get(key.tag)
        if column is None:
            continue
        if key.exact and len(key.exact) <= IN_LIST_MAX:
            wanted = [column_text(key.tag, value) for value in key.exact]
            conditions.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            values += wanted
        elif key.span is not None and key.tag == tags.STUDY_DATE:
            conditions.append(f"{column} BETWEEN ? AND ?")
            values += [key.span[0], key.span[1]]
        elif key.prefix and key.tag != tags.PATIENT_NAME:
            conditions.append(f"{column} >= ? AND {column} < ?")
            values += [key.prefix, key.prefix + chr(0x10FFFF)]
    names = [key for key in keys if key.tag == tags.PATIENT_NAME and key.prefix and tags.PATIENT_NAME in columns]
    for key in names:  # another group of the name may match too, and it stands behind a "="
        conditions.append("((patient_name >= ? AND patient_name < ?) OR instr(patient_name, '=') > 0)")
        values += [key.prefix, key.prefix + chr(0x10FFFF)]
    return " AND ".join(conditions), values
