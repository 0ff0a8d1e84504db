"""Which action follows which event in which state? PS3.8 Table 9-10, row for row, and nothing else.

A cell reads `action>next state`; `.` is a cell that the Standard leaves blank. Two cells have a second outcome behind the slash: AE-6 when
the request is not acceptable, AR-8 when we are the association acceptor. An action is a tuple of effects (Tables 9-6 to 9-9) that
`association.py` carries out; nothing here touches bytes, time or a transport.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from leadglass.wire.pdu import PduType


class Role(Enum):
    """Which side of the association we are (PS3.8 3.4)."""

    REQUESTOR = "requestor"
    ACCEPTOR = "acceptor"


class State(Enum):
    """The states of Tables 9-1 to 9-5."""

    STA1 = "Idle"
    STA2 = "Transport connection open, awaiting A-ASSOCIATE-RQ"
    STA3 = "Awaiting local A-ASSOCIATE response"
    STA4 = "Awaiting transport connection opening"
    STA5 = "Awaiting A-ASSOCIATE-AC or A-ASSOCIATE-RJ"
    STA6 = "Association established, ready for data transfer"
    STA7 = "Awaiting A-RELEASE-RP"
    STA8 = "Awaiting local A-RELEASE response"
    STA9 = "Release collision requestor, awaiting local A-RELEASE response"
    STA10 = "Release collision acceptor, awaiting A-RELEASE-RP"
    STA11 = "Release collision requestor, awaiting A-RELEASE-RP"
    STA12 = "Release collision acceptor, awaiting local A-RELEASE response"
    STA13 = "Awaiting transport connection close"


class Evt(Enum):
    """The events of Table 9-10, in its order."""

    EVT1 = "A-ASSOCIATE request (local user)"
    EVT2 = "Transport connection confirmed"
    EVT3 = "A-ASSOCIATE-AC received"
    EVT4 = "A-ASSOCIATE-RJ received"
    EVT5 = "Transport connection indication"
    EVT6 = "A-ASSOCIATE-RQ received"
    EVT7 = "A-ASSOCIATE response, accept (local user)"
    EVT8 = "A-ASSOCIATE response, reject (local user)"
    EVT9 = "P-DATA request (local user)"
    EVT10 = "P-DATA-TF received"
    EVT11 = "A-RELEASE request (local user)"
    EVT12 = "A-RELEASE-RQ received"
    EVT13 = "A-RELEASE-RP received"
    EVT14 = "A-RELEASE response (local user)"
    EVT15 = "A-ABORT request (local user)"
    EVT16 = "A-ABORT received"
    EVT17 = "Transport connection closed"
    EVT18 = "ARTIM timer expired"
    EVT19 = "Unrecognized or invalid PDU received"


class Indication(Enum):
    """What the service user hears (PS3.8 7)."""

    A_ASSOCIATE = "A-ASSOCIATE indication"
    A_ASSOCIATE_ACCEPTED = "A-ASSOCIATE confirmation (accept)"
    A_ASSOCIATE_REJECTED = "A-ASSOCIATE confirmation (reject)"
    P_DATA = "P-DATA indication"
    A_RELEASE = "A-RELEASE indication"
    A_RELEASE_CONFIRMED = "A-RELEASE confirmation"
    A_ABORT = "A-ABORT or A-P-ABORT indication"
    A_P_ABORT = "A-P-ABORT indication"


EVENT_OF_PDU: Mapping[int, Evt] = MappingProxyType(
    {
        PduType.ASSOCIATE_AC: Evt.EVT3,
        PduType.ASSOCIATE_RJ: Evt.EVT4,
        PduType.ASSOCIATE_RQ: Evt.EVT6,
        PduType.P_DATA_TF: Evt.EVT10,
        PduType.RELEASE_RQ: Evt.EVT12,
        PduType.RELEASE_RP: Evt.EVT13,
        PduType.ABORT: Evt.EVT16,
    }
)


@dataclass(frozen=True, slots=True)
class OpenTransport:
    """Issue a transport connect request."""


@dataclass(frozen=True, slots=True)
class CloseTransport:
    """Close the transport connection."""


@dataclass(frozen=True, slots=True)
class StartARTIM:
    """Start the timer, or start it again."""


@dataclass(frozen=True, slots=True)
class StopARTIM:
    """Stop the timer where it runs."""


@dataclass(frozen=True, slots=True)
class SendPDU:
    """Send a PDU of this type."""

    kind: PduType


@dataclass(frozen=True, slots=True)
class SendAbort:
    """Send an A-ABORT: source 0 is the service-user, 2 the service-provider (PS3.8 9.3.8)."""

    source: int


@dataclass(frozen=True, slots=True)
class Indicate:
    """Tell the service user."""

    what: Indication


Effect = OpenTransport | CloseTransport | StartARTIM | StopARTIM | SendPDU | SendAbort | Indicate


class Action(Enum):
    """The actions of Tables 9-6 to 9-9; `EFFECTS` says what each does."""

    AE_1 = "AE-1"
    AE_2 = "AE-2"
    AE_3 = "AE-3"
    AE_4 = "AE-4"
    AE_5 = "AE-5"
    AE_6 = "AE-6"
    AE_7 = "AE-7"
    AE_8 = "AE-8"
    DT_1 = "DT-1"
    DT_2 = "DT-2"
    AR_1 = "AR-1"
    AR_2 = "AR-2"
    AR_3 = "AR-3"
    AR_4 = "AR-4"
    AR_5 = "AR-5"
    AR_6 = "AR-6"
    AR_7 = "AR-7"
    AR_8 = "AR-8"
    AR_9 = "AR-9"
    AR_10 = "AR-10"
    AA_1 = "AA-1"
    AA_2 = "AA-2"
    AA_3 = "AA-3"
    AA_4 = "AA-4"
    AA_5 = "AA-5"
    AA_6 = "AA-6"
    AA_7 = "AA-7"
    AA_8 = "AA-8"


EFFECTS: Mapping[Action, tuple[Effect, ...]] = MappingProxyType(
    {
        # Table 9-6, association establishment
        Action.AE_1: (OpenTransport(),),
        Action.AE_2: (SendPDU(PduType.ASSOCIATE_RQ),),
        Action.AE_3: (Indicate(Indication.A_ASSOCIATE_ACCEPTED),),
        Action.AE_4: (Indicate(Indication.A_ASSOCIATE_REJECTED), CloseTransport()),
        Action.AE_5: (StartARTIM(),),
        Action.AE_6: (StopARTIM(), Indicate(Indication.A_ASSOCIATE)),
        Action.AE_7: (SendPDU(PduType.ASSOCIATE_AC),),
        Action.AE_8: (SendPDU(PduType.ASSOCIATE_RJ), StartARTIM()),
        # Table 9-7, data transfer
        Action.DT_1: (SendPDU(PduType.P_DATA_TF),),
        Action.DT_2: (Indicate(Indication.P_DATA),),
        # Table 9-8, release
        Action.AR_1: (SendPDU(PduType.RELEASE_RQ),),
        Action.AR_2: (Indicate(Indication.A_RELEASE),),
        Action.AR_3: (Indicate(Indication.A_RELEASE_CONFIRMED), CloseTransport()),
        Action.AR_4: (SendPDU(PduType.RELEASE_RP), StartARTIM()),
        Action.AR_5: (StopARTIM(),),
        Action.AR_6: (Indicate(Indication.P_DATA),),
        Action.AR_7: (SendPDU(PduType.P_DATA_TF),),
        Action.AR_8: (Indicate(Indication.A_RELEASE),),
        Action.AR_9: (SendPDU(PduType.RELEASE_RP),),
        Action.AR_10: (Indicate(Indication.A_RELEASE_CONFIRMED),),
        # Table 9-9, abort
        Action.AA_1: (SendAbort(source=0), StartARTIM()),
        Action.AA_2: (StopARTIM(), CloseTransport()),
        Action.AA_3: (Indicate(Indication.A_ABORT), CloseTransport()),
        Action.AA_4: (Indicate(Indication.A_P_ABORT),),
        Action.AA_5: (StopARTIM(),),
        Action.AA_6: (),
        Action.AA_7: (SendAbort(source=2),),
        Action.AA_8: (SendAbort(source=2), Indicate(Indication.A_P_ABORT), StartARTIM()),
    }
)
NOT_ACCEPTABLE: tuple[Effect, ...] = (StopARTIM(), SendPDU(PduType.ASSOCIATE_RJ), StartARTIM())  # AE-6, otherwise


@dataclass(frozen=True, slots=True)
class Cell:
    """An action and the state after it; `otherwise` is the second outcome's state where there is one."""

    action: Action
    next_state: State
    otherwise: State | None = None


