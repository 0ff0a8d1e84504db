"""What does a peer hear when we say no? One table: a row per refusal, a column per door.

The peer hears the row and nothing else; the reason in words is the operator's and stays in the event. What a row says about *why* is what
the Standard's own codes say: an outsider learns from an A-ASSOCIATE-RJ neither which devices exist nor which of certificate, AE title and
network was wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from leadglass.archive.read import Corrupted
from leadglass.archive.segments import Unsure
from leadglass.identity.people.guesses import Slowed
from leadglass.identity.people.passwords import Unsuitable
from leadglass.identity.people.sessions import Locked
from leadglass.policy.evaluation import PolicyFault
from leadglass.policy.studies import UnknownResidual
from leadglass.site.document import SiteInvalid
from leadglass.site.register import Taken
from leadglass.terms import (
    Conflicting,
    Contained,
    Erased,
    Fault,
    Harmful,
    JournalFault,
    KeyFault,
    Malformed,
    Mismatched,
    NotChanged,
    NotIdentified,
    NotPermitted,
    Overloaded,
    Refused,
    SecondPersonNeeded,
    StepUpNeeded,
    StoreFault,
    Unenrollable,
    UnknownDestination,
    Unsupported,
    UpstreamFault,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """One refusal in the words of each protocol.

    `associate_rj`: result, source, reason of A-ASSOCIATE-RJ (PS3.8 9.3.4). `dimse_status`: PS3.7 Annex C, PS3.4 for C-STORE and C-MOVE.
    `comment`: Error Comment (0000,0902), at most 64 characters. `http_status`: for the web doors. `hl7_ack`: MSA-1 (HL7 v2.5.1 table 0008).
    """

    associate_rj: tuple[int, int, int]
    dimse_status: int
    comment: str
    http_status: int
    hl7_ack: str


_NO_REASON = (1, 1, 1)  # rejected-permanent, service-user, no-reason-given
_CONGESTED = (2, 3, 1)  # rejected-transient, service-provider (presentation), temporary-congestion

REPLIES: dict[type[Refused], Reply] = {
    Refused: Reply(_NO_REASON, 0x0110, "Refused", 403, "AR"),
    NotIdentified: Reply(_NO_REASON, 0x0124, "Not authorized", 401, "AR"),
    Locked: Reply(_NO_REASON, 0x0124, "Not authorized", 401, "AR"),
    Slowed: Reply(_NO_REASON, 0x0124, "Not authorized", 429, "AR"),
    NotPermitted: Reply(_NO_REASON, 0x0124, "Not authorized", 403, "AR"),
    StepUpNeeded: Reply(_NO_REASON, 0x0124, "Not authorized", 403, "AR"),
    SecondPersonNeeded: Reply(_NO_REASON, 0x0124, "Not authorized", 403, "AR"),
    Contained: Reply(_NO_REASON, 0x0124, "Not authorized", 403, "AR"),
    Malformed: Reply((1, 2, 1), 0xC000, "Cannot understand", 400, "AE"),
    Mismatched: Reply(_NO_REASON, 0xA900, "Data set does not match SOP class or instance", 400, "AE"),
    Harmful: Reply(_NO_REASON, 0x0110, "Refused by inspection", 422, "AR"),
    Conflicting: Reply(_NO_REASON, 0x0111, "Kept as held: not the current version", 409, "AE"),
    Overloaded: Reply(_CONGESTED, 0xA700, "Out of resources, try again later", 503, "AE"),
    UnknownDestination: Reply(_NO_REASON, 0xA801, "Move destination unknown", 404, "AR"),
    NotChanged: Reply(_NO_REASON, 0x0110, "Refused", 409, "AR"),
    Taken: Reply(_NO_REASON, 0x0110, "Refused", 409, "AR"),
    Unenrollable: Reply(_NO_REASON, 0x0110, "Refused", 400, "AR"),
    Unsuitable: Reply(_NO_REASON, 0x0110, "Refused", 422, "AR"),
    Unsupported: Reply((1, 1, 2), 0x0122, "SOP class or operation not supported", 406, "AR"),
}

_TRY_LATER = Reply(_CONGESTED, 0xA700, "Out of resources, try again later", 503, "AE")

FAULTS: dict[type[Fault], Reply] = {
    Corrupted: Reply(_CONGESTED, 0x0110, "Processing failure", 500, "AE"),
    SiteInvalid: Reply(_CONGESTED, 0x0110, "Processing failure", 500, "AE"),
    Unsure: _TRY_LATER,
    Fault: Reply(_CONGESTED, 0x0110, "Processing failure", 500, "AE"),
    PolicyFault: Reply(_CONGESTED, 0x0110, "Processing failure", 500, "AE"),
    UnknownResidual: Reply(_CONGESTED, 0x0110, "Processing failure", 500, "AE"),
    StoreFault: _TRY_LATER,
    KeyFault: Reply(_CONGESTED, 0x0110, "Processing failure", 500, "AE"),
    Erased: Reply(_NO_REASON, 0x0112, "No such SOP instance", 404, "AE"),
    UpstreamFault: Reply(_CONGESTED, 0x0110, "Upstream failed", 502, "AE"),
    JournalFault: _TRY_LATER,
}


def reply_to(refusal: Refused | Fault) -> Reply:
    """The row of a refusal or fault; of its nearest ancestor where a new class has none of its own yet."""
    for kind in type(refusal).__mro__:
        row = REPLIES.get(kind) or FAULTS.get(kind)
        if row is not None:
            return row
    raise AssertionError("Refused and Fault have rows themselves")
