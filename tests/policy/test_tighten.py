"""What nobody used: found as far as evidence reaches, never further; what is promised stays; what comes out is proven."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leadglass.policy.flows import compiled
from leadglass.policy.proof import prove
from leadglass.policy.tighten import Evidence, Part, Tightened, tighten
from leadglass.site.draft import Disable, Drop, Rewrite
from leadglass.site.model import Site
from leadglass.terms import Action
from tests.policy.firewall.sites import generated, written

DAY_NS = 86_400 * 10**9
NOW = 1_000 * DAY_NS
CT, MR, SC = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7")

PLACE = """
[doors.web]
listen = "10.9.0.1:443"
[firewall]
addresses = ["10.9.0.1/32"]
user = "leadglass-firewall"
[services]
https = "tcp/443"
ssh = "tcp/22"
ntp = "udp/123"
[zones.core]
networks = ["10.9.0.0/24"]
isolated = true
[zones.rooms]
networks = ["10.1.0.0/24"]
isolated = true
[zones.desks]
networks = ["10.2.0.0/24"]
isolated = true
[zones.wards]
networks = ["10.3.0.0/24"]
isolated = true
[devices.CT1]
zone = "rooms"
network = "10.1.0.1/32"
ae_titles = ["CT1"]
[devices.MR1]
zone = "rooms"
network = "10.1.0.2/32"
ae_titles = ["MR1"]
[devices.OLD]
zone = "rooms"
network = "10.1.0.3/32"
ae_titles = ["OLD"]
[devices.WS1]
zone = "desks"
network = "10.2.0.1/32"
ae_titles = ["WS1"]
address = "10.2.0.1:11112"
[[flows]]
id = "images"
from = ["rooms"]
to = ["archive"]
service = "dicom-tls"
may = ["echo", "store", "commit"]
why = "rooms store"
[[flows]]
id = "reads"
from = ["WS1"]
to = ["archive"]
service = "dicom-tls"
may = ["echo", "find", "get", "move"]
why = "reading"
[[flows]]
id = "console"
from = ["desks", "wards"]
to = ["archive"]
service = "https"
auth = "mfa"
why = "people"
[[flows]]
id = "time"
from = ["archive"]
to = ["WS1"]
service = "ntp"
auth = "none"
why = "time"
[[flows]]
id = "service"
from = ["desks"]
to = ["rooms"]
service = "ssh"
auth = "mfa"
why = "maintenance"
[[flows]]
id = "visit"
from = ["wards"]
to = ["CT1"]
service = "ssh"
auth = "mfa"
on_demand = { approve = "biomedical-engineer", max = "4h", record = true }
why = "by appointment"
"""
USED: Mapping[str, Mapping[str, list[tuple[str, str]]]] = {
    "images": {
        "CT1": [("associate", ""), ("store", CT), ("echo", "")],
        "MR1": [("associate", ""), ("store", MR), ("store", SC), ("echo", ""), ("commit", "")],
    },
    "reads": {"WS1": [("associate", ""), ("find", ""), ("move", "WS1")]},
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return written(tmp_path, PLACE)


def evidence(site: Site, **changes: Any) -> Evidence:
    """Of thirty days, in all of which everything stood and everybody listened."""
    since = {f"flow:{each.id}": 1 for each in site.flows} | {f"device:{name}": 1 for name in site.devices}
    told: dict[str, Any] = {"rights": USED, "addresses": {"10.2.0.7"}, "packets": {"time"}, "watched": True}
    return Evidence(**{"from_ns": NOW - 30 * DAY_NS, "journal_ns": 1, "since": since, **told, **changes})


def flows(found: Tightened, name: str) -> dict[str, Any]:
    return {each.id: each for each in found.site.flows if each.id.startswith(name)}


def unknown(found: Tightened) -> dict[str, str]:
    return {f"{each.part} {each.name}": each.why for each in found.unknown}


def test_each_device_keeps_what_it_used(site: Site) -> None:
    found = tighten(site, evidence(site))
    images = flows(found, "images")
    assert {name: each.sources for name, each in images.items()} == {"images": ("CT1",), "images-MR1": ("MR1",)}
    assert images["images"].may == {Action.ECHO, Action.STORE} and images["images"].sop_classes == {CT}
    assert images["images-MR1"].may == {*Action} - {Action.FIND, Action.GET, Action.MOVE}
    assert images["images-MR1"].sop_classes == {MR, SC} and images["images-MR1"].why == "rooms store"
    (rights,) = (each for each in found.findings if each.name == "images")
    assert rights.part is Part.RIGHTS and "OLD did nothing by it" in rights.unused
    assert "CT1 stored CTImageStorage, and nothing else" in rights.unused and "CT1 did not commit" in rights.unused


def test_whoever_reads_keeps_the_sop_classes_because_nobody_knows_what_it_was_shown(site: Site) -> None:
    (reads,) = flows(tighten(site, evidence(site)), "reads").values()
    assert reads.may == {Action.FIND, Action.MOVE} and reads.sop_classes is None and reads.destinations == {"WS1"}


def test_flows_that_nobody_used_go_with_their_port(site: Site) -> None:
    found = tighten(site, evidence(site, packets=()))
    gone = {each.name: each for each in found.findings if each.part is Part.FLOW}
    assert set(gone) == {"time", "visit"} and "udp/123 (ntp)" in gone["time"].unused[0]
    assert {each.name for each in found.findings if each.part is Part.SERVICE} == {"ntp"}
    assert "ntp" not in found.site.services and "time" not in {each.id for each in found.site.flows}


def test_of_the_web_door_the_zones_go_that_nobody_came_from(site: Site) -> None:
    (console,) = flows(tighten(site, evidence(site)), "console").values()
    assert console.sources == ("desks",)
    assert not any(
        each.name == "console" for each in tighten(site, evidence(site, addresses={"10.2.0.7", "10.3.0.8"})).findings
    )
    assert "console" in {
        each.name for each in tighten(site, evidence(site, addresses=())).findings if each.part is Part.FLOW
    }
    with_machines = tighten(site, evidence(site, addresses=(), machines=True))
    assert "in no event" in unknown(with_machines)["flow console"]


def test_a_device_that_did_nothing_is_kept_out(site: Site) -> None:
    without = replace(site, flows=tuple(each for each in site.flows if each.id not in ("service", "visit")))
    found = tighten(without, evidence(without))
    assert [each.edit for each in found.findings if each.part is Part.DEVICE] == [Disable("OLD")]
    assert not found.site.devices["OLD"].enabled and found.site.devices["WS1"].enabled, "images are moved to it"
    assert "nobody sees whether it uses service" in unknown(tighten(site, evidence(site)))["device OLD"]


def test_nothing_is_proposed_where_the_evidence_does_not_reach(site: Site) -> None:
    short = tighten(site, evidence(site, journal_ns=NOW - 10 * DAY_NS, packets=()))
    assert {each.part for each in short.findings} <= {Part.FLOW, Part.SERVICE} and "time" in {
        each.name for each in short.findings
    }
    assert "the journal does not reach back" in unknown(short)["rights images"]
    empty = tighten(site, evidence(site, journal_ns=0, rights={}, addresses=(), packets=(), watched=False))
    assert [each.name for each in empty.findings] == ["visit"], "it was shut all the time, whoever looked"
    assert set(unknown(empty)) >= {"flow images", "flow reads", "flow console", "flow time", "flow service"}
    silent = tighten(site, evidence(site, watched=False, packets=()))
    assert "not heard on every one" in unknown(silent)["flow time"]
    assert "does not pass archive's host" in unknown(silent)["flow service"]


def test_what_came_later_is_no_evidence_against_itself(site: Site) -> None:
    since = dict(evidence(site).since)
    later = evidence(site, since={**since, "flow:time": NOW - 3 * DAY_NS, "device:OLD": NOW - 3 * DAY_NS}, packets=())
    found = tighten(site, later)
    assert "not stood for so long" in unknown(found)["flow time"] and "time" in {each.id for each in found.site.flows}
    images = flows(found, "images")
    assert {"OLD"} in [set(each.sources) for each in images.values()], "it keeps all of it"
    (kept,) = (each for each in images.values() if each.sources == ("OLD",))
    assert kept.may == {Action.ECHO, Action.STORE, Action.COMMIT} and kept.sop_classes is None
    assert tighten(site, evidence(site, since={})).edits == ()


def test_a_flow_on_demand_that_was_open_is_told_by_who_sees_it(site: Site) -> None:
    assert "visit" in {each.name for each in tighten(site, evidence(site)).findings}
    assert "does not pass" in unknown(tighten(site, evidence(site, opened={"visit"})))["flow visit"]


def test_what_a_test_of_the_file_promises_stays_though_nobody_used_it(tmp_path: Path) -> None:
    zones = ("core", "rooms", "desks", "wards")
    accepted = {
        ("desks", "archive"): "archive:https",
        ("desks", "rooms"): "rooms:ssh",
        ("OLD", "archive"): "archive:store RTPlanStorage",
    }
    text = PLACE
    for who, target in {*((one, other) for one in zones for other in (*zones, "archive") if one != other), *accepted}:
        said = accepted.get((who, target))
        denied = f"{target}:{'find' if target == 'archive' else 'https'}"
        text += f'[[tests]]\nwho = "{who}"\n' + (f'accept = ["{said}"]\n' if said else f'deny = ["{denied}"]\n')
    site = written(tmp_path, text)
    assert prove(site) == ()
    found = tighten(site, evidence(site, addresses=(), packets={"time", "service"}))
    (old,) = (each for each in flows(found, "images").values() if "OLD" in each.sources)
    assert old.may == {Action.STORE} and old.sop_classes == {"1.2.840.10008.5.1.4.1.1.481.5"}
    (console,) = (each for each in found.findings if each.name == "console")
    assert (
        console.edit is None
        and "expected ALLOWED" in console.kept
        and "console" in {each.id for each in found.site.flows}
    )
    assert prove(found.site) == ()


def test_a_class_that_is_not_known_any_more_narrows_nothing(site: Site) -> None:
    """Its study was erased: what was stored is known, and not as what."""
    used = {**USED, "images": {"CT1": [("associate", ""), ("store", ""), ("store", CT)]}}
    (images,) = flows(tighten(site, evidence(site, rights=used)), "images").values()
    assert images.sources == ("CT1",) and images.sop_classes is None


def test_many_devices_are_not_split_into_as_many_flows(tmp_path: Path) -> None:
    text = PLACE
    for n in range(10, 40):
        text += f'[devices.X{n}]\nzone = "rooms"\nnetwork = "10.1.0.{n}/32"\nae_titles = ["X{n}"]\n'
    site = written(tmp_path, text)
    used = {**USED, "images": {f"X{n}": [("store", f"1.2.{n}")] for n in range(10, 40)}}
    images = flows(tighten(site, evidence(site, rights=used)), "images")
    assert len(images) == 1 and len(images["images"].sop_classes) == 30 and len(images["images"].sources) == 30


@pytest.mark.parametrize("seed", range(30))
def test_nobody_gains_and_nobody_who_used_something_loses_it(tmp_path: Path, seed: int) -> None:
    """By chance: of the draft's rights none is new, and every one that was used is there."""
    site = generated(tmp_path, seed)
    rng = random.Random(seed)
    may = frozenset(Action)
    site = replace(site, flows=tuple(replace(each, may=may) if each.targets == ("archive",) and each.service == "dicom-tls" else each for each in site.flows))  # fmt: skip
    used: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for name, grants in compiled(site).grants.items():
        for grant in grants if site.devices[name].enabled else ():
            for action in (Action.ECHO, Action.STORE, Action.COMMIT, Action.FIND):
                if rng.random() < 0.3:
                    used.setdefault(grant.rule, {}).setdefault(name, []).append(
                        (action, CT if action is Action.STORE else "")
                    )
    found = tighten(site, evidence(site, rights=used, addresses=(), packets=(), watched=rng.random() < 0.5))
    before, after = rights(site), rights(found.site)
    assert after <= before
    for rule, devices in used.items():
        for name, done in devices.items():
            for action, what in done:
                assert any(own == name and act == action for own, act, _ in after), (rule, name, action, what)
    assert all(isinstance(each, Rewrite | Disable | Drop) for each in found.edits)


def rights(site: Site) -> set[tuple[str, Action, str]]:
    """Device, action, and for a store each of a few SOP classes."""
    return {
        (name, action, sop_class)
        for name, grants in compiled(site).grants.items()
        if site.devices[name].enabled
        for grant in grants
        for action in grant.actions
        for sop_class in ((CT, MR) if action is Action.STORE else ("",))
        if not sop_class or grant.sop_classes is None or sop_class in grant.sop_classes
    }
