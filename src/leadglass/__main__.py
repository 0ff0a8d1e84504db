"""The entry point, and `assemble`: the one place where concrete parts are chosen and the stages of the path are made of them."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.serialization import Encoding

from leadglass.archive.arrival import Receiver
from leadglass.archive.backends import open_objects
from leadglass.archive.backup import Backup
from leadglass.archive.barrier import Barrier
from leadglass.archive.commit import Commit, CommitParts
from leadglass.archive.conflicts import Conflicts
from leadglass.archive.erasing import Closing, Eraser
from leadglass.archive.index import Index
from leadglass.archive.limits import ArchiveLimits
from leadglass.archive.read import Corrupted, Reader
from leadglass.archive.rebuild import Rebuild, Standings
from leadglass.archive.recovery import Recovery
from leadglass.archive.release import Release
from leadglass.archive.segments import Segments
from leadglass.audit.events import COMMAND
from leadglass.audit.journal.append import JournalWriter
from leadglass.audit.journal.ends import Ends
from leadglass.audit.journal.read import JournalReader, RecoveredJournal
from leadglass.audit.search import AuditAnswer, AuditSearch
from leadglass.audit.transcript import Transcript
from leadglass.doors.blocking import run
from leadglass.doors.command.application import run_application
from leadglass.doors.command.changes import Changes, raise_generation
from leadglass.doors.command.desk import ordered
from leadglass.doors.command.enrolling import EnrolmentParts
from leadglass.doors.command.erasure_changes import ErasureParts
from leadglass.doors.command.kit_changes import KitParts
from leadglass.doors.command.people_changes import PeopleParts
from leadglass.doors.decisions import Decisions
from leadglass.doors.house import House
from leadglass.doors.present import Present
from leadglass.doors.processes.journals import lost
from leadglass.gateway import Stages, keep_watch
from leadglass.identity.certificates import presents
from leadglass.identity.people.desk import Desk
from leadglass.identity.people.sources import Sources
from leadglass.inspection.structure import inspect
from leadglass.lab import command as lab
from leadglass.policy.decide import outside_containment
from leadglass.policy.on_demand import on_demand
from leadglass.site.enrolments import Enrolments
from leadglass.site.format import migrate
from leadglass.site.keyring import Keyring
from leadglass.site.kits import Kits
from leadglass.site.layout import device_authorities
from leadglass.site.model import Site
from leadglass.site.people import People
from leadglass.site.ports import web_address
from leadglass.site.register import Register
from leadglass.site.sitekey import SiteKey
from leadglass.site.write import load_proven
from leadglass.site.writer import Writer
from leadglass.terms import (
    Arrived,
    AuditQuestion,
    Caller,
    ChangeKind,
    Detection,
    Event,
    EventKind,
    Export,
    Fault,
    Found,
    Inspected,
    JournalFault,
    KeyFault,
    Location,
    Peer,
    Permit,
    Proposal,
    Request,
    Settled,
    Severity,
    SignIn,
    Subject,
)
from leadglass.wire.dataset import Scanner

KEEPER_TAKES_SECONDS_MAX = 2.0  # until a transcript says what the search lacks

log = structlog.get_logger()


def assemble(site_dir: Path) -> House:
    """Opens a site for one process: its own writer, journal and segments; store, register and index shared with the others."""
    fatal = threading.Event()
    migrate(site_dir)
    site = load_proven(site_dir)
    site_key = SiteKey.open(site.key, site_dir)
    register = Register.open(site_dir / "register.db", site_key.derive("register"))
    writer = Writer.create(site_dir)
    keyring = Keyring.open(site_dir, site_key, writer)
    journal = JournalWriter.open(writer, keyring, time.time_ns, on_fatal=fatal.set)
    reader = JournalReader.open(site_dir, keyring)
    index = Index.open(site.index, site_dir, site_key.derive("index"))
    present = Present(site_dir, register, lambda: persons.desk)
    told: list[Stages] = []  # the stages that tell: made last, because the archive stands under them

    def tell(found: Iterable[Detection]) -> None:
        run(keep_watch(told[0], found))

    persons = _persons(site_dir, site, site_key, register, present, told)
    decisions = Decisions(present, persons.people, Enrolments(register, site_key.derive("enrolments")), register)
    archive = _Archive(site, site_dir, index, keyring, writer, _Journals(journal, reader, tell), decisions, fatal)
    backup = Backup(site_dir, archive.store, site_key, reader, present.site, archive.standings.still)
    kits = KitParts(Kits(register, site_key.derive("kits")), site_dir, site_key, persons)
    changes = _changes(site_dir, register, present, archive, backup, persons, decisions, kits)
    do = _stages(present, archive, journal, changes, decisions)
    told.append(do)
    return House(
        site_dir=site_dir,
        do=do,
        register=register,
        people=persons.people,
        enrolments=decisions.enrolments,
        exports=decisions.exports,
        erasures=decisions.erasures,
        eraser=archive.eraser,
        kits=kits.kits,
        desk=persons.desk,
        index=index,
        journal=reader,
        ends=Ends(site_dir, site_key),
        standings=archive.standings,
        backups=backup,
        writer=writer.id.hex(),
        fatal=fatal,
        site=present.site,
        containment=present.containment,
        present=present,
        accepts=lambda device, der: presents(device, der, present.containment()),
        containment_unreadable=present.unreadable,
        oldest_unsynced_seconds=journal.oldest_unsynced_seconds,
        recover=lambda dead: _recover_one(archive, dead),
        recover_all=archive.recover_all,
        upkeep=archive.upkeep,
        anchors=lambda: _anchors(site_dir, register),
        usage=lambda from_ns: archive.search.usage(from_ns),
        search=lambda: AuditSearch.open(site_dir, keyring, feeds=True),
        web_address=persons.web_address,
        answers=decisions.inquire,
        close=partial(_close, archive, journal, index, writer, (writer, register, index, keyring)),
    )


def _changes(
    site_dir: Path,
    register: Register,
    present: Present,
    archive: _Archive,
    backup: Backup,
    persons: PeopleParts,
    decisions: Decisions,
    kits: KitParts,
) -> Changes:
    """What does what people change."""
    parts = EnrolmentParts(site_dir, present.site, decisions.enrolments)
    erasing = ErasureParts(decisions.erasures, archive.eraser, persons, lambda: present.site().limits)
    return Changes(
        site_dir,
        register,
        lambda: archive.standings,
        lambda: backup,
        archive.recover_all,
        archive.accept_loss,
        persons,
        parts,
        erasing,
        kits,
    )


def _persons(
    site_dir: Path, site: Site, site_key: SiteKey, register: Register, present: Present, told: list[Stages]
) -> PeopleParts:
    """What knows people, and what changes them."""
    people = People(register)
    sources = Sources(present.site, site_dir, site_key.derive("people/sources"), people.factors)

    def order(kind: ChangeKind, about: str, arguments: Mapping[str, object]) -> object:
        return ordered(told[0], present.owner_uid, kind, about, arguments)

    desk = Desk(
        people, site_key.derive("people"), site.name, vouching=(sources, order), limits=lambda: present.site().sessions
    )
    return PeopleParts(
        people,
        desk,
        lambda: web_address(present.site()),
        partial(raise_generation, site_dir),
        on_demand=lambda: on_demand(present.site()),
    )


def _close(
    archive: _Archive,
    journal: JournalWriter,
    index: Index,
    writer: Writer,
    parts: Iterable[Writer | Register | Index | Keyring],
) -> None:
    """Whatever fails on the way, the rest is closed; a writer is sealed only if nothing did."""
    with contextlib.ExitStack() as last:
        for part in parts:
            last.callback(part.close)
        archive.close()
        journal.close()
        index.make_durable()
        writer.seal()


class _Archive:
    """The archive's parts for one process, each standing on the ones before."""

    def __init__(
        self,
        site: Site,
        site_dir: Path,
        index: Index,
        keyring: Keyring,
        writer: Writer,
        journals: _Journals,
        decisions: Decisions,
        fatal: threading.Event,
    ) -> None:
        limits = ArchiveLimits(
            arrival_memory_max_bytes=site.limits.arrival_memory_max_bytes,
            instance_length_max_bytes=site.limits.instance_length_max_bytes,
            segment_length_max_bytes=site.limits.segment_length_max_bytes,
            segment_age_max_seconds=int(site.limits.segment_age_max_seconds),
            disk_reserve_bytes=site.limits.disk_reserve_bytes,
            claim_wait_seconds=site.limits.claim_wait_seconds,
        )
        self.store = store = open_objects(site.objects, site_dir)
        self.tell = journals.tell

        def stop(why: str) -> None:
            log.error("acknowledging stops", reason=why)
            fatal.set()

        self.segments = Segments(store, writer.id, limits, stop)
        self.receiver = Receiver(self.segments, limits, Scanner)
        self.barrier = Barrier(site_dir / "index", limits.barrier_wait_seconds)
        self.reader = Reader(store, keyring, lambda corrupted: journals.tell([_corruption(corrupted)]))
        self.recovery = Recovery(site_dir, store, index, keyring, self.barrier, journals, journals.before)
        self.closing = Closing(decisions.erasures, keyring, decisions.generation)
        recover = self.recovery.recover
        self.commit = Commit(
            CommitParts(index, self.segments, keyring, self.reader, self.barrier, recover, limits, self.closing.closed)
        )
        self.eraser = Eraser(site_dir, index, keyring, self.barrier, recover)
        self.release = Release(index, self.reader, decisions.rechecker)
        self.index, self._site_dir, self._keyring, self._reader = index, site_dir, keyring, journals.reader
        conflicts = Conflicts(index, self.commit.claims, self.segments, keyring, self.barrier)
        rebuild = Rebuild(site_dir, store, index, keyring, self.barrier, journals.settled)
        self.standings = Standings(conflicts, rebuild)

    def asked(self, request: AuditQuestion, permit: Permit) -> AuditAnswer:
        """Raises StoreFault."""
        search = self.search
        if request.grant is not None:
            return Transcript(request, permit, search, search.lacks(self._reader, KEEPER_TAKES_SECONDS_MAX))
        studies = self.index.studies_of(request.patient) if request.patient is not None else []
        return AuditAnswer(request, permit, search, studies)

    @cached_property
    def search(self) -> AuditSearch:
        """Opened at the first question. Raises StoreFault."""
        return AuditSearch.open(self._site_dir, self._keyring)

    def upkeep(self) -> None:
        """A few times a second: what is due is sealed, and what is to be erased loses this writer's keys."""
        self.segments.seal_if_due()
        self.index.rest()
        try:
            self.closing.destroy()
        except (Fault, OSError) as fault:
            log.error("keys could not be destroyed: it is tried again", reason=str(fault))

    def recover_all(self) -> int:
        """How many writers were dead, or unheard of by the index."""
        return len(self.recovery.recover_all())

    def accept_loss(self, why: str) -> list[str]:
        """As `recover_all`, without what is lost; what that is, each thing told."""
        found: list[str] = []

        def hear(writer: bytes, what: Sequence[str]) -> None:
            self.tell(_lost_instance(writer, each, why) for each in what)
            found.extend(what)

        self.recovery.recover_all(hear)
        return found

    def close(self) -> None:
        self.receiver.close()
        self.commit.close()
        self.segments.close()
        self.barrier.close()
        if "search" in self.__dict__:
            self.search.close()


