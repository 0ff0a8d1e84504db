"""z3's opinion of a kernel's tables: from nft's own JSON, and from the names in the site file. Nothing of `policy/firewall` has a part in it.

A packet is an unknown: its addresses, protocol, port, what conntrack says of it, by which interface it came. Both sides become one formula over
it, and z3 looks for a packet that they treat differently. Left out: IPv4 packets with ICMPv6's number, which no kernel takes for ICMPv6.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from ipaddress import ip_address, ip_network
from typing import Any

import z3

from leadglass.site.model import ARCHIVE, Site

NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58}
NEIGHBOURS = {  # RFC 4861 4, RFC 2710 3, RFC 3810 5.2
    "mld-listener-query": 130, "mld-listener-report": 131, "nd-router-solicit": 133, "nd-router-advert": 134, "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136, "mld2-listener-report": 143,
}  # fmt: skip
STATES = ("new", "established", "related", "invalid", "untracked")
HOOKS = ("input", "output", "forward")


class Strange(Exception):
    """A word that this reader does not know: it would have no opinion of it."""


@dataclass(frozen=True)
class Packet:
    """Unknowns. `stray`: whoever it says it is from would not be answered by where it came."""

    version: int
    source: Any
    target: Any
    protocol: Any
    port: Any
    kind: Any
    state: Any
    reply: Any
    stray: Any
    came: Any
    goes: Any


def packet(version: int) -> Packet:
    bits = 32 if version == 4 else 128
    source, target = z3.BitVecs(f"source{version} target{version}", bits)
    protocol, kind, state, came, goes = z3.BitVecs("protocol kind state came goes", 8)
    return Packet(
        version, source, target, protocol, z3.BitVec("port", 16), kind, state, z3.Bool("reply"), z3.Bool("stray"), came, goes
    )  # fmt: skip


def possible(of: Packet) -> Any:
    """What holds of every packet."""
    return z3.And(z3.ULT(of.state, len(STATES)), z3.Or(of.version == 6, of.protocol != NUMBERS["ipv6-icmp"]))


# ---- what the kernel lists


class Tables:
    """Of `nft -j list ruleset`: every chain that hangs at a hook, of whatever table."""

    def __init__(self, listing: str) -> None:
        items = [next(iter(each.items())) for each in json.loads(listing)["nftables"]]
        self.sets = {(of["table"], of["name"]): of.get("elem", []) for kind, of in items if kind == "set"}
        self.chains = [of for kind, of in items if kind == "chain" and "hook" in of]
        self.rules: dict[tuple[str, str], list[Any]] = {}
        for kind, of in items:
            if kind == "rule":
                self.rules.setdefault((of["table"], of["chain"]), []).append(of["expr"])
        self._interfaces: dict[str, int] = {}

    def passes(self, of: Packet, hook: str) -> Any:
        """Through every chain on its way: a drop anywhere ends it, an accept only its chain."""
        ways = ("prerouting", hook) if hook != "output" else ("output",)
        return z3.And([self._chain(of, each) for each in self.chains if each["hook"] in ways])

    def interface(self, name: str) -> int:
        return self._interfaces.setdefault(name, len(self._interfaces) + 1)

    def _chain(self, of: Packet, chain: Mapping[str, Any]) -> Any:
        verdict = z3.BoolVal(chain.get("policy", "accept") == "accept")
        for rule in reversed(self.rules.get((chain["table"], chain["name"]), [])):
            verdict = self._rule(of, chain["table"], rule, verdict)
        return verdict

    def _rule(self, of: Packet, table: str, rule: list[Mapping[str, Any]], otherwise: Any) -> Any:
        conditions: list[Any] = []
        for each in rule:
            kind, value = next(iter(each.items()))
            if kind == "match":
                conditions.append(self._match(of, table, value))
            elif kind in ("accept", "drop"):
                return z3.If(z3.And(conditions), z3.BoolVal(kind == "accept"), otherwise)
            elif kind not in ("log", "counter"):
                raise Strange(f"{kind} in a rule")
        return otherwise

    def _match(self, of: Packet, table: str, match: Mapping[str, Any]) -> Any:
        left, right = match["left"], match["right"]
        if match["op"] not in ("==", "!=", "in"):
            raise Strange(match["op"])
        fields = [self._field(of, each) for each in left.get("concat", [left])]
        if isinstance(right, str) and right.startswith("@"):
            values = [_value(each) for each in self.sets[table, right[1:]]]
        else:
            values = right["set"] if isinstance(right, dict) and "set" in right else [right]
        inside = z3.Or([z3.And(list(map(self._is, fields, _parts(each)))) for each in values])
        there = z3.And([field.there for field in fields])  # without the header, no condition on it holds, not even a !=
        return z3.And(there, z3.Not(inside) if match["op"] == "!=" else inside)

    def _field(self, of: Packet, left: Mapping[str, Any]) -> _Field:
        kind, value = next(iter(left.items()))
        always, key = z3.BoolVal(True), value.get("key", "")
        match kind:
            case "meta" if key in ("iifname", "oifname"):
                return _Field(of.came if key == "iifname" else of.goes, always, self.interface)
            case "meta" if key == "l4proto":
                return _Field(of.protocol, always, NUMBERS.__getitem__)
            case "ct" if key == "state":
                return _Field(of.state, always, STATES.index)
            case "ct" if key == "direction":
                return _Field(of.reply, always, lambda word: word == "reply")
            case "fib" if (value["result"], sorted(value["flags"])) == ("oif", ["iif", "saddr"]):
                return _Field(of.stray, always, lambda word: word is False)
            case "payload" if value["protocol"] in ("ip", "ip6") and value["field"] in ("saddr", "daddr"):
                version = 4 if value["protocol"] == "ip" else 6
                address = of.source if value["field"] == "saddr" else of.target
                return _Field(address, z3.BoolVal(of.version == version), lambda word: int(ip_address(word)))
            case "payload" if (value["protocol"], value["field"]) == ("icmpv6", "type"):
                return _Field(of.kind, of.protocol == NUMBERS["ipv6-icmp"], NEIGHBOURS.__getitem__)
            case "payload" if (value["protocol"], value["field"]) == ("th", "dport"):
                return _Field(of.port, always, int)
        raise Strange(f"{kind} {value} as a condition")

    def _is(self, field: _Field, word: Any) -> Any:
        if field.there.eq(z3.BoolVal(False)):
            return field.there  # an address of the other version
        if isinstance(word, dict):
            kind, value = next(iter(word.items()))
            if kind == "prefix":
                network = ip_network(f"{value['addr']}/{value['len']}")
                low, high = int(network[0]), int(network[-1])
            elif kind == "range":
                low, high = map(field.number, value)
            else:
                raise Strange(f"{kind} as a value")
            return z3.And(z3.ULE(low, field.value), z3.ULE(field.value, high))
        return field.value == field.number(word)


@dataclass(frozen=True)
class _Field:
    """`there`: whether the packet has it at all. `number`: of a word of nft's."""

    value: Any
    there: Any
    number: Any


