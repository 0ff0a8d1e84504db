"""What somebody is to a study, and which imports are taken: all of one, or none of it, with the line that is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from leadglass.policy.relationships import ERRORS_TOLD_MAX, TOLD, Ties, parse_relations
from leadglass.terms import Act, AnyOf, Dossier, Has, Malformed, PatientIdentity, Related, Relation, Role
from tests.policy.callers import NOW, SECOND, caller, person

ANNA, BERTA = PatientIdentity("P1", "HOSPITAL"), PatientIdentity("P1", "ELSEWHERE")
STUDY = Dossier("1.1", ANNA, frozenset({"radiology"}), frozenset({"doe^jane", "山田"}))
HEADING = "person,relation,patient_id,issuer,study,until,source\n"


def to(*related: Related, study: Dossier = STUDY, now_ns: int = NOW, **who: list[str]) -> set[Relation]:
    return set(Ties.of(caller(person(Role.RADIOLOGIST, **who), related=related), Act.STUDY_READ).to(study, now_ns))


def test_of_the_patient_with_that_issuer_only() -> None:
    assert to(Related("jane", Relation.CARE_TEAM, ANNA)) == {Relation.CARE_TEAM}
    assert to(Related("jane", Relation.CARE_TEAM, BERTA)) == set()
    assert to(Related("jane", Relation.CARE_TEAM, PatientIdentity("P1"))) == set()


def test_of_one_study() -> None:
    assert to(Related("jane", Relation.ORDERED, None, "1.1")) == {Relation.ORDERED}
    assert to(Related("jane", Relation.ORDERED, None, "1.2")) == set()
    assert to(Related("jane", Relation.ORDERED, ANNA, "1.1")) == {Relation.ORDERED}
    assert to(Related("jane", Relation.ORDERED, ANNA, "1.2")) == set(), "of that study, not of the patient's others"
    assert to(Related("jane", Relation.ORDERED, BERTA, "1.1")) == set(), "the study is another patient's"


def test_nobody_is_related_to_nobody() -> None:
    unnamed = Dossier("1.1", PatientIdentity(""))
    assert to(Related("jane", Relation.CARE_TEAM, PatientIdentity("")), study=unnamed) == set()
    assert to(Related("jane", Relation.CARE_TEAM, None), study=unnamed) == set()
    assert to(study=unnamed, departments=["", " "], names=["", "^^"]) == set()


@pytest.mark.parametrize(("from_ns", "until_ns", "there"), [
    (0, 0, True), (NOW, 0, True), (NOW + 1, 0, False), (0, NOW, False), (0, NOW + 1, True), (NOW, NOW, False),
])  # fmt: skip
def test_windows_are_half_open(from_ns: int, until_ns: int, there: bool) -> None:
    row = Related("jane", Relation.GRANTED, ANNA, "", from_ns, until_ns)
    assert to(row) == ({Relation.GRANTED} if there else set())
    ties = Ties.of(caller(person(Role.RADIOLOGIST), related=[row]), Act.STUDY_READ)
    assert ties.studies_of({Relation.GRANTED}, NOW) == AnyOf(
        (Has("patient", frozenset({"HOSPITAL\x1fP1"})),) if there else ()
    )


def test_what_the_study_says_itself_is_compared_folded() -> None:
    assert to(departments=["RADIOLOGY "]) == {Relation.DEPARTMENT}
    assert to(departments=["Radio"]) == set()
    assert to(names=["DOE^JANE^^"]) == {Relation.CLINICIAN}
    assert to(names=["山田"]) == {Relation.CLINICIAN}
    assert to(names=["DOE"]) == set(), "a family name is nobody's alone"
    assert to(names=["Doe^Jane"], departments=["radiology"], study=replace(STUDY, clinicians=frozenset())) == {
        Relation.DEPARTMENT
    }


# ---- imports


def parsed(text: str) -> tuple[Related, ...]:
    return parse_relations(text, source="file", now_ns=NOW)


def test_csv_and_json_say_the_same() -> None:
    rows = [
        {"person": "jane", "relation": "care-team", "patient_id": "P1", "issuer": "HOSPITAL", "until": "2031-05-01"},
        {"person": "joe", "relation": "ordered", "study": "1.2.3", "source": "ris"},
    ]
    lines = [",".join(row.get(name, "") for name in HEADING.strip().split(",")) for row in rows]
    found = parsed(HEADING + "\r\n".join(lines))
    assert found == parsed(json.dumps(rows)) == parsed("\ufeff" + HEADING + "\n".join(["", *lines, ",,,,,,"]))
    anna, study = found
    assert (anna.patient, anna.relation, anna.source) == (ANNA, Relation.CARE_TEAM, "file")
    assert anna.until_ns == 1_935_446_400 * SECOND, "the day counts whole: 2031-05-02 0:00 UTC"
    assert (study.patient, study.study_instance_uid, study.until_ns, study.source) == (None, "1.2.3", 0, "ris")


def test_columns_come_in_any_order_and_only_some_are_needed() -> None:
    assert parsed('study,person,relation\n1.2,"jane",scheduled\n')[0].relation is Relation.SCHEDULED


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("jane,care-team,P1,,,yesterday,", "until 'yesterday' is no date"),
        ("jane,care-team,P1,,,2020-01-01,", "is over already"),
        ("jane,care-team,P1,,,2031-01-01T10:00,", "no offset from UTC"),
        ("jane,care-team,P1,,,9999-12-31,", "is no date"),
        ("jane,friend,P1,,,,", "'friend' is no relation that can be imported"),
        ("jane,,P1,,,,", "'' is no relation"),
        (",care-team,P1,,,,", "names no person"),
        ("jane,care-team,,HOSPITAL,,,", "neither a patient_id nor a study"),
        ("jane,care-team,,,1.2.x,,", "is no Study Instance UID"),
        ("jane,care-team,,,1" + ".1" * 40 + ",,", "is no Study Instance UID"),
        ("jane,care-team," + "P" * 300 + ",,,,", "patient_id is longer"),
        ("jane,care-team,P\x1f1,,,,", "control character"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_nothing_is_taken(row: str, complaint: str) -> None:
    good = "jane,care-team,P1,HOSPITAL,,,\n"
    with pytest.raises(Malformed, match="nothing was imported") as refused:
        parsed(HEADING + good + row + "\n" + good)
    assert "line 3: " in refused.value.reason and complaint in refused.value.reason


@pytest.mark.parametrize("relation", sorted(set(Relation) - TOLD))
def test_nobody_imports_a_broken_glass_or_what_a_study_says_itself(relation: Relation) -> None:
    with pytest.raises(Malformed, match="no relation that can be imported"):
        parsed(HEADING + f"jane,{relation},P1,,,,\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "person,patient_id\njane,P1\n",
        "person,relation,mrn\njane,ordered,P1\n",
        HEADING + "jane,ordered,P1,,,,,too many\n",
        HEADING + 'jane,"ordered,P1\n',
        "[{]",
        '{"person": "jane"}',
        '[["jane"]]',
        '[{"person": "jane", "relation": "ordered", "study": 7}]',
        "[" * 100_000,
    ],
)
def test_what_is_no_import_at_all(text: str) -> None:
    with pytest.raises(Malformed, match="nothing was imported"):
        parsed(text)


def test_not_every_mistake_of_a_bad_file_is_told() -> None:
    with pytest.raises(Malformed) as refused:
        parsed(HEADING + "jane,friend,P1,,,,\n" * 100)
    assert refused.value.reason.count("line ") == ERRORS_TOLD_MAX
