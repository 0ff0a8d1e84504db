"""How are rights for a time given and taken back? Broken glass with its review, requests with their approvals, leases of workstations and
tokens for them, relations.

What opens something is written to the register first and acts through the generation; what is over by its time needs no change at all, for each
request reads what is in force now.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from leadglass.doors.command.applying import approvers
from leadglass.doors.command.erasure_changes import digest_of, wanted
from leadglass.doors.command.kit_changes import asked_for
from leadglass.doors.command.kit_changes import digest_of as digest_of_kit
from leadglass.doors.command.people_changes import PeopleParts, person_named
from leadglass.policy import people as policy
from leadglass.policy.on_demand import approver_of
from leadglass.policy.separation import (
    GLASS_SECONDS,
    LEASE_SECONDS_MAX,
    SECOND_NS,
    approved_window,
    must_be_another,
    window_max_seconds,
)
from leadglass.site.access import AccessRequest, Decision, Glass, Lease
from leadglass.site.people import fold_name
from leadglass.terms import (
    Act,
    Caller,
    Change,
    ChangeKind,
    NotChanged,
    PatientIdentity,
    Related,
    Relation,
    Role,
    Situation,
)

Result = Mapping[str, object]
Arguments = Mapping[str, Any]
REASON_CHARACTERS_MIN, REASON_CHARACTERS_MAX = 8, 500
NAMED_MAX = 100  # patients, studies, devices of one request
VERDICTS = ("justified", "not-justified", "unclear")


def _break_glass(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    """`about`: its id, which says nothing of the patient; the patient stands in the arguments and, sealed, in the event.

    `situation`: why; `reason`: in words, which `other` needs and any other situation may have. Nobody in an emergency is made to type.
    """
    caller, now_ns = change.caller, parts.clock()
    patient = PatientIdentity(_text(arguments, "patient_id"), _text(arguments, "issuer"))
    if not patient.patient_id:
        raise NotChanged("the glass is broken for one patient: name them")
    try:
        situation = Situation(str(arguments.get("situation") or Situation.OTHER))
    except ValueError:
        raise NotChanged(f"the glass is broken for {', '.join(Situation)}") from None
    words = _reason(arguments) if situation is Situation.OTHER else _text(arguments, "reason")[:REASON_CHARACTERS_MAX]
    reason = words if situation is Situation.OTHER else ": ".join(filter(None, (situation.replace("-", " "), words)))
    glass = Glass(change.id, caller.person.id, patient, reason, now_ns, now_ns + GLASS_SECONDS * SECOND_NS)
    parts.people.access.break_glass(glass)
    parts.raise_generation(change)
    return {"glass": glass.id, "seconds": GLASS_SECONDS}


def _review_glass(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    caller = change.caller
    glass = next((each for each in parts.people.access.glass() if each.id == change.about), None)
    if glass is None:
        raise NotChanged("no glass was broken under that id")
    _as_told(parts, arguments, glass.person)
    must_be_another(caller, glass.person, "review the broken glass")
    verdict = str(arguments.get("verdict", ""))
    if verdict not in VERDICTS:
        raise NotChanged(f"a review says {', '.join(VERDICTS)}")
    note = _text(arguments, "note")[:REASON_CHARACTERS_MAX]
    if verdict != "justified" and len(note) < REASON_CHARACTERS_MIN:
        raise NotChanged("say in the note what follows from it")
    parts.people.access.review_glass(glass.id, caller.person.id, verdict, note, parts.clock())
    return {"glass": glass.id, "verdict": verdict}


def _request(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    """A window for one act, on named devices, patients or studies, or for one exact change (`digest`).

    `about` of the change is the act; what somebody writes, `matter` and `reason`, may name a patient and stands in the register alone.
    """
    caller, now_ns = change.caller, parts.clock()
    act, matter = _act(change.about), _text(arguments, "matter")[:REASON_CHARACTERS_MAX]
    seconds, from_ns = int(arguments.get("seconds", 0)), max(now_ns, int(arguments.get("from_ns", 0)))
    if not 0 < seconds <= window_max_seconds(act):
        raise NotChanged(f"a window for {act} is at most {window_max_seconds(act) // 3600} h long")
    facts: dict[str, object] = {
        "devices": _names(arguments.get("devices", ())),
        "studies": _names(arguments.get("studies", ())),
        "patients": [[str(pair[0]), str(pair[1])] for pair in arguments.get("patients", ())][:NAMED_MAX],
        "purpose": _text(arguments, "purpose"),
    }
    if arguments.get("machine"):
        facts["machine"] = _machine(parts, str(arguments["machine"]), act)
    if act is Act.FLOW_OPEN:
        flows = _names(arguments.get("flows", ()))
        facts |= {"flows": flows, "approver": approver_of(flows, parts.on_demand(), seconds)}
    if act is Act.STUDY_ERASE:
        facts["erasure"], digest = change.id, _of_erasure(change, caller, facts)
    elif act is Act.KEY_USE:
        facts |= (kit := asked_for(parts, arguments))
        digest = digest_of_kit(change.id, caller, kit)
    else:
        exact = json.dumps([act, matter, facts, seconds], sort_keys=True, separators=(",", ":"))
        digest = str(arguments.get("digest") or hashlib.sha256(exact.encode()).hexdigest())
    request = AccessRequest(
        id=change.id,
        kind=str(arguments.get("kind") or "window"),
        person=caller.person.id,
        act=act,
        about=matter,
        digest=digest,
        facts=facts,
        why=_reason(arguments),
        from_ns=from_ns,
        until_ns=from_ns + seconds * SECOND_NS,
        state="requested",
        asked_ns=now_ns,
        settled_ns=0,
    )
    parts.people.access.ask(request)
    return {"request": request.id, "state": "requested", "digest": digest}


def _machine(parts: PeopleParts, name: str, act: Act) -> str:
    """The id of a service account that something is asked for, of what such an account may have at all."""
    if act not in (Act.STUDY_FIND, Act.STUDY_READ):
        raise NotChanged(f"a machine may find and read what is granted to it, and not {act}")
    person = person_named(parts, name)
    if Role.SERVICE_ACCOUNT not in person.roles:
        raise NotChanged(f"{person.name} is no service account: people ask for themselves")
    return person.id


def _of_erasure(change: Change, caller: Caller, facts: Mapping[str, Any]) -> str:
    """The digest of the one change that an approval of it allows: the erasure bears the request's id."""
    if len(facts["patients"]) != 1 or not facts["studies"]:
        raise NotChanged("an erasure is of studies of one patient: name both")
    ((issuer, patient_id),) = facts["patients"]
    return digest_of(change.id, caller, wanted(PatientIdentity(patient_id, issuer), facts["studies"]))


