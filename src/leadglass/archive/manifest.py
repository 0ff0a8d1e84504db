"""What does a backup hold? One file, written last: every file's length and digest, sealed to the site key, so that nothing of it changes unseen."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec

from leadglass.site.sitekey import SiteKey
from leadglass.site.writer import sync_directory
from leadglass.terms import Fault, KeyFault, StoreFault

FORMAT = 1
MANIFEST = "manifest.json"
MARK = "LEADGLASS-BACKUP"
CHUNK_LENGTH_BYTES = 4 << 20
_KEY = "backup"
_WHAT_THIS_IS = b"""This directory is a backup of a Leadglass site, format 1.
It opens only with the site's recovery kit or its site key, which are not in it.
    leadglass backup verify DIRECTORY                  do all digests hold?
    leadglass restore DIRECTORY NEW-SITE --kit KIT     a site again
"""

Advance = Callable[[int], None]  # is told of bytes as they are done


@dataclass(frozen=True, slots=True)
class Entry:
    """One file. `path`: in the site; `at`: in the backup; `sha256`: of what lies there.

    `final`: nothing is ever appended to it again. `content`: a keyed digest of what a sealed file holds, "" for one that lies there as it is.
    """

    path: str
    at: str
    length: int
    sha256: str
    mode: int
    final: bool = False
    content: str = ""

    @property
    def sealed(self) -> bool:
        return bool(self.content)


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The last event of a writer that is in the backup; sequence 0 where it wrote none."""

    sequence: int = 0
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class WriterCopy:
    """`sealed`: it had been, before the first of its files was copied."""

    sealed: bool
    last_event: LastEvent


@dataclass(frozen=True, slots=True)
class Manifest:
    """`files` are the backup. `kept`: what an earlier one had and the site no longer has; no restore touches it, no later backup removes it.

    `change`: the change that made it, which its own copy of the register cannot know to be completed. `proven`: the policy that served.
    """

    format: int
    number: int
    site: str
    site_key: str
    change: str
    began: str
    ended: str
    proven: str
    writers: Mapping[str, WriterCopy] = field(default_factory=dict)
    files: tuple[Entry, ...] = ()
    kept: tuple[Entry, ...] = ()

    def by_path(self) -> dict[str, Entry]:
        return {each.path: each for each in self.files}

    def last_event_ns(self) -> int:
        return max((each.last_event.at_ns for each in self.writers.values()), default=0)


@dataclass(frozen=True, slots=True)
class _Envelope:
    mac: str
    manifest: msgspec.Raw


@dataclass(frozen=True, slots=True)
class _Version:
    format: int


def mark(directory: Path) -> None:
    """The first thing in a backup: an interrupted one is known by it, and may be gone on with."""
    if not (directory / MARK).exists():
        durably(directory / MARK, _WHAT_THIS_IS)


def write_manifest(directory: Path, manifest: Manifest, site_key: SiteKey) -> str:
    """Durable and whole, or the former one still: its SHA-256."""
    raw = msgspec.json.encode(manifest)
    content = msgspec.json.encode(_Envelope(_mac(site_key, raw), msgspec.Raw(raw))) + b"\n"
    durably(directory / MANIFEST, content)
    return hashlib.sha256(content).hexdigest()


