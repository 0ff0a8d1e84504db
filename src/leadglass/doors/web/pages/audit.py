"""Who saw this patient, what did this person see, and why may they? Questions to the audit and to the policy; each is itself an event."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

from leadglass import gateway
from leadglass.audit.search import PAGE_ROWS_MAX, AuditAnswer
from leadglass.doors.audit_rows import entry_row, seer_row
from leadglass.doors.blocking import Entered
from leadglass.doors.command.exits import Stopped
from leadglass.doors.command.explaining import NOTHING, explain
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page
from leadglass.doors.web.visit import Visit
from leadglass.terms import Act, AuditQuestion, Mismatched, PatientIdentity, Role

if TYPE_CHECKING:
    from starlette.responses import Response

FIELD_CHARACTERS_MAX = 128
_DAY = dt.timedelta(days=1)


def who(visit: Visit) -> Response:
    """Two questions, and the answer to the one that was asked."""
    names = ("patient", "issuer", "person", "from", "to", "before")
    asked = {name: visit.asked(name)[:FIELD_CHARACTERS_MAX] for name in names}
    people = sorted(each.name for each in visit.house.people.every())
    facts: dict[str, object] = {
        "asked": asked,
        "people": people,
        "rows": None,
        "seers": None,
        "older": "",
        "late": False,
    }
    if not asked["patient"] and not asked["person"]:
        if not visit.may(Act.AUDIT_READ):
            visit.look(Act.AUDIT_READ)  # which refuses, and says so in an event
        return page(visit, "who.html", facts)
    try:
        question = question_of(visit, asked)
        before = _before(asked["before"])
    except (Mismatched, ValueError, OverflowError):
        return page(visit, "who.html", facts | {"said": "A date is written 2026-11-24."}, 400)
    with Entered(gateway.release(visit.house.do, question)) as found:
        assert isinstance(found, AuditAnswer)
        entries = found.page(before)
        seers = [seer_row(each) for each in found.seers()] if question.patient is not None and before is None else None
        found.progress.total = found.progress.completed = len(entries)
        found.progress.succeed()
    rows = [entry_row(each, visit.house.index.patient_of) for each in entries]
    older = "{}.{}".format(*entries[-1].place) if len(entries) == PAGE_ROWS_MAX else ""
    return page(visit, "who.html", facts | {"rows": rows, "seers": seers, "older": older})


def question_of(visit: Visit, asked: Mapping[str, str], *, report: bool = False) -> AuditQuestion:
    """Of a patient, or else of somebody: a person by their name, a device by its own, or an actor as events name them. Raises Mismatched."""
    patient = PatientIdentity(asked["patient"], asked["issuer"]) if asked["patient"] else None
    name = asked["person"]
    actor = name if ":" in name or name in visit.house.site().devices else f"person:{name.casefold()}"
    from_ns = _ns(asked["from"]) if asked["from"] else 0
    until_ns = _ns(asked["to"], _DAY) if asked["to"] else (1 << 63) - 1
    return AuditQuestion(visit.who, patient, "" if patient else actor, from_ns, until_ns, report=report)


def _ns(text: str, after: dt.timedelta = dt.timedelta()) -> int:
    try:
        at = dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC) + after
    except ValueError as error:
        raise Mismatched("a date that is none") from error
    return int(at.timestamp()) * 1_000_000_000


def _before(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    at_ns, _, number = text.partition(".")
    return int(at_ns), int(number)


def explain_page(visit: Visit) -> Response:
    """Who may do what, and why; what would have to change."""
    asked = {name: visit.asked(name)[:FIELD_CHARACTERS_MAX] for name in ("who", "action", "what")}
    shown = visit.look(Act.POLICY_READ, asked["who"]).devices
    known = [*sorted(each.name for each in visit.house.people.every()), *(f"ROLE:{role}" for role in Role)]
    facts: dict[str, object] = {
        "asked": asked,
        "known": [*known, *sorted(visit.house.site().devices)] if shown is None else sorted(shown),
        "acts": list(Act),
        "rows": None,
    }
    if not asked["who"] or not asked["action"]:
        return page(visit, "explain.html", facts)
    try:
        rows = list(explain(visit.house, {**asked, "what": asked["what"] or NOTHING[1]}))
    except Stopped as stopped:
        return page(
            visit,
            "explain.html",
            facts | {"said": f"{str(stopped)[:1].upper()}{str(stopped)[1:]}. {stopped.hint}"},
            400,
        )
    return page(visit, "explain.html", facts | {"rows": rows})


PAGES = (Page("/who", who), Page("/explain", explain_page))
