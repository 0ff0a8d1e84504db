"""Whoever signs for the console enrols exactly what was asked for, by who may still ask, and does and asks nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leadglass.policy.authorise import authorise, inquire
from leadglass.policy.enrolment import KINDS, Asked
from leadglass.site.device_facts import device_table, flow_table
from leadglass.site.document import SiteInvalid
from leadglass.site.enrolments import Enrolment
from leadglass.site.load import load
from leadglass.site.model import Site
from leadglass.terms import (
    Caller,
    Change,
    ChangeKind,
    Contained,
    Containment,
    NotPermitted,
    Operator,
    Peer,
    Person,
    Role,
)

OWNER, SIGNER = 1001, Operator(1002, "leadglass-enroll")
FACTS = {
    "name": "CT1", "ae": ["CT1"], "network": "10.0.0.7/32", "zone": "z", "may": ["echo"], "address": "", "sop_class": [], "why": "", "record": {},
}  # fmt: skip
FINGERPRINT = "sha256:" + "ab" * 32
ENROLMENT = Enrolment("e1", "CT1", "p1", 1, FACTS, "")
ENGINEER = Person("p1", "bio", "Bio", frozenset({Role.BIOMEDICAL_ENGINEER}))
ASKED = Asked(ENROLMENT, ENGINEER)


def site(place: Path, words: str) -> Site:
    (place / "leadglass.toml").write_text(f'schema = 1\n{words}\n[zones.z]\nnetworks = ["10.0.0.0/8"]\n')
    return load(place)


@pytest.fixture
def here(tmp_path: Path) -> Site:
    return site(tmp_path, '[site]\noperators = ["alice"]\n[enrolment]\nuser = "leadglass-enroll"')


def told(**changes: Any) -> dict[str, Any]:
    return {
        "enrolment": "e1", "digest": ENROLMENT.digest, "kind": "issued", "bundle": "",
        "device": device_table(FACTS, FINGERPRINT), "flow": flow_table(FACTS), "certificate": {"fingerprint": FINGERPRINT}, **changes,
    }  # fmt: skip


def signing(by: Operator = SIGNER, about: str = "CT1", **changes: Any) -> Change:
    return Change("1", by, ChangeKind.DEVICE_ENROLL, about, told(**changes))


def allowed(here: Site, change: Change, asked: Asked | None = ASKED) -> str:
    return authorise(here, Containment(), change, OWNER, 100, asked).rule


def test_exactly_what_was_asked_for(here: Site) -> None:
    assert allowed(here, signing()) == "operator:enrolment"
    decline = Change("1", SIGNER, ChangeKind.DEVICE_DECLINE, "CT1", {"enrolment": "e1", "digest": ENROLMENT.digest})
    assert allowed(here, decline) == "operator:enrolment"


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "0" * 64},
        {"about": "CT2"},
        {"kind": "pinned"},
        {"certificate": None},
        {"certificate": {"fingerprint": "sha256:" + "cd" * 32}},
        {"flow": None},
        {"flow": {**(flow_table(FACTS) or {}), "may": ["echo", "find"]}},
        {"device": {**device_table(FACTS, FINGERPRINT), "network": "0.0.0.0/0"}},
        {"device": {**device_table(FACTS, FINGERPRINT), "certificate": [FINGERPRINT, "sha256:" + "cd" * 32]}},
    ],
)
def test_nothing_else_whoever_signs(here: Site, changes: dict[str, Any]) -> None:
    for by in (SIGNER, Operator(OWNER, "leadglass"), Operator(0, "root"), Operator(77, "alice")):
        assert allowed(here, signing(by))
        with pytest.raises(NotPermitted) as refusal:
            allowed(here, signing(by, **changes))
        assert refusal.value.rule == "operator:enrolment"


@pytest.mark.parametrize("state", ["signed", "failed", "collected", "lapsed"])
def test_nothing_twice(here: Site, state: str) -> None:
    with pytest.raises(NotPermitted, match="settled already"):
        allowed(here, signing(), Asked(replace(ENROLMENT, state=state), ENGINEER))
    with pytest.raises(NotPermitted, match="nobody asked"):
        allowed(here, signing(), None)
    begun = replace(ENROLMENT, certificate={"fingerprint": FINGERPRINT})
    assert allowed(here, signing(), Asked(begun, ENGINEER))
    other = "sha256:" + "cd" * 32
    again = signing(certificate={"fingerprint": other}, device=device_table(FACTS, other))
    with pytest.raises(NotPermitted, match="not signed twice"):
        allowed(here, again, Asked(begun, ENGINEER))


@pytest.mark.parametrize(
    "person",
    [
        None,
        replace(ENGINEER, enabled=False),
        replace(ENGINEER, until_ns=100),
        replace(ENGINEER, roles=frozenset({Role.SECURITY_OFFICER})),
    ],
)
def test_who_asked_may_still_ask(here: Site, person: Person | None) -> None:
    with pytest.raises(NotPermitted, match="may enrol no device any more"):
        allowed(here, signing(), Asked(ENROLMENT, person))


@pytest.mark.parametrize("kind", [each for each in ChangeKind if each not in KINDS])
def test_no_other_change(here: Site, kind: ChangeKind) -> None:
    with pytest.raises(NotPermitted, match="signs enrolments"):
        allowed(here, Change("1", SIGNER, kind, "CT1", told()))


def test_a_renewal_says_nothing_of_the_device_but_its_certificate(here: Site) -> None:
    renewal = replace(
        ENROLMENT, facts={"name": "CT1", "renewal": True, "ae": ["CT1"], "network": "10.0.0.7/32", "may": []}
    )

    def renewing(what: ChangeKind = ChangeKind.DEVICE_RENEW, by: Operator = SIGNER, **more: Any) -> Change:
        certificate = {"fingerprint": FINGERPRINT}
        words = {
            "enrolment": "e1",
            "digest": renewal.digest,
            "kind": "issued",
            "bundle": "",
            "certificate": certificate,
        }
        return Change("1", by, what, "CT1", {**words, **more})

    asked = Asked(renewal, ENGINEER)
    assert allowed(here, renewing(), asked) == "operator:enrolment"
    for by in (SIGNER, Operator(OWNER, "leadglass"), Operator(0, "root")):
        for more in ({"pins": []}, {"pins": [FINGERPRINT]}, {"device": {}}, {"flow": None}, {"kind": "pinned"}):
            with pytest.raises(NotPermitted):
                allowed(here, renewing(by=by, **more), asked)
        with pytest.raises(NotPermitted, match="not what was asked for"):
            allowed(here, renewing(ChangeKind.DEVICE_ENROLL, by), asked)
        with pytest.raises(NotPermitted):
            allowed(here, renewing(by=by, digest=ENROLMENT.digest), ASKED)
    with pytest.raises(NotPermitted, match="nobody asked"):
        allowed(here, Change("1", SIGNER, ChangeKind.DEVICE_RENEW, "CT1", {"pins": [], "certificate": {}}), None)


def test_no_other_question(here: Site) -> None:
    assert inquire(here, SIGNER, "enrolments", OWNER) == "operator:enrolment"
    for question in ("status", "events", "people", "devices", "site", ""):
        with pytest.raises(NotPermitted, match="asks for nothing else"):
            inquire(here, SIGNER, question, OWNER)
        assert inquire(here, Operator(OWNER, "leadglass"), question, OWNER) == "operator:owner"
        with pytest.raises(NotPermitted, match="no operator"):
            inquire(here, Operator(77, "mallory"), question, OWNER)


def test_a_site_that_contains_enrols_nothing(here: Site) -> None:
    with pytest.raises(Contained):
        authorise(here, Containment(read_only="ransomware"), signing(), OWNER, 100, ASKED)


def test_the_bundle_is_for_who_asked(here: Site) -> None:
    def collecting(by: str, about: str = "CT1") -> Change:
        who = Caller(replace(ENGINEER, id=by), "s", Peer("10.0.0.1", 1, "web"), frozenset())
        return Change("1", who, ChangeKind.DEVICE_COLLECT, about, {"enrolment": "e1"})

    assert allowed(here, collecting("p1"))
    for change, asked in ((collecting("p2"), ASKED), (collecting("p1", "CT2"), ASKED), (collecting("p1"), None)):
        with pytest.raises(NotPermitted, match="did not ask") as refusal:
            allowed(here, change, asked)
        assert refusal.value.rule == "enrolment:own"


@pytest.mark.parametrize(
    "words",
    [
        '[enrolment]\nuser = "root"',
        "[enrolment]\nuser = 0",
        "[enrolment]\nuser = []",
        '[enrolment]\nuser = ["a", "b"]',
        "[enrolment]",
        '[site]\noperators = ["signer"]\n[enrolment]\nuser = "signer"',
    ],
)
def test_the_site_file_names_one_user_of_its_own(tmp_path: Path, words: str) -> None:
    with pytest.raises(SiteInvalid, match="enrolment|signs enrolments"):
        site(tmp_path, words)


def test_without_one_nobody_is_it(tmp_path: Path) -> None:
    with pytest.raises(NotPermitted, match="no operator"):
        allowed(site(tmp_path, ""), signing())
