"""What did the kernel drop, and is its table the right one? Drops are told at once, then summed up: a sweep is one event, not a flood of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from leadglass.site.model import ARCHIVE, Site
from leadglass.terms import Detection, EventKind, Severity

TOLD_EACH_MAX = 5  # of one source within a minute, each by itself
MINUTE_NS = 60 * 1_000_000_000
SOURCES_MAX = 4096  # remembered at once; of the others only the number is told
SWEEP_TARGETS = 15  # addresses with ports that one source tried within a minute: that is no mistyped address
SILENT_SECONDS = 30.0
_TRIED_MAX = 2048  # remembered of one source; beyond it is a sweep anyway


@dataclass(frozen=True, slots=True)
class Drop:
    """`why`: input, output, forward, spoofed, invalid or contained. `port` 0: none, or not known."""

    why: str
    source: IPv4Address | IPv6Address
    target: IPv4Address | IPv6Address
    protocol: str
    port: int
    count: int


@dataclass(slots=True)
class _Source:
    since_ns: int
    told: int = 0
    swept: bool = False
    untold: int = 0  # packets
    tried: set[tuple[str, str, int]] = field(default_factory=set)
    last: Drop | None = None


@dataclass(slots=True)
class DropWatch:
    """A minute of each source."""

    _sources: dict[str, _Source] = field(default_factory=dict)
    _others: int = 0
    _others_ns: int = 0

    def notice(self, site: Site, drops: Iterable[Drop], now_ns: int) -> Iterator[Detection]:
        for name, source in [*self._sources.items()]:
            if now_ns - source.since_ns >= MINUTE_NS:
                del self._sources[name]
                yield from _summed(site, source)
        if self._others and now_ns - self._others_ns >= MINUTE_NS:
            yield self._uncounted()
        for drop in drops:
            yield from self._one(site, drop, now_ns)

    def _one(self, site: Site, drop: Drop, now_ns: int) -> Iterator[Detection]:
        name = str(drop.source)
        source = self._sources.get(name)
        if source is None:
            if len(self._sources) >= SOURCES_MAX:
                self._others_ns = self._others_ns if self._others else now_ns
                self._others += drop.count
                return
            source = self._sources[name] = _Source(now_ns)
        tried = (str(drop.target), drop.protocol, drop.port)
        new = tried not in source.tried
        if len(source.tried) < _TRIED_MAX:
            source.tried.add(tried)
        source.last = drop
        if new and source.told < TOLD_EACH_MAX:
            source.told += 1
            yield _dropped(site, drop)
        else:
            source.untold += drop.count
        if len(source.tried) >= SWEEP_TARGETS and not source.swept:
            source.swept = True
            yield _swept(site, drop, len(source.tried))

    def _uncounted(self) -> Detection:
        lost, self._others = self._others, 0
        return Detection(
            EventKind.NETWORK_SWEPT,
            Severity.WARNING,
            "many sources",
            f"more than {SOURCES_MAX} addresses were dropped within a minute; {lost} packets of others are not told one by one",
            {"count": lost},
        )


def member_of(site: Site, address: IPv4Address | IPv6Address) -> str:
    """The member with the narrowest networks around it, "" for a stranger."""
    own = site.firewall.addresses if site.firewall is not None else ()
    every = {ARCHIVE: own, **{each.name: each.networks for each in site.devices.values()}}
    around = [
        (network.prefixlen, name)
        for name, networks in every.items()
        for network in networks
        if network.version == address.version and address in network
    ]
    return max(around)[1] if around else ""


def _dropped(site: Site, drop: Drop) -> Detection:
    facts = _facts(site, drop)
    service = f"{drop.protocol}/{drop.port}" if drop.port else drop.protocol
    return Detection(
        EventKind.NETWORK_DROPPED,
        Severity.NOTICE,
        str(drop.source),
        f"{_who(facts, 'from')} to {_who(facts, 'to')} by {service}: {_WHY.get(drop.why, drop.why)}",
        {**facts, "protocol": drop.protocol, "port": drop.port, "count": drop.count, "why": drop.why},
    )


def _swept(site: Site, drop: Drop, tried: int) -> Detection:
    facts = _facts(site, drop)
    return Detection(
        EventKind.NETWORK_SWEPT,
        Severity.WARNING,
        str(drop.source),
        f"{_who(facts, 'from')} tried {tried} addresses and ports that nothing opens, the last of them {drop.target} {drop.protocol}/{drop.port}",
        {
            "zone_from": facts["zone_from"],
            "member_from": facts["member_from"],
            "source": facts["source"],
            "tried": tried,
        },
    )


def _summed(site: Site, source: _Source) -> Iterator[Detection]:
    if source.untold and source.last is not None:
        drop = source.last
        facts = _facts(site, drop)
        yield Detection(
            EventKind.NETWORK_DROPPED,
            Severity.NOTICE,
            str(drop.source),
            f"{source.untold} more packets of {_who(facts, 'from')} within a minute, to {len(source.tried)} addresses and ports",
            {
                **facts,
                "protocol": drop.protocol,
                "port": drop.port,
                "count": source.untold,
                "tried": len(source.tried),
                "why": drop.why,
            },
        )


def _facts(site: Site, drop: Drop) -> dict[str, str | int]:
    return {
        "zone_from": site.zone_of(str(drop.source)),
        "zone_to": site.zone_of(str(drop.target)),
        "member_from": member_of(site, drop.source),
        "member_to": member_of(site, drop.target),
        "source": str(drop.source),
        "target": str(drop.target),
    }


_WHY = {
    "input": "no flow opens it to this host",
    "output": "no flow opens it from this host",
    "forward": "no flow opens it between those",
    "spoofed": "it came from an address that does not live there",
    "invalid": "it belongs to no connection",
    "contained": "one of both is contained",
}


def _who(facts: dict[str, str | int], end: str) -> str:
    member, zone = facts[f"member_{end}"], facts[f"zone_{end}"]
    address = facts["source" if end == "from" else "target"]
    return f"{member} ({address})" if member else f"{address} in {zone}" if zone else f"{address} in no zone"
