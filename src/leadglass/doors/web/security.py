"""What holds for every request and every answer of the web door, before any page is asked? In this order:

    (0) a flow leads from there to this door, where the site file has any such flows; one on demand as long as it is open;
    (1) the target is in origin form, and the method is GET, HEAD or POST;
    (2) head and body are bounded, and a body says its length;
    (3) the Host header is this site's name: no address, no name that somebody points here;
    (4) a POST comes from our own pages: `Sec-Fetch-Site: same-origin`, or where a browser does not say it, our own `Origin`; below PROGRAMS it comes
        from a program, which says neither, and brings a token that is signed or a certificate;
    (5) what other sites embed or fetch of us is refused: only a person who follows a link comes from there.
A token of the session, which pages demand of each POST, comes on top (`visit.py`). Nothing a proxy claims (`X-Forwarded-*`) is believed.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from leadglass.doors.web.address import Address
from leadglass.terms import Malformed, NotPermitted, Overloaded, Peer, Refused

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "HEAD", "POST")
HEAD_LENGTH_MAX_BYTES = 16 << 10
HEADERS_MAX = 64
BODY_LENGTH_MAX_BYTES = 64 << 10
HEALTH = "/healthz"
BACK_CHANNEL = "/back-channel/"  # and a provider's name: its server says there whom it signed out
MACHINE = "/machine/"  # machine clients, by their certificates
PROGRAMS = (BACK_CHANNEL, MACHINE)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_ALWAYS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
HSTS = "max-age=31536000"
NO_STORE = "no-store"


class NotAllowed(Exception):
    """What HTTP itself has a word for. `refusal`: what the event says."""

    def __init__(self, status: HTTPStatus, refusal: Refused) -> None:
        super().__init__(refusal.reason)
        self.status, self.refusal = status, refusal


class Guarded:
    """An ASGI application behind these checks. `refused` records and answers: an ASGI application that is made for each. `comes`: who may come, raising
    NotPermitted."""

    def __init__(
        self, inner: ASGIApp, refused: Callable[[Scope, NotAllowed], ASGIApp], comes: Callable[[Peer], Peer]
    ) -> None:
        self._inner, self._refused, self._comes = inner, refused, comes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        state = scope["state"]
        address: Address = state["address"]
        headers = _headers(scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _added(message["headers"], address)}
            await send(message)

        try:
            state["peer"] = self._by_flow(state["peer"])
            check(scope, headers, address)
        except NotAllowed as no:
            await self._refused(scope, no)(scope, receive, with_headers)
            return
        await self._inner(scope, receive, with_headers)

    def _by_flow(self, peer: Peer) -> Peer:
        """(0). Raises NotAllowed."""
        try:
            return self._comes(peer)
        except NotPermitted as refusal:
            raise NotAllowed(HTTPStatus.FORBIDDEN, refusal) from refusal


def check(scope: Scope, headers: dict[str, list[str]], address: Address) -> None:
    """The checks of the module's docstring, from (1) on. Raises NotAllowed."""
    peer: Peer = scope["state"]["peer"]
    # (1)
    if not scope["state"]["origin_form"]:
        raise NotAllowed(HTTPStatus.BAD_REQUEST, Malformed("the request's target names another host: this is no proxy"))
    if scope["method"] not in METHODS:
        what = f"the method {scope['method'][:16]} is not served here"
        raise NotAllowed(HTTPStatus.METHOD_NOT_ALLOWED, Malformed(what))
    # (2)
    head = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(k) + len(v) for k, v in scope["headers"])
    if head > HEAD_LENGTH_MAX_BYTES or len(scope["headers"]) > HEADERS_MAX:
        what = f"a request's head of more than {HEAD_LENGTH_MAX_BYTES} bytes, or {HEADERS_MAX} headers"
        raise NotAllowed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, Overloaded(what))
    _bounded_body(headers)
    if scope["path"] == HEALTH:
        return
    # (3)
    if headers.get("host", []) not in [[host] for host in address.hosts]:
        said = ", ".join(headers.get("host", []))[:128]
        what = f"{peer.address} asked for the host {said!r}; this door answers to {', '.join(sorted(address.hosts))}"
        raise NotAllowed(HTTPStatus.MISDIRECTED_REQUEST, Malformed(what))
    # (4)
    site, origin = headers.get("sec-fetch-site", []), headers.get("origin", [])
    by_program = scope["path"].startswith(PROGRAMS) and not site and not origin
    if (
        scope["method"] == "POST"
        and not by_program
        and (site != ["same-origin"] if site else origin != [address.origin])
    ):
        what = "a change was asked for by another site's page, or by a program that does not say whose page it is"
        raise NotAllowed(HTTPStatus.FORBIDDEN, NotPermitted(what))
    # (5)
    if site and site[0] in ("cross-site", "same-site") and headers.get("sec-fetch-mode", []) != ["navigate"]:
        raise NotAllowed(HTTPStatus.FORBIDDEN, NotPermitted("another site's page wanted to embed or fetch this one"))


def _bounded_body(headers: dict[str, list[str]]) -> None:
    if "transfer-encoding" in headers:
        raise NotAllowed(HTTPStatus.LENGTH_REQUIRED, Malformed("a body that does not say its length"))
    said = headers.get("content-length", ["0"])
    if len(said) != 1 or not (said[0].isascii() and said[0].isdecimal()):
        raise NotAllowed(HTTPStatus.BAD_REQUEST, Malformed("a Content-Length that is no number"))
    if len(said[0]) > 9 or int(said[0]) > BODY_LENGTH_MAX_BYTES:
        what = f"a body of more than {BODY_LENGTH_MAX_BYTES} bytes"
        raise NotAllowed(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Overloaded(what))


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _added(given: list[tuple[bytes, bytes]], address: Address) -> list[tuple[bytes, bytes]]:
    """What an answer says itself holds; nothing is stored by a browser that does not say otherwise."""
    headers = dict(_ALWAYS, **({"Strict-Transport-Security": HSTS} if address.strict_transport else {}))
    there = {name.lower() for name, _ in given}
    if b"cache-control" not in there:
        headers["Cache-Control"] = NO_STORE
    return [*given, *((k.lower().encode(), v.encode()) for k, v in headers.items() if k.lower().encode() not in there)]
