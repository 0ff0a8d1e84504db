"""What does somebody hold who holds one member? How far they get by pivots, by which way, and what would stop them. Pure.

The nodes are hosts: each device, archive, and in each zone whoever else is there. A flow leads from every host that it names to every other; a zone
that is not isolated leads from each of its hosts to each other. A host on the way falls to a weakness that is written down of it, or to a flaw
that nobody knows yet. A flow on demand counts: it is open some day.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import networkx as nx

from leadglass.policy.flows import zones_of
from leadglass.site.model import ARCHIVE, Site
from leadglass.terms import Action

CROWN = "crown"  # the tag of zones whose members must not fall; archive is always one of them
FLOW_COST, ISOLATION_COST = 1, 3  # of a fix: a flow less, a zone whose hosts no longer see each other
_READING = frozenset({Action.GET, Action.MOVE})
_END = ("end", "")

Node = tuple[str, str]  # host, flow, zone or end, and its name


class Kind(enum.StrEnum):
    HOST = "host"
    FLOW = "flow"
    ZONE = "zone"


@dataclass(frozen=True, slots=True)
class Step:
    """From one host to the next. `by`: the flow's id, "" for a zone that they share. `weak`: what is known of the next one."""

    source: str
    by: str
    zone: str
    target: str
    weak: tuple[str, ...]

    def __str__(self) -> str:
        how = self.by or f"zone {self.zone}"
        return f"{self.source} -[{how}]-> {self.target}"


@dataclass(frozen=True, slots=True)
class Reached:
    """A host that falls. `flaws`: how many it takes on the way that nobody knows yet, itself included; 0: known weaknesses are enough."""

    host: str
    flaws: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Fix:
    """The cheapest change after which no crown is reached: flows to close or to guard, zones to isolate; none where nothing would do."""

    flows: tuple[str, ...]
    zones: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Radius:
    """Whatever falls after `member`. `reads`: who of those held may retrieve studies in its own name; `with_somebody`: only with who sits there.

    `choke`: the flows and zones that every way to archive takes, the first first.
    """

    member: str
    hosts: tuple[Reached, ...]
    reads: tuple[str, ...]
    with_somebody: tuple[str, ...]
    choke: tuple[str, ...]
    fix: Fix

    def weak_only(self) -> tuple[Reached, ...]:
        return tuple(each for each in self.hosts if each.flaws == 0)


def members(site: Site) -> tuple[str, ...]:
    return (ARCHIVE, *site.devices)


def radius(site: Site, member: str) -> Radius:
    """`member`: a device, archive, or a zone: then whoever else is there. Raises KeyError for none of them."""
    start = _start(site, member)
    graph = _graph(site)
    costs, ways = nx.single_source_dijkstra(graph, start, weight="flaws")
    fallen = [
        Reached(name, int(costs[node]), tuple(_steps(site, ways[node])))
        for name in members(site)
        if (node := (Kind.HOST.value, name)) in costs and node != start
    ]
    hosts = tuple(sorted(fallen, key=lambda each: (each.flaws, len(each.steps), each.host)))
    held = {member, *(each.host for each in hosts)}
    reads, with_somebody = _readers(site, held)
    return Radius(member, hosts, reads, with_somebody, _choke(graph, start), _fix(site, graph, start))


def _start(site: Site, member: str) -> Node:
    if member in site.zones:
        return _stranger(member)
    if member not in members(site):
        raise KeyError(member)
    return Kind.HOST.value, member


def _stranger(zone: str) -> Node:
    return Kind.HOST.value, f"anyone in {zone}"


def _zone_of(site: Site, name: str) -> str:
    if name != ARCHIVE:
        return site.devices[name].zone
    addresses = site.firewall.addresses if site.firewall is not None else ()
    return next((site.zone_of(str(each.network_address)) for each in addresses), "")


def _graph(site: Site) -> Any:
    """Hosts, flows and zones as nodes; `flaws`: what the step into a host takes; `capacity`: what it costs to cut a flow or a zone."""
    graph: Any = nx.DiGraph()
    inside: dict[str, list[Node]] = {name: [_stranger(name)] for name in site.zones}
    for name in members(site):
        inside.setdefault(_zone_of(site, name), []).append((Kind.HOST.value, name))
    graph.add_nodes_from(node for nodes in inside.values() for node in nodes)
    for flow in site.flows:
        _through(graph, (Kind.FLOW.value, flow.id), FLOW_COST)
        for node in _named(site, inside, flow.sources):
            graph.add_edge(node, (Kind.FLOW.value, flow.id), flaws=0)
        for node in _named(site, inside, flow.targets):
            graph.add_edge((Kind.FLOW.value + " out", flow.id), node, flaws=_flaws(site, node))
    for zone in site.zones.values():
        if not zone.isolated:
            _through(graph, (Kind.ZONE.value, zone.name), ISOLATION_COST)
            for node in inside[zone.name]:
                graph.add_edge(node, (Kind.ZONE.value, zone.name), flaws=0)
                graph.add_edge((Kind.ZONE.value + " out", zone.name), node, flaws=_flaws(site, node))
    return graph


