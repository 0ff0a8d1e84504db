"""What the kernel says, byte by byte: drops and connections are read as they are, and no packet, however cut or forged, breaks whoever listens."""

from __future__ import annotations

import contextlib
import socket
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadglass.doors.kernel.conntrack import connection
from leadglass.doors.kernel.netlink import KernelFault, Message, attribute, attributes, messages
from leadglass.doors.kernel.nflog import Dropped, dropped, packet

TCP = struct.pack(">HHIIHHHH", 40_000, 2762, 0, 0, 0x5002, 0, 0, 0)
FOUR = (
    struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + socket.inet_aton("10.0.0.1") + socket.inet_aton("10.0.0.2")
)
SIX = struct.pack(">IHBB", 6 << 28, 20, 6, 64) + ip_address("fd00::1").packed + ip_address("fd00::2").packed


def six(number: int, rest: bytes) -> bytes:
    return SIX[:6] + bytes([number]) + SIX[7:] + rest


@pytest.mark.parametrize(
    ("content", "protocol", "port"),
    [
        (FOUR + TCP, "tcp", 2762),
        (FOUR[:9] + b"\x11" + FOUR[10:] + TCP[:8], "udp", 2762),
        (FOUR[:9] + b"\x01" + FOUR[10:] + b"\x08\0\0\0", "icmp", 0),
        (FOUR[:9] + b"\x2f" + FOUR[10:] + TCP, "protocol 47", 0),
        (FOUR[:6] + b"\x20\xb9" + FOUR[8:] + TCP, "tcp", 0),  # a fragment that is not the first has no ports
        (FOUR[:6] + b"\x20\0" + FOUR[8:] + TCP, "tcp", 2762),  # the first has
        (b"\x46" + FOUR[1:] + b"\x01\x01\x01\0" + TCP, "tcp", 2762),  # with options
        (b"\x41" + FOUR[1:] + TCP, "tcp", 0),  # a header that says it is shorter than it can be
        (FOUR + TCP[:3], "tcp", 0),
        (SIX + TCP, "tcp", 2762),
        (six(58, b"\x80\0\0\0"), "icmp", 0),
        (six(0, b"\x06\0" + bytes(6) + TCP), "tcp", 2762),  # hop-by-hop options
        (six(60, b"\x2b\x01" + bytes(14) + b"\x06\0" + bytes(6) + TCP), "tcp", 2762),
        (six(44, b"\x06\0\0\x01" + bytes(4) + TCP), "tcp", 2762),  # the first fragment
        (six(44, b"\x06\0\0\x09" + bytes(4) + TCP), "tcp", 0),
    ],
)
def test_a_packet_is_told_by_its_headers(content: bytes, protocol: str, port: int) -> None:
    found = packet("input", content)
    assert found is not None
    ends = ("10.0.0.1", "10.0.0.2") if found.version == 4 else ("fd00::1", "fd00::2")
    assert (found.source, found.target) == tuple(int(ip_address(each)) for each in ends)
    assert (found.protocol, found.port, found.why) == (protocol, port, "input")


@given(st.binary(max_size=128) | st.builds(lambda head, rest: head + rest, st.sampled_from([FOUR, SIX, b"\x60", b"\x45"]), st.binary(max_size=96)))  # fmt: skip
def test_no_packet_breaks_whoever_listens(content: bytes) -> None:
    found = packet("input", content)
    assert found is None or 0 <= found.port < 65_536


@given(st.binary(max_size=200))
def test_no_message_breaks_whoever_listens(content: bytes) -> None:
    assert all(isinstance(value, bytes) for value in attributes(content).values())
    for kind in (0x400, 0x100, 0x999):
        message = Message(kind, 2, content)
        assert dropped(message) is None or isinstance(dropped(message), Dropped)
        connection(message)
    with contextlib.suppress(KernelFault):
        list(messages(content))


def test_a_drop_is_told_with_the_last_word_of_its_prefix() -> None:
    content = attribute(10, b"leadglass forward \0") + attribute(9, FOUR + TCP)
    found = dropped(Message(0x400, 0, content))
    assert found is not None and found.why == "forward" and found.port == 2762
    assert dropped(Message(0x400, 0, attribute(10, b"x\0"))) is None


def test_a_connection_is_told_as_it_was_opened() -> None:
    addresses = attribute(1, socket.inet_aton("10.0.0.1")) + attribute(2, socket.inet_aton("10.0.0.2"))
    proto = attribute(1, b"\x06") + attribute(2, b"\x9c\x40") + attribute(3, b"\x0a\xca")
    told = attribute(1, attribute(1, addresses) + attribute(2, proto)) + attribute(12, b"\0\0\0\x07")
    found = connection(Message(0x100, 2, told))
    assert found is not None
    assert (found.protocol, found.port, found.source) == ("tcp", 2762, int(ip_address("10.0.0.1")))
    assert attributes(found.raw).keys() == {1, 12}, "by both the kernel knows it again"
    assert connection(Message(0x100, 10, told)) is None, "IPv4 addresses in a connection of IPv6"
    assert connection(Message(0x102, 2, told)) is None
    other = attribute(1, attribute(1, addresses) + attribute(2, attribute(1, b"\x2f")))
    found = connection(Message(0x100, 2, other))
    assert found is not None and (found.protocol, found.port) == ("other", 0)
