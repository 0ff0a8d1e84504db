"""Appending: durable when `record` returns and within a second otherwise; one sync for all; nothing taken where there is no room."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from leadglass.audit.journal import append as module
from leadglass.audit.journal.format import HEAD_LENGTH_BYTES
from leadglass.site.keyring import Keyring
from leadglass.terms import JournalFault, StoreFault
from tests.audit.happened import Site, about, admitted, refused, stored


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


class Syncs:
    """Counts syncs, and fails them when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.fail = 0, False
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self)
        monkeypatch.setattr(module, "FLUSH_EVERY_SECONDS", 3600.0)

    def __call__(self, file: int) -> None:
        self.count += 1
        if self.fail:
            raise OSError(5, "Input/output error")
        self._real(file)


def test_sequences_count_and_everything_comes_back(site: Site) -> None:
    process = site.process()
    events = [admitted(1), stored(), refused(), admitted(2)]
    assert [process.journal.append(event) for event in events] == [1, 2, 3, 4]
    assert site.events() == events, "read before it is synced"
    assert process.journal.record(admitted(3)) == 5
    process.end()
    assert site.events() == [*events, admitted(3)]


def test_append_syncs_nothing_record_does_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = Syncs(monkeypatch)
    process = site.process()
    for number in range(10):
        process.journal.append(admitted(number))
    assert syncs.count == 0 and process.journal.oldest_unsynced_seconds() > 0
    process.journal.record(admitted())
    assert syncs.count == 1 and process.journal.oldest_unsynced_seconds() == 0
    process.journal.sync()
    assert syncs.count == 1
    process.end()


def test_a_key_is_durable_before_the_box_it_opens(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = os.fdatasync

    def sync(file: int) -> None:
        order.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)
        real(file)

    monkeypatch.setattr(os, "fdatasync", sync)
    process = site.process()
    process.journal.record(stored())
    assert order == ["keyring", "keyring", "journal-00000001.ljn"], "its head, its entry, the box"
    process.end()


