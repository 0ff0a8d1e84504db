"""What does a small data set say, whole? Identifiers of queries, payloads of N-ACTION, headers: read into light frozen elements, and written.

Pixel data of the top level never comes through here: `dataset.Scanner` streams, this holds everything. Bounded by `ElementLimits`; reading
is iterative, writing goes no deeper than reading does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from struct import Struct
from typing import NamedTuple

from leadglass.wire import tags
from leadglass.wire.dataset import (
    FORBIDDEN_GROUPS,
    LONG_VRS,
    PIXELS,
    SHORT_VRS,
    UNDEFINED_LENGTH,
    MalformedDataSet,
    UnsupportedTransferSyntax,
)
from leadglass.wire.dictionary import vr_of
from leadglass.wire.errors import LocalProtocolError
from leadglass.wire.uids import TRANSFER_SYNTAXES

_EXPLICIT = Struct("<HH2sH")
_IMPLICIT = Struct("<HHL")
_TAG = Struct("<HH")
_UINT16 = Struct("<H")
_UINT32 = Struct("<L")
_NUL_PADDED = frozenset(("UI", "OB", "UN"))
_NAMES = {vr: vr.decode("ascii") for vr in SHORT_VRS}
_LONG_NAMES = {vr: vr.decode("ascii") for vr in LONG_VRS}
_SEQUENCE_END = _IMPLICIT.pack(0xFFFE, 0xE0DD, 0)


@dataclass(frozen=True, slots=True)
class ElementLimits:
    """Of one data set that is held whole. `elements_max`: some 200 bytes of memory each."""

    elements_max: int = 200_000
    nesting_depth_max: int = 64


@dataclass(frozen=True, slots=True)
class Fragments:
    """Encapsulated pixel data inside a sequence, an icon for one: offset table and fragments as they came (PS3.5 A.4)."""

    pieces: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.pieces)


class Element(NamedTuple):
    """`value`: raw bytes without meaning added, the items of a sequence, or fragments."""

    tag: int
    vr: str
    value: bytes | tuple[DataSet, ...] | Fragments


_by_tag = attrgetter("tag")
_new_element = tuple.__new__  # a third of the time of a named tuple's own constructor


class DataSet:
    """Elements by tag, in ascending order; of two with the same tag the last."""

    __slots__ = ("_elements",)

    def __init__(self, elements: Iterable[Element] = ()) -> None:
        self._elements = {element.tag: element for element in sorted(elements, key=_by_tag)}

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


class _Open:
    """A container being read: a data set (top level or item), a sequence, or fragments."""

    __slots__ = ("elements", "end", "explicit", "fragments", "items", "reach", "tag")

    def __init__(self, end: int, reach: int, tag: int = 0, *, explicit: bool, holds_items: bool) -> None:
        self.end = end  # offset where it ends, UNDEFINED_LENGTH until its delimiter
        self.reach = reach  # offset that nothing in it may pass
        self.tag = tag
        self.explicit = explicit
        self.elements: list[Element] = []
        self.items: list[DataSet] | None = [] if holds_items else None
        self.fragments: list[bytes] | None = None


def parse(data: bytes, transfer_syntax_uid: str, limits: ElementLimits | None = None) -> DataSet:
    """A whole data set in a little endian transfer syntax. Raises MalformedDataSet, UnsupportedTransferSyntax.

    A tag that is there twice at the same level is refused: readers would differ about which one counts.
    """
    syntax = TRANSFER_SYNTAXES.get(transfer_syntax_uid)
    if syntax is None or syntax.big_endian or syntax.deflated:
        raise UnsupportedTransferSyntax(f"data sets in {transfer_syntax_uid} are not held whole here")
    parser = _Parser(data, limits or ElementLimits(), encapsulated=syntax.encapsulated)
    return parser.run(_Open(len(data), len(data), explicit=syntax.explicit, holds_items=False))


def parse_items(data: bytes) -> tuple[DataSet, ...]:
    """The items of a sequence from its value in implicit VR, which UN hides (PS3.5 6.2.2 note 2). Raises MalformedDataSet."""
    root = _Open(len(data), len(data), explicit=False, holds_items=True)
    _Parser(data, ElementLimits(), encapsulated=False).run(root)
    return tuple(root.items or ())


class _Parser:
    def __init__(self, data: bytes, limits: ElementLimits, *, encapsulated: bool) -> None:
        self._data, self._limits, self._encapsulated = data, limits, encapsulated
        self._offset = self._count = 0
        self._stack: list[_Open] = []

    def run(self, root: _Open) -> DataSet:
        self._stack.append(root)
        while True:
            top = self._stack[-1]
            if top.end != UNDEFINED_LENGTH and self._offset >= top.end:
                if len(self._stack) == 1:
                    return self._data_set(root)
                self._close()
            elif top.items is not None:
                self._item(top)
            else:
                self._elements(top)

    def _elements(self, top: _Open) -> None:
        """Elements up to the next container, or the end of this one."""
        data, offset, explicit, elements = self._data, self._offset, top.explicit, top.elements
        final = min(top.reach, len(data)) - 8
        stop = top.end if top.end != UNDEFINED_LENGTH else len(data) + 1
        while offset < stop:
            if offset > final:
                raise self._malformed(offset, "it ends in the middle of an element")
            group, element, vr, length = _EXPLICIT.unpack_from(data, offset)
            tag = group << 16 | element
            start = offset + 8
            if group in FORBIDDEN_GROUPS:
                self._end_of_item(top, tag, offset)
                return
            if not explicit:
                name, length = vr_of(tag), _UINT32.unpack_from(data, offset + 4)[0]
            elif vr in _NAMES:
                name = _NAMES[vr]
            elif vr in _LONG_NAMES:
                name, start = _LONG_NAMES[vr], offset + 12
                if start > top.reach:
                    raise self._malformed(offset, "it ends in the middle of an element")
                length = _UINT32.unpack_from(data, offset + 8)[0]
            else:
                raise self._malformed(offset, f"({group:04X},{element:04X}) has the unknown VR {vr!r}")
            if name == "SQ" or length == UNDEFINED_LENGTH:
                self._offset = start
                self._open(top, tag, name, length)
                return
            offset = start + length
            if offset > top.reach:
                raise self._malformed(start, f"({group:04X},{element:04X}) claims {length} bytes")
            elements.append(_new_element(Element, (tag, name, data[start:offset])))
        self._offset = offset

    def _end_of_item(self, top: _Open, tag: int, offset: int) -> None:
        if tag != tags.ITEM_DELIMITATION or top.end != UNDEFINED_LENGTH:
            raise self._malformed(offset, f"({tag >> 16:04X},{tag & 0xFFFF:04X}) has no place here")
        self._offset = offset + 8
        self._close()

    def _item(self, top: _Open) -> None:
        if self._offset + 8 > top.reach:
            raise self._malformed(self._offset, "it ends in the middle of a sequence")
        group, element, length = _IMPLICIT.unpack_from(self._data, self._offset)
        tag = group << 16 | element
        self._offset += 8
        if tag == tags.SEQUENCE_DELIMITATION and top.end == UNDEFINED_LENGTH and not length:
            self._close()
        elif tag != tags.ITEM:
            raise self._malformed(self._offset - 8, f"({group:04X},{element:04X}) where an item was due")
        elif top.fragments is not None:
            end = self._offset + length
            if end > top.reach:
                raise self._malformed(self._offset, f"a fragment claims {length} bytes")
            top.fragments.append(self._data[self._offset : end])
            self._offset = end
        else:
            self._push(top, tag, length, explicit=top.explicit, holds_items=False)

    def _open(self, top: _Open, tag: int, name: str, length: int) -> None:
        pixels = tag in PIXELS
        if pixels and not (self._encapsulated and length == UNDEFINED_LENGTH and len(self._stack) > 1):
            raise self._malformed(self._offset, f"pixel data {tag:08X} that is not held here")
        if top.explicit and name not in ("SQ", "UN") and not pixels:
            raise self._malformed(self._offset, f"{tag:08X} has VR {name} and an undefined length")
        self._push(top, tag, length, explicit=top.explicit and name != "UN", holds_items=True)
        if pixels:
            self._stack[-1].fragments = []

    def _push(self, top: _Open, tag: int, length: int, *, explicit: bool, holds_items: bool) -> None:
        end, reach = UNDEFINED_LENGTH, top.reach
        if length != UNDEFINED_LENGTH:
            end = self._offset + length
            if end > reach:
                raise self._malformed(self._offset, f"an item or sequence claims {length} bytes")
            reach = end
        self._count += 1
        if len(self._stack) > 2 * self._limits.nesting_depth_max:
            raise self._malformed(self._offset, f"nested deeper than {self._limits.nesting_depth_max}")
        self._stack.append(_Open(end, reach, tag, explicit=explicit, holds_items=holds_items))

    def _close(self) -> None:
        done, parent = self._stack.pop(), self._stack[-1]
        if done.fragments is not None:
            parent.elements.append(Element(done.tag, "OB", Fragments(tuple(done.fragments))))
        elif done.items is not None:
            parent.elements.append(Element(done.tag, "SQ", tuple(done.items)))
        else:
            assert parent.items is not None
            parent.items.append(self._data_set(done))

    def _data_set(self, done: _Open) -> DataSet:
        data_set = DataSet(done.elements)
        self._count += len(done.elements)
        if self._count > self._limits.elements_max:
            raise self._malformed(self._offset, f"more than {self._limits.elements_max} elements")
        if len(data_set) != len(done.elements):
            raise self._malformed(self._offset, "an attribute is there twice before here")
        return data_set

    def _malformed(self, offset: int, what: str) -> MalformedDataSet:
        return MalformedDataSet(f"at byte {offset}: {what}")


def encode(data_set: DataSet, transfer_syntax_uid: str) -> bytes:
    """The bytes of a data set, values padded to even length (PS3.5 7.1).

    Sequences and items have defined lengths, but for a sequence in implicit VR that the dictionary does not know: its length is undefined, or
    its reader would take it for bytes (PS3.5 7.5.1).
    """
    syntax = TRANSFER_SYNTAXES.get(transfer_syntax_uid)
    if syntax is None or syntax.big_endian or syntax.deflated:
        raise UnsupportedTransferSyntax(f"no data set is written in {transfer_syntax_uid}")
    return _encode(data_set, syntax.explicit, 0)


def _encode(data_set: DataSet, explicit: bool, depth: int) -> bytes:
    if depth > ElementLimits().nesting_depth_max:
        raise LocalProtocolError("a data set of ours is nested too deep")
    parts: list[bytes] = []
    for tag, vr, value in data_set:
        if isinstance(value, bytes):
            body = padded(value, vr)
        elif isinstance(value, Fragments):
            pieces = (_IMPLICIT.pack(0xFFFE, 0xE000, len(piece)) + piece for piece in value.pieces)
            parts += (element_header(tag, vr, UNDEFINED_LENGTH, explicit=explicit), *pieces, _SEQUENCE_END)
            continue
        else:
            items = [_encode(item, explicit, depth + 1) for item in value]
            body = b"".join(_IMPLICIT.pack(0xFFFE, 0xE000, len(item)) + item for item in items)
            if not explicit and vr_of(tag) != "SQ":
                parts += (element_header(tag, vr, UNDEFINED_LENGTH, explicit=False), body, _SEQUENCE_END)
                continue
        parts += (element_header(tag, vr, len(body), explicit=explicit), body)
    return b"".join(parts)


def padded(value: bytes, vr: str) -> bytes:
    """To even length, by the VR's padding (PS3.5 6.2)."""
    return value + padding(vr) if len(value) % 2 else value


def padding(vr: str) -> bytes:
    return b"\0" if vr in _NUL_PADDED else b" "


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
