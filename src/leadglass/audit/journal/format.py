"""What is a journal? The exact bytes of files and records. Pure; final since version 1: later versions read it.

All integers are big-endian. A file `journal-00000001.ljn` is a head and records, and, while its writer lives, zeros set aside after them.
    head     magic(8) version u16, zero u16, file number u32, writer(16), created at u64, month(7, as 2026-11) zero(1), journal key id(8),
             first sequence u64, chain(32) that the file before ended with, crc32 of what precedes it
    record   length u32 (of all that follows it), version u8, kind u8, zero u16, sequence u64, at u64, durable mark u64, nonce(12), sealed,
             chain(32) = SHA-256(chain before, everything of this record before its chain), crc32 of everything before it with the length
    sealed   AES-256-GCM of the body under the month's journal key, bound to writer, file, chain before, and the record's first 32 bytes
The chain before a file's first record is SHA-256(head). Times are Unix nanoseconds, UTC. The durable mark is the highest sequence that was
known to be synced when the record was written: a break below a later mark is a loss, one above every mark is a torn tail. Kind 1 is an
event; kind 2 has an empty body and is there for its mark alone, as the last record of a journal that was closed is. The checksum
finds breaks and the chain finds what was left out, both without keys; the seal finds every change by whoever has no key. Nonces are
random; a month has far fewer than the 2^32 records that one key may seal so.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"\x89LGJRN\r\n"
FORMAT_VERSION = 1
EVENT_RECORD, MARK_RECORD = 1, 2
BODY_LENGTH_MAX_BYTES = 16 << 20
CHAIN_LENGTH_BYTES = 32
NONCE_LENGTH_BYTES = 12
TAG_LENGTH_BYTES = 16
_HEAD = struct.Struct(">8sHHI16sQ7sx8sQ32s")
_FIXED = struct.Struct(">IBBHQQQ12s")
_CRC = struct.Struct(">I")
_TAIL_LENGTH_BYTES = CHAIN_LENGTH_BYTES + _CRC.size
_BOUND_LENGTH_BYTES = _FIXED.size - NONCE_LENGTH_BYTES  # 32
HEAD_LENGTH_BYTES = _HEAD.size + _CRC.size
RECORD_LENGTH_MIN_BYTES = _FIXED.size + TAG_LENGTH_BYTES + _TAIL_LENGTH_BYTES
RECORD_LENGTH_MAX_BYTES = RECORD_LENGTH_MIN_BYTES + BODY_LENGTH_MAX_BYTES
_LOOKS_LIKE_A_RECORD = re.compile(b"\x01[\x01\x02]\x00\x00")  # version, kind, zero
_NAME = re.compile(r"journal-(\d{8})\.ljn")


class FormatBroken(Exception):
    """Bytes are not the structure that should be here, or another version wrote it."""


@dataclass(frozen=True, slots=True)
class FileHead:
    """`month`: `2026-11`, which journal key; `key_id` says whether it is this site's. `chain`: zeros in a writer's first file."""

    writer: bytes
    number: int
    created_at_ns: int
    month: str
    key_id: bytes
    first_sequence: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One record as read without keys; `data` is all of it, from its length to its checksum. `chain` is what it ends with."""

    is_event: bool
    sequence: int
    at_ns: int
    durable_mark: int
    chain: bytes
    data: bytes


def file_name(number: int) -> str:
    return f"journal-{number:08d}.ljn"


