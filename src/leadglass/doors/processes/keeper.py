"""`leadglass serve keeper`: answers commands, reports commitments, retires renewed certificates, watches. The doors go on without it."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from http.server import ThreadingHTTPServer

import structlog

from leadglass import gateway
from leadglass.audit.journal.ends import End
from leadglass.doors.blocking import Entered, run
from leadglass.doors.command.answering import answer_commands
from leadglass.doors.command.desk import changed
from leadglass.doors.command.exits import Stopped
from leadglass.doors.dimse.services.commitment import SUCCESS, report_there
from leadglass.doors.dimse.services.move import Dial
from leadglass.doors.house import House, Question, Serving, Worker
from leadglass.doors.processes.erasing import Erasing
from leadglass.doors.processes.journals import JournalWatch
from leadglass.doors.processes.memory import FreeMemory
from leadglass.doors.processes.metrics import serve_metrics
from leadglass.doors.processes.network import Network
from leadglass.doors.processes.sweeps import Sweeps
from leadglass.identity.doors import renew_doors
from leadglass.identity.people.seats import JWT
from leadglass.site.register import PendingCommitment
from leadglass.terms import (
    ChangeKind,
    Commitment,
    Device,
    EventKind,
    Fault,
    JournalFault,
    Outcome,
    Peer,
    Proposal,
    Refused,
    Subject,
)
from leadglass.watch.broken import named_once
from leadglass.watch.clock import StepWatch
from leadglass.watch.containment import ReadableWatch
from leadglass.watch.expiry import ExpiryWatch
from leadglass.watch.glass import GlassWatch
from leadglass.watch.notices import deliver as notices

TICK_SECONDS = 0.5
RETRY_SEARCH_SECONDS = 5.0
WATCH_EVERY_SECONDS = 60.0
RETRY_SECONDS_MAX = 300.0
REPORTS_TRIED_MAX = 50  # over about four hours; then the commitment is dropped with an event, as a modality asks again

KEEPER = Peer("", 0, "keeper")

log = structlog.get_logger()


def serve(
    house: House,
    commands: socket.socket,
    questions: Mapping[str, Question],
    dial: Dial,
    workers: Callable[[], Sequence[Worker]],
    stop: threading.Event,
    ready: Callable[[], None],
) -> int:
    """Until `stop`; 1 where acknowledging had to stop."""
    renewals, searching = Consumer(), Consumer()
    sweeps, network = Sweeps(house, partial(_change, house)), Network(house)
    journals = JournalWatch(house.journal, house.ends)
    told = notices.start(house.site(), house.journal, stop)
    house = replace(
        house,
        serving=Serving(
            workers,
            lambda: {"renewals": renewals.lag_seconds(), "search": searching.lag_seconds(), **told()},
            "",
            network,
            sweeps.silent,
            journals.broken,
        ),
    )
    metrics = serve_metrics(house)
    if metrics is not None and house.serving is not None:
        house = replace(house, serving=replace(house.serving, metrics="{}:{}".format(*metrics.server_address[:2])))
    answering = threading.Thread(target=answer_commands, args=(commands, house, questions, stop), name="commands")
    renewing = threading.Thread(target=_retire_renewed, args=(house, stop, renewals), name="renewals", daemon=True)
    feeding = threading.Thread(target=_feed_search, args=(house, stop, searching), name="search")
    threading.Thread(target=sweeps.until, args=(stop,), name="directories", daemon=True).start()
    for each in (answering, feeding, renewing):
        each.start()
    reports, erasing = Reports(house, dial), Erasing(house, workers, partial(_change, house))
    expiry, steps, containment, glass = ExpiryWatch(), StepWatch(), ReadableWatch(), GlassWatch()
    ready()
    watched, free = 0.0, FreeMemory()
    while not stop.wait(TICK_SECONDS) and not house.fatal.is_set():
        house.index.checkpoint()
        house.upkeep()
        free.give_back()
        erasing.look()
        reports.send_due()
        house.containment()
        stepped = tuple(steps.notice(time.time_ns(), time.monotonic_ns()))
        found = (*stepped, *containment.notice(house.containment_unreadable()), *network.notice())
        run(gateway.keep_watch(house.do, (*found, *journals.notice(time.monotonic()))))
        if stepped or time.monotonic() - watched >= WATCH_EVERY_SECONDS:
            watched = time.monotonic()
            run(gateway.keep_watch(house.do, expiry.notice(house.register.certificates(), time.time_ns())))
            run(gateway.keep_watch(house.do, glass.notice(house.people.access.glass(unreviewed=True), time.time_ns())))
            _renew_doors(house)
            _lapse(house)
    _last_words(house, network, journals, metrics)
    stop.set()
    for each in (answering, feeding):
        each.join()
    return 1 if house.fatal.is_set() else 0


def _last_words(house: House, network: Network, journals: JournalWatch, metrics: ThreadingHTTPServer | None) -> None:
    """What was to be summed up later is told now."""
    if metrics is not None:
        metrics.shutdown()
    if not house.fatal.is_set():
        run(gateway.keep_watch(house.do, network.notice(last=True)))
        run(gateway.keep_watch(house.do, journals.notice(time.monotonic(), last=True)))


def _renew_doors(house: House) -> None:
    for door in renew_doors(house.site(), dt.datetime.now(dt.UTC)):
        _change(house, ChangeKind.DOOR_RENEW, door, {})


def _lapse(house: House) -> None:
    """What nobody signed or collected in time is over, and its bundle gone; what nobody fetched of a recovery kit is forgotten."""
    for each in house.enrolments.overdue(time.time_ns()):
        _change(house, ChangeKind.DEVICE_LAPSE, each.name, {"enrolment": each.id})
    for kit in house.kits.overdue(time.time_ns()):
        _change(house, ChangeKind.KIT_LAPSE, kit, {})


def _change(house: House, kind: ChangeKind, about: str, arguments: dict[str, object]) -> None:
    try:
        changed(house, house.site_dir.stat().st_uid, kind, about, arguments)
    except Stopped as stopped:
        log.error("a change by the keeper failed", kind=kind, about=about, reason=str(stopped))


class Consumer:
    """How far behind is somebody who follows the journal?"""

    def __init__(self) -> None:
        self._caught_up = time.monotonic()

    def caught_up(self) -> None:
        self._caught_up = time.monotonic()

    def lag_seconds(self) -> float:
        """Since it had last read everything; a poll's length where it keeps up."""
        return round(time.monotonic() - self._caught_up, 1)


