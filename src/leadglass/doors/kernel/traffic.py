"""What passes now, and what did since the table was loaded? Counters and connections as rows for whoever draws and tightens."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import structlog

from leadglass.doors.kernel import conntrack, nft
from leadglass.doors.kernel.netlink import KernelFault
from leadglass.policy.firewall.handed import box_json
from leadglass.policy.firewall.readback import NotUnderstood, counters

EVERY_SECONDS = 15.0
ROWS_MAX = 2000  # of each sort; what there is besides is counted

log = structlog.get_logger()


class Traffic:
    """Looked at every EVERY_SECONDS; in between there is nothing to tell."""

    def __init__(self) -> None:
        self._looked = float("-inf")

    def taken(self) -> Mapping[str, Any] | None:
        """None where it is too soon, or the kernel does not say."""
        now = time.monotonic()
        if now - self._looked < EVERY_SECONDS:
            return None
        self._looked = now
        try:
            counted = [each for each in counters(nft.listing()) if each.packets]
            spoken = Counter(
                (each.version, each.source, each.target, each.protocol, each.port) for each in conntrack.connections()
            )
        except (nft.NftFault, KernelFault, NotUnderstood) as fault:
            log.error("what passes is not known", reason=str(fault))
            return None
        return {
            "counters": [[each.set, box_json(each.box), each.packets] for each in counted[:ROWS_MAX]],
            "connections": [[*facts, count] for facts, count in spoken.most_common(ROWS_MAX)],
            "more": max(0, len(counted) - ROWS_MAX) + max(0, len(spoken) - ROWS_MAX),
        }
