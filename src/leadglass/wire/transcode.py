"""How does a native data set change its clothes? Explicit and implicit VR little endian into each other, in one pass and constant memory.

Sequences and items are written with undefined lengths, so that nothing must be known before it is written; values pass through in the pieces
they came in. Left out is what would be untrue afterwards: group lengths and Length to End, both retired (PS3.5 7.2).

Into implicit VR this is the canonical form: the same data set gives the same bytes, whichever of the two syntaxes and of the two kinds of
sequence length it came in. For that, a sequence that hides in UN, or in a private attribute of unknown VR, is looked for and written as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct

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
from leadglass.wire.dictionary import choices_of, sequences, vr_of
from leadglass.wire.elements import DataSet, element_header, padded, padding, parse_items
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

NESTING_DEPTH_MAX = 64
HIDDEN_LENGTH_MAX_BYTES = 1 << 18  # of a value in which a sequence is looked for
VALUE_COPIED_MAX_BYTES = 4096  # a longer value is handed on as it lies
PIECE_LENGTH_BYTES = 1 << 16  # what is written is gathered up to this
_NATIVE = frozenset((EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN))
_EXPLICIT = Struct("<HH2sH")
_UINT32 = Struct("<L")
_NAMES = {vr: vr.decode("ascii") for vr in SHORT_VRS | LONG_VRS}
_ITEM = element_header(tags.ITEM, "", UNDEFINED_LENGTH, explicit=False)
_ITEM_END = element_header(tags.ITEM_DELIMITATION, "", 0, explicit=False)
_SEQUENCE_END = element_header(tags.SEQUENCE_DELIMITATION, "", 0, explicit=False)


def reencode(pieces: Iterable[bytes | memoryview], source: str, target: str) -> Iterator[bytes | memoryview]:
    """The data set in another native transfer syntax, or normalised in its own. A piece is used up before the next is asked for.

    Raises MalformedDataSet, UnsupportedTransferSyntax.
    """
    if source not in _NATIVE or target not in _NATIVE:
        raise UnsupportedTransferSyntax(f"no way from {source} to {target} without a codec")
    intake = _Intake(pieces)
    yield from _Rewriter(intake, source == EXPLICIT_VR_LITTLE_ENDIAN, target == EXPLICIT_VR_LITTLE_ENDIAN).run()


def canonical(data: bytes, transfer_syntax_uid: str) -> bytes:
    """The same bytes for the same header, or whole data set, in explicit and implicit VR. Raises what `reencode` does."""
    return b"".join(reencode([data], transfer_syntax_uid, IMPLICIT_VR_LITTLE_ENDIAN))


class _Intake:
    """Bytes out of pieces: a few as `take`, many as `pass_on`."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")
        self._offset = 0
        self._before = 0  # bytes of earlier pieces

    @property
    def position(self) -> int:
        return self._before + self._offset

    def at_end(self) -> bool:
        while self._offset == len(self._piece):
            following = next(self._pieces, None)
            if following is None:
                return True
            self._before += self._offset
            self._piece, self._offset = memoryview(following), 0
        return False

    def take(self, count: int) -> bytes:
        end = self._offset + count
        if end <= len(self._piece):
            taken = bytes(self._piece[self._offset : end])
            self._offset = end
            return taken
        return b"".join(map(bytes, self.pass_on(count)))

    def pass_on(self, count: int) -> Iterator[memoryview]:
        while count:
            if self.at_end():
                raise MalformedDataSet(f"the data set ends {count} bytes early")
            part = self._piece[self._offset : self._offset + count]
            self._offset += len(part)
            count -= len(part)
            yield part


class _Container:
    """A sequence or an item that is being rewritten. Positions are those of what is read."""

    __slots__ = ("explicit", "is_item", "reach", "signed", "stop", "tag", "written")

    def __init__(self, tag: int, stop: int, reach: int, *, explicit: bool, signed: bool) -> None:
        self.tag = tag
        self.is_item = tag == tags.ITEM
        self.stop = stop  # -1 until the delimiter
        self.reach = reach  # what nothing in it may pass
        self.explicit = explicit
        self.signed = signed  # Pixel Representation as it holds here
        self.written = False  # the header of a sequence waits for its first item: an empty one has no delimiter


