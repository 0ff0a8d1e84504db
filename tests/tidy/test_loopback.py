"""The guard of `tests/conftest.py` works. `sys.audit` only says what would be done: nothing is sent here either."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("event", "address"),
    [
        ("socket.connect", ("192.0.2.1", 104)),
        ("socket.connect", ("2001:db8::1", 104, 0, 0)),
        ("socket.connect", ("pacs.hospital.example", 104)),
        ("socket.sendto", ("192.0.2.1", 514)),
    ],
)
def test_what_leaves_is_refused(event: str, address: tuple[Any, ...]) -> None:
    with socket.socket() as waiting, pytest.raises(RuntimeError, match="this machine"):
        sys.audit(event, waiting, address)


def test_no_name_server_is_asked() -> None:
    with pytest.raises(RuntimeError, match="name server"):
        sys.audit("socket.getaddrinfo", "pacs.hospital.example", 104, 0, 0, 0)


@pytest.mark.parametrize("address", [("127.0.0.1", 104), ("::1", 104, 0, 0), ("localhost", 104), "/run/a.sock"])
def test_loopback_and_unix_sockets_are_let_through(address: Any) -> None:
    with socket.socket() as waiting:
        sys.audit("socket.connect", waiting, address)
    sys.audit("socket.getaddrinfo", "127.0.0.1", 104, 0, 0, 0)
