"""Who applied last, from where, and is that confirmed? One small file: what the kernel's table needs to know besides the site file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from leadglass.site.write import durably

STATE_FILE = Path("state") / "network.json"
LENGTH_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class NetworkState:
    """`confirmed`: digest of the site file that somebody confirmed; `applied`: of the one that was applied from `connection`: the addresses and
    the port of the connection by which they came ("CLIENT SERVER PORT"), "" for none."""

    confirmed: str = ""
    applied: str = ""
    connection: str = ""


def read(site_dir: Path) -> NetworkState:
    """Empty where nobody said anything yet, or it cannot be read: then what closes something waits for a confirmation."""
    try:
        with (site_dir / STATE_FILE).open("rb") as file:
            found = json.loads(file.read(LENGTH_MAX_BYTES))
        return NetworkState(**{name: str(found[name]) for name in ("confirmed", "applied", "connection")})
    except (OSError, ValueError, KeyError, TypeError):
        return NetworkState()


def write(site_dir: Path, state: NetworkState) -> None:
    durably(site_dir / STATE_FILE, json.dumps(asdict(state)).encode())


def connection_of(environment: Mapping[str, str]) -> str:
    """By which an administrator came, as sshd says: SSH_CONNECTION is "CLIENT PORT SERVER PORT"."""
    words = environment.get("SSH_CONNECTION", "").split()
    return f"{words[0]} {words[2]} {words[3]}" if len(words) == 4 else ""
