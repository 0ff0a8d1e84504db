"""Site files for the network: the lab's, and generated ones."""

from __future__ import annotations

import json
import random
from pathlib import Path

from leadglass.site.load import SP1800_24, load
from leadglass.site.model import Site

HEAD = """schema = 1
[site]
name = "leadglass.example"
key = "credential:site.key"
[doors.dimse]
listen = "0.0.0.0:2762"
"""


def lab() -> Site:
    return load(SP1800_24)


def written(directory: Path, text: str) -> Site:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "leadglass.toml").write_text(HEAD + text)
    return load(directory)


def generated(directory: Path, seed: int) -> Site:
    """A site of a few zones, hosts and flows by chance; both IP versions; some isolated, some disabled, some on demand."""
    rng = random.Random(seed)
    zones = [f"zone-{n}" for n in range(rng.randint(2, 5))]
    parts = [
        '[firewall]\naddresses = ["10.9.0.10/32", "fd09::10/128"]\n[zones.home]\nnetworks = ["10.9.0.0/24", "fd09::/64"]'
    ]
    parts[0] += f"\nisolated = {json.dumps(rng.random() < 0.5)}"
    names = ["home", *zones]
    services = {f"service-{n}": f"{rng.choice(('tcp', 'udp'))}/{rng.randint(1, 9)}" for n in range(4)}
    for n, zone in enumerate(zones):
        networks = [f"10.{n}.0.0/24", f"fd0{n}::/64"][: rng.randint(1, 2)]
        parts.append(f"[zones.{zone}]\nnetworks = {json.dumps(networks)}\nisolated = {json.dumps(rng.random() < 0.4)}")
        for host in range(rng.randint(0, 3)):
            name = f"host-{n}-{host}"
            addresses = [f"10.{n}.0.{host + 5}/32", f"fd0{n}::{host + 5}/128"][: len(networks)]
            enabled = json.dumps(rng.random() < 0.85)
            parts.append(
                f"[devices.{name}]\nzone = {json.dumps(zone)}\nnetwork = {json.dumps(addresses)}\nenabled = {enabled}"
            )
            names.append(name)
    for n in range(rng.randint(1, 8)):
        archive = rng.random() < 0.3
        flow = {
            "id": f"flow-{n}",
            "from": rng.sample([*names, *(["archive"] if not archive else [])], rng.randint(1, 2)),
            "to": ["archive"] if archive else rng.sample(names, rng.randint(1, 2)),
            "service": rng.choice([*services, "dicom-tls"]),
            "auth": "mtls",
            "why": "by chance",
        }
        told = "\n".join(f"{key} = {json.dumps(value)}" for key, value in flow.items())
        on_demand = (
            '\non_demand = { approve = "biomedical-engineer", max = "4h", record = true }' if rng.random() < 0.2 else ""
        )
        parts.append(f"[[flows]]\n{told}{on_demand}")
    listed = "\n".join(f"{name} = {json.dumps(value)}" for name, value in services.items())
    return written(directory, f"[services]\n{listed}\n" + "\n".join(parts) + "\n")
