"""What lets somebody enrol who has nothing to prove themselves with yet? A link: 256 random bits, one use, a day, only its digest kept."""

from __future__ import annotations

import hashlib
import secrets

LINK_HOURS = 24
LINK_BYTES = 32
LINK_CHARACTERS_MAX = 128
PATH = "/enrol/"


def new_link(now_ns: int) -> tuple[str, str, int]:
    """The secret for the address, its digest for the register, and until when it is good (Unix nanoseconds)."""
    secret = secrets.token_urlsafe(LINK_BYTES)
    return secret, link_digest(secret), now_ns + LINK_HOURS * 3600 * 1_000_000_000


def link_digest(link: str) -> str:
    """SHA-256, hex; no digest of anything kept for what is too long."""
    return hashlib.sha256(link[:LINK_CHARACTERS_MAX].encode("utf-8", "replace")).hexdigest()


def link_address(web_address: str, secret: str) -> str:
    """What is handed over. `web_address`: `https://HOST[:PORT]`, or a loopback site's `http://localhost:PORT`."""
    return f"{web_address}{PATH}{secret}"
