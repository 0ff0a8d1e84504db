"""Small data sets whole, both ways; re-encoding against pydicom; files; JSON; UIDs."""

from __future__ import annotations

import io
import warnings

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from leadglass.wire import dicomjson, tags, uids
from leadglass.wire.dataset import MalformedDataSet, UnsupportedTransferSyntax
from leadglass.wire.elements import DataSet, Element, encode, parse
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.part10 import read_part10, write_part10
from leadglass.wire.transcode import canonical, reencode
from tests.wire.samples import Sample, samples

EXPLICIT, IMPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN
OTHER = {EXPLICIT: IMPLICIT, IMPLICIT: EXPLICIT}
NATIVE = [sample for sample in samples() if sample.native]


def readable(sample: Sample) -> bool:
    try:
        parse(sample.data_set, sample.transfer_syntax_uid)
    except RemoteProtocolError:
        return False
    return True


@pytest.mark.parametrize("sample", NATIVE, ids=lambda sample: sample.path.name)
def test_reencoding_keeps_every_value(sample: Sample) -> None:
    if not readable(sample):
        pytest.skip("broken on purpose, as its name says")
    target = OTHER[sample.transfer_syntax_uid]
    pieces = (sample.data_set[start : start + 5000] for start in range(0, len(sample.data_set), 5000))
    data = b"".join(bytes(piece) for piece in reencode(pieces, sample.transfer_syntax_uid, target))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = pydicom.dcmread(io.BytesIO(write_part10("1.2", "1.2", target) + data))
        oracle = sample.oracle()
        for element in oracle:
            if element.tag.element == 0 or element.VR == "SQ":
                continue
            got = there[element.tag]
            if element.VR == got.VR:
                assert got.value == element.value, element.tag


@pytest.mark.parametrize("sample", NATIVE, ids=lambda sample: sample.path.name)
def test_there_and_back_is_canonical(sample: Sample) -> None:
    if not readable(sample):
        pytest.skip("broken on purpose, as its name says")
    target = OTHER[sample.transfer_syntax_uid]
    there = b"".join(bytes(piece) for piece in reencode([sample.data_set], sample.transfer_syntax_uid, target))
    assert canonical(there, target) == canonical(sample.data_set, sample.transfer_syntax_uid)


def test_compressed_data_sets_are_not_reencoded() -> None:
    with pytest.raises(UnsupportedTransferSyntax):
        list(reencode([b""], "1.2.840.10008.1.2.4.50", EXPLICIT))


def test_pixel_data_that_ends_early_is_noticed() -> None:
    data = encode(DataSet([Element(tags.PIXEL_DATA, "OW", bytes(1000))]), EXPLICIT)
    with pytest.raises(MalformedDataSet, match="early"):
        list(reencode([data[:-10]], EXPLICIT, IMPLICIT))


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
        dicomjson.to_json(parse(data, syntax))
    except MalformedDataSet as error:
        assert str(error)


def test_nesting_is_bounded() -> None:
    level = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(MalformedDataSet, match="nested deeper"):
        parse(level * 1000, EXPLICIT)


def test_json_says_what_pydicom_says() -> None:
    checked = 0
    for sample in NATIVE:
        if not readable(sample) or len(sample.data_set) > 100_000:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                oracle = sample.oracle().to_json_dict()
            except Exception:
                continue
        ours = dicomjson.to_json(parse(sample.data_set, sample.transfer_syntax_uid))
        for key in ("00080018", "00080060", "00100020", "00280010", "00200013"):
            if key in oracle:
                assert ours[key].get("Value") == oracle[key].get("Value"), (sample.path.name, key)
                checked += 1
    assert checked > 40


def test_json_there_and_back() -> None:
    model = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]},
        "00280010": {"vr": "US", "Value": [512]},
        "00081140": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]},
    }
    assert dicomjson.to_json(dicomjson.from_json(model)) == model
    with pytest.raises(MalformedDataSet, match="not fetched"):
        dicomjson.from_json({"7FE00010": {"vr": "OW", "BulkDataURI": "file:///etc/passwd"}})


def test_files() -> None:
    meta = read_part10(write_part10("1.2.3", "1.2.4", EXPLICIT) + b"rest")
    assert (meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid) == ("1.2.3", "1.2.4", EXPLICIT)
    head = write_part10("1.2.3", "1.2.4", EXPLICIT)
    assert pydicom.dcmread(io.BytesIO(head)).file_meta.MediaStorageSOPInstanceUID == "1.2.4"
    for broken in (b"", head[:140], head[:128] + b"DICX" + head[132:], head[:140] + b"\xff\xff\xff\x7f" + head[144:]):
        with pytest.raises(MalformedDataSet):
            read_part10(broken)


@pytest.mark.parametrize("text", ["", "..", "/etc/passwd", "1.2/../3", "1." + "2" * 64, "1.2 ", "1.2\n", "1.٣"])
def test_what_is_no_uid(text: str) -> None:
    assert uids.uid_problem(text)


@pytest.mark.parametrize("text", ["1.02.3", "1..2", "123", "1.2."])
def test_odd_but_legal_length_uids_are_warned_about(text: str) -> None:
    assert not uids.uid_problem(text) and uids.uid_warning(text)


def test_storage_classes() -> None:
    assert uids.storage_class_of("CTImageStorage") == "1.2.840.10008.5.1.4.1.1.2"
    assert not uids.is_storage(uids.VERIFICATION) and not uids.is_storage(uids.STORAGE_COMMITMENT_PUSH)
    assert len(uids.storage_classes()) > 180


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
