"""Which devices are enrolled, until when are their certificates good, which of them must go at once, and which are asked for?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leadglass.doors.command.enrolling import problems
from leadglass.doors.command.questions import devices as device_rows
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page, sentence, to
from leadglass.doors.web.visit import Visit
from leadglass.site.device_facts import MAY
from leadglass.site.load import RESERVED_ACTIONS
from leadglass.site.schema import RECORD
from leadglass.terms import Act, ChangeKind, NotChanged

if TYPE_CHECKING:
    from starlette.responses import Response

LABELS = {"end_of_support": "Supported until", "criticality": "What its failure costs care"}


def devices(visit: Visit, said: str = "", status: int = 200, wrong: Mapping[str, str] | None = None) -> Response:
    """`wrong`: what is said beside a field of the form, by its name."""
    shown = visit.look(Act.DEVICE_LIST).devices
    rows: list[dict[str, Any]] = [
        dict(each) for each in device_rows(visit.house, {}) if shown is None or each["name"] in shown
    ]
    facts = {
        "devices": [each for each in rows if each["name"]],
        "strangers": [each for each in rows if not each["name"]],
        "shown": sorted(shown) if shown is not None else [],
        "may_contain": visit.may(Act.CONTAINMENT_BEGIN),
        "may_revoke": visit.may(Act.DEVICE_REVOKE),
        "may_enroll": (may_enroll := visit.may(Act.DEVICE_ENROLL)),
        "asks": may_enroll and bool(visit.house.site().enroller),
        "said": said,
        **(_asking(visit, wrong or {}) if may_enroll else {}),
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


# ---- enrolment


def ask(visit: Visit) -> Response:
    """To whoever may ask, what is wrong is said beside the field; to anybody else nothing but no."""
    facts, csr = _typed(visit), visit.field("csr")
    if visit.may(Act.DEVICE_ENROLL):
        house = visit.house
        _, wrong = problems(house.site(), house.site_dir, facts, csr)
        if wrong:
            beside = {each.fact: f"{each.what[:1].upper()}{each.what[1:]}: {each.mend}." for each in reversed(wrong)}
            return devices(visit, "Nothing was asked for yet: see what is marked below.", 422, beside)
    try:
        visit.change(ChangeKind.DEVICE_ASK, str(facts["name"]), {"facts": facts, "csr": csr})
    except NotChanged as refusal:
        return devices(visit, sentence(refusal), 409)
    return to("/devices")


def renewal(visit: Visit, said: str = "", status: int = 200) -> Response:
    """A new certificate for one device: who signs it is asked, as for a new device."""
    visit.look(Act.DEVICE_ENROLL, visit.parameters["name"])
    row = next((each for each in device_rows(visit.house, {}) if each["name"] == visit.parameters["name"]), None)
    if row is None:
        return devices(visit, "There is no such device.", 404)
    facts = {"device": row, "enroller": visit.house.site().enroller, "csr": visit.field("csr"), "said": said}
    return page(visit, "renewal.html", facts, status)


def renew(visit: Visit) -> Response:
    try:
        visit.change(ChangeKind.DEVICE_ASK, visit.parameters["name"], {"renewal": True, "csr": visit.field("csr")})
    except NotChanged as refusal:
        return renewal(visit, sentence(refusal), 409)
    return to("/devices")


def withdraw(visit: Visit) -> Response:
    enrolment = visit.house.enrolments.get(visit.parameters["id"])
    name = enrolment.name if enrolment is not None else ""
    try:
        visit.change(ChangeKind.DEVICE_WITHDRAW, name, {"enrolment": visit.parameters["id"]})
    except NotChanged as refusal:
        return devices(visit, sentence(refusal), 409)
    return to("/devices")


def bundle(visit: Visit) -> Response:
    """Once, to whoever asked for it."""
    from starlette.responses import Response as Answer

    enrolment = visit.house.enrolments.get(visit.parameters["id"])
    name = enrolment.name if enrolment is not None else ""
    try:
        given = visit.change(ChangeKind.DEVICE_COLLECT, name, {"enrolment": visit.parameters["id"]})
    except NotChanged as refusal:
        return devices(visit, sentence(refusal), 409)
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return Answer(given["bundle"], media_type="application/zip", headers=headers)


def _asking(visit: Visit, wrong: Mapping[str, str]) -> dict[str, object]:
    """What the form and the list of what was asked for need. A form that was not taken stands there as it was typed."""
    typed = _typed(visit)
    site = visit.house.site()
    return {
        "enrolments": visit.house.enrolments.latest(),
        "names": {each.id: each.name for each in visit.house.people.every()},
        "now_ns": visit.now_ns,
        "enroller": site.enroller,
        "zones": list(site.zones),
        "words_of_may": [word for word in MAY if word not in RESERVED_ACTIONS],
        "record": [(key, LABELS.get(key, key.capitalize())) for key in RECORD],
        "typed": {
            **typed,
            "ae": ", ".join(typed["ae"]),
            "may": typed["may"] if visit.method == "POST" else ["echo"],
            "sop_class": "\n".join(typed["sop_class"]),
            "csr": visit.field("csr"),
        },
        "wrong": wrong,
    }


def _typed(visit: Visit) -> dict[str, Any]:
    """The facts as `device_facts.py` wants them."""
    return {
        "name": visit.field("name"),
        "ae": [each.strip() for each in visit.field("ae").split(",") if each.strip()],
        "network": visit.field("network"),
        "may": list(visit.form.get("may", ())),
        "address": visit.field("address"),
        "zone": visit.field("zone"),
        "sop_class": visit.field("sop_class").split(),
        "why": visit.field("why"),
        "record": {key: visit.field(key) for key in RECORD},
    }


PAGES = (
    Page("/devices", devices),
    Page("/devices/enrolments", ask, ("POST",)),
    Page("/devices/enrolments/{id}/bundle", bundle, ("POST",)),
    Page("/devices/enrolments/{id}/withdraw", withdraw, ("POST",)),
    Page("/devices/{name}/renew", renewal),
    Page("/devices/{name}/renew", renew, ("POST",)),
    Page("/devices/{name}/revoke", revoke, ("POST",)),
)
