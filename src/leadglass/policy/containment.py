"""What is contained right now? One small file, replaced atomically under its lock; its generation rises with every change.

Every process looks at it at most 200 ms late. Where it cannot be read, the last known state holds and the watch says so; a process that starts
then knows the last state from a copy. A state that was there once and is gone is not an empty one: the lock file remembers that there was
one, so that removing it revokes no revocation.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from dataclasses import replace as _with
from pathlib import Path

from leadglass.terms import Begun, Change, ChangeKind, Containment, Fault

STATE_FILE = Path("state") / "containment.json"
COPY_FILE = Path("state") / "containment.copy.json"
LOCK_FILE = Path("state") / "containment.lock"
FORMAT = 3  # 1 knew no zones, 2 not by whom
LOOK_EVERY_SECONDS = 0.2
LENGTH_MAX_BYTES = 16 << 20
SPARE_LENGTH_BYTES = 256 << 10
UNDO_SECONDS = 3600  # for so long one alone takes back what they did themselves
SITE = "site"
_WRITTEN = b"written\n"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def read(site_dir: Path) -> Containment:
    """The state as it lies there; an empty one where none was ever written. Raises Fault."""
    try:
        content = _content(site_dir / STATE_FILE)
    except FileNotFoundError:
        if _was_written(site_dir):
            raise _damaged("it was there and is gone") from None
        return Containment()
    except OSError as error:
        raise Fault(f"the containment state cannot be read: {error}", hint="check the permissions of state/") from error
    return _decoded(content)


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LENGTH_MAX_BYTES + 1)


def _decoded(content: bytes) -> Containment:
    if len(content) > LENGTH_MAX_BYTES:
        raise _damaged(f"it is longer than {LENGTH_MAX_BYTES} bytes")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(str(error)) from error
    if not isinstance(found, dict) or type(found.get("format")) is not int:
        raise _damaged("it names no format")
    if (written := found.pop("format")) < FORMAT:
        found.setdefault("begun", {})
        if written == 1:
            found.setdefault("zones", {})
    elif written != FORMAT:
        raise Fault("the containment state was written by a newer Leadglass", hint="upgrade the program")
    if set(found) != {each.name for each in fields(Containment)}:
        raise _damaged("its fields are not those of this format")
    if type(found["generation"]) is not int or found["generation"] < 0:
        raise _damaged("its generation is no number")
    for name in ("revoked", "superseded", "disabled", "zones"):
        named = found[name]
        if not isinstance(named, dict) or not all(isinstance(reason, str) for reason in named.values()):
            raise _damaged(f"{name} is no table of reasons")
    if not isinstance(found["read_only"], str) or not isinstance(found["applied"], str):
        raise _damaged("read_only and applied are texts")
    return Containment(**{**found, "begun": _begun(found["begun"])})


def _begun(told: object) -> dict[str, Begun]:
    try:
        found = {name: Begun(**each) for name, each in told.items()}  # type: ignore[attr-defined]
    except (AttributeError, TypeError) as error:
        raise _damaged(f"begun is no table of who and when: {error}") from error
    if not all(isinstance(each.by, str) and type(each.at_ns) is int for each in found.values()):
        raise _damaged("begun is no table of who and when")
    return found


def _damaged(how: str) -> Fault:
    return Fault(
        f"the containment state is damaged: {how}", hint=f"put {COPY_FILE}, or the one of the backup, in its place"
    )


def replace(site_dir: Path, edit: Callable[[Containment], Containment]) -> Containment:
    """Edits the state under its lock; durable, with the generation one higher, when it returns. Needs no daemon. Raises Fault."""
    try:
        (site_dir / STATE_FILE).parent.mkdir(exist_ok=True)
        with (site_dir / LOCK_FILE).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            old = read(site_dir)
            new = _with(edit(old), generation=old.generation + 1)
            content = json.dumps({"format": FORMAT, **asdict(new)}).encode()
            _write(site_dir / STATE_FILE, content)
            _write(
                site_dir / COPY_FILE, content
            )  # the state acts already: a crash in between leaves the copy one behind
            if not lock.tell():  # after the state is durable: a crash in between forgets nothing that was promised
                lock.write(_WRITTEN)
                lock.flush()
                os.fsync(lock.fileno())
    except OSError as error:
        raise Fault(f"the containment state cannot be written: {error}", hint="make room; check state/") from error
    return new


def _write(path: Path, content: bytes) -> None:
    if len(content) > LENGTH_MAX_BYTES:
        raise Fault("the containment state grew too long", hint="find out what revokes or disables so much")
    part, spare = (path.with_name(f".{path.name}.{what}") for what in ("part", "spare"))
    try:
        _fill(part, "wb", content)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno not in _FULL or not spare.exists() or spare.stat().st_size < len(content):
            raise
        part = spare
        _fill(part, "r+b", content)
    part.replace(path)
    _set_aside(spare)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _fill(path: Path, mode: str, content: bytes) -> None:
    with path.open(mode) as file:
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _set_aside(spare: Path) -> None:
    """Room for the next time: who fills the disk keeps nobody from containing them."""
    with contextlib.suppress(OSError), spare.open("ab") as file:
        if file.tell() < SPARE_LENGTH_BYTES:
            os.posix_fallocate(file.fileno(), 0, SPARE_LENGTH_BYTES)


def _was_written(site_dir: Path) -> bool:
    try:
        return (site_dir / LOCK_FILE).stat().st_size > 0
    except OSError:
        return False


# ---- edits


def revoke(state: Containment, fingerprints: Iterable[str], reason: str) -> Containment:
    return _with(state, revoked={**state.revoked, **dict.fromkeys(fingerprints, reason)})


def supersede(state: Containment, fingerprints: Iterable[str], reason: str) -> Containment:
    return _with(state, superseded={**state.superseded, **dict.fromkeys(fingerprints, reason)})


def disable(state: Containment, device: str, reason: str, by: str = "", at_ns: int = 0) -> Containment:
    """`by` and `at_ns`: as `Begun`."""
    now = _with(state, disabled={**state.disabled, device: reason})
    return _begin(now, f"device:{device}", Begun(by, at_ns), again=device in state.disabled)


def enable(state: Containment, device: str) -> Containment:
    rest = {name: reason for name, reason in state.disabled.items() if name != device}
    return _end(_with(state, disabled=rest), f"device:{device}")


def contain_zone(state: Containment, zone: str, reason: str, by: str = "", at_ns: int = 0) -> Containment:
    now = _with(state, zones={**state.zones, zone: reason})
    return _begin(now, f"zone:{zone}", Begun(by, at_ns), again=zone in state.zones)


def release_zone(state: Containment, zone: str) -> Containment:
    rest = {name: reason for name, reason in state.zones.items() if name != zone}
    return _end(_with(state, zones=rest), f"zone:{zone}")


def read_only(state: Containment, reason: str, by: str = "", at_ns: int = 0) -> Containment:
    """`reason`: "" lets changes in again."""
    now = _with(state, read_only=reason)
    return _begin(now, SITE, Begun(by, at_ns), again=bool(state.read_only)) if reason else _end(now, SITE)


def _begin(state: Containment, what: str, begun: Begun, *, again: bool) -> Containment:
    """What somebody contains again that another contained is nobody's alone to take back: else containing would be a way to let in."""
    known = state.begun.get(what)
    if again:
        begun = known if known is not None and known.by == begun.by else Begun("", begun.at_ns)
    return _with(state, begun={**state.begun, what: begun})


