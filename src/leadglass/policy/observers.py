"""Who could see that a flow is used? The doors by their journal, archive's own kernel by its counters; of the rest nobody tells us. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from ipaddress import ip_address

from leadglass.policy.firewall.seen import visible
from leadglass.policy.flows import zones_of
from leadglass.site.fitting import dimse_services
from leadglass.site.model import ARCHIVE, Flow, Site


class Observer(enum.StrEnum):
    DIMSE = "dimse"  # whatever is done by the flow stands in the journal with its name
    WEB = "web"  # people who come by it do, with their address
    KERNEL = "kernel"  # every packet of it passes the table of archive's host, where somebody tells of that


def observers(site: Site, flow: Flow) -> tuple[Observer, ...]:
    """Those who see all of it."""
    found = []
    if at_dimse(site, flow):
        found.append(Observer.DIMSE)
    if at_web(site, flow):
        found.append(Observer.WEB)
    if site.filterer and flow.id in visible(site):
        found.append(Observer.KERNEL)
    return tuple(found)


def at_dimse(site: Site, flow: Flow) -> bool:
    ours = flow.service in dimse_services(site) and flow.auth == "mtls"
    return ours and bool(flow.may) and set(flow.targets) == {ARCHIVE}


def at_web(site: Site, flow: Flow) -> bool:
    web, service = site.doors.web, site.services[flow.service]
    at_door = web is not None and (service.protocol, service.port) == ("tcp", web.port)
    return at_door and set(flow.targets) == {ARCHIVE}


def comes_from(site: Site, names: Iterable[str], address: str) -> bool:
    """Whether an address is one of those that names of devices, zones and #tags stand for."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    zone = site.zone_of(address)
    for name in names:
        device = site.devices.get(name)
        if device is not None and any(found in network for network in device.networks):
            return True
        if device is None and zone and zone in zones_of(site, name):
            return True
    return False
