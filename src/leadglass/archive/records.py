"""What is a record? The exact bytes of segments, groups, records, trailers and footers (`docs/formats.md`). Pure.

Every structure has a magic, a version and a checksum, so that a segment is walked forward and backward without any key.
All integers are big-endian. What is written here is final: later versions read it.
"""

from __future__ import annotations

import enum
import struct
import zlib
from dataclasses import dataclass

import msgspec

from leadglass.archive.seal import InstanceSeal
from leadglass.site.keyring import StudyKey
from leadglass.terms import Event, HoldReason, Instance, Location, Settled, Standing

FORMAT_VERSION = 1
BLOCK_LENGTH_BYTES = 4096
TRAILER_LENGTH_MAX_BYTES = 16 << 20
SEGMENT_MAGIC = b"\x89LGSEG\r\n"
GROUP_MAGIC = b"\x89LGGRP\r\n"
RECORD_MAGIC = b"\x89LGREC\r\n"
TRAILER_MAGIC = b"LGTR"
FOOTER_MAGIC = b"\x89LGEND\r\n"
_SEGMENT = struct.Struct(">8sHHI16sQQ")
_GROUP = struct.Struct(">8sHHI16sQQ12x")
_HEAD = struct.Struct(">8sHBB16sQ16sQ")
_TRAILER = struct.Struct(">4sIII")
_CLEAR = struct.Struct(">16sH")
_FOOTER = struct.Struct(">QQIII")
_CRC = struct.Struct(">I")
GROUP_LENGTH_BYTES = _GROUP.size + _CRC.size  # 64
HEAD_LENGTH_BYTES = _HEAD.size + _CRC.size  # 64
FOOTER_LENGTH_BYTES = _FOOTER.size + _CRC.size + len(FOOTER_MAGIC)  # 40
TRAILER_HEAD_LENGTH_BYTES = _TRAILER.size  # 16
GROUP_CLOSES = 1  # flag: no group follows, and all before is durable
_BINDING = struct.Struct(">16sQQBQ")


class FormatBroken(Exception):
    """Bytes are not the structure that should be here. `what`: which structure, and what is wrong with it."""


class RecordKind(enum.IntEnum):
    INSTANCE = 1
    STANDING_CHANGE = 2


@dataclass(frozen=True, slots=True)
class SegmentHead:
    writer: bytes
    number: int
    created_at_ns: int


@dataclass(frozen=True, slots=True)
class GroupHead:
    """`durable_mark`: everything of this segment below that offset was synced before this group was written."""

    writer: bytes
    segment: int
    durable_mark: int
    closes: bool = False


@dataclass(frozen=True, slots=True)
class RecordHead:
    """`body_length`: frames and preamble together, in bytes. A head is written last, so it always knows."""

    writer: bytes
    number: int
    kind: RecordKind
    instance_id: bytes
    body_length: int


@dataclass(frozen=True, slots=True)
class Footer:
    """Lengths in bytes. `record_length` counts from the head's first byte to the footer's last, `body_length` frames and preamble."""

    record_length: int
    body_length: int
    trailer_length: int
    chunks: int
    trailer_crc: int


@dataclass(frozen=True, slots=True)
class Facts:
    """The sealed part of an instance's trailer: a `Settled` but for where it rests, when it came by three clocks, and its event.

    `utc_offset_minutes`: of the local time; `monotonic_ns`: CLOCK_MONOTONIC; `sequence`: arrivals of this writer, counted.
    """

    instance: Instance
    digest: bytes
    data_set_length: int
    header_length: int
    version: int
    standing: Standing
    holds: tuple[HoldReason, ...]
    parent_digest: bytes | None
    sender: str
    fingerprint: str
    rule: str
    received_at_ns: int
    utc_offset_minutes: int
    monotonic_ns: int
    sequence: int
    event: Event

    def settled(self, writer: bytes, location: Location) -> Settled:
        return Settled(
            instance=self.instance,
            digest=self.digest,
            data_set_length=self.data_set_length,
            header_length=self.header_length,
            version=self.version,
            standing=self.standing,
            holds=frozenset(self.holds),
            parent_digest=self.parent_digest,
            sender=self.sender,
            fingerprint=self.fingerprint,
            rule=self.rule,
            received_at_ns=self.received_at_ns,
            writer=writer,
            location=location,
        )


@dataclass(frozen=True, slots=True)
class VersionStanding:
    """What one version of an object is from now on."""

    version: int
    standing: Standing
    holds: tuple[HoldReason, ...] = ()


@dataclass(frozen=True, slots=True)
class StandingChange:
    """The sealed part of a standing change's trailer."""

    sop_instance_uid: str
    study_instance_uid: str
    versions: tuple[VersionStanding, ...]
    changed_at_ns: int


