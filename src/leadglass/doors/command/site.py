"""`leadglass check`, `apply`, `status`, `doctor`: is the site file sound, what serves, how is it, and what is wrong with this host?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from leadglass.doors.command.application import JSON, invocation
from leadglass.doors.command.desk import Desk
from leadglass.doors.command.doctor import examine
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.command.output import Output
from leadglass.policy.firewall.compile import ruleset
from leadglass.policy.firewall.lookup import Lookup
from leadglass.policy.proof import differences, prove
from leadglass.site.document import SiteInvalid
from leadglass.site.load import SITE_FILE, load
from leadglass.site.model import Site
from leadglass.site.network import own_connection
from leadglass.site.write import draft_digest, load_proven
from leadglass.terms import ChangeKind, Fault

Ask = Annotated[bool, typer.Option("--ask", help="Asks that somebody else approves it, and applies nothing yet")]
Why = Annotated[str, typer.Option("--why", help="With --ask: whoever decides reads it")]


def register(app: typer.Typer) -> None:
    app.command("check")(_check)
    app.command("apply")(_apply)
    app.command("status")(_status)
    app.command("doctor")(_doctor)


def proven_draft(directory: Path, output: Output) -> Site:
    """The working copy, which holds what it promises; every problem is said. Raises Stopped."""
    try:
        site = load(directory)
    except SiteInvalid as invalid:
        for problem in invalid.problems:
            output.object(
                {"file": problem.file, "line": problem.line, "problem": problem.message, "mend": problem.mend},
                f"{problem.file}:{problem.line}: {problem.message}\n  {problem.mend}",
            )
        raise Stopped(
            Exit.PROBLEMS, f"{len(invalid.problems)} problems: the last proven site file goes on serving"
        ) from invalid
    failures = prove(site)
    for failure in failures:
        output.object({"failure": str(failure)}, str(failure))
    if failures:
        raise Stopped(Exit.PROBLEMS, f"{len(failures)} promises of the site file do not hold")
    return site


def _check(context: typer.Context, as_json: JSON = False) -> None:
    """Parses and proves the site file, and says who gains and loses what against the one that serves."""
    call = invocation(context)
    output = call.output(as_json)
    site = proven_draft(call.site_dir(), output)
    try:
        changes = list(differences(load_proven(call.site_dir()), site))
    except Fault:
        changes = []
    for line in changes:
        output.object({"change": str(line)}, str(line))
    output.object(
        {
            "ok": True,
            "devices": len(site.devices),
            "flows": len(site.flows),
            "tests": len(site.tests),
            "changes": len(changes),
        },
        f"sound: {len(site.devices)} devices, {len(site.flows)} flows, {len(site.tests)} tests hold"
        + ("; `leadglass apply` makes the changes above act" if changes else ""),
    )


def apply_draft(desk: Desk, directory: Path) -> Mapping[str, Any]:
    """The files as they lie there act. Raises Stopped, also where somebody else must approve them first."""
    told = {"connection": own_connection(), "digest": draft_digest(directory)}
    return desk.change(ChangeKind.SITE_APPLY, SITE_FILE, told)


def ask_for_draft(desk: Desk, directory: Path, why: str, output: Output) -> None:
    """That somebody else approves the files as they lie there. Raises Stopped."""
    if not why:
        raise Stopped(Exit.USAGE, "why?", hint="--why WORDS: whoever decides reads them")
    result = desk.change(ChangeKind.SITE_ASK, SITE_FILE, {"digest": draft_digest(directory), "reason": why})
    count = result["approvers"]
    then = {0: "nobody could approve it: `leadglass apply` acts at once", 1: "it acts after 24 h unless it is denied"}
    words = then.get(int(count), f"{count} people may approve it at the console, under Requests")
    output.object(result, f"asked for site file {str(result['digest'])[:12]}: {words}; then `leadglass apply` again")


def cut_off(directory: Path) -> str:
    """A warning where a kernel's table is loaded here, or soon will be, and no flow opens the connection by which somebody came; "" elsewhere."""
    site, own = load_proven(directory), own_connection()
    if not site.filterer or site.firewall is None or Lookup(ruleset(site)).opens_tcp(own) is not False:
        return ""
    return f"\nno flow opens your own connection ({own}): the kernel's table ends it where it is not in force yet"


def _apply(context: typer.Context, ask: Ask = False, why: Why = "", as_json: JSON = False) -> None:
    """Makes the site file act: proven first, live at once where that is possible."""
    call = invocation(context)
    desk = call.desk()
    try:
        if ask:
            ask_for_draft(desk, call.site_dir(), why, call.output(as_json))
            return
        result = apply_draft(desk, call.site_dir())
    finally:
        desk.close()
    later = result.get("at_restart") or []
    words = "applied" + (f"; at the next start: {', '.join(map(str, later))}" if later and desk.running else "")
    if load_proven(call.site_dir()).filterer and desk.running:
        words += "; where it closes something in the kernel, `leadglass zones confirm` keeps it"
    call.output(as_json).object(result, words + cut_off(call.site_dir()))


def _status(context: typer.Context, as_json: JSON = False) -> None:
    """Doors, archive, disk, certificates about to expire, clock, and what is weaker than it could be."""
    call = invocation(context)
    desk = call.desk()
    try:
        row: Mapping[str, Any] = {**next(iter(desk.ask("status", {}))), "running": desk.running}
    finally:
        desk.close()
    width = max(len(key) for key in row)
    call.output(as_json).object(
        row, "\n".join(f"{key.replace('_', ' '):<{width}}  {_said(value)}" for key, value in row.items())
    )


def _said(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value)) or "none"
    return "not known" if value is None else str(value) if value != "" else "-"


def _doctor(context: typer.Context, as_json: JSON = False) -> None:
    """What is wrong with this host, site, clock, disk, certificate, and how to mend it."""
    call = invocation(context)
    output = call.output(as_json)
    findings = list(examine(call.site_dir()))
    for finding in findings:
        mark = {"ok": "ok    ", "amber": "amber ", "red": "RED   "}[finding.state]
        output.object(
            {"about": finding.about, "state": finding.state, "finding": finding.text, "mend": finding.mend},
            f"{mark} {finding.about}: {finding.text}" + (f"\n         {finding.mend}" if finding.mend else ""),
        )
    if any(finding.state == "red" for finding in findings):
        raise Stopped(Exit.PROBLEMS, "something needs mending before this site should serve")
