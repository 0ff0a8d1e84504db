"""Lawful erasure: two people, within a budget, after a delay that can be undone; afterwards no key that exists opens what was erased, and all else is as it was."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from leadglass.archive.backends import open_objects
from leadglass.lab.corpus import Image
from leadglass.lab.peers import Received, associated, committing, getting, querying, storing
from leadglass.lab.reader import Reader
from leadglass.site.erasures import Erasure
from leadglass.site.sitekey import SiteKey
from leadglass.terms import Act, ChangeKind, EventKind, Location, NotChanged, NotPermitted, Role
from leadglass.wire import tags
from leadglass.wire.dimse import Status
from leadglass.wire.elements import DataSet
from tests.archive.opened import every_key, openers
from tests.running import RunningSite, running, until
from tests.staff import REASON, Staff, staff
from tests.synthetic import image, uid

pytestmark = pytest.mark.xdist_group("erasures")  # one site for all of it
NO_SUCH_OBJECT_INSTANCE = 0x0112
PER_DAY = 6
GONE, STAYS, MANY = "ERASE-1", "ERASE-2", "ERASE-9"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    limits = f"\n[limits]\nerased_studies_per_day_max = {PER_DAY}\nerasure_delay_hours = 1\n"
    with running(tmp_path_factory.mktemp("erasures"), limits) as site:
        site.enroll("CT1", "echo,store,find,get,commit")
        site.up()
        yield site
        print(site.log())


@pytest.fixture(scope="module")
def people(site: RunningSite) -> Iterator[Staff]:
    with staff(site) as people:
        for name, role in {
            "keeper": Role.PACS_ADMINISTRATOR, "keeper2": Role.PACS_ADMINISTRATOR, "guard": Role.SECURITY_OFFICER,
            "guard2": Role.SECURITY_OFFICER, "reader": Role.RADIOLOGIST, "engineer": Role.BIOMEDICAL_ENGINEER,
        }.items():  # fmt: skip
            people.hire(name, role)
        people.relate("reader", "care-team", STAYS)
        yield people


def stored(people: Staff, *images: Image) -> list[int]:
    with associated(people.at("CT1"), people.archive, storing(images)) as session:
        return [session.store(each).status for each in images]


@pytest.fixture(scope="module")
def studies(people: Staff) -> dict[str, list[Image]]:
    """By patient, over several associations, so that several writers have keys of each; and one that is only held, for it names another patient."""
    rng = random.Random(41)
    made: dict[str, list[Image]] = {}
    for patient, count in ((GONE, 2), (STAYS, 1), (MANY, PER_DAY + 1)):
        named = [uid(rng) for _ in range(count)]
        made[patient] = [image(rng, study=study, patient=patient) for study in named for _ in range(3)]
    for number in range(3):
        for images in made.values():
            assert set(stored(people, *images[number::3])) == {Status.SUCCESS}
    return made


def uids_of(studies: dict[str, list[Image]], patient: str) -> list[str]:
    return sorted({each.study_instance_uid for each in studies[patient]})


def asks(browser: Reader, patient: str, *named: str) -> int:
    return browser.send("/erasures", patient_id=patient, studies="\n".join(named), reason=REASON)


def approved(people: Staff, name: str = "guard") -> str:
    """The keeper's latest request for an erasure, approved by somebody: its id."""
    request = next(each for each in people.house.people.access.requests() if each.act is Act.STUDY_ERASE)
    people.step_up(name)
    told = {"requested_by": request.person, "requester_roles": ["pacs-administrator"], "act": "study-erase", "digest": request.digest, "approve": True}  # fmt: skip
    people.do(name, ChangeKind.ACCESS_APPROVE, request.id, **told)
    return request.id


def ordered(people: Staff, patient: str, *named: str) -> Erasure:
    with people.browser("keeper") as browser:
        assert asks(browser, patient, *named) == 200
        request = approved(people)
        assert browser.step_up() and browser.send(f"/erasures/{request}") == 200
    found = people.house.erasures.get(request)
    assert found is not None and found.state == "waiting"
    return found


