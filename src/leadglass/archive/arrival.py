"""How do bytes come in? Copied once into chunks, hashed, scanned, sealed; nothing waits in the clear.

Sealed bytes lie in memory within one budget for all arrivals, or, where that ends, stream into a segment of their own. The header is
scanned from the same bytes that are sealed and hashed.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from leadglass.archive.buffers import Buffer, BufferPool
from leadglass.archive.limits import ArchiveLimits
from leadglass.archive.objects import NoSpace
from leadglass.archive.records import BLOCK_LENGTH_BYTES
from leadglass.archive.seal import (
    CHUNK_LENGTH_MAX_BYTES,
    FRAME_LENGTH_MAX_BYTES,
    INSTANCE_ID_LENGTH_BYTES,
    KEY_LENGTH_BYTES,
    InstanceSeal,
    frames,
)
from leadglass.archive.segments import PREFIX_LENGTH_BYTES, Segments, Stream
from leadglass.terms import Arrived, Malformed, Offer, Overloaded, Permit, StoreFault
from leadglass.wire.errors import RemoteProtocolError

STAGE_LENGTH_BYTES = 2 * CHUNK_LENGTH_MAX_BYTES  # one hand-over to the hashing thread; a PDU's worth (ADR 0001)
STAGES_PER_HELPER = 3
# Hashing beside arrival pays where a core is idle: with two, a sender on this machine or a second association takes it.
HELPERS_MAX = max(0, (os.cpu_count() or 1) // 2 - 1)
_Answer = TypeVar("_Answer")


class Scanner(Protocol):
    """`wire.dataset.Scanner`, as far as arriving needs it: fed the whole data set. Raises RemoteProtocolError on what is none."""

    def feed(self, data: memoryview) -> None: ...
    def finish(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Stamp:
    """When the last byte came, by three clocks, and the how manyth arrival of this writer it was."""

    received_at_ns: int
    utc_offset_minutes: int
    monotonic_ns: int
    sequence: int


class SealedArrival:
    """A `terms.Arrival`: sealed, hashed, waiting for its claim. `discard` may be called at any time and twice."""

    def __init__(self, pool: BufferPool, segments: Segments, seal: InstanceSeal) -> None:
        self._pool, self._segments = pool, segments
        self.seal = seal
        self.digest = b""
        self.data_set_length = 0
        self.chunks = 0
        self.body_length = 0
        self.stamp = Stamp(0, 0, 0, 0)
        self.buffer: Buffer | None = pool.take_least()
        self.stream: Stream | None = None
        self._frames_length = 0
        self._position = PREFIX_LENGTH_BYTES  # in the buffer, where the next frame goes

    @property
    def body(self) -> memoryview:
        """What lies in the buffer: all frames, or those not streamed yet."""
        assert self.buffer is not None
        start = 0 if self.stream else PREFIX_LENGTH_BYTES
        return self.buffer.view[start : self._position]

    def add(self, plaintext: memoryview, *, final: bool) -> None:
        """Seals one chunk behind the last. Raises Overloaded, StoreFault."""
        buffer = self._room(FRAME_LENGTH_MAX_BYTES)
        length = self.seal.seal_chunk(self.chunks, plaintext, buffer.view[self._position :], final=final)
        self._advance(length)
        self.chunks += 1
        self.data_set_length += len(plaintext)

    def close(self, preamble: bytes = b"") -> None:
        """After the last chunk: the preamble's frame, empty where there was none."""
        self._frames_length = self.body_length
        frame = self.seal.seal_preamble(preamble)
        buffer = self._room(len(frame))
        buffer.view[self._position : self._position + len(frame)] = frame
        self._advance(len(frame))

    def plaintext(self) -> Iterator[memoryview]:
        """The data set again, for who must compare it; in memory only. Raises StoreFault where it was streamed."""
        if self.stream is not None:
            raise StoreFault("an instance that was streamed to disk is not read back before it is kept")
        into = memoryview(bytearray(CHUNK_LENGTH_MAX_BYTES))
        for index, sealed, final in frames(self.body[: self._frames_length]):
            yield into[: self.seal.open_chunk(index, sealed, into, final=final)]

    def settle(self) -> None:
        """Its record is durable: the memory goes back, what lies on disk stays."""
        self.stream = None
        self._give_back()

    def discard(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            self._segments.discard(stream)
        self._give_back()

    def _give_back(self) -> None:
        buffer, self.buffer = self.buffer, None
        if buffer is not None:
            self._pool.give(buffer)

    def _advance(self, length: int) -> None:
        self._position += length
        self.body_length += length

    def _room(self, length: int) -> Buffer:
        buffer = self.buffer
        assert buffer is not None
        if self._position + length <= buffer.size:
            return buffer
        larger = None if self.stream else self._pool.take(self._position + length)
        if larger is None:
            self._spill(buffer)
            return buffer
        larger.view[: self._position] = buffer.view[: self._position]
        self._pool.give(buffer)
        self.buffer = larger
        return larger

    def _spill(self, buffer: Buffer) -> None:
        """Whole blocks go to disk, the rest moves to the front."""
        whole = self._position - self._position % BLOCK_LENGTH_BYTES
        try:
            if self.stream is None:
                buffer.view[:PREFIX_LENGTH_BYTES] = bytes(PREFIX_LENGTH_BYTES)
                self.stream = self._segments.stream()
            self._segments.check_room()
            self.stream.write(buffer.view[:whole])
        except NoSpace as error:
            raise Overloaded("the object store is full: free space there; storing goes on by itself") from error
        except OSError as error:
            raise StoreFault(
                f"the object store failed: {error}", hint="look at the disk and the kernel's log"
            ) from error
        rest = self._position - whole
        buffer.view[:rest] = bytes(buffer.view[whole : self._position])
        self._position = rest


class _Helper:
    """A thread that hashes what it is handed, in order. Serves one arrival at a time; its stages are lent with it."""

    def __init__(self) -> None:
        self.free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(STAGES_PER_HELPER - 1):
            self.free.put(bytearray(STAGE_LENGTH_BYTES))
        self._work: queue.SimpleQueue[tuple[Callable[[memoryview], None], bytearray] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="digest", daemon=True).start()

    def submit(self, update: Callable[[memoryview], None], stage: bytearray) -> None:
        """Hashes all of `stage`, then puts it among the free ones."""
        self._work.put((update, stage))

    def collect(self) -> None:
        """Waits until everything handed over is hashed."""
        stages = [self.free.get() for _ in range(STAGES_PER_HELPER - 1)]
        for stage in stages:
            self.free.put(stage)

    def end(self) -> None:
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            update, stage = work
            update(memoryview(stage))
            self.free.put(stage)


class _Intake:
    """One arrival while it comes in."""

    def __init__(self, receiver: Receiver, offer: Offer) -> None:
        self._receiver = receiver
        self._scanner = _told(lambda: receiver.new_scanner(offer.transfer_syntax_uid))
        self._length_max = receiver.limits.instance_length_max_bytes
        self._hash = hashlib.sha256()
        self._helper: _Helper | None = None
        self._stage = receiver.take_stage()
        self._filled = 0
        self._length = 0
        self._offer = offer
        self.arrival = receiver.new_arrival()

    def feed(self, fragment: memoryview) -> None:
        self._length += len(fragment)
        if self._length > self._length_max:
            raise Overloaded(f"longer than instance_length_max_bytes = {self._length_max}")
        position = 0
        while position < len(fragment):
            if self._filled == STAGE_LENGTH_BYTES:
                self._flush()
            count = min(STAGE_LENGTH_BYTES - self._filled, len(fragment) - position)
            self._stage[self._filled : self._filled + count] = fragment[position : position + count]
            self._filled += count
            position += count

    def finish(self, preamble: bytes) -> Arrived:
        view = memoryview(self._stage)[: self._filled]
        _told(lambda: self._scanner.feed(view))
        header = _told(self._scanner.finish)
        if self._helper is not None:
            self._helper.collect()
        self._hash.update(view)
        self._add(view, final=True)
        arrival = self.arrival
        arrival.close(preamble)
        arrival.digest = self._hash.digest()
        arrival.stamp = self._receiver.stamp()
        return Arrived(self._offer, arrival, header)

    def release(self) -> None:
        """Gives back what was lent, whatever happened."""
        if self._helper is not None:
            self._helper.collect()
            self._receiver.give_helper(self._helper)
        self._receiver.give_stage(self._stage)

    def _flush(self) -> None:
        """A full stage, and more is to come."""
        view = memoryview(self._stage)
        _told(lambda: self._scanner.feed(view))
        helper = self._helper = self._helper or self._receiver.take_helper()
        if helper is None:
            self._hash.update(view)
            self._add(view, final=False)
        else:
            helper.submit(self._hash.update, self._stage)
            try:
                self._add(view, final=False)  # beside the hashing: both only read
            finally:
                self._stage = helper.free.get()
        self._filled = 0

    def _add(self, view: memoryview, *, final: bool) -> None:
        if len(view) > CHUNK_LENGTH_MAX_BYTES:
            self.arrival.add(view[:CHUNK_LENGTH_MAX_BYTES], final=False)
            view = view[CHUNK_LENGTH_MAX_BYTES:]
        self.arrival.add(view, final=final)


class Receiver:
    """The `receive` step. `new_scanner`: `wire.dataset.Scanner`, called with the transfer syntax UID. Thread-safe."""

    def __init__(
        self,
        segments: Segments,
        limits: ArchiveLimits,
        new_scanner: Callable[[str], Scanner],
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        helpers_max: int = HELPERS_MAX,
    ) -> None:
        self.segments, self.limits, self.new_scanner = segments, limits, new_scanner
        self.pool = BufferPool(limits.arrival_memory_max_bytes)
        self._wall_ns, self._monotonic_ns = wall_ns, monotonic_ns
        self._lock = threading.Lock()
        self._sequence = 0
        self._stages: list[bytearray] = []
        self._helpers: list[_Helper] = []
        self._helpers_left = helpers_max

    async def receive(self, offer: Offer, permit: Permit, body: Iterable[memoryview], preamble: bytes = b"") -> Arrived:
        """Seals, hashes and scans `body`; each fragment may be overwritten once the next is asked for.

        Raises Malformed where it is no data set, Overloaded where it is too long or the disk is full, StoreFault, and whatever the body
        raises; then nothing stays.
        """
        del permit  # the proof that this was decided
        intake = _Intake(self, offer)
        try:
            for fragment in body:
                intake.feed(fragment)
            return intake.finish(preamble)
        except BaseException:
            intake.arrival.discard()
            raise
        finally:
            intake.release()

    def close(self) -> None:
        """Ends the hashing threads that are idle; nothing arrives afterwards."""
        with self._lock:
            helpers, self._helpers = self._helpers, []
        for helper in helpers:
            helper.end()

    # ---- what intakes borrow

    def new_arrival(self) -> SealedArrival:
        secret = os.urandom(INSTANCE_ID_LENGTH_BYTES + KEY_LENGTH_BYTES)  # one system call for both
        seal = InstanceSeal(secret[:INSTANCE_ID_LENGTH_BYTES], secret[INSTANCE_ID_LENGTH_BYTES:])
        return SealedArrival(self.pool, self.segments, seal)

    def stamp(self) -> Stamp:
        wall = self._wall_ns()
        offset = time.localtime(wall // 1_000_000_000).tm_gmtoff // 60
        with self._lock:
            self._sequence += 1
            return Stamp(wall, offset, self._monotonic_ns(), self._sequence)

    def take_stage(self) -> bytearray:
        with self._lock:
            if self._stages:
                return self._stages.pop()
        return bytearray(STAGE_LENGTH_BYTES)

    def give_stage(self, stage: bytearray) -> None:
        with self._lock:
            self._stages.append(stage)

    def take_helper(self) -> _Helper | None:
        """None while all are busy: then the caller hashes itself. With as many senders as cores a second thread gains nothing."""
        with self._lock:
            if self._helpers:
                return self._helpers.pop()
            if self._helpers_left == 0:
                return None
            self._helpers_left -= 1
        return _Helper()

    def give_helper(self, helper: _Helper) -> None:
        with self._lock:
            self._helpers.append(helper)


def _told(step: Callable[[], _Answer]) -> _Answer:
    try:
        return step()
    except RemoteProtocolError as error:
        raise Malformed(f"the data set: {error}") from error
