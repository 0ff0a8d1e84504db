"""What comes back of a packet to each port of each host? Connections and datagrams at a bounded rate, from an address of our own."""

from __future__ import annotations

import contextlib
import errno
import random
import select
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from leadglass.doors.probing.hosts import WORD_LENGTH_MAX_BYTES, Address, Host, addresses, family, said, word
from leadglass.policy.firewall.truth import Heard

AT_ONCE_MAX = 400
ECHO_SECONDS = 0.7  # how long a connection that was opened waits for our listener's word
LOOK_SECONDS = 0.02
_GONE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL, errno.EINVAL})


@dataclass(frozen=True, slots=True)
class Probe:
    """One packet, or a connection. `expected`: that it arrives."""

    source: Host
    target: Host
    address: Address
    protocol: str
    port: int
    expected: bool

    def __str__(self) -> str:
        return f"{self.source.name} to {self.target.name} ({self.address}), {self.protocol}/{self.port}"


@dataclass(slots=True)
class _Sent:
    number: int
    sock: socket.socket
    until: float
    again: float  # when a datagram is sent once more, for one may be lost
    connected: bool = False


class Prober:
    """`site_hosts`: the only ones that anything is sent to. `wait_seconds`: for an answer. `rate`: probes a second."""

    def __init__(self, site_hosts: Collection[Host], *, wait_seconds: float, rate: float) -> None:
        self._may = addresses(site_hosts)
        self._wait, self._rate = wait_seconds, rate
        self._run = random.SystemRandom().getrandbits(63)

    def probe(
        self, probes: Sequence[Probe], done: Callable[[int, int], None] = lambda done, there: None
    ) -> list[Heard]:
        """What was heard of each, in their order. Raises ValueError for an address that is nobody's of the site."""
        if strange := next((each.address for each in probes if each.address not in self._may), None):
            raise ValueError(f"{strange} is no address of a host of the site file")
        heard = [Heard.SILENCE] * len(probes)
        open_: dict[int, _Sent] = {}
        waiting, began, finished = iter(range(len(probes))), time.monotonic(), 0
        following: int | None = next(waiting, None)
        started = 0
        with select.epoll() as poller:
            try:
                while open_ or following is not None:
                    while following is not None and len(open_) < AT_ONCE_MAX and started <= (time.monotonic() - began) * self._rate:  # fmt: skip
                        at_once = self._start(probes[following], following, open_, poller)
                        if at_once is not None:
                            heard[following], finished = at_once, finished + 1
                        started, following = started + 1, next(waiting, None)
                    for number, found in self._step(probes, open_, poller):
                        heard[number], finished = found, finished + 1
                    done(finished, len(probes))
            finally:
                for each in open_.values():
                    each.sock.close()
        return heard

    def _start(self, each: Probe, number: int, open_: dict[int, _Sent], poller: select.epoll) -> Heard | None:
        """Sends it; what is heard at once, None where that takes a while."""
        kind = socket.SOCK_STREAM if each.protocol == "tcp" else socket.SOCK_DGRAM
        sock = socket.socket(family(each.address), kind)
        sock.setblocking(False)
        own = each.source.address(each.address.version)
        now = time.monotonic()
        try:
            if own is not None:
                sock.bind((str(own), 0))
            code = sock.connect_ex((str(each.address), each.port))
            if code not in (0, errno.EINPROGRESS):
                sock.close()
                return _of_code(code)
            sent = _Sent(number, sock, now + self._wait, now + self._wait / 2)
            if each.protocol == "udp":
                sock.send(word(self._run, number, each.source.name))
        except OSError as error:
            sock.close()
            return _of_code(error.errno or 0)
        open_[sock.fileno()] = sent
        poller.register(sock.fileno(), select.EPOLLOUT if each.protocol == "tcp" else select.EPOLLIN)
        return None

    def _step(
        self, probes: Sequence[Probe], open_: dict[int, _Sent], poller: select.epoll
    ) -> Iterator[tuple[int, Heard]]:
        """What is heard now, and of whom nothing will be any more."""
        for descriptor, _ in poller.poll(LOOK_SECONDS):
            sent = open_[descriptor]
            found = self._hear(probes[sent.number], sent, poller)
            if found is not None:
                yield sent.number, found
                _close(sent, open_, poller)
        now = time.monotonic()
        for sent in [*open_.values()]:
            if now >= sent.until:
                yield sent.number, Heard.ANSWER if sent.connected else Heard.SILENCE
                _close(sent, open_, poller)
            elif now >= sent.again and probes[sent.number].protocol == "udp":
                sent.again = sent.until
                with contextlib.suppress(OSError):  # an answer that came meanwhile is heard in its turn
                    sent.sock.send(word(self._run, sent.number, probes[sent.number].source.name))

    def _hear(self, each: Probe, sent: _Sent, poller: select.epoll) -> Heard | None:
        if each.protocol == "tcp" and not sent.connected:
            code = sent.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                return _of_code(code)
            sent.connected, sent.until = True, time.monotonic() + ECHO_SECONDS
            poller.modify(sent.sock.fileno(), select.EPOLLIN)
            try:
                sent.sock.send(word(self._run, sent.number, each.source.name))
            except OSError:
                return Heard.ANSWER
            return None
        try:
            data = sent.sock.recv(WORD_LENGTH_MAX_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            return Heard.ANSWER if sent.connected else _of_code(error.errno or 0)
        found = said(data)
        return Heard.ECHO if found is not None and found[:2] == (self._run, sent.number) else Heard.ANSWER


def _of_code(code: int) -> Heard:
    if code == errno.ECONNREFUSED:
        return Heard.RESET
    return Heard.UNREACHABLE if code in _GONE else Heard.SILENCE


def _close(sent: _Sent, open_: dict[int, _Sent], poller: select.epoll) -> None:
    descriptor = sent.sock.fileno()
    poller.unregister(descriptor)
    del open_[descriptor]
    sent.sock.close()
