"""How far does a member lead, and which ways to archive and the crown does a draft open? As rows, for commands and for the map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from leadglass.policy.pivots import Radius, Reader, Terrain, crowns, told, ways_to_crowns
from leadglass.site.model import ARCHIVE, Site

WAYS_TOLD_MAX = 50

Row = Mapping[str, Any]
Count = Callable[[Iterable[Reader]], int | None]
"""Of how many studies these give instances; None where that is not known: every study of an archive that is not here."""


# ---- of one member


def reach_row(terrain: Terrain, found: Radius, count: Count, *, weak: bool) -> Row:
    """The three modes: by any pivot, by what is known to be weak, and what is missing for the way to archive."""
    from leadglass.policy.cuts import Chokes, fix  # cuts take a while to load, and most commands need none

    site, archive = terrain.site, found.of(ARCHIVE)
    by_any, by_weakness = ({found.member, *(each.host for each in hosts)} for hosts in (found.hosts, found.weak_only()))
    modes = {
        "any_pivot": _mode(terrain, by_any, count, archive.shortest if archive else ()),
        "weak_pivots": _mode(terrain, by_weakness, count, archive.steps if archive and not archive.flaws else ()),
    }
    mode, held = (modes["weak_pivots"], by_weakness) if weak else (modes["any_pivot"], by_any)
    cut = fix(terrain, found.member)
    return {
        "member": found.member,
        **mode,
        "in_words": told(site, archive.shortest) if archive and mode["path"] else "",
        "reads": [each.host for each in terrain.readers(held)],
        "reads_with_somebody": [each for each in found.with_somebody if each in held],
        "crown": sorted(crowns(site) & (held - {found.member})),
        "choke_points": list(Chokes(terrain).of(found.member)),
        "smallest_fix": {"close": list(cut.flows), "isolate": list(cut.zones)},
        "modes": {
            **modes,
            "fewest_unknown_flaws": {
                "flaws": archive.flaws if archive else None,
                "path": list(map(str, archive.steps)) if archive else [],
                "in_words": told(site, archive.steps) if archive else "",
            },
        },
    }


def _mode(terrain: Terrain, held: set[str], count: Count, path: Iterable[object]) -> dict[str, Any]:
    """`held`: whoever falls, and the one that it begins with."""
    return {"hosts": len(held) - 1, "studies": count(terrain.readers(held)), "path": list(map(str, path))}


def counting(studies: Callable[[frozenset[str] | None], int | None]) -> Count:
    """`studies`: how many have an instance of these SOP classes, None: how many there are."""

    def count(readers: Iterable[Reader]) -> int | None:
        found = [each.sop_classes for each in readers]
        if not found:
            return 0
        confined = [each for each in found if each is not None]
        return studies(frozenset().union(*confined) if len(confined) == len(found) else None)

    return count


# ---- of a draft


def ways(old: Site, new: Site) -> Iterator[tuple[Row, str]]:
    """From wherever somebody begins, by any pivot."""
    gained, lost = ways_to_crowns(old, new)
    for each in gained[:WAYS_TOLD_MAX]:
        row = {"opens": True, "way": list(map(str, each.steps)), "from": each.start, "to": each.crown}
        yield row, f"+ a way from {each.start} to {each.crown}: {each}"
    for start, crown in lost[:WAYS_TOLD_MAX]:
        yield {"opens": False, "way": [], "from": start, "to": crown}, f"- no way from {start} to {crown} any more"
    for many, what in ((len(gained), "ways are opened"), (len(lost), "ways are closed")):
        if many > WAYS_TOLD_MAX:
            yield {"more": many - WAYS_TOLD_MAX}, f"  and {many - WAYS_TOLD_MAX} more {what}"
