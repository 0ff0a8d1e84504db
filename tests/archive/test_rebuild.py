from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from leadglass.archive import rebuild as rebuilding
from leadglass.archive.index import Index
from leadglass.archive.rebuild import Rebuild
from leadglass.archive.records import BLOCK_LENGTH_BYTES, RecordKind
from leadglass.archive.walk import walk, walk_on
from leadglass.archive.window import WINDOW_LENGTH_MAX_BYTES, WINDOW_LENGTH_MIN_BYTES, Window
from leadglass.terms import HoldReason, Settled, Standing, StoreFault
from leadglass.wire import tags
from leadglass.wire.elements import DataSet, Element, encode
from tests.archive.place import BERTA, EXPLICIT, IMPLICIT, Place, Process, content

KILLED = """
import os, signal, sys
from pathlib import Path
from leadglass.archive.backends.local import LocalObjects
from leadglass.archive import index
from tests.archive.place import Place
from tests.archive.test_rebuild import rebuild
site, step = Path(sys.argv[1]), sys.argv[2]
process = Place(site, LocalObjects(site / "objects")).process()
setattr(index if step == "keep" else index.Index, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
rebuild(process)
"""


def rebuild(process: Process, journalled: Iterable[Settled] = ()) -> dict[str, object]:
    place = process.place
    work = Rebuild(
        place.site_dir, place.store, process.index, process.keyring, process.barrier, lambda: list(journalled)
    )
    return dict(work.run(lambda done, there: None))


def rows(process: Process) -> list[object]:
    return list(process.index.rows())


def busy_past(place: Place) -> tuple[Process, list[Settled]]:
    """Two writers, conflicts, other patients, promotions and dismissals, a recovered death, a streamed one."""
    dead, process = place.process(), place.process()
    stored = [dead.store(f"1.2.{number}", content(2_000 * number)) for number in range(6)]
    stored += [process.store(f"1.2.{number}", b"other") for number in range(3)]
    stored.append(process.store("1.2.50", b"of another patient", patient=BERTA))
    stored.append(process.store("1.2.60", content(300), study="1.2.4", patient=BERTA))
    stored.append(dead.keep(dead.claim("1.2.70", b"kept and not published")))
    process.conflicts.promote("1.2.0", 2)
    process.conflicts.dismiss("1.2.1", 2)
    dead.conflicts.promote("1.2.50", 1)
    stored.append(process.store("1.2.0", b"a third one"))
    stored.append(process.store("1.2.80", b"harmful", findings=frozenset({HoldReason.HARMFUL})))
    dead.die()
    process.recovery.recover_all()
    process.keep(process.claim("1.2.90", b"kept just now"))
    process.commit._publisher.flush()
    return process, stored


def test_a_rebuilt_index_equals_the_old_one_row_for_row(place: Place) -> None:
    process, _ = busy_past(place)
    before = rows(process)
    result = rebuild(process)
    assert rows(process) == before
    assert (result["records"], result["standing_changes"]) == (15, 3)
    assert process.store("1.2.0", b"a fourth one").version == 4, "the new epoch serves"


def test_from_journals_the_same(place: Place) -> None:
    process, stored = busy_past(place)
    before = rows(process)
    rebuild(process, stored[:7])
    assert rows(process) == before
    rebuild(process, stored)
    assert rows(process) == before


def test_what_the_journal_says_and_no_segment_has_is_a_loss(place: Place) -> None:
    process = place.process()
    process.store("1.2.1", b"one")
    other = place.process()
    gone = other.store("1.2.2", b"two")
    before = rows(process)
    (place.site_dir / "objects" / gone.location.segment).unlink()
    with pytest.raises(StoreFault, match=other.writer.id.hex()):
        rebuild(process, [gone])
    assert rows(process) == before


