"""The table that is written by hand and the one that the policies give are the same, cell by cell."""

from __future__ import annotations

import json
import re

import pytest

from leadglass.policy.evaluation import SITE, Facts, ask
from leadglass.policy.matrix import Cell, cell, matrix
from leadglass.terms import Act, ChangeKind, Relation, Role
from tests.tidy.repository import ROOT

SHORT = {
    "rad": Role.RADIOLOGIST,
    "tech": Role.TECHNOLOGIST,
    "ref": Role.REFERRING_CLINICIAN,
    "else": Role.CLINICIAN_ELSEWHERE,
    "pacs": Role.PACS_ADMINISTRATOR,
    "sec": Role.SECURITY_OFFICER,
    "aud": Role.AUDITOR,
    "bio": Role.BIOMEDICAL_ENGINEER,
    "ven": Role.VENDOR,
    "rev": Role.OUTSIDE_REVIEWER,
    "svc": Role.SERVICE_ACCOUNT,
}
SEEING = (Act.STUDY_FIND, Act.STUDY_READ)


def table(heading: str) -> dict[tuple[str, Role], str]:
    """(first column, role) -> cell, of the table whose first heading this is."""
    lines = (ROOT / "docs" / "roles.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    columns = [SHORT[each.strip()] for each in lines[start].strip("| ").split("|")[1:]]
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        first, *cells = [each.strip() for each in re.split(r"\|", line)[1:-1]]
        assert len(cells) == len(columns), line
        found.update({(first, role): text for role, text in zip(columns, cells, strict=True)})
    return found


def told(found: Cell) -> str:
    """A cell in the words of the page."""
    words = []
    if found.needs_step_up:
        words.append("key")
    if found.needs_second_person:
        words.append("2nd" if found.always else "bulk 2nd")
    return (" ".join(words) or "yes") if found.allowed else ""


WRITTEN = table("act")


def test_the_page_has_every_role_and_act_and_no_other() -> None:
    assert set(WRITTEN) == {(act, role) for act in Act for role in Role}
    assert list(dict.fromkeys(act for act, _ in WRITTEN)) == sorted(Act)
    assert [(each.role, each.act) for each in matrix()] == [(role, act) for role in Role for act in Act]


@pytest.mark.parametrize("role", list(Role))
def test_written_is_generated(role: Role) -> None:
    assert {act: WRITTEN[act, role] for act in Act} == {act: told(cell(role, act)) for act in Act}


def test_relations_written_are_generated() -> None:
    written = table("relation")
    for role in Role:
        for act in (*SEEING, Act.STUDY_EXPORT):
            found = cell(role, act)
            if found.allowed:
                said = {relation for relation in Relation if written[relation, role] == "yes"}
                assert said == set(found.relations), (role, act)
    assert {role for _, role in written} == {role for role in Role if cell(role, Act.STUDY_READ).allowed}


def test_nobody_approves_their_own() -> None:
    assert not [each for each in matrix() if each.self_approval]
    second = {each.act for each in matrix() if each.needs_second_person}
    assert {Act.STUDY_ERASE, Act.POLICY_APPLY, Act.STUDY_EXPORT, Act.KEY_USE} <= second


def test_self_approval_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator finds it out by asking: with policies that let people approve their own, the column says so."""
    from leadglass.policy import matrix as generator

    def lax(act: Act, facts: Facts, about: object):
        return ask(act, facts, SITE if act is Act.ACCESS_APPROVE else about)  # type: ignore[arg-type]

    monkeypatch.setattr(generator, "ask", lax)
    cell.cache_clear()
    try:
        assert cell(Role.PACS_ADMINISTRATOR, Act.STUDY_ERASE).self_approval
    finally:
        cell.cache_clear()


def test_the_separations_that_sp_1800_24_asks_for() -> None:
    images = {Act.STUDY_FIND, Act.STUDY_READ, Act.STUDY_EXPORT, Act.STUDY_STORE, Act.STUDY_ERASE, Act.GLASS_BREAK}
    for role in (Role.SECURITY_OFFICER, Role.AUDITOR, Role.VENDOR, Role.BIOMEDICAL_ENGINEER):
        assert not [act for act in images if cell(role, act).allowed], role
    assert not [act for act in images - {Act.STUDY_ERASE} if cell(Role.PACS_ADMINISTRATOR, act).allowed]
    assert [act for act in Act if cell(Role.AUDITOR, act).allowed] == [
        Act.AUDIT_READ,
        Act.AUDIT_REPORT,
        Act.DEVICE_LIST,
        Act.PEOPLE_LIST,
        Act.POLICY_READ,
        Act.TRANSCRIPT_READ,
    ]
    audit = {name for name in (*Act, *ChangeKind) if "audit" in name or "event" in name or "journal" in name}
    assert audit == {Act.AUDIT_READ, Act.AUDIT_REPORT}, "nobody edits audit: there is no act and no change that does"
    assert not any(cell(Role.PACS_ADMINISTRATOR, act).allowed for act in (Act.AUDIT_READ, Act.AUDIT_REPORT))


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    from leadglass.__main__ import assemble
    from leadglass.doors.command.application import run_application

    assert run_application(assemble, ["policy", "matrix", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == len(Act) * len(Role)
    by_cell = {(row["role"], row["action"]): row for row in rows}
    assert set(by_cell) == {(role, act) for role in Role for act in Act}
    erase = by_cell["pacs-administrator", "study-erase"]
    assert (erase["allowed"], erase["needs_second_person"], erase["self_approval"]) == (True, True, False)
    assert by_cell["security-officer", "study-read"]["allowed"] is False
    assert run_application(assemble, ["policy", "matrix"]) == 0
    assert "security-officer" in capsys.readouterr().out