_ENCODER = msgspec.msgpack.Encoder()
_FACTS = msgspec.msgpack.Decoder(Facts)
_CHANGE = msgspec.msgpack.Decoder(StandingChange)


def encode_sealed(sealed: Facts | StandingChange) -> bytes:
    """MessagePack maps by field name: a later version adds fields with defaults, it renames none."""
    return _ENCODER.encode(sealed)


def decode_facts(sealed: bytes) -> Facts:
    """Raises FormatBroken."""
    try:
        return _FACTS.decode(sealed)
    except msgspec.MsgspecError as error:
        raise FormatBroken(f"an instance's trailer: {error}") from None


def decode_change(sealed: bytes) -> StandingChange:
    """Raises FormatBroken."""
    try:
        return _CHANGE.decode(sealed)
    except msgspec.MsgspecError as error:
        raise FormatBroken(f"a standing change's trailer: {error}") from None


# ---- segments


def segment_name(writer: bytes, number: int) -> str:
    return f"{writer.hex()}-{number:08d}.lgs"


def parse_segment_name(name: str) -> tuple[bytes, int] | None:
    """Writer and number, None where this is no segment's name."""
    stem, dot, suffix = name.partition(".")
    writer, dash, number = stem.partition("-")
    if not dot or not dash or suffix != "lgs" or len(writer) != 32 or len(number) != 8 or not number.isdecimal():
        return None
    try:
        return bytes.fromhex(writer), int(number)
    except ValueError:
        return None


def encode_segment_head(head: SegmentHead) -> bytes:
    """The segment's first block."""
    fixed = _SEGMENT.pack(
        SEGMENT_MAGIC, FORMAT_VERSION, 0, BLOCK_LENGTH_BYTES, head.writer, head.number, head.created_at_ns
    )
    block = fixed.ljust(BLOCK_LENGTH_BYTES - _CRC.size, b"\0")
    return block + _CRC.pack(zlib.crc32(block))


def decode_segment_head(block: bytes) -> SegmentHead:
    """Raises FormatBroken."""
    _check(block, BLOCK_LENGTH_BYTES, "a segment's head")
    magic, version, _flags, _length, writer, number, created_at_ns = _SEGMENT.unpack_from(block)
    _check_kind(magic, SEGMENT_MAGIC, version, "a segment's head")
    return SegmentHead(writer, number, created_at_ns)


def encode_group_head(head: GroupHead) -> bytes:
    flags = GROUP_CLOSES if head.closes else 0
    fixed = _GROUP.pack(GROUP_MAGIC, FORMAT_VERSION, flags, 0, head.writer, head.segment, head.durable_mark)
    return fixed + _CRC.pack(zlib.crc32(fixed))


def decode_group_head(data: bytes | memoryview) -> GroupHead:
    """Raises FormatBroken."""
    _check(data, GROUP_LENGTH_BYTES, "a group's head")
    magic, version, flags, _, writer, segment, mark = _GROUP.unpack_from(data)
    _check_kind(magic, GROUP_MAGIC, version, "a group's head")
    return GroupHead(writer, segment, mark, bool(flags & GROUP_CLOSES))


# ---- records


def encode_record_head(head: RecordHead) -> bytes:
    fixed = _HEAD.pack(
        RECORD_MAGIC, FORMAT_VERSION, head.kind, 0, head.writer, head.number, head.instance_id, head.body_length
    )
    return fixed + _CRC.pack(zlib.crc32(fixed))


def decode_record_head(data: bytes | memoryview) -> RecordHead:
    """Raises FormatBroken."""
    _check(data, HEAD_LENGTH_BYTES, "a record's head")
    magic, version, kind, _flags, writer, number, instance_id, body_length = _HEAD.unpack_from(data)
    _check_kind(magic, RECORD_MAGIC, version, "a record's head")
    try:
        return RecordHead(writer, number, RecordKind(kind), instance_id, body_length)
    except ValueError:
        raise FormatBroken(f"a record of unknown kind {kind}; a newer version wrote it") from None


def encode_footer(footer: Footer) -> bytes:
    fixed = _FOOTER.pack(
        footer.record_length, footer.body_length, footer.trailer_length, footer.chunks, footer.trailer_crc
    )
    return fixed + _CRC.pack(zlib.crc32(fixed)) + FOOTER_MAGIC


