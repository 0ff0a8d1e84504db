"""May this person? What each refusal lacks is said in its class, nobody decides about their own, and a policy that fails opens nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadglass.policy import evaluation
from leadglass.policy.decide import decide
from leadglass.policy.evaluation import Facts, OfMatter, OfStudy, Policies, PolicyFault, ask
from leadglass.policy.people import (
    ACTS,
    authorise_person,
    decide_person,
    incompatible,
    may,
    needs_second_person,
    needs_step_up,
    nothing_seen,
    permitted,
    recheck,
    rechecker,
    still_approves,
    visible,
)
from leadglass.terms import (
    EVERY_STUDY,
    NO_STUDY,
    Act,
    AnyOf,
    Caller,
    Change,
    ChangeKind,
    Commitment,
    Dossier,
    Echo,
    Factor,
    Has,
    Inquiry,
    Level,
    NotPermitted,
    Offer,
    PatientIdentity,
    Person,
    Proposal,
    Query,
    Related,
    Relation,
    Retrieval,
    Role,
    Root,
    SecondPersonNeeded,
    StepUpNeeded,
)
from leadglass.terms.people import STEP_UP_SECONDS
from tests.policy.callers import NOW, SECOND, caller, person
from tests.policy.test_decide import device, flow, site, subject

ANNA, BERTA = PatientIdentity("P1", "HOSPITAL"), PatientIdentity("P2", "HOSPITAL")
OF_ANNA = Dossier("1.1", ANNA, frozenset({"radiology"}), frozenset({"doe^jane"}), frozenset({"CT"}))
OF_BERTA = Dossier("1.2", BERTA)
RADIOLOGIST = person(Role.RADIOLOGIST, departments=["Radiology"])
CLINICIAN = person(Role.REFERRING_CLINICIAN, names=["DOE^JANE"])
OFFICER = person(Role.SECURITY_OFFICER, name="olga")
ADMINISTRATOR = person(Role.PACS_ADMINISTRATOR, name="paul")
VENDOR = person(Role.VENDOR, name="vera")
ENGINEER = person(Role.BIOMEDICAL_ENGINEER, name="ben")


def treats(who: str, patient: PatientIdentity, relation: Relation = Relation.CARE_TEAM, **window: int) -> Related:
    return Related(who, relation, patient, **window)


# ---- requests


def test_a_site_may_say_how_long_a_fresh_passkey_counts() -> None:
    for seconds, since, allowed in ((60, 60, True), (60, 61, False), (900, 900, True)):
        who = replace(
            caller(person(Role.SECURITY_OFFICER)), stepped_up_ns=NOW - since * SECOND, step_up_seconds=seconds
        )
        try:
            fresh = bool(may(who, Act.PERSON_RESET, NOW))
        except StepUpNeeded:
            fresh = False
        assert fresh is allowed, (seconds, since)


def test_a_query_is_confined_to_what_somebody_is_something_to() -> None:
    who = caller(CLINICIAN, related=[treats("jane", BERTA)])
    permit = decide_person(who, Query(who, Root.STUDY, Level.STUDY, {}), 7, NOW)
    assert (permit.rule, permit.generation) == ("cedar:referring-clinician-sees", 7)
    assert permit.studies == AnyOf(
        (Has("clinician", frozenset({"doe^jane"})), Has("patient", frozenset({"HOSPITAL\x1fP2"})))
    )


def test_whoever_is_nothing_to_any_study_is_let_in_and_sees_nothing() -> None:
    who = caller(person(Role.REFERRING_CLINICIAN))
    permit = decide_person(who, Query(who, Root.STUDY, Level.STUDY, {}), 0, NOW)
    assert permit.studies == NO_STUDY


@pytest.mark.parametrize(
    "role", [Role.SECURITY_OFFICER, Role.AUDITOR, Role.VENDOR, Role.PACS_ADMINISTRATOR, Role.BIOMEDICAL_ENGINEER]
)
def test_whose_work_is_no_images_is_refused_them(role: Role) -> None:
    who = caller(
        person(role, departments=["radiology"]), fresh=True, related=[treats("jane", ANNA, each) for each in Relation]
    )
    for request in (
        Query(who, Root.STUDY, Level.STUDY, {}),
        Retrieval(who, Root.STUDY, Level.STUDY, {}),
        Commitment(who, "1", ()),
        Offer(who, "1", "1", "1"),
    ):
        with pytest.raises(NotPermitted, match="may not study-"):
            decide_person(who, request, 0, NOW)
    with pytest.raises(NotPermitted):
        may(who, Act.GLASS_BREAK, NOW)
    assert recheck(who, Act.STUDY_READ, [OF_ANNA, OF_BERTA], NOW) == [False, False]


@pytest.mark.parametrize("request_of", [Echo, lambda who: Proposal("A", "B")])
def test_a_person_is_no_device(request_of) -> None:
    who = caller(RADIOLOGIST)
    with pytest.raises(NotPermitted, match="only devices"):
        decide_person(who, request_of(who), 0, NOW)


@pytest.mark.parametrize("gone", [{"enabled": False}, {"until_ns": NOW}])
def test_whoever_is_gone_may_nothing(gone: dict) -> None:
    who = caller(person(Role.RADIOLOGIST, departments=["radiology"], **gone))
    with pytest.raises(NotPermitted, match="disabled, or their time is over"):
        decide_person(who, Query(who, Root.STUDY, Level.STUDY, {}), 0, NOW)
    with pytest.raises(NotPermitted):
        recheck(who, Act.STUDY_READ, [OF_ANNA], NOW)
    with pytest.raises(NotPermitted):
        may(who, Act.ACCESS_REQUEST, NOW)


def test_each_study_is_decided_again_at_its_own_time() -> None:
    who = caller(CLINICIAN, related=[treats("jane", BERTA, Relation.GLASS, from_ns=NOW, until_ns=NOW + SECOND)])
    permit = decide_person(who, Query(who, Root.STUDY, Level.STUDY, {}), 0, NOW)
    times = iter([NOW, NOW + SECOND])
    again = rechecker(permit, lambda: next(times))
    assert again is not None
    assert again([OF_ANNA, OF_BERTA]) == [True, True]
    assert again([OF_ANNA, OF_BERTA]) == [True, False], "the glass is whole again"
    assert permitted(who, Act.STUDY_READ, OF_BERTA, NOW) == "cedar:referring-clinician-sees"
    with pytest.raises(NotPermitted, match="no rule allows it"):
        permitted(who, Act.STUDY_READ, OF_BERTA, NOW + SECOND)


def test_a_refusal_says_the_same_whether_it_is_here_or_not() -> None:
    who = caller(CLINICIAN)
    permit = decide_person(who, Retrieval(who, Root.STUDY, Level.STUDY, {}), 0, NOW)
    assert "it is not here, or not theirs to see" in nothing_seen(permit).reason


# ---- somebody at a workstation


def test_at_a_workstation_both_the_flow_and_the_person_must_allow(tmp_path) -> None:
    from leadglass.terms import Containment

    place = site(tmp_path, device("WS1"), flow("reads", "WS1", "echo,find,get,store,commit"))
    alone = subject(place, "WS1")
    query = Query(alone, Root.STUDY, Level.STUDY, {})
    assert decide(place, Containment(), alone, query).studies == EVERY_STUDY
    assert rechecker(decide(place, Containment(), alone, query), lambda: NOW) is None

    leased = replace(alone, caller=caller(CLINICIAN))
    permit = decide(place, Containment(), leased, replace(query, subject=leased), now_ns=NOW)
    assert permit.rule == "reads+cedar:referring-clinician-sees"
    assert permit.studies == Has("clinician", frozenset({"doe^jane"}))
    again = rechecker(permit, lambda: NOW)
    assert again is not None and again([OF_ANNA, OF_BERTA]) == [True, False]
    commit = decide(place, Containment(), leased, Commitment(leased, "1", ()), now_ns=NOW)
    assert commit.studies == permit.studies
    assert decide(place, Containment(), leased, Echo(leased), now_ns=NOW).studies == EVERY_STUDY
    assert decide(place, Containment(), leased, leased.proposal, now_ns=NOW).action is None
    ct = "1.2.840.10008.5.1.4.1.1.2"
    with pytest.raises(NotPermitted, match="may not study-store"):
        decide(place, Containment(), leased, Offer(leased, ct, "1", "1"), now_ns=NOW)
    maker = replace(alone, caller=caller(person(Role.TECHNOLOGIST)))
    stored = decide(place, Containment(), maker, Offer(maker, ct, "1", "1"), now_ns=NOW)
    assert stored.rule.endswith("+cedar:technologist-works")
    watcher = replace(alone, caller=caller(OFFICER))
    with pytest.raises(NotPermitted, match="security-officer-sees-no-images"):
        permitted(watcher.caller, Act.STUDY_READ, OF_ANNA, NOW)  # type: ignore[arg-type]
    with pytest.raises(NotPermitted):
        decide(place, Containment(), watcher, replace(query, subject=watcher), now_ns=NOW)


# ---- step-up and the second person


def test_a_step_up_is_fresh_for_a_while_and_never_from_the_future() -> None:
    assert needs_step_up(Act.STUDY_EXPORT) and not needs_step_up(Act.STUDY_READ)
    for since, allowed in ((0, True), (STEP_UP_SECONDS, True), (STEP_UP_SECONDS + 1, False), (-1, False)):
        who = replace(caller(RADIOLOGIST), stepped_up_ns=NOW - since * SECOND)
        if allowed:
            assert visible(who, Act.STUDY_EXPORT, NOW)[0] == "cedar:radiologist-sees"
            assert permitted(who, Act.STUDY_EXPORT, OF_ANNA, NOW)
        else:
            with pytest.raises(StepUpNeeded):
                visible(who, Act.STUDY_EXPORT, NOW)
            with pytest.raises(StepUpNeeded):
                permitted(who, Act.STUDY_EXPORT, OF_ANNA, NOW)
    with pytest.raises(StepUpNeeded):
        may(caller(OFFICER, fresh=True), Act.ROLE_GRANT)  # without the time nothing is fresh


@pytest.mark.parametrize("kind", [ChangeKind.LEASE_OPEN, ChangeKind.TOKEN_MINT])
def test_who_sits_where_is_said_with_a_passkey(kind: ChangeKind) -> None:
    known = caller(RADIOLOGIST)
    typed = replace(known, factors=frozenset({Factor.PASSWORD, Factor.TOTP}))
    assert authorise_person(known, Change("1", known, kind, "WS1", {}), NOW) == "cedar:radiologist-works"
    with pytest.raises(StepUpNeeded, match="without a passkey"):
        authorise_person(typed, Change("1", typed, kind, "WS1", {}), NOW)
    tapped = replace(typed, stepped_up_ns=NOW - 3600 * SECOND)
    assert authorise_person(tapped, Change("1", tapped, kind, "WS1", {}), NOW)


def test_a_step_up_helps_nobody_who_may_not_anyway() -> None:
    with pytest.raises(NotPermitted) as refused:
        permitted(caller(RADIOLOGIST), Act.STUDY_EXPORT, OF_BERTA, NOW)
    assert not isinstance(refused.value, StepUpNeeded)


@pytest.mark.parametrize("act", [Act.STUDY_ERASE, Act.POLICY_APPLY])
def test_nothing_grave_without_a_second_person(act: Act) -> None:
    def ask_for(who):
        return permitted(who, act, OF_ANNA, NOW) if act is Act.STUDY_ERASE else may(who, act, NOW)

    assert needs_second_person(act)
    with pytest.raises(SecondPersonNeeded):
        ask_for(caller(ADMINISTRATOR, fresh=True))
    with pytest.raises(StepUpNeeded):
        ask_for(caller(ADMINISTRATOR, approved={act: "r1"}))
    with pytest.raises(SecondPersonNeeded):
        ask_for(caller(ADMINISTRATOR, fresh=True, approved={Act.KEY_USE: "r1"}))  # something else was approved
    assert ask_for(caller(ADMINISTRATOR, fresh=True, approved={act: "r1"}))


def test_what_a_second_person_approved_is_one_change_and_no_other() -> None:
    who = caller(ADMINISTRATOR, fresh=True, approved={Act.POLICY_APPLY: "r1"})
    change = Change("1", who, ChangeKind.SITE_APPLY, "site", {"digest": "of what was shown", "connection": "here"})
    with pytest.raises(SecondPersonNeeded, match="of what was shown"):
        authorise_person(who, change, NOW)
    who = replace(who, exactly=frozenset({"of what was shown"}))
    assert authorise_person(who, change, NOW)
    assert authorise_person(who, replace(change, arguments={"digest": "of what was shown"}), NOW)
    for arguments in ({"digest": "of what was edited since"}, {}, {"digest": ""}):
        with pytest.raises(SecondPersonNeeded):
            authorise_person(who, replace(change, arguments=arguments), NOW)
    with pytest.raises(SecondPersonNeeded):  # approved for that file, and for nothing else
        authorise_person(who, Change("1", who, ChangeKind.ZONE_RELEASE, "ward", {"digest": "of what was shown"}), NOW)


def test_one_alone_contains_and_two_let_in_again_unless_it_is_taken_back() -> None:
    for who in (OFFICER, ADMINISTRATOR, ENGINEER):
        plain, fresh = caller(who), caller(who, fresh=True)
        for kind in (ChangeKind.DEVICE_DISABLE, ChangeKind.ZONE_CONTAIN, ChangeKind.SITE_CONTAIN):
            assert authorise_person(plain, change(plain, kind), NOW), "at once: no passkey, nobody else"
        for kind in (ChangeKind.DEVICE_ENABLE, ChangeKind.ZONE_RELEASE, ChangeKind.SITE_RELEASE):
            order = change(fresh, kind, began_ns=5)
            with pytest.raises(SecondPersonNeeded):
                authorise_person(fresh, order, NOW)
            assert authorise_person(fresh, order, NOW, takes_back=True)
            with pytest.raises(StepUpNeeded):
                authorise_person(plain, order, NOW, takes_back=True)
            approved = replace(fresh, approved={Act.CONTAINMENT_END: "r1"}, exactly=frozenset({order.digest}))
            assert authorise_person(approved, order, NOW)
            with pytest.raises(SecondPersonNeeded):  # of what was contained then, not of what is contained now
                authorise_person(approved, replace(order, arguments={"began_ns": 6}), NOW)
    for who in (VENDOR, RADIOLOGIST, person(Role.AUDITOR)):
        other = caller(who, fresh=True)
        with pytest.raises(NotPermitted):
            authorise_person(other, change(other, ChangeKind.ZONE_CONTAIN), NOW)
        with pytest.raises(NotPermitted):
            authorise_person(other, change(other, ChangeKind.ZONE_RELEASE), NOW, takes_back=True)


def test_one_patients_studies_need_a_passkey_and_more_a_second_person() -> None:
    assert not needs_second_person(Act.STUDY_EXPORT) and needs_second_person(Act.STUDY_EXPORT, bulk=True)
    who = caller(RADIOLOGIST, fresh=True)
    assert visible(who, Act.STUDY_EXPORT, NOW)
    with pytest.raises(SecondPersonNeeded):
        visible(who, Act.STUDY_EXPORT, NOW, bulk=True)
    assert visible(caller(RADIOLOGIST, fresh=True, approved={Act.STUDY_EXPORT: "r"}), Act.STUDY_EXPORT, NOW, bulk=True)


def test_an_outside_reviewer_sees_what_is_granted_and_exports_only_where_that_was_granted_too() -> None:
    granted = [treats("jane", ANNA, Relation.GRANTED)]
    who = caller(person(Role.OUTSIDE_REVIEWER, names=["doe^jane"]), fresh=True, related=granted)
    assert recheck(who, Act.STUDY_READ, [OF_ANNA, OF_BERTA], NOW) == [True, False]
    assert visible(who, Act.STUDY_FIND, NOW)[1] == Has("patient", frozenset({"HOSPITAL\x1fP1"}))
    with pytest.raises(SecondPersonNeeded):
        visible(who, Act.STUDY_EXPORT, NOW)
    with pytest.raises(NotPermitted):
        permitted(who, Act.STUDY_EXPORT, OF_ANNA, NOW)
    word = replace(treats("jane", ANNA, Relation.GRANTED), act=Act.STUDY_EXPORT)
    who = replace(who, related=(*granted, word), approved={Act.STUDY_EXPORT: "r1"})
    assert permitted(who, Act.STUDY_EXPORT, OF_ANNA, NOW) == "cedar:outside-reviewer-exports"
    with pytest.raises(NotPermitted):
        permitted(who, Act.STUDY_EXPORT, OF_BERTA, NOW)


def test_a_vendor_has_only_what_is_approved_and_never_a_study() -> None:
    for act in Act:
        everything = caller(VENDOR, fresh=True, approved=dict.fromkeys(Act, "r1"))
        try:
            if act in evaluation.STUDY_ACTS:
                permitted(everything, act, OF_ANNA, NOW)
            else:
                may(everything, act, NOW)
        except NotPermitted:
            continue
        assert act in (
            Act.ACCESS_REQUEST,
            Act.BACKUP_RUN,
            Act.DEVICE_LIST,
            Act.FLOW_OPEN,
            Act.INDEX_REBUILD,
            Act.POLICY_READ,
        )
        if act is not Act.ACCESS_REQUEST:
            with pytest.raises(SecondPersonNeeded):
                may(caller(VENDOR, fresh=True), act, NOW)


# ---- separation of duties


def decided(by: Caller, kind: ChangeKind, act: str, whose: Person, now_ns: int) -> str:
    """The rule that lets somebody decide about what somebody wants."""
    told = {"requested_by": whose.id, "requester_roles": sorted(whose.roles), "act": act}
    return authorise_person(by, Change("1", by, kind, "matter", told), now_ns)


def test_nobody_approves_their_own_request() -> None:
    officer = caller(OFFICER, fresh=True)
    assert decided(officer, ChangeKind.ACCESS_APPROVE, Act.STUDY_ERASE, ADMINISTRATOR, NOW)
    with pytest.raises(NotPermitted, match="nobody-decides-their-own-matter"):
        decided(officer, ChangeKind.ACCESS_APPROVE, Act.KEY_USE, OFFICER, NOW)
    with pytest.raises(NotPermitted, match="nobody-decides-their-own-matter"):
        decided(officer, ChangeKind.GLASS_REVIEW, "", OFFICER, NOW)
    everything = person(*(Role(each) for each in Role))
    with pytest.raises(NotPermitted):
        decided(caller(everything, fresh=True), ChangeKind.ACCESS_APPROVE, Act.STUDY_ERASE, everything, NOW)


def test_an_approval_reaches_as_far_as_the_approvers_role() -> None:
    engineer = caller(ENGINEER, fresh=True)
    assert decided(engineer, ChangeKind.ACCESS_APPROVE, Act.DEVICE_LIST, VENDOR, NOW)
    with pytest.raises(NotPermitted):
        decided(engineer, ChangeKind.ACCESS_APPROVE, Act.STUDY_ERASE, ADMINISTRATOR, NOW)
    administrator = caller(ADMINISTRATOR, fresh=True)
    assert decided(administrator, ChangeKind.ACCESS_APPROVE, Act.KEY_USE, OFFICER, NOW)
    with pytest.raises(NotPermitted):
        decided(administrator, ChangeKind.ACCESS_APPROVE, Act.STUDY_EXPORT, RADIOLOGIST, NOW)
    with pytest.raises(StepUpNeeded):
        decided(caller(ENGINEER), ChangeKind.ACCESS_APPROVE, Act.DEVICE_LIST, VENDOR, NOW)


def test_who_approved_must_still_hold_the_right_when_it_is_done() -> None:
    assert still_approves(OFFICER, Act.STUDY_ERASE, ADMINISTRATOR, NOW) == "cedar:security-officer-guards"
    assert not still_approves(
        replace(OFFICER, roles=frozenset({Role.RADIOLOGIST})), Act.STUDY_ERASE, ADMINISTRATOR, NOW
    )
    assert not still_approves(replace(OFFICER, enabled=False), Act.STUDY_ERASE, ADMINISTRATOR, NOW)
    assert not still_approves(replace(OFFICER, until_ns=NOW), Act.STUDY_ERASE, ADMINISTRATOR, NOW)
    assert not still_approves(OFFICER, Act.KEY_USE, OFFICER, NOW)


def change(who, kind: ChangeKind, about: str = "x", **arguments: object) -> Change:
    return Change("1", who, kind, about, arguments)


def test_changes_ask_for_their_act() -> None:
    administrator, officer = caller(ADMINISTRATOR, fresh=True), caller(OFFICER, fresh=True)
    assert authorise_person(administrator, change(administrator, ChangeKind.DEVICE_ENROLL), NOW)
    with pytest.raises(NotPermitted):
        authorise_person(officer, change(officer, ChangeKind.DEVICE_ENROLL), NOW)
    with pytest.raises(NotPermitted, match="a command's alone"):
        authorise_person(administrator, change(administrator, ChangeKind.SITE_RESTORE), NOW)
    with pytest.raises(SecondPersonNeeded):
        authorise_person(administrator, change(administrator, ChangeKind.SITE_APPLY), NOW)


def test_every_change_has_its_act_or_is_a_commands_or_ones_own() -> None:
    others = {
        ChangeKind.DEVICE_DECLINE,  # whoever signs for the console
        ChangeKind.DEVICE_LAPSE,  # the keeper's
        ChangeKind.DOOR_RENEW,
        ChangeKind.ERASURE_CLOSE,  # the keeper's, as the next two
        ChangeKind.ERASURE_DESTROY,
        ChangeKind.ERASURE_FINISH,
        ChangeKind.FACTOR_ENROLL,
        ChangeKind.FACTOR_REMOVE,
        ChangeKind.KIT_LAPSE,  # the keeper's
        ChangeKind.LOSS_ACCEPT,  # of a site that does not start
        ChangeKind.PERSON_VOUCH,  # the site's own, on the word of a provider or directory
        ChangeKind.SITE_RESTORE,
    }
    assert set(ACTS) == set(ChangeKind) - others


@pytest.mark.parametrize("spelt", ["olga", "OLGA", " Olga ", "id-of-olga"])
def test_nobody_rules_their_own_account_however_they_spell_it(spelt: str) -> None:
    officer = caller(OFFICER, fresh=True)
    for kind, arguments in (
        (ChangeKind.ROLE_GRANT, {"role": "radiologist"}),
        (ChangeKind.ROLE_REVOKE, {"role": "security-officer"}),
        (ChangeKind.PERSON_RESET, {}),
        (ChangeKind.PERSON_ENABLE, {}),
        (ChangeKind.PERSON_ADD, {"roles": ["radiologist"]}),
    ):
        assert authorise_person(officer, change(officer, kind, "jane", **arguments), NOW)
        with pytest.raises(NotPermitted, match="nobody-rules-their-own-account"):
            authorise_person(officer, change(officer, kind, spelt, **arguments), NOW)


def test_an_administrator_makes_no_watcher() -> None:
    administrator, officer = caller(ADMINISTRATOR, fresh=True), caller(OFFICER, fresh=True)
    for role in Role:
        adding = {"roles": [role]}
        assert authorise_person(officer, change(officer, ChangeKind.PERSON_ADD, "jane", **adding), NOW)
        if role in (Role.SECURITY_OFFICER, Role.AUDITOR, Role.PACS_ADMINISTRATOR, Role.BIOMEDICAL_ENGINEER):
            with pytest.raises(NotPermitted, match="power-is-granted-by-the-security-officer"):
                authorise_person(administrator, change(administrator, ChangeKind.PERSON_ADD, "jane", **adding), NOW)
        else:
            assert authorise_person(administrator, change(administrator, ChangeKind.PERSON_ADD, "jane", **adding), NOW)


def test_a_change_that_does_not_say_whom_it_concerns_is_refused() -> None:
    officer = caller(OFFICER, fresh=True)
    known = {"requested_by": ADMINISTRATOR.id, "requester_roles": ["pacs-administrator"], "act": "study-erase"}
    assert authorise_person(officer, change(officer, ChangeKind.ACCESS_APPROVE, **known), NOW)
    for lacking in known:
        rest = {name: value for name, value in known.items() if name != lacking}
        with pytest.raises(NotPermitted, match="does not say whom it concerns"):
            authorise_person(officer, change(officer, ChangeKind.ACCESS_APPROVE, **rest), NOW)
    for wrong in ("pacs-administrator", ["emperor"], 7):
        with pytest.raises(NotPermitted, match="does not say whom it concerns"):
            authorise_person(
                officer, change(officer, ChangeKind.ACCESS_APPROVE, **{**known, "requester_roles": wrong}), NOW
            )
    with pytest.raises(NotPermitted):
        authorise_person(officer, change(officer, ChangeKind.GLASS_REVIEW), NOW)


def test_a_request_is_withdrawn_by_who_made_it_and_by_who_could_approve_it() -> None:
    told = {"requested_by": VENDOR.id, "requester_roles": ["vendor"], "act": "device-list"}
    vendor, engineer, radiologist = caller(VENDOR), caller(ENGINEER, fresh=True), caller(RADIOLOGIST, fresh=True)
    assert authorise_person(vendor, change(vendor, ChangeKind.ACCESS_CANCEL, **told), NOW)
    assert authorise_person(engineer, change(engineer, ChangeKind.ACCESS_CANCEL, **told), NOW)
    with pytest.raises(NotPermitted):
        authorise_person(radiologist, change(radiologist, ChangeKind.ACCESS_CANCEL, **told), NOW)


# ---- roles that do not go together


def test_roles_that_do_not_go_together() -> None:
    for alone in (Role.SECURITY_OFFICER, Role.AUDITOR, Role.VENDOR, Role.SERVICE_ACCOUNT):
        assert not incompatible(frozenset({alone}))
        for other in set(Role) - {alone}:
            clash = incompatible(frozenset({alone, other}))
            assert alone in clash and other in clash
    assert not incompatible(frozenset({Role.RADIOLOGIST, Role.PACS_ADMINISTRATOR}))
    assert not incompatible(frozenset())


@pytest.mark.parametrize("other", list(Role))
def test_even_where_they_came_together_separation_wins(other: Role) -> None:
    every = OfStudy(frozenset(Relation))
    for act in (Act.STUDY_FIND, Act.STUDY_READ, Act.STUDY_EXPORT, Act.STUDY_ERASE):
        facts = Facts(frozenset({Role.SECURITY_OFFICER, other}), stepped_up=True, approved=True)
        if act is not Act.STUDY_ERASE:
            assert not ask(act, facts, every).allowed
        for none in (Role.AUDITOR, Role.VENDOR):
            assert not ask(act, replace(facts, roles=frozenset({none, other})), every).allowed


# ---- Cedar's traps

SCHEMA = """
entity Person { roles: Set<String> }; entity Study { relations: Set<String>, modalities: Set<String> }; entity Site;
type Facts = { stepped_up: Bool, approved: Bool, bulk: Bool };
action "study-read" appliesTo { principal: Person, resource: Study, context: Facts };
"""


def test_a_forbid_that_fails_opens_nothing() -> None:
    """Cedar leaves out a policy that errors and allows by the others: 9223372036854775807 + 1 overflows only when it is evaluated."""
    broken = """
    @id("reads") permit(principal, action, resource);
    @id("never") forbid(principal, action, resource) when { 9223372036854775807 + 1 > 0 };
    """
    import cedarpy

    policies = Policies.parse(SCHEMA, broken)
    entities = '[{"uid":{"type":"Person","id":"a"},"attrs":{"roles":[]},"parents":[]},'
    entities += '{"uid":{"type":"Study","id":"s"},"attrs":{"relations":[],"modalities":[]},"parents":[]}]'
    request = {
        "principal": 'Person::"a"',
        "action": 'Action::"study-read"',
        "resource": 'Study::"s"',
        "context": {"stepped_up": False, "approved": False, "bulk": False},
    }
    trap = cedarpy.is_authorized(request, policies.policies, entities, policies.schema)
    assert trap.allowed and trap.diagnostics.errors, "the trap is there: Cedar itself would let them in"
    with pytest.raises(PolicyFault, match="a policy failed"):
        policies.ask(Act.STUDY_READ, Facts(frozenset({Role.VENDOR})), OfStudy())


def test_a_question_that_does_not_fit_the_schema_is_no_answer() -> None:
    with pytest.raises(PolicyFault):
        ask(Act.AUDIT_READ, Facts(frozenset({Role.AUDITOR})), OfStudy())
    with pytest.raises(PolicyFault):
        ask(Act.STUDY_READ, Facts(frozenset({Role.RADIOLOGIST})), OfMatter("x", False))


@pytest.mark.parametrize(
    "policy", ["permit(principal, action, resource) when { resource.relatons.isEmpty() };", "permit("]
)
def test_policies_that_do_not_fit_their_schema_are_not_taken(policy: str) -> None:
    with pytest.raises(PolicyFault):
        Policies.parse(SCHEMA, policy)


def test_a_window_on_named_devices_shows_these_alone() -> None:
    vendor = person(Role.VENDOR)
    named = caller(vendor, approved={Act.DEVICE_LIST: "r1"}, within={Act.DEVICE_LIST: frozenset({"CT1"})})
    assert decide_person(named, Inquiry(named, Act.DEVICE_LIST), 7, NOW).devices == {"CT1"}
    assert decide_person(named, Inquiry(named, Act.DEVICE_LIST, "CT1"), 7, NOW).devices == {"CT1"}
    with pytest.raises(NotPermitted, match="CT1 alone"):
        decide_person(named, Inquiry(named, Act.DEVICE_LIST, "CT2"), 7, NOW)
    everywhere = caller(vendor, approved={Act.DEVICE_LIST: "r1"})
    assert decide_person(everywhere, Inquiry(everywhere, Act.DEVICE_LIST), 7, NOW).devices is None
    engineer = replace(named, person=person(Role.BIOMEDICAL_ENGINEER))
    assert decide_person(engineer, Inquiry(engineer, Act.DEVICE_LIST, "CT2"), 7, NOW).devices is None, "theirs anyway"


def test_whoever_may_order_or_approve_an_erasure_undoes_it_and_nobody_else() -> None:
    for role in Role:
        who = caller(person(role))
        undo = change(who, ChangeKind.ERASURE_UNDO, "e1")
        if role in (Role.PACS_ADMINISTRATOR, Role.SECURITY_OFFICER):
            assert authorise_person(who, undo, NOW)
            with pytest.raises(NotPermitted, match="disabled"):
                gone = caller(person(role, enabled=False))
                authorise_person(gone, change(gone, ChangeKind.ERASURE_UNDO, "e1"), NOW)
        else:
            with pytest.raises(NotPermitted):
                authorise_person(who, undo, NOW)


def test_an_erasure_is_ordered_as_exactly_what_was_approved() -> None:
    told = {"issuer": "", "patient_id": "P1", "studies": ["1.2"]}
    fresh = caller(ADMINISTRATOR, fresh=True, approved={Act.STUDY_ERASE: "r1"})
    order = change(fresh, ChangeKind.STUDY_ERASE, "e1", **told)
    who = replace(fresh, exactly=frozenset({order.digest}))
    assert authorise_person(who, order, NOW) == "cedar:pacs-administrator-erases"
    with pytest.raises(StepUpNeeded):
        authorise_person(replace(who, stepped_up_ns=0), order, NOW)
    for about, changed in (("e2", {}), ("e1", {"studies": ["1.3"]}), ("e1", {"patient_id": "P2"})):
        with pytest.raises(SecondPersonNeeded, match="and not this"):
            authorise_person(who, change(who, ChangeKind.STUDY_ERASE, about, **{**told, **changed}), NOW)
    officer = replace(who, person=OFFICER)
    with pytest.raises(NotPermitted):
        authorise_person(officer, change(officer, ChangeKind.STUDY_ERASE, "e1", **told), NOW)
