"""Does a value match a key? Every kind of matching of PS3.4 C.2.2.2, on decoded, case-folded, normalised text; pure.

The index narrows by its columns, this decides: one place where matching is defined, so a wider index changes speed and nothing else.
What narrows (`exact`, `prefix`, `piece`, `span`) never leaves out a value that matches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

from leadglass.terms import Malformed
from leadglass.wire.charset import normalise_for_matching
from leadglass.wire.dictionary import vr_of
from leadglass.wire.values import date_of, name_groups, time_of

KEYS_MAX = 256
LIST_VALUES_MAX = 10_000
LIST_LENGTH_MAX_CHARACTERS = LIST_VALUES_MAX * 65  # as many UIDs, with their delimiters
TEXT_KEY_LENGTH_MAX_CHARACTERS = 4_096  # of one value; the index keeps no longer ones
PATTERNS_MAX = 64  # wildcard values of one key
EMPTY_VALUE = '""'  # matches what has no value
END = chr(0x10FFFF)  # sorts behind every text
_DATETIME = re.compile(r"(\d{4,14}(?:\.\d{1,6})?)(?:[+-](?:0\d|1[0-4])[0-5]\d)?")

Matcher = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Key:
    """One attribute that is not universal.

    What matches has, in its column: one of `exact`, where there are some; `prefix` at the start of a value (a name: of a group of it);
    `piece` anywhere; or lies within `span`, ends included.
    """

    tag: int
    matches: Matcher
    exact: tuple[str, ...] = ()
    prefix: str = ""
    piece: str = ""
    span: tuple[str, str] | None = None


def keys_to_match(keys: Mapping[int, str], known: Collection[int]) -> tuple[Key, ...]:
    """The keys that narrow the answer; those that are not `known` are optional ones that are not supported (PS3.4 C.2.2.1.3).

    Raises Malformed where there are too many, one is too long, or means nothing.
    """
    if len(keys) > KEYS_MAX:
        raise Malformed(f"more than {KEYS_MAX} keys in one identifier")
    found = []
    for tag, value in keys.items():
        if len(value) > LIST_LENGTH_MAX_CHARACTERS:
            raise Malformed(f"the key {told(tag)} is longer than {LIST_LENGTH_MAX_CHARACTERS} characters")
        if tag in known and value.strip("*\\ "):
            found.append(_key(tag, value))
    return tuple(found)


def unique_values(keys: Mapping[int, str], tag: int) -> tuple[str, ...]:
    """The values of a unique key, each once and in order; none where it is universal. Raises Malformed where they are too many."""
    value = keys.get(tag, "")
    if value.count("\\") >= LIST_VALUES_MAX:
        raise Malformed(f"more than {LIST_VALUES_MAX} values in the key {told(tag)}")
    return tuple(sorted({each.strip() for each in value.split("\\") if each.strip("* ")}))


def told(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _key(tag: int, value: str) -> Key:
    if value == EMPTY_VALUE:
        return Key(tag, lambda text: not text.strip("^= "))
    vr = vr_of(tag)
    if vr == "UI":
        return _uid_list(tag, value)
    values = value.split("\\")
    if len(values) > LIST_VALUES_MAX:
        raise Malformed(f"more than {LIST_VALUES_MAX} values in the key {told(tag)}")
    if max(map(len, values)) > TEXT_KEY_LENGTH_MAX_CHARACTERS:
        raise Malformed(f"a value of the key {told(tag)} is longer than {TEXT_KEY_LENGTH_MAX_CHARACTERS} characters")
    if vr in ("DA", "TM", "DT"):
        return _dates_or_times(tag, vr, [each for each in values if each.strip()])
    if vr in ("IS", "DS", "US", "SS", "UL", "SL"):
        return Key(tag, _number(values))
    return _any_of(tag, [each for each in values if each], _name if vr == "PN" else _text)


def _uid_list(tag: int, value: str) -> Key:
    """Single value and list of UID matching (C.2.2.2.1, C.2.2.2.2)."""
    wanted = unique_values({tag: value}, tag)
    held = frozenset(wanted)
    return Key(tag, lambda text: any(each in held for each in text.split("\\")), exact=wanted)


def _any_of(tag: int, values: list[str], one: Callable[[int, str], Key]) -> Key:
    """Several values match where any of them does (C.2.2.2.8); plain ones are looked up, only patterns are tried one by one."""
    if len(values) == 1:
        return one(tag, values[0])
    plain, patterns = [each for each in values if not _is_pattern(each)], [each for each in values if _is_pattern(each)]
    if len(patterns) > PATTERNS_MAX or (one is _name and len(values) > PATTERNS_MAX):
        raise Malformed(f"more than {PATTERNS_MAX} patterns in the key {told(tag)}")
    if one is _name:
        keys = [one(tag, each) for each in values]
        return Key(tag, lambda text: any(key.matches(text) for key in keys))
    wanted = frozenset(normalise_for_matching(each) for each in plain)
    tries = [one(tag, each) for each in patterns]

    def matches(text: str) -> bool:
        return any(normalise_for_matching(each) in wanted for each in text.split("\\")) or any(
            key.matches(text) for key in tries
        )

    return Key(tag, matches, exact=() if patterns else tuple(sorted(wanted)))


# ---- dates and times


def _dates_or_times(tag: int, vr: str, values: list[str]) -> Key:
    """Range matching (C.2.2.2.5) and single values; a date and a time are matched each by itself, as without extended negotiation."""
    spans = [_span(vr, each) for each in values]
    read = _READ[vr]

    def matches(text: str) -> bool:
        at = read(text)
        return at != "" and any(first <= at <= last for first, last in spans)

    exact = tuple(sorted({first for first, last in spans})) if all(first == last for first, last in spans) else ()
    return Key(tag, matches, exact, span=(min(first for first, _ in spans), max(last for _, last in spans)))


def _span(vr: str, value: str) -> tuple[str, str]:
    """First and last, comparable as text. An end that is left out is open; a last time or date and time counts with all of its unit."""
    read = _READ[vr]
    if single := read(value):
        return single, single
    dash = value.find("-")
    while dash >= 0:
        low, high = value[:dash].strip(), value[dash + 1 :].strip()
        if (low or high) and (not low or read(low)) and (not high or read(high)):
            return read(low) if low else "0", _last(vr, high) if high else "~"
        dash = value.find("-", dash + 1)
    raise Malformed(f"{value[:64]!r} is neither a date or time nor a range of them")


def _last(vr: str, text: str) -> str:
    match vr:
        case "DA":
            return date_of(text)
        case "TM":
            return time_of(text) if "." in text else time_of(text).partition(".")[0] + ".999999"
        case _:
            return _datetime(text) + "~"


def _datetime(text: str) -> str:
    """A DT without its offset from UTC, comparable as text; "" where it is none."""
    found = _DATETIME.fullmatch(text.strip())
    return found[1] if found else ""


_READ: Mapping[str, Callable[[str], str]] = {"DA": date_of, "TM": time_of, "DT": _datetime}


# ---- names


def name_forms(text: str) -> tuple[str, ...]:
    """The groups of a person name, each normalised and without what is empty at its end; an empty group stays as its place."""
    return tuple(normalise_for_matching("^".join(group)) for group in name_groups(text))


def _whole_name(text: str) -> str:
    return "=".join(name_forms(text)).rstrip("=")


def _name(tag: int, value: str) -> Key:
    """Person names: any case, any of the groups or all (C.2.2.2.1), components that are empty at the end without meaning.

    A key of several groups is compared group by group, an empty one being universal.
    """
    wanted = name_forms(value)
    if not any(wanted):
        return Key(tag, lambda text: True)
    tries = [_padded(each) for each in wanted]

    def matches(text: str) -> bool:
        forms = name_forms(text)
        if len(wanted) == 1:
            return any(tries[0](each) for each in (*forms, "=".join(forms)) if each)
        return all(not each or attempt(form) for each, attempt, form in zip(wanted, tries, _three(forms), strict=False))

    first = next((each for each in wanted if each), "")
    return Key(tag, matches, prefix=_literal_prefix(first).rstrip("^"), piece=_longest_piece(first, "*?^"))


def _three(forms: tuple[str, ...]) -> tuple[str, ...]:
    return (*forms, "", "", "")[:3]


def _padded(wanted: str) -> Matcher:
    """`Smith^*` finds a Smith without a given name too: the components that a name lacks are empty."""
    pattern, carets = _pattern(wanted), wanted.count("^")
    return lambda text: pattern.fullmatch(text + "^" * (carets - text.count("^"))) is not None


# ---- text and numbers


def _text(tag: int, value: str) -> Key:
    """Single value and wildcard matching (C.2.2.2.1, C.2.2.2.4)."""
    wanted = normalise_for_matching(value)
    pattern = _pattern(wanted)

    def matches(text: str) -> bool:
        return any(pattern.fullmatch(normalise_for_matching(each)) for each in text.split("\\"))

    if not _is_pattern(wanted):
        return Key(tag, matches, exact=(wanted,))
    return Key(tag, matches, prefix=_literal_prefix(wanted), piece=_longest_piece(wanted, "*?"))


def _number(values: list[str]) -> Matcher:
    wanted = {_as_number(each) for each in values if each.strip()}
    return lambda text: any(_as_number(each) in wanted for each in text.split("\\"))


def _as_number(text: str) -> float | str:
    stripped = text.strip()[:64]
    try:
        return float(stripped)
    except ValueError:
        return stripped


def _is_pattern(wanted: str) -> bool:
    return "*" in wanted or "?" in wanted


@lru_cache(maxsize=256)
def _pattern(wanted: str) -> re.Pattern[str]:
    """`*` and `?` and nothing else has a meaning.

    What stands between two `*` is taken where it is found first and never looked for again (an atomic group), which loses no match and
    keeps the time proportional to the length of key times value, however many `*` there are.
    """
    first, *rest = (".".join(map(re.escape, part.split("?"))) for part in re.split(r"\*+", wanted))
    if rest:
        first += "".join(f"(?>.*?{part})" for part in rest[:-1]) + ".*" + rest[-1]
    return re.compile(first, re.DOTALL)


def _literal_prefix(wanted: str) -> str:
    return re.split(r"[*?]", wanted, maxsplit=1)[0]


def _longest_piece(wanted: str, delimiters: str) -> str:
    return max(re.split(f"[{re.escape(delimiters)}]", wanted), key=len)


def column_text(tag: int, text: str) -> str:
    """What the index keeps in the column of an attribute that it narrows by."""
    match vr_of(tag):
        case "UI":
            return text
        case "DA":
            return date_of(text)
        case "PN":
            return _whole_name(text)
        case "CS":
            return normalise_for_matching(text).upper()
        case _:
            return normalise_for_matching(text)
