"""Which flows on demand are open now? Pure: the site, the approved requests and the time, to the flows and until when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from leadglass.policy.separation import SECOND_NS
from leadglass.site.access import AccessRequest
from leadglass.site.model import Site
from leadglass.terms import Act


@dataclass(frozen=True, slots=True)
class OpenFlow:
    """A flow that somebody approved. `until_ns`: Unix nanoseconds. `request`: id of the access request."""

    flow: str
    until_ns: int
    request: str


def open_flows(site: Site, approved: Iterable[AccessRequest], now_ns: int) -> tuple[OpenFlow, ...]:
    """By the order of the site file, each once, with its latest end. What the file no longer has on demand is not open, and nothing is for longer
    than the file allows after its window began, whatever was approved before the file changed."""
    found: dict[str, OpenFlow] = {}
    longest = {flow.id: flow.on_demand.max_seconds for flow in site.flows if flow.on_demand is not None}
    for request in approved:
        if request.act != Act.FLOW_OPEN or request.state != "approved" or request.from_ns > now_ns:
            continue
        for name in flows_of(request):
            if name not in longest:
                continue
            until_ns = min(request.until_ns, request.from_ns + longest[name] * SECOND_NS)
            if until_ns > now_ns and (name not in found or until_ns > found[name].until_ns):
                found[name] = OpenFlow(name, until_ns, request.id)
    return tuple(found[name] for name in longest if name in found)


def flows_of(request: AccessRequest) -> Iterator[str]:
    """The ids of the flows that a request names."""
    named = request.facts.get("flows", ())
    yield from (str(each) for each in named) if isinstance(named, list | tuple) else ()
