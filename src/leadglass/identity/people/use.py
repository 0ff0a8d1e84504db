"""Which of somebody's rights are used? A decision names its rule, a rule's name begins with the role that it gives to; once a day is enough."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from leadglass.site.people import People
from leadglass.terms import Caller, Role, StoreFault

_DAY = 86_400 * 1_000_000_000


def roles_in(rule: str) -> frozenset[Role]:
    """Of a rule such as `cedar:radiologist-sees`, or several joined by `+`."""
    parts = rule.split("+")
    return frozenset(role for role in Role if any(part.startswith(f"cedar:{role}-") for part in parts))


class RightsUsed:
    """Writes that a role allowed something, for each person and role at most once a day and process."""

    def __init__(self, people: People, clock: Callable[[], int]) -> None:
        self._people, self._clock = people, clock
        self._lock = threading.Lock()
        self._day = 0
        self._noted: set[tuple[str, Role]] = set()

    def note(self, caller: Caller, rule: str) -> None:
        """A register that cannot be written just now costs the review a day, and nobody their work."""
        now_ns = self._clock()
        with self._lock:
            if now_ns // _DAY != self._day:
                self._day = now_ns // _DAY
                self._noted.clear()
            new = [role for role in roles_in(rule) & caller.person.roles if (caller.person.id, role) not in self._noted]
            self._noted.update((caller.person.id, role) for role in new)
        if new:
            with contextlib.suppress(StoreFault):
                self._people.used(caller.person.id, new, now_ns)
