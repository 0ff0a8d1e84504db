"""May this person? Pure: a caller, what they ask and the time, to a rule or a permit, or a refusal that says what it lacks. Default deny.

    a request   decide_person, confine   which studies it may reach (a filter), then `rechecker` decides each of them again
    one study   permitted
    an act      may                      about no study
    a change    authorise_person         what people do to the site itself, at the console

The policies are asked in `evaluation.py`; nothing is allowed here that they do not allow. What a person may is decided by what they are now:
whoever approved something is asked again, by `still_approves`, when it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from leadglass.policy.erasing import undoes
from leadglass.policy.evaluation import (
    ACCOUNT_ACTS,
    MATTER_ACTS,
    SITE,
    STUDY_ACTS,
    Answer,
    Facts,
    Matter,
    OfAccount,
    OfMatter,
    OfStudy,
    ask,
)
from leadglass.policy.keys import collects
from leadglass.policy.matrix import needs_second_person, needs_step_up
from leadglass.policy.relationships import Ties
from leadglass.policy.studies import Scope, ground, scope
from leadglass.terms import (
    NO_STUDY,
    Act,
    Action,
    Asker,
    AuditQuestion,
    Caller,
    Change,
    ChangeKind,
    Dossier,
    Echo,
    Export,
    Factor,
    Grant,
    Inquiry,
    NotPermitted,
    Offer,
    Operator,
    Permit,
    Person,
    Proposal,
    Relation,
    Request,
    Role,
    SecondPersonNeeded,
    StepUpNeeded,
    StudyRule,
    Subject,
)
from leadglass.wire.charset import normalise_for_matching

__all__ = [
    "ACTS", "authorise_person", "confine", "decide_person", "exact_digest", "incompatible", "may", "needs_second_person", "needs_step_up",
    "nothing_seen", "of_study", "permitted", "reads_transcript", "recheck", "rechecker", "still_approves", "still_may", "visible",
]  # fmt: skip

DECIDE_AGAIN_SECONDS = 0.25  # how long a decision about what lasts is believed: revocation acts within a second
Recheck = Callable[[Sequence[Dossier]], list[bool]]

ACTS: Mapping[ChangeKind, Act] = {
    ChangeKind.ACCESS_APPROVE: Act.ACCESS_APPROVE,
    ChangeKind.ACCESS_CANCEL: Act.ACCESS_REQUEST,
    ChangeKind.ACCESS_REQUEST: Act.ACCESS_REQUEST,
    ChangeKind.ACCOUNTS_REVIEW: Act.ROLE_GRANT,
    ChangeKind.CONFLICT_DISMISS: Act.CONFLICT_RESOLVE,
    ChangeKind.CONFLICT_PROMOTE: Act.CONFLICT_RESOLVE,
    ChangeKind.DEVICE_ASK: Act.DEVICE_ENROLL,
    ChangeKind.DEVICE_COLLECT: Act.DEVICE_ENROLL,
    ChangeKind.DEVICE_DISABLE: Act.CONTAINMENT_BEGIN,
    ChangeKind.DEVICE_ENABLE: Act.CONTAINMENT_END,
    ChangeKind.DEVICE_ENROLL: Act.DEVICE_ENROLL,
    ChangeKind.DEVICE_RENEW: Act.DEVICE_ENROLL,
    ChangeKind.DEVICE_REVOKE: Act.DEVICE_REVOKE,
    ChangeKind.DEVICE_SUPERSEDE: Act.DEVICE_REVOKE,
    ChangeKind.DEVICE_WAIVE: Act.DEVICE_ENROLL,
    ChangeKind.DEVICE_WITHDRAW: Act.DEVICE_ENROLL,
    ChangeKind.ERASURE_UNDO: Act.STUDY_ERASE,
    ChangeKind.GLASS_BREAK: Act.GLASS_BREAK,
    ChangeKind.GLASS_REVIEW: Act.GLASS_REVIEW,
    ChangeKind.INDEX_REBUILD: Act.INDEX_REBUILD,
    ChangeKind.KIT_COLLECT: Act.KEY_USE,
    ChangeKind.KIT_MAKE: Act.KEY_USE,
    ChangeKind.LEASE_END: Act.LEASE_OPEN,
    ChangeKind.LEASE_OPEN: Act.LEASE_OPEN,
    ChangeKind.NETWORK_CONFIRM: Act.POLICY_PROPOSE,
    ChangeKind.PERSON_ADD: Act.PERSON_ADD,
    ChangeKind.PERSON_DISABLE: Act.PERSON_DISABLE,
    ChangeKind.PERSON_ENABLE: Act.PERSON_DISABLE,
    ChangeKind.PERSON_RESET: Act.PERSON_RESET,
    ChangeKind.RELATIONS_IMPORT: Act.RELATIONS_IMPORT,
    ChangeKind.ROLE_GRANT: Act.ROLE_GRANT,
    ChangeKind.ROLE_REVOKE: Act.ROLE_GRANT,
    ChangeKind.SESSION_END: Act.SESSION_END,
    ChangeKind.SITE_APPLY: Act.POLICY_APPLY,
    ChangeKind.SITE_ASK: Act.POLICY_PROPOSE,
    ChangeKind.SITE_BACKUP: Act.BACKUP_RUN,
    ChangeKind.SITE_CONTAIN: Act.CONTAINMENT_BEGIN,
    ChangeKind.SITE_RELEASE: Act.CONTAINMENT_END,
    ChangeKind.STUDY_ERASE: Act.STUDY_ERASE,
    ChangeKind.TOKEN_MINT: Act.LEASE_OPEN,
    ChangeKind.ZONE_CONTAIN: Act.CONTAINMENT_BEGIN,
    ChangeKind.ZONE_RELEASE: Act.CONTAINMENT_END,
}
"""What a change asks for, where a person may ask for it at all."""

# Where somebody else's is concerned, these are asked for instead: whoever approves may withdraw, whoever ends sessions ends a lease.
_OF_OTHERS = {ChangeKind.ACCESS_CANCEL: Act.ACCESS_APPROVE, ChangeKind.LEASE_END: Act.SESSION_END}

# What says who sits at a workstation is opened with a passkey that this session has seen.
_BY_PASSKEY = frozenset({ChangeKind.LEASE_OPEN, ChangeKind.TOKEN_MINT})

_ACT_OF = {
    Action.STORE: Act.STUDY_STORE,
    Action.FIND: Act.STUDY_FIND,
    Action.GET: Act.STUDY_READ,
    Action.MOVE: Act.STUDY_READ,
    Action.COMMIT: Act.STUDY_READ,  # its answer says which instances there are
}

# Roles that go with no other: who watches is not who is watched, a guest is nobody else, a machine is no person.
_ALONE = (Role.SECURITY_OFFICER, Role.AUDITOR, Role.VENDOR, Role.SERVICE_ACCOUNT)


def incompatible(roles: frozenset[Role]) -> str:
    """Which two of these nobody may have together; "" where they go together."""
    for alone in _ALONE:
        if others := sorted(roles - {alone}) if alone in roles else []:
            return f"{alone} and {others[0]} do not go together: who watches is not who is watched, and a guest or a machine is nobody else"
    return ""


# ---- requests


def decide_person(
    caller: Caller, request: Request | Proposal, generation: int, now_ns: int, *, over_budget: bool = False
) -> Permit:
    """What the caller may have of what they ask at a web door. `over_budget`: they exported today what one may export alone. Raises NotPermitted."""
    match request:
        case Proposal() | Echo():
            raise NotPermitted(f"{caller.name} asks for what only devices do: associations and echoes")
        case Offer():
            return Permit(caller, request.action, may(caller, Act.STUDY_STORE, now_ns), generation)
        case AuditQuestion(grant=Grant() as grant):
            return Permit(caller, request.action, reads_transcript(caller, grant, now_ns), generation)
        case Inquiry():
            rule = may(caller, request.act, now_ns)
            return Permit(caller, request.act, rule, generation, devices=_devices(caller, request, rule, now_ns))
        case AuditQuestion():
            return Permit(caller, request.action, may(caller, request.action, now_ns), generation)
        case Export():
            bulk = over_budget or len(request.patients) > 1
            found, studies = visible(caller, request.action, now_ns, bulk=bulk)
            return Permit(caller, request.action, found, generation, studies=studies, bulk=bulk)
        case _:
            found, studies = visible(caller, _ACT_OF[request.action], now_ns)
            return Permit(caller, request.action, found, generation, studies=studies)


def _devices(caller: Caller, request: Inquiry, rule: str, now_ns: int) -> frozenset[str] | None:
    """Which devices the window shows by which somebody may look at all; None for who may without one. Raises NotPermitted for another."""
    named = caller.within.get(request.act)
    if named is None or ask(request.act, replace(_facts(caller, request.act, now_ns), approved=False), SITE).allowed:
        return None
    if request.about and request.about not in named:
        raise NotPermitted(
            f"{caller.name} may {request.act} of {', '.join(sorted(named))} alone: that is what was approved", rule=rule
        )
    return named


def confine(permit: Permit, caller: Caller, request: Request | Proposal, now_ns: int) -> Permit:
    """A device's permit, as far as whoever sits at the device may have that too. Raises NotPermitted."""
    match request:
        case Proposal() | Echo():
            return permit
        case AuditQuestion() | Inquiry() | Export():
            raise NotPermitted(f"{caller.name} asks at a device what is asked at the console alone")
        case Offer():
            return replace(permit, rule=f"{permit.rule}+{may(caller, Act.STUDY_STORE, now_ns)}")
        case _:
            found, studies = visible(caller, _ACT_OF[request.action], now_ns)
            return replace(permit, rule=f"{permit.rule}+{found}", studies=studies)


