"""`make bench`: interleaved runs, medians, ratios; a run whose disk changed its pace by more than 25 % is void.

Peers must reach the ratios to each other that were measured before, or no ratio is to be believed: a bench that cannot reproduce the peers
says nothing about us, and the report says so.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import auditing, controls, deciding, finding, ingest, reading, rebuilding, revoking, shift, starting, zoning

PARTS = (
    "ct",
    "small",
    "multiframe",
    "get",
    "find",
    "controls",
    "paced",
    "rebuild",
    "policy",
    "revocation",
    "audit",
    "shift",
    "zones",
    "start",
)


def part(name: str, arguments: argparse.Namespace, scratch: Path) -> Iterator[Any]:
    """What one part of the bench measures, as it is measured."""
    rounds, instances, only = arguments.rounds, arguments.instances, arguments.only or ()
    match name:
        case "ct" | "small":
            yield from ingest.runs(scratch, name, rounds=rounds, instances=instances, only=only, associations=(1, 4))
        case "multiframe":
            yield from ingest.runs(scratch, name, rounds=rounds, instances=3, only=only, associations=(1,))
        case "get":
            yield from reading.reads(scratch, rounds=rounds, only=only)
        case "find":
            yield from finding.queries(scratch, arguments.studies or [10_000, 100_000, 1_000_000], orthanc=not only)
        case "controls":
            yield from controls.runs(scratch, rounds=rounds, instances=instances, associations=(1, 4))
        case "paced":
            yield from controls.paced(scratch)
        case "policy":
            yield from deciding.runs(scratch, arguments.studies or [1_000_000])
        case "rebuild":
            yield from rebuilding.rebuilds(scratch, arguments.instances_kept)
        case "audit":
            yield from auditing.runs(arguments.kept, arguments.events)
        case "shift":
            yield shift.shift(scratch)
        case "zones":
            yield from zoning.runs(scratch)
        case "start":
            yield from starting.starts(scratch, arguments.journalled or [10_000, 1_000_000])
        case "revocation":
            yield from revoking.revocations(scratch, arguments.revocations)


def report(name: str, found: list[Any], console: Console) -> None:
    tables: dict[str, Callable[[list[Any]], Any]] = {
        "get": reading.table,
        "find": finding.table,
        "controls": controls.table,
        "rebuild": rebuilding.table,
        "policy": deciding.table,
        "revocation": revoking.table,
        "audit": auditing.table,
        "shift": shift.table,
        "zones": zoning.table,
        "start": starting.table,
    }
    if name in tables:
        console.print(tables[name](found))
    elif name != "paced":
        console.print(ingest.table(name, found))
        void = sum(run.void for run in found)
        if void:
            console.print(
                f"{void} of {len(found)} runs are void: the disk changed its pace by more than {ingest.PROBE_DRIFT_MAX:.0%}"
            )
        if name == "ct" and not ingest.peers_hold(found):
            console.print("believe no ratio: the peers did not reach 90 % of their known ratio to each other here")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--part", action="append", choices=PARTS, help="may be repeated; all of them where none is named"
    )
    parser.add_argument("--instances", type=int, default=4000, help="a run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="a receiver's name; may be repeated")
    parser.add_argument("--studies", action="append", type=int, help="sizes of the index for C-FIND")
    parser.add_argument("--instances-kept", type=int, default=100_000, help="of 10 KB, where the index is rebuilt")
    parser.add_argument("--revocations", type=int, default=20, help="of each kind")
    parser.add_argument("--events", type=int, default=10_000_000, help="in the audit search")
    parser.add_argument("--journalled", action="append", type=int, help="events in the journals of a site that starts")
    parser.add_argument(
        "--kept", type=Path, default=auditing.PLACE, help="where the audit search is filled, and goes on"
    )
    parser.add_argument("--json", type=Path, help="every measurement, one JSON object a line")
    parser.add_argument("--scratch", type=Path, help="where stores lie meanwhile (default: a temporary directory)")
    arguments = parser.parse_args()
    console = Console(width=150)
    console.print(f"machine: {platform.machine()}, Python {platform.python_version()}; command: {' '.join(sys.argv)}")
    for name in arguments.part or PARTS:
        found: list[Any] = []
        with tempfile.TemporaryDirectory(prefix="leadglass-bench-", dir=arguments.scratch) as scratch:
            for one in part(name, arguments, Path(scratch)):
                found.append(one)
                line = json.dumps({"part": name, **asdict(one), **({"void": one.void} if hasattr(one, "void") else {})})
                print(line, file=sys.stderr, flush=True)
                if arguments.json:
                    with arguments.json.open("a") as file:
                        file.write(line + "\n")
        report(name, found, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
