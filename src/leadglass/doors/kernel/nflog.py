"""What did the kernel drop? Packets of an NFLOG group, as far as their headers tell (linux/netfilter/nfnetlink_log.h)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from leadglass.doors.kernel.netlink import KernelFault, Message, Netlink, attribute, attributes

COPIED_LENGTH_BYTES = 128  # of each packet: headers, never what somebody says
RECEIVE_BUFFER_BYTES = 4 << 20
WAIT_HUNDREDTHS = 10  # until the kernel hands over what it gathered
_PACKET, _CONFIG = 0x400, 0x401  # subsystem 4
_COMMAND, _MODE, _TIMEOUT = 1, 2, 4
_BIND = b"\x01"
_COPY_PACKET = b"\x02"
_PAYLOAD, _PREFIX = 9, 10
_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58
_NAMES = {_TCP: "tcp", _UDP: "udp", _ICMP: "icmp", _ICMP6: "icmp"}
_EXTENSIONS = frozenset({0, 43, 60})  # hop-by-hop, routing, destination options (RFC 8200 4)
_FRAGMENT = 44
_EXTENSIONS_MAX = 8


@dataclass(frozen=True, slots=True)
class Dropped:
    """Addresses are numbers. `why`: the last word of the rule's prefix: a chain, or spoofed, invalid, contained. `port`: 0 where there is none."""

    why: str
    version: int
    source: int
    target: int
    protocol: str
    port: int


class Drops:
    """Listens to one group of this network namespace. Raises KernelFault where somebody else listens already, or it may not."""

    def __init__(self, group: int) -> None:
        self._group, self._netlink = group, Netlink(RECEIVE_BUFFER_BYTES)

    def __enter__(self) -> Drops:
        tell = self._netlink.tell
        mode = COPIED_LENGTH_BYTES.to_bytes(4, "big") + _COPY_PACKET + b"\0"
        how = attribute(_MODE, mode) + attribute(_TIMEOUT, WAIT_HUNDREDTHS.to_bytes(4, "big"))
        try:
            tell(_CONFIG, attribute(_COMMAND, _BIND), resource=self._group)
            tell(_CONFIG, how, resource=self._group)
        except KernelFault:
            self._netlink.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._netlink.close()

    def heard(self, seconds: float) -> Iterator[Dropped]:
        """What is dropped within so long, as soon as there is something. Raises KernelFault, Overrun."""
        for message in self._netlink.heard(seconds):
            found = dropped(message)
            if found is not None:
                yield found


def dropped(message: Message) -> Dropped | None:
    """None where it is no packet of IPv4 or IPv6."""
    of = attributes(message.attributes)
    if message.type != _PACKET or _PAYLOAD not in of:
        return None
    prefix = of.get(_PREFIX, b"").rstrip(b"\0 ").decode("ascii", "replace")
    return packet(prefix.rpartition(" ")[2], of[_PAYLOAD])


def packet(why: str, content: bytes) -> Dropped | None:
    """Of its first bytes: RFC 791 3.1, RFC 8200 3 and 4."""
    version = content[0] >> 4 if content else 0
    if version == 4 and len(content) >= 20:
        length, number = 4 * (content[0] & 15), content[9]
        begins = int.from_bytes(content[6:8], "big") & 0x1FFF == 0
        source, target = content[12:16], content[16:20]
        rest = content[length:] if begins and length >= 20 else b""
    elif version == 6 and len(content) >= 40:
        number, rest = _past_extensions(content[6], content[40:])
        source, target = content[8:24], content[24:40]
    else:
        return None
    ported = number in (_TCP, _UDP) and len(rest) >= 4
    port = int.from_bytes(rest[2:4], "big") if ported else 0
    name = _NAMES.get(number, f"protocol {number}")
    return Dropped(why, version, int.from_bytes(source, "big"), int.from_bytes(target, "big"), name, port)


def _past_extensions(number: int, rest: bytes) -> tuple[int, bytes]:
    """The protocol that is carried at last, and its bytes; none of a fragment that is not the first."""
    for _ in range(_EXTENSIONS_MAX):
        if number == _FRAGMENT and len(rest) >= 8:
            if int.from_bytes(rest[2:4], "big") >> 3:
                return rest[0], b""
            number, rest = rest[0], rest[8:]
        elif number in _EXTENSIONS and len(rest) >= 8:
            number, rest = rest[0], rest[8 * (rest[1] + 1) :]
        else:
            break
    return number, rest
