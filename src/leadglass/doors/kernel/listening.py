"""What the kernel tells between two reports: counted by who said what to whom, bounded, in a thread of its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import structlog

from leadglass.doors.kernel.netlink import KernelFault, Overrun
from leadglass.doors.kernel.nflog import Logged, PacketLog

ROWS_MAX = 1000  # between two reports; of what comes besides, the port is left out
PAIRS_MAX = 1000  # of those; what comes besides is counted
WAIT_SECONDS = 0.5
RETRY_SECONDS = 5.0
TRIED_SECONDS_MAX = 2.0

log = structlog.get_logger()


class Listening:
    """To one group of NFLOG. What it cannot hear it says, and tries again: a table is in force whether anybody hears of it or not. `deaf`: why not, ""
    where it hears."""

    def __init__(self, group: int, what: str) -> None:
        self._group, self._what = group, what
        self.deaf = f"{what}: not listened to yet"
        self._tried = threading.Event()
        self._counted: Counter[Logged] = Counter()
        self._lost = 0
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._listen, name=what, daemon=True)
        self._thread.start()
        self._tried.wait(TRIED_SECONDS_MAX)

    @contextmanager
    def telling(self) -> Iterator[tuple[list[dict[str, object]], int]]:
        """What was heard since the last time, one row for each sort, and how much could not be; heard still, where telling it fails."""
        with self._lock:
            counted, self._counted = self._counted, Counter()
            lost, self._lost = self._lost, 0
        try:
            yield [_row(each, count) for each, count in counted.items()], lost
        except BaseException:
            with self._lock:
                self._lost += lost
                for each, count in counted.items():
                    self._count(each, count)
            raise

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5.0)

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                with PacketLog(self._group) as packets:
                    self.deaf = ""
                    self._tried.set()
                    while not self._stop.is_set():
                        self._hear(packets)
            except KernelFault as fault:
                deaf = f"{self._what}: not heard, {fault}"
                if deaf != self.deaf:
                    log.error("the kernel is not heard", what=self._what, group=self._group, reason=str(fault), mend="who else listens?")  # fmt: skip
                self.deaf = deaf
                self._tried.set()
                self._stop.wait(RETRY_SECONDS)

    def _hear(self, packets: PacketLog) -> None:
        """Raises KernelFault."""
        try:
            for each in packets.heard(WAIT_SECONDS):
                with self._lock:
                    self._count(each, 1)
        except Overrun:
            with self._lock:
                self._lost += 1

    def _count(self, logged: Logged, times: int) -> None:
        if logged in self._counted or len(self._counted) < ROWS_MAX:
            self._counted[logged] += times
            return
        pair = replace(logged, port=0)
        if pair in self._counted or len(self._counted) < ROWS_MAX + PAIRS_MAX:
            self._counted[pair] += times
        else:
            self._lost += times


def _row(of: Logged, count: int) -> dict[str, object]:
    address = IPv4Address if of.version == 4 else IPv6Address
    return {
        "why": of.why,
        "source": str(address(of.source)),
        "target": str(address(of.target)),
        "protocol": of.protocol,
        "port": of.port,
        "count": count,
    }
