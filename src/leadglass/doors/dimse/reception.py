"""Who is waiting at the door? One thread watches the listener and every quiet connection; only those with something to say hold a thread.

A visitor is stepped by a pool thread whenever its socket has something, and parks again when it has nothing more to do: handshakes,
A-ASSOCIATE-RQs that trickle in and idle associations cost a descriptor and their state, no thread (ADR 0001).
"""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

DEADLINES_EVERY_SECONDS = 0.5
ACCEPT_BATCH_MAX = 16
GIVE_WAY_SECONDS = 0.001  # for a worker that has fewer connections, so that one worker does not get them all


class Next(enum.Enum):
    """What a visitor wants after a step."""

    PARK = enum.auto()
    LEAVE = enum.auto()


class Visitor(Protocol):
    """A connection from accept to close. `step` and `expire` run in a pool thread, never two at once."""

    def fileno(self) -> int: ...
    def step(self) -> Next: ...
    def deadline(self) -> float | None: ...
    def expire(self) -> Next: ...
    def leave(self) -> None: ...
    def cut(self, reason: str) -> None: ...


class Caps(Protocol):
    """Counts what is open, over all workers of the site, per address, per zone and in total. `enter` names the limit that says no. Before identity."""

    def enter(self, address: str, zone: str) -> str: ...
    def leave(self, address: str, zone: str) -> None: ...
    def full(self) -> bool: ...
    def ahead(self) -> bool: ...


