"""What does somebody hold who holds one member? How far they get by pivots, by which way, and who of those then reads studies. Pure.

The nodes are hosts: each device, archive, and in each zone whoever else is there. A gate leads from hosts to hosts: a flow from all that it names
to all that it names, a zone that is not isolated from each of its hosts to each other. A host on the way falls to a weakness that is written down
of it, or to a flaw that nobody knows yet. A flow on demand counts: it is open some day. What would stop it is in `cuts.py`.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from leadglass.policy.flows import compiled, zones_of
from leadglass.site.model import ARCHIVE, Flow, Site
from leadglass.terms import Action

CROWN = "crown"  # the tag of zones whose members must not fall; archive is always one of them
_READING = frozenset({Action.GET, Action.MOVE})


class Kind(enum.StrEnum):
    FLOW = "flow"
    ZONE = "zone"


@dataclass(frozen=True, slots=True)
class Gate:
    """A flow or a shared zone, and which hosts it leads to."""

    kind: Kind
    name: str
    targets: tuple[str, ...]

    def __str__(self) -> str:
        return self.name if self.kind is Kind.FLOW else f"zone {self.name}"


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
    """A host that falls. `flaws`: how many it takes at least that nobody knows yet, itself included; 0: known weaknesses are enough.

    `steps`: a way that takes no more flaws; `shortest`: one with the fewest steps.
    """

    host: str
    flaws: int
    steps: tuple[Step, ...]
    shortest: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """A host from which studies can be read. `sop_classes`: None for every study, else those with instances of these."""

    host: str
    sop_classes: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Radius:
    """Whatever falls after `member`, the fewest flaws first. `reads`: who of those held gives studies by itself; `with_somebody`: those of whoever signs in there."""

    member: str
    hosts: tuple[Reached, ...]
    reads: tuple[Reader, ...]
    with_somebody: tuple[str, ...]

    def of(self, host: str) -> Reached | None:
        return next((each for each in self.hosts if each.host == host), None)

    def weak_only(self) -> tuple[Reached, ...]:
        return tuple(each for each in self.hosts if each.flaws == 0)


def members(site: Site) -> tuple[str, ...]:
    return (ARCHIVE, *site.devices)


def crowns(site: Site) -> set[str]:
    """Archive, and the members of zones with the tag."""
    tagged = {zone.name for zone in site.zones.values() if CROWN in zone.tags}
    return {ARCHIVE, *(device.name for device in site.devices.values() if device.zone in tagged)}


class Terrain:
    """The hosts and gates of one site; made once, asked for every member."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.weak: Mapping[str, tuple[str, ...]] = {
            device.name: device.weak for device in site.devices.values() if device.weak
        }
        inside: dict[str, list[str]] = {name: [_stranger(name)] for name in site.zones}
        for name in members(site):
            inside.setdefault(zone_of(site, name), []).append(name)
        self.hosts = tuple(host for hosts in inside.values() for host in hosts)
        self._inside = inside
        gates: list[Gate] = []
        leaving: dict[str, list[int]] = {host: [] for host in self.hosts}
        for flow in site.flows:
            for host in self._named(flow.sources):
                leaving[host].append(len(gates))
            gates.append(Gate(Kind.FLOW, flow.id, tuple(sorted(self._named(flow.targets)))))
        for zone in site.zones.values():
            if not zone.isolated:
                for host in inside[zone.name]:
                    leaving[host].append(len(gates))
                gates.append(Gate(Kind.ZONE, zone.name, tuple(inside[zone.name])))
        self.gates = tuple(gates)
        self.leaving: Mapping[str, tuple[int, ...]] = {host: tuple(numbers) for host, numbers in leaving.items()}

    def start(self, member: str) -> str:
        """The host that a device, archive or a zone stands for: of a zone, whoever else is there. Raises KeyError for none of them."""
        if member in self.site.zones:
            return _stranger(member)
        if member not in self.leaving:
            raise KeyError(member)
        return member

    def radius(self, member: str) -> Radius:
        """Raises KeyError where there is no such member."""
        start = self.start(member)
        cheap = self._ways(start, lambda flaws, steps: (flaws, steps))
        short = self._ways(start, lambda flaws, steps: (steps, flaws))
        fallen = [
            Reached(name, cheap[name].flaws, tuple(self._steps(cheap, name)), tuple(self._steps(short, name)))
            for name in members(self.site)
            if name in cheap and name != start
        ]
        hosts = tuple(sorted(fallen, key=lambda each: (each.flaws, len(each.steps), each.host)))
        held = {member, start, *(each.host for each in hosts)}
        return Radius(member, hosts, tuple(self.readers(held)), tuple(sorted(self._with_somebody & held)))

    def fallen(self, member: str) -> set[str]:
        """Only which hosts fall, whoever they are."""
        start = self.start(member)
        return self._ways(start, lambda flaws, steps: (steps, flaws)).keys() - {start}

    # ---- who reads studies

    def readers(self, held: Iterable[str]) -> Iterator[Reader]:
        """Of hosts that somebody holds, those that give studies without anybody's signing in."""
        holds = set(held)
        for host in sorted(holds):
            if host == ARCHIVE:
                yield Reader(host, None)
            elif classes := list(self._readable(host, holds)):
                confined = frozenset().union(*(each for each in classes if each is not None))
                yield Reader(host, None if None in classes else confined)

    def _readable(self, host: str, held: set[str]) -> Iterator[frozenset[str] | None]:
        """What each grant of a device's gives, one on demand as well. A C-MOVE gives it to whoever holds a destination that archive can send to."""
        devices = self.site.devices
        for grant in compiled(self.site).at_most(host):
            ends = grant.destinations if grant.destinations is not None else devices
            sent = any(name in held and devices[name].address for name in ends)
            if not grant.require_user_identity and (
                Action.GET in grant.actions or (Action.MOVE in grant.actions and sent)
            ):
                yield grant.sop_classes

    @cached_property
    def _with_somebody(self) -> set[str]:
        """Hosts at which people are shown studies: by a flow that demands them, at the DIMSE door or at the web door."""
        web = self.site.doors.web
        found: set[str] = set()
        for flow in self.site.flows:
            service = self.site.services[flow.service]
            seen = web is not None and (service.protocol, service.port) == ("tcp", web.port) and "mfa" in flow.auth
            if ARCHIVE in flow.targets and (seen or (flow.require_user_identity and flow.may & _READING)):
                found |= self._named(flow.sources)
        return found

    # ---- ways

    def _ways(self, start: str, cost: Callable[[int, int], tuple[int, int]]) -> dict[str, _Place]:
        """For each host that falls how it is come to at the least cost of flaws and steps. A gate is opened once: by whom it costs least."""
        places: dict[str, _Place] = {}
        best = {start: (0, 0)}
        waiting = [((0, 0), start, _Place(0, 0, "", -1))]
        opened: set[int] = set()
        while waiting:
            _, host, place = heapq.heappop(waiting)
            if host in places:
                continue
            places[host] = place
            for number in self.leaving[host]:
                if number in opened:
                    continue
                opened.add(number)
                for target in self.gates[number].targets:
                    if target not in places:
                        flaws, steps = place.flaws + (target not in self.weak), place.steps + 1
                        if (paid := cost(flaws, steps)) < best.get(target, (1 << 30, 0)):
                            best[target] = paid
                            heapq.heappush(waiting, (paid, target, _Place(flaws, steps, host, number)))
        return places

    def _steps(self, places: Mapping[str, _Place], host: str) -> Iterable[Step]:
        found = []
        while (place := places[host]).gate >= 0:
            gate = self.gates[place.gate]
            by, zone = (gate.name, "") if gate.kind is Kind.FLOW else ("", gate.name)
            found.append(Step(place.source, by, zone, host, self.weak.get(host, ())))
            host = place.source
        return reversed(found)

    def _named(self, names: Iterable[str]) -> set[str]:
        """The hosts that names in a flow stand for: what the kernel lets through."""
        found: set[str] = set()
        for name in names:
            if name == ARCHIVE or name in self.site.devices:
                found.add(name)
            else:
                found.update(host for zone in zones_of(self.site, name) for host in self._inside[zone])
        return found


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """How a host was come to: from which other, by which gate (-1: it is where everything begins)."""

    flaws: int
    steps: int
    source: str
    gate: int


