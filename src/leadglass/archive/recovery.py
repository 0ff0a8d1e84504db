"""What did a writer that died leave, and what of it counts? The same code as at every start: recovery is the normal path.

Runs beside living workers, touches only files whose lock it holds, and may itself die at any line: doing it again gives the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from leadglass.archive.barrier import Barrier
from leadglass.archive.conflicts import forward
from leadglass.archive.index import Index
from leadglass.archive.objects import ObjectStore
from leadglass.archive.read import Corrupted, Reader, open_change, open_record
from leadglass.archive.records import FormatBroken, RecordKind, StandingChange, parse_segment_name
from leadglass.archive.seal import SealBroken
from leadglass.archive.walk import Found, Walked, behind, last_record, walk
from leadglass.site.keyring import Keyring
from leadglass.site.writer import Writer, writers
from leadglass.terms import Erased, Event, Location, Settled, StoreFault

BATCH_RECORDS = 500
LOSSES_NAMED_MAX = 20
# Records of one process that had settled and that its journal had not been told of yet, at any one time: more than it has threads that store.
IN_FLIGHT_MAX = 256


class JournalSide(Protocol):
    """What recovery needs to know of, and give to, the journals."""

    def stored(self, writer: bytes) -> Iterable[Sequence[Location]] | None:
        """Where each stored event of that writer's journal says its record lies, the newest of its files first; None where no journal is kept."""
        ...

    def lacks(self, settled: Settled, event: Event) -> None:
        """A record whose event the journal lost: appended to the recovering process's own journal."""
        ...


class NoJournal:
    """For a store on its own."""

    def stored(self, writer: bytes) -> Iterable[Sequence[Location]] | None:
        return None

    def lacks(self, settled: Settled, event: Event) -> None:
        pass


Lost = Callable[[bytes, Sequence[str]], None]  # whose, and what


