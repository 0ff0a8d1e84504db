"""Is everybody still there whom a directory vouched for? Each is asked every `poll_seconds`; who is gone there is disabled here, by a change.

A directory that does not answer disables nobody: it is amber in `leadglass status` until it answers again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from leadglass.doors.house import House
from leadglass.identity.people.vouched import Gone
from leadglass.terms import ChangeKind, Fault, NotIdentified, Role

LOOK_SECONDS = 0.5

log = structlog.get_logger()


class Sweeps:
    """In a thread of the keeper's: a slow directory holds up nothing else. `change`: kind, about, arguments; it tells of failures itself."""

    def __init__(self, house: House, change: Callable[[ChangeKind, str, dict[str, object]], None]) -> None:
        self._house, self._change = house, change
        self._due: dict[str, float] = {}
        self._silent: dict[str, str] = {}

    def silent(self) -> Sequence[str]:
        known = self._house.site().directories
        return tuple(
            f"{why}: nobody is disabled meanwhile" for name, why in sorted(self._silent.items()) if name in known
        )

    def until(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK_SECONDS):
            for name, settings in self._house.site().directories.items():
                if self._due.get(name, 0.0) <= time.monotonic() and not stop.is_set():
                    self.sweep(name)
                    self._due[name] = time.monotonic() + settings.poll_seconds

    def sweep(self, name: str) -> None:
        """Asks one directory now. One that vouches for nobody yet is asked whether it answers."""
        try:
            directory = self._house.desk.elsewhere.sources.directory(name)
            ours = [each for each in self._house.people.every() if each.source == directory.source and each.enabled]
            gone = directory.sweep(ours)
            if not ours:
                directory.examine()
        except (Fault, NotIdentified) as error:
            if name not in self._silent:
                log.warning("a directory was not heard", directory=name, reason=str(error))
            self._silent[name] = str(error)
            return
        self._silent.pop(name, None)
        roles = {each.id: each.roles for each in ours}
        for each in gone:
            self._follow(each, roles[each.person])

    def _follow(self, gone: Gone, had: frozenset[Role]) -> None:
        if not gone.left:
            self._change(ChangeKind.PERSON_DISABLE, gone.name, {"why": gone.why, "gone": True})
            return
        for role in sorted(had - gone.left):
            self._change(ChangeKind.ROLE_REVOKE, gone.name, {"role": role, "why": gone.why})
