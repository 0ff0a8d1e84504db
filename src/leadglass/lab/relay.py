"""How does a program without TLS, or one that cannot choose its source address, take part? A relay stands beside it: plain on one side, mutual TLS
on the other.

`Direction.TO_TLS`: plain in, TLS out, from a bound source address (a plain SCU such as `getscu`). `Direction.FROM_TLS`: TLS in, plain out (a
plain SCP as C-MOVE destination). Bytes pass as they are; nothing is read into them.
"""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from leadglass.doors.dimse.connection import Connection, ConnectionLost

CONNECTIONS_MAX = 64
CONNECT_SECONDS = 10.0
STALL_SECONDS = 60.0
IDLE_SECONDS = 600.0
BUFFER_BYTES = 256 * 1024
POLL_SECONDS = 0.5  # how late a stopped relay may notice


class Direction(enum.Enum):
    TO_TLS = "to-tls"
    FROM_TLS = "from-tls"


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM files: what this end presents, and who may vouch for the other."""

    certificate: Path | None
    key: Path | None
    authorities: Path

    def client_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the chain is checked; host names mean nothing on loopback
        return self._finish(context)

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0
        return self._finish(context)

    def _finish(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(self.authorities)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


class Relay:
    """Listens at once; serves between `start` and `stop`, one thread a connection, `CONNECTIONS_MAX` of them at most.

    `bind`: the source address of what leaves, "" for any.
    """

    def __init__(
        self,
        listen: tuple[str, int],
        to: tuple[str, int],
        credentials: Credentials,
        *,
        direction: Direction = Direction.TO_TLS,
        bind: str = "",
    ) -> None:
        self._to, self._bind, self._direction = to, bind, direction
        inward = direction is Direction.FROM_TLS
        self._context = credentials.server_context() if inward else credentials.client_context()
        self._listener = socket.create_server(listen)
        self._listener.settimeout(POLL_SECONDS)
        self._stop = threading.Event()
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._threads: set[threading.Thread] = set()
        self._accepting = threading.Thread(target=self._accept, name="relay")

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def start(self) -> Relay:
        self._accepting.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        if self._accepting.ident is not None:
            self._accepting.join()
        for thread in list(self._threads):
            thread.join()
        self._listener.close()

    def __enter__(self) -> Relay:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _accept(self) -> None:
        while not self._stop.is_set():
            if not self._room.acquire(timeout=POLL_SECONDS):
                continue
            try:
                incoming, _ = self._listener.accept()
            except OSError:  # the time is over, or the peer was gone before we looked
                self._room.release()
                continue
            thread = threading.Thread(target=self._serve, args=(incoming,), name="relayed")
            self._threads.add(thread)
            thread.start()

    def _serve(self, incoming: socket.socket) -> None:
        try:
            with incoming, contextlib.suppress(OSError, ConnectionLost, ssl.SSLError):
                source = (self._bind, 0) if self._bind else None
                with socket.create_connection(self._to, CONNECT_SECONDS, source) as outgoing:
                    self._join(incoming, outgoing)
        finally:
            self._threads.discard(threading.current_thread())
            self._room.release()

    def _join(self, incoming: socket.socket, outgoing: socket.socket) -> None:
        inward = self._direction is Direction.FROM_TLS
        secret, plain = (incoming, outgoing) if inward else (outgoing, incoming)
        plain.setblocking(True)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(secret, self._context, server_side=inward, stall_seconds=STALL_SECONDS)
        try:
            connection.handshake(wait=True)
            _pump(connection, plain, self._stop)
        finally:
            connection.close()


def _pump(connection: Connection, plain: socket.socket, stop: threading.Event) -> None:
    """Both ways in one thread, because one TLS connection is one thread's: until either end closes."""
    buffer = memoryview(bytearray(BUFFER_BYTES))
    poll = select.poll()
    poll.register(plain, select.POLLIN)
    poll.register(connection.socket, select.POLLIN)
    quiet_seconds = 0.0
    while not stop.is_set() and quiet_seconds < IDLE_SECONDS:
        while (count := connection.read(buffer, wait=False)) is not None:
            if not count:
                return
            plain.sendall(buffer[:count])
            quiet_seconds = 0.0
        ready = poll.poll(POLL_SECONDS * 1000)
        quiet_seconds = 0.0 if ready else quiet_seconds + POLL_SECONDS
        if plain.fileno() in dict(ready):
            data = plain.recv(BUFFER_BYTES)
            if not data:
                return
            connection.write([data])
