"""What is kept out, by whom and why? A device, a zone, or every change of the site, at once; and let in again by two, or by who did it a moment ago."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page, sentence, to
from leadglass.doors.web.visit import Visit
from leadglass.policy.containment import SITE, begun_of, own_and_fresh, read
from leadglass.policy.separation import window_max_seconds
from leadglass.terms import Act, Change, ChangeKind, Fault, NotChanged
from leadglass.terms import Containment as State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.responses import Response

BEGIN = {"device": ChangeKind.DEVICE_DISABLE, "zone": ChangeKind.ZONE_CONTAIN, SITE: ChangeKind.SITE_CONTAIN}
END = {"device": ChangeKind.DEVICE_ENABLE, "zone": ChangeKind.ZONE_RELEASE, SITE: ChangeKind.SITE_RELEASE}


@dataclass(frozen=True, slots=True)
class Contained:
    """`way`: out of it again, for who looks: `back` where they take back their own, `approved`, `asked` or `ask`; "" where it is not theirs to do."""

    kind: str
    name: str
    why: str
    by: str
    at_ns: int
    way: str


def containment(visit: Visit, said: str = "", status: int = 200) -> Response:
    visit.look(Act.CONTAINMENT_BEGIN)
    site, now = visit.house.site(), _now(visit)
    may_people = visit.may(Act.PERSON_DISABLE)
    accounts = visit.house.people.accounts() if may_people else []
    facts = {
        "contained": list(_contained(visit)),
        "people": [each for each in accounts if not each.person.enabled and not each.gone_ns],
        "may_people": may_people,
        "devices": sorted(each for each in site.devices if each not in now.disabled),
        "zones": [each for each in site.zones if each not in now.zones],
        "read_only": now.read_only,
        "typed": {name: visit.field(name) or visit.asked(name) for name in ("kind", "name", "why")},
        "said": said,
    }
    return page(visit, "containment.html", facts, status)


def begin(visit: Visit) -> Response:
    kind, why = BEGIN.get(visit.parameters["kind"]), visit.field("why")
    if kind is None or not why:
        return containment(visit, "Say why: every refusal that comes of it says so.", 409 if kind else 404)
    try:
        visit.change(kind, _about(visit), {"reason": why})
    except NotChanged as refusal:
        return containment(visit, sentence(refusal), 409)
    return to("/containment")


def end(visit: Visit) -> Response:
    order = _letting_in(visit, visit.parameters["kind"], _about(visit))
    if order is None:
        return containment(visit, "That is not contained.", 409)
    try:
        visit.change(order.kind, order.about, order.arguments)
    except NotChanged as refusal:
        return containment(visit, sentence(refusal), 409)
    return to("/containment")


def ask(visit: Visit) -> Response:
    """That somebody else approves that just this is let in again."""
    visit.look(Act.CONTAINMENT_BEGIN)
    order = _letting_in(visit, visit.parameters["kind"], _about(visit))
    if order is None:
        return containment(visit, "That is not contained.", 409)
    arguments = {
        "matter": f"{order.kind} {order.about}",
        "reason": visit.field("why"),
        "seconds": window_max_seconds(Act.CONTAINMENT_END),
        "digest": order.digest,
    }
    try:
        visit.change(ChangeKind.ACCESS_REQUEST, Act.CONTAINMENT_END, arguments)
    except NotChanged as refusal:
        return containment(visit, sentence(refusal), 409)
    return to("/containment")


def _now(visit: Visit) -> State:
    """As it lies there: what somebody just did is on the page that they see next. Where it cannot be read, the last known."""
    try:
        return read(visit.house.site_dir)
    except Fault:
        return visit.house.containment()


def _about(visit: Visit) -> str:
    return SITE if visit.parameters["kind"] == SITE else visit.field("name")


def _contained(visit: Visit) -> Iterator[Contained]:
    now = _now(visit)
    every = [("device", name, why) for name, why in sorted(now.disabled.items())]
    every += [("zone", name, why) for name, why in sorted(now.zones.items())]
    every += [(SITE, SITE, now.read_only)] if now.read_only else []
    may = visit.may(Act.CONTAINMENT_END)
    for kind, name, why in every:
        begun = begun_of(now, END[kind], name)
        way = _way(visit, kind, name) if may else ""
        yield Contained(kind, name, why, begun.by if begun else "", begun.at_ns if begun else 0, way)


def _way(visit: Visit, kind: str, name: str) -> str:
    order = _letting_in(visit, kind, name)
    if order is None:
        return ""
    if own_and_fresh(_now(visit), order, visit.now_ns):
        return "back"
    if order.digest in visit.who.exactly:
        return "approved"
    own = visit.house.people.access.requests(state="requested")
    return "asked" if any(each.digest == order.digest and each.person == visit.who.person.id for each in own) else "ask"


def _letting_in(visit: Visit, kind: str, name: str) -> Change | None:
    """The exact change: of this containment, and of none that comes after it."""
    now, what = _now(visit), END.get(kind)
    there = {"device": now.disabled, "zone": now.zones}.get(kind, {})
    if what is None or not (name in there or (kind == SITE and now.read_only)):
        return None
    begun = begun_of(now, what, name)
    return Change(uuid.uuid4().hex, visit.who, what, name, {"began_ns": begun.at_ns if begun else 0})


PAGES = (
    Page("/containment", containment),
    Page("/containment/{kind}", begin, ("POST",)),
    Page("/containment/{kind}/end", end, ("POST",)),
    Page("/containment/{kind}/ask", ask, ("POST",)),
)
