"""How long do the questions about the network take, in a hospital of many zones? Synthetic site files, from small to 50 zones, 500 hosts and 500
flows; the kernel is a real one, in a namespace of its own, and so is the browser that the map is painted in."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from leadglass.lab import namespaces, network
from leadglass.lab.probing import probe
from leadglass.lab.probing import table as truth_table
from leadglass.policy.cuts import Chokes, fix
from leadglass.policy.firewall.compile import ruleset
from leadglass.policy.firewall.openings import ROUTER
from leadglass.policy.firewall.readback import drift, read
from leadglass.policy.pivots import Terrain, members
from leadglass.site.load import SP1800_24, load
from leadglass.site.model import Site
from tests.web.browser import Screen
from tests.web.people import world

T = TypeVar("T")
SIZES = ((9, 10, 15), (50, 500, 500))  # zones, hosts, flows
STARTS = 20
MAP = (12, 500, 60)
MAP_LAYERS = {
    "policy": "/network",
    "traffic": "/network?layer=traffic",
    "attack paths": "/network?layer=attack&from=host-7",
}
MAP_TIMES = 10
_WHEN_PAINTED = """addEventListener("load", () => requestAnimationFrame(() => requestAnimationFrame(() => {
    window.painted = performance.now();
})))"""
_UNTIL_PAINTED = """new Promise((resolve) => {
    const look = () => window.painted
        ? resolve([performance.getEntriesByType("navigation")[0].responseStart, window.painted]) : requestAnimationFrame(look);
    look();
})"""
NFT_SECONDS = 60.0
_HEAD = """schema = 1
[site]
name = "leadglass.example"
key = "credential:site.key"
"""
_HOME = """
[firewall]
addresses = ["10.200.0.10/32"]
[zones.home]
networks = ["10.200.0.0/24"]
isolated = true
"""


@dataclass(frozen=True, slots=True)
class Zoned:
    """Seconds. `reach`: median and worst over some starting points. `loaded`: into a fresh kernel and listed again. `equality`: read and compared."""

    zones: int
    hosts: int
    flows: int
    compiled: float
    loaded: float
    equality: float
    differences: int
    reach_median: float
    reach_worst: float


@dataclass(frozen=True, slots=True)
class Probes:
    """Of the lab: `up` in seconds; `probed`: sent, with mismatches, in seconds."""

    up: float
    probes: int
    mismatches: int
    probed: float


@dataclass(frozen=True, slots=True)
class Painted:
    """Seconds from the click to the second frame after everything was loaded, in Chromium; `answered`: until the first byte."""

    layer: str
    zones: int
    hosts: int
    flows: int
    answered: float
    painted: float
    worst: float


def runs(scratch: Path) -> Iterator[Zoned | Probes | Painted]:
    for number, (zones, hosts, flows) in enumerate(SIZES):
        yield _zoned(_site(scratch / str(number), zones, hosts, flows))
    yield _probed()
    yield from _painted(scratch / "map")


def _painted(place: Path) -> Iterator[Painted]:
    """The console's map of a hospital, each layer some times, as a security officer sees it."""
    place.mkdir()
    with world(place, _network(*MAP)) as made:
        screen = made.signed_in("guard")
        screen.page.add_init_script(_WHEN_PAINTED)
        screen.open("/network?layer=attack&from=host-7")  # what takes a while to load is loaded
        for layer, path in MAP_LAYERS.items():
            times = [_opened(screen, path) for _ in range(MAP_TIMES)]
            painted = [each for _, each in times]
            answered = statistics.median(first for first, _ in times)
            yield Painted(layer, *MAP, answered, statistics.median(painted), max(painted))
        made.leave("guard", screen)


def _opened(screen: Screen, path: str) -> tuple[float, float]:
    screen.open(path)
    first, painted = screen.page.evaluate(_UNTIL_PAINTED)
    return first / 1000, painted / 1000


