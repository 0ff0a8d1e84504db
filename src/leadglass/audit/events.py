"""What is written about each act? One function for each thing that can happen; only `gateway.py` calls them.

An event carries no time and no number: the journal gives it those. What identifies a patient stands in `patient`, in `study_instance_uid`
and in `subject_uids` alone, so that the journal can seal it under the study's key. What is owed to a flow on demand whose use is recorded names in
`on_demand` the requests that opened it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from leadglass.terms import (
    EVENT_UIDS_MAX,
    Action,
    Asker,
    AuditQuestion,
    Caller,
    Change,
    ChangeKind,
    ChangePermit,
    Claimed,
    Commitment,
    Detection,
    Echo,
    Event,
    EventKind,
    Export,
    Fault,
    HoldReason,
    Inquiry,
    Offer,
    OpenFlow,
    Operator,
    Outcome,
    PatientIdentity,
    Peer,
    Permit,
    Progress,
    Proposal,
    Query,
    Refused,
    Request,
    Retrieval,
    Settled,
    SignIn,
    Situation,
    Standing,
    Subject,
    fingerprint_of,
)

NAME_SHOWN_CHARACTERS = 64
PEOPLES_DOORS = ("web", "console")
ON_DEMAND = "on_demand"
COMMAND = "command"  # the action of a refusal that came before anybody knew what was asked


def association_refused(peer: Peer, proposal: Proposal, refusal: Refused) -> Event:
    """Somebody called and was not let in; `details` say who they claimed to be."""
    subject = refusal.subject
    return Event(
        EventKind.ASSOCIATION_REFUSED,
        Outcome.REFUSED,
        actor=subject.actor if subject else "",
        address=peer.address,
        action="associate",
        rule=refusal.rule,
        reason=refusal.reason,
        fingerprint=fingerprint_of(peer),
        details={"refusal": type(refusal).__name__, **_proposed(proposal)},
    )


def turned_away(peer: Peer, refusal: Refused) -> Event:
    """Somebody was refused before there was a request: a stranger without an A-ASSOCIATE-RQ, or a device whose command means nothing."""
    if refusal.subject is None and peer.door in PEOPLES_DOORS:
        return Event(
            EventKind.PERSON_REFUSED,
            Outcome.REFUSED,
            actor="",
            address=peer.address,
            action=COMMAND,
            rule=_ruled(peer, refusal.rule),
            reason=refusal.reason,
            fingerprint=fingerprint_of(peer),
            details={"refusal": type(refusal).__name__, "door": peer.door, **_by_request(peer.opened)},
        )
    if refusal.subject is None:
        return association_refused(peer, Proposal("", ""), refusal)
    return _by(
        refusal.subject,
        EventKind.REQUEST_REFUSED,
        COMMAND,
        refusal.rule,
        Outcome.REFUSED,
        reason=refusal.reason,
        details={"refusal": type(refusal).__name__},
    )


def person_refused(peer: Peer, claim: SignIn, refusal: Refused | Fault) -> Event:
    """Somebody did not prove who they say they are. The name is theirs as far as it was given; it may be anything."""
    return Event(
        EventKind.PERSON_REFUSED,
        Outcome.REFUSED if isinstance(refusal, Refused) else Outcome.FAILED,
        actor="",
        address=peer.address,
        action=claim.purpose,
        rule=_ruled(peer, ""),
        reason=str(refusal),
        fingerprint=fingerprint_of(peer),
        details={
            "refusal": type(refusal).__name__,
            "method": claim.method,
            "name": claim.name[:NAME_SHOWN_CHARACTERS],
            **_by_request(peer.opened),
        },
    )


def person_recognised(claim: SignIn, caller: Caller) -> Event:
    """Who it is, by which factors; also of a step-up, of a screen that was unlocked, and of a machine that is given a token."""
    factors = ", ".join(sorted(caller.factors))
    details: dict[str, str | int] = {"method": claim.method, "factors": factors, "session": caller.session}
    if caller.until_ns:
        details["until_ns"] = caller.until_ns
    return _by(caller, EventKind.PERSON_RECOGNISED, claim.purpose, f"factors:{claim.method}", details=details)


def association_admitted(subject: Subject, permit: Permit) -> Event:
    details = {"tls": subject.peer.tls, **_proposed(subject.proposal)}
    if subject.waiver:
        details["waiver"] = subject.waiver
    return _by(subject, EventKind.ASSOCIATION_ADMITTED, "associate", permit.rule, details=details, opened=permit.opened)


def association_ended(subject: Subject, permit: Permit, progress: Progress) -> Event:
    return _by(
        subject,
        EventKind.ASSOCIATION_ENDED,
        "associate",
        permit.rule,
        progress.outcome,
        reason=progress.reason,
        opened=permit.opened,
    )


def stored(claimed: Claimed) -> Event:
    """Stored or held, by the claim's standing; as a record's trailer has it."""
    instance = claimed.inspected.instance
    kind = EventKind.INSTANCE_HELD if claimed.standing is Standing.HELD else EventKind.INSTANCE_STORED
    if HoldReason.CONFLICT in claimed.holds:
        kind = EventKind.INSTANCE_CONFLICTED
    details: dict[str, str | int] = {"version": claimed.version, "standing": claimed.standing}
    if claimed.inspected.warnings:
        details["warnings"] = "; ".join(claimed.inspected.warnings)
    return _by(
        claimed.permit.subject,
        kind,
        Action.STORE,
        claimed.permit.rule,
        reason=", ".join(sorted(claimed.holds)),
        study=instance.study_instance_uid,
        uids=(instance.sop_instance_uid,),
        details=details,
        patient=instance.patient,
        opened=claimed.permit.opened,
    )


def settled_as(event: Event, settled: Settled) -> Event:
    """The same with what was kept, and where it rests; as the journal has it."""
    return replace(event, settled=settled)


def repeated(claimed: Claimed, settled: Settled) -> Event:
    instance = settled.instance
    return _by(
        claimed.permit.subject,
        EventKind.INSTANCE_REPEATED,
        Action.STORE,
        claimed.permit.rule,
        study=instance.study_instance_uid,
        uids=(instance.sop_instance_uid,),
        details={"version": settled.version, "standing": settled.standing, "sop_class": instance.sop_class_uid},
        patient=instance.patient,
        opened=claimed.permit.opened,
    )


def request_refused(request: Request, refusal: Refused | Fault) -> Event:
    refused = isinstance(refusal, Refused)
    return _by(
        request.subject,
        EventKind.REQUEST_REFUSED,
        request.action,
        refusal.rule if isinstance(refusal, Refused) else "",
        Outcome.REFUSED if refused else Outcome.FAILED,
        reason=str(refusal),
        uids=(request.sop_instance_uid,) if isinstance(request, Offer) else (),
        details={"refusal": type(refusal).__name__, **_asked(request)},
    )


def release_started(request: Request, permit: Permit, progress: Progress) -> Event:
    return _released(request, permit, EventKind.RELEASE_STARTED, Outcome.SUCCESS, "", {"total": progress.total})


def release_ended(request: Request, permit: Permit, progress: Progress) -> Event:
    counts = {
        "total": progress.total,
        "completed": progress.completed,
        "failed": progress.failed,
        "warned": progress.warned,
    }
    return _released(request, permit, EventKind.RELEASE_ENDED, progress.outcome, progress.reason, counts)


def _released(
    request: Request,
    permit: Permit,
    kind: EventKind,
    outcome: Outcome,
    reason: str,
    counts: Mapping[str, int],
) -> Event:
    uids: tuple[str, ...] = ()
    if isinstance(request, Commitment):
        uids = tuple(each.sop_instance_uid for each in request.references[:EVENT_UIDS_MAX])
    return _by(
        request.subject,
        kind,
        request.action,
        permit.rule,
        outcome,
        reason=reason,
        study=_asked_study(request),
        uids=uids,
        details={**_asked(request), **counts},
        patient=_asked_patient(request),
        opened=permit.opened,
    )


def change_refused(order: Change, refusal: Refused) -> Event:
    return _changed(order, EventKind.CHANGE_REFUSED, refusal.rule, Outcome.REFUSED, refusal.reason)


def change_intended(order: Change, permit: ChangePermit) -> Event:
    return _changed(order, EventKind.CHANGE_INTENDED, permit.rule, Outcome.SUCCESS, "")


def change_completed(order: Change, permit: ChangePermit) -> Event:
    return _changed(order, EventKind.CHANGE_COMPLETED, permit.rule, Outcome.SUCCESS, "")


def change_abandoned(order: Change, permit: ChangePermit, failure: Refused | Fault) -> Event:
    return _changed(order, EventKind.CHANGE_ABANDONED, permit.rule, Outcome.FAILED, str(failure))


def _changed(order: Change, kind: EventKind, rule: str, outcome: Outcome, reason: str) -> Event:
    return Event(
        kind,
        outcome,
        actor=order.operator.actor,
        address=order.operator.peer.address,
        fingerprint=order.operator.fingerprint,
        action=order.kind,
        rule=_ruled(order.operator.peer, rule),
        reason=reason,
        details={
            "change": order.id,
            "digest": order.digest,
            "about": order.about,
            "operator": order.operator.name,
            **_coded(order),
            **_by_request(order.operator.peer.opened),
        },
        patient=_changed_patient(order),
    )


def _coded(order: Change) -> dict[str, str | int]:
    """The DICOM code of what it is (PS3.16 CID 403), where it has one of its own; of broken glass the situation, never the words."""
    code = {ChangeKind.GLASS_BREAK: "110127", ChangeKind.LEASE_OPEN: "110122", ChangeKind.LEASE_END: "110123"}.get(
        order.kind
    )
    told: dict[str, str | int] = {"dicom": code} if code else {}
    if order.kind is ChangeKind.GLASS_BREAK and order.arguments.get("situation") in tuple(Situation):
        told["situation"] = str(order.arguments["situation"])
    return told


def _changed_patient(order: Change) -> PatientIdentity | None:
    """Whose images somebody was let see; it stands in the event's sealed box, never in what the change is called."""
    if order.kind is ChangeKind.GLASS_BREAK and order.arguments.get("patient_id"):
        return PatientIdentity(str(order.arguments["patient_id"]), str(order.arguments.get("issuer", "")))
    return None


