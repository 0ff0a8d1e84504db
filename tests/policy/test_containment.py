"""One small file, replaced atomically: the generation rises, nothing is lost between two editors, a damaged one is noticed."""

from __future__ import annotations

import errno
import json
import threading
from dataclasses import asdict
from pathlib import Path

import pytest

from leadglass.policy import containment
from leadglass.terms import Change, ChangeKind, Containment, Fault, Operator


def test_each_edit_raises_the_generation_and_is_read_back(tmp_path: Path) -> None:
    assert containment.read(tmp_path) == Containment()
    containment.replace(tmp_path, lambda state: containment.revoke(state, ["sha256:a"], "stolen"))
    containment.replace(tmp_path, lambda state: containment.disable(state, "CT1", "odd"))
    state = containment.read(tmp_path)
    assert (state.generation, state.revoked, state.disabled) == (2, {"sha256:a": "stolen"}, {"CT1": "odd"})
    containment.replace(tmp_path, lambda state: containment.enable(state, "CT1"))
    assert containment.read(tmp_path).disabled == {}


def test_what_an_older_program_wrote_is_read_and_written_on(tmp_path: Path) -> None:
    old = {
        "format": 1,
        "generation": 4,
        "revoked": {},
        "superseded": {},
        "disabled": {"CT1": "odd"},
        "read_only": "",
        "applied": "x",
    }
    (tmp_path / containment.STATE_FILE).parent.mkdir()
    (tmp_path / containment.STATE_FILE).write_text(json.dumps(old))
    containment.replace(tmp_path, lambda state: containment.contain_zone(state, "guest", "a worm"))
    state = containment.read(tmp_path)
    assert (state.generation, state.disabled, state.zones) == (5, {"CT1": "odd"}, {"guest": "a worm"})
    containment.replace(tmp_path, lambda state: containment.release_zone(state, "guest"))
    assert containment.read(tmp_path).zones == {}


HOUR = 3600 * 1_000_000_000


def test_who_contained_takes_it_back_within_an_hour_and_nobody_else_does(tmp_path: Path) -> None:
    guard, other = Operator(1, "guard"), Operator(2, "other")

    def taken_back(by: Operator, now_ns: int) -> bool:
        order = Change("1", by, ChangeKind.ZONE_RELEASE, "ward", {})
        return containment.own_and_fresh(containment.read(tmp_path), order, now_ns)

    assert not taken_back(guard, HOUR), "nothing is contained"
    containment.replace(tmp_path, lambda state: containment.contain_zone(state, "ward", "odd", guard.actor, HOUR))
    assert taken_back(guard, HOUR) and taken_back(guard, 2 * HOUR - 1)
    assert not taken_back(guard, 2 * HOUR) and not taken_back(guard, HOUR - 1) and not taken_back(other, HOUR)
    containment.replace(tmp_path, lambda state: containment.contain_zone(state, "ward", "odder", guard.actor, 2 * HOUR))
    assert not taken_back(guard, 2 * HOUR), "it was contained an hour before"
    containment.replace(tmp_path, lambda state: containment.contain_zone(state, "ward", "mine", other.actor, 2 * HOUR))
    assert not taken_back(other, 2 * HOUR) and not taken_back(guard, HOUR), "containing it again is no way to let it in"
    containment.replace(tmp_path, lambda state: containment.release_zone(state, "ward"))
    assert containment.read(tmp_path).begun == {}


def test_what_was_contained_before_anybody_noted_by_whom_is_nobodys_to_take_back(tmp_path: Path) -> None:
    old = {"format": 2, **asdict(Containment(zones={"ward": "odd"}))}
    del old["begun"]
    (tmp_path / containment.STATE_FILE).parent.mkdir()
    (tmp_path / containment.STATE_FILE).write_text(json.dumps(old))
    containment.replace(tmp_path, lambda state: containment.contain_zone(state, "ward", "odd", "uid:1", HOUR))
    order = Change("1", Operator(1, "guard"), ChangeKind.ZONE_RELEASE, "ward", {})
    assert not containment.own_and_fresh(containment.read(tmp_path), order, HOUR)