class _Journals:
    """What recovery and rebuild need of the journals."""

    def __init__(
        self, journal: JournalWriter, reader: JournalReader, tell: Callable[[Iterable[Detection]], None]
    ) -> None:
        self._journal, self.reader, self.tell = journal, reader, tell

    def before(self, writer: Writer) -> None:
        """The torn tail of an adopted writer's journal is cut before its segments are looked at; a gap is told, never a silence."""
        try:
            found = self.reader.recover(writer)
        except (JournalFault, KeyFault) as fault:  # what it had of records is told again from these; care goes on
            self.tell([lost(writer.id.hex(), f"{fault}; {fault.hint}")])
            return
        if found.last > found.durable or found.cut_bytes:
            self.tell([_recovered_journal(found)])

    def stored(self, writer: bytes) -> Iterable[Sequence[Location]] | None:
        return self.reader.stored(writer)

    def lacks(self, settled: Settled, event: Event) -> None:
        self._journal.append(event)

    def settled(self) -> Iterator[Settled]:
        """What stored events say: the fast way to a rebuilt index."""
        return self.reader.settled()


def _recover_one(archive: _Archive, dead: str) -> None:
    recovered = archive.recovery.recover(bytes.fromhex(dead))
    if recovered is not None:
        log.info("a writer was recovered", writer=dead, records=recovered.records, published=recovered.published)