def visible(caller: Caller, act: Act, now_ns: int, *, bulk: bool = False) -> tuple[str, StudyRule]:
    """The rule that may show studies, and a filter for those; each of what passes is decided again (`rechecker`). Raises NotPermitted."""
    facts = _facts(caller, act, now_ns, bulk=bulk)
    found = scope(act, facts)
    if found.rule == NO_STUDY:
        raise _refusal(caller, act, facts, None)
    return _told(found), ground(found.rule, Ties.of(caller, act), now_ns)


def permitted(caller: Caller, act: Act, study: Dossier, now_ns: int, *, bulk: bool = False) -> str:
    """The rule that allows an act on this one study. Raises NotPermitted."""
    about = OfStudy(Ties.of(caller, act).to(study, now_ns), study.modalities)
    return _rule(caller, act, of_study(_facts(caller, act, now_ns, bulk=bulk), act, about), about)


def of_study(facts: Facts, act: Act, about: OfStudy) -> Facts:
    """Whether an export was approved is known of each study: of those that the request named, and no other."""
    if act is not Act.STUDY_EXPORT:
        return facts
    return replace(facts, approved=Relation.GRANTED in about.relations)


def recheck(caller: Caller, act: Act, studies: Sequence[Dossier], now_ns: int) -> list[bool]:
    """For each study whether the act is allowed."""
    return _recheck(caller, act, lambda at_ns: _facts(caller, act, at_ns))(studies, now_ns)


