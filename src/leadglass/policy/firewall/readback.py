"""What does the kernel hold? `nft -j list ruleset` as the same data that the compiler writes, and every difference between the two.

Only the words that the compiler uses are understood. Whatever else stands in our table is a difference, never skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from leadglass.policy.firewall.boxes import Box, Span, beyond, canonical, joined
from leadglass.policy.firewall.openings import of_shared
from leadglass.policy.firewall.ruleset import (
    FAMILY,
    TABLE,
    AddressSet,
    Chain,
    FlowSet,
    Match,
    PairSet,
    Rule,
    Ruleset,
    Set,
)
from leadglass.policy.firewall.seen import Counted

Json = Mapping[str, Any]


class NotUnderstood(Exception):
    """A rule, a set or an expression that the compiler would never write."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """`ours` is None where the table is not there. `foreign`: hooks of other tables, in words."""

    ours: Ruleset | None
    foreign: tuple[str, ...]


def read(listing: str) -> Kernel:
    """Of `nft -j list ruleset`. Raises NotUnderstood."""
    try:
        said = json.loads(listing)["nftables"]
        items = [next(iter(each.items())) for each in said]
        foreign = tuple(_foreign(items))
        if not any(kind == "table" and (of["family"], of["name"]) == (FAMILY, TABLE) for kind, of in items):
            return Kernel(None, foreign)
        return Kernel(_table([(kind, of) for kind, of in items if _is_ours(of)]), foreign)
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise NotUnderstood(f"nft said something else than a ruleset: {error!r}") from error


def counters(listing: str) -> tuple[Counted, ...]:
    """What each element of our sets of services let pass so far; none where our table is not there. Raises NotUnderstood."""
    try:
        items = [next(iter(each.items())) for each in json.loads(listing)["nftables"]]
        ours = [of for kind, of in items if kind == "set" and _is_ours(of) and len(of["type"]) == 4]
        return tuple(
            Counted(of["name"], _box(4 if of["type"][0] == "ipv4_addr" else 6, *_concat(each)), _packets(each))
            for of in ours
            for each in of.get("elem", ())
        )
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise NotUnderstood(f"nft said something else than a ruleset: {error!r}") from error


def _packets(element: Any) -> int:
    counter = element["elem"].get("counter") if isinstance(element, dict) and "elem" in element else None
    return int(counter["packets"]) if isinstance(counter, dict) else 0


def _is_ours(of: Json) -> bool:
    return (of.get("family"), of.get("table")) == (FAMILY, TABLE)


def _foreign(items: Iterable[tuple[str, Json]]) -> Iterator[str]:
    for kind, of in items:
        if kind == "chain" and not _is_ours(of) and "hook" in of:
            where = f"{of['family']} {of['table']} {of['name']}"
            yield f"{where} ({of['type']}) at {of['hook']}, priority {of['prio']}, policy {of.get('policy', 'accept')}"
        elif kind == "flowtable":
            yield f"{of['family']} {of.get('table', '')} {of['name']} (flowtable)"


def _table(items: Sequence[tuple[str, Json]]) -> Ruleset:
    sets: list[Set] = []
    chains: dict[str, Json] = {}
    rules: dict[str, list[Rule]] = {}
    for kind, of in items:
        match kind:
            case "set":
                sets.append(_set(of))
            case "chain":
                chains[of["name"]] = of
            case "rule":
                rules.setdefault(of["chain"], []).append(_rule(of))
            case _:
                raise NotUnderstood(f"a {kind} stands in table {TABLE}: nothing of ours")
    made = (_chain(of, tuple(rules.get(name, ()))) for name, of in chains.items())
    return Ruleset(tuple(sets), tuple(made))


def _chain(of: Json, rules: tuple[Rule, ...]) -> Chain:
    if of.get("type", "filter") != "filter":
        raise NotUnderstood(f"chain {of['name']} is of type {of['type']}")
    return Chain(of["name"], of.get("hook", ""), of.get("prio", 0), of.get("policy", ""), rules)


# ---- rules


def _rule(of: Json) -> Rule:
    matches: list[Match] = []
    log, group, counted, verdict = "", 0, False, ""
    for each in of["expr"]:
        kind, value = next(iter(each.items()))
        if verdict or (kind == "match" and (log or counted)):
            raise NotUnderstood(f"a rule of chain {of['chain']} goes on where it ends")
        match kind:
            case "match":
                matches.append(_match(value))
            case "log" if value.keys() == {"prefix", "group"} and not log and not counted:
                log, group = value["prefix"], value["group"]
            case "counter":
                counted = True
            case "accept" | "drop":
                verdict = kind
            case _:
                raise NotUnderstood(f"{kind} in a rule of chain {of['chain']}")
    if bool(log) != counted or not verdict:
        raise NotUnderstood(f"a rule of chain {of['chain']} without a verdict, or counted without being told")
    rule = Rule(tuple(matches), verdict, log)
    if log and group != rule.group:
        raise NotUnderstood(f"a rule of chain {of['chain']} is told to group {group} instead of {rule.group}")
    return rule


def _match(of: Json) -> Match:
    left, operator, right = _left(of["left"]), of["op"], of["right"]
    if operator == "in" and isinstance(right, str):
        operator = "=="  # one bit of a connection's state
    if operator not in ("==", "!="):
        raise NotUnderstood(f"{left} {operator}")
    if left.startswith("fib"):
        if right is not False:
            raise NotUnderstood(f"{left} {right}")
        return Match(left, operator, ("missing",))
    words = right["set"] if isinstance(right, dict) and "set" in right else [right]
    return Match(left, operator, tuple(sorted(_word(each) for each in words)))


def _left(of: Any) -> str:
    kind, value = next(iter(of.items()))
    match kind:
        case "meta":
            return f"meta {value['key']}" if value["key"] == "l4proto" else str(value["key"])
        case "ct":
            if set(value) != {"key"}:
                raise NotUnderstood(f"ct {value}")
            return f"ct {value['key']}"
        case "payload":
            return f"{value['protocol']} {value['field']}"
        case "fib":
            return f"fib {' . '.join(value['flags'])} {value['result']}"
        case "concat":
            return " . ".join(map(_left, value))
    raise NotUnderstood(f"{kind} as a condition")


def _word(of: Any) -> str:
    if isinstance(of, str | int) and not isinstance(of, bool):
        return str(of)
    kind, value = next(iter(of.items()))
    match kind:
        case "prefix":
            return f"{value['addr']}/{value['len']}"
        case "range":
            return f"{value[0]}-{value[1]}"
    raise NotUnderstood(f"{kind} as a value")


# ---- sets


def _set(of: Json) -> Set:
    kind, name = of["type"], of["name"]
    first = kind if isinstance(kind, str) else kind[0]
    version = {"ipv4_addr": 4, "ipv6_addr": 6}[first]
    flags = frozenset(of.get("flags", ()))
    if extra := of.keys() - {"family", "name", "table", "type", "handle", "flags", "elem", "stmt"}:
        raise NotUnderstood(f"set {name} has {', '.join(sorted(extra))}")
    if flags not in ({"interval"}, {"interval", "timeout"}):
        raise NotUnderstood(f"set {name} has the flags {', '.join(sorted(flags))}")
    elements = [_concat(each) for each in of.get("elem", ())]
    if kind == first:
        return AddressSet(name, version, tuple(_span(version, *each) for each in elements))
    if kind == [first, first]:
        return PairSet(name, version, tuple((_span(version, one), _span(version, two)) for one, two in elements))
    if kind == [first, first, "inet_proto", "inet_service"]:
        return FlowSet(name, version, tuple(_box(version, *each) for each in elements), "timeout" in flags)
    raise NotUnderstood(f"set {name} is of type {kind}")


def _concat(element: Any) -> list[str]:
    if isinstance(element, dict) and "elem" in element:
        if extra := element["elem"].keys() - {"val", "counter", "timeout", "expires"}:
            raise NotUnderstood(f"an element has {', '.join(sorted(extra))}")
        element = element["elem"]["val"]
    parts = element["concat"] if isinstance(element, dict) and "concat" in element else [element]
    return [_word(each) for each in parts]


def _span(version: int, word: str) -> Span:
    first, _, last = word.partition("-")
    if last:
        return Span(version, int(ip_address(first)), int(ip_address(last)))
    return Span.of(ip_network(word))


def _box(version: int, source: str, target: str, protocol: str, ports: str) -> Box:
    first, _, last = ports.partition("-")
    return Box(protocol, _span(version, source), _span(version, target), int(first), int(last or first))


# ---- differences


def drift(expected: Ruleset, found: Kernel, on_demand: Iterable[Box] = ()) -> Iterator[str]:
    """Every way in which the kernel says something else, in words. `on_demand`: what approvals may have opened, at most."""
    if found.ours is None:
        yield f"table {FAMILY} {TABLE} is not there"
        return
    yield from _chains(expected, found.ours)
    wanted, there = ({each.name: each for each in one.sets} for one in (expected, found.ours))
    for name in sorted(wanted.keys() ^ there.keys()):
        yield f"set {name} is {'missing' if name in wanted else 'nothing of ours'}"
    approved = tuple(on_demand)
    for name in sorted(wanted.keys() & there.keys()):
        yield from _sets(wanted[name], there[name], approved)
    yield from (f"{each}: a hook that is not ours" for each in found.foreign)


def _chains(expected: Ruleset, found: Ruleset) -> Iterator[str]:
    wanted, there = ({each.name: each for each in one.chains} for one in (expected, found))
    for name in sorted(wanted.keys() ^ there.keys()):
        yield f"chain {name} is {'missing' if name in wanted else 'nothing of ours'}"
    for name in sorted(wanted.keys() & there.keys()):
        one, other = wanted[name], there[name]
        if (one.hook, one.priority, one.policy) != (other.hook, other.priority, other.policy):
            yield (
                f"chain {name} hangs at {other.hook or 'no hook'}, priority {other.priority}, policy {other.policy}"
                f" instead of {one.hook}, {one.priority}, {one.policy}"
            )
        if one.rules != other.rules:
            at = next(
                (n for n, pair in enumerate(zip(one.rules, other.rules, strict=False)) if pair[0] != pair[1]), None
            )
            place = min(len(one.rules), len(other.rules)) if at is None else at
            said = str(other.rules[place]) if place < len(other.rules) else "nothing"
            meant = str(one.rules[place]) if place < len(one.rules) else "nothing"
            yield f"chain {name}, rule {place + 1} says {said!r} instead of {meant!r}"


def _sets(expected: Set, found: Set, approved: tuple[Box, ...]) -> Iterator[str]:
    name = expected.name
    if type(expected) is not type(found) or expected.version != found.version:
        yield f"set {name} is of another type"
        return
    if isinstance(expected, FlowSet) and isinstance(found, FlowSet) and expected.timed != found.timed:
        yield f"set {name} {'keeps' if expected.timed else 'forgets'} its elements"
    inside, meant = contents(found), contents(expected)
    timed = isinstance(expected, FlowSet) and expected.timed
    if timed:
        yield from (f"set {name} opens {each}, which nobody approved" for each in beyond(inside, approved))
        return
    if canonical(inside) == canonical(meant):
        return
    open_, shut = ("holds", "lacks") if isinstance(expected, AddressSet) else ("opens", "closes")
    yield from (f"set {name} {open_} {each}" for each in beyond(inside, meant))
    yield from (f"set {name} {shut} {each}" for each in beyond(meant, inside))


def contents(of: Set) -> tuple[Box, ...]:
    """The packets whose sources, targets and services are in a set."""
    match of:
        case FlowSet():
            return of.boxes
        case PairSet():
            return tuple(of_shared(of.pairs))
        case AddressSet():
            ends = joined((each.first, each.last) for each in of.spans)
            spans = [Span(of.version, *each) for each in ends]
            return tuple(Box("tcp", span, Span(of.version, 0, 0), 0, 0) for span in spans)  # only the sources count
