"""How far the journals had come is noted once it is durable; what goes, is cut or is another file afterwards is named, and nothing else is."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path

import pytest

from leadglass.audit.journal.ends import NOTE, Ends
from leadglass.doors.processes import journals
from leadglass.doors.processes.journals import NOTED_EVERY_SECONDS, JournalWatch
from leadglass.site.sitekey import SiteKey
from leadglass.terms import Detection, EventKind, JournalFault
from tests.audit.happened import Site, admitted


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def ends(site: Site) -> Ends:
    made = Ends(site.path, site.key)
    made.note({})
    return made


class Watch:
    """The keeper's, looking every ten seconds of a clock that is ours."""

    def __init__(self, site: Site, ends: Ends) -> None:
        self.watch, self.now = JournalWatch(site.reader, ends), 1_000.0

    def looks(self) -> list[Detection]:
        self.now += NOTED_EVERY_SECONDS
        return self.watch.notice(self.now)


def test_only_what_is_durable_is_noted(site: Site, ends: Ends) -> None:
    process, watch = site.process(), Watch(site, ends)
    process.journal.append(admitted(1))
    assert watch.looks() == [] and process.writer.id not in (ends.noted() or {})
    process.journal.record(admitted(2))
    process.journal.append(admitted(3))  # says that what was before it is durable
    assert watch.looks() == []
    assert (ends.noted() or {})[process.writer.id].sequence == 2
    process.end()
    assert watch.looks() == []
    assert (ends.noted() or {})[process.writer.id].sequence == 3, "its last words say that all of it is"
    site.seal(process.writer.id)
    assert watch.looks() == [] and (ends.noted() or {})[process.writer.id].final
    assert list(ends.lost()) == []


def test_it_goes_on_from_what_was_noted_over_many_files(site: Site, ends: Ends) -> None:
    process = site.process(file_length_max_bytes=1500, reserve_bytes=0)
    watch = Watch(site, ends)
    for number in range(20):
        process.journal.record(admitted(number))
        assert watch.looks() == []
    assert (ends.noted() or {})[process.writer.id].file > 2
    assert Watch(site, ends).looks() == [], "and whoever comes after a restart does too"
    process.end()


def ended(site: Site, ends: Ends, events: int = 9) -> list[Path]:
    """The files of a journal that was closed, and noted."""
    process = site.process(file_length_max_bytes=1500, reserve_bytes=0)
    for number in range(events):
        process.journal.record(admitted(number))
    site.seal(process.end())
    assert Watch(site, ends).looks() == []
    return process.files


def named(ends: Ends) -> str:
    (lost,) = ends.lost()
    return str(lost.fault)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_file_that_goes_is_named(site: Site, ends: Ends, which: int) -> None:
    files = ended(site, ends)
    gone = files[which]
    gone.unlink()
    assert f"{gone.name} is gone" in named(ends)


def test_the_whole_of_a_journal_that_goes_is_named(site: Site, ends: Ends) -> None:
    shutil.rmtree(ended(site, ends)[0].parent)
    assert "journal-00000001.ljn is gone" in named(ends)


def test_an_end_that_is_cut_at_a_record_is_named(site: Site, ends: Ends) -> None:
    """Where a journal of that length would be a sound one."""
    before = ended(site, ends, 2)[-1].stat().st_size
    again = ended(site, ends, 3)[-1]
    assert again.stat().st_size > before
    with again.open("r+b") as file:
        file.truncate(before)
    assert "ends before it" in named(ends)


def test_an_older_copy_in_its_place_is_named(site: Site, ends: Ends, tmp_path: Path) -> None:
    process, watch = site.process(reserve_bytes=0), Watch(site, ends)
    process.journal.record(admitted(1))
    (path,) = process.files
    yesterday = path.read_bytes()
    for number in range(5):
        process.journal.record(admitted(number))
    process.end()
    watch.looks()
    path.write_bytes(yesterday)
    assert "ends before it" in named(ends)