def rechecker(
    permit: Permit, clock: Callable[[], int], asker: Callable[[Asker], Asker] = lambda who: who
) -> Recheck | None:
    """What decides each study of a request again, with all its facts; None where a device asks and nobody sits at it.

    `clock`: Unix nanoseconds: a window that ends in the middle of a long answer ends it. `asker`: the same one with what is in force for them
    now, asked a few times a second; raises Refused. Answers are remembered by facts, so that a query of many studies asks Cedar once for each
    distinct set of them.
    """
    who = permit.subject
    caller = _caller(who)
    act = Act.STUDY_EXPORT if permit.action is Act.STUDY_EXPORT else _ACT_OF.get(permit.action)  # type: ignore[arg-type]
    if caller is None or isinstance(who, Operator) or act is None:
        return None

    def deciding(now: Caller) -> Callable[[Sequence[Dossier], int], list[bool]]:
        # Whoever began with a fresh passkey goes on with it, for as long as what was begun lasts.
        return _recheck(now, act, lambda at_ns: replace(_facts(now, act, at_ns, bulk=permit.bulk), stepped_up=True))

    decided, since_ns = deciding(caller), 0

    def again(studies: Sequence[Dossier]) -> list[bool]:
        nonlocal decided, since_ns
        now_ns = clock()
        since_ns = since_ns or now_ns
        if not 0 <= now_ns - since_ns < DECIDE_AGAIN_SECONDS * 1_000_000_000:
            decided, since_ns = deciding(_caller(asker(who)) or caller), now_ns
        return decided(studies, now_ns)

    return again


def _caller(subject: Asker | Operator) -> Caller | None:
    """Who asks, or sits at the device that asks."""
    return subject.caller if isinstance(subject, Subject) else subject if isinstance(subject, Caller) else None


