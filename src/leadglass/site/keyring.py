"""Which key opens a study? Each writer has its own key for a study it met, wrapped by the site key, in a file of its own.

An entry is durable before the first record that uses its key. Instance keys are random, used from the instance's first byte, and wrapped
under a study key when the header is known: destroying a study's keys is the lawful way to erase it.

File `writers/<id>/keyring`: 16 bytes of magic and format, then entries, each `u32 length | u32 crc32 | key id (16) | sealed`. Sealed, under
the site key's purpose `keyring`, with writer and key id as context: the key (32), then the Study Instance UID.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from leadglass.site.sitekey import KEY_LENGTH_BYTES, SiteKey, seal, unseal
from leadglass.site.writer import DIRECTORY, Writer
from leadglass.terms import KeyFault

__all__ = ["Keyring", "SiteKey", "StudyKey"]

MAGIC = b"LGKEYRNG" + struct.pack("<HHL", 1, 0, 0)  # format 1
ENTRY_LENGTH_MAX_BYTES = 1024
KEY_ID_LENGTH_BYTES = 16
_ENTRY = struct.Struct("<LL16s")
_FILE = "keyring"


@dataclass(frozen=True, slots=True)
class StudyKey:
    """A key of one study and one writer. Its repr shows only the id."""

    id: bytes
    key: bytes = field(repr=False)

    def wrap(self, instance_key: bytes, context: bytes) -> bytes:
        """An instance's key, sealed, bound to `context`."""
        return seal(self.key, instance_key, b"leadglass/instance-key/1" + self.id + context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Raises KeyFault."""
        return unseal(self.key, wrapped, b"leadglass/instance-key/1" + self.id + context)


class Keyring:
    """One process's view: reads every writer's file, appends to its own. Thread-safe."""

    def __init__(self, site_dir: Path, site_key: SiteKey, writer: Writer | None) -> None:
        self.site_key = site_key
        self._site_dir, self._writer = site_dir, writer
        self._wrapping = site_key.derive("keyring")
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._mine: dict[str, StudyKey] = {}
        self._known: dict[bytes, StudyKey] = {}
        self._read: dict[str, int] = {}  # writer -> offset read so far
        self._file = -1
        self._appended = self._synced = 0

    @classmethod
    def open(cls, site_dir: Path, site_key: SiteKey, writer: Writer | None) -> Keyring:
        """`writer`: whose file it appends to; None for one that only reads."""
        keyring = cls(site_dir, site_key, writer)
        if writer is not None:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            keyring._file = os.open(writer.directory / _FILE, flags, 0o600)
            if os.fstat(keyring._file).st_size == 0:
                os.write(keyring._file, MAGIC)
                keyring._appended = len(MAGIC)
        return keyring

    def study_key(self, study_instance_uid: str) -> StudyKey:
        """This writer's own key for the study; a new one is appended, and durable after `sync`."""
        found = self._mine.get(study_instance_uid)
        if found is not None:
            return found
        with self._lock:
            found = self._mine.get(study_instance_uid)
            if found is None:
                found = StudyKey(os.urandom(KEY_ID_LENGTH_BYTES), os.urandom(KEY_LENGTH_BYTES))
                self._append(study_instance_uid, found)
                self._known[found.id] = found
                self._mine[study_instance_uid] = found
        return found

    def sync(self) -> None:
        """Everything appended so far is durable. Costs nothing where nothing is pending. Raises KeyFault."""
        if self._synced >= self._appended:
            return
        with self._syncing:
            target = self._appended
            if self._synced >= target:
                return
            try:
                os.fdatasync(self._file)
            except OSError as error:
                raise KeyFault(
                    f"the keyring cannot be synced: {error}", hint="look at the disk; restart after that"
                ) from error
            self._synced = target

    def key(self, key_id: bytes) -> StudyKey:
        """Any writer's. Raises KeyFault where none has it: destroyed, or its file is lost."""
        found = self._known.get(key_id)
        if found is not None:
            return found
        with self._lock:
            self._read_all()
            found = self._known.get(key_id)
        if found is None:
            raise KeyFault(f"no keyring has the key {key_id.hex()}", hint="restore writers/*/keyring from a backup")
        return found

    def studies(self) -> int:
        """How many keys there are, for the proof that a kit opens them."""
        with self._lock:
            self._read_all()
            return len(self._known)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _append(self, study_instance_uid: str, key: StudyKey) -> None:
        assert self._writer is not None, "a keyring without a writer only reads"
        context = b"leadglass/study-key/1" + self._writer.id + key.id
        sealed = seal(self._wrapping, key.key + study_instance_uid.encode(), context)
        entry = _ENTRY.pack(len(sealed), zlib.crc32(key.id + sealed), key.id) + sealed
        try:
            written = os.write(self._file, entry)
        except OSError as error:
            raise KeyFault(
                f"the keyring cannot be written: {error}", hint="free space; storing goes on by itself"
            ) from error
        self._appended += written
        if written != len(entry):
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise KeyFault("the disk is full in the middle of a keyring entry", hint="free space")

    def _read_all(self) -> None:
        for path in sorted((self._site_dir / DIRECTORY).glob(f"[0-9a-f]*/{_FILE}")):
            name = path.parent.name
            start = self._read.get(name, 0)
            if path.stat().st_size > start:
                with path.open("rb") as file:
                    data = file.read()
                for end, key_id, sealed in entries(data, start):
                    context = b"leadglass/study-key/1" + bytes.fromhex(name) + key_id
                    plain = unseal(self._wrapping, sealed, context)
                    self._known.setdefault(key_id, StudyKey(key_id, plain[:KEY_LENGTH_BYTES]))
                    self._read[name] = end


def entries(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
    """Whole entries from an offset on: where each ends, its key id, what is sealed. Stops at a torn tail. Raises KeyFault."""
    if len(data) < len(MAGIC):
        return
    if data[:8] != MAGIC[:8]:
        raise KeyFault("this is no keyring", hint="restore it from a backup")
    if struct.unpack_from("<H", data, 8)[0] != 1:
        raise KeyFault("this keyring was written by a newer Leadglass", hint="upgrade the program")
    offset = max(start, len(MAGIC))
    while offset + _ENTRY.size <= len(data):
        length, crc, key_id = _ENTRY.unpack_from(data, offset)
        end = offset + _ENTRY.size + length
        sealed = data[offset + _ENTRY.size : end]
        if length > ENTRY_LENGTH_MAX_BYTES or end > len(data) or zlib.crc32(key_id + sealed) != crc:
            return
        yield end, key_id, sealed
        offset = end


def cut_torn_tail(writer: Writer) -> int:
    """Of a dead writer that was adopted: the bytes cut. A torn entry was never used: its record would have come after its sync."""
    path = writer.directory / _FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return 0
    whole = len(MAGIC) if len(data) >= len(MAGIC) else 0
    for end, _, _ in entries(data):
        whole = end
    if whole < len(data):
        os.truncate(path, whole)
    return len(data) - whole