def test_another_history_of_the_same_length_is_named(site: Site, ends: Ends) -> None:
    """Sealed by whoever has the key, under the same writer's name."""
    clock = iter(range(10**18, 10**18 + 100))
    process = site.process(lambda: next(clock), reserve_bytes=0)
    (process.journal.record(admitted(1)), process.end())
    Watch(site, ends).looks()
    (path,) = process.files
    other = site.process(lambda: 10**18 + 50, reserve_bytes=0)
    (other.journal.record(admitted(2)), other.end())
    Watch(site, ends).looks()
    path.write_bytes(other.files[0].read_bytes())
    assert f"{path.name} is not the file that it was" in named(ends)


def test_it_is_told_once_and_stays_noted_until_it_is_back(site: Site, ends: Ends) -> None:
    files, watch = ended(site, ends), Watch(site, ends)
    kept = files[-1].read_bytes()
    files[-1].unlink()
    (told,) = watch.looks()
    assert told.kind is EventKind.JOURNAL_LOST and "is gone" in told.reason
    assert watch.looks() == []
    assert [each.kind for each in Watch(site, ends).looks()] == [EventKind.JOURNAL_LOST], "again after a restart"
    files[-1].write_bytes(kept)
    assert Watch(site, ends).looks() == [] and list(ends.lost()) == []


def test_a_note_that_is_gone_changed_or_of_another_key_is_told(site: Site, ends: Ends, tmp_path: Path) -> None:
    ended(site, ends)
    note = site.path / NOTE
    sealed = note.read_bytes()
    note.unlink()
    (told,) = Watch(site, ends).looks()
    assert "nobody knows how far they had come" in told.reason
    assert Watch(site, ends).looks() == [], "from then on it is noted anew"
    note.write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(JournalFault, match="cannot be read"):
        list(ends.lost())
    assert len(Watch(site, ends).looks()) == 1
    other = Ends(site.path, SiteKey.create(tmp_path / "other.key"))
    other.note({})
    with pytest.raises(JournalFault):
        ends.noted()


@pytest.mark.parametrize("how", ["removed", "put back as it was", "changed"])
def test_a_note_that_goes_while_the_site_runs_hides_nothing(site: Site, ends: Ends, how: str) -> None:
    """What the keeper knows counts, not what somebody makes of its note."""
    watch, empty = Watch(site, ends), (site.path / NOTE).read_bytes()
    process = site.process(reserve_bytes=0)
    for number in range(3):
        process.journal.record(admitted(number))
    site.seal(process.end())
    assert watch.looks() == []
    process.files[0].unlink()
    note = site.path / NOTE
    match how:
        case "removed":
            note.unlink()
        case "put back as it was":
            note.write_bytes(empty)
        case _:
            note.write_bytes(b"what?" * 20)
    watch.watch._times = count()  # the next look is one at all of them
    told = [each.reason for each in watch.looks()]
    assert len(told) == 2 and ".journal-ends" in told[0] and "is gone" in told[1]
    assert "is gone" in named(ends), "and it is noted again for whoever starts next"


def test_a_broken_journal_keeps_no_other_from_being_noted(site: Site, ends: Ends) -> None:
    broken, sound = site.process(reserve_bytes=0), site.process(reserve_bytes=0)
    for process in (broken, sound):
        for number in range(3):
            process.journal.record(admitted(number))
    (path,) = broken.files
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert [each.kind for each in Watch(site, ends).looks()] == [EventKind.JOURNAL_LOST]
    assert sound.writer.id in (ends.noted() or {})
    broken.die(), sound.end()


def test_what_nobody_reads_any_more_is_read_again_in_turn(
    site: Site, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "READ_AGAIN_BYTES", 1000)
    old, *_ = ended(site, ends), ended(site, ends)
    watch = Watch(site, ends)
    for _ in range(20):
        assert watch.looks() == []
    data = bytearray(old[1].read_bytes())
    data[len(data) // 2] ^= 1
    old[1].write_bytes(data)
    told = [each for _ in range(20) for each in watch.looks()]
    assert [each.kind for each in told] == [EventKind.JOURNAL_LOST], "once, whenever it comes round again"
    assert str(old[1]) in told[0].reason and "restore it from a backup" in told[0].reason