def parse_file_name(name: str) -> int | None:
    """The file's number, None where this is no journal's name."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def key_id_of(journal_key: bytes) -> bytes:
    return hashlib.sha256(b"leadglass/journal-key-id/1" + journal_key).digest()[:8]


def encode_head(head: FileHead) -> bytes:
    fixed = _HEAD.pack(
        MAGIC,
        FORMAT_VERSION,
        0,
        head.number,
        head.writer,
        head.created_at_ns,
        head.month.encode(),
        head.key_id,
        head.first_sequence,
        head.chain,
    )
    return fixed + _CRC.pack(zlib.crc32(fixed))


def decode_head(data: bytes) -> FileHead:
    """Raises FormatBroken."""
    if len(data) < HEAD_LENGTH_BYTES:
        raise FormatBroken("its head is cut short")
    magic, version, _, number, writer, created_at_ns, month, key_id, first, chain = _HEAD.unpack_from(data)
    if magic != MAGIC or _CRC.unpack_from(data, _HEAD.size)[0] != zlib.crc32(data[: _HEAD.size]):
        raise FormatBroken("its head is spoiled")
    if version != FORMAT_VERSION:
        raise FormatBroken(f"it has format version {version}, this program knows {FORMAT_VERSION}: upgrade the program")
    return FileHead(writer, number, created_at_ns, month.decode("ascii", "replace"), key_id, first, chain)


def first_chain(head: bytes) -> bytes:
    """What the first record of a file with that encoded head is chained to."""
    return hashlib.sha256(head[:HEAD_LENGTH_BYTES]).digest()


def encode_record(
    journal: AESGCM, head: FileHead, chain: bytes, sequence: int, at_ns: int, durable_mark: int, body: bytes
) -> tuple[bytes, bytes]:
    """The record's bytes, and the chain it ends with. `journal`: the month's key; an empty body makes a mark."""
    kind = EVENT_RECORD if body else MARK_RECORD
    nonce = secrets.token_bytes(NONCE_LENGTH_BYTES)
    length = RECORD_LENGTH_MIN_BYTES + len(body) - 4
    fixed = _FIXED.pack(length, FORMAT_VERSION, kind, 0, sequence, at_ns, durable_mark, nonce)
    data = fixed + journal.encrypt(nonce, body, _binding(head, chain, fixed))
    chain = hashlib.sha256(chain + data).digest()
    data += chain
    return data + _CRC.pack(zlib.crc32(data)), chain


def record_at(data: bytes | memoryview, offset: int) -> Record | None:
    """The whole record that stands at `offset`; None where none does, or not all of it is there."""
    if len(data) - offset < RECORD_LENGTH_MIN_BYTES:
        return None
    length, version, kind, zero, sequence, at_ns, mark, _ = _FIXED.unpack_from(data, offset)
    length += 4
    if (
        version != FORMAT_VERSION
        or kind not in (EVENT_RECORD, MARK_RECORD)
        or zero
        or not RECORD_LENGTH_MIN_BYTES <= length <= min(RECORD_LENGTH_MAX_BYTES, len(data) - offset)
    ):
        return None
    whole = bytes(data[offset : offset + length])
    if _CRC.unpack_from(whole, length - _CRC.size)[0] != zlib.crc32(whole[: -_CRC.size]):
        return None
    return Record(kind == EVENT_RECORD, sequence, at_ns, mark, whole[-_TAIL_LENGTH_BYTES : -_CRC.size], whole)


def needed_at(data: bytes | memoryview, offset: int) -> int:
    """How many bytes the record that begins at `offset` has by its own word; 0 where none begins, its minimum where that is not there."""
    if len(data) - offset < 4:
        return RECORD_LENGTH_MIN_BYTES
    length = int(_CRC.unpack_from(data, offset)[0]) + 4
    return length if RECORD_LENGTH_MIN_BYTES <= length <= RECORD_LENGTH_MAX_BYTES else 0


def records_after(data: bytes, offset: int) -> Iterator[Record]:
    """Every whole record that stands anywhere beyond a break at `offset`."""
    for found in _LOOKS_LIKE_A_RECORD.finditer(data, offset + 4):
        record = record_at(data, found.start() - 4)
        if record is not None:
            yield record


def follows(record: Record, chain: bytes) -> bool:
    """Whether it is chained to what ended with `chain`."""
    return hashlib.sha256(chain + record.data[:-_TAIL_LENGTH_BYTES]).digest() == record.chain


def chain_before(data: bytes) -> bytes:
    """The chain that a record ends with, from the bytes before the offset where it ends."""
    return data[-_TAIL_LENGTH_BYTES : -_CRC.size]


TAIL_LENGTH_BYTES = _TAIL_LENGTH_BYTES


def open_record(journal: AESGCM, head: FileHead, chain: bytes, record: Record) -> bytes:
    """The body. `chain`: of what precedes it. Raises FormatBroken where key, place or bytes are others."""
    fixed, sealed = record.data[: _FIXED.size], record.data[_FIXED.size : -_TAIL_LENGTH_BYTES]
    try:
        return journal.decrypt(fixed[-NONCE_LENGTH_BYTES:], sealed, _binding(head, chain, fixed))
    except InvalidTag:
        raise FormatBroken(f"record {record.sequence}: its seal is broken") from None


def _binding(head: FileHead, chain: bytes, fixed: bytes) -> bytes:
    return b"leadglass/journal/1" + head.writer + head.number.to_bytes(4, "big") + chain + fixed[:_BOUND_LENGTH_BYTES]
