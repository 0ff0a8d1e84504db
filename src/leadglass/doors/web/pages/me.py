"""How do I sign in, and where am I signed in? One's own passkeys, password, recovery codes and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.pages.sign_in import answer_of
from leadglass.doors.web.rendering import page, sentence, to, told
from leadglass.doors.web.visit import Visit
from leadglass.terms import ChangeKind, NotChanged, NotIdentified, NotPermitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response


def me(visit: Visit, said: str = "", status: int = 200) -> Response:
    person, factors = visit.who.person, visit.house.people.factors
    facts = {
        "person": person,
        "passkeys": factors.passkeys(person.id),
        "password": factors.password(person.id),
        "codes_left": factors.recovery_codes_left(person.id),
        "sessions": visit.house.desk.sessions(person.id),
        "related": visit.who.related,
        "kit": visit.house.kits.waiting_for(person.id, visit.now_ns),
        "said": said,
    }
    return page(visit, "me.html", facts, status)


def passkey_page(visit: Visit) -> Response:
    """Whoever finds a screen unlocked adds no way in: a fresh passkey first."""
    return _when_fresh(visit, lambda: page(visit, "add_passkey.html"))


def passkey_options(visit: Visit) -> Response:
    handle, wanted = visit.house.desk.more_passkey_options(visit.who, visit.origin)
    return told({"handle": handle, "options": wanted})


def add_passkey(visit: Visit) -> Response:
    def added() -> Response:
        label = visit.field("label") or "Passkey"
        try:
            proven = visit.house.desk.more_passkey(
                visit.who, visit.field("handle"), answer_of(visit), visit.origin, label
            )
        except NotIdentified as refusal:
            visit.turn_away(refusal)
            said = "The passkey could not be verified, and nothing was changed. Try again, perhaps with another one."
            return page(visit, "add_passkey.html", {"said": said}, 400)
        visit.change(ChangeKind.FACTOR_ENROLL, visit.who.name, proven)
        return to("/me")

    return _when_fresh(visit, added)


def remove_factor(visit: Visit) -> Response:
    def removed() -> Response:
        try:
            visit.change(ChangeKind.FACTOR_REMOVE, visit.who.name, {"credential": visit.field("credential")})
        except NotChanged as refusal:
            return me(visit, sentence(refusal), 409)
        return to("/me")

    return _when_fresh(visit, removed)


def renew_codes(visit: Visit) -> Response:
    def renewed() -> Response:
        proven = visit.house.desk.more_recovery_codes(visit.who)
        result = visit.change(ChangeKind.FACTOR_ENROLL, visit.who.name, proven)
        return page(visit, "recovery_codes.html", {"codes": result["recovery_codes"], "first": False})

    return _when_fresh(visit, renewed)


def end_session(visit: Visit) -> Response:
    visit.change(ChangeKind.SESSION_END, visit.who.name, {"session": visit.field("session"), "why": "by themselves"})
    return to("/sign-in" if visit.field("session") == visit.who.session else "/me")


def _when_fresh(visit: Visit, then: Callable[[], Response]) -> Response:
    try:
        visit.house.desk.must_be_fresh(visit.who)
    except NotPermitted:
        return page(visit, "step_up.html", visit.again(), 401)
    return then()


PAGES = (
    Page("/me", me),
    Page("/me/passkeys", passkey_page),
    Page("/me/passkeys/options", passkey_options, ("POST",)),
    Page("/me/passkeys", add_passkey, ("POST",)),
    Page("/me/factors/remove", remove_factor, ("POST",)),
    Page("/me/recovery-codes", renew_codes, ("POST",)),
    Page("/me/sessions/end", end_session, ("POST",)),
)
