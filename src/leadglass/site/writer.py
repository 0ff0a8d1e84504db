"""Who may append? A writer: a process with a random 128-bit id that holds the lock on its own files. No file is written by two processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from leadglass.terms import StoreFault

ID_LENGTH_BYTES = 16
DIRECTORY = "writers"
_LOCK, _SEALED = "lock", "sealed"


@dataclass(frozen=True, slots=True)
class WriterState:
    """What a look at a writer's directory tells. `sealed`: recovered, nothing is ever appended again."""

    id: bytes
    alive: bool
    sealed: bool


class Writer:
    """Holds its lock until `close` or the end of the process; helpers spawned meanwhile do not inherit it."""

    def __init__(self, writer_id: bytes, directory: Path, lock: int) -> None:
        self.id, self.directory, self._lock = writer_id, directory, lock

    @classmethod
    def create(cls, site_dir: Path) -> Writer:
        """A new one, with its directory and its lock."""
        writer_id = os.urandom(ID_LENGTH_BYTES)
        directory = site_dir / DIRECTORY / writer_id.hex()
        part = directory.with_name(f".{directory.name}")
        part.mkdir(mode=0o700, parents=True)
        lock = _lock(part)
        assert lock is not None
        part.rename(directory)  # nobody sees it without its lock held
        _sync(directory.parent)
        return cls(writer_id, directory, lock)

    @classmethod
    def adopt(cls, site_dir: Path, writer_id: bytes) -> Writer | None:
        """A dead writer's files, for recovery; None while it lives, or where there are none."""
        directory = site_dir / DIRECTORY / writer_id.hex()
        if not directory.is_dir():
            return None
        lock = _lock(directory)
        return None if lock is None else cls(writer_id, directory, lock)

    @property
    def is_sealed(self) -> bool:
        return (self.directory / _SEALED).exists()

    def seal(self) -> None:
        """Durably marks that everything it left was recovered."""
        descriptor = os.open(self.directory / _SEALED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.fsync(descriptor)
        os.close(descriptor)
        _sync(self.directory)

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def writers(site_dir: Path) -> list[WriterState]:
    """Every writer there ever was, in the order of their ids."""
    return list(_states(site_dir))


def _states(site_dir: Path) -> Iterator[WriterState]:
    for path in sorted((site_dir / DIRECTORY).glob("[0-9a-f]*")):
        try:
            writer_id = bytes.fromhex(path.name)
        except ValueError:
            continue
        lock = _lock(path)
        if lock is not None:
            os.close(lock)
        yield WriterState(writer_id, lock is None, (path / _SEALED).exists())


def _lock(directory: Path) -> int | None:
    try:
        descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreFault(
            f"the lock of a writer cannot be opened: {error}", hint="check the permissions of writers/"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
