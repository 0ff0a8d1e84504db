"""Who may append? A writer: a process with a random 128-bit id that holds the lock on its own files. No file is written by two processes.

The kernel lets a lock go when its process ends, however it ends: a free lock means a dead writer, and whoever takes it may recover its files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from leadglass.terms import StoreFault

ID_LENGTH_BYTES = 16
DIRECTORY = "writers"
ADOPTIONS_TRIED_MAX = 3  # whoever looks whether a writer lives holds its lock for microseconds
ADOPTION_PAUSE_SECONDS = 0.002
_LOCK, _SEALED = "lock", "sealed"


@dataclass(frozen=True, slots=True)
class WriterState:
    """What a look at a writer's directory tells. `alive`: somebody holds its lock; `sealed`: recovered, nothing is ever appended again."""

    id: bytes
    alive: bool
    sealed: bool


class Writer:
    """Holds its lock until `close` or the end of the process; helpers spawned meanwhile do not inherit it. Not for two threads."""

    def __init__(self, writer_id: bytes, directory: Path, lock: int) -> None:
        self.id, self.directory, self._lock = writer_id, directory, lock

    @classmethod
    def create(cls, site_dir: Path) -> Writer:
        """A new one, with its directory and its lock. Raises StoreFault."""
        writer_id = secrets.token_bytes(ID_LENGTH_BYTES)
        directory = site_dir / DIRECTORY / writer_id.hex()
        unborn = directory.with_name(f".{directory.name}")
        try:
            unborn.mkdir(mode=0o700, parents=True)
            lock = _open_lock(unborn)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unborn.rename(directory)  # nobody sees it without its lock held
            sync_directory(directory.parent)
        except OSError as error:
            raise StoreFault(
                f"no writer can be made in {directory.parent}: {error.strerror}",
                hint="check the permissions of writers/, or make room",
            ) from error
        return cls(writer_id, directory, lock)

    @classmethod
    def adopt(cls, site_dir: Path, writer_id: bytes) -> Writer | None:
        """A dead writer, for recovery; None while it lives or another process recovers it. Raises StoreFault.

        One whose directory is gone is dead too: it gets an empty one, so that what it claimed elsewhere can be dropped.
        """
        directory = site_dir / DIRECTORY / writer_id.hex()
        try:
            for _ in range(ADOPTIONS_TRIED_MAX):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = _open_lock(directory)
                with contextlib.suppress(BlockingIOError, FileNotFoundError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.path.samestat(os.fstat(lock), (directory / _LOCK).stat()):  # it was not removed meanwhile
                        return cls(writer_id, directory, lock)
                os.close(lock)
                time.sleep(ADOPTION_PAUSE_SECONDS)
        except OSError as error:
            raise StoreFault(
                f"the lock in {directory} cannot be opened: {error.strerror}", hint="check the permissions of writers/"
            ) from error
        return None

    @property
    def is_sealed(self) -> bool:
        return is_sealed(self.directory)

    def seal(self) -> None:
        """Durably marks that everything it left was recovered. Harmless to repeat. Raises OSError."""
        os.close(os.open(self.directory / _SEALED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        sync_directory(self.directory)

    def close(self) -> None:
        """Lets the lock go; a writer that wrote nothing leaves nothing. Harmless to repeat."""
        if self._lock < 0:
            return
        if os.listdir(self.directory) == [_LOCK]:
            (self.directory / _LOCK).unlink()
            with contextlib.suppress(OSError):  # somebody who adopts it has just made the lock again
                self.directory.rmdir()
        os.close(self._lock)
        self._lock = -1


def writers(site_dir: Path) -> list[WriterState]:
    """Every writer that left something, in the order of their ids."""
    return [
        WriterState(writer_id, _is_locked(directory), is_sealed(directory))
        for writer_id, directory in directories(site_dir)
    ]


def directories(site_dir: Path) -> Iterator[tuple[bytes, Path]]:
    """Id and directory of every writer, dead or alive, in the order of their ids."""
    try:
        names = sorted(os.listdir(site_dir / DIRECTORY))
    except FileNotFoundError:
        return
    for name in names:
        with contextlib.suppress(ValueError):
            writer_id = bytes.fromhex(name)
            if len(writer_id) == ID_LENGTH_BYTES:
                yield writer_id, site_dir / DIRECTORY / name


def is_sealed(directory: Path) -> bool:
    return (directory / _SEALED).exists()


def sync_directory(directory: Path) -> None:
    """Makes names that were created, renamed or removed in it durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_lock(directory: Path) -> int:
    return os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_locked(directory: Path) -> bool:
    try:
        lock = os.open(directory / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreFault(
            f"the lock in {directory} cannot be opened: {error.strerror}", hint="check the permissions of writers/"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: those who look do not disturb each other
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
