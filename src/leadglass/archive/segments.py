"""How do records reach the disk? Appended to this writer's segments, many in one sync, numbered in the order in which they land.

Group commit: whoever comes first leads, writes what is there and syncs at once; whoever arrives during a sync rides the next one. One
sync is in flight at a time, so that record numbers, publishing and recovery share one order.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from leadglass.archive.buffers import SIZES_BYTES, Buffer
from leadglass.archive.limits import ArchiveLimits
from leadglass.archive.objects import NoSpace, ObjectStore, SegmentFile
from leadglass.archive.records import (
    BLOCK_LENGTH_BYTES,
    GROUP_LENGTH_BYTES,
    HEAD_LENGTH_BYTES,
    GroupHead,
    RecordHead,
    RecordKind,
    SegmentHead,
    encode_group_head,
    encode_record_head,
    encode_segment_head,
    padding,
    segment_name,
)
from leadglass.terms import Fault, Location, Overloaded, Refused, StoreFault

PREFIX_LENGTH_BYTES = GROUP_LENGTH_BYTES + HEAD_LENGTH_BYTES  # an arrival leaves this much room before its body
JOINT_RECORD_MAX_BYTES = 256 << 10  # what is larger is written from where it lies, not copied beside others
JOINT_BUFFER_BYTES = SIZES_BYTES[1]


class Unsure(StoreFault):
    """Whether the record is on disk is known only after recovery: its claim stays."""


class Stream:
    """A segment for one instance too large for memory: written while it arrives, its head last, so that half of one is none."""

    def __init__(self, file: SegmentFile, number: int) -> None:
        self.file, self.number = file, number
        self.end = BLOCK_LENGTH_BYTES
        self.first = Buffer(BLOCK_LENGTH_BYTES, budgeted=False)

    def write(self, blocks: memoryview) -> None:
        """Whole blocks; the first of all is remembered, because the heads that lie in it come at the end."""
        if self.end == BLOCK_LENGTH_BYTES:
            self.first.view[:] = blocks[:BLOCK_LENGTH_BYTES]
        self.file.write(self.end, blocks)
        self.end += len(blocks)


@dataclass(slots=True, eq=False)
class Entry:
    """One record on its way to the disk. `body`: frames and preamble, or what of them is not in `stream` yet.

    `buffer`: where `body` lies, `PREFIX_LENGTH_BYTES` from its start (from 0 in a stream). `ending`: trailer and footer, once head and
    segment number are known. `landed`: called in record order, once durable.
    """

    kind: RecordKind
    instance_id: bytes
    body: memoryview
    body_length: int
    ending: Callable[[RecordHead, int], bytes]
    landed: Callable[[Location], None]
    buffer: Buffer | None = None
    stream: Stream | None = None
    location: Location | None = None
    error: Exception | None = None
    done: bool = False
    wake: threading.Event | None = None  # of whoever waits for another one's turn to end


class _Open:
    """The segment being appended to."""

    def __init__(self, file: SegmentFile, number: int, opened: float) -> None:
        self.file, self.number, self.opened = file, number, opened
        self.end, self.durable_mark = BLOCK_LENGTH_BYTES, 0  # not even the head was synced yet


class Segments:
    """This writer's segments. Thread-safe. `fatal` is told once when acknowledging must stop."""

    def __init__(
        self,
        store: ObjectStore,
        writer_id: bytes,
        limits: ArchiveLimits,
        fatal: Callable[[str], None],
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.writer_id, self.limits = store, writer_id, limits
        self._fatal, self._wall_ns, self._monotonic = fatal, wall_ns, monotonic
        self._lock = threading.Lock()
        self._leading = False
        self._waiting: list[Entry] = []
        self._open: _Open | None = None
        self._next_segment = 1
        self._next_record = 1
        self._joint = Buffer(JOINT_BUFFER_BYTES, budgeted=False)
        self._dead = ""

    @property
    def direct(self) -> bool | None:
        """Whether the open segment is written past the page cache; None while there is none."""
        return self._open.file.direct if self._open else None

    def append(self, entry: Entry) -> Location:
        """Durable when it returns. Raises Overloaded on a full disk, StoreFault; on any error but `Unsure` the record does not exist."""
        with self._lock:
            leads = not self._leading
            self._leading = True
            if not leads:
                entry.wake = threading.Event()
                self._waiting.append(entry)
        group = [entry]
        if entry.wake is not None:
            entry.wake.wait()
            if entry.done:
                return _result(entry)
            with self._lock:  # the leader before handed over
                group, self._waiting = self._waiting, []
        try:
            self._commit(group)
        except BaseException as error:
            self._die(f"writing a group failed unforeseen: {error!r}", group)
            if not isinstance(error, Exception):
                raise
        finally:
            self._hand_over(group)
        return _result(entry)

    def stream(self) -> Stream:
        """A segment of its own for what does not fit into memory. Raises Overloaded, StoreFault."""
        self.check_room()
        with self._lock:
            number = self._next_segment
            self._next_segment += 1
        try:
            return Stream(self._create(number), number)
        except OSError as error:
            raise _refusal(error) from error

    def discard(self, stream: Stream) -> None:
        """Nothing in it settled."""
        stream.file.close()
        stream.first.close()
        self.store.remove(stream.file.name)

    def check_room(self) -> None:
        """Raises Overloaded where the disk is at its reserve."""
        if self.store.free_bytes() < self.limits.disk_reserve_bytes:
            raise Overloaded("the object store is at its reserve: free space there; storing goes on by itself")

    def seal_if_due(self) -> None:
        """For a timer: an idle segment is sealed too."""
        if self._lead_idle():
            try:
                if self._open and self._is_due(0):
                    self._seal()
            except OSError as error:
                self._die(f"sealing a segment failed: {error}", [])
            finally:
                self._hand_over([])

    def close(self) -> None:
        """Seals what is open. Nothing is appended afterwards."""
        while not self._lead_idle():
            time.sleep(0.001)
        try:
            if self._open and not self._dead:
                self._seal()
        finally:
            self._dead = self._dead or "the archive is closed"
            self._hand_over([])

    # ---- the leader: one at a time

    def _lead_idle(self) -> bool:
        with self._lock:
            if self._leading:
                return False
            self._leading = True
            return True

    def _hand_over(self, group: Sequence[Entry]) -> None:
        with self._lock:
            successor = self._waiting[0] if self._waiting else None
            self._leading = successor is not None
        for entry in group:
            entry.done = True
            if entry.wake is not None:
                entry.wake.set()
        if successor is not None and successor.wake is not None:
            successor.wake.set()

    def _commit(self, group: Sequence[Entry]) -> None:
        if self._dead:
            for entry in group:
                entry.error = StoreFault(self._dead)
            return
        appended = [entry for entry in group if entry.stream is None]
        try:
            self.check_room()
            if appended:
                self._ready(sum(entry.body_length for entry in appended))
        except (OSError, Refused) as error:
            for entry in group:
                entry.error = _refusal(error)
            return
        start = self._open.end if self._open else 0
        try:
            self._write(appended)
        except OSError as error:
            for entry in appended:
                entry.error = _refusal(error)
            self._take_back(start, appended)
        for entry in group:
            if entry.stream is not None:
                self._write_stream(entry, entry.stream)
        self._sync(group)

    def _sync(self, group: Sequence[Entry]) -> None:
        good = [entry for entry in group if entry.error is None and entry.location is not None]
        try:
            if self._open and any(entry.stream is None for entry in good):
                self._open.file.sync()
                self._open.durable_mark = self._open.end
            for entry in good:
                if entry.stream is not None:
                    entry.stream.file.sync()
        except OSError as error:  # whether it is on disk is known only after reading it anew
            self._die(f"a sync failed: {error}", good)
            return
        for entry in good:
            assert entry.location is not None
            entry.landed(entry.location)
        for entry in good:
            if entry.stream is not None:
                self._close_stream(entry.stream)

    def _write(self, entries: Sequence[Entry]) -> None:
        """Groups: small records beside each other, a large one from where it lies."""
        together: list[tuple[Entry, bytes, bytes]] = []
        used = GROUP_LENGTH_BYTES
        for entry in entries:
            segment = self._open
            assert segment is not None
            made = self._compose(entry, segment.number)
            if made is None:
                continue
            length = HEAD_LENGTH_BYTES + entry.body_length + len(made[1])
            if length > JOINT_RECORD_MAX_BYTES:
                self._write_alone(entry, *made)
                continue
            if used + length > JOINT_BUFFER_BYTES:
                self._write_together(together)
                together, used = [], GROUP_LENGTH_BYTES
            together.append((entry, *made))
            used += length
        self._write_together(together)

    def _compose(self, entry: Entry, segment: int) -> tuple[bytes, bytes] | None:
        head = RecordHead(self.writer_id, self._next_record, entry.kind, entry.instance_id, entry.body_length)
        try:
            made = encode_record_head(head), entry.ending(head, segment)
        except Fault as error:  # a key that does not wrap concerns this record alone
            entry.error = error
            return None
        self._next_record += 1
        entry.location = Location("", 0, HEAD_LENGTH_BYTES + entry.body_length + len(made[1]), head.number)
        return made

    def _write_together(self, records: Sequence[tuple[Entry, bytes, bytes]]) -> None:
        if not records:
            return
        view, position = self._joint.view, GROUP_LENGTH_BYTES
        for entry, head, ending in records:
            self._place(entry, position)
            for piece in (head, entry.body, ending):
                view[position : position + len(piece)] = piece
                position += len(piece)
        self._write_group(view, position)

    def _write_alone(self, entry: Entry, head: bytes, ending: bytes) -> None:
        end = PREFIX_LENGTH_BYTES + len(entry.body)
        length = end + len(ending)
        buffer, spare = entry.buffer, None
        if buffer is None or length + padding(length) > buffer.size:
            buffer = spare = Buffer(length + padding(length), budgeted=False)
            spare.view[PREFIX_LENGTH_BYTES:end] = entry.body
        buffer.view[GROUP_LENGTH_BYTES:PREFIX_LENGTH_BYTES] = head
        buffer.view[end:length] = ending
        self._place(entry, GROUP_LENGTH_BYTES)
        try:
            self._write_group(buffer.view, length)
        finally:
            if spare is not None:
                spare.close()

    def _place(self, entry: Entry, position: int) -> None:
        segment, location = self._open, entry.location
        assert segment is not None
        assert location is not None
        entry.location = Location(segment.file.name, segment.end + position, location.length, location.record)

    def _write_group(self, view: memoryview, length: int) -> None:
        segment = self._open
        assert segment is not None
        view[:GROUP_LENGTH_BYTES] = encode_group_head(GroupHead(self.writer_id, segment.number, segment.durable_mark))
        whole = length + padding(length)
        view[length:whole] = bytes(whole - length)
        segment.file.write(segment.end, view[:whole])
        segment.end += whole

    def _take_back(self, start: int, failed: Sequence[Entry]) -> None:
        """A failed group must not be found by recovery: its senders heard a failure and its numbers of versions are given again."""
        segment = self._open
        assert segment is not None
        try:
            segment.file.truncate(start)
            segment.file.sync()
            segment.end = start
        except OSError as error:
            self._die(f"a failed group could not be taken back: {error}", failed)

    def _write_stream(self, entry: Entry, stream: Stream) -> None:
        made = self._compose(entry, stream.number)
        if made is None or entry.location is None:
            return
        head, ending = made
        length = len(entry.body) + len(ending)
        tail = Buffer(length + padding(length), budgeted=False)
        try:
            tail.view[: len(entry.body)] = entry.body
            tail.view[len(entry.body) : length] = ending
            stream.file.write(stream.end, tail.view)
            stream.end += tail.size
            mark = GroupHead(self.writer_id, stream.number, 0)  # nothing of it was synced yet
            stream.first.view[:PREFIX_LENGTH_BYTES] = encode_group_head(mark) + head
            stream.file.write(BLOCK_LENGTH_BYTES, stream.first.view)
        except OSError as error:  # the caller discards the stream: the file goes, and the record with it
            entry.error = _refusal(error)
        finally:
            tail.close()
        offset = BLOCK_LENGTH_BYTES + GROUP_LENGTH_BYTES
        entry.location = Location(stream.file.name, offset, entry.location.length, entry.location.record)

    def _close_stream(self, stream: Stream) -> None:
        self._write_closing(stream.file, stream.number, stream.end)
        stream.first.close()

    # ---- opening and sealing

    def _ready(self, length: int) -> None:
        if self._open and self._is_due(length):
            self._seal()
        if self._open is None:
            with self._lock:
                number = self._next_segment
                self._next_segment += 1
            self._open = _Open(self._create(number), number, self._monotonic())

    def _is_due(self, length: int) -> bool:
        segment = self._open
        if segment is None or segment.end == BLOCK_LENGTH_BYTES:
            return False
        old = self._monotonic() - segment.opened >= self.limits.segment_age_max_seconds
        return old or segment.end + length > self.limits.segment_length_max_bytes

    def _create(self, number: int) -> SegmentFile:
        file = self.store.create(segment_name(self.writer_id, number))
        block = Buffer(BLOCK_LENGTH_BYTES, budgeted=False)
        try:
            block.view[:] = encode_segment_head(SegmentHead(self.writer_id, number, self._wall_ns()))
            file.write(0, block.view)
        except OSError:
            file.close()
            self.store.remove(file.name)
            raise
        finally:
            block.close()
        return file

    def _seal(self) -> None:
        segment, self._open = self._open, None
        assert segment is not None
        self._write_closing(segment.file, segment.number, segment.end)

    def _write_closing(self, file: SegmentFile, number: int, end: int) -> None:
        """Says that all before is durable and nothing follows, which is so already: what fails here costs recovery a look, no record."""
        block = Buffer(BLOCK_LENGTH_BYTES, budgeted=False)
        head = encode_group_head(GroupHead(self.writer_id, number, end, closes=True))
        block.view[: len(head)] = head
        with contextlib.suppress(OSError):
            file.write(end, block.view)
            self.store.seal(file.name)
        file.close()
        block.close()

    def _die(self, why: str, entries: Sequence[Entry]) -> None:
        self._dead = f"{why}; the process must end, recovery reads what the disk holds"
        for entry in entries:
            entry.error = Unsure(self._dead, hint="the process ends; its recovery decides what settled")
        self._fatal(self._dead)


def _result(entry: Entry) -> Location:
    if entry.error is not None:
        raise entry.error
    assert entry.location is not None
    return entry.location


def _refusal(error: Exception) -> Refused | Fault:
    match error:
        case NoSpace():
            return Overloaded("the object store is full: free space there; storing goes on by itself")
        case Refused() | Fault():
            return error
        case _:
            return StoreFault(f"the object store failed: {error}", hint="look at the disk and the kernel's log")
