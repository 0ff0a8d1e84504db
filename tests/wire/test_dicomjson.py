"""The DICOM JSON Model against pydicom, and on what is none."""

from __future__ import annotations

import json
import struct
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadglass.wire import tags
from leadglass.wire.dataset import MalformedDataSet
from leadglass.wire.dicomjson import from_json, to_json
from leadglass.wire.elements import DataSet, Element, Fragments, parse
from tests.wire.samples import Sample, readable, samples

NATIVE = [sample for sample in samples() if sample.native and readable(sample) and len(sample.data_set) < 100_000]
CHARACTER_SET = f"{tags.SPECIFIC_CHARACTER_SET:08X}"


def alike(ours: Any, theirs: Any) -> bool:
    """pydicom tells empty values and names in more than one way."""
    match ours, theirs:
        case None, _:
            return not theirs
        case dict(), dict():
            return all(alike(ours.get(key), value) for key, value in theirs.items() if value)
        case list(), list():
            return len(ours) == len(theirs) and all(map(alike, ours, theirs))
        case _:
            return bool(ours == theirs or str(ours) == str(theirs))


def _told_by_pydicom(sample: Sample) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            sample.oracle().to_json_dict()
        except Exception:  # values that pydicom itself refuses to tell
            return False
    return True


@pytest.mark.parametrize("sample", list(filter(_told_by_pydicom, NATIVE)), ids=lambda sample: sample.path.name)
def test_it_says_what_pydicom_says(sample: Sample) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = sample.oracle().to_json_dict()
    head = sample.data_set[: sample.scanned().length]
    ours = to_json(parse(head, sample.transfer_syntax_uid))
    for key, told in oracle.items():
        if (
            key in ours
            and key != CHARACTER_SET
            and told["vr"] == ours[key]["vr"] != "SQ"
            and not told.get("InlineBinary")
        ):
            assert alike(ours[key].get("Value"), told.get("Value")), key
    assert set(oracle) - set(ours) <= {key for key in oracle if key.startswith("7FE0") or key > "7FE0"}
    json.dumps(ours, allow_nan=False)


def test_json_there_and_back() -> None:
    model = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]},
        "00280010": {"vr": "US", "Value": [512]},
        "00081140": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]},
    }
    assert to_json(from_json(model)) == model
    with pytest.raises(MalformedDataSet, match="not fetched"):
        from_json({"7FE00010": {"vr": "OW", "BulkDataURI": "file:///etc/passwd"}})


def test_long_binary_values_are_named_by_their_path() -> None:
    item = DataSet([Element(0x00091010, "OB", bytes(2000)), Element(tags.PIXEL_DATA, "OB", Fragments((b"", b"AB")))])
    data_set = DataSet([Element(0x00081140, "SQ", (DataSet(), item)), Element(0x00091010, "OB", b"AB")])
    told = to_json(data_set, lambda path: "/".join(f"{step:X}" for step in path))
    assert told["00091010"] == {"vr": "OB", "InlineBinary": "QUI="}
    assert told["00081140"]["Value"][1]["00091010"] == {"vr": "OB", "BulkDataURI": "81140/1/91010"}
    assert told["00081140"]["Value"][1]["7FE00010"] == {"vr": "OB", "BulkDataURI": "81140/1/7FE00010"}


