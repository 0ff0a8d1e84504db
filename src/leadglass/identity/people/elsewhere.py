"""Who is it that a provider or directory vouches for? Sign-in by them, and the end of what they vouched for.

    provider     it asked for two factors, and says so: a session. A step-up wants a passkey of ours all the same.
    directory    its password is one factor: with a code of our app, or a recovery code, a session; from somebody who never had a factor
                 here, a link to enrol one, and no session.
What they say of a person becomes so by a change, whose operator is the site itself. While the site is read-only, what they take away does, and
nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from leadglass.identity.people.codes import counter_of, recovery_digest
from leadglass.identity.people.guesses import Guesses
from leadglass.identity.people.sessions import SessionBook
from leadglass.identity.people.sources import Sources
from leadglass.identity.people.vouched import Vouched, person_of
from leadglass.site.people import NAME_CHARACTERS_MAX, People, fold_name
from leadglass.terms import (
    Caller,
    ChangeKind,
    Contained,
    Factor,
    Fault,
    NotChanged,
    NotIdentified,
    Peer,
    Person,
    Role,
    SignIn,
)

SIGNED_OUT_PATH = "/signed-out"  # registered at the provider: where it sends people who signed out there

Order = Callable[[ChangeKind, str, Mapping[str, object]], object]
"""A change by the site itself, through the gateway: what, about whom, with which arguments. Raises Refused, Fault."""


class Elsewhere:
    """Thread-safe; blocks. Times are Unix nanoseconds."""

    def __init__(self, people: People, book: SessionBook, guesses: Guesses, sources: Sources, order: Order) -> None:
        self._people, self._book, self._guesses = people, book, guesses
        self._order = order
        self.sources = sources

    def begin(self, name: str, origin: str, browser: str, return_to: str) -> tuple[str, str]:
        """Where to send a browser, and the handle that it brings back. Raises NotIdentified, Fault."""
        return self.sources.provider(name, origin).begin(_bound(browser), return_to)

    def way_back(self, name: str, origin: str, handle: str) -> str:
        """The path that somebody was on the way to before they went to the provider."""
        return self.sources.provider(name, origin).way_back(handle)

    def recognise(self, peer: Peer, claim: SignIn, now_ns: int) -> Caller:
        """`evidence`: `source` is the name in the site file; `origin`, `handle` and `params` of a provider's answer; else `password` and `code`.

        Factors are PASSWORD alone where one is to be enrolled first. Raises Refused (NotIdentified, Slowed; NotChanged and Contained where what
        the source says cannot become so), Fault.
        """
        name = str(claim.evidence.get("source", ""))
        if claim.method == "oidc":
            return self._by_provider(name, peer, claim, now_ns)
        return self._by_directory(name, peer, claim, now_ns)

    def sign_out_address(self, session: str, origin: str) -> str:
        """Where the browser of a session signs out at its provider too; "" where it was none's, or the provider cannot be asked."""
        row = self._people.sessions.get(session)
        person = self._people.get(row.person) if row is not None and Factor.PROVIDER in row.factors else None
        if row is None or person is None:
            return ""
        try:
            provider = self.sources.provider(person.source.removeprefix("oidc:"), origin)
        except (NotIdentified, Fault):
            return ""  # whoever signs out here is signed out here
        return provider.logout_url(f"{origin}{SIGNED_OUT_PATH}", row.hint)

    def signed_out(self, name: str, origin: str, token: str, now_ns: int) -> int:
        """Ends what a provider's logout token says; how many sessions. Raises NotIdentified, Fault."""
        said = self.sources.provider(name, origin).back_channel(token.encode("utf-8", "replace"))
        ending = self._people.sessions.vouched(said.source, said.person, said.session_hint, now_ns)
        for row in ending:
            person = self._people.get(row.person)
            if person is not None:
                why = f"{said.source} signed them out"
                self._order(ChangeKind.SESSION_END, person.name, {"session": row.id, "why": why})
        return len(ending)

    # ---- the two ways

    def _by_provider(self, name: str, peer: Peer, claim: SignIn, now_ns: int) -> Caller:
        params = claim.evidence.get("params")
        vouched = self.sources.provider(name, str(claim.evidence.get("origin", ""))).finish(
            str(claim.evidence.get("handle", "")), params if isinstance(params, Mapping) else {}, _bound(claim.browser)
        )
        caller = self._caller(vouched, vouched.factors, peer, now_ns)
        return replace(caller, session_hint=vouched.session_hint)

    def _by_directory(self, source: str, peer: Peer, claim: SignIn, now_ns: int) -> Caller:
        """Guesses are counted before the directory hears of them: there each wrong password counts against the person."""
        directory = self.sources.directory(source)
        name = fold_name(claim.name[: 4 * NAME_CHARACTERS_MAX])
        self._guesses.attempt(name, peer.address, now_ns)
        try:
            vouched = directory.verify(name, str(claim.evidence.get("password") or ""))
        except Fault:
            self._guesses.not_looked_at(name, peer.address)
            raise
        proven = vouched.factors | self._second(vouched, claim.evidence.get("code"), now_ns)
        caller = self._caller(vouched, proven, peer, now_ns)
        self._guesses.succeeded(name, peer.address)
        return caller

    def _second(self, vouched: Vouched, code: object, now_ns: int) -> frozenset[Factor]:
        """What was proven of ours besides the directory's password; nothing where nothing was ever enrolled. Raises NotIdentified."""
        person, factors = vouched.person_id, self._people.factors
        app = factors.password(person)
        if app is None and not factors.passkeys(person):
            if factors.was_reset(
                person
            ):  # else whoever knows a password would have the link that somebody else was given
                raise NotIdentified(f"{vouched.name}'s factors were reset: the link that was made then is their way in")
            return frozenset()
        counter = counter_of(app.totp, code, now_ns) if app is not None else None
        if counter is not None:
            if not factors.use_code(person, counter, now_ns):
                raise NotIdentified("the code was used before: somebody may be looking over their shoulder")
            return frozenset({Factor.TOTP})
        if factors.use_recovery_code(person, recovery_digest(code), now_ns):
            return frozenset({Factor.RECOVERY_CODE})
        way = "a code of their app" if app is not None else "their passkey alone"
        raise NotIdentified(
            f"{vouched.source} knows {vouched.name}'s password, and the code is wrong: {way} lets them in"
        )

    def _caller(self, vouched: Vouched, proven: frozenset[Factor], peer: Peer, now_ns: int) -> Caller:
        known = self._people.get(vouched.person_id) or self._people.named(vouched.name)
        if known is not None and known.id == vouched.person_id and known.enabled and not vouched.roles:
            why = f"{vouched.source} gives them no role any more"
            self._order(ChangeKind.PERSON_DISABLE, known.name, {"why": why, "gone": True})
        if person_of(vouched, known, gone=known is not None and self._people.gone(known.id)) != known:
            try:
                self._order(ChangeKind.PERSON_VOUCH, vouched.name, arguments_of(vouched))
            except Contained as calm:
                self._narrow(vouched, known, calm)
        person: Person = self._book.in_force(vouched.person_id, now_ns)
        return self._book.describe(person, secrets.token_hex(16), peer, proven, 0, now_ns)

    def _narrow(self, vouched: Vouched, known: Person | None, calm: Contained) -> None:
        """A read-only site takes nobody new in and gives nobody more: who is known comes in with what they had, less what the source took away.

        Raises Contained for everybody else. What the source says besides becomes so at the first sign-in after it.
        """
        if known is None or not known.enabled:
            raise calm
        for role in sorted(known.roles - vouched.roles):
            why = f"{vouched.source} does not give it any more"
            self._order(ChangeKind.ROLE_REVOKE, known.name, {"role": role, "why": why})
        if not known.roles & vouched.roles:
            raise calm


