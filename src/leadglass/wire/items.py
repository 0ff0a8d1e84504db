"""How do the items inside an A-ASSOCIATE PDU read? Bounded slices, UIDs and AE titles, both ways (PS3.8 9.3.2, 9.3.3).

Readers raise RemoteProtocolError for whatever does not fit, writers LocalProtocolError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from struct import Struct

from leadglass.wire.errors import AbortHint, LocalProtocolError, RemoteProtocolError

ABORT_INVALID_PARAMETER = AbortHint(2, 6)  # service-provider, invalid-PDU-parameter value (PS3.8 9.3.8)
AE_TITLE_LENGTH_BYTES = 16
UID_LENGTH_MAX = 64

_ITEM_HEADER = Struct(">BxH")  # item type, reserved, item length
_UINT16 = Struct(">H")
_UID = re.compile(rb"[0-9.]{1,64}")
_AE_TITLE = re.compile(rb"[\x20-\x5B\x5D-\x7E]*")  # ISO 646 G0 without backslash (PS3.5 6.2, AE)


def invalid(message: str) -> RemoteProtocolError:
    """The error for bytes that do not decode."""
    return RemoteProtocolError(message, abort=ABORT_INVALID_PARAMETER)


def read_items(data: bytes, where: str) -> Iterator[tuple[int, bytes]]:
    """Type and body of each item, unknown ones too: PS3.8 9.3.1 has them ignored, which is the caller's part."""
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < _ITEM_HEADER.size:
            raise invalid(f"{where}: {end - offset} bytes are left over where an item should start")
        kind, length = _ITEM_HEADER.unpack_from(data, offset)
        offset += _ITEM_HEADER.size
        if length > end - offset:
            raise invalid(f"{where}: an item of type {kind:02X}H claims {length} bytes, {end - offset} are there")
        yield kind, data[offset : offset + length]
        offset += length


def write_item(kind: int, body: bytes) -> bytes:
    """One item with its header."""
    if len(body) > 0xFFFF:
        raise LocalProtocolError(f"an item of type {kind:02X}H of {len(body)} bytes: its length field has 16 bits")
    return _ITEM_HEADER.pack(kind, len(body)) + body


def read_prefixed(data: bytes, offset: int, what: str) -> tuple[bytes, int]:
    """A field with a 16-bit length before it, and the offset behind it."""
    if len(data) - offset < _UINT16.size:
        raise invalid(f"{what}: its length field is missing")
    (length,) = _UINT16.unpack_from(data, offset)
    offset += _UINT16.size
    if length > len(data) - offset:
        raise invalid(f"{what}: claims {length} bytes, {len(data) - offset} are there")
    return data[offset : offset + length], offset + length


def write_prefixed(data: bytes, what: str) -> bytes:
    """A field with a 16-bit length before it."""
    if len(data) > 0xFFFF:
        raise LocalProtocolError(f"{what} of {len(data)} bytes: its length field has 16 bits")
    return _UINT16.pack(len(data)) + data


def read_uid(data: bytes, what: str) -> str:
    """A UID without the padding that PS3.8 Annex F forbids and peers send all the same."""
    stripped = data.rstrip(b"\0 ")
    if not _UID.fullmatch(stripped):
        raise invalid(f"{what} is not a UID: {stripped[:UID_LENGTH_MAX]!r}")
    return stripped.decode("ascii")


def write_uid(uid: str, what: str) -> bytes:
    """A UID as it travels in a PDU: unpadded (PS3.8 Annex F)."""
    data = uid.encode("ascii", "replace")
    if not _UID.fullmatch(data):
        raise LocalProtocolError(f"{what} is not a UID: {uid[:UID_LENGTH_MAX]!r}")
    return data


def read_ae_title(field: bytes) -> str | None:
    """An AE title without its insignificant leading and trailing spaces (PS3.8 9.3.2); None where it is none."""
    if not _AE_TITLE.fullmatch(field):
        return None
    return field.decode("ascii").strip(" ") or None


def write_ae_title(title: str) -> bytes:
    """An AE title in its 16 bytes; all spaces for "" (PS3.8 9.3.3 has an A-ASSOCIATE-AC's ignored)."""
    field = title.encode("ascii", "replace").ljust(AE_TITLE_LENGTH_BYTES)
    if len(field) > AE_TITLE_LENGTH_BYTES or not title.isascii() or not _AE_TITLE.fullmatch(field):
        raise LocalProtocolError(f"not an AE title: {title!r}; 16 printable ASCII characters at most, no backslash")
    return field
