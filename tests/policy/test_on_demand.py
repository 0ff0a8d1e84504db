"""Which flows on demand are open: what was approved, by who may still, for as long as the file allows, and no more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadglass.policy.on_demand import approver_of, on_demand, open_flows
from leadglass.site.access import AccessRequest, Decision
from leadglass.site.model import OnDemand
from leadglass.terms import Act, NotChanged, Role
from tests.policy.callers import NOW, SECOND, person
from tests.policy.firewall.sites import lab

VENDOR, ENGINEER, OFFICER = (
    person(role, name=name)
    for role, name in (
        (Role.VENDOR, "vera"),
        (Role.BIOMEDICAL_ENGINEER, "ben"),
        (Role.SECURITY_OFFICER, "olga"),
    )
)
PEOPLE = {each.id: each for each in (VENDOR, ENGINEER, OFFICER)}
HOUR = 3600 * SECOND
ASKED = AccessRequest(
    "r1", "window", VENDOR.id, Act.FLOW_OPEN, "", "", {"flows": ["vendor"], "approver": "biomedical-engineer"}, "why",
    NOW - HOUR, NOW + HOUR, "approved", NOW - HOUR, NOW, (Decision(ENGINEER.id, "approved", "", NOW - HOUR),),
)  # fmt: skip


def opened(*requests: AccessRequest, people=PEOPLE, site=None) -> list[tuple[str, int]]:  # type: ignore[no-untyped-def]
    return [(each.flow, each.until_ns) for each in open_flows(site or lab(), requests, people, NOW)]


def test_what_was_approved_is_open_to_its_end() -> None:
    assert opened(ASKED) == [("vendor", NOW + HOUR)]
    later = replace(ASKED, id="r2", until_ns=NOW + 2 * HOUR)
    assert opened(ASKED, later) == [("vendor", NOW + 2 * HOUR)]
    assert opened(replace(ASKED, until_ns=NOW + 99 * HOUR)) == [("vendor", NOW + 3 * HOUR)], "four hours at most"
    for other in (
        replace(ASKED, from_ns=NOW + 1),
        replace(ASKED, until_ns=NOW),
        replace(ASKED, state="requested"),
        replace(ASKED, state="cancelled"),
        replace(ASKED, act=Act.DEVICE_LIST),
        replace(ASKED, facts={"flows": ["console"]}),
        replace(ASKED, facts={"flows": "vendor"}),
        replace(ASKED, facts={}),
    ):
        assert opened(other) == [], other


def test_nobody_keeps_open_what_they_could_not_ask_for_or_approve_today() -> None:
    for who, change in (
        (VENDOR, {"enabled": False}),
        (VENDOR, {"roles": frozenset({Role.AUDITOR})}),
        (ENGINEER, {"enabled": False}),
        (ENGINEER, {"until_ns": NOW}),
        (ENGINEER, {"roles": frozenset({Role.RADIOLOGIST})}),
    ):
        assert opened(ASKED, people={**PEOPLE, who.id: replace(who, **change)}) == [], change
    by_officer = replace(ASKED, decisions=(Decision(OFFICER.id, "approved", "", NOW),))
    assert opened(by_officer) == [], "the flow names another role"
    site = lab()
    theirs = tuple(
        replace(each, on_demand=OnDemand("security-officer", 3600, True)) if each.id == "vendor" else each
        for each in site.flows
    )
    assert opened(by_officer, site=replace(site, flows=theirs)) == []  # an hour at most, and that is over
    assert opened(ASKED, site=replace(site, flows=theirs)) == [], "who approved may not any more"
    assert opened(ASKED, people={}) == []


def test_who_decides_about_flows() -> None:
    there = {**on_demand(lab()), "other": OnDemand("security-officer", 60, False)}
    assert approver_of(["vendor"], there, 4 * 3600) == "biomedical-engineer"
    for flows, seconds, said in (
        (["vendor"], 4 * 3600 + 1, "240 minutes"),
        (["vendor"], 0, "240 minutes"),
        (["vendor", "other"], 60, "ask each"),
        (["vendor", "console"], 60, "'console'"),
        ([], 60, "none"),
    ):
        with pytest.raises(NotChanged, match=said):
            approver_of(flows, there, seconds)
    with pytest.raises(NotChanged, match="there is none"):
        approver_of(["x"], {}, 60)
