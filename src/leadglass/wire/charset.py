"""What do the bytes of a text say? Specific Character Set with and without code extensions (PS3.3 C.12.1.1.2, PS3.5 6.1, Annexes H-K).

Decoding never fails: unknown terms and bytes that mean nothing become U+FFFD, because an instance with a wrong character set must still be
kept and found by its other attributes.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from collections.abc import Callable

TEXT_VRS = frozenset(
    ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
)  # the VRs that Specific Character Set is about (PS3.5 6.1.2.2)
_MULTI_VALUED = frozenset(("LO", "PN", "SH", "UC"))
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
_LONGEST_ESCAPE = max(map(len, _ESCAPES))
_INITIAL_G1 = {
    "ISO 2022 IR 13": "katakana",
    "ISO 2022 IR 149": "euc_kr",
    "ISO 2022 IR 58": "gb2312",
}
_DELIMITERS = {"PN": b"\\^=", "LO": b"\\", "SH": b"\\", "UC": b"\\"}
_CONTROL = b"\r\n\f\t"

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
_NUMBERS_MAX = 256  # values of one attribute that are told


def decode_value(value: bytes, vr: str, character_set: bytes = b"") -> str:
    """A raw value as text: decoded, unpadded, multi-valued ones joined by a backslash; binary VRs as decimal numbers; others as "".

    `character_set`: the raw value of Specific Character Set (0008,0005).
    """
    if vr in _NUMBERS:
        form, size, tell = _NUMBERS[vr]
        count = min(len(value) // size, _NUMBERS_MAX)
        return "\\".join(tell(struct.unpack_from(form, value, index * size)[0]) for index in range(count))
    if vr in ("OB", "OW", "OD", "OF", "OL", "OV", "UN", "SQ", "AT"):
        return ""
    text = decode_text(value, vr, character_set) if vr in TEXT_VRS else value.decode("ascii", "replace")
    if vr in ("UT", "ST", "LT"):
        return text.rstrip(" \0")
    return "\\".join(each.strip(" \0") for each in text.split("\\"))


def decode_text(value: bytes, vr: str, character_set: bytes = b"") -> str:
    """A text value by its character set, padding kept. Bytes that mean nothing become U+FFFD."""
    if not value.strip(b"\0 ") or (value.isascii() and b"\x1b" not in value):
        return value.decode("ascii")
    terms = _terms(character_set)
    if len(terms) == 1 and terms[0] in _SINGLE:
        return _plain(value, _SINGLE[terms[0]])
    return _extended(value, terms, _DELIMITERS.get(vr, b""))


def _terms(character_set: bytes) -> list[str]:
    return [term.strip(" \0") for term in character_set.decode("ascii", "replace").split("\\")] or [""]


def _plain(data: bytes, codec: str) -> str:
    if codec == "ascii":  # no character set said, and yet other bytes: nobody knows what they mean
        return data.decode("ascii", "replace")
    return data.decode(codec, "replace")


def _extended(value: bytes, terms: list[str], delimiters: bytes) -> str:
    """ISO 2022: escapes switch G0 and G1; at a delimiter or control character both are as the first term says (PS3.5 6.1.2.5.3)."""
    first = terms[0].replace("ISO 2022 IR", "ISO_IR")
    base = _INITIAL_G1.get(terms[0]) or _SINGLE.get(first) or "ascii"
    initial = ("ascii" if base != "katakana" else "romaji", base)
    g0, g1 = initial
    out: list[str] = []
    position, end = 0, len(value)
    while position < end:
        byte = value[position]
        if byte == 0x1B:
            length = _escape_length(value, position + 1)
            if length:
                element, codec = _ESCAPES[value[position + 1 : position + 1 + length]]
                g0, g1 = (codec, g1) if element == "G0" else (g0, codec)
                position += 1 + length
                continue
            out.append(REPLACEMENT)
            position += 1
        elif byte < 0x80:
            multi = g0 in ("jisx0208", "jisx0212")
            if byte in _CONTROL or (byte in delimiters and not multi) or byte < 0x20:
                g0, g1 = initial
                out.append(chr(byte))
                position += 1
            elif multi:
                out.append(_pair(value[position : position + 2], g0))
                position += 2
            else:
                out.append(_romaji(byte) if g0 == "romaji" else chr(byte))
                position += 1
        else:
            wide = g1 in ("euc_kr", "gb2312", "shift_jis", "gb18030", "gbk", "utf-8")
            stop = position + 1
            while stop < end and (value[stop] >= 0x80 or (wide and stop - position < 2)):
                stop += 1
            out.append(_high(value[position:stop], g1))
            position = stop
    return "".join(out)


def _escape_length(value: bytes, start: int) -> int:
    for length in range(_LONGEST_ESCAPE, 1, -1):
        if value[start : start + length] in _ESCAPES:
            return length
    return 0


def _pair(pair: bytes, codec: str) -> str:
    """Two bytes of a JIS set, through the codec that knows its escapes."""
    escape = b"\x1b$B" if codec == "jisx0208" else b"\x1b$(D"
    try:
        return (escape + pair + b"\x1b(B").decode("iso2022_jp_2")
    except UnicodeDecodeError:
        return REPLACEMENT


def _romaji(byte: int) -> str:
    """JIS X 0201 has a yen sign and an overline where ASCII has backslash and tilde; the backslash stays, it delimits values."""
    return "‾" if byte == 0x7E else chr(byte)


def _high(data: bytes, codec: str) -> str:
    match codec:
        case "katakana":
            return data.decode("shift_jis", "replace")
        case "ascii":
            return REPLACEMENT * len(data)
        case _:
            return data.decode(codec, "replace")


_SPACES = re.compile(r"\s+")


def normalise_for_matching(text: str) -> str:
    """As C-FIND compares: compatibility forms folded, case folded, runs of spaces as one, none at the ends."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", folded)).strip()
