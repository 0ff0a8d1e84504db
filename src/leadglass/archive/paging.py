"""How is the index read a page at a time? Conditions with their values, and reads of which none holds more than a page.

Each page is a read of its own (keyset pagination in the order of the index that is walked), so no reader holds up a writer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from leadglass.archive.matching import END
from leadglass.archive.sqlite import Value

PAGE_ROWS = 500
IN_LIST_MAX = 500  # values of one IN (...); a longer list is asked for in parts

Found = tuple[Any, ...]  # a row of the index; its statement says of what types
Read = Callable[[str, Sequence[Value]], list[Found]]


@dataclass(frozen=True, slots=True)
class Condition:
    """A piece of SQL that is true of what is wanted, with its values."""

    text: str = "1"
    values: tuple[Value, ...] = ()

    def __and__(self, other: Condition) -> Condition:
        return Condition(f"{self.text} AND {other.text}", self.values + other.values)


@dataclass(frozen=True, slots=True)
class Walk:
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


def one_of(column: str, values: Sequence[Value]) -> Condition:
    return Condition(f"{column} IN ({', '.join('?' * len(values))})", tuple(values))


def among(column: str, values: Iterable[str]) -> Condition:
    """As `one_of`, for any number of values: they are one value of the statement."""
    return Condition(f"{column} IN (SELECT value FROM json_each(?))", (json.dumps(sorted(values)),))


class Pages:
    """Reads that never hold more than a page. `first_rows`: of the first page of a walk, where most rows that are met are left out."""

    def __init__(self, read: Read, first_rows: int = sys.maxsize) -> None:
        self.read, self._first_rows = read, first_rows

    def walk(self, columns: str, walk: Walk, where: Condition) -> Iterator[Found]:
        """The rows of a walk in its order: first the columns of the order, then those asked for."""
        key, width = ", ".join(walk.order), len(walk.order)
        marks = ", ".join("?" * width)
        after: Sequence[Value] = (walk.low, *[""] * (width - 1))
        operator, wanted = ">=", min(self._first_rows, PAGE_ROWS)
        while True:
            statement = (
                f"SELECT {key}, {columns} FROM {walk.source} WHERE ({key}) {operator} ({marks}) AND {walk.order[0]} <= ?"
                f" AND {where.text} ORDER BY {key} LIMIT ?"
            )
            rows = self.read(statement, (*after, walk.high, *where.values, wanted))
            yield from rows
            if len(rows) < wanted:
                return
            after, operator, wanted = rows[-1][:width], ">", PAGE_ROWS

    def listed(self, statement: str, column: str, values: Sequence[str], where: Condition) -> Iterator[Found]:
        """The rows that a list of values of a unique column names, at most a page at a time."""
        for start in range(0, len(values), IN_LIST_MAX):
            narrowed = one_of(column, values[start : start + IN_LIST_MAX]) & where
            yield from self.read(f"{statement} WHERE {narrowed.text} ORDER BY {column}", narrowed.values)
