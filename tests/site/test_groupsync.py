"""One sync serves all who wait; whoever arrives during one rides the next; an error is for everybody, forever."""

from __future__ import annotations

import threading

import pytest

from leadglass.site.groupsync import GroupSync, Sync
from leadglass.terms import JournalFault


class Disk:
    """Syncs when it is let."""

    def __init__(self) -> None:
        self.appended = 0
        self.syncs = 0
        self.begun, self.let = threading.Semaphore(0), threading.Semaphore(0)
        self.error: OSError | None = None

    def snapshot(self) -> tuple[int, Sync]:
        return self.appended, self._sync

    def _sync(self) -> None:
        self.syncs += 1
        self.begun.release()
        self.let.acquire()
        if self.error is not None:
            raise self.error


def waiter(group: GroupSync, number: int, ended: list[object]) -> threading.Thread:
    def run() -> None:
        try:
            group.through(number)
            ended.append(number)
        except JournalFault as fault:
            ended.append(str(fault))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_who_arrives_during_a_sync_rides_the_next_all_in_one() -> None:
    disk, ended = Disk(), list[object]()
    group = GroupSync(disk.snapshot, lambda error: JournalFault(str(error)))
    disk.appended = 1
    threads = [waiter(group, 1, ended)]
    disk.begun.acquire()
    disk.appended = 9
    threads += [waiter(group, number, ended) for number in range(2, 10)]
    disk.let.release()
    disk.begun.acquire()
    assert ended == [1], "the sync that was under way did not cover them"
    disk.let.release()
    for thread in threads:
        thread.join(10)
    assert sorted(ended) == list(range(1, 10))  # type: ignore[type-var]
    assert disk.syncs == 2
    assert group.durable == 9


def test_what_is_durable_needs_no_sync() -> None:
    disk = Disk()
    group = GroupSync(disk.snapshot, lambda error: JournalFault(str(error)))
    group.through(0)
    assert disk.syncs == 0


def test_after_an_error_everybody_hears_it_forever() -> None:
    disk, ended = Disk(), list[object]()
    group = GroupSync(disk.snapshot, lambda error: JournalFault("broken"))
    disk.appended = 1
    threads = [waiter(group, 1, ended)]
    disk.begun.acquire()
    disk.error = OSError(5, "EIO")
    disk.appended = 2
    threads.append(waiter(group, 2, ended))
    disk.let.release()
    for thread in threads:
        thread.join(10)
    assert ended == ["broken", "broken"]
    disk.error = None
    disk.let.release()
    with pytest.raises(JournalFault):
        group.through(3)
    with pytest.raises(JournalFault):
        group.through(0)
    assert disk.syncs == 1, "after an error nothing is tried again"
    assert group.durable == 0
