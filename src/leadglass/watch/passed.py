"""Which connections began by a flow on demand that is recorded, and by whose request? Told one by one as far as there are few, else summed up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from leadglass.policy.firewall.boxes import Span
from leadglass.policy.firewall.openings import Opening, openings
from leadglass.site.model import Site
from leadglass.terms import Detection, EventKind, OpenFlow, Severity
from leadglass.watch.network import MINUTE_NS, SOURCES_MAX, TOLD_EACH_MAX, TOLD_MAX, Drop, facts_of, service_of, who_of

SORTS_MAX = (
    256  # of one source and minute that are summed up each by itself; what comes besides is summed without its target
)
LATELY_NS = MINUTE_NS  # for so long a flow that is over is known: its last connections may be told after it

Passed = Drop
"""Of what passed the same is told as of what was dropped."""


@dataclass(frozen=True, slots=True)
class _Sort:
    """`passed`: one of them, None where they went to many targets."""

    by: tuple[OpenFlow, ...]
    passed: Passed | None


@dataclass(slots=True)
class _Source:
    since_ns: int
    told: int = 0
    untold: dict[_Sort, int] = field(default_factory=dict)
    example: Passed | None = None


@dataclass(slots=True)
class PassWatch:
    """A minute of each source. Every connection is in one event: told by itself, or counted in one of its sort, at the latest a minute later."""

    _sources: dict[str, _Source] = field(default_factory=dict)
    _lately: dict[str, tuple[OpenFlow, int]] = field(default_factory=dict)
    _of: tuple[Site, tuple[Opening, ...]] | None = None
    _since_ns: int = 0
    _told: int = 0

    def notice(
        self, site: Site, passes: Iterable[Passed], opened: Iterable[OpenFlow], now_ns: int
    ) -> Iterator[Detection]:
        """`opened`: the flows that are open now."""
        self._lately |= {each.flow: (each, now_ns) for each in opened}
        self._lately = {name: (flow, at) for name, (flow, at) in self._lately.items() if abs(now_ns - at) <= LATELY_NS}
        if not 0 <= now_ns - self._since_ns < MINUTE_NS:
            self._since_ns, self._told = now_ns, 0
        for name, source in [*self._sources.items()]:
            if not 0 <= now_ns - source.since_ns < MINUTE_NS:
                del self._sources[name]
                yield from _summed(site, source)
        for passed in passes:
            if by := self._by(site, passed):
                yield from self._one(site, passed, by, now_ns)

    def rest(self, site: Site) -> Iterator[Detection]:
        """What was not told yet."""
        for source in self._sources.values():
            yield from _summed(site, source)
        self._sources.clear()

    def _one(self, site: Site, passed: Passed, by: tuple[OpenFlow, ...], now_ns: int) -> Iterator[Detection]:
        name = str(passed.source)
        if name not in self._sources and len(self._sources) >= SOURCES_MAX:
            name = ""  # of one of many
        source = self._sources.setdefault(name, _Source(now_ns))
        if name and source.told < TOLD_EACH_MAX and self._told < TOLD_MAX:
            source.told += 1
            self._told += 1
            yield _passed(site, passed, by, passed.count)
            return
        sort = _Sort(by, replace(passed, count=1))
        if sort not in source.untold and len(source.untold) >= SORTS_MAX:
            sort = _Sort(by, None)
        source.untold[sort] = source.untold.get(sort, 0) + passed.count
        source.example = passed

    def _by(self, site: Site, passed: Passed) -> tuple[OpenFlow, ...]:
        """The flows that are recorded by which it may have passed; of one that nobody remembers to have been open, by no request."""
        if self._of is None or self._of[0] is not site:
            self._of = (site, tuple(each for each in openings(site).forward if each.on_demand))
        here = dict.fromkeys(each.flow for each in self._of[1] if _meets(each, passed))
        known = tuple(self._lately[name][0] for name in here if name in self._lately)
        if not known:
            recorded = {flow.id for flow in site.flows if flow.on_demand is not None and flow.on_demand.record}
            known = tuple(OpenFlow(name, 0, (), name in recorded) for name in here)
        return tuple(each for each in known if each.record)


def _meets(opening: Opening, passed: Passed) -> bool:
    box, source, target = opening.box, int(passed.source), int(passed.target)
    return (
        (box.protocol, box.source.version) == (passed.protocol, passed.source.version)
        and box.first_port <= passed.port <= box.last_port
        and _in(box.source, source)
        and _in(box.target, target)
    )


def _in(span: Span, address: int) -> bool:
    return span.first <= address <= span.last


def _summed(site: Site, source: _Source) -> Iterator[Detection]:
    for sort, count in source.untold.items():
        assert source.example is not None
        yield _passed(site, sort.passed or source.example, sort.by, count, many=sort.passed is None)


def _passed(site: Site, passed: Passed, by: tuple[OpenFlow, ...], count: int, *, many: bool = False) -> Detection:
    facts = facts_of(site, passed)
    flows, requests = " ".join(each.flow for each in by), sorted({one for each in by for one in each.requests})
    details = {**facts, "protocol": passed.protocol, "port": passed.port, "count": count, "flow": flows}
    if requests:
        details["on_demand"] = " ".join(requests)
    to = f"{who_of(facts, 'to')} and others" if many else who_of(facts, "to")
    times = f", {count} times within a minute" if count > 1 else ""
    reason = f"{who_of(facts, 'from')} to {to} by {service_of(passed)}, by {flows}{times}"
    return Detection(EventKind.NETWORK_PASSED, Severity.NOTICE, str(passed.source), reason, details)
