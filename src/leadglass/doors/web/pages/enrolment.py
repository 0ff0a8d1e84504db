"""How does somebody get their first passkey, or password and app? By a link that is good once; then recovery codes, shown once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import segno

from leadglass.doors.web.pages.page import Page, Who
from leadglass.doors.web.pages.sign_in import answer_of
from leadglass.doors.web.rendering import page, sentence, told
from leadglass.doors.web.visit import Visit
from leadglass.identity.people.enrolment import Invitation, has_password_elsewhere
from leadglass.identity.people.passwords import PASSWORD_CHARACTERS_MIN, Unsuitable
from leadglass.terms import ChangeKind, NotIdentified

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

_OVER = "This link is not good any more."


def begin(visit: Visit) -> Response:
    """Who the link is for, and the two ways; a passkey first."""
    try:
        invitation = visit.house.desk.invited(_link(visit))
    except NotIdentified as refusal:
        return _over(visit, refusal)
    return page(visit, "enrol.html", _facts(visit, invitation))


def options(visit: Visit) -> Response:
    handle, wanted = visit.house.desk.enrolment_options(_link(visit), visit.origin)
    return told({"handle": handle, "options": wanted})


def passkey(visit: Visit) -> Response:
    desk, link = visit.house.desk, _link(visit)
    try:
        invitation = desk.invited(link)
    except NotIdentified as refusal:
        return _over(visit, refusal)
    try:
        proven = desk.enrolled_passkey(
            link, visit.field("handle"), answer_of(visit), visit.origin, visit.field("label")
        )
        return _done(visit, invitation, proven)
    except NotIdentified as refusal:
        visit.turn_away(refusal)
        said = "The passkey could not be verified, and nothing was changed. Try again, perhaps with another one."
        return page(visit, "enrol.html", _facts(visit, invitation) | {"said": said}, 401)


def password_form(visit: Visit) -> Response:
    try:
        invitation = visit.house.desk.invited(_link(visit))
        handle, uri = visit.house.desk.totp_offer(_link(visit))
    except NotIdentified as refusal:
        return _over(visit, refusal)
    return page(visit, "enrol_password.html", _facts(visit, invitation) | _app(handle, uri))


def password(visit: Visit) -> Response:
    """What will not do is said, and the app's secret stays: nobody scans twice."""
    desk, link = visit.house.desk, _link(visit)
    try:
        invitation = desk.invited(link)
    except NotIdentified as refusal:
        return _over(visit, refusal)
    wanted = visit.form.get("password", ("",))[-1]
    try:
        if wanted != visit.form.get("repeated", ("",))[-1]:
            raise Unsuitable("the two passwords are not the same")
        proven = desk.enrolled_password(link, visit.field("handle"), wanted, visit.field("code"))
        return _done(visit, invitation, proven)
    except Unsuitable as why:
        facts = _facts(visit, invitation) | {"said": sentence(why)}
        return page(visit, "enrol_password.html", facts | _app(visit.field("handle"), visit.field("uri")), 422)
    except NotIdentified as refusal:
        visit.turn_away(refusal)
        return page(visit, "enrol.html", _facts(visit, invitation) | {"said": "That took too long: begin again."}, 401)


def _done(visit: Visit, invitation: Invitation, proven: Mapping[str, object]) -> Response:
    result = visit.change(
        ChangeKind.FACTOR_ENROLL, invitation.person.name, proven, by=visit.house.desk.invitee(_link(visit), visit.peer)
    )
    return page(visit, "recovery_codes.html", {"codes": result["recovery_codes"], "first": True})


def _over(visit: Visit, refusal: NotIdentified) -> Response:
    visit.turn_away(refusal)
    return page(visit, "link_over.html", {"said": _OVER}, 410)


def _link(visit: Visit) -> str:
    return visit.parameters["link"]


def _facts(visit: Visit, invitation: Invitation) -> dict[str, object]:
    return {
        "link": _link(visit),
        "person": invitation.person,
        "purpose": invitation.purpose,
        "until_ns": invitation.until_ns,
        "app_alone": has_password_elsewhere(invitation.person),
        "password_characters_min": PASSWORD_CHARACTERS_MIN,
    }


def _app(handle: str, uri: str) -> dict[str, object]:
    """The secret as a picture, and in letters for who cannot scan it. What comes back in the form is drawn again and believed in nothing."""
    if not uri.startswith("otpauth://totp/") or len(uri) > 512:
        uri = ""
    secret = next((part[7:] for part in uri.partition("?")[2].split("&") if part.startswith("secret=")), "")
    picture = (
        segno.make(uri, micro=False, error="m").svg_data_uri(scale=5, border=4, dark="#000", light="#fff")
        if uri
        else ""
    )
    grouped = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
    return {"handle": handle, "uri": uri, "picture": picture, "secret": grouped}


PAGES = (
    Page("/enrol/{link}", begin, who=Who.ANYBODY),
    Page("/enrol/{link}/options", options, ("POST",), Who.ANYBODY),
    Page("/enrol/{link}", passkey, ("POST",), Who.ANYBODY),
    Page("/enrol/{link}/password", password_form, who=Who.ANYBODY),
    Page("/enrol/{link}/password", password, ("POST",), Who.ANYBODY),
)