def comes_due(people: Staff, erasure: Erasure) -> None:
    with people.house.register.transaction() as connection:
        connection.execute("UPDATE erasures SET due_ns = ? WHERE id = ?", (time.time_ns(), erasure.id))


def state_of(people: Staff, erasure: Erasure) -> str:
    people.house.upkeep()  # the tests' own process has a writer too, and keys of the study perhaps
    found = people.house.erasures.get(erasure.id)
    return found.state if found is not None else ""


def got(people: Staff, patient: str, about: list[Image]) -> tuple[int, set[str]]:
    """How many studies a query of the patient finds, and the digests of what a C-GET of these images' studies gives."""
    came: set[str] = set()

    def take(instance: Received) -> int:
        came.add(hashlib.sha256(instance.data_set).hexdigest())
        return Status.SUCCESS

    pairs = {(each.sop_class_uid, each.transfer_syntax_uid) for each in about}
    with associated(people.at("CT1"), people.archive, [*querying(), *getting(pairs)]) as session:
        _, rows = session.find("STUDY", {tags.PATIENT_ID: patient, tags.STUDY_INSTANCE_UID: ""})
        for study in {each.study_instance_uid for each in about}:
            session.get("STUDY", {tags.STUDY_INSTANCE_UID: study}, take)
    return len(rows), came


def committed(people: Staff, images: list[Image]) -> set[int]:
    """The failure reasons of a storage commitment, 0 where it is committed."""
    with associated(people.at("CT1"), people.archive, committing()) as session:
        answer = session.commit(
            f"2.25.{uuid.uuid4().int}", [(each.sop_class_uid, each.sop_instance_uid) for each in images]
        )
        assert answer.status == Status.SUCCESS
        return _reasons(session.report())


def _reasons(report: DataSet) -> set[int]:
    failed = report.get(tags.FAILED_SOP_SEQUENCE)
    if failed is None or not isinstance(failed.value, tuple):
        return {0}
    values = [item.get(tags.FAILURE_REASON) for item in failed.value]
    return {
        int.from_bytes(each.value, "little") for each in values if each is not None and isinstance(each.value, bytes)
    }


def sent(images: list[Image]) -> set[str]:
    return {hashlib.sha256(each.data_set).hexdigest() for each in images}


# ---- asked, approved, ordered, undone


def test_who_asks_names_a_patient_and_studies_of_theirs(people: Staff, studies: dict[str, list[Image]]) -> None:
    with people.browser("keeper") as browser:
        assert asks(browser, GONE, uids_of(studies, STAYS)[0]) == 422 == asks(browser, GONE, "1.2.3.4")
        assert asks(browser, "NOBODY") == 422 and browser.send("/erasures", patient_id=GONE, reason="why") == 409
    for name in ("guard", "reader", "engineer"):
        with people.browser(name) as browser:
            assert asks(browser, GONE) == 403
            assert browser.look("/erasures") == (200 if name == "guard" else 403)
    assert not [each for each in people.house.people.access.requests() if each.act is Act.STUDY_ERASE]


