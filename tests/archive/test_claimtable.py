"""Where workers meet: whose turn it is, seen by every process at once; and nobody who looks misses what was answered before."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leadglass.archive import claimtable, commit
from leadglass.archive.claimtable import ClaimTable
from leadglass.terms import Overloaded, PatientIdentity, StoreFault
from tests.archive.kept import WRITER, instance
from tests.archive.place import ANNA, Place
from tests.running import until

OTHER_WRITER = b"o" * 16
BERTA = PatientIdentity("B-2", "HOSPITAL")


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ClaimTable]:
    table = ClaimTable(tmp_path / "claims")
    yield table
    table.close()


def test_one_at_a_time_and_one_patient_a_study(table: ClaimTable) -> None:
    assert table.take(instance("1.1"), WRITER) is None
    assert table.take(instance("1.1"), OTHER_WRITER) == WRITER
    assert table.take(instance("1.2"), OTHER_WRITER) is None, "another of the same study and patient"
    assert table.take(instance("1.3", patient=BERTA), OTHER_WRITER) in (WRITER, OTHER_WRITER)
    assert table.take(instance("1.3", study="9.9", patient=BERTA), OTHER_WRITER) is None
    table.release(["1.1"], OTHER_WRITER)
    assert table.take(instance("1.1"), OTHER_WRITER) == WRITER, "only its own writer releases it"
    table.release(["1.1"], WRITER)
    assert table.take(instance("1.1"), OTHER_WRITER) is None


def test_every_process_sees_it_and_a_file_that_is_none_is_made_anew(tmp_path: Path, table: ClaimTable) -> None:
    other = ClaimTable(tmp_path / "claims")
    assert table.take(instance("1.1"), WRITER) is None
    assert other.take(instance("1.1"), OTHER_WRITER) == WRITER
    assert (other.drop([WRITER]), other.drop([WRITER])) == (1, 0)
    assert other.take(instance("1.1"), OTHER_WRITER) is None
    other.close()
    (tmp_path / "torn").write_bytes(b"LGCL")
    torn = ClaimTable(tmp_path / "torn")
    assert torn.take(instance("1.1"), WRITER) is None
    torn.close()


def test_what_nobody_living_holds_is_dropped(table: ClaimTable) -> None:
    for uid, writer in (("1.1", WRITER), ("1.2", OTHER_WRITER), ("1.3", b"garbage of a po.")):
        assert table.take(instance(uid), writer) is None
    assert table.drop(but=[WRITER]) == 2
    assert table.take(instance("1.1"), OTHER_WRITER) == WRITER
    assert table.take(instance("1.2"), WRITER) is None


def test_slots_are_used_again_and_end(table: ClaimTable, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(claimtable.CLAIMS_MAX):
        assert table.take(instance(f"1.{number}"), WRITER) is None
    with pytest.raises(Overloaded, match="in flight"):
        table.take(instance("2.1"), WRITER)
    table.release([f"1.{claimtable.CLAIMS_MAX - 1}"], WRITER)
    assert table.take(instance("2.1"), WRITER) is None
    assert table.take(instance("2.1"), OTHER_WRITER) == WRITER


def test_whoever_looks_waits_for_what_landed_before_and_not_for_what_lands_after(table: ClaimTable) -> None:
    table.catch_up(0.0)
    for uid in ("1.1", "1.2"):
        table.take(instance(uid), WRITER)
    table.catch_up(0.0)  # claimed is not landed: nobody was answered
    table.land("1.1", WRITER)
    with pytest.raises(StoreFault, match="cannot be found yet"):
        table.catch_up(0.0)
    assert table.wanted() and not table.wanted()
    seen = threading.Event()

    def look() -> None:
        table.catch_up(60.0)
        seen.set()

    looking = threading.Thread(target=look)
    looking.start()
    while not table.wanted():
        time.sleep(0.001)
    table.land("1.2", WRITER)  # later than the look
    assert not seen.is_set()
    table.release(["1.1"], WRITER)
    looking.join(60)
    assert seen.is_set()


TAKING = """
import sys
from pathlib import Path
from leadglass.archive.claimtable import ClaimTable
from tests.archive.kept import instance
table, number = ClaimTable(Path(sys.argv[1])), 0
print("ready", flush=True)
while True:
    number += 1
    uid = f"1.{number % 50}"
    if table.take(instance(uid), b"w" * 16) is None and number % 3:
        table.release([uid], b"w" * 16)
"""


def test_a_process_that_is_killed_leaves_nothing_half_done(tmp_path: Path, table: ClaimTable) -> None:
    for _ in range(8):
        line = [sys.executable, "-c", TAKING, str(tmp_path / "claims")]
        with subprocess.Popen(
            line, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], env=_environment()
        ) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            for number in range(200):
                if table.take(instance(f"2.{number}", study="2"), WRITER) is None:
                    table.release([f"2.{number}"], WRITER)
            process.send_signal(signal.SIGKILL)
        table.drop([b"w" * 16])
        for number in range(50):
            assert table.take(instance(f"1.{number}"), WRITER) is None
        table.release([f"1.{number}" for number in range(50)], WRITER)


def _environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}


# ---- publishing behind the answer


def test_what_was_answered_is_found_by_whoever_looks_in_another_process(make_place: Callable[..., Place]) -> None:
    place = make_place()
    writing, reading = place.process(publish_within_seconds=0.05), place.process()
    for number in range(60):
        settled = writing.store(f"1.2.{number}", b"pixels %d" % number)
        reading.index.catch_up()
        assert reading.index.current(f"1.2.{number}") == settled
    applied = reading.index.applied(writing.writer.id)
    assert applied is not None and applied.record == 60


def test_an_index_that_fails_holds_up_stores_and_loses_nothing(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "UNPUBLISHED_MAX", 5)
    monkeypatch.setattr(commit, "TRIED_AGAIN_AFTER_SECONDS", 0.01)
    place = make_place()
    process = place.process(publish_within_seconds=0.01)
    publish = process.index.publish

    def failing(settled: object) -> None:
        raise StoreFault("the index does not answer: disk I/O error")

    monkeypatch.setattr(process.index, "publish", failing)
    kept = []
    with pytest.raises(Overloaded, match="disk I/O error"):
        for number in range(100):
            kept.append(process.store(f"1.2.{number}", b"pixels %d" % number))
            time.sleep(0.02)
    assert len(kept) == 5
    monkeypatch.setattr(process.index, "publish", publish)
    process.index.catch_up()
    assert [process.index.current(each.instance.sop_instance_uid) for each in kept] == kept

    def goes_on() -> bool:  # once the publisher has made room, which is after others find what was published
        with contextlib.suppress(Overloaded):
            return bool(process.store("1.3.1", b"goes on by itself"))
        return False

    assert until(goes_on, 10)


def test_what_landed_and_was_never_published_is_found_after_recovery(make_place: Callable[..., Place]) -> None:
    place = make_place()
    dying, living = place.process(publish_within_seconds=60.0), place.process()
    kept = [dying.store(f"1.2.{number}", b"pixels %d" % number) for number in range(5)]
    dying.die()
    with pytest.raises(StoreFault, match="cannot be found yet"):
        living.index._claims.catch_up(0.0)
    assert living.recovery.recover(dying.writer.id) is not None
    living.index.catch_up()
    assert [living.index.current(each.instance.sop_instance_uid) for each in kept] == kept
    assert kept[0].instance.patient == ANNA
