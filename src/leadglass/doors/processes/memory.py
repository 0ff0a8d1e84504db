"""How does a process stay as small as what it holds? What the C library keeps in pieces between what is used grows for hours, if nobody asks for it."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

# For glibc (mallopt(3)). With a heap for each thread, what they free lies in pieces that none of the others uses; with one, four associations take a
# tenth less. Large buffers come from the heaps too, from the start and not since the first of that size was freed: fresh pages for each take half as
# long again as verifying what is read into them. What lies free at a heap's end goes back with the rest.
HEAPS = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
GIVEN_BACK_EVERY_SECONDS = 10.0


class FreeMemory:
    """Of the C library's heaps: whole free pages, wherever they lie. glibc gives back by itself only what lies at a heap's end (malloc_trim(3))."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = clock() + GIVEN_BACK_EVERY_SECONDS
        # Not every C library has it.
        self._trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def give_back(self) -> bool:
        """Call it as often as you look around; what is due takes a millisecond or a few (0.3 to 5, measured under load), without the interpreter's lock. Whether anything went."""
        if self._trim is None or self._clock() < self._due:
            return False
        self._due = self._clock() + GIVEN_BACK_EVERY_SECONDS
        return bool(self._trim(0))
