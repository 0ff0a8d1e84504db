from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadglass.archive import records
from leadglass.archive.records import (
    BLOCK_LENGTH_BYTES,
    FOOTER_LENGTH_BYTES,
    GROUP_LENGTH_BYTES,
    HEAD_LENGTH_BYTES,
    Footer,
    FormatBroken,
    GroupHead,
    RecordHead,
    RecordKind,
    SegmentHead,
)
from leadglass.archive.seal import (
    CHUNK_LENGTH_MAX_BYTES,
    FRAME_LENGTH_MAX_BYTES,
    InstanceSeal,
    SealBroken,
    frames,
    sealed_empty,
)
from leadglass.archive.walk import last_record, record_before, walk
from leadglass.terms import PatientIdentity
from tests.archive.place import Place, content

WRITER = bytes(range(16))
NUMBERS = st.integers(0, 2**63)


@given(NUMBERS, NUMBERS)
def test_heads_survive_and_every_flipped_bit_is_found(number: int, length: int) -> None:
    head = RecordHead(WRITER, number, RecordKind.INSTANCE, WRITER[::-1], length)
    group = GroupHead(WRITER, number, length, closes=bool(number % 2))
    segment = SegmentHead(WRITER, number, length)
    assert records.decode_record_head(records.encode_record_head(head)) == head
    assert records.decode_group_head(records.encode_group_head(group)) == group
    assert records.decode_segment_head(records.encode_segment_head(segment)) == segment


def test_lengths_are_those_of_the_format() -> None:
    """docs/formats.md"""
    head = RecordHead(WRITER, 1, RecordKind.INSTANCE, WRITER, 1)
    assert len(records.encode_record_head(head)) == HEAD_LENGTH_BYTES == 64
    assert len(records.encode_group_head(GroupHead(WRITER, 1, 1))) == GROUP_LENGTH_BYTES == 64
    assert len(records.encode_segment_head(SegmentHead(WRITER, 1, 1))) == BLOCK_LENGTH_BYTES == 4096
    assert len(records.encode_footer(Footer(1, 1, 1, 1, 1))) == FOOTER_LENGTH_BYTES == 40


def test_exact_bytes_of_a_record_head() -> None:
    """Final: a change here breaks every store in the field."""
    head = records.encode_record_head(RecordHead(WRITER, 7, RecordKind.INSTANCE, WRITER[::-1], 0x0102))
    assert head.hex() == (
        "894c475245430d0a" "0001" "01" "00" "000102030405060708090a0b0c0d0e0f" "0000000000000007"
        "0f0e0d0c0b0a09080706050403020100" "0000000000000102" + head[60:].hex()
    )  # fmt: skip
    assert head[60:].hex() == f"{zlib.crc32(head[:60]):08x}"


@pytest.mark.parametrize(
    ("encoded", "decode"),
    [
        (records.encode_record_head(RecordHead(WRITER, 1, RecordKind.INSTANCE, WRITER, 1)), records.decode_record_head),
        (records.encode_group_head(GroupHead(WRITER, 1, 1)), records.decode_group_head),
        (records.encode_footer(Footer(114, 10, 0, 1, 1)), records.decode_footer),
    ],
    ids=["record", "group", "footer"],
)
def test_a_flipped_bit_or_a_cut_is_found(encoded, decode) -> None:
    for bit in range(len(encoded) * 8):
        wrong = bytearray(encoded)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatBroken):
            decode(bytes(wrong))
    for length in range(len(encoded)):
        with pytest.raises(FormatBroken):
            decode(encoded[:length])


def test_an_unknown_version_is_refused_in_clear_words() -> None:
    head = bytearray(records.encode_record_head(RecordHead(WRITER, 1, RecordKind.INSTANCE, WRITER, 1)))
    head[8:10] = struct.pack(">H", 2)
    head[60:] = struct.pack(">I", zlib.crc32(head[:60]))
    with pytest.raises(FormatBroken, match="format version 2"):
        records.decode_record_head(bytes(head))


@given(st.binary(max_size=200))
def test_any_bytes_are_broken_or_decoded(data: bytes) -> None:
    for decode in (records.decode_record_head, records.decode_group_head, records.decode_segment_head, records.decode_footer,
                   records.decode_facts, records.decode_change, records.trailer_length):  # fmt: skip
        with pytest.raises(FormatBroken):
            decode(data)


