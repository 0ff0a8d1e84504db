"""Which paths are there, and what becomes of a request on its way to its page and back?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from leadglass import gateway
from leadglass.doors.blocking import run
from leadglass.doors.house import House
from leadglass.doors.replies import reply_to
from leadglass.doors.web import rendering
from leadglass.doors.web.pages import PAGES
from leadglass.doors.web.pages.page import Page, Who
from leadglass.doors.web.security import BODY_LENGTH_MAX_BYTES, HEALTH, Guarded, NotAllowed
from leadglass.doors.web.static import STATIC, static_file
from leadglass.doors.web.streamed import Streamed
from leadglass.doors.web.threads import Threads
from leadglass.doors.web.visit import Visit, cookie_name, handle_cookie_name
from leadglass.identity.people.oidc import HANDLE_LENGTH_MAX_CHARACTERS
from leadglass.identity.people.sessions import Locked
from leadglass.terms import Fault, Malformed, NotIdentified, NotPermitted, Overloaded, Peer, Refused, StepUpNeeded

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Scope

BODY_SECONDS_MAX = 30.0
FIELDS_MAX = 200
TOKEN_CHARACTERS_MAX = 128

log = structlog.get_logger()


def application(house: House, threads: Threads, comes: Callable[[Peer], Peer]) -> ASGIApp:
    """The web door's application, behind `security.py`."""

    async def health(request: Request) -> Response:
        """Alive, because it answers; ready, where it could let somebody in. Nothing else without a name."""
        ready = not house.fatal.is_set() and not house.containment_unreadable()
        return JSONResponse({"alive": True, "ready": ready}, 200 if ready else 503)

    routes = [Route(HEALTH, health), Route(f"{STATIC}/{{name}}", static_file)]
    routes += [Route(each.path, _endpoint(house, threads, each), methods=list(each.methods)) for each in PAGES]

    async def nothing_there(request: Request, error: Exception) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return rendering.no_page(house.site().name)
        return PlainTextResponse("404 Not Found\n", 404)

    inner = Starlette(routes=routes, exception_handlers={404: nothing_there, 405: nothing_there})

    def refused(scope: Scope, no: NotAllowed) -> ASGIApp:
        threads.begin(partial(record_refusal, house, scope, no.refusal))
        headers = {"Connection": "close"} | (
            {"Allow": "GET, HEAD, POST"} if no.status is HTTPStatus.METHOD_NOT_ALLOWED else {}
        )
        return PlainTextResponse(f"{no.status.value} {no.status.phrase}\n", no.status.value, headers)

    return Guarded(inner, refused, comes)


def record_refusal(house: House, scope: Scope, refusal: Refused) -> None:
    """Before identity: within the budget of what strangers make us write. A journal that is full or broken ends no door."""
    try:
        run(gateway.turn_away(house.do, scope["state"]["peer"], refusal))
    except Fault as fault:
        log.error("a refusal could not be recorded", address=scope["state"]["peer"].address, reason=str(fault))


def _endpoint(house: House, threads: Threads, each: Page) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                body = await _body(request)
            visit = _visit(house, request, body)
            answered = await threads.run(partial(answer, each, visit))
            if isinstance(answered, Streamed):
                answered.threads = threads
            return answered
        except ClientDisconnect:
            return Response(status_code=400)  # nobody hears it
        except TimeoutError:
            refusal: Refused = Overloaded(f"a body that did not come within {BODY_SECONDS_MAX:.0f} s")
        except (Malformed, Overloaded) as no:
            refusal = no
        threads.begin(partial(record_refusal, house, request.scope, refusal))
        row = reply_to(refusal)
        return PlainTextResponse(f"{row.http_status} {row.comment}\n", row.http_status)

    return endpoint


async def _body(request: Request) -> bytes:
    """Its length was bounded where it was said; uvicorn hands out no more than that."""
    if request.method != "POST":
        return b""
    body = await request.body()
    if len(body) > BODY_LENGTH_MAX_BYTES:
        raise Overloaded(f"a body of more than {BODY_LENGTH_MAX_BYTES} bytes")
    return body


