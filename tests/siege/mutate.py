"""How is a conversation, or a data set, broken so that a reader still enters it? Seeded mutations that know the structure.

Most mutants keep the outermost lengths right: what is refused at the first header tests nothing behind it. All chance comes from the `Random`
that is passed in, so a seed is a mutant.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from struct import Struct

PDU_HEADER = Struct(">BxL")
_ITEM = Struct(">BxH")
_PDV = Struct(">LBB")
_ELEMENT = Struct("<HHL")
_RQ, _AC, _DATA = 1, 2, 4
_FIXED_BYTES = 68  # of A-ASSOCIATE-RQ and -AC before their items
_INTEGERS = (0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 0x7F, 0x80, 0xFF, 0x100, 0x101, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
             0xFFFFFFFE, 0xFFFFFFFF)  # fmt: skip
_TEXTS = (b"", b" ", b"\0", b"1.2.840.10008.1.1", b"1" * 65, b"..", b"1.2\0", b"ISO_IR 192", b"\\", b"\xff\xfe", b"A\\B", b"\x1b$B\x1b", b"^=^=", b"*?",
          b"-0", b"1e999", b"nan", b"20240230", b"LEADGLASS       ")  # fmt: skip


def integer(rng: random.Random, bytes_: int) -> int:
    """A value at which comparisons and arithmetic like to be wrong, or any."""
    limit = 1 << 8 * bytes_
    return rng.choice(_INTEGERS) % limit if rng.random() < 0.8 else rng.randrange(limit)


def near(rng: random.Random, length: int, bytes_: int) -> int:
    """A length that lies: a little, or by much."""
    limit = 1 << 8 * bytes_
    return (length + rng.choice((-8, -4, -2, -1, 1, 2, 4, 8))) % limit if rng.random() < 0.7 else integer(rng, bytes_)


# ---- without structure


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    """One to eight bits."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def put_integer(rng: random.Random, data: bytes) -> bytes:
    """An integer of one to four bytes, in either byte order, over what is there."""
    size = rng.choice((1, 2, 4))
    if len(data) < size:
        return data
    at, order = rng.randrange(len(data) - size + 1), rng.choice(("big", "little"))
    return data[:at] + integer(rng, size).to_bytes(size, order) + data[at + size :]  # type: ignore[arg-type]


def cut(rng: random.Random, data: bytes) -> bytes:
    """The end, or a piece of the middle, is gone."""
    start = rng.randrange(len(data) + 1)
    return data[:start] + (data[start + rng.randint(1, 16) :] if rng.random() < 0.5 else b"")


def grow(rng: random.Random, data: bytes) -> bytes:
    """Some bytes more: of its own, of chance, or zeros."""
    at, count = rng.randrange(len(data) + 1), rng.randint(1, 32)
    more = rng.choice((data[at : at + count], rng.randbytes(count), bytes(count)))
    return data[:at] + more + data[at:]


_BLUNT: tuple[Callable[[random.Random, bytes], bytes], ...] = (flip_bits, put_integer, cut, grow)


def blunt(rng: random.Random, data: bytes) -> bytes:
    """One mutation that knows no structure."""
    return rng.choice(_BLUNT)(rng, data)


# ---- rows of parts: items, presentation data values, elements


def shuffled(rng: random.Random, parts: list[bytes], others: Sequence[bytes]) -> list[bytes]:
    """One part twice, gone, elsewhere, or one of another conversation between them."""
    parts = list(parts)
    kind = rng.randrange(4)
    if kind == 0 and others:
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(others))
    elif parts and kind == 1:
        one = rng.choice(parts)
        for _ in range(rng.choice((1, 1, 2, 40))):
            parts.insert(rng.randrange(len(parts) + 1), one)
    elif parts and kind == 2:
        parts.pop(rng.randrange(len(parts)))
    elif parts:
        parts.insert(rng.randrange(len(parts)), parts.pop(rng.randrange(len(parts))))
    return parts


def _changed(rng: random.Random, parts: list[bytes], change: Callable[[bytes], bytes]) -> list[bytes]:
    if not parts:
        return parts
    at = rng.randrange(len(parts))
    return [*parts[:at], change(parts[at]), *parts[at + 1 :]]


