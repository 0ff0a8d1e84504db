"""Which keys does the site stand on, and who can open a recovery kit? Kits that several open together: asked for, approved by another, fetched in parts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cryptography import x509

from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page, sentence, to
from leadglass.doors.web.visit import Visit
from leadglass.policy.keys import CUSTODIANS_MAX, FETCHED_WITHIN_SECONDS
from leadglass.policy.separation import window_max_seconds
from leadglass.site.kit import KIT_FILE, SHEET_FILE
from leadglass.site.layout import CA_DIRECTORY
from leadglass.terms import Act, ChangeKind, NotChanged

if TYPE_CHECKING:
    from starlette.responses import Response

DAY_SECONDS = 24 * 3600
_BETWEEN_NAMES = re.compile(r"[\s,;]+")


def keys(visit: Visit, said: str = "", status: int = 200) -> Response:
    """For whoever may have a kit made, once another approved it."""
    visit.must(Act.KEY_USE)
    visit.look(Act.ACCESS_REQUEST, "keys")
    house = visit.house
    mine = [each for each in house.people.access.requests() if each.person == visit.who.person.id]
    asked = [each for each in mine if each.act is Act.KEY_USE and each.state in ("requested", "approved")]
    facts = {
        "authorities": _authorities(visit),
        "asked": [each for each in asked if each.until_ns > visit.now_ns],
        "kits": house.kits.latest(),
        "names": {each.id: each.name for each in house.people.every()},
        "days": FETCHED_WITHIN_SECONDS // DAY_SECONDS,
        "custodians_max": CUSTODIANS_MAX,
        "now_ns": visit.now_ns,
        "typed": {name: visit.field(name) for name in ("custodians", "threshold", "reason")},
        "said": said,
    }
    return page(visit, "keys.html", facts, status)


def _authorities(visit: Visit) -> list[tuple[str, str]]:
    """Whom the site's certificates come from, and until when each is good."""
    found = []
    for path in sorted((visit.house.site_dir / CA_DIRECTORY).glob("*.pem")):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        found.append((path.stem.replace("-", " "), f"{certificate.not_valid_after_utc:%Y-%m-%d}"))
    return found


def ask(visit: Visit) -> Response:
    visit.must(Act.KEY_USE)
    arguments = {
        "reason": visit.field("reason"),
        "seconds": window_max_seconds(Act.KEY_USE),
        "custodians": [each for each in _BETWEEN_NAMES.split(visit.field("custodians")) if each],
        "threshold": visit.field("threshold"),
    }
    try:
        visit.change(ChangeKind.ACCESS_REQUEST, Act.KEY_USE, arguments)
    except NotChanged as refusal:
        return keys(visit, sentence(refusal), 422)
    return to("/keys")


def make(visit: Visit) -> Response:
    """What was approved, with a fresh passkey."""
    request = visit.house.people.access.request(visit.parameters["id"])
    if request is None or request.person != visit.who.person.id or request.act is not Act.KEY_USE:
        return keys(visit, "There is no such request of yours.", 404)
    arguments = {name: request.facts.get(name) for name in ("custodians", "threshold")}
    try:
        visit.change(ChangeKind.KIT_MAKE, request.id, arguments)
    except NotChanged as refusal:
        return keys(visit, sentence(refusal), 409)
    return to("/keys")


def file(visit: Visit) -> Response:
    """Sealed: it opens nothing without enough shares."""
    from starlette.responses import Response as Answer

    part, name = ("sheet", SHEET_FILE) if visit.field("part") == "sheet" else ("file", KIT_FILE)
    try:
        given = visit.change(ChangeKind.KIT_COLLECT, visit.parameters["id"], {"part": part})
    except NotChanged as refusal:
        return keys(visit, sentence(refusal), 409)
    kind = "text/plain; charset=utf-8" if part == "sheet" else "application/json"
    return Answer(given["file"], media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def share(visit: Visit) -> Response:
    """One's own, until one says that it is kept."""
    kit = visit.house.kits.get(visit.parameters["id"])
    try:
        given = visit.change(ChangeKind.KIT_COLLECT, visit.parameters["id"], {"part": "share"})
    except NotChanged as refusal:
        return page(visit, "share.html", {"share": "", "said": sentence(refusal)}, 409)
    return page(visit, "share.html", {"kit": kit, "share": given["share"]})


def kept(visit: Visit) -> Response:
    try:
        visit.change(ChangeKind.KIT_COLLECT, visit.parameters["id"], {"part": "kept"})
    except NotChanged as refusal:
        return page(visit, "share.html", {"share": "", "said": sentence(refusal)}, 409)
    return to("/me")


PAGES = (
    Page("/keys", keys),
    Page("/keys", ask, ("POST",)),
    Page("/keys/{id}", make, ("POST",)),
    Page("/keys/{id}/file", file, ("POST",)),
    Page("/keys/{id}/share", share, ("POST",)),
    Page("/keys/{id}/kept", kept, ("POST",)),
)
