"""Every cell of Table 9-10, walked: an association is brought into the state, the event happens, and what follows is what the table says.

The table itself is held against another implementation's in `test_transitions.py`. Here the machine is held against the table.
"""

from __future__ import annotations

import pytest

from leadglass.wire.association import Association, DataFragment, Role, State
from leadglass.wire.errors import LocalProtocolError, RemoteProtocolError
from leadglass.wire.limits import AssociationLimits
from leadglass.wire.pdu import (
    Abort,
    AssociateRJ,
    PData,
    PduType,
    PresentationDataValue,
    ReleaseRP,
    ReleaseRQ,
    encode,
)
from leadglass.wire.transitions import EFFECTS, TRANSITIONS, Action, CloseTransport, Evt, SendAbort, SendPDU
from tests.wire.test_association import RQ, answer, feed

LIMITS = AssociationLimits()
DATA = PData((PresentationDataValue(1, True, True, b"abcd"),))
RECEIVED = {
    Evt.EVT3: encode(answer()),
    Evt.EVT4: encode(AssociateRJ(1, 1, 1)),
    Evt.EVT6: encode(RQ),
    Evt.EVT10: encode(DATA),
    Evt.EVT12: encode(ReleaseRQ()),
    Evt.EVT13: encode(ReleaseRP()),
    Evt.EVT16: encode(Abort(0, 0)),
    Evt.EVT19: b"\x08\0\0\0\0\0",
}
SAID = {
    Evt.EVT1: RQ,
    Evt.EVT7: answer(),
    Evt.EVT8: AssociateRJ(1, 1, 1),
    Evt.EVT11: ReleaseRQ(),
    Evt.EVT14: ReleaseRP(),
    Evt.EVT15: Abort(0, 0),
}
# How an association comes into a state: what we say and what we hear, one after the other
ESTABLISHED = {Role.ACCEPTOR: (Evt.EVT6, Evt.EVT7), Role.REQUESTOR: (Evt.EVT1, Evt.EVT3)}
WAYS = {
    State.STA1: (Role.REQUESTOR, ()),
    State.STA2: (Role.ACCEPTOR, ()),
    State.STA3: (Role.ACCEPTOR, (Evt.EVT6,)),
    State.STA5: (Role.REQUESTOR, (Evt.EVT1,)),
    State.STA6: (Role.ACCEPTOR, ESTABLISHED[Role.ACCEPTOR]),
    State.STA7: (Role.REQUESTOR, (*ESTABLISHED[Role.REQUESTOR], Evt.EVT11)),
    State.STA8: (Role.ACCEPTOR, (*ESTABLISHED[Role.ACCEPTOR], Evt.EVT12)),
    State.STA9: (Role.REQUESTOR, (*ESTABLISHED[Role.REQUESTOR], Evt.EVT11, Evt.EVT12)),
    State.STA10: (Role.ACCEPTOR, (*ESTABLISHED[Role.ACCEPTOR], Evt.EVT11, Evt.EVT12)),
    State.STA11: (Role.REQUESTOR, (*ESTABLISHED[Role.REQUESTOR], Evt.EVT11, Evt.EVT12, Evt.EVT14)),
    State.STA12: (Role.ACCEPTOR, (*ESTABLISHED[Role.ACCEPTOR], Evt.EVT11, Evt.EVT12, Evt.EVT13)),
    State.STA13: (Role.ACCEPTOR, (*ESTABLISHED[Role.ACCEPTOR], Evt.EVT15)),
}
CELLS = [(evt, state) for evt in Evt for state in State]
BLANK = [(evt, state) for evt, state in CELLS if not TRANSITIONS[evt][state]]
# Nothing can be heard before the transport is open, and no shell comes to read there: these stay blank by having no way in.
UNHEARD = [(evt, State.STA4) for evt in RECEIVED]


def brought_into(state: State) -> Association:
    if state is State.STA4:  # between the two halves of what a shell says at once, for its transport is open already
        association = Association(Role.REQUESTOR, LIMITS, 0.0)
        association._take(Evt.EVT1)
    else:
        role, way = WAYS[state]
        association = Association(role, LIMITS, 0.0)
        for evt in way:
            happens(association, evt)
    assert association.state is state
    association.data_to_send()
    return association


