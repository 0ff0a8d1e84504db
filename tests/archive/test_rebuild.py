from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest

from leadglass.archive.rebuild import Rebuild
from leadglass.archive.records import RecordKind
from leadglass.archive.walk import walk
from leadglass.terms import HoldReason, Settled, Standing, StoreFault
from tests.archive.place import BERTA, Place, Process, content


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
