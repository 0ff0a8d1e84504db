"""Machine clients: a pinned certificate, or a short token that is worth nothing without it; every forgery of a JWT is refused."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from leadglass.identity.authority import Authority, KeyKind, new_key
from leadglass.identity.people.tokens import TOKEN_SECONDS_MAX, Tokens
from leadglass.terms import Factor, NotIdentified, Peer, Person, Role, SignIn, fingerprint_of
from tests.identity.people.place import KEY, SECOND, Place

SITE = "pacs.hospital.example"


def machine(place: Place, days: int = 30) -> Peer:
    """Presents a certificate of some authority of the hospital's."""
    now = dt.datetime.fromtimestamp(place.clock() / SECOND, dt.UTC)
    made = Authority.create("a CA", now).issue(
        new_key(KeyKind.EC).public_key(), "report-server", ["report-server"], now, days
    )
    return Peer("10.5.1.1", 40_000, "web", made.public_bytes(Encoding.DER))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.at(tmp_path)


@pytest.fixture
def here(place: Place) -> Peer:
    peer = machine(place)
    place.people.add(account(), "operator", "sends reports", place.clock(), [fingerprint_of(peer)])
    return peer


def account(name: str = "report-server") -> Person:
    return Person(secrets.token_hex(16), name, name, frozenset({Role.SERVICE_ACCOUNT}))


def part(of: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(of).encode()).rstrip(b"=").decode()


def claims(place: Place, here: Peer, **changed: Any) -> dict[str, Any]:
    token, _ = place.desk.token(place.desk.machine(here))
    middle = token.split(".")[1]
    found = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return {**found, **changed}


def signed(claims: dict[str, Any], **header: Any) -> str:
    """As the site itself would sign it."""
    return jwt.encode({"alg": "ES256", "typ": "at+jwt", **header}, claims, Tokens(KEY, SITE)._key, algorithms=["ES256"])


def test_a_certificate_that_is_pinned_is_a_machine(place: Place, here: Peer) -> None:
    caller = place.desk.machine(here)
    assert caller.name == "report-server" and caller.factors == {Factor.CERTIFICATE} and caller.session == ""
    with pytest.raises(NotIdentified, match="opens no session"):
        place.desk.open_session(caller, "browser")
    for stranger in (machine(place), Peer("10.5.1.1", 1, "web"), Peer("10.5.1.1", 1, "web", b"nonsense")):
        with pytest.raises(NotIdentified):
            place.desk.machine(stranger)
    place.clock.wait(31 * 86_400)
    with pytest.raises(NotIdentified, match="good until"):
        place.desk.machine(here)


def test_a_token_lives_five_minutes_with_its_certificate(place: Place, here: Peer) -> None:
    token, until_ns = place.desk.token(place.desk.machine(here))
    assert until_ns == place.clock() + TOKEN_SECONDS_MAX * SECOND
    caller = place.another_process().bearer(token, here)
    assert caller.name == "report-server" and caller.factors == {Factor.CERTIFICATE}
    with pytest.raises(NotIdentified, match="another certificate"):
        place.desk.bearer(token, machine(place))
    with pytest.raises(NotIdentified, match="none was presented"):
        place.desk.bearer(token, Peer("10.5.1.1", 1, "web"))
    with pytest.raises(NotIdentified, match="no machine client"):
        place.desk.token(caller)
    place.clock.wait(TOKEN_SECONDS_MAX)
    with pytest.raises(NotIdentified, match="is over"):
        place.desk.bearer(token, here)


def test_a_token_ends_with_its_session_and_with_the_account(place: Place, here: Peer) -> None:
    first, second = (place.desk.token(place.desk.machine(here))[0] for _ in range(2))
    place.desk.end_session(place.desk.bearer(first, here).session, "ended by the security officer")
    with pytest.raises(NotIdentified, match="session is over"):
        place.another_process().bearer(first, here)
    assert place.desk.bearer(second, here)
    person = place.people.named("report-server")
    assert person is not None
    place.people.disable(person.id, "replaced", place.clock())
    place.people.enable(person.id, place.clock())
    with pytest.raises(NotIdentified, match="session is over"):
        place.desk.bearer(second, here)


