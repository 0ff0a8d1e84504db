"""What is to be erased, and what was? Ordered by one person, approved by another, done after a delay in which it can be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leadglass.doors.command.erasure_changes import misnamed, wanted
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page, sentence, to
from leadglass.doors.web.visit import Visit
from leadglass.policy.erasing import undoes
from leadglass.policy.separation import window_max_seconds
from leadglass.terms import Act, ChangeKind, NotChanged, PatientIdentity

if TYPE_CHECKING:
    from starlette.responses import Response

    from leadglass.site.access import AccessRequest

SHOWN_MAX = 50


def erasures(visit: Visit, said: str = "", status: int = 200) -> Response:
    """For whoever may order one, or undo one."""
    undoes(visit.who)
    visit.look(Act.ACCESS_REQUEST, "erasures")
    house, now_ns = visit.house, visit.now_ns
    mine = [each for each in house.people.access.requests() if each.person == visit.who.person.id]
    asked = [each for each in mine if each.act is Act.STUDY_ERASE and each.state in ("requested", "approved")]
    facts = {
        "orders": visit.may(Act.STUDY_ERASE),
        "asked": [each for each in asked if each.until_ns > now_ns],
        "erasures": house.erasures.latest(SHOWN_MAX),
        "names": {each.id: each.name for each in house.people.every()},
        "delay_hours": house.site().limits.erasure_delay_hours,
        "now_ns": now_ns,
        "typed": {name: visit.field(name) for name in ("patient_id", "issuer", "studies", "reason")},
        "said": said,
    }
    return page(visit, "erasures.html", facts, status)


def ask(visit: Visit) -> Response:
    """Somebody else must say yes to exactly this first."""
    visit.must(Act.STUDY_ERASE)
    patient = PatientIdentity(visit.field("patient_id"), visit.field("issuer"))
    studies = visit.field("studies").split() or visit.house.index.studies_of(patient)
    if wrong := misnamed(visit.house.eraser, patient, studies):
        return erasures(visit, f"{wrong[:1].upper()}{wrong[1:]}.", 422)
    arguments = {
        "reason": visit.field("reason"),
        "seconds": window_max_seconds(Act.STUDY_ERASE),
        "patients": [[patient.issuer, patient.patient_id]],
        "studies": studies,
    }
    try:
        visit.change(ChangeKind.ACCESS_REQUEST, Act.STUDY_ERASE, arguments)
    except NotChanged as refusal:
        return erasures(visit, sentence(refusal), 409)
    return to("/erasures")


def order(visit: Visit) -> Response:
    """What was approved, with a fresh passkey; from then on the delay runs."""
    request = visit.house.people.access.request(visit.parameters["id"])
    if request is None or request.person != visit.who.person.id or request.act is not Act.STUDY_ERASE:
        return erasures(visit, "There is no such request of yours.", 404)
    try:
        visit.change(ChangeKind.STUDY_ERASE, request.id, wanted(*_named(request)))
    except NotChanged as refusal:
        return erasures(visit, sentence(refusal), 409)
    return to("/erasures")


def undo(visit: Visit) -> Response:
    try:
        visit.change(ChangeKind.ERASURE_UNDO, visit.parameters["id"], {"why": visit.field("why")})
    except NotChanged as refusal:
        return erasures(visit, sentence(refusal), 409)
    return to("/erasures")


def _named(request: AccessRequest) -> tuple[PatientIdentity, list[str]]:
    patients, studies = request.facts.get("patients"), request.facts.get("studies")
    if not isinstance(patients, list) or not isinstance(studies, list) or len(patients) != 1:
        raise NotChanged("that request names nothing any more")
    return PatientIdentity(str(patients[0][1]), str(patients[0][0])), [str(each) for each in studies]


PAGES = (
    Page("/erasures", erasures),
    Page("/erasures", ask, ("POST",)),
    Page("/erasures/{id}", order, ("POST",)),
    Page("/erasures/{id}/undo", undo, ("POST",)),
)