def detected(detection: Detection) -> Event:
    return Event(
        detection.kind,
        Outcome.SUCCESS,
        actor="keeper",
        reason=detection.reason,
        details={"severity": detection.severity, "about": detection.about, **detection.details},
    )


def _by(
    subject: Asker | Operator,
    kind: EventKind,
    action: str,
    rule: str,
    outcome: Outcome = Outcome.SUCCESS,
    *,
    reason: str = "",
    study: str = "",
    uids: tuple[str, ...] = (),
    details: Mapping[str, str | int] | None = None,
    patient: PatientIdentity | None = None,
    settled: Settled | None = None,
    opened: tuple[OpenFlow, ...] | None = None,
) -> Event:
    """`opened`: what a device was permitted by; where it is not said, as of a refusal, whatever was open to it then."""
    if isinstance(subject, Subject) and subject.caller is not None:
        details = {**(details or {}), "person": subject.caller.actor}  # who sits at the device
    if opened is None or not isinstance(subject, Subject):
        opened = subject.peer.opened
    return Event(
        kind,
        outcome,
        actor=subject.actor,
        address=subject.peer.address,
        action=str(action),
        rule=_ruled(subject.peer, rule),
        reason=reason,
        fingerprint=subject.fingerprint,
        study_instance_uid=study,
        subject_uids=uids,
        details={**(details or {}), **_by_request(opened)} if opened else details or {},
        patient=patient,
        settled=settled,
    )


