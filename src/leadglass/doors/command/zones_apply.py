"""`leadglass zones apply` and `confirm`: the site file acts, also in the kernel, and whoever applied it is still there."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from leadglass.doors.command.application import JSON, invocation
from leadglass.doors.command.desk import Desk
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.command.site import Ask, Why, apply_draft, ask_for_draft, cut_off
from leadglass.site.write import load_proven, proven_directory
from leadglass.terms import ChangeKind

LOADED_SECONDS_MAX = 15.0
REFUSED_SECONDS = 1.5  # for so long what was refused before may still be told
POLL_SECONDS = 0.2

Row = Mapping[str, Any]


def register(zones: typer.Typer) -> None:
    zones.command("apply")(_apply)
    zones.command("confirm")(_confirm)


def _apply(
    context: typer.Context,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Confirm at once, as a script does that cannot be cut off")
    ] = False,
    ask: Ask = False,
    why: Why = "",
    as_json: JSON = False,
) -> None:
    """As `leadglass apply`, then waits until the kernel has the table, and asks whether you are still there where something closed."""
    call = invocation(context)
    desk = call.desk()
    try:
        if ask:
            ask_for_draft(desk, call.site_dir(), why, call.output(as_json))
            return
        result = dict(apply_draft(desk, call.site_dir()))
        loads = bool(load_proven(call.site_dir()).filterer) and desk.running
        told = _loaded(desk, str(result["digest"])) if loads else {}
        waits = int(told.get("unconfirmed_seconds", 0))
        if waits and (confirm or _still_there(waits)):
            desk.change(ChangeKind.NETWORK_CONFIRM, str(result["digest"]), {})
            waits = 0
    finally:
        desk.close()
    words = "applied, and the kernel has the table" if told else "applied; no process loads the kernel's table here"
    if waits:
        words += f": `leadglass zones confirm` within {waits} s, or the kernel has the former table again"
    words += cut_off(call.site_dir()) if not told else ""
    call.output(as_json).object({**result, "kernel": bool(told), "unconfirmed_seconds": waits}, words)


def _confirm(context: typer.Context, as_json: JSON = False) -> None:
    """Says that whoever applied is still there: the kernel's table stays, or comes back where it was taken back."""
    call = invocation(context)
    serving = proven_directory(call.site_dir()).name
    desk = call.desk()
    try:
        result = desk.change(ChangeKind.NETWORK_CONFIRM, serving, {})
        if load_proven(call.site_dir()).filterer and desk.running:
            _loaded(desk, serving)
    finally:
        desk.close()
    call.output(as_json).object(result, "confirmed")


def _loaded(desk: Desk, digest: str) -> Row:
    """What is told of the kernel's table once it is that of the site file. Raises Stopped where it does not become so."""
    began = time.monotonic()
    while True:
        told: Row = next(iter(desk.ask("status", {})))["network"]
        if told.get("site") == digest:
            return told
        waited = time.monotonic() - began
        if waited > LOADED_SECONDS_MAX or (told.get("refused_site") == digest and waited > REFUSED_SECONDS):
            why = str(told.get("refused") or "leadglass serve firewall is not heard")
            hint = "systemctl status leadglass-firewall; the doors act by the new site file already"
            raise Stopped(Exit.PROBLEMS, f"the kernel keeps its former table: {why}", hint=hint)
        time.sleep(POLL_SECONDS)


def _still_there(seconds: int) -> bool:
    if not sys.stdin.isatty():
        return False
    return typer.confirm(
        f"Something closed. Are you still there? Without an answer the former table comes back in {seconds} s",
        default=True,
    )
