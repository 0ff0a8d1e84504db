from __future__ import annotations

import os
from pathlib import Path

import pytest

from leadglass.terms import Event, EventKind, Outcome
from tests.audit.happened import Site


def test_events_that_recovery_lets_stand_are_durable_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was killed may not have synced them, and nobody else ever would: a power cut later would take back what was read meanwhile."""
    site = Site(tmp_path)
    process = site.process()
    process.journal.append(Event(EventKind.INSTANCE_STORED, Outcome.SUCCESS, actor="CT1"))
    writer_id = process.die()
    synced, real = [], os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    site.recover(writer_id)
    assert [name for name in synced if name.endswith(".ljn")] == [process.files[-1].name]
    assert synced[-1] == writer_id.hex()
    assert len(site.events()) == 1


def test_the_last_record_of_a_closed_journal_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sealed writer is not recovered: where a power cut tore the record that closes its journal, nobody would cut it."""
    process = Site(tmp_path).process()
    process.journal.append(Event(EventKind.INSTANCE_STORED, Outcome.SUCCESS, actor="CT1"))
    path, done = process.files[-1], []
    for name in ("pwrite", "ftruncate", "fdatasync"):
        real = getattr(os, name)

        def noted(descriptor: int, *rest: object, name: str = name, real: object = real) -> object:
            if os.readlink(f"/proc/self/fd/{descriptor}") == str(path):
                done.append(name)
            return real(descriptor, *rest)  # type: ignore[operator]

        monkeypatch.setattr(os, name, noted)
    process.journal.close()
    assert done[-3:] == ["pwrite", "ftruncate", "fdatasync"]
