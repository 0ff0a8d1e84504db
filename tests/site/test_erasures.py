"""Erasures in the register: one step after the other, so many a day, and at the end nothing that names anybody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from leadglass.policy.erasing import HOUR_NS, due_ns, judge
from leadglass.site.erasures import DAY_NS, Erasure, Erasures
from leadglass.site.model import Limits
from leadglass.site.register import Register
from leadglass.terms import NotChanged, Overloaded, PatientIdentity

NOW = 1_800_000_000_000_000_000
LIMITS = replace(Limits(), erased_studies_per_day_max=3, erasure_delay_hours=72)


@pytest.fixture
def erasures(tmp_path: Path) -> Erasures:
    return Erasures(Register.open(tmp_path / "register.db", bytes(32)))


def order(erasures: Erasures, id_: str, *studies: str, at_ns: int = NOW) -> Erasure:
    patient = PatientIdentity("P1", "HOSPITAL")
    erasure = Erasure(id_, f"request of {id_}", "keeper", patient, studies, "the law", at_ns, due_ns(LIMITS, at_ns))
    erasures.order(erasure, lambda ordered: judge(LIMITS, ordered, len(studies)))
    found = erasures.get(id_)
    assert found is not None
    return found


def test_one_step_after_the_other(erasures: Erasures) -> None:
    waiting = order(erasures, "e1", "1.2", "1.3")
    assert (waiting.state, waiting.count, waiting.due_ns) == ("waiting", 2, NOW + 72 * HOUR_NS)
    for step in (lambda: erasures.destroy("e1", ()), lambda: erasures.finish("e1", (), 0, NOW)):
        with pytest.raises(NotChanged):
            step()
    erasures.close("e1")
    with pytest.raises(NotChanged):
        erasures.undo("e1", "too late", NOW)
    erasures.destroy("e1", [b"k" * 16])
    assert [(each.state, each.keys) for each in erasures.open()] == [("destroying", {b"k" * 16})]
    erasures.finish("e1", ["token"], 7, NOW + 1)
    done = erasures.get("e1")
    assert done is not None and erasures.open() == [] and erasures.latest(5) == [done]
    assert (done.state, done.studies, done.instances, done.settled_ns, done.count) == (
        "done",
        ("token",),
        7,
        NOW + 1,
        2,
    )
    assert (done.patient, done.reason, done.keys) == (PatientIdentity(""), "", frozenset())


def test_what_is_undone_is_over_and_the_oldest_that_is_open_comes_first(erasures: Erasures) -> None:
    order(erasures, "e1", "1.2")
    order(erasures, "e2", "1.3", at_ns=NOW + 1)
    assert [each.id for each in erasures.open()] == ["e1", "e2"]
    erasures.undo("e1", "by guard: withdrawn", NOW)
    (undone,) = [each for each in erasures.latest(5) if each.id == "e1"]
    assert (undone.state, undone.settled_why, undone.studies) == ("undone", "by guard: withdrawn", ("1.2",))
    with pytest.raises(NotChanged):
        erasures.close("e1")
    order(erasures, "e3", "1.2", at_ns=NOW + 2)


def test_a_study_is_to_be_erased_once_at_a_time_and_only_so_many_a_day(erasures: Erasures) -> None:
    order(erasures, "e1", "1.2", "1.3")
    with pytest.raises(NotChanged, match="already"):
        order(erasures, "e2", "1.3", "1.4")
    with pytest.raises(Overloaded, match="erased_studies_per_day_max"):
        order(erasures, "e2", "1.4", "1.5")
    order(erasures, "e2", "1.4")
    erasures.undo("e2", "withdrawn", NOW)
    order(erasures, "e3", "1.5")
    with pytest.raises(Overloaded):
        order(erasures, "e4", "1.6")
    order(erasures, "e4", "1.6", at_ns=NOW + DAY_NS)
