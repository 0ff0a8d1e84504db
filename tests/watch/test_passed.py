"""Every connection that began by a recorded flow on demand is in an event of the requests that opened it, and a flood of them stays small."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from leadglass.site.model import OnDemand, Site
from leadglass.terms import Detection, EventKind, OpenFlow
from leadglass.watch.network import MINUTE_NS, SOURCES_MAX, TOLD_EACH_MAX, TOLD_MAX
from leadglass.watch.passed import LATELY_NS, SORTS_MAX, Passed, PassWatch
from tests.policy.firewall.sites import lab

SITE = lab()
NOW = 1_800_000_000_000_000_000
OPEN = OpenFlow("vendor", NOW + 9 * MINUTE_NS, ("r1", "r2"))


def passed(source: str = "10.20.7.10", target: str = "10.20.6.10", port: int = 443, count: int = 1) -> Passed:
    return Passed("passed", ip_address(source), ip_address(target), "tcp", port, count)


def told(
    watch: PassWatch, *passes: Passed, now_ns: int = NOW, opened: tuple[OpenFlow, ...] = (OPEN,), site: Site = SITE
) -> list[Detection]:
    return list(watch.notice(site, passes, opened, now_ns))


def wide(record: bool = True) -> Site:
    """Another flow on demand, from everywhere there to everywhere there, on the same port."""
    (vendor,) = (each for each in SITE.flows if each.id == "vendor")
    more = replace(
        vendor,
        id="wide",
        sources=("vendor-dmz",),
        targets=("biomed",),
        on_demand=OnDemand("biomedical-engineer", 60, record),
    )
    return replace(SITE, flows=(*SITE.flows, more))


def test_a_connection_says_who_to_whom_by_which_flow_of_which_requests() -> None:
    (one,) = told(PassWatch(), passed())
    assert one.kind is EventKind.NETWORK_PASSED and one.about == "10.20.7.10"
    assert one.details == {
        "zone_from": "vendor-dmz", "zone_to": "biomed", "member_from": "vendor-jump", "member_to": "jump", "source": "10.20.7.10",
        "target": "10.20.6.10", "protocol": "tcp", "port": 443, "count": 1, "flow": "vendor", "on_demand": "r1 r2",
    }  # fmt: skip
    assert one.reason == "vendor-jump (10.20.7.10) to jump (10.20.6.10) by tcp/443, by vendor"


def test_over_ipv6_too_and_never_what_no_flow_on_demand_opens() -> None:
    watch = PassWatch()
    assert [each.details["flow"] for each in told(watch, passed("fd20:7::10", "fd20:6::10"))] == ["vendor"]
    assert (
        told(
            watch,
            passed(port=444),
            passed(target="10.20.6.11"),
            passed("10.20.7.11"),
            passed("10.20.6.10", "10.20.7.10"),
        )
        == []
    )


def test_several_flows_are_each_named_and_one_that_is_not_recorded_is_not() -> None:
    site, other = wide(), replace(OPEN, flow="wide", requests=("r3",))
    (both,) = told(PassWatch(), passed(), opened=(OPEN, other), site=site)
    assert (both.details["flow"], both.details["on_demand"]) == ("vendor wide", "r1 r2 r3")
    (only,) = told(PassWatch(), passed(), opened=(other,), site=site)
    assert (only.details["flow"], only.details["on_demand"]) == ("wide", "r3"), "the other is shut"
    assert (
        told(PassWatch(), passed(target="10.20.6.99"), opened=(replace(other, record=False),), site=wide(record=False))
        == []
    )


def test_what_is_told_after_the_end_still_belongs_to_it_for_a_while() -> None:
    """A report of the kernel's may come when the flow is over; one that nobody remembers is told without a request."""
    watch = PassWatch()
    told(watch)
    (late,) = told(watch, passed(), opened=(), now_ns=NOW + LATELY_NS)
    assert late.details["on_demand"] == "r1 r2"
    (later,) = told(watch, passed(), opened=(), now_ns=NOW + 2 * LATELY_NS)
    assert later.details["flow"] == "vendor" and "on_demand" not in later.details
    (back,) = told(watch, passed(), now_ns=NOW - 86_400 * 1_000_000_000)
    assert back.details["on_demand"] == "r1 r2", "a clock that was set back"


def test_of_one_source_the_first_are_told_and_the_rest_is_counted_by_its_sort() -> None:
    watch, site = PassWatch(), wide()
    opened = (OPEN, replace(OPEN, flow="wide", requests=("r3",)))
    many = [passed(target=f"10.20.6.{n % 200 + 20}", count=2) for n in range(400)] + [passed() for _ in range(10)]
    first = told(watch, *many, opened=opened, site=site)
    assert len(first) == TOLD_EACH_MAX
    assert told(watch, now_ns=NOW + MINUTE_NS - 1, opened=opened, site=site) == []
    rest = told(watch, now_ns=NOW + MINUTE_NS, opened=opened, site=site)
    assert sum(int(each.details["count"]) for each in (*first, *rest)) == 810, "every one"
    to_jump = [each for each in rest if each.details["target"] == "10.20.6.10"]
    assert [(each.details["count"], each.details["on_demand"]) for each in to_jump] == [(10, "r1 r2 r3")]
    assert "10 times within a minute" in to_jump[0].reason
    assert told(watch, now_ns=NOW + 2 * MINUTE_NS, opened=opened, site=site) == []


def test_a_flood_is_bounded_and_the_last_word_is_said_when_the_keeper_ends() -> None:
    watch, site = PassWatch(), wide()
    opened = (replace(OPEN, flow="wide"),)
    flood = [passed(f"10.20.7.{n % 256}", f"10.20.6.{n // 256}", count=3) for n in range(256 * 40)]
    found = told(watch, *flood, opened=opened, site=site)
    assert len(found) == TOLD_MAX < SOURCES_MAX
    rest = list(watch.rest(site))
    assert sum(int(each.details["count"]) for each in (*found, *rest)) == 3 * len(flood)
    assert list(watch.rest(site)) == []
    one = PassWatch()
    told(one, *(passed(target=f"10.20.6.{n % 250}", port=443) for n in range(500)), opened=opened, site=site)
    ports = [passed(target=f"10.20.6.{n}", port=443) for n in range(250)]
    told(one, *ports, opened=opened, site=site)
    assert len(list(one.rest(site))) <= SORTS_MAX + 1
