"""What does a data set's header say? One pass over bytes as they arrive: index attributes, the header's end, and that the lengths hold.

Nothing is built but the raw values that are wanted. Values that are not wanted are skipped by arithmetic, however long they claim to be, so
memory is bounded by `DataSetLimits` and pixel data is never touched. Nesting is walked with a list, never by recursion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct

from leadglass.wire import tags
from leadglass.wire.charset import decode_value
from leadglass.wire.dictionary import vr_of
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.uids import TRANSFER_SYNTAXES

UNDEFINED_LENGTH = 0xFFFFFFFF
LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)  # PS3.5 7.1.2
SHORT_VRS = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI",
     b"UL", b"US")
)  # fmt: skip
PIXELS = frozenset((tags.FLOAT_PIXEL_DATA, tags.DOUBLE_FLOAT_PIXEL_DATA, tags.PIXEL_DATA))
_EXPLICIT = Struct("<HH2sH")
_IMPLICIT = Struct("<HHL")
_UINT32 = Struct("<L")
_SEQUENCE, _ITEM, _FRAGMENTS = 0, 1, 2  # what an open container of undefined length holds


class MalformedDataSet(RemoteProtocolError):
    """The bytes are no data set in the transfer syntax they came in; the message names tag and offset."""


class UnsupportedTransferSyntax(RemoteProtocolError):
    """Deflated, big endian or unknown: there is no reader for it here."""


@dataclass(frozen=True, slots=True)
class DataSetLimits:
    """`value_kept_max_bytes`: of a wanted attribute. `nesting_depth_max`: sequences in sequences of undefined length (PS3.5 sets none).

    `elements_max`: headers read in one data set. `warnings_max`: oddities that are named one by one.
    """

    value_kept_max_bytes: int = 65_536
    nesting_depth_max: int = 64
    elements_max: int = 100_000
    warnings_max: int = 8


@dataclass(frozen=True, slots=True)
class Header:
    """What the scan found. `values`: raw, top level, wanted ones only. `length`: bytes before the pixel data, all of them where there is none."""

    values: Mapping[int, bytes]
    vrs: Mapping[int, str]
    length: int
    data_set_length: int
    explicit: bool
    warnings: tuple[str, ...] = ()

    @property
    def specific_character_set(self) -> bytes:
        return self.values.get(tags.SPECIFIC_CHARACTER_SET, b"")

    def text(self, tag: int) -> str:
        """Decoded by the character set and VR, without padding; numbers as decimal text; multi-valued ones joined by a backslash."""
        value = self.values.get(tag)
        return "" if value is None else decode_value(value, self.vrs[tag], self.specific_character_set)

    def uid(self, tag: int) -> str:
        return self.values.get(tag, b"").rstrip(b"\0 ").decode("ascii", "replace")

    def strings(self, tag: int) -> tuple[str, ...]:
        text = self.text(tag)
        return tuple(text.split("\\")) if text else ()


class Scanner:
    """Feed the whole data set in order, in pieces of any size; then `finish`. Raises MalformedDataSet and nothing else."""

    def __init__(
        self, transfer_syntax_uid: str, wanted: frozenset[int] = tags.INDEXED, limits: DataSetLimits | None = None
    ) -> None:
        syntax = TRANSFER_SYNTAXES.get(transfer_syntax_uid)
        if syntax is None or syntax.big_endian or syntax.deflated:
            name = syntax.name if syntax is not None else transfer_syntax_uid
            raise UnsupportedTransferSyntax(f"data sets in {name} are not read here")
        self.header_complete = False
        self._explicit = syntax.explicit
        self._encapsulated = syntax.encapsulated
        self._wanted, self._limits = wanted, limits or DataSetLimits()
        self._values: dict[int, bytes] = {}
        self._vrs: dict[int, str] = {}
        self._warnings: list[str] = []
        self._stack: list[
            tuple[int, bool]
        ] = []  # open containers of undefined length: what they hold, and in explicit VR or not
        self._held = b""  # bytes of an element that is not all there
        self._skip = 0  # bytes of a value that nobody wants
        self._position = 0  # of the next unread byte in the data set
        self.header_length = 0
        self._elements = 0
        self._last_tag = -1

    def feed(self, data: memoryview | bytes) -> None:
        """The next bytes. Constant time while they belong to a value that nobody wants."""
        length = len(data)
        if self._skip:
            passed = min(self._skip, length)
            self._skip -= passed
            self._position += passed
            if passed == length:
                return
            data = data[passed:]
        if self._held:
            data = self._held + bytes(data)
            self._held = b""
        used = self._read(data)
        if used < len(data):
            self._held = bytes(data[used:])

    def finish(self) -> Header:
        """After the last byte."""
        if self._skip or self._held or self._stack:
            missing = f"{self._skip} bytes are missing" if self._skip else "it ends in the middle of an element"
            raise MalformedDataSet(f"the data set is cut off at byte {self._position + len(self._held)}: {missing}")
        if not self.header_complete:
            self.header_length = self._position
        return Header(
            self._values, self._vrs, self.header_length, self._position, self._explicit, tuple(self._warnings)
        )

    # ---- elements

    def _read(self, data: memoryview | bytes) -> int:
        """Reads as many elements as are there: how many bytes of `data` are done with. What is skipped beyond them is in `_skip`."""
        offset, end = 0, len(data)
        while end - offset >= 8:
            base = self._position
            if self._stack:
                used, skip = self._read_nested(data, offset, end)
            else:
                used, skip = self._read_top(data, offset, end)
            if used == 0:
                return offset
            self._count()
            offset += used
            self._position = base + used
            if skip:
                here = min(skip, end - offset)
                offset += here
                self._position += here
                self._skip = skip - here
                if self._skip:
                    return offset
        return offset

    def _read_top(self, data: memoryview | bytes, offset: int, end: int) -> tuple[int, int]:
        """One element of the top level: bytes used (0 where more are needed) and bytes of its value to skip."""
        if self._explicit:
            group, element, vr, length = _EXPLICIT.unpack_from(data, offset)
            header = 8
            if vr in LONG_VRS:
                if end - offset < 12:
                    return 0, 0
                header, length = 12, _UINT32.unpack_from(data, offset + 8)[0]
            elif vr not in SHORT_VRS and group != 0xFFFE:
                raise self._malformed(group << 16 | element, f"unknown VR {bytes(vr)!r}")
        else:
            group, element, length = _IMPLICIT.unpack_from(data, offset)
            header, vr = 8, b""
        tag = group << 16 | element
        if tag in self._wanted and end - offset < header + length <= header + self._limits.value_kept_max_bytes:
            return 0, 0
        if tag <= self._last_tag or group in (0x0000, 0x0002, 0xFFFE):
            self._out_of_place(tag)
        else:
            self._last_tag = tag
        if tag in PIXELS and not self.header_complete:
            self.header_complete, self.header_length = True, self._position
        if length == UNDEFINED_LENGTH:
            self._open(tag, vr, self._explicit)
            return header, 0
        if tag not in self._wanted:
            return header, length
        if length > self._limits.value_kept_max_bytes:
            raise self._malformed(
                tag, f"{length} bytes, {self._limits.value_kept_max_bytes} at most for this attribute"
            )
        if tag in self._values:
            raise self._malformed(tag, "is there twice")
        if length & 1:
            self._warn(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) has an odd length")
        self._values[tag] = bytes(data[offset + header : offset + header + length])
        self._vrs[tag] = vr.decode("ascii") if vr and vr != b"UN" else vr_of(tag)
        return header + length, 0

    def _read_nested(self, data: memoryview | bytes, offset: int, end: int) -> tuple[int, int]:
        """One item header, delimiter or element inside containers of undefined length."""
        holds, explicit = self._stack[-1]
        group, element, length = _IMPLICIT.unpack_from(data, offset)
        tag = group << 16 | element
        if holds != _ITEM:
            return self._read_item(holds, explicit, tag, length)
        if tag == tags.ITEM_DELIMITATION:
            self._stack.pop()
            return 8, 0
        if group == 0xFFFE:
            raise self._malformed(tag, "has no place inside an item")
        header, vr = 8, b""
        if explicit:
            _, _, vr, length = _EXPLICIT.unpack_from(data, offset)
            if vr in LONG_VRS:
                if end - offset < 12:
                    return 0, 0
                header, length = 12, _UINT32.unpack_from(data, offset + 8)[0]
            elif vr not in SHORT_VRS:
                raise self._malformed(tag, f"unknown VR {bytes(vr)!r}")
        if length == UNDEFINED_LENGTH:
            self._open(tag, vr, explicit)
            return header, 0
        return header, length

    def _read_item(self, holds: int, explicit: bool, tag: int, length: int) -> tuple[int, int]:
        if tag == tags.SEQUENCE_DELIMITATION:
            self._stack.pop()
            return 8, 0
        if tag != tags.ITEM:
            raise self._malformed(tag, "where an item or the end of the sequence was due")
        if length != UNDEFINED_LENGTH:
            return 8, length
        if holds == _FRAGMENTS:
            raise self._malformed(tag, "a fragment of undefined length")
        self._push(tag, _ITEM, explicit)
        return 8, 0

    def _open(self, tag: int, vr: bytes, explicit: bool) -> None:
        """A value of undefined length begins: fragments of pixel data, a sequence, or UN that hides one in implicit VR (PS3.5 6.2.2)."""
        if tag in PIXELS:
            if not self._encapsulated:
                raise self._malformed(tag, "undefined length in a transfer syntax that does not encapsulate")
            self._push(tag, _FRAGMENTS, explicit)
        elif vr in (b"SQ", b""):
            self._push(tag, _SEQUENCE, explicit)
        elif vr == b"UN":
            self._push(tag, _SEQUENCE, False)
        else:
            raise self._malformed(tag, f"undefined length with VR {vr.decode('ascii')}")

    def _push(self, tag: int, holds: int, explicit: bool) -> None:
        if len(self._stack) >= 2 * self._limits.nesting_depth_max:
            raise self._malformed(tag, f"nested deeper than {self._limits.nesting_depth_max}")
        self._stack.append((holds, explicit))

    # ---- oddities

    def _out_of_place(self, tag: int) -> None:
        group = tag >> 16
        if group in (0x0000, 0x0002, 0xFFFE):
            raise self._malformed(tag, "has no place in a data set")
        if tag in self._values or tag in PIXELS:
            raise self._malformed(tag, "is there twice, or behind the pixel data")
        self._warn(f"({group:04X},{tag & 0xFFFF:04X}) is out of order")

    def _count(self) -> None:
        self._elements += 1
        if self._elements > self._limits.elements_max:
            raise MalformedDataSet(f"more than {self._limits.elements_max} elements")

    def _warn(self, text: str) -> None:
        if len(self._warnings) < self._limits.warnings_max:
            self._warnings.append(text)

    def _malformed(self, tag: int, what: str) -> MalformedDataSet:
        return MalformedDataSet(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) at byte {self._position}: {what}")
