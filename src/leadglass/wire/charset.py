"""What do the bytes of a text say? Specific Character Set with and without code extensions (PS3.3 C.12.1.1.2, PS3.5 6.1, Annexes H-K).

Decoding never fails: unknown terms and bytes that mean nothing become U+FFFD, because an instance with a wrong character set must still be
kept and found by its other attributes.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from collections.abc import Callable
from functools import lru_cache

TEXT_VRS = frozenset(
    ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
)  # the VRs that Specific Character Set is about (PS3.5 6.1.2.2)
STRIPPED_VRS = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UC", "UI", "UR")
)  # character strings of which spaces at both ends mean nothing (PS3.5 6.2)
REPLACEMENT = "�"

# Defined term -> Python codec; single-byte sets with G0 = ASCII (PS3.3 table C.12-2)
_SINGLE = {
    "": "ascii",
    "ISO_IR 6": "ascii",
    "ISO_IR 100": "iso8859-1",
    "ISO_IR 101": "iso8859-2",
    "ISO_IR 109": "iso8859-3",
    "ISO_IR 110": "iso8859-4",
    "ISO_IR 144": "iso8859-5",
    "ISO_IR 127": "iso8859-6",
    "ISO_IR 126": "iso8859-7",
    "ISO_IR 138": "iso8859-8",
    "ISO_IR 148": "iso8859-9",
    "ISO_IR 203": "iso8859-15",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 166": "tis-620",
    "ISO_IR 192": "utf-8",
    "GB18030": "gb18030",
    "GBK": "gbk",
}

# Escape sequence (without ESC) -> code element it designates and codec (PS3.3 tables C.12-3, C.12-4)
_ESCAPES: dict[bytes, tuple[str, str]] = {
    b"(B": ("G0", "ascii"),
    b"-A": ("G1", "iso8859-1"),
    b"-B": ("G1", "iso8859-2"),
    b"-C": ("G1", "iso8859-3"),
    b"-D": ("G1", "iso8859-4"),
    b"-L": ("G1", "iso8859-5"),
    b"-G": ("G1", "iso8859-6"),
    b"-F": ("G1", "iso8859-7"),
    b"-H": ("G1", "iso8859-8"),
    b"-M": ("G1", "iso8859-9"),
    b"-b": ("G1", "iso8859-15"),
    b"-T": ("G1", "tis-620"),
    b")I": ("G1", "katakana"),
    b"(J": ("G0", "romaji"),
    b"$B": ("G0", "jisx0208"),
    b"$@": ("G0", "jisx0208"),
    b"$(D": ("G0", "jisx0212"),
    b"$)C": ("G1", "euc_kr"),
    b"$)A": ("G1", "gb2312"),
}
# Longest first: one begins like another. What begins like none of them is an ESC that means nothing.
_ESCAPE = b"\x1b(?:" + b"|".join(re.escape(each) for each in sorted(_ESCAPES, key=len, reverse=True)) + b")"
_INITIAL_G1 = {
    "ISO_IR 13": "katakana",
    "ISO_IR 149": "euc_kr",
    "ISO_IR 58": "gb2312",
}
_SEPARATORS = {"PN": rb"\\^=", "LO": rb"\\", "SH": rb"\\", "UC": rb"\\"}
# One step: an escape, a control or delimiter, pairs of G0, other text. In a two-byte set a delimiter's byte is half a character.
_WIDE_STEP = re.compile(b"(" + _ESCAPE + rb")|([\x00-\x1f])|([\x20-\x7f]+)|([\x80-\xff]+)")
_STEPS = {
    delimiters: re.compile(b"(" + _ESCAPE + rb")|([\x00-\x1f" + delimiters + rb"])|((?!))|([^\x00-\x1f" + delimiters + rb"]+)")
    for delimiters in (b"", *set(_SEPARATORS.values()))
}  # fmt: skip
_JIS = {"jisx0208": b"\x1b$B", "jisx0212": b"\x1b$(D"}
_LOOSE_TERM = re.compile(r"ISO[ _-]?(?:2022[ _-]?)?IR[ _-]?(\d+)")  # devices spell the terms in many ways

_NUMBERS: dict[str, tuple[str, int, Callable[[float], str]]] = {
    "US": ("<H", 2, str),
    "SS": ("<h", 2, str),
    "UL": ("<L", 4, str),
    "SL": ("<l", 4, str),
    "UV": ("<Q", 8, str),
    "SV": ("<q", 8, str),
    "FL": ("<f", 4, repr),
    "FD": ("<d", 8, repr),
}
UNTOLD_VRS = frozenset(("OB", "OW", "OD", "OF", "OL", "OV", "UN", "SQ", "AT"))
_UNSPLIT = frozenset(("UT", "ST", "LT"))
_WITHOUT_EXTENSIONS = frozenset(("utf-8", "gb18030", "gbk"))  # escapes have no meaning beside these (PS3.3 C.12.1.1.2)
_CODECS = {"katakana": "shift_jis"}
_NUMBERS_MAX = 256  # values of one attribute that are told


def decode_value(value: bytes, vr: str, character_set: bytes = b"") -> str:
    """A raw value as text: decoded, unpadded, multi-valued ones joined by a backslash; binary VRs as decimal numbers; others as "".

    `character_set`: the raw value of Specific Character Set (0008,0005).
    """
    if vr in _NUMBERS:
        form, size, tell = _NUMBERS[vr]
        count = min(len(value) // size, _NUMBERS_MAX)
        return "\\".join(tell(struct.unpack_from(form, value, index * size)[0]) for index in range(count))
    if vr in UNTOLD_VRS:
        return ""
    text = decode_text(value, vr, character_set) if vr in TEXT_VRS else value.decode("ascii", "replace")
    if vr in _UNSPLIT:
        return text.rstrip(" \0")
    return "\\".join([each.strip(" \0") for each in text.split("\\")]) if "\\" in text else text.strip(" \0")


def decode_text(value: bytes, vr: str, character_set: bytes = b"") -> str:
    """A text value by its character set, padding kept. Bytes that mean nothing become U+FFFD."""
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    first, extended = _terms(character_set)
    codec = _SINGLE.get(first, "ascii")
    if (not extended and first not in _INITIAL_G1) or codec in _WITHOUT_EXTENSIONS:
        return value.decode(codec, "replace")
    return _extended(value, first, _SEPARATORS.get(vr, b""))


@lru_cache(maxsize=64)
def _terms(character_set: bytes) -> tuple[str, bool]:
    """The first term as `ISO_IR n`, and whether code extensions may occur (PS3.3 C.12.1.1.2)."""
    terms = [term.strip(" \0").upper() for term in character_set[:1024].decode("ascii", "replace").split("\\")]
    loose = _LOOSE_TERM.fullmatch(terms[0])
    first = f"ISO_IR {loose[1]}" if loose else terms[0]
    return first, len(terms) > 1 or terms[0].startswith("ISO 2022")


def _extended(value: bytes, first: str, delimiters: bytes) -> str:
    """ISO 2022: escapes switch G0 and G1; at a delimiter or control character both are as the first term says (PS3.5 6.1.2.5.3)."""
    base = _INITIAL_G1.get(first) or _SINGLE.get(first, "ascii")
    initial = ("romaji" if base == "katakana" else "ascii", base)
    g0, g1 = initial
    out: list[str] = []
    position, end = 0, len(value)
    while position < end:
        step = (_WIDE_STEP if g0 in _JIS else _STEPS[delimiters]).match(value, position)
        assert step is not None  # the cases of a step leave no byte out
        escape, control, pairs, run = step.groups()
        position = step.end()
        if escape:
            element, codec = _ESCAPES[escape[1:]]
            g0, g1 = (codec, g1) if element == "G0" else (g0, codec)
        elif control:
            g0, g1 = initial
            out.append(REPLACEMENT if control == b"\x1b" else control.decode("ascii"))
        elif pairs:  # through the codec that knows its escapes
            whole = len(pairs) & ~1
            out.append((_JIS[g0] + pairs[:whole] + b"\x1b(B").decode("iso2022_jp_2", "replace"))
            out.append(REPLACEMENT * (len(pairs) - whole))
        else:
            text = run.decode(_CODECS.get(g1, g1), "replace")
            out.append(text.replace("~", "\u203e") if g0 == "romaji" else text)
    return "".join(out)


_SPACES = re.compile(r"\s+")


def normalise_for_matching(text: str) -> str:
    """As C-FIND compares: compatibility forms folded, case folded, runs of spaces as one, none at the ends."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", folded)).strip()
