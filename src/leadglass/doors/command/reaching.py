"""Which ways to archive and the crown does a draft open and close? As rows with the line that a person reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from leadglass.policy.pivots import ways_to_crowns
from leadglass.site.model import Site

WAYS_TOLD_MAX = 50

Row = Mapping[str, Any]


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
