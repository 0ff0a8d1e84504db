"""How much leaves in a day: one person alone, two together, everybody; and an approval is of the studies that it names, for what it was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from leadglass.policy.exports import judge, not_in_bulk, over_budget, well_said
from leadglass.policy.people import decide_person, permitted, rechecker, visible
from leadglass.site.exports import DAY_NS, Exports, Spent
from leadglass.site.model import Limits
from leadglass.site.register import Register
from leadglass.terms import (
    Act,
    Contained,
    Containment,
    Dossier,
    Export,
    NotPermitted,
    Overloaded,
    PatientIdentity,
    Purpose,
    Related,
    Relation,
    Role,
    SecondPersonNeeded,
    StepUpNeeded,
)
from tests.policy.callers import NOW, SECOND, caller, person

LIMITS = replace(Limits(), exported_patients_per_day_max=2, exported_patients_of_all_per_day_max=3)
ANNA, BERTA, CARLA = (PatientIdentity(f"P{number}", "HOSPITAL") for number in (1, 2, 3))
RADIOLOGIST, REVIEWER = person(Role.RADIOLOGIST), person(Role.OUTSIDE_REVIEWER)


def study(patient: PatientIdentity) -> Dossier:
    return Dossier(f"1.{patient.patient_id[1:]}", patient)


def treats(*patients: PatientIdentity) -> list[Related]:
    return [Related(RADIOLOGIST.id, Relation.CARE_TEAM, each) for each in patients]


def granted(who, act: Act, patient: PatientIdentity) -> Related:  # type: ignore[no-untyped-def]
    return Related(who.id, Relation.GRANTED, patient, source="request:r", act=act)


def export(who, patient: PatientIdentity = ANNA, *together: PatientIdentity, id_: str = "e1") -> Export:  # type: ignore[no-untyped-def]
    everybody = frozenset({patient, *together})
    return Export(who, id_, study(patient).study_instance_uid, patient, everybody, Purpose.TREATMENT, "St. Elsewhere")


# ---- who may


def test_one_patients_study_with_a_fresh_passkey() -> None:
    who = caller(RADIOLOGIST, fresh=True, related=treats(ANNA))
    permit = decide_person(who, export(who), 7, NOW)
    assert permit.rule == "cedar:radiologist-sees" and not permit.bulk
    again = rechecker(permit, lambda: NOW)
    assert again is not None and again([study(ANNA), study(BERTA)]) == [True, False]
    with pytest.raises(StepUpNeeded):
        decide_person(replace(who, stepped_up_ns=0), export(who), 7, NOW)


def test_what_was_begun_with_a_fresh_passkey_goes_on() -> None:
    clock = [NOW]
    who = caller(RADIOLOGIST, fresh=True, related=treats(ANNA))
    again = rechecker(decide_person(who, export(who), 7, NOW), lambda: clock[0])
    assert again is not None and again([study(ANNA)]) == [True]
    clock[0] += 3600 * SECOND
    assert again([study(ANNA)]) == [True], "a long download outlasts the passkey"


def test_bulk_is_of_the_patients_that_somebody_approved() -> None:
    alone = caller(RADIOLOGIST, fresh=True, related=treats(ANNA, BERTA, CARLA))
    with pytest.raises(SecondPersonNeeded):
        decide_person(alone, export(alone, ANNA, BERTA), 7, NOW)
    word = [granted(RADIOLOGIST, Act.STUDY_EXPORT, each) for each in (ANNA, BERTA)]
    who = replace(alone, related=(*alone.related, *word), approved={Act.STUDY_EXPORT: "r"})
    permit = decide_person(who, export(who, ANNA, BERTA), 7, NOW)
    again = rechecker(permit, lambda: NOW)
    assert permit.bulk and again is not None
    assert again([study(ANNA), study(BERTA), study(CARLA)]) == [True, True, False], (
        "CARLA is theirs, and was not approved"
    )
    single = rechecker(decide_person(who, export(who, CARLA), 7, NOW), lambda: NOW)
    assert single is not None and single([study(CARLA)]) == [True]


def test_whoever_exported_enough_alone_is_asked_for_another() -> None:
    who = caller(RADIOLOGIST, fresh=True, related=treats(ANNA))
    with pytest.raises(SecondPersonNeeded):
        decide_person(who, export(who), 7, NOW, over_budget=True)


def test_a_grant_to_look_is_no_grant_to_export() -> None:
    rows = [granted(REVIEWER, Act.STUDY_READ, ANNA), granted(REVIEWER, Act.STUDY_EXPORT, BERTA)]
    who = caller(REVIEWER, fresh=True, related=rows, approved={Act.STUDY_READ: "r1", Act.STUDY_EXPORT: "r2"})
    for each in (ANNA, BERTA):
        assert permitted(who, Act.STUDY_READ, study(each), NOW), "whoever takes it out has seen it"
    assert permitted(who, Act.STUDY_EXPORT, study(BERTA), NOW) == "cedar:outside-reviewer-exports"
    with pytest.raises(NotPermitted):
        permitted(who, Act.STUDY_EXPORT, study(ANNA), NOW)
    _, rule = visible(who, Act.STUDY_EXPORT, NOW)
    assert "P1" not in str(rule) and "P2" in str(rule)
    again = rechecker(decide_person(who, export(who, ANNA), 7, NOW), lambda: NOW)
    assert again is not None and again([study(ANNA), study(BERTA)]) == [False, True]
    remote = caller(RADIOLOGIST, fresh=True, related=[granted(RADIOLOGIST, Act.STUDY_READ, ANNA)])
    with pytest.raises(NotPermitted):
        permitted(remote, Act.STUDY_EXPORT, study(ANNA), NOW)


# ---- how much


def test_the_days_budget() -> None:
    who = caller(RADIOLOGIST, fresh=True)
    assert not over_budget(LIMITS, Spent(1, 9)) and over_budget(LIMITS, Spent(2, 0))
    judge(export(who), LIMITS, Spent(1, 2), bulk=False)
    judge(export(who), LIMITS, Spent(7, 2), bulk=True)
    with pytest.raises(SecondPersonNeeded, match="2 patients within 24 hours"):
        judge(export(who), LIMITS, Spent(2, 2), bulk=False)
    for bulk in (False, True):
        with pytest.raises(Overloaded, match="exported_patients_of_all_per_day_max"):
            judge(export(who), LIMITS, Spent(0, 3), bulk=bulk)


def test_it_says_who_is_to_get_it() -> None:
    who = caller(RADIOLOGIST, fresh=True)
    well_said(export(who))
    for recipient in ("", "x", "y" * 201):
        with pytest.raises(NotPermitted, match="who is to get it"):
            well_said(replace(export(who), recipient=recipient))


def test_nothing_in_bulk_while_read_only() -> None:
    not_in_bulk(Containment(), bulk=True)
    not_in_bulk(Containment(read_only="ransomware"), bulk=False)
    with pytest.raises(Contained, match="ransomware"):
        not_in_bulk(Containment(read_only="ransomware"), bulk=True)


# ---- what is counted


@pytest.fixture
def exports(tmp_path: Path) -> Exports:
    return Exports(Register.open(tmp_path / "register.db", bytes(32)))


def spend(exports: Exports, each: Export, now_ns: int = NOW) -> None:
    exports.spend(each, now_ns, lambda spent: judge(each, LIMITS, spent, bulk=False))


def test_a_patient_counts_once_a_day_and_for_whoever_takes_them(exports: Exports) -> None:
    jane, olga = caller(RADIOLOGIST, fresh=True), caller(person(Role.RADIOLOGIST, name="olga"), fresh=True)
    for id_, patient in (("e1", ANNA), ("e2", ANNA), ("e3", BERTA)):
        spend(exports, export(jane, patient, id_=id_))
    assert exports.spent(export(jane, CARLA), NOW) == Spent(2, 2) and exports.spent(export(jane, ANNA), NOW) == Spent(
        1, 1
    )
    assert exports.spent(export(olga, CARLA), NOW) == Spent(0, 2)
    with pytest.raises(SecondPersonNeeded):
        spend(exports, export(jane, CARLA, id_="e4"))
    assert len(exports.latest(10)) == 3, "what is refused is not written"
    spend(exports, export(jane, BERTA, id_="e5"))
    spend(exports, export(jane, CARLA, id_="e6"), NOW + DAY_NS)
    assert [each.id for each in exports.latest(2, RADIOLOGIST.id)] == ["e6", "e1"]
    assert exports.latest(10, olga.person.id) == []


def test_the_same_id_of_another_hospital_is_another_patient(exports: Exports) -> None:
    jane = caller(RADIOLOGIST, fresh=True)
    spend(exports, export(jane, ANNA))
    elsewhere = replace(export(jane, id_="e2"), patient=PatientIdentity("P1", "ELSEWHERE"))
    assert exports.spent(elsewhere, NOW) == Spent(1, 1)
