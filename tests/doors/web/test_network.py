"""The map's geometry, and what it says of a flow: used, not used, or that nobody can know."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leadglass.audit.usage import PACKETS, PEOPLE, Usage, Used
from leadglass.doors.web.pages.network import _all_seen
from leadglass.doors.web.picture import ARROW, Box, Drawn, of_flow, picture, places_of
from leadglass.site.model import ARCHIVE, Site
from tests.policy.firewall.sites import generated, lab, written

EMPTY = Usage((), (), frozenset(), 1, 2)
HEARD: dict[str, Any] = {"heard_seconds_ago": 2.0, "flows": {}, "visible": [], "unopened": [], "more": 0}


def told(site: Site, name: str, usage: Usage | None = EMPTY, live: Any = None) -> Any:
    return _all_seen(site, usage, live)[name]


def told_by_kernel() -> Site:
    return replace(lab(), filterer="leadglass-firewall")


def test_what_the_dimse_door_saw() -> None:
    used = replace(EMPTY, used=(Used("CT01", "modalities-store", "store", "1.2.840.10008.5.1.4.1.1.2", 7, 5),))
    found = told(lab(), "modalities-store", used)
    assert (found.state, found.times, found.last_ns, found.last) == ("used", 7, 5, "CT01: store CTImageStorage")
    assert told(lab(), "modalities-store").state == "quiet" and told(lab(), "modalities-store", None).state == "unknown"


def test_what_the_web_door_saw_by_address() -> None:
    came = replace(EMPTY, used=(Used("", "", PEOPLE, "10.20.2.9", 3, 5),))
    assert told(lab(), "console", came).last == "somebody at 10.20.2.9"
    elsewhere = replace(EMPTY, used=(Used("", "", PEOPLE, "10.20.9.9", 3, 5),))
    assert told(lab(), "console", elsewhere).state == "quiet"


def test_what_only_a_kernel_could_see_is_unknown_until_one_tells() -> None:
    site = told_by_kernel()
    assert told(site, "orders").state == "unknown" and told(lab(), "orders", EMPTY, HEARD).state == "unknown"
    silent = {**HEARD, "heard_seconds_ago": None}
    assert (
        told(site, "orders", EMPTY, silent).state == "unknown" and told(site, "orders", EMPTY, silent).packets is None
    )
    quiet = told(site, "orders", EMPTY, HEARD)
    assert (quiet.state, quiet.packets, quiet.connections) == ("quiet", 0, 0)
    live = {**HEARD, "flows": {"orders": {"packets": 12, "connections": 2}}}
    used = told(site, "orders", EMPTY, live)
    assert (used.state, used.packets, used.connections) == ("used", 12, 2)
    before = replace(EMPTY, used=(Used("", "orders", PACKETS, "", 40, 5),))
    assert told(site, "orders", before, HEARD).state == "used", "its table was exchanged since"
    assert told(site, "maintenance", EMPTY, HEARD).state == "unknown", "it passes another router"


# ---- geometry


def ends(way: str) -> tuple[tuple[float, float], tuple[float, float]]:
    numbers = [float(each) for each in re.findall(r"-?\d+\.\d+", way)]
    return (numbers[0], numbers[1]), (numbers[-2], numbers[-1])


def beside(box: Box, point: tuple[float, float], gap: float = 0.0) -> bool:
    """On its edge, or so far away from it."""
    dx = max(box.x - point[0], 0, point[0] - box.x - box.width)
    dy = max(box.y - point[1], 0, point[1] - box.y - box.height)
    return math.hypot(dx, dy) <= gap + 0.2 and not (
        box.x + 1 < point[0] < box.x + box.width - 1 and box.y + 1 < point[1] < box.y + box.height - 1
    )


@pytest.mark.parametrize("seed", range(12))
def test_every_flow_is_drawn_from_each_place_to_each(tmp_path: Path, seed: int) -> None:
    site = generated(tmp_path, seed)
    found = picture(site, [of_flow(flow, "device", flow.id) for flow in site.flows], {}, {})
    places = {ARCHIVE: found.archive, **{each.name: each for each in found.zones}}
    assert places.keys() == {ARCHIVE, *site.zones}
    lines = {each.id: each for each in found.lines}
    for flow in site.flows:
        pairs = [(one, other) for one in places_of(site, flow.sources) for other in places_of(site, flow.targets)]
        assert len(lines[flow.id].ways) == len(pairs)
        for way, (one, other) in zip(lines[flow.id].ways, pairs, strict=True):
            start, end = ends(way)
            assert beside(places[one], start) and beside(places[other], end, ARROW), (flow.id, way, one, other)
    assert {dot.name for box in found.zones for dot in box.dots} == set(site.devices)


def test_no_two_zones_lie_on_each_other_and_archive_is_free(tmp_path: Path) -> None:
    for count in (1, 2, 9, 12, 40):
        text = '[firewall]\naddresses = ["10.0.0.1/32"]\n' + "".join(
            f'[zones.z{n}]\nnetworks = ["10.{n}.0.0/16"]\n' for n in range(count)
        )
        for zone in range(count):
            text += "".join(
                f'[devices.d{zone}-{n}]\nzone = "z{zone}"\nnetwork = "10.{zone}.0.{n + 1}/32"\n'
                for n in range(zone * 7 % 60)
            )
        found = picture(written(tmp_path / str(count), text), [], {}, {})
        boxes = [found.archive, *found.zones]
        for n, one in enumerate(boxes):
            for other in boxes[n + 1 :]:
                apart_x = one.x + one.width <= other.x or other.x + other.width <= one.x
                apart_y = one.y + one.height <= other.y or other.y + other.height <= one.y
                assert apart_x or apart_y, (count, one.name, other.name)


def test_what_there_is_no_room_for_is_counted(tmp_path: Path) -> None:
    text = '[zones.z]\nnetworks = ["10.0.0.0/16"]\n' + "".join(
        f'[devices.d{n}]\nzone = "z"\nnetwork = "10.0.{n // 200}.{n % 200 + 1}/32"\n' for n in range(300)
    )
    (box,) = picture(written(tmp_path, text), [], {}, {}).zones
    assert len(box.dots) + box.more == 300 and box.more > 0


def test_between_opposite_zones_a_way_leads_around_archive() -> None:
    site = lab()
    found = picture(site, [Drawn("one", ("biomed",), ("modalities",), "", ""), Drawn("two", ("modalities",), ("biomed",), "", "")], {}, {})  # fmt: skip
    for line in found.lines:
        assert math.dist(line.at, found.archive.center) > 90
    assert math.dist(found.lines[0].at, found.lines[1].at) > 10, "the way back is another one"
