"""A passkey signs in by itself; a copied key, another site's page, a user who was not verified and an answer given twice are refused."""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from leadglass.identity.people.passkeys import Origin
from leadglass.lab.authenticator import Authenticator
from leadglass.terms import Caller, Factor, Fault, NotIdentified
from tests.identity.people.place import ORIGIN, Place, peer


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.at(tmp_path)


def test_a_passkey_is_the_whole_sign_in(place: Place) -> None:
    person = place.person()
    device = place.passkey(person)
    _, options = place.desk.passkey_options(ORIGIN)
    assert options["userVerification"] == "required" and options["rpId"] == ORIGIN.rp_id
    assert options["allowCredentials"] == [], "whatever passkey the browser knows: nobody types a name"
    caller = place.desk.recognise(peer(), place.claim(device))
    assert caller.person.id == person.id and caller.factors == {Factor.PASSKEY} and caller.stepped_up_ns == 0
    (kept,) = place.people.factors.passkeys(person.id)
    assert (kept.sign_count, kept.last_used_ns, kept.label) == (device.sign_count, place.clock(), "phone")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"verified": False}, "user was not verified"),
        ({"origin": "https://pacs.hospital.example.evil.example"}, "Unexpected client data origin"),
        ({"origin": "http://pacs.hospital.example:8443"}, "Unexpected client data origin"),
        ({"rp_id": "evil.example"}, "Unexpected RP ID hash"),
        ({"key": ec.generate_private_key(ec.SECP256R1())}, "signature"),
    ],
)
def test_what_does_not_verify_is_refused(place: Place, wrong: dict[str, Any], said: str) -> None:
    device = place.passkey(place.person())
    with pytest.raises(NotIdentified, match=said):
        place.desk.recognise(peer(), place.claim(device, **wrong))
    assert place.desk.recognise(peer(), place.claim(device)), "and locks nobody out"


def test_a_cloned_key_is_refused(place: Place) -> None:
    """The copy signs as well as the original; its sign count betrays it."""
    device = place.passkey(place.person())
    copy = replace(device)
    for _ in range(3):
        place.desk.recognise(peer(), place.claim(device))
    with pytest.raises(NotIdentified, match="sign count"):
        place.desk.recognise(peer(), place.claim(copy))


def test_a_synchronised_passkey_counts_nothing_and_is_let_in(place: Place) -> None:
    device = place.passkey(place.person(), counts=False)
    for _ in range(2):
        assert place.desk.recognise(peer(), place.claim(device))


def test_an_answer_is_good_once_whichever_process_hears_it(place: Place) -> None:
    device = place.passkey(place.person(), counts=False)
    claim = place.claim(device)
    assert place.another_process().recognise(peer(), claim)
    for desk in (place.desk, place.another_process()):
        with pytest.raises(NotIdentified, match="given before"):
            desk.recognise(peer(), claim)


def test_of_two_answers_at_once_one_wins(place: Place) -> None:
    device = place.passkey(place.person(), counts=False)
    claim = place.claim(device)
    heard: list[Caller | NotIdentified] = []

    def recognise() -> None:
        try:
            heard.append(place.desk.recognise(peer(), claim))
        except NotIdentified as refusal:
            heard.append(refusal)

    threads = [threading.Thread(target=recognise) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(each, Caller) for each in heard) == 1 and len(heard) == 6


def test_a_challenge_ends(place: Place) -> None:
    device = place.passkey(place.person())
    claim = place.claim(device)
    place.clock.wait(300)
    with pytest.raises(NotIdentified, match="longer than 300 s"):
        place.desk.recognise(peer(), claim)


def test_a_handle_is_for_its_purpose_its_session_and_its_address(place: Place) -> None:
    device = place.passkey(place.person())
    _, caller = place.signed_in(device)
    asked = place.claim(device)
    for claim in (
        replace(asked, purpose="step-up", session=caller.session),
        replace(place.claim(device, "step-up", caller.session), session="another"),
        replace(place.claim(device, "step-up", caller.session), purpose="sign-in"),
        replace(asked, evidence={**asked.evidence, "origin": Origin("https://pacs.hospital.example", ORIGIN.rp_id)}),
        replace(asked, evidence={**asked.evidence, "origin": "https://pacs.hospital.example:8443"}),
        replace(asked, evidence={**asked.evidence, "handle": secrets.token_urlsafe(200)}),
        replace(asked, evidence={}),
    ):
        with pytest.raises(NotIdentified):
            place.desk.recognise(peer(), claim)


