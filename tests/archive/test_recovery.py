from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from leadglass.archive import recovery
from leadglass.archive.backends.local import LocalObjects, LocalSegment
from leadglass.archive.records import BLOCK_LENGTH_BYTES, segment_name
from leadglass.archive.walk import walk
from leadglass.doors.processes.dimse import THREADS_MAX
from leadglass.terms import Event, KeyFault, Location, Settled, Standing, StoreFault
from tests.archive.place import Place, Process, content


class Journal:
    """A journal's side of recovery, in memory; `a_file`: events in each of its files."""

    def __init__(self, *stored: Settled, a_file: int = 1_000) -> None:
        self.has = [each.location for each in stored]
        self.told: list[tuple[Settled, Event]] = []
        self.a_file, self.files_read = a_file, 0

    def stored(self, writer: bytes) -> Iterable[Sequence[Location]] | None:
        for start in reversed(range(0, len(self.has), self.a_file)):
            self.files_read += 1
            yield self.has[start : start + self.a_file]

    def lacks(self, settled: Settled, event: Event) -> None:
        self.told.append((settled, event))
        self.has.append(settled.location)


def copied(place: Place, to: Path) -> Place:
    """The site as it lies there, on another disk."""
    shutil.copytree(place.site_dir, to)
    return Place(to, LocalObjects(to / "objects"))


def segment(place: Place, settled: Settled) -> Path:
    return place.site_dir / "objects" / settled.location.segment


