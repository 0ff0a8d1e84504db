"""How long do we wait for somebody else? A whole call, name look-up and handshake too, ends in time, however slowly the other side drips."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from leadglass.terms import UpstreamFault

CALLS_MAX = 8  # to one source at once, those that nobody waits for any more among them

Answer = TypeVar("Answer")


class Deadline:
    """Calls to one source. `name`: as an operator knows it. The clock of a socket starts anew with each byte; this one does not."""

    def __init__(self, name: str, seconds: float) -> None:
        self._name, self._seconds = name, seconds
        self._room = threading.BoundedSemaphore(CALLS_MAX)

    def within(self, call: Callable[[], Answer]) -> Answer:
        """What the call returns or raises. Raises UpstreamFault where it takes too long, or too many wait already."""
        if not self._room.acquire(blocking=False):
            raise UpstreamFault(f"{self._name}: {CALLS_MAX} questions wait for an answer", hint="look after it first")
        future: Future[Answer] = Future()

        def work() -> None:
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            finally:
                self._room.release()

        threading.Thread(target=work, name=self._name, daemon=True).start()
        try:
            return future.result(self._seconds)
        except TimeoutError:
            what = f"{self._name} has not answered within {self._seconds:g} seconds"
            raise UpstreamFault(what, hint="look after it; people sign in with passkeys meanwhile") from None
