"""People in the register: names that cannot be mistaken, rights with who gave them and why, and what ends with a right."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from leadglass.site.access import AccessRequest, Decision, Glass, Lease
from leadglass.site.factors import Nonce, Passkey, Password
from leadglass.site.people import People, Review, fold_name, folded_set, person_name_problem
from leadglass.site.register import Register
from leadglass.site.sessions import SessionRow
from leadglass.terms import Act, Factor, NotChanged, PatientIdentity, Person, Related, Relation, Role, StoreFault

KEY = bytes(range(32))
DAY = 86_400 * 1_000_000_000


@pytest.fixture
def register(tmp_path: Path) -> Register:
    return Register.open(tmp_path / "register.db", KEY)


@pytest.fixture
def people(register: Register) -> People:
    return People(register)


def person(name: str = "reader", *roles: Role, **facts: object) -> Person:
    number = f"{sum(name.encode()):032x}"
    return Person(number, name, name, frozenset(roles or (Role.RADIOLOGIST,)), **facts)  # type: ignore[arg-type]


def session(of: Person, number: int, opened_ns: int = 1, until_ns: int = 10 * DAY) -> SessionRow:
    factors = frozenset({Factor.PASSKEY})
    return SessionRow(f"s{number}", of.id, "b", "10.1.1.1", factors, opened_ns, opened_ns, 0, False, until_ns, 0, "")


def test_what_is_kept_is_what_was_said(people: People, tmp_path: Path) -> None:
    one = person(
        "reader", Role.RADIOLOGIST, Role.TECHNOLOGIST, departments=frozenset({"ct"}), names=frozenset({"reader^one"}), mail="r@x.example",
        source="ldap:house", until_ns=5 * DAY,
    )  # fmt: skip
    people.add(one, "operator", "works here", DAY)
    again = People(Register.open(tmp_path / "register.db", KEY))
    assert again.named("READER ") == again.get(one.id) == one and again.every() == [one]
    (account,) = again.accounts()
    assert (account.added_by, account.why, account.added_ns, account.gone_ns) == ("operator", "works here", DAY, 0)
    assert [(each.role, each.granted_by, each.why, each.at_ns, each.last_used_ns) for each in account.grants] == [
        (Role.RADIOLOGIST, "operator", "works here", DAY, 0), (Role.TECHNOLOGIST, "operator", "works here", DAY, 0),
    ]  # fmt: skip
    assert again.account(one.id) == account and again.account("nobody") is None
    for path in tmp_path.iterdir():
        assert b"reader" not in path.read_bytes()


def test_a_name_is_one_persons(people: People) -> None:
    people.add(person(), "operator", "works here", 1)
    with pytest.raises(NotChanged, match="here already"):
        people.add(replace(person(), id="ff" * 16), "operator", "again", 2)
    assert len(people.every()) == 1


@pytest.mark.parametrize(
    ("name", "folded"), [("Reader", "reader"), ("ＲＥＡＤＥＲ", "reader"), (" re\u00c9l ", "re\u00e9l"), ("ree\u0301l", "re\u00e9l"), ("Straße", "strasse")]
)  # fmt: skip
def test_spellings_that_look_alike_are_one_name(name: str, folded: str) -> None:
    assert fold_name(name) == fold_name(folded) and person_name_problem(fold_name(name)) == ""


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "-x",
        "x-",
        "r\u0435ader",
        "x" * 65,
        "a\u202eb",
        "a\u200bb",
        "a\x00b",
        "\ud800",
        "../x",
        "x;y",
        "x'",
    ],
)
def test_what_is_no_name(name: str) -> None:
    assert person_name_problem(fold_name(name))


@pytest.mark.parametrize(
    "name", ["reader", "reader.two", "o'reader", "r2@hospital.example", "ридер", "読影医", "ž-r_1"]
)
def test_names_of_any_one_script(name: str) -> None:
    assert person_name_problem(fold_name(name)) == ""


def test_what_studies_say_is_folded_as_the_index_folds_it() -> None:
    assert folded_set(["Reader^One", " READER^ONE ", "", "C  T"]) == {"reader^one", "c t"}


def test_disabling_ends_sessions_leases_and_the_open_link(people: People) -> None:
    one, other = person(), person("other")
    for each in (one, other):
        people.add(each, "operator", "works here", 1)
        people.factors.invite(each.id, f"digest of {each.name}", "enroll", DAY, 1)
    people.sessions.open(session(one, 1), "d1", 5)
    people.sessions.open(session(one, 2), "d2", 5)
    people.sessions.open(session(other, 3), "d3", 5)
    people.access.open_lease(Lease("l1", one.id, "s1", "WS1", 1, DAY))
    assert people.disable(one.id, "left", 7) == 2
    assert {each.id: (each.ended_ns, each.live(8)) for each in people.sessions.every()} == {
        "s1": (7, False), "s2": (7, False), "s3": (0, True),
    }  # fmt: skip
    assert people.access.lease_of("WS1", 8) is None
    assert people.factors.invitation("digest of reader").ended_ns == 7  # type: ignore[union-attr]
    assert people.factors.invitation("digest of other").ended_ns == 0  # type: ignore[union-attr]
    assert not people.get(one.id).enabled and people.get(other.id).enabled  # type: ignore[union-attr]
    people.enable(one.id, 9)
    assert people.get(one.id).enabled and not people.sessions.get("s1").live(10)  # type: ignore[union-attr]


def test_a_role_goes_with_its_sessions(people: People) -> None:
    one = person("reader", Role.RADIOLOGIST, Role.TECHNOLOGIST)
    people.add(one, "operator", "works here", 1)
    people.sessions.open(session(one, 1), "d1", 5)
    assert people.revoke(one.id, Role.TECHNOLOGIST, "moved", 7) == 1
    assert people.get(one.id).roles == {Role.RADIOLOGIST}  # type: ignore[union-attr]
    with pytest.raises(NotChanged, match="is no technologist"):
        people.revoke(one.id, Role.TECHNOLOGIST, "again", 8)
    people.grant(one.id, Role.TECHNOLOGIST, "chief", "back", 9)
    people.grant(one.id, Role.TECHNOLOGIST, "other", "again", 10)
    (grant,) = [each for each in people.account(one.id).grants if each.role is Role.TECHNOLOGIST]  # type: ignore[union-attr]
    assert (grant.granted_by, grant.why, grant.at_ns) == ("chief", "back", 9), "a repeat changes nothing"
    people.used(one.id, [Role.TECHNOLOGIST], 11)
    assert [each.last_used_ns for each in people.account(one.id).grants] == [0, 11]  # type: ignore[union-attr]


def test_two_processes_enrol_by_one_link_and_one_wins(people: People, tmp_path: Path) -> None:
    one = person()
    people.add(one, "operator", "works here", 1)
    people.factors.invite(one.id, "digest", "enroll", DAY, 1)
    done: list[str] = []

    def enroll(number: int) -> None:
        factors = People(Register.open(tmp_path / "register.db", KEY)).factors
        passkey = Passkey(f"c{number}", one.id, b"key", 0, "", "", False, 2, 0)
        try:
            factors.enroll_passkey(passkey, "digest", ["code"], Nonce(f"n{number}", DAY))
        except NotChanged:
            return
        done.append(f"c{number}")

    threads = [threading.Thread(target=enroll, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.credential for each in people.factors.passkeys(one.id)] == done and len(done) == 1


def test_an_enrolment_that_fails_leaves_nothing(people: People) -> None:
    one = person()
    people.add(one, "operator", "works here", 1)
    people.factors.invite(one.id, "digest", "enroll", DAY, 1)
    nonce = Nonce("n", DAY)
    people.factors.enroll_passkey(Passkey("c", one.id, b"key", 0, "", "", False, 2, 0), "", [], nonce)
    with pytest.raises(NotChanged, match="done before"):
        people.factors.enroll_password(one.id, Password("hash", "secret", 3, 0), 9, "digest", ["code"], nonce)
    assert people.factors.password(one.id) is None and people.factors.recovery_codes_left(one.id) == 0
    assert people.factors.invitation("digest").ended_ns == 0, "the link is still good"  # type: ignore[union-attr]
    with pytest.raises(NotChanged, match="too long"):
        people.factors.enroll_password(one.id, Password("hash", "secret", 3, 0), 9, "digest", ["code"], Nonce("m", 3))


def test_sessions_make_room_and_are_forgotten(people: People) -> None:
    one = person()
    people.add(one, "operator", "works here", 1)
    for number in range(1, 5):
        people.sessions.open(session(one, number, opened_ns=number), f"d{number}", 3)
    assert [each.id for each in people.sessions.of(one.id) if each.live(9)] == ["s4", "s3", "s2"]
    with pytest.raises(StoreFault):
        people.sessions.open(session(one, 4), "d9", 3)
    people.sessions.forget(11 * DAY)
    assert people.sessions.every() == []


def test_an_import_takes_the_place_of_its_sources_last(people: People) -> None:
    one, patient = person(), PatientIdentity("4711", "hospital")
    people.add(one, "operator", "works here", 1)
    access = people.access
    assert (
        access.relate(
            [Related(one.id, Relation.CARE_TEAM, patient), Related(one.id, Relation.ORDERED, None, "1.2")], "a"
        )
        == 2
    )
    access.relate([Related(one.id, Relation.SCHEDULED, None, "1.3")], "b")
    access.relate([Related(one.id, Relation.ORDERED, None, "1.4")], "a")
    assert {(each.relation, each.study_instance_uid, each.source) for each in access.related(one.id, 5)} == {
        (Relation.SCHEDULED, "1.3", "b"), (Relation.ORDERED, "1.4", "a"),
    }  # fmt: skip


def test_a_request_waits_is_decided_once_and_has_its_window(people: People) -> None:
    one = person()
    people.add(one, "operator", "works here", 1)
    facts = {"studies": ["1.2"], "patients": [["", "8"]]}
    asked = AccessRequest(
        "r1", "review", one.id, Act.STUDY_EXPORT, "1.2", "00", facts, "second opinion", 10, 20, "requested", 5, 0
    )
    people.access.ask(asked)
    people.access.ask(replace(asked, why="another"))
    assert people.access.requests(state="requested") == [asked] and people.access.in_window(one.id, 15) == []
    people.access.decide("r1", Decision("chief", "approved", "seen", 8), "approved", 10, 20)
    with pytest.raises(NotChanged, match="does not wait"):
        people.access.decide("r1", Decision("other", "denied", "no", 9), "denied", 10, 20)
    windows = [[each.id for each in people.access.in_window(one.id, at)] for at in (9, 10, 19, 20)]
    assert windows == [[], ["r1"], ["r1"], []]
    assert len(people.access.related(one.id, 15)) == 2 and people.access.related(one.id, 20) == ()
    (kept,) = people.access.requests()
    assert kept.decisions == (Decision("chief", "approved", "seen", 8),) and kept.settled_ns == 8
    people.access.settle("r1", "cancelled", 12)
    assert people.access.in_window(one.id, 15) == [] and people.access.request("r1").state == "cancelled"  # type: ignore[union-attr]


def test_broken_glass_waits_for_its_review(people: People) -> None:
    one = person()
    people.add(one, "operator", "works here", 1)
    glass = Glass("g1", one.id, PatientIdentity("8", "h"), "unconscious", 10, 20)
    people.access.break_glass(glass)
    assert people.access.glass(unreviewed=True) == [glass]
    people.access.review_glass("g1", "chief", "justified", "was on duty", 30)
    assert people.access.glass(unreviewed=True) == [] and people.access.glass()[0].verdict == "justified"
    with pytest.raises(NotChanged, match="reviewed already"):
        people.access.review_glass("g1", "other", "unjustified", "", 31)


def test_one_person_sits_at_a_device(people: People) -> None:
    one, other = person(), person("other")
    for each in (one, other):
        people.add(each, "operator", "works here", 1)
        people.sessions.open(session(each, ord(each.name[0])), f"d{each.name}", 5)
    people.access.open_lease(Lease("l1", one.id, "s114", "WS1", 1, 100))
    people.access.open_lease(Lease("l2", other.id, "s111", "WS1", 2, 100))
    assert people.access.lease_of("WS1", 3).person == other.id  # type: ignore[union-attr]
    assert people.access.lease_of("WS1", 100) is None and people.access.lease_of("WS2", 3) is None
    people.sessions.end("s111", "signed out", 4)
    assert people.access.lease_of("WS1", 5) is None, "whose session ends sits nowhere"
    assert [each.ended_why for each in people.access.leases()] == ["signed out", "somebody else sat down"]


def test_reviews(people: People) -> None:
    assert people.last_review() is None
    for number in (1, 2):
        people.add_review(Review(str(number), "chief", number, "digest", "[]"))
    assert people.last_review() == Review("2", "chief", 2, "digest", "[]")