# ---- A-ASSOCIATE-RQ and -AC


def items(data: bytes) -> list[bytes]:
    """Items with their headers, as far as their lengths are true; the rest as one piece."""
    found, offset = [], 0
    while offset < len(data):
        end = len(data)
        if offset + 4 <= len(data):
            end = min(end, offset + 4 + _ITEM.unpack_from(data, offset)[1])
        found.append(data[offset:end])
        offset = end
    return found


def _item_head(kind: int) -> int:
    """Bytes of an item's body before its own items; -1 where there are none."""
    return {0x20: 4, 0x21: 4, 0x50: 0}.get(kind, -1)


def _mutated_item(rng: random.Random, item: bytes, others: Sequence[bytes]) -> bytes:
    if len(item) < 4:
        return blunt(rng, item)
    kind, body = item[0], item[4:]
    head = _item_head(kind)
    match rng.randrange(8):
        case 0:
            kind = rng.choice((0x10, 0x20, 0x21, 0x30, 0x40, 0x50, *range(0x51, 0x5A), rng.randrange(256)))
        case 1:
            return _ITEM.pack(kind, near(rng, len(body), 2)) + body
        case 2:
            body = rng.choice(_TEXTS)
        case 7:  # shorter than its fixed fields
            body = body[: rng.randrange(6)]
        case 3 if head < 0:
            body = blunt(rng, body)
        case _ if head >= 0:
            inner = items(body[head:])
            if rng.random() < 0.5:
                inner = shuffled(rng, inner, others)
            else:
                inner = _changed(rng, inner, lambda each: _mutated_item(rng, each, others))
            body = body[:head] + b"".join(inner)
        case _:
            body = blunt(rng, body)
    return _ITEM.pack(kind, len(body) & 0xFFFF) + body


def _associate(rng: random.Random, body: bytes, pool: Sequence[bytes]) -> bytes:
    fixed, rest = body[:_FIXED_BYTES], body[_FIXED_BYTES:]
    other = rng.choice(pool)
    others = items(other[6 + _FIXED_BYTES :]) if other[0] in (_RQ, _AC) else [other]
    match rng.randrange(8):
        case 0:
            return blunt(rng, fixed) + rest
        case 1:
            return fixed + b"".join(shuffled(rng, items(rest), others))
        case 2:
            return fixed + b"".join(others)
        case _:
            return fixed + b"".join(_changed(rng, items(rest), lambda each: _mutated_item(rng, each, others)))


# ---- P-DATA-TF and command sets


def values(body: bytes) -> list[bytes]:
    """Presentation data values with their headers, as `items` does."""
    found, offset = [], 0
    while offset < len(body):
        end = len(body)
        if offset + 4 <= len(body):
            end = min(end, offset + 4 + int.from_bytes(body[offset : offset + 4], "big"))
        found.append(body[offset:end])
        offset = end
    return found


def elements(data: bytes) -> list[bytes]:
    """Elements in implicit VR, nothing nested: a command set's."""
    found, offset = [], 0
    while offset < len(data):
        end = len(data)
        if offset + 8 <= len(data):
            end = min(end, offset + 8 + _ELEMENT.unpack_from(data, offset)[2])
        found.append(data[offset:end])
        offset = end
    return found


_COMMAND_ELEMENTS = (0, 0x0002, 0x0003, 0x0100, 0x0110, 0x0120, 0x0600, 0x0700, 0x0800, 0x0900, 0x0901, 0x0902, 0x0903, 0x1000, 0x1001, 0x1002,
                     0x1005, 0x1008, 0x1020, 0x1021, 0x1022, 0x1023, 0x1030, 0x1031)  # fmt: skip
_FIELDS = (0x0001, 0x8001, 0x0010, 0x8010, 0x0020, 0x8020, 0x0021, 0x8021, 0x0030, 0x8030, 0x0100, 0x8100, 0x0110, 0x0120, 0x0130, 0x8130, 0x0140,
           0x0150, 0x0FFF, 0x8FFF)  # fmt: skip


