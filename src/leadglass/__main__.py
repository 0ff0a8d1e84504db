"""The entry point, and `assemble`: the one place where concrete parts are chosen and the stages of the path are made of them."""

from __future__ import annotations

import datetime as dt
import logging
import sys
import threading
import time
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.serialization import Encoding

from leadglass.archive.archive import Archive
from leadglass.archive.backends import open_objects
from leadglass.archive.index import Index
from leadglass.audit.journal.append import JournalWriter
from leadglass.audit.journal.read import JournalReader
from leadglass.doors.command.application import run_application
from leadglass.doors.command.changes import Changes
from leadglass.doors.house import House
from leadglass.gateway import Stages
from leadglass.identity.certificates import Enrolled, identify, presents
from leadglass.inspection.structure import inspect
from leadglass.policy.authorise import authorise
from leadglass.policy.containment import Watch
from leadglass.policy.decide import decide
from leadglass.site.keyring import Keyring
from leadglass.site.layout import device_authorities
from leadglass.site.write import load_proven
from leadglass.site.model import Site
from leadglass.site.register import Register
from leadglass.site.sitekey import SiteKey
from leadglass.site.writer import Writer
from leadglass.terms import (
    Arrived,
    Change,
    ChangePermit,
    Containment,
    Event,
    EventKind,
    Inspected,
    Peer,
    Permit,
    Proposal,
    Request,
    Subject,
)

log = structlog.get_logger()


class Present:
    """What holds at this moment: the proven site, the containment state, the waivers; read again when the generation rises."""

    def __init__(self, site_dir: Path, register: Register) -> None:
        self._site_dir, self._register = site_dir, register
        self._watch = Watch(site_dir)
        self._lock = threading.Lock()
        self._seen: tuple[int, Site, Enrolled] | None = None

    def containment(self) -> Containment:
        return self._watch.current()

    def unreadable(self) -> bool:
        return self._watch.unreadable

    def site(self) -> Site:
        return self._now()[1]

    def enrolled(self) -> Enrolled:
        return self._now()[2]

    def _now(self) -> tuple[int, Site, Enrolled]:
        containment = self._watch.current()
        seen = self._seen
        if seen is not None and seen[0] == containment.generation:
            return seen
        with self._lock:
            site = load_proven(self._site_dir)
            waivers = {
                each.fingerprint: (each.id, dt.datetime.fromtimestamp(each.until_ns / 1e9, dt.UTC))
                for each in self._register.waivers()
            }
            enrolled = Enrolled(site.devices, site.doors.dimse.ae_title, containment, waivers)
            self._seen = (containment.generation, site, enrolled)
            return self._seen


def assemble(site_dir: Path) -> House:
    """Opens a site for one process: its own writer, journal and segments; store, register and index shared with the others."""
    fatal = threading.Event()
    site = load_proven(site_dir)
    site_key = SiteKey.open(site.key, site_dir)
    register = Register.open(site_dir / "register.db", site_key.derive("register"))
    writer = Writer.create(site_dir)
    keyring = Keyring.open(site_dir, site_key, writer)
    journal = JournalWriter.open(writer, keyring, time.time_ns, on_fatal=fatal.set)
    reader = JournalReader.open(site_dir, keyring)
    index = Index.open(site.index, site_dir, site_key.derive("index"))
    archive = Archive(
        site_dir=site_dir,
        objects=open_objects(site.objects, site_dir),
        index=index,
        keyring=keyring,
        writer=writer,
        journal=reader,
        limits=site.limits,
        on_fatal=fatal.set,
    )
    present = Present(site_dir, register)
    changes = Changes(site_dir, register, lambda: archive)
    do = _stages(present, archive, journal, changes)

    def still_welcome(subject: Subject) -> None:
        known = identify(present.enrolled(), subject.peer, subject.proposal, dt.datetime.now(dt.UTC))
        decide(present.site(), present.containment(), known, subject.proposal)

    def close() -> None:
        archive.close()
        journal.close()
        index.close()
        register.close()
        writer.close()

    return House(
        site_dir=site_dir,
        do=do,
        register=register,
        index=index,
        journal=reader,
        keyring=keyring,
        standings=archive,
        writer=writer.id.hex(),
        fatal=fatal,
        site=present.site,
        containment=present.containment,
        still_welcome=still_welcome,
        accepts=lambda device, der: presents(device, der, present.containment()),
        containment_unreadable=present.unreadable,
        oldest_unsynced_seconds=journal.oldest_unsynced_seconds,
        clock_note=_clock_note,
        recover=archive.recover,
        recover_all=archive.recover_all,
        anchors=lambda: _anchors(site_dir, register),
        close=close,
    )


def _stages(present: Present, archive: Archive, journal: JournalWriter, changes: Changes) -> Stages:
    async def who(peer: Peer, proposal: Proposal) -> Subject:
        return identify(present.enrolled(), peer, proposal, dt.datetime.now(dt.UTC))

    def may(subject: Subject, request: Request | Proposal) -> Permit:
        return decide(present.site(), present.containment(), subject, request)

    async def checked(arrived: Arrived) -> Inspected:
        return inspect(arrived)

    async def record(event: Event) -> None:
        if event.kind is EventKind.ASSOCIATION_REFUSED and not event.actor:
            journal.note_stranger(event)  # before identity: budgeted, never a sync of its own
        else:
            journal.record(event)

    def note(event: Event) -> None:
        journal.append(event)

    def allowed(change: Change) -> ChangePermit:
        return authorise(present.site(), present.containment(), change)

    return Stages(
        identify=who,
        decide=may,
        receive=archive.receive,
        inspect=checked,
        claim=archive.claim,
        keep=archive.keep,
        publish=archive.publish,
        open=archive.open,
        record=record,
        note=note,
        authorise=allowed,
        perform=changes.perform,
    )


def _anchors(site_dir: Path, register: Register) -> list[str]:
    """Who may vouch for a peer: the device CAs, and each pinned certificate of a foreign PKI for itself."""
    ours = [each.public_bytes(Encoding.PEM).decode() for each in device_authorities(site_dir)]
    return ours + [each.pem for each in register.certificates() if each.kind == "pinned" and each.state != "revoked"]


def _clock_note() -> str:
    kept = any(Path(each).exists() for each in ("/run/systemd/timesync/synchronized", "/run/chrony"))
    return (
        "kept by this host's time service" if kept else "kept by nothing that we can see: expiry and waivers follow it"
    )


def main() -> int:
    """`leadglass`."""
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    return run_application(assemble)


if __name__ == "__main__":
    sys.exit(main())
