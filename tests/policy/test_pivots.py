"""How far an intruder gets, against walking the flows one by one; and every fix is tried: nothing smaller helps."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from leadglass.policy.flows import zones_of
from leadglass.policy.pivots import FLOW_COST, ISOLATION_COST, Fix, crowns, members, opened, radius
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
        more = {
            other
            for one in fallen
            for other in zones
            if other not in fallen
            and (
                (zones[one] and zones[one] == zones[other] and not site.zones[zones[one]].isolated)
                or any(
                    means(site, zones, flow.sources, one) and means(site, zones, flow.targets, other)
                    for flow in site.flows
                )
            )
        }
        if not more:
            return {each for each in fallen if each in members(site)} - {start}
        fallen |= more


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
    for member in members(site):
        found = radius(site, member)
        assert {each.host for each in found.hosts} == walked(site, member)
        crown = crowns(site) - {member}
        assert not walked(mended(site, found.fix), member) & crown
        for smaller in fixes(site, cost(found.fix)):
            assert walked(mended(site, smaller), member) & crown, (member, smaller, found.fix)


@pytest.mark.parametrize("seed", range(20))
def test_a_way_is_one_that_can_be_walked(tmp_path: Path, seed: int) -> None:
    site = generated(tmp_path, seed)
    weak = {name: replace(device, weak=("smb1",)) for name, device in list(site.devices.items())[::2]}
    site = replace(site, devices={**site.devices, **weak})
    zones = hosts_of(site)
    for member in members(site):
        for each in radius(site, member).hosts:
            assert each.steps[0].source == member and each.steps[-1].target == each.host
            for one, after in zip(each.steps, each.steps[1:], strict=False):
                assert one.target == after.source
            for step in each.steps:
                if step.by:
                    (flow,) = (flow for flow in site.flows if flow.id == step.by)
                    assert means(site, zones, flow.sources, step.source) and means(
                        site, zones, flow.targets, step.target
                    )
                else:
                    assert zones[step.source] == zones[step.target] == step.zone and not site.zones[step.zone].isolated
            assert each.flaws == sum(step.target not in weak for step in each.steps)


def test_every_choke_point_is_on_every_way(tmp_path: Path) -> None:
    for seed in range(20):
        site = generated(tmp_path / str(seed), seed)
        for member in members(site):
            for name in radius(site, member).choke:
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
    assert found.fix == Fix(("vendor",), ()) and found.choke == ("vendor",) and found.weak_only() == ()
    assert radius(lab(), "guest").hosts == () and radius(lab(), "archive").reads == ("archive",)


def test_who_may_read_is_told_apart_from_who_may_with_somebody() -> None:
    found = radius(lab(), "WS01")
    assert found.with_somebody == ("WS01",) and found.reads == ("archive",)


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
    assert found.fix == Fix((), ("one",)) and found.choke == ("zone one",)
    with pytest.raises(KeyError):
        radius(site, "nobody")
