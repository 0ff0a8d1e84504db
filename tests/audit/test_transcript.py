"""How a grant ended, from the register's word and the journal's; and whether the search has what the journal has."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadglass.audit.search import AuditSearch, Entry
from leadglass.audit.transcript import ENDS_SECONDS_MAX, Belongs, End, Ended, Transcript, ended
from leadglass.terms import Act, AuditQuestion, Event, EventKind, Grant, Operator, Outcome, Permit, Role
from tests.audit.happened import Process, Site, admitted

ASKED, FROM, UNTIL, SECOND = 100, 200, 300, 1_000_000_000
GRANT = Grant(
    "r1", "id-v", "vendor", frozenset({Role.VENDOR}), Act.DEVICE_LIST, {"id-e": "engineer"}, ASKED, FROM, UNTIL
)


def change(kind: str, about: str, by: str, at_ns: int, outcome: str = "completed") -> Entry:
    told = Event(
        EventKind(f"change:{outcome}"), Outcome.SUCCESS, by, action=kind, details={"about": about, "change": "c"}
    )
    return Entry(told, at_ns, (at_ns, at_ns))


CANCELLED = change("access-cancel", "r1", "person:guard", 250)
LEFT = change("person-disable", "Vendor", "person:guard", 250)


@pytest.mark.parametrize(
    ("state", "told", "now_ns", "stands", "expected"),
    [
        ("requested", [], 150, True, Ended(End.WAITING)),
        ("denied", [change("access-approve", "r1", "person:engineer", 150)], 400, True, Ended(End.DENIED, 150, "person:engineer")),
        ("cancelled", [CANCELLED], 400, True, Ended(End.REVOKED, 250, "person:guard")),
        ("cancelled", [change("access-cancel", "r1", "person:vendor", 250)], 400, True, Ended(End.CANCELLED, 250, "person:vendor")),
        ("approved", [], 150, True, Ended(End.NOT_BEGUN)),
        ("approved", [], 250, True, Ended(End.IN_FORCE)),
        ("approved", [], 400, True, Ended(End.EXPIRED, UNTIL)),
        ("approved", [LEFT], 260, False, Ended(End.DISABLED, 250, "person:guard")),
        ("approved", [LEFT], 400, True, Ended(End.DISABLED, 250, "person:guard")),
        ("approved", [LEFT, change("person-enable", "vendor", "person:guard", 260)], 400, True, Ended(End.EXPIRED, UNTIL)),
        ("approved", [change("person-disable", "vendor", "person:guard", 350)], 400, False, Ended(End.EXPIRED, UNTIL)),
        ("approved", [change("person-disable", "vendor", "person:x", 250, "refused")], 400, True, Ended(End.EXPIRED, UNTIL)),
        ("approved", [change("role-revoke", "vendor", "person:guard", 250)], 400, True, Ended(End.ROLE_REVOKED, 250, "person:guard")),
        ("approved", [change("person-disable", "engineer", "uid:0", 250)], 260, False, Ended(End.REVOKED, 250, "uid:0")),
        ("approved", [], 260, False, Ended(End.REVOKED)),
    ],
)  # fmt: skip
def test_how_it_ended(state: str, told: list[Entry], now_ns: int, stands: bool, expected: Ended) -> None:
    assert ended(GRANT, state, told, now_ns, stands=stands) == expected


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def written(site: Site, *events: tuple[int, Event]) -> Process:
    times = iter([at for at, _ in events])
    process = site.process(clock=lambda: next(times, UNTIL + 60 * SECOND))
    for _, event in events:
        process.journal.append(event)
    process.journal.record(admitted())
    return process


def asked(search: AuditSearch, lacks: int = 0) -> Transcript:
    operator = Operator(0, "root")
    question = AuditQuestion(operator, who="person:vendor", from_ns=FROM, until_ns=UNTIL, grant=GRANT)
    return Transcript(question, Permit(operator, question.action, "operator:root", 1), search, lacks)


def act(kind: str, actor: str = "person:vendor", **details: str) -> Event:
    return Event(EventKind(kind), Outcome.SUCCESS, actor, action="get", details=details)


def test_its_window_and_its_person_and_what_was_cut_at_its_end(site: Site) -> None:
    process = written(
        site,
        (150, act("release:started")),  # before it
        (210, act("release:started")),
        (220, act("release:started", "person:other")),
        (230, act("request:refused", "WS1", person="person:vendor")),
        (240, act("person:refused", "", name="Vendor")),
        (241, act("person:refused", "", name="other")),
        (299, act("request:refused")),
        (300, act("request:refused")),  # its end is not in it
        (310, act("release:ended")),  # of what was begun at 210
        (320, act("release:ended")),  # of nothing that began in it
        (UNTIL + (ENDS_SECONDS_MAX + 1) * SECOND, act("release:ended")),
    )
    process.end()
    search = AuditSearch.open(site.path, site.keyring, feeds=True)
    search.catch_up(site.reader)
    transcript = asked(search)
    told = [(line.belongs, line.entry.at_ns) for line in transcript.lines()]
    acts = [at for belongs, at in told if belongs is Belongs.ACT]
    assert told[-1] == (Belongs.END, 310) and [at for belongs, at in told if belongs is Belongs.END] == [310]
    assert acts == [210, 230, 299] and (Belongs.UNPROVEN, 240) in told and len(told) == 5
    first, second, *_ = transcript.lines_page()
    assert next(transcript.lines(first.entry.place)) == second, "a page begins where the last one ended"
    search.close()


def test_it_says_what_the_search_lacks(site: Site) -> None:
    process = written(site, (210, act("release:started")))
    feeder = AuditSearch.open(site.path, site.keyring, feeds=True)
    reader = AuditSearch.open(site.path, site.keyring)
    assert reader.lacks(site.reader, 0) == 2
    feeder.catch_up(site.reader)
    assert reader.lacks(site.reader, 0) == 0
    process.journal.record(act("request:refused"))
    assert reader.lacks(site.reader, 0) == 1
    process.end()
    feeder.close()
    reader.close()