class Reception:
    """Accepts, parks and wakes visitors until `stop`; then lets the busy ones finish for `drain_seconds`.

    Of `threads_max` threads one zone gets `threads_per_zone_max`: what its visitors have to say beyond that waits for its own kind.
    """

    def __init__(
        self,
        listener: socket.socket,
        welcome: Callable[[socket.socket, tuple[str, int]], Visitor],
        caps: Caps,
        *,
        threads_max: int,
        threads_per_zone_max: int,
        zone_of: Callable[[str], str],
        busy: Callable[[str, str], None],
    ) -> None:
        self._listener, self._welcome, self._caps, self._busy = listener, welcome, caps, busy
        self._zone_of, self._threads_per_zone_max = zone_of, threads_per_zone_max
        self._at_work: Counter[str] = Counter()  # threads, by zone
        self._queued: dict[str, deque[tuple[int, Visitor, bool]]] = {}
        self._epoll = select.epoll()
        self._visitors: dict[int, Visitor] = {}
        self._from: dict[int, tuple[str, str]] = {}  # address and zone
        self._stepping: set[int] = set()
        self._lock = threading.Lock()
        self._stopping = False
        self._wake_read, self._wake_write = socket.socketpair()
        self._threads = ThreadPoolExecutor(threads_max, thread_name_prefix="association")
        listener.setblocking(False)
        self._listening = False

    # ---- the watching thread

    def run(self) -> None:
        """Blocks until `stop` was called and every visitor has left or was cut."""
        self._epoll.register(self._wake_read.fileno(), select.EPOLLIN)
        look = time.monotonic() + DEADLINES_EVERY_SECONDS
        while not self._stopping:
            self._mind_the_listener()
            for fd, _ in self._epoll.poll(DEADLINES_EVERY_SECONDS):
                if fd == self._listener.fileno():
                    self._accept()
                elif fd != self._wake_read.fileno():
                    self._dispatch(fd, expired=False)
            now = time.monotonic()
            if now >= look:
                look = now + DEADLINES_EVERY_SECONDS
                self._look_at_deadlines(now)
        self._epoll.close()
        self._wake_read.close()

    def stop(self, drain_seconds: float) -> None:
        """No new connection; parked visitors leave, busy ones get `drain_seconds` to end what they are in the middle of."""
        if self._stopping:
            return
        self._stopping = True
        self._wake_write.send(b"x")
        end = time.monotonic() + drain_seconds
        while time.monotonic() < end:
            with self._lock:
                idle = [fd for fd in self._visitors if fd not in self._stepping]
            for fd in idle:
                self._gone(fd)
            if not self._visitors:
                break
            time.sleep(0.02)
        for visitor in self.visitors():
            visitor.cut("the site is stopping")
        self._threads.shutdown(wait=True, cancel_futures=True)
        for fd in list(self._visitors):
            self._gone(fd)
        self._wake_write.close()

    def visitors(self) -> tuple[Visitor, ...]:
        """Everybody in the house, for whoever must look at all of them (containment, status)."""
        with self._lock:
            return tuple(self._visitors.values())

    def _mind_the_listener(self) -> None:
        full = self._caps.full()
        if self._listening and full:  # a full worker stops accepting: the queue waits for another worker or for us
            self._epoll.unregister(self._listener.fileno())
            self._listening = False
        elif not self._listening and not full:
            self._epoll.register(self._listener.fileno(), select.EPOLLIN)
            self._listening = True

    def _accept(self) -> None:
        for _ in range(ACCEPT_BATCH_MAX):
            if self._caps.ahead():
                time.sleep(GIVE_WAY_SECONDS)
            try:
                sock, name = self._listener.accept()
            except OSError:
                return
            address = name[0]
            zone = self._zone_of(address)
            if limit := self._caps.enter(address, zone):
                self._busy(address, limit)
                sock.close()
                continue
            try:
                visitor = self._welcome(sock, (address, name[1]))
            except OSError:
                self._caps.leave(address, zone)
                sock.close()
                continue
            with self._lock:
                self._visitors[visitor.fileno()] = visitor
                self._from[visitor.fileno()] = (address, zone)
            self._epoll.register(visitor.fileno(), select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT)
            if self._caps.full():
                return

    def _look_at_deadlines(self, now: float) -> None:
        with self._lock:
            due = [
                fd
                for fd, visitor in self._visitors.items()
                if fd not in self._stepping and (deadline := visitor.deadline()) is not None and deadline <= now
            ]
        for fd in due:
            self._dispatch(fd, expired=True)

    # ---- pool threads

    def _dispatch(self, fd: int, *, expired: bool) -> None:
        with self._lock:
            visitor = self._visitors.get(fd)
            if visitor is None or fd in self._stepping:
                return
            self._stepping.add(fd)
            zone = self._from[fd][1]
            if self._at_work[zone] >= self._threads_per_zone_max:
                self._queued.setdefault(zone, deque()).append((fd, visitor, expired))
                return
            self._at_work[zone] += 1
        self._submit(zone, fd, visitor, expired)

    def _submit(self, zone: str, fd: int, visitor: Visitor, expired: bool) -> None:
        with contextlib.suppress(RuntimeError):  # the pool is closed: stop() takes care of who is left
            self._threads.submit(self._work, zone, fd, visitor, expired)

    def _work(self, zone: str, fd: int, visitor: Visitor, expired: bool) -> None:
        try:
            self._step(fd, visitor, expired)
        finally:
            with self._lock:
                queue = self._queued.get(zone)
                following = queue.popleft() if queue else None
                if following is None:
                    self._at_work[zone] -= 1
            if following is not None:
                self._submit(zone, *following)

    def _step(self, fd: int, visitor: Visitor, expired: bool) -> None:
        wants = Next.LEAVE
        try:
            wants = visitor.expire() if expired else visitor.step()
        finally:
            if wants is Next.PARK and not self._stopping:
                with self._lock:
                    self._stepping.discard(fd)
                with contextlib.suppress(ValueError, OSError):  # the watching thread has ended: stop() takes care of it
                    self._epoll.modify(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT)
            else:
                self._gone(fd)

    def _gone(self, fd: int) -> None:
        with self._lock:
            visitor = self._visitors.pop(fd, None)
            address, zone = self._from.pop(fd, ("", ""))
            self._stepping.discard(fd)
        if visitor is None:
            return
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(fd)
        visitor.leave()
        self._caps.leave(address, zone)
