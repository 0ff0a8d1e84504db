"""Strangers: the first five of an address in a minute one by one, then one count; memory bounded whatever comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from leadglass.audit.journal import budget as module
from leadglass.audit.journal.budget import OTHERS, REFUSALS_PER_SOURCE_MAX, SOURCES_MAX, WINDOW_SECONDS, RefusalBudget
from tests.audit.happened import refused


def test_five_alone_then_one_summary() -> None:
    budget = RefusalBudget()
    alone = [budget.admit("10.0.0.1", refused(), float(second)) for second in range(50)]
    assert alone == [True] * REFUSALS_PER_SOURCE_MAX + [False] * 45
    assert budget.due(WINDOW_SECONDS - 1) == []
    (summary,) = budget.due(WINDOW_SECONDS)
    assert (summary.source, summary.count, summary.last) == ("10.0.0.1", 45, refused())
    assert budget.due(2 * WINDOW_SECONDS) == []
    assert budget.admit("10.0.0.1", refused(), WINDOW_SECONDS + 1), "a new minute"


def test_each_address_for_itself_and_few_are_never_summed_up() -> None:
    budget = RefusalBudget()
    for address in ("10.0.0.1", "10.0.0.2"):
        assert all(budget.admit(address, refused(), 0.0) for _ in range(REFUSALS_PER_SOURCE_MAX))
    assert budget.due(0.0, all_of_them=True) == []


def test_at_the_end_all_of_them_are_told() -> None:
    budget = RefusalBudget()
    for _ in range(7):
        budget.admit("10.0.0.1", refused(), 0.0)
    assert [each.count for each in budget.due(1.0, all_of_them=True)] == [2]


def test_many_addresses_share_one_window() -> None:
    budget = RefusalBudget()
    alone = sum(budget.admit(f"10.{number}", refused(), 0.0) for number in range(3 * SOURCES_MAX))
    assert alone == SOURCES_MAX + REFUSALS_PER_SOURCE_MAX
    assert len(budget._windows) == SOURCES_MAX + 1
    (summary,) = budget.due(WINDOW_SECONDS)
    assert summary.source == OTHERS and alone + summary.count == 3 * SOURCES_MAX


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 30)), max_size=200))
def test_nobody_is_lost_and_nobody_counted_twice(calls: list[tuple[str, float]]) -> None:
    budget, now, told = module.RefusalBudget(), 0.0, 0
    for source, pause in calls:
        now += pause
        told += sum(each.count for each in budget.due(now))
        told += budget.admit(source, refused(), now)
    told += sum(each.count for each in budget.due(now, all_of_them=True))
    assert told == len(calls)