def read_manifest(directory: Path, site_key: SiteKey | None = None) -> Manifest:
    """With `site_key` also whether it is that site's, and unchanged. Raises StoreFault, KeyFault, Fault for a newer format."""
    again = "run `leadglass backup` into it again"
    try:
        content = (directory / MANIFEST).read_bytes()
    except FileNotFoundError:
        if (directory / MARK).exists():
            raise StoreFault(f"{directory} is a backup that was never finished", hint=again) from None
        raise StoreFault(f"{directory} is no backup: it has no {MANIFEST}", hint="name a backup's directory") from None
    except OSError as error:
        raise StoreFault(f"{directory / MANIFEST}: {error.strerror}", hint="check the permissions") from error
    damaged = f"{directory / MANIFEST} is damaged"
    try:
        envelope = msgspec.json.decode(content, type=_Envelope)
        version = msgspec.json.decode(envelope.manifest, type=_Version).format
        if version != FORMAT:
            raise Fault(
                f"a backup of format {version}; this program knows {FORMAT}",
                hint="upgrade the program: nothing was touched",
            )
        manifest = msgspec.json.decode(envelope.manifest, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreFault(f"{damaged}: {error}", hint=f"{again}, or take another backup") from error
    if outside := next(
        (name for each in (*manifest.files, *manifest.kept) for name in (each.path, each.at) if not _within(name)), ""
    ):
        raise StoreFault(f"{damaged}: it names {outside[:64]!r}, which lies outside", hint="take another backup")
    if site_key is not None:
        if manifest.site_key != site_key.id.hex():
            raise KeyFault(
                f"this backup is of the site with key {manifest.site_key}, not {site_key.id.hex()}",
                hint="is it this site's kit or key?",
            )
        if not hmac.compare_digest(envelope.mac, _mac(site_key, bytes(envelope.manifest))):
            raise StoreFault(
                f"{damaged}: it is not as this site wrote it",
                hint="take another backup, and ask who could change this one",
            )
    return manifest


def problems(directory: Path, manifest: Manifest, advance: Advance = lambda done: None) -> Iterator[str]:
    """Each file that is missing or damaged, named. What lies beside them is not looked at."""
    for entry in manifest.files:
        found = problem(directory, entry, advance)
        if found:
            yield found


def problem(directory: Path, entry: Entry, advance: Advance = lambda done: None) -> str:
    """What is wrong with one file, "" where nothing is."""
    try:
        if digest_of(directory / entry.at, entry.length, advance) != entry.sha256:
            return f"{entry.at}: damaged, its digest does not hold"
    except FileNotFoundError:
        return f"{entry.at}: missing"
    except EOFError as short:
        return f"{entry.at}: {short}"
    except OSError as error:
        return f"{entry.at}: {error.strerror}"
    return ""


def digest_of(path: Path, length: int, advance: Advance = lambda done: None) -> str:
    """SHA-256, hex, of a file's first bytes. Raises EOFError where there are fewer, OSError."""
    digest = hashlib.sha256()
    for piece in pieces(path, length):
        digest.update(piece)
        advance(len(piece))
    return digest.hexdigest()


def pieces(path: Path, length: int) -> Iterator[memoryview]:
    """The first `length` bytes, in one buffer that is used again. Raises EOFError where there are fewer, OSError. No link is followed."""
    buffer = memoryview(bytearray(min(CHUNK_LENGTH_BYTES, max(length, 1))))
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        done = 0
        while done < length:
            count = os.preadv(descriptor, [buffer[: min(len(buffer), length - done)]], done)
            if not count:
                raise EOFError(f"cut off after {done} of {length} bytes")
            yield buffer[:count]
            done += count
    finally:
        os.close(descriptor)


def content_mark(site_key: SiteKey, path: str, plaintext: bytes) -> str:
    """Says whether a small file changed since the last backup, and to nobody without the key what is in it."""
    return hmac.new(
        site_key.derive(_KEY), b"content\0" + os.fsencode(path) + b"\0" + plaintext, hashlib.sha256
    ).hexdigest()


def sealing(site_key: SiteKey, path: str) -> tuple[bytes, bytes]:
    """Key and context under which a small file is sealed in a backup: bound to where it belongs."""
    return site_key.derive(f"{_KEY}/files"), b"leadglass/backup/1\0" + os.fsencode(path)


def durably(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with open(part, "wb", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC, mode)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_directory(path.parent)


def _mac(site_key: SiteKey, raw: bytes) -> str:
    return hmac.new(site_key.derive(f"{_KEY}/manifest"), raw, hashlib.sha256).hexdigest()


def _within(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and "\0" not in name and not name.startswith("/") and ".." not in parts
