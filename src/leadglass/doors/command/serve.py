"""`leadglass up` and `leadglass serve ROLE`: the processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leadglass.doors.command.application import invocation
from leadglass.doors.command.device import PassphraseFile, device_authority
from leadglass.doors.command.exits import Exit, Stopped

ENROLL, FIREWALL = "enroll", "firewall"


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


def _serve(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="dimse, web, keeper, enroll or firewall")],
    passphrase_file: PassphraseFile = None,
    state: Annotated[Path | None, typer.Option("--state", help="firewall: where it keeps what was good last")] = None,
) -> None:
    """One process of the site, for systemd and containers; `up` starts all of them but enroll and firewall, which run under users of their own."""
    call = invocation(context)
    if role == ENROLL:
        _serve_enroll(call.site_dir(), passphrase_file)
        return
    if role == FIREWALL:
        _serve_firewall(call.site_dir(), state)
        return
    from leadglass.doors.processes.entry import ROLES

    run = ROLES.get(role)
    if run is None or passphrase_file is not None:
        what = f"there is no role {role!r}" if run is None else "--passphrase-file is for enroll"
        raise Stopped(Exit.USAGE, what, hint=f"dimse, web, keeper, {ENROLL}, {FIREWALL}")
    code = run(call.site_dir(), call.assemble)
    if code:
        raise typer.Exit(code)


def _serve_enroll(site_dir: Path, passphrase_file: Path | None) -> None:
    """The key is opened before anything else, so that a wrong passphrase is said at once."""
    from leadglass.doors.processes.enroll import serve

    code = serve(site_dir, device_authority(site_dir, passphrase_file))
    if code:
        raise typer.Exit(code)


def _serve_firewall(site_dir: Path, state: Path | None) -> None:
    from leadglass.doors.processes.firewall import serve, state_directory

    serve(site_dir, state_directory(state))
