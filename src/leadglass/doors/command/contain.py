"""`leadglass contain`: a device, a person, a zone or the whole site, within a second; and out of it again."""

from __future__ import annotations

from typing import Annotated

import typer

from leadglass.doors.command.application import JSON, invocation
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.policy.decide import cuts_off
from leadglass.site.network import own_connection
from leadglass.site.write import load_proven
from leadglass.terms import ChangeKind, Fault, Peer

Reason = Annotated[str, typer.Option("--reason", help="Why; every refusal that comes of it says so")]
Undo = Annotated[bool, typer.Option("--undo", help="Lets it in again")]
MeToo = Annotated[bool, typer.Option("--me-too", help="Also where it ends the connection by which you came")]


def register(app: typer.Typer) -> None:
    contain = typer.Typer(
        no_args_is_help=True, help="Keeps a device, a person, a zone out, or the site read-only, within a second."
    )
    contain.command("device")(_device)
    contain.command("person")(_person)
    contain.command("zone")(_zone)
    contain.command("site")(_site)
    app.add_typer(contain, name="contain")


def _device(
    context: typer.Context,
    name: str,
    reason: Reason = "",
    undo: Undo = False,
    me_too: MeToo = False,
    as_json: JSON = False,
) -> None:
    """Ends what it has open; whoever treats elsewhere goes on."""
    if not undo and not me_too:
        _not_oneself(context, "device", name)
    kind = ChangeKind.DEVICE_ENABLE if undo else ChangeKind.DEVICE_DISABLE
    _change(context, kind, name, reason, undo=undo, as_json=as_json)


def _person(context: typer.Context, name: str, reason: Reason = "", undo: Undo = False, as_json: JSON = False) -> None:
    """Ends their sessions, leases and associations; nothing about them is forgotten."""
    kind = ChangeKind.PERSON_ENABLE if undo else ChangeKind.PERSON_DISABLE
    _change(context, kind, name, reason, undo=undo, as_json=as_json)


def _zone(
    context: typer.Context,
    name: str,
    reason: Reason = "",
    undo: Undo = False,
    me_too: MeToo = False,
    as_json: JSON = False,
) -> None:
    """Every device of the zone, and whoever signs in or works from there."""
    if not undo and not me_too:
        _not_oneself(context, "zone", name)
    kind = ChangeKind.ZONE_RELEASE if undo else ChangeKind.ZONE_CONTAIN
    _change(context, kind, name, reason, undo=undo, as_json=as_json)


def _site(context: typer.Context, reason: Reason = "", undo: Undo = False, as_json: JSON = False) -> None:
    """Read-only: new images arrive and are read; nothing is overwritten, granted, enrolled or applied."""
    kind = ChangeKind.SITE_RELEASE if undo else ChangeKind.SITE_CONTAIN
    _change(context, kind, "site", reason, undo=undo, as_json=as_json)


def _not_oneself(context: typer.Context, kind: str, name: str) -> None:
    """Where the kernel ends what is contained, a shell from there ends too. Raises Stopped."""
    try:
        site = load_proven(invocation(context).site_dir())
    except Fault:
        return  # whoever does it says so
    client = own_connection().partition(" ")[0]
    if site.filterer and client and cuts_off(site, kind, name, Peer(client, 0, "shell")):
        what = f"you come from there yourself ({client}): the kernel ends your own connection"
        raise Stopped(Exit.USAGE, what, hint="--me-too if that is meant; the machine's own console lets it in again")


def _change(context: typer.Context, kind: ChangeKind, name: str, reason: str, *, undo: bool, as_json: bool) -> None:
    if not reason and not undo:
        raise Stopped(Exit.USAGE, "why?", hint="--reason WORDS: whoever reviews it reads them")
    call = invocation(context)
    desk = call.desk()
    try:
        result = desk.change(kind, name, {"reason": reason, "why": reason or "by an operator"})
    finally:
        desk.close()
    call.output(as_json).object(result, f"{name} is {'no longer contained' if undo else 'contained'}")
