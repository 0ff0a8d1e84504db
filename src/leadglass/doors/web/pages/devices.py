"""Which devices are enrolled, until when are their certificates good, and which of them must go at once?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leadglass.doors.command.questions import devices as device_rows
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page, sentence, to
from leadglass.doors.web.visit import Visit
from leadglass.terms import Act, ChangeKind, NotChanged

if TYPE_CHECKING:
    from starlette.responses import Response


def devices(visit: Visit, said: str = "", status: int = 200) -> Response:
    visit.look(Act.DEVICE_LIST)
    rows: list[dict[str, Any]] = [dict(each) for each in device_rows(visit.house, {})]
    facts = {
        "devices": [each for each in rows if each["name"]],
        "strangers": [each for each in rows if not each["name"]],
        "may_revoke": visit.may(Act.DEVICE_REVOKE),
        "said": said,
    }
    return page(visit, "devices.html", facts, status)


def revoke(visit: Visit) -> Response:
    """Every certificate of it, within a second, everywhere."""
    name, why = visit.parameters["name"], visit.field("why")
    known = visit.house.register.certificates()
    fingerprints = [each.fingerprint for each in known if each.device == name and each.state in ("issued", "active")]
    if not why or not fingerprints:
        return devices(visit, "Say why." if not why else f"{name} has no certificate that is good.", 409)
    try:
        visit.change(ChangeKind.DEVICE_REVOKE, name, {"fingerprints": fingerprints, "reason": why})
    except NotChanged as refusal:
        return devices(visit, sentence(refusal), 409)
    return to("/devices")


PAGES = (Page("/devices", devices), Page("/devices/{name}/revoke", revoke, ("POST",)))
