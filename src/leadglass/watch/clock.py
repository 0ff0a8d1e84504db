"""Is the clock right, and what does a wrong one stop? The kernel says how far it is off; our own records say whether it went back."""

from __future__ import annotations

import ctypes
import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from leadglass.terms import Detection, EventKind, Severity

STEP_SECONDS_MAX = (
    30.0  # more than a time service corrects at once, and less than what fools anybody about a certificate
)
BEHIND_SECONDS_MAX = 60.0  # how far the clock may lie before the newest record
_SECOND_NS = 1_000_000_000
_STA_UNSYNC, _STA_NANO = 0x0040, 0x2000  # adjtimex(2)


class Issued(Protocol):
    """A certificate as the register keeps it."""

    @property
    def device(self) -> str: ...
    @property
    def issued_ns(self) -> int: ...
    @property
    def not_after_ns(self) -> int: ...
    @property
    def state(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Clock:
    """`offset_seconds`: what the time service still has to correct; `error_max_seconds`: how far off it may be at most, None where nobody keeps it."""

    kept: bool
    offset_seconds: float
    error_max_seconds: float | None

    def __str__(self) -> str:
        if not self.kept or self.error_max_seconds is None:
            return "kept by no time service: certificates and waivers end when this clock says so"
        return f"kept by a time service, {self.offset_seconds:+.6f} s off, {self.error_max_seconds:.3f} s at most"


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def read_clock() -> Clock:
    """What the kernel knows (adjtimex(2), which only asks here); not kept where it does not say."""
    found = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(found)) < 0 or found.status & _STA_UNSYNC:
        return Clock(False, 0.0, None)
    unit = 1e9 if found.status & _STA_NANO else 1e6
    return Clock(True, found.offset / unit, found.maxerror / 1e6)


def stopped_by(now_ns: int, newest_ns: int, certificates: Iterable[Issued]) -> Iterator[str]:
    """What this clock keeps from working, or lets in, in words an operator can act on. `newest_ns`: when the newest record was made."""
    if newest_ns - now_ns > BEHIND_SECONDS_MAX * _SECOND_NS:
        behind = dt.timedelta(seconds=(newest_ns - now_ns) // _SECOND_NS)
        yield f"the clock lies {behind} before the newest record: certificates that ended since are let in; set it right"
    living = [each for each in certificates if each.state in ("issued", "active")]
    over = sorted({each.device for each in living if each.not_after_ns <= now_ns})
    early = sorted({each.device for each in living if each.issued_ns - now_ns > BEHIND_SECONDS_MAX * _SECOND_NS})
    if over:
        yield f"expired by this clock, so refused unless waived: {', '.join(over)}"
    if early:
        yield f"issued in the future of this clock, so refused: {', '.join(early)}"


@dataclass(slots=True)
class StepWatch:
    """Notices that the wall clock moved against the monotonic one between two looks."""

    _difference_ns: int | None = field(default=None)

    def notice(self, wall_ns: int, monotonic_ns: int) -> Iterator[Detection]:
        before, self._difference_ns = self._difference_ns, wall_ns - monotonic_ns
        step = 0.0 if before is None else (self._difference_ns - before) / _SECOND_NS
        if abs(step) <= STEP_SECONDS_MAX:
            return
        yield Detection(
            EventKind.CLOCK_STEPPED,
            Severity.ALARM,
            "clock",
            f"the clock was set {dt.timedelta(seconds=abs(round(step)))} {'forward' if step > 0 else 'back'}: "
            "`leadglass status` says what that stops",
            {"seconds": round(step)},
        )
