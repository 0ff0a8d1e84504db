"""What do the flows of a site give each device? Compiled once a site, looked up for every decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from leadglass.site.model import ARCHIVE, Flow, Site
from leadglass.terms import Action, Device


@dataclass(frozen=True, slots=True)
class Grant:
    """What one flow gives one device at the archive's door."""

    rule: str
    actions: frozenset[Action]
    sop_classes: frozenset[str] | None
    destinations: frozenset[str] | None
    require_user_identity: bool


@dataclass(frozen=True, slots=True)
class Compiled:
    """Device name -> grants; AE title -> devices that could be a C-MOVE destination."""

    grants: Mapping[str, tuple[Grant, ...]]
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
    for flow in site.flows:
        if ARCHIVE not in flow.targets or not flow.may or flow.on_demand is not None or "mtls" not in flow.auth:
            continue
        grant = Grant(
            flow.id,
            flow.may,
            flow.sop_classes,
            None if flow.destinations is None else frozenset(members(site, flow.destinations)),
            flow.require_user_identity or "mfa" in flow.auth,
        )
        for name in members(site, flow.sources):
            grants[name].append(grant)
    titles: dict[str, list[Device]] = {}
    for device in site.devices.values():
        for title in device.ae_titles:
            titles.setdefault(title, []).append(device)
    return Compiled(
        {name: tuple(found) for name, found in grants.items()},
        {title: tuple(devices) for title, devices in titles.items()},
    )


def members(site: Site, names: Iterable[str]) -> set[str]:
    """The devices that names of devices, zones and #tags stand for."""
    found: set[str] = set()
    for name in names:
        if name in site.devices:
            found.add(name)
        else:
            zones = zones_of(site, name)
            found |= {device.name for device in site.devices.values() if device.zone in zones}
    return found


def zones_of(site: Site, name: str) -> set[str]:
    """The zones that a name of a zone, device or #tag stands for."""
    if name.startswith("#"):
        return {zone.name for zone in site.zones.values() if name[1:] in zone.tags}
    if name in site.devices:
        return {site.devices[name].zone}
    return {name} if name in site.zones else set()


def flow_ends(site: Site, flow: Flow) -> tuple[set[str], set[str]]:
    """Source and target of a flow as graph nodes: zones, and `archive`."""
    ends = []
    for names in (flow.sources, flow.targets):
        found: set[str] = set()
        for name in names:
            found |= {ARCHIVE} if name == ARCHIVE else zones_of(site, name)
        ends.append(found)
    return ends[0], ends[1]
