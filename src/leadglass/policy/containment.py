"""What is contained right now? One small file, replaced atomically under its lock; its generation rises with every change.

Every process looks at it at most 200 ms late. Where it cannot be read, the last known state holds and the watch says so.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from dataclasses import replace as _with
from pathlib import Path

from leadglass.terms import Containment, Fault

STATE_FILE = Path("state") / "containment.json"
LOCK_FILE = Path("state") / "containment.lock"
FORMAT = 1
LOOK_EVERY_SECONDS = 0.2


def read(site_dir: Path) -> Containment:
    """The state as it lies there; an empty one where none was ever written. Raises Fault."""
    try:
        text = (site_dir / STATE_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return Containment()
    except OSError as error:
        raise Fault(f"the containment state cannot be read: {error}", hint="check the permissions of state/") from error
    try:
        content = json.loads(text)
        if content.pop("format") != FORMAT:
            raise Fault("the containment state was written by a newer Leadglass", hint="upgrade the program")
        return Containment(**content)
    except (ValueError, TypeError, KeyError) as error:
        raise Fault(f"the containment state is damaged: {error}", hint="restore state/ from the backup") from error


def replace(site_dir: Path, edit: Callable[[Containment], Containment]) -> Containment:
    """Edits the state under its lock; durable, with the generation one higher, when it returns. Needs no daemon."""
    path = site_dir / STATE_FILE
    path.parent.mkdir(exist_ok=True)
    with (site_dir / LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        old = read(site_dir)
        new = _with(edit(old), generation=old.generation + 1)
        part = path.with_name(f".{path.name}.part")
        with part.open("w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, **asdict(new)}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    return new


def revoke(state: Containment, fingerprints: Iterable[str], reason: str) -> Containment:
    return _with(state, revoked={**state.revoked, **dict.fromkeys(fingerprints, reason)})


def supersede(state: Containment, fingerprints: Iterable[str], reason: str) -> Containment:
    return _with(state, superseded={**state.superseded, **dict.fromkeys(fingerprints, reason)})


def disable(state: Containment, device: str, reason: str) -> Containment:
    return _with(state, disabled={**state.disabled, device: reason})


def enable(state: Containment, device: str) -> Containment:
    return _with(state, disabled={name: reason for name, reason in state.disabled.items() if name != device})


class Watch:
    """The state for one process: a stat at most every 200 ms, a read only where the file was replaced. Thread-safe."""

    def __init__(self, site_dir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._site_dir, self._clock = site_dir, clock
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._state = Containment()
        self._due = 0.0
        self.unreadable = False

    def current(self) -> Containment:
        """What holds, at most 200 ms late. Never raises: where it cannot be read, the last known state and `unreadable`."""
        if self._clock() < self._due:
            return self._state
        with self._lock:
            if self._clock() >= self._due:
                self._look()
                self._due = self._clock() + LOOK_EVERY_SECONDS
        return self._state

    def _look(self) -> None:
        try:
            found = os.stat(self._site_dir / STATE_FILE)
            mark = (found.st_ino, found.st_mtime_ns, found.st_size)
            if mark != self._seen:
                self._state = read(self._site_dir)
                self._seen = mark
            self.unreadable = False
        except FileNotFoundError:
            self.unreadable = self._seen is not None  # it was there and is gone
        except (Fault, OSError):
            self.unreadable = True
