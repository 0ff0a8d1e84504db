from __future__ import annotations

import errno
import threading

import pytest

from leadglass.archive.objects import NoSpace
from leadglass.archive.read import Corrupted
from leadglass.archive.records import BLOCK_LENGTH_BYTES
from leadglass.archive.segments import Segments
from leadglass.archive.walk import walk
from leadglass.terms import HoldReason, Overloaded, Standing
from tests.archive.place import ANNA, BERTA, JPEG, Place, content


@pytest.mark.parametrize("length", [0, 1, 65_535, 65_536, 65_537, 131_072, 131_073, 525 << 10, 3 << 20])
def test_what_is_kept_reads_back_bit_for_bit(place: Place, length: int) -> None:
    process = place.process()
    data = content(length)
    settled = process.store("1.2.3.4", data)
    assert settled.standing is Standing.CURRENT
    assert settled.data_set_length == length
    assert process.read(settled) == data
    assert process.reader.header(settled) == data[: settled.header_length]


def test_memory_and_streaming_arrivals_give_the_same(make_place) -> None:
    data = content((1 << 20) + 4321)
    place = make_place()
    in_memory = place.process().store("1.2.1", data)
    tight = Place(place.site_dir, place.store, arrival_memory_max_bytes=0)
    process = tight.process()
    streamed = process.store("1.2.2", data)
    assert process.read(streamed) == process.read(in_memory) == data
    assert streamed.digest == in_memory.digest
    assert streamed.data_set_length == in_memory.data_set_length
    alone = walk(place.store, streamed.location.segment)
    assert alone.closed and [each.location for each in alone.records] == [streamed.location]
    assert process.store("1.2.3", b"small").location.record == streamed.location.record + 1
    tight.close()


def test_a_streamed_arrival_that_is_discarded_leaves_nothing(make_place) -> None:
    place = make_place(arrival_memory_max_bytes=0)
    process = place.process()
    arrived = process.receive("1.2.3", content(1 << 20))
    assert len(list(place.store.names())) == 1
    arrived.arrival.discard()
    arrived.arrival.discard()
    assert list(place.store.names()) == []


def test_memory_of_arrivals_stays_within_its_budget(make_place) -> None:
    place = make_place(arrival_memory_max_bytes=3 << 20)
    process = place.process()
    waiting = [process.receive(f"1.2.{number}", content(900 << 10)) for number in range(6)]
    assert process.receiver.pool.held_bytes <= 3 << 20
    assert sum(1 for each in waiting if each.arrival.stream is not None) >= 3
    for each in waiting:
        each.arrival.discard()


def test_sent_again_is_known_and_stored_once(place: Place) -> None:
    process = place.process()
    first = process.store("1.2.3", b"pixels")
    claimed = process.claim("1.2.3", b"pixels")
    assert claimed.settled == first
    assert len(process.index.versions("1.2.3")) == 1


def test_sent_again_nobody_hears_of_success_where_what_is_kept_does_not_read(place: Place) -> None:
    """A modality deletes its own copy after that."""
    process = place.process()
    settled = process.store("1.2.3", content(70_000))
    path = place.site_dir / "objects" / settled.location.segment
    data = bytearray(path.read_bytes())
    data[settled.location.offset + 30_000] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    for _ in range(2):
        with pytest.raises(Corrupted):
            process.claim("1.2.3", content(70_000))
    assert len(process.corrupted) == 2
    data[settled.location.offset + 30_000] ^= 1
    path.write_bytes(data)
    assert process.claim("1.2.3", content(70_000)).settled == settled, "restored, it is known again"


def test_other_bytes_under_the_same_uid_are_held(place: Place) -> None:
    process = place.process()
    first = process.store("1.2.3", b"pixels")
    second = process.store("1.2.3", b"other pixels")
    assert (second.version, second.standing, second.holds) == (2, Standing.HELD, frozenset({HoldReason.CONFLICT}))
    assert second.parent_digest == first.digest
    assert process.index.current("1.2.3") == first
    assert process.read(second) == b"other pixels"
    assert process.store("1.2.3", b"other pixels") == second, "who resends hears the same"
    assert process.store("1.2.3", b"other pixels", syntax=JPEG) == second


def test_another_patient_in_the_same_study_is_held(place: Place) -> None:
    process = place.process()
    process.store("1.2.1", b"a", patient=ANNA)
    held = process.store("1.2.2", b"b", patient=BERTA)
    assert (held.standing, held.holds) == (Standing.HELD, frozenset({HoldReason.OTHER_PATIENT}))


def test_findings_hold(place: Place) -> None:
    held = place.process().store("1.2.1", b"a", findings=frozenset({HoldReason.HARMFUL}))
    assert (held.standing, held.holds) == (Standing.HELD, frozenset({HoldReason.HARMFUL}))


def test_a_pending_claim_is_waited_for(place: Place) -> None:
    process = place.process()
    claimed = process.claim("1.2.3", b"pixels")
    timer = threading.Timer(0.05, lambda: process.publish(process.keep(claimed)))
    timer.start()
    assert process.claim("1.2.3", b"pixels").settled is not None
    timer.join()


