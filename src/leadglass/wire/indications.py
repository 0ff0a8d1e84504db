"""What does the shell hear of an association? The indications and confirmations of the upper layer service (PS3.8 7), as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from leadglass.wire.pdu import AssociateAC, AssociateRJ, AssociateRQ
from leadglass.wire.transitions import State


@dataclass(frozen=True, slots=True)
class AssociateIndication:
    """The peer asks for an association: answer with AssociateAC or AssociateRJ."""

    rq: AssociateRQ


@dataclass(frozen=True, slots=True)
class AssociateConfirmation:
    """The peer accepted ours."""

    ac: AssociateAC


@dataclass(frozen=True, slots=True)
class AssociateRejected:
    """The peer rejected ours; close the transport."""

    rj: AssociateRJ


class DataFragment(NamedTuple):
    """A piece of a message, never of two presentation data values. A tuple, for there are very many.

    `is_last`: it ends a value whose last-fragment bit is set, so the command or the data set is whole. `data` is valid until the next
    `buffer()` or `received()`; it is empty only where a last fragment is.
    """

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


@dataclass(frozen=True, slots=True)
class ReleaseIndication:
    """The peer wants to release: answer with ReleaseRP. `collision`: we wanted it too (PS3.8 7.2.2)."""

    collision: bool


@dataclass(frozen=True, slots=True)
class ReleaseConfirmation:
    """The peer agreed to our release."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The peer aborted (PS3.8 9.3.8); close the transport."""

    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class TransportClosed:
    """The peer closed the transport; `orderly` after a release, rejection or abort."""

    orderly: bool


@dataclass(frozen=True, slots=True)
class ArtimExpired:
    """The peer did not do in time what the state waited for; close the transport."""

    state: State


Event = (
    AssociateIndication
    | AssociateConfirmation
    | AssociateRejected
    | DataFragment
    | ReleaseIndication
    | ReleaseConfirmation
    | Aborted
    | TransportClosed
    | ArtimExpired
)