def arguments_of(vouched: Vouched) -> dict[str, object]:
    """Of the change PERSON_VOUCH about the person's name."""
    return {
        "source": vouched.source,
        "subject": vouched.subject,
        "display": vouched.display,
        "mail": vouched.mail,
        "roles": sorted(vouched.roles),
    }


def vouched_of(name: str, arguments: Mapping[str, Any]) -> Vouched:
    """What `arguments_of` wrote; what was proven besides is gone. Raises NotChanged."""
    source, _, named = str(arguments.get("source", "")).partition(":")
    if source not in ("oidc", "ldap") or not named or not arguments.get("subject"):
        raise NotChanged("only a provider or directory vouches for somebody, by what it never gives to anybody else")
    try:
        roles = frozenset(Role(str(each)) for each in arguments.get("roles", ()))
    except ValueError as error:
        raise NotChanged(str(error)) from error
    if Role.SERVICE_ACCOUNT in roles:
        raise NotChanged(f"a {Role.SERVICE_ACCOUNT} is a machine: nobody else vouches for it")
    return Vouched(
        source=f"{source}:{named}",
        subject=str(arguments["subject"]),
        name=fold_name(name),
        display=str(arguments.get("display", "")),
        mail=str(arguments.get("mail", "")),
        roles=roles,
        factors=frozenset(),
    )


def _bound(browser: str) -> str:
    """What a sign-in that leaves us is bound to: as long whatever a browser calls itself, for it travels in a cookie."""
    return hmac.digest(b"leadglass/sign-in", browser.encode("utf-8", "replace"), hashlib.sha256).hex()
