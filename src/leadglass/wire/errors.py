"""Who broke the protocol, and what may the peer be told?

Two families, and no other exception leaves `leadglass.wire`: the peer broke the protocol (`RemoteProtocolError`: refuse, record, go
on serving others) or we did (`LocalProtocolError`: a defect of ours, let it end the task).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AbortHint:
    """Source and reason of the A-ABORT that answers the error (PS3.8 9.3.8)."""

    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class RejectHint:
    """Result, source and reason of the A-ASSOCIATE-RJ that answers the error (PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int


class WireError(Exception):
    """Anything that `leadglass.wire` raises."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RemoteProtocolError(WireError):
    """The peer sent what the Standard, or one of our limits, does not allow.

    `message` is for the operator and may quote the peer; what the peer hears is the hint only: `abort` or `reject`, at most one.
    """

    def __init__(self, message: str, *, abort: AbortHint | None = None, reject: RejectHint | None = None) -> None:
        super().__init__(message)
        self.abort = abort
        self.reject = reject

    @property
    def abort_source(self) -> int | None:
        """Source for an A-ABORT, when one is due."""
        return None if self.abort is None else self.abort.source

    @property
    def abort_reason(self) -> int | None:
        """Reason for an A-ABORT, when one is due."""
        return None if self.abort is None else self.abort.reason


class LocalProtocolError(WireError):
    """We asked for what the state, or the negotiated association, does not allow."""
