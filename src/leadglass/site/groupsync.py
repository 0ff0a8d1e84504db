"""When is what was appended durable? One fdatasync serves all who wait: it starts at once, and who arrives during one rides the next."""

from __future__ import annotations

import threading
from collections.abc import Callable

from leadglass.terms import Fault

Sync = Callable[[], None]


class GroupSync:
    """`snapshot` gives the highest number appended so far, and what makes everything up to it durable.

    After an error nobody can know what reached the disk: from then on everybody gets `fault`, forever.
    """

    def __init__(self, snapshot: Callable[[], tuple[int, Sync]], fault: Callable[[OSError], Fault]) -> None:
        self._snapshot, self._fault = snapshot, fault
        self._turn = threading.Condition(threading.Lock())
        self._running = False
        self._broken: Fault | None = None
        self.durable = 0

    def through(self, number: int) -> None:
        """Returns once everything up to `number` is durable. Raises the fault."""
        if self.durable >= number and self._broken is None:
            return
        with self._turn:
            while True:
                self.raise_if_broken()
                if self.durable >= number:
                    return
                if not self._running:
                    self._running = True
                    break
                self._turn.wait()
        self._lead()

    def raise_if_broken(self) -> None:
        if self._broken is not None:
            raise self._broken.with_traceback(None)

    def break_down(self, error: OSError) -> Fault:
        """Something else than a sync failed so that nothing may be trusted from here on: the fault that everybody gets."""
        fault = self._fault(error)
        with self._turn:
            self._broken = self._broken or fault
            self._turn.notify_all()
        return fault

    def _lead(self) -> None:
        broken: Fault | None = None
        reached = self.durable
        try:
            number, sync = self._snapshot()
            sync()
            reached = number
        except OSError as error:
            broken = self._fault(error)
        except Fault as fault:
            broken = fault
        finally:
            with self._turn:
                self._running = False
                self.durable = max(self.durable, reached)
                self._broken = self._broken or broken
                self._turn.notify_all()
        self.raise_if_broken()
