"""The head of a file, both ways, and every lie in it."""

from __future__ import annotations

import io
import struct

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadglass.wire.dataset import MalformedDataSet, Scanner
from leadglass.wire.part10 import read_part10, write_part10
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT

HEAD = write_part10("1.2.3", "1.2.4", EXPLICIT)
LENGTH_AT = 128 + 4 + 8
GROUP = len(HEAD) - LENGTH_AT - 4


def head(length: int, body: bytes = HEAD[LENGTH_AT + 4 :]) -> bytes:
    return HEAD[:LENGTH_AT] + struct.pack("<L", length) + body


def test_there_and_back() -> None:
    meta = read_part10(write_part10("1.2.3", "1.2.4", EXPLICIT) + b"rest")
    assert (meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid) == ("1.2.3", "1.2.4", EXPLICIT)
    assert pydicom.dcmread(io.BytesIO(HEAD)).file_meta.MediaStorageSOPInstanceUID == "1.2.4"


def test_the_same_bytes_each_time() -> None:
    assert write_part10("1.2.3", "1.2.4", EXPLICIT) == HEAD


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a DICOM file"),
        (HEAD[132:], "not a DICOM file"),
        (HEAD[:128] + b"DICX" + HEAD[132:], "not a DICOM file"),
        (HEAD[:140], "ends in"),
        (HEAD[:132] + HEAD[LENGTH_AT + 4 :], "begin with its group length"),
        (head(0x7FFFFFFF), "claims"),
        (head(GROUP + 1), "claims"),
        (head(0), "goes on"),
        (head(GROUP - 20), "goes on|reach beyond"),
        (head(GROUP + 8, HEAD[LENGTH_AT + 4 :] + b"\x08\0\x05\0CS\0\0"), "within the File Meta"),
        (head(8, b"\2\0\x10\0ui\0\0"), "unknown VR"),
        (head(8, b"\2\0\x10\0UI\2\0"), "reach beyond"),
        (head(16, b"\2\0\x10\0UI\0\0" * 2), "twice"),
        (head(8, b"\2\0\x10\0UI\0\0"), "without a Transfer Syntax"),
        (head(4, b"\2\0\x10\0"), "middle of an element"),
    ],
)
def test_lies_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(MalformedDataSet, match=why):
        read_part10(data)


def test_a_second_file_in_place_of_the_data_set_is_no_data_set() -> None:
    data = HEAD + HEAD
    scanner = Scanner(EXPLICIT)
    with pytest.raises(MalformedDataSet):
        scanner.feed(data[read_part10(data).data_set_offset :])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120), st.integers(0, 200))
def test_any_bytes(body: bytes, length: int) -> None:
    try:
        assert read_part10(head(length, body)).data_set_offset <= LENGTH_AT + 4 + len(body)
    except MalformedDataSet as error:
        assert str(error)
