"""What passes a real kernel's table is told as flows: counted, connected, and once a day as events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from leadglass.audit.usage import DAY_NS
from leadglass.doors.processes.traffic import Traffic
from leadglass.policy.firewall.boxes import Box, Span
from leadglass.policy.firewall.handed import box_json
from leadglass.policy.firewall.openings import openings
from leadglass.policy.firewall.seen import FlowsOf, visible
from leadglass.terms import EventKind
from tests.policy.firewall.sites import lab
from tests.programs import require

SECONDS = 120.0
DAY = 20_000 * DAY_NS

# In the lab's networks: an image's connection, which stays; a time server that is asked; somebody whom nothing lets in.
_SPOKEN = """
import json, os, socket, time
from leadglass.lab import namespaces, network
from leadglass.site.load import SP1800_24, load

networks = network.planned(load(SP1800_24), f"traffic{os.getpid()}")
hosts = {each.name: each for each in networks.hosts}
archive = hosts["archive"]

def inside(name, kind=socket.SOCK_STREAM):
    with namespaces.inside(hosts[name].namespace):
        return socket.socket(socket.AF_INET, kind)

try:
    network.up(networks)
    door = inside("archive")
    door.bind(("0.0.0.0", 2762))
    door.listen()
    modality = inside("CT01")
    modality.settimeout(5)
    modality.connect((str(archive.address(4)), 2762))
    clock = inside("archive", socket.SOCK_DGRAM)
    for _ in range(3):
        clock.sendto(b"what time is it?", (str(hosts["directory"].address(4)), 123))
    stranger = inside("stranger in guest")
    stranger.setblocking(False)
    stranger.connect_ex((str(archive.address(4)), 2762))
    time.sleep(0.5)
    from leadglass.doors.kernel.traffic import Traffic
    with namespaces.inside(archive.namespace):
        traffic = Traffic()
        print(json.dumps([traffic.taken(), traffic.taken()]))
finally:
    network.down(networks)
"""


def test_a_real_kernels_counters_and_connections_become_flows() -> None:
    for program in ("ip", "nft", "sysctl"):
        require(program)
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    done = subprocess.run([sys.executable, "-c", _SPOKEN], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    report, again = json.loads(done.stdout)
    assert again is None, "too soon"
    traffic = Traffic()
    news = traffic.hear(lab(), "digest", report, DAY)
    assert {each.details.get("flow") for each in news if each.kind is EventKind.NETWORK_USED} == {
        "modalities-store",
        "time",
    }
    assert [each.kind for each in news].count(EventKind.NETWORK_WATCHED) == 1
    row: Any = traffic.row()
    assert row["flows"]["modalities-store"]["connections"] == 1 and row["flows"]["modalities-store"]["packets"] >= 2
    assert row["flows"]["time"]["packets"] == 3 and row["unopened"] == []
    assert "modalities-store" in row["visible"] and "maintenance" not in row["visible"]


def report(site_flows: dict[str, int], connections: list[list[Any]] | None = None, more: int = 0) -> dict[str, Any]:
    """As whoever loads the table would tell it: packets by the name of a flow."""
    opened = openings(lab())
    boxes = [
        [f"{chain}{each.box.source.version}", box_json(each.box), site_flows[each.flow]]
        for chain, of in (("input", opened.input), ("output", opened.output))
        for each in of
        if each.flow in site_flows and each.box.source.version == 4
    ]
    return {"counters": boxes, "connections": connections or [], "more": more}


def used(news: list[Any]) -> list[str]:
    return [each.details["flow"] for each in news if each.kind is EventKind.NETWORK_USED]


def test_each_flow_is_told_once_a_day_and_only_where_its_counter_has_grown() -> None:
    site, traffic = lab(), Traffic()
    assert used(traffic.hear(site, "one", report({"orders": 5}), DAY)) == ["orders"]
    assert traffic.hear(site, "one", report({"orders": 9}), DAY + 1) == []
    assert traffic.hear(site, "one", report({"orders": 9}), DAY + DAY_NS)[0].kind is EventKind.NETWORK_WATCHED
    assert used(traffic.hear(site, "one", report({"orders": 10}), DAY + DAY_NS + 1)) == ["orders"]
    assert used(traffic.hear(site, "one", report({"orders": 10}), DAY + 2 * DAY_NS)) == []
    assert used(traffic.hear(site, "two", report({"orders": 1}), DAY + 2 * DAY_NS)) == ["orders"], (
        "another table counts anew"
    )


def test_a_report_that_is_not_whole_watches_no_day() -> None:
    assert [each.kind for each in Traffic().hear(lab(), "one", report({}, more=3), DAY)] == []


def test_what_no_flow_opens_is_told_apart() -> None:
    site, traffic = lab(), Traffic()
    strange = [4, int.from_bytes(bytes([10, 20, 4, 20])), int.from_bytes(bytes([10, 20, 5, 10])), "tcp", 22, 2]
    traffic.hear(site, "one", report({}, [strange]), DAY)
    row: Any = traffic.row()
    assert row["unopened"] == [{"from": "ris", "to": "archive", "service": "tcp/22", "connections": 2}]


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"counters": 7, "connections": [], "more": 0},
        {"counters": [["input4", ["tcp", 4, 1, 1, 2, 2, 1, 1], -1]], "connections": [], "more": 0},
        {"counters": [], "connections": [[4, 1 << 40, 1, "tcp", 1, 1]], "more": 0},
        {"counters": [], "connections": [[4, 1, 1, "<b>", 1, 1]], "more": 0},
        {"counters": [], "connections": [[5, 1, 1, "tcp", 1, 1]], "more": 0},
    ],
)
def test_what_is_no_report_is_refused(told: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Traffic().hear(lab(), "one", told, DAY)


def test_packets_of_two_flows_count_for_both() -> None:
    flows = FlowsOf(lab())
    everywhere = Box("tcp", Span(4, 0, 2**32 - 1), Span(4, 0, 2**32 - 1), 443, 443)
    assert flows.of("input", everywhere) == {"console"} and flows.of("output", everywhere) == {
        "replication",
        "cloud-copy",
    }
    assert flows.of("input", Box("udp", everywhere.source, everywhere.target, 443, 443)) == frozenset()
    assert {"maintenance", "vendor"}.isdisjoint(visible(lab()))
