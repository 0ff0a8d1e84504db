"""What a worker's threads meet while the site is in trouble ends none of them."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from leadglass.doors.dimse.conversation import Conversation
from leadglass.doors.processes import dimse
from leadglass.doors.processes.entry import _zone_of
from leadglass.terms import Contained, Event, StoreFault


def test_a_journal_that_is_full_does_not_close_the_door() -> None:
    asked: list[Event] = []

    async def record(event: Event) -> None:
        asked.append(event)
        raise StoreFault("no room for the journal")

    hall: Any = SimpleNamespace(do=SimpleNamespace(record=record), door="dimse")
    dimse._turn_away(hall, "10.9.9.9", "associations_per_zone_max")
    assert [each.address for each in asked] == ["10.9.9.9"]


def test_a_site_that_cannot_be_read_gives_a_strangers_share() -> None:
    def site() -> Any:
        raise StoreFault("the site file is damaged")

    house: Any = SimpleNamespace(site=site)
    assert _zone_of(house, "127.0.0.1") == ""


def test_whoever_must_leave_leaves_as_soon_as_the_site_can_be_read_again() -> None:
    stop, cut, looks = threading.Event(), [], [0]
    visitor = Conversation.__new__(Conversation)
    visitor.subject = SimpleNamespace(device=SimpleNamespace(name="CT1"), caller=None)  # type: ignore[assignment]
    visitor.generation = 1
    visitor.cut = cut.append  # type: ignore[method-assign]
    generations = iter([1])

    def still_welcome(subject: Any) -> None:
        looks[0] += 1
        if looks[0] == 1:
            raise StoreFault("the site file is damaged just now")
        raise Contained("revoked: stolen")

    def serves(generation: int) -> None:
        if generation == 2:
            stop.set()

    reception: Any = SimpleNamespace(visitors=lambda: (visitor,))
    caps: Any = SimpleNamespace(serves=serves)
    watch = threading.Thread(
        target=dimse._watch,
        args=(reception, caps, lambda: next(generations, 2), still_welcome, lambda: None, stop, threading.Event()),
    )
    watch.start()
    watch.join(60)
    assert not watch.is_alive()
    assert (looks[0], cut) == (2, ["revoked: stolen"])
