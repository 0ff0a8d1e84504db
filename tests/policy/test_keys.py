"""Custodians of a recovery kit: people of the house, several, and never one alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadglass.policy.keys import CUSTODIANS_MAX, collects, misshared
from leadglass.terms import Caller, Factor, NotPermitted, Peer, Person, Role, StepUpNeeded

NOW = 1_800_000_000_000_000_000


def person(name: str, *roles: Role) -> Person:
    return Person(name, name, name, frozenset(roles or {Role.RADIOLOGIST}))


MANY = [person(f"p{number}") for number in range(CUSTODIANS_MAX + 1)]


@pytest.mark.parametrize(
    ("count", "threshold"), [(2, 2), (3, 2), (3, 3), (CUSTODIANS_MAX, 2), (CUSTODIANS_MAX, CUSTODIANS_MAX)]
)
def test_several_of_several(count: int, threshold: int) -> None:
    assert misshared(MANY[:count], threshold, NOW) == ""


@pytest.mark.parametrize(
    ("count", "threshold"), [(0, 2), (1, 1), (1, 2), (2, 1), (2, 3), (3, 0), (CUSTODIANS_MAX + 1, 2)]
)
def test_never_one_alone_and_never_more_than_there_are(count: int, threshold: int) -> None:
    assert misshared(MANY[:count], threshold, NOW)


def test_each_once_and_of_the_house() -> None:
    assert "once" in misshared([MANY[0], MANY[0]], 2, NOW)
    for role in (Role.VENDOR, Role.OUTSIDE_REVIEWER, Role.SERVICE_ACCOUNT):
        assert "guest" in misshared([MANY[0], person("guest", role)], 2, NOW)
    assert "guest" in misshared([MANY[0], replace(MANY[1], roles=frozenset())], 2, NOW)
    for gone in (replace(MANY[1], enabled=False), replace(MANY[1], until_ns=NOW)):
        assert "not let in" in misshared([MANY[0], gone], 2, NOW)
    assert misshared([MANY[0], replace(MANY[1], until_ns=NOW + 1)], 2, NOW) == ""


def test_what_is_ones_own_is_fetched_with_a_fresh_passkey() -> None:
    caller = Caller(MANY[0], "session", frozenset({Factor.PASSKEY}), Peer("127.0.0.1", 1, "web"))
    assert collects(caller, fresh=True) == "kit:own"
    with pytest.raises(StepUpNeeded):
        collects(caller, fresh=False)
    with pytest.raises(NotPermitted):
        collects(replace(caller, person=person("guest", Role.VENDOR)), fresh=True)
