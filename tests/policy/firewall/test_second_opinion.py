"""z3 is asked too: of what the kernel lists against what the site file means, and of our own arithmetic with sets of packets."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import z3

from leadglass.policy.firewall.boxes import Box, Span, beyond, canonical
from leadglass.policy.firewall.compile import ruleset
from leadglass.policy.firewall.openings import NOBODY, ROUTER
from leadglass.policy.firewall.readback import contents, read
from leadglass.policy.firewall.ruleset import FlowSet
from leadglass.site.model import ARCHIVE, Site
from leadglass.terms import Containment
from tests.policy.firewall.second_opinion import Strange, Tables, disagreements, is_empty, packet, possible, union
from tests.policy.firewall.sites import generated, lab
from tests.policy.firewall.test_readback import listed
from tests.programs import require

GENERATED = 24
ELEMENT_MUTANTS = 30


@pytest.fixture(scope="module", autouse=True)
def _nft() -> None:
    require("nft")


def kernel(site: Site, member: str, after: str = "", containment: Containment = NOBODY) -> str:
    """What a real kernel lists of the compiled table."""
    told = listed(ruleset(site, member, forwards=member == ROUTER, containment=containment).text(), after)
    assert told is not None
    return told


@pytest.mark.parametrize("member", [ARCHIVE, ROUTER, "jump"])
def test_of_the_labs_file_no_packet_is_treated_differently(member: str) -> None:
    site = lab()
    zones = {name: replace(zone, interface=f"eth{n}") for n, (name, zone) in enumerate(site.zones.items())}
    off = {**site.devices, "US07": replace(site.devices["US07"], enabled=False)}
    for each in (site, replace(site, zones=zones), replace(site, devices=off)):
        assert disagreements(each, kernel(each, member), member) == []


@pytest.mark.parametrize("seed", range(GENERATED))
def test_of_sites_by_chance_no_packet_is_treated_differently(tmp_path: Path, seed: int) -> None:
    site = generated(tmp_path, seed)
    for member in (ARCHIVE, ROUTER):
        assert disagreements(site, kernel(site, member), member) == []


def test_who_is_contained_is_kept_apart_and_nobody_else() -> None:
    site = lab()
    told = kernel(site, ROUTER, containment=Containment(disabled={"US07": "odd"}, zones={"guest": "odd"}))
    assert disagreements(site, told, ROUTER, ("US07", "guest")) == []
    assert disagreements(site, told, ROUTER, ("US07",)) != [] != disagreements(site, told, ROUTER, ("guest",))


FAULTS = {
    "a port too many": "nft add element inet leadglass forward4 { 10.20.2.0/23 . 10.20.5.10 . tcp . 444 }",
    "a range too wide": "nft add element inet leadglass forward4 { 10.20.4.21-10.20.4.29 . 10.20.5.10 . tcp . 2575 }",
    "an element is missing": "nft delete element inet leadglass forward4 { 10.20.4.20 . 10.20.5.10 . tcp . 2575 }",
    "the wrong protocol": "nft add element inet leadglass forward6 { fd20:2::/64 . fd20:5::10 . udp . 443 }",
    "a rule before the others": "nft insert rule inet leadglass forward ip saddr 10.20.9.9 accept",
    "answers of nobody": "nft insert rule inet leadglass forward ct state related accept",
    "not only answers": "nft insert rule inet leadglass forward ct state established accept",
    "what is invalid": "nft insert rule inet leadglass input ct state invalid accept",
    "the last word": "nft 'add chain inet leadglass forward { policy accept; }' && nft flush chain inet leadglass forward",
    "false addresses": "nft flush chain inet leadglass spoofed",
    "a zone that is not shared": "nft add element inet leadglass shared4 { 10.20.9.0/24 . 10.20.9.0/24 }",
    "somebody contained": "nft add element inet leadglass contained4 { 10.20.4.20 }",
    "open without approval": "nft add element inet leadglass forward4_on_demand { 10.20.7.10 . 10.20.6.10 . tcp . 443 timeout 1h }",
    "another program's drop": "nft add table ip a && nft 'add chain ip a x { type filter hook forward priority 9; policy drop; }'",
    "no table at all": "nft delete table inet leadglass",
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_seeded_faults_are_found_with_a_packet(fault: str) -> None:
    site = lab()
    assert disagreements(site, kernel(site, ROUTER, FAULTS[fault]), ROUTER) != []


def test_what_it_cannot_read_it_says() -> None:
    site = lab()
    with pytest.raises(Strange):
        disagreements(site, kernel(site, ROUTER, "nft insert rule inet leadglass forward meta mark 7 accept"), ROUTER)


# ---- and of boxes.py


def some_boxes(rng: random.Random) -> list[Box]:
    """Of few addresses and ports, so that they overlap, touch and hold each other."""
    found = []
    for _ in range(rng.randint(1, 6)):
        version = rng.choice((4, 6))
        ends = [sorted(rng.randrange(12) for _ in "ab") for _ in "stp"]
        source, target = (Span(version, *each) for each in ends[:2])
        found.append(Box(rng.choice(("tcp", "udp")), source, target, *ends[2]))
    return found


def test_sets_of_packets_are_what_z3_takes_them_for() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        one, other = some_boxes(rng), some_boxes(rng)
        for version in (4, 6):
            of = packet(version)
            first, second = union(of, one), union(of, other)
            assert is_empty(first != union(of, canonical(one)))
            more = beyond(one, other)
            assert is_empty(z3.And(first, z3.Not(second)) != union(of, more)), seed
            assert is_empty(first, z3.Not(second)) == (not [box for box in more if box.source.version == version])


def test_mutated_elements_are_judged_alike() -> None:
    """For each: our comparison of sets names packets where z3 finds one in the rules of the kernel, and they are the same packets."""
    site = lab()
    whole = ruleset(site, ROUTER, forwards=True)
    (index,) = (n for n, each in enumerate(whole.sets) if each.name == "forward4")
    flows = whole.sets[index]
    assert isinstance(flows, FlowSet)
    of, before = packet(4), Tables(kernel(site, ROUTER)).passes(packet(4), "forward")
    same = 0
    for seed in range(ELEMENT_MUTANTS):
        rng = random.Random(seed)
        boxes = list(flows.boxes)
        box = boxes.pop(rng.randrange(len(boxes)))
        boxes.append(_mutated(rng, box))
        text = replace(
            whole, sets=(*whole.sets[:index], replace(flows, boxes=canonical(boxes)), *whole.sets[index + 1 :])
        ).text()
        told = listed(text)
        assert told is not None
        ours = read(told).ours
        assert ours is not None
        (there,) = (each for each in ours.sets if each.name == "forward4")
        opened, closed = beyond(contents(there), flows.boxes), beyond(flows.boxes, contents(there))
        found = disagreements(site, told, ROUTER)
        assert all((each.hook, each.version) == ("forward", 4) for each in found)
        if not found:
            same += 1  # what else the table opens hides the difference, or there is none
            assert is_empty(possible(of), union(of, (*opened, *closed)), Tables(told).passes(of, "forward") != before)
            continue
        (witness,) = found
        told_of = opened if witness.passes else closed
        assert any(
            box.source.first <= witness.source <= box.source.last and box.target.first <= witness.target <= box.target.last
            and box.first_port <= witness.port <= box.last_port and box.protocol == {6: "tcp", 17: "udp"}[witness.protocol]
            for box in told_of
        ), (seed, witness, told_of)  # fmt: skip
    assert same < ELEMENT_MUTANTS / 2


def _mutated(rng: random.Random, box: Box) -> Box:
    match rng.randrange(5):
        case 0:
            return replace(box, first_port=box.first_port + 1, last_port=box.last_port + 1)
        case 1:
            return replace(box, protocol="udp" if box.protocol == "tcp" else "tcp")
        case 2:
            return replace(box, source=Span(4, box.source.first - 1, box.source.last))
        case 3:
            return replace(box, target=Span(4, box.target.first, box.target.last + 5))
        case _:
            return replace(box, source=box.target, target=box.source)
