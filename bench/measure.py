"""What did it cost? CPU and memory of a process tree from /proc, the disk's own pace from a raw sync probe."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
PROBE_BYTES = 525_000
PROBE_COUNT = 200


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds so far, user and system; peak resident sizes in MiB, all processes together and the largest of them."""

    cpu_seconds: float
    peak_mib: float
    largest_mib: float


def tree(pid: int) -> list[int]:
    """The process and everything below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        each = queue.pop()
        found.append(each)
        queue += children.get(each, [])
    return found


def cost(pid: int) -> Cost:
    cpu, peaks = 0.0, [0.0]
    for each in tree(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{each}/status").read_text()
        except OSError:
            continue
        cpu += sum(map(int, fields[11:15])) / _TICKS  # its own, and that of children that ended
        peaks.append(
            next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)
        )
    return Cost(cpu, sum(peaks), max(peaks))


def sync_probe(directory: Path) -> float:
    """Appends of 525 KB with fdatasync, buffered, a second: the disk's pace right now."""
    path = directory / "probe"
    block = os.urandom(PROBE_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        begun = time.perf_counter()
        for _ in range(PROBE_COUNT):
            os.write(descriptor, block)
            os.fdatasync(descriptor)
        return PROBE_COUNT / (time.perf_counter() - begun)
    finally:
        os.close(descriptor)
        path.unlink()
