"""What can be asked of a site about its network?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from leadglass.doors.command.tightening import tightened
from leadglass.doors.house import House, Question

Row = Mapping[str, object]


def studies(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """How many studies there are; with `sop_classes`, how many with an instance of any of these."""
    classes = arguments.get("sop_classes")
    found = house.index.statistics()["studies"] if classes is None else house.index.studies_with(map(str, classes))
    yield {"studies": found}


def traffic(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """What passes the kernel's table, by flow; no row where nobody could have heard of it."""
    if house.serving is not None and house.site().filterer:
        yield house.serving.network.traffic()


NETWORK_QUESTIONS: Mapping[str, Question] = {"network-traffic": traffic, "studies": studies, "tighten": tightened}
