"""Enrolment by a one-time link: all of it or nothing, nobody locked out half-way, and nothing enrolled that was not proven."""

from __future__ import annotations

from pathlib import Path

import pyotp
import pytest

from leadglass.identity.people.enrolment import FRESH_SECONDS
from leadglass.identity.people.handles import Handles
from leadglass.identity.people.links import LINK_HOURS, link_address
from leadglass.identity.people.passwords import Unsuitable
from leadglass.lab.authenticator import Authenticator
from leadglass.terms import NotChanged, NotIdentified, NotPermitted
from tests.identity.people.place import ORIGIN, PASSWORD, SECOND, Place, by_password, peer


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.at(tmp_path)


def device() -> Authenticator:
    return Authenticator(ORIGIN.scheme_host_port)


def test_a_link_is_for_one_person_once_and_a_day(place: Place) -> None:
    person = place.person()
    link = place.link(person)
    assert len(link) >= 43 and link not in repr(place.register.read("SELECT * FROM invitations"))
    invitation = place.another_process().invited(link)
    assert invitation.person.id == person.id and invitation.until_ns == place.clock() + LINK_HOURS * 3600 * SECOND
    assert link_address("https://pacs.example", link) == f"https://pacs.example/enrol/{link}"
    later = place.link(person)
    with pytest.raises(NotIdentified, match="later one took its place"):
        place.desk.invited(link)
    for wrong in ("", link[:-1], later + "x", "x" * 100_000, "\ud800"):
        with pytest.raises(NotIdentified, match="ever made"):
            place.desk.invited(wrong)
    place.clock.wait(LINK_HOURS * 3600)
    with pytest.raises(NotIdentified, match="too old"):
        place.desk.invited(later)


def test_a_passkey_uses_the_link_up_and_gives_recovery_codes(place: Place) -> None:
    person, mine = place.person(), device()
    link = place.link(person)
    handle, options = place.desk.enrolment_options(link, ORIGIN)
    proven = place.another_process().enrolled_passkey(link, handle, mine.create(dict(options)), ORIGIN, " my  phone ")
    assert place.desk.invited(link), "nothing was done yet"
    done = place.another_process().accept("reader", proven)
    assert len(done["recovery_codes"]) == 10 and done["factor"] == "passkey"
    assert place.people.factors.passkeys(person.id)[0].label == "my phone"
    assert place.signed_in(mine)
    with pytest.raises(NotIdentified, match="was used"):
        place.desk.invited(link)
    with pytest.raises(NotChanged):
        place.desk.accept("reader", proven)
    assert len(place.people.factors.passkeys(person.id)) == 1


@pytest.mark.parametrize("wrong", [{"verified": False}, {"origin": "https://evil.example"}, {"rp_id": "evil.example"}])
def test_a_passkey_that_does_not_verify_leaves_the_link_good(place: Place, wrong: dict[str, object]) -> None:
    person, mine = place.person(), device()
    link = place.link(person)
    handle, options = place.desk.enrolment_options(link, ORIGIN)
    with pytest.raises(NotIdentified, match="does not verify"):
        place.desk.enrolled_passkey(link, handle, mine.create(dict(options), **wrong), ORIGIN)  # type: ignore[arg-type]
    handle, options = place.desk.enrolment_options(link, ORIGIN)
    place.desk.accept("reader", place.desk.enrolled_passkey(link, handle, mine.create(dict(options)), ORIGIN))
    assert place.signed_in(mine)


