"""What keeps the archive going, from the console: held versions, the index, backups, who treats whom; by whoever may, and nobody else."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadglass.lab.corpus import Image
from leadglass.lab.peers import Received, associated, getting, storing
from leadglass.terms import Act, ChangeKind, EventKind, Role
from leadglass.wire import tags
from leadglass.wire.dimse import Status
from tests.running import RunningSite, running, until
from tests.staff import Staff, staff
from tests.synthetic import digest, image, uid

pytestmark = pytest.mark.xdist_group("archive_page")  # one site for all of it
LIST = "person,relation,patient_id\nreader,care-team,UPKEEP-1\n"


@pytest.fixture(scope="module")
def backups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backups")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, backups: Path) -> Iterator[RunningSite]:
    named = f'\n[backup]\ndirectories = ["{backups / "weekly"}", "{backups / "daily"}"]\n'
    with running(tmp_path_factory.mktemp("upkeep"), named) as site:
        site.enroll("CT1", "echo,store,find,get")
        site.up()
        yield site
        print(site.log())


@pytest.fixture(scope="module")
def people(site: RunningSite) -> Iterator[Staff]:
    with staff(site) as people:
        for name, role in {
            "keeper": Role.PACS_ADMINISTRATOR, "guard": Role.SECURITY_OFFICER, "guard2": Role.SECURITY_OFFICER, "reader": Role.RADIOLOGIST, "vendor": Role.VENDOR,
        }.items():  # fmt: skip
            people.hire(name, role)
        yield people


def stored(people: Staff, *images: Image) -> set[int]:
    with associated(people.at("CT1"), people.archive, storing(images)) as session:
        return {session.store(each).status for each in images}


def current(people: Staff, about: Image) -> set[str]:
    """The digests of what a device gets of its study."""
    came: set[str] = set()

    def take(instance: Received) -> int:
        came.add(hashlib.sha256(instance.data_set).hexdigest())
        return Status.SUCCESS

    pairs = {(about.sop_class_uid, about.transfer_syntax_uid)}
    with associated(people.at("CT1"), people.archive, getting(pairs)) as session:
        session.get("STUDY", {tags.STUDY_INSTANCE_UID: about.study_instance_uid}, take)
    return came


def twice(people: Staff, seed: int) -> tuple[Image, Image]:
    """One SOP instance, sent twice with other pixels: the second is held."""
    rng = random.Random(seed)
    study, instance = uid(rng), uid(rng)
    first, second = (image(rng, study=study, sop_instance=instance, patient="UPKEEP-1") for _ in range(2))
    stored(people, first)
    stored(people, second)
    assert current(people, first) == {digest(first)}
    return first, second


def completed(people: Staff, kind: ChangeKind) -> list[str]:
    return [each.actor for each in people.events(EventKind.CHANGE_COMPLETED) if each.action == kind]


# ---- held versions


def test_a_held_version_is_made_current_or_rejected(people: Staff) -> None:
    first, second = twice(people, 1)
    other, rejected = twice(people, 2)
    with people.browser("keeper") as browser:
        shown = browser.page("/archive")
        assert first.sop_instance_uid in shown and other.sop_instance_uid in shown
        assert digest(second)[:16] in shown and digest(first)[:16] in shown, "what is held, and what is current"
        assert browser.send(f"/archive/held/{first.sop_instance_uid}", version="2", word="promote") == 200
        assert browser.send(f"/archive/held/{other.sop_instance_uid}", version="2", word="dismiss") == 200
        assert current(people, first) == {digest(second)} and current(people, other) == {digest(other)}
        shown = browser.page("/archive")
        assert "Nothing is held." in shown and first.sop_instance_uid not in shown
        for version in ("2", "7", "", "x"):  # settled, never there, none
            assert browser.send(f"/archive/held/{first.sop_instance_uid}", version=version, word="promote") == 409
    assert completed(people, ChangeKind.CONFLICT_PROMOTE) == ["person:keeper"]
    assert completed(people, ChangeKind.CONFLICT_DISMISS) == ["person:keeper"]
    assert digest(rejected) not in current(people, other)


# ---- index and backups


def test_the_index_is_made_again(people: Staff) -> None:
    before = people.site.command("index", "rows").stdout
    with people.browser("keeper") as browser:
        assert browser.send("/archive/index") == 200
        assert until(lambda: completed(people, ChangeKind.INDEX_REBUILD) == ["person:keeper"], 20)
        assert "index rebuild" in browser.page("/archive")
    assert before and people.site.command("index", "rows").stdout == before


def test_a_backup_is_made_where_the_site_says_and_nowhere_else(people: Staff, backups: Path, tmp_path: Path) -> None:
    with people.browser("keeper") as browser:
        assert browser.send("/archive/backup", directory=str(backups / "weekly")) == 200
        assert until(lambda: completed(people, ChangeKind.SITE_BACKUP) == ["person:keeper"], 30)
        assert "completed" in browser.page("/archive")
        for elsewhere in (str(tmp_path / "mine"), str(backups), f"{backups}/weekly/..", ""):
            assert browser.send("/archive/backup", directory=elsewhere) == 403
    assert not (tmp_path / "mine").exists() and sorted(each.name for each in backups.iterdir()) == ["weekly"]
    refused = [each for each in people.events(EventKind.CHANGE_REFUSED) if "backup.directories" in each.reason]
    assert {each.actor for each in refused} == {"person:keeper"} and len(refused) >= 4


def test_a_vendor_does_one_of_these_in_a_window(people: Staff, backups: Path) -> None:
    with people.browser("vendor") as browser:
        assert browser.look("/archive") == 403
        assert (
            browser.send("/archive/index") == browser.send("/archive/backup", directory=str(backups / "daily")) == 403
        )
        people.ask("vendor", Act.BACKUP_RUN, "guard", seconds=6)
        shown = browser.page("/archive")
        assert "Make a backup" in shown and "Rebuild the index" not in shown and "Held versions" not in shown
        assert browser.send("/archive/index") == 403
        assert browser.send("/archive/backup", directory=str(backups / "daily")) == 200
        assert until(lambda: "person:vendor" in completed(people, ChangeKind.SITE_BACKUP), 30)
        assert until(lambda: browser.look("/archive") == 403, 15), "over"
        assert browser.send("/archive/backup", directory=str(backups / "daily")) == 403


# ---- who treats whom


def test_relations_come_from_the_console_and_act_at_once(people: Staff) -> None:
    own = image(random.Random(5), patient="UPKEEP-1")
    assert stored(people, own) == {Status.SUCCESS}
    with people.browser("keeper") as browser, people.browser("reader") as reader:
        assert reader.open(own.study_instance_uid) == 403
        for rows in ("", "person,relation,patient_id\nreader,loves,UPKEEP-1\n", "person,relation\nreader\n"):
            assert browser.send("/archive/relations", source="the ward's list", rows=rows) == 422
        assert browser.send("/archive/relations", source=" ", rows=LIST) == 422
        assert reader.open(own.study_instance_uid) == 403, "nothing of what was wrong is taken"
        assert browser.send("/archive/relations", source="the ward's list", rows=LIST) == 200
        assert reader.open(own.study_instance_uid) == 200
        other = LIST.replace("UPKEEP-1", "UPKEEP-2")
        assert browser.send("/archive/relations", source="the ward's list", rows=other) == 200
        assert reader.open(own.study_instance_uid) == 403, "in the place of what the same source said"
    with people.browser("reader") as reader:
        assert reader.send("/archive/relations", source="the ward's list", rows="nonsense") == 403
        assert reader.send("/archive/relations", source="the ward's list", rows=LIST) == 403
        assert reader.open(own.study_instance_uid) == 403
