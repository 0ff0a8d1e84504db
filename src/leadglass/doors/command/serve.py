"""`leadglass up` and `leadglass serve ROLE`: the processes."""

from __future__ import annotations

from typing import Annotated

import typer

from leadglass.doors.command.application import invocation
from leadglass.doors.command.exits import Exit, Stopped


def register(app: typer.Typer) -> None:
    app.command("up")(_up)
    app.command("serve")(_serve)


def _up(context: typer.Context) -> None:
    """Serves until stopped; prints `ready dimse=HOST:PORT`, and the web addresses, when every door answers."""
    from leadglass.doors.processes.entry import up  # only a process of the site needs the doors: commands start sooner

    call = invocation(context)
    code = up(call.site_dir(), call.assemble)
    if code:
        raise typer.Exit(code)


def _serve(context: typer.Context, role: Annotated[str, typer.Argument(help="dimse, web or keeper")]) -> None:
    """One process of the site, for systemd and containers; `up` starts all of them."""
    from leadglass.doors.processes.entry import ROLES

    call = invocation(context)
    run = ROLES.get(role)
    if run is None:
        raise Stopped(Exit.USAGE, f"there is no role {role!r}", hint="dimse, web, keeper")
    code = run(call.site_dir(), call.assemble)
    if code:
        raise typer.Exit(code)
