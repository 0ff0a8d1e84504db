"""What does the site file say of one packet? By its names alone: the compiler's ranges and sets play no part in it, so that a probe can judge them. Pure.

And what does it mean when a real host is asked and answers, or does not?
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from leadglass.policy.flows import zones_of
from leadglass.site.model import ARCHIVE, Flow, Site, Zone

DECOYS = (22, 80, 104, 445, 3389, 11112)


class Party(Protocol):
    """A host. `stranger`: in the zone, and no member of the site."""

    @property
    def name(self) -> str: ...
    @property
    def zone(self) -> Zone: ...
    @property
    def stranger(self) -> bool: ...


def probed_ports(site: Site) -> list[int]:
    """Every port that a service of the site has, and decoys that nobody declared."""
    return sorted({service.port for service in site.services.values()} | set(DECOYS))


def allowed(
    site: Site, source: Party, target: Party, protocol: str, port: int, opened: Collection[str] = frozenset()
) -> bool:
    """Whether one packet may arrive. `opened`: flows on demand that are open now."""
    if _disabled(site, source) or _disabled(site, target):
        on_the_switch = source.zone is target.zone and not source.zone.isolated and target.name != ARCHIVE
        return on_the_switch and source.name != ARCHIVE
    by_flow = any(_opens(site, flow, source, target, protocol, port, opened) for flow in site.flows)
    if ARCHIVE in (source.name, target.name):
        return by_flow  # its host keeps its own table, on the switch too
    return by_flow or (source.zone is target.zone and not source.zone.isolated)


def _disabled(site: Site, host: Party) -> bool:
    return not host.stranger and host.name in site.devices and not site.devices[host.name].enabled


def _opens(
    site: Site, flow: Flow, source: Party, target: Party, protocol: str, port: int, opened: Collection[str]
) -> bool:
    service = site.services[flow.service]
    if flow.on_demand is not None and flow.id not in opened:
        return False
    if (service.protocol, service.port) != (protocol, port):
        return False
    return _means(site, flow.sources, source) and _means(site, flow.targets, target)


def _means(site: Site, names: Iterable[str], host: Party) -> bool:
    """Is the host meant by one of the names? A zone means whoever is in it, archive too."""
    return any(
        (name == host.name and not host.stranger)
        or (name not in site.devices and host.zone.name in zones_of(site, name))
        for name in names
    )


# ---- what an answer means


class Heard(enum.StrEnum):
    """What came back of one packet, at the host that sent it."""

    ECHO = "echo"  # a listener of ours said the same again
    ANSWER = "answer"  # some service answered
    RESET = "reset"  # nothing listens there, or a firewall says so in the host's place
    UNREACHABLE = "unreachable"  # some router, or the own kernel, says no
    SILENCE = "silence"


class Judged(enum.StrEnum):
    AGREES = "agrees"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Target:
    """What is known of a host that is probed. `listens`: our listener is there, heard or said to be; `alive`: it answered something."""

    listens: bool
    alive: bool


def judge(expected: bool, heard: Heard, protocol: str, target: Target) -> tuple[Judged, str]:
    """Whether it agrees with the truth table, and why it cannot be said, where it cannot."""
    through = heard in (Heard.ECHO, Heard.ANSWER)
    if through:
        return (Judged.AGREES, "") if expected else (Judged.DIFFERS, "it got through")
    if heard is Heard.RESET and not target.listens:
        why = "a reset: nothing listens there, or a firewall says so in the host's place; start the listener there"
        return Judged.UNKNOWN, why
    if not expected:
        return Judged.AGREES, ""
    if target.listens:
        return Judged.DIFFERS, "it was dropped"
    if protocol == "tcp" and target.alive:
        return Judged.DIFFERS, "it was dropped, and the host answers elsewhere"
    return Judged.UNKNOWN, "no answer, and no listener of ours is known to be there"
