"""When may the index be written? Always, but for the moment in which a rebuilt one takes its place.

Two file locks: `turnstile`, which everybody passes, and `gate`, which a process holds shared while any of its threads writes. A rebuild
takes the turnstile (nobody new comes in), then the gate (everybody inside has left). Locks end with their process, so a rebuild that
dies holds up nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from leadglass.terms import Overloaded, StoreFault

POLL_SECONDS = 0.005


class Barrier:
    """One per process. Thread-safe."""

    def __init__(self, directory: Path, wait_seconds: float) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._turnstile = os.open(directory / "turnstile.lock", flags, 0o600)
        self._gate = os.open(directory / "gate.lock", flags, 0o600)
        self._wait_seconds = wait_seconds
        self._inside = 0
        self._exclusive = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Raises Overloaded where a rebuild holds the barrier for longer than the limit."""
        deadline = time.monotonic() + self._wait_seconds
        while not self._enter():
            if time.monotonic() >= deadline:
                raise Overloaded("the index is being exchanged; try again in a moment")
            time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    fcntl.flock(self._gate, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Nobody writes in here. Not to be entered from inside `writing`. Raises StoreFault where writers do not leave in time."""
        deadline = time.monotonic() + self._wait_seconds
        while not self._stop_the_turnstile():  # a writer passes it in microseconds, another rebuild holds it for longer
            if time.monotonic() >= deadline:
                raise StoreFault("the index is being rebuilt already", hint="wait for that rebuild to end")
            time.sleep(POLL_SECONDS)
        try:
            while not self._drained():
                if time.monotonic() >= deadline:
                    raise StoreFault(
                        "writers did not pause for the index to be exchanged", hint="try again under less load"
                    )
                time.sleep(POLL_SECONDS)
            yield
        finally:
            with self._lock:
                self._exclusive = False
                fcntl.flock(self._gate, fcntl.LOCK_UN)
                fcntl.flock(self._turnstile, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._turnstile)
        os.close(self._gate)

    def _enter(self) -> bool:
        with self._lock:
            if self._exclusive or not _try(self._turnstile, fcntl.LOCK_SH):
                return False
            try:
                if self._inside == 0 and not _try(self._gate, fcntl.LOCK_SH):
                    return False
                self._inside += 1
                return True
            finally:
                fcntl.flock(self._turnstile, fcntl.LOCK_UN)

    def _stop_the_turnstile(self) -> bool:
        """Under the lock at once with the flag: a thread of this process would turn the exclusive lock into a shared one."""
        with self._lock:
            if self._exclusive or not _try(self._turnstile, fcntl.LOCK_EX):
                return False
            self._exclusive = True
            return True

    def _drained(self) -> bool:
        with self._lock:
            return self._inside == 0 and _try(self._gate, fcntl.LOCK_EX)


def _try(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
