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

from leadglass.audit.journal.cursors import Cursors
from leadglass.audit.journal.read import JournalReader
from leadglass.site.model import Site
from leadglass.terms import Fault, JournalFault
from leadglass.watch.notices.channels import Channel, channels
from leadglass.watch.notices.compose import Notice, notice_of, together

POLL_SECONDS = 0.5
RETRY_SECONDS_MAX = 60.0
BATCH_EVENTS_MAX = 10_000

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

    def run(self, stop: threading.Event) -> None:
        """Until `stop`."""
        failures = 0
        while not stop.wait(min(RETRY_SECONDS_MAX, POLL_SECONDS * 2**failures)):
            try:
                while self._send_what_waits() and not stop.is_set():
                    pass
                failures = 0
                self._caught_up()
            except (Fault, OSError) as fault:
                failures = min(failures + 1, 20)
                log.error("a notice waits", channel=self._channel.name, reason=str(fault), failures=failures)

    def _send_what_waits(self) -> bool:
        """True where there may be more."""
        read, waiting = [], list[Notice]()
        for recorded in self._journal.read(self._since):
            read.append(recorded)
            notice = notice_of(recorded.event, recorded.at_ns)
            if notice is not None:
                waiting.append(notice)
            if len(read) == BATCH_EVENTS_MAX:
                break
        if not read:
            return False
        if waiting:
            first = f"{self._since.to_json()} {waiting[0].first_ns}"
            self._channel.send(together(waiting), hashlib.sha256(first.encode()).hexdigest()[:32])
        after = self._since.after(read)
        if waiting or len(read) == BATCH_EVENTS_MAX:
            after.save(self._path)  # where nothing was said, reading it again after a restart costs nothing
        self._since = after
        return len(read) == BATCH_EVENTS_MAX


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
