"""What becomes of an instance: current, a rendition, or held, and for which reasons? Pure: what is known comes as arguments."""

from __future__ import annotations

from collections.abc import Callable

from leadglass.terms import HoldReason, Inspected, PatientIdentity, Standing, StudyFacts


def strictly_same(ours: PatientIdentity, theirs: PatientIdentity) -> bool:
    """Patient ID with its issuer (PS3.3 C.7.1.1), both without surrounding spaces. Two that are absent are the same."""
    return _plain(ours) == _plain(theirs)


def judge(
    inspected: Inspected,
    facts: StudyFacts,
    *,
    rendition: bool = False,
    same_patient: Callable[[PatientIdentity, PatientIdentity], bool] = strictly_same,
) -> tuple[Standing, frozenset[HoldReason]]:
    """`facts` never hold this very digest: that was answered before. `rendition`: proven to be the current one in another transfer syntax.

    `same_patient` is where aliases and merges come in.
    """
    holds = set(inspected.findings)
    if facts.patient is not None and not same_patient(inspected.instance.patient, facts.patient):
        holds.add(HoldReason.OTHER_PATIENT)
    if facts.current_digest is not None and not rendition:
        holds.add(HoldReason.CONFLICT)
    if holds:
        return Standing.HELD, frozenset(holds)
    return (Standing.RENDITION if rendition else Standing.CURRENT), frozenset()


def _plain(patient: PatientIdentity) -> tuple[str, str]:
    return patient.patient_id.strip(" \0"), patient.issuer.strip(" \0")
