"""What was refused, by what would have allowed it? An answer for whoever decides: it opens nothing, and much of it should stay refused. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from leadglass.policy.evaluation import SITE, STUDY_ACTS, Facts, OfStudy
from leadglass.policy.explain import explain_person
from leadglass.policy.flows import compiled
from leadglass.policy.people import ACTS
from leadglass.policy.reach import step
from leadglass.site.model import ARCHIVE, DIMSE_SERVICE, Network, OnDemand, Site
from leadglass.terms import Act, Action, ChangeKind, Role
from leadglass.wire.uids import keyword_of_class

WAYS_TOLD_MAX = 3
_PACKETS = "packets"
_NEVER = {
    "spoofed": "nothing: it came from an address that does not live there",
    "invalid": "nothing: it belongs to no connection",
    "contained": "the end of the containment of one of both",
}
_OVER = "nothing any more: {} gives it now"


class Denied(Protocol):
    """As `audit/usage.py` counts it."""

    @property
    def who(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def why(self) -> str: ...
    @property
    def times(self) -> int: ...
    @property
    def last_ns(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """`would`: what would have allowed it. `flow`: as keys of the site file, None where it takes something else. `asked`: who wanted what."""

    would: str
    flow: Mapping[str, object] | None
    asked: tuple[str, ...]
    times: int
    last_ns: int


_Would = tuple[str, Mapping[str, object] | None]


def wanted(site: Site, denied: Iterable[Denied], roles: Mapping[str, frozenset[Role]]) -> tuple[Wanted, ...]:
    """The most often refused first. `roles`: of the people who were refused, by `person:NAME`."""
    groups: dict[str, list[Denied]] = defaultdict(list)
    flows: dict[str, Mapping[str, object] | None] = {}
    for each in denied:
        would, flow = _would(site, each, roles)
        groups[would].append(each)
        flows[would] = flow
    found = (
        Wanted(
            would,
            flows[would],
            tuple(sorted({_asked(each) for each in every})),
            sum(each.times for each in every),
            max(each.last_ns for each in every),
        )
        for would, every in groups.items()
    )
    return tuple(sorted(found, key=lambda each: (-each.times, each.would)))


def _asked(each: Denied) -> str:
    who = each.who or each.source or "somebody"
    if each.action == _PACKETS:
        return f"{each.source} to {each.target} by {each.what}"
    if not each.who:
        return f"{each.what or 'somebody'} from {each.source}"
    what = keyword_of_class(each.what) if each.action == Action.STORE else each.what
    return f"{who} {each.action or 'associate'}" + (f" {what}" if what and each.action != "associate" else "")


def _would(site: Site, each: Denied, roles: Mapping[str, frozenset[Role]]) -> _Would:
    if each.action == _PACKETS:
        return _for_packets(site, each)
    if each.who.startswith("person:"):
        return _for_a_person(each, roles.get(each.who, frozenset())), None
    if each.who not in site.devices:
        return _for_a_stranger(site, each), None
    if each.why == "NotIdentified":
        return _for_somebody_else(site, each), None
    if each.action in (Action.MOVE, Action.STORE):
        return (_for_a_move if each.action == Action.MOVE else _for_a_store)(site, each)
    return _for_a_device(site, each)


# ---- devices at the DIMSE door


def _for_a_device(site: Site, each: Denied, sop_classes: tuple[str, ...] = ()) -> _Would:
    known = compiled(site)
    acts = each.action in tuple(Action)
    for grant in known.grants[each.who]:
        if not acts or each.action in grant.actions:
            if grant.require_user_identity:
                return f"somebody who is proven to sit at {each.who}", None
            return _OVER.format(grant.rule), None
    for grant in known.on_demand.get(each.who, ()):
        if not acts or each.action in grant.actions:
            return _approval(grant.rule, grant.on_demand), None
    for closed in known.closed[each.who]:
        if not acts or each.action in closed.actions:
            return f"{closed.rule}, which {closed.why}", None
    may = [each.action if acts else str(Action.ECHO)]
    confined = {"sop_classes": list(sop_classes)} if sop_classes else {}
    flow = {"from": [each.who], "to": [ARCHIVE], "service": DIMSE_SERVICE, "may": may, **confined}
    return f"a flow from {each.who} to archive that may {' '.join((*may, *sop_classes))}", flow


def _approval(flow: str, how: OnDemand | None) -> str:
    return f"an approval of {flow} by a {how.approve if how is not None else 'second person'}"


def _for_a_store(site: Site, each: Denied) -> _Would:
    keyword = keyword_of_class(each.what)
    stores = [grant for grant in compiled(site).grants[each.who] if Action.STORE in grant.actions]
    if not stores:
        return _for_a_device(site, each, (keyword,) if each.what else ())
    for grant in stores:
        if grant.sop_classes is None or each.what in grant.sop_classes:
            return _OVER.format(grant.rule), None
    for grant in compiled(site).on_demand.get(each.who, ()):
        if Action.STORE in grant.actions and (grant.sop_classes is None or each.what in grant.sop_classes):
            return _approval(grant.rule, grant.on_demand), None
    return f"{keyword} in sop_classes of {stores[0].rule}", None


def _for_a_move(site: Site, each: Denied) -> _Would:
    known = compiled(site)
    moves = [grant for grant in known.grants[each.who] if Action.MOVE in grant.actions]
    if not moves:
        return _for_a_device(site, each)
    ends = [device.name for device in known.by_ae_title.get(each.what, ()) if device.address]
    if len(ends) != 1:
        return f"one device with the AE title {each.what!r} and an address", None
    for grant in moves:
        if grant.destinations is None or ends[0] in grant.destinations:
            return _OVER.format(grant.rule), None
    for grant in known.on_demand.get(each.who, ()):
        if Action.MOVE in grant.actions and (grant.destinations is None or ends[0] in grant.destinations):
            return _approval(grant.rule, grant.on_demand), None
    return f"{ends[0]} in destinations of {moves[0].rule}", None


def _for_a_stranger(site: Site, each: Denied) -> str:
    """Who calls with a name, or without one, and is nobody here."""
    known = [device for device in compiled(site).by_ae_title.get(each.what, ()) if each.what]
    for device in known:
        if _inside(each.source, device.networks):
            return f"a certificate of {device.name} that holds: leadglass device renew {device.name}"
    if known:
        return f"{each.source} in network of {known[0].name}, if it is that one"
    zone = site.zone_of(each.source) if each.source else ""
    where = f"at {each.source}" + (f" in {zone}" if zone else ", which is in no zone")
    return f"an enrolment of {each.what or 'whoever calls'} {where}: leadglass device enroll"


def _for_somebody_else(site: Site, each: Denied) -> str:
    """Whose certificate is known, and something about them does not fit it (PS3.8 7.1.1.3: the calling AE title; the source network)."""
    device = site.devices[each.who]
    if each.what and each.what not in device.ae_titles:
        return f"{each.what!r} among the AE titles of {each.who}, if it is that one"
    if each.source and not _inside(each.source, device.networks):
        return f"{each.source} in network of {each.who}, if it is that one"
    return f"a certificate of {each.who}, or a token of whoever sits there, that holds"


def _inside(address: str, networks: Iterable[Network]) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in networks)


# ---- packets


def _for_packets(site: Site, each: Denied) -> _Would:
    if each.why in _NEVER:
        return _NEVER[each.why], None
    ends = (ARCHIVE, *site.devices, *site.zones)
    for name in (each.source, each.target):
        if name not in ends:
            return f"a zone that {name or 'it'} belongs to", None
    protocol, _, port = each.what.partition("/")
    services = [of.name for of in site.services.values() if (of.protocol, str(of.port)) == (protocol, port)]
    for flow in site.flows:
        if flow.service in services and step(site, flow, each.source, each.target):
            if flow.on_demand is not None:
                return _approval(flow.id, flow.on_demand), None
            return _OVER.format(flow.id), None
    if not port:
        return f"nothing: no flow opens {protocol}", None
    service = services[0] if services else f"{protocol}/{port}"
    kind = "" if services else ", which is no service of the site file yet,"
    flow_keys = {"from": [each.source], "to": [each.target], "service": service}
    return f"a flow from {each.source} to {each.target} by {service}{kind} with a why", flow_keys


# ---- people at the web door


def _for_a_person(each: Denied, roles: frozenset[Role]) -> str:
    act = _act(each.action)
    if act is None or not roles:
        return "an account that holds" if act is not None else f"nothing: {each.action} is nobody's to do"
    found = explain_person(act, Facts(roles), OfStudy() if act in STUDY_ACTS else SITE)
    if found.allowed:
        return "nothing any more: the rules give it now"
    if not found.would:
        return f"no small change of what {', '.join(sorted(roles))} may"
    ways = [" + ".join(way) for way in found.would[:WAYS_TOLD_MAX]]
    more = f", or one of {len(found.would) - WAYS_TOLD_MAX} more" if len(found.would) > WAYS_TOLD_MAX else ""
    return f"for {act} of {', '.join(sorted(roles))}: {'; or '.join(ways)}{more}"


def _act(action: str) -> Act | None:
    if action in tuple(Act):
        return Act(action)
    return ACTS.get(ChangeKind(action)) if action in tuple(ChangeKind) else None