def sealed(data: bytes) -> tuple[InstanceSeal, bytes]:
    seal = InstanceSeal(WRITER, bytes(32))
    body = bytearray()
    pieces = [data[at : at + CHUNK_LENGTH_MAX_BYTES] for at in range(0, len(data), CHUNK_LENGTH_MAX_BYTES)]
    for index, piece in enumerate(pieces):
        frame = bytearray(FRAME_LENGTH_MAX_BYTES)
        length = seal.seal_chunk(index, memoryview(piece), memoryview(frame), final=index == len(pieces) - 1)
        body += frame[:length]
    return seal, bytes(body)


def opened(seal: InstanceSeal, body: bytes) -> bytes:
    into = memoryview(bytearray(CHUNK_LENGTH_MAX_BYTES))
    return b"".join(
        bytes(into[: seal.open_chunk(index, chunk, into, final=final)])
        for index, chunk, final in frames(memoryview(body))
    )


def test_chunks_cannot_be_dropped_swapped_moved_or_cut() -> None:
    data = content(3 * CHUNK_LENGTH_MAX_BYTES)
    seal, body = sealed(data)
    assert opened(seal, body) == data
    one, two, three = (body[at : at + FRAME_LENGTH_MAX_BYTES] for at in range(0, len(body), FRAME_LENGTH_MAX_BYTES))
    for wrong in (two + one + three, one + three, two + three, three, one + two, one + two + three + three, body[:-1]):
        with pytest.raises(SealBroken):
            opened(seal, wrong)
    _, another = sealed(data)
    stranger = InstanceSeal(WRITER[::-1], bytes(32))
    with pytest.raises(SealBroken):
        opened(stranger, another)


def test_a_preamble_is_sealed_apart() -> None:
    seal = InstanceSeal(WRITER, bytes(32))
    frame = seal.seal_preamble(b"DICM and group 2")
    assert seal.open_preamble(frame[4:]) == b"DICM and group 2"
    with pytest.raises(SealBroken):
        seal.open_preamble(frame[4:-1] + b"\0")
    assert seal.seal_preamble(b"") == bytes(4)
    assert len(sealed_empty(seal)) == 4 + 16 + 4


def test_segments_are_walked_both_ways_without_keys(place: Place) -> None:
    process = place.process()
    stored = [process.store(f"1.2.{number}", content(7_000 * number)) for number in range(5)]
    process.store("1.2.1", b"conflict")
    process.conflicts.promote("1.2.1", 2)
    process.segments.close()
    (name,) = place.store.names()
    walked = walk(place.store, name)
    assert walked.closed and walked.broken_at is None
    assert [each.location for each in walked.records[:5]] == [each.location for each in stored]
    assert [each.head.number for each in walked.records] == list(range(1, 8))
    assert [each.head.kind for each in walked.records][-1] is RecordKind.STANDING_CHANGE
    last = last_record(place.store, name)
    assert last is not None and last.number == 7
    end, backwards = place.store.size(name) - BLOCK_LENGTH_BYTES, []
    while end > BLOCK_LENGTH_BYTES:
        found = record_before(place.store, name, end)
        if found is None:
            end -= GROUP_LENGTH_BYTES if end % BLOCK_LENGTH_BYTES else BLOCK_LENGTH_BYTES
            continue
        backwards.append(found)
        end = found.location.offset
        if end % BLOCK_LENGTH_BYTES == GROUP_LENGTH_BYTES:
            end -= GROUP_LENGTH_BYTES
    assert backwards == walked.records[::-1]


def test_nothing_of_a_patient_is_readable_in_a_segment(place: Place) -> None:
    process = place.process()
    patient = PatientIdentity("SECRET-ID", "HOSPITAL")  # long enough that no noise holds it by chance
    process.store("1.2.826.0.1.3680043", b"SECRETPIXELS" * 100, study="1.2.826.0.1.9999", patient=patient)
    (name,) = place.store.names()
    raw = place.store.read(name, 0, place.store.size(name))
    for secret in (b"DOE^JANE", b"SECRET-ID", b"HOSPITAL", b"SECRETPIXELS", b"1.2.826", b"CT1", b"ct-stores"):
        assert secret not in raw
