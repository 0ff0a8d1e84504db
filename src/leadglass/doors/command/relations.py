"""`leadglass relations import`: who orders, is scheduled for, treats or reads whom, told by a file until a feed of orders tells it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from leadglass.doors.command.application import JSON, invocation
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.policy.relationships import parse_relations
from leadglass.terms import ChangeKind, Related

ROWS_AT_ONCE_MAX = 50_000  # of one source: what fits in one command


def register(app: typer.Typer) -> None:
    noun = typer.Typer(help="What people are to patients and studies.", no_args_is_help=True)
    noun.command("import")(_import)
    app.add_typer(noun, name="relations")


def _import(
    context: typer.Context,
    file: Path,
    source: Annotated[str, typer.Option(help="Who says so, of rows that do not; else the file's name.")] = "",
    as_json: JSON = False,
) -> None:
    """CSV or JSON: person, relation, patient_id, issuer, study, until, source. Takes the place of what the same source said before."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Stopped(Exit.FAILED, f"{file} cannot be read: {error}", hint="a text file in UTF-8") from error
    told: dict[str, list[Related]] = {}
    for each in parse_relations(text, source=source or file.name, now_ns=time.time_ns()):
        told.setdefault(each.source, []).append(each)
    for name, rows in told.items():
        if len(rows) > ROWS_AT_ONCE_MAX:
            raise Stopped(
                Exit.FAILED,
                f"{len(rows)} rows of {name}: at most {ROWS_AT_ONCE_MAX} of one source",
                hint="split the file, and name a source for each part with --source",
            )
    call = invocation(context)
    output, desk = call.output(as_json), call.desk()
    try:
        for name, rows in told.items():
            result = desk.change(ChangeKind.RELATIONS_IMPORT, name, {"rows": [row_of(each) for each in rows]})
            output.object(result, f"{result['relations']} relations of {name} hold from now on")
    finally:
        desk.close()


def row_of(each: Related) -> dict[str, object]:
    """As the change RELATIONS_IMPORT wants it."""
    return {
        "person": each.person,
        "relation": each.relation,
        "patient_id": each.patient.patient_id if each.patient else "",
        "issuer": each.patient.issuer if each.patient else "",
        "study": each.study_instance_uid,
        "from_ns": each.from_ns,
        "until_ns": each.until_ns,
    }
