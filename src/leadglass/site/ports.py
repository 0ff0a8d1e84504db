"""Where do people find the web door? A port that was once chosen stays: links that were handed out go on leading there."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from pathlib import Path

from leadglass.site.layout import STATE_DIRECTORY
from leadglass.site.model import Site
from leadglass.terms import Fault

WEB, CONSOLE = "web", "console"
FILE = "ports.json"
CHOSEN_FROM, CHOSEN_BELOW = (
    15_000,
    32_000,
)  # below what the kernel gives to outgoing connections: nobody takes it meanwhile
CHOICES_MAX = 200


def port_of(site_dir: Path, door: str, host: str, port: int) -> int:
    """The port that a door listens on: as the site file says, or for port 0 the one that was chosen once. Raises Fault."""
    return port or _remembered(site_dir).get(door) or choose_port(site_dir, door, host)


def choose_port(site_dir: Path, door: str, host: str) -> int:
    """A free one, from now on this door's. Raises Fault."""
    for _ in range(CHOICES_MAX):
        port = CHOSEN_FROM + secrets.randbelow(CHOSEN_BELOW - CHOSEN_FROM)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        _remember(site_dir, {**_remembered(site_dir), door: port})
        return port
    raise Fault(f"no port is free for the {door} door", hint=f"name one in [doors.{door}] listen")


def web_address(site: Site) -> str:
    """What links for people begin with: `https://NAME[:PORT]`, on a loopback site with a console `http://localhost:PORT`; "" without a web door."""
    if site.doors.console is not None:
        return f"http://localhost:{_port(site, CONSOLE)}"
    if site.doors.web is None:
        return ""
    port = _port(site, WEB)
    return f"https://{site.name}" + (f":{port}" if port != 443 else "")


def _port(site: Site, name: str) -> int:
    door = site.doors.console if name == CONSOLE else site.doors.web
    assert door is not None
    return port_of(site.path, name, door.host, door.port)


def _remembered(site_dir: Path) -> dict[str, int]:
    """Nothing where the file is missing or damaged: then a port is chosen again."""
    try:
        found = json.loads((site_dir / STATE_DIRECTORY / FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(door): port for door, port in found.items() if type(port) is int and 0 < port < 65536}


def _remember(site_dir: Path, ports: dict[str, int]) -> None:
    path = site_dir / STATE_DIRECTORY / FILE
    part = path.with_name(f".{FILE}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    path.parent.mkdir(exist_ok=True)
    with part.open("x") as file:
        json.dump(ports, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
