"""`leadglass zones`: the flows of the site file in the kernel's words, what a change of them opens and closes, and whether the kernel agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadglass.doors.command import zones_apply
from leadglass.doors.command.application import JSON, Invocation, invocation
from leadglass.doors.command.desk import stopping
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.command.site import proven_draft
from leadglass.doors.kernel import nft
from leadglass.policy.containment import read as read_containment
from leadglass.policy.firewall.compile import plain, ruleset
from leadglass.policy.firewall.openings import ROUTER, openings
from leadglass.policy.firewall.readback import NotUnderstood, drift, read
from leadglass.policy.firewall.words import gains_and_losses, named
from leadglass.site.document import SiteInvalid
from leadglass.site.load import SP1800_24, load
from leadglass.site.model import ARCHIVE, Site
from leadglass.site.write import load_proven
from leadglass.terms import Containment, Fault

if TYPE_CHECKING:
    from leadglass.policy.pivots import Reached

Member = Annotated[
    str, typer.Option("--for", help="Whose host: archive, a device, or router: a host that is nobody else")
]
Opened = Callable[[Site, Site, str], tuple[tuple["Reached", ...], tuple[str, ...]]]
Forwards = Annotated[bool, typer.Option("--forwards", help="That host routes between the zones")]


def register(app: typer.Typer) -> None:
    zones = typer.Typer(no_args_is_help=True, help="The network: zones, flows and the kernel's table.")
    zones.command("compile")(_compile)
    zones.command("diff")(_diff)
    zones.command("verify")(_verify)
    zones.command("reach")(_reach)
    zones_apply.register(zones)
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
    """As `leadglass check`, then says in packets who gains and who loses what when the site file is applied."""
    call = invocation(context)
    output = call.output(as_json)
    new, old = _with_addresses(proven_draft(call.site_dir(), output), ARCHIVE), load_proven(call.site_dir())
    lines = list(gains_and_losses(old, new))
    for line in lines:
        output.object({"opens": line.startswith("+"), "flow": line[2:]}, line)
    if not lines and not as_json:
        output.object({}, "the same packets pass")


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
    return _with_addresses(_read(call.site_dir()), member)


def _read(directory: Path) -> Site:
    try:
        return load(directory)
    except SiteInvalid as invalid:
        first = invalid.problems[0]
        raise Stopped(Exit.PROBLEMS, f"{first.file}:{first.line}: {first.message}", hint="leadglass check") from invalid


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


def _reach(
    context: typer.Context,
    member: Annotated[str, typer.Argument(help="A device, archive, or a zone: then whoever else is there")],
    lab: Annotated[bool, typer.Option("--lab", help="In the SP 1800-24 lab's site file, not in this site's")] = False,
    weak: Annotated[bool, typer.Option("--weak", help="By known weaknesses alone, not by any pivot")] = False,
    as_json: JSON = False,
) -> None:
    """What somebody holds who holds this member: hosts, the ways there, who then reads studies, and the smallest fix."""
    from leadglass.policy.pivots import opened, radius  # graphs are for this command: the others start sooner

    call = invocation(context)
    site = _read(SP1800_24 if lab else call.site_dir())
    try:
        found = radius(site, member)
    except KeyError:
        raise Stopped(Exit.USAGE, f"{member[:64]!r} is no device and no zone", hint="leadglass device list") from None
    hosts = found.weak_only() if weak else found.hosts
    output = call.output(as_json)
    for each in hosts:
        path = [str(step) for step in each.steps]
        known = sorted({word for step in each.steps for word in step.weak})
        row = {"host": each.host, "unknown_flaws": each.flaws, "path": path, "weak": known}
        output.object(
            row, f"{each.host}: {_flaws(each.flaws)}: {', '.join(path)}" + (f" ({', '.join(known)})" if known else "")
        )
    for line in _draft(call, site, member, opened) if not lab else []:
        output.object({"draft": line}, line)
    fix = {"close": list(found.fix.flows), "isolate": list(found.fix.zones)}
    held = {member, *(each.host for each in hosts)}
    reads = [name for name in found.reads if name in held]
    with_somebody = [name for name in found.with_somebody if name in held]
    studies = 0 if not reads else None if lab else _kept(call)
    row = {
        "member": member,
        "hosts": len(hosts),
        "studies": studies,
        "path": next(([str(step) for step in each.steps] for each in hosts if each.host == ARCHIVE), []),
        "reads": reads,
        "reads_with_somebody": with_somebody,
        "choke_points": list(found.choke),
        "smallest_fix": fix,
    }
    output.object(row, _summary(member, len(hosts), studies, reads, with_somebody, found.choke, fix))


def _kept(call: Invocation) -> int:
    """How many studies the archive has now. Raises Stopped."""
    desk = call.desk()
    try:
        return int(next(iter(desk.ask("status", {})))["studies"])
    finally:
        desk.close()


def _flaws(count: int) -> str:
    if count == 0:
        return "known weaknesses are enough"
    return f"{count} flaw{'s' if count > 1 else ''} that nobody knows yet"


def _draft(call: Invocation, site: Site, member: str, opened: Opened) -> Iterator[str]:
    """What the working copy changes against the file that serves."""
    try:
        gained, lost = opened(load_proven(call.site_dir()), site, member)
    except Fault:
        return
    yield from (f"+ the draft opens {each.host}: {', '.join(map(str, each.steps))}" for each in gained)
    yield from (f"- the draft closes {each}" for each in lost)


def _summary(
    member: str,
    hosts: int,
    studies: int | None,
    reads: list[str],
    with_somebody: list[str],
    choke: tuple[str, ...],
    fix: dict[str, list[str]],
) -> str:
    lines = [f"who holds {member} gets to {hosts} hosts"]
    if reads:
        many = "every study" if studies is None else f"all {studies} studies"
        lines.append(f"  {many} can be read from: {', '.join(reads)}")
    if with_somebody:
        lines.append(f"  studies of whoever signs in there: {', '.join(with_somebody)}")
    if choke:
        lines.append(f"  every way to archive takes: {', '.join(choke)}")
    cut = [f"close or guard {name}" for name in fix["close"]] + [f"isolate zone {name}" for name in fix["isolate"]]
    lines.append(f"  smallest fix: {', '.join(cut)}" if cut else "  archive and the crown are not reached")
    return "\n".join(lines)