def _recovered_journal(found: RecoveredJournal) -> Detection:
    return Detection(
        EventKind.JOURNAL_RECOVERED,
        Severity.NOTICE,
        found.writer.hex(),
        "a process ended before its last events were synced: those are told again from the records, others are gone",
        {"unsynced_from": found.durable + 1, "unsynced_to": found.last, "cut_bytes": found.cut_bytes},
    )


def _lost_instance(writer: bytes, what: str, why: str) -> Detection:
    reason = f"what had settled is lost, and an operator goes on without it ({why}): {what}"
    return Detection(EventKind.INSTANCE_CORRUPTED, Severity.ALARM, f"writer {writer.hex()}", reason)


def _corruption(corrupted: Corrupted) -> Detection:
    location = corrupted.settled.location
    return Detection(
        EventKind.INSTANCE_CORRUPTED,
        Severity.ALARM,
        f"{location.segment} at {location.offset}",
        "what rests is not what was kept: restore this instance from the replica or a backup",
        {"segment": location.segment, "record": location.record, "version": corrupted.settled.version},
    )


def _stages(
    present: Present, archive: _Archive, journal: JournalWriter, changes: Changes, decisions: Decisions
) -> Stages:
    async def who(peer: Peer, proposal: Proposal) -> Subject:
        return present.subject(peer, proposal)

    async def which_person(peer: Peer, claim: SignIn) -> Caller:
        caller = changes.people.desk.recognise(peer, claim)
        outside_containment(present.site(), present.containment(), caller)
        return caller

    async def checked(arrived: Arrived) -> Inspected:
        return inspect(arrived)

    async def record(event: Event) -> None:
        stranger = event.kind in (EventKind.ASSOCIATION_REFUSED, EventKind.PERSON_REFUSED) and not event.actor
        if stranger or event.action == COMMAND:
            journal.note_refusal(event)  # before identity, or before any request: budgeted
        else:
            journal.record(event)

    def note(event: Event) -> None:
        journal.append(event)

    async def open_for(request: Request, permit: Permit) -> Found:
        if isinstance(request, AuditQuestion):
            return archive.asked(request, permit)
        found = await archive.release.open(request, permit)
        if isinstance(request, Export):
            decisions.spend(request, permit)
        return found

    return Stages(
        identify=who,
        recognise=which_person,
        decide=decisions.decide,
        receive=archive.receiver.receive,
        inspect=checked,
        claim=archive.commit.claim,
        keep=archive.commit.keep,
        publish=archive.commit.publish,
        open=open_for,
        record=record,
        note=note,
        authorise=decisions.authorise,
        perform=changes.perform,
    )


def _anchors(site_dir: Path, register: Register) -> list[str]:
    """Who may vouch for a peer: the device CAs, and each pinned certificate of a foreign PKI for itself."""
    ours = [each.public_bytes(Encoding.PEM).decode() for each in device_authorities(site_dir)]
    return ours + [each.pem for each in register.certificates() if each.kind == "pinned" and each.state != "revoked"]


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
    return run_application(assemble, more=(lab,))


if __name__ == "__main__":
    sys.exit(main())
