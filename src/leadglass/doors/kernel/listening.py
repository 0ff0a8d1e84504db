"""Drops gathered between two reports: counted by who said what to whom, bounded, in a thread of their own."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import structlog

from leadglass.doors.kernel.netlink import KernelFault, Overrun
from leadglass.doors.kernel.nflog import Dropped, Drops
from leadglass.policy.firewall.ruleset import LOG_GROUP

ROWS_MAX = 1000  # between two reports; of what comes besides, the port is left out
PAIRS_MAX = 1000  # of those; what comes besides is counted
WAIT_SECONDS = 0.5
RETRY_SECONDS = 5.0

log = structlog.get_logger()


class Listening:
    """What it cannot hear it says, and tries again: a table is in force whether anybody hears its drops or not. `deaf`: why not, "" where it hears."""

    def __init__(self) -> None:
        self.deaf = ""
        self._counted: Counter[Dropped] = Counter()
        self._lost = 0
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._listen, name="drops", daemon=True)
        self._thread.start()

    def taken(self) -> tuple[list[dict[str, object]], int]:
        """What was dropped since the last time, one row for each sort, and how much could not be told."""
        with self._lock:
            counted, self._counted = self._counted, Counter()
            lost, self._lost = self._lost, 0
        return [_row(each, count) for each, count in counted.items()], lost

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5.0)

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                with Drops(LOG_GROUP) as drops:
                    self.deaf = ""
                    while not self._stop.is_set():
                        self._hear(drops)
            except KernelFault as fault:
                if not self.deaf:
                    log.error("the kernel's drops are not heard", reason=str(fault), mend="who else listens?")
                self.deaf = f"the kernel's drops are not heard: {fault}"
                self._stop.wait(RETRY_SECONDS)

    def _hear(self, drops: Drops) -> None:
        """Raises KernelFault."""
        try:
            for each in drops.heard(WAIT_SECONDS):
                self._count(each)
        except Overrun:
            with self._lock:
                self._lost += 1

    def _count(self, dropped: Dropped) -> None:
        with self._lock:
            if dropped in self._counted or len(self._counted) < ROWS_MAX:
                self._counted[dropped] += 1
                return
            pair = replace(dropped, port=0)
            if pair in self._counted or len(self._counted) < ROWS_MAX + PAIRS_MAX:
                self._counted[pair] += 1
            else:
                self._lost += 1


def _row(of: Dropped, count: int) -> dict[str, object]:
    address = IPv4Address if of.version == 4 else IPv6Address
    return {
        "why": of.why,
        "source": str(address(of.source)),
        "target": str(address(of.target)),
        "protocol": of.protocol,
        "port": of.port,
        "count": count,
    }
