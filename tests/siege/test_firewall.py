"""`leadglass serve firewall` on archive's host of the SP 1800-24 lab: what the kernel lets through is what the site file says, whatever happens.

The router between the zones lets everything pass here: the host stands for itself.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadglass.__main__ import assemble
from leadglass.lab import namespaces
from leadglass.policy.firewall.compile import closed
from leadglass.policy.firewall.readback import drift, read
from leadglass.site.access import AccessRequest, Decision
from leadglass.site.model import ARCHIVE
from leadglass.terms import Act
from tests.programs import require
from tests.siege.networked import Place, place, until

pytestmark = pytest.mark.xdist_group("firewall")
PORTS = (22, 53, 80, 104, 123, 443, 445, 636, 2575, 2762, 3389, 6514, 11112)
WITHIN_SECONDS = 2.0
ON_DEMAND = """
[[flows]]
id = "service"
from = ["jump"]
to = ["archive"]
service = "ssh"
auth = "mfa"
on_demand = { approve = "biomedical-engineer", max = "1h", record = true }
why = "service of the archive itself"
"""


@pytest.fixture(autouse=True, scope="module")
def _can() -> None:
    for program in ("ip", "nft", "sysctl"):
        require(program)
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")


@pytest.fixture(scope="module")
def there() -> Iterator[Place]:
    with place(ON_DEMAND) as found:
        namespaces.in_namespace(found.networks.router, "nft", "flush", "ruleset")
        found.listens(ARCHIVE, 2575)
        found.listens(ARCHIVE, 22)
        found.edits(("[firewall]\n", "[firewall]\nconfirm_seconds = 5\n"))
        found.site.command("apply")
        yield found


@pytest.fixture
def firewall(there: Place) -> Iterator[subprocess.Popen[str]]:
    process = there.firewall()
    until(lambda: there.told().get("site"), 15)
    yield process
    if process in there.started:
        assert there.end(process) == 0


def orders(there: Place) -> tuple[str, int]:
    return there.address(ARCHIVE), 2575


def without(there: Place, flow: str) -> tuple[str, str]:
    """An edit of the site file that takes a flow out, and back."""
    text = (there.site.directory / "leadglass.toml").read_text()
    begin = text.index(f'[[flows]]\nid = "{flow}"')
    return text[begin : text.find("[[flows]]", begin + 1)], ""


def test_t13_each_zone_reaches_what_the_table_says_and_every_denied_attempt_is_told(
    there: Place, firewall: subprocess.Popen[str]
) -> None:
    expected = {
        "CT01": {2762}, "US07": {2762}, "WS01": {443, 2762}, "ris": {2575}, "stranger in radiology": {443}, "stranger in clinical": {443},
        "stranger in modalities": {2762},
    }  # fmt: skip
    listening = {2575, 22, 443, 2762}
    for host in there.networks.hosts:
        if host.name == ARCHIVE:
            continue
        for version in (4, 6):
            address = there.address(ARCHIVE, version)
            found = there.tries(host.name, *((address, port) for port in PORTS))
            for port, said in zip(PORTS, found, strict=True):
                answers = port in expected.get(host.name, set())
                through = "open" if version == 4 and port in listening else "Connection refused"
                if version == 6 and port in (22, 2575):
                    through = "Connection refused"  # nothing listens there by IPv6
                assert said == (through if answers else "dropped"), (host.name, version, port)
    denied = until_told(
        there, {"guest", "cloud", "vendor-dmz", "biomed", "clinical", "enterprise", "radiology", "modalities"}
    )
    assert all(row["details"]["zone_to"] == "pacs" for row in denied if row["details"]["why"] == "input")
    ris = [row for row in denied if row["details"]["member_from"] == "ris"]
    assert ris and {"tcp"} == {row["details"]["protocol"] for row in ris}
    swept = {row["details"]["zone_from"] for row in there.site.events("network:swept")}
    assert "guest" in swept, "whoever tries every port is told as a sweep"


def until_told(there: Place, zones: set[str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []

    def all_told() -> bool:
        rows[:] = there.site.events("network:dropped")
        return zones <= {row["details"]["zone_from"] for row in rows}  # type: ignore[index]

    until(all_told, 20)
    return rows


def test_the_table_is_the_kernels_and_who_loads_it_may_do_nothing_else(
    there: Place, firewall: subprocess.Popen[str]
) -> None:
    verified = namespaces.in_namespace(
        there.namespace(ARCHIVE),
        sys.executable,
        "-m",
        "leadglass",
        "--site",
        str(there.site.directory),
        "zones",
        "verify",
    )
    assert "and nothing else" in verified
    kept = json.loads(Path(f"/proc/{firewall.pid}/status").read_text().split("CapEff:")[1].split()[0].join('""'))
    assert int(kept, 16) == 1 << 12  # CAP_NET_ADMIN
    assert there.says({"ask": "status", "arguments": {}})["code"] == 5
    told = {"change": "zone-contain", "about": "radiology", "arguments": {"reason": "of its own"}}
    assert there.says(told)["code"] == 5
    assert there.site.rows("status")[0]["contained_zones"] == []


def test_a_contained_device_is_cut_off_within_two_seconds_and_the_others_are_not(
    there: Place, firewall: subprocess.Popen[str]
) -> None:
    talking = there.talks("ris", *orders(there))
    there.site.command("contain", "device", "ris", "--reason", "it behaves oddly")
    try:
        assert there.last_heard(talking) - there.changed("device-disable") < WITHIN_SECONDS
        assert there.tries("ris", orders(there)) == ["dropped"]
        assert there.tries("WS01", (there.address(ARCHIVE), 443)) == ["open"]
    finally:
        there.site.command("contain", "device", "ris", "--undo")
    until(lambda: there.tries("ris", orders(there)) == ["open"], WITHIN_SECONDS + 3)


def test_a_flow_that_is_taken_out_ends_its_connections_and_comes_back_unless_confirmed(
    there: Place, firewall: subprocess.Popen[str]
) -> None:
    talking, gone = there.talks("ris", *orders(there)), without(there, "orders")
    with there.edited(gone):
        told = there.site.rows("zones", "apply")[-1]
        assert told["kernel"] and 0 < told["unconfirmed_seconds"] <= 5
        assert there.last_heard(talking) - there.changed("site-apply") < WITHIN_SECONDS
        assert there.tries("ris", orders(there)) == ["dropped"]
        until(lambda: there.tries("ris", orders(there)) == ["open"], 12)
        assert "nobody confirmed" in there.told()["refused"]
        assert there.site.events("network:refused")
        there.site.command("zones", "confirm")
        assert there.tries("ris", orders(there)) == ["dropped"]
    assert there.site.rows("zones", "apply")[-1]["unconfirmed_seconds"] == 0  # what only opens cuts nobody off
    assert there.tries("ris", orders(there)) == ["open"]


def test_what_would_cut_off_whoever_applies_it_is_not_loaded(
    there: Place, firewall: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", f"{there.address('ris')} 50000 {there.address(ARCHIVE)} 2575")
    with there.edited(without(there, "orders")):
        done = there.site.command("zones", "apply", check=False)
        assert done.returncode == 3 and "cut the connection" in done.stderr
        assert there.tries("ris", orders(there)) == ["open"]
    monkeypatch.delenv("SSH_CONNECTION")
    there.site.command("zones", "apply")


def test_whoever_changes_the_table_is_told_of_and_the_right_one_comes_back(
    there: Place, firewall: subprocess.Popen[str]
) -> None:
    before = len(there.site.events("network:drifted"))
    there.nft("insert", "rule", "inet", "leadglass", "input", "tcp", "dport", "22", "accept")
    until(lambda: there.tries("stranger in guest", (there.address(ARCHIVE), 22)) == ["dropped"], 5)
    until(lambda: len(there.site.events("network:drifted")) > before, 5)
    there.nft("flush", "ruleset")
    until(lambda: there.tries("stranger in guest", (there.address(ARCHIVE), 22)) == ["dropped"], 5)


def test_a_flow_on_demand_is_open_from_approval_to_its_end(there: Place, firewall: subprocess.Popen[str]) -> None:
    target = there.address(ARCHIVE), 22
    assert there.tries("jump", target) == ["dropped"]
    approved(there, "service", 8)
    until(lambda: there.tries("jump", target) == ["open"], WITHIN_SECONDS + 1)
    talking = there.talks("jump", *target)
    ends = time.time() + 8
    assert "timeout" in there.nft("list", "set", "inet", "leadglass", "input4_on_demand")
    time.sleep(max(0.0, ends - time.time()))
    assert there.last_heard(talking) - ends < WITHIN_SECONDS
    assert there.tries("jump", target) == ["dropped"]
    verified = there.nft("-j", "list", "ruleset")
    assert read(verified).ours is not None


def approved(there: Place, flow: str, seconds: int) -> None:
    """A request that is approved from now on, as the register has it."""
    house = assemble(there.site.directory)
    try:
        now_ns = time.time_ns()
        until_ns = now_ns + seconds * 1_000_000_000
        request = AccessRequest(
            id=uuid.uuid4().hex, kind="window", person="vendor", act=Act.FLOW_OPEN, about="", digest="", facts={"flows": [flow]}, why="a part is changed",
            from_ns=now_ns, until_ns=until_ns, state="requested", asked_ns=now_ns, settled_ns=0,
        )  # fmt: skip
        house.people.access.ask(request)
        house.people.access.decide(
            request.id, Decision("engineer", "approved", "", now_ns), "approved", now_ns, until_ns
        )
    finally:
        house.close()


def test_a_crash_in_mid_apply_leaves_the_old_table_or_the_new_one(
    there: Place, firewall: subprocess.Popen[str]
) -> None:
    chance, gone = random.Random(6), without(there, "orders")
    for number in range(6):
        with there.edited(gone if number % 2 else ("", "")):
            there.site.command("apply")
            time.sleep(chance.uniform(0, 0.6))
            there.end(
                next(each for each in there.started if each.stdout and each.args == firewall.args), signal.SIGKILL
            )
            assert there.tries("stranger in guest", *((there.address(ARCHIVE), port) for port in PORTS)) == [
                "dropped"
            ] * len(PORTS)
            there.firewall()
    there.site.command("apply")


def test_before_any_interface_is_up_the_table_of_the_last_time_is_in_force_or_a_closed_one(there: Place) -> None:
    closed_table = Path(__file__).parents[2] / "deploy" / "leadglass-closed.nft"
    assert closed_table.read_text() == closed().text()
    process = there.firewall()
    until(lambda: there.told().get("site"), 15)
    there.end(process)
    good = read(there.nft("-j", "list", "ruleset")).ours
    booting = f"boot{os.getpid()}"
    namespaces.make(booting)
    try:
        there.boots(booting, closed_table)
        assert "UP" not in namespaces.in_namespace(booting, "ip", "-o", "link")
        listing = namespaces.in_namespace(booting, "nft", "-j", "list", "ruleset")
        assert good is not None and not list(drift(good, read(listing)))
        (there.state / "good.nft").write_text("no table at all\n")
        namespaces.in_namespace(booting, "nft", "flush", "ruleset")
        there.boots(booting, closed_table)
        assert not list(drift(closed(), read(namespaces.in_namespace(booting, "nft", "-j", "list", "ruleset"))))
    finally:
        namespaces.remove(booting)


def test_without_nft_or_without_the_site_nothing_opens(there: Place) -> None:
    """The program is there no more, as after an upgrade that failed: it is said, and what was in force stays."""
    process = there.firewall()
    until(lambda: there.told().get("site"), 15)
    inside = next(
        int(each)
        for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split() or [process.pid]
    )
    subprocess.run(
        ["nsenter", "-t", str(inside), "-m", "mount", "--bind", "/dev/null", shutil.which("nft") or ""], check=True
    )
    there.site.command("contain", "device", "ris", "--reason", "it behaves oddly")
    try:
        until(lambda: "nft" in there.told()["refused"], 10)
        assert there.tries("stranger in guest", *((there.address(ARCHIVE), port) for port in PORTS)) == [
            "dropped"
        ] * len(PORTS)
    finally:
        there.site.command("contain", "device", "ris", "--undo")
        there.end(process)
    there.nft("flush", "ruleset")
    there.site.down()
    try:
        process = there.firewall()  # the site is down: what was good last
        assert there.tries("stranger in guest", *((there.address(ARCHIVE), port) for port in PORTS)) == [
            "dropped"
        ] * len(PORTS)
        assert there.tries("ris", orders(there)) == ["open"]
        there.end(process)
    finally:
        there.site.up()
