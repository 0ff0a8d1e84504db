"""People of a running site, for tests: another of its processes, as a web worker is, in which they do what the console does for them."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from leadglass import gateway
from leadglass.__main__ import assemble
from leadglass.doors.blocking import run
from leadglass.doors.house import House
from leadglass.identity.people.passkeys import Origin
from leadglass.lab.authenticator import Authenticator
from leadglass.lab.peers import Archive, Identity
from leadglass.lab.reader import Reader
from leadglass.policy.containment import LOOK_EVERY_SECONDS, read
from leadglass.terms import Caller, Change, ChangeKind, Event, NotChanged, Operator, Peer, Role, SignIn
from tests.running import RunningSite

PEER = Peer("127.0.0.1", 40_000, "web")
BROWSER = "browser"
REASON = "brought in unconscious, no referral yet"


@dataclass
class Staff:
    """Whoever works there, by name; each with one passkey and one session at a time."""

    site: RunningSite
    house: House
    passkeys: dict[str, Authenticator] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    callers: dict[str, Caller] = field(default_factory=dict)

    @property
    def console(self) -> str:
        """Where the running site's console answers."""
        return f"http://localhost:{json.loads((self.site.directory / 'state' / 'ports.json').read_text())['console']}"

    @property
    def origin(self) -> Origin:
        return Origin(self.console, "localhost")

    # ---- who they are

    def hire(self, name: str, *roles: Role, **facts: Any) -> Caller:
        """Added by an operator, enrolled by their link, signed in."""
        added = self.order(name, ChangeKind.PERSON_ADD, roles=[*roles], why="works here", **facts)
        device, link = Authenticator(self.console), str(added["enrolment"]).rpartition("/")[2]
        handle, options = self.house.desk.enrolment_options(link, self.origin)
        proven = self.house.desk.enrolled_passkey(link, handle, device.create(dict(options)), self.origin)
        self.passkeys[name] = device
        self.change(self.house.desk.invitee(link, PEER), ChangeKind.FACTOR_ENROLL, name, proven)
        return self.sign_in(name)

    def sign_in(self, name: str) -> Caller:
        caller = run(gateway.sign_in(self.house.do, PEER, self._claim(name)))
        self.tokens[name], self.callers[name] = self.house.desk.open_session(caller, BROWSER)
        return self.callers[name]

    def step_up(self, name: str) -> Caller:
        claim = self._claim(name, "step-up", self.callers[name].session)
        run(gateway.sign_in(self.house.do, PEER, claim))
        return self.now(name)

    def now(self, name: str) -> Caller:
        """As at their next request to the console."""
        self.callers[name] = self.house.desk.caller(self.tokens[name], PEER, BROWSER)
        return self.callers[name]

    @contextmanager
    def browser(self, name: str) -> Iterator[Reader]:
        """Somebody's browser at the console, over HTTP, signed in with the same passkey."""
        with Reader(self.console, self.passkeys[name]) as reader:
            assert reader.sign_in()
            yield reader

    # ---- what they do

    def do(self, name: str, kind: ChangeKind, about: str, **arguments: Any) -> Mapping[str, Any]:
        """A change that somebody asks for at the console."""
        return self.change(self.now(name), kind, about, arguments)

    def order(self, about: str, kind: ChangeKind, **arguments: Any) -> Mapping[str, Any]:
        """A change that an operator asks for at a shell."""
        return self.change(Operator(os.getuid(), "operator"), kind, about, arguments)

    def sit(self, name: str, device: str, **arguments: Any) -> None:
        self.do(name, ChangeKind.LEASE_OPEN, device, **arguments)

    def seat(self, name: str, device: str, patient_id: str) -> None:
        """A radiologist sits there and treats the patient; whatever was taken away before is given back."""
        self.order(name, ChangeKind.PERSON_ENABLE)
        with suppress(NotChanged):
            self.order(name, ChangeKind.ROLE_GRANT, role=Role.RADIOLOGIST, why="back")
        self.let_in(device)
        self.sign_in(name)
        self.sit(name, device)
        self.relate(name, "care-team", patient_id)

    def leave(self, name: str, device: str) -> None:
        own = {"requested_by": self.callers[name].person.id}
        self.do(name, ChangeKind.LEASE_END, device, **own)

    def ask(self, name: str, act: str, approver: str, **asked: Any) -> str:
        """Somebody asks for a window, and another approves it: the request's id."""
        request = str(self.do(name, ChangeKind.ACCESS_REQUEST, act, reason=REASON, **asked)["request"])
        found = self.house.people.access.request(request)
        assert found is not None
        self.step_up(approver)
        told = {
            "requested_by": found.person,
            "requester_roles": sorted(self.callers[name].person.roles),
            "act": found.act,
            "approver": found.approver,
            "digest": found.digest,
            "approve": True,
        }
        self.do(approver, ChangeKind.ACCESS_APPROVE, request, **told)
        return request

    def withdraw(self, by: str, request: str) -> None:
        """Somebody who may approve it ends what was asked for."""
        found = self.house.people.access.request(request)
        assert found is not None
        asks = self.house.people.get(found.person)
        assert asks is not None
        self.step_up(by)
        told = {"requested_by": found.person, "requester_roles": sorted(asks.roles), "approver": found.approver}
        self.do(by, ChangeKind.ACCESS_CANCEL, request, act=found.act, **told)

    def let_in(self, device: str) -> None:
        """Where it was disabled; the workers know it afterwards."""
        if device in read(self.site.directory).disabled:
            self.order(device, ChangeKind.DEVICE_ENABLE)
            time.sleep(2 * LOOK_EVERY_SECONDS)

    def relate(self, name: str, relation: str, patient_id: str, seconds: float = 0.0) -> None:
        """In the place of what was told of them before. `seconds`: until it is over, 0: never."""
        until_ns = time.time_ns() + int(seconds * 1e9) if seconds else 0
        rows = [{"person": name, "relation": relation, "patient_id": patient_id, "until_ns": until_ns}]
        self.order(f"of {name}", ChangeKind.RELATIONS_IMPORT, rows=rows)

    # ---- what was written about it

    def events(self, kind: str, actor: str = "") -> list[Event]:
        """Oldest first, as far as they are durable: within a second of what happened."""
        told = (each.event for each in self.house.journal.read())
        return [each for each in told if each.kind == kind and actor in ("", each.actor)]

    # ---- their workstations

    def at(self, device: str, **changes: Any) -> Identity:
        return replace(Identity(device, "127.0.0.1", self.site.bundles[device].directory), **changes)

    @property
    def archive(self) -> Archive:
        return Archive("127.0.0.1", self.site.port)

    def _claim(self, name: str, purpose: str = "sign-in", session: str = "") -> SignIn:
        handle, options = self.house.desk.passkey_options(self.origin, purpose, session)
        evidence = {"handle": handle, "assertion": self.passkeys[name].get(dict(options)), "origin": self.origin}
        return SignIn("", "passkey", BROWSER, purpose, session, evidence=evidence)

    def change(
        self, who: Caller | Operator, kind: ChangeKind, about: str, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        return run(gateway.change(self.house.do, Change(uuid.uuid4().hex, who, kind, about, dict(arguments))))


@contextmanager
def staff(site: RunningSite, kind: type[Staff] = Staff) -> Iterator[Staff]:
    house = assemble(site.directory)
    try:
        yield kind(site, house)
    finally:
        house.close()
