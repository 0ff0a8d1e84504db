"""Real packets from a host in its own namespace to hosts in theirs, through a firewall that may be somebody else's: what differs is found from both ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from leadglass.lab.namespaces import PREFIX
from tests.policy.firewall.sites import written
from tests.programs import require

SECONDS = 60.0
PLACE = """
[firewall]
addresses = ["10.9.0.10/32", "fd09::10/128"]
[services]
ssh = "tcp/22"
ntp = "udp/123"
[zones.core]
networks = ["10.9.0.0/24", "fd09::/64"]
isolated = true
[zones.rooms]
networks = ["10.1.0.0/24", "fd01::/64"]
isolated = true
[zones.desks]
networks = ["10.2.0.0/24"]
[devices.CT1]
zone = "rooms"
network = ["10.1.0.5/32", "fd01::5/128"]
[devices.WS1]
zone = "desks"
network = "10.2.0.5/32"
[[flows]]
id = "images"
from = ["rooms"]
to = ["archive"]
service = "dicom-tls"
may = ["store"]
why = "CT stores"
[[flows]]
id = "time"
from = ["CT1"]
to = ["WS1"]
service = "ntp"
auth = "none"
why = "time"
[[flows]]
id = "service"
from = ["WS1"]
to = ["CT1"]
service = "ssh"
auth = "mfa"
on_demand = { approve = "biomedical-engineer", max = "4h", record = true }
why = "by appointment"
"""

# Brought up by itself: the tests' own process speaks to loopback alone.
_UP = """
import json, sys
from pathlib import Path
from leadglass.lab import network
from leadglass.site.load import load
networks = network.planned(load(Path(sys.argv[1])), sys.argv[2])
network.down(networks)
if sys.argv[3] == "up":
    network.up(networks)
