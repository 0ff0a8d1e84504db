"""What keeps the archive going? Held versions, the index, backups, and what people are to patients: for who runs it, and a visitor who was let do one of these."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from leadglass.doors.command.questions import conflicts
from leadglass.doors.command.relations import ROWS_AT_ONCE_MAX, row_of
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page, sentence, to
from leadglass.doors.web.visit import Visit
from leadglass.policy.people import may
from leadglass.policy.relationships import TOLD, parse_relations
from leadglass.terms import Act, ChangeKind, Malformed, NotChanged, NotPermitted, Related, Unsupported

if TYPE_CHECKING:
    from starlette.responses import Response

SHOWN_MAX = 100
LATEST_MAX = 10
IMPORT_LENGTH_MAX_BYTES = 60_000
ACTS = (Act.CONFLICT_RESOLVE, Act.INDEX_REBUILD, Act.BACKUP_RUN, Act.RELATIONS_IMPORT)
LONG = (ChangeKind.INDEX_REBUILD, ChangeKind.SITE_BACKUP)


def archive(visit: Visit, said: str = "", status: int = 200) -> Response:
    """As much of it as this person may do."""
    allowed = [act for act in ACTS if _may(visit, act)]
    visit.look(allowed[0] if allowed else Act.INDEX_REBUILD)
    counts = visit.house.index.statistics()
    held = list(islice(conflicts(visit.house, {}), SHOWN_MAX)) if Act.CONFLICT_RESOLVE in allowed else []
    facts = {
        "allowed": allowed,
        "held": held,
        "more": max(0, counts["held"] - len(held)),
        "counts": counts,
        "latest": visit.house.register.latest_changes(LONG, LATEST_MAX),
        "directories": visit.house.site().backups,
        "relations": sorted(TOLD),
        "typed": {name: visit.field(name) for name in ("source", "rows")},
        "length_max": IMPORT_LENGTH_MAX_BYTES,
        "said": said,
    }
    return page(visit, "archive.html", facts, status)


def _may(visit: Visit, act: Act) -> bool:
    """Now, as they are: a window that is not open yet shows nothing."""
    try:
        return bool(may(visit.who, act, visit.now_ns))
    except NotPermitted:
        return False


def settle(visit: Visit) -> Response:
    """One held version: it becomes current, or is rejected."""
    version = visit.field("version")
    kind = ChangeKind.CONFLICT_PROMOTE if visit.field("word") == "promote" else ChangeKind.CONFLICT_DISMISS
    try:
        visit.change(
            kind, visit.parameters["uid"], {"version": int(version) if version.isdecimal() and len(version) < 10 else 0}
        )
    except (NotChanged, Unsupported) as refusal:
        return archive(visit, sentence(refusal), 409)
    return to("/archive")


def rebuild(visit: Visit) -> Response:
    visit.begin(ChangeKind.INDEX_REBUILD, "index", {})
    return to("/archive")


def backup(visit: Visit) -> Response:
    directory = visit.field("directory")
    visit.begin(ChangeKind.SITE_BACKUP, directory, {"directory": directory})
    return to("/archive")


def relate(visit: Visit) -> Response:
    """CSV or JSON, in the place of what the same source said before."""
    may(visit.who, Act.RELATIONS_IMPORT, visit.now_ns)  # who may not is told nothing of what is wrong with it
    source = " ".join(visit.field("source").split())
    told: dict[str, list[Related]] = {}
    try:
        if not source:
            raise Malformed("say who says so")
        for each in parse_relations(visit.field("rows"), source=source, now_ns=visit.now_ns):
            told.setdefault(each.source, []).append(each)
        if any(len(rows) > ROWS_AT_ONCE_MAX for rows in told.values()):
            raise Malformed(f"at most {ROWS_AT_ONCE_MAX} rows of one source")
        for name, rows in told.items():
            visit.change(ChangeKind.RELATIONS_IMPORT, name, {"rows": [row_of(each) for each in rows]})
    except (Malformed, NotChanged) as refusal:
        return archive(visit, sentence(refusal), 422)
    return to("/archive")


PAGES = (
    Page("/archive", archive),
    Page("/archive/held/{uid}", settle, ("POST",)),
    Page("/archive/index", rebuild, ("POST",)),
    Page("/archive/backup", backup, ("POST",)),
    Page("/archive/relations", relate, ("POST",)),
)
