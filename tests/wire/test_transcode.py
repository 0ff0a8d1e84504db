"""Re-encoding against pydicom; the canonical form; constant memory; any bytes."""

from __future__ import annotations

import io
import random
import struct
import warnings
from collections.abc import Iterator

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from leadglass.wire import tags, uids
from leadglass.wire.dataset import MalformedDataSet, UnsupportedTransferSyntax
from leadglass.wire.elements import DataSet, Element, encode, parse
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.part10 import write_part10
from leadglass.wire.transcode import canonical, reencode
from tests.wire.samples import Sample, readable, samples

EXPLICIT, IMPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN
OTHER = {EXPLICIT: IMPLICIT, IMPLICIT: EXPLICIT}
NATIVE = [sample for sample in samples() if sample.native and readable(sample)]


def rewritten(data: bytes, source: str, target: str, size: int = 5000) -> bytes:
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    return b"".join(bytes(piece) for piece in reencode(pieces, source, target))


def assert_alike(there: Dataset, oracle: Dataset) -> int:
    checked = 0
    for element in oracle:
        if element.tag.element == 0 or element.tag == tags.LENGTH_TO_END:
            assert element.tag not in there
            continue
        got = there[element.tag]
        if element.VR == got.VR == "SQ":
            assert len(element.value) == len(got.value)
            checked += sum(map(assert_alike, got.value, element.value))
        elif element.VR == got.VR:
            odd = isinstance(element.value, bytes) and len(element.value) % 2
            assert got.value == (element.value + b"\0" if odd else element.value), element.tag
            checked += 1
    return checked


@pytest.mark.parametrize("sample", NATIVE, ids=lambda sample: sample.path.name)
def test_every_value_stays(sample: Sample) -> None:
    target = OTHER[sample.transfer_syntax_uid]
    data = rewritten(sample.data_set, sample.transfer_syntax_uid, target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = pydicom.dcmread(io.BytesIO(write_part10("1.2", "1.2", target) + data))
        assert assert_alike(there, sample.oracle()) > 0


@pytest.mark.parametrize("sample", NATIVE, ids=lambda sample: sample.path.name)
def test_there_and_back_is_canonical(sample: Sample) -> None:
    source, target = sample.transfer_syntax_uid, OTHER[sample.transfer_syntax_uid]
    expected = canonical(sample.data_set, source)
    assert canonical(rewritten(sample.data_set, source, target), target) == expected
    assert canonical(expected, IMPLICIT) == expected
    defined = encode(parse(sample.data_set[: sample.scanned().length], source), source)
    assert expected.startswith(canonical(defined, source))


def test_pieces_of_any_size_give_the_same() -> None:
    sample = min(NATIVE, key=lambda each: abs(len(each.data_set) - 5000))
    whole = rewritten(sample.data_set, sample.transfer_syntax_uid, IMPLICIT)
    for size in (1, 7, 1000):
        assert rewritten(sample.data_set, sample.transfer_syntax_uid, IMPLICIT, size) == whole


def private(inner: DataSet | None) -> DataSet:
    """A private sequence, in which another one lies."""
    items = () if inner is None else (DataSet([Element(0x00091020, "SQ", (inner, DataSet()))]),)
    return DataSet([Element(0x00090010, "LO", b"ACME"), Element(0x00091010, "SQ", items)])


def with_lengths(data_set: DataSet) -> bytes:
    """In implicit VR, every sequence and item with its length: nothing tells a private sequence from bytes."""
    written = b""
    for tag, _, value in data_set:
        assert isinstance(value, bytes | tuple)
        items = () if isinstance(value, bytes) else map(with_lengths, value)
        body = (
            value
            if isinstance(value, bytes)
            else b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(each)) + each for each in items)
        )
        written += struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(body)) + body
    return written


@pytest.mark.parametrize("inner", [None, DataSet(), DataSet([Element(0x00091030, "LO", b"AB")])])
def test_private_sequences_are_canonical_though_implicit_vr_hides_them(inner: DataSet | None) -> None:
    data_set = private(inner)
    bare = with_lengths(data_set)
    for implicit in (encode(data_set, IMPLICIT), bare):
        assert canonical(implicit, IMPLICIT) == canonical(encode(data_set, EXPLICIT), EXPLICIT)
    hidden = Element(0x00091010, "UN", bare[bare.index(b"ACME") + 12 :])
    unknown = DataSet([Element(0x00090010, "LO", b"ACME"), hidden])
    assert canonical(encode(unknown, EXPLICIT), EXPLICIT) == canonical(encode(data_set, EXPLICIT), EXPLICIT)


