"""What may the archive take? Its limits, each with its unit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Defaults for one serving process.

    `arrival_memory_max_bytes`: sealed bytes of all arrivals together, beyond it they stream to disk. `disk_reserve_bytes`: stores stop
    there. `claim_wait_seconds`: how long a claim may be pending elsewhere. `barrier_wait_seconds`: a rebuild's pause in writing.
    """

    arrival_memory_max_bytes: int = 32 << 20
    instance_length_max_bytes: int = 4 << 30
    segment_length_max_bytes: int = 256 << 20
    segment_age_max_seconds: int = 15 * 60
    disk_reserve_bytes: int = 1 << 30
    claim_wait_seconds: float = 5.0
    barrier_wait_seconds: float = 4.0
