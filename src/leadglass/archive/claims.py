"""Whose turn is it with a SOP Instance UID? This process's side of claims: one thread at a time, and none left behind.

The index knows claims by writer; threads of one writer must not take each other's for their own, nor leave one behind that nobody holds
when the index fails after it did what it was asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from leadglass.archive.index import Granted, Index, Known, Pending
from leadglass.terms import Instance, Overloaded

POLL_SECONDS = 0.01


class Claims:
    """Thread-safe. `recover`: recovers a writer where it is dead, and says (truthy) whether it did. `flush`: publishes what landed."""

    def __init__(
        self,
        index: Index,
        writer_id: bytes,
        recover: Callable[[bytes], object],
        flush: Callable[[], None],
        wait_seconds: float,
    ) -> None:
        self._index, self._writer_id = index, writer_id
        self._recover, self._flush, self._wait_seconds = recover, flush, wait_seconds
        self._held: set[str] = set()
        self._left: set[str] = set()  # released here, perhaps not in the index
        self._lock = threading.Lock()

    def take(self, instance: Instance, digest: bytes) -> Granted | Known:
        """Granted until `release`, or `published`. Raises Overloaded where it does not become free in time."""
        uid = instance.sop_instance_uid
        deadline = time.monotonic() + self._wait_seconds
        while not self._enter(uid):
            self._flush()  # its record may have landed and not be published, where its own thread failed in between
            _pause(deadline)
        answer: Granted | Known | Pending | None = None
        try:
            while isinstance(answer := self._ask(instance, digest), Pending):
                if answer.writer == self._writer_id:
                    self._flush()
                    self._release_left()
                elif self._recover(answer.writer):
                    continue
                _pause(deadline)
        except BaseException:
            self.release(uid)  # an index that failed may have granted it
            raise
        if isinstance(answer, Known):
            self.published([uid])
        return answer

    def release(self, uid: str) -> None:
        """Nothing of it settled. Where the index does not answer, it is asked again before the next claim."""
        with self._lock:
            self._left.add(uid)
        self._release_left()

    def published(self, uids: Iterable[str]) -> None:
        """The index has dropped these claims itself."""
        with self._lock:
            self._held.difference_update(uids)

    def _enter(self, uid: str) -> bool:
        if self._left:
            self._release_left()
        with self._lock:
            if uid in self._held:
                return False
            self._held.add(uid)
            return True

    def _ask(self, instance: Instance, digest: bytes) -> Granted | Known | Pending:
        return self._index.claim(instance, digest, self._writer_id)

    def _release_left(self) -> None:
        with self._lock:
            left = list(self._left)
        for uid in left:
            try:
                self._index.release_claim(uid, self._writer_id)
            except Exception:  # whatever it is, the next claim meets it too, and tells its sender
                return
            with self._lock:
                self._left.discard(uid)
                self._held.discard(uid)


def _pause(deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise Overloaded(
            "another transfer of the same instance, or of its study for another patient, has not settled yet"
        )
    time.sleep(POLL_SECONDS)
