"""What does the keeper know of what passes the kernel? The latest report of whoever loads its table, told as flows, and once a day as events."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from leadglass.audit.usage import DAY_NS
from leadglass.policy.firewall.handed import box_of
from leadglass.policy.firewall.seen import Counted, FlowsOf, Spoken, by_flow, unopened, visible
from leadglass.site.model import Site
from leadglass.terms import Detection, EventKind, Severity
from leadglass.watch.network import member_of

ROWS_MAX = 2000
UNOPENED_TOLD_MAX = 50
_PROTOCOLS = frozenset({"tcp", "udp", "other"})


class Traffic:
    """Of one thread at a time."""

    def __init__(self) -> None:
        self._site: Site | None = None
        self._flows: FlowsOf | None = None
        self._counted: tuple[Counted, ...] = ()
        self._spoken: tuple[Spoken, ...] = ()
        self._packets: dict[str, int] = {}
        self._digest = ""
        self._heard_ns = 0
        self._more = 0
        self._told: dict[str, int] = {}  # flow, "" for the day itself → the day it was told last

    def hear(self, site: Site, digest: str, report: Mapping[str, Any], now_ns: int) -> list[Detection]:
        """A flow whose counter has grown was used today; which is told once. Raises KeyError, TypeError, ValueError where it is no report."""
        counted = tuple(Counted(str(name), box_of(box), _count(packets)) for name, box, packets in report["counters"][:ROWS_MAX])  # fmt: skip
        spoken = tuple(map(_spoken, report["connections"][:ROWS_MAX]))
        more = _count(report["more"])
        if self._flows is None or self._site is not site:
            self._site, self._flows = site, FlowsOf(site)
        packets = by_flow(self._flows, counted)
        before = self._packets if digest == self._digest else {}
        self._counted, self._spoken, self._packets, self._more = counted, spoken, packets, more
        self._digest, self._heard_ns = digest, now_ns
        grown = {flow: many - before.get(flow, 0) for flow, many in packets.items() if many > before.get(flow, 0)}
        return list(self._news(grown, now_ns // DAY_NS, whole=not more))

    def _news(self, grown: Mapping[str, int], day: int, *, whole: bool) -> Iterator[Detection]:
        """`whole`: nothing was left out of the report; else nobody can say that the day was watched."""
        for flow in sorted(grown):
            if self._told.get(flow) != day:
                self._told[flow] = day
                details: dict[str, str | int] = {"flow": flow, "packets": grown[flow]}
                reason = f"the kernel let packets of {flow} pass"
                yield Detection(EventKind.NETWORK_USED, Severity.NOTICE, flow, reason, details)
        if whole and self._told.get("") != day:
            self._told[""] = day
            yield Detection(EventKind.NETWORK_WATCHED, Severity.NOTICE, "kernel", "the kernel's counters were heard")

    def row(self) -> Mapping[str, object]:
        """By flow: packets since the table was loaded, connections that are open; then connections that no flow opens."""
        if self._site is None or self._flows is None:
            return {"heard_seconds_ago": None, "flows": {}, "visible": [], "unopened": [], "more": 0}
        open_: dict[str, int] = {}
        for each in self._spoken:
            for flow in self._flows.spoken(each):
                open_[flow] = open_.get(flow, 0) + each.count
        names = sorted(self._packets.keys() | open_.keys())
        strange = list(unopened(self._flows, self._spoken))
        return {
            "heard_seconds_ago": round((time.time_ns() - self._heard_ns) / 1e9, 1),
            "flows": {
                name: {"packets": self._packets.get(name, 0), "connections": open_.get(name, 0)} for name in names
            },
            "visible": sorted(visible(self._site)),
            "unopened": [_told(self._site, each) for each in strange[:UNOPENED_TOLD_MAX]],
            "more": self._more + max(0, len(strange) - UNOPENED_TOLD_MAX),
        }


def _told(site: Site, each: Spoken) -> Mapping[str, object]:
    source, target = (_address(each.version, number) for number in (each.source, each.target))
    return {
        "from": member_of(site, source) or site.zone_of(str(source)) or str(source),
        "to": member_of(site, target) or site.zone_of(str(target)) or str(target),
        "service": f"{each.protocol}/{each.port}" if each.port else each.protocol,
        "connections": each.count,
    }


def _address(version: int, number: int) -> IPv4Address | IPv6Address:
    return IPv4Address(number) if version == 4 else IPv6Address(number)


def _spoken(told: Any) -> Spoken:
    version, source, target, protocol, port, count = told
    bits = {4: 32, 6: 128}[version]
    if not (0 <= _count(source) < 1 << bits and 0 <= _count(target) < 1 << bits and 0 <= _count(port) < 65536):
        raise ValueError("addresses or ports that do not exist")
    if protocol not in _PROTOCOLS:
        raise ValueError(f"{protocol!r} is no protocol")
    return Spoken(version, source, target, protocol, port, _count(count))


def _count(of: object) -> int:
    if type(of) is not int or of < 0:
        raise ValueError(f"{of!r} counts nothing")
    return of
