"""How do bytes cross the wire? TLS over one socket with memory BIOs: few, large system calls, blocking or not as the caller says.

A connection belongs to one thread at a time; `cut` alone may be called from any thread.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterable

CIPHERTEXT_READ_MAX_BYTES = 64 * 1024  # what passes through the buffers of one message stays in a core's own cache
PLAINTEXT_WRITE_BYTES = 64 * 1024

_scratch = threading.local()


class ConnectionLost(Exception):
    """The peer closed, broke or stalled the transport; the text says which."""


class Connection:
    """One TLS connection, server or client side.

    `stall_seconds`: how long a blocking read or write waits for the peer before it counts as lost.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool, stall_seconds: float
    ) -> None:
        self.socket = sock
        self.cut_reason = ""
        self._answered = True  # since we heard something last
        self.context = context  # kept alive: its sni_callback hangs on it
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        sock.setblocking(True)  # MSG_DONTWAIT where we must not wait: no poll() before each recv()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        patience = struct.pack("ll", int(stall_seconds), int(stall_seconds % 1 * 1_000_000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)

    # ---- handshake

    def handshake(self, *, wait: bool) -> bool:
        """One step of the handshake with what is there (all steps with `wait`); True when it is done.

        Raises ssl.SSLError where the peer's offer or certificate will not do, ConnectionLost where it went away.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not self._receive(wait=wait):
                    return False
            except ssl.SSLError:
                with contextlib.suppress(ConnectionLost):
                    self._flush()  # the alert tells the peer's operator more than a reset would
                raise
            else:
                self._flush()
                return True

    def certificate(self) -> bytes | None:
        """DER of the peer's leaf."""
        return self._tls.getpeercert(binary_form=True)

    @property
    def resumed(self) -> bool:
        """Whether the handshake took up an earlier session."""
        return bool(self._tls.session_reused)

    def version(self) -> str:
        cipher = self._tls.cipher()
        return f"{self._tls.version() or ''} {cipher[0] if cipher else ''}".strip()

    # ---- data

    def read(self, into: memoryview, *, wait: bool) -> int | None:
        """Plaintext into the buffer, as much as is there: its length, 0 at the end of the stream, None where nothing is there yet."""
        total, room, tls, incoming = 0, len(into), self._tls, self._incoming
        while total < room:
            if not (incoming.pending or incoming.eof or tls.pending()):  # what OpenSSL would say by an exception
                if total:
                    return total
                if not self._receive(wait=wait):
                    return None
                continue
            try:
                got = tls.read(room - total, into[total:])
            except ssl.SSLWantReadError:
                if total:
                    return total
                if not self._receive(wait=wait):
                    return None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return total
            except ssl.SSLError as error:
                raise ConnectionLost(f"TLS broke: {error.reason or error}") from error
            else:
                if not got:
                    return total
                total += int(got)
        return total

    def readable_within(self, seconds: float) -> bool:
        """True as soon as the socket has something to read, False when the time is over."""
        return bool(self._incoming.pending) or bool(self._poll.poll(seconds * 1000))

    def write(self, buffers: Iterable[bytes | memoryview]) -> None:
        """All of it; blocks. What is small leaves together, in as few TLS records as it needs."""
        whole = _scratch_of("plaintext", PLAINTEXT_WRITE_BYTES)
        filled = 0
        for buffer in buffers:
            view, start = memoryview(buffer), 0
            while start < len(view):
                stop = min(len(view), start + PLAINTEXT_WRITE_BYTES - filled)
                whole[filled : filled + stop - start] = view[start:stop]
                filled, start = filled + stop - start, stop
                if filled == PLAINTEXT_WRITE_BYTES:
                    self._send(whole)
                    filled = 0
        if filled:
            self._send(whole[:filled])

    # ---- the end

    def cut(self, reason: str) -> None:
        """Ends it now, from any thread: a blocked read returns, the owner closes."""
        self.cut_reason = reason
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Says goodbye in TLS where that does not block, and closes the socket."""
        with contextlib.suppress(ssl.SSLError, OSError, ConnectionLost):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            farewell = self._outgoing.read()
            if farewell and not self.cut_reason:
                self.socket.send(farewell, socket.MSG_DONTWAIT)
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    # ---- the socket

    def _receive(self, *, wait: bool) -> bool:
        """Ciphertext into the BIO; False where none is there yet and we do not wait. The end of the stream becomes the BIO's."""
        buffer = _scratch_of("ciphertext", CIPHERTEXT_READ_MAX_BYTES)
        try:
            got = self.socket.recv_into(buffer, 0, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            if wait:
                raise ConnectionLost("the peer stalled: nothing came in time") from None
            return False
        except OSError as error:
            raise ConnectionLost(self.cut_reason or f"the connection broke: {error.strerror or error}") from error
        if got == 0:
            self._incoming.write_eof()
        else:
            if self._answered:
                # A peer with Nagle's algorithm on waits for an ACK before its next small piece: a delayed one costs it 40 ms a message. Linux
                # goes back to delaying when we answer.
                self._answered = False
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            self._incoming.write(buffer[:got])
        return True

    def _send(self, plaintext: memoryview) -> None:
        try:
            self._tls.write(plaintext)
        except ssl.SSLError as error:
            raise ConnectionLost(f"TLS broke: {error.reason or error}") from error
        self._flush()

    def _flush(self) -> None:
        if not self._outgoing.pending:
            return
        self._answered = True
        try:
            self.socket.sendall(self._outgoing.read())
        except BlockingIOError:
            raise ConnectionLost("the peer stalled: it does not read what we send") from None
        except OSError as error:
            raise ConnectionLost(self.cut_reason or f"the connection broke: {error.strerror or error}") from error


def _scratch_of(name: str, length: int) -> memoryview:
    """This thread's own space for that, the same each time."""
    space: memoryview | None = getattr(_scratch, name, None)
    if space is None:
        space = memoryview(bytearray(length))
        setattr(_scratch, name, space)
    return space
