"""How does a data set look in JSON? The DICOM JSON Model (PS3.18 F.2), from elements to plain values and back.

Text is told decoded, so Specific Character Set always says UTF-8. Numbers that JSON has no word for (not a number, infinity) are told as
strings, and so are number strings that are no numbers.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from leadglass.wire import tags
from leadglass.wire.charset import TEXT_VRS, decode_value
from leadglass.wire.dataset import FORBIDDEN_GROUPS, LONG_VRS, SHORT_VRS, MalformedDataSet
from leadglass.wire.elements import DataSet, Element, Fragments

BULK_LENGTH_MIN_BYTES = 1024  # longer binary values are named by a BulkDataURI where the caller gives one
NESTING_DEPTH_MAX = 64
NUMBER_LENGTH_MAX_CHARACTERS = 64  # PS3.5 6.2 allows 16; a longer one is told as it stands
UTF_8 = "ISO_IR 192"
_BINARY = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_NUMBERS = {
    vr: struct.Struct(form)
    for vr, form in (("SS", "<h"), ("US", "<H"), ("SL", "<l"), ("UL", "<L"), ("SV", "<q"), ("UV", "<Q"), ("FL", "<f"), ("FD", "<d"))
}  # fmt: skip
_FLOATS = frozenset(("FL", "FD"))
_SINGLE = frozenset(("LT", "ST", "UT", "UR"))
_TAG = struct.Struct("<HH")
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_TAG_NAME = re.compile(r"[0-9A-Fa-f]{8}")
_VRS = frozenset(vr.decode("ascii") for vr in LONG_VRS | SHORT_VRS)

Bulk = Callable[[tuple[int, ...]], str]
"""The URI of a long binary value, by its path: its tag, or sequence's tag, item (from 0), tag, and so on."""

_tag_name = lru_cache(maxsize=8192)("{:08X}".format)


def to_json(
    data_set: DataSet, bulk: Bulk | None = None, *, character_set: bytes = b"", path: tuple[int, ...] = ()
) -> dict[str, dict[str, Any]]:
    """Tag in eight hex digits -> {vr, Value | InlineBinary | BulkDataURI}. Without `bulk`, binary values stand inline.

    `character_set`, `path`: of the item, where the data set is one. Group lengths are left out (PS3.18 F.2.2).
    """
    own = data_set.get(tags.SPECIFIC_CHARACTER_SET)
    terms = own.value if own is not None and isinstance(own.value, bytes) else character_set
    told: dict[str, dict[str, Any]] = {}
    for tag, vr, value in data_set:
        if tag & 0xFFFF == 0:
            continue
        if not value:
            told[_tag_name(tag)] = {"vr": vr}
        elif isinstance(value, bytes):
            told[_tag_name(tag)] = _told(tag, vr, value, terms, bulk, path)
        elif isinstance(value, Fragments):
            told[_tag_name(tag)] = {"vr": vr} if bulk is None else {"vr": vr, "BulkDataURI": bulk((*path, tag))}
        else:
            items = [
                to_json(item, bulk, character_set=terms, path=(*path, tag, number)) for number, item in enumerate(value)
            ]
            told[_tag_name(tag)] = {"vr": vr, "Value": items}
    if own is not None and own.value:
        told[_tag_name(own.tag)] = {"vr": "CS", "Value": [UTF_8]}
    return told


