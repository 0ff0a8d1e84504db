"""Saying no, and saying that we cannot: the two error families."""

from __future__ import annotations

from leadglass.terms.instances import Settled
from leadglass.terms.parties import Operator
from leadglass.terms.requests import Asker


class Refused(Exception):
    """We say no. `reason` is for the operator and says what to mend; the peer hears only its row in `doors/replies.py`.

    `rule`: the rule that refused, where one did. `subject`: who it was, where that much is known. `recorded`: an event says so already.
    """

    def __init__(self, reason: str, *, rule: str = "", subject: Asker | Operator | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.rule = rule
        self.subject = subject
        self.recorded = False


class NotIdentified(Refused):
    """Certificate, AE titles and source network do not agree on one enrolled device."""


class NotPermitted(Refused):
    """No flow of the site file allows this."""


class StepUpNeeded(NotPermitted):
    """This person may, with a fresh passkey: step up, then ask again."""


class SecondPersonNeeded(NotPermitted):
    """This person may, once somebody else approved it: ask for that, then ask again."""


class Contained(Refused):
    """Revoked, disabled, quarantined, or the site is read-only."""


class Malformed(Refused):
    """The bytes are not what the Standard says."""


class Mismatched(Refused):
    """The data set contradicts the command that announced it."""


class Harmful(Refused):
    """Inspection found something that must not reach anybody."""


class Conflicting(Refused):
    """What was sent is kept, but held: its UID is taken by other bytes, or its header contradicts its study."""

    @classmethod
    def held(cls, settled: Settled) -> Conflicting:
        why = ", ".join(sorted(settled.holds)) or "held"
        return cls(f"kept as held version {settled.version}: {why}; `leadglass conflicts list` shows it")


class Overloaded(Refused):
    """No room: a budget is used up, the disk is at its reserve, or a claim did not settle in time."""


class UnknownDestination(Refused):
    """A C-MOVE destination that is not registered, or not allowed."""


class NotChanged(Refused):
    """A change that contradicts what is there; the reason says what to do instead."""


class Unenrollable(Refused):
    """A certificate request or certificate that will not do; the reason says what to change."""


class Unsupported(Refused):
    """A service, level or transfer syntax that this door does not offer."""


class Fault(Exception):
    """We cannot. `hint` says what an operator does next."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint
        self.recorded = False


class StoreFault(Fault):
    """A record cannot be written or read right now; the sender may try again."""


class KeyFault(Fault):
    """A key is missing, destroyed or does not open what it should."""


class Erased(KeyFault):
    """What the key opened was lawfully erased: nothing opens it any more, and nothing is wrong."""


class UpstreamFault(Fault):
    """A peer that we call does not answer as it should; try again later."""


class JournalFault(Fault):
    """The journal can no longer be trusted to be durable: stop acknowledging, exit, recover from disk."""
