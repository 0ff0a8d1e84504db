"""Attacks on tokens: algorithms, keys, times, names, replays, sizes. Every token but the good one is refused, and refused alike."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from leadglass.identity.people.idtoken import (
    KEYS_LENGTH_MAX_BYTES,
    KEYS_MAX,
    LOGOUT_EVENT,
    TOKEN_LENGTH_MAX_BYTES,
    Claims,
    Expected,
    Keys,
    validate,
    validate_logout,
)
from leadglass.terms import NotIdentified, UpstreamFault

NOW = 1_800_000_000
ISSUER, CLIENT = "https://login.hospital.example", "leadglass"
EXPECTED = Expected(ISSUER, CLIENT, "n-0S6_WzA2Mj", frozenset(), frozenset({"mfa", "pwd+otp"}), 3600)
RSA, OTHER_RSA = RSAKey.generate_key(2048), RSAKey.generate_key(2048)
EC, ED = ECKey.generate_key("P-256"), OKPKey.generate_key("Ed25519")


def public(key: Key, kid: str, **more: object) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": kid, "use": "sig", **more}


def key_set(*listed: object) -> Keys:
    return Keys.read(json.dumps({"keys": listed}).encode())


KEYS = key_set(public(RSA, "r1"), public(EC, "e1"), public(ED, "o1"))


def claims(**changes: object) -> dict[str, Any]:
    base = {
        "iss": ISSUER, "sub": "248289761001", "aud": CLIENT, "exp": NOW + 300, "iat": NOW - 1, "nonce": EXPECTED.nonce,
        "auth_time": NOW - 60, "amr": ["pwd", "mfa"], "sid": "s1", "groups": ["readers"],
    }  # fmt: skip
    return {name: value for name, value in {**base, **changes}.items() if value is not ...}


def encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def signed(
    payload: bytes | dict[str, Any], key: Key = RSA, alg: str = "RS256", kid: object = "r1", **header: Any
) -> bytes:
    """Signed by hand, so that a header may say what no library would write."""
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    head = {"alg": alg, "kid": kid, **header}
    start = encoded(json.dumps({name: value for name, value in head.items() if value is not None}).encode())
    to_sign = start + b"." + encoded(content)
    return to_sign + b"." + encoded(jws.JWSRegistry.algorithms[alg].sign(to_sign, key))  # type: ignore[arg-type]


def checked(token: bytes, keys: Keys = KEYS, expected: Expected = EXPECTED, now: float = NOW) -> Claims:
    return validate(token, keys, expected, now)


def why(token: bytes, keys: Keys = KEYS, expected: Expected = EXPECTED, now: float = NOW) -> str:
    with pytest.raises(NotIdentified) as caught:
        checked(token, keys, expected, now)
    return caught.value.reason


@pytest.mark.parametrize(("key", "alg", "kid"), [(RSA, "RS256", "r1"), (RSA, "PS384", "r1"), (EC, "ES256", "e1"), (ED, "EdDSA", "o1"), (ED, "Ed25519", "o1")])  # fmt: skip
def test_a_good_token(key: Key, alg: str, kid: str) -> None:
    found = checked(signed(claims(), key, alg, kid))
    assert (found.subject, found.session, found.values["groups"]) == ("248289761001", "s1", ["readers"])


def test_alg_none() -> None:
    start = encoded(b'{"alg":"none","kid":"r1"}') + b"." + encoded(json.dumps(claims()).encode())
    assert "three parts" in why(start + b".")
    assert "algorithm 'none'" in why(start + b".AAAA")
    for spelled in ("None", "NONE", "nOnE", ""):
        head = encoded(json.dumps({"alg": spelled, "kid": "r1"}).encode())
        assert "algorithm" in why(head + b"." + encoded(json.dumps(claims()).encode()) + b".AAAA")


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_the_public_key_taken_for_a_shared_secret(alg: str) -> None:
    for secret in (
        RSA.as_pem(private=False),
        RSA.public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        json.dumps(public(RSA, "r1")).encode(),
    ):
        start = encoded(json.dumps({"alg": alg, "kid": "r1"}).encode()) + b"." + encoded(json.dumps(claims()).encode())
        token = start + b"." + encoded(hmac.new(secret, start, f"sha{alg[2:]}").digest())
        assert "algorithm" in why(token)


def test_a_shared_secret_in_the_key_set_signs_nothing() -> None:
    shared = OctKey.import_key("0" * 64)
    keys = key_set({**shared.as_dict(), "kid": "h1"}, public(RSA, "r1"))
    assert [key.kid for key in keys.listed] == ["r1"]
    assert "algorithm" in why(signed(claims(), shared, "HS256", "h1"), keys)


@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256"])
def test_the_wrong_key_for_the_algorithm(alg: str) -> None:
    token = signed(claims(), EC if alg == "ES256" else RSA, alg, "o1")
    assert "none of those" in why(token)


def test_a_key_that_says_which_algorithm_it_is_for() -> None:
    keys = key_set(public(RSA, "r1", alg="PS256"))
    assert checked(signed(claims(), RSA, "PS256"), keys).subject
    assert "none of those" in why(signed(claims(), RSA, "RS256"), keys)


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "' OR '1'='1", "r1' --", "r1\0", "R1", "file:///dev/null", "", "r9"]
)
def test_a_key_id_is_compared_and_nothing_else(kid: str) -> None:
    assert "none of those" in why(signed(claims(), kid=kid))


@pytest.mark.parametrize("kid", [7, ["r1"], {"r1": 1}, True, "k" * 10_000])
def test_a_key_id_that_is_no_name(kid: object) -> None:
    assert why(signed(claims(), kid=kid))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jwk", public(OTHER_RSA, "r1")),
        ("jku", "https://evil.example/keys"),
        ("x5u", "https://evil.example/x"),
        ("crit", ["exp"]),
        ("b64", False),
        ("zip", "DEF"),
    ],
)
def test_a_header_that_brings_its_own_key_or_rules(name: str, value: object) -> None:
    assert f"says {name}" in why(signed(claims(), **{name: value}))
    assert why(signed(claims(), OTHER_RSA, **{name: value}))


def test_a_certificate_in_the_header_is_not_looked_at() -> None:
    assert checked(signed(claims(), x5t="abc", x5c=["MIIB"])).subject
    assert "does not hold" in why(signed(claims(), OTHER_RSA, x5c=["MIIB"]))


def test_no_key_id_needs_one_key_that_fits() -> None:
    assert checked(signed(claims(), kid=None), key_set(public(RSA, "r1"), public(EC, "e1"))).subject
    assert "several" in why(signed(claims(), kid=None), key_set(public(RSA, "r1"), public(OTHER_RSA, "r2")))
    assert "several" in why(signed(claims()), key_set(public(RSA, "r1"), public(OTHER_RSA, "r1")))


def test_somebody_elses_signature() -> None:
    assert "does not hold" in why(signed(claims(), OTHER_RSA))


def test_a_changed_claim_keeps_no_signature() -> None:
    head, _, signature = signed(claims()).split(b".")
    assert "does not hold" in why(b".".join((head, encoded(json.dumps(claims(sub="root")).encode()), signature)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exp": NOW - 61}, "is over"),
        ({"exp": ...}, "until when"),
        ({"exp": "4102444800"}, "until when"),
        ({"exp": True}, "until when"),
        ({"exp": 1e300}, "until when"),
        ({"nbf": NOW + 61}, "not hold yet"),
        ({"iat": NOW + 61}, "just now"),
        ({"iat": NOW - 661}, "just now"),
        ({"iat": ...}, "when it was made"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"iss": ISSUER + "/"}, "another issuer"),
        ({"iss": ...}, "another issuer"),
        ({"iss": [ISSUER]}, "another issuer"),
        ({"aud": "other"}, "for somebody else"),
        ({"aud": ...}, "for somebody else"),
        ({"aud": []}, "for somebody else"),
        ({"aud": "leadglass-test"}, "for somebody else"),
        ({"aud": [CLIENT, "other"]}, "azp"),
        ({"aud": [CLIENT, "other"], "azp": "other"}, "azp"),
        ({"azp": "other"}, "azp"),
        ({"nonce": "another"}, "nonce"),
        ({"nonce": ...}, "nonce"),
        ({"nonce": [EXPECTED.nonce]}, "nonce"),
        ({"nonce": "\ud800"}, "nonce"),
        ({"auth_time": ...}, "auth_time"),
        ({"auth_time": NOW - 3661}, "seconds old"),
        ({"auth_time": NOW + 61}, "auth_time"),
        ({"sub": ...}, "of nobody"),
        ({"sub": ""}, "of nobody"),
        ({"sub": 7}, "of nobody"),
        ({"sub": "x" * 256}, "of nobody"),
        ({"amr": ...}, "two factors"),
        ({"amr": ["pwd"]}, "two factors"),
        ({"amr": ["otp"]}, "two factors"),
        ({"amr": "mfa"}, "two factors"),
        ({"amr": [["mfa"]]}, "two factors"),
        ({"amr": {"mfa": True}}, "two factors"),
    ],
)
def test_a_claim_that_is_wrong(changes: dict[str, Any], said: str) -> None:
    assert said in why(signed(claims(**changes)))


@pytest.mark.parametrize("changes", [{"exp": NOW - 59}, {"nbf": NOW + 59}, {"iat": NOW + 59}, {"aud": [CLIENT]}, {"aud": [CLIENT, "b"], "azp": CLIENT}, {"amr": ["otp", "pwd"]}])  # fmt: skip
def test_what_is_just_good_enough(changes: dict[str, Any]) -> None:
    assert checked(signed(claims(**changes))).subject


def test_acr_alone_and_both_together() -> None:
    acr = replace(EXPECTED, acr=frozenset({"2"}), amr=frozenset())
    assert checked(signed(claims(acr="2", amr=...)), expected=acr).subject
    for said in ("1", "0", "", ["2"], 2, None):
        assert "acr" in why(signed(claims(acr=said)), expected=acr)
    both = replace(acr, amr=EXPECTED.amr)
    assert checked(signed(claims(acr="2")), expected=both).subject
    assert "amr" in why(signed(claims(acr="2", amr=["pwd"])), expected=both)
    assert "acr" in why(signed(claims(acr="1")), expected=both)


def test_nothing_that_proves_two_factors_proves_none() -> None:
    assert "nothing is named" in why(signed(claims()), expected=replace(EXPECTED, amr=frozenset()))


def test_no_nonce_of_ours_matches_none_of_theirs() -> None:
    assert "nonce" in why(signed(claims(nonce="")), expected=replace(EXPECTED, nonce=""))


def test_a_token_replayed_into_another_sign_in() -> None:
    token = signed(claims())
    assert checked(token).subject
    assert "another sign-in" in why(token, expected=replace(EXPECTED, nonce="of-the-next"))


def test_huge() -> None:
    assert "longer than" in why(b"A" * (TOKEN_LENGTH_MAX_BYTES + 1))
    assert "longer than" in why(signed(claims(groups=["g" * 60] * 2000)))
    assert why(signed(claims(), x5c=["A" * 8000]))


def test_many_groups_are_no_attack() -> None:
    assert len(checked(signed(claims(groups=[f"group-{n}" for n in range(1000)]))).values["groups"]) == 1000


def test_nested_deep_and_said_twice() -> None:
    assert why(signed(b'{"a":' * 9000 + b"1" + b"}" * 9000))
    twice = json.dumps(claims())[:-1].encode() + b',"sub":"root"}'
    assert why(signed(twice))
    head = b'{"alg":"none","alg":"RS256","kid":"r1"}'
    token = signed(claims()).split(b".")
    assert "header" in why(b".".join((encoded(head), *token[1:])))


@pytest.mark.parametrize("payload", [b"[]", b"7", b"", b"null", b"{", b"\xff", b'{"exp": NaN}'])
def test_claims_that_are_none(payload: bytes) -> None:
    assert why(signed(payload))


@pytest.mark.parametrize("typ", ["logout+jwt", "at+jwt", "secevent+jwt", 7, ["JWT"]])
def test_a_token_for_something_else(typ: object) -> None:
    assert "something else" in why(signed(claims(), typ=typ))
    assert checked(signed(claims(), typ="JWT")).subject


def test_five_parts_and_json() -> None:
    token = signed(claims())
    for odd in (token + b".a.b", b".".join(token.split(b".")[:2]), b"..", b"", b'{"payload":"x","signatures":[]}'):
        assert why(odd)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(content: bytes) -> None:
    assert why(content)


GOOD = signed(claims())


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_changed_byte_is_refused(place: int, value: int) -> None:
    token = GOOD[:place] + bytes([value]) + GOOD[place + 1 :]
    if token != GOOD:
        assert why(token)


# ---- keys


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":"x"}', b"\xff", b"{" * 9000, b" " * (KEYS_LENGTH_MAX_BYTES + 1)])  # fmt: skip
def test_a_key_set_that_is_none(content: bytes) -> None:
    with pytest.raises(UpstreamFault, match="keys cannot be read"):
        Keys.read(content)


def test_too_many_keys() -> None:
    with pytest.raises(UpstreamFault):
        key_set(*[public(EC, f"k{n}") for n in range(KEYS_MAX + 1)])


@pytest.mark.parametrize(
    "listed",
    [
        7,
        {},
        {"kty": "RSA", "kid": "r1"},
        {"kty": "RSA", "kid": "r1", "n": 7, "e": "AQAB"},
        {**public(RSA, "r1"), "n": public(RSA, "r1")["n"][:160]},
        {**public(RSA, "r1"), "n": "_" + "A" * 20_000},
        {**public(RSA, "r1"), "use": "enc"},
        {**public(EC, "r1"), "crv": "P-521"},
        {**public(EC, "r1"), "x": "AAAA"},
        {**public(RSA, "r1"), "kid": 7},
        {**public(RSA, "r1"), "kid": "k" * 10_000},
    ],
)
def test_a_key_that_will_not_do_is_left_out(listed: object) -> None:
    keys = key_set(listed, public(EC, "e1"))
    assert [key.kid for key in keys.listed] == ["e1"]
    assert "none of those" in why(signed(claims()), keys)


def test_a_private_key_that_a_provider_lists_by_mistake_stays_out_of_memory() -> None:
    (listed,) = key_set({**RSA.as_dict(private=True), "kid": "r1"}).listed
    assert not listed.key.is_private


def test_whether_a_key_is_known() -> None:
    assert KEYS.knows(GOOD) and not KEYS.knows(signed(claims(), kid="r2"))
    with pytest.raises(NotIdentified):
        KEYS.knows(b"x")


# ---- logout tokens


def logout(**changes: object) -> dict[str, Any]:
    base: dict[str, Any] = {
        "iss": ISSUER, "aud": CLIENT, "sub": "248289761001", "sid": "s1", "iat": NOW - 1, "exp": NOW + 120, "jti": "j1",
        "events": {LOGOUT_EVENT: {}},
    }  # fmt: skip
    return {name: value for name, value in {**base, **changes}.items() if value is not ...}


@pytest.mark.parametrize(("changes", "subject", "session"), [({}, "248289761001", "s1"), ({"sid": ...}, "248289761001", ""), ({"sub": ...}, "", "s1")])  # fmt: skip
def test_a_logout_token(changes: dict[str, Any], subject: str, session: str) -> None:
    found = validate_logout(signed(logout(**changes), typ="logout+jwt"), KEYS, ISSUER, CLIENT, NOW)
    assert (found.subject, found.session, found.id) == (subject, session, "j1")


@pytest.mark.parametrize(
    "changes",
    [
        {"events": ...},
        {"events": {}},
        {"events": {LOGOUT_EVENT: True}},
        {"events": [LOGOUT_EVENT]},
        {"nonce": "n"},
        {"sub": ..., "sid": ...},
        {"jti": ...},
        {"iss": "https://evil.example"},
        {"aud": "other"},
        {"exp": NOW - 100},
        {"iat": NOW - 4000},
    ],
)
def test_what_signs_nobody_out(changes: dict[str, Any]) -> None:
    with pytest.raises(NotIdentified):
        validate_logout(signed(logout(**changes)), KEYS, ISSUER, CLIENT, NOW)


def test_an_id_token_signs_nobody_out_and_a_logout_token_nobody_in() -> None:
    with pytest.raises(NotIdentified):
        validate_logout(GOOD, KEYS, ISSUER, CLIENT, NOW)
    assert why(signed(logout(nonce=EXPECTED.nonce, auth_time=NOW, amr=["mfa"]), typ="logout+jwt"))
