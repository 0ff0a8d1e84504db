"""Sets of packets: are two of them the same, and what is in one beyond the other? Exact, over whole classes of packets, never by sampling.

A box is every packet of one IP version and one protocol from a range of sources to a range of targets and ports. A set of packets is a union
of boxes; `canonical` is the one way to write it, so that two sets are equal where their canonical boxes are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import pairwise
from typing import Self

from leadglass.site.model import Network

TCP, UDP, OTHER = "tcp", "udp", "other"  # other: every protocol that knows no such ports
PORT_MAX = 65_535


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Addresses of one IP version, both ends included."""

    version: int
    first: int
    last: int

    @classmethod
    def of(cls, network: Network) -> Self:
        return cls(network.version, int(network.network_address), int(network.broadcast_address))

    def __str__(self) -> str:
        """As nftables writes it: an address, a network where it is one, else a range."""
        address = IPv4Address if self.version == 4 else IPv6Address
        bits = 32 if self.version == 4 else 128
        size = self.last - self.first + 1
        if size == 1:
            return str(address(self.first))
        if size & (size - 1) == 0 and self.first % size == 0:
            return str(ip_network((self.first, bits - size.bit_length() + 1)))
        return f"{address(self.first)}-{address(self.last)}"


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """All packets of `protocol` from `source` to `target`, ports `first_port` to `last_port`; 0 and 0 for `other`."""

    protocol: str
    source: Span
    target: Span
    first_port: int
    last_port: int

    @property
    def ports(self) -> str:
        return str(self.first_port) if self.first_port == self.last_port else f"{self.first_port}-{self.last_port}"

    def __str__(self) -> str:
        what = "any other protocol" if self.protocol == OTHER else f"{self.protocol}/{self.ports}"
        return f"{self.source} to {self.target} by {what}"


def service(protocol: str, port: int, source: Span, target: Span) -> Box:
    return Box(protocol, source, target, port, port)


def everything(source: Span, target: Span) -> Iterator[Box]:
    """Whatever the protocol."""
    yield Box(TCP, source, target, 0, PORT_MAX)
    yield Box(UDP, source, target, 0, PORT_MAX)
    yield Box(OTHER, source, target, 0, 0)


def canonical(boxes: Iterable[Box]) -> tuple[Box, ...]:
    """The same packets as disjoint boxes, the fewest ports first, then targets, then sources; one way for each set."""
    groups: dict[tuple[int, str], list[Box]] = defaultdict(list)
    for box in boxes:
        groups[box.source.version, box.protocol].append(box)
    return tuple(
        sorted(box for (version, protocol), group in groups.items() for box in _disjoint(version, protocol, group))
    )


_Layer = tuple[tuple[int, int, tuple[tuple[int, int], ...]], ...]  # target first, target last, sources


def _disjoint(version: int, protocol: str, boxes: Sequence[Box]) -> Iterator[Box]:
    layers: list[tuple[int, int, _Layer]] = []
    for low, high in _atoms((box.first_port, box.last_port) for box in boxes):
        layer = _layer([box for box in boxes if box.first_port <= low and high <= box.last_port])
        if layers and layers[-1][1] + 1 == low and layers[-1][2] == layer:
            layers[-1] = (layers[-1][0], high, layer)
        elif layer:
            layers.append((low, high, layer))
    for low, high, layer in layers:
        for first, last, sources in layer:
            for begin, end in sources:
                yield Box(protocol, Span(version, begin, end), Span(version, first, last), low, high)


def _layer(boxes: Sequence[Box]) -> _Layer:
    """Who reaches which targets, over one range of ports."""
    found: list[tuple[int, int, tuple[tuple[int, int], ...]]] = []
    for first, last in _atoms((box.target.first, box.target.last) for box in boxes):
        inside = [box.source for box in boxes if box.target.first <= first and last <= box.target.last]
        sources = joined((each.first, each.last) for each in inside)
        if found and found[-1][1] + 1 == first and found[-1][2] == sources:
            found[-1] = (found[-1][0], last, sources)
        elif sources:
            found.append((first, last, sources))
    return tuple(found)


def joined(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ranges, both ends included, without overlaps and with neighbours joined."""
    told: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if told and first <= told[-1][1] + 1:
            told[-1] = (told[-1][0], max(told[-1][1], last))
        else:
            told.append((first, last))
    return tuple(told)


def _atoms(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The pieces between all boundaries: each is wholly inside or wholly outside of every range."""
    cuts: set[int] = set()
    for first, last in ranges:
        cuts |= {first, last + 1}
    for first, after in pairwise(sorted(cuts)):
        yield first, after - 1


def beyond(boxes: Iterable[Box], others: Iterable[Box]) -> tuple[Box, ...]:
    """The packets of the first that are not in the second; empty where there are none. Any of them is a witness."""
    left = list(canonical(boxes))
    for other in canonical(others):
        left = [piece for box in left for piece in _without(box, other)]
    return canonical(left)


def _without(box: Box, other: Box) -> Iterator[Box]:
    same = box.protocol == other.protocol and box.source.version == other.source.version
    port = max(box.first_port, other.first_port), min(box.last_port, other.last_port)
    source = max(box.source.first, other.source.first), min(box.source.last, other.source.last)
    target = max(box.target.first, other.target.first), min(box.target.last, other.target.last)
    if not same or any(first > last for first, last in (port, source, target)):
        yield box
        return
    version = box.source.version
    for first, last in _outside(box.first_port, box.last_port, *port):
        yield Box(box.protocol, box.source, box.target, first, last)
    for first, last in _outside(box.target.first, box.target.last, *target):
        yield Box(box.protocol, box.source, Span(version, first, last), *port)
    for first, last in _outside(box.source.first, box.source.last, *source):
        yield Box(box.protocol, Span(version, first, last), Span(version, *target), *port)


def _outside(first: int, last: int, low: int, high: int) -> Iterator[tuple[int, int]]:
    if first < low:
        yield first, low - 1
    if high < last:
        yield high + 1, last
