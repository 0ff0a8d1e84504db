"""The networks of a site in namespaces: a router that enforces the flows, a bridge for each zone, a host for each member and for a stranger.

Hosts of a zone that is not isolated see each other over the bridge, past the router, as on a switch. Those of an isolated one see the router
alone, as in a private VLAN. Archive's host enforces its own table besides.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from leadglass.lab import namespaces
from leadglass.policy.firewall.compile import ruleset
from leadglass.policy.firewall.openings import ROUTER
from leadglass.site.model import ARCHIVE, Network, Site, Zone

_DESCRIPTORS = 65_536
_BRIDGED = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")  # a switch asks no table
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Host:
    """`namespace`: where it is. `stranger`: in the zone, and no member of the site."""

    name: str
    zone: Zone
    addresses: tuple[Address, ...]
    namespace: str
    stranger: bool = False

    def address(self, version: int) -> Address | None:
        return next((each for each in self.addresses if each.version == version), None)


@dataclass(frozen=True, slots=True)
class Networks:
    """What is up."""

    site: Site
    hosts: tuple[Host, ...]
    router: str


def planned(site: Site, lab: str) -> Networks:
    """Archive, each device that is one host, and a stranger in each zone. `lab`: begins the names of the namespaces."""
    hosts: list[Host] = []
    own = site.firewall.addresses if site.firewall is not None else ()
    networks = {ARCHIVE: own, **{device.name: device.networks for device in site.devices.values()}}
    for name, of in networks.items():
        addresses = tuple(each.network_address for each in of if each.num_addresses == 1)
        zone = next((zone for zone in site.zones.values() if addresses and zone.holds(addresses[0])), None)
        if zone is not None:
            hosts.append(Host(name, zone, _one_each(addresses), f"{lab}-{len(hosts)}"))
    for zone in site.zones.values():
        taken = {address for host in hosts for address in host.addresses}
        free = tuple(address for network in zone.networks[:1] for address in _free(network, taken))
        others = {network.version: network for network in zone.networks if network.version != zone.networks[0].version}
        free += tuple(address for network in others.values() for address in _free(network, taken))
        if free:
            hosts.append(Host(f"stranger in {zone.name}", zone, free, f"{lab}-{len(hosts)}", stranger=True))
    return Networks(site, tuple(hosts), f"{lab}-router")


def _one_each(addresses: tuple[Address, ...]) -> tuple[Address, ...]:
    first: dict[int, Address] = {}
    for each in addresses:
        first.setdefault(each.version, each)
    return tuple(first.values())


def _free(network: Network, taken: set[Address]) -> Iterator[Address]:
    """One address that nobody has and that is not the router's."""
    for offset in range(2, min(network.num_addresses - 1, 4096)):
        address = network[-1 - offset]
        if address not in taken and address != _gateway(network):
            yield address
            return


def _gateway(network: Network) -> Address:
    return network[-2] if network.version == 4 else network[1]


# ---- up and down


def up(network: Networks) -> None:
    """All hosts can reach all others, but for what the tables refuse; the tables are in force before any route is. Raises LabFault."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, _DESCRIPTORS), hard), hard))
    namespaces.make(network.router)
    for host in network.hosts:
        namespaces.make(host.namespace)
    enforce(network)
    for name in (network.router, *(host.namespace for host in network.hosts)):
        _settings(name, forwards=name == network.router)
    hosts = (line for number, host in enumerate(network.hosts) for line in _host(network, number, host))
    batches: dict[str, list[str]] = {"": []}
    for name, line in (*_zones(network), *hosts):
        batches.setdefault(name, []).append(line)
    for name, lines in batches.items():
        namespaces.links(name, lines)


def down(network: Networks) -> None:
    """Harmless to repeat."""
    for name in (network.router, *(host.namespace for host in network.hosts)):
        namespaces.remove(name)


def enforce(network: Networks) -> None:
    """The router's table, and that of archive's host. Raises LabFault."""
    load(network.router, ruleset(network.site, ROUTER, forwards=True).text())
    for host in network.hosts:
        if host.name == ARCHIVE:
            load(host.namespace, ruleset(network.site, ARCHIVE, forwards=False).text())


def load(namespace: str, text: str) -> None:
    namespaces.in_namespace(namespace, "nft", "-f", "-", given=text)


def _settings(name: str, *, forwards: bool) -> None:
    told = ["net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"]
    if forwards:
        told += ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.send_redirects=0"]
        told += ["net.ipv4.conf.default.send_redirects=0"]
        told += [f"{each}=0" for each in _BRIDGED if Path("/proc/sys", *each.split(".")).exists()]
    namespaces.in_namespace(name, "sysctl", "-q", "-w", *told)


def interface(site: Site, zone: Zone) -> str:
    return zone.interface or f"zone{list(site.zones).index(zone.name)}"


_Line = tuple[str, str]  # namespace, "" for whence the lab is made; a command of `ip`


def _zones(network: Networks) -> Iterator[_Line]:
    yield network.router, "link set lo up"
    for zone in network.site.zones.values():
        name = interface(network.site, zone)
        yield network.router, f"link add {name} type bridge"
        yield network.router, f"link set {name} up"
        for each in zone.networks:
            yield network.router, f"address add {_gateway(each)}/{each.prefixlen} dev {name}" + _nodad(each.version)


def _host(network: Networks, number: int, host: Host) -> Iterator[_Line]:
    router, own, port = network.router, host.namespace, f"port{number}"
    yield "", f"link add {port} netns {namespaces.full(router)} type veth peer name eth0 netns {namespaces.full(own)}"
    yield own, "link set lo up"
    yield own, "link set eth0 up"
    yield router, f"link set {port} up"
    yield router, f"link set {port} master {interface(network.site, host.zone)}"
    if host.zone.isolated:
        yield router, f"link set {port} type bridge_slave isolated on"
    for address in host.addresses:
        inside = next(each for each in host.zone.networks if address in each)
        by, bits, end = _gateway(inside), address.max_prefixlen, _nodad(address.version)
        if host.zone.isolated:
            yield own, f"address add {address}/{bits} dev eth0{end}"
            yield own, f"route add {by}/{bits} dev eth0"
        else:
            yield own, f"address add {address}/{inside.prefixlen} dev eth0{end}"
        yield own, f"route add default via {by} dev eth0"


def _nodad(version: int) -> str:
    return " nodad" if version == 6 else ""
