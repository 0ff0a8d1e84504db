"""T26, T27: two hundred who say nothing, or say it slowly, and hundreds who are idle: whoever behaves is served, and nobody costs much."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadglass.lab.peers import Archive, Identity, associated, echoing
from leadglass.wire.pdu import encode
from tests.running import RunningSite, running, until
from tests.siege.raw import Raw, asking, p_data, pdu, store_command, tls

SLOW, IDLE = 200, 750
WARM = 250  # idle ones before anything is counted: what each process takes once is no association's
ECHOES = 100
HELD_BEFORE_IDENTITY_MAX_BYTES = 1 << 20
HELD_IDLE_MAX_BYTES = 64 << 10
LIMITS = """
[limits]
associations_max = 2000
associations_per_zone_max = 1500
handshake_seconds = 8
artim_seconds = 8
stall_seconds = 8
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("crowd"), LIMITS) as site:
        site.up()
        site.enroll("CT1", "echo,store")
        site.enroll("GOOD", "echo,store")
        yield site
        print(site.log())


def resident_bytes(site: RunningSite) -> int:
    assert site.process is not None
    pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in site.children(site.process.pid))
    return sum(pages) * os.sysconf("SC_PAGESIZE")


def good(site: RunningSite) -> Identity:
    return Identity("GOOD", "127.0.0.1", site.bundles["GOOD"].directory)


def echo_on_a_new_association(site: RunningSite) -> float:
    """Milliseconds from connecting to the answer."""
    begun = time.perf_counter()
    with associated(good(site), Archive("127.0.0.1", site.port), echoing()) as session:
        assert session.echo().status == 0
        return 1000 * (time.perf_counter() - begun)


class Slow(threading.Thread):
    """One thread for all of them: who drips says a byte a second; the others say nothing more."""

    def __init__(self, site: RunningSite) -> None:
        super().__init__(daemon=True)
        self._end = threading.Event()
        self.silent: list[socket.socket] = []
        self.dripping: list[socket.socket] = []
        bundle = site.bundles["CT1"]
        for number in range(SLOW):
            source = f"127.1.{number // 40}.1"  # more than one address, as such a crowd has
            match number % 4:
                case 0:
                    sock: socket.socket = self._connected(site, source)
                    self.silent.append(sock)
                case 1:
                    sock = self._connected(site, source)
                    sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # a ClientHello that never goes on
                    self.silent.append(sock)
                case 2:
                    sock = tls(site, bundle, source)
                    sock.sendall(encode(asking("CT1"))[:50])
                    self.dripping.append(sock)
                case _:
                    sock = tls(site, bundle, source)
                    assert Raw(sock).associate() == "accepted"  # type: ignore[arg-type]
                    sock.sendall(
                        p_data(1, store_command("1.2.3"), command=True) + pdu(0x04, b"\0\0\xea\x62\1\2", 60_006)
                    )
                    self.dripping.append(sock)

    @staticmethod
    def _connected(site: RunningSite, source: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", site.port), 10, (source, 0))

    def run(self) -> None:
        while not self._end.wait(1.0):
            for sock in self.dripping:
                with contextlib.suppress(OSError):
                    sock.send(b"\0")

    def gone(self) -> int:
        """How many were shown out."""
        return sum(map(_is_closed, (*self.silent, *self.dripping)))

    def close(self) -> None:
        self._end.set()
        self.join()
        for sock in (*self.silent, *self.dripping):
            sock.close()


def _is_closed(sock: socket.socket) -> bool:
    sock.settimeout(0.01)
    try:
        return not sock.recv(4096)
    except TimeoutError:
        return False
    except OSError:
        return True


def test_t26_attack_01_02_two_hundred_slow_peers_keep_nobody_waiting_and_are_shown_out(site: RunningSite) -> None:
    before = resident_bytes(site)
    slow = Slow(site)
    try:
        slow.start()
        took = [echo_on_a_new_association(site) for _ in range(ECHOES)]
        held = (resident_bytes(site) - before) / SLOW
        with associated(good(site), Archive("127.0.0.1", site.port), echoing()) as session:
            for _ in range(ECHOES):
                begun = time.perf_counter()
                assert session.echo().status == 0
                took.append(1000 * (time.perf_counter() - begun))
            assert until(lambda: slow.gone() == SLOW, 60), f"{SLOW - slow.gone()} are still there"
            assert session.echo().status == 0
    finally:
        slow.close()
    print(
        f"C-ECHO p99 {statistics.quantiles(took, n=100)[98]:.0f} ms, new associations included; {held / 1024:.0f} KiB held for each"
    )
    assert held < HELD_BEFORE_IDENTITY_MAX_BYTES


def test_t26_attack_01_idle_associations_cost_little(site: RunningSite) -> None:
    """Some hundred of them here, in several addresses; a parked association holds no thread."""
    with contextlib.ExitStack() as stack:
        _idle(site, stack, WARM)
        before = resident_bytes(site)
        _idle(site, stack, IDLE)
        held = (resident_bytes(site) - before) / IDLE
        cpu, begun = _cpu_seconds(site), time.monotonic()
        time.sleep(3.0)
        share = (_cpu_seconds(site) - cpu) / (time.monotonic() - begun)
        assert site.rows("status")[0]["open_associations"] == WARM + IDLE
    print(f"{IDLE} idle associations: {held / 1024:.0f} KiB each, {share:.1%} of a core")
    assert held < HELD_IDLE_MAX_BYTES


def _idle(site: RunningSite, stack: contextlib.ExitStack, many: int) -> None:
    for number in range(many):
        who = Identity("CT1", f"127.{many // 100}.1.{number // 50 + 1}", site.bundles["CT1"].directory)
        stack.enter_context(associated(who, Archive("127.0.0.1", site.port), echoing()))


def _cpu_seconds(site: RunningSite) -> float:
    assert site.process is not None
    ticks = 0
    for pid in site.children(site.process.pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_t26_attack_09_a_storm_of_strangers_does_not_fill_the_disk(site: RunningSite) -> None:
    """What one address makes us write is counted, not written one by one, and none of it waits for the disk."""
    before = len(site.events("association:refused"))
    for _ in range(300):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", site.port), 5, ("127.3.0.1", 0)) as sock,
        ):
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            sock.recv(16)
    assert echo_on_a_new_association(site) > 0
    assert len(site.events("association:refused")) - before <= 10
