"""How much memory may arrivals take? Page-aligned buffers, reused, within one budget for the whole process."""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Iterator

SPARE_MAX = 4  # kept of each `Spares`; more are made where more are in use at once
SIZES_BYTES = (128 << 10, 1 << 20, 4 << 20, 8 << 20)  # what an arrival holds; it moves up while it grows


class Buffer:
    """Anonymous pages: aligned for direct writes, and not shared with a child, so that no write in flight is disturbed (ADR 0002)."""

    __slots__ = ("_pages", "budgeted", "size", "view")

    def __init__(self, size: int, *, budgeted: bool) -> None:
        self._pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._pages.madvise(mmap.MADV_DONTFORK)
        self.size, self.budgeted = size, budgeted
        self.view = memoryview(self._pages)

    def close(self) -> None:
        self.view.release()
        with contextlib.suppress(BufferError):  # somebody still looks at a part of it: the pages go when they do
            self._pages.close()


class BufferPool:
    """Hands out buffers of `SIZES_BYTES` as long as all of them together stay within `budget_bytes`."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._held_bytes = 0  # in use and idle
        self._idle: dict[int, list[Buffer]] = {size: [] for size in SIZES_BYTES}
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def take(self, size_min: int) -> Buffer | None:
        """The smallest buffer of at least `size_min` bytes; None where the budget or the sizes end."""
        size = next((each for each in SIZES_BYTES if each >= size_min), None)
        if size is None:
            return None
        with self._lock:
            if self._idle[size]:
                return self._idle[size].pop()
            self._shed(size)
            if self._held_bytes + size > self.budget_bytes:
                return None
            self._held_bytes += size
        return Buffer(size, budgeted=True)

    def take_least(self) -> Buffer:
        """The smallest size, beyond the budget where need be: without one no byte can arrive. One per association at most."""
        return self.take(SIZES_BYTES[0]) or Buffer(SIZES_BYTES[0], budgeted=False)

    def give(self, buffer: Buffer) -> None:
        if not buffer.budgeted:
            buffer.close()
            return
        with self._lock:
            self._idle[buffer.size].append(buffer)

    def _shed(self, wanted: int) -> None:
        """Lets idle buffers of other sizes go where they stand in the way, large ones first."""
        for size in reversed(SIZES_BYTES):
            while self._idle[size] and self._held_bytes + wanted > self.budget_bytes:
                self._idle[size].pop().close()
                self._held_bytes -= size


class Spares:
    """Buffers of one size, each lent for the time of a block: memory follows how many are in use at once, not how many threads there ever were."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: list[Buffer] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[memoryview]:
        """Its content is what the last one left. Nothing in it outlives the block."""
        try:
            buffer = self._idle.pop()  # the one used last: it is in a core's cache
        except IndexError:
            buffer = Buffer(self._size, budgeted=False)
        try:
            yield buffer.view
        finally:
            if len(self._idle) < SPARE_MAX:
                self._idle.append(buffer)
            else:
                buffer.close()
