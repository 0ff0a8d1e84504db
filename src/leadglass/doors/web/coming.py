"""Who may come to the web door at this moment? What the flows said when they were looked at last: no request waits for a disk."""

from __future__ import annotations

from leadglass.doors.house import House
from leadglass.policy.decide import by_web
from leadglass.policy.flows import compiled
from leadglass.site.model import Site
from leadglass.terms import NotPermitted, OpenFlow, Peer


class Coming:
    """Looked at a few times a second by one thread. Raises Fault where the first look fails."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._now: tuple[Site, tuple[OpenFlow, ...]] = self._looked()

    def look(self) -> bool:
        """Whether others may come than before. Raises Fault, OSError: then what was known goes on."""
        before, self._now = self._now, self._looked()
        return self._now[0] is not before[0] or self._now[1] != before[1]

    def comes(self, peer: Peer) -> Peer:
        """With the flows on demand by which they come. Raises NotPermitted."""
        site, opened = self._now
        return by_web(site, peer, opened)

    def no_more(self, peer: Peer) -> bool:
        try:
            self.comes(peer)
        except NotPermitted:
            return True
        return False

    def _looked(self) -> tuple[Site, tuple[OpenFlow, ...]]:
        site = self._house.site()
        waiting = {way.rule for way in compiled(site).web if way.on_demand is not None}
        return site, tuple(each for each in self._house.present.opened() if each.flow in waiting) if waiting else ()
