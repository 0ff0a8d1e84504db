"""Which flows on demand are open now? By the approved requests in the register, read anew when the generation rises, and at the latest a moment later.

What somebody approves, withdraws or may no longer approve raises the generation; what begins by the clock is seen within that moment, and what ends by
it ends at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from leadglass.policy.on_demand import open_flows
from leadglass.policy.people import DECIDE_AGAIN_SECONDS
from leadglass.site.model import Site
from leadglass.site.people import People
from leadglass.terms import Act, OpenFlow


class Windows:
    """Thread-safe. `clock`: Unix nanoseconds."""

    def __init__(self, people: People, clock: Callable[[], int]) -> None:
        self._people, self._clock = people, clock
        self._lock = threading.Lock()
        self._seen: tuple[tuple[int, str], tuple[OpenFlow, ...]] | None = None
        self._due = 0.0

    def open(self, site: Site, generation: int) -> tuple[OpenFlow, ...]:
        """Raises StoreFault."""
        key, now_ns = (generation, site.digest), self._clock()
        with self._lock:
            if self._seen is None or self._seen[0] != key or time.monotonic() >= self._due:
                due = time.monotonic() + DECIDE_AGAIN_SECONDS  # of before it is read
                self._seen, self._due = (key, self._read(site, now_ns)), due
            return tuple(each for each in self._seen[1] if each.until_ns > now_ns)

    def _read(self, site: Site, now_ns: int) -> tuple[OpenFlow, ...]:
        asked = self._people.access.approved(Act.FLOW_OPEN, now_ns)
        people = {each.id: each for each in self._people.every()} if asked else {}
        return open_flows(site, asked, people, now_ns)
