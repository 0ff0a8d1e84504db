"""Which flows let these packets pass, and which flows could archive's own kernel see at all? Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from leadglass.policy.firewall.boxes import Box, Span
from leadglass.policy.firewall.openings import Opening, openings
from leadglass.site.model import ARCHIVE, Site

CHAINS = ("input", "output", "forward")


@dataclass(frozen=True, slots=True)
class Counted:
    """One element of a set of services: how many packets it let pass since the table was loaded."""

    set: str
    box: Box
    packets: int


@dataclass(frozen=True, slots=True)
class Spoken:
    """Connections of one sort that a kernel knows now, as they were opened. Addresses are numbers."""

    version: int
    source: int
    target: int
    protocol: str
    port: int
    count: int


class FlowsOf:
    """Of one site: asked for packets, says by which flows they may have passed. Where flows overlap, each of them may."""

    def __init__(self, site: Site) -> None:
        opened = openings(site)
        self._chains: dict[str, tuple[Opening, ...]] = dict(
            zip(CHAINS, (opened.input, opened.output, opened.forward), strict=True)
        )
        self._known: dict[tuple[str, Box], frozenset[str]] = {}

    def of(self, chain: str, box: Box) -> frozenset[str]:
        found = self._known.get((chain, box))
        if found is None:
            opened = self._chains.get(chain, ())
            found = self._known[chain, box] = frozenset(each.flow for each in opened if _meet(each.box, box))
        return found

    def counted(self, each: Counted) -> frozenset[str]:
        """By the name of its set: `input4`, `forward6_on_demand`."""
        return self.of(each.set.partition("_")[0].rstrip("46"), each.box)

    def spoken(self, each: Spoken) -> frozenset[str]:
        source, target = (Span(each.version, address, address) for address in (each.source, each.target))
        return self.of("forward", Box(each.protocol, source, target, each.port, each.port))


def visible(site: Site) -> frozenset[str]:
    """The flows whose every packet passes the table of archive's own host."""
    if site.firewall is None:
        return frozenset()
    if site.firewall.forwards:
        return frozenset(flow.id for flow in site.flows)
    return frozenset(flow.id for flow in site.flows if set(flow.sources) == {ARCHIVE} or set(flow.targets) == {ARCHIVE})


def by_flow(flows: FlowsOf, counted: Iterable[Counted]) -> dict[str, int]:
    """Packets by flow; those of several flows count for each of them."""
    found: dict[str, int] = {}
    for each in counted:
        for flow in flows.counted(each):
            found[flow] = found.get(flow, 0) + each.packets
    return found


def unopened(flows: FlowsOf, spoken: Iterable[Spoken]) -> Iterator[Spoken]:
    """Connections that no flow opens: of a shared zone, or older than the table."""
    return (each for each in spoken if not flows.spoken(each))


def _meet(one: Box, other: Box) -> bool:
    return (
        one.protocol == other.protocol
        and one.source.version == other.source.version
        and one.first_port <= other.last_port
        and other.first_port <= one.last_port
        and one.source.first <= other.source.last
        and other.source.first <= one.source.last
        and one.target.first <= other.target.last
        and other.target.first <= one.target.last
    )
