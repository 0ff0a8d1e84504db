"""How does somebody get a passkey, or a password and an authenticator app? By a one-time link, or signed in; all of it or nothing.

What was verified here travels to the change that does it as a sealed proof: nobody, at whatever door, can enrol a factor that was not proven.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leadglass.identity.people.codes import counter_of, new_recovery_codes, new_secret, otpauth, recovery_digest
from leadglass.identity.people.handles import Handles, Opened, from_base64url, to_base64url
from leadglass.identity.people.links import link_digest
from leadglass.identity.people.passkeys import Origin, creation_options, verify_creation
from leadglass.identity.people.passwords import Passwords, Unsuitable, suitable
from leadglass.identity.people.sessions import SessionBook
from leadglass.site.factors import Passkey, Password
from leadglass.site.people import People
from leadglass.terms import Caller, NotChanged, NotIdentified, NotPermitted, Person

FRESH_SECONDS = 300  # how long ago somebody may have proven themselves who adds a way to sign in
_SECOND = 1_000_000_000

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a link is good for. `purpose`: enroll, reset or recover; `until_ns`: Unix nanoseconds."""

    person: Person
    purpose: str
    until_ns: int


class Enrolment:
    """The clock is given with every call, Unix nanoseconds. `site_name` stands in the authenticator app."""

    def __init__(
        self, people: People, book: SessionBook, handles: Handles, passwords: Passwords, site_name: str
    ) -> None:
        self._people, self._factors, self._book = people, people.factors, book
        self._handles, self._passwords, self._site_name = handles, passwords, site_name

    def invited(self, link: str, now_ns: int) -> Invitation:
        """Raises NotIdentified: never made, used, replaced by a later one, too old, or the person is disabled."""
        row = self._factors.invitation(link_digest(link))
        if row is None:
            raise NotIdentified("no such enrolment link was ever made")
        if row.ended_ns:
            raise NotIdentified("that enrolment link was used, or a later one took its place")
        if now_ns >= row.until_ns:
            raise NotIdentified("that enrolment link is too old: ask for a new one")
        return Invitation(self._book.in_force(row.person, now_ns), row.purpose, row.until_ns)

    # ---- by link

    def passkey_options(self, link: str, origin: Origin, now_ns: int) -> tuple[str, Arguments]:
        return self._passkey_options(self.invited(link, now_ns).person, link_digest(link), origin, now_ns)

    def passkey(self, link: str, handle: str, credential: object, origin: Origin, label: str, now_ns: int) -> Arguments:
        person = self.invited(link, now_ns).person
        return self._passkey(person, link_digest(link), handle, credential, origin, label, now_ns)

    def totp_offer(self, link: str, now_ns: int) -> tuple[str, str]:
        person = self.invited(link, now_ns).person
        secret = new_secret()
        handle = self._handles.seal("totp", {"for": link_digest(link), "secret": secret}, now_ns)
        return handle, otpauth(secret, person.name, self._site_name)

    def password(self, link: str, handle: str, password: str, code: str, now_ns: int) -> Arguments:
        """Raises Unsuitable where the password will not do or the code is not the app's: the offer stays good, so try again.

        Whose password is a directory's gets no second one here: the app alone is enrolled, and `password` is not looked at.
        """
        person = self.invited(link, now_ns).person
        offer = self._opened("totp", handle, link_digest(link), now_ns)
        counter = counter_of(offer.facts["secret"], code, now_ns)
        if counter is None:
            raise Unsuitable("that is not the code that the app shows now: look again, and at the phone's clock")
        alone = has_password_elsewhere(person)
        facts = {
            "factor": "app" if alone else "password",
            "hash": "" if alone else self._passwords.hash(suitable(password, person)),
            "totp": offer.facts["secret"],
            "counter": counter,
        }
        return self._proof(person, link_digest(link), facts, now_ns)

    # ---- signed in

    def more_passkey_options(self, caller: Caller, origin: Origin, now_ns: int) -> tuple[str, Arguments]:
        self.must_be_fresh(caller, now_ns)
        return self._passkey_options(caller.person, f"session:{caller.session}", origin, now_ns)

    def more_passkey(
        self, caller: Caller, handle: str, credential: object, origin: Origin, label: str, now_ns: int
    ) -> Arguments:
        self.must_be_fresh(caller, now_ns)
        return self._passkey(caller.person, f"session:{caller.session}", handle, credential, origin, label, now_ns)

    def more_recovery_codes(self, caller: Caller, now_ns: int) -> Arguments:
        self.must_be_fresh(caller, now_ns)
        return self._proof(caller.person, f"session:{caller.session}", {"factor": "recovery"}, now_ns)

    # ---- what the change does

    def accept(self, about: str, arguments: Arguments, now_ns: int) -> Arguments:
        """Does what was proven; recovery codes, shown once, where it came by a link. Raises NotIdentified, NotChanged."""
        proof = self._handles.open("enrolment", arguments.get("proof"), now_ns)
        facts = proof.facts
        person = self._book.in_force(str(facts["person"]), now_ns)
        if person.name != about:
            raise NotChanged(f"that was proven by {person.name}, not by {about}")
        by_link = not str(facts["for"]).startswith("session:")
        invitation = str(facts["for"]) if by_link else ""
        codes = new_recovery_codes() if by_link or facts["factor"] == "recovery" else []
        digests = [recovery_digest(code) for code in codes]
        match facts["factor"]:
            case "passkey":
                self._factors.enroll_passkey(_unpacked(facts, person, now_ns), invitation, digests, proof.nonce)
            case "password" | "app":
                password = Password(str(facts["hash"]), str(facts["totp"]), now_ns, 0)
                self._factors.enroll_password(
                    person.id, password, int(facts["counter"]), invitation, digests, proof.nonce
                )
            case _:
                self._factors.renew_recovery_codes(person.id, digests, proof.nonce, now_ns)
        return {"person": person.name, "factor": facts["factor"], "recovery_codes": codes}

    # ---- steps

    def _passkey_options(self, person: Person, for_: str, origin: Origin, now_ns: int) -> tuple[str, Arguments]:
        challenge, options = creation_options(origin, person, self._factors.passkeys(person.id))
        facts = {"for": for_, "challenge": to_base64url(challenge), "origin": origin.scheme_host_port}
        return self._handles.seal("new-passkey", facts, now_ns), options

    def _passkey(
        self, person: Person, for_: str, handle: str, credential: object, origin: Origin, label: str, now_ns: int
    ) -> Arguments:
        opened = self._opened("new-passkey", handle, for_, now_ns)
        if opened.facts["origin"] != origin.scheme_host_port:
            raise NotIdentified("the new passkey was asked for at another address")
        challenge = from_base64url(opened.facts["challenge"])
        made = verify_creation(person, credential, challenge, origin, label, now_ns)
        facts = {
            "factor": "passkey",
            "credential": made.credential,
            "public_key": to_base64url(made.public_key),
            "sign_count": made.sign_count,
            "label": made.label,
            "aaguid": made.aaguid,
            "backed_up": made.backed_up,
        }
        return self._proof(person, for_, facts, now_ns)

    def _opened(self, step: str, handle: str, for_: str, now_ns: int) -> Opened:
        opened = self._handles.open(step, handle, now_ns)
        if opened.facts["for"] != for_:
            raise NotIdentified(f"the {step} was begun with another link or session")
        return opened

    def _proof(self, person: Person, for_: str, facts: Mapping[str, object], now_ns: int) -> Arguments:
        proof = self._handles.seal("enrolment", {"person": person.id, "for": for_, **facts}, now_ns)
        return {"factor": facts["factor"], "label": facts.get("label", ""), "proof": proof}

    def must_be_fresh(self, caller: Caller, now_ns: int) -> None:
        """Whoever finds a screen unlocked, or steals a session, makes no way in of it that outlasts it."""
        row = self._people.sessions.get(caller.session)
        has_passkey = bool(self._factors.passkeys(caller.person.id))
        proven_ns = (row.opened_ns if row and not has_passkey else 0) or caller.stepped_up_ns
        if row is None or not 0 <= now_ns - proven_ns < FRESH_SECONDS * _SECOND:
            how = "a fresh passkey" if has_passkey else "a fresh sign-in"
            raise NotPermitted(
                f"{caller.name} changes how they sign in: {how} within the last {FRESH_SECONDS} s is needed"
            )


def has_password_elsewhere(person: Person) -> bool:
    """A directory proves their password, and none of ours stands beside it."""
    return person.source.startswith("ldap:")


def _unpacked(facts: Mapping[str, Any], person: Person, now_ns: int) -> Passkey:
    return Passkey(
        credential=str(facts["credential"]),
        person=person.id,
        public_key=from_base64url(str(facts["public_key"])),
        sign_count=int(facts["sign_count"]),
        label=str(facts["label"]),
        aaguid=str(facts["aaguid"]),
        backed_up=bool(facts["backed_up"]),
        created_ns=now_ns,
        last_used_ns=0,
    )
