"""`leadglass events`: what happened, one line each, and what comes next with --follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from leadglass.doors.command.application import JSON, invocation


def register(app: typer.Typer) -> None:
    app.command("events")(_events)


def _events(
    context: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Goes on with what happens next, until Ctrl-C.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Every event of the site, oldest first."""
    call = invocation(context)
    desk = call.desk()
    try:
        call.output(as_json).lines(desk.ask("events", {"follow": follow}), _line)
    finally:
        desk.close()


def _line(row: Mapping[str, Any]) -> str:
    parts = [
        str(row.get("at", ""))[:23],
        f"{row.get('kind', ''):<22}",
        f"{row.get('actor') or row.get('address', ''):<12}",
    ]
    if row.get("rule"):
        parts.append(f"[{row['rule']}]")
    if row.get("outcome") != "success":
        parts.append(str(row.get("outcome", "")))
    if row.get("reason"):
        parts.append(str(row["reason"]))
    return " ".join(parts)
