"""What a process gives back of what is free in its heaps, seen from outside it: a process of its own, with the C library as it is."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys

import pytest

from leadglass.doors.processes.memory import GIVEN_BACK_EVERY_SECONDS, FreeMemory

# Pieces of 1,000 bytes, of which every fiftieth stays: nothing lies free at the heap's end, nearly all of it in between.
IN_PIECES = """
import json, pathlib
from leadglass.doors.processes.memory import FreeMemory

def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096

now = [0.0]
free = FreeMemory(lambda: now[0])
held = [b"%1000d" % number for number in range(100_000)]
full = resident()
kept = held[::50]
del held
left = resident()
early = free.give_back()
now[0] = 11.0
late = free.give_back()
print(json.dumps([full, left, resident(), early, late]))
assert all(int(each) == 50 * number for number, each in enumerate(kept))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library gives back by itself")
def test_free_pages_between_what_is_used_go_back() -> None:
    done = subprocess.run([sys.executable, "-c", IN_PIECES], capture_output=True, text=True, check=True, timeout=60)
    full, left, after, early, late = json.loads(done.stdout)
    assert full - left < 20 << 20, "the C library gives it back by itself: this module is needed no more"
    assert (early, late) == (False, True)
    assert left - after > 60 << 20


def test_it_is_done_once_in_a_while_and_not_at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [0.0], list[int]()
    free = FreeMemory(lambda: now[0])
    monkeypatch.setattr(free, "_trim", lambda pad: asked.append(pad) or 1)
    for _ in range(1_000):
        now[0] += GIVEN_BACK_EVERY_SECONDS / 100
        free.give_back()
    assert len(asked) in (9, 10)


def test_where_the_c_library_has_no_such_call_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    free = FreeMemory(lambda: 1_000.0)
    monkeypatch.setattr(free, "_trim", None)
    assert not free.give_back()
