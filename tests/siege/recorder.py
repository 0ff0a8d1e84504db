"""What did the shipped program ask of the file system, and when? `leadglass up` under strace; its calls become `replay.Operation`s.

Whatever changes something below the site and is not understood here fails the recording: a call that is not replayed would be a lie.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.programs import require
from tests.running import RunningSite, until
from tests.siege.replay import MAPPED, VOLATILE, Kind, Operation

# Everything that can change a file or a name, or make it durable. Whether the program makes such a call is not assumed.
CALLS = (
    "open,openat,openat2,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,rename,renameat,renameat2,"
    "link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,sync_file_range,msync,mmap,"
    "copy_file_range,sendfile,splice,io_uring_setup,mknod,mknodat"
)
WRITE_LENGTH_MAX_BYTES = 4 << 20
TRACER_SECONDS_MAX = 60.0

_LINE = re.compile(r"(\d+) +(\d+)\.(\d{6}) (?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)", re.DOTALL)
_END = re.compile(r"\) += (-?\d+|0x[0-9a-f]+|\?)([^=]*?)(?: <(\d+)\.(\d{6})>)?\n?$")
_UNFINISHED = " <unfinished ...>"
_DESCRIPTOR = re.compile(r"(?:\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
# An address where a text or bytes belong: the process died while strace held it before the call, so its memory was gone
# when strace came to read it. Such a call is skipped by the kernel (a fatal signal pending after PTRACE_EVENT_SECCOMP).
_UNREAD = re.compile(r"(?:^|, )0x[0-9a-f]+(?:, |$)")


class NotUnderstood(Exception):
    """A call that the replay does not know."""


@dataclass(frozen=True, slots=True)
class _Call:
    entry: int
    exit: int
    name: str
    arguments: str
    result: int
    injected: bool = False
    killed: bool = False  # its process died in it: whether it was carried out must be seen from what is there


@dataclass
class Recorder:
    """Each `up` of the site is traced into a file of its own. `inject`: what strace does to calls, e.g. `fdatasync,fsync:retval=0`."""

    site: RunningSite
    place: Path
    inject: str = ""
    traces: list[Path] = field(default_factory=list)

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """The block calls `site.up()` once; the tracer ends with the site's processes, and the block after it."""
        strace = require("strace")
        trace = self.place / f"trace-{len(self.traces)}"
        self.traces.append(trace)
        line = [strace, "-D", "-f", "--seccomp-bpf", "-q", "-ttt", "-T", "-y", "-xx", "-s", str(WRITE_LENGTH_MAX_BYTES)]
        line += ["-o", str(trace), "-e", f"trace={CALLS}", *(["-e", f"inject={self.inject}"] if self.inject else [])]
        self.site.before = tuple(line)
        tracer = 0
        try:
            self.site.up()
            assert self.site.process is not None
            tracer = _tracer_of(self.site.process.pid)
            yield
        finally:
            self.site.before = ()
            if self.site.process is not None:
                self.site.down()
            assert until(lambda: not Path(f"/proc/{tracer}").exists() or not tracer, TRACER_SECONDS_MAX)

    def operations(self) -> list[Operation]:
        """In the order in which they began."""
        found = list(operations_of(self.site.directory, self.traces))
        found.sort(key=lambda each: each[0].entry)
        return [made for at, (made, killed) in enumerate(found) if not killed or self._happened(made, found[at + 1 :])]

    def _happened(self, made: Operation, later: Sequence[tuple[Operation, bool]]) -> bool:
        """Whether a call in which its process was killed was carried out: the page cache outlives a process, so what is there tells."""
        if made.kind is Kind.SYNC:
            return False
        if made.kind is not Kind.WRITE:
            name = made.target or made.path
            return any(each.path.startswith(name) for each, _ in later)
        path = self.site.directory / made.path
        if not path.exists():
            return False
        with path.open("rb") as file:
            file.seek(made.offset)
            return file.read(len(made.data)) == made.data


def _tracer_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^TracerPid:\s+([1-9]\d*)$", status, re.MULTILINE)
    assert found, "the site runs without its tracer"
    return int(found[1])


def operations_of(site: Path, traces: Sequence[Path]) -> Iterator[tuple[Operation, bool]]:
    """What was done below the site, as traced; whether the process was killed in it. Raises NotUnderstood."""
    reading = _Reading(site)
    for trace in traces:
        for call in _calls(trace, reading.marks):
            for made in reading.operations(call):
                yield made, call.killed


def _calls(trace: Path, marks: tuple[str, ...]) -> Iterator[_Call]:
    """Of the lines that name the site; a call in two halves is put together, one without its second half never returned."""
    begun: dict[str, tuple[int, str, str]] = {}
    with trace.open(encoding="ascii", errors="strict") as lines:
        for line in lines:
            if "+++" in line[:60]:
                thread, at = line.split()[:2]
                if thread in begun:
                    yield _killed(*begun.pop(thread), at)
                continue
            resumed = "<... " in line[:60]
            if not resumed and not any(mark in line for mark in marks):
                continue
            match = _LINE.match(line)
            if match is None:
                continue  # a signal
            thread, seconds, micros, name, rest = match.groups()
            entry = int(seconds) * 1_000_000 + int(micros)
            if resumed:
                if thread not in begun:
                    continue  # it does not name the site
                entry, name, arguments = begun.pop(thread)
                rest = arguments + rest
            elif rest.rstrip("\n").endswith(_UNFINISHED):
                begun[thread] = (entry, name, rest.rstrip("\n").removesuffix(_UNFINISHED))
                continue
            yield _ended(entry, name, rest)
    assert not begun, "the trace ends within a call"


