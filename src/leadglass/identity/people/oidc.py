"""Whom does an OpenID provider vouch for? Code flow with PKCE (OpenID Connect Core 3.1, RFC 7636, RFC 9207), and the two kinds of logout.

Nothing is kept between `begin` and `finish` but what the browser holds, sealed: any process can finish what another one began. The register says over all
of them that a state or a logout token counts once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from leadglass.identity.people.idtoken import (
    CLOCK_SKEW_SECONDS,
    TOKEN_AGE_MAX_SECONDS,
    Claims,
    Expected,
    Keys,
    LoggedOut,
    validate,
    validate_logout,
)
from leadglass.identity.people.upstream import Answer, Kept, Upstream, trusted
from leadglass.identity.people.vouched import (
    DISPLAY_LENGTH_MAX_CHARACTERS,
    MAIL_LENGTH_MAX_CHARACTERS,
    Vouched,
    folded_name,
    person_id,
    roles_of,
    spoken,
)
from leadglass.site.factors import Factors, Nonce
from leadglass.site.model import ProviderSettings
from leadglass.site.secret import read_secret
from leadglass.site.sitekey import seal, unseal
from leadglass.site.sources import is_loopback
from leadglass.terms import Factor, KeyFault, NotIdentified, UpstreamFault

SIGN_IN_SECONDS = 600.0  # between `begin` and `finish`: a person types there, and finds the telephone
DESCRIPTION_SECONDS = 3600.0  # how long what a provider says of itself, its keys too, is believed without asking again
KEYS_INTERVAL_SECONDS = 30.0  # a key nobody knows is asked for at most so often, whoever sends tokens
HANDLE_LENGTH_MAX_CHARACTERS = 4096
PARAMETER_LENGTH_MAX_CHARACTERS = 2048
RETURN_LENGTH_MAX_CHARACTERS = 512
GROUPS_MAX = 5000
_LOOK = "look after the provider, or its entry in the site file"
_OWN_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")


@dataclass(frozen=True, slots=True)
class SignedOut:
    """Whose sessions end: of the person (their register id, "" where it is not said), and where it is said, only of that session hint."""

    source: str
    person: str
    session_hint: str


@dataclass(frozen=True, slots=True)
class Description:
    """What a provider says of itself (OpenID Connect Discovery 1.0, 3). `secret_in_form`: it knows no other way to be shown the secret."""

    authorization: str
    token: str
    keys: str
    userinfo: str
    end_session: str
    secret_in_form: bool
    says_issuer: bool


class Provider:
    """One `[providers.NAME]`, for one address that people come back to."""

    def __init__(
        self,
        settings: ProviderSettings,
        secret: str,
        context: ssl.SSLContext,
        redirect_uri: str,
        sealing_key: bytes,
        factors: Factors,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.source = settings, f"oidc:{settings.name}"
        self._secret, self._redirect_uri, self._key = secret, redirect_uri, sealing_key
        self._factors, self._now = factors, now_s
        self._upstream = Upstream(f"the provider {settings.name}", context)
        self._description = Kept(self._describe, now_s)
        self._keys = Kept(self._list_keys, now_s)

    @classmethod
    def open(
        cls, settings: ProviderSettings, site_dir: Path, redirect_uri: str, sealing_key: bytes, factors: Factors
    ) -> Provider:
        """With its secret and its authority read. `sealing_key`: 32 bytes, the same in every process. Raises Fault."""
        secret = read_secret(f"the client secret of the provider {settings.name}", settings.client_secret, site_dir)
        context = trusted(f"the provider {settings.name}", settings.authority, site_dir)
        return cls(settings, secret, context, redirect_uri, sealing_key, factors)

    def begin(self, browser: str, return_to: str) -> tuple[str, str]:
        """Where to send the browser, and a handle for it to bring back. `browser`: what a session is bound to. Raises UpstreamFault."""
        described = self.description()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        kept = {
            "state": state,
            "nonce": nonce,
            "verifier": verifier,
            "browser": browser,
            "return_to": own_path(return_to),
            "until": self._now() + SIGN_IN_SECONDS,
        }
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(dict.fromkeys(("openid", *self.settings.scopes))),
            "state": state,
            "nonce": nonce,
            "code_challenge": _unpadded(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
            "max_age": str(self.settings.max_age_seconds),
        }
        if self.settings.acr:
            asked["acr_values"] = " ".join(sorted(self.settings.acr))
        handle = _unpadded(seal(self._key, json.dumps(kept).encode(), self._context))
        return _with(described.authorization, asked), handle

    def finish(self, handle: str, params: Mapping[str, str], browser: str) -> Vouched:
        """Who came back. `params`: of the query. Raises NotIdentified, and UpstreamFault where the provider does not answer."""
        kept = self._kept(handle, params, browser)
        described = self.description()
        self._same_issuer(described, params)
        if (error := params.get("error")) is not None:
            raise NotIdentified(f"the provider {self.settings.name} says {spoken(error, 64)!r} instead of who it is")
        code = params.get("code", "")
        if not code or len(code) > PARAMETER_LENGTH_MAX_CHARACTERS:
            raise NotIdentified("the browser came back without a code")
        tokens = self._tokens(described, code, kept["verifier"])
        token = tokens.get("id_token")
        if not isinstance(token, str):
            raise UpstreamFault(f"the provider {self.settings.name} gives no ID token", hint="the client needs openid")
        expected = Expected(
            self.settings.issuer,
            self.settings.client_id,
            kept["nonce"],
            self.settings.acr,
            self.settings.amr,
            self.settings.max_age_seconds,
        )
        content = token.encode("utf-8", "replace")
        claims = validate(content, self._keys_for(content), expected, self._now())
        return self._vouched(described, claims, tokens.get("access_token"), kept["return_to"])

    def way_back(self, handle: str) -> str:
        """The path that somebody was on the way to who brings this handle, "/" where it is none of ours."""
        try:
            return own_path(str(self._unsealed(handle)["return_to"]))
        except NotIdentified:
            return "/"

    def logout_url(self, return_to: str, session_hint: str = "") -> str:
        """Where a browser ends its session there too (RP-Initiated Logout 1.0), "" where it cannot. `return_to`: registered there, absolute."""
        if not self.settings.end_session:
            return ""
        try:
            address = self.description().end_session
        except UpstreamFault:
            return ""  # whoever signs out here is signed out here
        said = {"client_id": self.settings.client_id, "post_logout_redirect_uri": return_to}
        return _with(address, said | ({"logout_hint": session_hint} if session_hint else {})) if address else ""

    def back_channel(self, token: bytes) -> SignedOut:
        """Whom the provider signed out by itself (Back-Channel Logout 1.0). Raises NotIdentified, UpstreamFault."""
        keys = self._keys_for(token)
        found: LoggedOut = validate_logout(token, keys, self.settings.issuer, self.settings.client_id, self._now())
        until = self._now() + TOKEN_AGE_MAX_SECONDS + 2 * CLOCK_SKEW_SECONDS
        if not self._first("logout", found.id, until):
            raise NotIdentified("a logout token came again")
        person = person_id(self.source, found.subject) if found.subject else ""
        return SignedOut(self.source, person, found.session)

    def description(self) -> Description:
        """What the provider says of itself, not older than an hour. Raises UpstreamFault."""
        return self._description.get(self._now() - DESCRIPTION_SECONDS)

    def keys(self, newer_than_s: float = 0.0) -> Keys:
        """The keys it signs with, not older than an hour, nor than `newer_than_s` (Unix seconds). Raises UpstreamFault."""
        return self._keys.get(max(newer_than_s, self._now() - DESCRIPTION_SECONDS))

    # ---- the steps

    @property
    def _context(self) -> bytes:
        return f"leadglass/{self.source}".encode()

    def _describe(self) -> Description:
        return _asked(self.settings, self._upstream)

    def _list_keys(self) -> Keys:
        answer = self._upstream.get(self.description().keys)
        if answer.status != 200:
            raise UpstreamFault(f"the provider {self.settings.name} lists no keys: {answer.status}", hint=_LOOK)
        return Keys.read(answer.content)

    def _first(self, kind: str, said: str, until_s: float) -> bool:
        once = hashlib.sha256(f"{self.source}\0{kind}\0{said}".encode()).hexdigest()
        return self._factors.use_handle(Nonce(once, int(until_s * 1e9)), int(self._now() * 1e9))

    def _kept(self, handle: str, params: Mapping[str, str], browser: str) -> dict[str, Any]:
        """What `begin` sealed, if this is the browser, the answer and the first time."""
        kept = self._unsealed(handle)
        if kept["until"] <= self._now():
            raise NotIdentified(f"the sign-in that came back began more than {SIGN_IN_SECONDS:.0f} seconds ago")
        if not browser or not _same(kept["browser"], browser):
            raise NotIdentified("the sign-in came back in another browser than it began in")
        if not _same(kept["state"], params.get("state", "")):
            raise NotIdentified("what came back answers another sign-in: its state is not ours")
        if not self._first("state", kept["state"], kept["until"]):
            raise NotIdentified("the sign-in came back a second time")
        return kept

    def _unsealed(self, handle: str) -> dict[str, Any]:
        """Raises NotIdentified."""
        if len(handle) > HANDLE_LENGTH_MAX_CHARACTERS:
            raise NotIdentified("the sign-in that came back is none of ours")
        try:
            sealed = base64.b64decode(handle + "=" * (-len(handle) % 4), altchars=b"-_", validate=True)
            kept: dict[str, Any] = json.loads(unseal(self._key, sealed, self._context))
        except (KeyFault, ValueError) as error:
            raise NotIdentified("the sign-in that came back is none of ours") from error
        return kept

    def _same_issuer(self, described: Description, params: Mapping[str, str]) -> None:
        """RFC 9207: an answer of another provider's must not be taken for this one's."""
        issuer = params.get("iss")
        if issuer is None and not described.says_issuer:
            return
        if issuer != self.settings.issuer:
            raise NotIdentified("what came back is the answer of another provider (iss)")

    def _tokens(self, described: Description, code: str, verifier: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }
        headers: dict[str, str] = {}
        if described.secret_in_form:
            form |= {"client_id": self.settings.client_id, "client_secret": self._secret}
        else:  # RFC 6749 2.3.1: each half as a form would spell it
            both = f"{quote_plus(self.settings.client_id)}:{quote_plus(self._secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
        answer = self._upstream.post(described.token, form, headers)
        found = _object(self.settings, answer, "a token", (200, 400, 401))
        if answer.status == 200:
            return found
        error = spoken(found.get("error"), 64)
        if error == "invalid_grant":
            raise NotIdentified(f"the provider {self.settings.name} knows nothing of this code, or no longer")
        what = f"the provider {self.settings.name} refuses this site: {error or answer.status}"
        raise UpstreamFault(what, hint="client_id and client_secret are what it registered this site under?")

    def _keys_for(self, token: bytes) -> Keys:
        """The keys, asked for again where the token names one that is not among them. Raises NotIdentified for what is no token."""
        keys = self.keys()
        if not keys.knows(token):
            keys = self.keys(newer_than_s=self._now() - KEYS_INTERVAL_SECONDS)
        return keys

    def _vouched(self, described: Description, claims: Claims, access: object, return_to: str) -> Vouched:
        """Groups and names: in the token, or (thin tokens) where the provider tells them on request."""
        values = claims.values
        wanted = (self.settings.name_claim, self.settings.groups_claim)
        if any(_claim(values, each) is None for each in wanted) and described.userinfo and isinstance(access, str):
            headers = {"Authorization": f"Bearer {access}"}
            more = _object(self.settings, self._upstream.get(described.userinfo, headers), "what it knows of a person")
            if more.get("sub") != claims.subject:  # OpenID Connect Core 5.3.2
                raise NotIdentified(f"the provider {self.settings.name} tells of somebody else than it vouched for")
            values = {**more, **values}
        said = _claim(values, self.settings.name_claim)
        name = folded_name(said) if isinstance(said, str) else ""
        if not name:
            raise NotIdentified(f"the provider {self.settings.name} gives no usable name in {self.settings.name_claim}")
        groups = _claim(values, self.settings.groups_claim)
        listed = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        mail = spoken(values.get("email"), MAIL_LENGTH_MAX_CHARACTERS)
        return Vouched(
            source=self.source,
            subject=claims.subject,
            name=name,
            display=spoken(values.get("name"), DISPLAY_LENGTH_MAX_CHARACTERS),
            mail="" if values.get("email_verified") is False else mail,
            roles=roles_of((each for each in listed[:GROUPS_MAX] if isinstance(each, str)), self.settings.roles),
            factors=frozenset({Factor.PROVIDER}),
            session_hint=claims.session,
            return_to=return_to,
        )


def examine(settings: ProviderSettings, site_dir: Path) -> Description:
    """What a provider says of itself now; its secret can be read. Raises KeyFault, UpstreamFault."""
    name = f"the provider {settings.name}"
    read_secret(f"the client secret of {name}", settings.client_secret, site_dir)
    return _asked(settings, Upstream(name, trusted(name, settings.authority, site_dir)))


def own_path(said: str) -> str:
    """A path of this site's own, "/" for whatever could lead elsewhere."""
    return said if len(said) <= RETURN_LENGTH_MAX_CHARACTERS and _OWN_PATH.fullmatch(said) else "/"


