"""Who may speak to whom, who does, and how far would somebody get? The map of zones, members and flows, in three layers; a flow is one click away."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from leadglass.audit.usage import DAY_NS, PACKETS, PEOPLE, Usage, Used
from leadglass.doors.command.desk import RemoteDesk
from leadglass.doors.command.exits import Stopped
from leadglass.doors.command.reaching import counting, reach_row
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.picture import NAME_CHARACTERS_MAX, Drawn, Picture, of_flow, picture
from leadglass.doors.web.rendering import page
from leadglass.doors.web.visit import Visit
from leadglass.policy.observers import Observer, comes_from, observers
from leadglass.policy.pivots import Radius, Terrain
from leadglass.policy.pivots import members as every_member
from leadglass.policy.promises import promises
from leadglass.site.model import ARCHIVE, Flow, Site
from leadglass.terms import Act, Fault
from leadglass.wire.uids import keyword_of_class

if TYPE_CHECKING:
    from starlette.responses import Response

LAYERS = {"policy": "Policy", "traffic": "Traffic", "attack": "Attack paths"}
DAYS = 30
DROPPED_DRAWN_MAX = 30
NAME_ASKED_CHARACTERS_MAX = 64
LEGEND = {  # a class of the stylesheet, and what it means
    "policy": (
        ("device", "proven by a certificate"),
        ("people", "proven by a person"),
        ("nobody", "nobody proves anything"),
        ("demand", "closed until somebody approves it"),
        ("zone shared", "a zone whose members see each other"),
        ("zone isolated", "one whose members do not"),
        ("member weak", "a member that is known to be weak"),
    ),
    "traffic": (
        ("used", f"used in the last {DAYS} days"),
        ("quiet", "open, and not used"),
        ("unknown", "nobody can see whether it is used"),
        ("dropped", "dropped: no flow opens it"),
    ),
    "attack": (
        ("way", "the way to archive"),
        ("leads", "open to whoever is held"),
        ("way cut", "the fix: closing it stops this"),
        ("shut", "out of reach"),
        ("member start", "where it begins"),
        ("member fallen", "a host that falls"),
    ),
}
SEEN_BY = {
    Observer.DIMSE: "the DIMSE door's journal",
    Observer.WEB: "the web door's journal",
    Observer.KERNEL: "the kernel's counters",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one flow in the last DAYS. `state`: used, quiet, or unknown where nobody could see it. `packets`, `connections`: None where no kernel tells."""

    state: str
    by: tuple[str, ...]
    times: int
    last_ns: int
    last: str
    packets: int | None
    connections: int | None


def network(visit: Visit) -> Response:
    visit.look(Act.POLICY_READ, "network")
    site = visit.house.site()
    layer = visit.asked("layer") if visit.asked("layer") in LAYERS else "policy"
    usage, live = _usage(visit), _live(visit, site)
    seen = _all_seen(site, usage, live)
    start = visit.asked("from")[:NAME_ASKED_CHARACTERS_MAX]
    weak = visit.asked("by") == "weak"
    attack = _attack(visit, Terrain(site), start, weak=weak) if layer == "attack" else None
    drawn = {
        "policy": lambda: _policy(site),
        "traffic": lambda: _traffic(site, usage, seen),
        "attack": lambda: _paths(site, attack),
    }[layer]()
    chosen = next((flow for flow in site.flows if flow.id == visit.asked("flow")), None)
    zone = site.zones.get(visit.asked("zone"))
    facts: dict[str, object] = {
        "layers": LAYERS,
        "layer": layer,
        "picture": _picture(site, drawn, attack),
        "days": DAYS,
        "seen": seen,
        "flows": site.flows,
        "services": site.services,
        "live": live,
        "dropped": _dropped(usage),
        "attack": attack.facts if attack is not None else None,
        "starts": [*every_member(site), *site.zones],
        "start": start if attack is not None else "",
        "weak": weak,
        "flow": _flow(site, chosen, seen[chosen.id], usage) if chosen is not None else None,
        "zone": _zone(site, zone.name) if zone is not None else None,
        "href": partial(_href, layer, start, weak=weak),
        "legend": LEGEND[layer],
        "name_characters": NAME_CHARACTERS_MAX,
    }
    return page(visit, "network.html", facts)


