"""The lab's networks, probed with packets: everywhere what the site file says. And a probe that sees what is wrong where something is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from leadglass.site.load import SP1800_24
from tests.policy.firewall.sites import generated
from tests.programs import require

SECONDS = 300.0
POLICIES = 50
SHARE = 5

# Run by itself: the tests' own process speaks to loopback alone.
_PROBE = """
import os
import sys
from pathlib import Path
from leadglass.lab import namespaces, network
from leadglass.lab.probing import probe, table
from leadglass.site.load import load

wrong = sent = 0
for place in sys.argv[2:]:
    networks = network.planned(load(Path(place)), f"test{os.getpid()}")
    try:
        network.up(networks)
        exec(sys.argv[1])
        found = probe(networks, list(table(networks)))
    finally:
        network.down(networks)
    sent += found.probes
    for each, through in found.mismatches:
        wrong += 1
        if wrong <= 20:
            print(place, each, "got through" if through else "was dropped")
print("mismatches", wrong, "probes", sent)
"""


@pytest.fixture(autouse=True)
def _can() -> None:
    for program in ("ip", "nft", "sysctl"):
        require(program)
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")


def probed(places: list[Path], before: str = "pass") -> str:
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, before, *map(str, places)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("part", range(SHARE))
def test_policies_by_chance_compiled_loaded_and_probed(tmp_path: Path, part: int) -> None:
    places = [tmp_path / str(seed) for seed in range(part, POLICIES, SHARE)]
    for place in places:
        generated(place, int(place.name))
    told = probed(places)
    assert told.startswith("mismatches 0 "), told


@pytest.mark.parametrize(
    ("tampering", "told"),
    [
        ("nft insert rule inet leadglass forward ip saddr 10.20.9.0/24 accept", "got through"),
        ("nft flush set inet leadglass forward4", "was dropped"),
        ("nft flush chain inet leadglass spoofed", "spoofed"),
        ("nft delete table inet leadglass", "got through"),
    ],
)
def test_a_probe_sees_what_is_wrong(tampering: str, told: str) -> None:
    """The negative control: without it, no mismatch would mean nothing."""
    before = f"namespaces.in_namespace(networks.router, 'sh', '-c', {tampering!r})"
    found = probed([SP1800_24], before)
    assert not found.startswith("mismatches 0 ") and told in found, found
