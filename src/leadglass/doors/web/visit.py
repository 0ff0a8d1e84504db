"""What does a page know of the request it answers, and what may it do? Everything a page does to the site or asks of it goes through here."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import structlog

from leadglass import gateway
from leadglass.doors.blocking import Entered, run
from leadglass.doors.house import House
from leadglass.doors.web.address import Address
from leadglass.identity.people.passkeys import Origin
from leadglass.policy.evaluation import STUDY_ACTS
from leadglass.policy.people import may, visible
from leadglass.terms import (
    Act,
    Caller,
    Change,
    ChangeKind,
    Fault,
    Inquiry,
    NotPermitted,
    Outcome,
    Peer,
    Permit,
    Refused,
    SecondPersonNeeded,
    StepUpNeeded,
    fingerprint_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NEXT_CHARACTERS_MAX = 512
USER_AGENT_CHARACTERS_MAX = 512

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Visit:
    """One request, read whole, checked by `security.py`. `form` and `query`: the fields by name, all values of each.

    `token`: the session's secret, from the cookie; `caller`: who that is, None on pages for anybody. `handle`: of a sign-in at a provider, from
    a cookie of its own.
    """

    house: House
    address: Address
    peer: Peer
    method: str
    path: str
    parameters: Mapping[str, str]
    query: Mapping[str, tuple[str, ...]]
    form: Mapping[str, tuple[str, ...]]
    token: str
    user_agent: str
    wants_json: bool
    handle: str
    authorization: tuple[str, ...]  # what a machine presents besides its certificate: each header of that name
    from_elsewhere: bool  # another site's page led here: the browser kept the cookie back
    caller: Caller | None = None

    @property
    def who(self) -> Caller:
        """On pages for somebody."""
        assert self.caller is not None
        return self.caller

    @property
    def origin(self) -> Origin:
        return Origin(self.address.origin, self.address.rp_id)

    @property
    def browser(self) -> str:
        """What a session is bound to: this browser, and the workstation's certificate where it presents one."""
        return f"{self.user_agent[:USER_AGENT_CHARACTERS_MAX]}\n{fingerprint_of(self.peer)}"

    @property
    def now_ns(self) -> int:
        return time.time_ns()

    # ---- fields

    def field(self, name: str) -> str:
        """A form's field, without blanks around it; "" where there is none."""
        return (self.form.get(name) or ("",))[-1].strip()

    def asked(self, name: str) -> str:
        """A field of the query string."""
        return (self.query.get(name) or ("",))[-1].strip()

    @property
    def next(self) -> str:
        """Where to go afterwards: a path of this site and nothing else."""
        return local(self.field("next") or self.asked("next"))

    @property
    def back(self) -> str:
        """Where somebody is led again after a sign-in: the page they saw, or wanted to see."""
        if self.method == "POST":
            return self.next
        query = "&".join(f"{quote(name)}={quote(value)}" for name, value in flat(self.query))
        return local(f"{self.path}?{query}" if query else self.path)

    def again(self) -> dict[str, object]:
        """What a step-up sends again: the form as it was, or the way to the page."""
        fields = [(name, value) for name, value in flat(self.form) if name != "csrf"]
        passkeys = self.house.people.factors.passkeys(self.who.person.id)
        action = self.path if self.method == "POST" else ""
        return {"action": action, "fields": fields, "next": self.back, "passkeys": len(passkeys)}

    # ---- what a page does

    def change(
        self, kind: ChangeKind, about: str, arguments: Mapping[str, object], by: Caller | None = None
    ) -> Mapping[str, Any]:
        """Through the gateway. Raises Refused, Fault."""
        return run(
            gateway.change(self.house.do, Change(uuid.uuid4().hex, by or self.who, kind, about, dict(arguments)))
        )

    def begin(self, kind: ChangeKind, about: str, arguments: Mapping[str, object]) -> None:
        """A change that takes long: asked for now, done in its own time. Raises NotPermitted and what else refuses it; whatever comes later is an event."""
        order = Change(uuid.uuid4().hex, self.who, kind, about, dict(arguments))
        try:
            self.house.do.authorise(order)
        except Refused:
            self.change(kind, about, arguments)  # which refuses it too, and writes that down
            raise
        threading.Thread(target=self._done, args=(order,), name=str(kind), daemon=True).start()

    def _done(self, order: Change) -> None:
        try:
            run(gateway.change(self.house.do, order))
        except (Refused, Fault) as failure:
            log.error("a change failed", kind=order.kind, about=order.about, reason=str(failure))

    def look(self, act: Act, about: str = "") -> Permit:
        """What the page is about to show is asked for and recorded; what it may show. Raises NotPermitted."""
        with Entered(gateway.release(self.house.do, Inquiry(self.who, act, about))) as found:
            found.progress.outcome, found.progress.reason = Outcome.SUCCESS, ""
            return found.permit

    def turn_away(self, refusal: Refused) -> None:
        """An event where nobody wrote one yet. A journal that is full or broken ends no page."""
        if refusal.recorded:
            return
        refusal.subject = refusal.subject or self.caller
        try:
            run(gateway.turn_away(self.house.do, self.peer, refusal))
        except Fault as fault:
            log.error("a refusal could not be recorded", address=self.peer.address, reason=str(fault))

    def may(self, act: Act) -> bool:
        """Whether to show somebody a way to it at all: perhaps they must step up first, or ask a second person."""
        try:
            self.must(act)
        except NotPermitted:
            return False
        return True

    def must(self, act: Act) -> None:
        """Raises NotPermitted, in policy's words, where no step-up and no second person would change that."""
        try:
            if act in STUDY_ACTS:
                visible(self.who, act, self.now_ns)
            else:
                may(self.who, act, self.now_ns)
        except (StepUpNeeded, SecondPersonNeeded):
            return

    # ---- tokens

    @property
    def csrf(self) -> str:
        """Of this session, known to its own pages alone; "" without one."""
        return hmac.digest(self.token.encode(), b"csrf", hashlib.sha256).hex() if self.token else ""

    def from_own_page(self) -> bool:
        return hmac.compare_digest(self.field("csrf").encode(), self.csrf.encode())

    @property
    def cookie(self) -> str:
        return cookie_name(self.address)


def cookie_name(address: Address) -> str:
    """With the prefix no other host, port or plain page can set it; on http://localhost browsers know no such prefix."""
    return "__Host-leadglass" if address.secure else "leadglass"


def handle_cookie_name(address: Address) -> str:
    """What a sign-in at a provider brings back."""
    return f"{cookie_name(address)}-sign-in"


def local(path: str) -> str:
    """A path of this site, or the first page: what a link says is never followed anywhere else."""
    plain = path.isascii() and path.isprintable() and "\\" not in path and len(path) <= NEXT_CHARACTERS_MAX
    return path if plain and path.startswith("/") and not path.startswith("//") else "/"


def flat(fields: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    for name, values in fields.items():
        for value in values:
            yield name, value
