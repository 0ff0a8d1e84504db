"""Is this token what it says? Pure: bytes, keys and a clock go in, claims or a refusal come out (OpenID Connect Core 3.1.3.7, RFC 8725)."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry, deserialize_compact
from joserfc.util import urlsafe_b64decode

from leadglass.terms import NotIdentified, UpstreamFault

TOKEN_LENGTH_MAX_BYTES = 65_536  # hundreds of groups
KEYS_LENGTH_MAX_BYTES = 262_144
KEYS_MAX = 64
KEY_ID_LENGTH_MAX_CHARACTERS = 512
RSA_LENGTH_MIN_BITS = 2048
RSA_LENGTH_MAX_BITS = 8192  # longer ones cost us seconds
CLOCK_SKEW_SECONDS = 60
TOKEN_AGE_MAX_SECONDS = 600  # since `iat`; what we ask for is made while we wait
SUBJECT_LENGTH_MAX_CHARACTERS = 255  # OpenID Connect Core 2
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

# Signatures that only the provider can make. `none` and the HS family are left out: with those, whoever knows a public key could sign.
ALGORITHMS: Mapping[str, tuple[str, str]] = {
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "Ed25519": ("OKP", "Ed25519"),
    "EdDSA": ("OKP", "Ed25519"),
    "PS256": ("RSA", ""),
    "PS384": ("RSA", ""),
    "PS512": ("RSA", ""),
    "RS256": ("RSA", ""),
    "RS384": ("RSA", ""),
    "RS512": ("RSA", ""),
}
# A key in the header is the sender's own, an address in it would make us ask it, an extension changes what the signature is over.
_REFUSED_HEADERS = frozenset({"jwk", "jku", "x5u", "crit", "b64", "zip", "enc"})


class _Registry(JWSRegistry):
    max_header_length = 4096  # x5c and x5t of some providers; neither is looked at
    max_payload_length = TOKEN_LENGTH_MAX_BYTES

    def get_alg(self, name: str) -> Any:
        """Ours alone, without the library's word that `EdDSA` has a newer name: here it means Ed25519 and nothing else."""
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say. `nonce`: of this very sign-in. `acr`, `amr`: what proves two factors, as `site.model.ProviderSettings` has them."""

    issuer: str
    client_id: str
    nonce: str
    acr: frozenset[str]
    amr: frozenset[str]
    max_age_seconds: int


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says. `session`: the provider's name of the session (`sid`), "" where it has none."""

    subject: str
    session: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """Whom a provider signed out: one session of theirs, or (`session` "") every one. `id`: of the token, which counts once."""

    subject: str
    session: str
    id: str


@dataclass(frozen=True, slots=True)
class _Listed:
    kid: str
    kty: str
    crv: str
    alg: str
    key: Key


@dataclass(frozen=True, slots=True)
class Keys:
    """The public keys that a provider lists, those that can sign."""

    listed: tuple[_Listed, ...]

    @classmethod
    def read(cls, content: bytes) -> Keys:
        """From a JWK set (RFC 7517). A key that will not do is left out. Raises UpstreamFault."""
        try:
            if len(content) > KEYS_LENGTH_MAX_BYTES:
                raise ValueError(f"longer than {KEYS_LENGTH_MAX_BYTES} bytes")
            listed = _object(content).get("keys")
            if not isinstance(listed, list) or len(listed) > KEYS_MAX:
                raise ValueError(f"no list of at most {KEYS_MAX} keys")
        except ValueError as error:
            raise UpstreamFault(f"the provider's keys cannot be read: {error}") from error
        return cls(tuple(key for each in listed if (key := _listed(each)) is not None))

    def knows(self, token: bytes) -> bool:
        """Whether the key that a token names is there, without a look at its signature. Raises NotIdentified for what is no token."""
        header = _header(token)
        return bool(self._fitting(header))

    def one(self, header: Mapping[str, Any]) -> Key:
        """The one key that a header means. Raises NotIdentified."""
        fitting = self._fitting(header)
        if len(fitting) != 1:
            what = "is none of those its provider lists" if not fitting else "could be several"
            raise NotIdentified(f"the key that signed the token {what}")
        return fitting[0].key

    def _fitting(self, header: Mapping[str, Any]) -> list[_Listed]:
        alg, kid = header["alg"], header.get("kid")
        kind = ALGORITHMS[alg]
        same = (each for each in self.listed if (each.kty, each.crv) == kind and each.alg in ("", alg))
        return [each for each in same if kid is None or each.kid == kid]