def test_damage_is_named_and_nothing_is_exchanged(place: Place) -> None:
    process = place.process()
    settled = process.store("1.2.1", content(5_000))
    process.store("1.2.2", content(5_000))
    before = rows(process)
    with (place.site_dir / "objects" / settled.location.segment).open("r+b") as file:
        file.seek(settled.location.offset + settled.location.length - 100)
        file.write(b"\0\0\0\0")
    with pytest.raises(StoreFault, match=settled.location.segment):
        rebuild(process)
    assert rows(process) == before


def test_beside_a_living_writer_nothing_is_lost_and_no_claim(place: Place) -> None:
    process, other = place.process(), place.process()
    for number in range(30):
        process.store(f"1.1.{number}", content(3_000))
    pending = other.claim("1.3.1", b"pending over the exchange")
    stop = threading.Event()
    stored: list[Settled] = []

    def send() -> None:
        while not stop.is_set():
            stored.append(other.store(f"1.2.{len(stored)}", content(1_000)))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(3):
            assert float(str(rebuild(process)["barrier_seconds"])) < place.limits.barrier_wait_seconds
    finally:
        stop.set()
        sender.join()
    assert stored
    for settled in stored:
        assert process.index.versions(settled.instance.sop_instance_uid) == [settled]
    with pytest.raises(Exception, match="not settled"):
        process.claim("1.3.1", b"pending over the exchange")
    assert other.publish(other.keep(pending)).version == 1
    assert process.store("1.3.1", b"pending over the exchange").standing is Standing.CURRENT


def test_standing_changes_lie_in_segments(place: Place) -> None:
    process, _ = busy_past(place)
    kinds = [record.head.kind for name in place.store.names() for record in walk(place.store, name).records]
    assert kinds.count(RecordKind.STANDING_CHANGE) == 3
    assert process.index.current("1.2.0").version == 2  # type: ignore[union-attr]


def test_a_change_that_was_just_made_is_not_undone(place: Place) -> None:
    process = place.process()
    process.store("1.2.1", b"one")
    process.store("1.2.1", b"other")
    process.conflicts.promote("1.2.1", 2)
    before = rows(process)
    for _ in range(2):  # no mark of its segment covers the change yet
        assert rebuild(process)["standing_changes"] == 1
        assert rows(process) == before


# ---- loading, in batches and without a log


@pytest.mark.parametrize("records", [1, 2, 7])
@pytest.mark.parametrize("journalled", [0, 9, 18])
def test_however_large_a_batch_is_the_rows_are_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch, records: int, journalled: int
) -> None:
    process, stored = busy_past(place)
    explicit = encode(DataSet([Element(tags.PATIENT_ID, "LO", b"P1")]), EXPLICIT)
    implicit = encode(DataSet([Element(tags.PATIENT_ID, "LO", b"P1")]), IMPLICIT)
    stored += [process.store("1.2.95", explicit), process.store("1.2.95", implicit, syntax=IMPLICIT)]
    process.conflicts.promote(process.store("1.2.3", b"later, and of another writer").instance.sop_instance_uid, 2)
    before = rows(process)
    standings = {row[3] for row in before if row[0] == "versions"}  # type: ignore[index]
    assert standings == {"current", "held", "superseded", "rejected", "rendition"}
    monkeypatch.setattr(rebuilding, "BATCH_RECORDS", records)
    rebuild(process, stored[::-1][:journalled])
    assert rows(process) == before


def test_a_rebuilt_index_is_made_as_any_other(place: Place) -> None:
    process, _ = busy_past(place)

    def made() -> list[object]:
        db = process.index._writing
        schema = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()
        return [schema, *(db.pragma(name) for name in ("journal_mode", "synchronous", "cache_size", "user_version"))]

    before = made()
    rebuild(process)
    process.store("1.2.99", b"written to the new one")
    assert made() == before
    assert process.index._writing.pragma("integrity_check") == "ok"


@pytest.mark.parametrize("step", ["keep", "settle", "exchange"])
def test_a_rebuild_that_is_killed_leaves_the_old_index_serving(place: Place, step: str) -> None:
    process, _ = busy_past(place)
    before = rows(process)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    line = [sys.executable, "-c", KILLED, str(place.site_dir), step]
    assert subprocess.run(line, env=environment, cwd=root, check=False).returncode == -signal.SIGKILL
    assert rows(process) == before
    assert process.store("1.2.99", b"goes on").version == 1
    before = rows(process)
    rebuild(process)
    assert rows(process) == before


