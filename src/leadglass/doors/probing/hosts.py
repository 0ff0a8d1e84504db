"""Who is there to be probed, and is this host one of them? Addresses of the site file alone; nothing else is ever sent to."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from leadglass.site.model import ARCHIVE, Site, Zone

Address = IPv4Address | IPv6Address
MAGIC = b"leadglass-probe/1 "
WORD_LENGTH_MAX_BYTES = 200
_NUMBER = struct.Struct(">QI")  # which run, which probe of it


@dataclass(frozen=True, slots=True)
class Host:
    """`name`: of a member, or `stranger in ZONE`."""

    name: str
    zone: Zone
    addresses: tuple[Address, ...]
    stranger: bool = False

    def address(self, version: int) -> Address | None:
        return next((each for each in self.addresses if each.version == version), None)


class NotHere(Exception):
    """This host is not who it was said to be."""


def hosts(site: Site) -> Mapping[str, Host]:
    """Archive and each device that is one host, by name; whoever has a whole network is left out, because it is nobody's address."""
    own = site.firewall.addresses if site.firewall is not None else ()
    found: dict[str, Host] = {}
    for name, networks in {ARCHIVE: own, **{each.name: each.networks for each in site.devices.values()}}.items():
        addresses = tuple(each.network_address for each in networks if each.num_addresses == 1)
        zone = next((each for each in site.zones.values() if addresses and each.holds(addresses[0])), None)
        if zone is not None:
            found[name] = Host(name, zone, addresses)
    return found


def here(site: Site, name: str) -> Host:
    """The host of that name, where this machine has its addresses; those that it has. Raises NotHere."""
    host = hosts(site).get(name)
    if host is None:
        raise NotHere(f"{name[:64]} is no host of the site file with an address of its own")
    own = tuple(each for each in host.addresses if _is_ours(each))
    if not own:
        raise NotHere(f"this machine has no address of {name}: {', '.join(map(str, host.addresses))}")
    return Host(host.name, host.zone, own)


def stranger(site: Site, address: str) -> Host:
    """Whoever is at that address of a zone and is nobody in the site file. Raises NotHere."""
    try:
        found = ip_address(address)
    except ValueError:
        raise NotHere(f"{address[:64]!r} is no address") from None
    zone = next((each for each in site.zones.values() if each.holds(found)), None)
    if zone is None:
        raise NotHere(f"{found} lies in no zone")
    named = [each.name for each in site.devices.values() if any(found in network for network in each.networks)]
    named += [ARCHIVE for network in (site.firewall.addresses if site.firewall else ()) if found in network]
    if named:
        raise NotHere(f"{found} is {named[0]}'s: --as {named[0]}")
    if not _is_ours(found):
        raise NotHere(f"this machine does not have the address {found}")
    return Host(f"stranger in {zone.name}", zone, (found,), stranger=True)


def _is_ours(address: Address) -> bool:
    with socket.socket(family(address), socket.SOCK_DGRAM) as tried:
        try:
            tried.bind((str(address), 0))
        except OSError:
            return False
    return True


def family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


# ---- what a probe says


def word(run: int, number: int, name: str) -> bytes:
    return (MAGIC + _NUMBER.pack(run, number) + name.encode())[:WORD_LENGTH_MAX_BYTES]


def said(data: bytes) -> tuple[int, int, str] | None:
    """Run, number and name; None where it is no probe."""
    rest = data.removeprefix(MAGIC)
    if rest == data or len(rest) < _NUMBER.size or len(data) > WORD_LENGTH_MAX_BYTES:
        return None
    run, number = _NUMBER.unpack_from(rest)
    return run, number, rest[_NUMBER.size :].decode("utf-8", "replace")


def addresses(of: Iterable[Host]) -> frozenset[Address]:
    return frozenset(each for host in of for each in host.addresses)