@dataclass(frozen=True, slots=True)
class Recovered:
    """What recovering one writer came to."""

    writer: bytes
    records: int
    published: int
    cut: tuple[str, ...]
    claims_dropped: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """`before`: the journal's own recovery of an adopted writer, which cuts its torn tail."""

    site_dir: Path
    store: ObjectStore
    index: Index
    keyring: Keyring
    barrier: Barrier
    journal: JournalSide = dataclasses.field(default_factory=NoJournal)
    before: Callable[[Writer], None] = lambda writer: None

    def recover(
        self, writer_id: bytes, late: list[StandingChange] | None = None, lost: Lost | None = None
    ) -> Recovered | None:
        """None while that writer lives, or another process is recovering it. Raises StoreFault where something settled is lost.

        `late` takes the standing changes of versions that the index lacks, for when every writer was replayed. `lost`: see `recover_all`.
        """
        writer = Writer.adopt(self.site_dir, writer_id)
        if writer is None:
            return None
        with contextlib.closing(writer):
            self.keyring.recover(writer)
            self.before(writer)
            recovered = self._replay(writer_id, late, lost)
            writer.seal()
        return recovered

    def recover_all(self, lost: Lost | None = None) -> list[Recovered]:
        """Every writer that is dead and not sealed, and every sealed one of which the index has never heard.

        Raises StoreFault where something settled is lost; or `lost` hears of it, and all that can still be read counts. Nothing is cut then.
        """
        states = writers(self.site_dir)
        named = {parsed[0] for name in self.store.names() if (parsed := parse_segment_name(name))}
        unknown = sorted(named - {state.id for state in states})  # it left nothing but segments
        dead = [state.id for state in states if not state.alive and not state.sealed]
        late: list[StandingChange] = []
        done = [self.recover(writer_id, late, lost) for writer_id in [*dead, *unknown]]
        sealed = [state.id for state in states if state.sealed and state.id in named]
        unheard = [writer_id for writer_id in sealed if self.index.applied(writer_id) is None]
        done += [
            self._replay(writer_id, late, lost) for writer_id in unheard
        ]  # the index was lost: it is derived, so it is made again
        for change in late:
            with self.barrier.writing():
                forward(self.index, change)
        # What a power cut left in the claims, of nobody who lives.
        self.index.keep_claims(state.id for state in writers(self.site_dir) if state.alive)
        return [each for each in done if each is not None]

    # ---- one writer, its lock held (or sealed, and then only read)

    def _replay(self, writer_id: bytes, late: list[StandingChange] | None, lost: Lost | None) -> Recovered:
        past = self._past(writer_id)
        segments = [walk(self.store, name) for name in self._names(writer_id) if not self._is_done(name, past)]
        # 1. Look at everything and change nothing. A crash here costs a second look.
        check = _Check(self.store, self.keyring, past.applied)
        for walked in segments:
            check.verify(walked)
        losses = self._losses(segments, past)
        if losses:
            self._go_on(writer_id, segments, losses, check, lost)
        damaged = {each.segment for each in losses}
        # 2. Cut what is torn. A crash here leaves the rest of the torn tails for the next look; what counts is untouched.
        torn = [walked for walked in segments if walked.broken_at is not None or not walked.records]
        cut = tuple(self._cut(walked) for walked in torn if walked.name not in damaged)
        #    What stays was perhaps never synced: its writer was killed between writing and syncing. It is durable before anybody hears
        #    of it, for whoever sends it again is told that it is kept. A closed segment was synced by its writer.
        for walked in segments:
            if walked.records and not walked.closed:
                self.store.sync(walked.name)
        # 3. Publish what the index lacks, then tell the journal. A crash here publishes some of it twice, which is harmless.
        records = sorted(
            (each for walked in segments for each in walked.records), key=lambda each: each.location.record
        )
        published = self._publish(records, past, late)
        self.index.make_durable()  # a sealed writer is not replayed at the next start: what was published must outlive a power cut
        # 4. Only now may others be granted what this writer had claimed: its versions are all in the index. A crash here costs
        #    waiting claimants another recovery.
        dropped = self.index.drop_claims(writer_id)
        # 5. Nothing is ever appended again.
        for walked in segments:
            if walked.records:
                self.store.seal(walked.name)
        return Recovered(writer_id, len(records), published, cut, dropped)

    def _past(self, writer_id: bytes) -> _Past:
        """Reads no more of the journal than it takes to know every event that it has of a record after `done`.

        Records land in their order, their events come as their threads get there. So whatever a file lacks of an older record, no event of a
        newer one stands before more events of older ones than can be in flight at one time.
        """
        location = self.index.applied(writer_id)
        applied = location.record if location else 0
        files = self.journal.stored(writer_id)
        if files is None:
            return _Past(location, applied, applied, None)
        # The index is there, and neither it nor the store ever heard of that writer: it stored nothing, or just now.
        last_file_will_do = location is None and self.index.newest_received_ns() > 0 and not any(self._names(writer_id))
        heard, done = dict[int, Location](), 0
        for locations in files:
            heard |= {each.record: each for each in locations}
            done = max(0, min(applied, max(heard, default=0) - IN_FLIGHT_MAX))
            if last_file_will_do or sum(record <= done for record in heard) > IN_FLIGHT_MAX:
                break
        return _Past(location, applied, done, {record: each for record, each in heard.items() if record > done})

    def _names(self, writer_id: bytes) -> Iterator[str]:
        for name in self.store.names():
            parsed = parse_segment_name(name)
            if parsed and parsed[0] == writer_id:
                yield name

    def _is_done(self, name: str, past: _Past) -> bool:
        """A closed segment whose records are all in the index and in the journal is not walked again."""
        last = last_record(self.store, name) if past.done else None
        return last is not None and last.number <= past.done

    def _losses(self, segments: list[Walked], past: _Past) -> list[_Loss]:
        there = {each.location.record for walked in segments for each in walked.records}
        looked_at = {walked.name for walked in segments}
        named = set(self.store.names())
        found = [
            _Loss(walked.name, f"{walked.name} at {walked.broken_at}: {walked.what}")
            for walked in segments
            if walked.lost
        ]
        said = [(each, "the journal") for each in (past.journalled or {}).values()]
        if past.location is not None:
            said.append((past.location, "the index"))
        for location, source in said:
            unread = location.segment in named and location.segment not in looked_at
            if location.record not in there and not unread:
                what = f"record {location.record}, in {location.segment} at {location.offset}: {source} says that it settled"
                found.append(_Loss(location.segment, what, location.record))
        return found

    def _go_on(
        self, writer_id: bytes, segments: list[Walked], losses: list[_Loss], check: _Check, lost: Lost | None
    ) -> None:
        """Without what is lost, where somebody said so: of damaged segments, which are evidence, all counts that can be read. Raises StoreFault."""
        if lost is None:
            named = "; ".join(each.what for each in losses[:LOSSES_NAMED_MAX])
            raise StoreFault(
                f"writer {writer_id.hex()} lost what had settled: {named}",
                hint="restore the named segments from the replica or a backup, then start again; where nothing has them, `leadglass accept-loss`",
            )
        damaged = {each.segment for each in losses}
        for walked in segments:
            if walked.name in damaged:
                again = walk(self.store, walked.name)
                walked.records = check.whole([*again.records, *behind(self.store, again)])
        there = {each.location.record for walked in segments for each in walked.records}
        lost(writer_id, [each.what for each in losses if each.record not in there])

    def _cut(self, walked: Walked) -> str:
        if not walked.records:  # created, or half of a streamed instance: nobody was told anything about it
            self.store.remove(walked.name)
            return f"{walked.name}: removed, nothing in it had settled"
        last = walked.records[-1].location
        end = last.offset + last.length
        self.store.truncate(walked.name, end)
        return f"{walked.name}: torn tail cut at {end} ({walked.what})"

    def _publish(self, records: list[Found], past: _Past, late: list[StandingChange] | None) -> int:
        published = 0
        changes: list[StandingChange] = []
        for start in range(0, len(records), BATCH_RECORDS):
            batch: list[tuple[Settled, Event]] = []
            for record in records[start : start + BATCH_RECORDS]:
                number = record.location.record
                with contextlib.suppress(Erased):
                    if record.head.kind is RecordKind.STANDING_CHANGE:
                        changes.append(open_change(self.store, self.keyring, record.location))
                    elif number > past.applied or past.unheard(number):
                        facts = open_record(self.store, self.keyring, record.location).facts
                        batch.append((facts.settled(record.head.writer, record.location), facts.event))
            missing = [settled for settled, _ in batch if settled.location.record > past.applied]
            if missing:
                with self.barrier.writing():
                    self.index.publish(missing)
                published += len(missing)
            for settled, event in batch:
                if past.unheard(settled.location.record):
                    self.journal.lacks(settled, dataclasses.replace(event, settled=settled))
        for change in changes:
            try:
                with self.barrier.writing():
                    forward(self.index, change)
            except StoreFault:  # the version may be a writer's who is replayed after this one
                if late is None:
                    raise
                late.append(change)
        return published