class _Rewriter:
    def __init__(self, intake: _Intake, from_explicit: bool, to_explicit: bool) -> None:
        self._intake, self._to_explicit = intake, to_explicit
        self._root = _Container(tags.ITEM, -1, 1 << 63, explicit=from_explicit, signed=False)
        self._stack = [self._root]
        self._out = bytearray()
        self._pad = b""  # behind a passed on value of odd length

    def run(self) -> Iterator[bytes | memoryview]:
        intake, out, stack = self._intake, self._out, self._stack
        while True:
            top = stack[-1]
            if top.stop == intake.position:
                self._close()
                continue
            if top is self._root and intake.at_end():
                break
            if not top.is_item:
                self._item(top)
                continue
            length = self._element(top)
            if length:
                yield bytes(out)
                out.clear()
                yield from intake.pass_on(length)
                if length & 1:
                    out += self._pad
            elif len(out) >= PIECE_LENGTH_BYTES:
                yield bytes(out)
                out.clear()
        if out:
            yield bytes(out)

    def _element(self, top: _Container) -> int:
        """Rewrites an element, or only its header: then the length of the value to pass on."""
        intake = self._intake
        at = intake.position
        raw = intake.take(8)
        group, element, code, length = _EXPLICIT.unpack(raw)
        tag = group << 16 | element
        if group in FORBIDDEN_GROUPS:
            self._end_of_item(top, tag, at)
            return 0
        if not top.explicit:
            (length,) = _UINT32.unpack_from(raw, 4)
            nests = tag in sequences()
            vr = self._settled(tag, top) if self._to_explicit else vr_of(tag)
        elif code in _NAMES:
            vr = _NAMES[code]
            nests = vr == "SQ" or (vr == "UN" and tag in sequences())  # UN that hides a known one (PS3.5 6.2.2)
            if code in LONG_VRS:
                (length,) = _UINT32.unpack(intake.take(4))
        else:
            raise _malformed(tag, at, f"unknown VR {code!r}")
        if nests or length == UNDEFINED_LENGTH:
            if _untrue(tag):
                raise _malformed(tag, at, "a length that holds items")
            if tag in PIXELS or (top.explicit and vr not in ("SQ", "UN")):
                raise _malformed(tag, at, "undefined length, and neither a sequence nor in a syntax that encapsulates")
            self._push(top, tag, length, explicit=top.explicit and vr == "SQ")
            return 0
        if intake.position + length > top.reach:
            raise _malformed(tag, at, f"{length} bytes reach beyond the item")
        if length and tag in sequences() and not self._to_explicit:
            raise _malformed(tag, at, f"VR {vr}, where implicit VR would say SQ")
        return self._value(top, tag, vr, length)

    def _value(self, top: _Container, tag: int, vr: str, length: int) -> int:
        intake, out = self._intake, self._out
        if _untrue(tag):
            for _ in intake.pass_on(length):
                pass
            return 0
        if vr == "UN" and not self._to_explicit and length <= HIDDEN_LENGTH_MAX_BYTES:
            out += _unhidden(tag, intake.take(length), len(self._stack))
            return 0
        out += element_header(tag, vr, length + (length & 1), explicit=self._to_explicit)
        if length > VALUE_COPIED_MAX_BYTES:
            self._pad = padding(vr)
            return length
        value = intake.take(length)
        if tag == tags.PIXEL_REPRESENTATION:
            top.signed = value[:1] == b"\1"
        out += padded(value, vr)
        return 0

    def _settled(self, tag: int, top: _Container) -> str:
        """The VR of what came without one; where the Standard leaves a choice, by Pixel Representation, and words for bytes (PS3.5 A.1)."""
        choices = choices_of(tag)
        if len(choices) == 1:
            return choices[0]
        if "OW" in choices:
            return "OW"
        return "SS" if top.signed else choices[0]

    def _item(self, top: _Container) -> None:
        at = self._intake.position
        raw = self._intake.take(8)
        group, element = _EXPLICIT.unpack(raw)[:2]
        (length,) = _UINT32.unpack_from(raw, 4)
        tag = group << 16 | element
        if tag == tags.SEQUENCE_DELIMITATION and top.stop < 0 and not length:
            self._close()
            return
        if tag != tags.ITEM:
            raise _malformed(tag, at, "where an item or the end of the sequence was due")
        if not top.written:
            self._out += element_header(top.tag, "SQ", UNDEFINED_LENGTH, explicit=self._to_explicit)
            top.written = True
        self._out += _ITEM
        self._push(top, tag, length, explicit=top.explicit)

    def _push(self, top: _Container, tag: int, length: int, *, explicit: bool) -> None:
        start = self._intake.position
        stop, reach = -1, top.reach
        if length != UNDEFINED_LENGTH:
            stop = start + length
            if stop > reach:
                raise _malformed(tag, start, f"{length} bytes reach beyond what holds them")
            reach = stop
        if len(self._stack) > 2 * NESTING_DEPTH_MAX:
            raise _malformed(tag, start, f"nested deeper than {NESTING_DEPTH_MAX}")
        self._stack.append(_Container(tag, stop, reach, explicit=explicit, signed=top.signed))

    def _end_of_item(self, top: _Container, tag: int, at: int) -> None:
        if tag != tags.ITEM_DELIMITATION or top.stop >= 0 or top is self._root:
            raise _malformed(tag, at, "has no place here")
        self._close()

    def _close(self) -> None:
        done = self._stack.pop()
        if done.is_item:
            self._out += _ITEM_END
        elif done.written:
            self._out += _SEQUENCE_END
        else:
            self._out += element_header(done.tag, "SQ", 0, explicit=self._to_explicit)


