"""The scanner finds what pydicom finds, in any pieces, and on any bytes raises nothing but MalformedDataSet."""

from __future__ import annotations

import random
import re
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadglass.wire import tags
from leadglass.wire.dataset import DataSetLimits, Header, MalformedDataSet, Scanner, UnsupportedTransferSyntax
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.uids import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)
from tests.wire.samples import Sample, samples

JPEG = "1.2.840.10008.1.2.4.50"
BROKEN = ("truncated", "badVR", "SC_rgb_jpeg.dcm")  # cut off, or implicit VR in an explicit syntax


def scan(data: bytes, syntax: str = EXPLICIT_VR_LITTLE_ENDIAN, size: int = 0, **limits: int) -> Header:
    scanner = Scanner(syntax, limits=DataSetLimits(**limits))
    for start in range(0, len(data), size or len(data) or 1):
        scanner.feed(memoryview(data)[start : start + (size or len(data))])
    return scanner.finish()


def element(tag: int, vr: str, value: bytes) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return head + b"\0\0" + struct.pack("<L", len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def undefined(tag: int, vr: str) -> bytes:
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode() + b"\0\0\xff\xff\xff\xff"


ITEM, ITEM_END, SEQUENCE_END = (
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    b"\xfe\xff\x0d\xe0\0\0\0\0",
    b"\xfe\xff\xdd\xe0\0\0\0\0",
)


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.path.name)
def test_it_finds_what_pydicom_finds(sample: Sample) -> None:
    oracle = sample.oracle()
    try:
        header = scan(sample.data_set, sample.transfer_syntax_uid)
    except MalformedDataSet:
        assert any(word in sample.path.name for word in BROKEN), "refused, and yet whole"
        return
    for tag in (tags.SOP_INSTANCE_UID, tags.STUDY_INSTANCE_UID, tags.SERIES_INSTANCE_UID, tags.SOP_CLASS_UID):
        assert header.uid(tag) == str(oracle.get(tag).value if tag in oracle else "")
    for tag in (tags.PATIENT_ID, tags.MODALITY, tags.STUDY_DATE):
        found = oracle.get(tag)
        value = "" if found is None or found.value is None else found.value
        values = [str(each) for each in value] if found is not None and found.VM > 1 else [str(value)]
        assert header.text(tag) == "\\".join(each.strip() for each in values)
    for tag in (tags.ROWS, tags.COLUMNS):
        if tag in oracle and oracle[tag].VM == 1:
            assert header.text(tag) == str(oracle[tag].value)
    if 0x7FE00010 not in oracle:
        assert header.length == header.data_set_length


@pytest.mark.parametrize("sample", samples()[::5], ids=lambda sample: sample.path.name)
def test_pieces_of_any_size_give_the_same(sample: Sample) -> None:
    def outcome(size: int) -> object:
        try:
            return scan(sample.data_set[:20_000], sample.transfer_syntax_uid, size)
        except MalformedDataSet as error:
            return str(error)

    whole = outcome(0)
    for size in (1, 7, 4096):
        assert outcome(size) == whole


@pytest.mark.parametrize("syntax", [DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, "1.2.3"])
def test_what_cannot_be_read_is_said_at_once(syntax: str) -> None:
    with pytest.raises(UnsupportedTransferSyntax):
        Scanner(syntax)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (element(0x00000002, "UI", b"1.2\0"), "no place"),
        (element(0x00020010, "UI", b"1.2\0"), "no place"),
        (element(tags.SOP_INSTANCE_UID, "UI", b"1.2\0") * 2, "twice"),
        (b"\x08\x00\x16\x00ZZ\x04\x001.2\0", "unknown VR"),
        (element(tags.PATIENT_ID, "LO", b"AB")[:-1], "cut off"),
        (b"\x10\x00\x20\x00LO\xff\xff", "cut off"),
        (b"\x10\x00\x20\x00UT\0\0\xf0\xff\xff\xffA", "at most"),
        (b"\xe0\x7f\x10\x00OW\0\0\xf0\xff\xff\xffAB", "missing"),
        (undefined(tags.PIXEL_DATA, "OW"), "does not encapsulate"),
        (undefined(0x00081140, "SQ") + ITEM, "middle of an element"),
        (undefined(0x00081140, "SQ") + element(tags.PATIENT_ID, "LO", b"AB"), "where an item"),
        (undefined(0x00081140, "LO"), "unknown VR|undefined length|cut off"),
        (SEQUENCE_END, "no place|unknown VR"),
        (
            element(tags.PIXEL_DATA, "OW", b"AB")
            + element(tags.PATIENT_ID, "LO", b"AB")
            + element(tags.PIXEL_DATA, "OW", b""),
            "twice|behind",
        ),
    ],
)
def test_lies_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(MalformedDataSet, match=why):
        scan(data)


