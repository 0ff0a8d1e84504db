"""A table that one process hands to another: the same on the other side, and nothing but what the compiler writes is taken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadglass.policy.firewall.boxes import Box, Span
from leadglass.policy.firewall.compile import closed, of_our_form, ruleset
from leadglass.policy.firewall.handed import (
    NotHanded,
    Wanted,
    digest,
    from_json,
    to_json,
    wanted_from_json,
    wanted_to_json,
)
from leadglass.policy.firewall.ruleset import AddressSet, Match, Rule, Ruleset
from leadglass.policy.firewall.succession import Opened
from leadglass.terms import Containment
from tests.policy.firewall.sites import generated, lab, written

BOX = Box("tcp", Span(4, 1, 9), Span(4, 20, 20), 443, 443)
CONTAINED = Containment(zones={"guest": "odd"})


def tables(tmp_path: Path) -> list[Ruleset]:
    with_interface = (
        '[firewall]\naddresses = ["10.9.0.1/32"]\n[zones.home]\nnetworks = ["10.9.0.0/24"]\ninterface = "eth1"\n'
    )
    made = [ruleset(lab(), forwards=each, containment=CONTAINED) for each in (False, True)]
    made += [ruleset(generated(tmp_path / str(seed), seed), forwards=bool(seed % 2)) for seed in range(10)]
    return [*made, ruleset(written(tmp_path / "one", with_interface), forwards=True), closed()]


def test_what_is_handed_over_is_the_same_table(tmp_path: Path) -> None:
    for each in tables(tmp_path):
        again = from_json(json.loads(json.dumps(to_json(each))))
        assert again == each and digest(again) == digest(each)
        assert of_our_form(again)
    wanted = Wanted(closed(), "d", "s", True, 60, "10.0.0.1 10.0.0.2 22", (Opened("input4_on_demand", BOX, 7),))
    assert wanted_from_json(json.loads(json.dumps(wanted_to_json(wanted)))) == wanted
    known = replace(wanted, table=None)
    assert wanted_from_json(json.loads(json.dumps(wanted_to_json(known)))) == known


def edited(table: Ruleset, chain: str, **changes: Any) -> Ruleset:
    chains = tuple(replace(each, **changes) if each.name == chain else each for each in table.chains)
    return replace(table, chains=chains)


def of(table: Ruleset, chain: str) -> tuple[Rule, ...]:
    return next(each.rules for each in table.chains if each.name == chain)


@pytest.mark.parametrize("forwards", [False, True])
def test_a_table_of_another_form_is_not_ours(forwards: bool) -> None:
    table = ruleset(lab(), forwards=forwards)
    accepts = Rule((Match("tcp dport", "==", ("22",)),), "accept")
    everything = Rule((), "accept")
    others = [
        edited(table, "input", policy="accept"),
        edited(table, "input", hook="prerouting"),
        edited(table, "input", priority=100),
        edited(table, "input", name="inward"),
        edited(table, "input", rules=(accepts, *of(table, "input"))),
        edited(table, "input", rules=of(table, "input")[:-1]),
        edited(table, "input", rules=(*of(table, "input")[:-1], Rule((), "drop"))),
        edited(table, "output", rules=(everything,)),
        edited(table, "forward", rules=(everything, *of(table, "forward"))),
        edited(table, "spoofed", rules=(*of(table, "spoofed"), accepts)),
        edited(table, "spoofed", rules=of(table, "spoofed")[1:]),
        edited(table, "spoofed", rules=(*of(table, "spoofed"), Rule((), "drop", "leadglass spoofed "))),
        replace(table, chains=table.chains[1:]),
        replace(table, chains=(*table.chains, table.chains[-1])),
        replace(table, chains=()),
        replace(table, sets=table.sets[1:]),
        replace(table, sets=(*table.sets, AddressSet("more", 4))),
        replace(table, sets=tuple(replace(s, boxes=(BOX,)) if s.name == "input4_on_demand" else s for s in table.sets)),  # type: ignore[call-arg]
        replace(table, sets=tuple(replace(s, timed=True) if s.name == "input4" else s for s in table.sets)),  # type: ignore[call-arg]
    ]  # fmt: skip
    assert of_our_form(table)
    assert [number for number, each in enumerate(others) if of_our_form(each)] == []


@given(st.data())
def test_whatever_is_handed_over_is_a_table_or_none(data: st.DataObject) -> None:
    told: Any = to_json(closed())
    where = told
    for _ in range(data.draw(st.integers(1, 6))):
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if not isinstance(where[key], dict | list) or data.draw(st.booleans()):
            word = st.text(max_size=5) | st.integers(-1, 5) | st.none() | st.just('"; accept; #') | st.just({"a": 1})
            where[key] = data.draw(word | st.lists(st.integers(0, 9), max_size=3))
            break
        where = where[key]
    try:
        found = from_json(told)
    except NotHanded:
        return
    assert of_our_form(found) == (found == closed()), "nothing but an empty table is of that form here"


def test_no_word_ends_the_line_it_stands_in() -> None:
    for word in ('a"', "a;", "a\n", "a}", "a#b", "a\\"):
        told = to_json(closed())
        told["chains"][1]["rules"][0][0][0][2] = [word]
        with pytest.raises(NotHanded):
            from_json(told)
