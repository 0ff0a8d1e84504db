"""`leadglass erasures ...`: what is to be erased and what was, and undoing it while it waits. None is ordered here: that takes two people at the console."""

from __future__ import annotations

from typing import Annotated

import typer

from leadglass.doors.command.application import JSON, invocation
from leadglass.terms import ChangeKind

_COLUMNS = {"erasure": "erasure", "state": "state", "ordered": "ordered", "due": "due", "studies": "studies", "instances": "images", "settled": "settled", "why": "why"}  # fmt: skip


def register(app: typer.Typer) -> None:
    erasures = typer.Typer(help="What is to be erased, and what was.", no_args_is_help=True)
    erasures.command("list")(_list)
    erasures.command("undo")(_undo)
    app.add_typer(erasures, name="erasures")


def _list(
    context: typer.Context,
    study: Annotated[str, typer.Option("--study", help="Only those of this Study Instance UID, done ones too.")] = "",
    as_json: JSON = False,
) -> None:
    """Erasures, the newest first. Of one that is done no study is named; with --study one that you know is found."""
    call = invocation(context)
    desk = call.desk()
    try:
        rows = desk.ask("erasures", {"study": study})
        call.output(as_json).table(rows, _COLUMNS, empty="nothing was ever ordered to be erased")
    finally:
        desk.close()


def _undo(
    context: typer.Context,
    erasure: str,
    why: Annotated[str, typer.Option("--why", help="Why; it stands beside it.")] = "by an operator",
    as_json: JSON = False,
) -> None:
    """Everything stays as it is; only while it waits."""
    call = invocation(context)
    desk = call.desk()
    try:
        result = desk.change(ChangeKind.ERASURE_UNDO, erasure, {"why": why})
    finally:
        desk.close()
    call.output(as_json).object(result, f"{erasure} is undone: nothing was erased")
