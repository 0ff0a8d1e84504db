"""How is the site, for a machine that has a name? Prometheus metrics for service accounts that present their certificate; nothing that identifies anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from leadglass.doors.command.desk import RemoteDesk
from leadglass.doors.processes.metrics import registry_of
from leadglass.doors.web.pages.page import Page, Who
from leadglass.terms import NotIdentified

if TYPE_CHECKING:
    from leadglass.doors.web.visit import Visit


def metrics(visit: Visit) -> Response:
    """The keeper is asked: it alone knows every worker. 503 while it is down."""
    try:
        visit.house.desk.machine(visit.peer)
    except NotIdentified as refusal:
        visit.turn_away(refusal)
        return PlainTextResponse("401 Unauthorized\n", 401)
    try:
        desk = RemoteDesk(visit.house.site_dir)
        row = next(desk.ask("status", {}))
    except OSError:
        return PlainTextResponse("503 Service Unavailable\n", 503)
    return Response(generate_latest(registry_of(lambda: row)), media_type=CONTENT_TYPE_LATEST)


PAGES = (Page("/metrics", metrics, who=Who.ANYBODY),)
