"""The systemd units keep their exposure: the site at or below 2.0, with devices from the console too, who signs those below 1.0, who loads the
kernel's table at or below 2.0. That is in force before any interface is up, as far as a machine that does not boot can show it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

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
    assert exposure(DEPLOY / "leadglass-firewall.service") <= 2.0
    assert exposure(DEPLOY / "leadglass-firewall-boot.service") <= 2.0


def test_exposure_of_a_site_that_knows_the_uid_of_who_signs(tmp_path: Path) -> None:
    """In a user namespace of its own every other uid is nobody: deploy/README.md takes that away where somebody else signs."""
    text = (DEPLOY / "leadglass.service").read_text(encoding="utf-8")
    assert "PrivateUsers=yes\n" in text and "PrivateUsers=no" in (DEPLOY / "README.md").read_text(encoding="utf-8")
    unit = tmp_path / "leadglass.service"
    unit.write_text(text.replace("PrivateUsers=yes\n", "PrivateUsers=no\n"), encoding="utf-8")
    assert exposure(unit) <= 2.0


UNITS = Path("/usr/lib/systemd/system")
BOOT = "leadglass-firewall-boot.service"
PROGRAMS = ("bin/sh", "usr/sbin/nft", "opt/leadglass/bin/leadglass")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Debian's own units and ours, enabled, as they lie on a disk that is to boot."""
    analyze, control = require("systemd-analyze"), require("systemctl")
    assert analyze and UNITS.is_dir()
    for place in ("lib/systemd/system", "usr/lib/systemd/system"):
        shutil.copytree(UNITS, tmp_path / place, symlinks=True)
    for program in PROGRAMS:
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2("/bin/true", path)
    own = tmp_path / "etc/systemd/system"
    own.mkdir(parents=True)
    for unit in DEPLOY.glob("*.service"):
        shutil.copy2(unit, own)
    subprocess.run(
        [control, f"--root={tmp_path}", "enable", BOOT, "leadglass-firewall.service"], check=True, capture_output=True
    )
    return tmp_path


def verified(machine: Path, *units: str) -> str:
    """What is wrong with the units and with their order, in systemd's words."""
    line = [require("systemd-analyze"), "verify", "--man=no", f"--root={machine}", *units]
    said = subprocess.run(line, capture_output=True, text=True, check=False).stderr
    return "\n".join(each for each in said.splitlines() if "is not executable" not in each or "leadglass" in each)


def test_the_table_comes_before_interfaces_and_routing_and_they_do_not_come_without_it(machine: Path) -> None:
    networkd = "systemd-networkd.service"
    assert verified(machine, BOOT, "leadglass-firewall.service", "sysinit.target", networkd) == ""
    there = machine / "etc/systemd/system"
    wants = {str(each.relative_to(there)) for each in there.glob("*/*") if each.name == BOOT}
    required = {f"{each}.service.requires/{BOOT}" for each in ("systemd-networkd", "NetworkManager", "networking")}
    assert wants == {f"sysinit.target.wants/{BOOT}", *required}


@pytest.mark.parametrize("other", ["systemd-networkd.service", "systemd-sysctl.service", "network-pre.target"])
def test_to_come_after_any_of_them_would_be_a_contradiction(machine: Path, other: str) -> None:
    """So it does come before: systemd itself says that both orders cannot be."""
    unit = machine / "etc/systemd/system" / BOOT
    unit.write_text(unit.read_text().replace("After=local-fs.target", f"After=local-fs.target {other}"))
    assert "ordering cycle" in verified(machine, BOOT, other, "sysinit.target")
