"""The lab without root: every knock at the doors is answered as the site file says, what cannot be shown is said, and a door that errs is seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leadglass.lab.loopback import ALIVE, Loopback, knock, knocks, mapped
from leadglass.lab.peers import Archive
from leadglass.lab.site import LabFailed
from leadglass.site.load import SP1800_24, load
from leadglass.terms import Action
from tests.policy.firewall.sites import lab as lab_site

pytestmark = pytest.mark.xdist_group("lab")  # `lab down` takes down whatever lab the machine has
SECONDS = 180.0


def command(*words: str, before: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    line = [*before, sys.executable, "-m", "leadglass", "lab", *words, "--json"]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=SECONDS, check=False, env={**os.environ, **environment}
    )


def test_without_root_the_doors_are_knocked_at() -> None:
    nobody = ("unshare", "-U") if os.geteuid() == 0 else ()
    if nobody and subprocess.run([*nobody, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here: whoever is root cannot be nobody")
    done = command("probe", before=nobody)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "namespaces need root" in done.stderr
    told = json.loads(done.stdout)
    assert told["mismatches"] == 0 and told["probes"] >= 80 and 0 < told["open"] < told["probes"] / 2
    assert any("kernel" in each for each in told["cannot_show"]) and any("UDP" in each for each in told["cannot_show"])
    assert set(told) == {"probes", "open", "mismatches", "seconds", "cannot_show"}


def test_it_stays_up_and_a_door_that_says_something_else_is_seen(tmp_path: Path) -> None:
    place = {"XDG_RUNTIME_DIR": str(tmp_path)}
    try:
        done = command("up", "--loopback", **place)
        assert done.returncode == 0, done.stdout + done.stderr
        *hosts, told = map(json.loads, done.stdout.splitlines())
        assert told["zones"] == 9 and told["hosts"] == len(hosts) == 20 and told["cannot_show"]
        assert {row["address"] for row in hosts if row["stick"]} == {"127.20.1.11", "127.20.1.17", "127.20.2.21"}
        site = Path(told["site"])
        text = (site / "leadglass.toml").read_text()
        wrong = text.replace('"store"]', '"find"]').replace("require_user_identity = true\n", "")
        assert wrong != text
        lab = Loopback(load(SP1800_24), site)
        lab.lab.archive = Archive(lab.address("archive"), load(site).doors.dimse.port)
        lab.lab.write(wrong)
        found = knock(lab)
        seen = {str(each): let_in for each, let_in in found.mismatches}
        assert seen["CT01: store CTImageStorage at the DIMSE door"] is False
        assert seen["CT01: find at the DIMSE door"] is True and seen["WS01: get at the DIMSE door"] is True
        assert not any("without a" in each or "from the address" in each for each in seen)
        assert not any("at the web door" in each for each in seen), "who comes there comes by a flow"
        alive = {each.host: each.expected for each in knocks(lab) if each.what == ALIVE}
        assert alive["WS01"] and not alive["CT01"] and not alive["vendor-jump"]
    finally:
        gone = command("down", **place)
    assert json.loads(gone.stdout)["loopback"] is True and list(tmp_path.iterdir()) == []
    assert json.loads(command("down", **place).stdout)["loopback"] is False


def test_nothing_is_removed_that_no_lab_made(tmp_path: Path) -> None:
    theirs = tmp_path / f"leadglass-lab-{os.geteuid()}"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years of work")
    for word in ("down", "up"):
        done = command(word, *(["--loopback"] if word == "up" else []), XDG_RUNTIME_DIR=str(tmp_path))
        assert done.returncode == 3 and "no lab of this user made it" in done.stderr
    assert (theirs / "thesis.txt").read_text() == "years of work"


def test_who_has_no_place_on_loopback_is_named() -> None:
    site = lab_site()
    assert (
        str(mapped(site.devices["CT01"].networks[0])) == "127.20.1.11/32"
        and mapped(site.devices["CT01"].networks[1]) is None
    )
    with pytest.raises(LabFailed, match="no place"):
        Loopback(site, Path("nowhere")).address("nobody")


def test_what_the_doors_should_do_is_found_by_names() -> None:
    from leadglass.lab.loopback import permits

    site = lab_site()
    assert permits(site, "CT01", Action.STORE, "CTImageStorage") and permits(site, "US07", None)
    assert not permits(site, "CT01", Action.FIND) and not permits(site, "WS01", Action.FIND), "only with somebody"
    assert not permits(site, "ris", None) and not permits(site, "nobody", Action.ECHO)