def test_what_nobody_waits_for_is_synced_soon(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_EVERY_SECONDS", 0.01)
    process = site.process()
    process.journal.append(admitted())
    for _ in range(1000):
        if process.journal.oldest_unsynced_seconds() == 0:
            break
        time.sleep(0.01)
    assert process.journal.oldest_unsynced_seconds() == 0
    assert process.journal._group.durable == 1
    process.end()


def test_two_threads_that_wait_share_one_sync(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = Syncs(monkeypatch)
    process = site.process()
    recorded: list[int] = []

    def record() -> None:
        recorded.extend(process.journal.record(admitted(number)) for number in range(50))

    threads = [threading.Thread(target=record) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(recorded) == list(range(1, 401))
    assert syncs.count <= 400
    assert [each.sequence for each in site.reader.read()] == list(range(1, 401))
    process.end()


def test_appending_does_not_wait_for_a_sync(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, let = threading.Event(), threading.Event()
    real = os.fdatasync

    def slow(file: int) -> None:
        begun.set()
        assert let.wait(30)
        real(file)

    monkeypatch.setattr(os, "fdatasync", slow)
    process = site.process()
    waiting = threading.Thread(target=process.journal.record, args=(admitted(1),))
    waiting.start()
    assert begun.wait(30)
    assert [process.journal.append(admitted(number)) for number in (2, 3)] == [2, 3]
    assert waiting.is_alive()
    let.set()
    waiting.join()
    process.end()


def test_a_failed_sync_is_final_for_everybody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = Syncs(monkeypatch)
    process = site.process()
    process.journal.record(admitted(1))
    syncs.fail = True
    with pytest.raises(JournalFault):
        process.journal.record(admitted(2))
    syncs.fail = False
    for act in (process.journal.append, process.journal.record):
        with pytest.raises(JournalFault):
            act(admitted(3))
    with pytest.raises(JournalFault):
        process.journal.sync()
    assert process.fatal == [True]
    assert syncs.count == 2, "after an error nothing is tried again"
    with pytest.raises(JournalFault):
        process.journal.close()
    process.writer.close()
    assert [event.details["number"] for event in site.events()] == [1, 2]


def test_a_failed_sync_of_the_keyring_is_final_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = Syncs(monkeypatch)
    process = site.process()
    process.journal.append(stored())  # the keyring's head is durable, its entry not yet
    syncs.fail = True
    with pytest.raises(JournalFault, match="keyring"):
        process.journal.record(stored())
    assert process.fatal == [True]
    with pytest.raises(JournalFault):
        process.journal.append(admitted())
    process.die()


class Disk:
    """A disk with so much room; what is written within what was set aside needs none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 1 << 40
        self._pwrite, self._allocate = os.pwrite, os.posix_fallocate
        monkeypatch.setattr(os, "pwrite", self.pwrite)
        monkeypatch.setattr(os, "posix_fallocate", self.allocate)

    def _take(self, wanted: int) -> int:
        taken = min(wanted, self.free)
        if wanted > 0 and not taken:
            raise OSError(28, "No space left on device")
        self.free -= taken
        return taken

    def pwrite(self, file: int, data: bytes, offset: int) -> int:
        beyond = offset + len(data) - max(offset, os.fstat(file).st_size)
        length = len(data) if beyond <= 0 else len(data) - beyond + self._take(beyond)
        return self._pwrite(file, data[:length], offset)

    def allocate(self, file: int, offset: int, length: int) -> None:
        if length > self.free:
            raise OSError(28, "No space left on device")
        self._take(length)
        self._allocate(file, offset, length)


def test_a_full_disk_uses_the_reserve_then_takes_nothing_then_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    process = site.process(reserve_bytes=4000)
    process.journal.append(admitted(0))
    disk.free = 100
    taken = 1
    with pytest.raises(StoreFault, match="no room"):
        for number in range(1, 100):
            process.journal.append(admitted(number))
            taken += 1
    assert taken > 4, "the reserve kept it going"
    with pytest.raises(StoreFault, match="no room"):
        process.journal.append(admitted(taken))
    assert process.fatal == []
    process.journal.sync()
    disk.free = 1 << 30
    assert process.journal.record(admitted(taken)) == taken + 1
    writer_id = process.die()
    assert [event.details["number"] for event in site.events()] == list(range(taken + 1))
    assert site.recover(writer_id).cut_bytes == 0


def test_a_disk_that_fails_is_final(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    process = site.process()
    process.journal.record(admitted(1))

    def fails(file: int, data: bytes, offset: int) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fails)
        with pytest.raises(JournalFault):
            process.journal.append(admitted(2))
    with pytest.raises(JournalFault):
        process.journal.append(admitted(3))
    assert process.fatal == [True]
    process.die()


def test_files_turn_over_by_length_and_by_month(site: Site) -> None:
    november, december = 1_795_000_000_000_000_000, 1_797_000_000_000_000_000
    now = [november]
    process = site.process(lambda: now[0], file_length_max_bytes=1000, reserve_bytes=300)
    for number in range(12):
        process.journal.append(admitted(number))
    by_length = len(process.files)
    now[0] = december
    process.journal.append(admitted(12))
    assert by_length > 2 and len(process.files) == by_length + 1
    assert all(path.stat().st_size <= 1000 for path in process.files[:-1]), "what was set aside is given back"
    assert [each.sequence for each in site.reader.read()] == list(range(1, 14))
    process.end()
    assert [event.details["number"] for event in site.events()] == list(range(13))


def test_closing_gives_the_reserve_back_and_ends_it(site: Site) -> None:
    process = site.process()
    process.journal.append(admitted())
    assert process.files[0].stat().st_size > module.RESERVE_BYTES
    process.journal.close()
    process.journal.close()
    assert process.files[0].stat().st_size < 2000
    with pytest.raises(JournalFault, match="closed"):
        process.journal.append(admitted())
    process.writer.close()
    recovered = site.recover(process.writer.id)
    assert (recovered.durable, recovered.last, recovered.cut_bytes) == (1, 1, 0)


def test_who_appends_nothing_leaves_nothing(site: Site) -> None:
    process = site.process()
    process.end()
    assert not process.writer.directory.exists()


def test_strangers_are_counted_and_never_synced(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = Syncs(monkeypatch)
    process = site.process()
    for _ in range(100):
        process.journal.note_refusal(refused("10.99.0.1"))
    process.journal.note_refusal(refused("10.99.0.2"))
    assert syncs.count == 0
    assert [event.address for event in site.events()] == ["10.99.0.1"] * 5 + ["10.99.0.2"]
    process.end()
    summary = site.events()[-1]
    assert summary.address == "10.99.0.1" and summary.details["count"] == 95 and "95 further" in summary.reason


def test_a_stranger_hides_no_refusal_of_a_device_at_the_same_address(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = Syncs(monkeypatch)
    process = site.process()
    for _ in range(20):
        process.journal.note_refusal(refused("10.99.0.1"))
    assert syncs.count == 0
    for _ in range(20):
        process.journal.note_refusal(about(refused("10.99.0.1"), actor="CT1"))
    assert syncs.count == 5, "what a device hears is durable before"
    assert [event.actor for event in site.events()] == [""] * 5 + ["CT1"] * 5
    process.end()
    told = {event.actor: (event.address, event.details["count"]) for event in site.events()[-2:]}
    assert told == {"": ("10.99.0.1", 15), "CT1": ("10.99.0.1", 15)}


def test_an_event_that_is_too_long_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_LENGTH_MAX_BYTES", 1000)
    process = site.process()
    with pytest.raises(StoreFault):
        process.journal.append(about(admitted(), reason="x" * 1000))
    assert process.journal.append(admitted()) == 1
    process.end()


def test_no_nonce_comes_twice(site: Site) -> None:
    process = site.process()
    for _ in range(200):
        process.journal.append(admitted())
    data = process.files[0].read_bytes()
    nonces, offset = set(), HEAD_LENGTH_BYTES
    for _ in range(200):
        length = 4 + int.from_bytes(data[offset : offset + 4], "big")
        nonces.add(data[offset + 32 : offset + 44])
        offset += length
    assert len(nonces) == 200
    process.end()


def test_nothing_in_the_files_is_readable(site: Site, tmp_path: Path) -> None:
    process = site.process()
    process.journal.record(stored())
    process.journal.record(admitted())
    process.end()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for secret in (b"PAT-4711", b"1.2.840.4711", b"DOE^JANE", b"10.20.1.11", b"ct-stores"):
                assert secret not in data, path
    assert Keyring.open(tmp_path, site.key, None).studies() == 1
