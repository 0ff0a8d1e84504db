"""How fast do instances go in? One storescu an association, the same files for every receiver, each receiver freshly started."""

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
from bench.corpus import write_corpus, write_multiframe
from bench.measure import cost, sync_probe

# instances/s of storescp to Orthanc, TLS, one association: 1,096 to 269-314 (docs/performance.md); 90 % of the lower end must be reached
KNOWN_STORESCP_TO_ORTHANC = 1096 / 314
PROBE_DRIFT_MAX = 0.25
NEAR_CEILING = 0.8  # of what the same sender reaches with a receiver that throws everything away
SEND_SECONDS_MAX = 900
MULTIFRAME_BYTES = 300 << 20
Start = Callable[[Path], AbstractContextManager[peers.Peer]]


@dataclass(frozen=True, slots=True)
class Run:
    """One sender run against one peer. `cpu_ms`: of the whole receiver tree, an instance. `corpus`: ct, small or multiframe."""

    corpus: str
    peer: str
    associations: int
    instances: int
    per_second: float
    cpu_ms: float
    peak_mib: float
    largest_mib: float
    probe_before: float
    probe_after: float

    @property
    def void(self) -> bool:
        return abs(self.probe_after - self.probe_before) > PROBE_DRIFT_MAX * self.probe_before


def send(peer: peers.Peer, corpora: list[Path], repeat: int, *, invent: bool = True) -> float:
    """One storescu a corpus, at once; the seconds until the last ended. Raises where an instance was not acknowledged."""
    command = [
        "storescu",
        "-aec",
        peer.called_ae_title,
        "-aet",
        "BENCH",
        "--repeat",
        str(repeat),
        *(["--invent-instance"] if invent else []),
        "+sd",
    ]
    if peer.credentials is not None:
        key, certificate, authority = peer.credentials
        command += ["+tls", str(key), str(certificate), "+cf", str(authority)]
    begun = time.perf_counter()
    senders = [
        subprocess.Popen(
            [*command, "127.0.0.1", str(peer.port), str(corpus)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=peers.environment(),
        )
        for corpus in corpora
    ]
    for sender in senders:
        _, errors = sender.communicate(timeout=SEND_SECONDS_MAX)
        if sender.returncode:
            raise RuntimeError(f"storescu to {peer.name}: {errors.decode(errors='replace')[-500:]}")
    return time.perf_counter() - begun


def measure(kind: str, peer: peers.Peer, corpora: list[Path], files: int, repeat: int, scratch: Path) -> Run:
    before = sync_probe(scratch)
    cpu = cost(peer.pid).cpu_seconds
    seconds = send(peer, corpora, repeat)
    after = cost(peer.pid)
    os.sync()  # what a careless receiver left to be written later is written before the disk is asked for its pace
    count = files * repeat * len(corpora)
    return Run(
        kind,
        peer.name,
        len(corpora),
        count,
        count / seconds,
        1000 * (after.cpu_seconds - cpu) / count,
        after.peak_mib,
        after.largest_mib,
        before,
        sync_probe(scratch),
    )


RECEIVERS: Mapping[str, Start] = {
    "leadglass": peers.leadglass,
    "storescp-tls": partial(peers.storescp, tls=True),
    "orthanc-tls": partial(peers.orthanc, tls=True),
    "storescp": partial(peers.storescp, tls=False),
    "orthanc": partial(peers.orthanc, tls=False),
    "ceiling-tls": partial(peers.storescp, tls=True, ignore=True),
}


def corpora(scratch: Path, kind: str, instances: int) -> tuple[list[Path], int]:
    """Four directories of files, one an association, and how many files each has."""
    if kind == "multiframe":
        place = scratch / "multiframe"
        write_multiframe(place, MULTIFRAME_BYTES)
        return [place], 1
    side = 512 if kind == "ct" else 64
    files = max(10, min(100, instances // 4))
    places = [scratch / f"{kind}{number}" for number in range(4)]
    for number, place in enumerate(places):
        write_corpus(place, count=files, side=side, seed=number + 1)
    return places, files


def runs(
    scratch: Path, kind: str, *, rounds: int, instances: int, only: Sequence[str], associations: Sequence[int]
) -> Iterator[Run]:
    """Every receiver once a round, in turn."""
    places, files = corpora(scratch, kind, instances)
    chosen = {name: start for name, start in RECEIVERS.items() if not only or name in only}
    for turn in range(rounds):
        for count in associations:
            if count > len(places):
                continue
            for name, start in chosen.items():
                place = scratch / f"{kind}-{turn}-{count}-{name}"
                place.mkdir()
                repeat = max(1, instances // (files * count))
                with start(place) as peer:
                    send(peer, [places[0]], 1)  # warm
                    yield measure(kind, peer, places[:count], files, repeat, scratch)
                subprocess.run(["rm", "-rf", str(place)], check=True)


def valid(found: Sequence[Run]) -> dict[tuple[str, int], list[Run]]:
    grouped: dict[tuple[str, int], list[Run]] = {}
    for run in found:
        if not run.void:
            grouped.setdefault((run.peer, run.associations), []).append(run)
    return grouped


def table(kind: str, found: Sequence[Run]) -> Table:
    """Medians, and ratios to Orthanc where the peers hold their known ratio to each other; near the sender's own ceiling a ratio says little."""
    grouped = valid(found)
    shown = Table(
        "receiver", "assoc", "instances/s [min, max]", "CPU ms", "peak MiB (largest process)", "runs", "to orthanc-tls", "to storescp-tls",
        title=kind, box=None,
    )  # fmt: skip
    medians = {key: statistics.median(run.per_second for run in each) for key, each in grouped.items()}
    for (name, associations), each in sorted(grouped.items(), key=lambda item: (item[0][1], item[0][0])):
        rates, rate = [run.per_second for run in each], medians[name, associations]
        ceiling = medians.get(("ceiling-tls", associations), 0.0)
        near = " (near the ceiling)" if ceiling and rate >= NEAR_CEILING * ceiling else ""
        shown.add_row(
            name, str(associations), f"{rate:.1f} [{min(rates):.1f}, {max(rates):.1f}]{near}",
            f"{statistics.median(run.cpu_ms for run in each):.2f}", f"{max(run.peak_mib for run in each):.0f} ({max(run.largest_mib for run in each):.0f})",
            str(len(each)), _ratio(rate, medians.get(("orthanc-tls", associations))),
            _ratio(rate, medians.get(("storescp-tls", associations))),
        )  # fmt: skip
    return shown


def peers_hold(found: Sequence[Run]) -> bool:
    """Whether storescp and Orthanc reached 90 % of their known ratio: a bench that cannot reproduce the peers says nothing about us."""
    medians = {key: statistics.median(run.per_second for run in each) for key, each in valid(found).items()}
    storescp, orthanc = medians.get(("storescp-tls", 1)), medians.get(("orthanc-tls", 1))
    return bool(storescp and orthanc) and (storescp or 0) / (orthanc or 1) >= 0.9 * KNOWN_STORESCP_TO_ORTHANC


def _ratio(rate: float, base: float | None) -> str:
    return f"{rate / base:.2f}" if base else "-"
