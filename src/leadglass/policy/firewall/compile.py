"""The flows of a site as the table of one host.

Every packet that goes the way a connection was opened is looked up, also the thousandth: what is taken out of a set ends at once. Answers pass
while their connection is known. What nothing opens is logged with the chain's name, counted and dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from leadglass.policy.firewall.boxes import Span, canonical, joined
from leadglass.policy.firewall.openings import NOBODY, Opening, Openings, openings
from leadglass.policy.firewall.ruleset import (
    CONTAINED_KEYS,
    FLOW_KEY,
    PAIR_KEY,
    AddressSet,
    Chain,
    FlowSet,
    Match,
    PairSet,
    Rule,
    Ruleset,
    Set,
)
from leadglass.site.model import ARCHIVE, Site
from leadglass.terms import Containment

VERSIONS = (4, 6)
FILTER_PRIORITY = 0
SPOOF_PRIORITY = -300  # raw: before anything is remembered of it
_IP = {4: "ip", 6: "ip6"}
# What IPv6 needs to find its neighbours and its routers, and IPv4 does by ARP, below this table (RFC 4890 4.4.1).
_NEIGHBOURS = (
    "mld-listener-query",
    "mld-listener-report",
    "mld2-listener-report",
    "nd-neighbor-advert",
    "nd-neighbor-solicit",
    "nd-router-advert",
    "nd-router-solicit",
)
_ANSWERS = Rule((Match("ct direction", "==", ("reply",)), Match("ct state", "==", ("established",))), "accept")
# An error about a connection that is known: "too big", "unreachable". No helper is loaded that would make anything else related.
_ERRORS = Rule((Match("ct state", "==", ("related",)), Match("meta l4proto", "==", ("icmp", "ipv6-icmp"))), "accept")
_INVALID = Rule((Match("ct state", "==", ("invalid",)),), "drop", "leadglass invalid ")
_NEIGHBOURLY = Rule((Match("icmpv6 type", "==", _NEIGHBOURS),), "accept")


def ruleset(
    site: Site, member: str = ARCHIVE, *, forwards: bool | None = None, containment: Containment = NOBODY
) -> Ruleset:
    """The table of the host of `member`. `forwards`: whether it routes between the zones; None: what the site file says of archive."""
    if forwards is None:
        forwards = member == ARCHIVE and site.firewall is not None and site.firewall.forwards
    return _table(openings(site, member, containment), tuple(_apart(site)) if forwards else (), forwards)


def closed(*, forwards: bool = False) -> Ruleset:
    """The table of a host that knows no site file yet: it hears its own loopback and its neighbours, and nobody else."""
    return _table(Openings((), (), (), (), ()), (), forwards)


def of_our_form(table: Ruleset) -> bool:
    """Whether the compiler could have written it for some site. What it opens stands in its sets then: no rule besides accepts, no drop is missing."""
    forwards = any(isinstance(each, PairSet) for each in table.sets)
    plain = closed(forwards=forwards)
    if [_kind(each) for each in table.sets] != [_kind(each) for each in plain.sets] or not table.chains:
        return False
    spoofed, *others = plain.chains
    more = table.chains[0].rules[len(spoofed.rules) :]
    meant = (replace(spoofed, rules=spoofed.rules + more), *others)
    return table.chains == meant and all(each.verdict == "drop" and each.log and each.matches for each in more)


def _table(opened: Openings, apart: tuple[Rule, ...], forwards: bool) -> Ruleset:
    sets = [*_contained(opened), *_of_chain("input", opened.input), *_of_chain("output", opened.output)]
    if forwards:
        sets += [*_of_chain("forward", opened.forward), *_shared(opened)]
    chains = (_spoofed(apart), _host("input", "iifname"), _host("output", "oifname"), _forward(forwards))
    return Ruleset(tuple(sets), chains)


def _kind(of: Set) -> tuple[type[Set], str, int, bool, bool]:
    """What an empty one of the same kind has too; a set of what is open for a time must be empty."""
    timed = isinstance(of, FlowSet) and of.timed
    return type(of), of.name, of.version, timed, timed and of != FlowSet(of.name, of.version, timed=True)


# ---- sets


def _of_chain(name: str, opened: tuple[Opening, ...]) -> Iterator[Set]:
    for version in VERSIONS:
        boxes = canonical(each.box for each in opened if each.box.source.version == version and not each.on_demand)
        yield FlowSet(f"{name}{version}", version, boxes)
        yield FlowSet(f"{name}{version}_on_demand", version, timed=True)


def _shared(opened: Openings) -> Iterator[Set]:
    for version in VERSIONS:
        pairs = tuple(sorted(pair for pair in opened.shared if pair[0].version == version))
        yield PairSet(f"shared{version}", version, pairs)


def _contained(opened: Openings) -> Iterator[Set]:
    for version in VERSIONS:
        inside = joined((span.first, span.last) for span in opened.contained if span.version == version)
        yield AddressSet(f"contained{version}", version, tuple(Span(version, *ends) for ends in inside))


# ---- chains


def _spoofed(apart: tuple[Rule, ...]) -> Chain:
    """Nobody speaks from an address that would not be answered the same way; nobody of a zone with an interface by another one."""
    missing = Rule((Match("fib saddr . iif oif", "==", ("missing",)),), "drop", "leadglass spoofed ")
    return Chain("spoofed", "prerouting", SPOOF_PRIORITY, "accept", (_NEIGHBOURLY, missing, *apart))


def _apart(site: Site) -> Iterator[Rule]:
    """Of each zone with an interface: nobody else by it, and nobody of it by another one."""
    for zone in site.zones.values():
        for version in VERSIONS:
            own = [Span.of(network) for network in zone.networks if network.version == version]
            ends = joined((each.first, each.last) for each in own)
            inside = tuple(sorted(str(Span(version, *each)) for each in ends))
            if zone.interface and inside:
                source, by = f"{_IP[version]} saddr", "iifname"
                here, elsewhere = Match(by, "==", (zone.interface,)), Match(by, "!=", (zone.interface,))
                yield Rule((here, Match(source, "!=", inside)), "drop", "leadglass spoofed ")
                yield Rule((elsewhere, Match(source, "==", inside)), "drop", "leadglass spoofed ")


def _host(name: str, interface: str) -> Chain:
    rules = (
        Rule((Match(interface, "==", ("lo",)),), "accept"),
        _INVALID,
        *_kept_apart(),
        _ANSWERS,
        _ERRORS,
        _NEIGHBOURLY,
        *_opened(name),
        _refused(name),
    )
    return Chain(name, name, FILTER_PRIORITY, "drop", rules)


def _forward(forwards: bool) -> Chain:
    """A host that is no router forwards nothing, whatever somebody sets in its kernel."""
    rules = [_INVALID, *_kept_apart(), _ANSWERS, _ERRORS, *_opened("forward"), *_between()] if forwards else []
    return Chain("forward", "forward", FILTER_PRIORITY, "drop", (*rules, _refused("forward")))


def _kept_apart() -> Iterator[Rule]:
    for version in VERSIONS:
        for key in CONTAINED_KEYS:
            within = Match(key.format(ip=_IP[version]), "==", (f"@contained{version}",))
            yield Rule((within,), "drop", "leadglass contained ")


def _opened(name: str) -> Iterator[Rule]:
    for version in VERSIONS:
        key = FLOW_KEY.format(ip=_IP[version])
        for each in (f"@{name}{version}", f"@{name}{version}_on_demand"):
            yield Rule((Match(key, "==", (each,)),), "accept")


def _between() -> Iterator[Rule]:
    for version in VERSIONS:
        yield Rule((Match(PAIR_KEY.format(ip=_IP[version]), "==", (f"@shared{version}",)),), "accept")


def _refused(name: str) -> Rule:
    return Rule((), "drop", f"leadglass {name} ")


# ---- as a plain table


def plain(site: Site, member: str = ARCHIVE) -> Iterator[tuple[str, Opening]]:
    """Chain and opening, for whoever keys them into another make of firewall: allow these, deny the rest."""
    opened = openings(site, member)
    for chain, each in (("forward", opened.forward), ("input", opened.input), ("output", opened.output)):
        yield from ((chain, one) for one in sorted(each, key=lambda opening: (opening.flow, opening.box)))
