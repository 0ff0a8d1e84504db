"""Sign in by a provider or directory of the hospital's, and hear from a provider whom it signed out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leadglass import gateway
from leadglass.doors.blocking import run
from leadglass.doors.replies import reply_to
from leadglass.doors.web.pages.page import Page, Who
from leadglass.doors.web.pages.sign_in import NO, opened, recognised, session_of, sign_in_page, slowly
from leadglass.doors.web.rendering import page, to, told
from leadglass.doors.web.security import BACK_CHANNEL
from leadglass.doors.web.visit import Visit, handle_cookie_name
from leadglass.identity.people.guesses import Slowed
from leadglass.identity.people.oidc import SIGN_IN_SECONDS
from leadglass.identity.people.sources import RETURN_PATH
from leadglass.terms import Factor, Fault, NotIdentified, Refused, SignIn

if TYPE_CHECKING:
    from starlette.responses import Response

_AWAY = "That way in does not work just now, and nothing was changed. Your passkey works; or try again in a moment."
_NOT_HERE = "You were recognised, and your account could not be taken over as it is there. Tell whoever looks after accounts here."


def begin(visit: Visit) -> Response:
    """On to the provider. The session that the browser had is over: somebody else may sit there now."""
    name = visit.parameters["source"]
    try:
        address, handle = visit.house.desk.elsewhere.begin(name, visit.address.origin, visit.browser, visit.next)
    except (Refused, Fault) as why:
        run(gateway.sign_in_lost(visit.house.do, visit.peer, SignIn("", "oidc", visit.browser), why))
        return _not_in(visit, why)
    if old := session_of(visit):
        visit.house.desk.end_session(old, "somebody began to sign in again in that browser")
    answer = to(address)
    answer.set_cookie(
        handle_cookie_name(visit.address), handle, path="/", max_age=int(SIGN_IN_SECONDS), secure=visit.address.secure,
        httponly=True, samesite="lax",  # it comes back by a link of the provider's
    )  # fmt: skip
    return answer


def came_back(visit: Visit) -> Response:
    """From the provider, with its answer. The way on is a page of ours: a session's cookie goes along from there alone."""
    name, desk = visit.parameters["source"], visit.house.desk
    evidence = {
        "source": name,
        "origin": visit.address.origin,
        "handle": visit.handle,
        "params": {key: values[-1] for key, values in visit.query.items() if len(values) == 1},
    }
    try:
        caller = recognised(visit, SignIn("", "oidc", visit.browser, evidence=evidence))
        path = desk.elsewhere.way_back(name, visit.address.origin, visit.handle)
        answer = opened(visit, caller, page(visit, "continue.html", {"next": path}))
    except (Refused, Fault) as why:
        answer = _not_in(visit, why)
    answer.delete_cookie(
        handle_cookie_name(visit.address), path="/", secure=visit.address.secure, httponly=True, samesite="lax"
    )
    return answer


def by_directory(visit: Visit) -> Response:
    """With the directory's password and a code of ours; whoever has nothing of ours yet is led to enrol it, and not in."""
    name = visit.parameters["source"]
    evidence = {"source": name, "password": visit.form.get("password", ("",))[-1], "code": visit.field("code")}
    try:
        caller = recognised(visit, SignIn(visit.field("name"), "ldap", visit.browser, evidence=evidence))
        if caller.factors == {Factor.PASSWORD}:
            return to(f"/enrol/{visit.house.desk.first_link(caller)}")
        return opened(visit, caller, to(visit.next))
    except (Refused, Fault) as why:
        return _not_in(visit, why, name)


def signed_out(visit: Visit) -> Response:
    """Where a provider sends people who signed out there."""
    return page(visit, "signed_out.html")


def back_channel(visit: Visit) -> Response:
    """From the provider's server: no browser, no cookie, a signed token (Back-Channel Logout 1.0, 2.5 to 2.8)."""
    name, token = visit.parameters["source"], visit.field("logout_token")
    try:
        visit.house.desk.elsewhere.signed_out(name, visit.address.origin, token, visit.now_ns)
    except NotIdentified as refusal:
        visit.turn_away(refusal)
        return told({"error": "invalid_request"}, 400)
    return told({})


def _not_in(visit: Visit, why: Refused | Fault, form: str = "") -> Response:
    """The sign-in page again, calmly. `form`: of which directory it was, so that it stands open."""
    status = reply_to(why).http_status
    if isinstance(why, Slowed):
        return sign_in_page(visit, slowly(why), status)
    if isinstance(why, NotIdentified):
        return sign_in_page(visit, NO, status, other=form)
    return sign_in_page(visit, _NOT_HERE if isinstance(why, Refused) else _AWAY, status, other=form)


PAGES = (
    Page(f"{RETURN_PATH}{{source}}/begin", begin, who=Who.ANYBODY),
    Page(f"{RETURN_PATH}{{source}}", came_back, who=Who.ANYBODY),
    Page(f"{RETURN_PATH}{{source}}/password", by_directory, ("POST",), Who.ANYBODY),
    Page("/signed-out", signed_out, who=Who.ANYBODY),
    Page(f"{BACK_CHANNEL}{{source}}", back_channel, ("POST",), Who.ANYBODY),
)
