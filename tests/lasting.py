"""Does an association go on? Whoever loses a right in the middle of one is refused first or cut off first: which of the two shows is a matter of milliseconds."""

from __future__ import annotations

from leadglass.doors.dimse.connection import ConnectionLost
from leadglass.lab.peers import Session, TurnedAway
from leadglass.wire import tags
from leadglass.wire.dimse import Status

CUT_OFF = (TurnedAway, ConnectionLost, OSError)


def answers(session: Session, patient: str = "") -> bool:
    """Whether a query is answered with success; not where it is refused, or nobody answers."""
    try:
        return session.find("STUDY", {tags.PATIENT_ID: patient})[0].status == Status.SUCCESS
    except CUT_OFF:
        return False


def lasts(session: Session, patient: str = "") -> bool:
    """Whether anything is answered at all."""
    try:
        session.find("STUDY", {tags.PATIENT_ID: patient})
    except CUT_OFF:
        return False
    return True
