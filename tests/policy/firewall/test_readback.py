"""What the kernel lists, held against what was compiled: equal where it is, and every tampering named. Real tables, in namespaces of their own."""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from itertools import product
from pathlib import Path

import pytest

from leadglass.policy.firewall.compile import ruleset
from leadglass.policy.firewall.openings import ROUTER, openings
from leadglass.policy.firewall.readback import NotUnderstood, drift, read
from leadglass.policy.firewall.ruleset import Ruleset
from tests.policy.firewall.sites import generated, lab
from tests.programs import require

MUTANTS = 500
SHARE = 4  # parts of the mutants, so that several workers have some
SECONDS = 60.0


def listed(text: str, after: str = "") -> str | None:
    """What a fresh kernel lists once it has taken the text; None where it takes it not."""
    command = ["sh", "-c", f"nft -f - && {after or 'true'} && nft -j list ruleset"]
    alone = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-Urn"]
    path = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(
        [*alone, *command], input=text, capture_output=True, text=True, timeout=SECONDS, check=False, env=path
    )
    return done.stdout if done.returncode == 0 else None


def differences(expected: Ruleset, text: str, after: str = "") -> list[str] | None:
    """None where the kernel does not take it."""
    told = listed(text, after)
    if told is None:
        return None
    try:
        return list(drift(expected, read(told)))
    except NotUnderstood as error:
        return [str(error)]


@pytest.fixture(scope="module", autouse=True)
def _nft() -> None:
    require("nft")


def test_a_table_is_read_back_as_it_was_compiled(tmp_path: Path) -> None:
    for rules in (ruleset(lab()), ruleset(lab(), ROUTER, forwards=True), ruleset(lab(), "jump")):
        assert differences(rules, rules.text()) == []
    for seed in range(10):
        rules = ruleset(generated(tmp_path / str(seed), seed), ROUTER, forwards=True)
        assert differences(rules, rules.text()) == [], seed


def test_loading_twice_is_loading_once() -> None:
    rules = ruleset(lab())
    assert differences(rules, rules.text() + rules.text()) == []


def test_no_table_is_a_difference() -> None:
    assert list(drift(ruleset(lab()), read('{"nftables": []}'))) == ["table inet leadglass is not there"]
    for nonsense in ("", "{}", "[]", '{"nftables": [7]}', '{"nftables": [{"table": null}]}'):
        with pytest.raises(NotUnderstood):
            read(nonsense)


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ("nft add element inet leadglass forward4 { 10.20.9.0/24 . 10.20.5.10 . tcp . 443 }", "opens 10.20.9.0/24"),
        ("nft delete element inet leadglass forward4 { 10.20.4.20 . 10.20.5.10 . tcp . 2575 }", "closes 10.20.4.20"),
        ("nft flush chain inet leadglass forward", "chain forward, rule 1 says 'nothing'"),
        ("nft insert rule inet leadglass forward accept", "chain forward, rule 1 says 'accept'"),
        ("nft insert rule inet leadglass forward ip saddr 10.20.9.9 accept", "rule 1 says"),
        ("nft insert rule inet leadglass forward meta mark 7 accept", "rule 1 says"),
        ("nft add chain inet leadglass more && nft insert rule inet leadglass forward ip dscp 7 jump more", "jump in a rule"),
        ("nft add chain inet leadglass more", "chain more is nothing of ours"),
        ("nft add set inet leadglass more '{ type ipv4_addr; flags interval; }'", "set more is nothing of ours"),
        ("nft add map inet leadglass more '{ type ipv4_addr : verdict; }'", "a map stands in table"),
        ("nft 'add chain inet leadglass forward { policy accept; }'", "policy accept"),
        ("nft delete table inet leadglass", "is not there"),
        ("nft add table ip other && nft 'add chain ip other x { type nat hook postrouting priority 100; }'", "(nat) at"),
        ("nft add table ip other && nft 'add chain ip other x { type filter hook forward priority 9; }'", "not ours"),
        (
            "nft insert rule inet leadglass forward ct state new tcp dport 22 log prefix '\"x \"' group 92 counter accept",
            "is told to group 92 instead of 93",
        ),
        (
            "nft insert rule inet leadglass forward ct state new tcp dport 22 log prefix '\"leadglass passed \"' group 93 counter accept",
            "rule 1 says",
        ),
        ("nft add element inet leadglass contained4 { 10.20.1.11 }", "set contained4 holds 10.20.1.11"),
        (
            "nft add element inet leadglass forward4_on_demand { 10.20.9.9 . 10.20.5.10 . tcp . 22 timeout 1h }",
            "which nobody approved",
        ),
    ],
)  # fmt: skip
def test_tampering_is_named(after: str, told: str) -> None:
    rules = ruleset(lab(), ROUTER, forwards=True)
    found = differences(rules, rules.text(), after)
    assert found and any(told in each for each in found), found


def test_what_was_approved_is_no_difference() -> None:
    site = lab()
    rules = ruleset(site, ROUTER, forwards=True)
    opened = "10.20.7.10 . 10.20.6.10 . tcp . 443 timeout 1h"
    found = listed(rules.text(), f"nft add element inet leadglass forward4_on_demand '{{ {opened} }}'")
    assert found is not None
    on_demand = [each.box for each in openings(site, ROUTER).forward if each.on_demand]
    assert list(drift(rules, read(found), on_demand)) == [] != list(drift(rules, read(found)))


# ---- mutants of the compiler's output

Mutation = Callable[[random.Random, list[str]], None]
_ELEMENT = re.compile(r"(\S+) \. (\S+) \. (tcp|udp) \. (\d+)")


def _rules(lines: list[str]) -> list[int]:
    return [n for n, line in enumerate(lines) if line.startswith("\t\t") and line.rstrip().endswith(("accept", "drop"))]