def test_a_known_sequence_is_one_in_implicit_vr_or_is_refused() -> None:
    item = DataSet([Element(tags.MODALITY, "CS", b"CT")])
    value = encode(DataSet([Element(0x00081140, "SQ", (item,))]), IMPLICIT)[8:]
    hidden = encode(DataSet([Element(0x00081140, "UN", value)]), EXPLICIT)
    assert canonical(hidden, EXPLICIT) == canonical(
        encode(DataSet([Element(0x00081140, "SQ", (item,))]), IMPLICIT), IMPLICIT
    )
    for vr in ("UN", "LO"):
        with pytest.raises(MalformedDataSet):
            canonical(encode(DataSet([Element(0x00081140, vr, b"AB")]), EXPLICIT), EXPLICIT)


def test_bytes_that_only_begin_like_a_sequence_stay() -> None:
    for value in (b"\xfe\xff\x00\xe0", b"\xfe\xff\x00\xe0\xff\0\0\0AB", b"\xfe\xff\x00\xe0\2\0\0\0AB"):
        data = encode(DataSet([Element(0x00091010, "UN", value)]), IMPLICIT)
        assert canonical(data, IMPLICIT) == data


def test_choices_follow_pixel_representation_of_their_own_level() -> None:
    padding, signed = Element(0x00280120, "US", b"\0\0"), Element(tags.PIXEL_REPRESENTATION, "US", b"\1\0")
    item = DataSet([Element(tags.PIXEL_REPRESENTATION, "US", b"\0\0"), padding])
    overlay, descriptor = Element(0x60020010, "US", b"\1\0"), Element(0x60023000, "OW", b"AB")
    whole = DataSet([signed, padding, Element(0x00283010, "SQ", (item, DataSet([padding]))), overlay, descriptor])
    there = parse(rewritten(encode(whole, IMPLICIT), IMPLICIT, EXPLICIT), EXPLICIT)
    lut = there.get(0x00283010)
    assert lut is not None and isinstance(lut.value, tuple)
    found = [there.get(0x00280120), lut.value[0].get(0x00280120), lut.value[1].get(0x00280120)]
    assert [each.vr for each in found if each is not None] == ["SS", "US", "SS"]
    assert [each.vr for each in there][-2:] == ["US", "OW"]


def test_a_text_too_long_for_its_vr_becomes_un() -> None:
    data = encode(DataSet([Element(tags.PATIENT_ID, "LO", b"A" * 70_001)]), IMPLICIT)
    (element,) = parse(rewritten(data, IMPLICIT, EXPLICIT), EXPLICIT)
    assert element == Element(tags.PATIENT_ID, "UN", b"A" * 70_001 + b" ")


def test_odd_values_are_padded_by_their_vr() -> None:
    for length in (3, 9_001):
        for tag, vr, pad in ((tags.PATIENT_ID, b"LO", b" "), (tags.SOP_INSTANCE_UID, b"UI", b"\0")):
            data = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, length) + b"1" * length
            (element,) = parse(rewritten(data, EXPLICIT, IMPLICIT), IMPLICIT)
            assert element.value == b"1" * length + pad


def test_what_would_be_untrue_afterwards_is_left_out() -> None:
    lengths = [Element(0x00080000, "UL", bytes(4)), Element(tags.LENGTH_TO_END, "UL", bytes(4))]
    modality = Element(tags.MODALITY, "CS", b"CT")
    data = encode(DataSet([*lengths, modality, Element(0x00081140, "SQ", (DataSet(lengths),))]), EXPLICIT)
    expected = encode(DataSet([modality]), IMPLICIT)
    assert canonical(data, EXPLICIT).startswith(expected + b"\x08\0\x40\x11")
    assert len(canonical(data, EXPLICIT)) == len(expected) + 4 * 8


def test_a_long_value_passes_through_in_pieces_that_are_not_copied() -> None:
    piece = bytes(1 << 16)
    head = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 512 * len(piece))
    given_out = 0

    def pieces() -> Iterator[bytes]:
        nonlocal given_out
        yield head
        for _ in range(512):
            given_out += 1
            yield piece

    total = 0
    for part in reencode(pieces(), EXPLICIT, IMPLICIT):
        assert len(part) <= len(piece)
        total += len(part)
        assert total <= 8 + given_out * len(piece) <= total + len(piece)
        if len(part) == len(piece):
            assert isinstance(part, memoryview) and part.obj is piece
    assert total == 8 + 512 * len(piece)


