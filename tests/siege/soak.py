"""`make soak`: every campaign for so many seconds, one after the other, and what they have come to over all runs so far.

The ledger lies in `.soak/`: whoever interrupts a soak loses the seed it was in, and the next one goes on behind it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from rich.console import Console
from rich.table import Table

from tests.siege.campaign import LEDGER, Ledger

CAMPAIGNS = {
    "kills": "tests/crash/test_kills.py::test_attack_61_kills_at_any_time",
    "kills-at-calls": "tests/crash/test_kills.py::test_attack_61_kills_at_system_calls",
    "power-cuts": "tests/siege/test_power_cut.py",
    "no-space": "tests/siege/test_disk.py",
    "failed-syncs": "tests/siege/test_disk.py",
    "pdus": "tests/siege/test_fuzz_pdus.py",
    "datasets": "tests/siege/test_fuzz_datasets.py",
    "messages": "tests/siege/test_fuzz_messages.py",
    "hours": "tests/siege/test_hours.py",
}


def report(ledger: Ledger) -> Table:
    table = Table("campaign", "seeds", "totals", box=None)
    for name in CAMPAIGNS:
        totals = ", ".join(f"{key} {value:,}" for key, value in sorted(ledger.totals(name).items()))
        table.add_row(name, str(len(ledger.rows(name))), totals or "not run yet")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for each campaign")
    parser.add_argument("--only", action="append", choices=list(CAMPAIGNS), help="these campaigns")
    parser.add_argument("--report", action="store_true", help="what they have come to so far, and no run")
    arguments = parser.parse_args()
    failed = []
    if not arguments.report:
        for path in dict.fromkeys(CAMPAIGNS[name] for name in arguments.only or CAMPAIGNS):
            line = [sys.executable, "-m", "pytest", "-q", path, "--soak", str(arguments.seconds)]
            if subprocess.run(line, check=False).returncode:
                failed.append(path)
    Console().print(report(Ledger(LEDGER)))
    for path in failed:
        print(f"failed: {path}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
