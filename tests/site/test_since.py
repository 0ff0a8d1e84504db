"""Since when something stands: through applies that change other things, enrolments, and a program that knew no times."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from leadglass.site.since import FILE, since
from leadglass.site.write import apply, apply_device, proven_directory, write_device
from tests.site.test_load import GOOD
from tests.site.test_write import device, flow


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "leadglass.toml").write_text(GOOD)
    return tmp_path


def edit(place: Path, old: str, new: str) -> None:
    text = (place / "leadglass.toml").read_text()
    assert old in text
    (place / "leadglass.toml").write_text(text.replace(old, new))


def test_what_stays_as_it_is_keeps_its_time(place: Path) -> None:
    apply(place)
    first = since(place)
    assert set(first) >= {"flow:ct", "device:CT1"} and len(set(first.values())) == 1
    write_device(place, "MR2", device(), flow("MR2"))
    apply_device(place, "MR2")
    second = since(place)
    assert {name: second[name] for name in first} == first and second["device:MR2"] > first["device:CT1"]
    edit(place, 'why = "it stores"', 'why = "other words for the same"')
    apply(place)
    assert since(place) == second
    edit(place, 'may = ["store"]', 'may = ["store", "find"]')
    apply(place)
    third = since(place)
    assert third["flow:ct"] > second["flow:ct"] and third["device:CT1"] == first["device:CT1"]


def test_an_older_program_kept_no_times(place: Path) -> None:
    apply(place)
    (place / FILE).unlink()
    assert since(place) == {}
    then = time.time_ns() - 40 * 86_400 * 10**9
    os.utime(proven_directory(place), ns=(then, then))
    write_device(place, "MR2", device(), flow("MR2"))
    apply_device(place, "MR2")
    assert since(place)["flow:ct"] == then and since(place)["device:MR2"] > then


def test_a_broken_file_is_none(place: Path) -> None:
    apply(place)
    for content in (b"", b"{", b"[]", b'{"flow:x": 7}'):
        (place / FILE).write_bytes(content)
        assert since(place) == {}
        apply(place)
        assert since(place)
