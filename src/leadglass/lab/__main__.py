"""`python -m leadglass.lab`: the demo, and the relay for programs that know no TLS."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from leadglass.lab.relay import Credentials, Direction, Relay

DEMO_SITE = Path("demo-site")


def main() -> None:
    app = typer.Typer(help="Try Leadglass on this machine.", no_args_is_help=True, add_completion=False)
    app.command("demo")(_demo)
    app.command("relay")(_relay)
    app()


def _demo(
    site: Annotated[Path, typer.Option(help="Where the site is made, or used again.")] = DEMO_SITE,
    check: Annotated[bool, typer.Option("--check", help="Ends by itself.", envvar="CHECK")] = False,
) -> None:
    """A site on loopback, real images in and out over mutual TLS, six attacks refused."""
    from leadglass.lab.demo import demo

    raise typer.Exit(demo(site, check=check))


def _relay(
    listen: Annotated[str, typer.Option(help="HOST:PORT")],
    to: Annotated[str, typer.Option(help="HOST:PORT")],
    cert: Annotated[Path, typer.Option(help="PEM, what this end presents.")],
    key: Annotated[Path, typer.Option(help="PEM")],
    ca: Annotated[Path, typer.Option(help="PEM, who may vouch for the other end.")],
    bind: Annotated[str, typer.Option(help="Source address of what leaves.")] = "",
    from_tls: Annotated[bool, typer.Option("--from-tls", help="TLS in, plain out; else plain in, TLS out.")] = False,
) -> None:
    """Plain on one side, mutual TLS on the other, until SIGTERM or Ctrl-C."""
    direction = Direction.FROM_TLS if from_tls else Direction.TO_TLS
    relay = Relay(_address(listen), _address(to), Credentials(cert, key, ca), direction=direction, bind=bind)
    stop = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    with relay:
        print(f"ready relay={relay.address[0]}:{relay.address[1]}", flush=True)
        stop.wait()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    main()
