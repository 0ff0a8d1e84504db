"""`leadglass report ...`: what a patient, a regulator or a court asks for: who was given a patient's images, whom a breach touched, and what
somebody did with what they were granted."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from leadglass.doors.audit_rows import columns_of
from leadglass.doors.command.application import JSON, invocation
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.command.output import Output
from leadglass.doors.transcripts import head_lines, table_rows

From = Annotated[str, typer.Option("--from", help="From when, such as 2026-01-31 or 2026-01-31T08:00 (UTC).")]
Until = Annotated[str, typer.Option("--to", help="Until when, not included.")]
Csv = Annotated[Path | None, typer.Option("--csv", help="Writes a table for a spreadsheet.")]
FOREVER_NS = (1 << 63) - 1

_DISCLOSURES = {
    "at": "when", "who": "who", "device": "at", "action": "what", "study": "study", "instances": "instances", "outcome": "outcome", "rule": "by rule",
    "from": "from",
}  # fmt: skip
_BREACH = {"patient": "patient", "issuer": "issuer", "times": "times", "instances": "instances", "studies": "studies",
           "first": "first", "last": "last"}  # fmt: skip
_TRANSCRIPT = {
    "at": "when",
    "who": "who",
    "device": "at",
    "action": "act",
    "what": "what",
    "outcome": "outcome",
    "reason": "reason",
}


def register(app: typer.Typer) -> None:
    report = typer.Typer(help="Reports from the audit, each of which is itself an event.", no_args_is_help=True)
    report.command("disclosures")(_disclosures)
    report.command("breach")(_breach)
    report.command("transcript")(_transcript)
    app.add_typer(report, name="report")


def _disclosures(
    context: typer.Context,
    patient: str,
    issuer: Annotated[str, typer.Option("--issuer", help="Issuer of the Patient ID.")] = "",
    since: From = "",
    until: Until = "",
    to_csv: Csv = None,
    as_json: JSON = False,
) -> None:
    """Everything that concerns one patient: who was given what, when, by which rule."""
    arguments = {
        "patient": patient,
        "issuer": issuer,
        "from_ns": _moment(since, 0),
        "until_ns": _moment(until, FOREVER_NS),
    }
    _report(
        context, "disclosures", arguments, _DISCLOSURES, to_csv, as_json, "nobody was given anything of this patient"
    )


def _breach(
    context: typer.Context,
    who: Annotated[str, typer.Option("--who", help="A device's name, or person:NAME, as events name them.")],
    since: From = "",
    until: Until = "",
    to_csv: Csv = None,
    as_json: JSON = False,
) -> None:
    """Whom it touched: each patient whose images or names somebody was given in that time."""
    arguments = {"who": who, "from_ns": _moment(since, 0), "until_ns": _moment(until, FOREVER_NS)}
    _report(context, "breach", arguments, _BREACH, to_csv, as_json, f"{who} was given nothing in that time")


def _transcript(
    context: typer.Context,
    request: Annotated[str, typer.Argument(help="The request's id, as the console's page of it shows.")],
    to_csv: Csv = None,
    as_json: JSON = False,
) -> None:
    """What somebody did under one grant, from the asking to its end."""
    call = invocation(context)
    desk = call.desk()
    try:
        head, *lines = desk.ask("transcript", {"request": request})
    finally:
        desk.close()
    output = call.output(as_json)
    if to_csv is not None:
        _to_csv(output, to_csv, list(table_rows(head, lines)))
    elif as_json:
        output.table([head, *lines], {}, empty="")
    else:
        for text in head_lines(head):
            output.say(text)
        output.table(lines, _TRANSCRIPT, empty="nothing is recorded under this grant")
    if not head["complete"]:
        output.problem(f"the audit search lacks {head['lacks']} events that the journal has", "ask again in a moment")


def _report(
    context: typer.Context,
    question: str,
    arguments: Mapping[str, object],
    columns: Mapping[str, str],
    to_csv: Path | None,
    as_json: bool,
    empty: str,
) -> None:
    call = invocation(context)
    desk = call.desk()
    try:
        rows: list[Mapping[str, Any]] = list(desk.ask(question, arguments))
    finally:
        desk.close()
    output = call.output(as_json)
    if to_csv is None:
        output.table(rows, columns, empty=empty)
        return
    _to_csv(output, to_csv, rows)


def _to_csv(output: Output, to_csv: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with to_csv.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(columns_of(iter(rows)))
    to_csv.chmod(0o600)
    output.object({"file": str(to_csv), "rows": len(rows)}, f"{len(rows)} rows are in {to_csv}")


def _moment(text: str, default: int) -> int:
    if not text:
        return default
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise Stopped(
            Exit.USAGE, f"{text!r} is no time", hint="such as 2026-01-31 or 2026-01-31T08:00, in UTC"
        ) from None
    return int((found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp() * 1_000_000_000)
