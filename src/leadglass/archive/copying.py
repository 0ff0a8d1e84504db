"""How is a file copied that another process may be writing? Its beginning, in order, hashed on the way, and under its name only when whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from leadglass.archive.manifest import CHUNK_LENGTH_BYTES, Advance
from leadglass.archive.objects import ObjectStore

Read = Callable[[int, memoryview], int]


@dataclass(frozen=True, slots=True)
class Planned:
    """A file that only ever grows, up to `length`. `final`: nothing is ever appended to it again."""

    path: str
    length: int
    final: bool
    read: Read


def reading(store: ObjectStore, name: str) -> Read:
    return lambda offset, into: store.read_into(name, offset, into)


def reading_file(path: Path) -> Read:
    def read(offset: int, into: memoryview) -> int:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return os.preadv(descriptor, [into], offset)
        finally:
            os.close(descriptor)

    return read


def _pieces(planned: Planned) -> Iterator[memoryview]:
    """Up to its length, or to its end where it was cut meanwhile."""
    buffer = memoryview(bytearray(min(CHUNK_LENGTH_BYTES, max(planned.length, 1))))
    done = 0
    while done < planned.length:
        count = planned.read(done, buffer[: min(len(buffer), planned.length - done)])
        if not count:
            return
        yield buffer[:count]
        done += count


def hashed(planned: Planned, advance: Advance) -> tuple[int, str]:
    length, digest = 0, hashlib.sha256()
    for piece in _pieces(planned):
        digest.update(piece)
        length += len(piece)
        advance(len(piece))
    return length, digest.hexdigest()


def copy(planned: Planned, place: Path, advance: Advance) -> tuple[int, str]:
    """Durable when it returns, under its name only when whole; zeros take no room."""
    length, digest = 0, hashlib.sha256()
    part = place.with_name(f".{place.name}.part")
    with open(part, "wb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC, 0o600)) as file:
        for piece in _pieces(planned):
            digest.update(piece)
            if piece.tobytes().count(0) != len(piece):
                _write(file.fileno(), piece, length)
            length += len(piece)
            advance(len(piece))
        os.ftruncate(file.fileno(), length)
        os.fsync(file.fileno())
    part.replace(place)
    return length, digest.hexdigest()


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
