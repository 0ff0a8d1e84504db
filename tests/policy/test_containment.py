"""One small file, replaced atomically: the generation rises, nothing is lost between two editors, a damaged one is noticed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from leadglass.policy import containment
from leadglass.terms import Containment, Fault


def test_each_edit_raises_the_generation_and_is_read_back(tmp_path: Path) -> None:
    assert containment.read(tmp_path) == Containment()
    containment.replace(tmp_path, lambda state: containment.revoke(state, ["sha256:a"], "stolen"))
    containment.replace(tmp_path, lambda state: containment.disable(state, "CT1", "odd"))
    state = containment.read(tmp_path)
    assert (state.generation, state.revoked, state.disabled) == (2, {"sha256:a": "stolen"}, {"CT1": "odd"})
    containment.replace(tmp_path, lambda state: containment.enable(state, "CT1"))
    assert containment.read(tmp_path).disabled == {}


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


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', '{"format": 1, "surprise": 1}', "[]"])
def test_a_damaged_or_newer_state_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / containment.STATE_FILE).write_text(text)
    with pytest.raises(Fault):
        containment.read(tmp_path)
