"""What arrives here, and should it? Listens on every port that is probed, says a probe's own word again, and judges what came by the site file."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from threading import Event

from leadglass.doors.probing.hosts import WORD_LENGTH_MAX_BYTES, Address, Host, family, said
from leadglass.site.model import Site

CONNECTIONS_MAX = 512
CONNECTION_SECONDS = 2.0
LOOK_SECONDS = 0.2
_TAKEN = frozenset({errno.EADDRINUSE, errno.EACCES, errno.EPERM})


@dataclass(frozen=True, slots=True)
class Arrival:
    """A probe that came. `name`: who it says it is from."""

    name: str
    address: Address
    protocol: str
    port: int


@dataclass(slots=True)
class _Calling:
    sock: socket.socket
    address: str
    port: int
    until: float


@dataclass(slots=True)
class Listener:
    """`left`: ports that somebody else listens on already, or that only root may; what is sent there, a real service answers or nobody."""

    site: Site
    own: Host
    ports: Sequence[int]
    left: list[tuple[str, int]] = field(default_factory=list)
    _ears: dict[int, tuple[socket.socket, str, int]] = field(default_factory=dict)
    _calling: dict[int, _Calling] = field(default_factory=dict)

    def open(self) -> None:
        for address in self.own.addresses:
            for port in self.ports:
                for protocol in ("tcp", "udp"):
                    self._listen(address, protocol, port)

    def until(self, stop: Event, seconds: float | None) -> Iterator[Arrival]:
        """What arrives, until `stop`, or for so long."""
        end = None if seconds is None else time.monotonic() + seconds
        with select.epoll() as poller:
            for descriptor in self._ears:
                poller.register(descriptor, select.EPOLLIN)
            while not stop.is_set() and (end is None or time.monotonic() < end):
                for descriptor, _ in poller.poll(LOOK_SECONDS):
                    if descriptor in self._ears:
                        yield from self._ear(*self._ears[descriptor], poller)
                    elif descriptor in self._calling:
                        yield from self._word(descriptor, poller)
                now = time.monotonic()
                for descriptor in [each for each, of in self._calling.items() if now >= of.until]:
                    self._hang_up(descriptor, poller)

    def close(self) -> None:
        for sock, _, _ in self._ears.values():
            sock.close()
        for each in self._calling.values():
            each.sock.close()

    def _listen(self, address: Address, protocol: str, port: int) -> None:
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        sock = socket.socket(family(address), kind)
        try:
            if protocol == "tcp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((str(address), port))
            if protocol == "tcp":
                sock.listen(128)
        except OSError as error:
            sock.close()
            if error.errno not in _TAKEN:
                raise
            if (protocol, port) not in self.left:
                self.left.append((protocol, port))
            return
        sock.setblocking(False)
        self._ears[sock.fileno()] = (sock, protocol, port)

    def _ear(self, sock: socket.socket, protocol: str, port: int, poller: select.epoll) -> Iterator[Arrival]:
        if protocol == "tcp":
            with contextlib.suppress(OSError):
                caller, peer = sock.accept()
                if len(self._calling) >= CONNECTIONS_MAX or not self._known(peer[0]):
                    caller.close()
                    return
                caller.setblocking(False)
                poller.register(caller.fileno(), select.EPOLLIN)
                end = time.monotonic() + CONNECTION_SECONDS
                self._calling[caller.fileno()] = _Calling(caller, peer[0], port, end)
            return
        with contextlib.suppress(OSError):
            data, peer = sock.recvfrom(WORD_LENGTH_MAX_BYTES + 1)
            if self._known(peer[0]) and (found := said(data)) is not None:
                sock.sendto(data, peer)
                yield Arrival(found[2], _address(peer[0]), protocol, port)

    def _word(self, descriptor: int, poller: select.epoll) -> Iterator[Arrival]:
        of = self._calling[descriptor]
        with contextlib.suppress(OSError):
            data = of.sock.recv(WORD_LENGTH_MAX_BYTES + 1)
            if (found := said(data)) is not None:
                of.sock.send(data)
                yield Arrival(found[2], _address(of.address), "tcp", of.port)
        self._hang_up(descriptor, poller)

    def _known(self, address: str) -> bool:
        """Nobody outside of the site's zones is answered."""
        return bool(self.site.zone_of(address))

    def _hang_up(self, descriptor: int, poller: select.epoll) -> None:
        poller.unregister(descriptor)
        self._calling.pop(descriptor).sock.close()


def _address(text: str) -> Address:
    found = ip_address(text.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found
