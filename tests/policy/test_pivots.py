"""How far an intruder gets, against walking the flows one by one; and every fix is tried: nothing smaller helps."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from leadglass.policy.cuts import FLOW_COST, ISOLATION_COST, Chokes, Fix, fix
from leadglass.policy.flows import zones_of
from leadglass.policy.pivots import Reader, Terrain, crowns, members, opened, radius, told, ways_to_crowns
from leadglass.site.load import SP1800_24, load
from leadglass.site.model import ARCHIVE, Site
from tests.policy.firewall.sites import generated, lab, written


def hosts_of(site: Site) -> dict[str, str]:
    """Host → zone, and whoever else is in each."""
    archive = next((site.zone_of(str(each.network_address)) for each in site.firewall.addresses), "")
    named = {ARCHIVE: archive, **{device.name: device.zone for device in site.devices.values()}}
    return {**named, **{f"anyone in {zone}": zone for zone in site.zones}}


def walked(site: Site, start: str) -> set[str]:
    """By trying every flow and every zone until nothing new falls."""
    zones = hosts_of(site)
    fallen = {start}
    while True:
        more = {other for one in fallen for other in zones if other not in fallen and leads(site, zones, one, other)}
        if not more:
            return {each for each in fallen if each in members(site)} - {start}
        fallen |= more


def leads(site: Site, zones: dict[str, str], one: str, other: str) -> bool:
    if zones[one] and zones[one] == zones[other] and not site.zones[zones[one]].isolated:
        return True
    flows = site.flows
    return any(means(site, zones, flow.sources, one) and means(site, zones, flow.targets, other) for flow in flows)


def means(site: Site, zones: dict[str, str], names: tuple[str, ...], host: str) -> bool:
    return any(
        name == host or (name not in site.devices and name != ARCHIVE and zones[host] in zones_of(site, name))
        for name in names
    )


def mended(site: Site, fix: Fix) -> Site:
    flows = tuple(each for each in site.flows if each.id not in fix.flows)
    zones = {name: replace(zone, isolated=zone.isolated or name in fix.zones) for name, zone in site.zones.items()}
    return replace(site, flows=flows, zones=zones)


def cost(fix: Fix) -> int:
    return FLOW_COST * len(fix.flows) + ISOLATION_COST * len(fix.zones)


def fixes(site: Site, below: int) -> list[Fix]:
    """Everything that costs less."""
    flows, zones = [each.id for each in site.flows], [zone.name for zone in site.zones.values() if not zone.isolated]
    return [
        Fix(some, others)
        for many in range(min(below // FLOW_COST, len(flows)) + 1)
        for some in combinations(flows, many)
        for more in range(len(zones) + 1)
        for others in combinations(zones, more)
        if cost(Fix(some, others)) < below
    ]


@pytest.mark.parametrize("seed", range(40))
def test_what_falls_and_what_would_stop_it(tmp_path: Path, seed: int) -> None:
    site = generated(tmp_path, seed)
    terrain = Terrain(site)
    for member in members(site):
        assert {each.host for each in terrain.radius(member).hosts} == walked(site, member)
        crown, found = crowns(site) - {member}, fix(terrain, member)
        assert not walked(mended(site, found), member) & crown
        for smaller in fixes(site, cost(found)):
            assert walked(mended(site, smaller), member) & crown, (member, smaller, found)


@pytest.mark.parametrize("seed", range(20))
def test_a_way_is_one_that_can_be_walked(tmp_path: Path, seed: int) -> None:
    site = generated(tmp_path, seed)
    weak = {name: replace(device, weak=("smb1",)) for name, device in list(site.devices.items())[::2]}
    site = replace(site, devices={**site.devices, **weak})
    zones = hosts_of(site)
    for member in members(site):
        for each in radius(site, member).hosts:
            for steps in (each.steps, each.shortest):
                assert steps[0].source == member and steps[-1].target == each.host
                for one, after in itertools.pairwise(steps):
                    assert one.target == after.source
                for step in steps:
                    if step.by:
                        (flow,) = (flow for flow in site.flows if flow.id == step.by)
                        assert means(site, zones, flow.sources, step.source)
                        assert means(site, zones, flow.targets, step.target)
                    else:
                        assert zones[step.source] == zones[step.target] == step.zone
                        assert not site.zones[step.zone].isolated
            assert each.flaws == sum(step.target not in weak for step in each.steps) <= len(each.shortest)
            assert len(each.shortest) == distance(site, zones, member, each.host)
            assert each.flaws == distance(site, zones, member, each.host, free=weak.keys())


def distance(site: Site, zones: dict[str, str], start: str, end: str, free: Iterable[str] = ()) -> int:
    """By going on from the nearest, all hosts against all: how many steps, those to `free` hosts not counted."""
    best, done = {start: 0}, set()
    while True:
        here = min((each for each in best if each not in done), key=best.__getitem__)
        if here == end:
            return best[here]
        done.add(here)
        for other in zones:
            if leads(site, zones, here, other):
                best[other] = min(best.get(other, 1 << 30), best[here] + (other not in free))


def test_every_choke_point_is_on_every_way(tmp_path: Path) -> None:
    for seed in range(20):
        site = generated(tmp_path / str(seed), seed)
        chokes = Chokes(Terrain(site))
        for member in members(site):
            for name in chokes.of(member):
                zone = name.removeprefix("zone ") if name.startswith("zone ") else ""
                without = mended(site, Fix(() if zone else (name,), (zone,) if zone else ()))
                assert ARCHIVE not in walked(without, member)


def test_the_vendors_way_to_archive_is_found_and_told() -> None:
    """The residual risk of the lab's site file: vendor, jump host, modality, archive."""
    found = radius(lab(), "vendor-jump")
    (archive,) = (each for each in found.hosts if each.host == ARCHIVE)
    assert [str(step) for step in archive.steps] == [
        "vendor-jump -[vendor]-> jump",
        "jump -[maintenance]-> US07",
        "US07 -[modalities-store]-> archive",
    ]
    assert archive.flaws == 2, "US07 is known to be weak"
    terrain = Terrain(lab())
    assert fix(terrain, "vendor-jump") == Fix(("vendor",), ()) and Chokes(terrain).of("vendor-jump") == ("vendor",)
    assert found.weak_only() == () and fix(terrain, "guest") == Fix((), ()) and radius(lab(), "guest").hosts == ()
    words = told(lab(), archive.steps)
    assert words.startswith(
        "whoever holds vendor-jump gets into jump over the flow vendor (https, on demand: a vendor's session"
    )
    assert (
        "into US07 over the flow maintenance (ssh: biomedical engineering), known to be weak (plaintext-dicom, smb1)"
        in words
    )


