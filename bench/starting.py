"""How long does a site take to start, with years of events behind it? After an end in order, and after a kill of whoever had written them all.

The events are synthetic, of devices that come and go, written by the journal's own pen; beside them lie instances that were stored along the path.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.rebuilding import PER_STUDY, enrolled, store
from leadglass.doors.processes.supervisor import READY_SECONDS_MAX
from tests.audit.happened import admitted
from tests.running import RunningSite

INSTANCES = 3_000  # of 10 KB, among the events
STARTS = 3


@dataclass(frozen=True, slots=True)
class Started:
    """`seconds` from the command until the doors are open, the first and the next times; `events` in the journals."""

    how: str
    events: int
    first: float
    later: float


def starts(scratch: Path, sizes: Sequence[int]) -> Iterator[Started]:
    for how in ("ended in order", "killed"):
        place = scratch / how.replace(" ", "-")
        place.mkdir()
        site = RunningSite.make(place)
        enrolled(site.directory)
        there = 0
        for size in sorted(sizes):
            line = [sys.executable, "-m", "bench.starting", str(site.directory), str(size - there), how]
            subprocess.run(line, check=how == "ended in order")
            there = size
            first, *later = [_start(site) for _ in range(STARTS)]
            yield Started(how, size, first, min(later))


def _start(site: RunningSite) -> float:
    begun = time.monotonic()
    site.up()
    seconds = time.monotonic() - begun
    site.down()
    return seconds


def write(site: Path, events: int, how: str) -> None:
    """In a process of its own, which ends as it is told."""
    from leadglass.__main__ import assemble

    house = assemble(site)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"writing {events:,} events", total=events)
        for number in range(events):
            if number % max(1, events // INSTANCES) == 0:
                store(house, number, number // PER_STUDY)
            house.do.note(replace(admitted(number), actor="BENCH"))
            if number % 10_000 == 0:
                progress.update(task, completed=number)
    if how == "killed":
        os._exit(9)
    house.close()


def table(found: Sequence[Started]) -> Table:
    shown = Table(
        "who wrote them was", "events", "first start, seconds", "later", "allowed",
        title="a start with a history", box=None,
    )  # fmt: skip
    for each in found:
        shown.add_row(
            each.how, f"{each.events:,}", f"{each.first:.1f}", f"{each.later:.1f}", f"{READY_SECONDS_MAX:.0f}"
        )
    return shown


if __name__ == "__main__":  # `python -m bench.starting SITE EVENTS killed`
    write(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
