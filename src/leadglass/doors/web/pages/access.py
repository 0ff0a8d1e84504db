"""What is given for a time, and by whom? Broken glass with its review, requests and the second person's word on them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from leadglass.doors.web.pages import transcripts
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import actor, page, sentence, to
from leadglass.doors.web.visit import Visit
from leadglass.policy.on_demand import on_demand
from leadglass.site.access import AccessRequest
from leadglass.terms import Act, ChangeKind, NotChanged, PatientIdentity, Person, Role, Situation
from leadglass.watch.glass import rate
from leadglass.wire.uids import uid_problem

if TYPE_CHECKING:
    from starlette.responses import Response

HOUR_SECONDS = 3600
SHOWN_MAX = 200
# What a person asks a window for; everything else is asked for where it is done.
ASKED_FOR = (Act.STUDY_READ, Act.STUDY_FIND, Act.STUDY_EXPORT, Act.DEVICE_LIST, Act.POLICY_READ, Act.BACKUP_RUN, Act.INDEX_REBUILD)  # fmt: skip
_TYPED = ("about", "reason", "hours", "patients", "studies", "devices", "purpose", "machine", "minutes", "flow_reason")
SITUATIONS = {
    Situation.EMERGENCY: "Emergency: they are being treated now",
    Situation.ON_CALL: "On call, for a colleague who is away",
    Situation.CONSULT: "A colleague asks me to look now",
    Situation.TRANSFER: "They came from another ward or hospital",
}  # a press each; any other is said in words
VERDICTS = ("justified", "not-justified", "unclear")


# ---- broken glass


def glass_page(visit: Visit, said: str = "", status: int = 200) -> Response:
    """From a refusal: for the patient of that study, or for whom, and why."""
    asked = {name: visit.field(name) or visit.asked(name) for name in ("patient_id", "issuer", "study", "reason")}
    return page(visit, "glass.html", {"asked": asked, "situations": SITUATIONS, "said": said}, status)


def break_glass(visit: Visit) -> Response:
    study, patient = visit.field("study"), _whose(visit)
    arguments = {
        "patient_id": patient.patient_id,
        "issuer": patient.issuer,
        "situation": visit.field("situation"),
        "reason": visit.field("reason"),
    }
    try:
        visit.change(ChangeKind.GLASS_BREAK, uuid.uuid4().hex, arguments)
    except NotChanged as refusal:
        return glass_page(visit, sentence(refusal), 409)
    return to(f"/studies/{study}" if study else f"/?patient={quote(patient.patient_id)}")


def _whose(visit: Visit) -> PatientIdentity:
    """Whom it is about. Of a study that is not here it is broken all the same: which are here is learned at the price of a review alone."""
    study = visit.field("study")
    if study and not uid_problem(study):
        return visit.house.index.patient_of(study) or PatientIdentity(f"of study {study}")
    patient_id, issuer = visit.field("patient_id"), visit.field("issuer")
    known = visit.house.index.patients_called(patient_id) if not issuer else []
    return known[0] if len(known) == 1 else PatientIdentity(patient_id, issuer)


def review_page(visit: Visit, said: str = "", status: int = 200) -> Response:
    visit.look(Act.GLASS_REVIEW)
    glass = visit.house.people.access.glass()
    waiting = [each for each in reversed(glass) if not each.reviewed_ns]  # whoever waits longest comes first
    facts = {
        "waiting": waiting[:SHOWN_MAX],
        "more": max(0, len(waiting) - SHOWN_MAX),
        "done": [each for each in glass if each.reviewed_ns][:SHOWN_MAX],
        "rate": rate(glass, visit.now_ns),
        "names": _names(visit),
        "verdicts": VERDICTS,
    }
    return page(visit, "review.html", facts | {"said": said}, status)


def review(visit: Visit) -> Response:
    glass = next((each for each in visit.house.people.access.glass() if each.id == visit.parameters["id"]), None)
    if glass is None:
        return review_page(visit, "No glass was broken under that number.", 404)
    arguments = {
        "verdict": visit.field("verdict"),
        "note": visit.field("note"),
        **_matter(visit, glass.person, Act.GLASS_BREAK),
    }
    try:
        visit.change(ChangeKind.GLASS_REVIEW, glass.id, arguments)
    except NotChanged as refusal:
        return review_page(visit, sentence(refusal), 409)
    return to("/review")


# ---- requests


def requests_page(visit: Visit, said: str = "", status: int = 200) -> Response:
    asks, reads = visit.may(Act.ACCESS_REQUEST), visit.may(Act.TRANSCRIPT_READ)
    visit.look(Act.TRANSCRIPT_READ if reads and not asks else Act.ACCESS_REQUEST)
    every = visit.house.people.access.requests()[:SHOWN_MAX]
    approves, own = visit.may(Act.ACCESS_APPROVE), visit.who.person.id
    of_others = [each for each in every if each.person != own]
    flows = on_demand(visit.house.site())
    facts = {
        "asks": asks,
        "flows": flows if visit.may(Act.FLOW_OPEN) else {},
        "waiting": [
            each for each in of_others if each.state == "requested" and _decides(visit, each, approves=approves)
        ],
        "own": [each for each in every if each.person == own],
        "decided": [each for each in of_others if (approves or reads) and each.state != "requested"],
        "told": transcripts.readable(visit, of_others),
        "approves": approves,
        "names": _names(visit),
        "acts": ASKED_FOR,
        "typed": {name: visit.field(name) for name in _TYPED},
        "machines": _machines(visit) if visit.may(Act.PERSON_ADD) else [],
        "now_ns": visit.now_ns,
        "said": said,
    }
    return page(visit, "requests.html", facts, status)


def _machines(visit: Visit) -> list[str]:
    return [each.name for each in visit.house.people.every() if Role.SERVICE_ACCOUNT in each.roles]


def ask(visit: Visit) -> Response:
    hours = visit.field("hours")
    arguments = {
        "matter": visit.field("about"),
        "reason": visit.field("reason"),
        "seconds": int(hours) * HOUR_SECONDS if hours.isdecimal() and len(hours) < 5 else 0,
        "patients": [_patient(each) for each in _lines(visit.field("patients"))],
        "studies": _lines(visit.field("studies")),
        "devices": _lines(visit.field("devices")),
        "purpose": visit.field("purpose"),
        **({"machine": visit.field("machine")} if visit.field("machine") else {}),
    }
    try:
        visit.change(ChangeKind.ACCESS_REQUEST, visit.field("act"), arguments)
    except NotChanged as refusal:
        return requests_page(visit, sentence(refusal), 409)
    return to("/requests")


def ask_for_flows(visit: Visit) -> Response:
    """That a flow is open for a time."""
    minutes = visit.field("minutes")
    arguments = {
        "flows": list(visit.form.get("flow", ())),
        "reason": visit.field("flow_reason"),
        "seconds": int(minutes) * 60 if minutes.isdecimal() and len(minutes) < 6 else 0,
    }
    try:
        visit.change(ChangeKind.ACCESS_REQUEST, Act.FLOW_OPEN, arguments)
    except NotChanged as refusal:
        return requests_page(visit, sentence(refusal), 409)
    return to("/requests")


def _decides(visit: Visit, request: AccessRequest, *, approves: bool) -> bool:
    """Whether to show somebody a request to decide: flows on demand name the role that does."""
    return request.approver in visit.who.person.roles if request.approver else approves


def decide(visit: Visit) -> Response:
    request = _request(visit)
    if request is None:
        return requests_page(visit, "There is no such request.", 404)
    arguments = {
        "digest": visit.field("digest"),
        "approve": visit.field("word") == "approve",
        "why": visit.field("why"),
        **_matter(visit, request.person, request.act),
        "approver": request.approver,
    }
    try:
        visit.change(ChangeKind.ACCESS_APPROVE, request.id, arguments)
    except NotChanged as refusal:
        return requests_page(visit, sentence(refusal), 409)
    return to("/requests")


def cancel(visit: Visit) -> Response:
    request = _request(visit)
    if request is None:
        return requests_page(visit, "There is no such request.", 404)
    try:
        told = {**_matter(visit, request.person, request.act), "approver": request.approver}
        visit.change(ChangeKind.ACCESS_CANCEL, request.id, told)
    except NotChanged as refusal:
        return requests_page(visit, sentence(refusal), 409)
    return to("/requests")


def _request(visit: Visit) -> AccessRequest | None:
    return visit.house.people.access.request(visit.parameters["id"])


def _matter(visit: Visit, person_id: str, act: Act) -> Mapping[str, object]:
    """Whose it is that is decided about, as the register knows them: policy holds that against who decides."""
    person: Person | None = visit.house.people.get(person_id)
    roles = sorted(person.roles) if person is not None else []
    return {"requested_by": person_id, "requester_roles": roles, "act": act}


def _names(visit: Visit) -> dict[str, str]:
    """Of people by their ids; of operators, who asked at a shell, as they are called in events."""
    shells = {each.person: actor(each.person) for each in visit.house.people.access.requests() if ":" in each.person}
    return {**shells, **{each.id: each.name for each in visit.house.people.every()}}


def _lines(text: str) -> list[str]:
    return [each.strip() for each in text.split("\n") if each.strip()]


def _patient(line: str) -> list[str]:
    """`ID`, or `ID, ISSUER`: as issuer and id."""
    patient_id, _, issuer = line.partition(",")
    return [issuer.strip(), patient_id.strip()]


PAGES = (
    Page("/glass", glass_page),
    Page("/glass", break_glass, ("POST",)),
    Page("/review", review_page),
    Page("/review/{id}", review, ("POST",)),
    Page("/requests", requests_page),
    Page("/requests", ask, ("POST",)),
    Page("/requests/flows", ask_for_flows, ("POST",)),
    Page("/requests/{id}", decide, ("POST",)),
    Page("/requests/{id}/cancel", cancel, ("POST",)),
)
