from __future__ import annotations

import pytest

from leadglass.policy.standing import judge
from leadglass.terms import HoldReason, Inspected, Instance, PatientIdentity, Standing, StudyFacts
from tests.archive.place import CT, EXPLICIT

FREE = StudyFacts(None, None, None)


def inspected(patient: PatientIdentity, findings: frozenset[HoldReason] = frozenset()) -> Inspected:
    instance = Instance("1.2.3", CT, EXPLICIT, "1.2", "1.2.1", patient, {})
    return Inspected(None, None, instance, 0, findings)  # type: ignore[arg-type]


def test_the_first_of_its_uid_and_study_is_current() -> None:
    assert judge(inspected(PatientIdentity("P1")), FREE) == (Standing.CURRENT, frozenset())


@pytest.mark.parametrize(
    ("known", "sent", "same"),
    [
        (PatientIdentity("P1", "H"), PatientIdentity("P1", "H"), True),
        (PatientIdentity("P1 ", "H"), PatientIdentity(" P1", "H "), True),
        (PatientIdentity("P1", "H"), PatientIdentity("P2", "H"), False),
        (PatientIdentity("P1", "H"), PatientIdentity("P1", "G"), False),
        (PatientIdentity("P1", "H"), PatientIdentity("P1", ""), False),
        (PatientIdentity("P1"), PatientIdentity("p1"), False),
        (PatientIdentity(""), PatientIdentity(""), True),
        (PatientIdentity("P1"), PatientIdentity(""), False),
    ],
)
def test_a_study_has_one_patient(known: PatientIdentity, sent: PatientIdentity, same: bool) -> None:
    standing, holds = judge(inspected(sent), StudyFacts(known, None, None))
    assert (standing is Standing.CURRENT) is same
    assert holds == (frozenset() if same else frozenset({HoldReason.OTHER_PATIENT}))


def test_aliases_come_as_an_argument() -> None:
    facts = StudyFacts(PatientIdentity("P1"), None, None)
    standing, _ = judge(inspected(PatientIdentity("OLD-P1")), facts, same_patient=lambda ours, theirs: True)
    assert standing is Standing.CURRENT


def test_reasons_add_up() -> None:
    facts = StudyFacts(PatientIdentity("P2"), b"d", EXPLICIT)
    sent = inspected(PatientIdentity("P1"), frozenset({HoldReason.HARMFUL}))
    assert judge(sent, facts) == (Standing.HELD, frozenset(HoldReason))
    assert judge(sent, facts, rendition=True)[1] == frozenset({HoldReason.HARMFUL, HoldReason.OTHER_PATIENT})


def test_a_proven_rendition_is_one() -> None:
    facts = StudyFacts(PatientIdentity("P1"), b"d", EXPLICIT)
    assert judge(inspected(PatientIdentity("P1")), facts, rendition=True) == (Standing.RENDITION, frozenset())
