"""What somebody did under one grant, and nothing else: of a vendor, a reader from outside and somebody at a workstation, by command and at the console;
and what passed the DIMSE door by a flow on demand, from its approval to its end."""

from __future__ import annotations

import csv
import datetime as dt
import html
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from leadglass.lab.corpus import Image
from leadglass.lab.peers import Received, TurnedAway, associated, getting, querying, storing
from leadglass.policy.people import DECIDE_AGAIN_SECONDS
from leadglass.terms import Act, ChangeKind, Role
from leadglass.wire import tags
from leadglass.wire.dimse import Status
from tests.lasting import answers, lasts
from tests.programs import require
from tests.running import RunningSite, running, until
from tests.staff import Staff, staff
from tests.synthetic import image, write

pytestmark = pytest.mark.xdist_group("transcripts")  # one site for all of it
OWN, OTHERS = "TRA-1", "TRA-2"
NOT_AUTHORIZED = 0x0124
WITHIN_SECONDS = 1.0 + 0.5  # what is promised, and slack for a busy machine
FLOW = """
[[flows]]
id = "{id}"
from = ["{device}"]
to = ["archive"]
service = "dicom-tls"
may = {may}
on_demand = {{ approve = "biomedical-engineer", max = "1h", record = {record} }}
why = "by appointment"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("transcripts")) as site:
        site.enroll("CT1", "echo,store")
        site.enroll("WS1", "echo,store,find,get")
        site.enroll("FIELD1", "")
        file = site.directory / "leadglass.toml"
        field = FLOW.format(id="field-service", device="FIELD1", may='["echo", "find", "get"]', record="true")
        look = FLOW.format(id="ct-look", device="CT1", may='["find"]', record="false")
        file.write_text(file.read_text() + field + look)
        site.command("apply")
        site.up()
        yield site
        print(site.log())


@pytest.fixture(scope="module")
def people(site: RunningSite) -> Iterator[Staff]:
    with staff(site) as people:
        for name, role in {
            "vendor": Role.VENDOR, "vendor2": Role.VENDOR, "engineer": Role.BIOMEDICAL_ENGINEER, "fitter": Role.BIOMEDICAL_ENGINEER,
            "guard": Role.SECURITY_OFFICER, "guard2": Role.SECURITY_OFFICER, "watch": Role.AUDITOR, "reviewer": Role.OUTSIDE_REVIEWER,
            "remote": Role.RADIOLOGIST,
        }.items():  # fmt: skip
            people.hire(name, role)
        yield people


@pytest.fixture(scope="module")
def studies(people: Staff) -> tuple[Image, Image]:
    own, others = (image(random.Random(seed), patient=patient) for seed, patient in ((31, OWN), (32, OTHERS)))
    with associated(people.at("CT1"), people.archive, storing([own, others])) as session:
        assert [session.store(each).status for each in (own, others)] == [Status.SUCCESS] * 2
    return own, others


def transcript(people: Staff, request: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """By command: the head, and a row an event."""
    head, *rows = people.site.rows("report", "transcript", request)
    return head, rows


def done(rows: list[dict[str, Any]], belongs: str = "act") -> list[tuple[str, str]]:
    return [(row["action"], row["what"]) for row in rows if row["belongs"] == belongs]


@pytest.fixture(scope="module")
def visit(people: Staff) -> str:
    """A vendor's visit, from before it to after its end: the id of the request."""
    with people.browser("vendor") as browser, people.browser("vendor2") as another:
        assert browser.look("/devices") == 403 and browser.look("/explain") == 403
        request = people.ask("vendor", Act.DEVICE_LIST, "engineer", seconds=6, devices=["CT1"], purpose="service")
        assert until(lambda: browser.look("/devices") == 200, 5)
        assert browser.look("/people") == 403 and another.look("/devices") == 403
        with httpx2.Client(base_url=people.console, headers={"Origin": people.console}, trust_env=False) as stranger:
            guess = {"name": "vendor", "password": "lead glass lets light through", "code": "123456"}
            assert stranger.post("/sign-in/password", data=guess).status_code in (200, 401)
        assert until(lambda: browser.look("/devices") == 403, 20), "its end, in the middle of their session"
        assert browser.look("/explain") == 403
    return request


