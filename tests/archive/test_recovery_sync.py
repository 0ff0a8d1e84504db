"""What recovery tells others is durable: a power cut after it takes nothing back that a writer which was killed had left unsynced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from leadglass.archive.backends.memory import MemoryObjects, MemorySegment
from leadglass.terms import Fault
from tests.archive.place import Place, content


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of every file and directory that is synced, in order."""
    names: list[str] = []

    def noted(real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(descriptor: int) -> None:
            names.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
            real(descriptor)

        return sync

    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, noted(getattr(os, name)))
    return names


def test_a_record_whose_sync_never_came_is_synced_before_it_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryObjects()
    place = Place(tmp_path / "site", store)
    process = place.process()
    process.store("1.2.1", content(5_000))
    claimed = process.claim("1.2.2", content(70_000))
    with monkeypatch.context() as killed:
        killed.setattr(MemorySegment, "sync", lambda self: os.read(-1, 0))  # an OSError: the process must end
        with pytest.raises(Fault):
            process.keep(claimed)
    process.die()
    recovering = place.process()
    recovering.recovery.recover_all()
    known = recovering.store("1.2.2", content(70_000))  # the sender hears success, and nothing is written for it
    recovering.die()
    place.store = store.power_cut()
    after = place.process()
    after.recovery.recover_all()
    assert after.read(known) == content(70_000)
    place.close()


def test_all_that_a_dead_writer_left_is_synced_before_it_counts_as_recovered(place: Place, synced: list[str]) -> None:
    process = place.process()
    kept = process.keep(process.claim("1.2.2", content(70_000)))
    dead = process.writer.id.hex()
    process.die()
    recovering = place.process()
    synced.clear()
    recovering.recovery.recover_all()
    for name in ("keyring", dead, kept.location.segment, "objects"):  # keys before what they open
        assert name in synced, name
        del synced[: synced.index(name) + 1]


def test_the_index_is_durable_although_somebody_reads(place: Place, synced: list[str]) -> None:
    """A reader in the middle of an older state keeps a checkpoint from copying, and so from syncing, what came after it."""
    process = place.process()
    process.keep(process.claim("1.2.2", content(70_000)))
    process.die()
    recovering = place.process()
    recovering.index.checkpoint()
    with recovering.index._readers.one() as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM versions").fetchall()
        synced.clear()
        recovering.recovery.recover_all()
        reading.execute("COMMIT")
    assert "index.db-wal" in synced
