"""How does a native data set change its clothes? Explicit and implicit VR little endian into each other, pixel data passed through in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct

from leadglass.wire import tags
from leadglass.wire.dataset import LONG_VRS, MalformedDataSet, Scanner, UnsupportedTransferSyntax
from leadglass.wire.dictionary import choices_of
from leadglass.wire.elements import DataSet, Element, element_header, encode, parse
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

HEADER_LENGTH_MAX_BYTES = 32 << 20  # held to be written anew
TRAILER_LENGTH_MAX_BYTES = 1 << 20  # elements behind the pixel data
_NATIVE = frozenset((EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN))
_EXPLICIT = Struct("<HH2sH")
_IMPLICIT = Struct("<HHL")
_UINT32 = Struct("<L")
_PIXEL_HEADER_MAX_BYTES = 12


def reencode(pieces: Iterable[bytes | memoryview], source: str, target: str) -> Iterator[bytes | memoryview]:
    """The data set in another native transfer syntax. A piece is used up before the next is asked for.

    Raises MalformedDataSet, UnsupportedTransferSyntax.
    """
    if source not in _NATIVE or target not in _NATIVE:
        raise UnsupportedTransferSyntax(f"no way from {source} to {target} without a codec")
    incoming = iter(pieces)
    held, scanner = bytearray(), Scanner(source)
    for piece in incoming:
        held += piece
        scanner.feed(piece)
        if scanner.header_complete and len(held) >= scanner.header_length + _PIXEL_HEADER_MAX_BYTES:
            break
        if not scanner.header_complete and len(held) > HEADER_LENGTH_MAX_BYTES:
            raise MalformedDataSet(f"a header longer than {HEADER_LENGTH_MAX_BYTES} bytes is not written anew")
    if not scanner.header_complete:
        yield encode(_settled(parse(bytes(held), source), source), target)
        return
    header = parse(bytes(held[: scanner.header_length]), source)
    yield encode(_settled(header, source), target)
    yield from _pixels(memoryview(bytes(held[scanner.header_length :])), incoming, source, target)


def _pixels(
    held: memoryview, incoming: Iterator[bytes | memoryview], source: str, target: str
) -> Iterator[bytes | memoryview]:
    tag, vr, start, length = _pixel_header(held, source)
    yield element_header(tag, vr, length, explicit=target == EXPLICIT_VR_LITTLE_ENDIAN)
    left, trailer = length, bytearray()
    for piece in _chain(held[start:], incoming):
        view = memoryview(piece)
        if left:
            yield view[:left]
            view, left = view[left:], max(0, left - len(view))
        trailer += view
        if len(trailer) > TRAILER_LENGTH_MAX_BYTES:
            raise MalformedDataSet(f"more than {TRAILER_LENGTH_MAX_BYTES} bytes behind the pixel data")
    if left:
        raise MalformedDataSet(f"the pixel data ends {left} bytes early")
    if trailer:
        yield encode(parse(bytes(trailer), source), target)


def _chain(first: memoryview, rest: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    yield first
    yield from rest


def _pixel_header(held: memoryview, source: str) -> tuple[int, str, int, int]:
    """Tag, VR for explicit, length of the header, length of the value."""
    if len(held) < 8:
        raise MalformedDataSet("the data set ends in the header of its pixel data")
    if source == IMPLICIT_VR_LITTLE_ENDIAN:
        group, element, length = _IMPLICIT.unpack_from(held)
        tag = group << 16 | element
        return tag, {tags.FLOAT_PIXEL_DATA: "OF", tags.DOUBLE_FLOAT_PIXEL_DATA: "OD"}.get(tag, "OW"), 8, length
    group, element, vr, length = _EXPLICIT.unpack_from(held)
    start = 8
    if vr in LONG_VRS:
        if len(held) < 12:
            raise MalformedDataSet("the data set ends in the header of its pixel data")
        start, length = 12, _UINT32.unpack_from(held, 8)[0]
    return group << 16 | element, bytes(vr).decode("ascii"), start, length


def _settled(data_set: DataSet, source: str) -> DataSet:
    """VRs that the Standard leaves open get settled where they came from the dictionary (PS3.5 Annex A.1)."""
    if source == EXPLICIT_VR_LITTLE_ENDIAN:
        return data_set
    signed = data_set.get(tags.PIXEL_REPRESENTATION)
    is_signed = signed is not None and isinstance(signed.value, bytes) and signed.value[:1] == b"\1"
    return DataSet([_settle(element, is_signed=is_signed) for element in data_set])


def _settle(element: Element, *, is_signed: bool) -> Element:
    if isinstance(element.value, tuple):
        items = tuple(DataSet([_settle(each, is_signed=is_signed) for each in item]) for item in element.value)
        return Element(element.tag, element.vr, items)
    choices = choices_of(element.tag)
    if "SS" in choices and len(choices) > 1:
        return Element(element.tag, "SS" if is_signed else "US", element.value)
    if "OW" in choices and "OB" in choices:
        return Element(element.tag, "OW", element.value)
    return element


def canonical(header: bytes, transfer_syntax_uid: str) -> bytes:
    """The same bytes for the same header in explicit and implicit VR: what a rendition is recognised by. Raises MalformedDataSet."""
    return encode(parse(header, transfer_syntax_uid), IMPLICIT_VR_LITTLE_ENDIAN)
