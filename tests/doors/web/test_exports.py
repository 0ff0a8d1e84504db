"""A study leaves as files: to whom it may, as it was kept, recorded before its first byte, ended in the middle when the right to it ends."""

from __future__ import annotations

import csv
import hashlib
import io
import random
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from leadglass.lab.corpus import Image
from leadglass.lab.peers import associated, storing
from leadglass.lab.reader import Reader
from leadglass.terms import Act, ChangeKind, EventKind, Role
from leadglass.wire.dimse import Status
from leadglass.wire.part10 import read_part10
from tests.programs import require
from tests.running import RunningSite, running, until
from tests.staff import Staff, staff
from tests.synthetic import image, uid

pytestmark = pytest.mark.xdist_group("exports")  # one site for all of it
WITHIN_SECONDS = 1.0
PER_DAY = 4
LARGE_BYTES, LARGE_COUNT = 600_000, 60
OWN, SECOND, THIRD, FOREIGN = "EXPORT-1", "EXPORT-2", "EXPORT-3", "EXPORT-9"
SAID = {"purpose": "treatment", "recipient": "St. Elsewhere, Dr. Westphall"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    limits = f"""
[limits]
exported_patients_per_day_max = {PER_DAY}
"""
    with running(tmp_path_factory.mktemp("exports"), limits) as site:
        site.enroll("CT1", "echo,store")
        site.up()
        yield site
        print(site.log())


@pytest.fixture(scope="module")
def people(site: RunningSite) -> Iterator[Staff]:
    with staff(site) as people:
        for name, role in {
            "reader": Role.RADIOLOGIST, "other": Role.RADIOLOGIST, "guard": Role.SECURITY_OFFICER, "guard2": Role.SECURITY_OFFICER, "insurer": Role.OUTSIDE_REVIEWER,
        }.items():  # fmt: skip
            people.hire(name, role)
        yield people


@pytest.fixture(scope="module")
def studies(people: Staff) -> dict[str, list[Image]]:
    """By patient: two studies of the first, one of each other, and a large one."""
    rng = random.Random(31)
    first, second = uid(rng), uid(rng)
    made = {OWN: [image(rng, study=study, patient=OWN) for study in (first, first, second)]}
    for patient in (SECOND, THIRD, FOREIGN, *(f"MANY-{number}" for number in range(PER_DAY + 1))):
        study = uid(rng)
        made[patient] = [image(rng, study=study, patient=patient) for _ in range(2)]
    large = uid(rng)
    made["LARGE"] = [image(rng, study=large, patient="LARGE", pixels=LARGE_BYTES) for _ in range(LARGE_COUNT)]
    every = [each for images in made.values() for each in images]
    with associated(people.at("CT1"), people.archive, storing(every)) as session:
        assert {session.store(each).status for each in every} == {Status.SUCCESS}
    treats = [
        {"person": name, "relation": "care-team", "patient_id": patient}
        for name in ("reader", "other")
        for patient in made
        if patient != FOREIGN
    ]
    people.order("the ward", ChangeKind.RELATIONS_IMPORT, rows=treats)
    return made


def study_of(studies: dict[str, list[Image]], patient: str) -> str:
    return studies[patient][0].study_instance_uid


def got(browser: Reader, path: str, *chosen: str, **said: str) -> tuple[int, bytes]:
    with browser.sending(path, {**SAID, **said, "study": list(chosen)}) as answer:
        return answer.status_code, answer.read()


def exported(browser: Reader, *chosen: str) -> tuple[int, bytes]:
    return got(browser, f"/studies/{chosen[0]}/export", *chosen)


def unpacked(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        assert packed.testzip() is None
        return {name: packed.read(name) for name in packed.namelist()}


def digests(files: dict[str, bytes]) -> set[str]:
    """Of the data sets, as they were sent."""
    images = [data for name, data in files.items() if name.endswith(".dcm")]
    return {hashlib.sha256(data[read_part10(data).data_set_offset :]).hexdigest() for data in images}


def sent(*images: Image) -> set[str]:
    return {hashlib.sha256(each.data_set).hexdigest() for each in images}


# ---- what leaves


def test_a_patients_studies_leave_as_they_were_kept(
    people: Staff, studies: dict[str, list[Image]], tmp_path: Path
) -> None:
    own = studies[OWN]
    first, second = own[0].study_instance_uid, own[2].study_instance_uid
    with people.browser("reader") as browser:
        assert browser.look(f"/studies/{first}/export") == 401 == exported(browser, first)[0], "a fresh passkey first"
        assert browser.step_up()
        form = browser.page(f"/studies/{first}/export")
        assert first in form and second in form and form.count('type="checkbox"') == 2
        status, content = exported(browser, first, second)
    assert status == 200
    files = unpacked(content)
    assert digests(files) == sent(*own)
    assert not any(part in name for name in files for part in (OWN, "Synthetic", first))
    cover = files["README.txt"].decode()
    assert SAID["recipient"] in cover and OWN not in cover and "Synthetic" not in cover
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        packed.extractall(tmp_path)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True, timeout=30)


def test_others_can_read_what_left(people: Staff, studies: dict[str, list[Image]], tmp_path: Path) -> None:
    with people.browser("reader") as browser:
        assert browser.step_up()
        _, content = exported(browser, study_of(studies, OWN))
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        packed.extractall(tmp_path)
    for each in tmp_path.rglob("*.dcm"):
        subprocess.run([require("dcmdump"), "--quiet", str(each)], check=True, capture_output=True, timeout=30)


def test_who_exported_what_for_whom_is_told(people: Staff, studies: dict[str, list[Image]]) -> None:
    study = study_of(studies, SECOND)
    with people.browser("other") as browser:
        assert browser.step_up()
        assert exported(browser, study)[0] == 200
    mine = [each for each in told(people, EventKind.RELEASE_ENDED, "other") if each.study_instance_uid == study]
    (ended,) = [each for each in mine if each.action == Act.STUDY_EXPORT]
    assert (ended.outcome, ended.details["completed"], ended.details["total"]) == ("success", 2, 2)
    assert ended.details["purpose"] == "treatment" and ended.patient is not None and ended.patient.patient_id == SECOND
    assert SAID["recipient"] not in str(ended.details)
    (row,) = [each for each in people.house.exports.latest(100) if each.study_instance_uid == study]
    assert (row.recipient, row.id) == (SAID["recipient"], ended.details["export"])
    said = people.site.rows("report", "disclosures", SECOND)
    assert [each for each in said if each["action"] == "study-export" and each["who"] == "person:other"]


def told(people: Staff, kind: EventKind, name: str) -> list:  # type: ignore[type-arg]
    """What is written about somebody; events are durable within a second."""
    time.sleep(1.2)
    return people.events(kind, f"person:{name}")


# ---- what does not


def test_what_is_not_theirs_is_refused_like_what_is_not_there(people: Staff, studies: dict[str, list[Image]]) -> None:
    absent = uid(random.Random(77))
    with people.browser("reader") as browser:
        assert browser.step_up()
        heard = {(exported(browser, each)) for each in (study_of(studies, FOREIGN), absent)}
        assert len(heard) == 1 and next(iter(heard))[0] == 403
        assert (
            browser.look(f"/studies/{study_of(studies, FOREIGN)}/export")
            == 403
            == browser.look(f"/studies/{absent}/export")
        )
        assert exported(browser, study_of(studies, OWN), study_of(studies, FOREIGN))[0] == 403, (
            "nor beside what is theirs"
        )
        assert got(browser, f"/studies/{study_of(studies, OWN)}/export", recipient="")[0] == 422
        assert got(browser, f"/studies/{study_of(studies, OWN)}/export", purpose="curiosity")[0] == 422
    with people.browser("guard") as browser:
        assert browser.step_up()
        assert exported(browser, study_of(studies, OWN))[0] == 403


def test_several_patients_leave_together_once_somebody_approved_these(
    people: Staff, studies: dict[str, list[Image]]
) -> None:
    chosen = [study_of(studies, SECOND), study_of(studies, THIRD)]
    with people.browser("reader") as browser:
        assert browser.step_up()
        assert exported(browser, *chosen)[0] == 403
        request = people.ask("reader", Act.STUDY_EXPORT, "guard", seconds=3600, patients=[["", SECOND], ["", THIRD]], purpose="conference")  # fmt: skip
        assert f"/requests/{request}/export" in browser.page("/requests")
        path = f"/requests/{request}/export"
        assert all(each in browser.page(path) for each in chosen)
        status, content = got(browser, path)
        assert status == 200 and digests(unpacked(content)) == sent(*studies[SECOND], *studies[THIRD])
        assert got(browser, path, study_of(studies, OWN), *chosen)[0] == 403, "another patient was not approved"
        assert got(browser, f"/requests/{'0' * 32}/export")[0] == 404
        people.do("reader", ChangeKind.ACCESS_CANCEL, request, requested_by=people.callers["reader"].person.id, requester_roles=["radiologist"], act="study-export")  # fmt: skip
        assert got(browser, path)[0] == 404 and exported(browser, *chosen)[0] == 403
    with people.browser("other") as browser:
        assert browser.step_up()
        assert got(browser, path)[0] == 404, "another's request"


def test_an_outside_reviewer_exports_what_was_granted_for_that(people: Staff, studies: dict[str, list[Image]]) -> None:
    looked_at, taken = study_of(studies, FOREIGN), study_of(studies, THIRD)
    people.ask("insurer", Act.STUDY_READ, "guard", seconds=3600, studies=[looked_at], purpose="claim")
    with people.browser("insurer") as browser:
        assert browser.open(looked_at) == 200 and browser.open(taken) == 403
        assert browser.step_up()
        assert exported(browser, looked_at)[0] == 403, "to be looked at"
        request = people.ask("insurer", Act.STUDY_EXPORT, "guard", seconds=3600, studies=[taken], purpose="claim")
        assert got(browser, f"/requests/{request}/export")[0] == 200
        assert exported(browser, taken)[0] == 200
        assert exported(browser, looked_at)[0] == 403, "and that is still only to be looked at"


def test_a_read_only_site_gives_nothing_in_bulk(people: Staff, studies: dict[str, list[Image]]) -> None:
    people.ask("reader", Act.STUDY_EXPORT, "guard", seconds=3600, patients=[["", SECOND], ["", THIRD]], purpose="x")
    chosen = [study_of(studies, SECOND), study_of(studies, THIRD)]
    with people.browser("reader") as browser:
        assert browser.step_up()
        assert exported(browser, *chosen)[0] == 200
        people.order("site", ChangeKind.SITE_CONTAIN, reason="ransomware")
        try:
            assert until(lambda: exported(browser, *chosen)[0] == 403, 5)
            assert exported(browser, chosen[0])[0] == 200, "one patient's study goes where they are treated"
        finally:
            people.order("site", ChangeKind.SITE_RELEASE)


# ---- in the middle


def test_a_download_is_broken_off_within_a_second_of_a_revocation(
    people: Staff, studies: dict[str, list[Image]]
) -> None:
    """Whoever reads slowly, too: the door has sent what fits into the sockets, and waits."""
    study = study_of(studies, "LARGE")
    with people.browser("reader") as browser:
        assert browser.step_up()
        with browser.sending(f"/studies/{study}/export", {**SAID, "study": [study]}) as answer:
            assert answer.status_code == 200
            pieces = answer.iter_raw()
            taken = len(next(pieces))
            ordered = time.time_ns()
            people.order("reader", ChangeKind.PERSON_DISABLE, why="left")
            ended = _ended(people, study)
            assert ended.outcome == "failed" and "disabled" in ended.reason
            assert 0 <= int(ended.details["completed"]) < LARGE_COUNT
            at = next(each.at_ns for each in people.house.journal.read() if each.event == ended)
            assert (at - ordered) / 1e9 <= WITHIN_SECONDS
            with pytest.raises(httpx2.TransportError):
                for piece in pieces:
                    taken += len(piece)
            assert taken < LARGE_BYTES * LARGE_COUNT
    people.order("reader", ChangeKind.PERSON_ENABLE)
    people.sign_in("reader")


def _ended(people: Staff, study: str):  # type: ignore[no-untyped-def]
    def exports(kind: EventKind) -> list:  # type: ignore[type-arg]
        return [each for each in people.events(kind) if each.action == Act.STUDY_EXPORT and each.study_instance_uid == study]  # fmt: skip

    assert until(lambda: exports(EventKind.RELEASE_STARTED) and len(exports(EventKind.RELEASE_ENDED)) == len(exports(EventKind.RELEASE_STARTED)), 10)  # fmt: skip
    return exports(EventKind.RELEASE_ENDED)[-1]


def test_whoever_goes_away_is_told_of_as_that(people: Staff, studies: dict[str, list[Image]]) -> None:
    study = study_of(studies, "LARGE")
    with people.browser("other") as browser:
        assert browser.step_up()
        with browser.sending(f"/studies/{study}/export", {**SAID, "study": [study]}) as answer:
            next(answer.iter_raw())
    ended = _ended(people, study)
    assert ended.outcome == "failed" and "went away" in ended.reason


# ---- so much and no more


def test_one_person_alone_exports_few_patients_a_day(people: Staff, studies: dict[str, list[Image]]) -> None:
    many = [study_of(studies, f"MANY-{number}") for number in range(PER_DAY + 1)]
    people.hire("busy", Role.RADIOLOGIST)
    treats = [{"person": "busy", "relation": "care-team", "patient_id": f"MANY-{number}"} for number in range(PER_DAY + 1)]  # fmt: skip
    people.order("another ward", ChangeKind.RELATIONS_IMPORT, rows=treats)
    with people.browser("busy") as browser:
        assert browser.step_up()
        assert [exported(browser, each)[0] for each in many] == [200] * PER_DAY + [403]
        assert exported(browser, many[0])[0] == 200, "the same patient again costs nothing"
        people.ask("busy", Act.STUDY_EXPORT, "guard", seconds=3600, studies=[many[-1]], purpose="approved")
        assert exported(browser, many[-1])[0] == 200


# ---- what is told of it, at the console


def test_reports_at_the_console_say_what_the_commands_say(people: Staff, studies: dict[str, list[Image]]) -> None:
    with people.browser("reader") as browser:
        assert browser.step_up()
        assert exported(browser, study_of(studies, SECOND))[0] == 200
        assert browser.look("/reports") == 403 == browser.look(f"/reports/disclosures?patient={SECOND}&as=csv")
    people.hire("auditor", Role.AUDITOR)
    time.sleep(1.2)  # until it is durable
    before = people.site.rows("report", "disclosures", SECOND)
    touched = people.site.rows("report", "breach", "--who", "person:reader")
    for name in ("guard", "auditor"):
        with people.browser(name) as browser:
            shown = browser.page(f"/reports/disclosures?patient={SECOND}")
            assert "study export ended" in shown and study_of(studies, SECOND) in shown and "person:reader" in shown
            table = list(csv.DictReader(io.StringIO(browser.page(f"/reports/disclosures?patient={SECOND}&as=csv"))))
            mine = [row for row in table if row["action"] != "audit-report"]
            assert [row["at"] for row in mine] == [row["at"] for row in before if row["action"] != "audit-report"]
            assert set(table[0]) == set(before[0])
            assert "Whom an access touched" in browser.page("/reports/breach?person=reader")
            whom = list(csv.DictReader(io.StringIO(browser.page("/reports/breach?person=reader&as=csv"))))
            assert {row["patient"] for row in whom} == {str(row["patient"]) for row in touched}
            assert browser.look("/reports/breach?person=reader&from=yesterday") == 400
            assert browser.page("/reports/disclosures").count("<form method=") >= 2, "nobody named: the forms again"
    asked = told(people, EventKind.RELEASE_ENDED, "auditor")
    reports = [each for each in asked if each.action == Act.AUDIT_REPORT and each.details.get("completed")]
    assert len(reports) == 4 and {each.outcome for each in reports} == {"success"}, "each report is itself an event"
