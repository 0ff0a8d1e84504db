"""Segments in memory: for tests and demonstrations. It knows what was synced, so that a power cut can be played."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable

from leadglass.archive.objects import SegmentFile

CAPACITY_BYTES = 1 << 40


class MemorySegment:
    """One segment: what a reader sees, and what a power cut would leave."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.written = bytearray()
        self.durable: bytes | None = None
        self.sealed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def direct(self) -> bool:
        return False

    def write(self, offset: int, data: memoryview) -> None:
        if self.sealed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self._name)
        if len(self.written) < offset:
            self.written.extend(bytes(offset - len(self.written)))
        self.written[offset : offset + len(data)] = data

    def sync(self) -> None:
        self.durable = bytes(self.written)

    def truncate(self, length: int) -> None:
        del self.written[length:]

    def close(self) -> None:
        pass


class MemoryObjects:
    """A dictionary of segments. Losing the process loses all of it."""

    def __init__(self) -> None:
        self._segments: dict[str, MemorySegment] = {}
        self._lock = threading.Lock()

    def create(self, name: str) -> SegmentFile:
        with self._lock:
            if name in self._segments:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            segment = self._segments[name] = MemorySegment(name)
        return segment

    def read(self, name: str, offset: int, length: int) -> bytes:
        return bytes(self._segment(name).written[offset : offset + length])

    def read_into(self, name: str, offset: int, into: memoryview) -> int:
        data = self.read(name, offset, len(into))
        into[: len(data)] = data
        return len(data)

    def expect(self, name: str, offset: int, length: int) -> None:
        """It is here already."""

    def size(self, name: str) -> int:
        return len(self._segment(name).written)

    def names(self) -> Iterable[str]:
        return sorted(self._segments)

    def truncate(self, name: str, length: int) -> None:
        segment = self._segment(name)
        segment.truncate(length)
        segment.sync()

    def sync(self, name: str) -> None:
        self._segment(name).sync()

    def seal(self, name: str) -> None:
        self._segment(name).sealed = True

    def remove(self, name: str) -> None:
        self._segments.pop(name, None)

    def free_bytes(self) -> int:
        return CAPACITY_BYTES - sum(len(segment.written) for segment in self._segments.values())

    def power_cut(self) -> MemoryObjects:
        """What is there after the power came back: synced bytes only."""
        after = MemoryObjects()
        for name, segment in self._segments.items():
            if segment.durable is not None:
                kept = after._segments[name] = MemorySegment(name)
                kept.written, kept.durable = bytearray(segment.durable), segment.durable
        return after

    def _segment(self, name: str) -> MemorySegment:
        try:
            return self._segments[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None
