"""Where does everything stand on the map, and which way does each flow go? Geometry alone: archive in the middle, zones around it. Pure.

Lengths are user units of the SVG's view box. How a thing looks is a class of the stylesheet, so that no style stands in a page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from leadglass.policy.flows import zones_of
from leadglass.policy.pivots import zone_of
from leadglass.site.model import ARCHIVE, Flow, Site, Zone

BOX_WIDTH, HEAD_HEIGHT = 184.0, 46.0
NAMES_MAX = 4  # members of a zone that are written out; more are dots
NAME_HEIGHT, NAME_CHARACTERS_MAX = 18.0, 22
DOTS_IN_A_ROW, DOT_APART, DOTS_MAX = 12, 13.5, 84
RADIUS_X, RADIUS_Y = 500.0, 330.0  # of the ellipse on which twelve zones stand
ZONES_ROOMY = 12
MARGIN = 60.0
PAST_ARCHIVE = 150.0  # how far from the middle a way bends that would lead through archive
APART = 22.0  # two ways between the same two places
ARROW = 9.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A member. `name` is drawn where `named`, else told by a title."""

    name: str
    x: float
    y: float
    look: str
    named: bool


@dataclass(frozen=True, slots=True)
class Box:
    """A zone, or archive. `about`: a line below its name; `told`: its title; `more`: members for which there was no room."""

    name: str
    x: float
    y: float
    width: float
    height: float
    look: str
    about: str
    told: str
    dots: tuple[Dot, ...] = ()
    more: int = 0

    @property
    def center(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Line:
    """A flow, or traffic that no flow opens. `ways`: path data, one for each pair of places. `at`: where its name is written."""

    id: str
    look: str
    told: str
    ways: tuple[str, ...]
    at: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Picture:
    """`view`: the view box, around everything that is drawn."""

    view: str
    archive: Box
    zones: tuple[Box, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is to be drawn between names of the site file, archive and zones included. `look`: a class; `told`: what a title says of it."""

    id: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    look: str
    told: str


def of_flow(flow: Flow, look: str, told: str) -> Drawn:
    return Drawn(flow.id, flow.sources, flow.targets, look, told)


def picture(site: Site, drawn: Sequence[Drawn], looks: Mapping[str, str], notes: Mapping[str, str]) -> Picture:
    """`looks`: classes by the name of a member, a zone or archive; `notes`: what a zone's title says besides."""
    inside = {name: [each.name for each in site.devices.values() if each.zone == name] for name in site.zones}
    spread = max(1.0, len(site.zones) / ZONES_ROOMY)
    middle = 0.0, 0.0
    count = max(1, len(site.zones))
    zones = []
    for number, zone in enumerate(site.zones.values()):
        angle = 2 * math.pi * number / count - math.pi / 2 + math.pi / count
        x, y = middle[0] + RADIUS_X * spread * math.cos(angle), middle[1] + RADIUS_Y * spread * math.sin(angle)
        zones.append(_box(zone, inside[zone.name], (x, y), looks, notes.get(zone.name, "")))
    archive = _archive(site, middle, looks.get(ARCHIVE, ""))
    places = {ARCHIVE: archive, **{each.name: each for each in zones}}
    lines = tuple(_lines(site, drawn, places, middle))
    return Picture(_view([archive, *zones]), archive, tuple(zones), lines)


def _view(boxes: Sequence[Box]) -> str:
    """Room for arrows and loops is left around."""
    left, top = min(each.x for each in boxes) - MARGIN, min(each.y for each in boxes) - MARGIN
    right, bottom = (max(end) + MARGIN for end in ([each.x + each.width for each in boxes], [each.y + each.height for each in boxes]))  # fmt: skip
    return f"{left:.0f} {top:.0f} {right - left:.0f} {bottom - top:.0f}"


def _archive(site: Site, middle: tuple[float, float], look: str) -> Box:
    home = zone_of(site, ARCHIVE)
    told = f"archive: Leadglass itself{f', in {home}' if home else ''}"
    return Box(ARCHIVE, round(middle[0] - 70, 1), round(middle[1] - 30, 1), 140, 60, look, home, told)


def _box(zone: Zone, members: list[str], at: tuple[float, float], looks: Mapping[str, str], note: str) -> Box:
    named = len(members) <= NAMES_MAX
    shown = members if named else members[:DOTS_MAX]
    rows = len(shown) if named else -(-len(shown) // DOTS_IN_A_ROW)
    height = HEAD_HEIGHT + (rows * (NAME_HEIGHT if named else DOT_APART) + 8 if rows else 0)
    x, y = round(at[0] - BOX_WIDTH / 2, 1), round(at[1] - height / 2, 1)
    dots = tuple(_dot(name, n, (x, y), looks.get(name, ""), named) for n, name in enumerate(shown))
    many = f"{len(members)} member{'s' if len(members) != 1 else ''}"
    tags = "".join(f", #{tag}" for tag in sorted(zone.tags))
    seen = "its members do not see each other" if zone.isolated else "its members see each other"
    told = f"zone {zone.name}: {many}, {seen}{tags}{f', {note}' if note else ''}"
    look = " ".join(filter(None, ("isolated" if zone.isolated else "shared", looks.get(zone.name, ""))))
    about = note or f"{many}{tags.replace(', #', ' #')}"
    return Box(zone.name, x, y, BOX_WIDTH, height, look, about, told, dots, len(members) - len(shown))


def _dot(name: str, number: int, at: tuple[float, float], look: str, named: bool) -> Dot:
    if named:
        return Dot(name, at[0] + 16, at[1] + HEAD_HEIGHT + 6 + number * NAME_HEIGHT, look, True)
    row, column = divmod(number, DOTS_IN_A_ROW)
    return Dot(name, at[0] + 17 + column * DOT_APART, at[1] + HEAD_HEIGHT + 5 + row * DOT_APART, look, False)


# ---- lines


def places_of(site: Site, names: Iterable[str]) -> list[str]:
    """Archive and the zones in which the names lie, each once."""
    found: dict[str, None] = {}
    for name in names:
        found.update(dict.fromkeys([ARCHIVE] if name == ARCHIVE else sorted(zones_of(site, name))))
    return list(found)


def _lines(
    site: Site, drawn: Sequence[Drawn], places: Mapping[str, Box], middle: tuple[float, float]
) -> Iterable[Line]:
    taken: dict[tuple[str, str], int] = {}
    for each in drawn:
        ways: list[str] = []
        at = middle
        for source in places_of(site, each.sources):
            for target in places_of(site, each.targets):
                pair = (min(source, target), max(source, target))
                number = taken[pair] = taken.get(pair, 0) + 1
                way, at = _way(places[source], places[target], number, middle, turned=source != pair[0])
                ways.append(way)
        if ways:
            yield Line(each.id, each.look, each.told, tuple(ways), at)


def _way(
    one: Box, other: Box, number: int, middle: tuple[float, float], *, turned: bool
) -> tuple[str, tuple[float, float]]:
    """Path data, and a point half-way. `number`: of the ways between the two, so that they lie side by side."""
    if one is other:
        return _around(one, number, middle)
    start, end = one.center, other.center
    aside = (number // 2) * APART * (1 if number % 2 else -1) * (-1 if turned else 1)
    length = math.dist(start, end) or 1.0
    across = (start[1] - end[1]) / length, (end[0] - start[0]) / length
    half = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    if ARCHIVE in (one.name, other.name):
        bend, inward = 2 * aside, 0.0
    elif math.dist(half, middle) < PAST_ARCHIVE:  # the two lie opposite: around archive, not through it
        bend, inward = 2 * aside + math.copysign(2 * PAST_ARCHIVE, aside or 1.0), 0.0
    else:
        bend, inward = 2 * aside, 0.28
    control = tuple(half[n] + (middle[n] - half[n]) * inward + across[n] * bend for n in (0, 1))
    begin, stop = _edge(one, (control[0], control[1]), 0.0), _edge(other, (control[0], control[1]), ARROW)
    at = tuple(begin[n] / 4 + control[n] / 2 + stop[n] / 4 for n in (0, 1))
    return f"M{_xy(begin)} Q{_xy((control[0], control[1]))} {_xy(stop)}", (at[0], at[1])


def _around(box: Box, number: int, middle: tuple[float, float]) -> tuple[str, tuple[float, float]]:
    """From a zone to itself: a loop on its outer side."""
    outside = 1 if box.center[0] >= middle[0] else -1
    x = box.x + box.width if outside > 0 else box.x
    y, far = box.center[1], outside * (26 + 10 * number)
    way = f"M{_xy((x, y - 12))} C{_xy((x + far, y - 26))} {_xy((x + far, y + 26))} {_xy((x + outside * ARROW, y + 12))}"
    return way, (x + far * 0.75, y)


def _edge(box: Box, toward: tuple[float, float], gap: float) -> tuple[float, float]:
    """Where the line from a box's center to a point leaves it, and so much farther."""
    x, y = box.center
    dx, dy = toward[0] - x, toward[1] - y
    length = math.hypot(dx, dy) or 1.0
    reach = min(
        (box.width / 2 / abs(dx / length)) if dx else math.inf, (box.height / 2 / abs(dy / length)) if dy else math.inf
    )
    return x + dx / length * (reach + gap), y + dy / length * (reach + gap)


def _xy(point: tuple[float, float]) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"