def _end(state: Containment, what: str) -> Containment:
    return _with(state, begun={name: each for name, each in state.begun.items() if name != what})


# ---- letting in again


def begun_of(state: Containment, kind: ChangeKind, about: str) -> Begun | None:
    """Of what a change would let in again; None where that is not contained, or nobody knows since when."""
    what = {ChangeKind.DEVICE_ENABLE: f"device:{about}", ChangeKind.ZONE_RELEASE: f"zone:{about}"}
    return state.begun.get(SITE if kind is ChangeKind.SITE_RELEASE else what.get(kind, ""))


def own_and_fresh(state: Containment, change: Change, now_ns: int) -> bool:
    """Whether somebody takes back what they did themselves a short while ago."""
    begun = begun_of(state, change.kind, change.about)
    mine = begun is not None and begun.by == change.operator.actor
    return begun is not None and mine and 0 <= now_ns - begun.at_ns < UNDO_SECONDS * 10**9


class Watch:
    """The state for one process: a stat at most every 200 ms, a read only where the file was replaced. Thread-safe.

    `unreadable`: what `current` gives is the last known state, which for a process that starts then is the copy; admit only what stores, and say so.
    """

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
        return self._state

    def at_once(self) -> Containment:
        """What holds now, whenever it was looked at last: for what is decided seldom. Never raises."""
        with self._lock:
            self._look()
        return self._state

    def _look(self) -> None:
        try:
            found = os.stat(self._site_dir / STATE_FILE)
            mark = (found.st_ino, found.st_mtime_ns, found.st_size)
            if mark != self._seen:
                self._take(read(self._site_dir))
                self._seen = mark  # of before the read: a replacement in between is seen the next time
            self.unreadable = False
        except FileNotFoundError:
            self.unreadable = self._seen is not None or _was_written(self._site_dir)
        except (Fault, OSError):
            self.unreadable = True
        if self.unreadable and self._seen is None:
            self._take_copy()
        self._due = self._clock() + LOOK_EVERY_SECONDS

    def _take_copy(self) -> None:
        with contextlib.suppress(Fault, OSError):
            self._take(_decoded(_content(self._site_dir / COPY_FILE)))

    def _take(self, state: Containment) -> None:
        """An older state put back is no newer truth: what it forgot stays contained here."""
        if state.generation < self._state.generation:
            raise Fault("the containment state went back", hint="restore the newest one from the backup")
        self._state = state
