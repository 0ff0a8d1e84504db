"""Who sits behind this cookie? Server-side sessions: a secret in the browser, its digest here, bound to that browser, locked when idle, ended for good.

idle for `idle_lock_minutes`       locked: one gesture with a passkey opens it again, with everything as it was
`session_hours` after sign-in      over; after `provider_hours` where a provider vouched: it is asked anew whether it still does
disabled, a role revoked, ended by somebody    over at the next look, which is at every request
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace

from leadglass.policy.people import still_approves
from leadglass.site.access import AccessRequest
from leadglass.site.model import SessionLimits
from leadglass.site.people import People
from leadglass.site.sessions import SessionRow
from leadglass.terms import Act, Caller, Factor, NotIdentified, Peer, Person, Relation

SESSIONS_PER_PERSON_MAX = 5
MACHINE_SESSIONS_MAX = 64  # tokens of one machine client that are good at once
SEEN_EVERY_SECONDS = 15  # a request writes that it was made, at most so often
TOKEN_BYTES = 32
TOKEN_CHARACTERS_MAX = 128
KEPT_DAYS = 90  # what is over, for the review of accounts
_SECOND = 1_000_000_000

ENOUGH = (
    frozenset({Factor.PASSKEY}),
    frozenset({Factor.PASSWORD, Factor.TOTP}),
    frozenset({Factor.PASSWORD, Factor.RECOVERY_CODE}),
    frozenset({Factor.PROVIDER}),
)
"""What opens a session: any of these. One factor alone never does."""


class Locked(NotIdentified):
    """The screen is locked; the session goes on when the same person unlocks it. `session`: its public id; `person`: whose it is."""

    def __init__(self, reason: str, session: str, person: Person) -> None:
        super().__init__(reason)
        self.session, self.person = session, person


class SessionBook:
    """Opens, finds, locks and ends sessions; the clock is given with every call, Unix nanoseconds. `limits()`: what holds now."""

    def __init__(self, people: People, limits: Callable[[], SessionLimits] = SessionLimits) -> None:
        self._people, self._limits = people, limits
        self._rows = people.sessions

    def open(self, caller: Caller, browser: str, now_ns: int) -> tuple[str, Caller]:
        """The secret for the cookie, new each time, and the caller in its session. A sign-in opens one session, never two.

        Raises NotIdentified where what was proven is not enough, and StoreFault.
        """
        if not any(caller.factors >= enough for enough in ENOUGH):
            raise NotIdentified(
                f"{caller.name} proved {', '.join(sorted(caller.factors)) or 'nothing'}: that opens no session"
            )
        person = self.in_force(caller.person.id, now_ns)
        session = caller.session or secrets.token_hex(16)
        if self._rows.get(session) is not None:
            raise NotIdentified(f"{caller.name}'s sign-in opened its session before")
        token = secrets.token_urlsafe(TOKEN_BYTES)
        row = SessionRow(
            id=session,
            person=person.id,
            browser=_digest(browser),
            address=caller.peer.address,
            factors=caller.factors,
            opened_ns=now_ns,
            seen_ns=now_ns,
            stepped_up_ns=0,
            locked=False,
            until_ns=now_ns + self._hours(caller.factors) * 3600 * _SECOND,
            ended_ns=0,
            ended_why="",
            hint=caller.session_hint,
        )
        self._rows.forget(now_ns - KEPT_DAYS * 86_400 * _SECOND)
        self._rows.open(row, _digest(token), SESSIONS_PER_PERSON_MAX)
        return token, self.describe(person, session, caller.peer, caller.factors, 0, now_ns)

    def caller(self, token: str, peer: Peer, browser: str, now_ns: int) -> Caller:
        """Raises NotIdentified, Locked."""
        row = self._rows.by_digest(_digest(token[:TOKEN_CHARACTERS_MAX])) if token else None
        if row is None:
            raise NotIdentified("no session has that cookie: sign in")
        person = self.live(row, browser, now_ns)
        if row.locked or now_ns - row.seen_ns >= self._limits().idle_lock_minutes * 60 * _SECOND:
            if not row.locked:
                self._rows.lock(row.id)
            raise Locked(f"{person.name}'s session {row.id} is locked: unlock it with a passkey", row.id, person)
        if not 0 <= now_ns - row.seen_ns < SEEN_EVERY_SECONDS * _SECOND:
            self._rows.seen(row.id, now_ns)
        return self.describe(person, row.id, peer, row.factors, row.stepped_up_ns, now_ns)

    def open_machine(self, person: Person, session: str, peer: Peer, until_ns: int, now_ns: int) -> Caller:
        """A machine client's: what it presents is its certificate, each time. Raises StoreFault, also where that session was opened before."""
        factors = frozenset({Factor.CERTIFICATE})
        row = SessionRow(session, person.id, "", peer.address, factors, now_ns, now_ns, 0, False, until_ns, 0, "")
        self._rows.open(row, _digest(session), MACHINE_SESSIONS_MAX)
        return self.describe(person, session, peer, factors, 0, now_ns)

    def machine(self, person_id: str, session: str, peer: Peer, now_ns: int) -> Caller:
        """Whose token it is, while its session lasts. Raises NotIdentified."""
        row = self._rows.get(session)
        if row is None or row.person != person_id or row.factors != {Factor.CERTIFICATE} or not row.live(now_ns):
            raise NotIdentified("the token's session is over: ask for a new one")
        return self.describe(self.in_force(person_id, now_ns), session, peer, row.factors, 0, now_ns)

    def live(self, row: SessionRow, browser: str, now_ns: int) -> Person:
        """Whose session it is, while it lasts, in the browser it was opened in. Raises NotIdentified."""
        if row.ended_ns:
            raise NotIdentified(f"session {row.id} was ended: {row.ended_why}")
        if now_ns >= self.end_of(row):
            hours = (self.end_of(row) - row.opened_ns) // (3600 * _SECOND)
            raise NotIdentified(f"session {row.id} ended after {hours} h: sign in again")
        if not hmac.compare_digest(row.browser, _digest(browser)):
            raise NotIdentified(f"session {row.id} belongs to another browser: its cookie may have been stolen, end it")
        return self.in_force(row.person, now_ns)

    def end_of(self, row: SessionRow) -> int:
        """When it ends by itself: what was said when it was opened, or sooner where the site file says less now."""
        return min(row.until_ns, row.opened_ns + self._hours(row.factors) * 3600 * _SECOND)

    def _hours(self, factors: frozenset[Factor]) -> int:
        limits = self._limits()
        return min(limits.session_hours, limits.provider_hours) if Factor.PROVIDER in factors else limits.session_hours

    def still(self, caller: Caller, now_ns: int) -> None:
        """For what lasts: raises NotIdentified where the caller's session is over, or they may be less than they were. A lock ends nothing."""
        row = self._rows.get(caller.session)
        if row is None or row.ended_ns or now_ns >= self.end_of(row):
            raise NotIdentified(f"session {caller.session} is over: {row.ended_why if row else 'there is none'}")
        if not self.in_force(row.person, now_ns).roles >= caller.person.roles:
            raise NotIdentified(f"{caller.name} has not all the roles any more that they had")

    def of_row(self, row: SessionRow, peer: Peer, now_ns: int, until_ns: int = 0) -> Caller:
        """The caller of a session that is not asked for by its cookie: of a lease (until then), of a token. A lock ends nothing.

        Raises NotIdentified where the session is over.
        """
        if row.ended_ns or now_ns >= self.end_of(row):
            raise NotIdentified(f"session {row.id} is over: {row.ended_why or 'its time'}")
        person = self.in_force(row.person, now_ns)
        caller = self.describe(person, row.id, peer, row.factors, row.stepped_up_ns, now_ns)
        return replace(caller, until_ns=min(each for each in (until_ns, self.end_of(row), person.until_ns) if each))

    def in_force(self, person_id: str, now_ns: int) -> Person:
        """A person who may sign in now. Raises NotIdentified."""
        person = self._people.get(person_id)
        if person is None:
            raise NotIdentified("that person is not here any more")
        if not person.enabled:
            raise NotIdentified(f"{person.name} is disabled")
        if person.until_ns and now_ns >= person.until_ns:
            raise NotIdentified(f"{person.name}'s account has ended")
        return person

    def describe(
        self, person: Person, session: str, peer: Peer, factors: frozenset[Factor], stepped_up_ns: int, now_ns: int
    ) -> Caller:
        """With what they are to patients and studies now, and what others approved for them."""
        requests = self._still_approved(person, now_ns)
        valid = {f"request:{each.id}" for each in requests}
        related = self._people.access.related(person.id, now_ns)
        return Caller(
            person=person,
            session=session,
            peer=peer,
            factors=factors,
            stepped_up_ns=stepped_up_ns,
            related=tuple(each for each in related if each.relation is not Relation.GRANTED or each.source in valid),
            approved={each.act: each.id for each in requests},
            exactly=frozenset(each.digest for each in requests),
            within=_within(requests),
            step_up_seconds=self._limits().step_up_seconds,
        )

    def _still_approved(self, person: Person, now_ns: int) -> list[AccessRequest]:
        """Requests in their window whose approver could approve them today."""
        found = []
        for request in self._people.access.in_window(person.id, now_ns):
            asked = person if request.person == person.id else self._people.get(request.person)
            if asked is None:
                continue
            approvers = [self._people.get(each.person) for each in request.decisions if each.decision == "approved"]
            if any(each and still_approves(each, request.act, asked, now_ns, request.approver) for each in approvers):
                found.append(request)
        return found


def _within(requests: Iterable[AccessRequest]) -> dict[Act, frozenset[str]]:
    """The devices that each act is confined to: those of all its requests together; where one names none, no device confines it."""
    named: dict[Act, frozenset[str]] = {}
    everywhere = set()
    for each in requests:
        devices = frozenset(each.devices)
        named[each.act] = named.get(each.act, frozenset()) | devices
        if not devices:
            everywhere.add(each.act)
    return {act: devices for act, devices in named.items() if act not in everywhere}


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
