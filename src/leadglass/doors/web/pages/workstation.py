"""Who sits at the workstation? Somebody says so at it, by a lease: what its DICOM software is given from then on is theirs, and in their name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page, sentence, to, told
from leadglass.doors.web.visit import Visit
from leadglass.policy.authorise import at_hand
from leadglass.terms import Act, ChangeKind, NotChanged

if TYPE_CHECKING:
    from starlette.responses import Response

HOURS = (1, 4, 8, 12)
HOUR_SECONDS = 3600


def workstation(visit: Visit, said: str = "", status: int = 200) -> Response:
    """The devices at this address, and who sits at each; only those that one can sit at here and now."""
    visit.look(Act.LEASE_OPEN)
    access, now_ns = visit.house.people.access, time.time_ns()
    rows = []
    for device in sorted(at_hand(visit.house.site(), visit.peer.address), key=lambda each: each.name):
        lease = access.lease_of(device.name, now_ns)
        sits = visit.house.people.get(lease.person) if lease is not None else None
        rows.append(
            {
                "device": device,
                "lease": lease,
                "sits": sits,
                "mine": sits is not None and sits.id == visit.who.person.id,
            }
        )
    return page(visit, "workstation.html", {"rows": rows, "hours": HOURS, "said": said}, status)


def sit_down(visit: Visit) -> Response:
    hours = visit.field("hours")
    seconds = HOUR_SECONDS * (int(hours) if hours.isdecimal() and int(hours) in HOURS else HOURS[0])
    return _changed(visit, ChangeKind.LEASE_OPEN, {"seconds": seconds})


def get_up(visit: Visit) -> Response:
    device = visit.parameters["device"]
    lease = visit.house.people.access.lease_of(device, time.time_ns())
    return _changed(visit, ChangeKind.LEASE_END, {"requested_by": lease.person if lease is not None else ""})


def token(visit: Visit) -> Response:
    """For DICOM software that says itself who asks (PS3.7 D.3.3.7, type 5); shown once, good for five minutes, at this workstation."""
    try:
        minted = visit.change(
            ChangeKind.TOKEN_MINT, visit.parameters["device"], {"certificate": visit.field("certificate")}
        )
    except NotChanged as refusal:
        if visit.wants_json:
            return told({"refused": True, "why": sentence(refusal)}, 409)
        return workstation(visit, sentence(refusal), 409)
    if visit.wants_json:
        return told({name: minted[name] for name in ("device", "token", "until_ns")})
    return page(visit, "workstation_token.html", dict(minted))


def _changed(visit: Visit, kind: ChangeKind, arguments: dict[str, object]) -> Response:
    try:
        visit.change(kind, visit.parameters["device"], arguments)
    except NotChanged as refusal:
        return workstation(visit, sentence(refusal), 409)
    return to("/workstation" if visit.may(Act.LEASE_OPEN) else "/me")  # who ends somebody else's lease sits at none


PAGES = (
    Page("/workstation", workstation),
    Page("/workstation/{device}", sit_down, ("POST",)),
    Page("/workstation/{device}/leave", get_up, ("POST",)),
    Page("/workstation/{device}/token", token, ("POST",)),
)