def test_compressed_data_sets_are_not_reencoded() -> None:
    with pytest.raises(UnsupportedTransferSyntax):
        list(reencode([b""], "1.2.840.10008.1.2.4.50", EXPLICIT))


def test_pixel_data_that_ends_early_is_noticed() -> None:
    data = encode(DataSet([Element(tags.PIXEL_DATA, "OW", bytes(1000))]), EXPLICIT)
    with pytest.raises(MalformedDataSet, match="early"):
        list(reencode([data[:-10]], EXPLICIT, IMPLICIT))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x08\0\x40\x11SQ\0\0\x08\0\0\0\xfe\xff\x00\xe0\x08\0\0\0" + bytes(8), "reach beyond"),
        (b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\x08\0\x60\0CS\2\0CT", "where an item"),
        (b"\xfe\xff\x0d\xe0\0\0\0\0", "no place"),
        (b"\x02\0\x10\0UI\0\0", "no place"),
        (b"\x08\0\x60\0cs\2\0CT", "unknown VR"),
        (b"\x08\0\x60\0OB\0\0\xff\xff\xff\xff", "undefined length"),
        (b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff", "undefined length"),
        (b"\x08\0\x60\0CS\4\0CT", "early"),
        ((b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff") * 5000, "nested deeper"),
    ],
)
def test_lies_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(MalformedDataSet, match=why):
        rewritten(data, EXPLICIT, IMPLICIT)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([EXPLICIT, IMPLICIT]), st.sampled_from([EXPLICIT, IMPLICIT]))
def test_any_bytes(data: bytes, source: str, target: str) -> None:
    try:
        written = rewritten(data, source, target, size=11)
    except MalformedDataSet as error:
        assert str(error)
    else:
        assert rewritten(written, target, target) == written


def test_mutated_real_data_sets() -> None:
    chance = random.Random(20260602)
    small = [sample for sample in NATIVE if len(sample.data_set) < 20_000]
    refused = 0
    for _ in range(1500):
        sample = chance.choice(small)
        data = bytearray(sample.data_set)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.choice((0, 0xFF, 0xFE, chance.randrange(256)))
        try:
            rewritten(bytes(data), sample.transfer_syntax_uid, chance.choice((EXPLICIT, IMPLICIT)))
        except RemoteProtocolError:
            refused += 1
    assert refused > 50, "mutants that are never refused are none"


@pytest.mark.parametrize("levels", [20, 40, 60, 64, 65, 80])
def test_the_canonical_form_of_hidden_nests_is_its_own(levels: int) -> None:
    """Sequences in UN in sequences in UN: each is found as deep as a reader of what is written would go, and no deeper."""
    nest = DataSet([Element(tags.PATIENT_ID, "LO", b"AB")])
    for _ in range(levels):
        nest = DataSet([Element(0x00091010, "SQ", (nest,))])
    written = canonical(with_lengths(nest), IMPLICIT)
    assert canonical(written, IMPLICIT) == written
    assert written.count(struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)) == min(levels, 64)


def test_many_small_elements_come_out_in_pieces() -> None:
    data = encode(DataSet(Element(0x00091000 + number, "LO", b"A" * 1000) for number in range(16, 250)), EXPLICIT)
    lengths = [len(piece) for piece in reencode([data], EXPLICIT, IMPLICIT)]
    assert sum(lengths) == len(data) and max(lengths) < 70_000


def test_a_hidden_nest_of_sequences_that_would_go_too_deep_stays_hidden() -> None:
    nest = DataSet([Element(tags.PATIENT_ID, "LO", b"AB")])
    for _ in range(30):
        nest = DataSet([Element(0x00081140, "SQ", (nest,))])
    value = with_lengths(DataSet([Element(0x00091010, "SQ", (nest,))]))[8:]
    for depth, found in ((30, True), (40, False)):
        data = encode(DataSet([Element(0x00091010, "UN", value)]), IMPLICIT)
        for _ in range(depth):
            item = struct.pack("<HHL", 0xFFFE, 0xE000, len(data)) + data
            data = struct.pack("<HHL", 0x0008, 0x1140, len(item)) + item
        written = canonical(data, IMPLICIT)
        assert (value not in written) is found
        assert canonical(written, IMPLICIT) == written


def test_a_hidden_group_length_that_holds_items_stays_hidden() -> None:
    item = DataSet([Element(0x00090000, "SQ", (DataSet(),))])
    hidden = encode(DataSet([Element(0x00091010, "SQ", (item,))]), IMPLICIT)[8:-8]
    data = encode(DataSet([Element(0x00091010, "UN", hidden)]), IMPLICIT)
    assert canonical(data, IMPLICIT) == data
