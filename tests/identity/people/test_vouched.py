"""Who somebody is here after another source vouched for them: the same row for the same subject, and no one else's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadglass.identity.people.vouched import Vouched, folded_name, person_id, person_of, spoken
from leadglass.terms import Factor, NotIdentified, Person, Role

ALICE = Vouched(
    "oidc:hospital", "sub-1", "alice", "Alice", "a@hospital.example", frozenset({Role.RADIOLOGIST}),
    frozenset({Factor.PROVIDER}),
)  # fmt: skip


def test_a_first_sign_in_makes_a_person() -> None:
    person = person_of(ALICE, None)
    assert person == Person(
        ALICE.person_id, "alice", "Alice", frozenset({Role.RADIOLOGIST}), mail="a@hospital.example", source="oidc:hospital"
    )  # fmt: skip
    assert len(bytes.fromhex(person.id)) == 16


def test_without_a_role_nobody_comes_in_first_or_again() -> None:
    nobody = replace(ALICE, roles=frozenset())
    for known in (None, person_of(ALICE, None)):
        with pytest.raises(NotIdentified, match="no group that gives a role"):
            person_of(nobody, known)


def test_roles_are_the_sources_and_what_is_ours_stays() -> None:
    known = replace(
        person_of(ALICE, None), departments=frozenset({"ct"}), names=frozenset({"DOE^ALICE"}), until_ns=7,
        roles=frozenset({Role.RADIOLOGIST, Role.SECURITY_OFFICER}),
    )  # fmt: skip
    again = person_of(replace(ALICE, roles=frozenset({Role.AUDITOR}), name="alice.doe"), known)
    assert again.roles == {Role.AUDITOR} and again.name == "alice.doe"
    assert (again.departments, again.names, again.until_ns) == (known.departments, known.names, 7)


@pytest.mark.parametrize(
    "known",
    [
        Person("0" * 32, "alice", "Alice", frozenset({Role.SECURITY_OFFICER})),
        replace(person_of(ALICE, None), id=person_id("oidc:hospital", "sub-2")),
        replace(person_of(ALICE, None), id=person_id("ldap:hospital", "sub-1")),
    ],
)
def test_a_name_that_is_somebody_elses_opens_nothing(known: Person) -> None:
    with pytest.raises(NotIdentified, match="somebody else already"):
        person_of(ALICE, known)


def test_who_is_disabled_here_stays_out_whatever_the_source_says() -> None:
    with pytest.raises(NotIdentified, match="disabled here"):
        person_of(ALICE, replace(person_of(ALICE, None), enabled=False))


def test_an_id_depends_on_source_and_subject_and_their_border() -> None:
    assert (
        len({person_id("a", "b"), person_id("b", "a"), person_id("a", "c"), person_id("ab", ""), person_id("", "ab")})
        == 5
    )


@pytest.mark.parametrize(("said", "name"), [("Alice", "alice"), ("ALICE@Hospital.Example", "alice@hospital.example"), ("ﬁnn", "finn"), ("ａlice", "alice"), (" bob ", "bob"), ("Straße", "strasse")])  # fmt: skip
def test_names_fold(said: str, name: str) -> None:
    assert folded_name(said) == name == folded_name(name)


@pytest.mark.parametrize(
    "said",
    ["", " ", "a b", "a\nb", "a\0b", "a\x1b[2J", "a\u202eb", "a\u200bb", "\u0430lice", "a/b", "x" * 65, "a" * 100_000],
)
def test_names_that_will_not_do(said: str) -> None:
    assert folded_name(said) == ""


def test_what_is_shown_neither_steers_nor_floods() -> None:
    assert spoken("Dr.\n\x1b[31mDoe" + "x" * 500, 128) == ("Dr.[31mDoe" + "x" * 500)[:128]
    assert spoken(7, 128) == spoken(None, 128) == ""