# fmt: off
_TABLE = """
        Sta1    Sta2       Sta3     Sta4    Sta5     Sta6     Sta7       Sta8     Sta9     Sta10     Sta11    Sta12    Sta13
Evt1    AE-1>4  .          .        .       .        .        .          .        .        .         .        .        .
Evt2    .       .          .        AE-2>5  .        .        .          .        .        .         .        .        .
Evt3    .       AA-1>13    AA-8>13  .       AE-3>6   AA-8>13  AA-8>13    AA-8>13  AA-8>13  AA-8>13   AA-8>13  AA-8>13  AA-6>13
Evt4    .       AA-1>13    AA-8>13  .       AE-4>1   AA-8>13  AA-8>13    AA-8>13  AA-8>13  AA-8>13   AA-8>13  AA-8>13  AA-6>13
Evt5    AE-5>2  .          .        .       .        .        .          .        .        .         .        .        .
Evt6    .       AE-6>3/13  AA-8>13  .       AA-8>13  AA-8>13  AA-8>13    AA-8>13  AA-8>13  AA-8>13   AA-8>13  AA-8>13  AA-7>13
Evt7    .       .          AE-7>6   .       .        .        .          .        .        .         .        .        .
Evt8    .       .          AE-8>13  .       .        .        .          .        .        .         .        .        .
Evt9    .       .          .        .       .        DT-1>6   .          AR-7>8   .        .         .        .        .
Evt10   .       AA-1>13    AA-8>13  .       AA-8>13  DT-2>6   AR-6>7     AA-8>13  AA-8>13  AA-8>13   AA-8>13  AA-8>13  AA-6>13
Evt11   .       .          .        .       .        AR-1>7   .          .        .        .         .        .        .
Evt12   .       AA-1>13    AA-8>13  .       AA-8>13  AR-2>8   AR-8>9/10  AA-8>13  AA-8>13  AA-8>13   AA-8>13  AA-8>13  AA-6>13
Evt13   .       AA-1>13    AA-8>13  .       AA-8>13  AA-8>13  AR-3>1     AA-8>13  AA-8>13  AR-10>12  AR-3>1   AA-8>13  AA-6>13
Evt14   .       .          .        .       .        .        .          AR-4>13  AR-9>11  .         .        AR-4>13  .
Evt15   .       .          AA-1>13  AA-2>1  AA-1>13  AA-1>13  AA-1>13    AA-1>13  AA-1>13  AA-1>13   AA-1>13  AA-1>13  .
Evt16   .       AA-2>1     AA-3>1   .       AA-3>1   AA-3>1   AA-3>1     AA-3>1   AA-3>1   AA-3>1    AA-3>1   AA-3>1   AA-2>1
Evt17   .       AA-5>1     AA-4>1   AA-4>1  AA-4>1   AA-4>1   AA-4>1     AA-4>1   AA-4>1   AA-4>1    AA-4>1   AA-4>1   AR-5>1
Evt18   .       AA-2>1     .        .       .        .        .          .        .        .         .        .        AA-2>1
Evt19   .       AA-1>13    AA-8>13  .       AA-8>13  AA-8>13  AA-8>13    AA-8>13  AA-8>13  AA-8>13   AA-8>13  AA-8>13  AA-7>13
"""
# fmt: on


def _read_cell(text: str) -> Cell | None:
    if text == ".":
        return None
    action, _, states = text.partition(">")
    first, _, second = states.partition("/")
    return Cell(Action(action), State[f"STA{first}"], State[f"STA{second}"] if second else None)


def _read_table(text: str) -> Mapping[Evt, Mapping[State, Cell | None]]:
    head, *rows = (line.split() for line in text.strip().splitlines())
    states = [State[name.upper()] for name in head]
    table = {
        Evt[name.upper()]: MappingProxyType(dict(zip(states, map(_read_cell, cells), strict=True)))
        for name, *cells in rows
    }
    return MappingProxyType(table)


TRANSITIONS: Mapping[Evt, Mapping[State, Cell | None]] = _read_table(_TABLE)
