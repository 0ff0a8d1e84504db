"""How does what is on disk grow older gracefully? Numbered steps, never reordered or changed; a newer version is refused in clear words.

A database keeps the list of its steps with their checksums in its table `migrations`, so that a step that was changed after it had run,
which would leave two sites with different tables and one version, is noticed at the next start.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from leadglass.terms import Fault

Place = TypeVar("Place")
_TABLE = """CREATE TABLE IF NOT EXISTS migrations(
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, at_ns INTEGER NOT NULL)"""


@dataclass(frozen=True, slots=True)
class Migration(Generic[Place]):
    """One step to version `number`. On files it is harmless to repeat, because a crash may come between its end and the new number.

    `script`: what it does as text, where it is text; the checksum is taken over it.
    """

    number: int
    name: str
    run: Callable[[Place], None]
    script: str = ""

    @property
    def checksum(self) -> str:
        return hashlib.sha256(f"{self.number}\0{self.name}\0{self.script}".encode()).hexdigest()


class Database(Protocol):
    """An SQLite connection, as far as a migration needs it."""

    def execute(self, statements: str, bindings: Any = ..., /) -> Any: ...


def script(number: int, name: str, statements: str) -> Migration[Database]:
    """A step that is SQL."""

    def run(database: Database) -> None:
        database.execute(statements)

    return Migration(number, name, run, statements)


def pending(what: str, version: int, steps: Sequence[Migration[Place]]) -> Sequence[Migration[Place]]:
    """The steps that are left, in order. Raises Fault where `version` is newer than the last step."""
    known = steps[-1].number
    if version > known:
        raise Fault(
            f"this {what} was written by a newer Leadglass (format {version}); this one knows up to {known}: upgrade the program",
            hint="nothing was touched",
        )
    return [step for step in steps if step.number > version]


def migrate_database(what: str, database: Database, steps: Sequence[Migration[Database]]) -> int:
    """Brings a database up to date in one transaction: how many steps. Raises Fault where it is newer, or a past step was changed."""
    if not _left(what, database, steps):  # without a lock: what opens it daily disturbs nobody
        return 0
    database.execute("BEGIN IMMEDIATE")
    try:
        left = _left(what, database, steps)
        database.execute(_TABLE)
        for step in left:
            step.run(database)
            row = (step.number, step.name, step.checksum, time.time_ns())
            database.execute("INSERT INTO migrations VALUES(?, ?, ?, ?)", row)
            database.execute(f"PRAGMA user_version = {step.number:d}")
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
    return len(left)


def _left(what: str, database: Database, steps: Sequence[Migration[Database]]) -> Sequence[Migration[Database]]:
    applied: Mapping[int, str] = {}
    if list(database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migrations'")):
        applied = dict(database.execute("SELECT number, checksum FROM migrations"))
    for step in steps:
        if step.number in applied and applied[step.number] != step.checksum:
            raise Fault(
                f"step {step.number} ({step.name}) of this {what} is not the one that it went through",
                hint="install the program that this site ran with before, or restore a backup",
            )
    return pending(what, max(applied, default=0), steps)
