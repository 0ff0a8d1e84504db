"""What does the Standard say of a tag? VR and keyword (PS3.6), read once from `dictionary.tsv`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources


@cache
def _table() -> Mapping[int, tuple[str, str]]:
    text = resources.files("leadglass.wire").joinpath("dictionary.tsv").read_text(encoding="ascii")
    rows = (line.split("\t") for line in text.splitlines())
    return {int(tag, 16): (vr, keyword) for tag, vr, keyword, _ in rows}


@cache
def _tags() -> Mapping[str, int]:
    return {keyword: tag for tag, (_, keyword) in _table().items()}


@cache
def sequences() -> frozenset[int]:
    """Every tag that is a sequence."""
    return frozenset(tag for tag, (vr, _) in _table().items() if vr == "SQ")


def _known(tag: int) -> tuple[str, str] | None:
    """VR and keyword; the groups 50xx and 60xx repeat the first one (PS3.5 7.6)."""
    found = _table().get(tag)
    if found is None and (tag >> 24) in (0x50, 0x60) and tag >> 16 & 1 == 0:
        return _table().get(tag & 0xFF00FFFF)
    return found


def vr_of(tag: int) -> str:
    """The VR, the first where the Standard leaves a choice ("US or SS"); UL for group lengths, LO for private creators, else UN."""
    found = _table().get(tag) or _known(tag)
    if found is not None:
        return found[0][:2]
    if tag & 0xFFFF == 0:
        return "UL"
    if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF:
        return "LO"
    return "UN"


def choices_of(tag: int) -> tuple[str, ...]:
    """All VRs that the Standard allows."""
    found = _known(tag)
    return tuple(found[0].split(" or ")) if found is not None else (vr_of(tag),)


def keyword_of(tag: int) -> str:
    """The keyword, "" for what the Standard does not know."""
    found = _known(tag)
    return found[1] if found is not None else ""


def tag_of(keyword: str) -> int | None:
    return _tags().get(keyword)
