"""What do pages load? Our own stylesheet, scripts and pictures, read once at the start; nothing from anywhere else."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response

if TYPE_CHECKING:
    from starlette.requests import Request

STATIC = "/static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    """Name -> content, media type, ETag."""
    found = {}
    for each in files("leadglass.doors.web").joinpath("static").iterdir():
        kind = _TYPES.get("." + each.name.rpartition(".")[2])
        if kind is not None:
            content = each.read_bytes()
            found[each.name] = (content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found


async def static_file(request: Request) -> Response:
    """By its exact name: no path of a peer's reaches a file system."""
    known = _files().get(request.path_params["name"])
    if known is None:
        return PlainTextResponse("404 Not Found\n", 404)
    content, kind, etag = known
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
