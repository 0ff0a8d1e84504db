"""What holds at this moment? The proven site, the containment state and the waivers, read again when the generation rises; and who is who by them.

What is open for a time besides ends by the clock, which raises no generation: it is looked at anew a few times a second.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from leadglass.identity.certificates import Enrolled, identify
from leadglass.identity.people.desk import Desk
from leadglass.identity.people.seats import Seats
from leadglass.identity.people.windows import Windows
from leadglass.policy.containment import Watch
from leadglass.policy.decide import decide
from leadglass.policy.flows import compiled
from leadglass.site.model import Site
from leadglass.site.people import People
from leadglass.site.register import Register
from leadglass.site.write import load_proven
from leadglass.terms import Asker, Caller, Containment, OpenFlow, Peer, Proposal, Subject


class Present:
    """What holds at this moment: the proven site, the containment state, the waivers; read again when the generation rises."""

    def __init__(self, site_dir: Path, register: Register, desk: Callable[[], Desk]) -> None:
        self.site_dir, self._register, self._desk = site_dir, register, desk
        self._watch = Watch(site_dir)
        self._windows = Windows(People(register), time.time_ns)
        self.owner_uid = site_dir.stat().st_uid
        self._lock = threading.Lock()
        self._seen: tuple[int, Site, Enrolled] | None = None

    def containment(self) -> Containment:
        return self._watch.current()

    def containment_at_once(self) -> Containment:
        """For a change: what another process changed a moment ago holds for it."""
        return self._watch.at_once()

    def unreadable(self) -> bool:
        return self._watch.unreadable

    def site(self) -> Site:
        return self._now()[1]

    def enrolled(self) -> Enrolled:
        return self._now()[2]

    def opened(self) -> tuple[OpenFlow, ...]:
        """The flows on demand that are open. Raises StoreFault."""
        return self._windows.open(self.site(), self._watch.current().generation)

    def opened_to(self, name: str) -> tuple[OpenFlow, ...]:
        """Those of them that grant a device something at the DIMSE door; costs nothing where none of them could."""
        waiting = compiled(self.site()).on_demand.get(name)
        if not waiting:
            return ()
        rules = {grant.rule for grant in waiting}
        return tuple(each for each in self.opened() if each.flow in rules)

    def still_welcome(self, subject: Subject) -> None:
        """Raises Refused where who is in the house would not be let in any more."""
        device = identify(self.enrolled(), subject.peer, subject.proposal, dt.datetime.now(dt.UTC))
        known = self._as_of_now(replace(device, caller=Seats(self._desk()).still(subject)))
        decide(self.site(), self.containment(), known, subject.proposal, now_ns=time.time_ns())

    def subject(self, peer: Peer, proposal: Proposal) -> Subject:
        """The device, and who sits at it. Raises NotIdentified, Contained."""
        device = identify(self.enrolled(), peer, proposal, dt.datetime.now(dt.UTC))
        caller = Seats(self._desk()).taken(device)
        known = replace(device, caller=caller, proposal=replace(proposal, token=b""))  # read once, and not kept
        return self._as_of_now(known)

    def asker(self, asker: Asker) -> Asker:
        """Whoever asks, with what is in force for them at this moment; a device alone is what it was. Raises NotIdentified."""
        if isinstance(asker, Caller):
            return self._desk().again(asker)
        known = asker if asker.caller is None else replace(asker, caller=Seats(self._desk()).still(asker))
        return self._as_of_now(known)

    def _as_of_now(self, subject: Subject) -> Subject:
        opened = self.opened_to(subject.device.name)
        return subject if opened == subject.peer.opened else replace(subject, peer=replace(subject.peer, opened=opened))

    def _now(self) -> tuple[int, Site, Enrolled]:
        containment = self._watch.current()
        seen = self._seen
        if seen is not None and seen[0] == containment.generation:
            return seen
        with self._lock:
            site = load_proven(self.site_dir)
            waivers = {
                each.fingerprint: (each.id, dt.datetime.fromtimestamp(each.until_ns / 1e9, dt.UTC))
                for each in self._register.waivers()
            }
            enrolled = Enrolled(site.devices, site.doors.dimse.ae_title, containment, waivers)
            self._seen = (containment.generation, site, enrolled)
            return self._seen
