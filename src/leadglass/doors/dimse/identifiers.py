"""How do identifiers become queries, and rows become answers? Between data sets on the wire and decoded text inside (PS3.4 C.2, C.4)."""

from __future__ import annotations

from collections.abc import Mapping

from leadglass.terms import Level, Malformed, Query, Root, Unsupported
from leadglass.wire import tags
from leadglass.wire.charset import UNTOLD_VRS, decode_value
from leadglass.wire.dictionary import vr_of
from leadglass.wire.elements import DataSet, Element, encode, parse
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.values import text_vr

ROOT_LEVELS: Mapping[Root, frozenset[Level]] = {
    Root.PATIENT: frozenset(Level),
    Root.STUDY: frozenset(Level) - {Level.PATIENT},
}
UTF_8 = "ISO_IR 192"
_NOT_KEYS = frozenset({tags.SPECIFIC_CHARACTER_SET, tags.QUERY_RETRIEVE_LEVEL, tags.TIMEZONE_OFFSET_FROM_UTC})


def keys_of(identifier: bytes, transfer_syntax_uid: str) -> dict[int, str]:
    """Tag -> decoded value, multi-valued ones joined by a backslash, "" for universal matching. Sequences count as universal keys.

    Raises Malformed, also where a key's VR leaves open what it asks for: such a key is not taken for a universal one.
    """
    try:
        data_set = parse(identifier, transfer_syntax_uid)
    except RemoteProtocolError as error:
        raise Malformed(f"the identifier: {error}") from error
    charset = data_set.get(tags.SPECIFIC_CHARACTER_SET)
    terms = charset.value if charset is not None and isinstance(charset.value, bytes) else b""
    keys: dict[int, str] = {}
    for element in data_set:
        if element.tag & 0xFFFF == 0:
            continue  # group lengths, retired
        keys[element.tag] = _key(element, terms)
    return keys


def _key(element: Element, terms: bytes) -> str:
    due = vr_of(element.tag)
    if not isinstance(element.value, bytes):
        if due not in ("SQ", "UN"):
            raise Malformed(f"the identifier: items in the key {element.tag:08X}, where {due} is due")
        return ""
    vr = due if element.vr == "UN" else element.vr  # so comes what is too long for explicit VR (PS3.5 6.2.2)
    if element.value and vr in UNTOLD_VRS and due not in UNTOLD_VRS:
        raise Malformed(f"the identifier: the key {element.tag:08X} has VR {vr}, where {due} is due")
    return decode_value(element.value, vr, terms)


def level_of(keys: Mapping[int, str], root: Root) -> Level:
    """Query/Retrieve Level (0008,0052). Raises Malformed where it is absent, Unsupported where the root has no such level."""
    try:
        level = Level(keys.get(tags.QUERY_RETRIEVE_LEVEL, "").strip())
    except ValueError:
        raise Malformed("Query/Retrieve Level (0008,0052) is absent or none of PATIENT, STUDY, SERIES, IMAGE") from None
    if level not in ROOT_LEVELS[root]:
        raise Unsupported(f"the {root} root has no {level} level")
    return level


def answer_of(row: Mapping[int, str], query: Query, transfer_syntax_uid: str) -> bytes:
    """One C-FIND answer: the keys that were asked for and are known, encoded (PS3.4 C.4.1.1.3.2)."""
    ascii_only = all(value.isascii() for value in row.values())
    elements = [Element(tags.QUERY_RETRIEVE_LEVEL, "CS", query.level.encode())]
    if not ascii_only:
        elements.append(Element(tags.SPECIFIC_CHARACTER_SET, "CS", UTF_8.encode()))
    for tag, value in row.items():
        if tag in _NOT_KEYS:
            continue
        vr = vr_of(tag)
        elements.append(Element(tag, vr, value.encode("utf-8") if text_vr(vr) else value.encode("ascii", "replace")))
    return encode(DataSet(sorted(elements, key=lambda element: element.tag)), transfer_syntax_uid)


def failed_list(sop_instance_uids: list[str], transfer_syntax_uid: str) -> bytes:
    """Failed SOP Instance UID List (0008,0058) as the data set of a final retrieve response (PS3.4 C.4.2.1.4.2)."""
    value = "\\".join(sop_instance_uids).encode()
    return encode(DataSet([Element(tags.FAILED_SOP_INSTANCE_UID_LIST, "UI", value)]), transfer_syntax_uid)
