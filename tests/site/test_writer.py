"""A writer's lock says whether it lives; whoever takes a dead one's lock is alone with its files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from leadglass.site.writer import Writer, WriterState, writers
from leadglass.terms import StoreFault


def leave(site_dir: Path, *, sealed: bool = False) -> bytes:
    """A dead writer with a file."""
    writer = Writer.create(site_dir)
    (writer.directory / "journal-00000001.ljn").write_bytes(b"x")
    if sealed:
        writer.seal()
    writer.close()
    return writer.id


def test_a_living_writer_is_seen_and_never_adopted(tmp_path: Path) -> None:
    writer = Writer.create(tmp_path)
    assert len(writer.id) == 16
    assert writers(tmp_path) == [WriterState(writer.id, alive=True, sealed=False)]
    assert Writer.adopt(tmp_path, writer.id) is None
    assert Writer.create(tmp_path).id != writer.id
    writer.close()


def test_a_dead_one_is_adopted_once_at_a_time(tmp_path: Path) -> None:
    writer_id = leave(tmp_path)
    assert writers(tmp_path) == [WriterState(writer_id, alive=False, sealed=False)]
    adopted = Writer.adopt(tmp_path, writer_id)
    assert adopted is not None
    assert Writer.adopt(tmp_path, writer_id) is None
    adopted.seal()
    adopted.seal()
    adopted.close()
    adopted.close()
    assert writers(tmp_path) == [WriterState(writer_id, alive=False, sealed=True)]


def test_who_wrote_nothing_leaves_nothing_and_can_still_be_adopted(tmp_path: Path) -> None:
    writer = Writer.create(tmp_path)
    writer.close()
    assert os.listdir(tmp_path / "writers") == []
    adopted = Writer.adopt(tmp_path, writer.id)
    assert adopted is not None and adopted.directory.is_dir()
    adopted.close()


def test_a_look_does_not_keep_others_from_adopting(tmp_path: Path) -> None:
    writer_id = leave(tmp_path)
    for _ in range(20):
        assert not writers(tmp_path)[0].alive
        adopted = Writer.adopt(tmp_path, writer_id)
        assert adopted is not None
        adopted.close()


def test_the_lock_ends_with_its_process_and_is_not_inherited(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time\n"
        "from pathlib import Path\n"
        "from leadglass.site.writer import Writer\n"
        "writer = Writer.create(Path(sys.argv[1]))\n"
        "(writer.directory / 'keyring').write_bytes(b'x')\n"
        "child = subprocess.Popen(['sleep', '60'], close_fds=True)\n"
        "print(writer.id.hex(), child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name, child = process.stdout.readline().split()
        try:
            assert Writer.adopt(tmp_path, bytes.fromhex(name)) is None
            process.kill()
            process.wait()
            adopted = Writer.adopt(tmp_path, bytes.fromhex(name))
            assert adopted is not None, "the lock outlived its process"
            adopted.close()
        finally:
            os.kill(int(child), 9)


def test_other_names_are_no_writers(tmp_path: Path) -> None:
    for name in ("lost+found", "00", "g" * 32, "." + "0" * 32):
        (tmp_path / "writers" / name).mkdir(parents=True)
    assert writers(tmp_path) == []
    assert writers(tmp_path / "nowhere") == []


def test_a_place_that_takes_no_writer_is_named(tmp_path: Path) -> None:
    (tmp_path / "writers").write_text("not a directory")
    with pytest.raises(StoreFault, match="writers"):
        Writer.create(tmp_path)
