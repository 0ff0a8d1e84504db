"""Is everybody told, once, even after a restart? Follows the journal behind a durable cursor; what cannot be sent waits there.

Each channel has a cursor of its own: one that is down holds up no other. All that waits goes out as one message, each thing in it counted.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from leadglass.audit.codec import Recorded
from leadglass.audit.journal.cursors import Cursors
from leadglass.audit.journal.read import JournalReader
from leadglass.site.model import Site
from leadglass.terms import Fault, JournalFault
from leadglass.watch.broken import named_once
from leadglass.watch.notices.channels import Channel, channels
from leadglass.watch.notices.compose import Notice, notice_of, together

POLL_SECONDS = 0.5
RETRY_SECONDS_MAX = 60.0

log = structlog.get_logger()


class Delivery:
    """One channel's thread."""

    def __init__(self, channel: Channel, journal: JournalReader, cursor: Path, caught_up: Callable[[], None]) -> None:
        self._channel, self._journal, self._path, self._caught_up = channel, journal, cursor, caught_up
        if cursor.exists():
            self._since = Cursors.load(cursor)
        else:  # what happened before anybody was to be told is not news
            self._since = journal.end()
            self._since.save(cursor)
        self._read: dict[bytes, Recorded] = {}  # the last of each writer since then
        self._waiting: tuple[Notice, ...] = ()
        self._failures, self._due = 0, 0.0
        self._broken = named_once(f"what a broken journal holds is not told by {channel.name}")

    def run(self, stop: threading.Event) -> None:
        """Until `stop`."""
        while not stop.is_set():
            try:
                for recorded in self._journal.follow(POLL_SECONDS, stop, self._since, self._tell, self._broken):
                    self._read[recorded.writer] = recorded
                    notice = notice_of(recorded.event, recorded.at_ns)
                    if notice is not None:
                        self._waiting = together((*self._waiting, notice))
            except (Fault, OSError) as fault:
                log.error("the journal cannot be followed", channel=self._channel.name, reason=str(fault))
                self._read, self._waiting = {}, ()  # read again from the cursor
                stop.wait(RETRY_SECONDS_MAX)

    def _tell(self) -> None:
        """All that was read is looked at: what waits goes out, or is tried again later. Raises OSError where the cursor cannot be kept."""
        if not self._waiting:
            self._caught_up()
        elif time.monotonic() >= self._due and self._sent():
            self._since = self._since.after(self._read.values())
            self._since.save(self._path)
            self._read, self._waiting, self._failures = {}, (), 0
            self._caught_up()

    def _sent(self) -> bool:
        exactly = f"{self._since.to_json()} {self._waiting}"  # the same message has the same id, one that grew meanwhile another
        try:
            self._channel.send(self._waiting, hashlib.sha256(exactly.encode()).hexdigest()[:32])
        except (Fault, OSError) as fault:
            self._failures += 1
            self._due = time.monotonic() + min(RETRY_SECONDS_MAX, POLL_SECONDS * 2 ** min(self._failures, 20))
            log.error("a notice waits", channel=self._channel.name, reason=str(fault), failures=self._failures)
            return False
        return True


def start(site: Site, journal: JournalReader, stop: threading.Event) -> Callable[[], dict[str, float]]:
    """A thread for each channel of the site file; gives how many seconds each is behind."""
    behind: dict[str, float] = {}
    for channel in channels(site):
        name = f"notices-{channel.name}"
        behind[name] = time.monotonic()

        def caught_up(name: str = name) -> None:
            behind[name] = time.monotonic()

        try:
            delivery = Delivery(channel, journal, site.path / "state" / f"{name}.cursor", caught_up)
        except (JournalFault, OSError) as fault:
            log.error("nobody is told", channel=channel.name, reason=str(fault))
            continue
        threading.Thread(target=delivery.run, args=(stop,), name=name, daemon=True).start()
    return lambda: {name: round(time.monotonic() - at, 1) for name, at in behind.items()}
