"""Events as the gateway writes them, for the journal's tests, and a site to write them into."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from leadglass.audit.journal.append import JournalWriter
from leadglass.audit.journal.read import JournalReader, RecoveredJournal
from leadglass.site.keyring import Keyring
from leadglass.site.sitekey import SiteKey
from leadglass.site.writer import Writer
from leadglass.terms import (
    Event,
    EventKind,
    HoldReason,
    Instance,
    Location,
    Outcome,
    PatientIdentity,
    Settled,
    Standing,
)

PATIENT = PatientIdentity("PAT-4711", "HOSPITAL")
STUDY, SOP = "1.2.840.4711", "1.2.840.4711.1.1"


def admitted(number: int = 0) -> Event:
    return Event(
        EventKind.ASSOCIATION_ADMITTED,
        Outcome.SUCCESS,
        actor="CT1",
        address="10.20.1.11",
        action="associate",
        rule="ct-stores",
        fingerprint="sha256:00",
        details={"calling": "CT1", "number": number},
    )


def stored(record: int = 1) -> Event:
    """Everything that an index needs."""
    instance = Instance(
        SOP,
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.840.10008.1.2.1",
        STUDY,
        STUDY + ".1",
        PATIENT,
        {0x00100010: "DOE^JANE", 0x00080061: "CT\\SR", 0x00080080: "Krankenhaus Süd"},
    )
    settled = Settled(
        instance,
        b"d" * 32,
        524288,
        1200,
        2,
        Standing.HELD,
        frozenset({HoldReason.CONFLICT, HoldReason.OTHER_PATIENT}),
        b"p" * 32,
        "CT1",
        "sha256:00",
        "ct-stores",
        1_795_000_000_123_456_789,
        b"w" * 16,
        Location(f"{'00' * 16}-00000001.lgs", 4096 * record, 524800, record),
    )
    return Event(
        EventKind.INSTANCE_CONFLICTED,
        Outcome.SUCCESS,
        actor="CT1",
        address="10.20.1.11",
        action="store",
        rule="ct-stores",
        reason="conflict",
        fingerprint="sha256:00",
        study_instance_uid=STUDY,
        subject_uids=(SOP,),
        details={"version": 2, "standing": "held"},
        patient=PATIENT,
        settled=settled,
    )


def asked() -> Event:
    """A C-FIND by Patient ID: there is no study."""
    return Event(EventKind.RELEASE_STARTED, Outcome.SUCCESS, actor="WS1", action="find", patient=PATIENT)


def refused(address: str = "10.99.0.1") -> Event:
    return Event(
        EventKind.ASSOCIATION_REFUSED,
        Outcome.REFUSED,
        actor="",
        address=address,
        reason="no certificate",
        details={"tls": ""},
    )


class Site:
    """A site with nothing but a key and writers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        key = path / "site.key"
        self.key = SiteKey.open("file:site.key", path) if key.exists() else SiteKey.create(key)
        self.keyring = Keyring.open(path, self.key, None)
        self.reader = JournalReader.open(path, self.keyring)

    def process(self, clock: Callable[[], int] = time.time_ns, **limits: int) -> Process:
        return Process(self, clock, **limits)

    def events(self) -> list[Event]:
        return [recorded.event for recorded in self.reader.read()]

    def recover(self, writer_id: bytes) -> RecoveredJournal:
        writer = Writer.adopt(self.path, writer_id)
        assert writer is not None
        try:
            self.keyring.recover(writer)
            return self.reader.recover(writer)
        finally:
            writer.close()

    def seal(self, writer_id: bytes) -> None:
        writer = Writer.adopt(self.path, writer_id)
        assert writer is not None
        writer.seal()
        writer.close()


class Process:
    """A serving process: a writer with its keyring and journal."""

    def __init__(self, site: Site, clock: Callable[[], int], **limits: int) -> None:
        self.fatal: list[bool] = []
        self.writer = Writer.create(site.path)
        self.keyring = Keyring.open(site.path, site.key, self.writer)
        self.journal = JournalWriter.open(
            self.writer, self.keyring, clock, on_fatal=lambda: self.fatal.append(True), **limits
        )

    @property
    def files(self) -> list[Path]:
        return sorted(self.writer.directory.glob("journal-*.ljn"))

    def die(self) -> bytes:
        """As a kill: the lock goes, nothing is closed; what was appended is in the page cache."""
        self.journal._stop.set()
        self.journal._flusher.join()
        self.writer.close()
        return self.writer.id

    def end(self) -> bytes:
        self.journal.close()
        self.keyring.close()
        self.writer.close()
        return self.writer.id


def about(event: Event, **facts: object) -> Event:
    return dataclasses.replace(event, **facts)  # type: ignore[arg-type]