@pytest.mark.parametrize(
    "assertion", [None, "text", {}, {"id": "x" * 10}, {"id": 7}, {"id": "é"}, {"id": "x", "response": []}]
)
def test_nonsense_is_refused_in_a_word(place: Place, assertion: object) -> None:
    device = place.passkey(place.person())
    claim = place.claim(device)
    with pytest.raises(NotIdentified):
        place.desk.recognise(peer(), replace(claim, evidence={**claim.evidence, "assertion": assertion}))


@pytest.mark.parametrize("part", ["clientDataJSON", "authenticatorData", "signature", "userHandle"])
@pytest.mark.parametrize("value", ["", "AAAA", "not base64 at all!", None, 7, "A" * 70_000])
def test_a_damaged_answer_is_a_refusal_and_no_failure(place: Place, part: str, value: object) -> None:
    device = place.passkey(place.person())
    claim = place.claim(device)
    answer = dict(claim.evidence["assertion"])  # type: ignore[call-overload]
    answer["response"] = {**answer["response"], part: value}
    if part == "userHandle" and not value:
        return  # the answer may leave it out
    with pytest.raises(NotIdentified):
        place.desk.recognise(peer(), replace(claim, evidence={**claim.evidence, "assertion": answer}))


def test_a_passkey_says_whose_it_is_and_lies_to_nobody(place: Place) -> None:
    device, other = place.passkey(place.person()), place.person("other")
    device.user = device.user[:-2] + "AA"
    with pytest.raises(NotIdentified, match="another person"):
        place.desk.recognise(peer(), place.claim(device))
    _, caller = place.signed_in(place.passkey(other))
    device.user = ""
    with pytest.raises(NotIdentified, match="somebody else's passkey"):
        place.desk.recognise(peer(), place.claim(device, "step-up", caller.session))


def test_whoever_is_disabled_or_over_is_refused(place: Place) -> None:
    person = place.person()
    device = place.passkey(person)
    place.people.disable(person.id, "left", place.clock())
    with pytest.raises(NotIdentified, match="is disabled"):
        place.desk.recognise(peer(), place.claim(device))
    place.people.enable(person.id, place.clock())
    assert place.desk.recognise(peer(), place.claim(device))
    place.people.describe(replace(person, until_ns=place.clock() + 1), place.clock())
    place.clock.wait(1)
    with pytest.raises(NotIdentified, match="has ended"):
        place.desk.recognise(peer(), place.claim(device))


@pytest.mark.parametrize(
    ("origin", "rp_id"),
    [
        ("https://10.0.0.1", "10.0.0.1"), ("https://[::1]:8443", "::1"), ("https://pacs.example", ""), ("https://pacs.example", "other.example"),
        ("http://pacs.example", "pacs.example"), ("https://notpacs.example", "pacs.example"), ("http://127.0.0.1:8080", "127.0.0.1"),
    ],
)  # fmt: skip
def test_a_relying_party_is_a_host_name_over_https(origin: str, rp_id: str) -> None:
    with pytest.raises(Fault) as fault:
        Origin(origin, rp_id)
    assert fault.value.hint


def test_localhost_is_a_name() -> None:
    assert Origin("http://localhost:8080", "localhost") and Origin("https://a.pacs.example", "pacs.example")


def test_nobody_enrols_anothers_authenticator_twice(place: Place) -> None:
    person = place.person()
    device = place.passkey(person)
    _, options = place.desk.enrolment_options(place.link(person), ORIGIN)
    assert [each["id"] for each in options["excludeCredentials"]] == [device.id]
    chosen = options["authenticatorSelection"]
    assert chosen["residentKey"] == "required" and chosen["userVerification"] == "required"
    assert options["attestation"] == "none" and isinstance(device, Authenticator)
