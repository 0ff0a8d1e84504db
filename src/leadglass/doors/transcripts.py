"""What is a transcript to a reader? The grant as the register knows it, its events as rows, and how it ended; one shape for console, command, table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leadglass.audit.transcript import Belongs, Ended, Line, Transcript, ended
from leadglass.doors.audit_rows import PatientOf, entry_row, moment
from leadglass.doors.house import House
from leadglass.policy.people import still_approves
from leadglass.site.access import AccessRequest
from leadglass.terms import AuditQuestion, Caller, Event, EventKind, Grant, Operator, Person


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, whoever asked it (None: gone from the register), and what policy and the search are told of it."""

    request: AccessRequest
    person: Person | None
    grant: Grant

    def question(self, by: Caller | Operator) -> AuditQuestion:
        grant = self.grant
        return AuditQuestion(
            by, who=f"person:{grant.name}", from_ns=grant.from_ns, until_ns=grant.until_ns, grant=grant
        )


def asked(house: House, request_id: str) -> Asked | None:
    """None where there is no such request."""
    request = house.people.access.request(request_id)
    return asked_for(request, {each.id: each for each in house.people.every()}) if request is not None else None


def asked_for(request: AccessRequest, people: Mapping[str, Person]) -> Asked:
    """`people`: by id. What was asked for a machine is done by the machine."""
    person, holder = people.get(request.person), people.get(request.holder)
    opened = any(each.decision == "approved" for each in request.decisions)
    until_ns = min(request.until_ns, request.settled_ns) if request.state == "cancelled" else request.until_ns
    grant = Grant(
        request=request.id,
        person=request.holder,
        name=holder.name if holder is not None else "",
        roles=person.roles if person is not None else frozenset(),
        act=request.act,
        deciders={each.person: people[each.person].name for each in request.decisions if each.person in people},
        asked_ns=request.asked_ns,
        from_ns=request.from_ns if opened else 0,
        until_ns=until_ns if opened else 0,
    )
    return Asked(request, person, grant)


def how_it_ended(house: House, about: Asked, transcript: Transcript, now_ns: int) -> Ended:
    """By the register, and by what the journal tells of it."""
    told = [line.entry for line in transcript.of_the_grant()]
    return ended(about.grant, about.request.state, told, now_ns, stands=_stands(house, about, now_ns))


def _stands(house: House, about: Asked, now_ns: int) -> bool:
    asks = about.person
    if asks is None or not asks.enabled or (asks.until_ns and now_ns >= asks.until_ns):
        return False
    approved = [house.people.get(each.person) for each in about.request.decisions if each.decision == "approved"]
    request = about.request
    return any(each and still_approves(each, request.act, asks, now_ns, request.approver) for each in approved)


# ---- rows


def granted_row(about: Asked, transcript: Transcript, end: Ended) -> dict[str, object]:
    """The head of a transcript. `complete`: the search had every event that was durable when it was asked."""
    request, names = about.request, about.grant.deciders
    facts = request.facts
    return {
        "request": request.id,
        "who": f"person:{about.grant.name}",
        "act": str(request.act),
        "matter": request.about,
        "why": request.why,
        "purpose": facts.get("purpose", ""),
        "flows": facts.get("flows", []),
        "devices": facts.get("devices", []),
        "studies": facts.get("studies", []),
        "patients": facts.get("patients", []),
        "asked": moment(request.asked_ns),
        "decisions": [
            {
                "by": f"person:{names.get(each.person, '')}",
                "decision": each.decision,
                "why": each.why,
                "at": moment(each.at_ns),
            }
            for each in request.decisions
        ],
        "from": _when(request.from_ns),
        "until": _when(request.until_ns),
        "state": request.state,
        "ended": str(end.how),
        "ended_at": _when(end.at_ns),
        "ended_by": end.by,
        "complete": not transcript.lacks,
        "lacks": transcript.lacks,
    }


def line_row(line: Line, patient_of: PatientOf) -> dict[str, object]:
    """One event, with why it is there; `about`: whom or which request a change was about."""
    row = entry_row(line.entry, patient_of)
    event = line.entry.event
    if line.belongs is Belongs.UNPROVEN:
        row["who"] = f"somebody who said to be {event.details.get('name', '')}"
    if event.kind is EventKind.NETWORK_PASSED:
        row |= _in_the_kernel(event)
    return {"belongs": str(line.belongs), **row, "about": str(event.details.get("about", ""))}


def _in_the_kernel(event: Event) -> dict[str, object]:
    """A connection has a member, or an address, in the place of somebody; a service in the place of an act."""
    details = event.details
    port = f"/{details['port']}" if details.get("port") else ""
    return {
        "who": details.get("member_from") or details.get("source", ""),
        "from": details.get("source", ""),
        "action": f"{details.get('protocol', '')}{port}",
        "rule": details.get("flow", ""),
    }


def head_lines(head: Mapping[str, Any]) -> Iterator[str]:
    """For a person at a terminal: what was granted, by whom, and how it ended."""
    yield f"{head['act']} of {head['who']}, request {head['request']}, asked {head['asked']}: {head['why']}"
    for each in head["decisions"]:
        yield f"{each['decision']} by {each['by']}, {each['at']}" + (f": {each['why']}" if each["why"] else "")
    for name in _NAMED:
        if head[name]:
            yield f"{name}: {_listed(head[name])}"
    by = f" by {head['ended_by']}" if head["ended_by"] else ""
    yield f"ended: {head['ended']} {head['ended_at']}{by}"


def table_rows(head: Mapping[str, object], lines: Iterable[Mapping[str, object]]) -> Iterator[Mapping[str, object]]:
    """For a table: what was granted is its first row and how it ended its last, in the columns of the events between."""
    blank = dict.fromkeys(COLUMNS, "")
    named = [f"{name} {_listed(head[name])}" for name in _NAMED if head[name]]
    yield {**blank, "belongs": "granted", "at": head["asked"], "who": head["who"], "what": "asked for", "action": head["act"],
           "outcome": head["state"], "reason": "; ".join([*named, f"why {head['why']}"]), "about": head["request"]}  # fmt: skip
    for row in lines:
        yield {name: row.get(name, "") for name in COLUMNS}
    lacks = "" if head["complete"] else f"the audit search lacks {head['lacks']} events yet: ask again"
    yield {**blank, "belongs": "ended", "at": head["ended_at"], "who": head["ended_by"], "what": "how it ended", "outcome": head["ended"],
           "reason": lacks, "about": head["request"]}  # fmt: skip


_NAMED = ("matter", "purpose", "flows", "devices", "studies", "patients", "from", "until")
COLUMNS = (
    "belongs", "at", "who", "device", "what", "action", "patient", "issuer", "study", "instances", "outcome", "rule", "reason", "from",
    "sealed", "about",
)  # fmt: skip


def _listed(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(
            " ".join(map(str, reversed(each))).strip() if isinstance(each, list) else str(each) for each in value
        )
    return str(value)


def _when(at_ns: int) -> str:
    return moment(at_ns) if at_ns else ""