def test_nested_attributes_are_not_the_instances_own() -> None:
    inner = element(tags.PATIENT_ID, "LO", b"INNER ")
    data = (
        undefined(0x00081140, "SQ") + ITEM + inner + ITEM_END + SEQUENCE_END + element(tags.PATIENT_ID, "LO", b"OUTER ")
    )
    assert scan(data).text(tags.PATIENT_ID) == "OUTER"


def test_un_of_undefined_length_hides_implicit_vr() -> None:
    inner = struct.pack("<HHL", 0x0010, 0x0020, 2) + b"AB"
    data = undefined(0x00091010, "UN") + ITEM + inner + ITEM_END + SEQUENCE_END + element(tags.PATIENT_ID, "LO", b"OK")
    assert scan(data).text(tags.PATIENT_ID) == "OK"


def test_ten_thousand_levels_cost_nothing_but_a_refusal() -> None:
    data = (undefined(0x00081140, "SQ") + ITEM) * 10_000
    with pytest.raises(MalformedDataSet, match="nested deeper"):
        scan(data)


def test_a_header_bomb_is_bounded_by_its_elements() -> None:
    data = element(0x00091001, "LO", b"") * 200
    with pytest.raises(MalformedDataSet, match="more than 100 elements"):
        scan(data, elements_max=100)


def test_a_claimed_gigabyte_costs_no_memory() -> None:
    scanner = Scanner(EXPLICIT_VR_LITTLE_ENDIAN)
    scanner.feed(b"\x09\x00\x10\x10OB\0\0\xf0\xff\xff\xff")
    for _ in range(1000):
        scanner.feed(bytes(1024))
    assert len(scanner._held) == 0
    with pytest.raises(MalformedDataSet, match="missing"):
        scanner.finish()


def test_fragments_are_walked_and_the_header_ends_at_the_pixel_data() -> None:
    fragment = struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"ABCD"
    head = element(tags.PATIENT_ID, "LO", b"AB")
    data = head + undefined(tags.PIXEL_DATA, "OB") + fragment * 3 + SEQUENCE_END
    header = scan(data, JPEG, size=3)
    assert (header.length, header.data_set_length) == (len(head), len(data))
    with pytest.raises(MalformedDataSet, match="undefined length"):
        scan(head + undefined(tags.PIXEL_DATA, "OB") + ITEM, JPEG)


def test_oddities_are_warned_about_and_kept() -> None:
    data = element(tags.PATIENT_ID, "LO", b"ABC") + element(tags.MODALITY, "CS", b"CT")
    header = scan(data)
    assert header.text(tags.PATIENT_ID) == "ABC" and len(header.warnings) == 2


SEQUENCE = 0x00081140
SHORT_ITEM = b"\xfe\xff\x00\xe0"


def sequence(*items: bytes, tag: int = SEQUENCE, vr: str = "SQ") -> bytes:
    """Of defined lengths."""
    return element(tag, vr, b"".join(SHORT_ITEM + struct.pack("<L", len(item)) + item for item in items))


