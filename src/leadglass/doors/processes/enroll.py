"""`leadglass serve enroll`: signs what people asked for at the console, under a uid of its own, with the one key that the site's own user cannot read.

It opens no file of the site's but the authorities' certificates, and speaks to the keeper's command socket alone, where policy lets its uid do
nothing else. It keeps nothing: stopped and started at any time, it asks what waits and goes on.
"""

from __future__ import annotations

import base64
import datetime as dt
import io
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509

from leadglass.doors.command.desk import Desk, RemoteDesk
from leadglass.doors.command.device import sheet_of
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.processes.notify import notify
from leadglass.identity.authority import Authority, KeyKind
from leadglass.identity.enrolment import bundle, enroll, sign
from leadglass.site.device_facts import device_table, flow_table
from leadglass.site.layout import anchors
from leadglass.terms import ChangeKind, Unenrollable

POLL_SECONDS = 1.0
RETRY_SECONDS = 30.0  # after the site could not do it: a full disk does not empty within a second
_PRIVATE = 0o600

log = structlog.get_logger()
Row = Mapping[str, Any]


def serve(site_dir: Path, authority: Authority) -> int:
    """Until SIGTERM or SIGINT."""
    stop = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    trusted = anchors(site_dir)
    enroller = Enroller(authority, trusted)
    print("ready enroll", flush=True)
    notify("READY=1")
    enroller.until(stop, lambda: RemoteDesk(site_dir))
    notify("STOPPING=1")
    return 0


class Enroller:
    """Holds the open device CA. `trusted`: what a device must trust, for its bundle."""

    def __init__(self, authority: Authority, trusted: list[x509.Certificate]) -> None:
        self._authority, self._trusted = authority, trusted
        self._later: dict[str, float] = {}
        self._silent = ""

    def until(self, stop: threading.Event, connect: Callable[[], Desk]) -> None:
        while not stop.wait(POLL_SECONDS):
            try:
                desk = connect()
                self.once(desk)
            except (Stopped, OSError) as error:
                self._unheard(str(error))
                continue
            self._silent = ""

    def once(self, desk: Desk) -> None:
        """Settles whatever waits now. Raises Stopped where the site does not answer."""
        waiting = list(desk.ask("enrolments", {}))
        ids = {row["id"] for row in waiting}
        self._later = {each: when for each, when in self._later.items() if each in ids}
        for row in waiting:
            if self._later.get(row["id"], 0.0) <= time.monotonic():
                self._settle(desk, row)

    def _settle(self, desk: Desk, row: Row) -> None:
        told = {"enrolment": row["id"], "digest": row["digest"]}
        try:
            kind = ChangeKind.DEVICE_RENEW if row["renewal"] else ChangeKind.DEVICE_ENROLL
            desk.change(kind, row["name"], {**told, **self.signed(row)})
            log.info("a device was enrolled", device=row["name"], enrolment=row["id"])
            return
        except Unenrollable as refusal:
            reason = refusal.reason
        except Stopped as stopped:
            log.error("an enrolment was not taken", device=row["name"], enrolment=row["id"], reason=str(stopped))
            self._later[row["id"]] = time.monotonic() + RETRY_SECONDS
            if stopped.code is not Exit.NOT_ALLOWED:
                return  # the site has said so to who asked, or could not do it now
            reason = str(stopped)
        try:
            desk.change(ChangeKind.DEVICE_DECLINE, row["name"], {**told, "reason": reason})
        except Stopped as stopped:
            log.error("an enrolment was not declined", device=row["name"], enrolment=row["id"], reason=str(stopped))

    def signed(self, row: Row) -> dict[str, object]:
        """Of what waits: certificate and bundle, of a new one device and flow too; of one that was begun what was issued then. Raises Unenrollable."""
        facts = row["facts"]
        if row["certificate"]:
            certificate, packed = row["certificate"], b""
        else:
            now = dt.datetime.now(dt.UTC)
            if row["csr"]:
                issued, key = sign(self._authority, row["name"], row["csr"].encode(), now), None
            else:
                issued, key = enroll(self._authority, row["name"], KeyKind.EC, now)
            certificate = issued.facts()
            packed = archive(row["name"], bundle(issued, key, self._trusted, sheet_of(facts, row)))
        issued_now = {"certificate": certificate, "kind": "issued", "bundle": base64.b64encode(packed).decode()}
        if row["renewal"]:
            return issued_now
        return {"device": device_table(facts, certificate["fingerprint"]), "flow": flow_table(facts), **issued_now}

    def _unheard(self, reason: str) -> None:
        """Once for each reason: the site may be down for long."""
        if reason != self._silent:
            log.warning(
                "the site's command socket does not answer",
                reason=reason,
                mend="is the site up, and may this user reach it?",
            )
        self._silent = reason


def archive(name: str, files: Mapping[str, bytes]) -> bytes:
    """A zip of the bundle, in a folder of the device's name."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as packed:
        for file, content in files.items():
            entry = zipfile.ZipInfo(f"{name}/{file}", time.gmtime()[:6])
            entry.external_attr = (0o100000 | _PRIVATE) << 16
            packed.writestr(entry, content)
    return written.getvalue()
