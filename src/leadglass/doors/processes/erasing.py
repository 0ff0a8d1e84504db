"""What of the erasures is due now? The keeper looks, and makes the next change of each; while the site is read-only nothing is erased."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog

from leadglass.doors.house import House, Worker
from leadglass.site.erasures import Erasure
from leadglass.terms import ChangeKind, Fault

log = structlog.get_logger()


class Erasing:
    """`change`: kind, about, arguments; it tells of failures itself. `workers`: who may have something in flight."""

    def __init__(
        self,
        house: House,
        workers: Callable[[], Sequence[Worker]],
        change: Callable[[ChangeKind, str, dict[str, object]], None],
    ) -> None:
        self._house, self._workers, self._change = house, workers, change

    def look(self) -> None:
        """One step of each at most: the next look makes the next one."""
        containment = self._house.containment()
        if containment.read_only:
            return
        for erasure in self._house.erasures.open():
            try:
                kind = self._next(erasure, containment.generation)
            except (Fault, OSError) as fault:
                log.error("an erasure does not go on", erasure=erasure.id, reason=str(fault))
                continue
            if kind is not None:
                self._change(kind, erasure.id, {})

    def _next(self, erasure: Erasure, generation: int) -> ChangeKind | None:
        """Raises Fault, OSError."""
        eraser = self._house.eraser
        if erasure.state == "waiting":
            return ChangeKind.ERASURE_CLOSE if time.time_ns() >= erasure.due_ns else None
        if erasure.state == "closing":
            known = all(each.generation >= generation for each in self._workers() if each.pid)
            return ChangeKind.ERASURE_DESTROY if known and not eraser.busy(erasure.studies) else None
        eraser.destroy_left(erasure.keys)
        return None if eraser.left(erasure.keys) else ChangeKind.ERASURE_FINISH