def validate(token: bytes, keys: Keys, expected: Expected, now_s: float) -> Claims:
    """An ID token, each claim held against what was asked for. `now_s`: Unix seconds. Raises NotIdentified; the reason is the operator's."""
    claims = _signed(token, keys, types=("", "jwt"))
    _addressed(claims, expected.issuer, expected.client_id)
    _timely(claims, now_s)
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not expected.nonce or not _same(nonce, expected.nonce):
        raise NotIdentified("the token answers another sign-in: its nonce is not ours")
    since = _number(claims, "auth_time")
    if since is None or since > now_s + CLOCK_SKEW_SECONDS:
        raise NotIdentified("the token does not say when the person signed in (auth_time), which was asked for")
    if now_s - since > expected.max_age_seconds + CLOCK_SKEW_SECONDS:
        raise NotIdentified(f"the sign-in there is {now_s - since:.0f} seconds old, at most {expected.max_age_seconds}")
    _two_factors(claims, expected)
    return Claims(_subject(claims, required=True), _text(claims, "sid"), claims)


def validate_logout(token: bytes, keys: Keys, issuer: str, client_id: str, now_s: float) -> LoggedOut:
    """A logout token (OpenID Connect Back-Channel Logout 1.0, 2.6). `now_s`: Unix seconds. Raises NotIdentified."""
    claims = _signed(token, keys, types=("", "jwt", "logout+jwt"))
    _addressed(claims, issuer, client_id)
    _timely(claims, now_s)
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict) or "nonce" in claims:
        raise NotIdentified("the token is no logout token")
    subject, session, once = _subject(claims, required=False), _text(claims, "sid"), _text(claims, "jti")
    if not (subject or session) or not once:
        raise NotIdentified("the logout token says neither who nor which session, or has no id")
    return LoggedOut(subject, session, once)


# ---- the steps


def _signed(token: bytes, keys: Keys, *, types: tuple[str, ...]) -> dict[str, Any]:
    """The claims, once the signature holds."""
    header = _header(token)
    kind = header.get("typ", "")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in types:
        raise NotIdentified("the token is one for something else (typ)")
    key = keys.one(header)
    try:
        signed = deserialize_compact(token, key, registry=_Registry(strict_check_header=False))
        return _object(signed.payload or b"")
    except (JoseError, ValueError, TypeError) as error:
        raise NotIdentified(f"the token's signature does not hold: {type(error).__name__}") from error


def _header(token: bytes) -> dict[str, Any]:
    """Size, shape and algorithm, before anything costs more than reading."""
    if len(token) > TOKEN_LENGTH_MAX_BYTES:
        raise NotIdentified(f"the token is longer than {TOKEN_LENGTH_MAX_BYTES} bytes")
    parts = token.split(b".")
    if len(parts) != 3 or not all(parts):
        raise NotIdentified("the token is not signed: three parts were expected")
    try:
        header = _object(urlsafe_b64decode(parts[0]))
    except ValueError as error:
        raise NotIdentified("the token's header cannot be read") from error
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        raise NotIdentified(f"the token's algorithm {str(alg)[:32]!r} is none of {', '.join(ALGORITHMS)}")
    if kid is not None and (not isinstance(kid, str) or len(kid) > KEY_ID_LENGTH_MAX_CHARACTERS):
        raise NotIdentified("the token names its key by something that is no name")
    if odd := _REFUSED_HEADERS & header.keys():
        raise NotIdentified(f"the token's header says {min(odd)}, which nothing here follows")
    return header


def _addressed(claims: Mapping[str, Any], issuer: str, client_id: str) -> None:
    if claims.get("iss") != issuer:
        raise NotIdentified("the token is of another issuer")
    audience = claims.get("aud")
    listed = audience if isinstance(audience, list) else [audience]
    if client_id not in listed:
        raise NotIdentified("the token is for somebody else (aud)")
    party = claims.get("azp")
    if (len(listed) > 1 and party is None) or party not in (None, client_id):
        raise NotIdentified("the token was asked for by somebody else (azp)")