def test_nothing_is_ordered_without_somebody_elses_word_on_exactly_that(
    people: Staff, studies: dict[str, list[Image]]
) -> None:
    with people.browser("keeper") as browser:
        assert asks(browser, GONE, uids_of(studies, GONE)[0]) == 200
        (request,) = [each for each in people.house.people.access.requests() if each.act is Act.STUDY_ERASE]
        assert browser.step_up() and browser.send(f"/erasures/{request.id}") == 403
        own = {"requested_by": request.person, "requester_roles": ["pacs-administrator"], "act": "study-erase", "digest": request.digest, "approve": True}  # fmt: skip
        people.step_up("keeper2")
        with pytest.raises(NotPermitted):
            people.do("keeper2", ChangeKind.ACCESS_APPROVE, request.id, **own)
        approved(people)
        people.step_up("keeper")
        for wrong in ({"studies": uids_of(studies, GONE)}, {"studies": uids_of(studies, STAYS), "patient_id": STAYS}):
            told = {"issuer": "", "patient_id": GONE, "studies": [], **wrong}
            with pytest.raises(NotPermitted, match="and not this"):
                people.do("keeper", ChangeKind.STUDY_ERASE, request.id, **told)
        with pytest.raises(NotPermitted):
            people.do("keeper2", ChangeKind.STUDY_ERASE, request.id, issuer="", patient_id=GONE, studies=uids_of(studies, GONE)[:1])  # fmt: skip
        people.do("keeper", ChangeKind.ACCESS_CANCEL, request.id, **{**own, "act": "study-erase"})
    with pytest.raises(NotPermitted, match="nobody at a shell erases"):
        people.order("x" * 32, ChangeKind.STUDY_ERASE, issuer="", patient_id=GONE, studies=uids_of(studies, GONE))
    kinds = (EventKind.CHANGE_REFUSED, EventKind.CHANGE_INTENDED, EventKind.CHANGE_ABANDONED)
    told = [each for kind in kinds for each in people.events(kind, "uid:0") if each.action == ChangeKind.STUDY_ERASE]
    assert [each.kind for each in told] == [EventKind.CHANGE_REFUSED], "decided before it began"
    assert people.house.erasures.latest(10) == []


def test_until_its_time_everything_is_as_it_was_and_it_is_undone(
    people: Staff, studies: dict[str, list[Image]]
) -> None:
    erasure = ordered(people, GONE, uids_of(studies, GONE)[0])
    assert erasure.due_ns - erasure.ordered_ns == 3600 * 1_000_000_000
    (row,) = people.site.rows("erasures", "list")
    assert (row["state"], row["studies"]) == ("waiting", 1)
    assert any(erasure.id in each for each in people.site.rows("status")[0]["amber"])
    assert got(people, GONE, studies[GONE]) == (2, sent(studies[GONE]))
    more = image(random.Random(42), study=erasure.studies[0], patient=GONE)
    assert stored(people, more) == [Status.SUCCESS]
    studies[GONE].append(more)
    with pytest.raises(NotChanged, match="its time has not come"):
        people.order(erasure.id, ChangeKind.ERASURE_CLOSE)
    for kind in (ChangeKind.ERASURE_DESTROY, ChangeKind.ERASURE_FINISH):
        with pytest.raises(NotChanged):
            people.order(erasure.id, kind)
        with pytest.raises(NotPermitted):
            people.do("keeper", kind, erasure.id)
    for name, heard in (("reader", 403), ("engineer", 403), ("guard", 200)):
        with people.browser(name) as browser:
            assert browser.send(f"/erasures/{erasure.id}/undo", why="the order was withdrawn") == heard
    assert state_of(people, erasure) == "undone"
    again = ordered(people, GONE, uids_of(studies, GONE)[0])
    assert people.site.rows("erasures", "undo", again.id, "--why", "by mistake")[0]["state"] == "undone"
    comes_due(people, erasure)
    time.sleep(1.5)
    assert got(people, GONE, studies[GONE]) == (2, sent(studies[GONE]))


def test_it_is_not_done_where_who_approved_it_may_not_any_more(people: Staff, studies: dict[str, list[Image]]) -> None:
    erasure = ordered(people, GONE, uids_of(studies, GONE)[0])
    people.order("guard", ChangeKind.PERSON_DISABLE, why="left")
    try:
        comes_due(people, erasure)
        assert until(lambda: state_of(people, erasure) == "undone", 15)
        found = people.house.erasures.get(erasure.id)
        assert found is not None and found.settled_why == "who approved it may not any more"
    finally:
        people.order("guard", ChangeKind.PERSON_ENABLE)
        people.sign_in("guard")
    assert got(people, GONE, studies[GONE])[0] == 2


def test_only_so_many_a_day(people: Staff, studies: dict[str, list[Image]]) -> None:
    with people.browser("keeper") as browser:
        assert asks(browser, MANY) == 200
        request = approved(people)
        assert browser.step_up() and browser.send(f"/erasures/{request}") == 503
    assert people.house.erasures.get(request) is None and got(people, MANY, [])[0] == PER_DAY + 1


