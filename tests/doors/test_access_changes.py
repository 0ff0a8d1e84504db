"""Rights for a time: broken glass, requests and approvals, leases; nobody decides about their own, and what was approved ends when it should."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from leadglass.audit import events
from leadglass.doors.command.access_changes import ACCESS_KINDS
from leadglass.doors.command.enrolling import ENROLMENT_KINDS
from leadglass.doors.command.erasure_changes import ERASURE_KINDS
from leadglass.doors.command.kit_changes import KIT_KINDS
from leadglass.doors.command.people_changes import PeopleParts
from leadglass.policy.authorise import AT_THE_CONSOLE
from leadglass.policy.people import authorise_person
from leadglass.policy.separation import ALONE_WAITS_SECONDS, GLASS_SECONDS, window_max_seconds
from leadglass.site.access import AccessRequest
from leadglass.terms import (
    Act,
    Caller,
    Change,
    ChangeKind,
    ChangePermit,
    NotChanged,
    NotPermitted,
    PatientIdentity,
    Relation,
    Role,
)
from tests.identity.people.place import Place

PATIENT = {"patient_id": "SYN-1", "issuer": "HOSPITAL"}
REASON = "brought in unconscious, no referral yet"


@dataclass
class Hospital:
    """People who are signed in with a passkey just now, and changes that policy allows before they are done."""

    place: Place

    def __post_init__(self) -> None:
        self.bumped: list[str] = []
        self.parts = PeopleParts(
            self.place.people,
            self.place.desk,
            lambda: "https://pacs.hospital.example",
            lambda change: self.bumped.append(change.id),
            self.place.clock,
        )

    def person(self, name: str, *roles: Role) -> Caller:
        device = self.place.passkey(self.place.person(name, *roles))
        _, caller = self.place.signed_in(device)
        fresh = self.place.desk.recognise(caller.peer, self.place.claim(device, "step-up", caller.session))
        assert fresh.stepped_up_ns
        return fresh

    def change(self, caller: Caller, kind: ChangeKind, about: str, **arguments: Any) -> dict[str, Any]:
        change = Change(secrets.token_hex(16), caller, kind, about, arguments)
        authorise_person(caller, change, self.place.clock())
        return dict(ACCESS_KINDS[kind](self.parts, change, arguments))

    def again(self, caller: Caller) -> Caller:
        """As at their next request."""
        return self.place.desk.as_if_here(caller.person, caller.peer)

    def decide(self, caller: Caller, request: str, *, approve: bool = True, **wrong: Any) -> dict[str, Any]:
        found = self.found(request)
        asks = self.place.people.get(found.person)
        assert asks is not None
        told: dict[str, Any] = {
            "requested_by": asks.id, "requester_roles": sorted(asks.roles), "act": found.act, "digest": found.digest, "approve": approve,
        }  # fmt: skip
        return self.change(caller, ChangeKind.ACCESS_APPROVE, request, **{**told, **wrong})

    def found(self, request: str) -> AccessRequest:
        found = self.place.people.access.request(request)
        assert found is not None
        return found

    def review(self, caller: Caller, glass: str, by: Caller, **said: Any) -> dict[str, Any]:
        told = {"requested_by": by.person.id, "requester_roles": sorted(by.person.roles), **said}
        return self.change(caller, ChangeKind.GLASS_REVIEW, glass, **told)


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    place = Place.at(tmp_path)
    yield Hospital(place)
    place.register.close()


def test_glass_is_broken_for_one_patient_and_an_hour(hospital: Hospital) -> None:
    reader = hospital.person("reader", Role.RADIOLOGIST)
    broken = hospital.change(reader, ChangeKind.GLASS_BREAK, "glass", reason=REASON, **PATIENT)
    (related,) = hospital.again(reader).related
    assert related.relation is Relation.GLASS and related.patient == PatientIdentity("SYN-1", "HOSPITAL")
    assert hospital.bumped == [broken["glass"]]
    hospital.place.clock.wait(GLASS_SECONDS)
    assert hospital.again(reader).related == ()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"situation": "emergency"}, "emergency"),
        ({"situation": "on-call", "reason": "for Dr. Roe"}, "on call: for Dr. Roe"),
        ({"situation": "other", "reason": REASON}, REASON),
    ],
)
def test_a_situation_is_reason_enough(hospital: Hospital, said: dict[str, str], kept: str) -> None:
    hospital.change(hospital.person("reader", Role.RADIOLOGIST), ChangeKind.GLASS_BREAK, "glass", **said, **PATIENT)
    (glass,) = hospital.place.people.access.glass(unreviewed=True)
    assert glass.reason == kept


@pytest.mark.parametrize(
    "wrong",
    [
        {"situation": "other", "reason": ""},
        {"situation": "curiosity"},
        {"reason": "why not"},
        {"patient_id": ""},
        {"reason": " " * 40},
    ],
)
def test_glass_needs_a_patient_and_a_reason(hospital: Hospital, wrong: dict[str, str]) -> None:
    reader = hospital.person("reader", Role.RADIOLOGIST)
    with pytest.raises(NotChanged):
        hospital.change(reader, ChangeKind.GLASS_BREAK, "glass", **{"reason": REASON, **PATIENT, **wrong})


@pytest.mark.parametrize("role", [Role.SECURITY_OFFICER, Role.PACS_ADMINISTRATOR, Role.VENDOR, Role.AUDITOR])
def test_only_those_who_treat_break_glass(hospital: Hospital, role: Role) -> None:
    with pytest.raises(NotPermitted):
        hospital.change(hospital.person("other", role), ChangeKind.GLASS_BREAK, "glass", reason=REASON, **PATIENT)


def test_broken_glass_is_reviewed_by_somebody_else_and_once(hospital: Hospital) -> None:
    reader, officer = hospital.person("reader", Role.RADIOLOGIST), hospital.person("officer", Role.SECURITY_OFFICER)
    glass = hospital.change(reader, ChangeKind.GLASS_BREAK, "glass", reason=REASON, **PATIENT)["glass"]
    assert [each.id for each in hospital.place.people.access.glass(unreviewed=True)] == [glass]
    with pytest.raises(NotPermitted):
        hospital.review(reader, glass, reader, verdict="justified")
    with pytest.raises(NotChanged, match="note"):
        hospital.review(officer, glass, reader, verdict="not-justified")
    with pytest.raises(NotChanged, match="whose matter"):
        hospital.review(officer, glass, hospital.person("else", Role.RADIOLOGIST), verdict="justified")
    hospital.review(officer, glass, reader, verdict="justified")
    assert hospital.place.people.access.glass(unreviewed=True) == []
    with pytest.raises(NotChanged):
        hospital.review(officer, glass, reader, verdict="unclear", note="looked at it again")


def asked(hospital: Hospital, caller: Caller, act: Act = Act.DEVICE_LIST, **facts: Any) -> str:
    told: dict[str, Any] = {"matter": "CT1", "seconds": 3600, "reason": "the gantry reports an error", **facts}
    return str(hospital.change(caller, ChangeKind.ACCESS_REQUEST, act, **told)["request"])


def test_a_vendor_has_what_somebody_else_approved_for_its_window(hospital: Hospital) -> None:
    vendor = hospital.person("vendor", Role.VENDOR)
    officer, _ = hospital.person("officer", Role.SECURITY_OFFICER), hospital.person("second", Role.SECURITY_OFFICER)
    assert hospital.again(vendor).approved == {}
    request = asked(hospital, vendor)
    with pytest.raises(NotPermitted):
        hospital.decide(vendor, request)
    assert hospital.decide(officer, request)["waits"] is False
    assert hospital.again(vendor).approved == {Act.DEVICE_LIST: request}
    with pytest.raises(NotChanged):
        hospital.decide(officer, request)  # decided
    hospital.place.clock.wait(3600)
    assert hospital.again(vendor).approved == {}


def test_a_window_is_shut_at_once_by_cancelling_or_when_its_approver_loses_the_right(hospital: Hospital) -> None:
    vendor = hospital.person("vendor", Role.VENDOR)
    officer, second = (
        hospital.person("officer", Role.SECURITY_OFFICER),
        hospital.person("second", Role.SECURITY_OFFICER),
    )
    first = asked(hospital, vendor)
    hospital.decide(officer, first)
    facts = {"requested_by": vendor.person.id, "requester_roles": sorted(vendor.person.roles)}
    hospital.change(second, ChangeKind.ACCESS_CANCEL, first, act=Act.DEVICE_LIST, **facts)
    assert hospital.again(vendor).approved == {}
    other = asked(hospital, vendor)
    hospital.decide(officer, other)
    hospital.place.people.disable(officer.person.id, "left", hospital.place.clock())
    assert hospital.again(vendor).approved == {}


def test_an_approver_alone_waits_a_day_and_it_can_be_cancelled_meanwhile(hospital: Hospital) -> None:
    vendor, officer = hospital.person("vendor", Role.VENDOR), hospital.person("officer", Role.SECURITY_OFFICER)
    request = asked(hospital, vendor)
    assert hospital.decide(officer, request)["waits"] is True
    assert hospital.again(vendor).approved == {}
    hospital.place.clock.wait(ALONE_WAITS_SECONDS)
    assert hospital.again(vendor).approved == {Act.DEVICE_LIST: request}
    hospital.place.clock.wait(3600)
    assert hospital.again(vendor).approved == {}


def test_what_somebody_writes_of_a_request_stays_out_of_the_event(hospital: Hospital) -> None:
    vendor = hospital.person("vendor", Role.VENDOR)
    told = {"matter": "films of Synthetic^Patient", "reason": "Synthetic^Patient is here now", "seconds": 60}
    change = Change("1", vendor, ChangeKind.ACCESS_REQUEST, Act.DEVICE_LIST, told)
    event = events.change_intended(change, ChangePermit(vendor, "cedar:vendor-asks", 1))
    assert "Synthetic" not in repr(event)


def test_what_is_approved_is_exactly_what_was_shown(hospital: Hospital) -> None:
    vendor, officer = hospital.person("vendor", Role.VENDOR), hospital.person("officer", Role.SECURITY_OFFICER)
    request = asked(hospital, vendor)
    for wrong in ({"digest": "0" * 64}, {"requester_roles": ["radiologist"]}, {"requested_by": officer.person.id}):
        with pytest.raises((NotChanged, NotPermitted)):
            hospital.decide(officer, request, **wrong)
    assert hospital.found(request).state == "requested"


def test_an_outside_reviewer_sees_the_named_patients_and_nothing_after_the_end(hospital: Hospital) -> None:
    reviewer = hospital.person("reviewer", Role.OUTSIDE_REVIEWER)
    officer, _ = hospital.person("officer", Role.SECURITY_OFFICER), hospital.person("second", Role.SECURITY_OFFICER)
    request = asked(
        hospital,
        reviewer,
        Act.STUDY_READ,
        patients=[["HOSPITAL", "SYN-1"]],
        seconds=7 * 86_400,
        purpose="second opinion",
    )
    assert hospital.again(reviewer).related == ()
    hospital.decide(officer, request)
    (related,) = hospital.again(reviewer).related
    assert related.relation is Relation.GRANTED and related.patient == PatientIdentity("SYN-1", "HOSPITAL")
    hospital.place.clock.wait(7 * 86_400)
    assert hospital.again(reviewer).related == ()


def test_a_window_has_an_end(hospital: Hospital) -> None:
    vendor = hospital.person("vendor", Role.VENDOR)
    for seconds in (0, -5, window_max_seconds(Act.DEVICE_LIST) + 1):
        with pytest.raises(NotChanged, match="at most"):
            asked(hospital, vendor, seconds=seconds)


def test_who_sits_at_a_workstation_until_somebody_else_does(hospital: Hospital) -> None:
    place = hospital.place
    first, second = hospital.person("first", Role.RADIOLOGIST), hospital.person("second", Role.RADIOLOGIST)
    assert place.desk.sitting_at("WS1", first.peer) is None
    hospital.change(first, ChangeKind.LEASE_OPEN, "WS1", seconds=600)
    sits = place.desk.sitting_at("WS1", first.peer)
    assert sits is not None and sits.person.id == first.person.id
    hospital.change(second, ChangeKind.LEASE_OPEN, "WS1", seconds=600)
    sits = place.desk.sitting_at("WS1", first.peer)
    assert sits is not None and sits.person.id == second.person.id
    place.desk.end_session(second.session)
    assert place.desk.sitting_at("WS1", first.peer) is None
    hospital.change(first, ChangeKind.LEASE_OPEN, "WS1", seconds=600)
    place.clock.wait(600)
    assert place.desk.sitting_at("WS1", first.peer) is None


def test_whatever_needs_somebody_who_is_signed_in_is_refused_to_others_by_policy() -> None:
    """Where a change asks for its caller, policy lets no operator come so far; of those that do not ask, it says so of two for their own sake."""
    needing = {
        kind
        for table in (ACCESS_KINDS, ENROLMENT_KINDS, ERASURE_KINDS, KIT_KINDS)
        for kind, done in table.items()
        if "change.caller" in inspect.getsource(done)
    }
    assert needing <= AT_THE_CONSOLE.keys() and len(needing) > 8
    assert AT_THE_CONSOLE.keys() - needing == {ChangeKind.ACCESS_CANCEL, ChangeKind.DEVICE_COLLECT}