def test_a_claim_that_does_not_settle_is_refused_in_the_end(place: Place) -> None:
    process, other = place.process(), place.process()
    process.claim("1.2.3", b"pixels")
    with pytest.raises(Overloaded):
        other.claim("1.2.3", b"pixels")


def test_the_claim_of_a_dead_writer_is_recovered_by_who_meets_it(place: Place) -> None:
    process, other = place.process(), place.process()
    process.claim("1.2.3", b"pixels")
    process.die()
    settled = other.store("1.2.3", b"pixels")
    assert settled.version == 1


def test_kept_but_not_published_is_found_by_who_meets_it(place: Place) -> None:
    process, other = place.process(), place.process()
    kept = process.keep(process.claim("1.2.3", b"pixels"))
    process.die()
    assert other.claim("1.2.3", b"pixels").settled == kept


def test_four_threads_commit_together(place: Place) -> None:
    process = place.process()

    def send(thread: int) -> None:
        for number in range(12):
            data = content(1_000 * number + 40_000 * thread)
            assert process.read(process.store(f"1.2.{thread}.{number}", data)) == data

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = [process.index.versions(f"1.2.{thread}.{number}") for thread in range(4) for number in range(12)]
    assert all(len(each) == 1 for each in versions)
    assert sorted(each[0].location.record for each in versions) == list(range(1, 49))
    applied = process.index.applied(process.writer.id)
    assert applied is not None and applied.record == 48


def test_a_full_disk_refuses_and_service_returns(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    process = place.process()
    process.store("1.2.1", b"before")
    size = place.store.size(next(iter(place.store.names())))
    with monkeypatch.context() as full:
        full.setattr(type(process.segments._open.file), "write", _no_space)  # type: ignore[union-attr]
        with pytest.raises(Overloaded):
            process.store("1.2.2", b"during")
    assert place.store.size(next(iter(place.store.names()))) == size
    settled = process.store("1.2.2", b"during")
    assert (settled.version, process.read(settled)) == (1, b"during")
    assert not process.fatal


def _no_space(self: object, offset: int, data: memoryview) -> None:
    raise NoSpace(errno.ENOSPC, "no space")


def test_the_reserve_refuses_before_the_disk_is_full(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place(disk_reserve_bytes=1 << 20)
    process = place.process()
    monkeypatch.setattr(place.store, "free_bytes", lambda: (1 << 20) - 1)
    with pytest.raises(Overloaded):
        process.store("1.2.2", b"during")
    monkeypatch.undo()
    assert process.store("1.2.2", b"after").version == 1


def test_a_failed_sync_is_fatal(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from leadglass.archive.segments import Unsure

    process = place.process()
    process.store("1.2.1", b"before")

    def broken(self: object) -> None:
        raise OSError(errno.EIO, "I/O error")

    with monkeypatch.context() as bad:
        bad.setattr(type(process.segments._open.file), "sync", broken)  # type: ignore[union-attr]
        with pytest.raises(Unsure):
            process.store("1.2.2", b"during")
    assert len(process.fatal) == 1
    with pytest.raises(Exception, match="must end"):
        process.store("1.2.3", b"after")


def test_segments_are_sealed_by_length_and_by_age(make_place) -> None:
    place = make_place(segment_length_max_bytes=64 << 10)
    process = place.process()
    for number in range(6):
        process.store(f"1.2.{number}", content(30_000, str(number)))
    names = list(place.store.names())
    assert len(names) > 2
    walked = [walk(place.store, name) for name in names]
    assert [each.closed for each in walked] == [True] * (len(names) - 1) + [False]
    clock = [0.0]
    segments = Segments(place.store, bytes(16), place.limits, process.fatal.append, monotonic=lambda: clock[0])
    assert segments.direct is None
    segments.close()


@pytest.mark.parametrize("where", ["first", "middle", "last", "frame", "trailer", "head", "footer"])
def test_one_flipped_bit_is_never_served(place: Place, where: str) -> None:
    process = place.process()
    settled = process.store("1.2.3", content(300_000))
    location = settled.location
    ends = location.offset + location.length
    offset = {
        "head": location.offset + 40,
        "frame": location.offset + 64,
        "first": location.offset + 64 + 100,
        "middle": location.offset + 150_000,
        "last": location.offset + 64 + 299_990,
        "trailer": ends - 200,
        "footer": ends - 20,
    }[where]
    path = place.site_dir / "objects" / location.segment
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    served = bytearray()
    with pytest.raises(Corrupted) as caught:
        for piece in process.reader.read(settled):
            served += piece
    assert not served
    assert caught.value.settled == settled and "1.2.3" in str(caught.value)
    assert process.corrupted


def test_a_record_is_not_read_as_another(place: Place) -> None:
    """The index is not trusted: a row that points elsewhere is found out."""
    import dataclasses

    process = place.process()
    one, two = process.store("1.2.1", b"one"), process.store("1.2.2", b"two")
    with pytest.raises(Corrupted):
        process.read(dataclasses.replace(one, location=two.location))
    with pytest.raises(Corrupted):
        process.read(dataclasses.replace(one, location=dataclasses.replace(one.location, offset=BLOCK_LENGTH_BYTES)))
