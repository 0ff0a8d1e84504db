"""Does a table let this connection be opened? The same sets as the kernel's, asked for one connection at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from ipaddress import ip_address

from leadglass.policy.firewall.boxes import Box, Span
from leadglass.policy.firewall.ruleset import AddressSet, FlowSet, PairSet, Ruleset

_LOOPBACK = {4: Span(4, 127 << 24, (128 << 24) - 1), 6: Span(6, 1, 1)}


class Lookup:
    """`on_demand`: what is open for a time besides. Where a set names a range of ports, each of them is asked for."""

    def __init__(self, ruleset: Ruleset, on_demand: Iterable[Box] = ()) -> None:
        self._flows: dict[tuple[int, str], list[Box]] = defaultdict(list)
        self._pairs: list[tuple[Span, Span]] = []
        self._contained: list[Span] = []
        for each in ruleset.sets:
            match each:
                case FlowSet():
                    self._take(each.boxes)
                case PairSet():
                    self._pairs += each.pairs
                case AddressSet():
                    self._contained += each.spans
        self._take(on_demand)

    def opens(self, version: int, source: int, target: int, protocol: str, port: int) -> bool:
        """`protocol`: tcp, udp, or anything else. What a host says to itself is always open."""
        if source == target or _in(_LOOPBACK[version], version, source):
            return True
        if any(_in(span, version, source) or _in(span, version, target) for span in self._contained):
            return False
        return any(
            box.first_port <= port <= box.last_port
            and box.source.first <= source <= box.source.last
            and box.target.first <= target <= box.target.last
            for box in self._flows.get((version, protocol), ())
        ) or any(_in(one, version, source) and _in(other, version, target) for one, other in self._pairs)

    def opens_tcp(self, connection: str) -> bool | None:
        """The same of "CLIENT SERVER PORT"; None where that is no connection."""
        try:
            source, target, port = connection.split()
            one, other, number = ip_address(source), ip_address(target), int(port)
        except ValueError:
            return None
        return self.opens(one.version, int(one), int(other), "tcp", number) if one.version == other.version else None

    def _take(self, boxes: Iterable[Box]) -> None:
        for box in boxes:
            self._flows[box.source.version, box.protocol].append(box)


def _in(span: Span, version: int, address: int) -> bool:
    return span.version == version and span.first <= address <= span.last
