"""`leadglass zones reach`: what falls with a member, by which way, and the smallest fix; without one, of each of them and which flows matter most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from leadglass.doors.command.application import JSON, Invocation, invocation
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.command.output import Output
from leadglass.doors.command.reaching import Count, counting, reach_row
from leadglass.policy.pivots import Radius, Reached, Terrain, crowns, members, opened
from leadglass.site.document import SiteInvalid
from leadglass.site.load import SP1800_24, load
from leadglass.site.model import ARCHIVE, Site
from leadglass.site.write import load_proven
from leadglass.terms import Fault

EXPOSURE_TOLD_MAX = 10

Row = Mapping[str, Any]


def register(zones: typer.Typer) -> None:
    zones.command("reach")(_reach)


def _reach(
    context: typer.Context,
    member: Annotated[
        str, typer.Argument(help="A device, archive (a stolen worker of ours), or a zone: whoever else is there")
    ] = "",
    lab: Annotated[bool, typer.Option("--lab", help="In the SP 1800-24 lab's site file, not in this site's")] = False,
    weak: Annotated[bool, typer.Option("--weak", help="By known weaknesses alone, not by any pivot")] = False,
    as_json: JSON = False,
) -> None:
    """What somebody holds who holds this member: hosts, the ways there, who then reads studies, and the smallest fix."""
    call = invocation(context)
    site = read(SP1800_24 if lab else call.site_dir())
    terrain, output = Terrain(site), call.output(as_json)
    count = counting(lambda sop_classes: None) if lab else _counting(call)
    if not member:
        _every(terrain, output, count)
        return
    try:
        found = terrain.radius(member)
    except KeyError:
        raise Stopped(Exit.USAGE, f"{member[:64]!r} is no device and no zone", hint="leadglass device list") from None
    hosts = found.weak_only() if weak else found.hosts
    for each in hosts:
        output.object(_host(each), _host_told(each))
    for line in _draft(call, site, member) if not lab else []:
        output.object({"draft": line}, line)
    row = reach_row(terrain, found, count, weak=weak)
    output.object(row, _summary(site, found, row))


# ---- of one member


def _host(each: Reached) -> Row:
    known = sorted({word for step in each.steps for word in step.weak})
    return {"host": each.host, "unknown_flaws": each.flaws, "path": list(map(str, each.steps)), "weak": known}


def _host_told(each: Reached) -> str:
    known = sorted({word for step in each.steps for word in step.weak})
    text = f"{each.host}: {_flaws(each.flaws)}: {', '.join(map(str, each.steps))}"
    return text + (f" ({', '.join(known)})" if known else "")


def _summary(site: Site, found: Radius, row: Row) -> str:
    studies, fix, modes = row["studies"], row["smallest_fix"], row["modes"]
    lines = [f"who holds {_start(found.member)} gets to {row['hosts']} hosts"]
    if row["reads"]:
        many = "every study" if studies is None else f"{studies} studies"
        lines.append(f"  {many} can be read from: {', '.join(row['reads'])}")
    if row["reads_with_somebody"]:
        lines.append(f"  studies of whoever signs in there: {', '.join(row['reads_with_somebody'])}")
    if row["in_words"]:
        lines.append(f"  to archive: {row['in_words']}")
    fewest = modes["fewest_unknown_flaws"]
    if fewest["path"] and fewest["in_words"] != row["in_words"]:
        lines.append(f"  {_flaws(fewest['flaws'])}: {fewest['in_words']}")
    lines.append(f"  by known weaknesses alone: {modes['weak_pivots']['hosts']} hosts")
    if row["choke_points"]:
        lines.append(f"  every way to archive takes: {', '.join(row['choke_points'])}")
    cut = [f"close or guard {name}" for name in fix["close"]] + [f"isolate zone {name}" for name in fix["isolate"]]
    lines.append(f"  smallest fix: {', '.join(cut)}" if cut else "  archive and the crown are not reached")
    return "\n".join(lines)


def _start(member: str) -> str:
    return f"{member}, which is what a stolen worker of Leadglass has," if member == ARCHIVE else member


def _flaws(count: int) -> str:
    if count == 0:
        return "known weaknesses are enough"
    return f"{count} flaw{'s' if count > 1 else ''} that nobody knows yet"


def _draft(call: Invocation, site: Site, member: str) -> Iterator[str]:
    """What the working copy changes against the file that serves."""
    try:
        gained, lost = opened(load_proven(call.site_dir()), site, member)
    except Fault:
        return
    yield from (f"+ the draft opens {each.host}: {', '.join(map(str, each.steps))}" for each in gained)
    yield from (f"- the draft closes {each}" for each in lost)


def _counting(call: Invocation) -> Count:
    """Asks the site once for each set of SOP classes."""

    def count(sop_classes: frozenset[str] | None) -> int:
        desk = call.desk()
        try:
            arguments = {} if sop_classes is None else {"sop_classes": sorted(sop_classes)}
            return int(next(iter(desk.ask("studies", arguments)))["studies"])
        finally:
            desk.close()

    return counting(cache(count))


# ---- of everybody


def _every(terrain: Terrain, output: Output, count: Count) -> None:
    """A row for each member and zone, the worst first; then which flows the ways to archive depend on."""
    from leadglass.policy.cuts import Chokes

    site = terrain.site
    rows = []
    for name in (*members(site), *site.zones):
        found = terrain.radius(name)
        archive, fallen = found.of(ARCHIVE), {each.host for each in found.hosts}
        rows.append(
            {
                "member": name,
                "hosts": len(found.hosts),
                "weak_hosts": len(found.weak_only()),
                "studies": count(found.reads),
                "unknown_flaws": archive.flaws if archive else None,
                "path": list(map(str, archive.shortest)) if archive else [],
                "crown": sorted(crowns(site) & fallen),
            }
        )
    rows.sort(key=lambda row: (-len(row["crown"]), row["unknown_flaws"] or 0, -row["hosts"], row["member"]))  # type: ignore[arg-type, operator]
    for row in rows:
        output.object(row, _member_told(row))
    exposure, hosts = Chokes(terrain).exposure(), len(terrain.hosts)
    told = [{"by": name, "hosts": many, "percent": round(100 * many / hosts, 1)} for name, many in exposure]
    lines = [f"  {each['hosts']} of {hosts} ({each['percent']} %) by {each['by']}" for each in told[:EXPOSURE_TOLD_MAX]]
    text = "\n".join(["hosts that get to archive by one flow or zone, or not at all:", *lines])
    output.object({"choke_points": told, "of_hosts": hosts}, text if lines else "no single flow or zone matters alone")


def _member_told(row: Row) -> str:
    text = f"{row['member']}: {row['hosts']} hosts, {row['weak_hosts']} of them by known weaknesses"
    if not row["crown"]:
        return f"{text}; neither archive nor the crown"
    if row["path"]:
        text += f"; archive by {_flaws(row['unknown_flaws'])}: {', '.join(row['path'])}"
    return text + (f"; crown: {', '.join(row['crown'])}" if row["crown"] != [ARCHIVE] else "")


def read(directory: Path) -> Site:
    """The working copy. Raises Stopped."""
    try:
        return load(directory)
    except SiteInvalid as invalid:
        first = invalid.problems[0]
        raise Stopped(Exit.PROBLEMS, f"{first.file}:{first.line}: {first.message}", hint="leadglass check") from invalid
