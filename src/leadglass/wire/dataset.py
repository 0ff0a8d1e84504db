"""What does a data set's header say? One pass over bytes as they arrive: index attributes, the header's end, and that the lengths hold.

Nothing is built but the raw values that are wanted. Values that are not wanted are skipped by arithmetic, however long they claim to be, so
memory is bounded by `DataSetLimits` and pixel data is never touched. Sequences are walked, those of defined length too, so that depth and
number of elements have no back door; nesting is a list, never recursion.

What readers could take in two ways is refused where the index would be misled: an indexed attribute that is there twice, behind the pixel
data, with a VR of another kind or of undefined length. What is merely odd is kept and named in `Header.warnings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct

from leadglass.wire import tags
from leadglass.wire.charset import decode_value
from leadglass.wire.dictionary import choices_of, sequences, vr_of
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.uids import TRANSFER_SYNTAXES
from leadglass.wire.values import integer_of

UNDEFINED_LENGTH = 0xFFFFFFFF
LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)  # PS3.5 7.1.2
SHORT_VRS = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI",
     b"UL", b"US")
)  # fmt: skip
PIXELS = frozenset((tags.FLOAT_PIXEL_DATA, tags.DOUBLE_FLOAT_PIXEL_DATA, tags.PIXEL_DATA))
FORBIDDEN_GROUPS = frozenset((0x0000, 0x0002, 0xFFFE, 0xFFFF))  # commands, file meta, delimiters (PS3.5 7.5, 7.8.1)

_EXPLICIT = Struct("<HHHH")  # the VR as a number: a comparison instead of two bytes to allocate
_IMPLICIT = Struct("<HHL")
_UINT32 = Struct("<L")
_SEQUENCE, _ITEM, _FRAGMENTS = 0, 1, 2  # what an open container holds
_BY_DELIMITER = -1  # where such a container ends
_NOWHERE = 1 << 63
_FIRST_GROUP = 0x0008_0000
_BULK_FLOOR = tags.SPECTROSCOPY_DATA  # from here on a tag may end the header
_HEADER_LENGTH_BYTES, _LONG_HEADER_LENGTH_BYTES = 8, 12
SHORT_LENGTH_BYTES = 64  # of a value whose text is remembered


def _code(vr: bytes) -> int:
    return int.from_bytes(vr, "little")


def _codes(vrs: Iterable[bytes]) -> frozenset[int]:
    return frozenset(map(_code, vrs))


_LONG, _SHORT = _codes(LONG_VRS), _codes(SHORT_VRS)
_STRINGS = _codes(
    (b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"LO", b"LT", b"PN", b"SH", b"ST", b"TM", b"UC", b"UI", b"UR", b"UT")
)  # fmt: skip
_SQ, _UN = _code(b"SQ"), _code(b"UN")


class MalformedDataSet(RemoteProtocolError):
    """The bytes are no data set in the transfer syntax they came in; the message names tag and offset."""


class UnsupportedTransferSyntax(RemoteProtocolError):
    """Deflated, big endian or unknown: there is no reader for it here."""


@dataclass(frozen=True, slots=True)
class DataSetLimits:
    """Whoever passes one is refused. The Standard sets none of them.

    `value_kept_max_bytes`: of one wanted attribute; Patient Comments, the longest, has 10,240 characters.
    `kept_max_bytes`: of all wanted attributes together, so what one arrival holds and what decoding it may cost.
    `nesting_depth_max`: sequences within sequences.
    `elements_max`: elements and items of one data set, nested ones too.
    `fragments_max`: of encapsulated pixel data; slide images have some hundred thousand.
    `warnings_max`: oddities that are named one by one.
    """

    value_kept_max_bytes: int = 65_536
    kept_max_bytes: int = 262_144
    nesting_depth_max: int = 64
    elements_max: int = 1_000_000
    fragments_max: int = 1_000_000
    warnings_max: int = 8


@dataclass(frozen=True, slots=True)
class Header:
    """What the scan found. `values`: raw, top level, wanted ones only. `vrs`: those that are not the dictionary's first choice.

    `length`: bytes before pixel or spectroscopy data, all of them where there is neither.
    """

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
        if value is None:
            return ""
        return _text(value, self.vrs.get(tag) or vr_of(tag), self.specific_character_set)

    def texts(self, wanted: frozenset[int]) -> Iterator[tuple[int, str]]:
        """`text` of each wanted one that is there."""
        vrs, character_set = self.vrs, self.specific_character_set
        for tag, value in self.values.items():
            if tag in wanted:
                yield tag, _text(value, vrs.get(tag) or vr_of(tag), character_set)

    def uid(self, tag: int) -> str:
        return self.values.get(tag, b"").rstrip(b"\0 ").decode("ascii", "replace")

    def strings(self, tag: int) -> tuple[str, ...]:
        text = self.text(tag)
        return tuple(text.split("\\")) if text else ()

    def number(self, tag: int) -> int | None:
        """The first value of an IS or of a binary integer; None where there is none."""
        return integer_of(self.text(tag).partition("\\")[0])


def _text(value: bytes, vr: str, character_set: bytes) -> str:
    return (
        _short_text(value, vr, character_set)
        if len(value) <= SHORT_LENGTH_BYTES
        else decode_value(value, vr, character_set)
    )


_short_text = lru_cache(maxsize=4096)(decode_value)  # most of a series say the same


@lru_cache(maxsize=16)
def _expected_vrs(wanted: frozenset[int]) -> Mapping[int, int]:
    return {tag: _code(vr_of(tag).encode("ascii")) for tag in wanted}


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
        self.header_length = 0
        self._explicit = syntax.explicit
        self._encapsulated = syntax.encapsulated
        self._wanted, self._limits = _expected_vrs(wanted), limits or DataSetLimits()
        self._values: dict[int, bytes] = {}
        self._vrs: dict[int, str] = {}
        self._warnings: list[str] = []
        self._stack: list[
            tuple[int, int, int, bool]
        ] = []  # holds, ends at, may reach to, explicit; positions in the data set
        self._held = bytearray()  # of an element that is not all there
        self._need = _HEADER_LENGTH_BYTES  # bytes before reading can go on
        self._skip = 0  # bytes of a value that nobody wants
        self._position = 0  # of the next unread byte in the data set
        self._room = self._limits.kept_max_bytes
        self._elements = self._fragments = 0
        self._last_tag = _FIRST_GROUP - 1
        self._pixels: set[int] = set()
        self._odd = 0

    def feed(self, data: memoryview | bytes) -> None:
        """The next bytes. Constant time while they belong to a value that nobody wants."""
        while self._held:
            missing = self._need - len(self._held)
            if len(data) < missing:
                self._held += data
                return
            head, data = bytes(self._held + data[:missing]), data[missing:]
            self._held.clear()
            self._take(head)
        length = len(data)
        if self._skip >= length:
            self._skip -= length
            self._position += length
            return
        self._take(data)

    def finish(self) -> Header:
        """After the last byte."""
        while self._stack and self._stack[-1][1] == self._position:
            self._stack.pop()
        if self._skip or self._held or self._stack:
            missing = f"{self._skip} bytes are missing" if self._skip else "it ends in the middle of an element"
            raise MalformedDataSet(f"the data set is cut off at byte {self._position + len(self._held)}: {missing}")
        if not self.header_complete:
            self.header_complete, self.header_length = True, self._position
        if self._odd & 1:
            self._warn("a value has an odd length")
        return Header(
            self._values, self._vrs, self.header_length, self._position, self._explicit, tuple(self._warnings)
        )

    # ---- elements

    def _take(self, data: memoryview | bytes) -> None:
        """Reads as many elements as are there. What begins here and is not all here is held, or skipped."""
        offset, end = self._skip, len(data)
        base, self._skip = self._position, 0
        while True:
            if self._stack:
                offset = self._read_nested(data, offset, end, base)
            elif self._explicit:
                offset = self._read_explicit(data, offset, end, base)
            else:
                offset = self._read_implicit(data, offset, end, base)
            if self._elements > self._limits.elements_max:
                raise MalformedDataSet(f"more than {self._limits.elements_max} elements before byte {base + offset}")
            if offset + self._need > end:
                break
        if offset > end:
            self._position, self._skip = base + end, offset - end
        else:
            self._position = base + offset
            self._held += data[offset:]

    def _read_explicit(self, data: memoryview | bytes, offset: int, end: int, base: int) -> int:
        """The top level in explicit VR (PS3.5 7.1.2): up to a container, or as far as there is."""
        unpack, wanted, values, short = _EXPLICIT.unpack_from, self._wanted, self._values, _SHORT
        final, last, room, odd, count = end - _HEADER_LENGTH_BYTES, self._last_tag, self._room, 0, 0
        self._need = _HEADER_LENGTH_BYTES
        while offset <= final:
            group, element, vr, length = unpack(data, offset)
            tag = group << 16 | element
            if vr in short:
                start = offset + 8
                stop = start + length
                expected = wanted.get(tag)
                if expected is not None and stop > end:
                    self._need = stop - offset
                    break
                if last < tag < _BULK_FLOOR:
                    last = tag
                else:
                    last = self._out_of_place(tag, last, base + offset)
                if expected is not None:
                    if vr != expected:
                        self._other_vr(tag, vr, base + offset)
                    room -= length
                    values[tag] = bytes(data[start:stop])
                odd |= length
                offset = stop
                count += 1
            elif vr in _LONG:
                if offset + _LONG_HEADER_LENGTH_BYTES > end:
                    self._need = _LONG_HEADER_LENGTH_BYTES
                    break
                self._last_tag, self._room = last, room
                length = _UINT32.unpack_from(data, offset + 8)[0]
                offset = self._read_value(data, offset, offset + 12, end, base, tag, vr, length)
                last, room = self._last_tag, self._room
                count += 1
                if self._stack or self._need > _HEADER_LENGTH_BYTES:
                    break
            elif group in FORBIDDEN_GROUPS:
                raise _malformed(tag, base + offset, "has no place in a data set")
            else:
                raise _malformed(tag, base + offset, f"unknown VR {vr.to_bytes(2, 'little')!r}")
        self._last_tag, self._room = last, room
        self._odd |= odd
        self._elements += count
        if room < 0:
            raise MalformedDataSet(f"indexed attributes of more than {self._limits.kept_max_bytes} bytes")
        return offset

    def _read_implicit(self, data: memoryview | bytes, offset: int, end: int, base: int) -> int:
        """The top level in implicit VR (PS3.5 7.1.3)."""
        unpack, wanted, nests = _IMPLICIT.unpack_from, self._wanted, sequences()
        final, last, odd, count = end - _HEADER_LENGTH_BYTES, self._last_tag, 0, 0
        self._need = _HEADER_LENGTH_BYTES
        while offset <= final:
            group, element, length = unpack(data, offset)
            tag = group << 16 | element
            count += 1
            if tag in wanted or tag in nests or length == UNDEFINED_LENGTH:
                self._last_tag = last
                offset = self._read_value(data, offset, offset + 8, end, base, tag, 0, length)
                last = self._last_tag
                if self._stack or self._need > _HEADER_LENGTH_BYTES:
                    break
                continue
            if last < tag < _BULK_FLOOR:
                last = tag
            else:
                last = self._out_of_place(tag, last, base + offset)
            odd |= length
            offset += 8 + length
        self._last_tag = last
        self._odd |= odd
        self._elements += count
        if self._room < 0:
            raise MalformedDataSet(f"indexed attributes of more than {self._limits.kept_max_bytes} bytes")
        return offset

    def _read_value(
        self, data: memoryview | bytes, offset: int, start: int, end: int, base: int, tag: int, vr: int, length: int
    ) -> int:
        """The less frequent values of the top level: wanted ones, sequences, long ones. `vr`: 0 where implicit."""
        wanted = tag in self._wanted
        sequence = vr == _SQ or length == UNDEFINED_LENGTH or (not vr and tag in sequences())
        if wanted:
            if sequence:
                raise _malformed(tag, base + offset, "holds items, where the index knows a value")
            if length > self._limits.value_kept_max_bytes:
                what = f"{length} bytes, {self._limits.value_kept_max_bytes} at most for this attribute"
                raise _malformed(tag, base + offset, what)
            if start + length > end:
                self._need = start + length - offset
                return offset
        if self._last_tag < tag < _BULK_FLOOR:
            self._last_tag = tag
        else:
            self._last_tag = self._out_of_place(tag, self._last_tag, base + offset)
        if sequence:
            self._open(tag, vr, base + start, length, _NOWHERE, self._explicit)
            return start
        if wanted:
            if vr and vr != self._wanted[tag]:
                self._other_vr(tag, vr, base + offset)
            self._room -= length
            self._values[tag] = bytes(data[start : start + length])
        elif tag in PIXELS and self._encapsulated:
            self._warn(f"{_named(tag)} is not encapsulated, though its transfer syntax says so")
        self._odd |= length
        return start + length

    # ---- sequences, items, fragments

    def _read_nested(self, data: memoryview | bytes, offset: int, end: int, base: int) -> int:
        """Inside containers: as far as there is, or until all are closed."""
        stack, nests = self._stack, sequences()
        self._need = _HEADER_LENGTH_BYTES
        while stack:
            holds, stop, reach, explicit = stack[-1]
            if base + offset == stop:
                stack.pop()
                continue
            if offset + _HEADER_LENGTH_BYTES > end:
                break
            group, element, length = _IMPLICIT.unpack_from(data, offset)
            tag = group << 16 | element
            if holds != _ITEM:
                offset = self._read_item(offset, base, tag, length)
                continue
            if group in FORBIDDEN_GROUPS:
                if tag != tags.ITEM_DELIMITATION or stop != _BY_DELIMITER or length:
                    raise _malformed(tag, base + offset, "has no place inside an item")
                stack.pop()
                offset += 8
                continue
            start, vr = offset + 8, 0
            if explicit:
                vr, length = length & 0xFFFF, length >> 16
                if vr in _LONG:
                    start = offset + _LONG_HEADER_LENGTH_BYTES
                    if start > end:
                        self._need = _LONG_HEADER_LENGTH_BYTES
                        break
                    length = _UINT32.unpack_from(data, offset + 8)[0]
                elif vr not in _SHORT:
                    raise _malformed(tag, base + offset, f"unknown VR {vr.to_bytes(2, 'little')!r}")
            self._elements += 1
            if length == UNDEFINED_LENGTH or vr == _SQ or (not vr and tag in nests):
                self._open(tag, vr, base + start, length, reach, explicit)
                offset = start
                continue
            offset = start + length
            if base + offset > reach:
                raise _malformed(tag, base + start, f"{length} bytes reach beyond the item")
        return offset

    def _read_item(self, offset: int, base: int, tag: int, length: int) -> int:
        holds, stop, reach, explicit = self._stack[-1]
        at, start = base + offset, offset + 8
        if tag == tags.SEQUENCE_DELIMITATION and stop == _BY_DELIMITER and not length:
            self._stack.pop()
            return start
        if tag != tags.ITEM:
            raise _malformed(tag, at, "where an item or the end of the sequence was due")
        if holds == _FRAGMENTS:
            self._fragments += 1
            if self._fragments > self._limits.fragments_max:
                raise _malformed(tag, at, f"more than {self._limits.fragments_max} fragments")
            if length == UNDEFINED_LENGTH:
                raise _malformed(tag, at, "a fragment of undefined length")
            if base + start + length > reach:
                raise _malformed(tag, at, f"a fragment of {length} bytes reaches beyond its item")
            return start + length
        self._elements += 1
        self._push(tag, _ITEM, base + start, length, reach, explicit)
        return start

    def _open(self, tag: int, vr: int, start: int, length: int, reach: int, explicit: bool) -> None:
        """A value that holds items begins: a sequence, UN that hides one in implicit VR (PS3.5 6.2.2), or fragments (PS3.5 A.4)."""
        if vr in (_SQ, 0) and tag not in PIXELS:
            self._push(tag, _SEQUENCE, start, length, reach, explicit)
        elif vr == _UN and tag not in PIXELS:
            self._push(tag, _SEQUENCE, start, length, reach, False)
        elif tag != tags.PIXEL_DATA or vr == _SQ:
            name = vr.to_bytes(2, "little").decode("ascii") if vr else vr_of(tag)
            raise _malformed(tag, start, f"items in a value with VR {name}")
        elif not self._encapsulated:
            raise _malformed(tag, start, "undefined length in a transfer syntax that does not encapsulate")
        else:
            self._push(tag, _FRAGMENTS, start, length, reach, explicit)

    def _push(self, tag: int, holds: int, start: int, length: int, reach: int, explicit: bool) -> None:
        stop = _BY_DELIMITER
        if length != UNDEFINED_LENGTH:
            stop = start + length
            if stop > reach:
                raise _malformed(tag, start, f"{length} bytes reach beyond what holds them")
            reach = stop
        if len(self._stack) >= 2 * self._limits.nesting_depth_max:
            raise _malformed(tag, start, f"nested deeper than {self._limits.nesting_depth_max}")
        self._stack.append((holds, stop, reach, explicit))

    # ---- oddities

    def _out_of_place(self, tag: int, last: int, at: int) -> int:
        """A tag that does not simply follow the last one, or may end the header: the highest tag so far."""
        group = tag >> 16
        if group in FORBIDDEN_GROUPS:
            raise _malformed(tag, at, "has no place in a data set")
        if tag in self._values or tag in self._pixels:
            raise _malformed(tag, at, "is there twice")
        if self.header_complete and tag in self._wanted:
            raise _malformed(tag, at, "is behind the pixel data, where other readers would not look for it")
        if tag <= last:
            self._warn(f"{_named(tag)} is out of order")
        if group == 0x7FE0 or tag == tags.SPECTROSCOPY_DATA:
            if tag in PIXELS:
                self._pixels.add(tag)
            if not self.header_complete:
                self.header_complete, self.header_length = True, at
        return max(tag, last)

    def _other_vr(self, tag: int, vr: int, at: int) -> None:
        """A wanted attribute whose VR is not the dictionary's first choice: another choice, unknown, another kind of text, or a lie."""
        name, choices = vr.to_bytes(2, "little").decode("ascii"), choices_of(tag)
        if name in choices:
            self._vrs[tag] = name
            return
        if vr != _UN and not (vr in _STRINGS and self._wanted[tag] in _STRINGS):
            raise _malformed(tag, at, f"VR {name}, where {' or '.join(choices)} is due")
        self._warn(f"{_named(tag)} has VR {name} instead of {' or '.join(choices)}")

    def _warn(self, text: str) -> None:
        if len(self._warnings) < self._limits.warnings_max:
            self._warnings.append(text)


def _named(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _malformed(tag: int, at: int, what: str) -> MalformedDataSet:
    return MalformedDataSet(f"{_named(tag)} at byte {at}: {what}")
