"""What a worker's threads meet while the site is in trouble ends none of them."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from leadglass.doors.dimse.conversation import Conversation
from leadglass.doors.processes import dimse
from leadglass.doors.processes.entry import _zone_of
from leadglass.terms import Contained, Event, NotPermitted, OpenFlow, StoreFault


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


def visiting(cut: list[str]) -> Conversation:
    visitor = Conversation.__new__(Conversation)
    visitor.subject = SimpleNamespace(device=SimpleNamespace(name="CT1"), caller=None)  # type: ignore[assignment]
    visitor.known, visitor.request = (1, ()), None
    visitor.cut = cut.append  # type: ignore[method-assign]
    return visitor


def test_whoever_must_leave_leaves_as_soon_as_the_site_can_be_read_again() -> None:
    stop, cut, looks = threading.Event(), list[str](), [0]
    visitor = visiting(cut)
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
    hall: Any = SimpleNamespace()
    guard = dimse.Guard(hall, lambda: next(generations, 2), lambda name: (), still_welcome)
    watch = threading.Thread(target=dimse._watch, args=(reception, caps, guard, lambda: None, stop, threading.Event()))
    watch.start()
    watch.join(60)
    assert not watch.is_alive()
    assert (looks[0], cut) == (2, ["revoked: stolen"])


def test_what_is_being_answered_is_looked_at_again_when_another_flow_is_open_to_the_device() -> None:
    """Who may stay may not go on with what was only theirs for a time; what they do by right goes on."""
    opened, asked, cut = [(OpenFlow("vendor", 9, ("r1",)),)], list[Any](), list[str]()
    visitor = visiting(cut)
    visitor.known = (1, opened[0])
    visitor.request = query = SimpleNamespace(subject=visitor.subject)  # type: ignore[assignment]

    def decide(subject: Any, request: Any) -> None:
        asked.append(request)
        if not opened[0]:
            raise NotPermitted("vendor is on demand, and not open now")

    reception: Any = SimpleNamespace(visitors=lambda: (visitor,))
    hall: Any = SimpleNamespace(do=SimpleNamespace(decide=decide))
    guard = dimse.Guard(hall, lambda: 1, lambda name: opened[0], lambda subject: None)
    guard.show_out(reception, 1)
    assert (asked, cut) == ([], []), "nothing is another"
    guard.show_out(reception, 2)
    assert (asked, cut) == ([query], []), "the site changed, and allows it still"
    opened[0] = ()
    guard.show_out(reception, 2)
    assert len(asked) == 2 and cut == ["vendor is on demand, and not open now"]
    visitor.request = None
    guard.show_out(reception, 3)
    assert len(asked) == len(cut) + 1 == 2, "nothing is being answered"
