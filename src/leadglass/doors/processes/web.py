"""`leadglass serve web`: one web worker. Serves browsers and programs over HTTPS, and on a loopback site the console; drains on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from leadglass import gateway
from leadglass.doors.blocking import run
from leadglass.doors.house import House
from leadglass.doors.processes.caps import SharedCaps
from leadglass.doors.processes.handover import Handover
from leadglass.doors.processes.memory import FreeMemory
from leadglass.doors.web.address import console_address, https_address
from leadglass.doors.web.application import application
from leadglass.doors.web.coming import Coming
from leadglass.doors.web.connection import Listener, WebServer
from leadglass.doors.web.threads import Threads
from leadglass.identity.certificates import spent, web_context
from leadglass.identity.doors import web_credentials
from leadglass.policy.decide import kept_out
from leadglass.site.model import Limits, Site
from leadglass.terms import Containment, Fault, Peer, Refused

LOOK_EVERY_SECONDS = 0.2

log = structlog.get_logger()


class WebContexts:
    """TLS contexts that follow the site and the certificate's file, for the next handshake. Raises Fault where the first cannot be made."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._made: tuple[object, ssl.SSLContext] | None = None
        self.server()

    def server(self) -> ssl.SSLContext:
        """Called by one thread alone. Where new ones cannot be read, the old ones go on, and the log says so."""
        try:
            credentials = web_credentials(self._house.site())
            state = (self._house.containment().generation, credentials, _when(credentials))
            if self._made is None or self._made[0] != state or spent(self._made[1]):
                self._made = (state, _context(credentials, self._house.anchors()))
        except (Fault, OSError) as fault:
            if self._made is None:
                raise
            log.error("the web door goes on with its former certificate", reason=str(fault))
        return self._made[1]


def _when(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _context(credentials: Path, anchors: list[str]) -> ssl.SSLContext:
    try:
        return web_context(credentials, anchors)
    except (OSError, ssl.SSLError) as error:
        hint = "[doors.web] certificate names a PEM file with the private key, the certificate and its chain; `leadglass door sheet` says more"
        raise Fault(f"the web door's certificate cannot be used: {credentials}: {error}", hint=hint) from error


def serve(house: House, handover: Handover, listeners: list[Listener]) -> int:
    """Serves until SIGTERM, the parent's end or a fatal fault; the exit code."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the supervisor, which says SIGTERM
    handover.die_with_parent(stop)
    caps = SharedCaps(handover.caps, handover.rows, handover.row, web_limits(house.site().limits))
    threads, coming = Threads(), Coming(house)
    server = WebServer(
        application(house, threads, coming.comes),
        listeners,
        caps,
        house.site().limits.handshake_seconds,
        lambda peer, refusal: threads.begin(lambda: turn_away(house, peer, refusal)),
    )
    watch = threading.Thread(target=_watch, args=(server, house, coming, caps, stop), name="containment")
    watch.start()
    asyncio.run(_served(server, lambda: handover.tell(ready=True)))
    stop.set()
    watch.join()
    threads.close()
    return 1 if house.fatal.is_set() else 0


async def _served(server: WebServer, ready: Callable[[], None]) -> None:
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        ready()
    await serving


def turn_away(house: House, peer: Peer, refusal: Refused) -> None:
    """Before identity, so within the budget of what strangers make us write. A journal that is full or broken ends no door."""
    try:
        run(gateway.turn_away(house.do, peer, refusal))
    except Fault as fault:
        log.error("a refusal could not be recorded", address=peer.address, reason=str(fault))


def _watch(server: WebServer, house: House, coming: Coming, caps: SharedCaps, stop: threading.Event) -> None:
    """Each request asks for itself what holds at its moment; whoever is contained, or comes by no flow any more, is cut off between two of them, and in
    the middle of one."""
    known, free = -1, FreeMemory()
    while not stop.wait(LOOK_EVERY_SECONDS):
        if house.fatal.is_set():
            break
        house.upkeep()
        free.give_back()
        containment = house.containment()
        try:
            if coming.look() or containment.generation != known:
                server.cut(partial(_gone, house.site(), containment, coming))
        except (Fault, OSError) as fault:  # a site that cannot be read just now is looked at again: nobody is forgotten
            log.error("who is in the house could not be looked at", reason=str(fault))
            continue
        known = containment.generation
        caps.serves(known)
    server.should_exit = True


def _gone(site: Site, containment: Containment, coming: Coming, peer: Peer) -> bool:
    return bool(kept_out(site, containment, peer)) or coming.no_more(peer)


def web_limits(limits: Limits) -> Limits:
    """The web door's connections are counted as associations are, in a map of their own; it knows no zones."""
    return replace(
        limits,
        associations_max=limits.web_connections_max,
        associations_per_address_max=limits.web_connections_per_address_max,
        associations_of_strangers_max=limits.web_connections_max,
    )


def listeners_of(house: House, handover: Handover) -> list[Listener]:
    """What the supervisor handed down. Raises Fault where the certificate cannot be used."""
    contexts, site = WebContexts(house), house.site()
    first, second = handover.socket(), handover.second_socket()
    found = [Listener(first, https_address(site, first.getsockname()[1]), contexts.server)]
    if second is not None:
        found.append(Listener(second, console_address(second.getsockname()[1]), None))
    return found