@dataclass(frozen=True, slots=True)
class _Past:
    """What is known of a writer before its segments are read. `applied`: its last record in the index, at `location`.

    `done`: up to it index and journal have everything. `journalled`: what the journal has beyond that, whatever the order; None where there is none.
    """

    location: Location | None
    applied: int
    done: int
    journalled: dict[int, Location] | None

    def unheard(self, record: int) -> bool:
        """Whether the journal lost that record's event."""
        return self.journalled is not None and record > self.done and record not in self.journalled


@dataclass(frozen=True, slots=True)
class _Loss:
    """Where something is that had settled and cannot be read; `record`: which, where somebody says so, else 0."""

    segment: str
    what: str
    record: int = 0


class _Check:
    """Which records count? After the last mark those whose seals and digest hold; before it all, so one that does not is a loss."""

    def __init__(self, store: ObjectStore, keyring: Keyring, applied: int) -> None:
        self._store, self._keyring, self._applied = store, keyring, applied
        self._reader = Reader(store, keyring)

    def verify(self, walked: Walked) -> None:
        """Raises KeyFault, StoreFault: what cannot be read is not for that reason torn."""
        for record in list(walked.records):
            tail = record.location.offset >= walked.durable_mark and not walked.closed
            if not tail and record.location.record <= self._applied:
                continue
            try:
                self._verify(record, whole=tail)
            except Erased:
                continue
            except (FormatBroken, SealBroken, Corrupted) as error:
                walked.breaks(record.location.offset, str(error))
                walked.lost = not tail
                return

    def whole(self, records: Iterable[Found]) -> list[Found]:
        """Those that can be read to their last byte, and those that were erased. Raises KeyFault, StoreFault."""
        found = []
        for record in records:
            with contextlib.suppress(FormatBroken, SealBroken, Corrupted):
                with contextlib.suppress(Erased):
                    self._verify(record, whole=True)
                found.append(record)
        return found

    def _verify(self, record: Found, *, whole: bool) -> None:
        if record.head.kind is RecordKind.STANDING_CHANGE:
            open_change(self._store, self._keyring, record.location)
            return
        facts = open_record(self._store, self._keyring, record.location).facts
        if whole:
            for _ in self._reader.pieces(facts.settled(record.head.writer, record.location)):
                pass
