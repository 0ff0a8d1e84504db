from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadglass.archive import paging
from leadglass.archive.index import Granted, Index, Known, Pending, Visibility
from leadglass.archive.projection import encode_settled, settled_of
from leadglass.archive.sqlite import READERS_MAX, Readers, connect
from leadglass.terms import (
    Fault,
    HoldReason,
    KeyFault,
    Level,
    PatientIdentity,
    Settled,
    Standing,
    StoreFault,
    StudyFacts,
)
from leadglass.wire import tags
from tests.archive.kept import KEY, MR, WRITER, instance, opened, query, settled
from tests.archive.place import ANNA, BERTA, CT, EXPLICIT

OTHER_WRITER = b"o" * 16
ONE, TWO = b"1" * 32, b"2" * 32
HELD = frozenset({HoldReason.CONFLICT})


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = opened(tmp_path)
    yield index
    index.close()


def found(index: Index) -> list[str]:
    return [
        row[tags.STUDY_INSTANCE_UID]
        for row in index.find(query(Level.STUDY, {tags.STUDY_INSTANCE_UID: ""}), Visibility())
    ]


# ---- claims


def test_a_claim_is_granted_once(index: Index) -> None:
    assert index.claim(instance("1.1"), ONE, WRITER) == Granted(1, StudyFacts(None, None, None))
    assert index.claim(instance("1.1"), ONE, OTHER_WRITER) == Pending(WRITER)
    index.release_claim("1.1", OTHER_WRITER)
    assert index.claim(instance("1.1"), ONE, OTHER_WRITER) == Pending(WRITER), "only its own writer releases it"
    index.release_claim("1.1", WRITER)
    assert isinstance(index.claim(instance("1.1"), ONE, OTHER_WRITER), Granted)


def test_the_same_digest_is_known_whatever_its_standing(index: Index) -> None:
    for version, standing in enumerate(Standing, start=1):
        kept = settled(instance("1.1"), version=version, digest=bytes([version]) * 32, standing=standing)
        index.publish([kept])
    for version, standing in enumerate(Standing, start=1):
        answer = index.claim(instance("1.1"), bytes([version]) * 32, WRITER)
        assert isinstance(answer, Known) and answer.settled.standing is standing
    assert isinstance(index.claim(instance("1.1"), ONE, WRITER), Granted), "what is known is not claimed"


def test_a_grant_tells_what_is_there(index: Index) -> None:
    index.publish([settled(instance("1.1"), digest=ONE)])
    assert index.claim(instance("1.1", patient=BERTA), TWO, WRITER) == Granted(2, StudyFacts(ANNA, ONE, EXPLICIT))
    assert index.claim(instance("1.2"), TWO, WRITER) == Pending(WRITER), (
        "its claim is for another patient of that study"
    )
    index.release_claim("1.1", WRITER)
    assert index.claim(instance("1.2"), TWO, WRITER) == Granted(1, StudyFacts(ANNA, None, None))


def test_versions_are_never_handed_out_twice(index: Index) -> None:
    index.publish(
        [settled(instance("1.1"), digest=ONE), settled(instance("1.1"), version=7, standing=Standing.REJECTED)]
    )
    answer = index.claim(instance("1.1"), TWO, WRITER)
    assert isinstance(answer, Granted) and answer.version == 8


@pytest.mark.parametrize("patient", [BERTA, PatientIdentity(ANNA.patient_id, "ELSEWHERE")])
def test_a_study_is_claimed_for_one_patient_at_a_time(index: Index, patient: PatientIdentity) -> None:
    assert isinstance(index.claim(instance("1.1"), ONE, WRITER), Granted)
    assert isinstance(index.claim(instance("1.2"), ONE, OTHER_WRITER), Granted)
    assert isinstance(index.claim(instance("1.3", patient=patient), ONE, WRITER), Pending)
    assert isinstance(index.claim(instance("1.4", study="1.2.4", patient=patient), ONE, WRITER), Granted)


