"""`leadglass lab`: its networks come up, are probed and go away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import require

pytestmark = pytest.mark.xdist_group("lab")  # a machine has one
SECONDS = 300.0


@pytest.fixture(autouse=True)
def _can() -> None:
    for program in ("ip", "nft", "sysctl"):
        require(program)
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "leadglass", *words], capture_output=True, text=True, timeout=SECONDS, check=False
    )


def test_every_cell_of_the_truth_table_of_nine_zones() -> None:
    done = command("lab", "probe", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["mismatches"] == 0 and told["probes"] >= 3000 and 0 < told["open"] < told["probes"] / 5
    assert set(told) == {"probes", "open", "mismatches", "seconds"}


def test_the_lab_comes_up_and_goes_away() -> None:
    try:
        done = command("lab", "up", "--json")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == 0 and rows[-1]["zones"] == 9 and rows[-1]["hosts"] == len(rows) - 1 >= 20
        (own,) = (row["namespace"] for row in rows[:-1] if row["host"] == "archive")
        listing = subprocess.run(
            ["ip", "netns", "exec", own, "nft", "list", "ruleset"], capture_output=True, text=True, check=True
        ).stdout
        assert "chain input" in listing and "10.20.4.20" in listing
    finally:
        gone = command("lab", "down", "--json")
    assert json.loads(gone.stdout)["removed"] == len(rows) and not list(Path("/run/netns").glob("leadglass-lab-*"))
