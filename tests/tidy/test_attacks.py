"""docs/attacks.md and the tests name the same attacks."""

from __future__ import annotations

import re

import pytest

from tests.tidy.repository import ROOT, text_of

PAGE = text_of(ROOT / "docs" / "attacks.md")
ROWS = re.findall(r"^\| (\d[\d, to]*) \|.*\| ([^|]+) \|$", PAGE, re.MULTILINE)
NAMED = re.compile(r"def test_(?:t\d+_)?attack_((?:\d\d_)(?:to_\d\d_|\d\d_)*)")
BY_OTHER_NAMES = {11, 64, 66, 67}  # their tests are called by what they check


def numbers(cell: str) -> set[int]:
    first, _, last = cell.partition(" to ")
    return set(range(int(first), int(last) + 1)) if last else {int(each) for each in cell.split(",")}


def tried() -> set[int]:
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for name in NAMED.findall(text_of(path)):
            cell = name.strip("_")
            first, _, last = cell.partition("_to_")
            found |= set(range(int(first), int(last) + 1)) if last else {int(each) for each in cell.split("_")}
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_files_that_are_there(row: tuple[str, str]) -> None:
    named = re.findall(r"`([^`]+)`", row[1])
    assert named and all((ROOT / "tests" / each).exists() for each in named)


def test_every_attack_of_the_page_is_tried_and_every_one_that_is_tried_stands_there() -> None:
    listed = set().union(*(numbers(cell) for cell, _ in ROWS))
    assert listed - tried() == BY_OTHER_NAMES
    assert tried() - listed == set()
