"""`leadglass zones`: the flows of the site file in the kernel's words, what a change of them opens and closes, and whether the kernel agrees."""

from __future__ import annotations

from typing import Annotated

import typer

from leadglass.doors.command import zones_apply, zones_probe, zones_reach, zones_tighten
from leadglass.doors.command.application import JSON, Invocation, invocation
from leadglass.doors.command.desk import stopping
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.command.reaching import ways
from leadglass.doors.command.site import proven_draft
from leadglass.doors.kernel import nft
from leadglass.policy.containment import read as read_containment
from leadglass.policy.firewall.compile import plain, ruleset
from leadglass.policy.firewall.openings import ROUTER, openings
from leadglass.policy.firewall.readback import NotUnderstood, drift, read
from leadglass.policy.firewall.words import gains_and_losses, named
from leadglass.site.model import ARCHIVE, Site
from leadglass.site.write import load_proven
from leadglass.terms import Containment

Member = Annotated[
    str, typer.Option("--for", help="Whose host: archive, a device, or router: a host that is nobody else")
]
Forwards = Annotated[bool, typer.Option("--forwards", help="That host routes between the zones")]


def register(app: typer.Typer) -> None:
    zones = typer.Typer(no_args_is_help=True, help="The network: zones, flows and the kernel's table.")
    zones.command("compile")(_compile)
    zones.command("diff")(_diff)
    zones.command("verify")(_verify)
    zones_apply.register(zones)
    zones_probe.register(zones)
    zones_reach.register(zones)
    zones_tighten.register(zones)
    app.add_typer(zones, name="zones")


def _compile(
    context: typer.Context,
    member: Member = ARCHIVE,
    forwards: Forwards = False,
    as_table: Annotated[bool, typer.Option("--plain", help="A plain table, for another make of firewall")] = False,
    as_json: JSON = False,
) -> None:
    """Prints the nftables ruleset of a host, for `nft -f`; or a plain table of what to allow."""
    call = invocation(context)
    site = _site(call, member)
    output = call.output(as_json)
    if not as_table:
        text = ruleset(site, member, forwards=forwards or None, containment=_contained(call)).text()
        if as_json:
            output.object({"member": member, "ruleset": text}, "")
        else:
            typer.echo(text, nl=False)  # as it is: nft reads it
        return
    for chain, opening in plain(site, member):
        box = opening.box
        row = {
            "chain": chain,
            "from": str(box.source),
            "to": str(box.target),
            "protocol": box.protocol,
            "port": box.ports,
            "on_demand": opening.on_demand,
            "flow": opening.flow,
        }
        who = f"{named(site, box.source)} to {named(site, box.target)}"
        line = f"{chain:<8} {row['from']:<20} {row['to']:<20} {box.protocol}/{box.ports:<6} {opening.flow}: {who}"
        output.object(row, line + (", on demand" if opening.on_demand else ""))
    output.object(
        {"chain": "all", "otherwise": "deny"}, "all      everything else is denied; answers of what is allowed pass"
    )


def _diff(context: typer.Context, as_json: JSON = False) -> None:
    """As `leadglass check`, then says in packets who gains and who loses what, and which ways to archive and the crown that opens by pivots."""
    call = invocation(context)
    output = call.output(as_json)
    new, old = _with_addresses(proven_draft(call.site_dir(), output), ARCHIVE), load_proven(call.site_dir())
    lines = list(gains_and_losses(old, new))
    for line in lines:
        output.object({"opens": line.startswith("+"), "flow": line[2:]}, line)
    if not lines and not as_json:
        output.object({}, "the same packets pass")
    for row, told in ways(old, new):
        output.object(row, told)


def _verify(
    context: typer.Context, member: Member = ARCHIVE, forwards: Forwards = False, as_json: JSON = False
) -> None:
    """Reads the kernel's table and says every difference from the site file that serves."""
    call = invocation(context)
    site = _with_addresses(load_proven(call.site_dir()), member)
    expected = ruleset(site, member, forwards=forwards or None, containment=_contained(call))
    approved = [each.box for each in openings(site, member).forward if each.on_demand]
    try:
        found = list(drift(expected, read(_listing()), approved))
    except NotUnderstood as error:
        raise Stopped(Exit.PROBLEMS, f"the kernel's table is none of ours: {error}") from error
    output = call.output(as_json)
    for each in found:
        output.object({"difference": each}, each)
    if found:
        raise Stopped(Exit.PROBLEMS, f"the kernel lets something else through: {len(found)} differences")
    output.object({"ok": True}, "the kernel lets through what the site file says, and nothing else")


def _contained(call: Invocation) -> Containment:
    """Raises Stopped: a table that lets a contained zone in would be worse than none."""
    with stopping():
        return read_containment(call.site_dir())


def _site(call: Invocation, member: str = ARCHIVE) -> Site:
    return _with_addresses(zones_reach.read(call.site_dir()), member)


def _with_addresses(site: Site, member: str) -> Site:
    """A table for somebody without addresses would let nothing in and say nothing. Raises Stopped."""
    if site.firewall is None:
        hint = '[firewall] addresses = ["10.20.5.10/32"] in leadglass.toml'
        raise Stopped(Exit.PROBLEMS, "the site file does not say which addresses archive has", hint=hint)
    if member not in (ARCHIVE, ROUTER) and member not in site.devices:
        raise Stopped(Exit.USAGE, f"there is no device {member[:64]!r}", hint="leadglass device list")
    return site


def _listing() -> str:
    """Raises Stopped."""
    try:
        return nft.listing()
    except nft.NftFault as fault:
        raise Stopped(Exit.PROBLEMS, str(fault), hint="as root, or with CAP_NET_ADMIN; apt install nftables") from fault
