"""What is in a DICOM file before its data set? Preamble, prefix and File Meta Information, both ways (PS3.10 7)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from leadglass.wire.dataset import LONG_VRS, SHORT_VRS, MalformedDataSet
from leadglass.wire.elements import DataSet, Element, encode
from leadglass.wire.negotiation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN

PREAMBLE_LENGTH_BYTES = 128
META_LENGTH_MAX_BYTES = 1 << 20
_PREFIX = b"DICM"
_HEADER = Struct("<HH2sH")
_UINT32 = Struct("<L")
_GROUP_LENGTH = Struct("<HH2sHL")
_MEDIA_CLASS, _MEDIA_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010


@dataclass(frozen=True, slots=True)
class FileMeta:
    """Group 2, as far as it matters, and where the data set begins."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    preamble: bytes
    data_set_offset: int


def write_part10(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Everything before the data set; the same bytes each time."""
    meta = [
        Element(0x00020001, "OB", b"\0\1"),
        Element(0x00020002, "UI", sop_class_uid.encode("ascii")),
        Element(0x00020003, "UI", sop_instance_uid.encode("ascii")),
        Element(0x00020010, "UI", transfer_syntax_uid.encode("ascii")),
        Element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
        Element(0x00020013, "SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
    ]
    body = encode(DataSet(meta), EXPLICIT_VR_LITTLE_ENDIAN)
    return bytes(PREAMBLE_LENGTH_BYTES) + _PREFIX + _GROUP_LENGTH.pack(2, 0, b"UL", 4, len(body)) + body


def read_part10(data: bytes) -> FileMeta:
    """Reads the head of a file. Raises MalformedDataSet, a missing preamble or a group length that lies included."""
    start = PREAMBLE_LENGTH_BYTES + len(_PREFIX)
    if data[PREAMBLE_LENGTH_BYTES:start] != _PREFIX:
        raise MalformedDataSet("no DICM behind a preamble of 128 bytes: not a DICOM file")
    if len(data) < start + _GROUP_LENGTH.size:
        raise MalformedDataSet("the file ends in its File Meta Information")
    group, element, vr, size, length = _GROUP_LENGTH.unpack_from(data, start)
    begin = start + _GROUP_LENGTH.size
    if (group, element, vr, size) != (2, 0, b"UL", 4):
        raise MalformedDataSet("the File Meta Information does not begin with its group length")
    if length > META_LENGTH_MAX_BYTES or begin + length > len(data):
        raise MalformedDataSet(f"the File Meta Information claims {length} bytes")
    end = begin + length
    if data[end : end + 2] == b"\2\0" and data[end + 4 : end + 6].isalpha():
        raise MalformedDataSet(f"the File Meta Information goes on behind its {length} bytes")
    meta = _elements(data, begin, end)

    def uid(number: int) -> str:
        return meta.get(number, b"").rstrip(b"\0 ").decode("ascii", "replace")

    if not uid(_TRANSFER_SYNTAX):
        raise MalformedDataSet("File Meta Information without a Transfer Syntax UID (0002,0010)")
    preamble = bytes(data[:PREAMBLE_LENGTH_BYTES])
    return FileMeta(uid(_MEDIA_CLASS), uid(_MEDIA_INSTANCE), uid(_TRANSFER_SYNTAX), preamble, end)


def _elements(data: bytes, offset: int, end: int) -> dict[int, bytes]:
    """Group 2 by element number: explicit VR, nothing nested (PS3.10 7.1)."""
    found: dict[int, bytes] = {}
    while offset < end:
        if offset + 8 > end:
            raise MalformedDataSet(f"the File Meta Information ends in the middle of an element at byte {offset}")
        group, element, vr, length = _HEADER.unpack_from(data, offset)
        start = offset + 8
        if group != 2:
            raise MalformedDataSet(f"({group:04X},{element:04X}) at byte {offset}, within the File Meta Information")
        if vr in LONG_VRS and offset + 12 <= end:
            start, (length,) = offset + 12, _UINT32.unpack_from(data, offset + 8)
        elif vr not in SHORT_VRS:
            raise MalformedDataSet(f"(0002,{element:04X}) at byte {offset}: unknown VR {vr!r}")
        if start + length > end:
            raise MalformedDataSet(f"(0002,{element:04X}) at byte {offset}: {length} bytes reach beyond its group")
        if element in found:
            raise MalformedDataSet(f"(0002,{element:04X}) at byte {offset}: is there twice")
        found[element] = bytes(data[start : start + length])
        offset = start + length
    return found
