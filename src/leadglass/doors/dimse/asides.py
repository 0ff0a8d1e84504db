"""What do we ask of a peer by ourselves, beside its own requests? One thing at a time, for the window is 1 in either direction (PS3.7 D.3.3.3).

The peer goes on with its requests meanwhile, and no thread waits for its answer.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator

from leadglass.wire.dimse import Command, CommandField
from leadglass.wire.messages import CommandReceived, DataSetEnd, DataSetFragment

WAITING_MAX = 4  # of one association: each holds what it will ask, and its peer decides when it answers

Aside = Generator[None, Command | None, None]
"""Begun, it waits for its turn; sent None, it asks; sent the answer, it ends. Where nobody answers, what ended the association is thrown into it."""


class Asides:
    """Of one association; for the thread that steps it."""

    def __init__(self) -> None:
        self._waiting: deque[Aside] = deque()
        self._asked: Aside | None = None
        self._passing = False  # a data set that came with an answer

    @property
    def full(self) -> bool:
        """Whether no more may be added before the peer has answered."""
        return len(self._waiting) >= WAITING_MAX

    def add(self, aside: Aside) -> None:
        """Begun already."""
        self._waiting.append(aside)

    def ask(self) -> bool:
        """The next one, if none is open; whether there was one. Raises what the asking raises."""
        if self._asked is not None or not self._waiting:
            return False
        self._asked = self._waiting.popleft()
        self._asked.send(None)
        return True

    def takes(self, item: object) -> bool:
        """Whether what the peer said was the answer, or belonged to it."""
        if self._passing:
            self._passing = not isinstance(item, DataSetEnd)
            return isinstance(item, DataSetFragment | DataSetEnd)
        if self._asked is None or not isinstance(item, CommandReceived):
            return False
        if item.command.field is not CommandField.N_EVENT_REPORT_RSP:
            return False
        asked, self._asked, self._passing = self._asked, None, item.command.has_data_set
        with contextlib.suppress(StopIteration):
            asked.send(item.command)
        return True

    def leave(self, why: Exception) -> None:
        """The association has ended; each says so where it has to."""
        left = [*([self._asked] if self._asked is not None else []), *self._waiting]
        self._asked = None
        self._waiting.clear()
        for each in left:
            with contextlib.suppress(StopIteration, type(why)):
                each.throw(why)
