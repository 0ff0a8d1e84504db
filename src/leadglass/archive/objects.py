"""Where do segments lie, and what may be asked of that place? The seam between the archive and its backends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class NoSpace(OSError):
    """The place is full: nothing of this write may be counted on, and what was there before is untouched."""


class SegmentFile(Protocol):
    """A segment being written by the one writer that created it.

    Offsets and lengths of writes are multiples of 4,096, and so are addresses: buffers come from `archive/buffers.py`.
    """

    @property
    def name(self) -> str: ...
    @property
    def direct(self) -> bool:
        """Whether writes bypass the page cache (ADR 0002); `status` shows it. Both give the same bytes."""
        ...

    def write(self, offset: int, data: memoryview) -> None:
        """All of it or an error. Raises NoSpace, OSError."""
        ...

    def sync(self) -> None:
        """Durable when it returns. Any error is fatal: what the place holds is known only after reading it anew."""
        ...

    def truncate(self, length: int) -> None: ...
    def close(self) -> None: ...


class Readable(Protocol):
    """What whoever only reads records asks for: a store, or a `window.Window` on one segment of it."""

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Fewer bytes at the end of the segment. Raises FileNotFoundError, OSError."""
        ...


class ObjectStore(Readable, Protocol):
    """Segments by name.

    Durability: what was written is durable once `sync` returned, and the name with the first of them; nothing is before.
    Consistency: a read sees every write that returned; a name is created once and never reused.
    Concurrency: one process writes a segment; any number reads it, also while it grows. All methods are thread-safe.
    Trust: none. Whoever can change these bytes can destroy what no replica holds, but cannot read, forge, swap or move
    a record: seals and digests find it. Losing it loses every image that no replica or backup has.
    """

    def create(self, name: str) -> SegmentFile:
        """Raises FileExistsError, NoSpace, OSError."""
        ...

    def read_into(self, name: str, offset: int, into: memoryview) -> int:
        """How many bytes were read: fewer at the end of the segment only. Raises FileNotFoundError, OSError."""
        ...

    def expect(self, name: str, offset: int, length: int) -> None:
        """That much will be read soon: a place that is slow to answer may begin now. Advice; raises nothing, and changes no answer."""
        ...

    def size(self, name: str) -> int:
        """Bytes. Raises FileNotFoundError."""
        ...

    def names(self) -> Iterable[str]:
        """Every segment, sorted."""
        ...

    def truncate(self, name: str, length: int) -> None:
        """Durable when it returns. Recovery alone may, and only with a torn tail of a writer whose lock it holds."""
        ...

    def sync(self, name: str) -> None:
        """All that a writer which died left in it, and its name, are durable when it returns. Raises FileNotFoundError, OSError."""
        ...

    def seal(self, name: str) -> None:
        """Read-only from now on; doing it twice is harmless."""
        ...

    def remove(self, name: str) -> None:
        """Only a segment in which no record settled; doing it twice is harmless."""
        ...

    def free_bytes(self) -> int:
        """What may still be written."""
        ...