# ---- done


def _places(people: Staff, images: list[Image]) -> list[Location]:
    found = [people.house.index.versions(each.sop_instance_uid) for each in images]
    return [version.location for versions in found for version in versions]


def _told_of(people: Staff, study: str) -> tuple[int, int]:
    """Events whose box opens and names the study, and those whose box is shut."""
    told = list(people.house.journal.read())
    return sum(each.event.study_instance_uid == study for each in told), sum("erased" in each.sealed for each in told)


def test_afterwards_no_key_that_exists_opens_it_and_all_else_is_as_it_was(
    people: Staff, studies: dict[str, list[Image]], tmp_path: Path
) -> None:
    site, directory = people.site, people.site.directory
    first, second = uids_of(studies, GONE)
    gone = [each for each in studies[GONE] if each.study_instance_uid == first]
    rest = [each for each in studies[GONE] if each.study_instance_uid == second]
    site_key, store = SiteKey.open("file:keys/site.key", directory), open_objects("file:objects", directory)
    theirs, others = _places(people, gone), _places(people, [*rest, *studies[STAYS]])
    backup = tmp_path / "backup"
    site.rows("backup", str(backup))
    keys = list(every_key(directory, site_key))
    assert all(openers(store, each, keys) for each in (*theirs, *others)), "each is opened by a key of its study"
    assert _told_of(people, first)[0] > 5

    erasure = ordered(people, GONE, first)
    people.order("site", ChangeKind.SITE_CONTAIN, reason="ransomware")
    try:
        time.sleep(1.0)  # until the keeper knows
        comes_due(people, erasure)
        time.sleep(1.5)
        assert state_of(people, erasure) == "waiting", "a read-only site erases nothing"
    finally:
        people.order("site", ChangeKind.SITE_RELEASE)
    assert until(lambda: state_of(people, erasure) == "done", 30), site.log()

    # nobody finds, is given or is promised it
    people.relate("reader", "care-team", GONE)
    with people.browser("reader") as browser:
        assert browser.open(first) == 403 and browser.open(second) == 200 and browser.studies(GONE) == {second}
    assert got(people, GONE, [*gone, *rest]) == (1, sent(rest))
    assert committed(people, gone) == {NO_SUCH_OBJECT_INSTANCE} and committed(people, [*rest, *studies[STAYS]]) == {0}
    assert got(people, STAYS, studies[STAYS]) == (1, sent(studies[STAYS]))
    # no key opens it, and every other record is opened as before
    keys = list(every_key(directory, site_key))
    assert len(keys) > 10 and not [each for each in theirs if openers(store, each, keys)]
    assert all(openers(store, each, keys) for each in others)
    assert not [row for row in people.house.index.rows() if first in str(row) or first.encode() in b"".join(each for each in row if isinstance(each, bytes))]  # fmt: skip
    # what events said of it is shut too; what they say of others is not
    named, shut = _told_of(people, first)
    assert shut > 5 and named <= 4, "only what was asked about it since"
    assert _told_of(people, second)[0] > 5
    # what named it in the register is gone; whoever knows the study finds that it was erased
    done = people.house.erasures.get(erasure.id)
    assert done is not None and done.instances == len(gone) and done.keys == frozenset()
    assert first not in str(done) and GONE not in str(done) and done.reason == ""
    request = people.house.people.access.request(erasure.request)
    assert request is not None and not any(request.facts.values()) and request.why == ""
    assert erasure.id in [row["erasure"] for row in site.rows("erasures", "list", "--study", first)]
    assert site.rows("erasures", "list", "--study", second) == []
    # the backup of before has the keys; the next one into the same directory has not
    assert openers(store, theirs[0], list(every_key(backup, site_key)))
    site.rows("backup", str(backup))
    assert not [each for each in theirs if openers(store, each, list(every_key(backup, site_key)))]
    _kinds(people, erasure)