def _approve(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    """`about`: the request; `digest`: of exactly what the approver saw; `approve`: False denies."""
    caller, now_ns = change.caller, parts.clock()
    request = _waiting(parts, change.about)
    _as_told(parts, arguments, request.person, request.approver)
    must_be_another(caller, request.person, "decide a request")
    if arguments.get("act") != request.act:
        raise NotChanged("the request is for another act")
    if arguments.get("digest") != request.digest:
        raise NotChanged("the request is not what you were shown: look at it again")
    approves = bool(arguments.get("approve"))
    state = "approved" if approves else "denied"
    window = approved_window(
        request.act, request.from_ns, request.until_ns, now_ns, other_approvers=_other_approvers(parts, caller, request)
    )
    if approves and window.until_ns <= now_ns:
        raise NotChanged("the time that was asked for is over: a new request is needed")
    decision = Decision(caller.person.id, state, _text(arguments, "why")[:REASON_CHARACTERS_MAX], now_ns)
    parts.people.access.decide(request.id, decision, state, window.from_ns, window.until_ns)
    parts.raise_generation(change)
    return {"request": request.id, "state": state, "waits": approves and window.alone, "from_ns": window.from_ns}


def _cancel(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    """Whoever asked, or whoever may approve, at any time: an open window is shut."""
    request = parts.people.access.request(change.about)
    if request is None or request.state not in ("requested", "approved"):
        raise NotChanged("that request is not open")
    _as_told(parts, arguments, request.person, request.approver)
    parts.people.access.settle(request.id, "cancelled", parts.clock())
    parts.raise_generation(change)
    return {"request": request.id, "state": "cancelled"}


def _open_lease(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    """`about`: the device. Who opens it sits there, with a passkey just now, until it ends or somebody else sits down."""
    caller, now_ns = change.caller, parts.clock()
    seconds = int(arguments.get("seconds", LEASE_SECONDS_MAX))
    if not 0 < seconds <= LEASE_SECONDS_MAX:
        raise NotChanged(f"a lease is at most {LEASE_SECONDS_MAX // 3600} h long")
    lease = Lease(change.id, caller.person.id, caller.session, change.about, now_ns, now_ns + seconds * SECOND_NS)
    parts.people.access.open_lease(lease)
    parts.raise_generation(change)
    return {"lease": lease.id, "device": lease.device, "until_ns": lease.until_ns}


def _end_lease(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    """`about`: the device. Whoever sits there, or who may end sessions of others."""
    caller, now_ns = change.caller, parts.clock()
    lease = parts.people.access.lease_of(change.about, now_ns)
    if lease is None:
        raise NotChanged(f"nobody sits at {change.about[:64]!r}")
    if lease.person != caller.person.id:  # policy was told so by whoever asked; this is the register's word
        policy.may(caller, Act.SESSION_END, now_ns)
    parts.people.access.end_lease(lease.id, f"ended by {caller.name}", now_ns)
    parts.raise_generation(change)
    return {"lease": lease.id, "device": lease.device, "ended": True}


def _mint_token(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    """`about`: the device, `certificate`: which of its certificates (`sha256:<hex>`), where it has several. The token stands in the answer alone."""
    caller, device = change.caller, change.about
    known = parts.people.access.certificates_of(device)
    wanted = str(arguments.get("certificate") or (caller.fingerprint if caller.fingerprint in known else ""))
    if not wanted and len(known) == 1:
        wanted = known[0]
    if wanted not in known:
        raise NotChanged(
            f"a token is for one certificate of an enrolled workstation, and {device[:64]!r} has {len(known)} that serve: say which"
        )
    token, until_ns = parts.desk.association_token(caller, wanted)
    return {"device": device, "certificate": wanted, "token": token, "until_ns": until_ns}


def _relate(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    """All rows of one source at once, in the place of what it said before. `about`: the source."""
    now_ns, rows = parts.clock(), list(_related(parts, arguments.get("rows", ()), change.about))
    count = parts.people.access.relate(rows, change.about)
    parts.raise_generation(change)
    return {"source": change.about, "relations": count, "at_ns": now_ns}


def _related(parts: PeopleParts, rows: Iterable[Arguments], source: str) -> Iterable[Related]:
    ids = {each.name: each.id for each in parts.people.every()}
    for row in rows:
        person_id = ids.get(fold_name(str(row["person"]))) or person_named(parts, str(row["person"])).id
        patient = PatientIdentity(str(row["patient_id"]), str(row.get("issuer", ""))) if row.get("patient_id") else None
        yield Related(
            person_id, Relation(str(row["relation"])), patient, str(row.get("study", "")), int(row.get("from_ns", 0)),
            int(row.get("until_ns", 0)), source,
        )  # fmt: skip


def _waiting(parts: PeopleParts, request_id: str) -> AccessRequest:
    request = parts.people.access.request(request_id)
    if request is None or request.state != "requested":
        raise NotChanged("that request does not wait for anybody")
    return request


def _other_approvers(parts: PeopleParts, caller: Caller, request: AccessRequest) -> int:
    """How many others could have decided it."""
    return sum(each.id != caller.person.id for each in approvers(parts.people, request, parts.clock()))


def _as_told(parts: PeopleParts, arguments: Arguments, person_id: str, approver: str = "") -> None:
    """What policy was told of whose matter it is must be what the register says. Raises NotChanged."""
    person = parts.people.get(person_id)
    roles = sorted(person.roles) if person is not None else []
    whose = arguments.get("requested_by"), sorted(map(str, arguments.get("requester_roles", ())))
    if whose != (person_id, roles) or str(arguments.get("approver", "")) != approver:
        raise NotChanged("whose matter this is has changed meanwhile: look at it again")


def _act(text: object) -> Act:
    try:
        return Act(str(text))
    except ValueError:
        raise NotChanged(f"there is no act {str(text)[:64]!r}") from None


def _names(texts: Iterable[object]) -> list[str]:
    return [str(each)[:128] for each in texts][:NAMED_MAX]


def _text(arguments: Arguments, key: str) -> str:
    return " ".join(str(arguments.get(key) or "").split())


def _reason(arguments: Arguments) -> str:
    reason = _text(arguments, "reason")
    if not REASON_CHARACTERS_MIN <= len(reason) <= REASON_CHARACTERS_MAX:
        raise NotChanged(f"say why, in {REASON_CHARACTERS_MIN} to {REASON_CHARACTERS_MAX} characters")
    return reason


ACCESS_KINDS: Mapping[ChangeKind, Callable[[PeopleParts, Change, Arguments], Result]] = {
    ChangeKind.ACCESS_APPROVE: _approve,
    ChangeKind.ACCESS_CANCEL: _cancel,
    ChangeKind.ACCESS_REQUEST: _request,
    ChangeKind.GLASS_BREAK: _break_glass,
    ChangeKind.GLASS_REVIEW: _review_glass,
    ChangeKind.LEASE_END: _end_lease,
    ChangeKind.LEASE_OPEN: _open_lease,
    ChangeKind.RELATIONS_IMPORT: _relate,
    ChangeKind.TOKEN_MINT: _mint_token,
}
