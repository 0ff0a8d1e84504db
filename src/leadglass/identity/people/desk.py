"""Which person is it? The one part that doors speak to about people: sign-in, sessions, enrolment; it decides nothing about what they may."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from leadglass.identity.people.codes import counter_of, new_secret, recovery_digest
from leadglass.identity.people.elsewhere import Elsewhere, Order
from leadglass.identity.people.enrolment import Enrolment, Invitation
from leadglass.identity.people.guesses import Guesses
from leadglass.identity.people.handles import Handles, from_base64url, to_base64url
from leadglass.identity.people.links import new_link
from leadglass.identity.people.passkeys import Origin, credential_of, request_options, verify_assertion
from leadglass.identity.people.passwords import Passwords
from leadglass.identity.people.sessions import SessionBook
from leadglass.identity.people.sources import Sources
from leadglass.identity.people.tokens import ASSOCIATIONS, TOKEN_SECONDS_MAX, Tokens, certified
from leadglass.site.factors import Passkey
from leadglass.site.model import SessionLimits
from leadglass.site.people import NAME_CHARACTERS_MAX, People, fold_name
from leadglass.site.sessions import SessionRow
from leadglass.terms import Caller, Factor, NotIdentified, Overloaded, Peer, Person, Role, SignIn, fingerprint_of

PURPOSES = ("sign-in", "step-up", "unlock")


class Desk:
    """Thread-safe; blocks. `key`: 32 bytes that every process of the site derives alike; `clock`: Unix nanoseconds.

    `vouching`: who else vouches for people, and what makes a change of what they say; None: nobody does. `limits()`: of sessions, what holds now.
    """

    def __init__(
        self,
        people: People,
        key: bytes,
        site_name: str,
        *,
        clock: Callable[[], int] = time.time_ns,
        passwords: Passwords | None = None,
        vouching: tuple[Sources, Order] | None = None,
        limits: Callable[[], SessionLimits] = SessionLimits,
    ) -> None:
        self._people, self._factors, self._clock = people, people.factors, clock
        self._handles = Handles(hmac.digest(key, b"handles", "sha256"))
        self._passwords = passwords or Passwords()
        self._guesses = Guesses(people.factors, hmac.digest(key, b"guesses", "sha256"), self._was_there)
        self._book = SessionBook(people, limits)
        self._enrolment = Enrolment(people, self._book, self._handles, self._passwords, site_name)
        self._tokens = Tokens(key, site_name)
        self._elsewhere = Elsewhere(people, self._book, self._guesses, *vouching) if vouching is not None else None
        self._nobodys_secret = new_secret()

    # ---- sign-in, step-up, unlock

    def passkey_options(
        self, origin: Origin, purpose: str = "sign-in", session: str = ""
    ) -> tuple[str, Mapping[str, Any]]:
        """A handle, and PublicKeyCredentialRequestOptionsJSON. A step-up and an unlock name the session: only its person's passkeys will do."""
        row = self._people.sessions.get(session) if session else None
        allowed = self._factors.passkeys(row.person) if row else []
        challenge, options = request_options(origin, allowed)
        facts = {"challenge": to_base64url(challenge), "origin": origin.scheme_host_port, "session": session}
        return self._handles.seal(f"passkey for {purpose}", facts, self._clock()), options

    def recognise(self, peer: Peer, claim: SignIn) -> Caller:
        """Who it is, with proof. A sign-in's caller carries the id of the session that it may open, once.

        Raises NotIdentified (whose reason is the operator's; a peer hears the same of all of them), Slowed, Overloaded.
        """
        now_ns = self._clock()
        if claim.method == "passkey" and claim.purpose in PURPOSES:
            return self._by_passkey(peer, claim, now_ns)
        if claim.method in ("password", "recovery") and claim.purpose == "sign-in":
            return self._by_password(peer, claim, now_ns)
        if claim.method == "certificate" and claim.purpose == "token":
            until_ns = now_ns + TOKEN_SECONDS_MAX * 1_000_000_000
            return replace(self.machine(peer), session=_session_id(), until_ns=until_ns)
        if claim.method in ("oidc", "ldap") and claim.purpose == "sign-in":
            return self.elsewhere.recognise(peer, claim, now_ns)
        raise NotIdentified(f"{claim.method} is no way to {claim.purpose} here")

    def recovery_link(self, caller: Caller) -> str:
        """For somebody without a password who had only a recovery code: no session, but a link to enrol a passkey with. Raises NotIdentified."""
        if caller.factors != {Factor.RECOVERY_CODE}:
            raise NotIdentified(f"{caller.name} did not sign in with a recovery code alone")
        return self.invite(caller.person, "recover")[0]

    @property
    def elsewhere(self) -> Elsewhere:
        """Sign-in by providers and directories. Raises NotIdentified where nobody else vouches."""
        if self._elsewhere is None:
            raise NotIdentified("nobody else vouches for people here")
        return self._elsewhere

    def first_link(self, caller: Caller) -> str:
        """For somebody of a directory who proved its password and never had a factor here: no session, but a link to enrol one. Raises NotIdentified."""
        if caller.factors != {Factor.PASSWORD} or caller.person.id in self._factors.enrolled():
            raise NotIdentified(f"{caller.name} did not sign in with a directory's password for the first time")
        return self.invite(caller.person, "enroll")[0]

    def invite(self, person: Person, purpose: str) -> tuple[str, int]:
        """The secret of a new link, and until when it is good; earlier ones are over."""
        now_ns = self._clock()
        secret, digest, until_ns = new_link(now_ns)
        self._factors.invite(person.id, digest, purpose, until_ns, now_ns)
        return secret, until_ns

    # ---- sessions

    def open_session(self, caller: Caller, browser: str) -> tuple[str, Caller]:
        """The secret for the cookie, and the caller in the session. `browser`: whatever the session is bound to. Raises NotIdentified."""
        return self._book.open(caller, browser, self._clock())

    def caller(self, token: str, peer: Peer, browser: str) -> Caller:
        """Who sends this cookie. Raises NotIdentified (none, ended, over, another browser, disabled), Locked (idle: unlock it)."""
        return self._book.caller(token, peer, browser, self._clock())

    def still(self, caller: Caller) -> None:
        """For streams and associations, when the generation rises: raises NotIdentified where that session or a role is gone."""
        self._book.still(caller, self._clock())

    def lock(self, session_id: str) -> None:
        self._people.sessions.lock(session_id)

    def end_session(self, session_id: str, why: str = "signed out") -> None:
        self._people.sessions.end(session_id, why, self._clock())

    def sessions(self, person_id: str) -> list[SessionRow]:
        """The live ones, the newest first."""
        now_ns = self._clock()
        return [
            each
            for each in self._people.sessions.of(person_id)
            if each.live(now_ns) and now_ns < self._book.end_of(each)
        ]

    def as_if_here(self, person: Person, peer: Peer) -> Caller:
        """Somebody with what is in force for them now, proven by nothing: to explain what they may."""
        return self._book.describe(person, "", peer, frozenset(), 0, self._clock())

    # ---- machine clients

    def machine(self, peer: Peer) -> Caller:
        """A service account, by the certificate that its machine presents and that is pinned. Raises NotIdentified."""
        now_ns = self._clock()
        person = certified(self._people, peer, now_ns)
        return self._book.describe(
            self._book.in_force(person.id, now_ns), "", peer, frozenset({Factor.CERTIFICATE}), 0, now_ns
        )

    def machine_at(self, device: str, peer: Peer) -> Caller | None:
        """The service account that a device is: one pins a certificate of it, present or former; None where none does.

        Raises NotIdentified where it is disabled or over, or several do: what a device may alone can be more than what its account may.
        """
        found, now_ns = self._people.machines_of(device), self._clock()
        if not found:
            return None
        if len(found) > 1 or Role.SERVICE_ACCOUNT not in found[0].roles:
            named = ", ".join(each.name for each in found)
            raise NotIdentified(f"{device}'s certificates are pinned by {named}: one service account and no other may")
        person = self._book.in_force(found[0].id, now_ns)
        return self._book.describe(person, "", peer, frozenset({Factor.CERTIFICATE}), 0, now_ns)

    def token(self, caller: Caller) -> tuple[str, int]:
        """For a machine: a token that is good for five minutes with its certificate only, and until when. Raises NotIdentified.

        One that was recognised for it has its session's id already, once; a token gives no other one.
        """
        now_ns = self._clock()
        if caller.factors != {Factor.CERTIFICATE} or (
            caller.session and self._people.sessions.get(caller.session) is not None
        ):
            raise NotIdentified(f"{caller.name} is no machine client that presents its certificate")
        person = self._book.in_force(certified(self._people, caller.peer, now_ns).id, now_ns)
        session, until_ns = caller.session or _session_id(), now_ns + TOKEN_SECONDS_MAX * 1_000_000_000
        opened = self._book.open_machine(person, session, caller.peer, until_ns, now_ns)
        return self._tokens.make(person.id, opened.session, fingerprint_of(caller.peer), now_ns)

    def bearer(self, token: str, peer: Peer) -> Caller:
        """Whose token it is, in the hands of the machine that it was given to and whose certificate is still pinned. Raises NotIdentified."""
        now_ns = self._clock()
        person_id, session = self._tokens.read(token, peer, now_ns)
        if certified(self._people, peer, now_ns).id != person_id:
            raise NotIdentified("the token is another account's than its certificate")
        return self._book.machine(person_id, session, peer, now_ns)

    # ---- at workstations

    def sitting_at(self, device: str, peer: Peer) -> Caller | None:
        """Who sits at a workstation, by their lease; None where nobody does, or their session or account is over."""
        now_ns = self._clock()
        lease = self._people.access.lease_of(device, now_ns)
        row = self._people.sessions.get(lease.session) if lease is not None else None
        if row is None:
            return None
        try:
            return self._book.of_row(row, peer, now_ns, lease.until_ns if lease is not None else 0)
        except NotIdentified:
            return None

    def association_token(self, caller: Caller, fingerprint: str) -> tuple[str, int]:
        """For associations from the workstation whose certificate that is (`sha256:<hex>`): a token, and until when it opens one.

        Raises NotIdentified where the caller is in no session that lasts.
        """
        self.still(caller)
        return self._tokens.make(caller.person.id, caller.session, fingerprint, self._clock(), ASSOCIATIONS)

    def associated(self, token: bytes, peer: Peer) -> Caller:
        """Whose token an association brings, from the workstation that it was made for. Raises NotIdentified."""
        now_ns = self._clock()
        try:
            text = token.rstrip(b"\0").decode("ascii")  # padded to an even length, as some do
        except UnicodeDecodeError as error:
            raise NotIdentified("the token is no text") from error
        person_id, session = self._tokens.read(text, peer, now_ns, ASSOCIATIONS)
        row = self._people.sessions.get(session)
        if row is None or row.person != person_id:
            raise NotIdentified("the token's session is not here")
        return self._book.of_row(row, peer, now_ns)

    def again(self, caller: Caller) -> Caller:
        """The same caller with what is in force for them now; as they were where they are in no session. Raises NotIdentified where that is over."""
        if not caller.session:
            return caller
        self.still(caller)
        return self.in_session(caller.session, caller.peer)

    def in_session(self, session_id: str, peer: Peer) -> Caller:
        """Whose session it is, wherever they work. Raises NotIdentified where it is over."""
        row = self._people.sessions.get(session_id)
        if row is None:
            raise NotIdentified(f"session {session_id} is over: there is none")
        return self._book.of_row(row, peer, self._clock())

    # ---- enrolment: by link, or signed in

    def invited(self, link: str) -> Invitation:
        """Raises NotIdentified."""
        return self._enrolment.invited(link, self._clock())

    def invitee(self, link: str, peer: Peer) -> Caller:
        """Whoever holds the link, as the one who orders the change FACTOR_ENROLL: no session, nothing proven. Raises NotIdentified."""
        return Caller(self.invited(link).person, "", peer, frozenset())

    def enrolment_options(self, link: str, origin: Origin) -> tuple[str, Mapping[str, Any]]:
        """A handle, and PublicKeyCredentialCreationOptionsJSON."""
        return self._enrolment.passkey_options(link, origin, self._clock())

    def enrolled_passkey(
        self, link: str, handle: str, credential: object, origin: Origin, label: str = ""
    ) -> Mapping[str, Any]:
        """The arguments of the change FACTOR_ENROLL about the person's name. Raises NotIdentified."""
        return self._enrolment.passkey(link, handle, credential, origin, label, self._clock())

    def totp_offer(self, link: str) -> tuple[str, str]:
        """A handle, and the otpauth URI that the app reads."""
        return self._enrolment.totp_offer(link, self._clock())

    def enrolled_password(self, link: str, handle: str, password: str, code: str) -> Mapping[str, Any]:
        """As `enrolled_passkey`. Raises Unsuitable too, whose reason is for the person: the offer stays good."""
        return self._enrolment.password(link, handle, password, code, self._clock())

    def more_passkey_options(self, caller: Caller, origin: Origin) -> tuple[str, Mapping[str, Any]]:
        """Raises NotPermitted where the caller has not proven themselves for five minutes: step up first."""
        return self._enrolment.more_passkey_options(caller, origin, self._clock())

    def more_passkey(
        self, caller: Caller, handle: str, credential: object, origin: Origin, label: str = ""
    ) -> Mapping[str, Any]:
        return self._enrolment.more_passkey(caller, handle, credential, origin, label, self._clock())

    def more_recovery_codes(self, caller: Caller) -> Mapping[str, Any]:
        return self._enrolment.more_recovery_codes(caller, self._clock())

    def must_be_fresh(self, caller: Caller) -> None:
        """Raises NotPermitted where the caller has not proven themselves for five minutes: step up first."""
        self._enrolment.must_be_fresh(caller, self._clock())

    def accept(self, about: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """What FACTOR_ENROLL does: `recovery_codes` are shown once. Raises NotIdentified, NotChanged."""
        return self._enrolment.accept(about, arguments, self._clock())

    # ---- methods

    def _by_passkey(self, peer: Peer, claim: SignIn, now_ns: int) -> Caller:
        evidence, origin = claim.evidence, claim.evidence.get("origin")
        opened = self._handles.open(f"passkey for {claim.purpose}", evidence.get("handle"), now_ns)
        if not isinstance(origin, Origin) or opened.facts["origin"] != origin.scheme_host_port:
            raise NotIdentified("the passkey was asked for at another address")
        if opened.facts["session"] != claim.session:
            raise NotIdentified("the passkey was asked for in another session")
        passkey = self._factors.passkey(credential_of(evidence.get("assertion")))
        if passkey is None:
            raise NotIdentified("nobody enrolled that passkey, or it was removed")
        challenge = from_base64url(opened.facts["challenge"])
        sign_count, backed_up = verify_assertion(passkey, evidence.get("assertion"), challenge, origin)
        person = self._book.in_force(passkey.person, now_ns)
        row = self._session_of(claim, passkey, now_ns) if claim.purpose != "sign-in" else None
        if not self._factors.use_passkey(passkey, sign_count, backed_up, opened.nonce, now_ns):
            raise NotIdentified(f"{person.name}'s answer was given before")
        proven = frozenset({Factor.PASSKEY})
        if row is None:
            return self._book.describe(person, _session_id(), peer, proven, 0, now_ns)
        if claim.purpose == "step-up":
            self._people.sessions.step_up(row.id, now_ns)
        else:
            self._people.sessions.unlock(row.id, now_ns)
        stepped_up_ns = now_ns if claim.purpose == "step-up" else row.stepped_up_ns
        return self._book.describe(person, row.id, peer, row.factors | proven, stepped_up_ns, now_ns)

    def _session_of(self, claim: SignIn, passkey: Passkey, now_ns: int) -> SessionRow:
        row = self._people.sessions.get(claim.session)
        if row is None:
            raise NotIdentified(f"there is no session to {claim.purpose}")
        person = self._book.live(row, claim.browser, now_ns)
        if person.id != passkey.person:
            raise NotIdentified(f"{person.name}'s session cannot be used by somebody else's passkey")
        return row

    def _by_password(self, peer: Peer, claim: SignIn, now_ns: int) -> Caller:
        """The same work, in the same order, whether or not there is such a person, such a password, such a code."""
        name = fold_name(claim.name[: 4 * NAME_CHARACTERS_MAX])
        self._guesses.attempt(name, peer.address, now_ns)
        person = self._people.named(name)
        person_id = person.id if person else ""
        known = self._factors.password(person_id)
        try:
            right = self._passwords.verify(known.hash if known else "", claim.evidence.get("password"))
        except Overloaded:
            self._guesses.not_looked_at(name, peer.address)
            raise
        counter = counter_of(known.totp if known else self._nobodys_secret, claim.evidence.get("code"), now_ns)
        proven = self._proven(claim, person_id, right, bool(known and known.hash), counter, now_ns)
        person = self._book.in_force(person_id, now_ns)
        self._guesses.succeeded(name, peer.address)
        return self._book.describe(person, _session_id(), peer, proven, 0, now_ns)

    def _proven(
        self, claim: SignIn, person_id: str, right: bool, has_password: bool, counter: int | None, now_ns: int
    ) -> frozenset[Factor]:
        """By password and code, or password and recovery code; where there is no password, the recovery code alone. Raises NotIdentified."""
        if not person_id:
            raise NotIdentified("nobody has that name")
        if not right and (has_password or claim.method == "password"):
            raise NotIdentified(
                "the password is wrong" if has_password else "they have no password: a passkey is their way in"
            )
        if claim.method == "password":
            if counter is None:
                raise NotIdentified(
                    "the password is right and the code is wrong: look at the clocks of both if this comes again"
                )
            if not self._factors.use_code(person_id, counter, now_ns):
                raise NotIdentified("the code was used before: somebody may be looking over their shoulder")
            return frozenset({Factor.PASSWORD, Factor.TOTP})
        if not self._factors.use_recovery_code(person_id, recovery_digest(claim.evidence.get("code")), now_ns):
            raise NotIdentified("the recovery code is wrong, or was used before")
        return frozenset({Factor.RECOVERY_CODE, Factor.PASSWORD}) if right else frozenset({Factor.RECOVERY_CODE})

    def _was_there(self, name: str, address: str) -> bool:
        person = self._people.named(name)
        return person is not None and any(each.address == address for each in self._people.sessions.of(person.id))


def _session_id() -> str:
    return secrets.token_hex(16)