def test_text_is_utf_8_and_says_so_inside_items_too() -> None:
    item = DataSet([Element(tags.PATIENT_NAME, "PN", b"J\xe9r\xf4me")])
    data_set = DataSet([Element(tags.SPECIFIC_CHARACTER_SET, "CS", b"ISO_IR 100"), Element(0x00081140, "SQ", (item,))])
    told = to_json(data_set)
    assert told[CHARACTER_SET]["Value"] == ["ISO_IR 192"]
    assert told["00081140"]["Value"][0]["00100010"]["Value"] == [{"Alphabetic": "Jérôme"}]
    again = from_json({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Jérôme"}]}})
    assert again.get(tags.SPECIFIC_CHARACTER_SET) == Element(tags.SPECIFIC_CHARACTER_SET, "CS", b"ISO_IR 192")


@pytest.mark.parametrize(
    ("vr", "value", "told"),
    [
        ("DS", b"1.5\\\\x\\NaN\\1e999999", [1.5, None, "x", "NaN", "1e999999"]),
        ("DS", b"9" * 100_000, ["9" * 100_000]),
        ("IS", b"12\\1e3\\1_0", [12, "1e3", "1_0"]),
        ("FL", struct.pack("<3f", float("nan"), float("inf"), float("-inf")), ["NaN", "Infinity", "-Infinity"]),
        ("US", b"\1\0\2\0\3", [1, 2]),
        ("AT", b"\x10\0\x20\0", ["00100020"]),
        ("UT", b"a\\b ", ["a\\b"]),
        ("PN", b"A^B\\=C", [{"Alphabetic": "A^B"}, {"Ideographic": "C"}]),
    ],
)
def test_values_that_json_has_no_word_for(vr: str, value: bytes, told: list[object]) -> None:
    model = to_json(DataSet([Element(0x00091010, vr, value)]))
    assert model["00091010"]["Value"] == told
    json.dumps(model, allow_nan=False)


@pytest.mark.parametrize(
    "model",
    [
        [],
        {"0x100010": {"vr": "PN"}},
        {"-0100010": {"vr": "PN"}},
        {"00100010": {"vr": "ZZ"}},
        {"00100010": {}},
        {"00100010": "PN"},
        {"00100010": {"vr": "PN", "Value": "A"}},
        {"00100010": {"vr": "PN", "Value": ["A"]}},
        {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "A=B"}]}},
        {"00100020": {"vr": "LO", "Value": ["A\\B"]}},
        {"00100020": {"vr": "LO", "Value": [1]}},
        {"00104000": {"vr": "LT", "Value": ["A", "B"]}},
        {"00100020": {"vr": "LO", "Value": ["\ud800"]}},
        {"00080060": {"vr": "CS", "Value": ["é"]}},
        {"00280010": {"vr": "US", "Value": [70000]}},
        {"00280010": {"vr": "US", "Value": ["1"]}},
        {"00091010": {"vr": "FL", "Value": [1e300]}},
        {"00091010": {"vr": "FD", "Value": [10**400]}},
        {"00091010": {"vr": "OB", "InlineBinary": "?"}},
        {"00091010": {"vr": "OB", "Value": [1]}},
        {"00100020": {"vr": "LO", "InlineBinary": "QUI="}},
        {"00080018": {"vr": "UI", "BulkDataURI": "http://169.254.169.254/"}},
        {"00081140": {"vr": "SQ", "Value": ["A"]}},
        {"FFFEE000": {"vr": "SQ"}},
        {"00020010": {"vr": "UI", "Value": ["1.2"]}},
        {"0009101a": {"vr": "LO"}, "0009101A": {"vr": "LO"}},
    ],
)
def test_what_is_no_model(model: Any) -> None:
    with pytest.raises(MalformedDataSet):
        from_json(model)


def test_nesting_is_bounded() -> None:
    model: dict[str, Any] = {}
    for _ in range(500):
        model = {"00081140": {"vr": "SQ", "Value": [model]}}
    with pytest.raises(MalformedDataSet, match="nested deeper"):
        from_json(model)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
told = st.fixed_dictionaries(
    {"vr": st.sampled_from(["PN", "SQ", "US", "FD", "DS", "OB", "LO", "AT"])}, optional={"Value": trees}
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["00100010", "00091010", "7FE00010", "x"]), told, max_size=3))
def test_any_tree(model: dict[str, Any]) -> None:
    try:
        to_json(from_json(model))
    except MalformedDataSet as error:
        assert str(error)
