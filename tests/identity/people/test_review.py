"""A review of accounts finds what is dormant, never used, shared, orphaned or over, and is itself due every 90 days."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from leadglass.identity.people.review import findings, findings_digest, findings_of, review_due
from leadglass.identity.people.use import RightsUsed, roles_in
from leadglass.site.people import Account, Grant, Review
from leadglass.site.sessions import SessionRow
from leadglass.terms import Caller, Factor, Person, Role
from tests.identity.people.place import Place, peer

DAY = 86_400 * 1_000_000_000
NOW = 1000 * DAY
READER = Person("aa", "reader", "Reader", frozenset({Role.RADIOLOGIST}))


def account(person: Person = READER, added_ns: int = NOW - DAY, used_ns: int = NOW, **facts: object) -> Account:
    grants = tuple(Grant(role, "chief", "works here", added_ns, used_ns) for role in sorted(person.roles))
    kept = Account(person, grants, frozenset(), "chief", "works here", added_ns, "", added_ns, 0)
    return replace(kept, **facts)  # type: ignore[arg-type]


def session(opened_ns: int, seen_ns: int, address: str = "10.1.1.1") -> SessionRow:
    factors = frozenset({Factor.PASSKEY})
    return SessionRow(f"s{opened_ns}", "aa", "", address, factors, opened_ns, seen_ns, 0, False, NOW + DAY, 0, "")


def found(kept: Account, *sessions: SessionRow, enrolled: bool = True) -> list[str]:
    return [each.kind for each in findings([kept], sessions, {"aa"} if enrolled else set(), NOW)]


@pytest.mark.parametrize(
    ("kept", "sessions", "enrolled", "kinds"),
    [
        (account(), [], True, []),
        (account(added_ns=NOW - 90 * DAY), [], True, ["dormant"]),
        (account(added_ns=NOW - 900 * DAY), [session(NOW - 91 * DAY, NOW - 90 * DAY)], True, ["dormant"]),
        (account(added_ns=NOW - 900 * DAY), [session(NOW - 91 * DAY, NOW - 89 * DAY)], True, []),
        (account(added_ns=NOW - 30 * DAY), [], False, ["invited"]),
        (account(added_ns=NOW - 29 * DAY), [], False, []),
        (account(added_ns=NOW - 30 * DAY, used_ns=0), [], True, ["never-used"]),
        (account(replace(READER, until_ns=NOW)), [], True, ["ended"]),
        (account(replace(READER, enabled=False), added_ns=0), [], True, []),
        (account(replace(READER, enabled=False), gone_ns=NOW - DAY), [], True, ["orphaned"]),
        (account(replace(READER, roles=frozenset({Role.SERVICE_ACCOUNT})), added_ns=0), [], False, []),
    ],
)  # fmt: skip
def test_what_is_found(kept: Account, sessions: list[SessionRow], enrolled: bool, kinds: list[str]) -> None:
    assert found(kept, *sessions, enrolled=enrolled) == kinds


def test_one_account_at_two_places_at_once_looks_shared() -> None:
    here, there = session(NOW - 100, NOW - 50), session(NOW - 80, NOW - 20, "10.1.1.2")
    assert found(account(), here, there) == ["shared"]
    assert found(account(), here, replace(there, address="10.1.1.1")) == [], "two windows of one workstation"
    assert found(account(), here, replace(there, opened_ns=NOW - 49)) == [], "who moves on is at one place"
    (finding,) = findings([account()], [here, there], {"aa"}, NOW)
    assert "10.1.1.1 and 10.1.1.2" in finding.reason and "leadglass people disable reader" in finding.mend


def test_a_review_is_due_after_90_days_and_signs_what_was_seen() -> None:
    kept = [account(added_ns=NOW - 90 * DAY)]
    assert not review_due([], None, NOW) and review_due(kept, None, NOW) and not review_due([account()], None, NOW)
    assert not review_due(kept, Review("1", "chief", NOW - 89 * DAY, "", ""), NOW)
    assert review_due(kept, Review("1", "chief", NOW - 90 * DAY, "", ""), NOW)
    one, other = findings(kept, [], {"aa"}, NOW), findings(kept, [], set(), NOW)
    assert findings_digest(one) == findings_digest(list(one)) != findings_digest(other)


def test_of_the_register(tmp_path: Path) -> None:
    place = Place.at(tmp_path)
    person = place.person()
    place.passkey(person)
    assert findings_of(place.people, place.clock()) == []
    assert [each.kind for each in findings_of(place.people, place.clock() + 90 * DAY)] == ["dormant", "never-used"]


@pytest.mark.parametrize(
    ("rule", "roles"),
    [
        ("cedar:radiologist-sees", {Role.RADIOLOGIST}),
        (
            "flow-1+cedar:referring-clinician-sees+cedar:technologist-sees",
            {Role.REFERRING_CLINICIAN, Role.TECHNOLOGIST},
        ),
        ("person:self", set()),
        ("radiologist-sees", set()),
        ("cedar:step-up", set()),
    ],
)
def test_a_rule_names_the_role_that_it_gives_to(rule: str, roles: set[Role]) -> None:
    assert roles_in(rule) == roles


def test_use_is_written_once_a_day(tmp_path: Path) -> None:
    place = Place.at(tmp_path)
    person = place.person("reader", Role.RADIOLOGIST, Role.TECHNOLOGIST)
    used, caller = RightsUsed(place.people, place.clock), Caller(person, "", peer(), frozenset())
    began = place.clock()

    def last() -> list[int]:
        kept = place.people.account(person.id)
        assert kept is not None
        return [each.last_used_ns for each in kept.grants]

    for rule in ("cedar:radiologist-sees", "cedar:auditor-reads", "person:self"):
        used.note(caller, rule)
        place.clock.wait(1)
    assert last() == [began, 0]
    used.note(caller, "cedar:radiologist-sees")
    assert last() == [began, 0]
    place.clock.wait(86_400)
    used.note(caller, "cedar:radiologist-sees")
    assert last() == [place.clock(), 0]