print(json.dumps({each.name: each.namespace for each in networks.hosts} | {"router": networks.router}))
"""


class Lab:
    def __init__(self, place: Path, names: dict[str, str]) -> None:
        self.place, self.names = place, names

    def command(self, who: str, *words: str) -> list[str]:
        inside = ["ip", "netns", "exec", PREFIX + self.names[who]]
        return [
            *inside,
            sys.executable,
            "-m",
            "leadglass",
            "--site",
            str(self.place),
            "zones",
            "probe",
            "--live",
            *words,
            "--json",
        ]

    def probe(self, who: str, *words: str) -> tuple[list[dict[str, Any]], int]:
        """Rows and exit code."""
        own = ["--as", who] if "stranger" not in who else ["--address", words[0]]
        more = words if "stranger" not in who else words[1:]
        done = subprocess.run(self.command(who, *own, "--yes", "--wait", "0.6", "--rate", "2000", *more), capture_output=True, text=True, timeout=SECONDS, check=False)  # fmt: skip
        assert done.returncode in (0, 3), done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()], done.returncode

    @contextmanager
    def listening(self, *names: str) -> Iterator[dict[str, list[dict[str, Any]]]]:
        """At the end, what each of them said."""
        told: dict[str, list[dict[str, Any]]] = {}
        running = {name: subprocess.Popen(self.command(name, "--as", name, "--listen"), stdout=subprocess.PIPE, text=True) for name in names}  # fmt: skip
        try:
            for process in running.values():
                assert process.stdout is not None and "listening" in process.stdout.readline()
            yield told
        finally:
            for name, process in running.items():
                process.send_signal(signal.SIGTERM)
                said, _ = process.communicate(timeout=SECONDS)
                told[name] = [json.loads(line) for line in said.splitlines()]

    def router(self, command: str) -> None:
        subprocess.run(
            ["ip", "netns", "exec", PREFIX + self.names["router"], "sh", "-c", command], check=True, timeout=SECONDS
        )

    def reload(self) -> None:
        """The tables as they should be."""
        code = "import sys; from pathlib import Path; from leadglass.lab import network; from leadglass.site.load import load; network.enforce(network.planned(load(Path(sys.argv[1])), sys.argv[2]))"
        subprocess.run([sys.executable, "-c", code, str(self.place), self.names["router"].removesuffix("-router")], check=True, timeout=SECONDS)  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    for program in ("ip", "nft", "sysctl"):
        require(program)
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    place = tmp_path_factory.mktemp("live")
    written(place, PLACE)
    command = [sys.executable, "-c", _UP, str(place), f"live{os.getpid()}"]
    done = subprocess.run([*command, "up"], capture_output=True, text=True, timeout=SECONDS, check=True)
    try:
        yield Lab(place, json.loads(done.stdout))
    finally:
        subprocess.run([*command, "down"], capture_output=True, timeout=SECONDS, check=True)


def mismatches(rows: list[dict[str, Any]]) -> list[str]:
    return [row["mismatch"] for row in rows if "mismatch" in row]


def test_from_a_host_in_each_zone_the_network_is_what_the_site_file_says(lab: Lab) -> None:
    with lab.listening("archive", "CT1", "WS1") as told:
        for who in ("CT1", "WS1", "archive"):
            rows, code = lab.probe(who, "--listening", "all")
            assert code == 0 and mismatches(rows) == [], rows
            assert rows[-1]["unknown"] == 0 and rows[-1]["mismatches"] == 0 and rows[-1]["probes"] > 20
        rows, _ = lab.probe("CT1", "--listening", "all")
        assert rows[-1]["open"] == 3, "images over both versions, and the time"
        strange, code = lab.probe("stranger in rooms", "10.1.0.253", "--listening", "all")
        assert code == 0 and strange[-1]["open"] == 1, "whoever is in rooms reaches archive's DICOM port"
    assert all(mismatches(rows) == [] for rows in told.values())
    assert told["archive"][-1]["arrived"] >= 3


def test_what_is_open_and_should_not_be_is_told_at_both_ends(lab: Lab) -> None:
    lab.router("nft insert rule inet leadglass forward ip saddr 10.2.0.5 ip daddr 10.1.0.5 tcp dport { 22, 80 } accept")
    try:
        with lab.listening("archive", "CT1") as told:
            rows, code = lab.probe("WS1", "--to", "CT1", "--listening", "all")
        assert code == 3 and rows[-1]["mismatches"] == 2
        assert sorted(mismatches(rows)) == ["WS1 to CT1 (10.1.0.5), tcp/22", "WS1 to CT1 (10.1.0.5), tcp/80"]
        assert sorted(mismatches(told["CT1"])) == ["WS1 to CT1, tcp/22", "WS1 to CT1, tcp/80"]
        with lab.listening("CT1") as told:
            rows, code = lab.probe("WS1", "--to", "CT1", "--open", "service", "--listening", "all")
        assert mismatches(rows) == ["WS1 to CT1 (10.1.0.5), tcp/80"], "the other is open by appointment"
    finally:
        lab.reload()


def test_one_way_leaks_that_no_answer_tells_of_are_seen_where_they_arrive(lab: Lab) -> None:
    """A firewall without memory lets datagrams in and no answer out: only the listener knows."""
    lab.router("nft insert rule inet leadglass forward ip saddr 10.2.0.5 ip daddr 10.1.0.5 udp dport 80 accept")
    lab.router("nft insert rule inet leadglass forward ip saddr 10.1.0.5 ip daddr 10.2.0.5 udp sport 80 drop")
    try:
        with lab.listening("CT1") as told:
            rows, code = lab.probe("WS1", "--to", "CT1", "--listening", "all")
        assert code == 0 and mismatches(rows) == [] and mismatches(told["CT1"]) == ["WS1 to CT1, udp/80"]
    finally:
        lab.reload()


def test_what_is_shut_and_should_not_be_is_told(lab: Lab) -> None:
    lab.router("nft flush set inet leadglass forward4")
    try:
        with lab.listening("archive", "WS1"):
            rows, code = lab.probe("CT1", "--listening", "all")
        assert code == 3 and sorted(mismatches(rows)) == [
            "CT1 to WS1 (10.2.0.5), udp/123",
            "CT1 to archive (10.9.0.10), tcp/2762",
        ]
        assert all(row["why"] == "it was dropped" for row in rows if "mismatch" in row)
    finally:
        lab.reload()


def test_by_answers_alone_what_cannot_be_known_is_said(lab: Lab) -> None:
    rows, code = lab.probe("CT1")
    assert code == 0 and rows[-1]["unknown"] == 3 and rows[-1]["open"] == 0, rows
    assert {row["why"].partition(":")[0].partition(",")[0] for row in rows if "unknown" in row and "host" in row} <= {
        "a reset",
        "no answer",
    }
    lab.router("nft insert rule inet leadglass forward ip daddr 10.1.0.5 reject with tcp reset")
    lab.router("nft insert rule inet leadglass output accept")  # so that the router's own resets leave it
    try:
        shut, _ = lab.probe("WS1", "--to", "CT1")
        assert shut[-1]["mismatches"] == 0 and shut[-1]["unknown"] > 0, "a reset may be the firewall's"
    finally:
        lab.reload()


def test_nothing_is_sent_without_a_yes_from_elsewhere_or_as_somebody_else(lab: Lab) -> None:
    def refused(who: str, *words: str) -> str:
        done = subprocess.run(lab.command(who, *words), capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL)  # fmt: skip
        assert done.returncode == 2 and done.stdout == ""
        return done.stderr

    with lab.listening("archive", "WS1") as told:
        assert "nothing was sent" in refused("CT1", "--as", "CT1")
        assert "no address of WS1" in refused("CT1", "--as", "WS1", "--yes")
        assert "is CT1's" in refused("CT1", "--address", "10.1.0.5", "--yes")
        assert "who is this machine" in refused("CT1", "--yes")
        assert "no flow on demand" in refused("CT1", "--as", "CT1", "--yes", "--open", "images")
        time.sleep(0.3)
    assert all(rows[-1]["arrived"] == 0 for rows in told.values())
