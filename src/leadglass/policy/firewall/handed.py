"""A table as data that one process hands to another: whoever loads it writes the kernel's words itself, from these fields alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leadglass.policy.firewall.boxes import Box, Span
from leadglass.policy.firewall.ruleset import AddressSet, Chain, FlowSet, Match, PairSet, Rule, Ruleset, Set
from leadglass.policy.firewall.succession import Opened

Json = Mapping[str, Any]


class NotHanded(Exception):
    """What came is no table."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which table it should be. `table`: None where the asker has it already; `digest`: of it; `site`: of the proven site file it was compiled from.

    `confirmed`: by whoever applied that file, who has `confirm_seconds` for it and came by `connection` ("CLIENT SERVER PORT", "" where nobody
    knows). `opened`: what is open for a time.
    """

    table: Ruleset | None
    digest: str
    site: str
    confirmed: bool
    confirm_seconds: int
    connection: str
    opened: tuple[Opened, ...]


def wanted_to_json(wanted: Wanted) -> dict[str, Any]:
    return {
        **({} if wanted.table is None else {"table": to_json(wanted.table)}),
        "digest": wanted.digest,
        "site": wanted.site,
        "confirmed": wanted.confirmed,
        "confirm_seconds": wanted.confirm_seconds,
        "connection": wanted.connection,
        "open": [{"set": each.set, "box": box_json(each.box), "until_ns": each.until_ns} for each in wanted.opened],
    }


def wanted_from_json(told: Json) -> Wanted:
    """Raises NotHanded."""
    try:
        return Wanted(
            from_json(told["table"]) if "table" in told else None,
            _word(told["digest"]),
            _word(told["site"]),
            told["confirmed"] is True,
            _number(told["confirm_seconds"]),
            _word(told["connection"]),
            tuple(Opened(_name(each["set"]), box_of(each["box"]), _number(each["until_ns"])) for each in told["open"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotHanded(f"what was handed over is no answer: {error!r}") from error


def digest(ruleset: Ruleset) -> str:
    """SHA-256, hex, of its text."""
    return hashlib.sha256(ruleset.text().encode()).hexdigest()


def to_json(ruleset: Ruleset) -> dict[str, Any]:
    return {"sets": [_set(each) for each in ruleset.sets], "chains": [_chain(each) for each in ruleset.chains]}


def from_json(told: Json) -> Ruleset:
    """Raises NotHanded."""
    try:
        return Ruleset(tuple(_set_of(each) for each in told["sets"]), tuple(_chain_of(each) for each in told["chains"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotHanded(f"what was handed over is no table: {error!r}") from error


def box_json(box: Box) -> list[Any]:
    return [box.protocol, *_span(box.source), *_span(box.target)[1:], box.first_port, box.last_port]


def box_of(told: Sequence[Any]) -> Box:
    protocol, version, first, last, low, high, first_port, last_port = told
    source, target = _span_of(version, first, last), _span_of(version, low, high)
    return Box(_word(protocol), source, target, _number(first_port), _number(last_port))


def _set(of: Set) -> dict[str, Any]:
    told: dict[str, Any] = {"name": of.name, "version": of.version}
    match of:
        case FlowSet():
            return {**told, "kind": "flows", "timed": of.timed, "boxes": [box_json(each) for each in of.boxes]}
        case PairSet():
            return {**told, "kind": "pairs", "pairs": [[*_span(one), *_span(other)[1:]] for one, other in of.pairs]}
        case AddressSet():
            return {**told, "kind": "addresses", "spans": [_span(each) for each in of.spans]}


def _set_of(told: Json) -> Set:
    name, version = _name(told["name"]), _number(told["version"])
    match told["kind"]:
        case "flows":
            return FlowSet(name, version, tuple(box_of(each) for each in told["boxes"]), bool(told["timed"]))
        case "pairs":
            pairs = ((_span_of(*each[:3]), _span_of(each[0], *each[3:])) for each in told["pairs"])
            return PairSet(name, version, tuple(pairs))
        case "addresses":
            return AddressSet(name, version, tuple(_span_of(*each) for each in told["spans"]))
    raise ValueError(f"{told['kind']} is no kind of set")


def _chain(of: Chain) -> dict[str, Any]:
    rules = [
        [[[each.left, each.operator, list(each.right)] for each in rule.matches], rule.verdict, rule.log]
        for rule in of.rules
    ]
    return {"name": of.name, "hook": of.hook, "priority": of.priority, "policy": of.policy, "rules": rules}


def _chain_of(told: Json) -> Chain:
    rules = tuple(
        Rule(
            tuple(Match(_word(left), _word(operator), tuple(map(_word, right))) for left, operator, right in matches),
            _name(verdict),
            _word(log),
        )
        for matches, verdict, log in told["rules"]
    )
    hook, policy = _name(told["hook"]), _name(told["policy"])
    return Chain(_name(told["name"]), hook, _number(told["priority"]), policy, rules)


def _span(span: Span) -> list[int]:
    return [span.version, span.first, span.last]


def _span_of(version: object, first: object, last: object) -> Span:
    found = Span(_number(version), _number(first), _number(last))
    if found.version not in (4, 6) or not 0 <= found.first <= found.last < 2 ** (32 if found.version == 4 else 128):
        raise ValueError("addresses that do not exist")
    return found


def _number(of: object) -> int:
    if type(of) is not int:
        raise ValueError(f"{of!r} is no number")
    return of


def _word(of: object) -> str:
    """What could end the word that it stands in would let somebody write rules of their own."""
    if not isinstance(of, str) or set(of) & set('";{}\n\r\\#'):
        raise ValueError(f"{of!r} is no word of a table")
    return of


def _name(of: object) -> str:
    if not _word(of).replace("_", "").isalnum():
        raise ValueError(f"{of!r} is no name")
    return str(of)