def _mutated_element(rng: random.Random, element: bytes) -> bytes:
    if len(element) < 8:
        return blunt(rng, element)
    group, number, _ = _ELEMENT.unpack_from(element)
    value = element[8:]
    match rng.randrange(7):
        case 0:
            number = rng.choice(_COMMAND_ELEMENTS)
        case 1:
            group = rng.choice((0, 2, 8, 0xFFFE, 0xFFFF))
        case 2:
            return _ELEMENT.pack(group, number, near(rng, len(value), 4)) + value
        case 3:
            value = rng.choice(_TEXTS)
        case 4 if number == 0x0100:
            value = rng.choice(_FIELDS).to_bytes(2, "little")
        case 4 | 5:
            value = integer(rng, max(2, min(4, len(value)))).to_bytes(4, "little")[: max(2, min(4, len(value)))]
        case _:
            value = blunt(rng, value)
    return _ELEMENT.pack(group, number, len(value)) + value


def command_set(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A command set with one element changed, or its elements in another row."""
    parts = elements(data)
    if rng.random() < 0.3:
        return b"".join(shuffled(rng, parts, elements(other)))
    return b"".join(_changed(rng, parts, lambda each: _mutated_element(rng, each)))


def _pdv(context: int, control: int, data: bytes) -> bytes:
    return _PDV.pack(len(data) + 2, context, control) + data


def _mutated_value(rng: random.Random, value: bytes, other: bytes) -> list[bytes]:
    """One presentation data value, as one or more."""
    if len(value) < 6:
        return [blunt(rng, value)]
    length, context, control = _PDV.unpack_from(value)
    data = value[6:]
    match rng.randrange(8):
        case 0:
            return [_PDV.pack(near(rng, length, 4), context, control) + data]
        case 1:
            context = rng.choice((0, 1, 2, 3, 5, 255, rng.randrange(256)))
        case 2:
            control = rng.choice((0, 1, 2, 3, 4, 0xFF, control ^ 1, control ^ 2))
        case 3:  # cut into fragments, of which only the last may say so
            at = rng.randrange(len(data) + 1)
            return [
                _pdv(context, control & ~2 if rng.random() < 0.8 else control, data[:at]),
                _pdv(context, control, data[at:]),
            ]
        case 4 if not control & 1:
            data = blunt(rng, data[:512]) + data[512:]
        case 5 if not control & 1:
            return [_pdv(context, control & ~2, b"")] * rng.choice((1, 31, 33)) + [value]
        case _:
            data = command_set(rng, data, other) if control & 1 else data[: rng.randrange(len(data) + 1)]
    return [_pdv(context, control, data)]


def _p_data(rng: random.Random, body: bytes, pool: Sequence[bytes]) -> bytes:
    other = rng.choice(pool)
    others = values(other[6:]) if other[0] == _DATA else [_pdv(1, 3, other)]
    parts = values(body)
    match rng.randrange(10):
        case 0:
            return b"".join(shuffled(rng, parts, others))
        case 1:
            return blunt(rng, body)
        case 2:  # merged: two values in one PDU, as others send command and data set
            return body + b"".join(others)
        case _:
            at = rng.randrange(len(parts)) if parts else 0
            changed = _mutated_value(rng, parts[at], others[0][6:]) if parts else others
            return b"".join([*parts[:at], *changed, *parts[at + 1 :]])


# ---- whole PDUs


def mutated_pdu(rng: random.Random, pdu: bytes, pool: Sequence[bytes]) -> bytes:
    """One PDU, mutated once or more. `pool`: PDUs of other conversations, to splice from; each is whole."""
    while True:
        pdu = _mutated_once(rng, pdu, pool)
        if rng.random() < 0.7 or len(pdu) < 6:
            return pdu


def _mutated_once(rng: random.Random, pdu: bytes, pool: Sequence[bytes]) -> bytes:
    kind, body = pdu[0], pdu[6:]
    chance = rng.random()
    if chance < 0.04:
        return PDU_HEADER.pack(rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 0x16, 0x47, 0xFF)), len(body)) + body
    if chance < 0.08:
        return PDU_HEADER.pack(kind, near(rng, len(body), 4)) + body
    if chance < 0.11:  # another's PDU where this one was due
        return rng.choice(pool)
    if chance < 0.16:
        body = blunt(rng, body)
    elif chance < 0.20:  # the head of this with the tail of another
        other = rng.choice(pool)[6:]
        body = body[: rng.randrange(len(body) + 1)] + other[rng.randrange(len(other) + 1) :]
    elif kind in (_RQ, _AC):
        body = _associate(rng, body, pool)
    elif kind == _DATA:
        body = _p_data(rng, body, pool)
    else:
        body = blunt(rng, body)
    return PDU_HEADER.pack(kind, len(body)) + body


# ---- data sets

_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_SHORT_VRS = (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI",
              b"UL", b"US")  # fmt: skip
_TAGS = (0x00020010, 0x00080000, 0x00080001, 0x00080005, 0x00080016, 0x00080018, 0x00080060, 0x00081140, 0x00090010, 0x00091010, 0x00100010, 0x00100020,
         0x0020000D, 0x0020000E, 0x00280010, 0x00280103, 0x50003000, 0x54000100, 0x60003000, 0x7FE00001, 0x7FE00008, 0x7FE00010, 0xFFFCFFFC,
         0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFFFFFF)  # fmt: skip
_CHARACTER_SETS = (b"ISO_IR 100", b"ISO_IR 192", b"GB18030", b"\\ISO 2022 IR 87", b"ISO 2022 IR 13\\ISO 2022 IR 87", b"\\ISO 2022 IR 149", b"ISO_IR 13",
                   b"ISO 2022 IR 58", b"ISO_IR 999", b"\xff\xff", b"ISO_IR 192\\ISO 2022 IR 6", b"\\" * 20)  # fmt: skip
_ITEM_TAG, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
_WORDS = Struct("<HH")
_LENGTH = Struct("<L")


def head(tag: int, vr: bytes, length: int, *, explicit: bool) -> bytes:
    """An element's header; a length that has no room in a short VR loses its upper half."""
    start = _WORDS.pack(tag >> 16, tag & 0xFFFF)
    if not explicit:
        return start + _LENGTH.pack(length)
    if vr in _LONG_VRS:
        return start + vr + b"\0\0" + _LENGTH.pack(length)
    return start + vr + (length & 0xFFFF).to_bytes(2, "little")


def top_level(data: bytes, *, explicit: bool) -> list[bytes]:
    """The elements of the top level with their headers, as far as their lengths are defined; the rest as one piece."""
    found, offset = [], 0
    while offset < len(data):
        end = len(data)
        if offset + 12 <= len(data):
            vr, start = data[offset + 4 : offset + 6], offset + 8
            if not explicit:
                length = _LENGTH.unpack_from(data, offset + 4)[0]
            elif vr in _LONG_VRS:
                start, length = offset + 12, _LENGTH.unpack_from(data, offset + 8)[0]
            else:
                length = int.from_bytes(data[offset + 6 : offset + 8], "little")
            end = min(end, start + length)
        found.append(data[offset:end])
        offset = end
    return found


def _parted(element: bytes, *, explicit: bool) -> tuple[int, bytes, bytes] | None:
    """Tag, VR and value; None where there is not even a header."""
    if len(element) < 12:
        return None
    group, number = _WORDS.unpack_from(element)
    vr = element[4:6] if explicit else b"UN"
    return group << 16 | number, vr, element[12 if explicit and vr in _LONG_VRS else 8 :]


def _nested(rng: random.Random, inner: bytes, *, explicit: bool) -> bytes:
    """Elements as items of a sequence, once or very deep, with lengths, delimiters, or half of each."""
    depth = rng.choice((1, 1, 2, 3, 63, 64, 65, 70, 200))
    for _ in range(depth):
        defined, vr = rng.random() < 0.4, rng.choice((b"SQ", b"SQ", b"SQ", b"UN"))
        item_length = len(inner) if defined else _UNDEFINED
        item = _ITEM_TAG + _LENGTH.pack(item_length) + inner + (b"" if defined else _ITEM_END)
        tag, whole = rng.choice((0x00081140, 0x00081140, 0x00091010)), rng.random() < 0.4
        if whole:
            inner = head(tag, vr, len(item), explicit=explicit) + item
        else:
            inner = head(tag, vr, _UNDEFINED, explicit=explicit) + item + _SEQUENCE_END
    return inner


def _mutated_data_element(rng: random.Random, element: bytes, *, explicit: bool) -> bytes:
    parted = _parted(element, explicit=explicit)
    if parted is None:
        return blunt(rng, element)
    tag, vr, value = parted
    match rng.randrange(11):
        case 0:
            tag = rng.choice(_TAGS)
        case 1:
            vr = rng.choice((*_LONG_VRS, *_SHORT_VRS, b"ZZ", b"\0\0"))
        case 2:
            return head(tag, vr, near(rng, len(value), 4), explicit=explicit) + value
        case 3:
            end = rng.choice((b"", _SEQUENCE_END, _ITEM_END, _ITEM_END + _SEQUENCE_END))
            return head(tag, rng.choice((vr, b"SQ", b"UN", b"OB")), _UNDEFINED, explicit=explicit) + value + end
        case 4:
            return _nested(rng, element, explicit=explicit)
        case 5:
            value, vr = rng.choice(_TEXTS), rng.choice((vr, vr, b"DS", b"IS", b"PN"))
        case 6:
            tag, vr, value = 0x00080005, b"CS", rng.choice(_CHARACTER_SETS)
        case 7:
            value += rng.choice(
                (b"\x1b$B\x30\x21", b"\x1b(J~", b"\x1b$)C\xb1\xe8", b"\xe4\xff\xfe", b"\x1b", b"\x1b-F\xcc^\xcc")
            )
        case 8:
            value = rng.choice((_ITEM_TAG + bytes(4), _ITEM_TAG + b"\xff" * 4, _ITEM_END, _SEQUENCE_END)) + value
        case _:
            value = blunt(rng, value)
    return head(tag, vr, len(value), explicit=explicit) + value


def mutated_data_set(rng: random.Random, data: bytes, other: bytes, *, explicit: bool) -> bytes:
    """A data set, mutated once or more. `other`: one in the same kind of VR, to splice from."""
    while True:
        parts, chance = top_level(data, explicit=explicit), rng.random()
        if chance < 0.15:
            data = b"".join(shuffled(rng, parts, top_level(other, explicit=explicit)))
        elif chance < 0.19:
            data = blunt(rng, data)
        elif chance < 0.22 and parts:  # the end comes in the middle of a header
            at = rng.randrange(len(parts))
            data = b"".join(parts[:at]) + parts[at][: rng.randrange(13)]
        elif chance < 0.26:
            data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
        else:
            data = b"".join(_changed(rng, parts, lambda each: _mutated_data_element(rng, each, explicit=explicit)))
        if rng.random() < 0.6:
            return data


def mutated_json(rng: random.Random, model: object) -> object:
    """A value of the DICOM JSON Model, changed somewhere."""
    if isinstance(model, dict) and model and rng.random() < 0.9:
        changed = dict(model)
        key = rng.choice(list(changed))
        match rng.randrange(6):
            case 0:
                del changed[key]
            case 1:
                changed[
                    rng.choice(
                        (
                            "vr",
                            "Value",
                            "InlineBinary",
                            "BulkDataURI",
                            "00080005",
                            "7FE00010",
                            "0008000g",
                            "",
                            "00020010",
                        )
                    )
                ] = changed[key]
            case _:
                changed[key] = mutated_json(rng, changed[key])
        return changed
    if isinstance(model, list) and model and rng.random() < 0.9:
        at = rng.randrange(len(model))
        return [*model[:at], mutated_json(rng, model[at]), *model[at + 1 :]]
    return rng.choice(
        (
            None,
            True,
            0,
            -1,
            1 << 70,
            1e300,
            float("nan"),
            "",
            "SQ",
            "OB",
            "PN",
            "US",
            "=",
            "\\",
            "ä",
            "AA==",
            "!",
            [],
            [[]],
            {},
            {"Alphabetic": 1},
            [None],
        )
    )
