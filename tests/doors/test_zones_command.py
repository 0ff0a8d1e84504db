"""`leadglass zones`: compile, diff and verify, with a real kernel's table in a namespace of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import require

SECONDS = 120.0
FIREWALL = '[firewall]\naddresses = ["10.9.0.10/32"]\n'
ZONES = '[zones.desks]\nnetworks = ["10.8.0.0/24"]\n[services]\nhttps = "tcp/443"\n'
FLOW = (
    '[[flows]]\nid = "console"\nfrom = ["desks"]\nto = ["archive"]\nservice = "https"\nauth = "mfa"\nwhy = "people"\n'
)


def run(*words: str, alone: bool = False, given: str = "") -> subprocess.CompletedProcess[str]:
    prefix = ["unshare", "-n" if os.geteuid() == 0 else "-Urn"] if alone else []
    return subprocess.run([*prefix, *words], capture_output=True, text=True, timeout=SECONDS, check=False, input=given)


def leadglass(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "leadglass", "--site", str(site), *words)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    place = tmp_path / "site"
    assert run(sys.executable, "-m", "leadglass", "init", str(place), "--loopback").returncode == 0
    with (place / "leadglass.toml").open("a") as file:
        file.write(FIREWALL + ZONES)
    assert leadglass(place, "apply").returncode == 0
    return place


def test_without_addresses_there_is_no_table(tmp_path: Path) -> None:
    place = tmp_path / "site"
    assert run(sys.executable, "-m", "leadglass", "init", str(place), "--loopback").returncode == 0
    done = leadglass(place, "zones", "compile")
    assert done.returncode == 3 and "[firewall] addresses" in done.stderr and done.stdout == ""


def test_a_flow_is_told_before_it_acts_and_compiled_as_it_stands(site: Path) -> None:
    assert "the same packets pass" in leadglass(site, "zones", "diff").stdout
    with (site / "leadglass.toml").open("a") as file:
        file.write(FLOW)
    assert "+ desks to archive by https (tcp/443)" in leadglass(site, "zones", "diff").stdout
    row = json.loads(leadglass(site, "zones", "diff", "--json").stdout)
    assert row == {"opens": True, "flow": "desks to archive by https (tcp/443)"}
    assert "10.8.0.0/24 . 10.9.0.10 . tcp . 443" in leadglass(site, "zones", "compile").stdout
    rows = [json.loads(line) for line in leadglass(site, "zones", "compile", "--plain", "--json").stdout.splitlines()]
    assert {
        "chain": "input",
        "from": "10.8.0.0/24",
        "to": "10.9.0.10",
        "protocol": "tcp",
        "port": "443",
    }.items() <= rows[[each["chain"] for each in rows].index("input")].items()
    assert rows[-1]["otherwise"] == "deny"
    unknown = leadglass(site, "zones", "compile", "--for", "nobody")
    assert unknown.returncode == 2 and "nobody" in unknown.stderr
    assert "policy drop" in leadglass(site, "zones", "compile", "--for", "router", "--forwards").stdout


def test_what_does_not_hold_what_it_promises_is_neither_told_in_packets_nor_applied(site: Path) -> None:
    file, before = site / "leadglass.toml", (site / "state" / "proven" / "current").resolve()
    file.write_text(
        file.read_text() + FLOW + '[[tests]]\nwho = "desks"\ndeny = ["archive:https"]\nwhy = "nobody there"\n'
    )
    for words in (("check",), ("zones", "diff")):
        done = leadglass(site, *words)
        assert done.returncode == 3 and "do not hold" in done.stderr and "+ desks" not in done.stdout, words
    for words in (("apply",), ("zones", "apply")):
        done = leadglass(site, *words)
        assert done.returncode != 0 and "does not hold what it promises" in done.stderr, words
    assert (site / "state" / "proven" / "current").resolve() == before


def test_a_contained_zone_stands_in_the_table(site: Path) -> None:
    assert leadglass(site, "contain", "zone", "desks", "--reason", "odd").returncode == 0
    assert "elements = { 10.8.0.0/24 }" in leadglass(site, "zones", "compile").stdout
    assert leadglass(site, "contain", "zone", "desks", "--undo").returncode == 0
    assert "elements = { 10.8.0.0/24 }" not in leadglass(site, "zones", "compile").stdout


def test_what_falls_with_a_member_is_told_with_the_way_and_the_fix(site: Path) -> None:
    with (site / "leadglass.toml").open("a") as file:
        file.write(FLOW)
    *hosts, told = [
        json.loads(line) for line in leadglass(site, "zones", "reach", "desks", "--json").stdout.splitlines()
    ]
    assert [each["path"] for each in hosts if "host" in each] == [["anyone in desks -[console]-> archive"]]
    assert any(each.get("draft", "").startswith("+ the draft opens archive") for each in hosts), "not applied yet"
    assert told["hosts"] == 1 and told["studies"] == 0 and told["reads"] == ["archive"], "of an archive that is empty"
    assert told["path"] == ["anyone in desks -[console]-> archive"]
    assert told["smallest_fix"] == {"close": ["console"], "isolate": []}
    of_the_lab = leadglass(site, "zones", "reach", "vendor-jump", "--lab").stdout
    assert "every study can be read from: archive" in of_the_lab and "smallest fix: close or guard vendor" in of_the_lab
    assert leadglass(site, "zones", "reach", "nobody").returncode == 2


def test_the_kernel_is_held_against_the_site_file_that_serves(site: Path) -> None:
    require("nft")
    program = f"{sys.executable} -m leadglass --site {site} zones"
    script = f"""
        {program} verify; echo "none: $?"
        {program} compile | nft -f - && {program} verify; echo "loaded: $?"
        nft add element inet leadglass input4 '{{ 10.7.0.0/24 . 10.9.0.10 . tcp . 22 }}'; {program} verify; echo "opened: $?"
    """
    told = run("sh", "-c", script, alone=True).stdout
    assert "table inet leadglass is not there" in told and "none: 3" in told
    assert "the kernel lets through what the site file says, and nothing else" in told and "loaded: 0" in told
    assert "set input4 opens 10.7.0.0/24 to 10.9.0.10 by tcp/22" in told and "opened: 3" in told
