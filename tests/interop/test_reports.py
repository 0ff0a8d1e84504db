"""Who was given a patient's images, and whom somebody's access touched: from real retrievals, and each report is itself in the audit."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from leadglass.lab.peers import Archive, Identity, associated, getting, querying, storing
from leadglass.wire import tags
from tests.running import RunningSite, running
from tests.synthetic import image, uid


def who(site: RunningSite, name: str) -> Identity:
    return Identity(name, "127.0.0.1", site.bundles[name].directory)


@pytest.mark.parametrize("beside", [True, False], ids=["beside a running site", "without one"])
def test_reports(tmp_path: Path, beside: bool) -> None:
    rng = random.Random(11)
    mine, other = (image(rng, study=uid(rng), patient=patient) for patient in ("SYN-MINE", "SYN-OTHER"))
    with running(tmp_path) as site:
        for name, may in (("CT1", "store"), ("WS1", "find,get"), ("WS2", "find,get")):
            site.enroll(name, may)
        site.up()
        archive = Archive("127.0.0.1", site.port)
        with associated(who(site, "CT1"), archive, storing([mine, other])) as session:
            assert [session.store(each).status for each in (mine, other)] == [0, 0]
        with associated(
            who(site, "WS1"), archive, getting([(mine.sop_class_uid, mine.transfer_syntax_uid)])
        ) as session:
            session.get("STUDY", {tags.STUDY_INSTANCE_UID: mine.study_instance_uid}, lambda received: 0)
        with associated(who(site, "WS2"), archive, querying()) as session:
            session.find("STUDY", {tags.PATIENT_ID: "SYN-OTHER", tags.STUDY_INSTANCE_UID: ""})
        if not beside:
            site.down()
        rows = site.rows("report", "disclosures", "SYN-MINE")
        assert {row["who"] for row in rows} == {"WS1"} and {row["patient"] for row in rows} == {"SYN-MINE"}
        assert any(row["action"] == "get" and row["instances"] == 1 for row in rows)
        (touched,) = site.rows("report", "breach", "--who", "WS2", "--from", "2020-01-01")
        assert (touched["patient"], touched["times"], touched["instances"]) == ("SYN-OTHER", 1, 0)
        table = tmp_path / "breach.csv"
        site.command("report", "breach", "--who", "WS1", "--csv", str(table))
        head, row = csv.reader(table.read_text().splitlines())
        assert dict(zip(head, row, strict=True))["patient"] == "SYN-MINE" and table.stat().st_mode & 0o077 == 0
        assert site.rows("report", "breach", "--who", "WS1", "--to", "2020-01-01") == []
        asked = [row for row in site.events("release:started") if row["action"] == "audit-report"]
        assert len(asked) == 4 and all(row["actor"].startswith("uid:") for row in asked)
