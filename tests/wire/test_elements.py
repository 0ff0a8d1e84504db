"""Small data sets whole, both ways."""

from __future__ import annotations

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from leadglass.wire import tags, uids
from leadglass.wire.dataset import MalformedDataSet, UnsupportedTransferSyntax
from leadglass.wire.elements import DataSet, Element, ElementLimits, Fragments, encode, parse
from leadglass.wire.errors import LocalProtocolError
from tests.wire.samples import readable, samples

EXPLICIT, IMPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN
JPEG = "1.2.840.10008.1.2.4.50"

elements = st.builds(
    Element,
    st.sampled_from([0x00080018, 0x00100010, 0x00100020, 0x00200013, 0x00280010, 0x00091010]),
    st.just("LO"),
    st.binary(max_size=20).map(lambda value: value + b" " * (len(value) % 2)),
)
data_sets = st.lists(elements, max_size=5).map(DataSet)


@settings(deadline=None)
@given(data_sets, st.lists(data_sets, max_size=3))
def test_write_and_read_give_the_same(flat: DataSet, items: list[DataSet]) -> None:
    whole = DataSet([*flat, Element(0x00081140, "SQ", tuple(items))])
    assert parse(encode(whole, EXPLICIT), EXPLICIT) == whole


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([EXPLICIT, IMPLICIT]))
def test_any_bytes_are_a_data_set_or_malformed(data: bytes, syntax: str) -> None:
    try:
        data_set = parse(data, syntax)
        assert parse(encode(data_set, EXPLICIT), EXPLICIT) == parse(encode(data_set, EXPLICIT), EXPLICIT)
    except MalformedDataSet as error:
        assert str(error)


def test_nesting_is_bounded() -> None:
    level = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(MalformedDataSet, match="nested deeper"):
        parse(level * 1000, EXPLICIT)


def test_an_identifier_of_pydicoms_own_writing() -> None:
    query = pydicom.Dataset()
    query.QueryRetrieveLevel, query.PatientName = "STUDY", "Buc^Jérôme"
    query.SpecificCharacterSet = "ISO_IR 192"
    query.ScheduledProcedureStepSequence = [pydicom.Dataset()]
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, True
    write_dataset(out, query)
    data_set = parse(out.getvalue(), IMPLICIT)
    name = data_set.get(tags.PATIENT_NAME)
    assert name is not None and name.value == "Buc^Jérôme".encode()


def test_a_tag_that_is_there_twice_is_refused_at_any_level() -> None:
    twice = encode(DataSet([Element(tags.PATIENT_ID, "LO", b"AB")]), EXPLICIT) * 2
    with pytest.raises(MalformedDataSet, match="twice"):
        parse(twice, EXPLICIT)
    item = b"\xfe\xff\x00\xe0" + len(twice).to_bytes(4, "little") + twice
    with pytest.raises(MalformedDataSet, match="twice"):
        parse(b"\x08\0\x40\x11SQ\0\0" + len(item).to_bytes(4, "little") + item, EXPLICIT)


def test_an_icon_in_fragments_goes_there_and_back() -> None:
    icon = DataSet([Element(tags.PIXEL_DATA, "OB", Fragments((b"", b"ABCD")))])
    whole = DataSet([Element(0x00880200, "SQ", (icon,))])
    assert parse(encode(whole, JPEG), JPEG) == whole
    with pytest.raises(MalformedDataSet, match="not held here"):
        parse(encode(whole, EXPLICIT), EXPLICIT)
    with pytest.raises(MalformedDataSet, match="not held here"):
        parse(encode(icon, JPEG), JPEG)
    with pytest.raises(MalformedDataSet, match="a fragment claims 64 bytes"):
        parse(encode(whole, JPEG).replace(b"\4\0\0\0ABCD", b"\x40\0\0\0ABCD"), JPEG)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x10\0\x20\0LO\x04\0AB", "claims 4 bytes"),
        (b"\x10\0\x20\0UT\0\0\xf0\xff\xff\xffAB", "claims"),
        (b"\x10\0\x20\0UT\0\0", "middle of an element"),
        (b"\x10\0\x20", "middle of an element"),
        (b"\x10\0\x20\0OB\0\0\xff\xff\xff\xff", "undefined length"),
        (b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff", "middle of a sequence"),
        (b"\x08\0\x40\x11SQ\0\0\x08\0\0\0\xfe\xff\x00\xe0\x08\0\0\0" + bytes(8), "claims 8 bytes"),
        (b"\x08\0\x40\x11SQ\0\0\x08\0\0\0\xfe\xff\xdd\xe0\0\0\0\0", "where an item was due"),
        (b"\xfe\xff\x0d\xe0\0\0\0\0", "no place"),
        (b"\x00\0\x02\0UI\0\0", "no place"),
    ],
)
def test_lies_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(MalformedDataSet, match=why):
        parse(data, EXPLICIT)


def test_elements_are_counted() -> None:
    data = b"".join(bytes((9, 0, number, 0x10)) + b"LO\0\0" for number in range(100))
    assert len(parse(data, EXPLICIT)) == 100
    with pytest.raises(MalformedDataSet, match="more than 99"):
        parse(data, EXPLICIT, ElementLimits(elements_max=99))


def test_what_is_read_can_be_written_and_read_again() -> None:
    for sample in samples():
        if readable(sample):
            syntax, head = sample.transfer_syntax_uid, sample.data_set[: sample.scanned().length]
            data_set = parse(head, syntax)
            again = parse(encode(data_set, syntax), syntax)
            assert [element.tag for element in again] == [element.tag for element in data_set]


def test_our_own_faults_are_told_apart() -> None:
    data_set = DataSet()
    for _ in range(100):
        data_set = DataSet([Element(0x00081140, "SQ", (data_set,))])
    with pytest.raises(LocalProtocolError):
        encode(data_set, EXPLICIT)
    with pytest.raises(UnsupportedTransferSyntax):
        parse(b"", uids.EXPLICIT_VR_BIG_ENDIAN)
    with pytest.raises(UnsupportedTransferSyntax):
        encode(DataSet(), uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)


@pytest.mark.parametrize("items", [(), (DataSet([Element(tags.PATIENT_ID, "LO", b"AB")]), DataSet())])
def test_a_private_sequence_stays_one_in_implicit_vr(items: tuple[DataSet, ...]) -> None:
    """No dictionary says that it is one: with a defined length it would read as bytes."""
    whole = DataSet([Element(0x00091010, "SQ", items), Element(tags.PATIENT_ID, "LO", b"1 ")])
    for syntax in (IMPLICIT, EXPLICIT):
        assert parse(encode(whole, syntax), syntax) == whole


def test_equal_data_sets_are_one_in_a_set() -> None:
    first, second = DataSet([Element(tags.PATIENT_ID, "LO", b"AB")]), DataSet([Element(tags.PATIENT_ID, "LO", b"AB")])
    assert len({first, second, DataSet()}) == 2
    assert repr(first) == "DataSet(1 elements)"  # never its values: they are a patient's