def test_a_persons_certificate_is_no_machines(place: Place) -> None:
    peer = machine(place)
    place.people.add(
        Person("ab" * 16, "reader", "Reader", frozenset({Role.RADIOLOGIST})), "operator", "x", 1, [fingerprint_of(peer)]
    )
    with pytest.raises(NotIdentified, match="no service account"):
        place.desk.machine(peer)


def test_two_accounts_with_one_certificate_are_none(place: Place, here: Peer) -> None:
    place.people.add(account("other"), "operator", "x", place.clock(), [fingerprint_of(here)])
    with pytest.raises(NotIdentified, match="no service account"):
        place.desk.machine(here)


def test_forgeries(place: Place, here: Peer) -> None:
    good = claims(place, here)
    now = place.clock() // SECOND
    public = Tokens(KEY, SITE)._key.as_dict(private=False)
    body = f"{part({'alg': 'HS256', 'typ': 'at+jwt'})}.{part(good)}"
    swapped = hmac.digest(json.dumps(public).encode(), body.encode(), "sha256")
    stranger = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()))
    header = {"alg": "ES256", "typ": "at+jwt"}
    token = signed(good)
    forged = {
        "alg none": f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{part(good)}.",
        "alg none, signed": f"{part({'alg': 'none'})}.{part(good)}.{token.split('.')[2]}",
        "HS for RS": f"{body}.{base64.urlsafe_b64encode(swapped).rstrip(b'=').decode()}",
        "HS with a key of theirs": jwt.encode({"alg": "HS256", "typ": "at+jwt"}, good, OctKey.import_key("k" * 32)),
        "another key": jwt.encode(header, good, stranger),
        "a key that it brings along": jwt.encode({**header, "jwk": stranger.as_dict(private=False)}, good, stranger),
        "a kid that is a path": signed(good, kid="../../dev/null"),
        "another type": signed(good, typ="JWT"),
        "critical": f"{part({**header, 'crit': ['exp'], 'b64': False})}.{part(good)}.{token.split('.')[2]}",
        "other claims": f"{token.split('.')[0]}.{part({**good, 'sub': 'ff' * 16})}.{token.split('.')[2]}",
        "no signature": token.rpartition(".")[0] + ".",
        "two parts": token.rpartition(".")[0],
        "nothing": "",
        "huge": "A" * 5_000_000,
        "not ASCII": token + "é",
        "expired": signed({**good, "exp": now}),
        "lives long": signed({**good, "exp": now + 301}),
        "from the future": signed({**good, "nbf": now + 60}),
        "issued in the future": signed({**good, "iat": now + 60}),
        "no times": signed({key: value for key, value in good.items() if key not in ("exp", "nbf", "iat")}),
        "a time that is text": signed({**good, "exp": str(now + 60)}),
        "a time that is a boolean": signed({**good, "iat": True}),
        "another site": signed({**good, "iss": "other.example"}),
        "for another": signed({**good, "aud": "other"}),
        "for several": signed({**good, "aud": ["leadglass", "other"]}),
        "not bound": signed({key: value for key, value in good.items() if key != "cnf"}),
        "bound to nothing": signed({**good, "cnf": {"x5t#S256": ""}}),
        "bound to another": signed({**good, "cnf": {"x5t#S256": base64.urlsafe_b64encode(hashlib.sha256(b"x").digest()).decode()}}),
        "of nobody": signed({**good, "sub": "ff" * 16}),
        "of no session": signed({**good, "jti": "ff" * 16}),
    }  # fmt: skip
    for name, each in forged.items():
        try:
            place.desk.bearer(each, here)
        except NotIdentified:
            continue
        raise AssertionError(f"let in: {name}")
    assert place.desk.bearer(token, here)


