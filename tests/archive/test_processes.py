"""Several processes on one site: claims among them, and kill -9 in the middle of storing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from leadglass.archive.backends.local import LocalObjects
from leadglass.archive.walk import walk
from tests.archive.place import Place, content

ROOT = Path(__file__).parents[2]
CLAIMANT = """
import sys
from pathlib import Path
from leadglass.archive.backends.local import LocalObjects
from tests.archive.place import Place
site = Path(sys.argv[1])
process = Place(site, LocalObjects(site / "objects"), claim_wait_seconds=10.0).process()
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    uid, data = f"1.2.{number}", sys.argv[2].encode() * 100
    settled = process.store(uid, data)
    print(uid, settled.version, settled.standing, settled.writer == process.writer.id, flush=True)
"""
SENDER = """
import itertools, sys
from pathlib import Path
from leadglass.archive.backends.local import LocalObjects
from tests.archive.place import Place, content
site = Path(sys.argv[1])
process = Place(site, LocalObjects(site / "objects")).process()
for number in itertools.count():
    process.store(f"1.2.{number}", content(20_000 + number % 3 * 70_000, str(number)))
    print(number, flush=True)
"""


def started(program: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_two_processes_claim_the_same_uids(tmp_path: Path) -> None:
    """The same bytes from both: each UID is kept once. Other bytes: one is current, the other held, whoever came first."""
    for words in (("same", "same"), ("one", "two")):
        site = Place(tmp_path / "-".join(words), LocalObjects(tmp_path / "-".join(words) / "objects"))
        children = [started(CLAIMANT, str(site.site_dir), word) for word in words]
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        outputs = [child.communicate("go\n", timeout=60)[0].splitlines() for child in children]
        assert [child.returncode for child in children] == [0, 0]
        assert [len(lines) for lines in outputs] == [40, 40]
        process = site.process()
        process.recovery.recover_all()
        for number in range(40):
            versions = process.index.versions(f"1.2.{number}")
            expected = ["current"] if words[0] == words[1] else ["current", "held"]
            assert [str(each.standing) for each in versions] == expected
            assert [each.version for each in versions] == list(range(1, len(expected) + 1))
        records = [record for name in site.store.names() for record in walk(site.store, name).records]
        assert len(records) == 40 * len(expected)
        site.close()


def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    place = Place(tmp_path, LocalObjects(tmp_path / "objects"))
    acknowledged: set[int] = set()
    for _ in range(3):
        with started(SENDER, str(tmp_path)) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(25)]
            os.kill(child.pid, signal.SIGKILL)
            lines += child.stdout.read().splitlines()
        acknowledged |= {int(line) for line in lines if line.strip()}
        process = place.process()
        process.recovery.recover_all()
        for number in acknowledged:
            (version,) = process.index.versions(f"1.2.{number}")
            assert process.read(version) == content(20_000 + number % 3 * 70_000, str(number))
        process.die()
    assert len(acknowledged) >= 25
    place.close()
