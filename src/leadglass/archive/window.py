"""How is a segment read from one end to the other without asking for every few bytes of it? In pieces, each looked at many times."""

from __future__ import annotations

from leadglass.archive.objects import Readable

WINDOW_LENGTH_MIN_BYTES = 32 << 10  # of a large record its trailer, and the head of the next
WINDOW_LENGTH_MAX_BYTES = 1 << 20  # of small ones very many


class Window:
    """One segment, for one thread. What is seen may be older than what the segment holds by now, never older than the last `forget`."""

    def __init__(self, store: Readable, name: str) -> None:
        self._store, self._name = store, name
        self._start, self._piece = 0, b""
        self._length = WINDOW_LENGTH_MIN_BYTES

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Fewer bytes at the end of the segment, which is looked up each time. Raises FileNotFoundError, OSError."""
        assert name == self._name
        at = offset - self._start
        if at < 0 or at + length > len(self._piece):
            near = (
                0 <= at <= len(self._piece) + WINDOW_LENGTH_MIN_BYTES
            )  # else a large body was passed over: read few of them
            self._length = min(2 * self._length, WINDOW_LENGTH_MAX_BYTES) if near else WINDOW_LENGTH_MIN_BYTES
            self._piece = self._store.read(name, offset, max(length, self._length))
            self._start, at = offset, 0
        return self._piece[at : at + length]

    def forget(self) -> None:
        """What is read from now on is in the segment now."""
        self._piece = b""
