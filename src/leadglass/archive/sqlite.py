"""How is an encrypted index opened, how do threads share what reads it, and how does one wait for another process that writes it? (ADR 0003)"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import apsw

from leadglass.archive.projection import MIGRATIONS, Value
from leadglass.site.migrations import pending
from leadglass.terms import KeyFault, StoreFault

__all__ = ["Readers", "Value", "connect", "load", "patiently", "settle"]

BUSY_SECONDS_MAX = 10.0
_SERVING = (
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "temp_store=MEMORY",
    "wal_autocheckpoint=8000",
)
LOADING_CACHE_KIB = 128 << 10
# Of each connection. A process has one that writes and up to READERS_MAX that read, so this is what an archive's growth may cost it in memory:
# 48 MiB. A lookup costs about 20 microseconds more than with 32 MiB everywhere, which made every process grow by 130 MiB in its first hour.
WRITING_CACHE_KIB = 16 << 10
READING_CACHE_KIB = 4 << 10
READERS_MAX = 8  # read connections of one process; each read is short, so threads take turns
RESTED_EVERY_SECONDS = 10.0
T = TypeVar("T")


def connect(path: Path, key: bytes, *, write: bool) -> apsw.Connection:
    """Raises KeyFault, StoreFault for a damaged one, Fault for a newer one, apsw.Error. Only who writes makes a file that is not there."""
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if write else 0)
    connection = apsw.Connection(str(path), flags=flags)
    try:
        connection.execute("PRAGMA cipher='chacha20'")
        connection.execute(f"PRAGMA key='raw:{key.hex()}'")
        connection.set_busy_timeout(0)
        patiently(lambda: connection.execute("SELECT count(*) FROM sqlite_schema").fetchall())
        patiently(lambda: connection.execute(f"PRAGMA {_SERVING[0]}").fetchall())
        for pragma in _SERVING[1:]:
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute(f"PRAGMA cache_size=-{WRITING_CACHE_KIB if write else READING_CACHE_KIB}")
        if not write:
            connection.execute("PRAGMA query_only=1").fetchall()
        elif connection.pragma("user_version") != MIGRATIONS[-1].number:
            _migrate(connection)
    except apsw.NotADBError as error:
        connection.close()
        raise KeyFault(
            f"the index {path.name} does not open with this site key", hint="move it away: it is rebuilt"
        ) from error
    except apsw.CorruptError as error:
        connection.close()
        raise StoreFault(f"the index {path.name} is damaged: {error}", hint="move it away: it is rebuilt") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: apsw.Connection) -> None:
    patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
    try:
        version = int(connection.pragma("user_version") or 0)
        for step in pending("index", version, MIGRATIONS):
            step.run(connection)
            connection.execute(f"PRAGMA user_version = {step.number}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def load(connection: apsw.Connection) -> None:
    """A new index that nobody else has open is filled without a log and unsynced, until `settle`. Whatever breaks meanwhile breaks all of it."""
    for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{LOADING_CACHE_KIB}"):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def settle(connection: apsw.Connection) -> None:
    """What was loaded is durable, and written from now on as any other."""
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA user_version = {MIGRATIONS[-1].number}")  # a commit, which syncs all that was not
    for pragma in _SERVING:
        connection.execute(f"PRAGMA {pragma}").fetchall()


def patiently(act: Callable[[], T]) -> T:
    """Tries again while another process writes: after 100 to 300 microseconds, fairer than SQLite's own growing steps (ADR 0003)."""
    end = time.monotonic() + BUSY_SECONDS_MAX
    while True:
        try:
            return act()
        except apsw.BusyError:
            if time.monotonic() >= end:
                raise
            time.sleep(random.uniform(0.0001, 0.0003))  # noqa: S311 - a pause, not a secret


class Readers:
    """A few read connections for any number of threads, the one used last first: its cache is warm. None outlives `renew`."""

    def __init__(self, make: Callable[[], apsw.Connection]) -> None:
        self._make = make
        self._room = threading.BoundedSemaphore(READERS_MAX)
        self._lock = threading.Lock()
        self._idle: list[apsw.Connection] = []
        self._generation = 0
        self._rested = time.monotonic()

    @contextmanager
    def one(self) -> Iterator[apsw.Connection]:
        """Yours alone, until you give it back. Raises what making one raises."""
        with self._room:
            with self._lock:
                generation = self._generation
                connection = self._idle.pop() if self._idle else None
            connection = connection or self._make()
            try:
                yield connection
            finally:
                with self._lock:
                    kept = generation == self._generation
                    if kept:
                        self._idle.append(connection)
                if not kept:
                    _close(connection)

    def rest(self) -> None:
        """Those that wait behind the one used last give back what they remember, every so often: each would fill its cache in hours, for the few
        moments in which several threads read. Call it as often as you look around."""
        now = time.monotonic()
        if now - self._rested < RESTED_EVERY_SECONDS:
            return
        self._rested = now
        with self._lock:
            for connection in self._idle[:-1]:
                connection.release_memory()

    def renew(self) -> None:
        """What is open now is closed: at once, or when it is given back."""
        with self._lock:
            self._generation += 1
            old, self._idle = self._idle, []
        for connection in old:
            _close(connection)


def _close(connection: apsw.Connection) -> None:
    with suppress(apsw.Error):
        connection.close()