def test_sequences_of_defined_length_have_no_back_door() -> None:
    data = b""
    for _ in range(65):
        data = sequence(data)
    with pytest.raises(MalformedDataSet, match="nested deeper"):
        scan(data)
    inner = element(tags.MODALITY, "CS", b"CT") * 60
    with pytest.raises(MalformedDataSet, match="more than 100 elements"):
        scan(sequence(inner, inner), elements_max=100)
    assert scan(sequence(inner, b"")).values == {}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (sequence(b"\x08\0\x60\0CS\x04\0CT"), "beyond the item"),
        (element(SEQUENCE, "SQ", SHORT_ITEM + b"\x08\0\0\0" + b"\x08\0"), "beyond what holds"),
        (
            element(SEQUENCE, "SQ", SHORT_ITEM + b"\xff\xff\xff\xff") + element(tags.MODALITY, "CS", b""),
            "beyond|cut off",
        ),
        (sequence(ITEM_END), "no place inside"),
        (element(SEQUENCE, "SQ", SEQUENCE_END), "where an item"),
        (undefined(SEQUENCE, "SQ") + SEQUENCE_END[:4] + b"\2\0\0\0AB", "where an item"),
        (sequence(element(0x00000002, "UI", b"")), "no place inside"),
        (sequence(undefined(tags.PIXEL_DATA, "OB") + SEQUENCE_END), "does not encapsulate"),
        (sequence(b"\x08\0\x60\0cs\0\0"), "unknown VR"),
        (undefined(0x00081141, "OB"), "items in a value with VR OB"),
        (undefined(tags.FLOAT_PIXEL_DATA, "OF"), "items in a value with VR OF"),
        (sequence(b"", tag=tags.PIXEL_DATA), "items in a value with VR SQ"),
        (b"\xff\xff\x10\0CS\0\0", "no place"),
    ],
)
def test_lies_inside_sequences_are_refused(data: bytes, why: str) -> None:
    for size in (0, 1, 5):
        with pytest.raises(MalformedDataSet, match=why):
            scan(data, size=size)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (element(tags.ROWS, "UL", bytes(4)), "VR UL, where US is due"),
        (element(tags.ROWS, "DS", b"1 "), "VR DS, where US is due"),
        (element(tags.PATIENT_ID, "US", bytes(2)), "VR US, where LO is due"),
        (element(tags.PATIENT_ID, "OB", bytes(2)), "VR OB, where LO is due"),
        (sequence(b"", tag=tags.PATIENT_ID), "holds items"),
        (undefined(tags.PATIENT_ID, "UN") + SEQUENCE_END, "holds items"),
        (element(tags.PIXEL_DATA, "OW", b"AB") + element(tags.PATIENT_ID, "LO", b"AB"), "behind the pixel data"),
        (element(tags.PATIENT_ID, "LO", b"A ") + element(tags.MODALITY, "CS", b"") + element(tags.PATIENT_ID, "LO", b"B "), "twice"),
        (element(tags.PATIENT_ID, "UT", bytes(70_000)), "at most for this attribute"),
        (
            b"".join(element(tag, "UT", b"A" * 60_000) for tag in (0x00080070, 0x00080080, 0x00081010, 0x00081030, 0x0008103E)),
            "more than 262144 bytes",
        ),
    ],
)  # fmt: skip
def test_what_readers_could_take_in_two_ways_is_refused(data: bytes, why: str) -> None:
    for size in (0, 1000):
        with pytest.raises(MalformedDataSet, match=why):
            scan(data, size=size)


def test_a_message_names_tag_and_offset() -> None:
    data = element(tags.MODALITY, "CS", b"CT") + element(tags.ROWS, "UL", bytes(4))
    with pytest.raises(MalformedDataSet, match=re.escape("(0028,0010) at byte 10: ")):
        scan(data)


def test_other_kinds_of_text_are_kept_with_a_warning() -> None:
    header = scan(element(tags.SOP_INSTANCE_UID, "LO", b"1.2 ") + element(tags.PATIENT_ID, "UN", b"AB"))
    assert header.uid(tags.SOP_INSTANCE_UID) == "1.2" and header.text(tags.PATIENT_ID) == "AB"
    assert [warning[:11] for warning in header.warnings] == ["(0008,0018)", "(0010,0020)"]


def test_numbers() -> None:
    header = scan(element(tags.INSTANCE_NUMBER, "IS", b" 12 ") + element(tags.ROWS, "US", b"\0\2"))
    assert (header.number(tags.INSTANCE_NUMBER), header.number(tags.ROWS), header.number(tags.COLUMNS)) == (
        12,
        512,
        None,
    )
    assert scan(element(tags.INSTANCE_NUMBER, "IS", b"9" * 60_000)).number(tags.INSTANCE_NUMBER) is None
    implicit = struct.pack("<HHLH", 0x0028, 0x0010, 2, 7)
    assert scan(implicit, IMPLICIT_VR_LITTLE_ENDIAN).number(tags.ROWS) == 7


@pytest.mark.parametrize("tag", [0x56000020, 0x7FE00001, tags.FLOAT_PIXEL_DATA, tags.DOUBLE_FLOAT_PIXEL_DATA])
def test_the_header_ends_where_bulk_data_begins(tag: int) -> None:
    head = element(tags.PATIENT_ID, "LO", b"AB")
    scanner = Scanner(EXPLICIT_VR_LITTLE_ENDIAN)
    scanner.feed(head)
    assert not scanner.header_complete
    scanner.feed(element(tag, "OB", bytes(100))[:20])
    assert scanner.header_complete and scanner.header_length == len(head)


def test_odd_lengths_anywhere_are_noticed_once() -> None:
    header = scan(element(0x00081140, "LO", b"ABC") + element(0x00091001, "LO", b"A"))
    assert header.warnings == ("a value has an odd length",)


def test_pixel_data_that_is_not_encapsulated_though_its_syntax_says_so() -> None:
    (warning,) = scan(element(tags.PIXEL_DATA, "OB", b"AB"), JPEG).warnings
    assert "is not encapsulated" in warning