def _told(tag: int, vr: str, value: bytes, terms: bytes, bulk: Bulk | None, path: tuple[int, ...]) -> dict[str, Any]:
    form = _NUMBERS.get(vr)
    if form is not None:
        if len(value) == form.size:
            numbers: list[Any] = [form.unpack(value)[0]]
        else:
            numbers = [number for (number,) in form.iter_unpack(value[: len(value) // form.size * form.size])]
        return {"vr": vr, "Value": [*map(_float, numbers)] if vr in _FLOATS else numbers}
    if vr in _BINARY:
        if bulk is not None and len(value) >= BULK_LENGTH_MIN_BYTES:
            return {"vr": vr, "BulkDataURI": bulk((*path, tag))}
        return {"vr": vr, "InlineBinary": base64.b64encode(value).decode("ascii")}
    if vr == "AT":
        pairs = _TAG.iter_unpack(value[: len(value) // 4 * 4])
        return {"vr": vr, "Value": [f"{group:04X}{number:04X}" for group, number in pairs]}
    text = decode_value(value, vr, terms)
    if not text:
        return {"vr": vr}
    texts = [text] if vr in _SINGLE else text.split("\\")
    match vr:
        case "DS" | "IS":
            return {"vr": vr, "Value": [_number(each, vr) for each in texts]}
        case "PN":
            return {"vr": vr, "Value": [_name(each) for each in texts]}
        case _:
            return {"vr": vr, "Value": [each or None for each in texts]}


def _float(number: float) -> float | str:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _number(text: str, vr: str) -> float | str | None:
    if not text or len(text) > NUMBER_LENGTH_MAX_CHARACTERS or "_" in text:
        return text or None
    try:
        number = int(text) if vr == "IS" else float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _name(text: str) -> dict[str, str] | None:
    return {name: group for name, group in zip(_NAME_GROUPS, text.split("="), strict=False) if group} or None


def from_json(model: Mapping[str, Any]) -> DataSet:
    """A small data set from its JSON, text in UTF-8. Raises MalformedDataSet; a BulkDataURI is never followed."""
    return _data_set(model, 0)


def _data_set(model: Mapping[str, Any], depth: int) -> DataSet:
    if depth > NESTING_DEPTH_MAX:
        raise MalformedDataSet(f"nested deeper than {NESTING_DEPTH_MAX}")
    elements: dict[int, Element] = {}
    if not isinstance(model, Mapping):
        raise MalformedDataSet("a data set in JSON is an object")
    for name, told in model.items():
        try:
            element = _element(name, told, depth)
        except (ValueError, KeyError, TypeError, OverflowError, binascii.Error, struct.error) as error:
            raise MalformedDataSet(f"{str(name)[:8]!r}: not the DICOM JSON Model: {error}") from error
        if element.tag in elements:
            raise MalformedDataSet(f"{name} is there twice")
        elements[element.tag] = element
    if not depth and not all(_ascii(element) for element in elements.values()):
        elements[tags.SPECIFIC_CHARACTER_SET] = Element(tags.SPECIFIC_CHARACTER_SET, "CS", UTF_8.encode("ascii"))
    return DataSet(elements.values())


def _ascii(element: Element) -> bool:
    if isinstance(element.value, tuple):
        return all(_ascii(each) for item in element.value for each in item)
    return not isinstance(element.value, bytes) or element.vr not in TEXT_VRS or element.value.isascii()


def _element(name: str, told: Mapping[str, Any], depth: int) -> Element:
    if not _TAG_NAME.fullmatch(name):
        raise ValueError("a tag has eight hexadecimal digits")
    tag, vr = int(name, 16), told["vr"]
    if vr not in _VRS:
        raise ValueError("unknown VR")
    if tag >> 16 in FORBIDDEN_GROUPS:
        raise ValueError("has no place in a data set")
    if "BulkDataURI" in told:
        raise ValueError("bulk data is not fetched")
    if "InlineBinary" in told:
        if vr not in _BINARY:
            raise ValueError(f"binary where {vr} is due")
        return Element(tag, vr, base64.b64decode(told["InlineBinary"], validate=True))
    values = told.get("Value", [])
    if not isinstance(values, list):
        raise ValueError("Value is a list")
    if vr == "SQ":
        return Element(tag, vr, tuple(_data_set(item, depth + 1) for item in values))
    return Element(tag, vr, _value(vr, values))


def _value(vr: str, values: list[Any]) -> bytes:
    form = _NUMBERS.get(vr)
    if form is not None:
        return b"".join(form.pack(float(each) if vr in _FLOATS else each) for each in values)
    if vr == "AT":
        return b"".join(_TAG.pack(int(each, 16) >> 16, int(each, 16) & 0xFFFF) for each in values)
    if vr in _BINARY and values:
        raise ValueError(f"{vr} is told as InlineBinary")
    texts = [_text(vr, each) for each in values]
    if len(texts) > 1 and vr in _SINGLE:
        raise ValueError(f"{vr} has one value")
    if vr not in _SINGLE and any("\\" in text for text in texts):
        raise ValueError("a backslash within a value")
    return "\\".join(texts).encode("utf-8" if vr in TEXT_VRS else "ascii")


def _text(vr: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case Mapping() if vr == "PN":
            groups = [value.get(group, "") for group in _NAME_GROUPS]
            if any("=" in group for group in groups):
                raise ValueError("an equals sign within a name")
            return "=".join(groups).rstrip("=")
        case str() if vr != "PN":
            return value
        case int() | float() if vr in ("DS", "IS") and not isinstance(value, bool):
            return str(value)
        case _:
            raise ValueError(f"no value of {vr}")
