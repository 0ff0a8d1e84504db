"""What do a C-GET's or C-MOVE's unique keys select? Instances in their order, page by page, of studies that may be seen."""

from __future__ import annotations

from collections.abc import Iterator

from leadglass.archive import paging
from leadglass.archive.matching import told, unique_values
from leadglass.archive.paging import Condition, Found, Pages, Read, one_of
from leadglass.archive.projection import UNNUMBERED, settled_of
from leadglass.archive.query import LEVELS, UNIQUE
from leadglass.archive.sqlite import Value
from leadglass.archive.visibility import Sight, Visibility
from leadglass.terms import Level, Malformed, Mismatched, Retrieval, Root, Settled
from leadglass.wire import tags


class Selection:
    """What the unique keys of a C-GET or C-MOVE select. Raises Mismatched, Malformed.

    The unique key of its own level is required, those of the levels above confine where they are there: UIDs are unique by themselves, and
    many requestors leave them out. A Patient ID is taken exactly, in its case: it decides what leaves.
    """

    def __init__(self, read: Read, retrieval: Retrieval, visible: Visibility) -> None:
        self._pages, self._level = Pages(read), retrieval.level
        self._sight, sop_classes = Sight(read, visible), visible.sop_classes
        self._unique = {level: unique_values(retrieval.keys, tag) for level, tag in UNIQUE.items()}
        if retrieval.root is Root.STUDY:
            self._unique[Level.PATIENT] = ()
        if not self._unique[retrieval.level]:
            raise Mismatched(
                f"a retrieval at {retrieval.level} level without its unique key {told(UNIQUE[retrieval.level])}"
            )
        for upper in LEVELS[: LEVELS.index(retrieval.level)]:
            if len(self._unique[upper]) > paging.IN_LIST_MAX:
                raise Malformed(
                    f"more than {paging.IN_LIST_MAX} values in the key {told(UNIQUE[upper])} of a level above"
                )
        self._of_class = Condition() if sop_classes is None else one_of("c.sop_class", sorted(sop_classes))
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
            where = Condition("c.study = ?", (study,)) & self._of_class
            if series:
                where &= Condition("c.series = ?", (series,))
            yield from self._page_through(where)

    def _page_through(self, where: Condition) -> Iterator[Settled]:
        statement = (
            "SELECT c.series, c.number, c.sop, v.settled FROM instances c NOT INDEXED CROSS JOIN versions v ON v.sop = c.sop AND v.standing = 'current'"
            f" WHERE {where.text} AND (c.series, c.number, c.sop) > (?, ?, ?) ORDER BY c.series, c.number, c.sop LIMIT ?"
        )
        after: tuple[Value, ...] = ("", -UNNUMBERED, "")
        while True:
            rows = self._pages.read(statement, (*where.values, *after, paging.PAGE_ROWS))
            yield from (settled_of(row[3]) for row in rows)
            if len(rows) < paging.PAGE_ROWS:
                return
            after = rows[-1][:3]

    def _scopes(self) -> Iterator[tuple[str, str]]:
        """The studies that are selected whole, or the series, in order."""
        match self._level:
            case Level.PATIENT:
                owned = one_of("s.raw_id", self._unique[Level.PATIENT][: paging.IN_LIST_MAX])
                if self._issuers:
                    owned &= one_of("s.issuer", self._issuers[: paging.IN_LIST_MAX])
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
        seen = self._sight.seen(row[0] for row in found)
        yield from ((row[0], row[1] if len(row) > 1 else "") for row in found if row[0] in seen)

    def _places(self) -> list[Found]:
        """Where the images that are asked for stand in the order; at most as many as a key has values."""
        where = self._above("c") & self._of_class
        if self._unique[Level.SERIES]:
            where &= one_of("c.series", self._unique[Level.SERIES])
        statement = "SELECT c.study, c.series, c.number, c.sop FROM instances c INDEXED BY instances_sop"
        found = sorted(self._pages.listed(statement, "c.sop", self._unique[Level.IMAGE], where))
        seen = self._sight.seen(row[0] for row in found)
        return [row for row in found if row[0] in seen]

    def _above(self, alias: str) -> Condition:
        """What the keys of patient and study confine."""
        where = Condition()
        if self._level is not Level.STUDY and self._unique[Level.STUDY]:
            where &= one_of(f"{alias}.study", self._unique[Level.STUDY])
        if patients := self._unique[Level.PATIENT]:
            owned = one_of("o.raw_id", patients)
            where &= Condition(
                f"EXISTS(SELECT 1 FROM studies o WHERE o.study = {alias}.study AND {owned.text})", owned.values
            )
        return where
