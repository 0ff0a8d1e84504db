"""A clock that is wrong is noticed, and what it stops is said by name."""

from __future__ import annotations

from dataclasses import dataclass

from leadglass.terms import EventKind
from leadglass.watch.clock import StepWatch, read_clock, stopped_by
from leadglass.watch.containment import REPEATED_AFTER_LOOKS, ReadableWatch

DAY = 86_400 * 1_000_000_000
NOW = 20_000 * DAY


@dataclass(frozen=True)
class Certificate:
    device: str
    issued_ns: int = NOW - DAY
    not_after_ns: int = NOW + 300 * DAY
    state: str = "active"


def test_a_right_clock_stops_nothing() -> None:
    assert (
        list(stopped_by(NOW, NOW - 1, [Certificate("CT1"), Certificate("OLD", not_after_ns=1, state="revoked")])) == []
    )


def test_a_clock_400_days_on_names_the_devices_that_it_turns_away() -> None:
    (said,) = stopped_by(NOW + 400 * DAY, NOW, [Certificate("CT1"), Certificate("MR1", not_after_ns=NOW + 800 * DAY)])
    assert "expired by this clock" in said and "CT1" in said and "MR1" not in said


def test_a_clock_a_day_back_lets_in_what_has_ended_and_turns_away_what_is_new() -> None:
    behind, early = stopped_by(NOW - 2 * DAY, NOW, [Certificate("CT1")])
    assert "2 days, 0:00:00 before the newest record" in behind
    assert "issued in the future of this clock" in early and "CT1" in early


def test_a_step_of_the_clock_is_an_alarm_and_a_correction_is_not() -> None:
    watch, second = StepWatch(), 1_000_000_000
    assert not list(watch.notice(NOW, 0))
    assert not list(watch.notice(NOW + 11 * second, 10 * second))
    (back,) = watch.notice(NOW - DAY, 11 * second)
    assert back.kind is EventKind.CLOCK_STEPPED and "1 day, 0:00:12 back" in back.reason
    assert not list(watch.notice(NOW - DAY + second, 12 * second)), "said once"
    (forward,) = watch.notice(NOW + 400 * DAY, 13 * second)
    assert "forward" in forward.reason and forward.details["seconds"] > 400 * 86_000


def test_the_kernel_says_how_far_the_clock_is_off() -> None:
    clock = read_clock()
    assert (clock.error_max_seconds is not None) is clock.kept
    assert ("no time service" in str(clock)) is not clock.kept


def test_an_unreadable_containment_state_is_said_at_once_and_again_while_it_lasts() -> None:
    watch = ReadableWatch()
    assert not list(watch.notice(False))
    said = [len(list(watch.notice(True))) for _ in range(REPEATED_AFTER_LOOKS + 1)]
    assert (said[0], sum(said)) == (1, 2)
    assert not list(watch.notice(False))
    assert len(list(watch.notice(True))) == 1
