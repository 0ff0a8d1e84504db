"""Which flows on demand are open now? Pure: the site, the approved requests, who is who and the time, to the flows and until when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from leadglass.policy.people import still_approves, still_may
from leadglass.policy.separation import SECOND_NS
from leadglass.site.access import AccessRequest
from leadglass.site.model import OnDemand, Site
from leadglass.terms import Act, NotChanged, Person


@dataclass(frozen=True, slots=True)
class OpenFlow:
    """A flow that somebody approved. `until_ns`: Unix nanoseconds. `request`: id of the access request."""

    flow: str
    until_ns: int
    request: str


def on_demand(site: Site) -> Mapping[str, OnDemand]:
    """By id of the flow."""
    return {flow.id: flow.on_demand for flow in site.flows if flow.on_demand is not None}


def open_flows(
    site: Site, approved: Iterable[AccessRequest], people: Mapping[str, Person], now_ns: int
) -> tuple[OpenFlow, ...]:
    """By the order of the site file, each once, with its latest end. What the file no longer has on demand is not open, and nothing is for longer
    than the file allows after its window began, whatever was approved before the file changed; nor is what nobody who asked, or nobody who
    approved, could ask for or approve today. `people`: by id."""
    found: dict[str, OpenFlow] = {}
    there = on_demand(site)
    for request in approved:
        if request.act != Act.FLOW_OPEN or request.state != "approved" or request.from_ns > now_ns:
            continue
        for name in flows_of(request):
            if name not in there or not _stands(request, there[name].approve, people, now_ns):
                continue
            until_ns = min(request.until_ns, request.from_ns + there[name].max_seconds * SECOND_NS)
            if until_ns > now_ns and (name not in found or until_ns > found[name].until_ns):
                found[name] = OpenFlow(name, until_ns, request.id)
    return tuple(found[name] for name in there if name in found)


def _stands(request: AccessRequest, role: str, people: Mapping[str, Person], now_ns: int) -> bool:
    asks = people.get(request.person)
    if asks is None or not still_may(asks, Act.FLOW_OPEN, now_ns):
        return False
    approvers = (people.get(each.person) for each in request.decisions if each.decision == "approved")
    return any(each is not None and still_approves(each, request.act, asks, now_ns, role) for each in approvers)


def flows_of(request: AccessRequest) -> Iterator[str]:
    """The ids of the flows that a request names."""
    named = request.facts.get("flows", ())
    yield from (str(each) for each in named) if isinstance(named, list | tuple) else ()


def approver_of(flows: Iterable[str], there: Mapping[str, OnDemand], seconds: int) -> str:
    """The role that decides about all of them, for so long. Raises NotChanged where there is none, or it is too long."""
    names = tuple(flows)
    if unknown := [each for each in names if each not in there] or not names:
        named = repr(unknown[0][:64]) if isinstance(unknown, list) else "none"
        raise NotChanged(
            f"name flows that are open on demand, not {named}: {', '.join(sorted(there)) or 'there is none'}"
        )
    longest = min(there[each].max_seconds for each in names)
    if not 0 < seconds <= longest:
        raise NotChanged(f"{', '.join(names)} may be open for {longest // 60} minutes at most")
    roles = {there[each].approve for each in names}
    if len(roles) != 1:
        raise NotChanged(f"{' and '.join(sorted(roles))} decide about them: ask each for theirs")
    return roles.pop()
