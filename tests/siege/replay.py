"""What may a power cut leave? A site's directory, made again from recorded system calls as a disk could hold it at a moment in time.

The model, which is that of ext4 and XFS seen from the worst side:

* A write is durable once an fsync or fdatasync of its file that began after the write had returned has itself returned, both before the
  cut. Nothing else makes it so: neither O_DIRECT, nor time, nor the sync of another file. That holds for ftruncate and fallocate too.
* Every other write that had begun may be there, be missing, be there as a length alone (zeros), as a prefix, or as some of its sectors of
  512 bytes; each write for itself, in any combination, whatever the order in which they were made. A sector alone is whole: it holds
  what it held after one of the writes to it, for both the page cache and the disk keep their order.
* Names (create, rename, unlink, mkdir, rmdir) are journalled. `ORDERED`: the journal holds a prefix of all changes of names, at least up
  to the last one whose directory was synced, or whose new file was. `ANY`: POSIX and no more: only the sync of a directory makes its names
  durable, and each other change is there or not, for itself.
* A file that was unlinked and whose unlinking was lost is back, with what was durable of it.
* The claims, written through memory, hold anything: each of their pages is as it was created, zeros or noise, and nothing may depend on them.
* Shared memory of SQLite (`-shm`) and sockets are gone. Modes and times are not modelled: the site must not depend on them.
"""

from __future__ import annotations

import enum
import os
import random
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

SECTOR_LENGTH_BYTES, PAGE = 512, 4096
VOLATILE = "-shm"
MAPPED = ".claims"  # written through memory, which no trace shows


class Kind(enum.Enum):
    CREATE = "create"
    TRUNCATE = "truncate"
    ALLOCATE = "allocate"
    WRITE = "write"
    RENAME = "rename"
    UNLINK = "unlink"
    MKDIR = "mkdir"
    SYNC = "sync"


class Names(enum.Enum):
    """How changes of names reach the disk."""

    ORDERED = "ordered"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Operation:
    """One system call that changed or synced something below the site; times in microseconds of the wall clock, paths relative to it."""

    kind: Kind
    entry: int
    exit: int
    path: str
    target: str = ""
    offset: int = 0
    data: bytes = b""
    mode: int = 0o600


