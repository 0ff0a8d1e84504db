"""The command line as a whole: which nouns there are, what all of them share, and how an error becomes an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import typer
from typer.exceptions import TyperException

from leadglass.doors.command.desk import Desk, open_desk, stopping
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.command.output import Output
from leadglass.doors.command.questions import QUESTIONS
from leadglass.doors.house import Assemble

SITE_VARIABLE = "LEADGLASS_SITE"
JSON = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@dataclass(slots=True)
class Invocation:
    """What every command shares. `assemble` comes from `__main__`: the one place where concrete parts are chosen."""

    assemble: Assemble
    site: Path | None = None
    as_json: bool = False

    def site_dir(self) -> Path:
        if self.site is None:
            raise Stopped(Exit.USAGE, "which site?", hint=f"name it with --site DIR, or set {SITE_VARIABLE}")
        return self.site

    def desk(self) -> Desk:
        return open_desk(self.site_dir(), self.assemble, QUESTIONS)

    def output(self, as_json: bool) -> Output:
        return Output(as_json=as_json or self.as_json)


def invocation(context: typer.Context) -> Invocation:
    found = context.find_object(Invocation)
    assert found is not None
    return found


class Noun(Protocol):
    """A part of the command line."""

    @property
    def register(self) -> Callable[[typer.Typer], None]: ...


def _nouns() -> Sequence[Noun]:
    """Imported when they are asked for, so that the program starts soon where none is."""
    from leadglass.doors.command import (
        archive,
        backup,
        contain,
        device,
        door,
        erasures,
        events,
        init,
        people,
        policy,
        relations,
        report,
        serve,
        site,
        zones,
    )

    return (
        init,
        site,
        zones,
        contain,
        device,
        door,
        people,
        events,
        archive,
        erasures,
        backup,
        policy,
        relations,
        report,
        serve,
    )


def application(assemble: Assemble, more: Sequence[Noun] = ()) -> typer.Typer:
    """The program. `more`: nouns from above the doors."""
    app = typer.Typer(
        name="leadglass",
        help="A secure PACS and PACS gateway.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def _shared(
        context: typer.Context,
        site_dir: Annotated[
            Path | None,
            typer.Option(
                "--site",
                envvar=SITE_VARIABLE,
                help="The site's directory.",
                show_envvar=True,
                readable=False,  # whoever signs enrolments passes through it, and lists nothing
            ),
        ] = None,
        as_json: JSON = False,
    ) -> None:
        context.obj = Invocation(assemble, site_dir.resolve() if site_dir else None, as_json)

    for noun in (*_nouns(), *more):
        noun.register(app)
    return app


def run_application(assemble: Assemble, arguments: list[str] | None = None, more: Sequence[Noun] = ()) -> int:
    """Runs one command line; the exit code (see `exits.Exit`)."""
    app = application(assemble, more)
    try:
        with stopping():
            code = app(args=arguments, standalone_mode=False)
        return int(code or 0)
    except Stopped as stopped:
        _complain(str(stopped), stopped.hint)
        return int(stopped.code)
    except typer.Exit as ended:
        return ended.exit_code
    except TyperException as wrong:
        _complain(wrong.format_message(), "leadglass --help shows what there is")
        return int(Exit.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:  # `leadglass events | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)


def _complain(message: str, hint: str) -> None:
    Output(as_json=False).problem(message, hint)


def secret_from(
    file: Path | None, prompt: str, *, environment: Callable[[], bytes | None] = lambda: None
) -> bytes | None:
    """A passphrase from a file, a systemd credential, or a terminal; None where there is none of them. Never prompts without a terminal."""
    if file is not None:
        return file.read_bytes().rstrip(b"\r\n")
    if (found := environment()) is not None:
        return found
    if sys.stdin.isatty() and sys.stderr.isatty():
        typed = typer.prompt(prompt, hide_input=True, default="", show_default=False, err=True)
        return str(typed).encode() or None
    return None
