"""Broken glass that nobody reviews is an alarm after a day, and again each day, until somebody does."""

from __future__ import annotations

from dataclasses import dataclass

from leadglass.watch.glass import RATE_DAYS, GlassWatch, Rate, rate

HOUR_NS = 3600 * 1_000_000_000


@dataclass
class Broken:
    id: str
    from_ns: int
    reviewed_ns: int = 0
    person: str = "jane"
    verdict: str = ""


def test_unreviewed_is_told_each_day_until_it_is_reviewed() -> None:
    watch, first, second = GlassWatch(), Broken("one", 0), Broken("two", 10 * HOUR_NS)

    def told(hours: int) -> list[object]:
        return [each.details["count"] for each in watch.notice([first, second], hours * HOUR_NS)]

    assert told(23) == []
    assert told(24) == [1]
    assert told(25) == []
    assert told(34) == [1]
    second.reviewed_ns = 1
    assert told(48) == [1]
    first.reviewed_ns = 1
    assert told(1000) == []


def test_the_rate_is_of_the_last_days() -> None:
    now_ns = 1000 * 24 * HOUR_NS
    before = now_ns - RATE_DAYS * 24 * HOUR_NS
    waits = [Broken("late", now_ns - 25 * HOUR_NS), Broken("fresh", now_ns - HOUR_NS, person="olga")]
    done = [
        Broken("soon", now_ns - 50 * HOUR_NS, now_ns - 49 * HOUR_NS, verdict="justified"),
        Broken("slowly", now_ns - 90 * HOUR_NS, now_ns - 2 * HOUR_NS, verdict="not-justified"),
    ]
    long_ago = Broken("long ago", before, before + 1, verdict="not-justified")
    assert rate([*waits, *done, long_ago], now_ns) == Rate(RATE_DAYS, 4, 2, 3, 1, 2)
    assert rate([], now_ns) == Rate(RATE_DAYS, 0, 0, 0, 0, 0)
