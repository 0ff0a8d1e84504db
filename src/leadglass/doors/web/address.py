"""Under which name is the web door reached? A passkey belongs to that name, and no request under another one is answered."""

from __future__ import annotations

from dataclasses import dataclass

from leadglass.site.model import Site

LOCALHOST = "localhost"


@dataclass(frozen=True, slots=True)
class Address:
    """`origin`: scheme, host and port as browsers write them. `rp_id`: whose passkeys they are. `hosts`: what a Host header may say.

    `strict_transport`: browsers may be told never to come without TLS; not for localhost, where the console stands beside it.
    """

    door: str
    origin: str
    rp_id: str
    hosts: frozenset[str]
    secure: bool
    strict_transport: bool


def https_address(site: Site, port: int) -> Address:
    name = site.name.lower()
    names = {name, LOCALHOST} if site.loopback else {name}
    shown = "" if port == 443 else f":{port}"
    return Address(
        "web", f"https://{name}{shown}", name, frozenset(f"{each}{shown}" for each in names), True, not site.loopback
    )


def console_address(port: int) -> Address:
    """Loopback alone, where browsers count http as secure."""
    shown = "" if port == 80 else f":{port}"
    return Address("console", f"http://{LOCALHOST}{shown}", LOCALHOST, frozenset({f"{LOCALHOST}{shown}"}), False, False)