def _killed(entry: int, name: str, arguments: str, at: str) -> _Call:
    seconds, _, micros = at.partition(".")
    return _Call(entry, int(seconds) * 1_000_000 + int(micros), name, arguments, 0, killed=True)


def _ended(entry: int, name: str, rest: str) -> _Call:
    end = _END.search(rest)
    if end is None:
        raise NotUnderstood(f"{name}({rest[-200:]}")
    value, note, seconds, micros = end.groups()
    if value == "?":
        return _Call(entry, entry, name, rest[: end.start()], 0, killed=True)
    took = int(seconds) * 1_000_000 + int(micros) if seconds else 0
    return _Call(entry, entry + took, name, rest[: end.start()], int(value, 0), injected="INJECTED" in note)


class _Reading:
    """Turns calls into operations below one site."""

    def __init__(self, site: Path) -> None:
        self._site = str(site)
        self._written: dict[str, int] = {}  # how far each file was written since it was opened last
        coded = "".join(f"\\x{byte:02x}" for byte in os.fsencode(self._site))
        self.marks = (coded,)

    def operations(self, call: _Call) -> Iterator[Operation]:
        if call.result < 0 or call.injected:  # it changed nothing; a sync that strace answered made nothing durable
            return
        if call.killed and _UNREAD.search(call.arguments):  # it never began
            return
        match call.name:
            case "open" | "openat":
                yield from self._opened(call)
            case "mmap":
                self._mapped(call)
            case "write" | "pwrite64" | "ftruncate" | "fallocate" | "fsync" | "fdatasync":
                yield from self._by_descriptor(call)
            case "rename" | "unlink" | "mkdir" | "truncate":
                yield from self._by_name(call)
            case _ if any(self._below(path) is not None for path in self._named(call)):
                raise NotUnderstood(f"{call.name}({call.arguments[:400]}")

    def _named(self, call: _Call) -> Iterator[str]:
        for match in (*_DESCRIPTOR.finditer(call.arguments), *_TEXT.finditer(call.arguments[:20_000])):
            yield _decoded(match[1])

    def _below(self, path: str) -> str | None:
        """Relative to the site, "" for the site itself; None for what lies elsewhere or is volatile."""
        if path == self._site:
            return ""
        if path.startswith(self._site + "/") and not path.endswith(VOLATILE):
            return path[len(self._site) + 1 :]
        return None

    def _opened(self, call: _Call) -> Iterator[Operation]:
        text = _TEXT.search(call.arguments)
        path = self._below(_decoded(text[1])) if text else None
        if text is None or path is None:
            return
        flags = call.arguments[text.end() :]
        self._written[path] = -1 if "O_APPEND" in flags else 0
        if "O_CREAT" in flags:
            mode = int(flags.rpartition(",")[2], 8) & ~0o022
            yield Operation(Kind.CREATE, call.entry, call.exit, path, mode=mode)
        if "O_TRUNC" in flags:
            yield Operation(Kind.TRUNCATE, call.entry, call.exit, path)

    def _mapped(self, call: _Call) -> None:
        if "PROT_WRITE" in call.arguments and "MAP_SHARED" in call.arguments:
            for path in self._named(call):
                if self._below(path) is not None and not path.endswith(MAPPED):
                    raise NotUnderstood(f"{path} is written through memory")

    def _by_descriptor(self, call: _Call) -> Iterator[Operation]:
        match = _DESCRIPTOR.match(call.arguments)
        path = self._below(_decoded(match[1])) if match else None
        if match is None or path is None or match[2]:  # what has no name any more is gone after the cut
            return
        rest = call.arguments[match.end() + 2 :]
        kind, offset, data = Kind.SYNC, 0, b""
        if call.name == "pwrite64":
            text = _TEXT.match(rest)
            if text is None:
                raise NotUnderstood(f"pwrite64({call.arguments[:400]}")
            data = _bytes(text[1])
            length, offset = (int(each) for each in rest[text.end() + 2 :].split(", "))
            if len(data) != length:
                raise NotUnderstood(f"a write of {length} bytes, more than is recorded")
            data = data if call.killed else data[: call.result]
            kind = Kind.WRITE
        elif call.name == "write":  # small files, written from their start by whoever opened them last
            text, offset = _TEXT.match(rest), self._written.get(path, -1)
            if text is None or offset < 0:
                raise NotUnderstood(f"{call.name}({call.arguments[:400]}")
            data = _bytes(text[1])
            data = data if call.killed else data[: call.result]
            self._written[path] = offset + len(data)
            kind = Kind.WRITE
        elif call.name == "ftruncate":
            kind, offset = Kind.TRUNCATE, int(rest)
        elif call.name == "fallocate":
            how, start, more = rest.split(", ")
            if how != "0":
                raise NotUnderstood(f"fallocate({rest}")
            kind, offset = Kind.ALLOCATE, int(start) + int(more)
        yield Operation(kind, call.entry, call.exit, path, offset=offset, data=data)

    def _by_name(self, call: _Call) -> Iterator[Operation]:
        names = [self._below(_decoded(match[1])) for match in _TEXT.finditer(call.arguments)]
        if all(each is None for each in names):
            return
        path, *more = [each for each in names if each is not None]
        if len(more) != (call.name == "rename"):
            raise NotUnderstood(f"{call.name}({call.arguments[:400]}")
        length = int(call.arguments.rpartition(",")[2]) if call.name == "truncate" else 0
        if not path.endswith(".sock"):  # a socket is no file
            target = more[0] if more else ""
            yield Operation(Kind(call.name), call.entry, call.exit, path, target, length, mode=0o700)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _decoded(text: str) -> str:
    return os.fsdecode(_bytes(text))