def _recheck(
    caller: Caller, act: Act, facts_at: Callable[[int], Facts]
) -> Callable[[Sequence[Dossier], int], list[bool]]:
    ties = Ties.of(caller, act)
    known: dict[OfStudy, bool] = {}

    def decided(studies: Sequence[Dossier], now_ns: int) -> list[bool]:
        facts, allowed = facts_at(now_ns), []
        for study in studies:
            about = OfStudy(ties.to(study, now_ns), study.modalities)
            if about not in known:
                known[about] = ask(act, of_study(facts, act, about), about).allowed
            allowed.append(known[about])
        return allowed

    return decided


def nothing_seen(permit: Permit) -> NotPermitted:
    """The refusal of a request that named something and met nothing that may be seen: there is none, or none for this person."""
    subject, caller = permit.subject, _caller(permit.subject)
    who = caller.name if caller is not None else subject.actor
    device = subject if isinstance(subject, Subject) else None
    return NotPermitted(
        f"{who} may see nothing of what was named: it is not here, or not theirs to see; `leadglass policy explain` says which",
        rule=permit.rule,
        subject=device,
    )


# ---- acts


def may(caller: Caller, act: Act, now_ns: int = 0) -> str:
    """The rule that allows an act that is about no study. Raises NotPermitted. Without the time no step-up is fresh."""
    return _rule(caller, act, _facts(caller, act, now_ns), SITE)


def reads_transcript(caller: Caller, grant: Grant, now_ns: int) -> str:
    """The rule by which the caller may read what was done under a grant. Raises NotPermitted."""
    own = caller.person.id == grant.person
    about = OfMatter(grant.act, own, grant.roles, decided=caller.person.id in grant.deciders)
    return _rule(caller, Act.TRANSCRIPT_READ, _facts(caller, Act.TRANSCRIPT_READ, now_ns), about)


def still_approves(approver: Person, of: Act, by: Person, now_ns: int, role: str = "") -> str:
    """The rule by which who approved could do so today, passkey or not; asked when what was approved is done. "" where there is none.

    `role`: that must approve it, where it names one.
    """
    if not _in_office(approver, now_ns):
        return ""
    matter = OfMatter(of, by.id == approver.id, by.roles, approver=role)
    answer = ask(Act.ACCESS_APPROVE, Facts(approver.roles, stepped_up=True), matter)
    return answer.rule if answer.allowed else ""


def still_may(person: Person, act: Act, now_ns: int) -> str:
    """The rule by which who asked for something could ask for it today, passkey or not; asked when it is done. "" for none."""
    if not _in_office(person, now_ns):
        return ""
    about = OfStudy() if act in STUDY_ACTS else SITE
    answer = ask(act, Facts(person.roles, stepped_up=True, approved=True), about)
    return answer.rule if answer.allowed else ""


# ---- changes


def authorise_person(caller: Caller, change: Change, now_ns: int = 0, *, takes_back: bool = False) -> str:
    """The rule that allows a change. Raises NotPermitted. `takes_back`: it undoes what they did themselves a short while ago.

    A change that decides about a matter says in its arguments whose it is: `requested_by` (a person's id), `requester_roles`, of an approval
    `act`, and `approver`, the role that flows on demand name. What needs a second person was approved by its digest, not by its name. One of an account says `roles` or `role`, and `about` is the account's name or id.
    """
    act = ACTS.get(change.kind)
    if act is None:
        raise NotPermitted(f"{change.kind} is a command's alone: no person may ask for it at a door")
    if change.kind is ChangeKind.ERASURE_UNDO:
        _facts(caller, act, now_ns)  # who is nobody any more undoes nothing
        return undoes(caller)
    if change.kind is ChangeKind.KIT_COLLECT:
        return collects(caller, fresh=_facts(caller, act, now_ns).stepped_up)
    if change.kind in _OF_OTHERS and change.arguments.get("requested_by") != caller.person.id:
        act = _OF_OTHERS[change.kind]
    if change.kind is ChangeKind.ACCESS_REQUEST and change.arguments.get("machine"):
        may(caller, Act.PERSON_ADD, now_ns)  # whoever adds machines asks for them; they ask for nothing themselves
    if change.kind in _BY_PASSKEY and Factor.PASSKEY not in caller.factors and not caller.stepped_up_ns:
        raise StepUpNeeded(f"{caller.name} may not {change.kind} without a passkey: step up, then ask again")
    about = OfMatter(act, own=True) if act is Act.CONTAINMENT_END and takes_back else _about(caller, act, change)
    rule = _rule(caller, act, _facts(caller, act, now_ns), about)
    if needs_second_person(act) and not takes_back and exact_digest(change) not in caller.exactly:
        what = (
            f"somebody else approved that {caller.name} may {act}, and not this: ask for exactly {exact_digest(change)}"
        )
        raise SecondPersonNeeded(what, rule="separation:exactly")
    return rule


