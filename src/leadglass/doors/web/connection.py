"""How does HTTP come in? uvicorn's parser, with bounds that hold before anybody has a name: length and time of a request's head.

A connection is counted before its TLS handshake, and each handshake takes the certificates and anchors that hold at that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from socket import IPPROTO_TCP, TCP_NODELAY, socket
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from leadglass.doors.processes.caps import SharedCaps
from leadglass.doors.web.address import Address
from leadglass.identity.certificates import RESUMED
from leadglass.terms import NotIdentified, Overloaded, Peer, Refused

HEAD_LENGTH_MAX_BYTES = 32 << 10
HEAD_SECONDS_MAX = 10.0
KEEP_ALIVE_SECONDS = 15
DRAIN_SECONDS = 10
_FULL_SECONDS = 0.05  # until a full worker looks again
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket. `tls`: the context for the next handshake, None for the console on loopback."""

    sock: socket
    address: Address
    tls: Callable[[], ssl.SSLContext] | None


class HttpConnection(HttpToolsProtocol):
    """What the application finds in `scope["state"]`: `peer`, `address`, what breaks the connection off, and whether the request's target was in origin form."""

    def __init__(self, *arguments: Any, address: Address, gone: Callable[[], None], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._address, self._gone = address, gone
        self._head_length = 0
        self._in_head = False
        self._deadline: asyncio.TimerHandle | None = None
        self.resumed = False  # its handshake took up an earlier session

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        host, port = self.client or ("", 0)
        cipher = tls.cipher() if tls else None
        peer = Peer(
            address=host,
            port=port or 0,
            door=self._address.door,
            certificate=tls.getpeercert(binary_form=True) if tls else None,
            tls=f"{tls.version()} {cipher[0]}" if tls and cipher else "",
        )
        self.peer = peer
        self.app_state = {**self.app_state, "peer": peer, "address": self._address, "abort": transport.abort}
        self._begin_head()
        if tls and tls.session_reused:
            self.resumed = True
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self._in_head and self._idle():
            self._begin_head()
        if self._in_head:
            self._head_length += len(data)
        super().data_received(data)
        if self._in_head and self._head_length > HEAD_LENGTH_MAX_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LONG)
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._end_deadline()
        self.scope["state"]["origin_form"] = self.url.startswith(b"/")
        if not self.url.startswith(b"/"):
            self.url = b"/"  # absolute-form, authority-form, asterisk: the application refuses it
        super().on_headers_complete()

    def connection_lost(self, error: Exception | None) -> None:
        self._end_deadline()
        super().connection_lost(error)
        self._gone()

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _begin_head(self) -> None:
        self._in_head, self._head_length = True, 0
        self._end_deadline()
        self._deadline = self.loop.call_later(HEAD_SECONDS_MAX, self._too_slow)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if self._idle():
            self.transport.abort()


class WebServer(uvicorn.Server):
    """Accepts on its listeners, each connection counted first. `turned_away` is told who got no further, and why."""

    def __init__(
        self,
        application: Any,
        listeners: Sequence[Listener],
        caps: SharedCaps,
        handshake_seconds: float,
        turned_away: Callable[[Peer, Refused], None],
    ) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                http=HttpConnection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self._listeners, self._caps, self._handshake_seconds = listeners, caps, handshake_seconds
        self._turned_away = turned_away
        self._loop: asyncio.AbstractEventLoop | None = None
        self._accepting: list[asyncio.Task[None]] = []
        self._greeting: set[asyncio.Task[None]] = set()

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """Signals are the process's."""
        return contextlib.nullcontext()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        self.servers = []
        self._loop = asyncio.get_running_loop()
        for listener in self._listeners:
            listener.sock.setblocking(False)
            self._accepting.append(asyncio.create_task(self._accept(listener)))
        self.started = True

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        for task in (*self._accepting, *self._greeting):
            task.cancel()
        await super().shutdown([listener.sock for listener in self._listeners])

    def cut(self, kept_out: Callable[[Peer], bool]) -> None:
        """From any thread: whoever is kept out is cut off, in the middle of whatever it is."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cut, kept_out)

    def _cut(self, kept_out: Callable[[Peer], bool]) -> None:
        for each in [*self.server_state.connections]:
            if isinstance(each, HttpConnection) and kept_out(each.peer):
                each.transport.abort()

    async def _accept(self, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._caps.full():
                await asyncio.sleep(_FULL_SECONDS)
                continue
            try:
                sock, name = await loop.sock_accept(listener.sock)
            except OSError as error:  # out of descriptors, or gone before we looked
                log.error("a connection could not be accepted", door=listener.address.door, reason=str(error))
                await asyncio.sleep(_FULL_SECONDS)
                continue
            host, port = str(name[0]), int(name[1])
            if limit := self._caps.enter(host, ""):
                sock.close()
                what = _NAMED.get(limit, limit)
                refusal = Overloaded(f"more connections than limits.{what} from there: find out what calls so often")
                self._turned_away(Peer(host, port, listener.address.door), refusal)
                continue
            task = asyncio.create_task(self._greet(listener, sock, Peer(host, port, listener.address.door)))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    async def _greet(self, listener: Listener, sock: socket, peer: Peer) -> None:
        """The handshake, and from then on uvicorn's. Whoever came in is counted out once, however it ends."""
        inside = [peer.address]

        def gone() -> None:
            if inside:
                self._caps.leave(inside.pop(), "")

        def protocol() -> HttpConnection:
            return HttpConnection(
                config=self.config, server_state=self.server_state, app_state={}, address=listener.address, gone=gone
            )

        made = False
        try:
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            tls = listener.tls() if listener.tls else None
            times = {"ssl_handshake_timeout": self._handshake_seconds} if tls else {}
            _, connection = await asyncio.get_running_loop().connect_accepted_socket(protocol, sock, ssl=tls, **times)
            made = True
            if connection.resumed:
                self._turned_away(peer, NotIdentified(RESUMED))
        except ssl.SSLError as error:
            self._turned_away(peer, NotIdentified(f"no TLS with it: {error.reason or error}"))
        except (OSError, TimeoutError) as error:
            log.info("a connection ended before it said anything", address=peer.address, reason=str(error))
        finally:
            if not made:
                sock.close()
                gone()


_NAMED = {
    "associations_per_address_max": "web_connections_per_address_max",
    "associations_of_strangers_max": "web_connections_max",
}