@pytest.mark.parametrize("begun", [[], "x", {"site": 1}, {"site": {"by": 1, "at_ns": 2}}, {"site": {"by": "uid:1"}}])
def test_a_state_that_does_not_say_who_and_when_is_damaged(tmp_path: Path, begun: object) -> None:
    containment.replace(tmp_path, lambda state: containment.read_only(state, "ransomware", "uid:1", HOUR))
    told = json.loads((tmp_path / containment.STATE_FILE).read_text())
    (tmp_path / containment.STATE_FILE).write_text(json.dumps({**told, "begun": begun}))
    with pytest.raises(Fault, match="damaged"):
        containment.read(tmp_path)


def test_editors_at_once_lose_nothing(tmp_path: Path) -> None:
    def revoke(name: str) -> None:
        for number in range(20):
            fingerprint = f"{name}{number}"
            containment.replace(tmp_path, lambda state, mine=fingerprint: containment.revoke(state, [mine], "x"))

    threads = [threading.Thread(target=revoke, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = containment.read(tmp_path)
    assert (state.generation, len(state.revoked)) == (60, 60)


def test_the_watch_sees_a_change_and_keeps_the_last_known_state(tmp_path: Path) -> None:
    now = [0.0]
    watch = containment.Watch(tmp_path, lambda: now[0])
    assert watch.current().generation == 0 and not watch.unreadable
    containment.replace(tmp_path, lambda state: state)
    assert watch.current().generation == 0, "not looked at yet"
    now[0] += 0.2
    assert watch.current().generation == 1
    (tmp_path / containment.STATE_FILE).write_text("{")
    now[0] += 0.2
    assert watch.current().generation == 1 and watch.unreadable
    (tmp_path / containment.STATE_FILE).unlink()
    now[0] += 0.2
    assert watch.current().generation == 1 and watch.unreadable


def test_what_is_decided_seldom_does_not_wait_for_the_next_look(tmp_path: Path) -> None:
    watch = containment.Watch(tmp_path, lambda: 0.0)
    assert watch.current().read_only == ""
    containment.replace(tmp_path, lambda state: containment.read_only(state, "ransomware suspected"))
    assert watch.current().read_only == "", "a look every 0.2 s"
    assert watch.at_once().read_only == watch.current().read_only == "ransomware suspected"


def test_a_process_that_starts_on_a_damaged_state_knows_the_last_one(tmp_path: Path) -> None:
    containment.replace(tmp_path, lambda state: containment.revoke(state, ["sha256:a"], "stolen"))
    for damage in ("{", None):
        if damage is None:
            (tmp_path / containment.STATE_FILE).unlink()
        else:
            (tmp_path / containment.STATE_FILE).write_text(damage)
        watch = containment.Watch(tmp_path)
        assert watch.current().revoked == {"sha256:a": "stolen"} and watch.unreadable
    (tmp_path / containment.STATE_FILE).write_bytes((tmp_path / containment.COPY_FILE).read_bytes())
    watch = containment.Watch(tmp_path)
    assert watch.current().revoked == {"sha256:a": "stolen"} and not watch.unreadable


EMPTY = (
    '{"format": 1, "generation": 3, "revoked": {}, "superseded": {}, "disabled": {}, "read_only": "", "applied": ""}'
)


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", '{"format": 2}', '{"format": 1}', '{"format": true}', "[]", "[" * 100_000, "\udcff", "null",
        EMPTY.replace("}", ', "surprise": 1}'),
        EMPTY.replace('"generation": 3', '"generation": "3"'),
        EMPTY.replace('"generation": 3', '"generation": -1'),
        EMPTY.replace('"generation": 3', '"generation": 3.5'),
        EMPTY.replace('"revoked": {}', '"revoked": []'),
        EMPTY.replace('"revoked": {}', '"revoked": {"sha256:a": 1}'),
        EMPTY.replace('"disabled": {}', '"disabled": null'),
        EMPTY.replace('"read_only": ""', '"read_only": false'),
    ],
    ids=lambda text: text[:60],
)  # fmt: skip
def test_a_damaged_or_newer_state_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / containment.STATE_FILE).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(Fault):
        containment.read(tmp_path)
    with pytest.raises(Fault):
        containment.replace(tmp_path, lambda state: state)
    watch = containment.Watch(tmp_path)
    assert (watch.current(), watch.unreadable) == (Containment(), True)


