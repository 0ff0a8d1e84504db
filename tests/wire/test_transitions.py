"""Table 9-10: every cell is there or declared blank, and pynetdicom's copy says the same."""

from __future__ import annotations

import pytest
from pynetdicom.fsm import ACTIONS, TRANSITION_TABLE

from leadglass.wire.pdu import PduType
from leadglass.wire.transitions import (
    EFFECTS,
    NOT_ACCEPTABLE,
    TRANSITIONS,
    Action,
    CloseTransport,
    Evt,
    SendAbort,
    SendPDU,
    StartARTIM,
    State,
)

CELLS = [(evt, state) for evt in Evt for state in State]


def test_all_cells_are_declared() -> None:
    assert len(CELLS) == 19 * 13
    assert list(TRANSITIONS) == list(Evt)
    for row in TRANSITIONS.values():
        assert list(row) == list(State)


@pytest.mark.parametrize(("evt", "state"), CELLS)
def test_the_oracle_says_the_same(evt: Evt, state: State) -> None:
    cell = TRANSITIONS[evt][state]
    theirs = TRANSITION_TABLE.get((evt.name.capitalize(), state.name.capitalize()))
    assert (None if cell is None else cell.action.value) == theirs


@pytest.mark.parametrize(("evt", "state"), CELLS)
def test_the_next_state_is_the_action_s(evt: Evt, state: State) -> None:
    """Tables 9-6 to 9-9 give each action one next state, two to AE-6 and AR-8."""
    cell = TRANSITIONS[evt][state]
    if cell is None:
        return
    after = {
        other.next_state
        for row in TRANSITIONS.values()
        for other in row.values()
        if other and other.action is cell.action
    }
    assert after == {cell.next_state}
    assert cell.action.value in ACTIONS
    described = str(ACTIONS[cell.action.value][2])
    states = {cell.next_state} | ({cell.otherwise} if cell.otherwise else set())
    assert all(one.name.capitalize() in described for one in states), described


def test_two_cells_have_a_second_outcome() -> None:
    double = {(evt, state) for evt, state in CELLS if (cell := TRANSITIONS[evt][state]) and cell.otherwise}
    assert double == {(Evt.EVT6, State.STA2), (Evt.EVT12, State.STA7)}


def test_every_action_is_used_and_has_effects_declared() -> None:
    used = {cell.action for row in TRANSITIONS.values() for cell in row.values() if cell}
    assert used == set(Action) == set(EFFECTS)


def test_artim_runs_wherever_the_transport_should_close() -> None:
    """Sta13 waits for the peer's close: whatever enters it starts the timer or runs it on."""
    for evt, state in CELLS:
        cell = TRANSITIONS[evt][state]
        if cell is not None and cell.next_state is State.STA13 and state is not State.STA13:
            assert StartARTIM() in EFFECTS[cell.action], (evt, state)
    assert StartARTIM() in NOT_ACCEPTABLE
    assert SendPDU(PduType.ASSOCIATE_RJ) in NOT_ACCEPTABLE


def test_whoever_aborts_does_not_close_first() -> None:
    for effects in EFFECTS.values():
        assert not (CloseTransport() in effects and any(isinstance(effect, SendAbort) for effect in effects))
