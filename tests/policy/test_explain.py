"""Why, and what would have to change: found by asking, so what is said to be enough is enough, and nothing smaller is."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from leadglass.doors.command.exits import Stopped
from leadglass.doors.command.explaining import explain
from leadglass.policy.evaluation import SITE, STUDY_ACTS, Facts, OfAccount, OfMatter, OfSite, OfStudy, ask
from leadglass.policy.explain import explain_device, explain_person
from leadglass.terms import Act, Action, Containment, PatientIdentity, Related, Relation, Role
from leadglass.wire import tags
from tests.archive.kept import instance, settled
from tests.policy.callers import person
from tests.policy.test_decide import device, flow, site


def facts(*roles: Role, **more: bool) -> Facts:
    return Facts(frozenset(roles), **more)


def test_what_is_allowed_names_its_rule() -> None:
    found = explain_person(Act.STUDY_READ, facts(Role.RADIOLOGIST), OfStudy(frozenset({Relation.DEPARTMENT})))
    assert found.allowed and found.rules == ("cedar:radiologist-sees",) and not found.would


def test_the_relation_that_is_missing() -> None:
    found = explain_person(Act.STUDY_READ, facts(Role.TECHNOLOGIST), OfStudy())
    assert not found.allowed and found.why == "no rule allows it"
    relations = {each for each in found.would if each[0].startswith("the relation")}
    assert relations == {("the relation scheduled",), ("the relation department",), ("the relation granted",)}


def test_what_forbids_is_named_and_only_its_end_helps() -> None:
    found = explain_person(Act.STUDY_READ, facts(Role.SECURITY_OFFICER), OfStudy(frozenset({Relation.GRANTED})))
    assert found.rules == ("cedar:security-officer-sees-no-images",)
    assert found.would and all("not the role security-officer" in each for each in found.would)


def test_several_things_at_once_are_said_together() -> None:
    found = explain_person(Act.STUDY_ERASE, facts(Role.PACS_ADMINISTRATOR), OfStudy())
    assert found.would == (("step up with a fresh passkey", "an approval by somebody else"),)
    own = explain_person(
        Act.ACCESS_APPROVE, facts(Role.SECURITY_OFFICER, stepped_up=True), OfMatter("study-erase", True)
    )
    assert own.would == (("that it is somebody else's",),)
    account = explain_person(Act.ROLE_GRANT, facts(Role.SECURITY_OFFICER, stepped_up=True), OfAccount(True))
    assert account.would == (("that it is somebody else's",),)
    bulk = explain_person(
        Act.STUDY_EXPORT,
        facts(Role.RADIOLOGIST, stepped_up=True, bulk=True),
        OfStudy(frozenset({Relation.ORDERED})),
    )
    assert set(bulk.would) == {("an approval by somebody else",), ("one patient at a time",)}


def changed(words: tuple[str, ...], of: Facts, about: OfStudy | OfSite) -> tuple[Facts, OfStudy | OfSite]:
    """The facts as an operator would change them who reads these words."""
    for word in words:
        if word == "step up with a fresh passkey":
            of = replace(of, stepped_up=True)
        elif word == "an approval by somebody else":
            of = replace(of, approved=True)
        elif word.startswith("the relation "):
            assert isinstance(about, OfStudy)
            about = OfStudy(about.relations | {Relation(word.removeprefix("the relation "))})
        elif word.startswith("not the role "):
            of = replace(of, roles=of.roles - {Role(word.removeprefix("not the role "))})
        else:
            of = replace(of, roles=of.roles | {Role(word.removeprefix("the role "))})
    return of, about


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("act", [Act.STUDY_READ, Act.STUDY_ERASE, Act.DEVICE_LIST, Act.KEY_USE])
def test_what_is_said_to_be_enough_is_enough_and_the_least(role: Role, act: Act) -> None:
    about = OfStudy() if act in STUDY_ACTS else SITE
    found = explain_person(act, facts(role), about)
    assert found.allowed == ask(act, facts(role), about).allowed
    for words in found.would:
        assert ask(act, *changed(words, facts(role), about)).allowed
        for lacking in itertools.combinations(words, len(words) - 1):
            assert not ask(act, *changed(lacking, facts(role), about)).allowed


# ---- devices


def test_devices_by_their_flows(tmp_path) -> None:
    place = site(
        tmp_path,
        device("CT1"),
        device("WS1", "clinical", address="10.2.0.1:104"),
        device("ID1", "clinical"),
        flow("ct-stores", "CT1", "echo,store", 'sop_classes = ["CTImageStorage"]'),
        flow("ws-reads", "WS1", "find,get,move"),
        flow("named", "ID1", "find", "require_user_identity = true"),
    )
    calm = Containment()

    def asked(name: str, action: Action, what: str = "", containment: Containment = calm):
        return explain_device(place, containment, place.devices[name], action, what)

    assert asked("CT1", Action.STORE).rules == ("ct-stores",)
    assert asked("CT1", Action.STORE, "CTImageStorage").allowed
    mr = asked("CT1", Action.STORE, "MRImageStorage")
    assert not mr.allowed and "add it to sop_classes of ct-stores" in mr.why
    assert "no flow from CT1 to archive has find" in asked("CT1", Action.FIND).why
    assert asked("WS1", Action.MOVE, "WS1").allowed and asked("WS1", Action.MOVE).allowed
    assert "no enrolled device has that AE title" in asked("WS1", Action.MOVE, "ELSEWHERE").why
    assert asked("ID1", Action.FIND).would == (
        ("somebody who is proven to sit there: a lease, or a token in the association",),
    )
    disabled = asked("CT1", Action.ECHO, containment=Containment(disabled={"CT1": "lost"}))
    assert not disabled.allowed and "lost" in disabled.why
    assert disabled.would == (("let CT1 in again: leadglass device enable CT1",),)
    assert {action: asked("CT1", action).allowed for action in Action} == {
        Action.ECHO: True, Action.STORE: True, Action.FIND: False, Action.GET: False, Action.MOVE: False, Action.COMMIT: False,
    }  # fmt: skip


# ---- the command


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict]]:
    from leadglass.__main__ import assemble
    from leadglass.doors.command.application import run_application

    code = run_application(assemble, ["policy", "explain", *words, "--json"])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_role_needs_no_site(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEADGLASS_SITE", raising=False)
    code, (row,) = command(capsys, "ROLE:security-officer", "study-read")
    assert code == 0 and (row["decision"], row["allowed"]) == ("deny", False)
    assert row["rules"] == ["cedar:security-officer-sees-no-images"] and row["would"]
    code, (row,) = command(capsys, "auditor", "audit-read", "-")
    assert code == 0 and row["decision"] == "allow" and row["rules"] == ["cedar:auditor-reads"]
    assert command(capsys, "ROLE:emperor", "study-read")[0] == 2
    assert command(capsys, "ROLE:auditor", "rule")[0] == 2


def test_people_devices_and_studies_of_a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from leadglass.__main__ import assemble
    from leadglass.doors.command.application import run_application

    directory = tmp_path / "site"
    assert run_application(assemble, ["init", str(directory), "--loopback"]) == 0
    house = assemble(directory)
    try:
        jane = person(Role.REFERRING_CLINICIAN, names=["doe^jane"])
        treats = Related(jane.id, Relation.CARE_TEAM, PatientIdentity("P1", "HOSPITAL"))
        house.people.add(jane, "root", "a test", time.time_ns())
        house.people.access.relate([treats], "a test")
        said = {tags.REFERRING_PHYSICIAN_NAME: "DOE^JANE"}
        house.index.publish(
            [
                settled(instance("1.1.1", study="1.1", patient=PatientIdentity("P1", "HOSPITAL"))),
                settled(instance("1.2.1", study="1.2", patient=PatientIdentity("P2", "HOSPITAL")), record=2),
                settled(
                    instance("1.3.1", study="1.3", patient=PatientIdentity("P2", "HOSPITAL"), attributes=said), record=3
                ),
            ]
        )

        def asked(who: str, action: str, what: str) -> list[tuple[object, object, object]]:
            rows = explain(house, {"who": who, "action": action, "what": what})
            return [(row["what"], row["decision"], row.get("relations")) for row in rows]

        assert asked("jane", "study-read", "1.1") == [("1.1", "allow", ["care-team"])]
        assert asked("jane", "get", "1.2") == [("1.2", "deny", [])]
        assert asked("jane", "study-find", "P2") == [("1.2", "deny", []), ("1.3", "allow", ["clinician"])]
        assert asked("jane", "study-find", "nothing here") == [("nothing here", "deny", [])]
        assert asked("jane", "glass-break", "-") == [("-", "allow", None)]
        assert asked("ROLE:radiologist", "study-read", "1.1") == [("1.1", "deny", [])]
        with pytest.raises(Stopped, match="nobody and nothing is called"):
            asked("joe", "study-read", "1.1")
        house.people.disable(jane.id, "gone", time.time_ns())
        with pytest.raises(Stopped, match="jane is disabled"):
            asked("jane", "study-read", "1.1")
    finally:
        house.close()
