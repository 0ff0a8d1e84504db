"""Who is here, and what may they do here? Accounts, roles with their reasons, links for enrolment, sessions; each change says why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from leadglass.doors.command.people_questions import people as people_rows
from leadglass.doors.command.people_questions import review as review_rows
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page, sentence, to
from leadglass.doors.web.visit import Visit
from leadglass.terms import Act, ChangeKind, NotChanged, Person, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.responses import Response


def everybody(visit: Visit, said: str = "", status: int = 200) -> Response:
    visit.look(Act.PEOPLE_LIST)
    rows = list(people_rows(visit.house, {}))
    *found, summary = review_rows(visit.house, {})
    facts = {"people": rows, "roles": list(Role), "may_add": visit.may(Act.PERSON_ADD), "said": said}
    facts |= {"findings": len(found), "overdue": summary["overdue"]}
    return page(
        visit,
        "people.html",
        facts | {"typed": {name: visit.field(name) for name in ("name", "display", "why")}},
        status,
    )


def add(visit: Visit) -> Response:
    arguments = {
        "roles": list(visit.form.get("role", ())),
        "display": visit.field("display"),
        "mail": visit.field("mail"),
        "departments": _listed(visit.field("departments")),
        "names": _listed(visit.field("names")),
        "until": visit.field("until"),
        "why": visit.field("why"),
    }
    try:
        result = visit.change(ChangeKind.PERSON_ADD, visit.field("name"), arguments)
    except NotChanged as refusal:
        return everybody(visit, sentence(refusal), 409)
    return page(visit, "link.html", {"result": result, "about": result["person"]})


def one(visit: Visit, said: str = "", status: int = 200) -> Response:
    name = visit.parameters["name"]
    visit.look(Act.PEOPLE_LIST, name)
    row = next((each for each in people_rows(visit.house, {}) if each["name"] == name), None)
    person = visit.house.people.named(name)
    if row is None or person is None:
        return page(visit, "nobody.html", {"about": name}, 404)
    facts = {
        "person": row,
        "sessions": visit.house.desk.sessions(person.id),
        "roles": [each for each in Role if each not in person.roles],
        "may": {str(act): visit.may(act) for act in _ACTS},
        "own": person.id == visit.who.person.id,
        "now_ns": time.time_ns(),
        "said": said,
    }
    return page(visit, "person.html", facts, status)


def _listed(text: str) -> list[str]:
    """One a line, or between semicolons: names in studies have commas and carets."""
    return [each.strip() for line in text.split("\n") for each in line.split(";") if each.strip()]


def _changing(kind: ChangeKind, arguments: Callable[[Visit], Mapping[str, object]]) -> Callable[[Visit], Response]:
    """A page that makes one change to the person its path names, and shows them again."""

    def change(visit: Visit) -> Response:
        name = visit.parameters["name"]
        try:
            result = visit.change(kind, name, {**arguments(visit), "why": visit.field("why")})
        except NotChanged as refusal:
            return one(visit, sentence(refusal), 409)
        if "enrolment" in result:
            return page(visit, "link.html", {"result": result, "about": name})
        return to(f"/people/{name}")

    return change


def _roles_of(visit: Visit) -> list[str]:
    person: Person | None = visit.house.people.named(visit.parameters["name"])
    return sorted(person.roles) if person else []


_ACTS = (Act.PERSON_DISABLE, Act.PERSON_RESET, Act.ROLE_GRANT, Act.SESSION_END)
_WITH_ROLES = {
    "disable": ChangeKind.PERSON_DISABLE,
    "enable": ChangeKind.PERSON_ENABLE,
    "link": ChangeKind.PERSON_RESET,
}

PAGES = (
    Page("/people", everybody),
    Page("/people", add, ("POST",)),
    Page("/people/{name}", one),
    *(
        Page(f"/people/{{name}}/{word}", _changing(kind, lambda visit: {"roles": _roles_of(visit)}), ("POST",))
        for word, kind in _WITH_ROLES.items()
    ),
    Page(
        "/people/{name}/grant", _changing(ChangeKind.ROLE_GRANT, lambda visit: {"role": visit.field("role")}), ("POST",)
    ),
    Page(
        "/people/{name}/revoke",
        _changing(ChangeKind.ROLE_REVOKE, lambda visit: {"role": visit.field("role")}),
        ("POST",),
    ),
    Page(
        "/people/{name}/sessions",
        _changing(ChangeKind.SESSION_END, lambda visit: {"session": visit.field("session")}),
        ("POST",),
    ),
)
