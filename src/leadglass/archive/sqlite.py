"""How is an encrypted index opened, and how does one wait for another process that writes it? (ADR 0003)"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw

from leadglass.archive.index_schema import MIGRATIONS
from leadglass.site.migrations import pending
from leadglass.terms import KeyFault

BUSY_SECONDS_MAX = 10.0
T = TypeVar("T")
Value = str | int | float | bytes | None


def connect(path: Path, key: bytes, *, write: bool) -> apsw.Connection:
    """Raises KeyFault, Fault for a newer one, apsw.Error."""
    connection = apsw.Connection(str(path))
    try:
        connection.execute("PRAGMA cipher='chacha20'")
        connection.execute(f"PRAGMA key='raw:{key.hex()}'")
        connection.set_busy_timeout(0)
        patiently(lambda: connection.execute("SELECT count(*) FROM sqlite_schema").fetchall())
        patiently(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchall())
        for pragma in ("synchronous=NORMAL", "temp_store=MEMORY", "cache_size=-32768", "wal_autocheckpoint=8000"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        if write and connection.pragma("user_version") != MIGRATIONS[-1].number:
            _migrate(connection)
    except apsw.NotADBError as error:
        connection.close()
        raise KeyFault(
            f"the index {path.name} does not open with this site key", hint="move it away: it is rebuilt"
        ) from error
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
