"""Who applied last, from where, and is that confirmed? One small file: what the kernel's table needs to know besides the site file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from leadglass.site.write import durably

STATE_FILE = Path("state") / "network.json"
LENGTH_MAX_BYTES = 4096
ANCESTORS_MAX = 32


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


def own_connection() -> str:
    """By which whoever called us came: of this process, else of those that began it, for sudo forgets it on the way. "" where nobody knows."""
    if found := connection_of(os.environ):
        return found
    return next((found for pid in _ancestors() if (found := connection_of(_environment(pid)))), "")


def connection_of(environment: Mapping[str, str]) -> str:
    """As sshd says it: SSH_CONNECTION is "CLIENT PORT SERVER PORT"."""
    words = environment.get("SSH_CONNECTION", "").split()
    return f"{words[0]} {words[2]} {words[3]}" if len(words) == 4 else ""


def _ancestors() -> Iterator[int]:
    pid = os.getppid()
    for _ in range(ANCESTORS_MAX):
        if pid <= 1:
            return
        yield pid
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            pid = int(stat.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return


def _environment(pid: int) -> Mapping[str, str]:
    """Empty where it is another user's."""
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (each.partition("=") for each in content.decode("utf-8", "replace").split("\0"))
    return {name: value for name, _, value in pairs}
