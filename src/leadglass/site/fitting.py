"""Do the parts of a site file fit together? Names that lead nowhere, networks that lie elsewhere, two that could be taken for each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

from leadglass.site.document import Document, nearest
from leadglass.site.model import ARCHIVE, DIMSE_SERVICE, Flow, Network, Origin, Site, name_problem, within
from leadglass.terms import Device

Misfit = tuple[Origin, str, str]  # where, what, how to mend it
TITLE_SHARED_MAX_DEVICES = 32
PHI = "phi"  # the tag of zones whose members hold what identifies patients


@dataclass(slots=True)
class Places:
    """Where each device and each flow was written, for problems that show only when all are there."""

    main: Document
    devices: dict[str, Document] = field(default_factory=dict)
    flows: list[tuple[Document, str]] = field(default_factory=list)

    def of_device(self, name: str, key: str) -> Origin:
        return self.devices[name].origin(f"devices.{name}.{key}")

    def of_flow(self, number: int, key: str) -> Origin:
        document, where = self.flows[number]
        return document.origin(f"{where}.{key}")


def misfits(site: Site, places: Places) -> Iterator[Misfit]:
    """Every one, lazily: who has read enough stops."""
    yield from _zones(site, places)
    yield from _devices(site, places)
    yield from _flows(site, places)
    yield from _promises(site)


def overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _zones(site: Site, places: Places) -> Iterator[Misfit]:
    known = [(zone.name, network) for zone in site.zones.values() for network in zone.networks]
    for (first, one), (second, other) in combinations(known, 2):
        if first != second and overlap(one, other):
            what = f"{other} of {second} overlaps {one} of {first}"
            yield places.main.origin(f"zones.{second}.networks"), what, "zones do not overlap: split one"


def _devices(site: Site, places: Places) -> Iterator[Misfit]:
    titles: dict[str, list[Device]] = defaultdict(list)
    pins: dict[str, str] = {}
    names: dict[str, str] = {}
    for name, device in site.devices.items():
        if name in site.zones:
            yield places.of_device(name, ""), f"{name} is a zone's name already", "a device has a name of its own"
        twin = names.setdefault(name.casefold(), name)
        if twin != name:
            mend = "names differ in more than capitals"
            yield places.of_device(name, ""), f"{name} and {twin} cannot be told apart", mend
        zone = site.zones.get(device.zone)
        for network in device.networks if zone is not None else ():
            if zone is not None and not any(within(network, known) for known in zone.networks):
                mend = "widen the zone or move the device"
                yield places.of_device(name, "network"), f"{network} is not inside zone {device.zone}", mend
        for pin in device.certificates:
            if pins.setdefault(pin, name) != name:
                what = f"{pins[pin]} and {name} pin the same certificate"
                yield places.of_device(name, "certificate"), what, "a certificate is one device"
        for title in dict.fromkeys(device.ae_titles):
            titles[title].append(device)
    for title, same in titles.items():
        yield from _same_title(places, title, same)


def _same_title(places: Places, title: str, same: list[Device]) -> Iterator[Misfit]:
    """Devices may share an AE title only where their networks and, as C-MOVE destinations, their addresses leave no doubt."""
    if len(same) > TITLE_SHARED_MAX_DEVICES:
        what = f"more than {TITLE_SHARED_MAX_DEVICES} devices call themselves {title!r}"
        yield places.of_device(same[-1].name, "ae_titles"), what, "give them AE titles of their own"
        return
    for one, other in combinations(same, 2):
        shared = next((ours for ours in one.networks for theirs in other.networks if overlap(ours, theirs)), None)
        where = places.of_device(other.name, "ae_titles")
        if shared is not None:
            what = f"{one.name} and {other.name} both call themselves {title!r} on {shared}"
            yield where, what, "give one another AE title, or narrow its network"
        elif one.address and other.address:
            what = f"a C-MOVE to {title!r} could mean {one.name} or {other.name}"
            yield where, what, "leave one of them without an address"


def _flows(site: Site, places: Places) -> Iterator[Misfit]:
    members = _members(site)
    receivers = (members - {ARCHIVE}) | {f"#{tag}" for zone in site.zones.values() for tag in zone.tags}
    seen: dict[str, Flow] = {}
    for number, flow in enumerate(site.flows):
        if name_problem(flow.id):
            what = f"the flow id {flow.id[:64]!r} is no name" if flow.id else "a flow has no id"
            yield places.of_flow(number, "id"), what, f"each flow has an id of its own: {name_problem(flow.id)}"
        elif seen.setdefault(flow.id, flow) is not flow:
            what = f"the flow id {flow.id} is there twice, first in {seen[flow.id].origin}"
            yield places.of_flow(number, "id"), what, "each flow has an id of its own"
        for key, names in (("from", flow.sources), ("to", flow.targets)):
            if not names:
                yield places.of_flow(number, key), f"flow {flow.id} leads from or to nobody", "name from and to"
            for name in names:
                if name not in members:
                    what = f"flow {flow.id} names the unknown {name[:64]!r}"
                    yield places.of_flow(number, key), what, nearest(name, members)
        for name in sorted(flow.destinations or ()):
            if name not in receivers:
                what = f"flow {flow.id} names the unknown destination {name[:64]!r}"
                yield places.of_flow(number, "destinations"), what, nearest(name, receivers)
        yield from _door(site, places, number, flow)


def _door(site: Site, places: Places, number: int, flow: Flow) -> Iterator[Misfit]:
    """What a flow needs so that its service, authentication and words of `may` mean something."""
    if flow.service not in site.services:
        what = f"flow {flow.id} uses the unknown service {flow.service[:64]!r}"
        yield places.of_flow(number, "service"), what, nearest(flow.service, set(site.services))
    if flow.may and ARCHIVE not in flow.targets:
        what = f"flow {flow.id} says may, but does not lead to {ARCHIVE}"
        yield places.of_flow(number, "may"), what, f"only the doors of {ARCHIVE} know these words: leave may out"
    if flow.auth != "none":
        return
    if flow.may:
        what = f"flow {flow.id} allows DIMSE without identity"
        yield places.of_flow(number, "auth"), what, 'auth = "mtls"'
    elif ARCHIVE in flow.targets:
        what = f"flow {flow.id} leads to {ARCHIVE} without identity"
        yield places.of_flow(number, "auth"), what, 'auth = "mtls" or "mfa"'
    for name in flow.targets:
        held = _tags_of(site, name)
        if PHI in held:
            what = f"flow {flow.id} leads to {name}, tagged {PHI}, without identity"
            yield places.of_flow(number, "auth"), what, 'auth = "mtls" or "mfa"'


def _tags_of(site: Site, name: str) -> frozenset[str]:
    if name.startswith("#"):
        return frozenset({name[1:]}).union(*(zone.tags for zone in site.zones.values() if name[1:] in zone.tags))
    zone = site.zones.get(site.devices[name].zone if name in site.devices else name)
    return zone.tags if zone is not None else frozenset()


def _promises(site: Site) -> Iterator[Misfit]:
    members = _members(site)
    reachable = members | {"*"}
    for test in site.tests:
        if test.who not in site.devices and test.who not in site.zones:
            known = set(site.devices) | set(site.zones)
            yield test.origin, f"a test is about the unknown {test.who[:64]!r}", nearest(test.who, known)
        for expression in (*test.accept, *test.deny):
            target, colon, _ = expression.partition(":")
            if not colon or target not in reachable:
                what = f"a test of {test.who} names the unknown {expression[:64]!r}"
                yield test.origin, what, f"TARGET:WHAT, such as archive:find or ZONE:*; {nearest(target, members)}"
    for rule in site.never:
        for name in (*rule.sources, *rule.targets):
            if name not in members:
                yield rule.origin, f"a never rule names the unknown {name[:64]!r}", nearest(name, members)


def _members(site: Site) -> set[str]:
    """What flows and promises can name."""
    tags = {f"#{tag}" for zone in site.zones.values() for tag in zone.tags}
    return set(site.zones) | set(site.devices) | {ARCHIVE} | tags


def web_services(site: Site) -> frozenset[str]:
    """The services that the web door answers to: whatever says its port."""
    web = site.doors.web
    return frozenset(
        each.name for each in site.services.values() if web and (each.protocol, each.port) == ("tcp", web.port)
    )


def dimse_services(site: Site) -> frozenset[str]:
    """The services that the DIMSE door answers to: its own name, and whatever says its port."""
    port = site.doors.dimse.port
    same = (each.name for each in site.services.values() if (each.protocol, each.port) == ("tcp", port))
    return frozenset({DIMSE_SERVICE, *same})
