"""Which accounts and rights should somebody look at? The periodic review: each finding with the way to close it, and a signature for what was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leadglass.doors.command.people_questions import review as review_rows
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page, sentence, to
from leadglass.doors.web.visit import Visit
from leadglass.identity.people.review import REVIEW_EVERY_DAYS
from leadglass.terms import Act, ChangeKind, NotChanged

if TYPE_CHECKING:
    from starlette.responses import Response


def accounts(visit: Visit, said: str = "", status: int = 200) -> Response:
    visit.look(Act.PEOPLE_LIST, "review")
    *found, summary = review_rows(visit.house, {})
    facts = {
        "found": found,
        "summary": summary,
        "every_days": REVIEW_EVERY_DAYS,
        "signs": visit.may(Act.ROLE_GRANT),
        "said": said,
    }
    return page(visit, "accounts.html", facts, status)


def sign(visit: Visit) -> Response:
    """For what the page showed, and for nothing that was found since."""
    try:
        visit.change(ChangeKind.ACCOUNTS_REVIEW, visit.field("digest"), {})
    except NotChanged as refusal:
        return accounts(visit, sentence(refusal), 409)
    return to("/accounts")


PAGES = (Page("/accounts", accounts), Page("/accounts", sign, ("POST",)))