def test_the_plainest_state_is_read(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / containment.STATE_FILE).write_text(EMPTY)
    assert containment.read(tmp_path) == Containment(generation=3)


def test_a_state_that_is_gone_is_not_an_empty_one(tmp_path: Path) -> None:
    """Removing the file must not give a revoked device its certificate back, not even after a restart."""
    containment.replace(tmp_path, lambda state: containment.revoke(state, ["sha256:a"], "stolen"))
    (tmp_path / containment.STATE_FILE).unlink()
    with pytest.raises(Fault, match="is gone"):
        containment.read(tmp_path)
    with pytest.raises(Fault, match="is gone"):
        containment.replace(tmp_path, lambda state: containment.enable(state, "CT1"))
    watch = containment.Watch(tmp_path)
    watch.current()
    assert watch.unreadable


def test_a_state_that_goes_back_is_not_believed(tmp_path: Path) -> None:
    now = [0.0]
    watch = containment.Watch(tmp_path, lambda: now[0])
    containment.replace(tmp_path, lambda state: state)
    old = (tmp_path / containment.STATE_FILE).read_text()
    containment.replace(tmp_path, lambda state: containment.revoke(state, ["sha256:a"], "stolen"))
    assert watch.current().revoked == {"sha256:a": "stolen"}
    (tmp_path / containment.STATE_FILE).write_text(old)
    now[0] += 0.2
    assert watch.current().revoked == {"sha256:a": "stolen"} and watch.unreadable
    containment.replace(tmp_path, lambda state: containment.revoke(state, ["sha256:b"], "lost"))
    now[0] += 0.2
    assert watch.current().revoked == {"sha256:b": "lost"} and not watch.unreadable


def test_a_failing_edit_changes_nothing(tmp_path: Path) -> None:
    containment.replace(tmp_path, lambda state: containment.disable(state, "CT1", "odd"))

    def fail(state: Containment) -> Containment:
        raise Fault("no")

    with pytest.raises(Fault, match="no"):
        containment.replace(tmp_path, fail)
    assert containment.read(tmp_path).generation == 1
    assert [path.name for path in (tmp_path / "state").iterdir() if path.suffix == ".part"] == []


def test_a_state_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a directory")
    with pytest.raises(Fault, match="cannot be written"):
        containment.replace(tmp_path, lambda state: state)


def test_where_the_disk_is_full_it_contains_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    containment.replace(tmp_path, lambda state: containment.disable(state, "CT1", "odd"))
    known, full = containment._fill, OSError(errno.ENOSPC, "No space left on device")

    def fill(path: Path, mode: str, content: bytes) -> None:
        if mode == "wb":
            raise full
        known(path, mode, content)

    def no_room(descriptor: int, offset: int, length: int) -> None:
        raise full

    with monkeypatch.context() as patched:
        patched.setattr(containment, "_fill", fill)
        patched.setattr(containment.os, "posix_fallocate", no_room)
        containment.replace(tmp_path, lambda state: containment.contain_zone(state, "ward", "a worm"))
        assert containment.read(tmp_path).zones == {"ward": "a worm"}
        assert (tmp_path / containment.COPY_FILE).read_bytes() == (tmp_path / containment.STATE_FILE).read_bytes()
        with pytest.raises(Fault, match="cannot be written"):
            containment.replace(
                tmp_path, lambda state: containment.disable(state, "CT2", "x" * containment.SPARE_LENGTH_BYTES)
            )
        assert containment.read(tmp_path).generation == 2, "what held, holds"
    containment.replace(tmp_path, lambda state: containment.release_zone(state, "ward"))
    assert containment.read(tmp_path).zones == {}
    spares = [each for each in (tmp_path / containment.STATE_FILE).parent.iterdir() if each.suffix == ".spare"]
    assert len(spares) == 2 and all(each.stat().st_size == containment.SPARE_LENGTH_BYTES for each in spares)