def test_two_current_versions_of_one_uid_are_exchanged_for_nothing(place: Place) -> None:
    process = place.process()
    stored = process.store("1.2.1", b"one")
    elsewhere = replace(stored.instance, series_instance_uid="1.2.3.77")
    twin = replace(stored, instance=elsewhere, version=2, digest=bytes(32))
    before = rows(process)
    with pytest.raises(StoreFault, match="UNIQUE"):
        rebuild(process, [stored, twin])
    assert rows(process) == before


def test_a_change_of_a_version_not_read_yet_waits_for_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    process = place.process()
    process.store("1.2.1", b"one")
    settle = Index.settle

    def late(fresh: Index) -> None:
        """Between the first pass and the second, as a living writer does."""
        monkeypatch.setattr(Index, "settle", settle)
        settle(fresh)
        process.store("1.2.1", b"other")
        process.conflicts.promote("1.2.1", 2)

    monkeypatch.setattr(Index, "settle", late)
    rebuild(process)
    assert [each.standing for each in process.index.versions("1.2.1")] == [Standing.SUPERSEDED, Standing.CURRENT]
    before = rows(process)
    rebuild(process)
    assert rows(process) == before


# ---- reading segments from one end to the other


class Changing:
    """A segment's bytes of which the first reads see less than there is by now: a writer is at work."""

    def __init__(self, place: Place, name: str, seen: int) -> None:
        self.reads: list[tuple[int, int]] = []
        self._whole = place.store.read(name, 0, place.store.size(name))
        self._seen = seen  # beyond it the first read of groups finds zeros

    def read(self, name: str, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        data = self._whole[offset : offset + length]
        if offset == BLOCK_LENGTH_BYTES and self._seen:
            there, self._seen = max(0, self._seen - offset), 0
            data = data[:there].ljust(len(data), b"\0")
        return data


def test_what_was_written_since_it_was_read_is_no_loss(place: Place) -> None:
    process = place.process()
    stored = [process.store(f"1.2.{number}", content(3_000)) for number in range(4)]
    name = stored[0].location.segment
    for seen in range(BLOCK_LENGTH_BYTES, place.store.size(name), 1_000):
        walked = walk(Changing(place, name, seen), name)
        assert not walked.lost
        assert [each.location for each in walked.records] == [each.location for each in stored]


def test_a_segment_that_grew_is_walked_on_from_where_it_was_whole(place: Place) -> None:
    process = place.process()
    name = process.store("1.2.1", content(90_000)).location.segment
    walked = walk(place.store, name)
    for number in range(2, 6):
        process.store(f"1.2.{number}", content(90_000))
        store, was = Changing(place, name, 0), walked.end
        walk_on(store, walked)
        assert walked == walk(place.store, name)
        assert all(offset >= was for offset, _ in store.reads[1:]), "what was walked is not read again"


def test_small_records_are_read_many_at_once_and_large_bodies_passed_over(place: Place) -> None:
    process = place.process()
    name = process.store("1.2.1", content(100)).location.segment
    for number in range(2, 60):
        process.store(f"1.2.{number}", content(10_000))
    few = Changing(place, name, 0)
    assert len(walk(few, name).records) == 59
    assert len(few.reads) < 12
    for number in range(3):
        process.store(f"1.3.{number}", content(200_000))
    large = Changing(place, name, 0)
    window = Window(large, name)
    for offset in range(0, place.store.size(name) - 100, 150_000):
        assert window.read(name, offset, 100) == place.store.read(name, offset, 100)
    assert max(length for _, length in large.reads) <= 2 * WINDOW_LENGTH_MIN_BYTES
    assert window.read(name, 7, 2 * WINDOW_LENGTH_MAX_BYTES) == place.store.read(name, 7, 2 * WINDOW_LENGTH_MAX_BYTES)
