"""What did the kernel drop, and is its table the right one? Drops are told at once, then summed up: a sweep is one event, not a flood of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from leadglass.site.model import ARCHIVE, Site
from leadglass.terms import Detection, EventKind, Severity

TOLD_EACH_MAX = 5  # of one source within a minute, each by itself
PAIRS_TOLD_MAX = 20  # and the first to each zone, so many
TOLD_MAX = 1000  # of all sources within a minute; the others are counted
MINUTE_NS = 60 * 1_000_000_000
SOURCES_MAX = 1024  # remembered at once; of the others only the number is told
PEERS_MAX = 16_384  # who tried to reach whom, remembered for as long as this process lives
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
class _Untold:
    """To one zone. `last`: of those that were counted only."""

    count: int = 0
    last: Drop | None = None


@dataclass(slots=True)
class _Source:
    since_ns: int
    told: int = 0
    swept: bool = False
    untold: dict[str, _Untold] = field(default_factory=dict)
    tried: set[tuple[str, str, int]] = field(default_factory=set)


@dataclass(slots=True)
class DropWatch:
    """A minute of each source. Every packet is in one event: told by itself, or counted in that of its pair of zones, at the latest a minute later."""

    _sources: dict[str, _Source] = field(default_factory=dict)
    _peers: dict[tuple[str, str], None] = field(default_factory=dict)
    _others: int = 0
    _since_ns: int = 0
    _told: int = 0

    def notice(self, site: Site, drops: Iterable[Drop], now_ns: int) -> Iterator[Detection]:
        for name, source in [*self._sources.items()]:
            if now_ns - source.since_ns >= MINUTE_NS:
                del self._sources[name]
                yield from _summed(site, source)
        if now_ns - self._since_ns >= MINUTE_NS:
            if self._others:
                yield self._uncounted()
            self._since_ns, self._told = now_ns, 0
        for drop in drops:
            yield from self._one(site, drop, now_ns)

    def _one(self, site: Site, drop: Drop, now_ns: int) -> Iterator[Detection]:
        name, zone = str(drop.source), site.zone_of(str(drop.target))
        source = self._sources.get(name)
        if source is None:
            if len(self._sources) >= SOURCES_MAX:
                self._others += drop.count
                return
            source = self._sources[name] = _Source(now_ns)
        tried = (str(drop.target), drop.protocol, drop.port)
        another, first = tried not in source.tried, zone not in source.untold
        if len(source.tried) < _TRIED_MAX:
            source.tried.add(tried)
        untold = source.untold.setdefault(zone, _Untold())
        if self._told < TOLD_MAX and (
            (another and source.told < TOLD_EACH_MAX) or (first and len(source.untold) <= PAIRS_TOLD_MAX)
        ):
            source.told += 1
            self._told += 1
            yield _dropped(site, drop, self._is_new(drop))
        else:
            untold.count += drop.count
            untold.last = drop
        if len(source.tried) >= SWEEP_TARGETS and not source.swept:
            source.swept = True
            yield _swept(site, drop, len(source.tried))

    def _is_new(self, drop: Drop) -> bool:
        """Whether nobody saw this source try this target before."""
        key = (str(drop.source), str(drop.target))
        new = self._peers.pop(key, self) is self
        self._peers[key] = None
        if len(self._peers) > PEERS_MAX:
            del self._peers[next(iter(self._peers))]
        return new

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


def _dropped(site: Site, drop: Drop, new: bool) -> Detection:
    facts = _facts(site, drop)
    first = ", for the first time" if new else ""
    return Detection(
        EventKind.NETWORK_DROPPED,
        Severity.NOTICE,
        str(drop.source),
        f"{_who(facts, 'from')} to {_who(facts, 'to')} by {_service(drop)}{first}: {_WHY.get(drop.why, drop.why)}",
        {
            **facts,
            "protocol": drop.protocol,
            "port": drop.port,
            "count": drop.count,
            "why": drop.why,
            "new_peer": int(new),
        },
    )


def _swept(site: Site, drop: Drop, tried: int) -> Detection:
    facts = _facts(site, drop)
    return Detection(
        EventKind.NETWORK_SWEPT,
        Severity.WARNING,
        str(drop.source),
        f"{_who(facts, 'from')} tried {tried} addresses and ports that nothing opens, the last of them {drop.target} {_service(drop)}",
        {
            "zone_from": facts["zone_from"],
            "member_from": facts["member_from"],
            "source": facts["source"],
            "tried": tried,
        },
    )


def _summed(site: Site, source: _Source) -> Iterator[Detection]:
    """What was counted only, by the zone that it was for."""
    for zone, untold in source.untold.items():
        if untold.last is None:
            continue
        drop = untold.last
        facts = _facts(site, drop)
        yield Detection(
            EventKind.NETWORK_DROPPED,
            Severity.NOTICE,
            str(drop.source),
            f"{untold.count} more packets of {_who(facts, 'from')} to {f'zone {zone}' if zone else 'no zone'} within a minute",
            {
                **facts,
                "protocol": drop.protocol,
                "port": drop.port,
                "count": untold.count,
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


def _service(drop: Drop) -> str:
    return f"{drop.protocol}/{drop.port}" if drop.port else drop.protocol


def _who(facts: dict[str, str | int], end: str) -> str:
    member, zone = facts[f"member_{end}"], facts[f"zone_{end}"]
    address = facts["source" if end == "from" else "target"]
    return f"{member} ({address})" if member else f"{address} in {zone}" if zone else f"{address} in no zone"
