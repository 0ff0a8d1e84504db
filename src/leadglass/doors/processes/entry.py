"""How does each process begin? `up` (the supervisor) and the roles it starts; each can be started alone."""

from __future__ import annotations

import datetime as dt
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from leadglass.doors.blocking import run
from leadglass.doors.command.desk import listen, take_site_lock
from leadglass.doors.command.first import invite_first_administrator
from leadglass.doors.command.questions import QUESTIONS
from leadglass.doors.dimse.conversation import Hall
from leadglass.doors.dimse.requestor import Requestor, associated
from leadglass.doors.dimse.services import services
from leadglass.doors.dimse.supported import supported_by
from leadglass.doors.house import Assemble, House
from leadglass.doors.processes import dimse, keeper
from leadglass.doors.processes.caps import SharedCaps
from leadglass.doors.processes.handover import Handover
from leadglass.doors.processes.supervisor import BACKLOG, Supervisor
from leadglass.gateway import keep_watch
from leadglass.identity.certificates import client_context, server_context, spent
from leadglass.identity.doors import renew_doors
from leadglass.site.layout import DIMSE_DOOR, DOORS_DIRECTORY
from leadglass.site.model import Site
from leadglass.site.ports import CONSOLE, WEB, choose_port, port_of
from leadglass.terms import Device, Fault
from leadglass.wire.negotiation import RequestedContext

log = structlog.get_logger()


def up(site_dir: Path, assemble: Assemble) -> int:
    """Serves until stopped. Everything that dead processes left is recovered before the first door opens."""
    lock = take_site_lock(site_dir)
    house = assemble(site_dir)
    try:
        house.recover_all()
        site = house.site()
        for renewed in renew_doors(site, dt.datetime.now(dt.UTC)):
            log.info("a door's certificate was renewed", door=renewed)
        door, web = site.doors.dimse, site.doors.web
        listeners = {
            "dimse": [_listen("dimse", door.host, door.port)],
            "keeper": [listen(site_dir, others=bool(site.enroller or site.filterer))],
        }
        workers = {"dimse": door.workers}
        if web is not None:
            listeners["web"], workers["web"] = _listen_for_people(site), web.workers
        supervisor = Supervisor(
            site_dir,
            listeners,
            workers=workers,
            recover=house.recover,
            happened=lambda detection: run(keep_watch(house.do, [detection])),
        )

        def announce() -> None:
            print(_ready(site, listeners), flush=True)
            invite_first_administrator(house)

        return supervisor.run(announce)
    finally:
        house.close()
        lock.close()


def _ready(site: Site, listeners: Mapping[str, Sequence[socket.socket]]) -> str:
    host, port = listeners["dimse"][0].getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    said = f"ready dimse={shown}:{port}"
    for name, each in zip(("web", "console"), listeners.get("web", ()), strict=False):
        port = each.getsockname()[1]
        said += f" web=https://{site.name}:{port}" if name == "web" else f" console=http://localhost:{port}"
    return said


def _listen_for_people(site: Site) -> list[socket.socket]:
    """The web door's listener, and the console's beside it. A chosen port that somebody else has is chosen again."""
    found = []
    for name, door in ((WEB, site.doors.web), (CONSOLE, site.doors.console)):
        if door is None:
            continue
        port = port_of(site.path, name, door.host, door.port)
        try:
            found.append(_listen(name, door.host, port))
        except Fault:
            if door.port:
                raise
            log.warning(
                "the port of a door is taken: another one is chosen, former links lead nowhere", door=name, port=port
            )
            found.append(_listen(name, door.host, choose_port(site.path, name, door.host)))
    return found


