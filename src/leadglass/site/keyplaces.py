"""Where does each study key lie? 32 bytes a key, in every process that opens any: an archive of a million studies has as many keys."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEY_ID_LENGTH_BYTES = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry lies: whose file, how many entries precede it there, and where it begins."""

    writer: bytes
    path: Path
    number: int
    offset: int


class Places:
    """Grows only. Thread-safe. A lookup looks through all of them, the newest first: 3 ms for a million at worst, and keys at hand need none."""

    def __init__(self) -> None:
        self._adding = threading.Lock()
        self._ids = bytearray()
        self._where = array("Q")  # of each id: its file and number, its offset
        self._files: list[tuple[bytes, Path]] = []
        self._numbers: dict[bytes, int] = {}

    def add(self, key_id: bytes, place: Place) -> None:
        """`key_id`: 16 bytes, by chance, so that none is there twice."""
        with self._adding:
            file = self._numbers.get(place.writer)
            if file is None:
                file = self._numbers[place.writer] = len(self._files)
                self._files.append((place.writer, place.path))
            self._where.extend((file << 32 | place.number, place.offset))
            self._ids += key_id  # last: what is found has its place

    def get(self, key_id: bytes) -> Place | None:
        at = self._ids.rfind(key_id)
        while at > 0 and at % KEY_ID_LENGTH_BYTES:  # across two others
            at = self._ids.rfind(key_id, 0, at + KEY_ID_LENGTH_BYTES - 1)
        return None if at < 0 else self._place(at // KEY_ID_LENGTH_BYTES)

    def __iter__(self) -> Iterator[tuple[bytes, Place]]:
        """Those that are there now."""
        for index in range(len(self._ids) // KEY_ID_LENGTH_BYTES):
            at = index * KEY_ID_LENGTH_BYTES
            yield bytes(self._ids[at : at + KEY_ID_LENGTH_BYTES]), self._place(index)

    def _place(self, index: int) -> Place:
        file_and_number, offset = self._where[2 * index : 2 * index + 2]
        writer, path = self._files[file_and_number >> 32]
        return Place(writer, path, file_and_number & 0xFFFFFFFF, offset)