def test_everything_of_a_visit_and_nothing_else(people: Staff, visit: str) -> None:
    head, rows = transcript(people, visit)
    assert head["complete"] and head["lacks"] == 0
    assert (head["who"], head["act"]) == ("person:vendor", "device-list")
    assert (head["devices"], head["purpose"]) == (["CT1"], "service")
    assert [(each["by"], each["decision"]) for each in head["decisions"]] == [("person:engineer", "approved")]
    assert (head["ended"], head["ended_at"], head["ended_by"]) == ("expired", head["until"], "")
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert done(rows, "grant") == [("access-request", "change:completed"), ("access-approve", "change:completed")]
    acts = [row for row in rows if row["belongs"] == "act"]
    assert {row["who"] for row in acts} == {"person:vendor"}
    assert ("device-list", "device-list began") in done(rows) and ("device-list", "release:ended") in done(rows)
    assert ("people-list", "request:refused") in done(rows), "what they may not, they tried"
    assert "policy-read" not in {row["action"] for row in rows}, "that was before it began, and after its end"
    assert not [row for row in acts if row["what"] == "request:refused" and row["action"] == "device-list"]
    assert all(head["from"] <= row["at"] <= head["until"] for row in acts)
    (unproven,) = [row for row in rows if row["belongs"] == "unproven"]
    assert unproven["who"] == "somebody who said to be vendor" and unproven["outcome"] == "refused"
    assert not [row for row in rows if "vendor2" in row["who"]]


def test_as_a_table_and_reading_it_is_an_event(people: Staff, visit: str, tmp_path: Path) -> None:
    table = tmp_path / "visit.csv"
    people.site.command("report", "transcript", visit, "--csv", str(table))
    head, *rows = csv.DictReader(table.read_text().splitlines())
    assert table.stat().st_mode & 0o077 == 0
    assert head["belongs"] == "granted" and "devices CT1" in head["reason"] and "purpose service" in head["reason"]
    assert (rows[-1]["what"], rows[-1]["outcome"]) == ("how it ended", "expired")
    assert len(rows) == len(transcript(people, visit)[1]) + 1
    text = people.site.command("report", "transcript", visit).stdout
    assert "ended: expired" in text and "approved by person:engineer" in text and "devices: CT1" in text
    read = [row for row in people.site.events("release:started") if row["action"] == "transcript-read"]
    assert read and read[-1]["actor"].startswith("uid:") and read[-1]["details"]["request"] == visit
    unknown = people.site.command("report", "transcript", "0" * 32, check=False)
    assert unknown.returncode != 0 and "there is no request" in unknown.stderr


def test_who_reads_it_at_the_console(people: Staff, visit: str) -> None:
    way, unknown = f"/requests/{visit}/transcript", f"/requests/{'0' * 32}/transcript"
    for name in ("guard", "watch", "engineer"):  # two whose work it is, and who approved it
        with people.browser(name) as browser:
            page = html.unescape(browser.page(way))
            assert "person:vendor" in page and "by person:engineer" in page and "Complete: " in page, name
            assert "people list refused" in page and "expired" in page and "somebody who said to be vendor" in page
            assert way in browser.page("/requests"), "from the request one gets there"
            assert browser.look(f"{way}?after=x") == 400
    for name in ("vendor", "vendor2", "fitter", "remote"):  # their own; others; who may approve such, and did not
        with people.browser(name) as browser:
            assert browser.look(way) == browser.look(unknown) == 403, name
            assert way not in browser.page("/requests")
    with people.browser("guard") as browser:
        assert browser.look(unknown) == 404
    refused = [row for row in people.site.events("request:refused") if row["action"] == "transcript-read"]
    assert {"person:vendor", "person:fitter"} <= {row["actor"] for row in refused}


