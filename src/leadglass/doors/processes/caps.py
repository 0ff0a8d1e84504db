"""How many connections are open, over all workers, and what does each worker serve? One shared map: each worker writes its own row, everybody
reads all rows.

No lock crosses a process: a row has one writer, a sum may be a few connections stale, and a worker that died has its row zeroed by the
supervisor. Addresses share a bucket by hash, zones too, so a full bucket may turn away a neighbour early, never late. A zone's share is
below the whole, so that a storm in one zone leaves room for the others; who is in no zone can be no device, and gets least.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import zlib
from dataclasses import dataclass

from leadglass.site.model import Limits

BUCKETS = 1024  # of addresses
ZONES = 256  # buckets of zones
_CONNECTIONS, _GENERATION, _PID = range(3)  # the cells before the buckets
_HEAD = 3
_ROW_BYTES = 4 * (_HEAD + BUCKETS + ZONES)
_GATE = threading.Lock()  # between the accepting thread and the threads that let visitors go


@dataclass(frozen=True, slots=True)
class Worker:
    """What one worker says of itself. `generation`: of the containment state and site file that it serves by; `pid` 0: none runs in that row."""

    pid: int
    connections: int
    generation: int


class SharedCaps:
    """`row`: this worker's. `file_descriptor`: of a memory file that `create` made and the supervisor handed down."""

    def __init__(self, file_descriptor: int, rows: int, row: int, limits: Limits) -> None:
        self._map = mmap.mmap(file_descriptor, rows * _ROW_BYTES)
        self._rows, self._row = rows, row
        self._limits = limits

    @staticmethod
    def create(rows: int) -> int:
        """A zeroed shared map as an inheritable descriptor."""
        file_descriptor = os.memfd_create("leadglass-caps", 0)
        os.ftruncate(file_descriptor, rows * _ROW_BYTES)
        return file_descriptor

    def full(self) -> bool:
        """True where this worker should stop accepting: the site is at `associations_max`."""
        return sum(self._at(row, _CONNECTIONS) for row in range(self._rows)) >= self._limits.associations_max

    def ahead(self) -> bool:
        """True where another worker has fewer connections than this one."""
        mine = self._at(self._row, _CONNECTIONS)
        return any(self._at(row, _CONNECTIONS) < mine for row in range(self._rows) if row != self._row)

    def enter(self, address: str, zone: str) -> str:
        """Counts a connection in: ""; or which limit it would pass. `zone`: "" for an address of none. Called by the accepting thread alone."""
        limits, bucket, group = self._limits, _bucket(address), _group(zone)
        name = "associations_per_zone_max" if zone else "associations_of_strangers_max"
        group_max = limits.associations_per_zone_max if zone else limits.associations_of_strangers_max
        if self._over_all(bucket) >= limits.associations_per_address_max:
            return "associations_per_address_max"
        if self._over_all(group) >= group_max:
            return name
        for cell in (bucket, group, _CONNECTIONS):
            self._add(cell, 1)
        return ""

    def leave(self, address: str, zone: str) -> None:
        for cell in (_bucket(address), _group(zone), _CONNECTIONS):
            self._add(cell, -1)

    def open_connections(self) -> int:
        return sum(self._at(row, _CONNECTIONS) for row in range(self._rows))

    def serves(self, generation: int) -> None:
        """From now on this worker acts by that generation."""
        self._put(_PID, os.getpid())
        self._put(_GENERATION, generation)

    def workers(self) -> tuple[Worker, ...]:
        """Every row, in order."""
        return tuple(
            Worker(self._at(row, _PID), self._at(row, _CONNECTIONS), self._at(row, _GENERATION))
            for row in range(self._rows)
        )

    def clear(self, row: int) -> None:
        """After the worker of that row died."""
        self._map[row * _ROW_BYTES : (row + 1) * _ROW_BYTES] = bytes(_ROW_BYTES)

    def _over_all(self, cell: int) -> int:
        return sum(self._at(row, cell) for row in range(self._rows))

    def _at(self, row: int, cell: int) -> int:
        return int(struct.unpack_from("<i", self._map, row * _ROW_BYTES + 4 * cell)[0])

    def _put(self, cell: int, value: int) -> None:
        struct.pack_into("<i", self._map, self._row * _ROW_BYTES + 4 * cell, value)

    def _add(self, cell: int, count: int) -> None:
        offset = self._row * _ROW_BYTES + 4 * cell
        with _GATE:
            struct.pack_into("<i", self._map, offset, max(0, struct.unpack_from("<i", self._map, offset)[0] + count))


def _bucket(address: str) -> int:
    return _HEAD + zlib.crc32(address.encode()) % BUCKETS


def _group(zone: str) -> int:
    return _HEAD + BUCKETS + zlib.crc32(zone.encode()) % ZONES
