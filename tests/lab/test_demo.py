"""`make demo CHECK=1`: everything as promised the first time, and again on the site that the first time left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from leadglass.lab.attacks import Attack, Outcome
from leadglass.lab.report import Report
from tests.running import until

LINES = ("stored", "queried", "retrieved", "committed", "Everything as promised.")


def demo(place: Path, *options: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "leadglass.lab", "demo", "--site", str(place / "demo-site"), *options]
    environment = {name: value for name, value in os.environ.items() if name != "CHECK"}
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=place
    )


@pytest.mark.xdist_group("demo")
def test_the_demo_twice_and_until_it_is_stopped(tmp_path: Path) -> None:
    with demo(tmp_path, "--check") as first:
        said, _ = first.communicate(timeout=180)
    assert first.returncode == 0, said
    assert all(line in said for line in LINES) and said.count("refused\n") == 6, said
    assert [path.name for path in tmp_path.iterdir()] == ["demo-site"]
    with demo(tmp_path) as second:
        assert second.stdout is not None
        said = ""
        while "until Ctrl-C" not in said:
            line = second.stdout.readline()
            assert line, said
            said += line
        children = _descendants(second.pid)
        assert children
        second.send_signal(signal.SIGINT)
        rest, _ = second.communicate(timeout=60)
    assert second.returncode == 0 and "again" in said and "Everything as promised." in said, said + rest
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children)), "something stayed behind"


def _descendants(pid: int) -> list[int]:
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(each for child in children for each in _descendants(child))]


def test_a_broken_promise_is_told_and_is_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    assert report.check("stored", "3 of 3", holds=True)
    assert not report.check("retrieved", "2 of 3", holds=False)
    report.attack(1, "a stolen AE title", "0000H", "", refused=False)
    assert report.verdict() == 1
    said = capsys.readouterr().out
    assert "2 of 3" in said and "NOT refused as promised" in said


@pytest.mark.parametrize(
    ("heard", "reason", "refused"),
    [("0124H Not authorized", "may not find", True), ("0000H SUCCESS", "may not find", False), ("0124H", "", False)],
)
def test_an_attack_counts_as_refused_only_when_heard_and_recorded(heard: str, reason: str, refused: bool) -> None:
    attack = Attack("query", lambda: heard, r"^0124H", "request:refused", r"may not find")
    assert Outcome(attack, heard, reason).refused is refused
