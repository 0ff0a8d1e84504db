"""Which key opens a study? Each writer has its own key for a study it met, wrapped by the site key, in a file of its own.

An entry is durable before the first record that uses its key. Instance keys are random, used from the instance's first byte, and wrapped
under a study key when the header is known: destroying a study's keys is the lawful way to erase it. A destroyed entry stays in its place, sealed
like any other, and holds zeros. The file is written anew beside the old one and takes its place, so that no reader finds half of either.

File `writers/<id>/keyring`, integers big-endian, final since version 1:
    head     magic(8) version u16, zero u16, writer(16), site key id(8), crc32 of what precedes it
    entry    length u32 (of all that follows it), version u8, kind u8 (1 a study's key, 2 destroyed), durable mark u32, key id(16), sealed,
             crc32 of all before it
    sealed   nonce(12) and AES-256-GCM under the site key's purpose `keyring` of: key(32), Study Instance UID, or zeros of that length; bound
             to writer, number of the entry, version, kind, durable mark and key id
The checksum finds a torn tail without keys; the seal finds every change, and an entry that was moved or left out. The durable mark says how
many entries were known to be durable when this one was written: a broken one below a later mark is a loss, any other is a torn tail.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from leadglass.site.groupsync import GroupSync, Sync
from leadglass.site.keyplaces import KEY_ID_LENGTH_BYTES, Place, Places
from leadglass.site.sitekey import KEY_LENGTH_BYTES, SiteKey, forget_ciphers, seal, unseal
from leadglass.site.writer import Writer, directories, is_sealed, sync_directory
from leadglass.terms import Erased, JournalFault, KeyFault, StoreFault

__all__ = ["Keyring", "SiteKey", "StudyKey"]

MAGIC = b"\x89LGKEY\r\n"
ENTRY_LENGTH_MAX_BYTES = 1024
UID_LENGTH_MAX_BYTES = 512  # the Standard says 64 (PS3.5 9.1)
KEYS_MINE_MAX = 256  # of this writer's own; a study that comes again after so many others gets one more key
KEYS_OPENED_MAX = 256  # of anybody's, as they were read last; another is read and opened anew
_FILE = "keyring"
_Name = TypeVar("_Name", str, bytes)
_VERSION, _STUDY_KEY, _DESTROYED = 1, 1, 2
_HEAD = struct.Struct(">8sHH16s8sI")
_ENTRY = struct.Struct(">IBBI16s")
_CONTEXT = struct.Struct(">16sQBBI16s")
_CRC = struct.Struct(">I")
_SEALING_BYTES = 28  # nonce and tag
_RESTORE = "restore that keyring from a backup: what its keys sealed cannot be read without it"


@dataclass(frozen=True, slots=True)
class StudyKey:
    """A key of one study and one writer. Its repr shows only the id."""

    id: bytes
    key: bytes = field(repr=False)

    def wrap(self, instance_key: bytes, context: bytes) -> bytes:
        """An instance's key, sealed, bound to `context`."""
        return self.seal(b"leadglass/instance-key/1", instance_key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Raises KeyFault."""
        return self.open(b"leadglass/instance-key/1", wrapped, context)

    def seal(self, purpose: bytes, plaintext: bytes, context: bytes) -> bytes:
        """Bound to purpose, key id and context."""
        return seal(self.key, plaintext, purpose + self.id + context)

    def open(self, purpose: bytes, sealed: bytes, context: bytes) -> bytes:
        """Raises KeyFault."""
        return unseal(self.key, sealed, purpose + self.id + context)


@dataclass(slots=True)
class _Read:
    """How far another writer's file has been read. `done`: to its end, and nothing follows."""

    offset: int = 0
    entries: int = 0
    done: bool = False


class Keyring:
    """One process's view: finds every writer's keys, appends to its own. Thread-safe."""

    def __init__(self, site_dir: Path, site_key: SiteKey, writer: Writer | None) -> None:
        self.site_key = site_key
        self._site_dir, self._writer = site_dir, writer
        self._wrapping = site_key.derive("keyring")
        self._appending, self._reading = threading.Lock(), threading.Lock()
        self._mine: dict[str, StudyKey] = {}
        self._at_hand: dict[bytes, StudyKey] = {}
        self._places = Places()
        self._read: dict[bytes, _Read] = {}
        self._file = -1
        self._offset = self._entries = 0
        self._named = False
        self._group = GroupSync(self._snapshot, _unsynced)

    @classmethod
    def open(cls, site_dir: Path, site_key: SiteKey, writer: Writer | None) -> Keyring:
        """`writer`: whose file it appends to, made with the first key; None for one that only reads."""
        return cls(site_dir, site_key, writer)

    def study_key(self, study_instance_uid: str) -> StudyKey:
        """This writer's own key for the study; a new one is appended, and durable after `sync`. Raises StoreFault."""
        found = self._mine.get(study_instance_uid)
        return found if found is not None else self._make(study_instance_uid)

    def sync(self) -> None:
        """Everything appended so far is durable. Costs nothing where nothing is pending. Raises JournalFault, and then forever."""
        self._group.through(self._entries)

    def key(self, key_id: bytes) -> StudyKey:
        """Any writer's. Raises KeyFault where none has it: destroyed, or its file is lost."""
        found = self._at_hand.get(key_id)
        if found is not None:
            return found
        place = self._places.get(key_id)
        if place is None:
            with self._reading:
                self._read_further()
            place = self._places.get(key_id)
        if place is None:
            raise KeyFault(f"no keyring has the key {key_id.hex()}", hint="restore writers/*/keyring from a backup")
        found = self._opened(place)[0]
        with self._reading:
            _remember(self._at_hand, key_id, found, KEYS_OPENED_MAX)
        return found

    def studies(self) -> int:
        """How many keys there are, after opening each: the proof that a site key opens them. Raises KeyFault."""
        return sum(1 for _ in self._every())

    def keys_of(self, studies: Collection[str]) -> frozenset[bytes]:
        """The ids of every key of these studies, whose writer's it is. Raises KeyFault."""
        return frozenset(place_id for place_id, study in self._every() if study in studies)

    def forget(self, key_ids: Container[bytes]) -> None:
        """They are not used any more: what this process had in its hands of them is gone, and a study of theirs gets a new one if it comes again."""
        with self._appending:
            self._mine = {study: key for study, key in self._mine.items() if key.id not in key_ids}
        with self._reading:
            self._at_hand = {each: key for each, key in self._at_hand.items() if each not in key_ids}
        forget_ciphers()

    def destroy(self, key_ids: Container[bytes]) -> int:
        """In this writer's own file: how many. What is pending is durable too when it returns. Raises OSError, KeyFault, JournalFault."""
        self.forget(key_ids)
        self.sync()
        with self._appending:
            if self._writer is None or self._file < 0:
                return 0
            path = self._writer.directory / _FILE
            data = os.pread(self._file, self._offset, 0)
            left, destroyed = self._without(self._writer.id, path, data, key_ids)
            if destroyed:
                self._replace(path, left, self._file)
            return destroyed

    def destroy_in(self, writer: Writer, key_ids: Container[bytes]) -> int:
        """In the file of a writer that was adopted: how many. Raises OSError, KeyFault."""
        path = writer.directory / _FILE
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return 0
        left, destroyed = self._without(writer.id, path, data, key_ids)
        if destroyed:
            self._replace(path, left, None)
        return destroyed

    def remaining(self, key_ids: Container[bytes]) -> frozenset[bytes]:
        """Which of them are there still, in whatever file; read anew, without opening any."""
        found = set()
        for _, directory in directories(self._site_dir):
            with contextlib.suppress(FileNotFoundError):
                data = (directory / _FILE).read_bytes()
                for offset, _ in _entries(data, _HEAD.size):
                    _, _, kind, _, key_id = _ENTRY.unpack_from(data, offset)
                    if kind == _STUDY_KEY and key_id in key_ids:
                        found.add(key_id)
        return frozenset(found)

    def _every(self) -> Iterator[tuple[bytes, str]]:
        """Id and study of each key that is not destroyed. Raises KeyFault."""
        with self._reading:
            self._read_further()
        for key_id, place in self._places:
            with contextlib.suppress(Erased):
                yield key_id, self._opened(place)[1]

    def recover(self, writer: Writer) -> int:
        """Of a dead writer that was adopted: cuts the torn tail; the bytes cut. Raises KeyFault where what was durable is broken."""
        path = writer.directory / _FILE
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return 0
        end = number = 0
        if len(data) >= _HEAD.size and any(data):  # a head that was never synced may read as nothing or zeros
            end = _head_length(data, writer.id, self.site_key, path)
        for offset, length in _entries(data, end):
            self._unsealed(Place(writer.id, path, number, offset), data[offset : offset + length])
            end, number = offset + length, number + 1
        if _last_mark_after(data, end) > number:
            raise KeyFault(f"{path}: the entry at {end} was durable, and is broken", hint=_RESTORE)
        with path.open("r+b") as file:
            if end < len(data):
                file.truncate(end)
            os.fsync(file.fileno())  # what stays too: it may have been killed between writing and syncing
        sync_directory(writer.directory)
        return len(data) - end

    def close(self) -> None:
        """Makes what is pending durable. Harmless to repeat."""
        if self._file >= 0:
            self.sync()
            os.close(self._file)
            self._file = -1

    # ---- this writer's own file

    def _make(self, study_instance_uid: str) -> StudyKey:
        with self._appending:
            found = self._mine.get(study_instance_uid)
            if found is not None:
                return found
            if self._writer is None:
                raise KeyFault("this keyring only reads", hint="open it with a writer to make study keys")
            if len(study_instance_uid.encode()) > UID_LENGTH_MAX_BYTES:
                raise KeyFault("no study key is made for a UID of that length", hint="a UID has at most 64 characters")
            made = StudyKey(secrets.token_bytes(KEY_ID_LENGTH_BYTES), secrets.token_bytes(KEY_LENGTH_BYTES))
            path = self._writer.directory / _FILE
            try:
                if self._file < 0:
                    self._begin(path)
                entry = self._entry(made, study_instance_uid)
                _write(self._file, entry, self._offset)
            except OSError as error:
                if self._file >= 0:
                    os.ftruncate(self._file, self._offset)
                raise StoreFault(f"{path}: {error.strerror}", hint="free space; storing goes on by itself") from error
            self._places.add(made.id, Place(self._writer.id, path, self._entries, self._offset))
            _remember(self._mine, study_instance_uid, made, KEYS_MINE_MAX)
            self._offset += len(entry)
            self._entries += 1
            return made

    def _begin(self, path: Path) -> None:
        assert self._writer is not None
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fixed = _HEAD.pack(MAGIC, _VERSION, 0, self._writer.id, self.site_key.id, 0)[: -_CRC.size]
        try:
            _write(file, fixed + _CRC.pack(zlib.crc32(fixed)), 0)
            os.fdatasync(
                file
            )  # before any entry: a torn head with whole entries behind it could not be told from damage
        except OSError:
            os.close(file)
            path.unlink()
            raise
        self._file, self._offset = file, _HEAD.size

    def _entry(self, made: StudyKey, study_instance_uid: str) -> bytes:
        assert self._writer is not None
        mark = self._group.durable
        context = _CONTEXT.pack(self._writer.id, self._entries, _VERSION, _STUDY_KEY, mark, made.id)
        sealed = seal(self._wrapping, made.key + study_instance_uid.encode(), context)
        length = _ENTRY.size + len(sealed) + _CRC.size
        entry = _ENTRY.pack(length - 4, _VERSION, _STUDY_KEY, mark, made.id) + sealed
        return entry + _CRC.pack(zlib.crc32(entry))

    def _snapshot(self) -> tuple[int, Sync]:
        with self._appending:
            return self._entries, self._sync_file

    def _sync_file(self) -> None:
        os.fdatasync(self._file)
        if not self._named and self._writer is not None:
            sync_directory(self._writer.directory)
            self._named = True

    # ---- everybody's files

    def _read_further(self) -> None:
        for writer_id, directory in directories(self._site_dir):
            if self._writer is not None and writer_id == self._writer.id:
                continue
            read = self._read.setdefault(writer_id, _Read())
            if not read.done:
                sealed = is_sealed(directory)  # before the look: what comes after it was not there
                self._read_one(writer_id, directory / _FILE, read)
                read.done = sealed

    def _read_one(self, writer_id: bytes, path: Path, read: _Read) -> None:
        try:
            with path.open("rb") as file:
                if not read.offset:
                    read.offset = _head_length(file.read(_HEAD.size), writer_id, self.site_key, path)
                file.seek(read.offset)
                data = file.read()
        except FileNotFoundError:
            return
        start = read.offset
        for offset, length in _entries(data, 0):
            key_id = _ENTRY.unpack_from(data, offset)[4]
            self._places.add(key_id, Place(writer_id, path, read.entries, start + offset))
            read.entries += 1
            read.offset = start + offset + length

    def _opened(self, place: Place) -> tuple[StudyKey, str]:
        try:
            with place.path.open("rb") as file:
                file.seek(place.offset)
                return self._open_entry(place, file.read(ENTRY_LENGTH_MAX_BYTES))
        except OSError as error:
            raise KeyFault(f"{place.path}: {error.strerror}", hint=_RESTORE) from error

    def _open_entry(self, place: Place, data: bytes) -> tuple[StudyKey, str]:
        kind, key_id, opened = self._unsealed(place, data)
        if kind == _DESTROYED:
            raise Erased(f"the key {key_id.hex()} was destroyed: what it opened was erased")
        return StudyKey(key_id, opened[:KEY_LENGTH_BYTES]), opened[KEY_LENGTH_BYTES:].decode()

    def _unsealed(self, place: Place, data: bytes) -> tuple[int, bytes, bytes]:
        """Kind, key id and content of an entry. Raises KeyFault."""
        length = _entry_length(data, 0)
        if length is None:
            raise KeyFault(f"{place.path}: the entry at {place.offset} is broken", hint=_RESTORE)
        _, version, kind, mark, key_id = _ENTRY.unpack_from(data)
        context = _CONTEXT.pack(place.writer, place.number, version, kind, mark, key_id)
        try:
            return kind, key_id, unseal(self._wrapping, data[_ENTRY.size : length - _CRC.size], context)
        except KeyFault:
            raise KeyFault(f"{place.path}: the entry at {place.offset} is changed or moved", hint=_RESTORE) from None

    # ---- destroying

    def _without(self, writer_id: bytes, path: Path, data: bytes, key_ids: Container[bytes]) -> tuple[bytes, int]:
        """The same file with zeros for these keys, entry by entry of the same length; and how many there were. Raises KeyFault."""
        left = bytearray(data)
        destroyed = 0
        for number, (offset, length) in enumerate(_entries(data, _head_length(data, writer_id, self.site_key, path))):
            _, version, kind, mark, key_id = _ENTRY.unpack_from(data, offset)
            if kind != _STUDY_KEY or key_id not in key_ids:
                continue
            zeros = bytes(length - _ENTRY.size - _CRC.size - _SEALING_BYTES)
            context = _CONTEXT.pack(writer_id, number, version, _DESTROYED, mark, key_id)
            entry = _ENTRY.pack(length - 4, version, _DESTROYED, mark, key_id) + seal(self._wrapping, zeros, context)
            left[offset : offset + length] = entry + _CRC.pack(zlib.crc32(entry))
            destroyed += 1
        return bytes(left), destroyed

    def _replace(self, path: Path, data: bytes, own: int | None) -> None:
        """Durable when it returns. `own`: the descriptor that this process goes on writing by. What the old file held is overwritten where it lay."""
        part = path.with_name(f".{path.name}.part")
        old = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        fresh = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write(fresh, data, 0)
            os.fsync(fresh)
            part.replace(path)
            if own is not None:
                os.dup2(fresh, own, inheritable=False)  # a sync of the old one that is going on ends well
            sync_directory(path.parent)
            with contextlib.suppress(OSError):  # the keys are gone from every name; this is for whoever reads the disk
                _write(old, bytes(os.fstat(old).st_size), 0)
                os.fdatasync(old)
        finally:
            os.close(fresh)
            os.close(old)


def _remember(keys: dict[_Name, StudyKey], name: _Name, key: StudyKey, keys_max: int) -> None:
    if len(keys) >= keys_max:
        del keys[next(iter(keys))]
    keys[name] = key


def _entries(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Offset and length of each whole entry, up to the first that is not."""
    while (length := _entry_length(data, start)) is not None:
        yield start, length
        start += length


def _entry_length(data: bytes, offset: int) -> int | None:
    """None where no whole entry stands at `offset`."""
    if len(data) - offset < _ENTRY.size + _CRC.size:
        return None
    rest, version, kind, _, _ = _ENTRY.unpack_from(data, offset)
    length = int(rest) + 4
    longest = min(ENTRY_LENGTH_MAX_BYTES, len(data) - offset)
    if version != _VERSION or kind not in (_STUDY_KEY, _DESTROYED) or not _ENTRY.size + _CRC.size < length <= longest:
        return None
    end = offset + length - _CRC.size
    return length if _CRC.unpack_from(data, end)[0] == zlib.crc32(data[offset:end]) else None


def _last_mark_after(data: bytes, start: int) -> int:
    """The durable mark of the last whole entry beyond the break at `start`, which has the highest; 0 where none follows."""
    for offset in range(len(data) - 1, start, -1):
        if _entry_length(data, offset) is not None:
            return int(_ENTRY.unpack_from(data, offset)[3])
    return 0


def _head_length(data: bytes, writer_id: bytes, site_key: SiteKey, path: Path) -> int:
    """Where the first entry begins; 0 where the head is not all there yet. Raises KeyFault."""
    if len(data) < _HEAD.size:
        return 0
    magic, version, _, writer, key_id, crc = _HEAD.unpack_from(data)
    if magic != MAGIC or crc != zlib.crc32(data[: _HEAD.size - _CRC.size]) or writer != writer_id:
        raise KeyFault(f"{path} is broken, or not that writer's keyring", hint=_RESTORE)
    if version != _VERSION:
        raise KeyFault(f"{path} was written by a newer Leadglass (format {version})", hint="upgrade the program")
    if key_id != site_key.id:
        raise KeyFault(
            f"{path} was written under another site key ({key_id.hex()}) than this one ({site_key.id.hex()})",
            hint="name the right key in [site] key of leadglass.toml, or restore it from the recovery kit",
        )
    return _HEAD.size


def _write(file: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


def _unsynced(error: OSError) -> JournalFault:
    return JournalFault(f"the keyring cannot be synced: {error.strerror}", hint="look at the disk; restart after that")