def decode_footer(data: bytes | memoryview) -> Footer:
    """Raises FormatBroken."""
    if len(data) < FOOTER_LENGTH_BYTES or bytes(data[-len(FOOTER_MAGIC) :]) != FOOTER_MAGIC:
        raise FormatBroken("a record's footer: not there")
    _check(data, FOOTER_LENGTH_BYTES - len(FOOTER_MAGIC), "a record's footer")
    footer = Footer(*_FOOTER.unpack_from(data))
    whole = HEAD_LENGTH_BYTES + footer.body_length + footer.trailer_length + FOOTER_LENGTH_BYTES
    if footer.record_length != whole:
        raise FormatBroken("a record's footer: its lengths do not add up")
    return footer


def binding(head: RecordHead, segment: int) -> bytes:
    """What a trailer is bound to beside its instance."""
    return _BINDING.pack(head.writer, segment, head.number, head.kind, head.body_length)


def wrap_context(head: RecordHead) -> bytes:
    """What a wrapped instance key is bound to beside its study key."""
    return head.writer + struct.pack(">Q", head.number) + head.instance_id


def encode_ending(
    head: RecordHead, segment: int, chunks: int, seal: InstanceSeal, key: StudyKey, sealed: bytes
) -> bytes:
    """Trailer and footer of the record with that head; `sealed` is the plaintext of the trailer's sealed part."""
    wrapped = key.wrap(seal.key, wrap_context(head))
    clear = _CLEAR.pack(key.id, len(wrapped)) + wrapped
    ciphertext = seal.seal_trailer(sealed, binding(head, segment) + clear)
    trailer = _TRAILER.pack(TRAILER_MAGIC, len(clear), len(ciphertext), 0) + clear + ciphertext
    record_length = HEAD_LENGTH_BYTES + head.body_length + len(trailer) + FOOTER_LENGTH_BYTES
    return trailer + encode_footer(Footer(record_length, head.body_length, len(trailer), chunks, zlib.crc32(trailer)))


@dataclass(frozen=True, slots=True)
class Trailer:
    """A trailer as read without keys."""

    key_id: bytes
    wrapped_key: bytes
    clear: bytes
    sealed: bytes


def trailer_length(data: bytes) -> int:
    """How long the trailer is that begins so. Raises FormatBroken."""
    if len(data) < _TRAILER.size:
        raise FormatBroken("a trailer: cut short")
    magic, clear_length, sealed_length, _ = _TRAILER.unpack_from(data)
    if magic != TRAILER_MAGIC or clear_length + sealed_length > TRAILER_LENGTH_MAX_BYTES:
        raise FormatBroken("a trailer: not one")
    return int(_TRAILER.size + clear_length + sealed_length)


def decode_trailer(data: bytes, footer: Footer) -> Trailer:
    """Raises FormatBroken."""
    if len(data) != footer.trailer_length or zlib.crc32(data) != footer.trailer_crc:
        raise FormatBroken("a trailer: its checksum is wrong")
    if len(data) < _TRAILER.size:
        raise FormatBroken("a trailer: too short")
    magic, clear_length, sealed_length, _ = _TRAILER.unpack_from(data)
    if (
        magic != TRAILER_MAGIC
        or _TRAILER.size + clear_length + sealed_length != len(data)
        or clear_length < _CLEAR.size
    ):
        raise FormatBroken("a trailer: its lengths do not add up")
    clear = data[_TRAILER.size : _TRAILER.size + clear_length]
    key_id, wrapped_length = _CLEAR.unpack_from(clear)
    wrapped = clear[_CLEAR.size : _CLEAR.size + wrapped_length]
    if len(wrapped) != wrapped_length:
        raise FormatBroken("a trailer: its key is cut short")
    return Trailer(key_id, wrapped, clear, data[_TRAILER.size + clear_length :])


def open_trailer(head: RecordHead, segment: int, trailer: Trailer, key: StudyKey) -> tuple[InstanceSeal, bytes]:
    """The instance's seal and the plaintext of the sealed part. Raises SealBroken, KeyFault."""
    seal = InstanceSeal(head.instance_id, key.unwrap(trailer.wrapped_key, wrap_context(head)))
    return seal, seal.open_trailer(trailer.sealed, binding(head, segment) + trailer.clear)


def padding(length: int) -> int:
    """Zeros up to the next block."""
    return -length % BLOCK_LENGTH_BYTES


def _check(data: bytes | memoryview, length: int, what: str) -> None:
    if len(data) < length:
        raise FormatBroken(f"{what}: cut short")
    if _CRC.unpack_from(data, length - _CRC.size)[0] != zlib.crc32(data[: length - _CRC.size]):
        raise FormatBroken(f"{what}: its checksum is wrong")


def _check_kind(magic: bytes, expected: bytes, version: int, what: str) -> None:
    if magic != expected:
        raise FormatBroken(f"{what}: not one")
    if version != FORMAT_VERSION:
        raise FormatBroken(f"{what}: format version {version}, which this version of Leadglass does not read")
