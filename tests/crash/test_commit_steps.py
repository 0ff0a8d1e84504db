"""Every write of the commit, broken as failed and as failed but persisted; then the site is opened again and must be exactly so.

The process dies at the write (kill: what was written stays; power cut: only what was synced does), or it lives and the write fails.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leadglass.archive.backends.memory import MemoryObjects
from leadglass.archive.walk import walk
from leadglass.terms import Fault, Refused, Standing
from tests.archive.place import Place, Process, content

FIRST, SECOND = content(3_000, "first"), content(90_000, "second")
STORE_WRITES = ("create", "seal", "remove")
FILE_WRITES = ("write", "sync", "truncate")
INDEX_WRITES = ("claim", "publish", "release_claim", "drop_claims")
KEYRING_WRITES = ("study_key", "sync")


class Killed(BaseException):
    """The process is gone."""


class Breaker:
    """Counts writes; the one that is due fails, before or after its effect. `names`: all that were counted."""

    def __init__(self, due: int, *, persisted: bool, error: Callable[[], BaseException]) -> None:
        self.due, self.persisted, self.error = due, persisted, error
        self.names: list[str] = []

    def around(self, owner: Any, methods: tuple[str, ...], label: str) -> None:
        for name in methods:
            setattr(owner, name, self._wrapped(getattr(owner, name), f"{label}.{name}"))

    def _wrapped(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def broken(*arguments: Any, **named: Any) -> Any:
            self.names.append(name)
            fires = len(self.names) == self.due
            if fires and not self.persisted:
                raise self.error()
            result = method(*arguments, **named)
            if fires:
                raise self.error()
            return result

        return broken


class BreakingStore:
    """The store of one process, with its writes counted."""

    def __init__(self, inner: MemoryObjects, breaker: Breaker) -> None:
        self._inner, self._breaker = inner, breaker
        breaker.around(self, STORE_WRITES, "store")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create(self, name: str) -> Any:
        return BreakingFile(self._inner.create(name), self._breaker)

    def seal(self, name: str) -> None:
        self._inner.seal(name)

    def remove(self, name: str) -> None:
        self._inner.remove(name)


class BreakingFile:
    def __init__(self, inner: Any, breaker: Breaker) -> None:
        self._inner = inner
        for name in ("name", "direct", "close"):
            setattr(self, name, getattr(inner, name))
        for name in FILE_WRITES:
            setattr(self, name, breaker._wrapped(getattr(inner, name), f"file.{name}"))


def broken_process(place: Place, store: MemoryObjects, breaker: Breaker) -> Process:
    place.store = BreakingStore(store, breaker)  # type: ignore[assignment]
    process = place.process()
    index, ring = Delegate(process.index), Delegate(process.keyring)
    breaker.around(index, INDEX_WRITES, "index")
    breaker.around(ring, KEYRING_WRITES, "keyring")
    parts = process.commit._parts
    for name, value in (("index", index), ("keyring", ring)):
        object.__setattr__(parts, name, value)
    process.commit._publisher._index = process.commit.claims._index = index
    return process


class Delegate:
    """Its own attributes first, then those of what it stands for (slots take no wrapped methods)."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def attempt(process: Process, streamed: bool) -> list[str]:
    """Two instances and one conflict; what was answered with success or as held."""
    answered = []
    for uid, data in (("1.2.1", FIRST), ("1.2.2", SECOND), ("1.2.1", SECOND)):
        process.store(uid, data)
        answered.append(f"{uid}/{len(data)}")
    process.segments.close()
    return answered


def check(place: Place, store: MemoryObjects, answered: list[str], label: str) -> None:
    """What lies in the segments, and nothing else, is there; what was answered is among it; everything can be stored again once."""
    place.store = store
    process = place.process()
    process.recovery.recover_all()
    records = [record for name in store.names() for record in walk(store, name).records]
    kept = [each for uid in ("1.2.1", "1.2.2") for each in process.index.versions(uid)]
    assert sorted(each.location.offset for each in kept) == sorted(each.location.offset for each in records), label
    keys = {f"{each.instance.sop_instance_uid}/{each.data_set_length}": each for each in kept}
    assert len(keys) == len(kept), f"{label}: stored twice"
    assert set(answered) <= set(keys), f"{label}: answered and lost"
    for each in kept:
        assert process.read(each) == (FIRST if each.data_set_length == len(FIRST) else SECOND), label
    first, second = process.store("1.2.1", FIRST), process.store("1.2.2", SECOND)
    assert (first.version, second.version) == (1, 1), label
    assert {first.standing, second.standing} == {Standing.CURRENT}, label
    assert process.store("1.2.1", SECOND).version == 2, f"{label}: a claim stayed"
    process.die()
    reopened = place.process()
    reopened.recovery.recover_all()
    assert len(reopened.index.versions("1.2.1")) == 2, label
    assert len(reopened.index.versions("1.2.2")) == 1, label
    reopened.die()


def runs(tmp_path: Path, persisted: bool, limits: dict[str, int], error: Callable[[], BaseException]) -> Iterator[Any]:
    """One run for each write, until there is none left to break."""
    due = 0
    while True:
        due += 1
        site = tmp_path / str(due)
        store = MemoryObjects()
        place = Place(site, store, **limits)
        breaker = Breaker(due, persisted=persisted, error=error)
        process = broken_process(place, store, breaker)
        yield place, store, breaker, process
        if len(breaker.names) < due:
            assert due > 8, "nothing was broken"
            return


@pytest.mark.parametrize("limits", [{}, {"arrival_memory_max_bytes": 0}], ids=["memory", "streaming"])
@pytest.mark.parametrize("power", [False, True], ids=["kill", "power-cut"])
@pytest.mark.parametrize("persisted", [False, True], ids=["failed", "failed-but-persisted"])
def test_attack_61_the_process_dies_at_a_write(
    tmp_path: Path, persisted: bool, power: bool, limits: dict[str, int]
) -> None:
    for place, store, breaker, process in runs(tmp_path, persisted, limits, Killed):
        answered: list[str] = []
        try:
            for uid, data in (("1.2.1", FIRST), ("1.2.2", SECOND), ("1.2.1", SECOND)):
                process.store(uid, data)
                answered.append(f"{uid}/{len(data)}")
            process.segments.close()
        except Killed:
            pass
        process.die()
        check(place, store.power_cut() if power else store, answered, breaker.names[-1] + f" #{breaker.due}")


@pytest.mark.parametrize("limits", [{}, {"arrival_memory_max_bytes": 0}], ids=["memory", "streaming"])
@pytest.mark.parametrize("persisted", [False, True], ids=["failed", "failed-but-persisted"])
def test_attack_61_a_write_fails_and_the_process_lives(tmp_path: Path, persisted: bool, limits: dict[str, int]) -> None:
    for place, store, breaker, process in runs(tmp_path, persisted, limits, lambda: OSError(errno.EIO, "I/O error")):
        answered: list[str] = []
        for uid, data in (("1.2.1", FIRST), ("1.2.2", SECOND), ("1.2.1", SECOND)):
            try:
                process.store(uid, data)
                answered.append(f"{uid}/{len(data)}")
            except (Refused, Fault, OSError):
                if not process.fatal:
                    settled = process.store(uid, data)  # the sender tries again
                    assert process.read(settled) == data
                    answered.append(f"{uid}/{len(data)}")
        process.die()
        check(place, store, answered, f"{breaker.names[-1]} #{breaker.due}")
