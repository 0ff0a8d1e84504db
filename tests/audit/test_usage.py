"""What was used and refused, counted from the journal: once each, whoever feeds it, by day, and with nobody's patient in it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from leadglass.audit.search import FILE, AuditSearch
from leadglass.audit.usage import DAY_NS, REFUSED_ROWS_A_DAY_MAX, Denied, Usage, Used
from leadglass.terms import Event, EventKind, Fault, Outcome
from tests.audit.happened import Site, about, admitted, refused, stored

NOON = 20_000 * DAY_NS + DAY_NS // 2
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def released(actor: str, action: str, rule: str, **details: str | int) -> Event:
    return Event(EventKind.RELEASE_STARTED, Outcome.SUCCESS, actor, action=action, rule=rule, address="10.1.0.7", details=details)  # fmt: skip


def not_permitted(actor: str, action: str, **details: str | int) -> Event:
    return Event(EventKind.REQUEST_REFUSED, Outcome.REFUSED, actor, action=action, rule="ct", details={"refusal": "NotPermitted", **details})  # fmt: skip


def dropped(count: int, **details: str | int) -> Event:
    facts: dict[str, str | int] = {
        "zone_from": "guest",
        "zone_to": "core",
        "member_from": "",
        "member_to": "archive",
        "source": "10.9.0.7",
    }
    facts |= {"target": "10.1.0.1", "protocol": "tcp", "port": 22, "count": count, "why": "input", **details}
    return Event(EventKind.NETWORK_DROPPED, Outcome.SUCCESS, "keeper", details=facts)


def journalled(site: Site, *events: Event, at_ns: int = NOON) -> None:
    process = site.process(clock=lambda: at_ns)
    for event in events:
        process.journal.append(event)
    process.end()


def fed(site: Site) -> AuditSearch:
    search = AuditSearch.open(site.path, site.keyring, feeds=True)
    search.catch_up(site.reader)
    return search


def counted(site: Site, from_ns: int = 0) -> Usage:
    search = fed(site)
    try:
        return search.usage(from_ns)
    finally:
        search.close()


def test_what_devices_did_by_which_flow(site: Site) -> None:
    journalled(
        site,
        admitted(),
        stored(),
        stored(),
        about(stored(), kind=EventKind.INSTANCE_REPEATED, settled=None, details={"sop_class": CT}),
        released("WS1", "move", "reads+more", destination="PRINTER"),
        released("WS1", "find", "reads+cedar:care", person="person:one"),
    )
    assert set(counted(site).used) == {
        Used("CT1", "ct-stores", "associate", "", 1, NOON),
        Used("CT1", "ct-stores", "store", CT, 3, NOON),
        Used("WS1", "reads", "move", "PRINTER", 1, NOON),
        Used("WS1", "more", "move", "PRINTER", 1, NOON),
        Used("WS1", "reads", "find", "", 1, NOON),
        Used("WS1", "cedar:care", "find", "", 1, NOON),
    }


def test_of_people_only_where_they_were(site: Site) -> None:
    journalled(
        site,
        released("person:one", "study-read", "cedar:care"),
        about(released("person:two", "study-find", "x"), address="10.1.0.8"),
    )
    assert set(counted(site).used) == {
        Used("", "", "people", "10.1.0.7", 1, NOON),
        Used("", "", "people", "10.1.0.8", 1, NOON),
    }


def test_what_the_kernel_told(site: Site) -> None:
    used = Event(EventKind.NETWORK_USED, Outcome.SUCCESS, "keeper", details={"flow": "names", "packets": 40})
    watched = Event(EventKind.NETWORK_WATCHED, Outcome.SUCCESS, "keeper")
    journalled(site, used, used, watched)
    journalled(site, watched, at_ns=NOON + DAY_NS)
    found = counted(site)
    assert Used("", "names", "packets", "", 80, NOON) in found.used and found.watched == {20_000, 20_001}
    assert (found.first_ns, found.last_ns) == (NOON, NOON + DAY_NS)


def test_what_was_refused_and_what_no_policy_would_change(site: Site) -> None:
    stranger = about(refused(), details={"refusal": "NotIdentified", "calling": "MR9", "count": 7})
    journalled(
        site,
        not_permitted("CT1", "find"),
        not_permitted("CT1", "store", sop_class="1.2.3"),
        about(not_permitted("CT1", "store"), details={"refusal": "Malformed"}),
        not_permitted("person:one", "study-export"),
        about(released("person:two", "role-grant", ""), kind=EventKind.CHANGE_REFUSED),
        stranger,
        stranger,
        dropped(3),
        dropped(4),
        dropped(1, zone_from="", why="spoofed"),
    )
    assert set(counted(site).denied) == {
        Denied("CT1", "", "", "find", "", "ct", "NotPermitted", 1, NOON),
        Denied("CT1", "", "", "store", "1.2.3", "ct", "NotPermitted", 1, NOON),
        Denied("person:one", "", "", "study-export", "", "ct", "NotPermitted", 1, NOON),
        Denied("person:two", "", "", "role-grant", "", "", "NotPermitted", 1, NOON),
        Denied("", "10.99.0.1", "", "", "MR9", "", "NotIdentified", 14, NOON),
        Denied("", "guest", "archive", "packets", "tcp/22", "", "input", 7, NOON),
        Denied("", "10.9.0.7", "archive", "packets", "tcp/22", "", "spoofed", 1, NOON),
    }


def test_only_from_that_day_on(site: Site) -> None:
    for day in range(4):
        journalled(site, admitted(), not_permitted("CT1", "find"), at_ns=NOON + day * DAY_NS)
    found = counted(site, NOON + 2 * DAY_NS)
    assert [each.times for each in (*found.used, *found.denied)] == [2, 2]
    assert found.first_ns == NOON, "how far the journal reaches does not depend on what is asked"


def test_two_who_feed_count_once(site: Site) -> None:
    for _ in range(5):
        journalled(site, *(admitted(),) * 200)
    follower = AuditSearch.open(site.path, site.keyring, feeds=True)
    stop, seen, broken = threading.Event(), threading.Event(), list[Fault]()
    thread = threading.Thread(
        target=follower.follow, args=(site.reader, 0.01, stop, seen.set, broken.append), daemon=True
    )
    thread.start()
    try:
        others = [fed(site) for _ in range(3)]
        journalled(site, *(admitted(),) * 200)
        for each in others:
            each.catch_up(site.reader)
            each.close()
        seen.clear()
        assert seen.wait(20)
    finally:
        stop.set()
        thread.join(20)
    assert [each.times for each in follower.usage(0).used] == [1200]
    assert broken == []
    follower.close()


def test_lost_it_is_counted_again(site: Site) -> None:
    journalled(site, stored(), admitted())
    before = counted(site)
    (site.path / FILE).unlink()
    assert counted(site) == before and before.used


def test_strangers_fill_no_disk(site: Site) -> None:
    """Whoever calls itself something else each time is counted with all the others, and nobody before them is forgotten."""
    names = [
        about(refused(), details={"refusal": "NotIdentified", "calling": f"X{n}"})
        for n in range(REFUSED_ROWS_A_DAY_MAX + 50)
    ]
    journalled(site, not_permitted("CT1", "find"), *names)
    found = counted(site)
    assert (
        len(found.denied) <= REFUSED_ROWS_A_DAY_MAX + 1 and sum(each.times for each in found.denied) == len(names) + 1
    )
    many = [each for each in found.denied if each.source == "many"]
    assert [each.times for each in many] == [51] and any(each.who == "CT1" for each in found.denied)