def _kinds(people: Staff, erasure: Erasure) -> None:
    done = [each for each in people.events(EventKind.CHANGE_COMPLETED) if each.details.get("about") == erasure.id]
    assert [each.action for each in done if each.action.startswith(("study", "erasure"))] == [
        "study-erase", "erasure-close", "erasure-destroy", "erasure-finish",
    ]  # fmt: skip
    (request,) = [
        each for each in people.events(EventKind.CHANGE_COMPLETED) if each.details.get("change") == erasure.id
    ]
    assert request.actor == "person:keeper" and request.action == "access-request"
    assert not [each for each in done if GONE in str(each.details) or erasure.studies[0] in str(each)]


def test_rebuilt_restarted_and_restored_it_stays_erased(
    people: Staff, studies: dict[str, list[Image]], tmp_path: Path
) -> None:
    first, second = uids_of(studies, GONE)
    rest = [each for each in studies[GONE] if each.study_instance_uid == second]
    erasure = next((each for each in people.house.erasures.latest(10) if each.state == "done"), None)
    if erasure is None:  # this test alone
        erasure = ordered(people, GONE, first)
        comes_due(people, erasure)
        assert until(lambda: state_of(people, erasure) == "done", 30)
    site = people.site
    before = site.command("index", "rows").stdout
    (rebuilt,) = site.rows("index", "rebuild")
    assert rebuilt["erased"] == 4 and site.command("index", "rows").stdout == before
    site.down()
    site.up()
    assert got(people, GONE, studies[GONE]) == (1, sent(rest))

    backup, kit, other = tmp_path / "backup", tmp_path / "kit", tmp_path / "restored"
    site.rows("backup", str(backup))
    shutil.copytree(site.directory / "kit", kit)
    words = ("restore", str(backup), str(other), "--kit", str(kit), "--json")
    restored = json.loads(site.command(*words, site=False).stdout)
    assert restored["instances"] == _count(before)
    told = site.command("--site", str(other), "index", "rows", site=False).stdout
    assert first not in told and told == before


def _count(rows: str) -> int:
    return sum("('instances'" in each for each in rows.splitlines())


def test_what_is_sent_again_afterwards_is_kept_as_new(people: Staff, studies: dict[str, list[Image]]) -> None:
    """Nobody's images are refused for what was once erased; whoever sends them again is asked why, by people."""
    rng = random.Random(43)
    own = [image(rng, study=uid(rng), patient="ERASE-AGAIN")]
    assert stored(people, *own) == [Status.SUCCESS]
    erasure = ordered(people, "ERASE-AGAIN")
    comes_due(people, erasure)
    assert until(lambda: state_of(people, erasure) == "done", 30)
    assert got(people, "ERASE-AGAIN", own) == (0, set())
    assert until(lambda: stored(people, *own) == [Status.SUCCESS], 5), "a worker knows it at most 200 ms late"
    assert got(people, "ERASE-AGAIN", own) == (1, sent(own)) and committed(people, own) == {0}


def test_while_it_is_destroyed_nothing_is_stored_of_it(people: Staff) -> None:
    """The tests' own process holds a key of it and does not let go: so long it is being destroyed."""
    rng = random.Random(44)
    own = [image(rng, study=uid(rng), patient="ERASE-HELD") for _ in range(1)]
    more = image(rng, study=own[0].study_instance_uid, patient="ERASE-HELD")
    assert stored(people, *own) == [Status.SUCCESS]
    with people.browser("keeper"):
        people.house.eraser.keyring.study_key(own[0].study_instance_uid)
        people.house.eraser.keyring.sync()
    erasure = ordered(people, "ERASE-HELD")
    comes_due(people, erasure)

    def state() -> Mapping[str, object]:
        (row,) = [each for each in people.site.rows("erasures", "list") if each["erasure"] == erasure.id]
        return row

    assert until(lambda: state()["state"] == "destroying", 15)
    assert stored(people, more)[0] == 0x0124 and stored(people, own[0])[0] == 0x0124
    time.sleep(1.0)
    assert state()["state"] == "destroying", "as long as somebody has a key"
    assert until(lambda: state_of(people, erasure) == "done", 15)
    assert until(lambda: stored(people, more) == [Status.SUCCESS], 5)
