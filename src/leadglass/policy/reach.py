"""Who gets where over the flows of a site, in one step or through any chain of pivots?

The nodes are what an intruder holds: a zone whose members reach each other without passing a flow is one node, because holding one of them is
holding all; an isolated zone is a node for each device and one for whoever else is there; `archive` is a node too. Every flow counts, one on
demand as well: it is open some day.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from leadglass.policy.flows import zones_of
from leadglass.site.fitting import PHI
from leadglass.site.model import ARCHIVE, Flow, Site


@dataclass(frozen=True, slots=True)
class Graph:
    """Which flows lead from each node, and to which nodes."""

    site: Site
    leaving: Mapping[str, tuple[tuple[Flow, frozenset[str]], ...]]


def graph_of(site: Site) -> Graph:
    leaving: dict[str, list[tuple[Flow, frozenset[str]]]] = {}
    for flow in site.flows:
        targets = frozenset(nodes(site, flow.targets))
        for source in nodes(site, flow.sources):
            leaving.setdefault(source, []).append((flow, targets))
    return Graph(site, {node: tuple(flows) for node, flows in leaving.items()})


def nodes(site: Site, names: Iterable[str]) -> set[str]:
    """The nodes that names of devices, zones, #tags and `archive` stand for."""
    found: set[str] = set()
    for name in names:
        if name == ARCHIVE:
            found.add(ARCHIVE)
        elif name in site.devices:
            zone = site.devices[name].zone
            found.add(name if site.zones[zone].isolated else zone)
        else:
            for zone in zones_of(site, name):
                found.add(zone)
                if site.zones[zone].isolated:
                    found |= {device.name for device in site.devices.values() if device.zone == zone}
    return found


def holding(site: Site, names: Iterable[str]) -> set[str]:
    """As `nodes`, for what a never rule protects: `archive` holds patients' data, so #phi means it too."""
    listed = list(names)
    return nodes(site, listed) | ({ARCHIVE} if f"#{PHI}" in listed else set())


def chains(graph: Graph, sources: set[str], targets: set[str]) -> Iterator[tuple[str, ...]]:
    """For each target that can be reached, a shortest way as it is told: node, flow, node, flow, node."""
    came: dict[str, tuple[str, str]] = {}
    waiting = deque(sorted(sources))
    while waiting:
        here = waiting.popleft()
        for flow, ends in graph.leaving.get(here, ()):
            for end in sorted(ends - came.keys() - sources):
                came[end] = (here, flow.id)
                waiting.append(end)
    for hit in sorted(targets & came.keys()):
        way = [hit]
        while way[-1] in came:
            way += reversed(came[way[-1]])
        yield tuple(reversed(way))


def step(site: Site, flow: Flow, source: str, target: str) -> bool:
    """Does this one flow lead from a device or zone to something in `target`? The kernel's view: addresses, no pivots."""
    return _names(site, flow.sources, source) and _touches(site, flow.targets, target)


def _names(site: Site, names: Iterable[str], who: str) -> bool:
    """Is all of `who` meant: the device itself, or the zone it is in?"""
    zone = site.devices[who].zone if who in site.devices else who
    return any(name == who or zone in (zones_of(site, name) if name not in site.devices else ()) for name in names)


def _touches(site: Site, names: Iterable[str], target: str) -> bool:
    """Is any of `target` meant? A zone is touched by a flow to one of its devices, a device by one to its zone."""
    if target == ARCHIVE:
        return ARCHIVE in names
    for name in names:
        if name == target:
            return True
        if name in site.devices and target in site.devices:
            continue  # two different devices
        if zones_of(site, name) & zones_of(site, target):
            return True
    return False