def _through(graph: Any, node: Node, capacity: int) -> None:
    """A flow or a zone: one edge that can be cut."""
    graph.add_edge(node, (f"{node[0]} out", node[1]), flaws=0, capacity=capacity)


def _flaws(site: Site, node: Node) -> int:
    device = site.devices.get(node[1])
    return 0 if device is not None and device.weak else 1


def _named(site: Site, inside: dict[str, list[Node]], names: Iterable[str]) -> set[Node]:
    """The hosts that names in a flow stand for: what the kernel lets through."""
    found: set[Node] = set()
    for name in names:
        if name == ARCHIVE or name in site.devices:
            found.add((Kind.HOST.value, name))
        else:
            found.update(node for zone in zones_of(site, name) for node in inside[zone])
    return found


def _steps(site: Site, way: list[Node]) -> Iterator[Step]:
    hosts = [number for number, (kind, _) in enumerate(way) if kind == Kind.HOST]
    for one, other in itertools.pairwise(hosts):
        kind, name = way[one + 1]
        by, zone = (name, "") if kind == Kind.FLOW else ("", name)
        target = way[other][1]
        device = site.devices.get(target)
        yield Step(way[one][1], by, zone, target, device.weak if device is not None else ())


def _readers(site: Site, held: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Whose certificate retrieves studies; and whose only together with a person."""
    alone: set[str] = {ARCHIVE} & held
    together: set[str] = set()
    for flow in site.flows:
        if ARCHIVE in flow.targets and flow.may & _READING:
            named = {name for kind, name in _named(site, _devices_by_zone(site), flow.sources) if kind == Kind.HOST}
            (together if flow.require_user_identity else alone).update(named & held & {*site.devices})
    return tuple(sorted(alone)), tuple(sorted(together - alone))


def _devices_by_zone(site: Site) -> dict[str, list[Node]]:
    inside: dict[str, list[Node]] = {name: [] for name in site.zones}
    for device in site.devices.values():
        inside.setdefault(device.zone, []).append((Kind.HOST.value, device.name))
    return inside


# ---- what would stop it


def crowns(site: Site) -> set[str]:
    """Archive, and the members of zones with the tag."""
    tagged = {zone.name for zone in site.zones.values() if CROWN in zone.tags}
    return {ARCHIVE, *(device.name for device in site.devices.values() if device.zone in tagged)}


def _choke(graph: Any, start: Node) -> tuple[str, ...]:
    """Dominators of archive, without the hosts."""
    dominators = nx.immediate_dominators(graph, start)
    node = (Kind.HOST.value, ARCHIVE)
    found: list[str] = []
    while node in dominators and node != start:
        node = dominators[node]
        if node is None:
            break
        kind, name = node
        if kind in (Kind.FLOW, Kind.ZONE):
            found.append(name if kind == Kind.FLOW else f"zone {name}")
    return tuple(reversed(found))


def _fix(site: Site, graph: Any, start: Node) -> Fix:
    """A minimal cut between the member and every crown but itself."""
    ends = [node for name in crowns(site) if (node := (Kind.HOST.value, name)) in graph and node != start]
    cut = graph.copy()
    cut.add_edges_from((node, _END) for node in ends)
    if not ends or not nx.has_path(cut, start, _END):
        return Fix((), ())
    _, (near, _) = nx.minimum_cut(cut, start, _END)
    severed = [one for one, other in cut.edges if one in near and other not in near]
    return Fix(
        tuple(sorted(name for kind, name in severed if kind == Kind.FLOW)),
        tuple(sorted(name for kind, name in severed if kind == Kind.ZONE)),
    )


# ---- a draft


def opened(old: Site, new: Site, member: str) -> tuple[tuple[Reached, ...], tuple[str, ...]]:
    """What falls after a member in the draft and did not before, and what no longer does. A member of one of them alone: everything is new, or lost."""
    before = _hosts(old, member)
    after = _hosts(new, member)
    return tuple(after[name] for name in sorted(after.keys() - before.keys())), tuple(
        sorted(before.keys() - after.keys())
    )


def _hosts(site: Site, member: str) -> dict[str, Reached]:
    try:
        return {each.host: each for each in radius(site, member).hosts}
    except KeyError:
        return {}