def _feed_search(house: House, stop: threading.Event, consumer: Consumer) -> None:
    """What people did becomes findable; where that cannot be, the journal keeps it until it can."""
    broken = named_once("the audit search lacks what a broken journal holds")
    while not stop.is_set():
        try:
            with contextlib.closing(house.search()) as search:
                search.follow(house.journal, TICK_SECONDS, stop, consumer.caught_up, broken)
        except Fault as fault:
            log.error("the audit search does not follow", reason=str(fault))
            stop.wait(RETRY_SEARCH_SECONDS)


def _retire_renewed(house: House, stop: threading.Event, consumer: Consumer) -> None:
    """A renewed certificate was used for the first time: the older ones of that device are superseded from then on."""
    broken = named_once("a renewed certificate may be in use that a broken journal tells of")
    since = house.journal.end(_noted(house))
    for recorded in house.journal.follow(TICK_SECONDS, stop, since, consumer.caught_up, broken):
        event = recorded.event
        if event.kind is not EventKind.ASSOCIATION_ADMITTED:
            continue
        known = [
            each
            for each in house.register.certificates()
            if each.device == event.actor and each.state in ("issued", "active")
        ]
        used = next((each for each in known if each.fingerprint == event.fingerprint), None)
        if used is None:
            continue
        if used.state == "issued":
            house.register.set_certificate_state(used.fingerprint, "active")
        older = [each.fingerprint for each in known if each.issued_ns < used.issued_ns]
        if older:
            reason = "its renewed certificate was used"
            _change(house, ChangeKind.DEVICE_SUPERSEDE, event.actor, {"fingerprints": older, "reason": reason})


def _noted(house: House) -> Mapping[bytes, End] | None:
    try:
        return house.ends.noted()
    except JournalFault:  # the watch says so
        return None


class Reports:
    """Storage commitments that wait for their N-EVENT-REPORT: read afresh, sent on a new association, tried again until heard."""

    def __init__(self, house: House, dial: Dial) -> None:
        self._house, self._dial = house, dial
        self._due: dict[int, float] = {}
        self._tried: dict[int, int] = {}

    def send_due(self) -> None:
        now = time.monotonic()
        for pending in self._house.register.pending_commitments():
            if self._due.get(pending.id, 0.0) > now:
                continue
            tried = self._tried[pending.id] = self._tried.get(pending.id, 0) + 1
            if self._send(pending) or tried >= REPORTS_TRIED_MAX:
                self._house.register.commitment_reported(pending.id)
                self._due.pop(pending.id, None)
                self._tried.pop(pending.id, None)
            else:
                self._due[pending.id] = now + min(RETRY_SECONDS_MAX, 0.5 * 2**tried)

    def _asked_by(self, pending: PendingCommitment, device: Device, called_ae_title: str) -> Subject:
        """The device, and whoever sat at it then, for as long as their session lasts: the report says what they may see. Raises NotIdentified."""
        if not pending.session:
            machine = self._house.desk.machine_at(device.name, KEEPER)
            return Subject(device, KEEPER, Proposal(pending.calling_ae_title, called_ae_title), "", caller=machine)
        caller = self._house.desk.in_session(pending.session, KEEPER)
        proposal = Proposal(pending.calling_ae_title, called_ae_title, user_identity_type=JWT)  # known by their session
        return Subject(device, KEEPER, proposal, "", caller=caller)

    def _send(self, pending: PendingCommitment) -> bool:
        """True where nothing more is to be done about it."""
        device = self._house.site().devices.get(pending.device)
        if device is None or not device.address:
            log.warning("a commitment report has nowhere to go", device=pending.device)
            return True
        called = self._house.site().doors.dimse.ae_title
        try:
            subject = self._asked_by(pending, device, called)
            request = Commitment(subject, pending.transaction_uid, pending.references)
            with Entered(gateway.release(self._house.do, request)) as found:
                status = report_there(found, device, self._dial)
                found.progress.outcome = Outcome.SUCCESS if status == SUCCESS else Outcome.FAILED
                found.progress.reason = "" if status == SUCCESS else f"the device answered {status:04X}H"
        except Refused as refusal:
            if not refusal.recorded:
                refusal.subject = refusal.subject or Subject(device, KEEPER, Proposal("", called), "")
                run(gateway.turn_away(self._house.do, KEEPER, refusal))
            log.warning("a commitment may no longer be reported", device=device.name, reason=refusal.reason)
            return True
        except Fault as fault:
            log.warning("a commitment report was not heard", device=device.name, reason=str(fault))
            return False
        return True
