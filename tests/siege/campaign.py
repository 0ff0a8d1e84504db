"""Long runs that add up: seeds are handed out in order, and what each seed showed is one line in a small ledger.

`make test` runs the first few seeds of a campaign and keeps no ledger. `make soak` goes on where the last soak stopped, until its time is over:
an interrupted soak loses the seed it was in, and nothing else.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

LEDGER = Path(".soak") / "ledger.jsonl"


class Ledger:
    """One JSON line a finished seed: `{"campaign": ..., "seed": ..., "totals": {...}}`. Synced as it grows; a torn last line is ignored."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, campaign: str) -> list[dict[str, object]]:
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if row["campaign"] == campaign:
                found.append(row)
        return found

    def next_seed(self, campaign: str) -> int:
        return 1 + max((int(str(row["seed"])) for row in self.rows(campaign)), default=-1)

    def totals(self, campaign: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for row in self.rows(campaign):
            found.update(row["totals"])  # type: ignore[arg-type]
        return found

    def add(self, campaign: str, seed: int, totals: dict[str, int]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = (
            "\n" + json.dumps({"campaign": campaign, "seed": seed, "totals": totals}) + "\n"
        )  # never onto a torn line
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Campaign:
    """`seeds(name, quick)`: 0 … quick-1 in `make test`; from the ledger's next seed until `soak_seconds` are over in `make soak`."""

    def __init__(self, soak_seconds: float, ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> None:
        self._soak_seconds, self._ledger, self._clock = soak_seconds, ledger, clock

    def seeds(self, name: str, quick: int) -> Iterator[int]:
        if not self._soak_seconds:
            yield from range(quick)
            return
        end = self._clock() + self._soak_seconds
        while self._clock() < end:
            yield self._ledger.next_seed(name)

    def done(self, name: str, seed: int, **totals: int) -> Counter[str]:
        """Called when a seed has passed; the campaign's totals so far (of this seed alone where no ledger is kept)."""
        if not self._soak_seconds:
            return Counter(totals)
        self._ledger.add(name, seed, totals)
        return self._ledger.totals(name)
