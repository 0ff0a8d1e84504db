"""Since when does each flow and device stand as it stands? A small file in `state/`; lost, nothing is known to stand before the next `apply`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from leadglass.site.model import Flow, Site

FILE = Path("state") / "since.json"
FLOW, DEVICE = "flow:", "device:"


def since(site_dir: Path) -> Mapping[str, int]:
    """Unix nanoseconds by `flow:ID` and `device:NAME`; what is missing is not known."""
    return {name: at_ns for name, (_, at_ns) in _known(site_dir).items()}


def remembered(site_dir: Path, old: Site | None, applied_ns: int, new: Site, now_ns: int) -> bytes:
    """The file's next content, where `new` serves from now on instead of `old`, which did since `applied_ns`. What says the same keeps its time."""
    known = _known(site_dir)
    if not known and old is not None:  # an older program kept no times
        known = {name: (meaning, applied_ns) for name, meaning in _meanings(old)}
    told = {}
    for name, meaning in _meanings(new):
        said, at_ns = known.get(name, ("", 0))
        told[name] = [meaning, at_ns if said == meaning else now_ns]
    return json.dumps(told).encode()


def _known(site_dir: Path) -> dict[str, tuple[str, int]]:
    try:
        told = json.loads((site_dir / FILE).read_bytes())
        return {str(name): (str(meaning), int(at_ns)) for name, (meaning, at_ns) in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _meanings(site: Site) -> Iterator[tuple[str, str]]:
    """What each says, shortened; words that change nothing (why, owner, certificates) left out."""
    for flow in site.flows:
        yield FLOW + flow.id, _short(_flow(site, flow))
    for device in site.devices.values():
        facts = (device.zone, *map(str, device.networks), *device.ae_titles, device.address, device.enabled)
        yield DEVICE + device.name, _short(facts)


def _flow(site: Site, flow: Flow) -> tuple[object, ...]:
    service = site.services[flow.service]
    named = [
        (zone.name, *map(str, zone.networks))
        for zone in site.zones.values()
        for name in (*flow.sources, *flow.targets)
        if name == zone.name or name.removeprefix("#") in zone.tags
    ]
    confined = [sorted(each) if each is not None else None for each in (flow.sop_classes, flow.destinations)]
    ends = (flow.sources, flow.targets, service.protocol, service.port)
    return (*ends, flow.auth, sorted(flow.may), *confined, flow.require_user_identity, flow.on_demand, named)


def _short(facts: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