def test_who_withdraws_or_is_disabled_ends_it_and_it_says_so(people: Staff) -> None:
    own = {"requested_by": people.callers["vendor"].person.id, "requester_roles": ["vendor"], "act": Act.DEVICE_LIST}
    ended = {}
    with people.browser("vendor") as browser:
        for who in ("vendor", "guard"):
            request = people.ask("vendor", Act.DEVICE_LIST, "engineer", seconds=600)
            assert until(lambda: browser.look("/devices") == 200, 5)
            if who == "guard":
                people.step_up("guard")
            people.do(who, ChangeKind.ACCESS_CANCEL, request, **own)
            assert until(lambda: browser.look("/devices") == 403, 5)
            ended[who], rows = transcript(people, request)
            assert ("access-cancel", "change:completed") in done(rows, "grant")
            assert not [row for row in rows if row["what"] == "request:refused"], "that came after its end"
        request = people.ask("vendor", Act.DEVICE_LIST, "engineer", seconds=600)
        assert until(lambda: browser.look("/devices") == 200, 5)
        people.order("vendor", ChangeKind.PERSON_DISABLE, why="left the firm")
        disabled, rows = transcript(people, request)
    people.order("vendor", ChangeKind.PERSON_ENABLE)
    people.sign_in("vendor")
    assert (ended["vendor"]["ended"], ended["vendor"]["ended_by"]) == ("cancelled", "person:vendor")
    assert (ended["guard"]["ended"], ended["guard"]["ended_by"]) == ("revoked", "person:guard")
    assert disabled["ended"] == "disabled" and disabled["ended_by"].startswith("uid:") and disabled["ended_at"]
    assert ("person-disable", "change:completed") in done(rows, "grant")
    assert transcript(people, request)[0]["ended"] == "in-force", "given back before its end"


def test_a_request_that_was_never_approved_has_no_acts(people: Staff) -> None:
    people.sign_in("vendor")
    asked = people.do("vendor", ChangeKind.ACCESS_REQUEST, Act.POLICY_READ, reason="why is it closed?", seconds=600)
    head, rows = transcript(people, str(asked["request"]))
    assert (head["ended"], head["decisions"]) == ("waiting", []) and [row["belongs"] for row in rows] == ["grant"]


def test_of_a_reader_from_outside_it_names_the_studies(people: Staff, studies: tuple[Image, Image]) -> None:
    own, others = studies
    granted = {"studies": [own.study_instance_uid], "purpose": "second opinion"}
    request = people.ask("reviewer", Act.STUDY_READ, "guard", seconds=600, **granted)
    with people.browser("reviewer") as browser:
        assert browser.open(own.study_instance_uid) == 200 and browser.open(others.study_instance_uid) == 403
    head, rows = transcript(people, request)
    assert head["ended"] == "in-force" and head["studies"] == [own.study_instance_uid]
    assert ("sign-in", "person:recognised") in done(rows)
    seen = [row for row in rows if row["study"] == own.study_instance_uid]
    assert seen and {row["patient"] for row in seen} == {OWN}
    tried = [
        row["outcome"] for row in rows if row["study"] == others.study_instance_uid and row["what"] == "release:ended"
    ]
    assert tried == ["refused"], "what was not granted they tried"