def happens(association: Association, evt: Evt) -> None:
    if evt in RECEIVED:
        feed(association, RECEIVED[evt])
    elif evt in SAID:
        association.send(SAID[evt])  # type: ignore[arg-type]
    elif evt is Evt.EVT9:
        association.send_data(1, True, b"abcd", True)
    elif evt is Evt.EVT17:
        association.receive_eof(1.0)
    elif evt is Evt.EVT18:
        association.expire(1_000_000.0)
    else:
        association._take(evt, RQ if evt is Evt.EVT2 else None)


def kinds(association: Association) -> list[int]:
    """The types of the PDUs that were queued."""
    data, found = b"".join(association.data_to_send()), []
    while data:
        found.append(data[0])
        data = data[6 + int.from_bytes(data[2:6], "big") :]
    return found


def due(action: Action) -> list[int]:
    sent = [each for each in EFFECTS[action] if isinstance(each, SendPDU | SendAbort)]
    return [each.kind if isinstance(each, SendPDU) else PduType.ABORT for each in sent]


@pytest.mark.parametrize(("evt", "state"), [(evt, state) for evt, state in CELLS if TRANSITIONS[evt][state]])
def test_a_cell(evt: Evt, state: State) -> None:
    cell, association = TRANSITIONS[evt][state], brought_into(state)
    assert cell is not None
    refuses = evt is Evt.EVT19 or (evt in RECEIVED and cell.action in (Action.AA_1, Action.AA_8))
    was_closing = association.close_due
    try:
        happens(association, evt)
    except RemoteProtocolError:
        assert refuses, "refused, and the table does not say so"
    else:
        assert not refuses, "the table has it refused"
    if (evt, state) == (Evt.EVT1, State.STA1):  # the shell's transport is open already: the second half follows at once
        after = TRANSITIONS[Evt.EVT2][cell.next_state]
        assert after is not None
        cell = after
    second = association.role is Role.ACCEPTOR and cell.action is Action.AR_8
    assert association.state is (cell.otherwise if second else cell.next_state)
    assert kinds(association) == due(cell.action)
    assert association.close_due is (was_closing or CloseTransport() in EFFECTS[cell.action])


@pytest.mark.parametrize(("evt", "state"), [cell for cell in BLANK if cell not in UNHEARD])
def test_a_blank_cell(evt: Evt, state: State) -> None:
    """What we cannot say there is a defect of the caller; what cannot be heard there is not heard. Two are not worth an error: to abort
    what is not there, and a clock that moves while no timer runs."""
    association = brought_into(state)
    if evt in RECEIVED or evt in (Evt.EVT15, Evt.EVT17, Evt.EVT18):
        happens(association, evt)
    else:
        with pytest.raises(LocalProtocolError):
            happens(association, evt)
    assert association.state is state
    assert kinds(association) == []


def test_what_cannot_be_heard_is_blank() -> None:
    assert set(UNHEARD) <= set(BLANK)


def test_a_collision_in_the_other_role() -> None:
    """AR-8 has two outcomes: the requestor answers first, the acceptor waits for that."""
    for role, after in ((Role.REQUESTOR, State.STA9), (Role.ACCEPTOR, State.STA10)):
        association = Association(role, LIMITS, 0.0)
        for evt in (*ESTABLISHED[role], Evt.EVT11, Evt.EVT12):
            happens(association, evt)
        assert association.state is after


def test_a_request_that_is_not_acceptable_is_the_second_outcome_of_ae_6() -> None:
    association = brought_into(State.STA2)
    wrong = RECEIVED[Evt.EVT6].replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.2")
    with pytest.raises(RemoteProtocolError):
        feed(association, wrong)
    assert association.state is State.STA13 and kinds(association) == [PduType.ASSOCIATE_RJ]


def test_data_is_heard_where_the_table_indicates_it() -> None:
    """DT-2 and AR-6 hand it out, AA-6 does not."""
    for state in (State.STA6, State.STA7):
        (event,) = feed(brought_into(state), RECEIVED[Evt.EVT10])
        assert isinstance(event, DataFragment) and bytes(event.data) == b"abcd"
    assert feed(brought_into(State.STA13), RECEIVED[Evt.EVT10]) == []