def _href(layer: str, start: str, *, weak: bool, **chosen: str) -> str:
    """Where a click on a flow or a zone leads: the same layer, and what was chosen."""
    kept = {"layer": layer if layer != "policy" else "", "from": start, "by": "weak" if weak else ""}
    query = {name: value for name, value in {**kept, **chosen}.items() if value}
    return f"/network?{urlencode(query)}#chosen"


# ---- what is known of the past and of now


def _usage(visit: Visit) -> Usage | None:
    try:
        return visit.house.usage(visit.now_ns - DAYS * DAY_NS)
    except Fault:
        return None  # the keeper makes it anew: nothing is known until then


def _live(visit: Visit, site: Site) -> Mapping[str, Any] | None:
    """What passes the kernel now, from the keeper; None where nobody tells it, or the keeper is down."""
    if not site.filterer:
        return None
    try:
        return next(iter(RemoteDesk(visit.house.site_dir).ask("network-traffic", {})), None)
    except (OSError, Stopped):
        return None


def _all_seen(site: Site, usage: Usage | None, live: Mapping[str, Any] | None) -> Mapping[str, Seen]:
    """By flow."""
    by_rule: dict[str, list[Used]] = defaultdict(list)
    people: list[Used] = []
    for each in usage.used if usage is not None else ():
        (people if each.action == PEOPLE else by_rule[each.rule]).append(each)
    found = {}
    for flow in site.flows:
        by = observers(site, flow)
        came = [each for each in people if comes_from(site, flow.sources, each.what)] if Observer.WEB in by else []
        found[flow.id] = _seen(flow, by, [*by_rule[flow.id], *came], live, counted=usage is not None)
    return found


def _seen(
    flow: Flow, observing: Sequence[Observer], uses: Sequence[Used], live: Mapping[str, Any] | None, *, counted: bool
) -> Seen:
    """`counted`: the journal's uses are known; without that nobody at a door saw anything either."""
    heard = live is not None and live["heard_seconds_ago"] is not None
    by = [each for each in observing if (heard if each is Observer.KERNEL else counted)]
    passed = live["flows"].get(flow.id, {}) if live is not None and heard else {}
    last = max(uses, key=lambda each: each.last_ns, default=None)
    kernel = Observer.KERNEL in by
    return Seen(
        "used" if uses or passed else "quiet" if by else "unknown",
        tuple(SEEN_BY[each] for each in by),
        sum(each.times for each in uses),
        last.last_ns if last else 0,
        _told(last) if last else "",
        passed.get("packets", 0) if kernel else None,
        passed.get("connections", 0) if kernel else None,
    )


def _told(use: Used) -> str:
    if use.action == PACKETS:
        return "packets passed"
    if use.action == PEOPLE:
        return f"somebody at {use.what}"
    what = f" {keyword_of_class(use.what) or use.what}" if use.what else ""
    return f"{use.who}: {use.action}{what}"


def _dropped(usage: Usage | None) -> list[Any]:
    packets = [each for each in usage.denied if each.action == PACKETS] if usage is not None else []
    return sorted(packets, key=lambda each: (-each.times, each.source, each.target))[:DROPPED_DRAWN_MAX]


# ---- the layers


def _policy(site: Site) -> list[Drawn]:
    return [of_flow(flow, _kind(flow), _line(site, flow)) for flow in site.flows]


def _kind(flow: Flow) -> str:
    return "demand" if flow.on_demand is not None else {"none": "nobody", "mfa": "people"}.get(flow.auth, "device")


def _line(site: Site, flow: Flow) -> str:
    service = site.services[flow.service]
    ends = f"{', '.join(flow.sources)} to {', '.join(flow.targets)}"
    on_demand = ", on demand" if flow.on_demand is not None else ""
    return f"flow {flow.id}: {ends} by {service.name} ({service.protocol}/{service.port}){on_demand}"


def _traffic(site: Site, usage: Usage | None, seen: Mapping[str, Seen]) -> list[Drawn]:
    flows = [of_flow(each, seen[each.id].state, f"{_line(site, each)}: {_state(seen[each.id])}") for each in site.flows]
    known = {ARCHIVE, *site.devices, *site.zones}
    dropped = [
        Drawn(
            "",
            (each.source,),
            (each.target,),
            "dropped",
            f"dropped: {each.source} to {each.target} by {each.what}, {each.times} times",
        )
        for each in _dropped(usage)
        if each.source in known and each.target in known
    ]
    return [*flows, *dropped]