def _visit(house: House, request: Request, body: bytes) -> Visit:
    """Raises Malformed."""
    address = request.state.address
    if (
        body
        and request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded"
    ):
        raise Malformed("a body that is no form")
    return Visit(
        house=house,
        address=address,
        peer=request.state.peer,
        method=request.method,
        path=request.url.path,
        parameters={name: str(value) for name, value in request.path_params.items()},
        query=_fields(request.scope["query_string"]),
        form=_fields(body),
        token=request.cookies.get(cookie_name(address), "")[:TOKEN_CHARACTERS_MAX],
        user_agent=request.headers.get("user-agent", ""),
        handle=request.cookies.get(handle_cookie_name(address), "")[: HANDLE_LENGTH_MAX_CHARACTERS + 1],
        wants_json=request.headers.get("accept", "") == "application/json",
        authorization=tuple(request.headers.getlist("authorization")),
        from_elsewhere=request.headers.get("sec-fetch-site", "") in ("cross-site", "same-site"),
    )


def _fields(encoded: bytes) -> Mapping[str, tuple[str, ...]]:
    try:
        pairs = parse_qsl(encoded.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError as error:
        raise Malformed(f"a form that cannot be read: {error}") from error
    found: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        if "\0" in value:
            raise Malformed("a field with a NUL in it")
        found[name] = (*found.get(name, ()), value.replace("\r\n", "\n"))
    return found


# ---- in a thread, with the gateway's stages


def answer(each: Page, visit: Visit) -> Response:
    """The page's answer; what it refuses becomes a page too, and an event where nobody wrote one yet."""
    try:
        visit = _recognised(each, visit)
        if visit.method == "POST" and visit.caller is not None and not visit.from_own_page():
            raise NotPermitted(
                f"{visit.who.name}: a change without the session's token; somebody may have forged a page"
            )
        return each.show(visit)
    except Locked as locked:
        return _locked(visit, locked)
    except StepUpNeeded:
        return rendering.page(visit, "step_up.html", visit.again(), 401)
    except (Refused, Fault) as refusal:
        return _refused(visit, refusal)


def _recognised(each: Page, visit: Visit) -> Visit:
    """With who it is, where the page is not for anybody. Raises NotIdentified, Locked."""
    if each.who is Who.ANYBODY:
        return visit
    try:
        return replace(visit, caller=visit.house.desk.caller(visit.token, visit.peer, visit.browser))
    except Locked as locked:
        if each.who is Who.LOCKED_TOO:
            return visit
        raise locked from None


def _locked(visit: Visit, locked: Locked) -> Response:
    if visit.wants_json:
        return rendering.told({"locked": True}, 401)
    return rendering.to(f"/unlock?next={quote(visit.back, safe='')}")


def _refused(visit: Visit, refusal: Refused | Fault) -> Response:
    if isinstance(refusal, NotIdentified) and visit.caller is None and not visit.token:
        return _sign_in_first(visit)
    if isinstance(refusal, Refused):
        visit.turn_away(refusal)
    else:
        log.error("a page failed", path=visit.path, reason=str(refusal), hint=refusal.hint)
    status = reply_to(refusal).http_status
    if visit.wants_json:
        return rendering.told({"refused": True}, status)
    if isinstance(refusal, NotIdentified) and visit.caller is None:
        return _sign_in_first(visit)
    return rendering.page(
        visit, "refused.html", {"status": status, "kind": type(refusal).__name__, "back": visit.next}, status
    )


def _sign_in_first(visit: Visit) -> Response:
    if visit.wants_json:
        return rendering.told({"signed_out": True}, 401)
    if visit.from_elsewhere and visit.method == "GET":
        return rendering.page(visit, "continue.html", {"next": visit.back})  # now the browser sends the cookie
    return rendering.to(f"/sign-in?next={quote(visit.back, safe='')}")
