"""Which connections does the kernel know, and how does one end? (linux/netfilter/nfnetlink_conntrack.h)"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from leadglass.doors.kernel.netlink import NESTED, KernelFault, Message, Netlink, attribute, attributes

_NEW, _GET, _DELETE = 0x100, 0x101, 0x102  # subsystem 1
_TUPLE_ORIG, _ID = 1, 12
_IP, _PROTO = 1, 2  # of a tuple
_ADDRESSES = {4: (1, 2), 6: (3, 4)}  # source, target; of _IP
_NUMBER, _TARGET_PORT = 1, 3  # of _PROTO
_LENGTHS = {4: 4, 6: 16}
_FAMILIES = {2: 4, 10: 6}  # AF_INET, AF_INET6
_PROTOCOLS = {6: "tcp", 17: "udp"}


@dataclass(frozen=True, slots=True)
class Connection:
    """As it was opened. Addresses are numbers; `protocol`: tcp, udp or other, whose port is 0. `raw`: by which the kernel knows it."""

    version: int
    source: int
    target: int
    protocol: str
    port: int
    raw: bytes


def connections() -> Iterator[Connection]:
    """Every one that the kernel of this network namespace knows. Raises KernelFault."""
    with Netlink() as netlink:
        for message in netlink.dump(_GET):
            found = connection(message)
            if found is not None:
                yield found


def connection(message: Message) -> Connection | None:
    """None where it is no connection of IPv4 or IPv6, or not whole."""
    version = _FAMILIES.get(message.family)
    of = attributes(message.attributes)
    if message.type != _NEW or version is None or _TUPLE_ORIG not in of:
        return None
    of_tuple = attributes(of[_TUPLE_ORIG])
    addresses, proto = attributes(of_tuple.get(_IP, b"")), attributes(of_tuple.get(_PROTO, b""))
    source, target = (addresses.get(each, b"") for each in _ADDRESSES[version])
    number = proto.get(_NUMBER, b"")
    if not len(source) == len(target) == _LENGTHS[version] or len(number) != 1:
        return None
    protocol = _PROTOCOLS.get(number[0], "other")
    port = int.from_bytes(proto.get(_TARGET_PORT, b""), "big") if protocol != "other" else 0
    raw = attribute(_TUPLE_ORIG | NESTED, of[_TUPLE_ORIG])
    if _ID in of:
        raw += attribute(_ID, of[_ID])
    return Connection(version, int.from_bytes(source, "big"), int.from_bytes(target, "big"), protocol, port, raw)


def end(wanted: Callable[[Connection], bool]) -> int:
    """Forgets every connection that is `wanted`: its answers are unknown from then on, and what opens nothing is dropped. How many. Raises KernelFault."""
    gone = [each for each in connections() if wanted(each)]
    with Netlink() as netlink:
        for each in gone:
            with contextlib.suppress(KernelFault):  # it ended by itself meanwhile
                netlink.tell(_DELETE, each.raw, family=2 if each.version == 4 else 10)
    return len(gone)
