"""A call ends in time, and those that hang leave room neither forever nor for ever more of them."""

from __future__ import annotations

import threading

import pytest

from leadglass.identity.people.deadline import CALLS_MAX, Deadline
from leadglass.terms import NotIdentified, UpstreamFault


def test_what_a_call_returns_and_raises_comes_through() -> None:
    deadline = Deadline("it", 60)
    assert deadline.within(lambda: 7) == 7
    with pytest.raises(NotIdentified, match="no"):
        deadline.within(lambda: (_ for _ in ()).throw(NotIdentified("no")))


def test_calls_that_hang_are_given_up_and_bounded() -> None:
    deadline, over = Deadline("it", 0.01), threading.Event()
    for _ in range(CALLS_MAX):
        with pytest.raises(UpstreamFault, match="has not answered"):
            deadline.within(over.wait)
    with pytest.raises(UpstreamFault, match="wait for an answer"):
        deadline.within(over.wait)
    over.set()
    patient = threading.Event()
    for _ in range(1000):
        try:
            assert deadline.within(lambda: 7) == 7
            break
        except UpstreamFault:
            patient.wait(0.01)
    else:
        pytest.fail("the room never came back")
