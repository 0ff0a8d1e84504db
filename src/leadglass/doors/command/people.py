"""`leadglass people ...`: add, list, disable, enable, role, reset, sessions, review. People enrol themselves, by the link that `add` prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from leadglass.doors.command.application import JSON, invocation
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.command.people_changes import ALL_SESSIONS
from leadglass.identity.enrolment import foreign
from leadglass.terms import ChangeKind, Role

Why = Annotated[str, typer.Option("--why", help="Why; it stands beside the right for whoever reviews it.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the event.")]


def register(app: typer.Typer) -> None:
    noun = typer.Typer(help="People and machine clients.", no_args_is_help=True)
    for name, command in _COMMANDS.items():
        noun.command(name)(command)
    app.add_typer(noun, name="people")


def _add(
    context: typer.Context,
    name: str,
    role: Annotated[list[str], typer.Option(help=", ".join(Role))],
    display: Annotated[str, typer.Option(help="How screens show them.")] = "",
    department: Annotated[list[str] | None, typer.Option(help="Whose studies are theirs; may be repeated.")] = None,
    study_name: Annotated[
        list[str] | None, typer.Option(help="How studies name them as physician, DICOM person name; may be repeated.")
    ] = None,
    mail: Annotated[str, typer.Option(help="Where notices go.")] = "",
    until: Annotated[str, typer.Option(help="The account's end, a date.")] = "",
    certificate: Annotated[Path | None, typer.Option(help="Of a service-account: what its machine presents.")] = None,
    why: Why = "added by an operator",
    as_json: JSON = False,
) -> None:
    """Adds a person and prints their one-time enrolment link, good for a day."""
    arguments: dict[str, object] = {
        "roles": role, "display": display, "departments": department or [], "names": study_name or [], "mail": mail,
        "until": until, "why": why,
    }  # fmt: skip
    if certificate is not None:
        arguments["certificate"] = _certificate(certificate)
    result = _change(context, ChangeKind.PERSON_ADD, name, arguments)
    words = f"{result['person']} is added as {', '.join(result['roles'])}"
    invocation(context).output(as_json).object(result, words + _link_in_words(result))


def _list(context: typer.Context, as_json: JSON = False) -> None:
    """Everybody, with roles, how they sign in, and when they were last seen."""
    columns = {
        "name": "name",
        "roles": "roles",
        "state": "state",
        "sessions": "sessions",
        "last_seen": "last seen",
        "why": "why",
    }
    call = invocation(context)
    desk = call.desk()
    try:
        call.output(as_json).table(desk.ask("people", {}), columns, empty="nobody is here: `leadglass people add`")
    finally:
        desk.close()


def _disable(context: typer.Context, name: str, reason: Reason, as_json: JSON = False) -> None:
    """Out within a second, everywhere; nothing about the person is forgotten."""
    result = _change(context, ChangeKind.PERSON_DISABLE, name, {"why": reason})
    invocation(context).output(as_json).object(
        result, f"{result['person']} is disabled; {result['sessions_ended']} sessions ended"
    )


def _enable(context: typer.Context, name: str, reason: Reason = "by an operator", as_json: JSON = False) -> None:
    """Lets somebody in again whom `disable` kept out."""
    result = _change(context, ChangeKind.PERSON_ENABLE, name, {"why": reason})
    invocation(context).output(as_json).object(result, f"{result['person']} is enabled")


def _role(
    context: typer.Context,
    name: str,
    why: Why,
    grant: Annotated[str, typer.Option(help="A role to give.")] = "",
    revoke: Annotated[str, typer.Option(help="A role to take away; their sessions end.")] = "",
    as_json: JSON = False,
) -> None:
    """Gives somebody a role, or takes one away."""
    if bool(grant) == bool(revoke):
        raise Stopped(Exit.USAGE, "either --grant ROLE or --revoke ROLE", hint=", ".join(Role))
    kind = ChangeKind.ROLE_GRANT if grant else ChangeKind.ROLE_REVOKE
    result = _change(context, kind, name, {"role": grant or revoke, "why": why})
    roles = ", ".join(result["roles"]) or "nothing any more"
    invocation(context).output(as_json).object(result, f"{result['person']} is {roles}")


def _reset(context: typer.Context, name: str, why: Why = "by an operator", as_json: JSON = False) -> None:
    """Takes every passkey, password and code of somebody away and prints a new enrolment link."""
    result = _change(context, ChangeKind.PERSON_RESET, name, {"why": why})
    words = f"{result['person']} has no way to sign in any more"
    invocation(context).output(as_json).object(result, words + _link_in_words(result))


def _sessions(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Of one person only.")] = "",
    end: Annotated[str, typer.Option(help=f"Ends that session, or {ALL_SESSIONS} of that person.")] = "",
    why: Why = "by an operator",
    as_json: JSON = False,
) -> None:
    """Who is signed in, from where; and ends sessions."""
    call = invocation(context)
    if end:
        if not name:
            raise Stopped(Exit.USAGE, "whose session?", hint="leadglass people sessions NAME --end ID")
        result = _change(context, ChangeKind.SESSION_END, name, {"session": end, "why": why})
        call.output(as_json).object(result, f"{len(result['ended'])} sessions of {result['person']} ended")
        return
    columns = {"person": "person", "session": "session", "address": "from", "factors": "by", "opened": "since",
               "seen": "seen", "locked": "locked"}  # fmt: skip
    desk = call.desk()
    try:
        call.output(as_json).table(desk.ask("sessions", {"name": name}), columns, empty="nobody is signed in")
    finally:
        desk.close()


def _review(
    context: typer.Context,
    sign: Annotated[bool, typer.Option("--sign", help="Signs that you looked at what is shown.")] = False,
    as_json: JSON = False,
) -> None:
    """Accounts and rights that somebody should look at: dormant, never used, shared, orphaned, over. Due every 90 days."""
    call = invocation(context)
    output = call.output(as_json)
    desk = call.desk()
    try:
        *found, summary = desk.ask("people-review", {})
        output.table(
            [*found, summary] if output.as_json else found,
            {"person": "person", "finding": "finding", "role": "role", "reason": "because", "mend": "mend"},
            empty="nothing to look at",
        )
        if sign:
            result = desk.change(ChangeKind.ACCOUNTS_REVIEW, str(summary["digest"]), {})
            output.object(
                result, f"signed by {result['reviewer']}: {result['findings']} findings, {result['digest'][:16]}"
            )
        elif not output.as_json:
            last = f"{summary['last_review']} by {summary['reviewer']}" if summary["last_review"] else "never"
            late = "; overdue: look, then sign with --sign" if summary["overdue"] else ""
            output.say(f"last review: {last}{late}")
    finally:
        desk.close()


def _change(context: typer.Context, kind: ChangeKind, name: str, arguments: Mapping[str, object]) -> Mapping[str, Any]:
    desk = invocation(context).desk()
    try:
        return desk.change(kind, name, arguments)
    finally:
        desk.close()


def _link_in_words(result: Mapping[str, Any]) -> str:
    if "enrolment" not in result:
        return ""
    return f"; hand them this link, good once and until {result['until']}:\n  {result['enrolment']}"


def _certificate(path: Path) -> Mapping[str, object]:
    try:
        return foreign(path.read_bytes()).facts()
    except OSError as error:
        raise Stopped(Exit.FAILED, f"{path} cannot be read: {error.strerror}") from error


_COMMANDS: Mapping[str, Callable[..., None]] = {
    "add": _add,
    "list": _list,
    "disable": _disable,
    "enable": _enable,
    "role": _role,
    "reset": _reset,
    "sessions": _sessions,
    "review": _review,
}
