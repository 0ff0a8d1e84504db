"""`leadglass index rebuild`, `leadglass conflicts ...` and `leadglass accept-loss`: what people do to the archive itself."""

from __future__ import annotations

from typing import Annotated

import typer

from leadglass.doors.command.application import JSON, invocation
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.terms import ChangeKind


def register(app: typer.Typer) -> None:
    index = typer.Typer(help="The index: derived, never precious.", no_args_is_help=True)
    index.command("rebuild")(_rebuild)
    index.command("rows")(_rows)
    app.add_typer(index, name="index")
    conflicts = typer.Typer(help="Held versions: conflicting or contradicting instances.", no_args_is_help=True)
    conflicts.command("list")(_list)
    conflicts.command("show")(_show)
    conflicts.command("promote")(_promote)
    conflicts.command("dismiss")(_dismiss)
    app.add_typer(conflicts, name="conflicts")
    app.command("accept-loss")(_accept_loss)


def _rebuild(context: typer.Context, as_json: JSON = False) -> None:
    """Makes the index again from what was kept; reads and stores go on meanwhile."""
    call = invocation(context)
    desk = call.desk()
    output = call.output(as_json)
    try:
        with output.progress("rebuilding the index"):
            result = desk.change(ChangeKind.INDEX_REBUILD, "index", {})
    finally:
        desk.close()
    output.object(
        result,
        "the index is rebuilt: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in result.items()),
    )


def _rows(context: typer.Context) -> None:
    """Prints the index as canonical rows, to compare it with another."""
    desk = invocation(context).desk()
    try:
        for row in desk.ask("index-rows", {}):
            typer.echo(row["row"])
    finally:
        desk.close()


def _accept_loss(
    context: typer.Context,
    reason: Annotated[str, typer.Option("--reason", help="Why nothing brings it back.")] = "",
    as_json: JSON = False,
) -> None:
    """Of a site that does not start, because a disk lost what had settled and no backup has it: starts without that. All else is kept."""
    if not reason:
        raise Stopped(Exit.USAGE, "why?", hint="--reason WORDS: why no replica and no backup has it")
    call = invocation(context)
    desk, output = call.desk(), call.output(as_json)
    try:
        if desk.running:
            raise Stopped(Exit.FAILED, "the site runs: it lost nothing that keeps it from starting")
        with output.progress("reading what is left"):
            result = desk.change(ChangeKind.LOSS_ACCEPT, "archive", {"reason": reason})
    finally:
        desk.close()
    lost = result["lost"]
    output.object(
        result,
        f"lost, and told as events:\n{chr(10).join(f'  {each}' for each in lost)}\n`leadglass up` starts without it",
    )


_LIST = {
    "sop_instance_uid": "SOP Instance UID",
    "version": "version",
    "holds": "held because",
    "sender": "from",
    "received": "received",
    "current_sender": "current is from",
}


def _list(context: typer.Context, as_json: JSON = False) -> None:
    """Every held version."""
    call = invocation(context)
    desk = call.desk()
    try:
        call.output(as_json).table(desk.ask("conflicts", {}), _LIST, empty="nothing is held")
    finally:
        desk.close()


def _show(context: typer.Context, sop_instance_uid: str, as_json: JSON = False) -> None:
    """Every version of one SOP instance."""
    call = invocation(context)
    desk = call.desk()
    columns = {"version": "version", "standing": "standing", "holds": "held because", "sender": "from", "received": "received",
               "bytes": "bytes", "digest": "digest"}  # fmt: skip
    try:
        rows = desk.ask("versions", {"sop_instance_uid": sop_instance_uid})
        call.output(as_json).table(rows, columns, empty="no version of it is kept")
    finally:
        desk.close()


Version = Annotated[int, typer.Option("--version", help="Which one; `conflicts show` lists them.")]


def _promote(context: typer.Context, sop_instance_uid: str, version: Version, as_json: JSON = False) -> None:
    """Makes a held version the current one; the former current stays, superseded and readable."""
    _settle(context, ChangeKind.CONFLICT_PROMOTE, sop_instance_uid, version, as_json)


def _dismiss(context: typer.Context, sop_instance_uid: str, version: Version, as_json: JSON = False) -> None:
    """Rejects a held version: kept, never current."""
    _settle(context, ChangeKind.CONFLICT_DISMISS, sop_instance_uid, version, as_json)


def _settle(context: typer.Context, kind: ChangeKind, uid: str, version: int, as_json: bool) -> None:
    call = invocation(context)
    desk = call.desk()
    try:
        result = desk.change(kind, uid, {"version": version})
    finally:
        desk.close()
    call.output(as_json).object(result, f"version {version} of {uid} is now {result.get('standing', 'settled')}")