def _untrue(tag: int) -> bool:
    """Group lengths and Length to End: they count bytes that are written anew."""
    return tag & 0xFFFF == 0 or tag == tags.LENGTH_TO_END


def _unhidden(tag: int, value: bytes, depth: int) -> bytes:
    """An element in implicit VR, rewritten as a sequence where its value is one from the first byte to the last."""
    if value[:4] == _ITEM[:4]:
        try:
            return _sequence(tag, parse_items(value), depth)
        except MalformedDataSet:
            pass  # bytes that only begin like one
    return element_header(tag, "UN", len(value) + len(value) % 2, explicit=False) + padded(value, "UN")


def _sequence(tag: int, items: tuple[DataSet, ...], depth: int) -> bytes:
    """A hidden sequence, written as one. `depth`: containers around it, as the reader of what is written will count them."""
    if depth > 2 * NESTING_DEPTH_MAX:
        raise _malformed(tag, 0, f"nested deeper than {NESTING_DEPTH_MAX}")
    if not items:
        return element_header(tag, "SQ", 0, explicit=False)
    parts = [element_header(tag, "SQ", UNDEFINED_LENGTH, explicit=False)]
    for item in items:
        parts.append(_ITEM)
        for number, vr, value in item:
            if isinstance(value, tuple):
                if _untrue(number):
                    raise _malformed(number, 0, "a length that holds items")
                parts.append(_sequence(number, value, depth + 2))
            elif isinstance(value, bytes) and not _untrue(number):
                if vr == "UN":
                    parts.append(_unhidden(number, value, depth + 2))
                else:
                    body = padded(value, vr)
                    parts.append(element_header(number, vr, len(body), explicit=False) + body)
        parts.append(_ITEM_END)
    parts.append(_SEQUENCE_END)
    return b"".join(parts)


def _malformed(tag: int, at: int, what: str) -> MalformedDataSet:
    return MalformedDataSet(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) at byte {at}: {what}")