def test_at_a_workstation_it_names_associations_retrievals_and_what_was_stored(
    people: Staff, studies: tuple[Image, Image]
) -> None:
    own, made = studies[0], image(random.Random(33), patient=OWN)
    with associated(people.at("WS1"), people.archive, storing([made])) as session:
        assert session.store(made).status == Status.SUCCESS, "before it, with nobody there"
    request = people.ask("remote", Act.STUDY_READ, "guard", seconds=600, patients=[["", OWN]])
    people.sit("remote", "WS1")
    pairs = [*querying(), *getting([(own.sop_class_uid, own.transfer_syntax_uid)]), *storing([made])]
    with associated(people.at("WS1"), people.archive, pairs) as session:
        assert session.get("STUDY", {tags.STUDY_INSTANCE_UID: own.study_instance_uid}, lambda received: 0)
        assert session.store(image(random.Random(34), patient=OWN)).status == Status.SUCCESS
    people.leave("remote", "WS1")
    _, rows = transcript(people, request)
    at_device = [row for row in rows if row["device"] == "WS1"]
    assert {row["who"] for row in at_device} == {"person:remote"}
    assert {"association:admitted", "association:ended", "instance:stored"} <= {row["what"] for row in at_device}
    assert [row for row in at_device if row["action"] == "get" and row["instances"] == 1]
    assert {("lease-open", "change:completed"), ("lease-end", "change:completed")} <= set(done(rows))
    told = people.site.rows("report", "disclosures", OWN)
    assert "instance:stored" not in {row["what"] for row in told}, "nobody was given anything by it"