def _zoned(site: Site) -> Zoned:
    compiled, rules = _timed(lambda: ruleset(site, ROUTER, forwards=True))
    loaded, listing = _timed(lambda: _listed(rules.text()))
    equality, found = _timed(lambda: list(drift(rules, read(listing))))
    starts = members(site)[:: max(1, len(members(site)) // STARTS)]
    reach = [_timed(lambda member=each: _reached(site, member))[0] for each in starts]  # type: ignore[misc]
    sizes = len(site.zones), len(site.devices), len(site.flows)
    return Zoned(*sizes, compiled, loaded, equality, len(found), statistics.median(reach), max(reach))


def _reached(site: Site, member: str) -> None:
    """The whole answer about one member, from the site file on."""
    terrain = Terrain(site)
    terrain.radius(member), fix(terrain, member), Chokes(terrain).of(member)


def _timed(do: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    result = do()
    return time.perf_counter() - began, result


def _listed(text: str) -> str:
    alone = "-n" if os.geteuid() == 0 else "-Urn"
    command = ["unshare", alone, "sh", "-c", "nft -f - && nft -j list ruleset"]
    path = {**os.environ, "PATH": namespaces.PATH}
    return subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=NFT_SECONDS, check=True, env=path
    ).stdout


def _probed() -> Probes:
    networks = network.planned(load(SP1800_24), f"bench{os.getpid()}")
    try:
        up, _ = _timed(lambda: network.up(networks))
        found = probe(networks, list(truth_table(networks)))
    finally:
        network.down(networks)
    return Probes(up, found.probes, len(found.mismatches), found.seconds)


def _site(directory: Path, zones: int, hosts: int, flows: int) -> Site:
    directory.mkdir(parents=True)
    (directory / "leadglass.toml").write_text(_HEAD + _network(zones, hosts, flows))
    return load(directory)


def _network(zones: int, hosts: int, flows: int) -> str:
    """Of a site file, by chance, the same each time."""
    rng = random.Random(zones)
    parts = [_HOME, "[services]", *(f'service-{n} = "tcp/{1000 + n}"' for n in range(20))]
    names = ["home"]
    for n in range(zones - 1):
        isolated = json.dumps(rng.random() < 0.5)
        parts.append(f'[zones.zone-{n}]\nnetworks = ["10.{n}.0.0/16"]\nisolated = {isolated}')
        names.append(f"zone-{n}")
    for n in range(hosts):
        zone = rng.randrange(zones - 1)
        weak = json.dumps(["smb1"] if rng.random() < 0.2 else [])
        where = f"10.{zone}.{n // 250}.{n % 250 + 1}/32"
        parts.append(f'[devices.host-{n}]\nzone = "zone-{zone}"\nnetwork = "{where}"\nweak = {weak}')
        names.append(f"host-{n}")
    for n in range(flows):
        to = rng.sample(names, rng.randint(1, 3)) if rng.random() < 0.8 else ["archive"]
        said = {"id": f"flow-{n}", "from": rng.sample(names, rng.randint(1, 3)), "to": to}
        said |= {"service": f"service-{rng.randrange(20)}", "why": "by chance"}
        parts.append("[[flows]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in said.items()))
    return "\n".join(parts) + "\n"


def table(found: Sequence[Zoned | Probes | Painted]) -> Table:
    told = Table(title="the network: seconds")
    for heading in ("zones, hosts, flows", "compile", "load and list", "read back, equal", "reach, median", "worst"):
        told.add_column(heading)
    for each in found:
        if isinstance(each, Zoned):
            told.add_row(
                f"{each.zones}, {each.hosts}, {each.flows}",
                *(
                    f"{one:.3f}"
                    for one in (each.compiled, each.loaded, each.equality, each.reach_median, each.reach_worst)
                ),
            )
        elif isinstance(each, Painted):
            told.add_row(
                f"the map, {each.layer}: {each.zones}, {each.hosts}, {each.flows}",
                f"answered {each.answered:.3f}",
                f"painted {each.painted:.3f}",
                f"worst {each.worst:.3f}",
                "",
                "",
            )
        else:
            told.add_row(
                "the lab",
                f"up {each.up:.2f}",
                f"{each.probes} probes",
                f"{each.mismatches} mismatches",
                f"{each.probed:.2f}",
                "",
            )
    return told
