"""Every drop is in an event of its pair of zones; a sweep is one event, a flood a number, and who was never seen before is told as new."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address

from leadglass.terms import Detection, EventKind
from leadglass.watch.network import (
    MINUTE_NS,
    PAIRS_TOLD_MAX,
    SOURCES_MAX,
    SWEEP_TARGETS,
    TOLD_EACH_MAX,
    TOLD_MAX,
    Drop,
    DropWatch,
    member_of,
)
from tests.policy.firewall.sites import lab

SITE = lab()
ZONES = ["10.20.1.9", "10.20.2.9", "10.20.3.9", "10.20.4.9", "10.20.6.9", "10.20.7.9", "10.20.8.9", "192.0.2.1"]


def drop(source: str = "10.20.9.7", target: str = "10.20.5.10", port: int = 22, count: int = 1) -> Drop:
    return Drop("input", ip_address(source), ip_address(target), "tcp", port, count)


def told(watch: DropWatch, drops: list[Drop], now_ns: int = 0) -> list[Detection]:
    return list(watch.notice(SITE, drops, now_ns))


def test_a_drop_says_who_to_whom_and_whether_that_is_new() -> None:
    watch = DropWatch()
    (one,) = told(watch, [drop(source="10.20.4.20")])
    assert one.kind is EventKind.NETWORK_DROPPED and one.about == "10.20.4.20"
    assert {
        "zone_from": "enterprise", "member_from": "ris", "zone_to": "pacs", "member_to": "archive", "port": 22, "protocol": "tcp", "count": 1,
        "new_peer": 1,
    }.items() <= one.details.items()  # fmt: skip
    assert "ris (10.20.4.20) to archive (10.20.5.10) by tcp/22, for the first time" in one.reason
    (again,) = told(watch, [drop(source="10.20.4.20")], MINUTE_NS)
    assert again.details["new_peer"] == 0 and "first time" not in again.reason
    assert member_of(SITE, ip_address("192.0.2.1")) == ""


def test_a_sweep_is_told_once_and_every_packet_is_counted_in_its_pair_of_zones() -> None:
    watch = DropWatch()
    drops = [drop(target=target, port=port, count=3) for target in ["10.20.5.10", *ZONES] for port in range(1, 41)]
    found = told(watch, drops)
    swept = [each for each in found if each.kind is EventKind.NETWORK_SWEPT]
    assert len(swept) == 1 and swept[0].details["tried"] == SWEEP_TARGETS and swept[0].details["zone_from"] == "guest"
    single = [each for each in found if each.kind is EventKind.NETWORK_DROPPED]
    assert {each.details["zone_to"] for each in single} == {
        "pacs", "modalities", "radiology", "clinical", "enterprise", "biomed", "vendor-dmz", "cloud", "",
    }  # fmt: skip
    assert len(single) == TOLD_EACH_MAX + len(ZONES)
    assert told(watch, [], MINUTE_NS - 1) == []
    rest = told(watch, [], MINUTE_NS)
    by_zone = Counter[str]()
    for each in (*single, *rest):
        by_zone[str(each.details["zone_to"])] += int(each.details["count"])
    assert set(by_zone.values()) == {120} and len(rest) == len(ZONES) + 1
    assert told(watch, [], 2 * MINUTE_NS) == []


def test_a_flood_from_many_addresses_stays_small_and_says_how_many() -> None:
    watch = DropWatch()
    flood = [drop(source=f"10.20.{n // 250}.{n % 250}", port=n % 7) for n in range(3000)]
    found = told(watch, flood)
    assert len(found) == TOLD_MAX < SOURCES_MAX
    later = told(watch, [], MINUTE_NS)
    lost = [each for each in later if each.about == "many sources"]
    assert [each.details["count"] for each in lost] == [3000 - SOURCES_MAX]
    counted = sum(int(each.details["count"]) for each in (*found, *later))
    assert counted == 3000, "none is forgotten"


def test_pairs_are_told_at_once_only_so_many() -> None:
    """A site of many zones makes no flood of its own."""
    watch = DropWatch()
    targets = [f"10.20.{n}.9" for n in range(1, 10)]
    found = told(watch, [drop(source="192.0.2.9", target=each) for each in targets])
    assert len(found) == len(targets) <= PAIRS_TOLD_MAX
