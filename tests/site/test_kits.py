"""What was made at the console lies here sealed until it is handed over, each part to whose it is, and is forgotten in time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadglass.site.kits import Custody, Kits, MadeKit
from leadglass.site.register import Register
from leadglass.terms import KeyFault, NotChanged

MADE, OVER = 1_000, 2_000


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    register = Register.open(tmp_path / "register.db", os.urandom(32))
    yield register
    register.close()


@pytest.fixture
def kits(register: Register) -> Kits:
    return Kits(register, b"k" * 32)


def kit(name: str = "one", *custodians: str, made_ns: int = MADE) -> MadeKit:
    held = tuple(Custody(each) for each in custodians or ("ann", "bob"))
    return MadeKit(name, "request", "guard", 2, "", made_ns, OVER, custodians=held)


def test_each_part_to_whose_it_is(kits: Kits) -> None:
    kits.make(kit(), "file", ["share of ann", "share of bob"])
    assert kits.share("one", "bob", MADE) == "share of bob" == kits.share("one", "bob", MADE)
    assert kits.file("one", "guard", MADE) == "file"
    for fetch in (
        lambda: kits.share("one", "guard", MADE), lambda: kits.share("two", "bob", MADE), lambda: kits.file("one", "bob", MADE),
        lambda: kits.share("one", "bob", OVER), lambda: kits.file("one", "guard", OVER), lambda: kits.kept("one", "bob", OVER),
    ):  # fmt: skip
        with pytest.raises(NotChanged):
            fetch()
    assert kits.waiting_for("bob", MADE) == kits.get("one") and kits.waiting_for("bob", OVER) is None
    kits.kept("one", "bob", MADE + 5)
    with pytest.raises(NotChanged):
        kits.share("one", "bob", MADE + 6)
    assert kits.get("one").custodians == (Custody("ann"), Custody("bob", MADE + 5))  # type: ignore[union-attr]
    assert kits.waiting_for("bob", MADE) is None and kits.waiting_for("ann", MADE) is not None


def test_they_open_with_the_sites_key_alone(kits: Kits, register: Register) -> None:
    kits.make(kit(), "file", ["share of ann", "share of bob"])
    held = register.read("SELECT share FROM kit_shares UNION ALL SELECT file FROM kits")
    assert len(held) == 3 and not [row for (row,) in held if b"share of" in bytes(row) or b"file" in bytes(row)]
    other = Kits(register, b"x" * 32)
    for fetch in (lambda: other.share("one", "ann", MADE), lambda: other.file("one", "guard", MADE)):
        with pytest.raises(KeyFault):
            fetch()


def test_a_newer_one_and_time_forget_it(kits: Kits, register: Register) -> None:
    kits.make(kit(), "file", ["a", "b"])
    kits.make(kit("two", "ann", "eve", made_ns=MADE + 1), "another", ["c", "d"])
    assert [each.here for each in (kits.get("one"), kits.get("two")) if each] == [False, True]
    with pytest.raises(NotChanged):
        kits.share("one", "ann", MADE)
    assert kits.share("two", "eve", MADE) == "d" and kits.overdue(OVER - 1) == [] and kits.overdue(OVER) == ["two"]
    with pytest.raises(NotChanged):
        kits.lapse("two", OVER - 1)
    kits.lapse("two", OVER)
    assert kits.overdue(OVER) == [] and not register.read("SELECT 1 FROM kit_shares WHERE share IS NOT NULL")
    assert [each.id for each in kits.latest()] == ["two", "one"], "that they were made stays known"
