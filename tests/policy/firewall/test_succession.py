"""One table after another: what ends by it, who stays contained, and what is open for a time."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

from leadglass.policy.firewall.boxes import Box, Span, beyond, canonical
from leadglass.policy.firewall.compile import closed, ruleset
from leadglass.policy.firewall.lookup import Lookup
from leadglass.policy.firewall.ruleset import AddressSet, FlowSet, PairSet
from leadglass.policy.firewall.succession import Opened, closes, contained_as, elements
from leadglass.terms import Containment
from tests.policy.firewall.sites import generated, lab

SECOND = 1_000_000_000
GUEST = Containment(zones={"guest": "odd"})
REVOKED = Containment(revoked={"sha256:a": "stolen"})


def box(source: str, target: str, first: int, last: int = 0) -> Box:
    return Box("tcp", Span.of(ip_network(source)), Span.of(ip_network(target)), first, last or first)


def test_what_only_opens_ends_nothing_and_containing_counts_for_nothing() -> None:
    site = lab()
    whole, less = ruleset(site), ruleset(replace(site, flows=site.flows[1:]))
    assert closes(whole, less) and not closes(less, whole) and not closes(whole, whole)
    assert not closes(closed(), whole) and closes(whole, closed())
    assert not closes(whole, ruleset(site, containment=GUEST)), "it acts whoever loses by it"


def test_going_back_lets_nobody_in_who_is_contained() -> None:
    site = lab()
    before, now = ruleset(site), ruleset(replace(site, flows=()), containment=GUEST)
    back = contained_as(before, now)
    assert [each for each in back.sets if isinstance(each, AddressSet)] == [
        each for each in now.sets if isinstance(each, AddressSet)
    ]
    assert not closes(before, back) and back != before


def test_a_device_with_no_certificate_that_is_not_revoked_is_cut_off_whole() -> None:
    site = lab()
    pinned = {
        name: replace(each, certificates=("sha256:a",) if name == "CT01" else ("sha256:b",))
        for name, each in site.devices.items()
    }
    spans = [each.spans for each in ruleset(replace(site, devices=pinned), containment=REVOKED).sets if isinstance(each, AddressSet)]  # fmt: skip
    assert [str(span) for each in spans for span in each] == ["10.20.1.11", "fd20:1::11"]
    both = {name: replace(each, certificates=("sha256:a", "sha256:c")) for name, each in site.devices.items()}
    spans = [each.spans for each in ruleset(replace(site, devices=both), containment=REVOKED).sets if isinstance(each, AddressSet)]  # fmt: skip
    assert spans == [(), ()], "it was renewed"


def test_what_is_open_for_a_time_is_disjoint_and_the_later_end_counts() -> None:
    table = ruleset(lab(), forwards=True)
    name = "forward4_on_demand"
    opened = [
        Opened(name, box("10.20.7.10/32", "10.20.6.0/24", 443), 50 * SECOND),
        Opened(name, box("10.20.7.10/32", "10.20.6.10/32", 443), 90 * SECOND),
        Opened(name, box("10.20.7.10/32", "10.20.6.11/32", 22), 10 * SECOND),  # over, or all but
        Opened("no such set", box("10.20.7.10/32", "10.20.6.12/32", 22), 90 * SECOND),
    ]
    lines = elements(table, opened, 10 * SECOND).splitlines()
    added = [line for line in lines if line.startswith("add")]
    assert [line.partition("{ ")[2] for line in added] == [
        "10.20.7.10 . 10.20.6.10 . tcp . 443 timeout 80s }",
        "10.20.7.10 . 10.20.6.0-10.20.6.9 . tcp . 443 timeout 40s }",
        "10.20.7.10 . 10.20.6.11-10.20.6.255 . tcp . 443 timeout 40s }",
    ]
    flushed = {line.split()[-1] for line in lines if line.startswith("flush")}
    assert flushed == {each.name for each in table.sets if isinstance(each, FlowSet) and each.timed}
    assert not [line for line in elements(table, (), 0).splitlines() if line.startswith("add")]


def test_the_lookup_says_what_the_sets_say(tmp_path: Path) -> None:
    """One connection at a time, against exact sets of packets."""
    rng = random.Random(7)
    for seed in range(8):
        site = generated(tmp_path / str(seed), seed)
        table = ruleset(site, forwards=True, containment=Containment(zones={"zone-0": "odd"}))
        timed = box("10.1.0.0/24", "10.9.0.10/32", 5)
        lookup = Lookup(table, [timed])
        flows = canonical([timed, *(each for s in table.sets if isinstance(s, FlowSet) for each in s.boxes)])
        pairs = [pair for s in table.sets if isinstance(s, PairSet) for pair in s.pairs]
        kept = [span for s in table.sets if isinstance(s, AddressSet) for span in s.spans]
        for _ in range(300):
            source, target = (
                int(ip_address(f"10.{rng.choice((0, 1, 2, 9))}.0.{rng.choice((5, 6, 10, 200))}")) for _ in "ab"
            )
            protocol, port = rng.choice(("tcp", "udp")), rng.choice((1, 2, 5, 9, 2762))
            packet = Box(protocol, Span(4, source, source), Span(4, target, target), port, port)
            inside = any(s.version == 4 and s.first <= each <= s.last for s in kept for each in (source, target))
            shared = any(
                a.version == 4 and a.first <= source <= a.last and b.first <= target <= b.last for a, b in pairs
            )
            meant = source == target or (not inside and (shared or not beyond([packet], flows)))
            assert lookup.opens(4, source, target, protocol, port) is meant, (seed, packet)
    assert Lookup(closed()).opens(4, int(ip_address("127.0.0.1")), int(ip_address("127.9.9.9")), "tcp", 1)
    assert not Lookup(closed()).opens(6, int(ip_address("fd00::1")), int(ip_address("fd00::2")), "other", 0)
