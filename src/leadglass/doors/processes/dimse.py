"""`leadglass serve dimse`: one DIMSE worker. Admits, serves, obeys containment within a second, drains on SIGTERM."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from leadglass import gateway
from leadglass.doors.blocking import run
from leadglass.doors.dimse.conversation import Conversation, Hall
from leadglass.doors.dimse.reception import Reception
from leadglass.doors.processes.caps import SharedCaps
from leadglass.doors.processes.handover import Handover
from leadglass.doors.processes.memory import FreeMemory
from leadglass.terms import Fault, OpenFlow, Overloaded, Peer, Refused, Request, Subject, UnknownDestination

THREADS_PER_ZONE_MAX = 96  # of them: a zone whose devices all send at once leaves room for the others
THREADS_MAX = 128  # associations in the middle of a message; the others are parked
WATCH_EVERY_SECONDS = 0.2  # how late a worker may look at the containment state
DRAIN_SECONDS = 20.0

log = structlog.get_logger()


def serve(
    hall: Hall,
    listener: socket.socket,
    handover: Handover,
    *,
    zone_of: Callable[[str], str],
    generation: Callable[[], int],
    opened_to: Callable[[str], tuple[OpenFlow, ...]],
    still_welcome: Callable[[Subject], None],
    upkeep: Callable[[], None],
    fatal: threading.Event,
) -> int:
    """Serves until SIGTERM, the parent's end or a fatal fault; the exit code.

    `generation` rises when site or containment change; then `still_welcome` is asked about everybody in the house and raises Refused. So it is
    about a device when other flows on demand are `opened_to` it.
    `fatal` is set where acknowledging must stop at once (fsync failed).
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the supervisor, which says SIGTERM
    handover.die_with_parent(stop)
    caps = SharedCaps(handover.caps, handover.rows, handover.row, hall.limits)
    reception = Reception(
        listener,
        lambda sock, name: Conversation(hall, sock, name),
        caps,
        threads_max=THREADS_MAX,
        threads_per_zone_max=THREADS_PER_ZONE_MAX,
        zone_of=zone_of,
        busy=lambda address, limit: _turn_away(hall, address, limit),
    )
    guard = Guard(hall, generation, opened_to, still_welcome)
    watch = threading.Thread(target=_watch, args=(reception, caps, guard, upkeep, stop, fatal), name="containment")
    watch.start()
    door = threading.Thread(target=reception.run, name="reception")
    door.start()
    handover.tell(ready=True)
    stop.wait()
    reception.stop(0.0 if fatal.is_set() else DRAIN_SECONDS)
    door.join()
    watch.join()
    return 1 if fatal.is_set() else 0


def _turn_away(hall: Hall, address: str, limit: str) -> None:
    """Before identity, so within the budget of what strangers make us write. A journal that is full or broken ends no door."""
    refusal = Overloaded(f"more connections than limits.{limit} from there: find out what calls so often")
    try:
        run(gateway.turn_away(hall.do, Peer(address, 0, hall.door), refusal))
    except Fault as fault:
        log.error("a refusal could not be recorded", address=address, reason=str(fault))


def _watch(
    reception: Reception,
    caps: SharedCaps,
    guard: Guard,
    upkeep: Callable[[], None],
    stop: threading.Event,
    fatal: threading.Event,
) -> None:
    seen, free = guard.generation(), FreeMemory()
    caps.serves(seen)
    while not stop.wait(WATCH_EVERY_SECONDS):
        if fatal.is_set():
            stop.set()
            return
        upkeep()
        free.give_back()
        now = guard.generation()
        try:
            guard.show_out(reception, now)
        except (Fault, OSError) as fault:  # a site that cannot be read just now is looked at again: nobody is forgotten
            log.error("who is in the house could not be looked at", reason=str(fault))
            continue
        if now != seen:
            seen = now
            caps.serves(now)  # said when nobody is left whom it does not let in any more


@dataclass(frozen=True, slots=True)
class Guard:
    """Looks again at who is in the house, and at what they are in the middle of."""

    hall: Hall
    generation: Callable[[], int]
    opened_to: Callable[[str], tuple[OpenFlow, ...]]
    still_welcome: Callable[[Subject], None]

    def show_out(self, reception: Reception, generation: int) -> None:
        """Of those who were looked at under another generation or with other flows open, and of those whose time is over: what ends by the clock
        raises none. Raises Fault, OSError."""
        now_ns = time.time_ns()
        for visitor in reception.visitors():
            if not isinstance(visitor, Conversation) or (subject := visitor.subject) is None:
                continue
            known = (generation, self.opened_to(subject.device.name))
            if visitor.known == known and not _over(subject, now_ns):
                continue
            try:
                self.still_welcome(subject)
                self._still_permitted(visitor.request)
            except Refused as refusal:
                log.info("association cut", device=subject.device.name, reason=refusal.reason)
                visitor.cut(refusal.reason)
            visitor.known = known

    def _still_permitted(self, request: Request | None) -> None:
        """Whoever may stay may not go on with everything. Raises Refused."""
        if request is None:
            return
        try:
            self.hall.do.decide(request.subject, request)
        except UnknownDestination as gone:  # that is the destination's end: whoever asked hears of it in the answer
            if gone.rule:
                raise


def _over(subject: Subject, now_ns: int) -> bool:
    return subject.caller is not None and 0 < subject.caller.until_ns <= now_ns
