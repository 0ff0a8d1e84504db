"""Is this token ours, in time, and in the hands of the machine that it was given to? Short JWTs (RFC 7519, RFC 8705).

A token is signed with ES256 and nothing else, lives five minutes, and is bound to a client certificate (`cnf`, `x5t#S256`): stolen, it is worth
nothing without that certificate's key. It stands for a session of the register, so that it is listed and ended like any other. One is for a
machine client at the web door, or for somebody's associations from one workstation (PS3.7 D.3.3.7, type 5), never for both.
"""

from __future__ import annotations

import base64
import datetime as dt
import hmac
import re
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from leadglass.site.people import People
from leadglass.terms import NotIdentified, Peer, Person, Role, fingerprint_of

TOKEN_SECONDS_MAX = 300
TOKEN_CHARACTERS_MAX = 4096
CLOCK_SKEW_SECONDS = 5  # between processes of one site
ALGORITHM = "ES256"
TYPE = "at+jwt"
AUDIENCE = "leadglass"
ASSOCIATIONS = "leadglass dimse"  # the audience of somebody's at a workstation
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (FIPS 186-5)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Tokens:
    """`key`: 32 bytes, the same in every process of the site; `issuer`: the site's name."""

    def __init__(self, key: bytes, issuer: str) -> None:
        wide = hmac.digest(
            key, b"tokens/0", "sha512"
        )  # 512 bits over a 256-bit order: as good as uniform (FIPS 186-5 A.2.1)
        private = ec.derive_private_key(int.from_bytes(wide) % (_ORDER - 1) + 1, ec.SECP256R1())
        self._key = ECKey.import_key(private)
        self._issuer = issuer

    def make(
        self, person_id: str, session: str, fingerprint: str, now_ns: int, audience: str = AUDIENCE
    ) -> tuple[str, int]:
        """The token, and until when it is good (Unix nanoseconds). `fingerprint`: `sha256:<hex>` of whoever is to present it. Raises NotIdentified."""
        now = now_ns // 1_000_000_000
        claims = {
            "iss": self._issuer,
            "aud": audience,
            "sub": person_id,
            "jti": session,
            "iat": now,
            "nbf": now,
            "exp": now + TOKEN_SECONDS_MAX,
            "cnf": {"x5t#S256": _thumbprint(fingerprint)},
        }
        token = jwt.encode({"alg": ALGORITHM, "typ": TYPE}, claims, self._key, algorithms=[ALGORITHM])
        return token, (now + TOKEN_SECONDS_MAX) * 1_000_000_000

    def read(self, token: str, peer: Peer, now_ns: int, audience: str = AUDIENCE) -> tuple[str, str]:
        """Person's id and session. Raises NotIdentified; the reason says which fact did not hold."""
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise NotIdentified(f"the token is longer than {TOKEN_CHARACTERS_MAX} characters")
        try:
            found = jwt.decode(token, self._key, algorithms=[ALGORITHM])
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise NotIdentified(f"the token is not ours: {error}") from error
        if found.header.get("typ") != TYPE or set(found.header) != {"alg", "typ"}:
            raise NotIdentified("the token's header is not one of ours")
        claims = found.claims
        if claims.get("iss") != self._issuer or claims.get("aud") != audience:
            raise NotIdentified("the token was made by another site, or for something else")
        _in_time(claims, now_ns // 1_000_000_000)
        confirmation = claims.get("cnf")
        bound = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
        if not isinstance(bound, str) or not hmac.compare_digest(
            bound.encode(), _thumbprint(fingerprint_of(peer)).encode()
        ):
            raise NotIdentified("the token belongs to another certificate: it may have been stolen")
        return str(claims.get("sub", "")), str(claims.get("jti", ""))


def certified(people: People, peer: Peer, now_ns: int) -> Person:
    """The machine client whose certificate the peer presented. Raises NotIdentified."""
    if peer.certificate is None:
        raise NotIdentified("no client certificate was presented")
    person = people.with_certificate(fingerprint_of(peer))
    if person is None or Role.SERVICE_ACCOUNT not in person.roles:
        raise NotIdentified(f"no service account pins the certificate {fingerprint_of(peer)}")
    try:
        certificate = x509.load_der_x509_certificate(peer.certificate)
    except ValueError as error:
        raise NotIdentified(f"{person.name}'s certificate cannot be read: {error}") from error
    now = dt.datetime.fromtimestamp(now_ns / 1e9, dt.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise NotIdentified(
            f"{person.name}'s certificate is good until {certificate.not_valid_after_utc:%Y-%m-%d}: pin a new one"
        )
    return person


def _in_time(claims: Mapping[str, Any], now: int) -> None:
    times = [claims.get(name) for name in ("iat", "nbf", "exp")]
    if not all(type(each) is int for each in times):
        raise NotIdentified("the token says no times")
    issued, begins, ends = (int(each) for each in times if each is not None)
    if now >= ends or ends - issued > TOKEN_SECONDS_MAX:
        raise NotIdentified("the token is over: ask for a new one")
    if max(issued, begins) > now + CLOCK_SKEW_SECONDS:
        raise NotIdentified("the token begins in the future: look at the clocks")


def _thumbprint(fingerprint: str) -> str:
    """As RFC 8705 3.1 writes it."""
    kind, _, digest = fingerprint.partition(":")
    if kind != "sha256" or not _SHA256.fullmatch(digest):
        raise NotIdentified("a token is for whoever presents a client certificate, and none was presented")
    return base64.urlsafe_b64encode(bytes.fromhex(digest)).rstrip(b"=").decode()
