"""How is a site copied while it stores? In an order in which every copied part leans only on parts that are copied after it.

  1  what is final    Which writers are sealed and which segments closed is noted before anything is copied. Noted later, a writer that
                      is sealed meanwhile would vouch for files of which the backup has only the beginning.
  2  journals         Each up to its last whole record: behind it lies room set aside, into which its writer goes on writing. They come
                      before the segments, because an event tells of a record that is durable already: no event of the copy is without
                      its record. A record without its event is normal, and recovery tells it to the journal.
  3  segments         Each up to its length at one moment at which no standing changes: what a writer appended before that is in it, and
                      a promotion in one segment finds the version that it concerns in another. A torn tail is what recovery cuts.
  4  keyrings         After both: a key is durable before the first record or event that uses it, so no copied one lacks its key. None is ever final:
                      a key that was destroyed since is not in the next backup, and the copy that had it is removed with the former one.
  5  register, policy Last, so that what an event of the copy says was enrolled or revoked is. Read at once under the locks of those who
                      change them: what a crash at that moment would leave, and a restore is a start after that crash.
  6  manifest         When all of it is durable. Without it there is no backup; while it is the former one, the former backup holds,
                      because nothing of that is written again: each backup writes into a directory of its own number.

The index is derived and is not copied; nor are `run/`, the site key and the kit. A backup alone opens nothing.
What was final in the former backup is not copied again; what is the same is not written again. A crash at any step costs that backup alone.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from leadglass.archive.copying import Planned, copy, hashed, reading, reading_file
from leadglass.archive.manifest import (
    FORMAT,
    MANIFEST,
    MARK,
    Entry,
    LastEvent,
    Manifest,
    WriterCopy,
    content_mark,
    digest_of,
    durably,
    mark,
    read_manifest,
    sealing,
    write_manifest,
)
from leadglass.archive.objects import ObjectStore
from leadglass.archive.records import (
    BLOCK_LENGTH_BYTES,
    GROUP_LENGTH_BYTES,
    FormatBroken,
    decode_group_head,
    parse_segment_name,
)
from leadglass.audit.journal.format import parse_file_name
from leadglass.audit.journal.read import JournalReader
from leadglass.policy.containment import LOCK_FILE
from leadglass.site.layout import KEYS_DIRECTORY, KIT_DIRECTORY
from leadglass.site.model import Site
from leadglass.site.register import copy_register
from leadglass.site.sitekey import SiteKey, seal
from leadglass.site.write import PROVEN_DIRECTORY, PROVEN_LOCK, proven_directory
from leadglass.site.writer import DIRECTORY, directories, is_sealed, sync_directory
from leadglass.terms import JournalFault, NotChanged, StoreFault

OBJECTS = "objects"
REGISTER = "register.db"
SMALL_LENGTH_MAX_BYTES = 64 << 20
SPARE_BYTES = 64 << 20  # for what grows while it is copied, and for the small files
_NEVER = frozenset({"run", "index", KIT_DIRECTORY, KEYS_DIRECTORY, OBJECTS, DIRECTORY})


@dataclass(frozen=True, slots=True)
class Backup:
    """`site`: the one that serves now. `still`: held while standings may not change. One at a time; `progress` may be asked meanwhile."""

    site_dir: Path
    store: ObjectStore
    site_key: SiteKey
    journal: JournalReader
    site: Callable[[], Site]
    still: threading.Lock
    _done: list[int] = field(default_factory=lambda: [0, 0])
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def progress(self) -> tuple[int, int]:
        """Bytes done, bytes there."""
        return self._done[0], self._done[1]

    def run(self, directory: Path, change: str) -> dict[str, object]:
        """What came of it. Raises NotChanged where it may not lie there, StoreFault."""
        if not self._alone.acquire(blocking=False):
            raise NotChanged("a backup of this site is being made already: wait for its end")
        try:
            refuse_place(self.site_dir, directory)
            with _opened(directory):
                return _Run(self, directory, change).result()
        except OSError as error:
            raise StoreFault(
                f"the backup failed at {error.filename or directory}: {error.strerror or error}",
                hint="the former backup in that directory still holds; mend that and run it again: it goes on",
            ) from error
        finally:
            self._alone.release()


def refuse_place(site_dir: Path, directory: Path) -> None:
    """Raises NotChanged where a backup cannot be."""
    site, place = site_dir.resolve(), directory.resolve()
    if place == site or site in place.parents or place in site.parents:
        raise NotChanged(f"{directory} and the site lie inside each other: name a directory beside it, on another disk")
    if place.exists() and not place.is_dir():
        raise NotChanged(f"{directory} is no directory")
    with contextlib.suppress(FileNotFoundError):
        if any(place.iterdir()) and not (place / MARK).exists():
            raise NotChanged(
                f"{directory} holds something else: name an empty directory, or an earlier backup of this site"
            )


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[None]:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark(directory)
    with (directory / MARK).open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotChanged(f"another backup is being made in {directory}: wait for its end") from None
        yield


class _Run:
    """One backup, from the former manifest to the next."""

    def __init__(self, backup: Backup, directory: Path, change: str) -> None:
        self._backup, self._directory, self._change = backup, directory, change
        self._former = self._read_former()
        self._known = self._former.by_path() if self._former else {}
        self._number = self._former.number + 1 if self._former else 1
        self._entries: dict[str, Entry] = {}
        self._copied = self._copied_bytes = 0
        self._made: set[Path] = set()
        self._warnings: list[str] = []

    def result(self) -> dict[str, object]:
        began, started = _now(), time.monotonic()
        backup = self._backup
        sealed = {writer: is_sealed(path) for writer, path in directories(backup.site_dir)}  # 1
        segments = list(self._segments(sealed))
        self._check_room(segments)
        events = self._journals(sealed)  # 2
        with backup.still:
            segments = list(self._segments(sealed, {each.path for each in segments if each.final}))
        for planned in segments:  # 3
            self._grown(planned)
        for planned in self._keyrings():  # 4
            self._grown(planned)
        proven = self._policy()  # 5
        writers = {each.hex(): WriterCopy(sealed.get(each, False), event) for each, event in events.items()}
        files, kept = self._carried()
        manifest = Manifest(
            FORMAT, self._number, backup.site().name, backup.site_key.id.hex(), self._change, began, _now(), proven, writers, files, kept
        )  # fmt: skip
        for made in sorted(self._made):
            sync_directory(made)
        sync_directory(self._directory)
        digest = write_manifest(self._directory, manifest, backup.site_key)  # 6
        with contextlib.suppress(OSError):  # the backup is made; what is left over goes with the next
            self._clear(manifest)
        if os.stat(self._directory).st_dev == os.stat(backup.site_dir).st_dev:
            self._warnings.append("amber: the backup lies on the disk of the site, and is lost with it")
        return {
            "directory": str(self._directory),
            "number": self._number,
            "files": len(files),
            "bytes": sum(each.length for each in files),
            "copied": self._copied,
            "copied_bytes": self._copied_bytes,
            "skipped": len(files) - self._copied,
            "kept": len(kept),
            "seconds": round(time.monotonic() - started, 3),
            "manifest": digest,
            "warnings": self._warnings,
        }

    def _read_former(self) -> Manifest | None:
        if not (self._directory / MANIFEST).exists():
            return None
        return read_manifest(self._directory, self._backup.site_key)

    # ---- 1: what there is

    def _segments(self, sealed: dict[bytes, bool], final: set[str] | None = None) -> Iterator[Planned]:
        """`final`: those that were closed when that was noted; None while it is."""
        store = self._backup.store
        for name in store.names():
            named = parse_segment_name(name)
            assert named is not None
            path = f"{OBJECTS}/{name}"
            with contextlib.suppress(FileNotFoundError):  # a stream that was discarded since it was listed
                length = store.size(name)
                known = self._known.get(path)
                ends = sealed.get(named[0], False) or (known is not None and known.final and known.length == length)
                is_final = path in final if final is not None else ends or _is_closed(store, name, length)
                yield Planned(path, length, is_final, reading(store, name))

    def _check_room(self, segments: list[Planned]) -> None:
        fresh = [each.length for each in segments if not self._is_held(each)]
        others = sum(
            path.stat().st_size for _, directory in directories(self._backup.site_dir) for path in directory.iterdir()
            if f"{DIRECTORY}/{directory.name}/{path.name}" not in self._known
        )  # fmt: skip
        needed = sum(fresh) + others + SPARE_BYTES
        self._backup._done[:] = [0, sum(fresh)]
        free = shutil.disk_usage(self._directory).free
        if needed > free:
            raise StoreFault(
                f"the backup needs {needed >> 20} MiB, and {self._directory} has {free >> 20} MiB free",
                hint="make room there, or name a directory on a larger disk",
            )

    # ---- 2 to 4: what only grows

    def _journals(self, sealed: dict[bytes, bool]) -> dict[bytes, LastEvent]:
        last = {}
        for writer, directory in directories(self._backup.site_dir):
            former = self._former.writers.get(writer.hex()) if self._former else None
            is_final = sealed.get(writer, False)
            current, end = 0, 0
            if is_final and former is not None and former.sealed:
                last[writer] = former.last_event
            else:
                last[writer], current, end = self._written(writer, directory)
            for name in sorted(os.listdir(directory)):
                number = parse_file_name(name)
                if number is None or (not is_final and number > current):
                    continue
                path = directory / name
                length = end if not is_final and number == current else path.stat().st_size
                self._grown(Planned(_name(directory, name), length, is_final or number < current, reading_file(path)))
        return last

    def _written(self, writer: bytes, directory: Path) -> tuple[LastEvent, int, int]:
        """The last event, the file that it is in, and where that ends."""
        try:
            cursor, at_ns = self._backup.journal.written(writer)
        except JournalFault as broken:  # kept as it lies: it is evidence, and the rest is to be saved
            self._warnings.append(f"red: {broken}")
            numbers = [number for name in os.listdir(directory) if (number := parse_file_name(name)) is not None]
            return LastEvent(), max(numbers, default=0) + 1, 0
        return LastEvent(cursor.sequence, at_ns), cursor.file, cursor.offset

    def _keyrings(self) -> Iterator[Planned]:
        for _, directory in directories(self._backup.site_dir):
            path = directory / "keyring"
            with contextlib.suppress(FileNotFoundError):
                length = path.stat().st_size
                yield Planned(
                    _name(directory, path.name), length, False, reading_file(path)
                )  # keys are destroyed in place

    def _is_held(self, planned: Planned) -> bool:
        """What was final and has its length still is what it was."""
        known = self._known.get(planned.path)
        return (
            known is not None
            and known.final
            and planned.final
            and known.length == planned.length
            and self._lies_there(known)
        )

    def _lies_there(self, known: Entry) -> bool:
        try:
            return (self._directory / known.at).stat().st_size >= known.length
        except OSError:
            return False

    def _grown(self, planned: Planned) -> None:
        known = self._known.get(planned.path)
        if known is not None and self._is_held(planned):
            self._entries[planned.path] = known
            return
        mode = 0o400 if planned.final and planned.path.startswith(f"{OBJECTS}/") else 0o600
        at = f"{self._number:08d}/{planned.path}"
        place = self._place(at)
        with contextlib.suppress(FileNotFoundError):
            if known is not None and known.length == planned.length and self._lies_there(known):
                length, digest = hashed(planned, self._advance)
                if digest == known.sha256:
                    self._entries[planned.path] = Entry(planned.path, known.at, length, digest, mode, planned.final)
                    return
            length, digest = self._copy(planned, place)
            final = planned.final and length == planned.length
            self._entries[planned.path] = Entry(planned.path, at, length, digest, mode, final)
            self._copied += 1
            self._copied_bytes += length

    def _copy(self, planned: Planned, place: Path) -> tuple[int, str]:
        """A copy that an interrupted backup finished is not written again where it is what it should be."""
        with contextlib.suppress(FileNotFoundError):
            if planned.final and place.stat().st_size == planned.length:
                length, digest = hashed(planned, self._advance)
                if digest_of(place, length) == digest:
                    return length, digest
        return copy(planned, place, self._advance)

    def _advance(self, done: int) -> None:
        self._backup._done[0] += done

    def _place(self, at: str) -> Path:
        place = self._directory / at
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._made.update(each for each in place.parents if self._directory in each.parents)
        return place

    # ---- 5: what is replaced as a whole

    def _policy(self) -> str:
        site_dir, site = self._backup.site_dir, self._backup.site()
        local = site_dir / "state" / ".register.backup"
        with contextlib.ExitStack() as held:
            held.callback(lambda: local.unlink(missing_ok=True))
            with contextlib.ExitStack() as locks:
                for each in (PROVEN_LOCK, LOCK_FILE):
                    lock = locks.enter_context((site_dir / each).open("ab"))
                    fcntl.flock(lock, fcntl.LOCK_EX)
                proven = proven_directory(site_dir).name
                small = {path: (site_dir / path).read_bytes() for path in _policy_files(site_dir, site, proven)}
                copy_register(site_dir / REGISTER, local, self._backup.site_key.derive("register"))
            for path, content in small.items():
                self._sealed(path, content)
            self._grown(Planned(REGISTER, local.stat().st_size, False, reading_file(local)))
        return proven

    def _sealed(self, path: str, content: bytes) -> None:
        known = self._known.get(path)
        content_is = content_mark(self._backup.site_key, path, content)
        if known is not None and known.content == content_is and self._lies_there(known):
            self._entries[path] = known
            return
        at = f"{self._number:08d}/site/{path}"
        key, context = sealing(self._backup.site_key, path)
        sealed = seal(key, content, context)
        durably(self._place(at), sealed)
        mode = (self._backup.site_dir / path).stat().st_mode & 0o777
        self._entries[path] = Entry(path, at, len(sealed), hashlib.sha256(sealed).hexdigest(), mode, False, content_is)
        self._copied += 1
        self._copied_bytes += len(sealed)

    # ---- 6: the manifest, and what it no longer names

    def _carried(self) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
        """What the former backup has and the site no longer: images, journals and keys are never let go, whatever became of the site.

        One that was final still belongs to the site. One that was growing may have been a torn beginning that recovery removed, in which
        nothing had settled: it is put by, for a person to look at, and no restore takes it for kept.
        """
        files, kept = dict(self._entries), list(self._former.kept if self._former else ())
        for path, entry in self._known.items():
            if path in files or not path.startswith((f"{OBJECTS}/", f"{DIRECTORY}/")):
                continue
            if entry.final:
                files[path] = entry
                self._warnings.append(
                    f"red: the site no longer has {path}, which the former backup had: it is kept in the backup"
                )
            else:
                kept.append(entry)
        return tuple(files[path] for path in sorted(files)), tuple(kept)

    def _clear(self, manifest: Manifest) -> None:
        """Removes the former copies of what was copied anew. Only in directories that backups made."""
        named = {each.at for each in (*manifest.files, *manifest.kept)}
        for top in sorted(self._directory.iterdir()):
            if not (top.name.isdecimal() and len(top.name) == 8 and top.is_dir()):
                continue
            for folder, _, names in os.walk(top, topdown=False):
                for name in names:
                    path = Path(folder) / name
                    if str(path.relative_to(self._directory)) not in named:
                        path.unlink()
                with contextlib.suppress(OSError):  # not empty
                    os.rmdir(folder)


# ---- reading and copying


def _policy_files(site_dir: Path, site: Site, proven: str) -> Iterator[str]:
    """What the site has beside segments, writers and the register: everything but what is derived, locks, links and the site key."""
    scheme, _, key = site.key.partition(":")
    never = {site_dir / each for each in _NEVER} | {
        (site_dir / key.removeprefix("//")) if scheme == "file" else site_dir
    }
    never |= {
        (site_dir / site.index.partition(":")[2]).parent,
        site_dir / site.objects.partition(":")[2].removeprefix("//"),
    }
    never.discard(site_dir)
    current = site_dir / PROVEN_DIRECTORY / proven
    for folder, folders, names in os.walk(site_dir):
        here = Path(folder)
        folders[:] = [
            each for each in folders
            if here / each not in never and not each.startswith(".") and (here != current.parent or each == proven)
        ]  # fmt: skip
        for name in sorted(names):
            path = here / name
            if path in never or name.startswith((".", REGISTER)) or path.is_symlink() or not path.is_file():
                continue
            if name.endswith(".lock") and path != site_dir / LOCK_FILE:  # which remembers that there was a state
                continue
            if path.stat().st_size <= SMALL_LENGTH_MAX_BYTES:
                yield str(path.relative_to(site_dir))


def _is_closed(store: ObjectStore, name: str, length: int) -> bool:
    """It ends with the group that says that nothing follows."""
    if length < 2 * BLOCK_LENGTH_BYTES or length % BLOCK_LENGTH_BYTES:
        return False
    try:
        return decode_group_head(store.read(name, length - BLOCK_LENGTH_BYTES, GROUP_LENGTH_BYTES)).closes
    except FormatBroken:
        return False


def _name(directory: Path, name: str) -> str:
    return f"{DIRECTORY}/{directory.name}/{name}"


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