def exact_digest(change: Change) -> str:
    """What an approval of it names: of a site file its own digest, whoever applies it from wherever; else that of the change."""
    return str(change.arguments.get("digest", "")) if change.kind is ChangeKind.SITE_APPLY else change.digest


def _about(caller: Caller, act: Act, change: Change) -> Matter:
    try:
        if act in MATTER_ACTS and act is not Act.CONTAINMENT_END:
            by = str(change.arguments["requested_by"])
            of = str(
                change.arguments["act"] if change.kind is ChangeKind.ACCESS_APPROVE else change.arguments.get("act", "")
            )
            return OfMatter(
                of,
                by == caller.person.id,
                _roles(change.arguments["requester_roles"]),
                approver=str(change.arguments.get("approver", "")),
                withdrawn=change.kind is ChangeKind.ACCESS_CANCEL,
            )
        if act in ACCOUNT_ACTS:
            given = change.arguments.get("roles") or ([change.arguments["role"]] if "role" in change.arguments else [])
            return OfAccount(_is(caller.person, change.about), _roles(given))
    except (KeyError, ValueError, TypeError) as error:
        raise NotPermitted(f"{change.kind} does not say whom it concerns: {error}") from error
    return OfStudy() if act in STUDY_ACTS else SITE  # of a study that they see nothing of


def _is(person: Person, about: str) -> bool:
    """However the name is spelled: nobody gets at their own account by another case."""
    return normalise_for_matching(about) in (normalise_for_matching(person.name), person.id)


def _roles(given: object) -> frozenset[Role]:
    if not isinstance(given, list | tuple | set | frozenset):
        raise TypeError("roles are a list")
    return frozenset(Role(str(each)) for each in given)


# ---- facts, and what is said where they do not suffice


def _facts(caller: Caller, act: Act, now_ns: int, *, bulk: bool = False) -> Facts:
    """Raises NotPermitted for somebody who is nobody any more."""
    if caller.until_ns and now_ns >= caller.until_ns:
        raise NotPermitted(f"{caller.name} does not sit there any more: their time is over")
    if not _in_office(caller.person, now_ns):
        raise NotPermitted(f"{caller.name} is disabled, or their time is over: `leadglass people enable {caller.name}`")
    since_ns = now_ns - caller.stepped_up_ns
    fresh = caller.stepped_up_ns > 0 and 0 <= since_ns <= caller.step_up_seconds * 1_000_000_000
    return Facts(caller.person.roles, fresh, act in caller.approved, bulk)


def _in_office(person: Person, now_ns: int) -> bool:
    return person.enabled and (not person.until_ns or now_ns < person.until_ns)


def _rule(caller: Caller, act: Act, facts: Facts, about: Matter) -> str:
    answer = ask(act, facts, about)
    if not answer.allowed:
        raise _refusal(caller, act, facts, about)
    return answer.rule


def _refusal(caller: Caller, act: Act, facts: Facts, about: Matter | None) -> NotPermitted:
    """What would have made it allowed is found by asking again. `about` None: any study."""

    def allowed(tried: Facts) -> bool:
        return scope(act, tried).rule != NO_STUDY if about is None else ask(act, tried, about).allowed

    answer = ask(act, facts, about) if about is not None else Answer(False, ())
    what = f"{caller.name} ({', '.join(sorted(facts.roles)) or 'no role'}) may not {act}"
    if not facts.stepped_up and allowed(replace(facts, stepped_up=True)):
        return StepUpNeeded(f"{what} without a fresh passkey: step up, then ask again", rule=answer.rule)
    if not facts.approved and allowed(replace(facts, stepped_up=True, approved=True)):
        return SecondPersonNeeded(f"{what} until somebody else approved it: ask for access", rule=answer.rule)
    why = f"{answer.rule} forbids it" if answer.rules else "no rule allows it"
    return NotPermitted(
        f"{what}: {why}; `leadglass policy explain {caller.name} {act} ...` says what would", rule=answer.rule
    )


def _told(found: Scope) -> str:
    return "+".join(f"cedar:{each}" for each in found.rules)