def test_fragments_are_counted_apart_from_elements() -> None:
    data = undefined(tags.PIXEL_DATA, "OB") + (SHORT_ITEM + bytes(4)) * 50 + SEQUENCE_END
    assert scan(data, JPEG, elements_max=5, fragments_max=50).data_set_length == len(data)
    with pytest.raises(MalformedDataSet, match="more than 49 fragments"):
        scan(data, JPEG, fragments_max=49)


def test_pixel_data_is_not_looked_at() -> None:
    class Untouchable(bytes):
        def __getitem__(self, key: object) -> bytes:  # type: ignore[override]
            raise AssertionError("a byte of the pixel data was read")

    scanner = Scanner(EXPLICIT_VR_LITTLE_ENDIAN)
    scanner.feed(element(tags.PIXEL_DATA, "OW", bytes(3000))[:12])
    for _ in range(3):
        scanner.feed(Untouchable(1000))
    assert scanner.finish().data_set_length == 3012


def test_an_element_that_arrives_byte_by_byte_is_gathered_once() -> None:
    scanner = Scanner(EXPLICIT_VR_LITTLE_ENDIAN)
    data = element(tags.PATIENT_ID, "UT", b"A" * 60_000)
    taken: list[int] = []
    take = scanner._take
    scanner._take = lambda piece: (taken.append(len(piece)), take(piece))[1]  # type: ignore[method-assign, func-returns-value]
    for byte in data:
        scanner.feed(bytes((byte,)))
    assert len(scanner.finish().text(tags.PATIENT_ID)) == 60_000
    assert len(taken) <= 5, "each byte must not cause what came before it to be read again"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, JPEG]))
def test_any_bytes(data: bytes, syntax: str) -> None:
    try:
        header = scan(data, syntax, size=13)
        for tag in header.values:
            header.text(tag)
    except MalformedDataSet as error:
        assert str(error)


def test_mutated_real_headers() -> None:
    chance = random.Random(20260601)
    small = [sample for sample in samples() if len(sample.data_set) < 60_000]
    refused = 0
    for _ in range(3000):
        sample = chance.choice(small)
        data = bytearray(sample.data_set)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.choice((0, 0xFF, 0xFE, chance.randrange(256)))
        try:
            header = scan(bytes(data), sample.transfer_syntax_uid)
            for tag in header.values:
                header.text(tag)
        except RemoteProtocolError:
            refused += 1
    assert refused > 50, "mutants that are never refused are none"


def test_every_transfer_syntax_that_is_offered_has_a_scanner() -> None:
    offered = 0
    for uid, syntax in TRANSFER_SYNTAXES.items():
        if not syntax.deflated and not syntax.big_endian:
            assert Scanner(uid) is not None
            offered += 1
    assert offered > 30


def test_what_is_kept_is_bounded_in_either_kind_of_vr() -> None:
    value = b"A" * 60
    wanted = ((tags.PATIENT_NAME, "PN"), (tags.PATIENT_ID, "LO"))
    explicit = b"".join(element(tag, vr, value) for tag, vr in wanted)
    implicit = b"".join(struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value for tag, _ in wanted)
    for data, syntax in ((explicit, EXPLICIT_VR_LITTLE_ENDIAN), (implicit, IMPLICIT_VR_LITTLE_ENDIAN)):
        assert scan(data, syntax, kept_max_bytes=120).text(tags.PATIENT_ID) == "A" * 60
        with pytest.raises(MalformedDataSet, match="more than 119 bytes"):
            scan(data, syntax, kept_max_bytes=119)


def test_another_vr_of_the_dictionary_s_choice_is_read_as_what_it_says() -> None:
    tag = 0x00280106  # Smallest Image Pixel Value: US or SS
    scanner = Scanner(EXPLICIT_VR_LITTLE_ENDIAN, frozenset((tag,)))
    scanner.feed(element(tag, "SS", b"\xff\xff"))
    header = scanner.finish()
    assert (header.number(tag), header.warnings) == (-1, ())


def test_fragments_of_an_icon_stay_within_their_item() -> None:
    """An icon's fragments lie in an item whose length is said: what reaches beyond it would swallow what follows."""
    fragment = struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"ABCD"
    icon = undefined(tags.PIXEL_DATA, "OB") + fragment + SEQUENCE_END
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(icon)) + icon
    after = element(0x00880904, "LO", b"After ")
    assert scan(element(0x00880200, "SQ", item) + after, JPEG).warnings == ()
    with pytest.raises(MalformedDataSet, match="a fragment of 64 bytes reaches beyond its item"):
        scan(element(0x00880200, "SQ", item.replace(b"\4\0\0\0ABCD", b"\x40\0\0\0ABCD")) + after * 9, JPEG)