def _value(element: Any) -> Any:
    return element["elem"]["val"] if isinstance(element, dict) and "elem" in element else element


def _parts(value: Any) -> list[Any]:
    return value["concat"] if isinstance(value, dict) and "concat" in value else [value]


# ---- what the site file means


class Meaning:
    """Of a site file, for the host of `member`; a name that is nobody's is a router's. By names alone, without anybody's approval."""

    def __init__(self, site: Site, member: str, tables: Tables, contained: Iterable[str] = ()) -> None:
        self.site, self.member, self._interface = site, member, tables.interface
        self._contained = [*contained, *(device.name for device in site.devices.values() if not device.enabled)]

    def passes(self, of: Packet, hook: str) -> Any:
        routes = self.member != ARCHIVE and self.member not in self.site.devices
        neighbour = z3.And(
            of.protocol == NUMBERS["ipv6-icmp"], z3.Or([of.kind == each for each in NEIGHBOURS.values()])
        )
        untrue = z3.Or(of.stray, *(self._elsewhere(of) if routes else ()))
        found = self._known(of, z3.Or(self._opened(of, hook), *(self._shared(of) if hook == "forward" else ())))
        found = z3.And(z3.Not(self._kept_apart(of)), found)
        if hook == "forward":
            return z3.And(routes, found, z3.Or(neighbour, z3.Not(untrue)))
        own = of.came if hook == "input" else of.goes
        found = z3.Or(own == self._interface("lo"), z3.And(of.state != STATES.index("invalid"), z3.Or(
            found, z3.And(neighbour, z3.Not(self._kept_apart(of))))))  # fmt: skip
        return found if hook == "output" else z3.And(found, z3.Or(neighbour, z3.Not(untrue)))

    def _known(self, of: Packet, opened: Any) -> Any:
        answers = z3.And(of.reply, of.state == STATES.index("established"))
        errors = z3.And(
            of.state == STATES.index("related"),
            z3.Or(of.protocol == NUMBERS["icmp"], of.protocol == NUMBERS["ipv6-icmp"]),
        )
        return z3.And(of.state != STATES.index("invalid"), z3.Or(answers, errors, opened))

    def _opened(self, of: Packet, hook: str) -> Any:
        ours = {"input": of.target, "output": of.source}
        here = self._is(of, ours[hook], [self.member]) if hook in ours else z3.BoolVal(True)
        ways = []
        for flow in self.site.flows:
            service = self.site.services[flow.service]
            if flow.on_demand is None:
                ways.append(z3.And(
                    of.protocol == NUMBERS[service.protocol], of.port == service.port,
                    self._is(of, of.source, flow.sources), self._is(of, of.target, flow.targets),
                ))  # fmt: skip
        return z3.And(here, z3.Or(ways))

    def _shared(self, of: Packet) -> list[Any]:
        open_ = [zone.name for zone in self.site.zones.values() if not zone.isolated]
        return [z3.And(self._is(of, of.source, [name]), self._is(of, of.target, [name])) for name in open_]

    def _kept_apart(self, of: Packet) -> Any:
        return z3.Or(self._is(of, of.source, self._contained), self._is(of, of.target, self._contained))

    def _elsewhere(self, of: Packet) -> list[Any]:
        """From addresses of a zone with an interface by another one, or by that one from other addresses."""
        said = [
            zone
            for zone in self.site.zones.values()
            if zone.interface and any(each.version == of.version for each in zone.networks)
        ]
        return [(of.came == self._interface(zone.interface)) != self._is(of, of.source, [zone.name]) for zone in said]

    def _is(self, of: Packet, address: Any, names: Iterable[str]) -> Any:
        networks = [each for name in names for each in self._networks(name) if each.version == of.version]
        return z3.Or([z3.And(z3.ULE(int(each[0]), address), z3.ULE(address, int(each[-1]))) for each in networks])

    def _networks(self, name: str) -> list[Any]:
        site = self.site
        if name == ARCHIVE:
            return list(site.firewall.addresses)
        if name in site.devices:
            return list(site.devices[name].networks)
        zones = [each for each in site.zones.values() if name in (each.name, *(f"#{tag}" for tag in each.tags))]
        return [network for zone in zones for network in zone.networks]


