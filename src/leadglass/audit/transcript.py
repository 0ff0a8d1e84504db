"""What did somebody do under one grant, and how did it end? Every event of its journal's search that belongs to it, in the order of time.

An event belongs to a grant where it is

    its own      the asking, the decision, a withdrawal; and what was changed meanwhile about whoever asked, or whoever decided
    an act       done or tried by that person, at the console or at a device, while the window was open: allowed and refused alike
    an end       of what they had begun in the window, within ENDS_SECONDS_MAX after it: what lasts is cut by its end
    a passage    by a flow on demand that it opened, whoever came by it: at the doors, and a connection that the kernel let pass
    unproven     a refused sign-in under that person's name in the window; nobody knows who that was
What anybody else did, and what they did before or afterwards, is in none of them.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from leadglass.audit.search import FOREVER_NS, PAGE_ROWS_MAX, AuditAnswer, AuditSearch, Entry, Span, actor_of
from leadglass.site.people import fold_name
from leadglass.terms import AuditQuestion, ChangeKind, Event, EventKind, Grant, Permit

ENDS_SECONDS_MAX = 10
_SECOND = 1_000_000_000
_ENDS = frozenset({EventKind.RELEASE_ENDED, EventKind.ASSOCIATION_ENDED})
_OF_THE_REQUEST = frozenset({ChangeKind.ACCESS_APPROVE, ChangeKind.ACCESS_CANCEL, ChangeKind.ACCESS_REQUEST})
_START = (0, 0)
_NOBODY = ""  # the actor of a sign-in that proved nothing


class Belongs(enum.StrEnum):
    """Why an event is in a transcript."""

    GRANT = "grant"
    ACT = "act"
    END = "end"
    UNPROVEN = "unproven"
    PASSAGE = "passage"


@dataclass(frozen=True, slots=True)
class Line:
    """One event of a transcript."""

    belongs: Belongs
    entry: Entry


class Transcript(AuditAnswer):
    """The answer to an `AuditQuestion` about a grant. `lacks`: events that the search did not have yet when it was asked, 0 where it has all."""

    def __init__(self, request: AuditQuestion, permit: Permit, search: AuditSearch, lacks: int) -> None:
        super().__init__(request, permit, search, ())
        assert request.grant is not None
        self.grant: Grant = request.grant
        self.lacks = lacks

    def lines(self, after: tuple[int, int] = _START) -> Iterator[Line]:
        """All of it beyond `after`, oldest first; each event once."""
        every = heapq.merge(
            self.of_the_grant(after),
            self._done(after),
            self._unproven(after),
            self._passed(after),
            key=lambda line: line.entry.place,
        )
        last: tuple[int, int] | None = None
        for line in every:
            if line.entry.place != last:
                yield line
            last = line.entry.place

    def lines_page(self, after: tuple[int, int] = _START) -> list[Line]:
        """The next PAGE_ROWS_MAX lines at most; fewer are the last."""
        return list(itertools.islice(self.lines(after), PAGE_ROWS_MAX))

    # ---- the sorts of events

    def of_the_grant(self, after: tuple[int, int] = _START) -> Iterator[Line]:
        """Of the request for ever; of the people as long as it was open to them, from the asking on."""
        grant = self.grant
        tokens = self._search.matters(
            (grant.request, grant.name, grant.person, *grant.deciders.values(), *grant.deciders)
        )
        after = max(after, (grant.asked_ns, -1))
        while page := self._search.about_following(tokens, after, FOREVER_NS):
            for entry in page:
                if entry.event.action in _OF_THE_REQUEST or entry.at_ns < grant.until_ns:
                    yield Line(Belongs.GRANT, entry)
            after = page[-1].place

    def _done(self, after: tuple[int, int]) -> Iterator[Line]:
        grant = self.grant
        if grant.until_ns <= grant.from_ns:  # it never opened
            return
        begin = max(after, (grant.from_ns, -1))
        for entry in self._by(self.request.who, begin, grant.until_ns):
            yield Line(Belongs.ACT, entry)
        open_ones = self._search.begun(self.request.who, Span(grant.from_ns, grant.until_ns))
        ends = self._by(self.request.who, (grant.until_ns, -1), grant.until_ns + ENDS_SECONDS_MAX * _SECOND)
        for entry in ends:
            event = entry.event
            if event.kind in _ENDS and open_ones.get(event.action, 0) > 0:
                open_ones[event.action] -= 1
                if entry.place > after:
                    yield Line(Belongs.END, entry)

    def _unproven(self, after: tuple[int, int]) -> Iterator[Line]:
        """Those stand under no actor: the name that was given is all that is known."""
        grant = self.grant
        if grant.until_ns <= grant.from_ns:
            return
        for entry in self._by(_NOBODY, max(after, (grant.from_ns, -1)), grant.until_ns):
            if fold_name(str(entry.event.details.get("name", ""))) == grant.name:
                yield Line(Belongs.UNPROVEN, entry)

    def _passed(self, after: tuple[int, int]) -> Iterator[Line]:
        tokens = tuple(self._search.passing([self.grant.request]))
        while page := self._search.about_following(tokens, after, FOREVER_NS):
            yield from (Line(Belongs.PASSAGE, entry) for entry in page)
            after = page[-1].place

    def _by(self, actor: str, after: tuple[int, int], until_ns: int) -> Iterator[Entry]:
        while page := self._search.by_following(actor, after, until_ns):
            yield from page
            after = page[-1].place


# ---- how it went: pure


class End(enum.StrEnum):
    """What became of a request."""

    WAITING = "waiting"
    DENIED = "denied"
    NOT_BEGUN = "not-begun"
    IN_FORCE = "in-force"
    EXPIRED = "expired"
    CANCELLED = "cancelled"  # by whoever asked
    REVOKED = "revoked"  # by somebody else; or nobody who approved it may approve any more
    DISABLED = "disabled"  # whoever asked
    ROLE_REVOKED = "role-revoked"


@dataclass(frozen=True, slots=True)
class Ended:
    """`by`: as events name actors, "" where the clock did it. `at_ns` 0: it has not ended."""

    how: End
    at_ns: int = 0
    by: str = ""


def ended(grant: Grant, state: str, told: Iterable[Entry], now_ns: int, *, stands: bool) -> Ended:
    """How a grant ended, by the register's word on it and by what the journal tells of it, `told`, oldest first.

    `state`: of the request; `stands`: somebody who approved it could do so today, and who asked is in office.
    """
    done = [each for each in told if each.event.kind is EventKind.CHANGE_COMPLETED]
    if state == "requested":
        return Ended(End.WAITING)
    if state in ("denied", "cancelled"):
        kind = ChangeKind.ACCESS_APPROVE if state == "denied" else ChangeKind.ACCESS_CANCEL
        last = next((each for each in reversed(done) if _is(each.event, kind, grant.request)), None)
        at_ns, by = (last.at_ns, actor_of(last.event)) if last is not None else (0, "")
        if state == "denied":
            return Ended(End.DENIED, at_ns, by)
        return Ended(End.CANCELLED if by in ("", f"person:{grant.name}") else End.REVOKED, at_ns, by)
    if now_ns < grant.from_ns:
        return Ended(End.NOT_BEGUN)
    shut = _shut(grant, done)
    if shut is not None and (now_ns >= grant.until_ns or not stands):
        return shut
    if now_ns >= grant.until_ns:
        return Ended(End.EXPIRED, grant.until_ns)
    return Ended(End.IN_FORCE) if stands else Ended(End.REVOKED)


def _shut(grant: Grant, done: Iterable[Entry]) -> Ended | None:
    """The first change in its window that shut it and that nobody took back before its end."""
    own, deciders = (grant.name, grant.person), {*grant.deciders, *grant.deciders.values()}
    shut: dict[str, Ended] = {}
    for entry in done:
        event, at_ns = entry.event, entry.at_ns
        if at_ns >= grant.until_ns:
            break
        about, end = fold_name(str(event.details.get("about", ""))), End.DISABLED
        if about in deciders:
            end = End.REVOKED
        elif about not in own:
            continue
        match event.action:
            case ChangeKind.PERSON_DISABLE:
                shut[about] = Ended(end, at_ns, actor_of(event))
            case ChangeKind.PERSON_ENABLE:
                shut.pop(about, None)
            case ChangeKind.ROLE_REVOKE if about in own:
                shut["role"] = Ended(End.ROLE_REVOKED, at_ns, actor_of(event))
            case ChangeKind.ROLE_GRANT if about in own:
                shut.pop("role", None)
    of_deciders = [each for name, each in shut.items() if name in deciders]
    found = [each for name, each in shut.items() if name not in deciders]
    found += of_deciders if len(of_deciders) >= len(grant.deciders) else []
    return min(found, key=lambda each: each.at_ns, default=None)


def _is(event: Event, kind: ChangeKind, request: str) -> bool:
    return event.action == kind and event.details.get("about") == request