def test_a_stolen_worker_of_ours_reads_everything_and_is_a_starting_point() -> None:
    found = radius(lab(), ARCHIVE)
    assert found.reads == (Reader(ARCHIVE, None),) and {"replica", "vna", "US07"} <= {each.host for each in found.hosts}
    assert fix(Terrain(lab()), ARCHIVE) == Fix(("replication",), ()), "the replica is the crown too"


def test_how_much_depends_on_one_flow() -> None:
    exposure = dict(Chokes(Terrain(lab())).exposure())
    hosts = [
        host for host in Terrain(lab()).hosts if "vendor" in Chokes(Terrain(lab())).of(host.removeprefix("anyone in "))
    ]
    assert exposure["vendor"] == len(hosts) == 2


READERS = """
[doors.web]
listen = "10.1.0.1:443"
[firewall]
addresses = ["10.1.0.1/32"]
[services]
https = "tcp/443"
[zones.core]
networks = ["10.1.0.0/24"]
isolated = true
[zones.rooms]
networks = ["10.2.0.0/24"]
isolated = true
[devices.viewer]
zone = "rooms"
network = "10.2.0.1/32"
[devices.sender]
zone = "rooms"
network = "10.2.0.2/32"
[devices.printer]
zone = "rooms"
network = "10.2.0.3/32"
address = "10.2.0.3:104"
[devices.desk]
zone = "rooms"
network = "10.2.0.4/32"
[[flows]]
id = "views"
from = ["viewer"]
to = ["archive"]
service = "dicom-tls"
may = ["get"]
sop_classes = ["CTImageStorage"]
why = "reads CT"
[[flows]]
id = "sends"
from = ["sender"]
to = ["archive"]
service = "dicom-tls"
may = ["move"]
destinations = ["printer"]
why = "has images printed"
[[flows]]
id = "console"
from = ["desk"]
to = ["archive"]
service = "https"
auth = "mfa"
why = "people"
"""


