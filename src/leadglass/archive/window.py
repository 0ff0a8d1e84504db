"""How is a segment read from one end to the other without asking for every few bytes of it? In pieces, each looked at many times."""

from __future__ import annotations

from leadglass.archive.objects import Readable

WINDOW_LENGTH_BYTES = 64 << 10  # several small records; of a large one its trailer, and the head of the next


class Window:
    """One segment, for one thread. What is seen may be older than what the segment holds by now, never older than the last `forget`."""

    def __init__(self, store: Readable, name: str) -> None:
        self._store, self._name = store, name
        self._start, self._piece = 0, b""

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Fewer bytes at the end of the segment, which is looked up each time. Raises FileNotFoundError, OSError."""
        assert name == self._name
        at = offset - self._start
        if at < 0 or at + length > len(self._piece):
            self._piece = self._store.read(name, offset, max(length, WINDOW_LENGTH_BYTES))
            self._start, at = offset, 0
        return self._piece[at : at + length]

    def forget(self) -> None:
        """What is read from now on is in the segment now."""
        self._piece = b""