@dataclass(eq=False, slots=True)
class Node:
    """A file, a directory or a symbolic link, whatever its name is at the moment. `base`: where its first content lies."""

    directory: bool = False
    base: Path | None = None
    link: str = ""
    mode: int = 0o600
    children: dict[str, Node] = field(default_factory=dict)  # as the processes saw them
    first: dict[str, Node] = field(default_factory=dict)  # as they were before all of it
    history: list[Operation] = field(default_factory=list)
    synced: int = -1  # the entry of the last sync that returned before the cut


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one name or two. `node` None: the name goes."""

    operation: Operation
    parent: Node
    name: str
    node: Node | None
    source: tuple[Node, str] | None = None


class Replay:
    """The operations up to a cut, laid out by file. `cut`: microseconds; what began later never was."""

    def __init__(self, base: Path, operations: Iterable[Operation], cut: int) -> None:
        self._root = _tree(base)
        self._changes: list[Change] = []
        for operation in operations:
            if operation.entry < cut and not operation.path.endswith(VOLATILE):
                self._play(operation, cut)

    def leave(self, place: Path, rng: random.Random, names: Names) -> None:
        """One of the directories that the cut may leave, at `place`."""
        survivors = [change for change, kept in zip(self._changes, self._kept(rng, names), strict=True) if kept]
        held: dict[Node, dict[str, Node]] = {}

        def of(node: Node) -> dict[str, Node]:
            return held.setdefault(node, dict(node.first))

        for change in survivors:
            node = change.node
            if change.source is not None:
                parent, name = change.source
                node = of(parent).pop(name, None)
                if node is None:  # it had never reached the disk under its first name
                    continue
            if node is None:
                of(change.parent).pop(change.name, None)
            else:
                of(change.parent)[change.name] = node
        _write_directory(self._root, place, of, rng)
        _scramble(place, rng)

    # ---- laying out

    def _play(self, operation: Operation, cut: int) -> None:
        parent, name = self._parent(operation.path)
        match operation.kind:
            case Kind.CREATE | Kind.MKDIR:
                if name not in parent.children:
                    node = Node(directory=operation.kind is Kind.MKDIR, mode=operation.mode)
                    parent.children[name] = node
                    self._changes.append(Change(operation, parent, name, node))
            case Kind.UNLINK:
                parent.children.pop(name, None)
                self._changes.append(Change(operation, parent, name, None))
            case Kind.RENAME:
                to, new = self._parent(operation.target)
                to.children[new] = parent.children.pop(name)
                self._changes.append(Change(operation, to, new, to.children[new], (parent, name)))
            case Kind.SYNC:
                node = parent.children[name] if name else self._root
                if operation.exit <= cut:
                    node.synced = max(node.synced, operation.entry)
            case Kind.WRITE | Kind.TRUNCATE | Kind.ALLOCATE:
                parent.children[name].history.append(operation)

    def _parent(self, path: str) -> tuple[Node, str]:
        *above, name = path.split("/")
        node = self._root
        for each in above:
            node = node.children[each]
        return node, name

    # ---- names

    def _kept(self, rng: random.Random, names: Names) -> list[bool]:
        durable = [_is_durable(change, names) for change in self._changes]
        odds = rng.choice((0.0, 0.5, 1.0))
        if names is Names.ANY:
            return [each or rng.random() < odds for each in durable]
        least = max((at + 1 for at, each in enumerate(durable) if each), default=0)
        length = {0.0: least, 0.5: rng.randint(least, len(durable)), 1.0: len(durable)}[odds]
        return [at < length for at in range(len(durable))]


def _is_durable(change: Change, names: Names) -> bool:
    done = change.operation.exit
    parents = [change.parent, *([change.source[0]] if change.source else [])]
    if all(done <= parent.synced for parent in parents):
        return True
    by_file = names is Names.ORDERED and change.node is not None and not change.node.directory
    return by_file and change.node is not None and done <= change.node.synced


def _tree(base: Path) -> Node:
    node = Node(directory=True, mode=stat.S_IMODE(base.stat().st_mode))
    for entry in os.scandir(base):
        path = Path(entry.path)
        if entry.is_symlink():
            child = Node(link=os.readlink(path))
        elif entry.is_dir():
            child = _tree(path)
        elif entry.is_file() and not entry.name.endswith(VOLATILE):
            child = Node(base=path, mode=stat.S_IMODE(entry.stat().st_mode))
        else:
            continue
        node.children[entry.name] = node.first[entry.name] = child
    return node


# ---- contents


class _Fate(enum.Enum):
    """What becomes of what was not synced, drawn for each file: all gone and all there are the likeliest ways to lose something."""

    GONE = "gone"
    THERE = "there"
    MIXED = "mixed"


def content(node: Node, rng: random.Random) -> bytes:
    """What a file may hold after the cut."""
    held = bytearray(node.base.read_bytes() if node.base else b"")
    fate = rng.choice((_Fate.GONE, _Fate.THERE, _Fate.MIXED, _Fate.MIXED))
    stale: set[int] = set()  # sectors that lack a write: they lack all later ones too
    for operation in node.history:
        if operation.exit <= node.synced or fate is _Fate.THERE:
            _apply(held, operation)
        elif fate is _Fate.MIXED and operation.kind is Kind.WRITE:
            _tear(held, operation, rng, stale)
        elif fate is _Fate.MIXED and rng.random() < 0.5:
            _apply(held, operation)
    return bytes(held)


def _apply(held: bytearray, operation: Operation) -> None:
    offset = operation.offset
    if operation.kind is Kind.TRUNCATE:
        del held[offset:]
        held.extend(bytes(offset - len(held)))
        return
    end = offset + len(operation.data)
    held.extend(bytes(max(0, (offset if operation.kind is Kind.ALLOCATE else end) - len(held))))
    if operation.kind is Kind.WRITE:
        held[offset:end] = operation.data


def _tear(held: bytearray, operation: Operation, rng: random.Random, stale: set[int]) -> None:
    """There, missing, there as a prefix or as some sectors; and, whatever arrived, the file may be as long as it had become."""
    offset, end = operation.offset, operation.offset + len(operation.data)
    sectors = range(offset // SECTOR_LENGTH_BYTES, -(-end // SECTOR_LENGTH_BYTES))
    kind = rng.choices(("there", "missing", "prefix", "some"), (4, 3, 1, 2))[0]
    whole = {"there": len(sectors), "missing": 0, "prefix": rng.randint(0, len(sectors)), "some": 0}[kind]
    for number, sector in enumerate(sectors):
        arrives = number < whole or (kind == "some" and rng.random() < 0.5)
        if not arrives or sector in stale:
            stale.add(sector)
            continue
        start, stop = max(offset, sector * SECTOR_LENGTH_BYTES), min(end, (sector + 1) * SECTOR_LENGTH_BYTES)
        held.extend(bytes(max(0, stop - len(held))))
        held[start:stop] = operation.data[start - offset : stop - offset]
    if rng.random() < 0.3:
        held.extend(bytes(max(0, end - len(held))))


def _write_directory(node: Node, place: Path, of: Callable[[Node], dict[str, Node]], rng: random.Random) -> None:
    place.mkdir(mode=node.mode | 0o700)
    for name, child in sorted(of(node).items()):
        path = place / name
        if child.directory:
            _write_directory(child, path, of, rng)
        elif child.link:
            path.symlink_to(child.link)
        else:
            path.write_bytes(content(child, rng))
            path.chmod(child.mode | 0o600)


def _scramble(place: Path, rng: random.Random) -> None:
    for path in place.rglob(f"*{MAPPED}"):
        pages = [path.read_bytes()[at : at + PAGE] for at in range(0, path.stat().st_size, PAGE)]
        path.write_bytes(
            b"".join(rng.choice([page, bytes(len(page)), page[:16] + rng.randbytes(len(page) - 16)]) for page in pages)
        )