def _listen(name: str, host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        hint = f"free that port, or name another in [doors.{name}] listen and `leadglass apply`"
        if isinstance(error, PermissionError):
            hint = f"let this user have ports below 1024 (sysctl net.ipv4.ip_unprivileged_port_start={port}), or name another in [doors.{name}] listen"
        raise Fault(f"the {name} door cannot listen on {host}:{port}: {error.strerror}", hint=hint) from error
    return listener


def serve_dimse(site_dir: Path, assemble: Assemble) -> int:
    """One DIMSE worker; started alone it opens its own listener."""
    handover, alone = _handover()
    house = assemble(site_dir)
    handover.tell(writer=house.writer)
    site = house.site()
    door = site.doors.dimse
    listener = _listen("dimse", door.host, door.port) if alone else handover.socket()
    hall = Hall(
        do=house.do,
        tls=Contexts(house).server,
        limits=site.limits,
        supported=supported_by(door.private_sop_classes),
        services=services(partial(_dial, house), house.register),
    )
    try:
        return dimse.serve(
            hall,
            listener,
            handover,
            zone_of=partial(_zone_of, house),
            generation=lambda: house.containment().generation,
            opened_to=house.present.opened_to,
            still_welcome=house.present.still_welcome,
            upkeep=house.upkeep,
            fatal=house.fatal,
        )
    finally:
        house.close()


def _zone_of(house: House, address: str) -> str:
    """ "" where no zone holds it, and where the site cannot be read just now: then it has a stranger's share."""
    try:
        return house.site().zone_of(address)
    except (Fault, OSError) as fault:
        log.error("the site cannot be read", reason=str(fault))
        return ""


def serve_web(site_dir: Path, assemble: Assemble) -> int:
    """One web worker; started alone it opens its own listeners."""
    from leadglass.doors.processes import web  # the other processes need no web server

    handover, alone = _handover()
    house = assemble(site_dir)
    try:
        site = house.site()
        if site.doors.web is None:
            raise Fault("this site has no web door", hint='[doors.web] listen = "0.0.0.0:443", then `leadglass apply`')
        handover.tell(writer=house.writer)
        if alone:
            first, *further = _listen_for_people(site)
            handover = replace(handover, listener=first.detach(), further=further[0].detach() if further else -1)
        return web.serve(house, handover, web.listeners_of(house, handover))
    finally:
        house.close()


def serve_keeper(site_dir: Path, assemble: Assemble) -> int:
    """The keeper: commands, commitment reports, renewals, watch, metrics."""
    handover, alone = _handover()
    house = assemble(site_dir)
    handover.tell(writer=house.writer)
    commands = _commands(house) if alone else handover.socket()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    handover.die_with_parent(stop)
    try:
        workers = SharedCaps(handover.caps, handover.rows, 0, house.site().limits).workers
        dial = partial(_dial, house)
        return keeper.serve(house, commands, QUESTIONS, dial, workers, stop, lambda: handover.tell(ready=True))
    finally:
        house.close()


def _commands(house: House) -> socket.socket:
    site = house.site()
    return listen(house.site_dir, others=bool(site.enroller or site.filterer))


def _handover() -> tuple[Handover, bool]:
    """What the supervisor handed down; for a process started alone, pipes to nobody and a map of its own."""
    inherited = Handover.inherited()
    if inherited is not None:
        return inherited, False
    report_read, report_write = os.pipe()
    parent_read, _ = os.pipe()
    threading.Thread(target=lambda: os.read(report_read, 65536), daemon=True).start()
    return Handover(report_write, parent_read, caps=SharedCaps.create(1)), True


class Contexts:
    """TLS contexts that follow the site: made again when the generation rises, for the next handshake, and where somebody could resume a session."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._lock = threading.Lock()
        self._made: tuple[int, ssl.SSLContext] | None = None

    def server(self) -> ssl.SSLContext:
        generation = self._house.containment().generation
        with self._lock:
            if self._made is None or self._made[0] != generation or spent(self._made[1]):
                door = self._house.site().doors.dimse
                context = server_context(credentials(self._house), self._house.anchors(), tls_minimum=door.tls_minimum)
                self._made = (generation, context)
            return self._made[1]


def credentials(house: House) -> Path:
    return house.site_dir / DOORS_DIRECTORY / f"{DIMSE_DOOR}.pem"


def _dial(house: House, device: Device, wanted: list[RequestedContext]) -> AbstractContextManager[Requestor]:
    door = house.site().doors.dimse
    context = client_context(credentials(house), house.anchors(), tls_minimum=door.tls_minimum)
    accepts = partial(house.accepts, device)
    return associated(device, context, accepts, wanted, house.site().limits, calling_ae_title=door.ae_title)


ROLES: Mapping[str, Callable[[Path, Assemble], int]] = {"dimse": serve_dimse, "web": serve_web, "keeper": serve_keeper}
