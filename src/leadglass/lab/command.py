"""`leadglass lab`: the networks of a site in namespaces of this machine, and a packet for every cell of its truth table. Without root the same site on
loopback networks, and a knock at every door."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadglass.doors.command.application import JSON, invocation
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.command.output import Output
from leadglass.lab import namespaces
from leadglass.lab.namespaces import LabFault
from leadglass.lab.network import down, planned, up
from leadglass.lab.probing import Probed, probe, table
from leadglass.lab.site import LabFailed
from leadglass.site.document import SiteInvalid
from leadglass.site.load import SP1800_24, load
from leadglass.site.model import Site

if TYPE_CHECKING:
    from leadglass.lab.loopback import Knocked

STANDING = "lab"  # begins the names of its namespaces; a lab that a probe brings along has a name of its own
MISMATCHES_TOLD_MAX = 50

Directory = Annotated[Path, typer.Option("--of", help="Directory of another site file; without it the lab's own")]
OnLoopback = Annotated[
    bool, typer.Option("--loopback", help="On loopback networks, where the doors enforce; always so without root")
]


def register(app: typer.Typer) -> None:
    lab = typer.Typer(no_args_is_help=True, help="The SP 1800-24 lab: its networks in namespaces of this machine.")
    lab.command("up")(_up)
    lab.command("down")(_down)
    lab.command("probe")(_probe)
    app.add_typer(lab, name="lab")


def _up(
    context: typer.Context, of: Directory = SP1800_24, on_loopback: OnLoopback = False, as_json: JSON = False
) -> None:
    """Zones, router and hosts, with the tables of the site file in force; stays until `lab down`."""
    output = invocation(context).output(as_json)
    if _without_root(output, on_loopback):
        _up_on_loopback(_addressed(of), output)
        return
    networks = planned(_addressed(of), STANDING)
    began = time.monotonic()
    with _explained():
        down(networks)
        up(networks)
    hosts = [
        {"host": each.name, "zone": each.zone.name, "namespace": namespaces.full(each.namespace)}
        for each in networks.hosts
    ]
    for row in hosts:
        output.object(row, f"{row['namespace']:<24} {row['zone']:<14} {row['host']}")
    seconds = round(time.monotonic() - began, 2)
    zones, router = len(networks.site.zones), namespaces.full(networks.router)
    text = f"{zones} zones, {len(hosts)} hosts in {seconds} s; `ip netns exec NAMESPACE COMMAND` is a host's shell"
    output.object({"zones": zones, "hosts": len(hosts), "router": router, "seconds": seconds}, text)


def _down(context: typer.Context, as_json: JSON = False) -> None:
    """Takes away what `lab up` made, in namespaces and on loopback."""
    from leadglass.lab import loopback

    with _explained():
        names = namespaces.made(STANDING)
        for name in names:
            namespaces.remove(name)
        site = loopback.end(loopback.standing())
    row = {"removed": len(names), "loopback": site}
    text = f"{len(names)} namespaces removed" + (", and the site on loopback" if site else "")
    invocation(context).output(as_json).object(row, text)


def _probe(
    context: typer.Context, of: Directory = SP1800_24, on_loopback: OnLoopback = False, as_json: JSON = False
) -> None:
    """Brings the lab up, sends a packet for every cell of the truth table, compares, and takes it down."""
    if _without_root(invocation(context).output(as_json), on_loopback):
        _probe_on_loopback(_addressed(of), invocation(context).output(as_json))
        return
    networks = planned(_addressed(of), f"probe{os.getpid()}")
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


def _row(found: Probed | Knocked) -> dict[str, object]:
    return {
        "probes": found.probes,
        "open": found.open,
        "mismatches": len(found.mismatches),
        "seconds": round(found.seconds, 2),
    }


def _told(found: Probed | Knocked) -> str:
    return f"{found.probes} probes, {found.open} got through, {len(found.mismatches)} mismatches, {found.seconds:.1f} s"


def _addressed(directory: Path) -> Site:
    """Raises Stopped."""
    site = _site(directory)
    if site.firewall is None:
        hint = "[firewall] addresses"
        raise Stopped(Exit.PROBLEMS, "the site file does not say which addresses archive has", hint=hint)
    return site


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
    except (LabFault, LabFailed, FileExistsError) as fault:
        raise Stopped(Exit.PROBLEMS, f"the lab: {fault}", hint="`leadglass lab down`, then again") from fault


# ---- without root


def _without_root(output: Output, on_loopback: bool) -> bool:
    why = namespaces.unable()
    if why and not on_loopback:
        output.problem(f"{why}: on loopback instead, where the doors enforce and no kernel does")
    return bool(why) or on_loopback


def _up_on_loopback(site: Site, output: Output) -> None:
    from leadglass.lab import loopback

    began, directory = time.monotonic(), loopback.standing()
    with _explained():
        loopback.end(directory)
        directory.mkdir(mode=0o700)  # nobody else's, even in a directory that everybody writes in
        lab = loopback.Loopback(site, directory)
        lab.make()
        loopback.stay_up(lab)
        rows = [
            {
                "host": each.name,
                "zone": each.zone.name,
                "address": lab.address(each.name),
                "stick": lab.stick(each.name),
            }
            for each in lab.hosts
        ]
    for row in rows:
        output.object(row, f"{row['address']:<16} {row['zone']:<14} {row['host']:<24} {row['stick']}")
    seconds = round(time.monotonic() - began, 2)
    told = {"zones": len(site.zones), "hosts": len(rows), "site": str(directory), "seconds": seconds}
    text = (
        f"{len(site.zones)} zones, {len(rows)} hosts on loopback in {seconds} s; `leadglass --site {directory} status`"
    )
    output.object({**told, "cannot_show": list(loopback.CANNOT_SHOW)}, f"{text}\n{_cannot_show(loopback.CANNOT_SHOW)}")


def _probe_on_loopback(site: Site, output: Output) -> None:
    from leadglass.lab import loopback  # devices and doors, which other commands need not load

    with tempfile.TemporaryDirectory(prefix="leadglass-lab-") as place, _explained():
        lab = loopback.Loopback(site, Path(place) / "site")
        lab.make()
        try:
            lab.lab.up()
            found = loopback.knock(lab)
        finally:
            lab.lab.down()
    for each, let_in in found.mismatches[:MISMATCHES_TOLD_MAX]:
        said = "was let in" if let_in else "was refused"
        output.object({"mismatch": str(each), "through": let_in}, f"{each}: {said}, against the site file")
    row = {**_row(found), "cannot_show": list(loopback.CANNOT_SHOW)}
    output.object(row, f"{_told(found)}\n{_cannot_show(loopback.CANNOT_SHOW)}")
    if found.mismatches:
        raise Stopped(Exit.PROBLEMS, "the doors and the site file disagree: each difference is named above")


def _cannot_show(said: Sequence[str]) -> str:
    return "\n".join(["on loopback this cannot be shown:", *(f"  - {each}" for each in said)])