def test_held_versions_are_no_facts(index: Index) -> None:
    index.publish([settled(instance("1.1"), digest=ONE, standing=Standing.HELD, holds=HELD)])
    assert index.claim(instance("1.1", patient=BERTA), TWO, WRITER) == Granted(2, StudyFacts(None, None, None))


def test_claims_of_a_dead_writer_are_dropped(index: Index) -> None:
    index.claim(instance("1.1"), ONE, WRITER)
    index.claim(instance("1.2"), ONE, WRITER)
    index.claim(instance("1.3"), ONE, OTHER_WRITER)
    assert (index.drop_claims(WRITER), index.drop_claims(WRITER)) == (2, 0)
    assert isinstance(index.claim(instance("1.1"), ONE, OTHER_WRITER), Granted)
    assert isinstance(index.claim(instance("1.3"), ONE, WRITER), Pending)


def test_two_threads_and_one_uid(index: Index) -> None:
    answers: list[object] = []
    start = threading.Barrier(4)

    def claim(writer: bytes) -> None:
        start.wait()
        answers.append(index.claim(instance("1.1"), ONE, writer))

    threads = [threading.Thread(target=claim, args=(bytes([number]) * 16,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(each).__name__ for each in answers) == ["Granted", "Pending", "Pending", "Pending"]


def test_processes_meet_in_the_index(tmp_path: Path) -> None:
    """Each claims and publishes the same UIDs; each UID is granted to one of them."""
    opened(tmp_path).close()
    code = (
        "import sys; from pathlib import Path; from tests.archive.kept import *; from leadglass.archive.index import Granted\n"
        "index, writer = opened(Path(sys.argv[1])), sys.argv[2].encode() * 16\n"
        "for n in range(150):\n"
        "    of = instance(f'1.{n}')\n"
        "    if isinstance(index.claim(of, b'd' * 32, writer), Granted):\n"
        "        index.publish([settled(of, digest=b'd' * 32, writer=writer, record=n + 1)]); print(n)\n"
    )
    line = [sys.executable, "-c", code, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    both = [subprocess.Popen([*line, name], stdout=subprocess.PIPE, text=True, env=environment) for name in "ab"]
    granted = [each.communicate(timeout=60)[0].split() for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert sorted(map(int, itertools.chain(*granted))) == list(range(150))


# ---- publishing


def test_publishing_settles_the_claim_and_is_harmless_to_repeat(index: Index) -> None:
    index.claim(instance("1.1"), ONE, WRITER)
    index.claim(instance("1.2"), ONE, WRITER)
    kept = [settled(instance("1.1"), digest=ONE, record=4), settled(instance("1.2"), digest=ONE, record=5)]
    index.publish(kept)
    rows = list(index.rows())
    index.publish(kept[:1])
    assert list(index.rows()) == rows
    assert index.applied(WRITER) == kept[1].location, "it never goes back"
    assert index.applied(OTHER_WRITER) is None
    assert index.claim(instance("1.1"), ONE, OTHER_WRITER) == Known(kept[0])
    assert index.current("1.1") == kept[0] and index.versions("1.1") == kept[:1]
    assert index.current("1.9") is None


def test_a_batch_is_published_as_a_whole_or_not(index: Index) -> None:
    index.claim(instance("1.1"), ONE, WRITER)
    broken = replace(settled(instance("1.2")), received_at_ns=1 << 80)  # no integer of SQLite
    with pytest.raises((StoreFault, OverflowError)):
        index.publish([settled(instance("1.1"), digest=ONE), broken])
    assert index.versions("1.1") == [] and list(index.rows()) == [] and index.applied(WRITER) is None
    assert isinstance(index.claim(instance("1.1"), ONE, OTHER_WRITER), Pending)
    index.publish([settled(instance("1.1"), digest=ONE)])


def test_two_current_versions_of_one_uid_are_refused(index: Index) -> None:
    index.publish([settled(instance("1.1"))])
    with pytest.raises(StoreFault):
        index.publish([settled(instance("1.1"), version=2)])
    assert len(index.versions("1.1")) == 1


def test_a_changed_standing_stays_when_the_record_is_replayed(index: Index) -> None:
    first, second = settled(instance("1.1")), settled(instance("1.1"), version=2, standing=Standing.HELD, holds=HELD)
    index.publish([first, second])
    index.change_standing("1.1", 2, Standing.CURRENT, frozenset())
    rows = list(index.rows())
    index.publish([first, second])
    assert list(index.rows()) == rows
    assert [(each.standing, each.holds) for each in index.versions("1.1")] == [
        (Standing.SUPERSEDED, frozenset()),
        (Standing.CURRENT, frozenset()),
    ]


def test_what_is_promoted_is_found_and_what_is_superseded_is_not(index: Index) -> None:
    index.publish(
        [settled(instance("1.1", study="1.5")), settled(instance("1.1"), version=2, standing=Standing.HELD, holds=HELD)]
    )
    assert found(index) == ["1.5"] and [each.version for each in index.held(10)] == [2]
    index.change_standing("1.1", 2, Standing.CURRENT, frozenset())
    assert found(index) == ["1.2.3"] and index.held(10) == []
    index.change_standing("1.1", 2, Standing.SUPERSEDED, frozenset())
    assert found(index) == [] and index.current("1.1") is None
    index.change_standing("1.1", 9, Standing.CURRENT, frozenset())  # no such version
    assert len(index.versions("1.1")) == 2


def test_held_versions_come_page_by_page(index: Index) -> None:
    index.publish(
        [
            settled(instance(f"1.{sop}"), version=version, standing=Standing.HELD, holds=HELD)
            for sop, version in itertools.product(range(3), (2, 1))
        ]
    )
    after, seen = None, []
    while page := index.held(4, after):
        after = (page[-1].instance.sop_instance_uid, page[-1].version)
        seen += [(each.instance.sop_instance_uid, each.version) for each in page]
    assert seen == [(f"1.{sop}", version) for sop, version in itertools.product(range(3), (1, 2))]


def test_statistics(index: Index) -> None:
    assert set(index.statistics().values()) == {0}
    index.publish(
        [
            settled(instance("1.1")),
            settled(instance("1.2", series="1.2.3.2", sop_class=MR)),
            settled(instance("1.3", study="1.4", patient=BERTA), received=50),
            settled(instance("1.1"), version=2, standing=Standing.HELD),
        ]
    )
    assert index.statistics() == {"patients": 2, "studies": 2, "series": 3, "instances": 3, "held": 1}
    assert (index.bytes_since(50), index.bytes_since(0), index.bytes_since(51)) == (1000, 4000, 0)


# ---- the projection is a function of what is current

PATIENTS = (ANNA, BERTA, PatientIdentity("", ""))
NAMES = ("Smith^Anna", "Yamada=山田", "")


@st.composite
def histories(draw: st.DrawFn) -> list[Settled]:
    """Versions of a few UIDs in a few series, studies and patients, so that they meet; at most one current of each UID."""
    kept = []
    for record, sop in enumerate(draw(st.lists(st.integers(1, 6), max_size=9)), start=1):
        uid, version = f"9.{sop}", 1 + sum(each.instance.sop_instance_uid == f"9.{sop}" for each in kept)
        current = any(each.instance.sop_instance_uid == uid and each.standing is Standing.CURRENT for each in kept)
        standing = Standing.HELD if current else draw(st.sampled_from((Standing.CURRENT, Standing.HELD)))
        study = draw(st.sampled_from(("1.1", "1.2")))
        attributes = {
            tags.PATIENT_NAME: draw(st.sampled_from(NAMES)),
            tags.STUDY_DESCRIPTION: str(record),
            tags.SERIES_DESCRIPTION: str(record),
            tags.INSTANCE_NUMBER: draw(st.sampled_from(("", "1", "-2"))),
            tags.STUDY_DATE: draw(st.sampled_from(("", "20240101"))),
            tags.REFERRING_PHYSICIAN_NAME: draw(st.sampled_from(NAMES)),
            tags.REQUESTING_PHYSICIAN: draw(st.sampled_from(NAMES)),
            tags.INSTITUTIONAL_DEPARTMENT_NAME: draw(st.sampled_from(("", "Radiology"))),
        }
        series, patient = f"{study}.{draw(st.integers(1, 2))}", draw(st.sampled_from(PATIENTS))
        sop_class = draw(st.sampled_from((CT, MR)))
        of = instance(uid, study=study, series=series, patient=patient, sop_class=sop_class, attributes=attributes)
        holds = frozenset(HoldReason) if standing is Standing.HELD else frozenset()
        received = draw(st.integers(1, 3))
        kept.append(settled(of, version=version, standing=standing, holds=holds, received=received, record=record))
    return kept


numbers = itertools.count()
many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


def rows_of(directory: Path, batches: Sequence[Sequence[Settled]]) -> list[object]:
    index = opened(directory / str(next(numbers)))
    for batch in batches:
        index.publish(batch)
    rows = list(index.rows())
    index.close()
    return rows


@many
@given(histories(), st.randoms(use_true_random=False), st.integers(1, 4))
def test_any_order_and_any_batches_give_the_same_rows(
    tmp_path: Path, kept: list[Settled], rng: random.Random, size: int
) -> None:
    shuffled = rng.sample(kept, len(kept))
    assert rows_of(tmp_path, [shuffled[at : at + size] for at in range(0, len(kept), size)]) == rows_of(
        tmp_path, [kept]
    )


@many
@given(histories(), st.data())
def test_changed_standings_give_the_rows_of_an_index_that_never_knew_others(
    tmp_path: Path, kept: list[Settled], data: st.DataObject
) -> None:
    index = opened(tmp_path / str(next(numbers)))
    index.publish(kept)
    for each in data.draw(st.lists(st.sampled_from(kept), max_size=8)) if kept else []:
        standing = data.draw(st.sampled_from((Standing.CURRENT, Standing.SUPERSEDED, Standing.REJECTED, Standing.HELD)))
        index.change_standing(each.instance.sop_instance_uid, each.version, standing, frozenset())
    rows = list(index.rows())
    uids = sorted({each.instance.sop_instance_uid for each in kept})
    now = [version for uid in uids for version in index.versions(uid)]
    index.close()
    assert all(
        sum(each.standing is Standing.CURRENT for each in now if each.instance.sop_instance_uid == uid) <= 1
        for uid in uids
    )
    assert rows == rows_of(tmp_path, [now])


def test_a_settled_is_the_same_bytes_in_every_process() -> None:
    kept = settled(instance("1.1"), standing=Standing.HELD, holds=frozenset(HoldReason))
    assert settled_of(encode_settled(kept)) == kept
    code = (
        "from tests.archive.kept import *; from leadglass.archive.projection import encode_settled\n"
        "print(encode_settled(settled(instance('1.1'), standing=Standing.HELD, holds=frozenset(HoldReason))).hex())"
    )
    for seed in ("1", "2", "3"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == encode_settled(kept).hex()


def test_rows_come_page_by_page_and_each_once(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.publish(
        [settled(instance(f"1.{number}", study=f"1.2.{number % 7}"), received=number) for number in range(25)]
    )
    whole = list(index.rows())
    monkeypatch.setattr(paging, "PAGE_ROWS", 3)
    assert list(index.rows()) == whole
    assert len(whole) == len(set(whole)) and sum(row[0] == "instances" for row in whole) == 25


# ---- on disk


def test_half_an_index_says_so_and_what_to_do(index: Index, tmp_path: Path) -> None:
    index.publish([settled(instance(f"1.{number}")) for number in range(50)])
    index.close()
    path = tmp_path / "index" / "index.db"
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)
    with pytest.raises(StoreFault, match="damaged") as told:
        Index.open("sqlite:index/index.db", tmp_path, KEY)
    assert "move it away" in told.value.hint


def test_what_is_on_disk_is_ciphertext(index: Index, tmp_path: Path) -> None:
    index.publish([settled(instance("1.1", attributes={tags.PATIENT_NAME: "Readable^Name"}))])
    for path in (tmp_path / "index").iterdir():
        assert b"Readable" not in path.read_bytes() and b"readable" not in path.read_bytes()
    index.checkpoint()
    stored = (tmp_path / "index" / "index.db").read_bytes()
    assert (
        len(stored) > 4096
        and b"SQLite format 3" not in stored
        and b"Readable" not in stored
        and b"CREATE" not in stored
    )


def test_another_key_is_a_key_fault(index: Index, tmp_path: Path) -> None:
    for key in (bytes(32), KEY[:31] + b"\0"):
        with pytest.raises(KeyFault, match="site key"):
            opened(tmp_path, key)
    for key in (b"", KEY[:16], KEY + b"\0"):
        with pytest.raises(KeyFault, match="32 bytes"):
            opened(tmp_path, key)


def test_bytes_that_are_no_index_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "index.db").write_bytes(os.urandom(8192))
    with pytest.raises(Fault):
        opened(tmp_path)


def test_other_urls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreFault, match="postgresql"):
        Index.open("postgresql://host/db", tmp_path, KEY)


def test_a_newer_index_is_refused_and_left_alone(index: Index, tmp_path: Path) -> None:
    index.publish([settled(instance("1.1"))])
    index.close()
    path = tmp_path / "index" / "index.db"
    connection = connect(path, KEY, write=True)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(Fault, match="newer Leadglass"):
        opened(tmp_path)
    assert path.read_bytes() == before


def test_an_older_index_is_projected_anew(index: Index, tmp_path: Path) -> None:
    kept = [
        settled(instance("1.1")),
        settled(instance("1.2"), standing=Standing.HELD),
        settled(instance("1.3", patient=BERTA, study="1.4")),
    ]
    index.publish(kept)
    rows = list(index.rows())
    index.close()
    connection = connect(tmp_path / "index" / "index.db", KEY, write=True)
    connection.execute("DROP TABLE counts; DROP TABLE patient_names; DELETE FROM studies; PRAGMA user_version = 1")
    connection.close()
    again = opened(tmp_path)
    assert list(again.rows()) == rows
    again.close()


def test_an_index_from_before_people_learns_clinicians_and_departments(index: Index, tmp_path: Path) -> None:
    said = {
        tags.REFERRING_PHYSICIAN_NAME: "Smith^Anna=\u5c71\u7530",
        tags.REQUESTING_PHYSICIAN: "Jones",
        tags.INSTITUTIONAL_DEPARTMENT_NAME: "Radiology ",
    }
    index.publish([settled(instance("1.1", attributes=said)), settled(instance("1.3", study="1.4"))])
    rows = list(index.rows())
    index.close()
    connection = connect(tmp_path / "index" / "index.db", KEY, write=True)
    connection.execute(
        "DROP TABLE study_clinicians; DROP INDEX series_department; ALTER TABLE series DROP COLUMN department; PRAGMA user_version = 3"
    )
    connection.close()
    again = opened(tmp_path)
    assert list(again.rows()) == rows
    clinicians = [row[1:] for row in again.rows() if row[0] == "study_clinicians"]
    assert clinicians == [("jones", "1.2.3"), ("smith^anna", "1.2.3"), ("\u5c71\u7530", "1.2.3")]
    assert [row[-1] for row in again.rows() if row[0] == "series"] == ["radiology", ""]
    again.close()


def test_readers_do_not_write(index: Index, tmp_path: Path) -> None:
    reader = connect(tmp_path / "index" / "index.db", KEY, write=False)
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute("DELETE FROM versions")
    reader.close()
    with pytest.raises(apsw.CantOpenError):
        connect(tmp_path / "index" / "nothing.db", KEY, write=False)


def open_files(directory: Path) -> int:
    count = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            count += str(directory) in os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
    return count


def test_threads_that_end_leave_no_connection_behind(index: Index, tmp_path: Path) -> None:
    index.publish([settled(instance("1.1"))])
    most = open_files(tmp_path) + 3 * READERS_MAX  # database, log and shared memory
    for _ in range(10):
        threads = [threading.Thread(target=index.current, args=("1.1",)) for _ in range(READERS_MAX)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert open_files(tmp_path) <= most
    index.close()
    assert open_files(tmp_path) == 0


# ---- epochs


def test_an_exchanged_epoch_serves_everybody(index: Index, tmp_path: Path) -> None:
    other = opened(tmp_path)
    index.publish([settled(instance("1.1"))])
    index.claim(instance("1.8"), ONE, WRITER)
    assert len(other.versions("1.1")) == 1
    fresh = index.next_epoch()
    fresh.publish([settled(instance("1.1")), settled(instance("1.2"))])
    assert other.versions("1.2") == [], "not before the exchange"
    index.exchange(fresh)
    for each in (index, other, opened(tmp_path)):
        assert len(each.versions("1.2")) == 1
        assert each.claim(instance("1.8"), ONE, OTHER_WRITER) == Pending(WRITER)
    other.publish([settled(instance("1.3"))])
    assert len(index.versions("1.3")) == 1
    index.publish([settled(instance("1.4"))])
    assert len(other.versions("1.4")) == 1
    other.close()


def test_past_epochs_are_removed_and_never_open_for_long(index: Index, tmp_path: Path) -> None:
    for number in range(3):
        index.publish([settled(instance(f"1.{number}"))])
        fresh = index.next_epoch()
        fresh.publish([version for past in range(number + 1) for version in index.versions(f"1.{past}")])
        index.exchange(fresh)
        assert len(index.versions("1.0")) == 1
    assert sorted(path.name for path in (tmp_path / "index").glob("index.db*[0-9b]")) == ["index.db.2", "index.db.3"]
    assert (tmp_path / "index" / "index.db.current").read_text() == "index.db.3"
    again = opened(tmp_path)
    assert [len(again.versions(f"1.{number}")) for number in range(3)] == [1, 1, 1]
    again.close()


def test_one_rebuild_at_a_time_and_a_dead_one_is_cleared_away(index: Index, tmp_path: Path) -> None:
    fresh = index.next_epoch()
    with pytest.raises(StoreFault, match="rebuilt already"):
        index.next_epoch()
    fresh.publish([settled(instance("1.1"))])
    fresh.close()
    again = index.next_epoch()
    assert list(again.rows()) == []
    again.close()


def test_a_read_in_the_middle_of_an_exchange_goes_on(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PAGE_ROWS", 2)
    kept = [settled(instance(f"1.{number}", study=f"1.{number}"), received=number) for number in range(6)]
    index.publish(kept)
    answers = index.find(query(Level.STUDY, {tags.STUDY_INSTANCE_UID: ""}), Visibility())
    next(answers)
    fresh = index.next_epoch()
    fresh.publish(kept)
    index.exchange(fresh)
    assert len(list(answers)) == 5


def test_a_closed_index_says_so(index: Index) -> None:
    index.close()
    with pytest.raises(StoreFault):
        index.publish([settled(instance("1.1"))])


def test_readers_behind_the_one_used_last_give_back_what_they_remember(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = opened(tmp_path)
    index.publish([settled(instance(f"1.2.{number}"), record=number + 1) for number in range(300)])
    readers = Readers(lambda: connect(tmp_path / "index" / "index.db", KEY, write=False))

    def remembers(connection: apsw.Connection) -> int:
        return connection.status(apsw.SQLITE_DBSTATUS_CACHE_USED)[0]

    with readers.one() as first, readers.one() as second:
        for each in (first, second):
            each.execute("SELECT sum(length(sop)) FROM versions").fetchall()
    full = remembers(first)
    assert full > 20_000 and remembers(second) == full
    readers.rest()
    assert (remembers(first), remembers(second)) == (full, full), "not yet"
    monkeypatch.setattr("leadglass.archive.sqlite.RESTED_EVERY_SECONDS", 0.0)
    readers.rest()
    assert sorted((remembers(first) == full, remembers(second) == full)) == [False, True]
    with readers.one() as one, readers.one() as another:
        assert one.execute("SELECT count(*) FROM versions").fetchall() == another.execute("SELECT count(*) FROM versions").fetchall()  # fmt: skip
    readers.renew()
    index.close()
