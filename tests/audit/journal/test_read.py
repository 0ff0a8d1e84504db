"""Reading: everybody's events in order, every change found and named, a torn tail cut and a loss never taken for one."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import threading
import zlib
from pathlib import Path

import pytest

from leadglass.audit.journal.format import HEAD_LENGTH_BYTES, decode_head
from leadglass.audit.journal.read import JournalReader
from leadglass.site.keyring import Keyring
from leadglass.site.sitekey import SiteKey
from leadglass.terms import Event, Fault, JournalFault, KeyFault
from tests.audit.happened import Process, Site, admitted, stored


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def numbers(events: list[Event]) -> list[object]:
    return [event.details["number"] for event in events]


def offsets(data: bytes) -> list[int]:
    """Where each record begins, and where the last ends."""
    found = [HEAD_LENGTH_BYTES]
    while found[-1] + 4 <= len(data) and (length := int.from_bytes(data[found[-1] : found[-1] + 4], "big")):
        found.append(found[-1] + 4 + length)
    return found


def three(site: Site) -> tuple[Process, Path, bytes, list[int]]:
    """A dead process with three events, each synced, and nothing set aside after them."""
    process = site.process(reserve_bytes=0)
    for number in range(3):
        process.journal.record(admitted(number))
    process.die()
    path = process.files[0]
    data = path.read_bytes()
    return process, path, data, offsets(data)


def test_writers_are_merged_by_time_and_each_keeps_its_order(site: Site) -> None:
    times = {"a": iter([10, 30, 20, 70]), "b": iter([15, 40, 60])}
    first, second = (site.process(lambda name=name: 10**18 + next(times[name])) for name in "ab")  # type: ignore[misc]
    for number in range(4):
        first.journal.append(admitted(number))
    for number in range(10, 13):
        second.journal.append(admitted(number))
    read = list(site.reader.read())
    assert [each.event.details["number"] for each in read] == [0, 10, 1, 2, 11, 12, 3]
    assert [each.sequence for each in read if each.writer == first.writer.id] == [1, 2, 3, 4]
    first.die(), second.die()


def test_many_small_journals_need_few_descriptors(site: Site) -> None:
    for number in range(40):
        process = site.process()
        process.journal.append(admitted(number))
        process.end()
    assert numbers(site.events()) == list(range(40))


def test_follow_reads_what_is_there_and_what_comes_from_anybody(site: Site) -> None:
    stop, seen, enough = threading.Event(), list[object](), threading.Event()
    first = site.process(file_length_max_bytes=1500, reserve_bytes=0)
    first.journal.append(admitted(0))

    def follow() -> None:
        for recorded in site.reader.follow(0.005, stop):
            seen.append(recorded.event.details["number"])
            if len(seen) == 41:
                enough.set()

    thread = threading.Thread(target=follow)
    thread.start()
    for number in range(1, 21):
        first.journal.append(admitted(number))
    first.end()
    second = site.process()
    for number in range(21, 41):
        second.journal.append(admitted(number))
    assert enough.wait(60)
    stop.set()
    thread.join(60)
    assert sorted(seen) == list(range(41))  # type: ignore[type-var]
    second.end()


def test_follow_from_the_end_sees_only_what_is_new(site: Site) -> None:
    process, stop = site.process(), threading.Event()
    process.journal.append(admitted(1))
    following = site.reader.follow(0.005, stop, site.reader.end())
    process.journal.append(admitted(2))
    assert next(following).event.details["number"] == 2
    stop.set()
    assert list(following) == []
    process.end()


def test_stored_events_say_where_their_instances_rest_the_newest_file_first(site: Site) -> None:
    process = site.process(file_length_max_bytes=3000, reserve_bytes=0)
    for record in range(1, 7):
        process.journal.append(stored(record))
        process.journal.append(admitted())
    process.end()
    files = [[location.record for location in each] for each in site.reader.stored(process.writer.id)]
    assert len(files) == len(process.files) > 2
    assert [record for each in reversed(files) for record in each] == [1, 2, 3, 4, 5, 6]
    assert list(site.reader.stored(b"0" * 16)) == []
    flipped(process.files[1], 0.5)
    again = [[location.record for location in each] for each in site.reader.stored(process.writer.id)]
    assert again[:-2] + again[-1:] == files[:-2] + files[-1:], "the others are what they were"
    assert again[-2] == files[-2][: len(again[-2])] != files[-2], "up to the break"


def flipped(path: Path, where: float) -> bytes:
    """One bit of it, at that part of its length; what it was before."""
    data = path.read_bytes()
    spoiled = bytearray(data)
    spoiled[int(where * len(data))] ^= 1
    path.write_bytes(spoiled)
    return data


def test_the_end_is_found_without_reading_what_was_noted_or_closed(site: Site) -> None:
    ended, living, killed = (site.process(file_length_max_bytes=1500, reserve_bytes=0) for _ in range(3))
    for number in range(9):
        for process in (ended, living, killed):
            process.journal.record(admitted(number))
    site.seal(ended.end()), killed.die()
    noted, _ = site.reader.ends({})
    whole = {writer: cursor.sequence for writer, cursor in site.reader.end().items()}
    assert whole == {ended.writer.id: 10, living.writer.id: 9, killed.writer.id: 9}
    for process in (ended, living, killed):  # whoever read it would stop there
        flipped(process.files[0], 0.5)
    flipped(ended.files[-1], 0.5)
    assert site.reader.end() == site.reader.end(noted)
    assert {writer: cursor.sequence for writer, cursor in site.reader.end().items()} == whole
    living.journal.record(admitted(9))
    assert site.reader.end(noted)[living.writer.id].sequence == 10
    living.end()


def test_one_broken_journal_keeps_nobody_elses_from_being_read(site: Site) -> None:
    first, second = site.process(reserve_bytes=0), site.process(reserve_bytes=0)
    for number in range(0, 6, 2):
        first.journal.append(admitted(number))
        second.journal.append(admitted(number + 1))
    first.end()
    data = flipped(first.files[0], 0.5)
    broken, stop = list[Fault](), threading.Event()
    assert numbers([each.event for each in site.reader.read(None, broken.append)]) == [0, 1, 3, 5]
    assert [str(fault) for fault in broken] == [str(broken[0])] and first.writer.id.hex() in str(broken[0])
    with pytest.raises(JournalFault):
        site.events()
    following = site.reader.follow(0.005, stop, broken=broken.append)
    assert numbers([next(following).event for _ in range(4)]) == [0, 1, 3, 5]
    second.journal.append(admitted(7))
    assert next(following).event.details["number"] == 7
    first.files[0].write_bytes(data)
    assert numbers([next(following).event for _ in range(2)]) == [2, 4], "restored, it goes on where it broke"
    stop.set()
    assert {str(fault) for fault in broken} == {str(broken[0])}
    second.end()


def test_what_was_kept_is_read_alone_as_it_is_read_with_its_event(site: Site) -> None:
    first, second = site.process(), site.process()
    for record in (1, 2):
        first.journal.append(stored(record))
        first.journal.append(admitted())
        second.journal.append(stored(record + 7))
    told = [each.event.settled for each in site.reader.read() if each.event.settled is not None]
    assert sorted(told, key=repr) == sorted(site.reader.settled(), key=repr)
    assert len(told) == 4
    first.end(), second.end()
    (site.path / "writers" / first.writer.id.hex() / "keyring").unlink()
    alone = JournalReader(site.path, Keyring.open(site.path, site.key, None))
    assert [each.location.record for each in alone.settled()] == [8, 9], "a box whose key is gone stays shut"


# ---- torn tails


def test_torn_at_every_byte_of_the_last_record(site: Site) -> None:
    process, path, data, at = three(site)
    for end in range(at[2], len(data)):
        path.write_bytes(data[:end])
        assert numbers(site.events()) == [0, 1]
        recovered = site.recover(process.writer.id)
        assert (recovered.durable, recovered.last, recovered.cut_bytes) == (
            1,
            2,
            end - at[2] - _zeros(data[at[2] : end]),
        )
        assert path.read_bytes() == data[: at[2]]
    assert numbers(site.events()) == [0, 1]
    for end in range(HEAD_LENGTH_BYTES):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data[:end])
        assert site.events() == []
        assert site.recover(process.writer.id).last == 0
        assert not path.exists()


def _zeros(data: bytes) -> int:
    """Zeros at the end are as good as room set aside."""
    return len(data) - len(data.rstrip(b"\0"))


def test_what_was_set_aside_is_no_tail(site: Site) -> None:
    process = site.process()
    for number in range(2):
        process.journal.record(admitted(number))
    writer_id = process.die()
    assert numbers(site.events()) == [0, 1]
    recovered = site.recover(writer_id)
    assert (recovered.durable, recovered.last, recovered.cut_bytes) == (1, 2, 0), "1 to 2 is the unsynced range"
    assert process.files[0].stat().st_size < 2000
    assert numbers(site.events()) == [0, 1]
    assert site.recover(writer_id) == recovered


def test_a_break_below_a_later_mark_is_a_loss(site: Site) -> None:
    process, path, data, at = three(site)
    for flip in range(at[0], at[1]):
        path.write_bytes(data[:flip] + bytes([data[flip] ^ 0x40]) + data[flip + 1 :])
        with pytest.raises(JournalFault, match="was durable, and is broken"):
            site.recover(process.writer.id)
        assert path.stat().st_size == len(data), "nothing is cut where something was lost"


def test_a_hole_in_what_was_never_synced_is_a_tail(site: Site) -> None:
    process = site.process(reserve_bytes=0)
    for number in range(4):
        process.journal.append(admitted(number))
    writer_id = process.die()
    path = process.files[0]
    data = path.read_bytes()
    at = offsets(data)
    path.write_bytes(data[: at[2]] + bytes(at[3] - at[2]) + data[at[3] :])
    assert numbers(site.events()) == [0, 1]
    assert site.recover(writer_id).last == 2
    assert numbers(site.events()) == [0, 1]


def test_a_torn_tail_may_reach_over_two_files(site: Site) -> None:
    process = site.process(file_length_max_bytes=1000, reserve_bytes=0)
    for number in range(6):
        process.journal.append(admitted(number))
    writer_id = process.die()
    first, second = process.files
    first.write_bytes(first.read_bytes()[:-1])
    recovered = site.recover(writer_id)
    assert recovered.last == 3 and recovered.cut_bytes > 0 and not second.exists()
    assert numbers(site.events()) == [0, 1, 2]


def test_a_crash_between_two_files_is_no_loss(site: Site) -> None:
    process = site.process(file_length_max_bytes=1000, reserve_bytes=0)
    for number in range(5):
        process.journal.record(admitted(number))
    writer_id = process.die()
    with process.files[0].open("ab") as file:
        file.write(bytes(5000))  # what was set aside, and not yet given back
    assert numbers(site.events()) == list(range(5))
    assert site.recover(writer_id).last == 5
    assert numbers(site.events()) == list(range(5))


def test_a_cursor_into_what_was_cut_is_no_trouble(site: Site) -> None:
    process, path, data, at = three(site)
    cursors = site.reader.end()
    path.write_bytes(data[: at[2] + 9])
    site.recover(process.writer.id)
    site.seal(process.writer.id)
    assert list(site.reader.read(cursors)) == []


# ---- changes


def test_every_flipped_bit_of_a_sealed_writer_is_found(site: Site) -> None:
    process, path, data, _ = three(site)
    site.seal(process.writer.id)
    assert numbers(site.events()) == [0, 1, 2]
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with pytest.raises((JournalFault, KeyFault)) as found:
            site.events()
        assert str(path.name) in str(found.value)


def test_a_missing_end_of_a_sealed_writer_is_found(site: Site) -> None:
    process, path, data, at = three(site)
    site.seal(process.writer.id)
    for end in (len(data) - 1, at[2] + 20, HEAD_LENGTH_BYTES - 1):
        path.write_bytes(data[:end])
        with pytest.raises(JournalFault):
            site.events()


def test_a_record_left_out_is_found_without_keys(site: Site) -> None:
    _, path, data, at = three(site)
    path.write_bytes(data[: at[1]] + data[at[2] :])
    with pytest.raises(JournalFault, match="does not follow"):
        site.events()


def test_who_can_compute_checksums_and_chains_but_has_no_key_is_found(site: Site) -> None:
    """The middle record is rewritten, and the checksum and chain of all that follows made right."""
    _, path, data, at = three(site)
    records = [bytearray(data[start:end]) for start, end in itertools.pairwise(at)]
    records[1][60] ^= 1
    chain = hashlib.sha256(data[:HEAD_LENGTH_BYTES]).digest()
    for record in records:
        chain = hashlib.sha256(chain + record[:-36]).digest()
        record[-36:-4] = chain
        record[-4:] = zlib.crc32(record[:-4]).to_bytes(4, "big")
    path.write_bytes(data[:HEAD_LENGTH_BYTES] + b"".join(records))
    reading = site.reader.read()
    assert next(reading).sequence == 1
    with pytest.raises(JournalFault, match="was changed"):
        next(reading)
    broken, stop = list[Fault](), threading.Event()
    assert sum(1 for _ in site.reader.verified(broken.append)) == 1 and "was changed" in str(broken[0])
    following = site.reader.follow(0.005, stop, broken=broken.append)
    assert next(following).sequence == 1
    threading.Timer(0.05, stop.set).start()
    assert list(following) == [], "nothing behind it is taken, however often it is tried"
    assert len(broken) > 2 and len({str(fault) for fault in broken}) == 1


def test_files_cannot_be_exchanged_left_out_or_given_to_another(site: Site) -> None:
    process = site.process(file_length_max_bytes=1000, reserve_bytes=0)
    for number in range(8):
        process.journal.append(admitted(number))
    other = site.process()
    other.journal.append(admitted())
    process.end(), other.end()
    first, second, third, *_ = process.files
    kept = second.read_bytes()
    shutil.copy(third, second)
    with pytest.raises(JournalFault, match="renamed"):
        site.events()
    second.write_bytes(kept)
    assert len(site.events()) == 9
    shutil.copy(first, other.files[0])
    with pytest.raises(JournalFault, match="another writer"):
        site.events()


def test_another_site_key_is_named(site: Site, tmp_path: Path) -> None:
    three(site)
    other = SiteKey.create(tmp_path / "other.key")
    with pytest.raises(KeyFault, match="another site key"):
        list(JournalReader.open(tmp_path, Keyring.open(tmp_path, other, None)).read())


def test_a_head_that_names_another_key_silences_nobody_else(site: Site) -> None:
    forged, sound = site.process(), site.process()
    forged.journal.append(admitted(0)), sound.journal.append(admitted(1))
    forged.end(), sound.end()
    data = bytearray(forged.files[0].read_bytes())
    at = data.index(decode_head(bytes(data)).key_id)
    data[at] ^= 1
    data[HEAD_LENGTH_BYTES - 4 : HEAD_LENGTH_BYTES] = zlib.crc32(data[: HEAD_LENGTH_BYTES - 4]).to_bytes(4, "big")
    forged.files[0].write_bytes(data)
    broken = list[Fault]()
    assert numbers([each.event for each in site.reader.read(None, broken.append)]) == [1]
    assert list(site.reader.verified(broken.append))
    assert [type(each) for each in (*broken, *site.reader.ends({})[1])] == [KeyFault] * 3


def test_a_newer_format_is_refused_with_a_clear_word(site: Site) -> None:
    process, path, data, _ = three(site)
    site.seal(process.writer.id)
    head = data[:9] + b"\x07" + data[10 : HEAD_LENGTH_BYTES - 4]
    path.write_bytes(head + zlib.crc32(head).to_bytes(4, "big") + data[HEAD_LENGTH_BYTES:])
    with pytest.raises(JournalFault, match="format version 7, this program knows 1: upgrade"):
        site.events()


def test_reading_beside_a_busy_writer_never_sees_a_break(site: Site) -> None:
    process, ended = site.process(file_length_max_bytes=20_000, reserve_bytes=5000), threading.Event()

    def write() -> None:
        for number in range(1500):
            process.journal.append(admitted(number))
            if number % 50 == 0:
                process.journal.sync()
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not ended.is_set():
        seen = numbers(site.events())
        assert seen == list(range(len(seen)))
    thread.join()
    assert numbers(site.events()) == list(range(1500))
    process.end()