def _ruled(peer: Peer, rule: str) -> str:
    """At the web door the rule is a person's; the flow on demand by which they came stands before it."""
    if not peer.opened or peer.door not in PEOPLES_DOORS:
        return rule
    return "+".join([*(each.flow for each in peer.opened), *([rule] if rule else [])])


def _by_request(opened: Iterable[OpenFlow]) -> dict[str, str | int]:
    requests = sorted({request for each in opened if each.record for request in each.requests})
    return {ON_DEMAND: " ".join(requests)} if requests else {}


def _proposed(proposal: Proposal) -> dict[str, str | int]:
    """`claimed_user`: a name that nobody proved. Who is proven stands in `person`."""
    said: dict[str, str | int] = {
        "calling": proposal.calling_ae_title,
        "called": proposal.called_ae_title,
        "implementation": f"{proposal.implementation_class_uid} {proposal.implementation_version_name}".strip(),
    }
    if proposal.user_identity_type:
        said["user_identity_type"] = proposal.user_identity_type
    if proposal.user_name:
        said["claimed_user"] = proposal.user_name
    return said


def _asked(request: Request) -> dict[str, str | int]:
    match request:
        case Offer():
            return {"sop_class": request.sop_class_uid, "transfer_syntax": request.transfer_syntax_uid}
        case Query() | Retrieval():
            asked: dict[str, str | int] = {"root": request.root, "level": request.level}
            if isinstance(request, Retrieval) and request.destination:
                asked["destination"] = request.destination
            return asked
        case Commitment():
            return {"transaction": request.transaction_uid, "references": len(request.references)}
        case Export():
            return {"export": request.id, "purpose": request.purpose, "patients": len(request.patients)}
        case Inquiry():
            return {"about": request.about} if request.about else {}
        case AuditQuestion():
            grant: dict[str, str | int] = {"request": request.grant.request} if request.grant is not None else {}
            return {"who": request.who, "from_ns": request.from_ns, "until_ns": request.until_ns, **grant}
        case Echo():
            return {}


def _asked_study(request: Request) -> str:
    if isinstance(request, Export):
        return request.study_instance_uid
    return request.keys.get(0x0020000D, "") if isinstance(request, Query | Retrieval) else ""


def _asked_patient(request: Request) -> PatientIdentity | None:
    if isinstance(request, AuditQuestion | Export):
        return request.patient
    if isinstance(request, Query | Retrieval) and (patient_id := request.keys.get(0x00100020)):
        return PatientIdentity(patient_id, request.keys.get(0x00100021, ""))
    return None
