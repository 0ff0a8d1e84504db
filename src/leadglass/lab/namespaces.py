"""Network namespaces: small machines of their own, with their own addresses, routes and tables of the kernel.

Sockets belong to the namespace they were made in, wherever their process goes afterwards; so one process speaks for all of them.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_COMMAND_SECONDS = 60.0
_NAMED = Path("/run/netns")
PREFIX = "leadglass-"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class LabFault(Exception):
    """The kernel or a program did not do what the lab needs."""


def unable() -> str:
    """Why there can be no namespaces here; "" where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("ip", "nft", "sysctl") if shutil.which(name, path=PATH) is None]
    return f"not installed: {', '.join(missing)} (apt install iproute2 nftables procps)" if missing else ""


def make(name: str) -> None:
    _run("ip", "netns", "add", PREFIX + name)


def remove(name: str) -> None:
    """Harmless to repeat."""
    if (_NAMED / (PREFIX + name)).exists():
        _run("ip", "netns", "delete", PREFIX + name)


def made(lab: str) -> list[str]:
    """Every namespace of a lab that is there."""
    return sorted(each.name.removeprefix(PREFIX) for each in _NAMED.glob(f"{PREFIX}{lab}-*"))


def links(name: str, commands: Iterable[str]) -> None:
    """Commands of `ip` in a namespace, "" for where this process is; ends at the first that fails. Raises LabFault."""
    where = ["-n", PREFIX + name] if name else []
    _run("ip", *where, "-batch", "-", given="\n".join(commands) + "\n")


def in_namespace(name: str, *command: str, given: str = "") -> str:
    """A program's standard output. Raises LabFault."""
    return _run("ip", "netns", "exec", PREFIX + name, *command, given=given)


def full(name: str) -> str:
    """As `ip` knows it."""
    return PREFIX + name


@contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread is there until the end. Raises LabFault."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(_NAMED / (PREFIX + name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _enter(here)
    finally:
        os.close(here)


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise LabFault(f"setns: {os.strerror(ctypes.get_errno())}")


def _run(*command: str, given: str = "") -> str:
    try:
        done = subprocess.run(  # noqa: S603 - names are ours, and no shell reads them
            command,
            input=given,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
            env={**os.environ, "PATH": PATH},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabFault(f"{' '.join(command[:4])}: {error}") from error
    if done.returncode != 0:
        raise LabFault(f"{' '.join(command[:6])}: {done.stderr.strip()[:400]}")
    return done.stdout
