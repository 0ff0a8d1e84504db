"""How does a data set look in JSON? The DICOM JSON Model (PS3.18 F.2), from bytes to plain values and back."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from typing import Any

from leadglass.wire import tags
from leadglass.wire.charset import TEXT_VRS, decode_value
from leadglass.wire.dataset import MalformedDataSet
from leadglass.wire.elements import DataSet, Element

BULK_LENGTH_MIN_BYTES = 1024  # longer binary values are named by a BulkDataURI where the caller gives one
_BINARY = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_INTEGERS = {"SS": "<h", "US": "<H", "SL": "<l", "UL": "<L", "SV": "<q", "UV": "<Q"}
_FLOATS = {"FL": "<f", "FD": "<d"}
_DECIMAL_STRINGS = frozenset(("DS", "IS"))
_SINGLE = frozenset(("LT", "ST", "UT", "UR"))
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
DEPTH_MAX = 32


def to_json(
    data_set: DataSet, bulk: Callable[[int], str] | None = None, *, character_set: bytes = b""
) -> dict[str, dict[str, Any]]:
    """Tag in eight hex digits -> {vr, Value | InlineBinary | BulkDataURI}. `bulk` names the URI of a long binary value by its tag."""
    own = data_set.get(tags.SPECIFIC_CHARACTER_SET)
    terms = own.value if own is not None and isinstance(own.value, bytes) else character_set
    return {f"{element.tag:08X}": _told(element, terms, bulk) for element in data_set}


def _told(element: Element, terms: bytes, bulk: Callable[[int], str] | None) -> dict[str, Any]:
    told: dict[str, Any] = {"vr": element.vr}
    value, vr = element.value, element.vr
    if isinstance(value, tuple):
        if value:
            told["Value"] = [to_json(item, bulk, character_set=terms) for item in value]
    elif not value:
        return told
    elif vr in _BINARY:
        if bulk is not None and len(value) >= BULK_LENGTH_MIN_BYTES:
            told["BulkDataURI"] = bulk(element.tag)
        else:
            told["InlineBinary"] = base64.b64encode(value).decode("ascii")
    elif vr in _INTEGERS or vr in _FLOATS:
        told["Value"] = _numbers(value, _INTEGERS.get(vr) or _FLOATS[vr])
    elif vr == "AT":
        pairs = struct.iter_unpack("<HH", value[: len(value) // 4 * 4])
        told["Value"] = [f"{group:04X}{number:04X}" for group, number in pairs]
    else:
        text = decode_value(value, vr, terms)
        told["Value"] = [_one(each, vr) for each in ([text] if vr in _SINGLE else text.split("\\"))]
    return told


def _numbers(value: bytes, form: str) -> list[float]:
    size = struct.calcsize(form)
    return [number for (number,) in struct.iter_unpack(form, value[: len(value) // size * size])]


def _one(text: str, vr: str) -> Any:
    if not text:
        return None
    if vr == "PN":
        groups = zip(_NAME_GROUPS, text.split("="), strict=False)
        return {name: group for name, group in groups if group}
    if vr in _DECIMAL_STRINGS:
        try:
            number = int(text) if vr == "IS" else float(text)
        except ValueError:
            return text
        return text if isinstance(number, float) and not -1e300 < number < 1e300 else number
    return text


def from_json(model: Mapping[str, Any], depth: int = 0) -> DataSet:
    """A small data set from its JSON, text in UTF-8. Raises MalformedDataSet; a BulkDataURI is never followed."""
    if depth > DEPTH_MAX:
        raise MalformedDataSet(f"nested deeper than {DEPTH_MAX}")
    elements = []
    for name, told in model.items():
        try:
            tag, vr = int(name, 16), str(told["vr"])
            elements.append(Element(tag, vr, _value(told, vr, depth)))
        except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise MalformedDataSet(f"{str(name)[:8]}: not the DICOM JSON Model: {error}") from error
    return DataSet(elements)


def _value(told: Mapping[str, Any], vr: str, depth: int) -> bytes | tuple[DataSet, ...]:
    if "BulkDataURI" in told:
        raise ValueError("bulk data is not fetched")
    if "InlineBinary" in told:
        return base64.b64decode(str(told["InlineBinary"]), validate=True)
    values = told.get("Value", [])
    if vr == "SQ":
        return tuple(from_json(item or {}, depth + 1) for item in values)
    if vr in _INTEGERS or vr in _FLOATS:
        return b"".join(struct.pack(_INTEGERS.get(vr) or _FLOATS[vr], each) for each in values)
    if vr == "AT":
        return b"".join(struct.pack("<HH", int(each, 16) >> 16, int(each, 16) & 0xFFFF) for each in values)
    if vr in _BINARY:
        return b""
    texts = [
        "=".join(each.get(group, "") for group in _NAME_GROUPS).rstrip("=") if isinstance(each, dict) else each
        for each in values
    ]
    joined = "\\".join("" if each is None else str(each) for each in texts)
    return joined.encode("utf-8" if vr in TEXT_VRS else "ascii")
