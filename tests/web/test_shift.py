"""The bench's shift in its short form: what somebody does more because of the controls, counted; no time is asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.shift import shift

pytestmark = pytest.mark.xdist_group("shift")


def test_what_the_controls_ask_of_a_person_in_a_shift(tmp_path: Path) -> None:
    found = shift(tmp_path, studies=3, unlocks=1)
    assert found.attributed, "what the workstation was given stands under the name of whoever sits there"
    assert found.queued, "the broken glass waits for its review"
    (unlock,) = found.unlocks
    assert (unlock.clicks, unlock.keys, unlock.gestures) == (0, 1, 1), "one press, which asks for the one gesture"
    assert (found.glass.clicks, found.glass.keys, found.glass.gestures) == (2, 0, 0), "two presses"
    # the button of the sign-in page, to the workstation and back, the glass
    assert found.controlled.clicks - found.without.clicks == 1 + 3 + found.glass.clicks
    assert found.controlled.keys - found.without.keys == unlock.keys + found.glass.keys
    assert (found.controlled.gestures, found.without.gestures) == (2, 0)
