"""What does a small data set say, whole? Identifiers of queries, payloads of N-ACTION: read into light frozen elements, and written.

Pixel data never comes through here: `dataset.Scanner` streams, this holds everything. Bounded by `ElementLimits`, iterative both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any

from leadglass.wire import tags
from leadglass.wire.dataset import (
    LONG_VRS,
    SHORT_VRS,
    UNDEFINED_LENGTH,
    MalformedDataSet,
    UnsupportedTransferSyntax,
)
from leadglass.wire.dictionary import vr_of
from leadglass.wire.errors import LocalProtocolError
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

_EXPLICIT = Struct("<HH2sH")
_IMPLICIT = Struct("<HHL")
_TAG = Struct("<HH")
_UINT16 = Struct("<H")
_UINT32 = Struct("<L")
_NUL_PADDED = frozenset(("UI", "OB", "UN"))


@dataclass(frozen=True, slots=True)
class ElementLimits:
    """Of one data set that is held whole."""

    elements_max: int = 200_000
    nesting_depth_max: int = 32


@dataclass(frozen=True, slots=True)
class Element:
    """`value`: raw bytes without meaning added, or the items of a sequence."""

    tag: int
    vr: str
    value: bytes | tuple[DataSet, ...]


class DataSet:
    """Elements by tag, in ascending order."""

    __slots__ = ("_elements",)

    def __init__(self, elements: Iterable[Element] = ()) -> None:
        self._elements = {element.tag: element for element in sorted(elements, key=lambda each: each.tag)}

    def get(self, tag: int) -> Element | None:
        return self._elements.get(tag)

    def __iter__(self) -> Iterator[Element]:
        return iter(self._elements.values())

    def __len__(self) -> int:
        return len(self._elements)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataSet) and self._elements == other._elements

    def __hash__(self) -> int:
        return hash(tuple(self._elements))

    def __repr__(self) -> str:
        return f"DataSet({len(self._elements)} elements)"


@dataclass(slots=True)
class _Open:
    """A container being read: a data set (top level or item), or a sequence."""

    end: int  # offset where it ends, UNDEFINED_LENGTH until its delimiter
    explicit: bool
    elements: list[Element]
    items: list[DataSet] | None = None  # of a sequence
    tag: int = 0


def parse(data: bytes, transfer_syntax_uid: str, limits: ElementLimits | None = None) -> DataSet:
    """A whole data set. Raises MalformedDataSet, UnsupportedTransferSyntax."""
    return _Parser(data, _explicit(transfer_syntax_uid), limits or ElementLimits()).run()


class _Parser:
    def __init__(self, data: bytes, explicit: bool, limits: ElementLimits) -> None:
        self._data, self._limits = data, limits
        self._offset = self._count = 0
        self._stack = [_Open(len(data), explicit, [])]

    def run(self) -> DataSet:
        while True:
            top = self._stack[-1]
            if top.end != UNDEFINED_LENGTH and self._offset >= top.end:
                if self._offset > top.end:
                    raise self._malformed("a value reaches beyond its item")
                if len(self._stack) == 1:
                    return DataSet(top.elements)
                self._close()
            elif top.items is not None:
                self._item(top)
            else:
                self._element(top)

    def _item(self, top: _Open) -> None:
        group, element, length = self._unpack(_IMPLICIT)
        tag = group << 16 | element
        self._offset += 8
        if tag == tags.SEQUENCE_DELIMITATION and top.end == UNDEFINED_LENGTH:
            self._close()
        elif tag == tags.ITEM:
            self._push(_Open(self._end_of(length, top), top.explicit, []))
        else:
            raise self._malformed(f"({group:04X},{element:04X}) where an item was due")

    def _element(self, top: _Open) -> None:
        group, element, vr, length = self._unpack(_EXPLICIT)
        tag = group << 16 | element
        if tag == tags.ITEM_DELIMITATION and top.end == UNDEFINED_LENGTH:
            self._offset += 8
            self._close()
            return
        if group in (0x0000, 0x0002, 0xFFFE):
            raise self._malformed(f"({group:04X},{element:04X}) has no place here")
        header = 8
        if not top.explicit:
            length, name = self._unpack(_IMPLICIT)[2], vr_of(tag)
        elif vr in LONG_VRS:
            header, name = 12, vr.decode("ascii")
            length = self._unpack(_UINT32, 8)[0]
        elif vr in SHORT_VRS:
            name = vr.decode("ascii")
        else:
            raise self._malformed(f"({group:04X},{element:04X}) has the unknown VR {vr!r}")
        self._offset += header
        self._count += 1
        if self._count > self._limits.elements_max:
            raise self._malformed(f"more than {self._limits.elements_max} elements")
        if name == "SQ" or length == UNDEFINED_LENGTH:
            explicit = top.explicit and name != "UN"
            self._push(_Open(self._end_of(length, top), explicit, [], [], tag))
            return
        if length > len(self._data) - self._offset:
            raise self._malformed(f"({group:04X},{element:04X}) claims {length} bytes")
        top.elements.append(Element(tag, name, self._data[self._offset : self._offset + length]))
        self._offset += length

    def _end_of(self, length: int, parent: _Open) -> int:
        if length == UNDEFINED_LENGTH:
            return UNDEFINED_LENGTH
        limit = parent.end if parent.end != UNDEFINED_LENGTH else len(self._data)
        if self._offset + length > limit:
            raise self._malformed(f"an item or sequence claims {length} bytes")
        return self._offset + length

    def _push(self, container: _Open) -> None:
        if len(self._stack) > 2 * self._limits.nesting_depth_max:
            raise self._malformed(f"nested deeper than {self._limits.nesting_depth_max}")
        self._stack.append(container)

    def _close(self) -> None:
        done, parent = self._stack.pop(), self._stack[-1]
        if done.items is not None:
            parent.elements.append(Element(done.tag, "SQ", tuple(done.items)))
        else:
            assert parent.items is not None
            parent.items.append(DataSet(done.elements))

    def _unpack(self, struct: Struct, skip: int = 0) -> tuple[Any, ...]:
        if self._offset + skip + struct.size > len(self._data):
            raise self._malformed("it ends in the middle of an element")
        return struct.unpack_from(self._data, self._offset + skip)

    def _malformed(self, what: str) -> MalformedDataSet:
        return MalformedDataSet(f"at byte {self._offset}: {what}")


def encode(data_set: DataSet, transfer_syntax_uid: str) -> bytes:
    """The bytes of a data set, sequences and items with defined lengths, values padded to even length (PS3.5 7.1)."""
    return _encode(data_set, _explicit(transfer_syntax_uid), 0)


def _encode(data_set: DataSet, explicit: bool, depth: int) -> bytes:
    if depth > ElementLimits().nesting_depth_max:
        raise LocalProtocolError("a data set of ours is nested too deep")
    parts: list[bytes] = []
    for element in data_set:
        if isinstance(element.value, tuple):
            bodies = [_encode(item, explicit, depth + 1) for item in element.value]
            value = b"".join(_IMPLICIT.pack(0xFFFE, 0xE000, len(body)) + body for body in bodies)
        else:
            value = padded(element.value, element.vr)
        parts.append(element_header(element.tag, element.vr, len(value), explicit=explicit))
        parts.append(value)
    return b"".join(parts)


def padded(value: bytes, vr: str) -> bytes:
    """To even length, by the VR's padding (PS3.5 6.2)."""
    if len(value) % 2 == 0:
        return value
    return value + (b"\0" if vr in _NUL_PADDED else b" ")


def element_header(tag: int, vr: str, length: int, *, explicit: bool) -> bytes:
    """Tag, VR and length (PS3.5 7.1.2, 7.1.3); UN instead of a short VR whose value is too long for it (PS3.5 6.2.2)."""
    group, element = tag >> 16, tag & 0xFFFF
    if not explicit:
        return _IMPLICIT.pack(group, element, length)
    name = vr.encode("ascii")
    if name not in LONG_VRS and length > 0xFFFF:
        name = b"UN"
    if name in LONG_VRS:
        return _TAG.pack(group, element) + name + b"\0\0" + _UINT32.pack(length)
    return _TAG.pack(group, element) + name + _UINT16.pack(length)


def _explicit(transfer_syntax_uid: str) -> bool:
    if transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN:
        return False
    if transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN:
        return True
    raise UnsupportedTransferSyntax(f"data sets in {transfer_syntax_uid} are not held whole here")
