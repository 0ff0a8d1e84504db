"""Does a value match a key? Every kind of matching of PS3.4 C.2.2.2, on decoded, case-folded, normalised text; pure.

The index narrows by its columns, this decides: one place where matching is defined, so a wider index changes speed and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from leadglass.terms import Malformed
from leadglass.wire import tags
from leadglass.wire.charset import normalise_for_matching
from leadglass.wire.dictionary import vr_of
from leadglass.wire.values import date_of, name_groups, time_of

KEY_LENGTH_MAX_CHARACTERS = 1 << 20  # a list of 10,000 UIDs is below it
LIST_VALUES_MAX = 10_000
KEYS_MAX = 256
_EXACT_CASE = frozenset(("UI",))
_DATES = frozenset(("DA", "DT"))
_NO_WILDCARDS = frozenset(("UI", "DA", "TM", "DT", "IS", "DS", "US", "SS", "UL", "SL", "FL", "FD", "AS"))

Matcher = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Key:
    """One attribute that is not universal. `exact`: the only values it matches, where that is so; `span`: of a date range."""

    tag: int
    matches: Matcher
    exact: tuple[str, ...] = ()
    prefix: str = ""
    span: tuple[str, str] | None = None


def keys_to_match(keys: Mapping[int, str]) -> tuple[Key, ...]:
    """The keys that narrow the answer. Raises Malformed where there are too many or one is too long."""
    if len(keys) > KEYS_MAX:
        raise Malformed(f"more than {KEYS_MAX} keys in one identifier")
    found = []
    for tag, value in keys.items():
        if len(value) > KEY_LENGTH_MAX_CHARACTERS:
            raise Malformed(
                f"the key ({tag >> 16:04X},{tag & 0xFFFF:04X}) is longer than {KEY_LENGTH_MAX_CHARACTERS} characters"
            )
        if value and value.strip("*"):
            found.append(_key(tag, value))
    return tuple(found)


def _key(tag: int, value: str) -> Key:
    vr = vr_of(tag)
    if vr == "UI":
        return _uid_list(tag, value)
    if vr in ("DA", "TM", "DT"):
        return _range_or_single(tag, vr, value)
    if vr == "PN":
        return _name(tag, value)
    if vr in ("IS", "DS", "US", "SS", "UL", "SL"):
        return Key(tag, _number(value))
    return _text(tag, value)


def _uid_list(tag: int, value: str) -> Key:
    """Single value and list of UID matching (C.2.2.2.1, C.2.2.2.2)."""
    wanted = tuple(dict.fromkeys(uid.strip() for uid in value.split("\\") if uid.strip()))
    if len(wanted) > LIST_VALUES_MAX:
        raise Malformed(f"more than {LIST_VALUES_MAX} UIDs in one key")
    held = frozenset(wanted)
    return Key(tag, lambda text: any(each in held for each in text.split("\\")), exact=wanted)


def _range_or_single(tag: int, vr: str, value: str) -> Key:
    """Range matching (C.2.2.2.5) and single dates and times; an end that is left out is open."""
    read = date_of if vr == "DA" else time_of if vr == "TM" else _datetime
    low, dash, high = value.partition("-")
    if not dash:
        wanted = read(value)
        if vr == "TM" and wanted:
            return Key(tag, lambda text: read(text) == wanted)
        if not wanted:
            raise Malformed(f"{value!r} is neither a date or time nor a range of them")
        return Key(tag, lambda text: read(text) == wanted, exact=(wanted,), span=(wanted, wanted))
    first, last = read(low) if low.strip() else "", read(high) if high.strip() else "~"
    if (low.strip() and not first) or not last:
        raise Malformed(f"{value!r} is not a range of dates or times")
    if vr == "TM" and high.strip():
        last = last if "." in high else last.rpartition(".")[0] + ".999999"
    return Key(tag, lambda text: (at := read(text)) != "" and first <= at <= last, span=(first, last))


def _datetime(text: str) -> str:
    """A DT without its offset, comparable as text."""
    found = re.match(r"\d{4,14}(\.\d{1,6})?", text.strip())
    return found[0] if found else ""


def _name(tag: int, value: str) -> Key:
    """Person names: case-folded, each group of the stored name, trailing empty components of no meaning; wildcards as in text."""
    wanted = normalise_for_matching(value.rstrip("^="))
    pattern = _pattern(wanted)

    def matches(text: str) -> bool:
        whole = normalise_for_matching(text.rstrip("^="))
        if pattern.fullmatch(whole):
            return True
        groups = ["^".join(components) for components in name_groups(text)]
        return any(pattern.fullmatch(normalise_for_matching(group)) for group in groups if group)

    return Key(tag, matches, prefix=_literal_prefix(wanted))


def _text(tag: int, value: str) -> Key:
    """Single value and wildcard matching (C.2.2.2.1, C.2.2.2.4); several values match where any of them does."""
    wanted = [normalise_for_matching(each) for each in value.split("\\") if each]
    patterns = [_pattern(each) for each in wanted]

    def matches(text: str) -> bool:
        values = [normalise_for_matching(each) for each in text.split("\\")]
        return any(pattern.fullmatch(each) for each in values for pattern in patterns)

    plain = tuple(wanted) if not any("*" in each or "?" in each for each in wanted) else ()
    return Key(tag, matches, exact=plain, prefix=_literal_prefix(wanted[0]) if len(wanted) == 1 else "")


def _number(value: str) -> Matcher:
    wanted = {_as_number(each) for each in value.split("\\")}
    return lambda text: any(_as_number(each) in wanted for each in text.split("\\"))


def _as_number(text: str) -> float | str:
    stripped = text.strip()[:64]
    try:
        return float(stripped)
    except ValueError:
        return stripped


def _pattern(wanted: str) -> re.Pattern[str]:
    """`*` and `?` and nothing else has a meaning. Runs of `*` are one, so that no pattern takes exponential time."""
    parts = re.split(r"(\*+|\?)", wanted)
    return re.compile(
        "".join(".*" if part.startswith("*") else "." if part == "?" else re.escape(part) for part in parts), re.DOTALL
    )


def _literal_prefix(wanted: str) -> str:
    return re.split(r"[*?]", wanted, maxsplit=1)[0]


def column_text(tag: int, text: str) -> str:
    """What the index keeps in the column of an attribute that it narrows by."""
    if tag == tags.STUDY_DATE:
        return date_of(text)
    if vr_of(tag) == "UI":
        return text
    return normalise_for_matching(text.rstrip("^=") if vr_of(tag) == "PN" else text)