def _elements(lines: list[str]) -> list[int]:
    return [n for n, line in enumerate(lines) if _ELEMENT.search(line)]


def _drop_rule(rng: random.Random, lines: list[str]) -> None:
    del lines[rng.choice(_rules(lines))]


def _flip_verdict(rng: random.Random, lines: list[str]) -> None:
    n = rng.choice(_rules(lines))
    old, new = ("accept", "drop") if lines[n].rstrip().endswith("accept") else ("drop", "accept")
    lines[n] = lines[n].rstrip()[: -len(old)] + new


def _swap_rules(rng: random.Random, lines: list[str]) -> None:
    one, other = rng.sample(_rules(lines), 2)
    lines[one], lines[other] = lines[other], lines[one]


def _forget_condition(rng: random.Random, lines: list[str]) -> None:
    n = rng.choice([n for n in _rules(lines) if "ct direction reply " in lines[n] or "@" in lines[n]])
    lines[n] = re.sub(r"ct direction reply |.* @\S+", "", lines[n], count=1)


def _change_policy(rng: random.Random, lines: list[str]) -> None:
    n = rng.choice([n for n, line in enumerate(lines) if "; policy " in line])
    lines[n] = (
        lines[n].replace("policy drop", "policy accept") if rng.random() < 0.5 else re.sub(r"-?\d+;", "5;", lines[n])
    )


def _change_element(rng: random.Random, lines: list[str]) -> None:
    n = rng.choice(_elements(lines))
    source, target, protocol, port = _ELEMENT.search(lines[n]).groups()  # type: ignore[union-attr]
    match rng.randrange(5):
        case 0:
            port = str(int(port) + rng.choice((-1, 1)))
        case 1:
            protocol = "udp" if protocol == "tcp" else "tcp"
        case 2:
            source = _other(rng, source)
        case 3:
            target = _other(rng, target)
        case _:
            source, target = target, source
    lines[n] = _ELEMENT.sub(f"{source} . {target} . {protocol} . {port}", lines[n])


def _other(rng: random.Random, word: str) -> str:
    """Wider, narrower, or the neighbour."""
    network = ip_network(word)
    match rng.randrange(3):
        case 0:
            return str(network.supernet())
        case 1:
            return str(next(iter(network.subnets()))) if network.prefixlen < network.max_prefixlen else str(network[0])
        case _:
            return f"{network[0] + network.num_addresses}/{network.prefixlen}"


def _double_element(rng: random.Random, lines: list[str]) -> None:
    n = rng.choice(_elements(lines))
    found = _ELEMENT.search(lines[n])
    assert found is not None
    source, target, protocol, port = found.groups()
    lines[n] = lines[n].replace(found[0], f"{found[0]}, {source} . {target} . {protocol} . {int(port) + 1000}")


def _drop_element(rng: random.Random, lines: list[str]) -> None:
    n = rng.choice([n for n in _elements(lines) if lines[n].startswith("\t\t\t") and lines[n].endswith(",")])
    del lines[n]


MUTATIONS: tuple[Mutation, ...] = (
    _drop_rule, _flip_verdict, _swap_rules, _forget_condition, _change_policy, _change_element, _change_element,
    _double_element, _drop_element,
)  # fmt: skip


def _packets_of(lines: list[str]) -> Iterator[tuple[str, str, str, str]]:
    for line in lines:
        yield from _ELEMENT.findall(line)


def _opened_by(lines: list[str], marks: list[tuple[int, int, str, int]]) -> set[tuple[int, int, str, int]]:
    """By counting: which of these packets are in an element."""
    elements = [
        (ip_network(source), ip_network(target), protocol, int(port))
        for source, target, protocol, port in _packets_of(lines)
    ]
    return {
        mark
        for mark in marks
        for source, target, protocol, port in elements
        if (protocol, port) == mark[2:] and ip_address(mark[0]) in source and ip_address(mark[1]) in target
    }


def same_packets(one: str, other: str) -> bool:
    """Only elements differ, and every packet at a boundary of either is in both or in neither."""
    first, second = one.splitlines(), other.splitlines()
    if [line for line in first if not _ELEMENT.search(line)] != [line for line in second if not _ELEMENT.search(line)]:
        return False
    edges: tuple[set[int], set[int]] = (set(), set())
    kinds = set()
    for *ends, protocol, port in (*_packets_of(first), *_packets_of(second)):
        kinds.add((protocol, int(port)))
        for number, word in enumerate(ends):
            network = ip_network(word)
            if network.version == 4:
                edges[number].update((int(network[0]), int(network[-1]), int(network[0]) - 1, int(network[-1]) + 1))
    marks = [(a, b, *kind) for a, b, kind in product(edges[0], edges[1], kinds)]
    return _opened_by(first, marks) == _opened_by(second, marks)


@pytest.mark.parametrize("part", range(SHARE))
def test_mutants_of_the_table_are_caught(part: int) -> None:
    """Each that the kernel takes and that lets other packets through is a difference; the others let the same ones through."""
    rules = ruleset(lab(), ROUTER, forwards=True)
    whole = rules.text()
    caught = refused = equal = 0
    for seed in range(part, MUTANTS, SHARE):
        rng = random.Random(seed)
        lines = whole.splitlines()
        rng.choice(MUTATIONS)(rng, lines)
        mutant = "\n".join(lines) + "\n"
        found = differences(rules, mutant)
        if found is None:
            refused += 1
        elif found:
            caught += 1
        else:
            assert mutant == whole or same_packets(whole, mutant) or sorted(lines) == sorted(whole.splitlines()), mutant
            equal += 1
    assert caught > 10 * equal and caught > refused, (caught, refused, equal)
