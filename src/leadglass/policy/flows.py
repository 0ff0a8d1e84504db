"""What do the flows of a site give each device, and who comes to the web door by them? Compiled once a site, looked up for every decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from leadglass.site.fitting import dimse_services, web_services
from leadglass.site.model import ARCHIVE, Flow, Network, OnDemand, Site
from leadglass.terms import Action, Device


@dataclass(frozen=True, slots=True)
class Grant:
    """What one flow gives one device at the archive's DIMSE door. `sop_classes`, `destinations`: None where not confined. `on_demand`: None where it is
    always open."""

    rule: str
    actions: frozenset[Action]
    sop_classes: frozenset[str] | None
    destinations: frozenset[str] | None
    require_user_identity: bool
    on_demand: OnDemand | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """A flow that would grant something, and why it grants nothing at this door."""

    rule: str
    actions: frozenset[Action]
    why: str


@dataclass(frozen=True, slots=True)
class Way:
    """What one flow opens to the web door: from where."""

    rule: str
    networks: tuple[Network, ...]
    on_demand: OnDemand | None = None


@dataclass(frozen=True, slots=True)
class Compiled:
    """By device name: its grants, those that wait for somebody's approval, and the flows that are closed to it. By AE title: the devices that a C-MOVE
    could mean. `web`: the ways to the web door."""

    grants: Mapping[str, tuple[Grant, ...]]
    on_demand: Mapping[str, tuple[Grant, ...]]
    closed: Mapping[str, tuple[Closed, ...]]
    by_ae_title: Mapping[str, tuple[Device, ...]]
    web: tuple[Way, ...]

    def at_most(self, name: str) -> tuple[Grant, ...]:
        """Of a device: as if every flow on demand were open."""
        return self.grants.get(name, ()) + self.on_demand.get(name, ())


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
    on_demand: dict[str, list[Grant]] = {}
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
            flow.on_demand,
        )
        for name in sources:
            (grants[name] if flow.on_demand is None else on_demand.setdefault(name, [])).append(grant)
    titles: dict[str, list[Device]] = {}
    for device in site.devices.values():
        for title in device.ae_titles:
            titles.setdefault(title, []).append(device)
    return Compiled(
        {name: tuple(found) for name, found in grants.items()},
        {name: tuple(found) for name, found in on_demand.items()},
        {name: tuple(found) for name, found in closed.items()},
        {title: tuple(devices) for title, devices in titles.items()},
        _ways(site),
    )


def _ways(site: Site) -> tuple[Way, ...]:
    services = web_services(site)
    leading = [flow for flow in site.flows if ARCHIVE in flow.targets and flow.service in services]
    return tuple(Way(flow.id, _networks(site, flow.sources), flow.on_demand) for flow in leading)


def _networks(site: Site, names: Iterable[str]) -> tuple[Network, ...]:
    """The addresses that names of devices, zones and #tags stand for."""
    found: list[Network] = []
    for name in names:
        if name in site.devices:
            found += site.devices[name].networks
        else:
            found += [network for zone in sorted(zones_of(site, name)) for network in site.zones[zone].networks]
    return tuple(found)


def _shut(flow: Flow, ours: frozenset[str]) -> str:
    """Why a flow grants nothing at the DIMSE door; "" where it does."""
    if flow.service not in ours:
        return f"is for {flow.service}, which this door does not speak"
    if "mfa" in flow.auth:
        return f"demands {flow.auth}, and no DIMSE association can prove more than its certificate"
    if flow.auth != "mtls":
        return f"demands {flow.auth}, and this door demands mtls"
    return ""


def not_open(rule: str, how: OnDemand) -> str:
    """What a refusal says of a flow on demand."""
    return (
        f"{rule} is on demand, and not open now: ask for it at the console, Requests; a {how.approve} approves it, for"
        f" {how.max_seconds // 60} minutes at most"
    )


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
