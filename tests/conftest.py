"""What holds for every test: nothing leaves this machine, and no verdict depends on how fast it is."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadGroupScheduling

from tests.siege.campaign import LEDGER, Campaign, Ledger

settings.register_profile("here", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak", type=float, default=0.0, help="seconds for each campaign of tests/siege; 0: its first seeds only"
    )


def _stays_here(host: object) -> bool:
    if not isinstance(host, str) or host in ("", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False  # a name: to look it up would ask a server elsewhere
    return address.is_loopback or address.is_unspecified


def _refuse_to_leave(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook (`sys.addaudithook`): a connection or datagram to anywhere but loopback, or a name to be looked up, fails its test."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a Unix socket's address is a path
        if not _stays_here(host):
            raise RuntimeError(f"tests stay on this machine: {event} to {address!r}")
    elif event == "socket.getaddrinfo" and not _is_address(arguments[0]) and not _stays_here(arguments[0]):
        raise RuntimeError(f"tests ask no name server: {arguments[0]!r}")


def _is_address(host: object) -> bool:
    try:
        ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return True


sys.addaudithook(_refuse_to_leave)


class _ByGroup(LoadGroupScheduling):  # type: ignore[misc]
    """One worker for the tests of a module that names an `xdist_group`: what they share takes seconds to start.

    pytest-xdist 3.8 writes the group into a test's id, where pytest 9.2 no longer looks for it; without this every test stands alone.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _group_of(nodeid.partition("::")[0]) or nodeid


@cache
def _group_of(module: str) -> str:
    found = re.search(
        r"mark\.xdist_group\(\"([\w-]+)\"\)", (Path(__file__).parents[1] / module).read_text(encoding="utf-8")
    )
    return found[1] if found else ""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByGroup | None:
    return _ByGroup(config, log) if config.getoption("dist", "no") == "loadgroup" else None


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Campaign:
    """A few seeds in `make test`; in `make soak` on from the ledger, until its share of the time is over."""
    seconds = float(request.config.getoption("--soak", 0.0))
    return Campaign(seconds, Ledger(Path(request.config.rootpath) / LEDGER))