def _state(seen: Seen) -> str:
    if seen.state == "unknown":
        return "nobody can see whether it is used"
    return "used" if seen.state == "used" else f"not used in {DAYS} days, as far as is known"


@dataclass(frozen=True, slots=True)
class _Attack:
    """`looks`: of members and zones; `flows`: of flows, by id."""

    facts: Mapping[str, Any]
    looks: Mapping[str, str]
    notes: Mapping[str, str]
    flows: Mapping[str, str]


def _attack(visit: Visit, terrain: Terrain, start: str, *, weak: bool) -> _Attack | None:
    """None where nobody is named who is there."""
    try:
        found = terrain.radius(start)
    except KeyError:
        return None
    site, index = terrain.site, visit.house.index

    def studies(sop_classes: frozenset[str] | None) -> int:
        return index.statistics()["studies"] if sop_classes is None else index.studies_with(sop_classes)

    row = reach_row(terrain, found, counting(studies), weak=weak)
    hosts = found.weak_only() if weak else found.hosts
    held = {each.host for each in hosts}
    cut = dict.fromkeys(row["smallest_fix"]["isolate"], "cut")
    notes = {}
    for zone in site.zones:
        fallen = sum(each.zone == zone and each.name in held for each in site.devices.values())
        notes[zone] = (f"{fallen} of them fall" if fallen else "") + (", the fix" if zone in cut else "")
    looks = cut | dict.fromkeys(held, "fallen") | {start: "start"}
    facts = {**row, "hosts": hosts, "count": row["hosts"]}
    return _Attack(facts, looks, notes, dict(_steps(terrain, found, row, {start, *held})))


def _steps(terrain: Terrain, found: Radius, row: Mapping[str, Any], held: set[str]) -> Iterator[tuple[str, str]]:
    """Flows that lead on from who is held; those on the way to archive, and the ones whose end would stop it."""
    archive = found.of(ARCHIVE)
    way = {step.by for step in archive.shortest} if archive is not None and row["path"] else set()
    open_ = {str(terrain.gates[number]) for host in held for number in terrain.leaving[terrain.start(host)]}
    for flow in terrain.site.flows:
        cut = " cut" if flow.id in row["smallest_fix"]["close"] else ""
        yield flow.id, ("way" if flow.id in way else "leads" if flow.id in open_ else "shut") + cut


def _paths(site: Site, attack: _Attack | None) -> list[Drawn]:
    looks = attack.flows if attack is not None else {}
    return [of_flow(flow, looks.get(flow.id, "shut"), _line(site, flow)) for flow in site.flows]


def _picture(site: Site, drawn: Sequence[Drawn], attack: _Attack | None) -> Picture:
    looks = {name: "off" for name, device in site.devices.items() if not device.enabled}
    looks |= {name: "weak" for name, device in site.devices.items() if device.weak}
    return picture(site, drawn, looks | dict(attack.looks if attack else {}), attack.notes if attack else {})


# ---- what was clicked


def _flow(site: Site, flow: Flow, seen: Seen, usage: Usage | None) -> Mapping[str, object]:
    refused = [each for each in usage.denied if each.rule == flow.id] if usage is not None else []
    last = max(refused, key=lambda each: each.last_ns, default=None)
    classes = sorted(map(keyword_of_class, flow.sop_classes)) if flow.sop_classes is not None else None
    return {
        "flow": flow,
        "service": site.services[flow.service],
        "classes": classes,
        "destinations": sorted(flow.destinations) if flow.destinations is not None else None,
        "may": sorted([*flow.may, *flow.reserved]),
        "promises": promises(site, flow),
        "seen": seen,
        "refused": last,
        "refused_times": sum(each.times for each in refused),
        "refused_what": keyword_of_class(last.what) if last is not None and last.what else "",
    }


def _zone(site: Site, name: str) -> Mapping[str, object]:
    devices = [each for each in site.devices.values() if each.zone == name]
    return {"zone": site.zones[name], "devices": devices}


PAGES = (Page("/network", network),)
