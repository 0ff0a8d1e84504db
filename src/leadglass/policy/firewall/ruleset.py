"""A table of nftables as data: what the compiler writes, what is read back from the kernel, and its text. Nothing here decides anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from leadglass.policy.firewall.boxes import OTHER, Box, Span

TABLE = "leadglass"
FAMILY = "inet"
DROPPED_GROUP = 92  # of NFLOG: where drops are told to whoever listens
PASSED_GROUP = 93  # and new connections of flows on demand: no flood of drops crowds them out
FLOW_KEY = "{ip} saddr . {ip} daddr . meta l4proto . th dport"
PAIR_KEY = "{ip} saddr . {ip} daddr"
CONTAINED_KEYS = ("{ip} saddr", "{ip} daddr")


@dataclass(frozen=True, slots=True)
class Match:
    """One condition: `left` in nftables' words; `right` a word, several in alphabetical order that are one set, or `@name`."""

    left: str
    operator: str
    right: tuple[str, ...]

    def __str__(self) -> str:
        words = [f'"{each}"' for each in self.right] if self.left in ("iifname", "oifname") else self.right
        right = words[0] if len(words) == 1 else f"{{ {', '.join(words)} }}"
        return f"{self.left} {'!= ' if self.operator == '!=' else ''}{right}"


@dataclass(frozen=True, slots=True)
class Rule:
    """All conditions hold: the verdict. `log`: the prefix under which it is told first, "" for not at all; what is logged is counted."""

    matches: tuple[Match, ...]
    verdict: str
    log: str = ""

    @property
    def group(self) -> int:
        """Of NFLOG."""
        return PASSED_GROUP if self.verdict == "accept" else DROPPED_GROUP

    def __str__(self) -> str:
        told = [f'log prefix "{self.log}" group {self.group} counter'] if self.log else []
        return " ".join([*map(str, self.matches), *told, self.verdict])


@dataclass(frozen=True, slots=True)
class Chain:
    name: str
    hook: str
    priority: int
    policy: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class FlowSet:
    """Services between addresses, each element counted. `timed`: elements come by approval and go by themselves."""

    name: str
    version: int
    boxes: tuple[Box, ...] = ()
    timed: bool = False


@dataclass(frozen=True, slots=True)
class PairSet:
    """Addresses that reach each other by whatever protocol."""

    name: str
    version: int
    pairs: tuple[tuple[Span, Span], ...] = ()


@dataclass(frozen=True, slots=True)
class AddressSet:
    """Addresses of whoever is contained."""

    name: str
    version: int
    spans: tuple[Span, ...] = ()


Set = FlowSet | PairSet | AddressSet


@dataclass(frozen=True, slots=True)
class Ruleset:
    """One table, whole."""

    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]

    def text(self) -> str:
        """For `nft -f`: the table is exchanged in one transaction; before and after, one of both is in force."""
        lines = [
            f"table {FAMILY} {TABLE} {{}}",  # so that there is one to delete
            f"delete table {FAMILY} {TABLE}",
            f"table {FAMILY} {TABLE} {{",
        ]
        for each in self.sets:
            lines += _set(each)
        for chain in self.chains:
            lines += [f"\tchain {chain.name} {{"]
            lines += [f"\t\ttype filter hook {chain.hook} priority {chain.priority}; policy {chain.policy};"]
            lines += [*(f"\t\t{rule}" for rule in chain.rules), "\t}"]
        return "\n".join([*lines, "}", ""])


def _set(of: Set) -> Iterator[str]:
    address = "ipv4_addr" if of.version == 4 else "ipv6_addr"
    match of:
        case FlowSet():
            kind, elements = f"{address} . {address} . inet_proto . inet_service", list(map(element, of.boxes))
        case PairSet():
            kind, elements = f"{address} . {address}", [f"{one} . {other}" for one, other in of.pairs]
        case AddressSet():
            kind, elements = address, [str(span) for span in of.spans]
    yield f"\tset {of.name} {{"
    yield f"\t\ttype {kind}"
    yield f"\t\tflags interval{',timeout' if isinstance(of, FlowSet) and of.timed else ''}"
    if isinstance(of, FlowSet):
        yield "\t\tcounter"
    if elements:
        yield "\t\telements = { " + ",\n\t\t\t".join(elements) + " }"
    yield "\t}"


def element(box: Box) -> str:
    """As it stands in a set of services."""
    if box.protocol == OTHER:
        raise ValueError("a set of services knows tcp and udp")
    return f"{box.source} . {box.target} . {box.protocol} . {box.ports}"
