"""The systemd unit keeps its exposure at or below 2.0."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.programs import require

UNIT = Path(__file__).parents[2] / "deploy" / "leadglass.service"


def test_exposure() -> None:
    command = [require("systemd-analyze"), "security", "--offline=yes", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= 2.0
