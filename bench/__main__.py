"""`make bench`: interleaved runs, medians, ratios; a run whose disk changed its pace by more than 25 % is void.

Peers must reach the ratios to each other that were measured before, or no ratio is printed: a bench that cannot reproduce the peers says
nothing about us.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import peers
from bench.corpus import write_corpus
from bench.measure import cost, sync_probe

# instances/s of storescp to Orthanc, TLS, one association: 1,096 to 269-314 (docs/performance.md); 90 % of the lower end must be reached
KNOWN_STORESCP_TO_ORTHANC = 1096 / 314
PROBE_DRIFT_MAX = 0.25
SEND_SECONDS_MAX = 600


@dataclass(frozen=True, slots=True)
class Run:
    """One sender run against one peer. `cpu_ms`: of the whole receiver tree, an instance."""

    peer: str
    associations: int
    instances: int
    per_second: float
    cpu_ms: float
    peak_mib: float
    probe_before: float
    probe_after: float

    @property
    def void(self) -> bool:
        return abs(self.probe_after - self.probe_before) > PROBE_DRIFT_MAX * self.probe_before


def send(peer: peers.Peer, corpora: list[Path], repeat: int) -> float:
    """One storescu a corpus, at once; the seconds until the last ended. Raises where an instance was not acknowledged."""
    command = [
        "storescu",
        "-aec",
        peer.called_ae_title,
        "-aet",
        "BENCH",
        "--repeat",
        str(repeat),
        "--invent-instance",
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


def measure(peer: peers.Peer, corpora: list[Path], files: int, repeat: int, scratch: Path) -> Run:
    before = sync_probe(scratch)
    cpu = cost(peer.pid).cpu_seconds
    seconds = send(peer, corpora, repeat)
    after = cost(peer.pid)
    count = files * repeat * len(corpora)
    return Run(
        peer.name,
        len(corpora),
        count,
        count / seconds,
        1000 * (after.cpu_seconds - cpu) / count,
        after.peak_mib,
        before,
        sync_probe(scratch),
    )


def rounds(arguments: argparse.Namespace, scratch: Path) -> Iterator[Run]:
    """Every peer once a round, in turn, each freshly started."""
    side = 512
    files = max(10, min(100, arguments.instances // 4))
    corpora = [scratch / f"ct{number}" for number in range(4)]
    for number, corpus in enumerate(corpora):
        write_corpus(corpus, count=files, side=side, seed=number + 1)
    starts: dict[str, Callable[[Path], AbstractContextManager[peers.Peer]]] = {
        "leadglass": peers.leadglass,
        "storescp-tls": partial(peers.storescp, tls=True),
        "orthanc-tls": partial(peers.orthanc, tls=True),
        "storescp": partial(peers.storescp, tls=False),
        "orthanc": partial(peers.orthanc, tls=False),
    }
    chosen = {name: start for name, start in starts.items() if not arguments.only or name in arguments.only}
    for turn in range(arguments.rounds):
        for associations in (1, 4):
            for name, start in chosen.items():
                place = scratch / f"{turn}-{associations}-{name}"
                place.mkdir()
                repeat = max(1, arguments.instances // (files * associations))
                with start(place) as peer:
                    send(peer, [corpora[0]], 1)  # warm
                    yield measure(peer, corpora[:associations], files, repeat, scratch)
                subprocess.run(["rm", "-rf", str(place)], check=True)


def summary(runs: list[Run]) -> dict[tuple[str, int], list[Run]]:
    grouped: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        if not run.void:
            grouped.setdefault((run.peer, run.associations), []).append(run)
    return grouped


def report(runs: list[Run]) -> None:
    grouped = summary(runs)
    table = Table(
        "receiver", "associations", "instances/s [min, max]", "CPU ms", "peak MiB", "runs", "to orthanc-tls", box=None
    )
    medians = {key: statistics.median(run.per_second for run in each) for key, each in grouped.items()}
    honest = _peers_hold(medians)
    for (name, associations), each in sorted(grouped.items(), key=lambda item: (item[0][1], item[0][0])):
        rates = [run.per_second for run in each]
        base = medians.get(("orthanc-tls", associations))
        ratio = f"{medians[name, associations] / base:.2f}" if base and honest else "-"
        table.add_row(
            name,
            str(associations),
            f"{medians[name, associations]:.0f} [{min(rates):.0f}, {max(rates):.0f}]",
            f"{statistics.median(run.cpu_ms for run in each):.2f}",
            f"{max(run.peak_mib for run in each):.0f}",
            str(len(each)),
            ratio,
        )
    console = Console()
    console.print(table)
    void = sum(run.void for run in runs)
    if void:
        console.print(
            f"{void} of {len(runs)} runs are void: the disk changed its pace by more than {PROBE_DRIFT_MAX:.0%} in them"
        )
    if not honest:
        console.print("no ratios: the peers did not reach 90 % of their known ratio to each other on this machine")


def _peers_hold(medians: dict[tuple[str, int], float]) -> bool:
    storescp, orthanc = medians.get(("storescp-tls", 1)), medians.get(("orthanc-tls", 1))
    return bool(storescp and orthanc) and (storescp or 0) / (orthanc or 1) >= 0.9 * KNOWN_STORESCP_TO_ORTHANC


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--instances", type=int, default=4000, help="a run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="a receiver's name; may be repeated")
    parser.add_argument("--json", type=Path, help="keeps every run, one JSON object a line")
    parser.add_argument(
        "--scratch", type=Path, help="where stores lie during the runs (default: a temporary directory)"
    )
    arguments = parser.parse_args()
    print(
        f"machine: {platform.machine()}, Python {platform.python_version()}; command: {' '.join(sys.argv)}", flush=True
    )
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="leadglass-bench-", dir=arguments.scratch) as scratch:
        for run in rounds(arguments, Path(scratch)):
            runs.append(run)
            print(
                f"{run.peer:<13} {run.associations} assoc  {run.per_second:7.0f}/s  {run.cpu_ms:5.2f} ms CPU  "
                f"probe {run.probe_before:.0f} -> {run.probe_after:.0f}/s{'  void' if run.void else ''}",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text("".join(json.dumps(asdict(run)) + "\n" for run in runs))
    report(runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
