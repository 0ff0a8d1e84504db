"""The compiled table against the flows: each packet that a flow opens, and no other; told in the words of the site file."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from leadglass.policy.firewall.boxes import Box, Span, beyond, canonical
from leadglass.policy.firewall.compile import plain, ruleset
from leadglass.policy.firewall.openings import ROUTER, openings
from leadglass.policy.firewall.readback import contents
from leadglass.policy.firewall.ruleset import AddressSet, FlowSet, Ruleset
from leadglass.policy.firewall.words import gains_and_losses
from leadglass.site.model import Site
from leadglass.terms import Containment
from tests.policy.firewall.sites import generated, lab, written


def one(source: str, target: str, port: int, protocol: str = "tcp") -> Box:
    return Box(protocol, Span.of(ip_network(source)), Span.of(ip_network(target)), port, port)


def opened(rules: Ruleset, name: str) -> tuple[Box, ...]:
    return tuple(
        box for each in rules.sets if isinstance(each, FlowSet) and each.name.startswith(name) for box in contents(each)
    )


def passes(rules: Ruleset, chain: str, packet: Box) -> bool:
    return not beyond([packet], opened(rules, chain))


def test_the_table_opens_what_the_flows_open_and_nothing_else() -> None:
    rules = ruleset(lab(), ROUTER, forwards=True)
    assert passes(rules, "forward", one("10.20.1.99", "10.20.5.10", 2762)), "any modality to archive"
    assert passes(rules, "forward", one("fd20:1::63", "fd20:5::10", 2762)), "over IPv6 too"
    assert passes(rules, "forward", one("10.20.4.20", "10.20.5.10", 2575))
    assert not passes(rules, "forward", one("10.20.4.21", "10.20.5.10", 2575)), "not the RIS"
    assert not passes(rules, "forward", one("10.20.1.99", "10.20.5.10", 2763))
    assert not passes(rules, "forward", one("10.20.7.10", "10.20.6.10", 443)), "on demand: closed until approved"
    assert opened(rules, "input") == opened(rules, "output") == (), "a router is nobody's host"


def test_archives_own_host_lets_in_and_out_what_its_flows_say() -> None:
    rules = ruleset(lab())
    assert passes(rules, "input", one("10.20.2.7", "10.20.5.10", 443))
    assert not passes(rules, "input", one("10.20.2.7", "10.20.5.20", 443)), "not its address"
    assert passes(rules, "output", one("10.20.5.10", "10.20.8.10", 443))
    assert not passes(rules, "output", one("10.20.5.10", "10.20.9.1", 443))
    assert opened(rules, "forward") == ()
    (forward,) = (each for each in rules.chains if each.name == "forward")
    assert forward.policy == "drop" and [each.verdict for each in forward.rules] == ["drop"]


def test_a_connection_that_begins_by_a_flow_on_demand_is_told_before_it_passes() -> None:
    """New ones alone, to a group of their own; what is always open is told to nobody."""
    for rules, chains in (
        (ruleset(lab()), {"input", "output"}),
        (ruleset(lab(), forwards=True), {"input", "output", "forward"}),
    ):
        for chain in rules.chains:
            words = [str(rule) for rule in chain.rules]
            told = [n for n, each in enumerate(words) if "leadglass passed" in each]
            assert len(told) == (2 if chain.name in chains else 0), chain.name
            for n, ip in zip(told, ("ip", "ip6"), strict=False):
                waiting = f"@{chain.name}{4 if ip == 'ip' else 6}_on_demand"
                key = f"{ip} saddr . {ip} daddr . meta l4proto . th dport {waiting}"
                assert words[n] == f'ct state new {key} log prefix "leadglass passed " group 93 counter accept'
                assert words[n + 1] == f"{key} accept"
                assert words[n - 1] == f"{key.removesuffix('_on_demand')} accept"


@pytest.mark.parametrize("seed", range(20))
def test_elements_are_disjoint_and_add_up_to_the_openings(tmp_path: Path, seed: int) -> None:
    site = generated(tmp_path, seed)
    rules, said = ruleset(site, ROUTER, forwards=True), openings(site, ROUTER)
    assert canonical(opened(rules, "forward")) == canonical(said.open(said.forward))
    for each in rules.sets:
        if isinstance(each, FlowSet):
            assert each.boxes == canonical(each.boxes), "the kernel takes no overlapping elements"


def test_who_is_disabled_neither_sends_nor_is_sent_to() -> None:
    site = lab()
    disabled = replace(site, devices={**site.devices, "US07": replace(site.devices["US07"], enabled=False)})
    text = ruleset(disabled, ROUTER, forwards=True).text()
    assert "elements = { 10.20.1.17 }" in text and "elements = { fd20:1::11 }" not in text
    for chain in ruleset(disabled).chains:
        words = [str(rule) for rule in chain.rules]
        if chain.name in ("input", "output"):
            kept_apart = next(n for n, each in enumerate(words) if "@contained4" in each)
            assert kept_apart < next(n for n, each in enumerate(words) if "established" in each), "also what is open"


def test_who_is_contained_is_kept_apart_in_the_kernel_too() -> None:
    state = Containment(disabled={"CT01": "odd"}, zones={"guest": "a worm"})
    text = ruleset(lab(), ROUTER, forwards=True, containment=state).text()
    assert "elements = { 10.20.1.11,\n\t\t\t10.20.9.0/24 }" in text and "fd20:9::/64" in text
    assert "10.20.1.17" not in text


def test_whoever_contains_the_zone_of_archive_does_not_cut_off_archive() -> None:
    """Nobody could let it in again, and nobody would be treated meanwhile."""
    rules = ruleset(lab(), containment=Containment(zones={"pacs": "a worm"}))
    inside = [span for each in rules.sets if isinstance(each, AddressSet) for span in each.spans]
    for address in ("10.20.5.10", "fd20:5::10"):
        own = Span.of(ip_network(address))
        assert not any(span.version == own.version and span.first <= own.first <= span.last for span in inside)
    for address in ("10.20.5.9", "10.20.5.11", "10.20.5.20", "10.20.5.0", "10.20.5.255", "fd20:5::f", "fd20:5::11"):
        other = Span.of(ip_network(address))
        assert any(span.version == other.version and span.first <= other.first <= span.last for span in inside), address


def test_a_zone_with_an_interface_is_heard_by_that_one_alone(tmp_path: Path) -> None:
    site = written(
        tmp_path,
        '[firewall]\naddresses = ["10.1.0.1/32"]\n[zones.a]\nnetworks = ["10.1.0.0/25", "10.1.0.128/25"]\ninterface = "eth1"\n',
    )
    (spoofed,) = (each for each in ruleset(site, ROUTER, forwards=True).chains if each.name == "spoofed")
    words = [str(each) for each in spoofed.rules]
    assert any(each.startswith('iifname "eth1" ip saddr != 10.1.0.0/24 ') for each in words)
    assert any(each.startswith('iifname != "eth1" ip saddr 10.1.0.0/24 ') for each in words)


def test_the_plain_table_says_the_same(tmp_path: Path) -> None:
    for seed in range(5):
        site = generated(tmp_path / str(seed), seed)
        rows = [each for chain, each in plain(site, ROUTER) if chain == "forward"]
        said = openings(site, ROUTER)
        assert canonical(each.box for each in rows) == canonical(each.box for each in said.forward)
        assert {each.flow for each in rows if each.on_demand} == {each.flow for each in said.forward if each.on_demand}


def narrowed(site: Site) -> Site:
    flows = tuple(
        replace(each, sources=("CT01",)) if each.id == "modalities-store" else each
        for each in site.flows
        if each.id != "orders"
    )
    return replace(site, flows=flows)


def test_a_change_is_told_as_packets_with_the_names_of_the_site_file() -> None:
    assert list(gains_and_losses(lab(), lab())) == []
    lost = list(gains_and_losses(lab(), narrowed(lab())))
    assert "- ris to archive by hl7-tls (tcp/2575)" in lost
    assert all(each.startswith("- ") for each in lost) and any("modalities to archive" in each for each in lost)
    assert not any("CT01" in each for each in lost), "it keeps what it had"
    assert sorted(each[2:] for each in gains_and_losses(narrowed(lab()), lab())) == sorted(each[2:] for each in lost)


def test_what_opens_on_demand_is_told_as_such() -> None:
    site = lab()
    always = replace(
        site, flows=tuple(replace(each, on_demand=None) if each.id == "vendor" else each for each in site.flows)
    )
    told = list(gains_and_losses(site, always))
    assert "+ vendor-jump to jump by https (tcp/443)" in told
    assert "- vendor-jump to jump by https (tcp/443), on demand" in told
