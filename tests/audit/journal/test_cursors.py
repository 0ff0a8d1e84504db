"""A cursor says where its reader stopped, durably."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leadglass.audit.journal.cursors import Cursor, Cursors
from leadglass.terms import JournalFault
from tests.audit.happened import Site, admitted


def test_they_come_back_and_never_change(tmp_path: Path) -> None:
    cursors = Cursors({b"a" * 16: Cursor(1, 500, 3)})
    cursors.save(tmp_path / "index.cursors")
    assert Cursors.load(tmp_path / "index.cursors") == cursors
    assert json.loads((tmp_path / "index.cursors").read_text()) == {"61" * 16: [1, 500, 3]}
    assert Cursors.load(tmp_path / "nowhere") == Cursors() and len(Cursors()) == 0
    for broken in ("", "[]", '{"zz": [1, 2, 3]}', '{"61": [1, 2]}'):
        (tmp_path / "index.cursors").write_text(broken)
        with pytest.raises(JournalFault, match="remove it"):
            _told(tmp_path / "index.cursors")


def _told(path: Path) -> None:
    try:
        Cursors.load(path)
    except JournalFault as fault:
        raise JournalFault(f"{fault} {fault.hint}") from fault


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    site = Site(tmp_path)
    processes = [site.process(), site.process()]
    cursors, seen = Cursors(), []
    for number in range(12):
        processes[number % 2].journal.append(admitted(number))
        read = list(site.reader.read(cursors))
        seen += [each.event.details["number"] for each in read]
        before, cursors = cursors, cursors.after(read)
        assert before != cursors
        cursors = Cursors.from_json(json.loads(json.dumps(cursors.to_json())))
    assert seen == list(range(12))
    for process in processes:
        process.end()
    assert list(site.reader.read(cursors)) == []
    assert site.reader.end() != Cursors() and list(site.reader.read(site.reader.end())) == []
