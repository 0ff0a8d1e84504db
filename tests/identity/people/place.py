"""A desk over a real register, with a clock that a test sets, and people who are enrolled as people are."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyotp

from leadglass.identity.people.desk import Desk
from leadglass.identity.people.passkeys import Origin
from leadglass.identity.people.passwords import Passwords
from leadglass.lab.authenticator import Authenticator
from leadglass.site.model import SessionLimits
from leadglass.site.people import People
from leadglass.site.register import Register
from leadglass.terms import Caller, Peer, Person, Role, SignIn

SECOND = 1_000_000_000
KEY = bytes(range(32))
ORIGIN = Origin("https://pacs.hospital.example:8443", "pacs.hospital.example")
QUICK = {"memory_kibibytes": 64, "passes": 1}  # argon2id all the same: its cost is another test's matter
PASSWORD = "four lamps under snow"


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now_ns

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)


@dataclass
class Place:
    register: Register
    clock: Clock = field(default_factory=Clock)
    limits: SessionLimits = field(default_factory=SessionLimits)

    def __post_init__(self) -> None:
        self.people = People(self.register)
        self.desk = self.another_process()

    @classmethod
    def at(cls, directory: Path) -> Place:
        return cls(Register.open(directory / "register.db", bytes(32)))

    def another_process(self) -> Desk:
        return Desk(
            self.people,
            KEY,
            "pacs.hospital.example",
            clock=self.clock,
            passwords=Passwords(**QUICK),
            limits=lambda: self.limits,
        )

    def person(self, name: str = "reader", *roles: Role, **facts: Any) -> Person:
        person = Person(secrets.token_hex(16), name, name.title(), frozenset(roles or (Role.RADIOLOGIST,)), **facts)
        self.people.add(person, "operator", "works here", self.clock())
        return person

    def link(self, person: Person) -> str:
        return self.desk.invite(person, "enroll")[0]

    def passkey(self, person: Person, counts: bool = True) -> Authenticator:
        """Enrolled by a link."""
        device, link = Authenticator(ORIGIN.scheme_host_port, counts), self.link(person)
        handle, options = self.desk.enrolment_options(link, ORIGIN)
        self.desk.accept(
            person.name, self.desk.enrolled_passkey(link, handle, device.create(dict(options)), ORIGIN, "phone")
        )
        return device

    def password(self, person: Person) -> tuple[pyotp.TOTP, list[str]]:
        """Enrolled by a link: the app, and the recovery codes."""
        link = self.link(person)
        handle, uri = self.desk.totp_offer(link)
        app = pyotp.parse_uri(uri)
        assert isinstance(app, pyotp.TOTP)
        proven = self.desk.enrolled_password(link, handle, PASSWORD, app.at(self.clock() // SECOND))
        codes = self.desk.accept(person.name, proven)["recovery_codes"]
        return app, list(codes)

    def signed_in(self, device: Authenticator, browser: str = "browser") -> tuple[str, Caller]:
        return self.desk.open_session(self.desk.recognise(peer(), self.claim(device)), browser)

    def stepped_up(self, device: Authenticator) -> Caller:
        """In a new session, with a fresh passkey."""
        token, caller = self.signed_in(device)
        self.desk.recognise(peer(), self.claim(device, "step-up", caller.session))
        return self.desk.caller(token, peer(), "browser")

    def claim(
        self, device: Authenticator, purpose: str = "sign-in", session: str = "", browser: str = "browser", **wrong: Any
    ) -> SignIn:
        handle, options = self.desk.passkey_options(ORIGIN, purpose, session)
        evidence = {"handle": handle, "assertion": device.get(dict(options), **wrong), "origin": ORIGIN}
        return SignIn("", "passkey", browser, purpose, session, evidence)


def peer(address: str = "10.20.1.5") -> Peer:
    return Peer(address, 50_000, "web")


def by_password(name: str, password: str, code: str, method: str = "password") -> SignIn:
    return SignIn(name, method, "browser", evidence={"password": password, "code": code})
