"""The command line that others script against: exit codes, JSON, with a running site and without one; health and metrics."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from leadglass.lab.peers import Archive, Identity, associated, echoing
from tests.running import RunningSite, free_port, running, until


@pytest.fixture
def site(tmp_path: Path) -> RunningSite:
    return RunningSite.make(tmp_path)


def test_exit_codes(site: RunningSite, tmp_path: Path) -> None:
    assert site.command("status").returncode == 0
    assert site.command("nonsense", check=False).returncode == 2
    assert site.command("device", "enroll", check=False).returncode == 2
    assert site.command("device", "revoke", "NOBODY", check=False).returncode == 1
    nowhere = site.command("--site", str(tmp_path / "nowhere"), "status", check=False, site=False)
    assert nowhere.returncode == 1 and "is no site" in nowhere.stderr
    file = site.directory / "leadglass.toml"
    file.write_text(file.read_text().replace("ae_title", "ae_titel"))
    done = site.command("check", "--json", check=False)
    problem = json.loads(done.stdout.splitlines()[0])
    assert done.returncode == 3 and problem["line"] > 1 and "ae_title" in problem["mend"]
    assert site.command("apply", check=False).returncode == 1
    assert site.command("status").returncode == 0, "the last proven one serves on"


def test_init_never_writes_over_anything(site: RunningSite) -> None:
    done = site.command("init", str(site.directory), "--loopback", check=False, site=False)
    assert done.returncode == 1 and "not empty" in done.stderr


def test_nothing_prompts_without_a_terminal(tmp_path: Path) -> None:
    site = RunningSite(tmp_path / "real", free_port())
    done = site.command("init", str(site.directory), check=False, site=False)
    assert done.returncode == 2 and "--passphrase-file" in done.stderr
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    key = tmp_path / "elsewhere" / "site.key"
    options = ["--name", "pacs.example", "--key", str(key), "--passphrase-file", str(secret)]
    site.command("init", str(site.directory), *options, site=False)
    assert key.exists() and key.stat().st_mode & 0o077 == 0
    sealed = (site.directory / "ca" / "device-ca.key").read_text()
    assert "ENCRYPTED" in sealed
    done = site.command("key", "verify", "--passphrase-file", str(secret), "--json")
    assert "register" in json.loads(done.stdout)["opens"]
    assert site.command("key", "verify", "--passphrase-file", str(key), check=False).returncode == 1


def test_a_record_of_a_device_and_of_a_system_without_dimse(site: RunningSite, tmp_path: Path) -> None:
    site.enroll("CT1", "echo", "--maker", "Acme", "--model", "Scan 3", "--owner", "Radiology", "--criticality", "high")
    site.command("device", "enroll", "RIS", "--network", "127.0.0.9/32", "--may", "", "--out", str(tmp_path / "ris"))
    rows = {row["name"]: row for row in site.rows("device", "list")}
    assert (rows["CT1"]["maker"], rows["CT1"]["state"], rows["RIS"]["ae_titles"]) == ("Acme", "enrolled", [])
    again = site.command("device", "enroll", "CT1", "--ae", "X", "--network", "127.0.0.1/32", check=False)
    assert again.returncode == 1 and "renew" in again.stderr


def test_devices_come_from_a_table(site: RunningSite, tmp_path: Path) -> None:
    table = tmp_path / "devices.csv"
    table.write_text("name,ae,network,may,maker\nCT7,CT7,127.0.0.7/32,echo store,Acme\nBAD,BAD,10.0.0.1/32,echo,\n")
    done = site.command("device", "import", str(table), "--out", str(tmp_path / "sticks"), check=False)
    assert done.returncode == 1 and "no zone holds 10.0.0.1/32" in done.stdout
    assert (tmp_path / "sticks" / "CT7" / "client.p12").exists()
    assert [row["name"] for row in site.rows("device", "list")] == ["CT7"]


def test_health_metrics_and_a_restarted_worker(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        site.up()
        (status,) = site.rows("status")
        assert [each["generation"] for each in status["workers"]] == [status["generation"]] * 2
        assert status["open_associations"] == 0 and status["journal_lag_seconds"]["renewals"] < 60
        metrics = status["metrics"]
        with urllib.request.urlopen(f"http://{metrics}/health", timeout=10) as answer:
            assert json.load(answer) == {"healthy": True}
        site.enroll("CT1", "echo,store")
        who = Identity("CT1", "127.0.0.1", site.bundles["CT1"].directory)
        with associated(who, Archive("127.0.0.1", site.port), echoing()):
            assert site.rows("status")[0]["open_associations"] == 1
            with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as answer:
                said = answer.read().decode()
        for line in ("leadglass_instances 0.0", "leadglass_open_associations 1.0", "leadglass_workers 2.0"):
            assert line in said
        assert 'leadglass_journal_lag_seconds{consumer="renewals"}' in said
        assert site.process is not None
        before = site.children(site.process.pid)
        victim = before[-1]
        Path(f"/proc/{victim}").exists() and __import__("os").kill(victim, 9)
        assert until(lambda: len(set(site.children(site.process.pid)) - set(before)) == 1)  # type: ignore[union-attr]
        assert until(lambda: any(row["kind"] == "process:ended" for row in site.events()))
        (status,) = site.rows("status")
        assert status["running"] is True and status["ae_title"] == "LEADGLASS"
        assert site.down() == 0


def test_the_doctor_names_what_is_wrong(site: RunningSite) -> None:
    findings = {row["about"]: row for row in site.rows("doctor")}
    assert findings["site file"]["state"] if "site file" in findings else findings["policy"]["state"] == "ok"
    (site.directory / "keys" / "site.key").chmod(0o644)
    done = site.command("doctor", "--json", check=False)
    assert done.returncode == 3
    red = [json.loads(line) for line in done.stdout.splitlines() if json.loads(line).get("state") == "red"]
    assert any("chmod" in row["mend"] for row in red)
