"""Broken glass that nobody reviews is an alarm after a day, and again each day, until somebody does."""

from __future__ import annotations

from dataclasses import dataclass

from leadglass.watch.glass import GlassWatch

HOUR_NS = 3600 * 1_000_000_000


@dataclass
class Broken:
    id: str
    from_ns: int
    reviewed_ns: int = 0


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
