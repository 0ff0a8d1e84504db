"""What did somebody do with what they were granted? One page a request: who asked, who approved, every act, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from leadglass import gateway
from leadglass.audit.search import PAGE_ROWS_MAX
from leadglass.audit.transcript import Transcript
from leadglass.doors.blocking import Entered
from leadglass.doors.transcripts import asked, asked_for, granted_row, how_it_ended, line_row
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page
from leadglass.policy.people import reads_transcript
from leadglass.terms import Act, Grant, NotPermitted

if TYPE_CHECKING:
    from starlette.responses import Response

    from leadglass.doors.web.visit import Visit
    from leadglass.site.access import AccessRequest

PLACE_CHARACTERS_MAX = 40


def readable(visit: Visit, requests: Sequence[AccessRequest]) -> set[str]:
    """Of which requests somebody may read what came of them."""
    people = {each.id: each for each in visit.house.people.every()}
    return {each.id for each in requests if _may_read(visit, asked_for(each, people).grant)}


def _may_read(visit: Visit, grant: Grant) -> bool:
    try:
        return bool(reads_transcript(visit.who, grant, visit.now_ns))
    except NotPermitted:
        return False


def transcript(visit: Visit) -> Response:
    """Oldest first, a page at a time; reading it is itself an event."""
    about = asked(visit.house, visit.parameters["id"])
    if about is None:
        visit.look(Act.TRANSCRIPT_READ)  # whoever may read none does not learn here which there are
        return page(visit, "transcript.html", {"head": None, "said": "There is no such request."}, 404)
    try:
        after = _after(visit.asked("after")[:PLACE_CHARACTERS_MAX])
    except ValueError:
        return page(visit, "transcript.html", {"head": None, "said": "There is no such page of it."}, 400)
    with Entered(gateway.release(visit.house.do, about.question(visit.who))) as found:
        assert isinstance(found, Transcript)
        lines = found.lines_page(after)
        head = granted_row(about, found, how_it_ended(visit.house, about, found, visit.now_ns))
        found.progress.total = found.progress.completed = len(lines)
        found.progress.succeed()
    facts = {
        "head": head,
        "rows": [line_row(each, visit.house.index.patient_of) for each in lines],
        "next": "{}.{}".format(*lines[-1].entry.place) if len(lines) == PAGE_ROWS_MAX else "",
        "first": after == (0, 0),
    }
    return page(visit, "transcript.html", facts)


def _after(text: str) -> tuple[int, int]:
    """Raises ValueError."""
    at_ns, _, number = text.partition(".")
    place = (int(at_ns), int(number)) if text else (0, 0)
    if not all(0 <= each < 1 << 63 for each in place):
        raise ValueError("no place of an event")
    return place


PAGES = (Page("/requests/{id}/transcript", transcript),)
