"""Which packets do the flows of a site open? What the policy says, before any words of a kernel: the measure that its table is held against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from leadglass.policy.firewall.boxes import Box, Span, everything, joined, service
from leadglass.policy.flows import zones_of
from leadglass.site.model import ARCHIVE, Network, Site
from leadglass.terms import Containment

NOBODY = Containment()
ROUTER = "router"  # a host that is nobody in the site file: it forwards, and nothing is let in or out


@dataclass(frozen=True, slots=True)
class Opening:
    """What one flow opens. `on_demand`: closed until it is approved, and for a time."""

    flow: str
    box: Box
    on_demand: bool


@dataclass(frozen=True, slots=True)
class Openings:
    """Of one host. `shared`: between the networks of a zone that is not isolated. `contained`: who neither sends nor is sent to."""

    forward: tuple[Opening, ...]
    input: tuple[Opening, ...]
    output: tuple[Opening, ...]
    shared: tuple[tuple[Span, Span], ...]
    contained: tuple[Span, ...]

    def open(self, chain: tuple[Opening, ...]) -> tuple[Box, ...]:
        """What is open without anybody's approval."""
        return tuple(each.box for each in chain if not each.on_demand)


def openings(site: Site, member: str = ARCHIVE, containment: Containment = NOBODY) -> Openings:
    """What the host of `member` lets pass, lets in and lets out. `containment`: who is contained besides those that the site file disables:
    disabled, in a contained zone, or with no certificate left that is not revoked."""
    own = spans(site, member)
    every = tuple(_of_flows(site))
    return Openings(
        forward=every,
        input=tuple(
            replace(each, box=replace(each.box, target=part))
            for each in every
            for part in _inside(each.box.target, own)
        ),
        output=tuple(
            replace(each, box=replace(each.box, source=part))
            for each in every
            for part in _inside(each.box.source, own)
        ),
        shared=tuple(_shared(site)),
        contained=tuple(map(Span.of, _contained(site, containment))),
    )


def _contained(site: Site, containment: Containment) -> Iterator[Network]:
    for device in site.devices.values():
        revoked = device.certificates and all(pin in containment.revoked for pin in device.certificates)
        if not device.enabled or device.name in containment.disabled or revoked:
            yield from device.networks
    for zone in site.zones.values():
        if zone.name in containment.zones:
            yield from zone.networks


def spans(site: Site, name: str) -> tuple[Span, ...]:
    """The addresses that a name of a device, zone, #tag or `archive` stands for."""
    if name == ARCHIVE:
        networks = site.firewall.addresses if site.firewall is not None else ()
    elif name in site.devices:
        networks = site.devices[name].networks
    else:
        networks = tuple(network for zone in sorted(zones_of(site, name)) for network in site.zones[zone].networks)
    return tuple(map(Span.of, networks))


def _of_flows(site: Site) -> Iterator[Opening]:
    for flow in site.flows:
        of = site.services[flow.service]
        for source in _all(site, flow.sources):
            for target in _all(site, flow.targets):
                if source.version == target.version:
                    box = service(of.protocol, of.port, source, target)
                    yield Opening(flow.id, box, flow.on_demand is not None)


def _all(site: Site, names: Iterable[str]) -> list[Span]:
    return sorted({span for name in names for span in spans(site, name)})


def _inside(span: Span, own: Iterable[Span]) -> Iterator[Span]:
    """The part of it that is our own."""
    for each in own:
        first, last = max(span.first, each.first), min(span.last, each.last)
        if span.version == each.version and first <= last:
            yield Span(span.version, first, last)


def _shared(site: Site) -> Iterator[tuple[Span, Span]]:
    for zone in site.zones.values():
        if not zone.isolated:
            for version in (4, 6):
                own = [Span.of(network) for network in zone.networks if network.version == version]
                inside = [Span(version, *ends) for ends in joined((each.first, each.last) for each in own)]
                yield from ((one, other) for one in inside for other in inside)


def of_shared(pairs: Iterable[tuple[Span, Span]]) -> Iterator[Box]:
    for source, target in pairs:
        yield from everything(source, target)
