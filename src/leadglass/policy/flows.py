"""What do the flows of a site give each device? Compiled once a site, looked up for every decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from leadglass.site.fitting import dimse_services
from leadglass.site.model import ARCHIVE, Flow, Site
from leadglass.terms import Action, Device


@dataclass(frozen=True, slots=True)
class Grant:
    """What one flow gives one device at the archive's DIMSE door. `sop_classes`, `destinations`: None where not confined."""

    rule: str
    actions: frozenset[Action]
    sop_classes: frozenset[str] | None
    destinations: frozenset[str] | None
    require_user_identity: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """A flow that would grant something, and why it grants nothing at this door."""

    rule: str
    actions: frozenset[Action]
    why: str


@dataclass(frozen=True, slots=True)
class Compiled:
    """By device name: its grants, and the flows that are closed to it. By AE title: the devices that a C-MOVE could mean."""

    grants: Mapping[str, tuple[Grant, ...]]
    closed: Mapping[str, tuple[Closed, ...]]
    by_ae_title: Mapping[str, tuple[Device, ...]]


class _Holder:
    """Lets a site, which is not hashable, be looked up by its identity."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def __hash__(self) -> int:
        return id(self.site)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Holder) and other.site is self.site


@lru_cache(maxsize=8)
def _compile(holder: _Holder) -> Compiled:
    return _build(holder.site)


def compiled(site: Site) -> Compiled:
    """The lookup for a site; made once for each `Site` object."""
    return _compile(_Holder(site))


def _build(site: Site) -> Compiled:
    grants: dict[str, list[Grant]] = {name: [] for name in site.devices}
    closed: dict[str, list[Closed]] = {name: [] for name in site.devices}
    ours = dimse_services(site)
    zones = _by_zone(site)
    for flow in site.flows:
        if ARCHIVE not in flow.targets or not flow.may:
            continue
        sources = _members(site, zones, flow.sources)
        if why := _shut(flow, ours):
            for name in sources:
                closed[name].append(Closed(flow.id, flow.may, why))
            continue
        grant = Grant(
            flow.id,
            flow.may,
            flow.sop_classes,
            None if flow.destinations is None else frozenset(_members(site, zones, flow.destinations)),
            flow.require_user_identity,
        )
        for name in sources:
            grants[name].append(grant)
    titles: dict[str, list[Device]] = {}
    for device in site.devices.values():
        for title in device.ae_titles:
            titles.setdefault(title, []).append(device)
    return Compiled(
        {name: tuple(found) for name, found in grants.items()},
        {name: tuple(found) for name, found in closed.items()},
        {title: tuple(devices) for title, devices in titles.items()},
    )


def _shut(flow: Flow, ours: frozenset[str]) -> str:
    """Why a flow grants nothing at the DIMSE door; "" where it does."""
    if flow.service not in ours:
        return f"is for {flow.service}, which this door does not speak"
    if "mfa" in flow.auth:
        return f"demands {flow.auth}, and no DIMSE association can prove more than its certificate"
    if flow.auth != "mtls":
        return f"demands {flow.auth}, and this door demands mtls"
    if flow.on_demand is not None:
        return f"is on demand of a {flow.on_demand.approve}: approved, it opens the network, and nothing at this door"
    return ""


def members(site: Site, names: Iterable[str]) -> set[str]:
    """The devices that names of devices, zones and #tags stand for."""
    return _members(site, _by_zone(site), names)


def _by_zone(site: Site) -> Mapping[str, list[str]]:
    zones: dict[str, list[str]] = {name: [] for name in site.zones}
    for device in site.devices.values():
        zones.setdefault(device.zone, []).append(device.name)
    return zones


def _members(site: Site, zones: Mapping[str, list[str]], names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        if name in site.devices:
            found.add(name)
        else:
            for zone in zones_of(site, name):
                found.update(zones[zone])
    return found


def zones_of(site: Site, name: str) -> set[str]:
    """The zones that a name of a zone, device or #tag stands for; none for `archive`."""
    if name.startswith("#"):
        return {zone.name for zone in site.zones.values() if name[1:] in zone.tags}
    if name in site.devices:
        return {site.devices[name].zone}
    return {name} if name in site.zones else set()
