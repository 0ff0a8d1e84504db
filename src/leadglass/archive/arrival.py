"""How do bytes come in? Read into stages, hashed, scanned, sealed; nothing waits in the clear but what is being read.

Sealed bytes lie in memory within one budget for all arrivals, or, where that ends, stream into a segment of their own. The header is
scanned from the same bytes that are sealed and hashed.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
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
from leadglass.terms import Arrived, Incoming, Malformed, Offer, Overloaded, Permit, StoreFault
from leadglass.wire.errors import RemoteProtocolError

STAGE_LENGTH_BYTES = 2 * CHUNK_LENGTH_MAX_BYTES  # read, hashed and sealed at once; a PDU's worth (ADR 0001)
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
    """A thread that hashes what it is handed, in order, while whoever hands it over goes on. Serves one arrival at a time."""

    def __init__(self) -> None:
        self._hashed: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._work: queue.SimpleQueue[tuple[Callable[[memoryview], None], memoryview] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="digest", daemon=True).start()

    def submit(self, update: Callable[[memoryview], None], view: memoryview) -> None:
        """Hashes it; leave it alone until `collect`."""
        self._work.put((update, view))

    def collect(self) -> None:
        """Waits until what was handed over is hashed."""
        self._hashed.get()

    def end(self) -> None:
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            update, view = work
            update(view)
            self._hashed.put(None)


class _Intake:
    """One arrival while it comes in: read into one stage, and worked on once it is known whether more follows it."""

    def __init__(self, receiver: Receiver, offer: Offer) -> None:
        self._receiver = receiver
        self._scanner = _told(lambda: receiver.new_scanner(offer.transfer_syntax_uid))
        self._hash = hashlib.sha256()
        self._helper: _Helper | None = None
        self._stages = [receiver.take_stage()]
        self._offer = offer
        self.arrival = receiver.new_arrival()

    def take(self, body: Incoming) -> memoryview:
        """All of it but the last stage, which is returned."""
        left = self._receiver.limits.instance_length_max_bytes
        stage, full, filled = self._stages[0], None, 0
        while count := body.read_into(stage[filled:]):
            left -= count
            if left < 0:
                raise Overloaded(
                    f"longer than instance_length_max_bytes = {self._receiver.limits.instance_length_max_bytes}"
                )
            if full is not None:
                self._work(full)
                full = None
            filled += count
            if filled == STAGE_LENGTH_BYTES:
                stage, full, filled = self._other(stage), stage, 0
        return stage[:filled] if full is None else full

    def finish(self, last: memoryview, preamble: bytes) -> Arrived:
        self._scan(last)
        header = _told(self._scanner.finish)
        self._hash.update(last)
        self._add(last, final=True)
        arrival = self.arrival
        arrival.close(preamble)
        arrival.digest = self._hash.digest()
        arrival.stamp = self._receiver.stamp()
        return Arrived(self._offer, arrival, header)

    def release(self) -> None:
        """Gives back what was lent, whatever happened."""
        if self._helper is not None:
            self._receiver.give_helper(self._helper)
        for stage in self._stages:
            self._receiver.give_stage(stage)

    def _other(self, stage: memoryview) -> memoryview:
        if len(self._stages) == 1:
            self._stages.append(self._receiver.take_stage())
        first, second = self._stages
        return second if stage is first else first

    def _work(self, full: memoryview) -> None:
        """A full stage, and more follows."""
        self._scan(full)
        helper = self._helper = self._helper or self._receiver.take_helper()
        if helper is None:
            self._hash.update(full)
            self._add(full, final=False)
            return
        helper.submit(self._hash.update, full)
        try:
            self._add(full, final=False)  # beside the hashing: both only read
        finally:
            helper.collect()

    def _scan(self, view: memoryview) -> None:
        _told(lambda: self._scanner.feed(view))

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
        self._stages: list[memoryview] = []
        self._helpers: list[_Helper] = []
        self._helpers_left = helpers_max

    async def receive(self, offer: Offer, permit: Permit, body: Incoming, preamble: bytes = b"") -> Arrived:
        """Seals, hashes and scans `body`.

        Raises Malformed where it is no data set, Overloaded where it is too long or the disk is full, StoreFault, and whatever the body
        raises; then nothing stays.
        """
        del permit  # the proof that this was decided
        intake = _Intake(self, offer)
        try:
            return intake.finish(intake.take(body), preamble)
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

    def take_stage(self) -> memoryview:
        with self._lock:
            if self._stages:
                return self._stages.pop()
        return memoryview(bytearray(STAGE_LENGTH_BYTES))

    def give_stage(self, stage: memoryview) -> None:
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
