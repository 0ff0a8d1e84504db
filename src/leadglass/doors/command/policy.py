"""`leadglass policy`: what each role may, and why somebody may or may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from leadglass.doors.command.application import JSON, invocation
from leadglass.doors.command.explaining import NOTHING, ROLE_PREFIX, explain_role
from leadglass.doors.command.output import Output
from leadglass.policy.matrix import Cell, matrix
from leadglass.terms import Relation


def register(app: typer.Typer) -> None:
    policy = typer.Typer(help="Who may do what, and why.", no_args_is_help=True)
    policy.command("matrix")(_matrix)
    policy.command("explain")(_explain)
    app.add_typer(policy, name="policy")


_COLUMNS = {
    "role": "role",
    "action": "may",
    "relations": "with a relation",
    "needs_step_up": "fresh passkey",
    "needs_second_person": "second person",
}


def _matrix(context: typer.Context, as_json: JSON = False) -> None:
    """Every role and act, asked of the policies that serve. For people, only what is allowed; with --json, a line for each."""
    output = invocation(context).output(as_json)
    cells = (cell for cell in matrix() if cell.allowed or output.as_json)
    rows = (_row(cell) if output.as_json else _told(cell) for cell in cells)
    output.table(rows, _COLUMNS, empty="nobody may anything")


def _row(cell: Cell) -> Mapping[str, object]:
    return {
        "role": cell.role,
        "action": cell.act,
        "allowed": cell.allowed,
        "relations": list(cell.relations),
        "needs_step_up": cell.needs_step_up,
        "needs_second_person": cell.needs_second_person,
        "second_person": _second(cell),
        "self_approval": cell.self_approval,
    }


def _told(cell: Cell) -> Mapping[str, object]:
    return {
        **_row(cell),
        "relations": "any" if len(cell.relations) == len(Relation) else list(cell.relations),
        "needs_step_up": "yes" if cell.needs_step_up else "",
        "needs_second_person": _second(cell),
    }


def _second(cell: Cell) -> str:
    """When somebody else approves first."""
    if not cell.needs_second_person:
        return ""
    return "always" if cell.always else "bulk"


def _explain(
    context: typer.Context,
    who: Annotated[str, typer.Argument(help="A person's or a device's name, or ROLE: and a role's.")],
    action: Annotated[
        str, typer.Argument(help="An act such as study-read; of a device echo, store, find, get, move, commit.")
    ],
    what: Annotated[
        str, typer.Argument(help="A Study Instance UID, a Patient ID, or - for the site; of a store its SOP class.")
    ] = "-",
    as_json: JSON = False,
) -> None:
    """Allowed or not, by which rules, and what would have to change."""
    call = invocation(context)
    output = call.output(as_json)
    if what in NOTHING and (who.startswith(ROLE_PREFIX) or call.site is None):
        rows = list(explain_role(who, action))
    else:
        desk = call.desk()
        try:
            rows = list(desk.ask("policy-explain", {"who": who, "action": action, "what": what}))
        finally:
            desk.close()
    for row in rows:
        _say(output, row)


def _say(output: Output, row: Mapping[str, Any]) -> None:
    may = "may" if row["allowed"] else "may not"
    lines = [f"{row['who']} {may} {row['action']} {row['what']}: {row['why']}".replace(" -:", ":")]
    if row.get("relations"):
        lines.append(f"  to this study: {', '.join(row['relations'])}")
    if row["would"]:
        lines.append("  any of these would allow it:")
        lines += [f"    {' + '.join(each)}" for each in row["would"]]
    elif not row["allowed"]:
        lines.append("  no small change would allow it")
    output.object(row, "\n".join(lines))
