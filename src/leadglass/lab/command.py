"""`leadglass lab`: the networks of a site in namespaces of this machine, and a packet for every cell of its truth table."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from leadglass.doors.command.application import JSON, invocation
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.lab import namespaces
from leadglass.lab.namespaces import LabFault
from leadglass.lab.network import Networks, down, planned, up
from leadglass.lab.probing import Probed, probe, table
from leadglass.site.document import SiteInvalid
from leadglass.site.load import SP1800_24, load
from leadglass.site.model import Site

STANDING = "lab"  # begins the names of its namespaces; a lab that a probe brings along has a name of its own
MISMATCHES_TOLD_MAX = 50

Directory = Annotated[Path, typer.Option("--of", help="Directory of another site file; without it the lab's own")]


def register(app: typer.Typer) -> None:
    lab = typer.Typer(no_args_is_help=True, help="The SP 1800-24 lab: its networks in namespaces of this machine.")
    lab.command("up")(_up)
    lab.command("down")(_down)
    lab.command("probe")(_probe)
    app.add_typer(lab, name="lab")


def _up(context: typer.Context, of: Directory = SP1800_24, as_json: JSON = False) -> None:
    """Zones, router and hosts, with the tables of the site file in force; stays until `lab down`."""
    networks = _planned(of, STANDING)
    began = time.monotonic()
    with _explained():
        down(networks)
        up(networks)
    hosts = [
        {"host": each.name, "zone": each.zone.name, "namespace": namespaces.full(each.namespace)}
        for each in networks.hosts
    ]
    output = invocation(context).output(as_json)
    for row in hosts:
        output.object(row, f"{row['namespace']:<24} {row['zone']:<14} {row['host']}")
    seconds = round(time.monotonic() - began, 2)
    zones, router = len(networks.site.zones), namespaces.full(networks.router)
    text = f"{zones} zones, {len(hosts)} hosts in {seconds} s; `ip netns exec NAMESPACE COMMAND` is a host's shell"
    output.object({"zones": zones, "hosts": len(hosts), "router": router, "seconds": seconds}, text)


def _down(context: typer.Context, as_json: JSON = False) -> None:
    """Takes away what `lab up` made."""
    with _explained():
        names = namespaces.made(STANDING)
        for name in names:
            namespaces.remove(name)
    invocation(context).output(as_json).object({"removed": len(names)}, f"{len(names)} namespaces removed")


def _probe(context: typer.Context, of: Directory = SP1800_24, as_json: JSON = False) -> None:
    """Brings the lab up, sends a packet for every cell of the truth table, compares, and takes it down."""
    networks = _planned(of, f"probe{os.getpid()}")
    with _explained():
        down(networks)
        try:
            up(networks)
            found = probe(networks, list(table(networks)))
        finally:
            down(networks)
    output = invocation(context).output(as_json)
    for each, through in found.mismatches[:MISMATCHES_TOLD_MAX]:
        said = "got through" if through else "was dropped"
        output.object({"mismatch": str(each), "through": through}, f"{each}: {said}, against the site file")
    output.object(_row(found), _told(found))
    if found.mismatches:
        raise Stopped(Exit.PROBLEMS, "the kernel and the site file disagree: each difference is named above")


def _row(found: Probed) -> dict[str, object]:
    return {
        "probes": found.probes,
        "open": found.open,
        "mismatches": len(found.mismatches),
        "seconds": round(found.seconds, 2),
    }


def _told(found: Probed) -> str:
    return f"{found.probes} probes, {found.open} got through, {len(found.mismatches)} mismatches, {found.seconds:.1f} s"


def _planned(directory: Path, lab: str) -> Networks:
    """Raises Stopped."""
    if why := namespaces.unable():
        raise Stopped(
            Exit.PROBLEMS, f"no lab here: {why}", hint="as root; the doors' own refusals are tried by `make demo`"
        )
    site = _site(directory)
    if site.firewall is None:
        raise Stopped(
            Exit.PROBLEMS, "the site file does not say which addresses archive has", hint="[firewall] addresses"
        )
    return planned(site, lab)


def _site(directory: Path) -> Site:
    try:
        return load(directory)
    except SiteInvalid as invalid:
        first = invalid.problems[0]
        raise Stopped(Exit.PROBLEMS, f"{first.file}:{first.line}: {first.message}", hint=first.mend) from invalid


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except LabFault as fault:
        raise Stopped(Exit.PROBLEMS, f"the lab: {fault}", hint="`leadglass lab down`, then again") from fault