# ---- opinions


@dataclass(frozen=True)
class Witness:
    """A packet that both treat differently, and whether the kernel lets it pass."""

    hook: str
    version: int
    source: int
    target: int
    protocol: int
    port: int
    state: str
    passes: bool


def disagreements(site: Site, listing: str, member: str, contained: Iterable[str] = ()) -> list[Witness]:
    """One for each hook and IP version where there is one at all. `contained`: devices and zones besides those that the site file disables."""
    tables = Tables(listing)
    meaning = Meaning(site, member, tables, contained)
    found = []
    for version in (4, 6):
        of = packet(version)
        for hook in HOOKS:
            there = tables.passes(of, hook)
            solver = z3.Solver()
            solver.add(possible(of), there != meaning.passes(of, hook))
            if solver.check() == z3.sat:
                model = solver.model()

                def number(value: Any, model: Any = model) -> int:
                    return model.eval(value, model_completion=True).as_long()

                found.append(Witness(
                    hook, version, number(of.source), number(of.target), number(of.protocol), number(of.port), STATES[number(of.state)],
                    z3.is_true(model.eval(there, model_completion=True)),
                ))  # fmt: skip
    return found


def union(of: Packet, boxes: Iterable[Any]) -> Any:
    """Boxes of `policy/firewall/boxes.py` as a formula, `other` left out: they are asked here, never believed."""
    return reduce(z3.Or, [
        z3.And(
            of.protocol == NUMBERS[box.protocol],
            z3.ULE(box.source.first, of.source), z3.ULE(of.source, box.source.last),
            z3.ULE(box.target.first, of.target), z3.ULE(of.target, box.target.last),
            z3.ULE(box.first_port, of.port), z3.ULE(of.port, box.last_port),
        )
        for box in boxes if box.source.version == of.version
    ], z3.BoolVal(False))  # fmt: skip


def is_empty(*conditions: Any) -> bool:
    solver = z3.Solver()
    solver.add(*conditions)
    return solver.check() == z3.unsat
