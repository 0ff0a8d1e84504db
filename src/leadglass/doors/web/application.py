"""Which paths are there, and what becomes of a request on its way to its page and back?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from leadglass import gateway
from leadglass.doors.blocking import run
from leadglass.doors.house import House
from leadglass.doors.web.security import HEALTH, Guarded, NotAllowed
from leadglass.doors.web.threads import Threads

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Scope


def application(house: House, threads: Threads) -> ASGIApp:
    """The web door's application, behind `security.py`."""

    async def health(request: Request) -> Response:
        """Alive, because it answers; ready, where it could let somebody in. Nothing else without a name."""
        ready = not house.fatal.is_set() and not house.containment_unreadable()
        return Response(
            json.dumps({"alive": True, "ready": ready}), 200 if ready else 503, media_type="application/json"
        )

    inner = Starlette(routes=[Route(HEALTH, health)])

    def refused(scope: Scope, no: NotAllowed) -> ASGIApp:
        threads.begin(lambda: run(gateway.turn_away(house.do, scope["state"]["peer"], no.refusal)))
        return PlainTextResponse(f"{no.status.value} {no.status.phrase}\n", no.status.value)

    return Guarded(inner, refused)