def test_who_reads_studies_and_which(tmp_path: Path) -> None:
    """A C-MOVE gives images to whoever holds its destination; a flow that is confined gives some studies; people at a desk see their own."""
    terrain = Terrain(written(tmp_path, READERS))
    assert list(terrain.readers(["viewer"])) == [Reader("viewer", frozenset({"1.2.840.10008.5.1.4.1.1.2"}))]
    assert list(terrain.readers(["sender"])) == [] and list(terrain.readers(["printer"])) == []
    assert list(terrain.readers(["sender", "printer"])) == [Reader("sender", None)]
    assert list(terrain.readers(["desk"])) == []
    assert terrain.radius("desk").with_somebody == ("desk",), "whoever signs in there"


def test_who_may_read_is_told_apart_from_who_may_with_somebody() -> None:
    found = radius(lab(), "WS01")
    assert "WS01" in found.with_somebody and found.reads == (Reader("archive", None),)


def test_which_ways_to_the_crown_a_draft_opens_from_anywhere() -> None:
    site = lab()
    without = replace(site, flows=tuple(each for each in site.flows if each.id != "vendor"))
    gained, lost = ways_to_crowns(without, site)
    assert {(each.start, each.crown) for each in gained} == {
        (start, crown) for start in ("vendor-jump", "vendor-dmz") for crown in ("archive", "replica")
    }
    assert lost == () and ways_to_crowns(site, site) == ((), ())
    assert ways_to_crowns(site, without) == ((), tuple(sorted((each.start, each.crown) for each in gained)))
    assert "vendor-jump -[vendor]-> jump, jump -[maintenance]-> " in str(gained[0])


def test_weak_hosts_fall_to_what_is_known(tmp_path: Path) -> None:
    site = lab()
    weak = replace(site, devices={**site.devices, "jump": replace(site.devices["jump"], weak=("rdp",))})
    assert {each.host for each in radius(weak, "vendor-jump").weak_only()} == {"jump", "US07"}
    assert radius(load(SP1800_24), "vendor-jump").weak_only() == ()


def test_a_draft_is_told_by_what_it_opens_and_closes() -> None:
    site = lab()
    without = replace(site, flows=tuple(each for each in site.flows if each.id != "vendor"))
    gained, lost = opened(without, site, "vendor-jump")
    assert ARCHIVE in {each.host for each in gained} and lost == ()
    assert opened(site, without, "vendor-jump") == ((), tuple(sorted(each.host for each in gained)))
    assert opened(site, site, "vendor-jump") == ((), ())


def test_a_zone_without_isolation_is_a_way_and_isolating_it_is_the_fix(tmp_path: Path) -> None:
    site = written(
        tmp_path,
        '[firewall]\naddresses = ["10.1.0.1/32"]\n[zones.one]\nnetworks = ["10.1.0.0/24"]\n'
        '[devices.desk]\nzone = "one"\nnetwork = "10.1.0.7/32"\n',
    )
    found = radius(site, "desk")
    assert [str(step) for each in found.hosts for step in each.steps] == ["desk -[zone one]-> archive"]
    assert fix(Terrain(site), "desk") == Fix((), ("one",)) and Chokes(Terrain(site)).of("desk") == ("zone one",)
    with pytest.raises(KeyError):
        radius(site, "nobody")
