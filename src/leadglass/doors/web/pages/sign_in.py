"""Sign in, lock, unlock, step up, sign out: by a passkey in one gesture, or by password and code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from leadglass import gateway
from leadglass.doors.blocking import run
from leadglass.doors.web.pages.page import Page, Who
from leadglass.doors.web.rendering import page, to, told
from leadglass.doors.web.visit import Visit
from leadglass.identity.people.guesses import Slowed
from leadglass.identity.people.sessions import Locked
from leadglass.terms import Caller, Factor, NotIdentified, SignIn

if TYPE_CHECKING:
    from starlette.responses import Response

ANSWER_CHARACTERS_MAX = 32_768
NO = "That did not work. Nothing about you was changed. Try again, or use another way."


def sign_in(visit: Visit) -> Response:
    """The page: a passkey by button or by the browser's own suggestion, other ways below it."""
    return sign_in_page(visit)


def sign_in_page(visit: Visit, said: str = "", status: int = 200, **facts: object) -> Response:
    """Also with a word on what did not work. `facts`: `next`, or `other`, the form that was used."""
    sources = visit.house.desk.elsewhere.sources
    ways = {"providers": sources.providers(), "directories": sources.directories()}
    return page(visit, "sign_in.html", {"next": visit.next, "said": said, "other": "", **ways, **facts}, status)


def options(visit: Visit) -> Response:
    """What the browser hands to the authenticator, for a sign-in, or for the session whose cookie comes with it."""
    purpose = visit.field("purpose")
    session = session_of(visit) if purpose in ("step-up", "unlock") else ""
    handle, wanted = visit.house.desk.passkey_options(visit.origin, purpose if session else "sign-in", session)
    return told({"handle": handle, "options": wanted})


def by_passkey(visit: Visit) -> Response:
    try:
        caller = recognised(visit, SignIn("", "passkey", visit.browser, evidence=_assertion(visit)))
        return _in(visit, caller, visit.next)
    except NotIdentified:
        return sign_in_page(visit, NO, 401)


def by_password(visit: Visit) -> Response:
    """With the code of the authenticator app, or a recovery code instead of it."""
    code = "".join(visit.field("code").split())
    method = "password" if code.isdecimal() and len(code) == 6 else "recovery"
    evidence = {"password": visit.form.get("password", ("",))[-1], "code": visit.field("code")}
    try:
        caller = recognised(visit, SignIn(visit.field("name"), method, visit.browser, evidence=evidence))
        if caller.factors == {Factor.RECOVERY_CODE}:
            return to(f"/enrol/{visit.house.desk.recovery_link(caller)}")
        return _in(visit, caller, visit.next)
    except Slowed as slowed:
        return sign_in_page(visit, slowly(slowed), 429)
    except NotIdentified:
        return sign_in_page(visit, NO, 401, other="ours")


def slowly(slowed: Slowed) -> str:
    return f"Too many attempts. The next one is looked at in {slowed.seconds} seconds; a passkey works at once."


def unlock_page(visit: Visit) -> Response:
    """For a page that was asked for while the session was locked."""
    try:
        visit.house.desk.caller(visit.token, visit.peer, visit.browser)
    except Locked as locked:
        passkeys = visit.house.people.factors.passkeys(locked.person.id)
        facts = {"next": visit.next, "name": locked.person.display or locked.person.name, "passkeys": len(passkeys)}
        return page(visit, "unlock.html", facts)
    return to(visit.next)


def unlock(visit: Visit) -> Response:
    return _again(visit, "unlock")


def step_up_page(visit: Visit) -> Response:
    return page(visit, "step_up.html", visit.again() | {"next": visit.next})


def step_up(visit: Visit) -> Response:
    return _again(visit, "step-up")


def lock(visit: Visit) -> Response:
    visit.house.desk.lock(visit.who.session)
    return told({"locked": True}) if visit.wants_json else to(f"/unlock?next={visit.next}")


def still(visit: Visit) -> Response:
    """Somebody is at the screen although they load no page."""
    return told({"session": "open"})


def sign_out(visit: Visit) -> Response:
    """Of a locked session too; at the provider that vouched for it as well."""
    away = ""
    if session := session_of(visit):
        visit.house.desk.end_session(session)
        away = visit.house.desk.elsewhere.sign_out_address(session, visit.address.origin)
    # A page leads there, no redirect: what a form may lead to stays this site (CSP form-action), whoever the providers are.
    answer = page(visit, "continue.html", {"next": away}) if away else to("/sign-in")
    answer.delete_cookie(visit.cookie, path="/", secure=visit.address.secure, httponly=True, samesite="strict")
    return answer


# ---- steps


def _again(visit: Visit, purpose: str) -> Response:
    """The same person, in the same session, with a passkey: the page behind goes on as it was."""
    claim = SignIn("", "passkey", visit.browser, purpose, session_of(visit), _assertion(visit))
    try:
        recognised(visit, claim)
    except NotIdentified:
        if visit.wants_json:
            return told({"refused": True}, 401)
        return page(visit, "again_refused.html", {"way": f"/{purpose}", "next": visit.next}, 401)
    return told({purpose: True}) if visit.wants_json else to(visit.next)


def recognised(visit: Visit, claim: SignIn) -> Caller:
    return run(gateway.sign_in(visit.house.do, visit.peer, claim))


def _in(visit: Visit, caller: Caller, path: str) -> Response:
    return opened(visit, caller, to(path))


def opened(visit: Visit, caller: Caller, answer: Response) -> Response:
    """A new secret at each sign-in, whatever the browser sent before; the session it belonged to is over."""
    if old := session_of(visit):
        visit.house.desk.end_session(old, "somebody signed in again in that browser")
    token, _ = visit.house.desk.open_session(caller, visit.browser)
    answer.set_cookie(visit.cookie, token, path="/", secure=visit.address.secure, httponly=True, samesite="strict")
    return answer


def session_of(visit: Visit) -> str:
    """The public id of the session whose cookie came, open or locked; "" for none."""
    try:
        return visit.house.desk.caller(visit.token, visit.peer, visit.browser).session
    except Locked as locked:
        return locked.session
    except NotIdentified:
        return ""


def _assertion(visit: Visit) -> dict[str, Any]:
    return {"handle": visit.field("handle"), "assertion": answer_of(visit), "origin": visit.origin}


def answer_of(visit: Visit) -> object:
    """What the authenticator answered, as JSON; None where it is none, which no check lets pass."""
    text = visit.field("answer")
    if len(text) > ANSWER_CHARACTERS_MAX:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


PAGES = (
    Page("/sign-in", sign_in, who=Who.ANYBODY),
    Page("/sign-in", by_passkey, ("POST",), Who.ANYBODY),
    Page("/sign-in/password", by_password, ("POST",), Who.ANYBODY),
    Page("/passkey/options", options, ("POST",), Who.ANYBODY),
    Page("/unlock", unlock_page, who=Who.ANYBODY),
    Page("/unlock", unlock, ("POST",), Who.ANYBODY),
    Page("/step-up", step_up_page),
    Page("/step-up", step_up, ("POST",)),
    Page("/lock", lock, ("POST",)),
    Page("/still", still),
    Page("/sign-out", sign_out, ("POST",), Who.ANYBODY),
)
