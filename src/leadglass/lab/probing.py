"""Does every packet go where the flows say, and no other? A packet for each cell of the truth table, from each host to each other.

What is expected is found by the names in the site file, one flow after the other; the compiler's ranges and sets play no part in it.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from leadglass.lab import namespaces
from leadglass.lab.network import Host, Networks
from leadglass.policy.flows import zones_of
from leadglass.site.model import ARCHIVE, Flow, Site

DECOYS = (22, 80, 104, 445, 3389, 11112)
BATCH = 1000  # sockets at once
QUIET_SECONDS = 0.25  # nothing more arrives: what is still out was dropped
LONG_BYTES = 4000  # comes in fragments over an Ethernet of 1500
_TOKEN = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Probe:
    """One packet, or a connection, from one host to another. `kind`: tcp, udp, fragments (udp), spoofed (udp from another's address)."""

    kind: str
    source: Host
    target: Host
    version: int
    port: int
    expected: bool
    as_from: Host | None = None

    @property
    def protocol(self) -> str:
        return "tcp" if self.kind == "tcp" else "udp"

    def __str__(self) -> str:
        mask = f" as {self.as_from.name}" if self.as_from else ""
        return f"{self.source.name}{mask} to {self.target.name}, {self.kind}/{self.port} over IPv{self.version}"


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found. `mismatches`: a probe and whether it got through."""

    probes: int
    open: int
    mismatches: tuple[tuple[Probe, bool], ...]
    seconds: float


def allowed(site: Site, source: Host, target: Host, protocol: str, port: int) -> bool:
    """What the site file says of one packet, by names alone."""
    if _disabled(site, source) or _disabled(site, target):
        on_the_switch = source.zone is target.zone and not source.zone.isolated and target.name != ARCHIVE
        return on_the_switch and source.name != ARCHIVE
    opened = any(_opens(site, flow, source, target, protocol, port) for flow in site.flows)
    if ARCHIVE in (source.name, target.name):
        return opened  # its host keeps its own table, on the switch too
    return opened or (source.zone is target.zone and not source.zone.isolated)


def _disabled(site: Site, host: Host) -> bool:
    return not host.stranger and host.name in site.devices and not site.devices[host.name].enabled


def _opens(site: Site, flow: Flow, source: Host, target: Host, protocol: str, port: int) -> bool:
    service = site.services[flow.service]
    if flow.on_demand is not None or (service.protocol, service.port) != (protocol, port):
        return False
    return _means(site, flow.sources, source) and _means(site, flow.targets, target)


def _means(site: Site, names: Iterable[str], host: Host) -> bool:
    """Is the host meant by one of the names? A zone means whoever is in it, archive too."""
    return any(
        (name == host.name and not host.stranger)
        or (name not in site.devices and host.zone.name in zones_of(site, name))
        for name in names
    )


def table(networks: Networks) -> Iterator[Probe]:
    """Every host to every other, every service and decoy, both protocols, both versions; some in fragments, some from false addresses."""
    site, hosts = networks.site, networks.hosts
    ports = sorted({service.port for service in site.services.values()} | set(DECOYS))
    for source in hosts:
        for target in hosts:
            for version in (4, 6):
                if source is target or source.address(version) is None or target.address(version) is None:
                    continue
                for port in ports:
                    for kind in ("tcp", "udp"):
                        yield Probe(kind, source, target, version, port, allowed(site, source, target, kind, port))
                declared = next((each.port for each in site.services.values() if each.protocol == "udp"), ports[0])
                whole = allowed(site, source, target, "udp", declared)
                yield Probe("fragments", source, target, version, declared, whole)
    yield from _spoofing(networks)


def _spoofing(networks: Networks) -> Iterator[Probe]:
    """From an address of another zone, where that one would be let through: nobody is."""
    site = networks.site
    for source in networks.hosts:
        for pretended in networks.hosts:
            if pretended.zone is source.zone or pretended.address(4) is None or source.address(4) is None:
                continue
            for target in networks.hosts:
                if target.zone in (source.zone, pretended.zone) or target.address(4) is None:
                    continue
                for service in site.services.values():
                    if allowed(site, pretended, target, "udp", service.port) and service.protocol == "udp":
                        yield Probe("spoofed", source, target, 4, service.port, False, pretended)


# ---- packets


def probe(networks: Networks, probes: Sequence[Probe]) -> Probed:
    """Sends all of them; what arrives is compared. Raises LabFault, OSError."""
    began = time.monotonic()
    with contextlib.ExitStack() as opened:
        ears = _Ears(opened, networks, probes)
        through = [
            number
            for start in range(0, len(probes), BATCH)
            for number in _batch(ears, probes, range(start, min(start + BATCH, len(probes))))
        ]
    arrived = set(through)
    wrong = tuple((each, n in arrived) for n, each in enumerate(probes) if (n in arrived) != each.expected)
    return Probed(len(probes), len(arrived), wrong, time.monotonic() - began)


class _Ears:
    """Every host listens on every port that is probed; UDP is read, TCP is answered by the kernel."""

    def __init__(self, opened: contextlib.ExitStack, networks: Networks, probes: Sequence[Probe]) -> None:
        self.udp: list[socket.socket] = []
        wanted: dict[str, set[tuple[str, int]]] = {}
        for each in probes:
            wanted.setdefault(each.target.namespace, set()).add((each.protocol, each.port))
        for name, ports in wanted.items():
            with namespaces.inside(name):
                for protocol, port in sorted(ports):
                    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
                    ear = opened.enter_context(socket.socket(socket.AF_INET6, kind))
                    ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                    if protocol == "tcp":  # whoever listened there a moment ago
                        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    ear.bind(("::", port))
                    ear.setblocking(False)
                    if protocol == "tcp":
                        ear.listen(4096)
                    else:
                        self.udp.append(ear)


def _batch(ears: _Ears, probes: Sequence[Probe], numbers: range) -> Iterator[int]:
    connecting: dict[int, tuple[int, socket.socket]] = {}
    with contextlib.ExitStack() as opened:
        for name, group in _by_namespace(probes, numbers).items():
            with namespaces.inside(name):
                mouths: dict[tuple[str, int], socket.socket] = {}
                for number in group:
                    each = probes[number]
                    if each.kind == "tcp":
                        mouth = opened.enter_context(_socket(each.version, socket.SOCK_STREAM))
                        if _begins(mouth, each):
                            connecting[mouth.fileno()] = (number, mouth)
                    else:
                        key = (each.kind, each.version)
                        if key not in mouths:
                            mouths[key] = opened.enter_context(_mouth(each))
                        _send(mouths[key], each, number)
        yield from _arrivals(ears, connecting)


def _by_namespace(probes: Sequence[Probe], numbers: range) -> Mapping[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for number in numbers:
        groups.setdefault(probes[number].source.namespace, []).append(number)
    return groups


def _socket(version: int, kind: int) -> socket.socket:
    made = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, kind)
    made.setblocking(False)
    return made


def _begins(mouth: socket.socket, each: Probe) -> bool:
    """Whether a connection is on its way; one that is refused at once goes nowhere."""
    code = mouth.connect_ex((str(each.target.address(each.version)), each.port))
    return code in (0, errno.EINPROGRESS)


def _mouth(each: Probe) -> socket.socket:
    if each.kind != "spoofed":
        return _socket(each.version, socket.SOCK_DGRAM)
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw.setblocking(False)
    return raw


def _send(mouth: socket.socket, each: Probe, number: int) -> None:
    where = str(each.target.address(each.version))
    word = _TOKEN.pack(number)
    with contextlib.suppress(PermissionError, BlockingIOError):  # the sender's own kernel may refuse
        if each.as_from is not None:
            mouth.sendto(_false_packet(str(each.as_from.address(4)), where, each.port, word), (where, 0))
        else:
            mouth.sendto(word + bytes(LONG_BYTES if each.kind == "fragments" else 0), (where, each.port))


def _false_packet(source: str, target: str, port: int, word: bytes) -> bytes:
    """IPv4 (RFC 791 3.1; the kernel fills in length and checksum) and UDP without a checksum (RFC 768)."""
    length = 8 + len(word)
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, socket.IPPROTO_UDP, 0) + ends
    return head + struct.pack(">HHHH", 40_000, port, length, 0) + word


def _arrivals(ears: _Ears, connecting: dict[int, tuple[int, socket.socket]]) -> Iterator[int]:
    """Until nothing has come for a while."""
    with select.epoll() as waiting:
        by_number = {ear.fileno(): ear for ear in ears.udp}
        for descriptor in by_number:
            waiting.register(descriptor, select.EPOLLIN)
        for descriptor in connecting:
            waiting.register(descriptor, select.EPOLLOUT)
        while events := waiting.poll(QUIET_SECONDS):
            for descriptor, _ in events:
                if descriptor in by_number:
                    yield from _read(by_number[descriptor])
                    continue
                number, mouth = connecting[descriptor]
                waiting.unregister(descriptor)
                if mouth.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    yield number


def _read(ear: socket.socket) -> Iterator[int]:
    while True:
        try:
            yield _TOKEN.unpack(ear.recv(LONG_BYTES + _TOKEN.size)[: _TOKEN.size])[0]
        except BlockingIOError:
            return
