"""Five weeks of a site, in a minute: what nobody used comes out as a draft that is proven, applies nothing, and takes nothing from whoever works."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from leadglass.doors.command.desk import RemoteDesk
from leadglass.lab.peers import Archive, TurnedAway, associated, echoing, querying
from leadglass.policy.firewall.handed import box_json
from leadglass.policy.firewall.openings import openings
from leadglass.policy.network import REPORT
from leadglass.site.write import load_proven
from leadglass.wire import tags
from tests.programs import require
from tests.running import RunningSite, running, until
from tests.siege.test_time import Clock, stored, who

EXTRA = """
[firewall]
addresses = ["127.0.0.1/32"]
user = "leadglass-firewall"
[services]
ssh = "tcp/22"
mirror = "tcp/873"
[zones.wards]
networks = ["10.3.0.0/24"]
[[flows]]
id = "names"
from = ["archive"]
to = ["wards"]
service = "ssh"
auth = "none"
why = "nobody tells of this one"
[[flows]]
id = "visit"
from = ["wards"]
to = ["archive"]
service = "ssh"
auth = "mfa"
on_demand = { approve = "biomedical-engineer", max = "4h", record = true }
why = "by appointment, and nobody ever asked"
[[flows]]
id = "copies"
from = ["archive"]
to = ["wards"]
service = "mirror"
why = "of this one the kernel tells"
"""


def told(rows: list[dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows if key in row}


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "offset")


def refused(site: RunningSite, name: str) -> None:
    """It may store, and asks."""
    with pytest.raises(AssertionError), associated(who(site, name), Archive("127.0.0.1", site.port), querying()) as session:  # fmt: skip
        answer, _ = session.find("STUDY", {tags.PATIENT_ID: "", tags.STUDY_INSTANCE_UID: ""})
        assert answer.status == 0


def test_five_weeks_are_looked_back_on(tmp_path: Path, clock: Clock) -> None:
    require("patch")
    with running(tmp_path, EXTRA) as site:
        site.before = clock.before
        site.up()
        for name in ("CT1", "OLD"):
            site.enroll(name, "echo,store,commit")
        site.enroll("WS1", "echo,find,get")
        young = site.rows("zones", "tighten", "--days", "30")
        assert young[0]["evidence"] == "journal" and young[0]["reaches"] is False
        assert young[-1] == {**young[-1], "drafted": 0, "applied": False}, "nothing is known of so long a time"
        clock.set(20)
        stored(site, random.Random(1), "1.2.3")
        refused(site, "CT1")
        refused(site, "CT1")
        with associated(who(site, "WS1"), Archive("127.0.0.1", site.port), [*querying(), *echoing()]) as session:
            assert session.find("STUDY", {tags.PATIENT_ID: "", tags.STUDY_INSTANCE_UID: ""})[0].status == 0
        tells = _the_kernel_tells(site)
        clock.set(35)
        draft = tmp_path / "draft"
        rows = site.rows("zones", "tighten", "--days", "30", "--draft", str(draft))
        _what_is_told(rows, tells)
        assert {each["id"] for each in _flows(site)} >= {"OLD-enrolled", "visit"}, "nothing acts by itself"
        _the_draft_is_the_diff(site, rows, draft)
        shutil.copytree(draft, site.directory, dirs_exist_ok=True)
        assert site.rows("check")[-1]["ok"] is True
        site.command("apply")
        stored(site, random.Random(2), "1.2.4")
        with pytest.raises(TurnedAway):
            associated(who(site, "OLD"), Archive("127.0.0.1", site.port), echoing()).__enter__()
        again = site.rows("zones", "tighten", "--days", "30")
        assert "CT1-enrolled" not in told(again, "finding"), "it stands as it stands since today only"


def _the_kernel_tells(site: RunningSite) -> int:
    """As whoever loads its table: packets of one flow, and with that for how many days it was heard."""
    if os.geteuid() != 0:
        return 0
    (opened,) = (each for each in openings(load_proven(site.directory)).output if each.flow == "copies")
    traffic = {"counters": [["output4", box_json(opened.box), 40]], "connections": [], "more": 0}
    list(RemoteDesk(site.directory).ask(REPORT, {"digest": "x", "drops": [], "lost": 0, "traffic": traffic}))
    assert until(lambda: site.events("network:watched")), "the keeper writes it"
    assert [each["details"]["flow"] for each in site.events("network:used")] == ["copies"]
    return 1


def _what_is_told(rows: list[dict[str, Any]], days_heard: int) -> None:
    findings, unknown = told(rows, "finding"), told(rows, "unknown")
    kernel = {"evidence": "kernel", "reported": True, "days": 30, "days_heard": days_heard, "reaches": False}
    assert rows[0]["reaches"] is True and rows[1] == kernel
    assert ("copies" in unknown) == (not days_heard) and "copies" not in findings, "used, or not known"
    assert findings["OLD-enrolled"]["finding"] == "flow" and findings["visit"]["drafted"] is True
    assert findings["OLD"]["finding"] == "device" and findings["OLD"]["drafted"] is True
    assert findings["CT1-enrolled"]["unused"] == [
        "CT1 did not commit, echo",
        "CT1 stored CTImageStorage, and nothing else",
    ]
    assert findings["WS1-enrolled"]["unused"] == ["WS1 did not echo, get"]
    assert "counters were not heard on every one" in unknown["names"]["why"]
    changes = [row["change"] for row in rows if "change" in row]
    assert "- CT1 may no longer store anything but CTImageStorage" in changes
    assert "- CT1 may no longer commit" in changes and "- OLD is kept out" in changes
    assert not [each for each in changes if each.startswith("+ CT1")], changes
    (group,) = (row for row in rows if "refused" in row and "CT1 find" in row["refused"])
    assert group["times"] == 2 and group["would"] == "a flow from CT1 to archive that may find"
    assert group["flow"]["may"] == ["find"]
    assert rows[-1]["proven"] is True and rows[-1]["drafted"] == rows[-1]["findings"] >= 5


def _flows(site: RunningSite) -> list[dict[str, Any]]:
    """Of the files that serve."""
    current = site.directory / "state" / "proven" / "current"
    files = [current / "leadglass.toml", *(current / "devices.d").glob("*.toml")]
    return [flow for file in files for flow in tomllib.loads(file.read_text()).get("flows", [])]


def _the_draft_is_the_diff(site: RunningSite, rows: list[dict[str, Any]], draft: Path) -> None:
    """`patch` makes the same of the files that serve."""
    patched = draft.with_name("patched")
    shutil.copytree(site.directory / "state" / "proven" / "current", patched)
    for row in rows:
        if "diff" in row:
            text = row["diff"] + "\n"
            command = ["patch", "--quiet", str(patched / row["file"])]
            subprocess.run(command, input=text, text=True, check=True, capture_output=True)
            assert (patched / row["file"]).read_text() == (draft / row["file"]).read_text()
