"""The systemd units keep their exposure: the site at or below 2.0, with devices from the console too, and who signs those below 1.0."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.programs import require

DEPLOY = Path(__file__).parents[2] / "deploy"


def exposure(unit: Path) -> float:
    command = [require("systemd-analyze"), "security", "--offline=yes", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    return float(found[1])


def test_exposure() -> None:
    assert exposure(DEPLOY / "leadglass.service") <= 2.0
    assert exposure(DEPLOY / "leadglass-enroll.service") < 1.0


def test_exposure_of_a_site_that_knows_the_uid_of_who_signs(tmp_path: Path) -> None:
    """In a user namespace of its own every other uid is nobody: deploy/README.md takes that away where somebody else signs."""
    text = (DEPLOY / "leadglass.service").read_text(encoding="utf-8")
    assert "PrivateUsers=yes\n" in text and "PrivateUsers=no" in (DEPLOY / "README.md").read_text(encoding="utf-8")
    unit = tmp_path / "leadglass.service"
    unit.write_text(text.replace("PrivateUsers=yes\n", "PrivateUsers=no\n"), encoding="utf-8")
    assert exposure(unit) <= 2.0