def _timely(claims: Mapping[str, Any], now_s: float) -> None:
    ends, made, begins = (_number(claims, name) for name in ("exp", "iat", "nbf"))
    if ends is None or made is None:
        raise NotIdentified("the token does not say when it was made and until when it holds (iat, exp)")
    if now_s >= ends + CLOCK_SKEW_SECONDS:
        raise NotIdentified("the token is over (exp); where that is often so, look after the clocks")
    if begins is not None and begins > now_s + CLOCK_SKEW_SECONDS:
        raise NotIdentified("the token does not hold yet (nbf); where that is often so, look after the clocks")
    if not -CLOCK_SKEW_SECONDS <= now_s - made <= TOKEN_AGE_MAX_SECONDS + CLOCK_SKEW_SECONDS:
        raise NotIdentified("the token was not made just now (iat); where that is often so, look after the clocks")


def _two_factors(claims: Mapping[str, Any], expected: Expected) -> None:
    """The provider's word that it asked for more than a password; a token without it is a password's."""
    if not expected.acr and not expected.amr:
        raise NotIdentified("nothing is named that proves two factors: acr or amr of the provider")
    context = claims.get("acr")
    if expected.acr and not (isinstance(context, str) and context in expected.acr):
        raise NotIdentified(f"two factors are not proven: acr is {str(context)[:64]!r}")
    said = claims.get("amr")
    methods = {each for each in said if isinstance(each, str)} if isinstance(said, list) else set()
    if expected.amr and not any(methods >= set(each.split("+")) for each in expected.amr):
        raise NotIdentified(f"two factors are not proven: amr is {', '.join(sorted(methods))[:64]!r}")


def _subject(claims: Mapping[str, Any], *, required: bool) -> str:
    subject = claims.get("sub", "")
    usable = isinstance(subject, str) and len(subject) <= SUBJECT_LENGTH_MAX_CHARACTERS and "\0" not in subject
    if not usable or (required and not subject):
        raise NotIdentified("the token says of nobody who they are (sub)")
    return str(subject)


def _text(claims: Mapping[str, Any], name: str) -> str:
    found = claims.get(name, "")
    return found if isinstance(found, str) and len(found) <= SUBJECT_LENGTH_MAX_CHARACTERS else ""


def _number(claims: Mapping[str, Any], name: str) -> float | None:
    """Seconds since 1970 as RFC 7519 2 has them; None where it is absent, or none that a clock could show."""
    found = claims.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 1 << 40:
        return None
    return float(found)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


# ---- reading


def _object(content: bytes) -> dict[str, Any]:
    """A JSON object in which nothing is said twice. Raises ValueError."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name is there twice")
        return found

    def never(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    try:
        found = json.loads(content.decode(), object_pairs_hook=once, parse_constant=never)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _listed(each: object) -> _Listed | None:
    """A key of a set, None where it cannot sign here."""
    if not isinstance(each, dict) or each.get("use", "sig") != "sig":
        return None
    kid, kty, crv, alg = (each.get(name, "") for name in ("kid", "kty", "crv", "alg"))
    if not all(isinstance(name, str) for name in (kid, kty, crv, alg)) or len(kid) > KEY_ID_LENGTH_MAX_CHARACTERS:
        return None
    if (kty, "" if kty == "RSA" else crv) not in ALGORITHMS.values():
        return None
    public = {name: each[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in each}  # never a private part
    if not all(isinstance(value, str) for value in public.values()):
        return None
    try:
        if kty == "RSA":
            bits = int.from_bytes(urlsafe_b64decode(str(public["n"]).encode())).bit_length()
            if not RSA_LENGTH_MIN_BITS <= bits <= RSA_LENGTH_MAX_BITS:
                return None
            return _Listed(kid, kty, "", alg, RSAKey.import_key(public))
        key: Key = ECKey.import_key(public) if kty == "EC" else OKPKey.import_key(public)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return _Listed(kid, kty, crv, alg, key)