def test_a_persons_session_is_no_tokens(place: Place, here: Peer) -> None:
    person = place.person()
    _, caller = place.signed_in(place.passkey(person))
    with pytest.raises(NotIdentified, match="another account's"):
        place.desk.bearer(signed(claims(place, here, sub=person.id, jti=caller.session)), here)
    with pytest.raises(NotIdentified, match="session is over"):
        place.desk.bearer(signed(claims(place, here, jti=caller.session)), here)


def test_who_was_recognised_for_a_token_has_it_once(place: Place, here: Peer) -> None:
    caller = place.desk.recognise(here, SignIn("", "certificate", purpose="token"))
    token, until_ns = place.desk.token(caller)
    assert caller.session and caller.until_ns == until_ns and place.desk.bearer(token, here).session == caller.session
    with pytest.raises(NotIdentified, match="no machine client"):
        place.desk.token(caller)
    with pytest.raises(NotIdentified, match="no way to sign-in"):
        place.desk.recognise(here, SignIn("", "certificate"))


def test_a_token_is_nothing_without_the_pin(place: Place, here: Peer) -> None:
    token, _ = place.desk.token(place.desk.machine(here))
    place.people.add(account("other"), "operator", "x", place.clock(), [fingerprint_of(here)])
    with pytest.raises(NotIdentified, match="no service account pins"):
        place.desk.bearer(token, here)


def test_keys_of_two_sites_differ() -> None:
    assert (
        Tokens(KEY, SITE)._key.as_dict() == Tokens(KEY, SITE)._key.as_dict() != Tokens(bytes(32), SITE)._key.as_dict()
    )


# ---- somebody's, for associations from one workstation


def test_a_token_for_associations_is_one_persons_at_one_workstation_for_five_minutes(place: Place, here: Peer) -> None:
    workstation, elsewhere = machine(place), machine(place)
    _, caller = place.signed_in(place.passkey(place.person("reader")))
    token, until_ns = place.desk.association_token(caller, fingerprint_of(workstation))
    assert until_ns == place.clock() + TOKEN_SECONDS_MAX * SECOND
    known = place.another_process().associated(token.encode(), workstation)
    assert (known.person.id, known.session, known.peer) == (caller.person.id, caller.session, workstation)
    assert known.until_ns > place.clock() + 3600 * SECOND, "what it opened lasts as long as the session"
    for wrong, peer, why in [
        (token.encode(), elsewhere, "another certificate"),
        (token.encode(), Peer("10.5.1.1", 1, "dimse"), "none was presented"),
        (b"\xff" + token.encode(), workstation, "no text"),
        (token.encode() + b"A" * 4096, workstation, "longer than"),
    ]:
        with pytest.raises(NotIdentified, match=why):
            place.desk.associated(wrong, peer)
    place.clock.wait(TOKEN_SECONDS_MAX)
    with pytest.raises(NotIdentified, match="token is over"):
        place.desk.associated(token.encode(), workstation)
    assert place.desk.again(known).session == caller.session, "an association that began in time goes on"


def test_a_token_for_associations_is_no_token_for_machines_and_the_other_way_round(place: Place, here: Peer) -> None:
    _, caller = place.signed_in(place.passkey(place.person("reader")))
    association, _ = place.desk.association_token(caller, fingerprint_of(here))
    with pytest.raises(NotIdentified, match="for something else"):
        place.desk.bearer(association, here)
    bearer, _ = place.desk.token(place.desk.machine(here))
    with pytest.raises(NotIdentified, match="for something else"):
        place.desk.associated(bearer.encode(), here)


def test_a_token_for_associations_ends_with_its_session_or_person(place: Place, here: Peer) -> None:
    _, caller = place.signed_in(place.passkey(person := place.person("reader")))
    token, _ = place.desk.association_token(caller, fingerprint_of(here))
    known = place.desk.associated(token.encode(), here)
    place.people.disable(person.id, "left", place.clock())
    with pytest.raises(NotIdentified, match="left"):
        place.desk.associated(token.encode(), here)
    with pytest.raises(NotIdentified):
        place.desk.again(known)
    with pytest.raises(NotIdentified):
        place.desk.association_token(caller, fingerprint_of(here))
