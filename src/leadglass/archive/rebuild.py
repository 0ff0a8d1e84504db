"""Can the index be made again? From the segments alone, or from the journals with the segments for what they lack; both give the same.

It runs beside living writers. A new epoch grows while they write to the old one; then a short barrier, in which the index is not written,
the rest is read and the new epoch takes the old one's place. Reading never stops.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from leadglass.archive.barrier import Barrier
from leadglass.archive.conflicts import Conflicts, forward, forwarded
from leadglass.archive.index import Index
from leadglass.archive.objects import ObjectStore, Readable
from leadglass.archive.read import open_change, open_record
from leadglass.archive.records import FormatBroken, RecordKind, StandingChange
from leadglass.archive.seal import SealBroken
from leadglass.archive.walk import Found, Walked, walk, walk_on
from leadglass.archive.window import Window
from leadglass.site.keyring import Keyring
from leadglass.site.writer import writers
from leadglass.terms import Erased, Location, Settled, StoreFault

BATCH_RECORDS = 5_000  # a few megabytes; what they have in common is written once
LOSSES_NAMED_MAX = 20
PASSES_MAX = 5
REST_RECORDS_MAX = 100  # so few may be left for the barrier

T = TypeVar("T")
RecordId = tuple[bytes, int]  # writer and record number


@dataclass(slots=True)
class _Work:
    """What a rebuild has done so far. `done`: how far each segment was read; `sealed`: writers of which everything counts.

    `told`: records that journals told of; those among them that no segment has are a loss. `growing`: segments that may yet be
    read further, with the records that were not known to be durable when they were seen.
    """

    fresh: Index
    sealed: frozenset[bytes]
    told: set[RecordId] = field(default_factory=set)
    seen: set[RecordId] = field(default_factory=set)
    changes: dict[RecordId, StandingChange] = field(default_factory=dict)
    forwarded: set[RecordId] = field(default_factory=set)
    done: dict[str, int] = field(default_factory=dict)
    growing: dict[str, Walked] = field(default_factory=dict)
    published: int = 0
    erased: int = 0  # records that nothing opens any more


@dataclass(frozen=True, slots=True)
class Rebuild:
    """`journalled`: what stored events say, a fast path; it may lack records, never invent one."""

    site_dir: Path
    store: ObjectStore
    index: Index
    keyring: Keyring
    barrier: Barrier
    journalled: Callable[[], Iterable[Settled]] = tuple

    def run(self, progress: Callable[[int, int], None]) -> Mapping[str, object]:
        """`progress`: segments read, segments there.

        Raises StoreFault where a record that settled cannot be read; nothing is exchanged then.
        """
        with _uncollected():
            return self._rebuilt(progress)

    def _rebuilt(self, progress: Callable[[int, int], None]) -> Mapping[str, object]:
        started = time.monotonic()
        fresh = self.index.next_epoch()
        try:
            work = _Work(fresh, frozenset(state.id for state in writers(self.site_dir) if state.sealed))
            self._from_journals(work)
            # 1. Beside living writers, again and again until little is left. A crash here leaves a file that nobody opens.
            self._pass(work, progress)
            fresh.settle()
            self._forward(work)
            for _ in range(PASSES_MAX):
                if self._pass(work, progress) <= REST_RECORDS_MAX:
                    break
            held = time.monotonic()
            with self.barrier.exclusive():
                # 2. Nobody writes the index: what settled meanwhile, then the standings that are left: now every version is there.
                self._pass(work, progress)
                self._answered(work)
                self._refuse_loss(work)
                for record_id in work.changes.keys() - work.forwarded:
                    forward(fresh, work.changes[record_id], lacking=bool(work.erased))
                # 3. The exchange is one rename. A crash before it: the old epoch serves on. A crash after it: the new one does.
                self.index.exchange(fresh)
            paused = time.monotonic() - held
        except BaseException:
            fresh.close()
            raise
        return {
            "records": work.published,
            "standing_changes": len(work.changes),
            "segments": len(work.done),
            "erased": work.erased,
            "seconds": round(time.monotonic() - started, 3),
            "barrier_seconds": round(paused, 3),
        }

    def _from_journals(self, work: _Work) -> None:
        batch: list[Settled] = []
        for settled in self.journalled():
            batch.append(settled)
            work.told.add((settled.writer, settled.location.record))
            if len(batch) == BATCH_RECORDS:
                self._publish(work, batch)
                batch = []
        self._publish(work, batch)

    def _forward(self, work: _Work) -> None:
        """Those changes whose versions are there already: a standing only moves forward, so their order is nobody's concern."""
        for record_id, change in work.changes.items():
            known = {each.version for each in work.fresh.versions(change.sop_instance_uid)}
            if known.issuperset(each.version for each in change.versions):
                forward(work.fresh, change)
                work.forwarded.add(record_id)

    def _answered(self, work: _Work) -> None:
        """Changes that no mark covers yet, and the index that serves shows: who made them was told so. Any other comes after the barrier."""
        for walked in work.growing.values():
            for record in walked.records:
                if record.head.kind is RecordKind.STANDING_CHANGE:
                    with suppress(Erased):
                        change = self._opened(open_change, self.store, record)
                        if forwarded(self.index, change, lacking=bool(work.erased)):
                            work.changes[record.head.writer, record.head.number] = change

    def _refuse_loss(self, work: _Work) -> None:
        lost = sorted(f"record {number} of {writer.hex()}" for writer, number in work.told - work.seen)
        if lost:
            raise StoreFault(
                "settled, says the journal, and in no segment: " + ", ".join(lost[:LOSSES_NAMED_MAX]), hint=_RESTORE
            )

    def _pass(self, work: _Work, progress: Callable[[int, int], None]) -> int:
        """Reads what grew since the last pass; how many records were new."""
        names, seen = list(self.store.names()), len(work.seen)
        for number, name in enumerate(names, start=1):
            size = self._size(name)
            if size != work.done.get(name) or name in work.growing:
                self._segment(work, name)
                work.done[name] = size
            progress(number, len(names))
        return len(work.seen) - seen

    def _size(self, name: str) -> int:
        try:
            return self.store.size(name)
        except FileNotFoundError:  # a stream that was discarded since it was listed
            return 0

    def _segment(self, work: _Work, name: str) -> None:
        walked = work.growing.pop(name, None)
        try:
            if walked is None:
                walked = walk(self.store, name)
            else:
                walk_on(self.store, walked)
        except FileNotFoundError:
            return
        if walked.lost:
            raise StoreFault(f"{walked.name} at {walked.broken_at}: {walked.what}", hint=_RESTORE)
        durable = self._durable(work, walked)
        records, walked.records = walked.records, [each for each in walked.records if not durable(each)]
        if walked.records or not walked.closed:
            work.growing[name] = walked
        self._take(work, Window(self.store, name), filter(durable, records))

    def _take(self, work: _Work, window: Window, records: Iterable[Found]) -> None:
        """Each of these records once: of an instance, into the index; of a standing change, for later."""
        batch: list[Settled] = []
        for record in records:
            record_id = record.head.writer, record.head.number
            if record_id in work.seen:
                continue
            work.seen.add(record_id)
            if record_id in work.told:
                continue
            try:
                if record.head.kind is RecordKind.STANDING_CHANGE:
                    work.changes[record_id] = self._opened(open_change, window, record)
                    continue
                facts = self._opened(open_record, window, record).facts
            except Erased:
                work.erased += 1
                continue
            batch.append(facts.settled(record.head.writer, record.location))
            if len(batch) == BATCH_RECORDS:
                self._publish(work, batch)
                batch = []
        self._publish(work, batch)

    def _opened(self, how: Callable[[Readable, Keyring, Location], T], store: Readable, record: Found) -> T:
        try:
            return how(store, self.keyring, record.location)
        except (FormatBroken, SealBroken) as error:
            where = record.location
            raise StoreFault(f"{where.segment} at {where.offset}: {error}", hint=_RESTORE) from error

    def _durable(self, work: _Work, walked: Walked) -> Callable[[Found], bool]:
        """What was synced for certain: below the last mark, or in the index that serves now. The rest is being written just now."""
        if walked.closed or walked.writer in work.sealed:
            return lambda record: True
        applied = self.index.applied(walked.writer)
        known = applied.record if applied else 0
        return lambda record: record.location.offset < walked.durable_mark or record.head.number <= known

    def _publish(self, work: _Work, batch: list[Settled]) -> None:
        if batch:
            work.fresh.publish(batch)
            work.published += len(batch)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hundreds of thousands of objects are made here, none in a cycle: to look for cycles among them takes a tenth of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@dataclass(frozen=True, slots=True)
class Standings:
    """What people do to the archive itself, in one hand. While `still` is held, no standing changes: a change leans on another writer's record."""

    conflicts: Conflicts
    rebuilding: Rebuild
    still: threading.Lock = field(default_factory=threading.Lock)

    def promote(self, sop_instance_uid: str, version: int) -> Mapping[str, object]:
        """See `Conflicts.promote`."""
        with self.still:
            return self.conflicts.promote(sop_instance_uid, version)

    def dismiss(self, sop_instance_uid: str, version: int) -> Mapping[str, object]:
        """See `Conflicts.dismiss`."""
        with self.still:
            return self.conflicts.dismiss(sop_instance_uid, version)

    def rebuild(self, progress: Callable[[int, int], None]) -> Mapping[str, object]:
        """See `Rebuild.run`."""
        return self.rebuilding.run(progress)


_RESTORE = "restore the named segment from the replica or a backup, then rebuild again"
