"""How is the site, for a machine that has a name? Metrics, and the short tokens that a service account may present beside its certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from leadglass import gateway
from leadglass.doors.blocking import run
from leadglass.doors.command.desk import RemoteDesk
from leadglass.doors.processes.metrics import registry_of
from leadglass.doors.web.pages.page import Page, Who
from leadglass.doors.web.rendering import told
from leadglass.doors.web.security import MACHINE
from leadglass.identity.people.tokens import TOKEN_SECONDS_MAX
from leadglass.terms import Caller, ChangeKind, NotIdentified, SignIn

if TYPE_CHECKING:
    from leadglass.doors.web.visit import Visit

TOKEN = f"{MACHINE}token"
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_OVER = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


def metrics(visit: Visit) -> Response:
    """For service accounts; nothing in it identifies anybody. The keeper is asked: it alone knows every worker. 503 while it is down."""
    try:
        _machine(visit)
    except NotIdentified as refusal:
        visit.turn_away(refusal)
        return PlainTextResponse("401 Unauthorized\n", 401, _OVER if visit.authorization else _CHALLENGE)
    try:
        desk = RemoteDesk(visit.house.site_dir)
        row = next(desk.ask("status", {}))
    except OSError:
        return PlainTextResponse("503 Service Unavailable\n", 503)
    return Response(generate_latest(registry_of(lambda: row)), media_type=CONTENT_TYPE_LATEST)


def mint(visit: Visit) -> Response:
    """A token for whoever presents a service account's certificate, good with that certificate alone (RFC 6749 5.1, RFC 8705 3)."""
    try:
        caller = run(gateway.sign_in(visit.house.do, visit.peer, SignIn("", "certificate", purpose="token")))
        token, _ = visit.house.desk.token(caller)
    except NotIdentified as refusal:
        visit.turn_away(refusal)
        return told({"error": "invalid_client"}, 401)
    return told(
        {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS_MAX, "session": caller.session}
    )


def give_back(visit: Visit) -> Response:
    """Ends the token that is presented, before its time."""
    try:
        caller = _machine(visit)
    except NotIdentified as refusal:
        visit.turn_away(refusal)
        return told({"error": "invalid_token"}, 401)
    if not caller.session:
        return told({"error": "invalid_request"}, 400)  # a certificate alone: no token was presented
    visit.change(ChangeKind.SESSION_END, caller.name, {"session": caller.session, "why": "given back"}, caller)
    return told({})


def _machine(visit: Visit) -> Caller:
    """By its token where it presents one, which must hold then; else by its certificate alone. Raises NotIdentified."""
    if not visit.authorization:
        return visit.house.desk.machine(visit.peer)
    scheme, _, token = visit.authorization[0].partition(" ")
    if len(visit.authorization) > 1 or scheme.lower() != "bearer":
        raise NotIdentified("an Authorization that is no Bearer token")
    return visit.house.desk.bearer(token.strip(), visit.peer)


PAGES = (
    Page("/metrics", metrics, who=Who.ANYBODY),
    Page(TOKEN, mint, ("POST",), Who.ANYBODY),
    Page(f"{TOKEN}/end", give_back, ("POST",), Who.ANYBODY),
)
