"""How does an event loop wait for stages that block? In a bounded number of threads, and a bounded number of requests behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from leadglass.terms import Overloaded

THREADS_MAX = 16
WAITING_MAX = 128

T = TypeVar("T")

log = structlog.get_logger()


class Threads:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="web")
        self._within = 0

    @property
    def full(self) -> bool:
        return self._within >= THREADS_MAX + WAITING_MAX

    async def run(self, work: Callable[[], T]) -> T:
        """The work's value or exception; whoever goes away meanwhile stops nothing half-way. Raises Overloaded."""
        if self.full:
            raise Overloaded(
                f"more than {THREADS_MAX + WAITING_MAX} requests to the web door at once: find out who asks so much"
            )
        self._within += 1
        try:
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._pool, work))
        finally:
            self._within -= 1

    def begin(self, work: Callable[[], object]) -> None:
        """Work that nobody waits for; dropped where there is no room. It catches its own exceptions."""
        if not self.full:
            self._within += 1
            done = asyncio.get_running_loop().run_in_executor(self._pool, work)
            done.add_done_callback(self._ended)

    def _ended(self, done: asyncio.Future[object]) -> None:
        self._within -= 1
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("what nobody waited for failed", reason=str(error))

    def close(self) -> None:
        """When the work that was begun is done."""
        self._pool.shutdown(wait=True)
