"""How does something leave that is too long to be held? Piece by piece as it is read, for as long as whoever gets it may have it.

A piece is made in a thread. While a slow reader takes it, the right to it is asked for again a few times a second; when that ends the connection is
broken off, so that nobody takes the beginning of something for all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from starlette.responses import Response

from leadglass.doors.web.threads import Threads
from leadglass.policy.people import DECIDE_AGAIN_SECONDS
from leadglass.terms import Fault, Refused

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

FULL_SECONDS = 0.05  # until threads that are all at work are asked again

T = TypeVar("T")

log = structlog.get_logger()


class Streamed(Response):
    """`pieces`: what leaves, made in threads, one at a time. `still`: raises Refused when that ends. `leave`: told once how it ended."""

    def __init__(
        self,
        pieces: Iterator[bytes],
        headers: Mapping[str, str],
        *,
        still: Callable[[], None],
        leave: Callable[[Exception | None], None],
    ) -> None:
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._pieces, self._still, self._leave = pieces, still, leave
        self.threads: Threads | None = None  # of the loop that it leaves by

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.threads is not None
        gone = asyncio.ensure_future(_gone(receive))
        how: Exception | None = ConnectionError("the peer went away before the end")
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while (piece := await _patiently(self.threads, lambda: next(self._pieces, b""))) != b"":
                await self._taken(self.threads, gone, send({"type": "http.response.body", "body": piece, "more_body": True}))  # fmt: skip
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            how = None
        except (Refused, Fault, OSError) as ended:
            how = ended
            log.warning("what was leaving broke off", path=scope["path"], reason=str(ended))
            scope["state"]["abort"]()
        finally:
            gone.cancel()
            await asyncio.shield(_patiently(self.threads, lambda: self._leave(how)))

    async def _taken(self, threads: Threads, gone: asyncio.Future[None], sending: Any) -> None:
        """Returns when the peer has room for the next piece. Raises Refused, Fault, ConnectionError."""
        sent = asyncio.ensure_future(sending)
        try:
            while not sent.done():
                await asyncio.wait({sent, gone}, timeout=DECIDE_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    raise ConnectionError("the peer went away before the end")
                if not sent.done():
                    await _patiently(threads, self._still)
            sent.result()
        finally:
            sent.cancel()


async def _gone(receive: Receive) -> None:
    """Returns when the peer went away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _patiently(threads: Threads, work: Callable[[], T]) -> T:
    """What has begun to leave waits for its turn."""
    while threads.full:
        await asyncio.sleep(FULL_SECONDS)
    return await threads.run(work)
