"""How long does it take to make the index again? From the journals, from the segments alone, and beside a writer that goes on storing.

The site is filled through the real steps, without a network: several writers store synthetic instances of 10 KB, a hundred a study, some of
them twice with other bytes, so that versions are held and a few promoted. Every rebuilt index is compared with the one before, row for row.
"""

from __future__ import annotations

import hashlib
import json
import random
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.corpus import CT_IMAGE_STORAGE, data_set, uid_of

if TYPE_CHECKING:
    from leadglass.doors.house import House

WRITERS = 3
SIDE = 68  # 16-bit pixels: 9.2 KB, and a header
PER_STUDY, SERIES = 100, 4
AGAIN_EVERY = 500  # an instance that comes a second time with other bytes, and is held
PROMOTED_EVERY = 5  # of those
LIVE_STUDY = 10_000_000  # the first that a live writer stores: its studies are its own
GOALS = {"journals": 15.0, "segments": 120.0}


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`seconds` of which the index was not written for `barrier_seconds`; `cpu_seconds` of the rebuilding process; `live`: stored meanwhile.

    `equal`: every row is as before; beside a live writer: nothing is missing, and what it stored is there.
    """

    source: str
    records: int
    live: int
    seconds: float
    barrier_seconds: float
    cpu_seconds: float
    equal: bool


def rebuilds(scratch: Path, instances: int) -> Iterator[Rebuilt]:
    site = scratch / "rebuild"
    subprocess.run(
        [sys.executable, "-m", "leadglass", "init", str(site), "--loopback"], check=True, stdout=subprocess.DEVNULL
    )
    enrolled(site)
    _python(site, "fill", str(instances))
    before, versions = _rows(site)
    for source in GOALS:
        yield _measured(source, _python(site, source), equal=(before, versions) == _rows(site))
    for turn, source in enumerate(GOALS, start=1):
        with _storing(site, turn * LIVE_STUDY) as live:
            found = _python(site, source)
        after, versions_after = _rows(site)
        equal = before <= after and versions_after == versions + live[0]
        yield replace(_measured(f"{source}, beside a live writer", found, equal=equal), live=live[0])
        before, versions = after, versions_after
    subprocess.run(["rm", "-rf", str(site)], check=True)


def _measured(source: str, told: str, *, equal: bool) -> Rebuilt:
    found = json.loads(told)
    return Rebuilt(source, found["records"], 0, found["seconds"], found["barrier_seconds"], found["cpu_seconds"], equal)


def enrolled(site: Path) -> None:
    """With the device that everything comes from."""
    command = [sys.executable, "-m", "leadglass", "--site", str(site), "device", "enroll", "BENCH", "--ae", "BENCH"]
    rights = ["--network", "127.0.0.0/8", "--may", "echo,store", "--out", str(site.with_name("bench-stick"))]
    subprocess.run([*command, *rights], check=True, stdout=subprocess.DEVNULL)


def _python(site: Path, *arguments: str) -> str:
    line = [sys.executable, "-m", "bench.rebuilding", str(site), *arguments]
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def _storing(site: Path, study: int) -> Iterator[list[int]]:
    """A process that stores until the block ends; how many it stored is there afterwards."""
    line = [sys.executable, "-m", "bench.rebuilding", str(site), "live", str(study)]
    live = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert live.stdout is not None
    live.stdout.readline()  # it has begun
    stored: list[int] = []
    try:
        yield stored
    finally:
        stored.append(int(live.communicate("end\n")[0]))


# ---- in processes of their own: a writer's files belong to one process


def fill(site: Path, instances: int) -> None:
    """Several writers at once, each with every third instance of every study."""
    from leadglass.__main__ import assemble
    from leadglass.terms import Conflicting

    houses = [assemble(site) for _ in range(WRITERS)]
    failed: list[BaseException] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"storing {instances:,} instances", total=instances)

        def share(first: int) -> None:
            try:
                for number in range(first, instances, WRITERS):
                    store(houses[first], number, number // PER_STUDY)
                    if number % AGAIN_EVERY == 0:
                        with suppress(Conflicting):  # kept, and held
                            store(houses[first], number, number // PER_STUDY, seed=1)
                    progress.advance(task)
            except BaseException as error:
                failed.append(error)  # the others end, then it is raised

        threads = [threading.Thread(target=share, args=(first,)) for first in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    houses[0].index.catch_up()
    for number in range(0, instances, AGAIN_EVERY * PROMOTED_EVERY):
        houses[0].standings.promote(_uid(number, number // PER_STUDY), 2)
    for house in houses:
        house.close()
    if failed:
        raise failed[0]


def live(site: Path, study: int) -> int:
    """Stores until something comes on standard input; how many."""
    from leadglass.__main__ import assemble

    house, stop = assemble(site), threading.Event()

    def wait() -> None:
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    stored = 0
    while not stop.is_set():
        store(house, stored, study + stored // PER_STUDY)
        stored += 1
        if stored == 1:
            print("storing", flush=True)
    house.close()
    return stored


def rebuild(site: Path, source: str) -> dict[str, object]:
    """What `leadglass index rebuild` does, or the same without looking at a journal; with the CPU seconds it took."""
    from leadglass.__main__ import assemble
    from leadglass.archive.rebuild import Standings

    house = assemble(site)
    standings = house.standings
    assert isinstance(standings, Standings)
    rebuilding = standings.rebuilding if source == "journals" else replace(standings.rebuilding, journalled=tuple)
    begun = _cpu_seconds()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"rebuilding from {source}", total=None)
        result = rebuilding.run(lambda done, there: progress.update(task, completed=done, total=there))
    spent = _cpu_seconds() - begun
    house.close()
    return {**result, "cpu_seconds": round(spent, 3)}


def _cpu_seconds() -> float:
    spent = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def _rows(site: Path) -> tuple[frozenset[bytes], int]:
    """A digest of each row there is, and how many of them are versions."""
    from leadglass.__main__ import assemble

    house = assemble(site)
    try:
        rows, versions = set(), 0
        for row in house.index.rows():
            rows.add(hashlib.blake2b(repr(row).encode(), digest_size=16).digest())
            versions += row[0] == "versions"
        return frozenset(rows), versions
    finally:
        house.close()


def _uid(number: int, study: int) -> str:
    return uid_of(number, study, 0, number % SERIES + 1)


def store(house: House, number: int, study: int, seed: int = 0) -> None:
    """One instance along the path, as its door would: `seed` changes its pixels and nothing else."""
    from leadglass import gateway
    from leadglass.doors.blocking import run
    from leadglass.terms import Offer, Peer, Proposal, Subject
    from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN

    noise = random.Random(seed * 1_000_003 + number).randbytes(SIDE * SIDE * 2)
    content = data_set(number, SIDE, study, 0, noise, series=number % SERIES + 1)
    subject = Subject(
        house.site().devices["BENCH"],
        Peer("127.0.0.1", 1, "dimse"),
        Proposal("BENCH", "LEADGLASS"),
        "sha256:" + "0" * 64,
    )
    offer = Offer(subject, CT_IMAGE_STORAGE, _uid(number, study), EXPLICIT_VR_LITTLE_ENDIAN)
    run(gateway.store(house.do, offer, _Content(content)))


class _Content:
    """A data set that is all there: a `terms.Incoming`."""

    def __init__(self, content: bytes) -> None:
        self._left = memoryview(content)

    def read_into(self, into: memoryview) -> int:
        count = min(len(self._left), len(into))
        into[:count], self._left = self._left[:count], self._left[count:]
        return count


def table(found: Sequence[Rebuilt]) -> Table:
    shown = Table(
        "source", "records", "stored meanwhile", "seconds", "goal", "of these at the barrier", "CPU seconds", "row for row",
        title="the index rebuilt", box=None,
    )  # fmt: skip
    for each in found:
        goal = GOALS[each.source.partition(",")[0]]
        shown.add_row(
            each.source, f"{each.records:,}", f"{each.live:,}", f"{each.seconds:.1f}", f"{goal:.0f}",
            f"{each.barrier_seconds:.3f}", f"{each.cpu_seconds:.1f}", "equal" if each.equal else "DIFFERENT",
        )  # fmt: skip
    return shown


def main(site: Path, what: str, argument: str = "") -> None:
    match what:
        case "fill":
            fill(site, int(argument))
        case "live":
            print(live(site, int(argument)))
        case _:
            print(json.dumps(rebuild(site, what)))


if (
    __name__ == "__main__"
):  # `python -m bench.rebuilding SITE fill INSTANCES`, `SITE live STUDY`, `SITE journals`, `SITE segments`
    main(Path(sys.argv[1]), *sys.argv[2:])