@contextmanager
def held_up(site: RunningSite) -> Iterator[None]:
    """The keeper does nothing meanwhile."""
    assert site.process is not None
    keepers = [pid for pid in site.children(site.process.pid) if b"keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(keepers) == 1
    os.kill(keepers[0], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(keepers[0], signal.SIGCONT)


def test_where_the_search_is_behind_the_page_says_so(people: Staff, site: RunningSite, visit: str) -> None:
    way = f"/requests/{visit}/transcript"
    with people.browser("watch") as browser:
        with held_up(site):
            assert browser.look("/people") == 200
            begun = time.monotonic()
            assert "Not complete: " in browser.page(way)
            assert time.monotonic() - begun < 10
        assert until(lambda: "Complete: " in browser.page(way), 10)


# ---- a flow on demand at the DIMSE door


def dcmtk(site: RunningSite, device: str, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    line = [require(program), *site.bundles[device].dcmtk(), "127.0.0.1", str(site.port), *words]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


def query(site: RunningSite, device: str) -> str:
    """What a vendor's workstation is shown; "" where it is not let in."""
    about = ("-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID", "-k", "PatientID")
    line = [require("findscu"), "-v", "-S", *site.bundles[device].dcmtk(), *about, "127.0.0.1", str(site.port)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr if done.returncode == 0 else ""


def seconds(text: object) -> float:
    return dt.datetime.fromisoformat(str(text)).timestamp()


def test_t22_a_flow_on_demand_grants_what_it_says_from_its_approval_on(
    people: Staff, studies: tuple[Image, Image], tmp_path: Path
) -> None:
    """By another maker's programs; and its withdrawal ends an association in the middle of it."""
    site, own = people.site, write(studies[0], tmp_path / "own.dcm")
    assert dcmtk(site, "FIELD1", "echoscu").returncode != 0 and query(site, "FIELD1") == ""
    refused = [row for row in site.events("association:refused") if row["actor"] == "FIELD1"]
    assert {row["rule"] for row in refused} == {"field-service"}
    assert "ask for it at the console, Requests; a biomedical-engineer approves it" in refused[-1]["reason"]
    request = people.ask("vendor", Act.FLOW_OPEN, "engineer", seconds=600, flows=["field-service"])
    assert until(lambda: dcmtk(site, "FIELD1", "echoscu").returncode == 0, WITHIN_SECONDS + 1)
    assert OWN in query(site, "FIELD1")
    stored = dcmtk(site, "FIELD1", "storescu", str(own))
    assert stored.returncode != 0 or "0x0124" in stored.stdout + stored.stderr, "and nothing else"
    answered = 0.0
    with pytest.raises(TurnedAway), associated(people.at("FIELD1"), people.archive, querying()) as session:
        assert session.find("STUDY", {tags.PATIENT_ID: OWN})[1]
        people.withdraw("engineer", request)
        withdrawn = time.time()
        while answers(session, OWN):
            answered = time.time()
        assert until(lambda: not lasts(session), WITHIN_SECONDS + 1)
    assert answered - withdrawn < WITHIN_SECONDS
    assert dcmtk(site, "FIELD1", "echoscu").returncode != 0
    head, rows = transcript(people, request)
    passages = [row for row in rows if row["belongs"] == "passage"]
    assert head["flows"] == ["field-service"] and (head["ended"], head["ended_by"]) == ("revoked", "person:engineer")
    assert {row["who"] for row in passages} == {"FIELD1"}
    assert {row["rule"] for row in passages if row["outcome"] == "success"} == {"field-service"}
    told = {(row["action"], row["what"]) for row in passages}
    assert {
        ("associate", "association:admitted"), ("associate", "association:ended"), ("echo", "release:ended"), ("find", "find began"),
        ("find", "release:ended"), ("store", "request:refused"),
    } <= told, told  # fmt: skip
    assert (
        "by field-service" not in site.command("report", "transcript", request).stdout
    )  # it is a table of what was done
    assert "flows: field-service" in site.command("report", "transcript", request).stdout


def test_t22_its_end_ends_a_retrieval_in_the_middle_and_nothing_that_is_not_its_own(
    people: Staff, studies: tuple[Image, Image]
) -> None:
    site, made = people.site, image(random.Random(35), patient=OTHERS)
    pairs = [*querying(), *getting([(studies[0].sop_class_uid, studies[0].transfer_syntax_uid)])]
    begins = time.time_ns() + 2_500_000_000
    flows = {"flows": ["field-service", "ct-look"], "from_ns": begins, "seconds": 4}
    request = people.ask("vendor", Act.FLOW_OPEN, "engineer", **flows)
    ends = begins / 1e9 + 4
    assert query(site, "FIELD1") == "", "approved, and not begun"
    assert until(lambda: OWN in query(site, "FIELD1"), 10)
    time.sleep(2 * DECIDE_AGAIN_SECONDS)  # until every worker has looked

    def take(received: Received) -> int:
        time.sleep(max(0.0, ends + WITHIN_SECONDS + 0.5 - time.time()))
        return Status.SUCCESS

    with associated(people.at("CT1"), people.archive, [*querying(), *storing([made])]) as scanner:
        assert scanner.find("STUDY", {tags.PATIENT_ID: OWN})[0].status == Status.SUCCESS
        with pytest.raises(TurnedAway), associated(people.at("FIELD1"), people.archive, pairs) as session:
            session.get("STUDY", {tags.STUDY_INSTANCE_UID: studies[0].study_instance_uid}, take)
        assert time.time() > ends
        assert scanner.find("STUDY", {tags.PATIENT_ID: OWN})[0].status == NOT_AUTHORIZED
        assert scanner.store(made).status == Status.SUCCESS, "care goes on, in the same association"
    last = [row for row in site.events("association:ended") if row["actor"] == "FIELD1"][-1]
    assert 0 < seconds(last["at"]) - ends < WITHIN_SECONDS and "field-service is on demand" in last["reason"]
    assert query(site, "FIELD1") == ""
    head, rows = transcript(people, request)
    assert head["ended"] == "expired" and ("get", "get began") in done(rows, "passage")
    assert ("get", "release:ended") in done(rows, "passage") and ("associate", "association:ended") in done(
        rows, "passage"
    )
    assert {row["who"] for row in rows if row["belongs"] == "passage"} == {"FIELD1"}, "the other flow is not recorded"
    looked = [row for row in site.events("release:started") if row["actor"] == "CT1" and row["action"] == "find"]
    assert [row["rule"] for row in looked] == ["ct-look"]
    with people.browser("guard") as browser:
        page = html.unescape(browser.page(f"/requests/{request}/transcript"))
        assert "field-service, ct-look" in page and "FIELD1" in page and "associate began" in page