def _asked(settings: ProviderSettings, upstream: Upstream) -> Description:
    url = f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration"
    return _described(settings, _object(settings, upstream.get(url), "its discovery document"))


def _object(
    settings: ProviderSettings, answer: Answer, what: str, statuses: tuple[int, ...] = (200,)
) -> dict[str, Any]:
    """A JSON object. Raises UpstreamFault."""
    name = f"the provider {settings.name}"
    if answer.status not in statuses:
        raise UpstreamFault(f"{name} answers {answer.status} where {what} was asked for", hint=_LOOK)
    try:
        found = json.loads(answer.content)
    except (ValueError, RecursionError) as error:
        raise UpstreamFault(f"{name} answers no JSON where {what} was asked for", hint=_LOOK) from error
    if not isinstance(found, dict):
        raise UpstreamFault(f"{name} answers no JSON object where {what} was asked for", hint=_LOOK)
    return found


def _described(settings: ProviderSettings, found: Mapping[str, Any]) -> Description:
    """Raises UpstreamFault: another issuer's document, or an address that is not as safe as the issuer's own."""
    if found.get("issuer") != settings.issuer:
        what = f"the provider {settings.name} calls itself {spoken(found.get('issuer'), 128)!r}"
        raise UpstreamFault(what, hint=f"issuer = that, if it is right; it is {settings.issuer} here")

    def address(name: str, required: bool = True) -> str:
        url = found.get(name)
        if url is None and not required:
            return ""
        try:
            parts = urlsplit(url if isinstance(url, str) else "")
            here = parts.scheme == "http" and settings.issuer.startswith("http:") and is_loopback(parts.hostname or "")
            if not parts.hostname or not (parts.scheme == "https" or here):
                raise ValueError("not https")
        except ValueError as error:
            raise UpstreamFault(f"the provider {settings.name} has no usable {name}: {error}", hint=_LOOK) from error
        return str(url)

    methods = found.get("token_endpoint_auth_methods_supported")
    basic = not isinstance(methods, list) or "client_secret_basic" in methods
    return Description(
        authorization=address("authorization_endpoint"),
        token=address("token_endpoint"),
        keys=address("jwks_uri"),
        userinfo=address("userinfo_endpoint", required=False),
        end_session=address("end_session_endpoint", required=False),
        secret_in_form=not basic,
        says_issuer=found.get("authorization_response_iss_parameter_supported") is True,
    )


def _claim(values: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by its way through nested ones, such as `realm_access.roles`."""
    if name in values:
        return values[name]
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _with(url: str, asked: Mapping[str, str]) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(asked)}"


def _unpadded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))
