"""How fast does a series come out? The same getscu, which throws away what it gets, through the same TLS relay from every archive."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.table import Table

from bench import peers
from bench.corpus import ROOT, write_corpus
from bench.ingest import send
from bench.measure import cost

IMAGES = 300
STUDY = f"{ROOT}.5.0"
READS = 4
PDU_LENGTHS_BYTES = (16_384, 131_072)
GET_SECONDS_MAX = 300
ARCHIVES: Mapping[str, Callable[[Path], AbstractContextManager[peers.Peer]]] = {
    "leadglass": peers.leadglass,
    "orthanc-tls": partial(peers.orthanc, tls=True),
    "dcmqrscp": peers.dcmqrscp,
}


@dataclass(frozen=True, slots=True)
class Read:
    """One C-GET of the whole study. `turn`: 0 for the first one after the page cache was dropped from our hands, then 1, 2, ..."""

    peer: str
    pdu_length_bytes: int
    turn: int
    per_second: float
    cpu_ms: float


def reads(scratch: Path, *, rounds: int, only: Sequence[str]) -> Iterator[Read]:
    corpus = scratch / "series"
    write_corpus(corpus, count=IMAGES, side=512, seed=5, per_study=IMAGES)
    for turn in range(rounds):
        for name, start in ARCHIVES.items():
            if only and name not in only:
                continue
            place = scratch / f"read-{turn}-{name}"
            place.mkdir()
            with start(place) as peer:
                send(peer, [corpus], 1, invent=False)
                os.sync()
                with peers.relayed(peer, place) as port:
                    for length in PDU_LENGTHS_BYTES:
                        for number in range(READS):
                            yield read(peer, port, length, number)
            subprocess.run(["rm", "-rf", str(place)], check=True)


def read(peer: peers.Peer, port: int, pdu_length_bytes: int, turn: int, images: int = IMAGES) -> Read:
    """A study of so many images."""
    line = [
        peers.program("getscu"), "-S", "--ignore", "-pdu", str(pdu_length_bytes), "-aet", "BENCH", "-aec", peer.called_ae_title,
        "-k", "0008,0052=STUDY", "-k", f"0020,000D={STUDY}", "127.0.0.1", str(port),
    ]  # fmt: skip
    before, begun = cost(peer.pid).cpu_seconds, time.perf_counter()
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=GET_SECONDS_MAX, env=peers.environment(), check=False
    )
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"getscu from {peer.name}: {done.stderr[-500:]}")
    cpu_ms = 1000 * (cost(peer.pid).cpu_seconds - before) / images
    return Read(peer.name, pdu_length_bytes, turn, images / seconds, cpu_ms)


def table(found: Sequence[Read]) -> Table:
    shown = Table(
        "archive", "getscu -pdu", "first read, /s", "later reads, /s", "CPU ms", title="C-GET of one CT study", box=None
    )
    grouped: dict[tuple[int, str], list[Read]] = {}
    for read in found:
        grouped.setdefault((read.pdu_length_bytes, read.peer), []).append(read)
    for (length, name), each in grouped.items():
        first = [read.per_second for read in each if read.turn == 0]
        later = [read.per_second for read in each if read.turn > 0]
        cpu = statistics.median(read.cpu_ms for read in each)
        shown.add_row(
            name, str(length), f"{statistics.median(first):.0f}", f"{statistics.median(later):.0f}", f"{cpu:.2f}"
        )
    return shown
