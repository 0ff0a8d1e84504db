"""Which certificates end soon? Said once at each of a few distances, so that a warning is neither missed nor repeated every minute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from leadglass.terms import Detection, EventKind, Severity

DISTANCES_DAYS = (30, 14, 7, 3, 1, 0)
_DAY_NS = 86_400 * 1_000_000_000


class Dated(Protocol):
    """A certificate as the register keeps it."""

    @property
    def device(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def not_after_ns(self) -> int: ...
    @property
    def state(self) -> str: ...


@dataclass(slots=True)
class ExpiryWatch:
    """Remembers what it has said, for as long as the keeper lives; a restart says it once more."""

    _said: dict[str, int] = field(default_factory=dict)

    def notice(self, certificates: Iterable[Dated], now_ns: int) -> Iterator[Detection]:
        """The certificates that came nearer to their end than was said so far."""
        for each in certificates:
            if each.state not in ("issued", "active"):
                continue
            days = (each.not_after_ns - now_ns) // _DAY_NS
            distance = min((step for step in DISTANCES_DAYS if days <= step), default=None)
            if distance is None or self._said.get(each.fingerprint, DISTANCES_DAYS[0] + 1) <= distance:
                continue
            self._said[each.fingerprint] = distance
            over = each.not_after_ns <= now_ns
            yield Detection(
                EventKind.CERTIFICATE_EXPIRING,
                Severity.ALARM if days <= 3 else Severity.WARNING,
                each.device,
                f"the certificate of {each.device} "
                + ("has expired" if over else f"ends in {max(days, 0)} days")
                + f": `leadglass device renew {each.device}`",
                {"fingerprint": each.fingerprint, "days": int(days)},
            )
