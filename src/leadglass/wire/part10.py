"""What is in a DICOM file before its data set? Preamble, prefix and File Meta Information, both ways (PS3.10 7)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from leadglass.wire.dataset import MalformedDataSet
from leadglass.wire.elements import DataSet, Element, encode, parse
from leadglass.wire.negotiation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN

PREAMBLE_LENGTH_BYTES = 128
META_LENGTH_MAX_BYTES = 1 << 20
_PREFIX = b"DICM"
_GROUP_LENGTH = Struct("<HH2sHL")
_MEDIA_CLASS, _MEDIA_INSTANCE, _TRANSFER_SYNTAX = 0x00020002, 0x00020003, 0x00020010


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
        Element(_MEDIA_CLASS, "UI", sop_class_uid.encode("ascii")),
        Element(_MEDIA_INSTANCE, "UI", sop_instance_uid.encode("ascii")),
        Element(_TRANSFER_SYNTAX, "UI", transfer_syntax_uid.encode("ascii")),
        Element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
        Element(0x00020013, "SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
    ]
    body = encode(DataSet(meta), EXPLICIT_VR_LITTLE_ENDIAN)
    return bytes(PREAMBLE_LENGTH_BYTES) + _PREFIX + _GROUP_LENGTH.pack(2, 0, b"UL", 4, len(body)) + body


def read_part10(data: bytes) -> FileMeta:
    """Reads the head of a file. Raises MalformedDataSet, a missing preamble or group length included."""
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
    meta = _Meta(data[begin : begin + length])
    syntax = meta.uid(_TRANSFER_SYNTAX)
    if not syntax:
        raise MalformedDataSet("File Meta Information without a Transfer Syntax UID (0002,0010)")
    return FileMeta(
        meta.uid(_MEDIA_CLASS), meta.uid(_MEDIA_INSTANCE), syntax, data[:PREAMBLE_LENGTH_BYTES], begin + length
    )


class _Meta:
    """Group 2 read with the reader of data sets, which does not know group 2: its group number is lent another for that."""

    def __init__(self, body: bytes) -> None:
        shifted = bytearray(body)
        offset = 0
        while offset + 8 <= len(body):
            group, _, vr, short = Struct("<HH2sH").unpack_from(body, offset)
            if group != 2:
                raise MalformedDataSet(f"group {group:04X} in the File Meta Information")
            shifted[offset : offset + 2] = b"\x08\x00"
            long = vr in (b"OB", b"UN", b"UT", b"OW", b"SQ")
            offset += 12 + Struct("<L").unpack_from(body + b"\0\0\0\0", offset + 8)[0] if long else 8 + short
        self._data_set = parse(bytes(shifted), EXPLICIT_VR_LITTLE_ENDIAN)

    def uid(self, tag: int) -> str:
        element = self._data_set.get(0x00080000 | tag & 0xFFFF)
        value = element.value if element is not None else b""
        return value.rstrip(b"\0 ").decode("ascii", "replace") if isinstance(value, bytes) else ""
