"""Steps run once, in order, all or nothing; a newer format and a changed step are refused in clear words."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from leadglass.site import format as site_format
from leadglass.site.format import migrate, read_format, write_format
from leadglass.site.migrations import Database, Migration, migrate_database, pending, script
from leadglass.terms import Fault

FIRST = script(1, "the first tables", "CREATE TABLE a(x); CREATE TABLE b(x)")
SECOND = script(2, "one more", "ALTER TABLE a ADD COLUMN y")


def columns(database: apsw.Connection, table: str) -> list[str]:
    return [str(row[1]) for row in database.execute(f"PRAGMA table_info({table})")]


def test_steps_run_once_and_in_order() -> None:
    database = apsw.Connection(":memory:")
    assert migrate_database("index", database, [FIRST]) == 1
    assert migrate_database("index", database, [FIRST]) == 0
    assert migrate_database("index", database, [FIRST, SECOND]) == 1
    assert columns(database, "a") == ["x", "y"] and columns(database, "b") == ["x"]
    assert database.pragma("user_version") == 2


def test_a_newer_one_is_refused_and_left_alone() -> None:
    database = apsw.Connection(":memory:")
    migrate_database("index", database, [FIRST, SECOND])
    with pytest.raises(Fault) as refused:
        migrate_database("index", database, [FIRST])
    assert str(refused.value) == (
        "this index was written by a newer Leadglass (format 2); this one knows up to 1: upgrade the program"
    )
    assert columns(database, "a") == ["x", "y"]


def test_a_step_that_was_changed_afterwards_is_refused() -> None:
    database = apsw.Connection(":memory:")
    migrate_database("index", database, [FIRST])
    for changed in (script(1, FIRST.name, FIRST.script + " "), script(1, "another name", FIRST.script)):
        with pytest.raises(Fault, match="step 1"):
            migrate_database("index", database, [changed, SECOND])
    assert columns(database, "a") == ["x"]


def test_a_step_that_fails_leaves_everything_as_it_was() -> None:
    def fails(database: Database) -> None:
        database.execute("CREATE TABLE c(x)")
        raise RuntimeError

    database = apsw.Connection(":memory:")
    migrate_database("index", database, [FIRST])
    with pytest.raises(RuntimeError):
        migrate_database("index", database, [FIRST, SECOND, Migration(3, "fails", fails)])
    assert columns(database, "a") == ["x"] and columns(database, "c") == []
    assert database.pragma("user_version") == 1
    assert migrate_database("index", database, [FIRST, SECOND]) == 1


def test_pending_names_what_is_left() -> None:
    assert pending("index", 1, [FIRST, SECOND]) == [SECOND]
    assert pending("index", 2, [FIRST, SECOND]) == []


# ---- the site's own layout


def test_a_new_site_is_current_and_an_old_one_becomes_so(tmp_path: Path) -> None:
    assert read_format(tmp_path) == 0
    assert migrate(tmp_path) == 1
    assert read_format(tmp_path) == site_format.CURRENT == 1
    assert migrate(tmp_path) == 0


def test_each_step_is_durable_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    broken = [True]

    def third(site_dir: Path) -> None:
        if broken:
            raise OSError("power cut")
        done.append(3)

    steps = (
        *site_format.MIGRATIONS,
        Migration(2, "second", lambda site_dir: done.append(2)),
        Migration(3, "third", third),
    )
    monkeypatch.setattr(site_format, "MIGRATIONS", steps)
    write_format(tmp_path, 1)
    with pytest.raises(OSError, match="power cut"):
        migrate(tmp_path)
    assert read_format(tmp_path) == 2
    broken.clear()
    assert migrate(tmp_path) == 1
    assert done == [2, 3]


def test_a_newer_site_is_refused_with_a_clear_word(tmp_path: Path) -> None:
    write_format(tmp_path, 7)
    with pytest.raises(Fault) as refused:
        migrate(tmp_path)
    assert str(refused.value) == (
        "this site was written by a newer Leadglass (format 7); this one knows up to 1: upgrade the program"
    )
    assert read_format(tmp_path) == 7


def test_a_damaged_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "format").write_text("leadglass site format one\n")
    with pytest.raises(Fault, match="damaged"):
        migrate(tmp_path)