def test_password_and_app_are_enrolled_together_or_not_at_all(place: Place) -> None:
    person = place.person()
    link = place.link(person)
    handle, uri = place.desk.totp_offer(link)
    app = pyotp.parse_uri(uri)
    assert uri.startswith("otpauth://totp/") and "reader" in uri and isinstance(app, pyotp.TOTP)
    code = app.at(place.clock() // SECOND)
    with pytest.raises(Unsuitable, match="at least 12"):
        place.desk.enrolled_password(link, handle, "short", code)
    with pytest.raises(Unsuitable, match="not the code"):
        place.desk.enrolled_password(link, handle, PASSWORD, "000000")
    assert place.people.factors.password(person.id) is None
    proven = place.desk.enrolled_password(link, handle, PASSWORD, code)
    assert place.people.factors.password(person.id) is None and app.secret not in repr(proven)
    assert len(place.desk.accept("reader", proven)["recovery_codes"]) == 10
    place.clock.wait(30)
    assert place.desk.recognise(peer(), by_password("reader", PASSWORD, app.at(place.clock() // SECOND)))


def test_what_was_not_proven_is_not_enrolled(place: Place) -> None:
    person, other = place.person(), place.person("other")
    link = place.link(person)
    handle, options = place.desk.enrolment_options(link, ORIGIN)
    proven = dict(place.desk.enrolled_passkey(link, handle, device().create(dict(options)), ORIGIN))
    sealed_by_others = Handles(bytes(32)).seal(
        "enrolment", {"person": person.id, "for": "", "factor": "passkey"}, place.clock()
    )
    for wrong in (
        {},
        {"proof": handle},
        {"proof": sealed_by_others},
        {"proof": proven["proof"][:-8] + "AAAAAAA="},
        {"proof": 7},
    ):
        with pytest.raises(NotIdentified):
            place.desk.accept("reader", wrong)
    with pytest.raises(NotChanged, match="proven by reader"):
        place.desk.accept("other", proven)
    others = place.link(other)
    with pytest.raises(NotIdentified, match="another link"):
        place.desk.enrolled_passkey(others, handle, device().create(dict(options)), ORIGIN)
    place.people.disable(person.id, "left", place.clock())
    with pytest.raises(NotIdentified, match="is disabled"):
        place.desk.accept("reader", proven)
    with pytest.raises(NotIdentified):
        place.desk.invited(link)


def test_of_two_browsers_with_one_link_one_wins(place: Place) -> None:
    person = place.person()
    link = place.link(person)
    proofs = []
    for _ in range(2):
        handle, options = place.desk.enrolment_options(link, ORIGIN)
        proofs.append(place.desk.enrolled_passkey(link, handle, device().create(dict(options)), ORIGIN))
    place.desk.accept("reader", proofs[0])
    with pytest.raises(NotChanged, match="that link was used"):
        place.desk.accept("reader", proofs[1])
    assert len(place.people.factors.passkeys(person.id)) == 1


def test_whoever_holds_the_link_orders_the_change_as_nobody(place: Place) -> None:
    caller = place.desk.invitee(place.link(place.person()), peer())
    assert (caller.name, caller.session, caller.factors) == ("reader", "", frozenset())
    with pytest.raises(NotIdentified, match="opens no session"):
        place.desk.open_session(caller, "browser")


def test_a_further_passkey_wants_a_fresh_one(place: Place) -> None:
    """Whoever steals a session makes no way in of it that outlasts it."""
    person = place.person()
    first, second = place.passkey(person), device()
    token, caller = place.signed_in(first)
    with pytest.raises(NotPermitted, match="a fresh passkey"):
        place.desk.more_passkey_options(caller, ORIGIN)
    place.desk.recognise(peer(), place.claim(first, "step-up", caller.session))
    caller = place.desk.caller(token, peer(), "browser")
    handle, options = place.desk.more_passkey_options(caller, ORIGIN)
    done = place.desk.accept(
        "reader", place.desk.more_passkey(caller, handle, second.create(dict(options)), ORIGIN, "key")
    )
    assert done["recovery_codes"] == []
    assert place.signed_in(second)[1].name == "reader"
    handle, options = place.desk.more_passkey_options(caller, ORIGIN)
    place.clock.wait(FRESH_SECONDS)
    with pytest.raises(NotPermitted):
        place.desk.more_passkey(caller, handle, device().create(dict(options)), ORIGIN)
    with pytest.raises(NotPermitted):
        place.desk.more_recovery_codes(caller)


def test_who_has_a_password_only_adds_a_passkey_after_a_fresh_sign_in(place: Place) -> None:
    app, _ = place.password(place.person())
    place.clock.wait(30)
    claim = by_password("reader", PASSWORD, app.at(place.clock() // SECOND))
    _, caller = place.desk.open_session(place.desk.recognise(peer(), claim), "browser")
    assert place.desk.more_passkey_options(caller, ORIGIN)
    place.clock.wait(FRESH_SECONDS)
    with pytest.raises(NotPermitted, match="a fresh sign-in"):
        place.desk.more_passkey_options(caller, ORIGIN)


def test_the_last_way_in_stays(place: Place) -> None:
    person, factors = place.person(), place.people.factors
    first = place.passkey(person)
    with pytest.raises(NotChanged, match="last way"):
        factors.remove_passkey(person.id, first.id, "", place.clock())
    second = place.passkey(person)
    token, caller = place.signed_in(second)
    stolen, _ = place.signed_in(first)
    factors.remove_passkey(person.id, first.id, caller.session, place.clock())
    with pytest.raises(NotIdentified, match="passkey was removed"):
        place.desk.caller(stolen, peer(), "browser")
    assert place.desk.caller(token, peer(), "browser")
    with pytest.raises(NotChanged, match="no such passkey"):
        place.password(person)
        factors.remove_passkey(person.id, first.id, "", place.clock())
    factors.remove_password(person.id)
    assert factors.password(person.id) is None
    with pytest.raises(NotChanged, match="last way"):
        place.password(place.person("other"))
        factors.remove_password(place.people.named("other").id)  # type: ignore[union-attr]


def test_a_handle_of_one_step_opens_no_other(place: Place) -> None:
    person = place.person()
    link = place.link(person)
    handle, _ = place.desk.totp_offer(link)
    with pytest.raises(NotIdentified):
        place.desk.enrolled_passkey(link, handle, {}, ORIGIN)
