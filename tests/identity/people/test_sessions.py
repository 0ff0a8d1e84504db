"""Sessions: bound to a browser, locked when idle, opened again by one gesture, over at once when a right ends; a stolen cookie is worth nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from leadglass.identity.people.sessions import (
    SEEN_EVERY_SECONDS,
    SESSIONS_PER_PERSON_MAX,
    Locked,
)
from leadglass.site.access import AccessRequest, Decision, Glass, Lease
from leadglass.site.model import SessionLimits
from leadglass.terms import Act, Factor, NotIdentified, PatientIdentity, Related, Relation, Role
from tests.identity.people.place import ORIGIN, PASSWORD, SECOND, Place, by_password, peer

IDLE_LOCK_SECONDS, SESSION_HOURS_MAX = 60 * SessionLimits().idle_lock_minutes, SessionLimits().session_hours


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.at(tmp_path)


def over(place: Place, token: str, why: str, browser: str = "browser") -> None:
    with pytest.raises(NotIdentified, match=why) as refused:
        place.another_process().caller(token, peer(), browser)
    assert not isinstance(refused.value, Locked)


def test_a_session_is_a_secret_that_is_never_kept(place: Place, tmp_path: Path) -> None:
    person = place.person()
    token, caller = place.signed_in(place.passkey(person))
    assert len(token) >= 43 and place.desk.caller(token, peer(), "browser").session == caller.session
    rows = place.register.read("SELECT * FROM sessions")
    assert len(rows) == 1 and token not in repr(rows) and "'browser'" not in repr(rows)
    for wrong in ("", "x", token[:-1], token + "x", caller.session, "x" * 100_000):
        over(place, wrong, "no session has that cookie")


def test_a_cookie_in_another_browser_is_worth_nothing(place: Place) -> None:
    token, _ = place.signed_in(place.passkey(place.person()), "this browser")
    over(place, token, "another browser", "that browser")
    over(place, token, "another browser", "")
    assert place.desk.caller(token, peer(), "this browser")


def test_each_sign_in_has_a_session_of_its_own(place: Place) -> None:
    """Nothing that a browser held before a sign-in is worth anything after it."""
    device = place.passkey(place.person())
    first, second = place.signed_in(device), place.signed_in(device)
    assert first[0] != second[0] and first[1].session != second[1].session
    caller = place.desk.recognise(peer(), place.claim(device))
    assert place.desk.open_session(caller, "browser")
    with pytest.raises(NotIdentified, match="opened its session before"):
        place.desk.open_session(caller, "another browser")


def test_only_so_many_at_once(place: Place) -> None:
    person = place.person()
    device = place.passkey(person)
    opened = []
    for _ in range(SESSIONS_PER_PERSON_MAX + 2):
        place.clock.wait(1)
        opened.append(place.signed_in(device)[0])
    over(place, opened[0], "more sessions at once")
    over(place, opened[1], "more sessions at once")
    assert len(place.desk.sessions(person.id)) == SESSIONS_PER_PERSON_MAX
    assert place.desk.caller(opened[2], peer(), "browser")


def test_idle_is_locked_and_one_gesture_goes_on(place: Place) -> None:
    device = place.passkey(place.person())
    token, caller = place.signed_in(device)
    place.clock.wait(IDLE_LOCK_SECONDS - 1)
    assert place.desk.caller(token, peer(), "browser")
    place.clock.wait(IDLE_LOCK_SECONDS)
    for _ in range(2):
        with pytest.raises(Locked) as locked:
            place.another_process().caller(token, peer(), "browser")
    assert locked.value.session == caller.session and locked.value.person.name == "reader"
    place.clock.wait(60)
    unlocked = place.desk.recognise(peer(), place.claim(device, "unlock", caller.session))
    assert unlocked.session == caller.session
    assert place.desk.caller(token, peer(), "browser").session == caller.session


def test_use_keeps_it_open_and_writes_little(place: Place) -> None:
    person = place.person()
    token, _ = place.signed_in(place.passkey(person))
    seen = set()
    for _ in range(40):
        place.clock.wait(SEEN_EVERY_SECONDS / 2)
        place.desk.caller(token, peer(), "browser")
        seen.add(place.desk.sessions(person.id)[0].seen_ns)
    assert len(seen) == 21, "every other request is written"
    for _ in range(4):
        place.clock.wait(IDLE_LOCK_SECONDS - 1)
        assert place.desk.caller(token, peer(), "browser")


def test_a_locked_screen_opens_for_nobody_else(place: Place) -> None:
    device, other = place.passkey(place.person()), place.passkey(place.person("other"))
    token, caller = place.signed_in(device)
    place.desk.lock(caller.session)
    with pytest.raises(NotIdentified, match="somebody else's passkey"):
        place.desk.recognise(peer(), place.claim(other, "unlock", caller.session))
    with pytest.raises(NotIdentified, match="another browser"):
        place.desk.recognise(peer(), place.claim(device, "unlock", caller.session, "another browser"))
    with pytest.raises(Locked):
        place.desk.caller(token, peer(), "browser")
    over(place, token, "another browser", "another browser")
    _, options = place.desk.passkey_options(ORIGIN, "unlock", caller.session)
    assert [each["id"] for each in options["allowCredentials"]] == [device.id], "one gesture, and no choice to make"


def test_a_password_unlocks_and_steps_up_nothing(place: Place) -> None:
    app, _ = place.password(place.person())
    place.clock.wait(30)
    claim = by_password("reader", PASSWORD, app.at(place.clock() // SECOND))
    token, caller = place.desk.open_session(place.desk.recognise(peer(), claim), "browser")
    for purpose in ("unlock", "step-up", "anything"):
        with pytest.raises(NotIdentified, match="no way to"):
            place.desk.recognise(peer(), replace(claim, purpose=purpose, session=caller.session))
    assert place.desk.caller(token, peer(), "browser").stepped_up_ns == 0


def test_a_step_up_is_remembered_with_its_time(place: Place) -> None:
    device = place.passkey(place.person())
    token, caller = place.signed_in(device)
    assert caller.stepped_up_ns == 0, "a sign-in is none"
    place.clock.wait(5)
    stepped = place.desk.recognise(peer(), place.claim(device, "step-up", caller.session))
    assert stepped.stepped_up_ns == place.clock() == place.desk.caller(token, peer(), "browser").stepped_up_ns
    place.clock.wait(5)
    place.desk.recognise(peer(), place.claim(device, "unlock", caller.session))
    assert place.desk.caller(token, peer(), "browser").stepped_up_ns == stepped.stepped_up_ns


def test_a_session_ends_after_its_hours(place: Place) -> None:
    device = place.passkey(place.person())
    token, caller = place.signed_in(device)
    for _ in range(SESSION_HOURS_MAX * 12 - 1):
        place.clock.wait(300)
        place.desk.caller(token, peer(), "browser")
    place.clock.wait(300)
    over(place, token, "ended after 12 h")
    with pytest.raises(NotIdentified, match="ended after"):
        place.desk.recognise(peer(), place.claim(device, "unlock", caller.session))


def test_what_the_site_says_of_sessions_holds_at_once_and_lengthens_none(place: Place) -> None:
    device = place.passkey(place.person())
    token, caller = place.signed_in(device)
    place.clock.wait(119)
    place.limits = SessionLimits(idle_lock_minutes=2, session_hours=1, step_up_seconds=60)
    assert place.desk.caller(token, peer(), "browser").step_up_seconds == 60
    place.clock.wait(120)
    with pytest.raises(Locked):
        place.desk.caller(token, peer(), "browser")
    place.limits = SessionLimits(idle_lock_minutes=60)
    place.desk.recognise(peer(), place.claim(device, "unlock", caller.session))
    place.clock.wait(3500)
    assert place.desk.caller(token, peer(), "browser")
    place.limits = SessionLimits(idle_lock_minutes=60, session_hours=1)
    over(place, token, "ended after 1 h")
    assert place.desk.sessions(caller.person.id) == [], "nor is it listed"
    token, _ = place.signed_in(device)
    place.limits = SessionLimits(idle_lock_minutes=60, session_hours=24)
    place.clock.wait(3600)
    over(place, token, "ended after 1 h")


def test_whom_a_provider_vouched_for_is_asked_about_again(place: Place) -> None:
    person = place.person(source="oidc:hospital")
    vouched = replace(place.desk.as_if_here(person, peer()), factors=frozenset({Factor.PROVIDER}))
    token, _ = place.desk.open_session(vouched, "browser")
    for _ in range(SessionLimits().provider_hours * 12 - 1):
        place.clock.wait(300)
        assert place.desk.caller(token, peer(), "browser").person.id == person.id
    place.clock.wait(300)
    over(place, token, "ended after 8 h")


def test_who_loses_a_right_is_out_at_the_next_look(place: Place) -> None:
    person = place.person("reader", Role.RADIOLOGIST, Role.TECHNOLOGIST)
    device = place.passkey(person)
    token, caller = place.signed_in(device)
    place.desk.still(caller)
    place.people.revoke(person.id, Role.TECHNOLOGIST, "moved", place.clock())
    over(place, token, "the role technologist was taken away: moved")
    with pytest.raises(NotIdentified, match="is over"):
        place.desk.still(caller)
    token, caller = place.signed_in(device)
    assert caller.person.roles == {Role.RADIOLOGIST}
    place.people.disable(person.id, "left", place.clock())
    over(place, token, "disabled: left")
    place.people.enable(person.id, place.clock())
    over(place, token, "disabled: left")


def test_a_role_that_is_given_acts_at_once(place: Place) -> None:
    person = place.person("reader", Role.TECHNOLOGIST)
    token, _ = place.signed_in(place.passkey(person))
    place.people.grant(person.id, Role.RADIOLOGIST, "operator", "reads now", place.clock())
    caller = place.desk.caller(token, peer(), "browser")
    assert caller.person.roles == {Role.TECHNOLOGIST, Role.RADIOLOGIST}
    place.desk.still(caller)


def test_sessions_are_listed_and_ended(place: Place) -> None:
    person = place.person()
    device = place.passkey(person)
    token, caller = place.signed_in(device)
    other, _ = place.signed_in(device)
    assert {each.id for each in place.desk.sessions(person.id)} >= {caller.session}
    place.desk.end_session(caller.session, "ended by the security officer")
    over(place, token, "ended by the security officer")
    place.desk.end_session(caller.session, "later")
    over(place, token, "ended by the security officer")
    assert [each.live(place.clock()) for each in place.people.sessions.of(person.id)].count(True) == 1
    assert place.desk.caller(other, peer(), "browser")


def test_a_reset_ends_everything_and_is_no_way_around_the_second_factor(place: Place) -> None:
    person = place.person()
    device = place.passkey(person)
    place.password(person)
    token, caller = place.signed_in(device)
    place.people.access.open_lease(Lease("l1", person.id, caller.session, "WS1", place.clock(), place.clock() + 10**12))
    assert place.people.access.lease_of("WS1", place.clock()) is not None
    place.people.factors.reset(person.id, "phone lost", place.clock())
    over(place, token, "phone lost")
    assert place.people.access.lease_of("WS1", place.clock()) is None
    with pytest.raises(NotIdentified, match="nobody enrolled that passkey"):
        place.desk.recognise(peer(), place.claim(device))
    assert place.people.factors.password(person.id) is None and place.people.factors.recovery_codes_left(person.id) == 0


def test_a_caller_knows_what_is_in_force_for_them_now(place: Place) -> None:
    person, access, now = place.person(), place.people.access, place.clock()
    token, _ = place.signed_in(place.passkey(person))
    patient = PatientIdentity("4711", "hospital")
    hour = 3600 * SECOND
    access.relate(
        [
            Related(person.id, Relation.CARE_TEAM, patient),
            Related(person.id, Relation.SCHEDULED, None, "1.2.3", now - hour, now),
            Related(person.id, Relation.ORDERED, None, "1.2.4", now + hour, 0),
            Related("somebody else", Relation.ORDERED, None, "1.2.5"),
        ],
        "import",
    )
    access.break_glass(Glass("g1", person.id, PatientIdentity("8"), "unconscious", now, now + hour))
    access.ask(request(person.id, "r1", "requested", now, now + hour))
    chief = place.person("chief", Role.SECURITY_OFFICER)
    access.ask(request(person.id, "r2", "requested", now, now + hour, patients=[["hospital", "9"]], studies=["1.2.6"]))
    access.decide("r2", Decision(chief.id, "approved", "seen", now), "approved", now, now + hour)
    caller = place.desk.caller(token, peer(), "browser")
    assert {(each.relation, each.patient, each.study_instance_uid) for each in caller.related} == {
        (Relation.CARE_TEAM, patient, ""), (Relation.GLASS, PatientIdentity("8"), ""),
        (Relation.GRANTED, PatientIdentity("9", "hospital"), ""), (Relation.GRANTED, None, "1.2.6"),
    }  # fmt: skip
    assert caller.approved == {Act.STUDY_EXPORT: "r2"}
    place.clock.now_ns += hour
    place.people.sessions.seen(caller.session, place.clock())
    after = place.desk.caller(token, peer(), "browser")
    assert {(each.relation, each.study_instance_uid) for each in after.related} == {
        (Relation.CARE_TEAM, ""), (Relation.ORDERED, "1.2.4"),
    }  # fmt: skip
    assert after.approved == {}


def request(person: str, id_: str, state: str, from_ns: int, until_ns: int, **facts: object) -> AccessRequest:
    return AccessRequest(
        id_,
        "review",
        person,
        Act.STUDY_EXPORT,
        "x",
        "00",
        facts,
        "second opinion",
        from_ns,
        until_ns,
        state,
        from_ns,
        0,
    )


def test_what_a_window_names_confines_it(place: Place) -> None:
    person, access, now = place.person("visitor", Role.VENDOR), place.people.access, place.clock()
    token, _ = place.signed_in(place.passkey(person))
    chief, hour = place.person("chief", Role.SECURITY_OFFICER), 3600 * SECOND
    said = [("r1", Act.DEVICE_LIST, ["CT1"]), ("r2", Act.DEVICE_LIST, ["CT2"]), ("r3", Act.POLICY_READ, ["CT1"]), ("r4", Act.POLICY_READ, [])]  # fmt: skip
    for id_, act, devices in said:
        access.ask(replace(request(person.id, id_, "requested", now, now + hour, devices=devices), act=act))
        access.decide(id_, Decision(chief.id, "approved", "seen", now), "approved", now, now + hour)
    caller = place.desk.caller(token, peer(), "browser")
    assert caller.within == {Act.DEVICE_LIST: {"CT1", "CT2"}}, "one that names none opens the whole function"