def flip(path: Path, offset: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


def lose_index(place: Place) -> None:
    for path in (place.site_dir / "index").glob("index*.db*"):
        path.unlink()


def kept_and_died(place: Place) -> tuple[Process, Settled, Settled]:
    """One instance published, a second one durable and no more; then the process is killed."""
    process = place.process()
    first = process.store("1.2.1", content(5_000))
    second = process.keep(process.claim("1.2.2", content(70_000)))
    process.die()
    return process, first, second


def test_what_was_durable_is_published_and_the_claim_goes(place: Place) -> None:
    dead, first, second = kept_and_died(place)
    process = place.process()
    assert process.index.current("1.2.2") is None
    recovered = process.recovery.recover_all()
    assert [(each.writer, each.published, each.cut) for each in recovered] == [(dead.writer.id, 1, ())]
    assert process.index.current("1.2.1") == first
    assert process.index.current("1.2.2") == second
    assert process.read(second) == content(70_000)
    assert process.recovery.recover_all() == [], "sealed: nothing to do again"
    assert not segment(place, second).stat().st_mode & 0o222
    assert process.store("1.2.2", content(70_000)) == second


def test_a_living_writer_is_left_alone(place: Place) -> None:
    process, other = place.process(), place.process()
    process.store("1.2.1", b"x")
    assert other.recovery.recover(process.writer.id) is None
    assert other.recovery.recover_all() == []


def test_recovering_twice_or_again_after_a_crash_gives_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first, second = kept_and_died(place)
    process = place.process()
    with monkeypatch.context() as crash:
        crash.setattr(type(process.index), "drop_claims", lambda self, writer: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            process.recovery.recover_all()
    process.recovery.recover_all()
    assert process.index.versions("1.2.1") == [first]
    assert process.index.versions("1.2.2") == [second]


def test_a_tail_torn_anywhere_is_cut(place: Place, tmp_path: Path) -> None:
    _, first, second = kept_and_died(place)
    start, end = first.location.offset + first.location.length, second.location.offset + second.location.length
    positions = [*range(start, end, 9_973), start + 1, second.location.offset - 64, *range(end - 60, end, 7), end - 1]
    for number, position in enumerate(positions):
        torn = copied(place, tmp_path.parent / f"{tmp_path.name}-torn-{number}")
        with segment(torn, second).open("r+b") as file:
            file.truncate(position)
        process = torn.process()
        process.recovery.recover_all()
        assert process.index.current("1.2.2") is None, position
        assert process.read(first) == content(5_000)
        again = process.store("1.2.2", content(70_000))
        assert (again.version, process.read(again)) == (1, content(70_000))
        assert [each.location for each in walk(torn.store, first.location.segment).records] == [first.location]
        torn.close()
        shutil.rmtree(torn.site_dir)


def test_a_tail_with_a_wrong_bit_is_cut(place: Place, tmp_path: Path) -> None:
    _, first, second = kept_and_died(place)
    location = second.location
    for number, offset in enumerate((-50, 3, 40, 64, 70, 40_000, 66_000, location.length - 120, location.length - 20)):
        torn = copied(place, tmp_path.parent / f"{tmp_path.name}-bit-{number}")
        flip(segment(torn, second), location.offset + offset)
        process = torn.process()
        process.recovery.recover_all()
        assert process.index.current("1.2.2") is None, offset
        assert process.index.current("1.2.1") == first
        assert process.store("1.2.2", content(70_000)).version == 1
        torn.close()
        shutil.rmtree(torn.site_dir)


def test_what_the_index_says_settled_and_is_not_there_is_named(place: Place) -> None:
    process = place.process()
    settled = process.store("1.2.1", content(5_000))
    process.die()
    with segment(place, settled).open("r+b") as file:
        file.truncate(settled.location.offset + 100)
    other = place.process()
    for _ in range(2):
        with pytest.raises(StoreFault, match="the index says that it settled"):
            other.recovery.recover_all()


def test_a_segment_that_is_gone_is_named(place: Place) -> None:
    process = place.process()
    settled = process.store("1.2.1", content(5_000))
    process.die()
    segment(place, settled).unlink()
    with pytest.raises(StoreFault, match="the index says that it settled"):
        place.process().recovery.recover_all()


def test_damage_before_a_mark_is_a_loss_even_without_index(place: Place, tmp_path: Path) -> None:
    process = place.process()
    first = process.store("1.2.1", content(70_000))
    process.store("1.2.2", content(5_000))
    process.die()
    lose_index(place)
    length = first.location.length
    for number, offset in enumerate((5, 60, length - 200, length - 5)):
        damaged = copied(place, tmp_path.parent / f"{tmp_path.name}-damaged-{number}")
        flip(segment(damaged, first), first.location.offset + offset)
        with pytest.raises(StoreFault, match=first.location.segment):
            damaged.process().recovery.recover_all()
        damaged.close()
        shutil.rmtree(damaged.site_dir)


def test_what_the_journal_says_settled_and_is_not_there_is_named(place: Place) -> None:
    _, _, second = kept_and_died(place)
    place.journal = Journal(second)
    with segment(place, second).open("r+b") as file:
        file.truncate(second.location.offset + 100)
    with pytest.raises(StoreFault, match="the journal says that it settled"):
        place.process().recovery.recover_all()


def test_the_journal_hears_of_what_it_lost(place: Place) -> None:
    _, first, second = kept_and_died(place)
    journal = place.journal = Journal()
    process = place.process()
    process.recovery.recover_all()
    assert [settled for settled, _ in journal.told] == [first, second]
    assert all(event.settled == settled for settled, event in journal.told)
    assert [event.subject_uids for _, event in journal.told] == [("1.2.1",), ("1.2.2",)]


def test_an_event_that_stood_behind_a_newer_ones_is_missed_too(place: Place) -> None:
    """Two at once: the second one's thread came to the journal first, and then the process was killed."""
    _, first, second = kept_and_died(place)
    journal = place.journal = Journal(second)
    place.process().recovery.recover_all()
    assert [settled for settled, _ in journal.told] == [first]


@pytest.mark.parametrize("missing", [[], [37], [28, 39], [36, 38]])
def test_no_more_of_the_journal_is_read_than_may_lack_something(
    place: Place, monkeypatch: pytest.MonkeyPatch, missing: list[int]
) -> None:
    monkeypatch.setattr(recovery, "IN_FLIGHT_MAX", 4)
    process = place.process()
    kept = [process.store(f"1.2.{number}", b"x") for number in range(40)]
    told = [each for number, each in enumerate(kept) if number not in missing]
    for late in range(3, len(told), 5):  # events come in another order than records, as far as so many are in flight
        told[late - 3], told[late] = told[late], told[late - 3]
    process.die()
    journal = place.journal = Journal(*told, a_file=3)
    place.process().recovery.recover_all()
    assert [settled for settled, _ in journal.told] == [kept[number] for number in missing if number > 35]
    assert 3 <= journal.files_read <= 6, "of 13 or 14"


def test_more_may_be_in_flight_than_a_worker_has_threads() -> None:
    assert 2 * THREADS_MAX <= recovery.IN_FLIGHT_MAX


def test_of_a_writer_that_stored_nothing_the_last_file_is_read(place: Place) -> None:
    process = place.process()
    settled = process.store("1.2.1", b"x")
    silent = place.process()
    silent.die()
    gone = replace(settled, location=replace(settled.location, segment=segment_name(silent.writer.id, 1)))
    journal = place.journal = Journal(*[gone] * 9, a_file=3)
    other = place.process()
    with pytest.raises(StoreFault, match="the journal says that it settled"):
        other.recovery.recover(silent.writer.id)
    assert journal.files_read == 1


def test_a_lost_index_is_made_again(place: Place) -> None:
    dead, _, _ = kept_and_died(place)
    process = place.process()
    process.recovery.recover_all()
    process.store("1.2.1", b"other bytes")
    rows = list(process.index.rows())
    process.die()
    lose_index(place)
    other = place.process()
    assert {each.writer for each in other.recovery.recover_all()} == {dead.writer.id, process.writer.id}
    assert list(other.index.rows()) == rows


def test_what_cannot_be_opened_for_want_of_a_key_is_not_torn(place: Place) -> None:
    dead, _, second = kept_and_died(place)
    (dead.writer.directory / "keyring").unlink()
    size = segment(place, second).stat().st_size
    with pytest.raises(KeyFault):
        place.process().recovery.recover_all()
    assert segment(place, second).stat().st_size == size


def test_half_a_streamed_instance_is_none(make_place) -> None:
    place = make_place(arrival_memory_max_bytes=0)
    process = place.process()
    process.claim("1.2.3", content(1 << 20))
    assert len(list(place.store.names())) == 1
    process.die()
    other = place.process()
    other.recovery.recover_all()
    assert list(place.store.names()) == []
    assert other.store("1.2.3", content(1 << 20)).version == 1


def test_a_streamed_instance_that_was_kept_is_recovered(make_place) -> None:
    place = make_place(arrival_memory_max_bytes=0)
    process = place.process()
    settled = process.keep(process.claim("1.2.3", content(1 << 20)))
    process.die()
    other = place.process()
    other.recovery.recover_all()
    assert other.index.current("1.2.3") == settled
    assert other.read(settled) == content(1 << 20)


def test_a_standing_change_that_the_index_lost_is_replayed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    process = place.process()
    process.store("1.2.1", b"first")
    process.store("1.2.1", b"second")
    with monkeypatch.context() as crash:
        crash.setattr(type(process.index), "change_standing", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            process.conflicts.promote("1.2.1", 2)
    process.die()
    other = place.process()
    other.recovery.recover_all()
    assert [each.standing for each in other.index.versions("1.2.1")] == [Standing.SUPERSEDED, Standing.CURRENT]


def test_a_segment_cut_inside_its_head_is_removed(place: Place) -> None:
    process = place.process()
    settled = process.keep(process.claim("1.2.1", content(5_000)))
    process.die()
    with segment(place, settled).open("r+b") as file:
        file.truncate(BLOCK_LENGTH_BYTES - 1)
    other = place.process()
    other.recovery.recover_all()
    assert list(place.store.names()) == []


def test_a_lost_index_is_made_again_whoever_kept_and_whoever_promoted(place: Place) -> None:
    """A promotion is a record of the promoting writer; the version that it concerns may be another's, which is replayed later."""
    one, two = place.process(), place.process()
    for uid, first, second in (("1.2.1", one, two), ("1.2.2", two, one)):
        first.store(uid, b"first")
        second.store(uid, b"second")
        first.conflicts.promote(uid, 2)
    before = list(one.index.rows())
    one.die()
    two.die()
    lose_index(place)
    process = place.process()
    assert len(process.recovery.recover_all()) == 2
    assert list(process.index.rows()) == before
    process.die()
    lose_index(place)
    process = place.process()
    assert len(process.recovery.recover_all()) == 2, "sealed by now"
    assert list(process.index.rows()) == before


@pytest.mark.parametrize("length", [500, 3 << 20], ids=["joint", "streamed"])
def test_a_first_group_that_reached_the_disk_before_its_segments_head_is_torn_and_no_loss(
    make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """Nothing of a new segment was synced yet, so nobody was told anything, whatever of it a power cut left."""
    place = make_place(arrival_memory_max_bytes=1 << 20)
    process = place.process()

    def fails(self: LocalSegment) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as cut, pytest.raises(StoreFault):
        cut.setattr(LocalSegment, "sync", fails)
        process.store("1.2.1", content(length))
    process.die()
    (path,) = (place.site_dir / "objects").iterdir()
    with path.open("r+b") as file:
        file.write(bytes(BLOCK_LENGTH_BYTES))
    living = place.process()
    assert living.recovery.recover(process.writer.id) is not None
    assert not path.exists()
    assert living.store("1.2.1", content(length)).version == 1


# ---- going on without what is lost


def six(place: Place) -> tuple[Process, list[Settled]]:
    """Large and small ones, each in a group of its own, all published; then the process is killed."""
    process = place.process()
    kept = [process.store(f"1.2.{number}", content(length)) for number, length in enumerate((900, 70_000) * 3)]
    process.die()
    return process, kept


def within(settled: Settled, offset: int) -> int:
    """From the end where it is negative."""
    return settled.location.offset + (offset if offset >= 0 else settled.location.length + offset)


@pytest.mark.parametrize("index", ["there", "lost"])
@pytest.mark.parametrize("victim", [0, 1, 3, 4])
@pytest.mark.parametrize("offset", [-4096, 5, -200, -30], ids=["group", "head", "trailer", "footer"])
def test_all_else_counts_where_somebody_goes_on_without_what_is_lost(
    place: Place, offset: int, victim: int, index: str
) -> None:
    dead, kept = six(place)
    damaged = segment(place, kept[victim])
    at = kept[victim].location.offset - 64 if offset == -4096 else within(kept[victim], offset)
    flip(damaged, at)
    before = damaged.read_bytes()
    if index == "lost":
        lose_index(place)
    process, told = place.process(), list[tuple[bytes, tuple[str, ...]]]()
    with pytest.raises(StoreFault, match="lost what had settled") as refused:
        process.recovery.recover_all()
    assert "accept-loss" in refused.value.hint
    process.recovery.recover_all(lambda writer, what: told.append((writer, tuple(what))))
    assert [writer for writer, _ in told] == [dead.writer.id]
    assert any(damaged.name in each for each in told[0][1])
    last = kept[-1].location.record
    assert not any(f"record {last}, " in each for each in told[0][1]), "behind the damage, and read"
    whole = [each for number, each in enumerate(kept) if number != victim]
    assert [process.read(process.index.current(each.instance.sop_instance_uid)) for each in whole] == [  # type: ignore[arg-type]
        content(each.data_set_length) for each in whole
    ]
    assert damaged.read_bytes() == before, "evidence"
    assert process.recovery.recover_all() == [], "and the next start is one like any other"
    process.die()
    assert place.process().recovery.recover_all() == []


def test_a_segment_that_ends_early_or_is_gone_costs_what_was_in_it(place: Place) -> None:
    _, kept = six(place)
    path = segment(place, kept[3])
    with path.open("r+b") as file:
        file.truncate(kept[3].location.offset + 100)
    before, process, told = path.read_bytes(), place.process(), list[str]()
    process.recovery.recover_all(lambda writer, what: told.extend(what))
    assert any("the index says that it settled" in each for each in told)
    assert [process.read(each) for each in kept[:3]] == [content(each.data_set_length) for each in kept[:3]]
    assert path.read_bytes() == before
    assert process.recovery.recover_all() == []


def test_nothing_is_said_to_be_lost_where_nothing_is(place: Place) -> None:
    kept_and_died(place)
    told = list[str]()
    place.process().recovery.recover_all(lambda writer, what: told.extend(what))
    assert told == []
