"""Who is the first? At a start where nobody can sign in, the site prints a link for its first administrator: there are no default credentials."""

from __future__ import annotations

import os

import structlog

from leadglass.doors.command.desk import changed
from leadglass.doors.command.exits import Stopped
from leadglass.doors.house import House
from leadglass.terms import ChangeKind, Role

FIRST = "administrator"
GOVERNS = frozenset({Role.PACS_ADMINISTRATOR, Role.SECURITY_OFFICER})

log = structlog.get_logger()


def invite_first_administrator(house: House) -> None:
    """Prints `administrator enrolment=URL`; nothing once somebody who governs can sign in. Each start ends the link of the one before."""
    able = house.people.factors.enrolled()
    if any(person.id in able and person.roles & GOVERNS for person in house.people.every()):
        return
    arguments: dict[str, object] = {"roles": [Role.PACS_ADMINISTRATOR], "why": "the first start of the site"}
    kind = ChangeKind.PERSON_RESET if house.people.named(FIRST) else ChangeKind.PERSON_ADD
    try:
        result = changed(house, os.getuid(), kind, FIRST, arguments)
    except Stopped as stopped:
        log.error("the first administrator could not be invited", reason=str(stopped))
        return
    print(f"{FIRST} enrolment={result['enrolment']}", flush=True)
    log.info(
        "nobody can sign in yet: open the administrator's link within a day, then add a security officer, who is somebody else",
        command="leadglass people add NAME --role security-officer",
    )
