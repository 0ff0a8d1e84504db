"""Connections park without a thread, wake with their bytes, leave at their deadline, and are counted before anything else."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from leadglass.doors.dimse.reception import Next, Reception
from leadglass.doors.processes.caps import SharedCaps
from leadglass.site.model import Limits

GO_ON = threading.Event()


class Echoing:
    """A visitor that sends back what it hears and leaves at the end of the stream, or when it has waited too long."""

    def __init__(self, sock: socket.socket, patience: float = 60.0) -> None:
        self.sock, self.expired, self.left, self.busy = sock, False, threading.Event(), False
        self._deadline = time.monotonic() + patience
        sock.setblocking(False)

    def fileno(self) -> int:
        return self.sock.fileno()

    def step(self) -> Next:
        try:
            data = self.sock.recv(4096)
        except BlockingIOError:
            return Next.PARK
        if not data:
            return Next.LEAVE
        if data == b"wait":
            self.busy = True
            GO_ON.wait(30)
            self.busy = False
        self.sock.sendall(data)
        return Next.PARK

    def deadline(self) -> float | None:
        return self._deadline

    def expire(self) -> Next:
        self.expired = True
        return Next.LEAVE

    def leave(self) -> None:
        self.sock.close()
        self.left.set()

    def cut(self, reason: str) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)


ZONES = {"127.0.0.1": "modalities", "127.0.1.1": "clinical"}


class House:
    def __init__(
        self,
        *,
        total: int = 50,
        address: int = 50,
        zone: int = 50,
        strangers: int = 50,
        patience: float = 60.0,
        threads_per_zone: int = 4,
    ) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.visitors: list[Echoing] = []
        self.turned_away: list[tuple[str, str]] = []
        self.calls: list[socket.socket] = []
        caps_fd = SharedCaps.create(2)
        limits = Limits(
            associations_max=total,
            associations_per_address_max=address,
            associations_per_zone_max=zone,
            associations_of_strangers_max=strangers,
        )
        self.caps, self.other = (SharedCaps(caps_fd, 2, row, limits) for row in (0, 1))
        self.patience = patience
        self.reception = Reception(
            self.listener,
            self._welcome,
            self.caps,
            threads_max=4,
            threads_per_zone_max=threads_per_zone,
            zone_of=lambda address: ZONES.get(address, ""),
            busy=lambda address, limit: self.turned_away.append((address, limit)),
        )
        self.thread = threading.Thread(target=self.reception.run)
        self.thread.start()

    def _welcome(self, sock: socket.socket, name: tuple[str, int]) -> Echoing:
        visitor = Echoing(sock, self.patience)
        self.visitors.append(visitor)
        return visitor

    def call(self, source: str = "127.0.0.1") -> socket.socket:
        sock = socket.create_connection(self.listener.getsockname(), 5, (source, 0))
        self.calls.append(sock)
        return sock

    def close(self) -> None:
        self.reception.stop(1.0)
        self.thread.join(5)
        for each in (self.listener, *self.calls):
            each.close()
        assert not self.thread.is_alive()


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


def until(condition, seconds: float = 5.0) -> bool:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_many_parked_connections_wake_in_any_order(house: House) -> None:
    calls = [house.call() for _ in range(40)]
    for number, sock in reversed(list(enumerate(calls))):
        sock.sendall(b"%d" % number)
        assert sock.recv(16) == b"%d" % number
    assert threading.active_count() < 12, "a parked connection holds no thread"
    for sock in calls:
        sock.close()
    assert until(lambda: house.caps.open_connections() == 0)


def test_a_deadline_ends_a_silent_connection() -> None:
    house = House(patience=0.2)
    try:
        sock = house.call()
        assert sock.recv(16) == b"", "closed by the house"
        assert house.visitors[0].expired
    finally:
        house.close()


def test_an_address_has_its_share_over_all_workers() -> None:
    house = House(address=2)
    try:
        assert not house.other.enter("127.0.0.1", "modalities"), "another worker already serves this address"
        first, second = house.call(), house.call()
        first.sendall(b"x")
        assert first.recv(4) == b"x"
        assert second.recv(4) == b"", "one too many"
        assert house.turned_away == [("127.0.0.1", "associations_per_address_max")]
    finally:
        house.close()


def test_a_full_site_lets_the_queue_wait_instead_of_refusing() -> None:
    house = House(total=1)
    try:
        first = house.call()
        assert until(lambda: house.caps.open_connections() == 1)
        waiting = house.call()
        waiting.sendall(b"later")
        waiting.settimeout(0.3)
        with pytest.raises(TimeoutError):
            waiting.recv(16)
        first.close()
        waiting.settimeout(5)
        assert waiting.recv(16) == b"later"
    finally:
        house.close()


def test_a_dead_workers_row_is_cleared() -> None:
    descriptor = SharedCaps.create(2)
    one, two = (SharedCaps(descriptor, 2, row, Limits()) for row in (0, 1))
    assert not one.enter("10.0.0.1", "") and not two.enter("10.0.0.1", "")
    two.clear(0)
    assert two.open_connections() == 1
    os.close(descriptor)


def test_stopping_cuts_who_stays(house: House) -> None:
    sock = house.call()
    sock.sendall(b"x")
    assert sock.recv(4) == b"x"
    house.reception.stop(0.5)
    assert sock.recv(4) == b""


def test_a_storm_from_one_zone_leaves_room_for_another_and_strangers_get_least() -> None:
    house = House(total=10, zone=3, strangers=1)
    try:
        inside = [house.call() for _ in range(4)]
        assert inside[3].recv(4) == b"", "one too many of that zone"
        stranger, another = house.call("127.0.9.9"), house.call("127.0.9.8")
        assert another.recv(4) == b"", "one too many of no zone"
        for sock in (*inside[:3], stranger, house.call("127.0.1.1")):
            sock.sendall(b"x")
            assert sock.recv(4) == b"x"
        assert [limit for _, limit in house.turned_away] == [
            "associations_per_zone_max",
            "associations_of_strangers_max",
        ]
    finally:
        house.close()


def test_a_zone_that_keeps_its_threads_busy_does_not_keep_another_waiting() -> None:
    house = House(threads_per_zone=2)
    try:
        slow = [house.call() for _ in range(6)]
        for sock in slow:
            sock.sendall(b"wait")
        assert until(lambda: sum(visitor.busy for visitor in house.visitors) == 2), "two of its own, and no more"
        other = house.call("127.0.1.1")
        other.sendall(b"x")
        assert other.recv(4) == b"x"
        assert sum(visitor.busy for visitor in house.visitors) == 2
        GO_ON.set()
        for sock in slow:
            assert sock.recv(8) == b"wait", "whoever waited is heard"
    finally:
        GO_ON.set()
        house.close()
        GO_ON.clear()