def radius(site: Site, member: str) -> Radius:
    """Raises KeyError where there is no such member."""
    return Terrain(site).radius(member)


def _stranger(zone: str) -> str:
    return f"anyone in {zone}"


def zone_of(site: Site, name: str) -> str:
    """The zone of a device or of archive, "" where that is not known."""
    if name != ARCHIVE:
        return site.devices[name].zone
    addresses = site.firewall.addresses if site.firewall is not None else ()
    return next((site.zone_of(str(each.network_address)) for each in addresses), "")


# ---- in words


def told(site: Site, steps: Iterable[Step]) -> str:
    """A way as somebody would tell it: who gets into whom, by what, and why that one falls."""
    flows = {flow.id: flow for flow in site.flows}
    parts: list[str] = []
    for step in steps:
        how = _flow(flows[step.by]) if step.by else f"because both are in {step.zone}, which is not isolated"
        why = f"known to be weak ({', '.join(step.weak)})" if step.weak else "by a flaw that nobody knows yet"
        parts.append(
            f"{'from there' if parts else f'whoever holds {step.source} gets'} into {step.target} {how}, {why}"
        )
    return "; ".join(parts)


def _flow(flow: Flow) -> str:
    on_demand = ", on demand" if flow.on_demand is not None else ""
    return f"over the flow {flow.id} ({flow.service}{on_demand}: {flow.why})"


# ---- a draft


@dataclass(frozen=True, slots=True)
class Opened:
    """Somebody gets to a crown who did not before. `start`: a member or a zone."""

    start: str
    crown: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.steps))


def opened(old: Site, new: Site, member: str) -> tuple[tuple[Reached, ...], tuple[str, ...]]:
    """What falls after a member in the draft and did not before, and what no longer does. A member of one of them alone: everything is new, or lost."""
    before = _hosts(old, member)
    after = _hosts(new, member)
    gained, lost = sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
    return tuple(after[name] for name in gained), tuple(lost)


def _hosts(site: Site, member: str) -> dict[str, Reached]:
    try:
        return {each.host: each for each in radius(site, member).hosts}
    except KeyError:
        return {}


def ways_to_crowns(old: Site, new: Site) -> tuple[tuple[Opened, ...], tuple[tuple[str, str], ...]]:
    """From anywhere: which ways to a crown the draft opens, and which pairs of start and crown it takes away."""
    before, after = _pairs(Terrain(old)), _pairs(terrain := Terrain(new))
    gained: list[Opened] = []
    for start in sorted({start for start, _ in after - before}):
        found = terrain.radius(start)
        for host in sorted(crown for one, crown in after - before if one == start):
            reached = found.of(host)
            assert reached is not None
            gained.append(Opened(start, host, reached.shortest))
    return tuple(gained), tuple(sorted(before - after))


def _pairs(terrain: Terrain) -> set[tuple[str, str]]:
    site = terrain.site
    ends = crowns(site)
    return {(start, host) for start in (*members(site), *site.zones) for host in terrain.fallen(start) & ends}
