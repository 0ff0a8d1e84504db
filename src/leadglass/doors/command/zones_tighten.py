"""`leadglass zones tighten`: what nobody used, as a draft with its proof, and what was refused, by what would have allowed it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from leadglass.doors.command.application import JSON, invocation
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.command.output import Output
from leadglass.doors.command.tightening import write_files

DAYS = 90
ASKED_TOLD_MAX = 5

Row = Mapping[str, Any]


def register(zones: typer.Typer) -> None:
    zones.command("tighten")(_tighten)


def _tighten(
    context: typer.Context,
    days: Annotated[int, typer.Option("--days", help="Nobody used it in so many days")] = DAYS,
    draft: Annotated[
        Path | None, typer.Option("--draft", help="A new directory for the files as they would be; nothing is applied")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Flows, ports, rights, SOP classes and devices that nobody used, as a draft of the site file with its proof; and what was refused. Applies nothing."""
    call = invocation(context)
    if draft is not None and draft.exists():
        raise Stopped(Exit.USAGE, f"{draft} is there already", hint="name a directory that is not: it is made")
    output, written, told_of = call.output(as_json), dict[str, str](), None
    desk = call.desk()
    try:
        for row in desk.ask("tighten", {"days": days, "contents": draft is not None}):
            if "content" in row:
                written[row["file"]] = row["content"]
            if told_of is None and row.keys() & {"change", "packets", "told"}:
                told_of = "what would change, by the proof of `leadglass check` and `leadglass zones diff`:"
                output.say(told_of)
            _say(output, {key: value for key, value in row.items() if key != "content"})
    finally:
        desk.close()
    if draft is not None:
        write_files(draft, written)
        output.say(f"the changed files lie in {draft}; copy them into the site, then `leadglass check`")


def _say(output: Output, row: Row) -> None:
    output.object(row, _told(row))


def _told(row: Row) -> str:
    if "applied" in row:
        return _end(row)
    if "evidence" in row:
        return _evidence(row)
    if "finding" in row:
        what = "; ".join(row["unused"])
        return f"- {row['finding']} {row['name']}: {what}" + (
            "" if row["drafted"] else f" (not in the draft: {row['kept']})"
        )
    if "unknown" in row:
        return f"? {row['unknown']} {row['name']}: not known to be unused: {row['why']}"
    if "diff" in row:
        return f"\n{row['diff']}\n"
    if "refused" in row:
        asked = ", ".join(row["refused"][:ASKED_TOLD_MAX])
        more = f", and {len(row['refused']) - ASKED_TOLD_MAX} more" if len(row["refused"]) > ASKED_TOLD_MAX else ""
        return f"refused {row['times']} times, last {row['last'][:16]}: {asked}{more}\n    would have been allowed by: {row['would']}"
    return f"    {row.get('change') or row.get('packets') or row.get('told')}"


def _evidence(row: Row) -> str:
    if row["evidence"] == "journal":
        if not row["since"]:
            return "the journal is empty: nothing is known"
        reach = "reaches back far enough" if row["reaches"] else f"does not reach back {row['days']} days"
        lost = f"; {row['tails_lost']} times its last second was lost in a crash" if row["tails_lost"] else ""
        return f"the journal begins on {row['since'][:10]}, and {reach}{lost}"
    if not row["reported"]:
        return "nobody tells of the kernel's counters here: [firewall] user, `leadglass serve firewall`"
    reach = "on every one of them" if row["reaches"] else f"on {row['days_heard']}, which is no evidence yet"
    return f"the kernel's counters were heard, of {row['days']} days and today, {reach}"


def _end(row: Row) -> str:
    proof = (
        "every promise of the site file holds with it"
        if row["proven"]
        else "promises of the site file do not hold with it"
    )
    draft = (
        f"{row['drafted']} of {row['findings']} findings are in the draft: {proof}"
        if row["findings"]
        else "nothing was found that nobody uses"
    )
    return f"{draft}; {row['not_known']} are not known; {row['refusals']} groups of refusals. Nothing is applied."
