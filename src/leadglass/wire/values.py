"""What do dates, times and names mean? Bounded readers of values that come as text (PS3.5 6.2)."""

from __future__ import annotations

from leadglass.wire.charset import TEXT_VRS

NAME_COMPONENTS_MAX = 5
INTEGER_LENGTH_MAX_CHARACTERS = 20  # of UV; IS has 12


def text_vr(vr: str) -> bool:
    """True where Specific Character Set says how the value is encoded."""
    return vr in TEXT_VRS


def date_of(text: str) -> str:
    """A DA as `YYYYMMDD`, the old form with dots too; "" where it is none."""
    digits = text.strip().replace(".", "")
    return digits if len(digits) == 8 and digits.isascii() and digits.isdigit() else ""


def time_of(text: str) -> str:
    """A TM as `HHMMSS.FFFFFF`, missing parts as zero, the old form with colons too; "" where it is none."""
    whole, _, fraction = text.strip().replace(":", "").partition(".")
    if not whole or len(whole) % 2 or len(whole) > 6 or not (whole.isascii() and whole.isdigit()):
        return ""
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        return ""
    return f"{whole:0<6}.{fraction[:6]:0<6}"


def integer_of(text: str) -> int | None:
    """An IS, or the decimal text of a binary integer; None where it is none."""
    stripped = text.strip()
    if not 0 < len(stripped) <= INTEGER_LENGTH_MAX_CHARACTERS or not stripped.isascii() or "_" in stripped:
        return None
    try:
        return int(stripped)
    except ValueError:
        return None


def name_groups(text: str) -> tuple[tuple[str, ...], ...]:
    """A PN as its groups (alphabetic, ideographic, phonetic), each as components without trailing empty ones."""
    groups = []
    for group in text.split("=")[:3]:
        components = [component.strip() for component in group.split("^")[:NAME_COMPONENTS_MAX]]
        while components and not components[-1]:
            components.pop()
        groups.append(tuple(components))
    return tuple(groups)
