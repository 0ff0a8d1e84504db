"""A site with an archive and nothing else: what the archive's tests store into, break, and open again."""

from __future__ import annotations

import hashlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from leadglass.archive.arrival import Receiver
from leadglass.archive.barrier import Barrier
from leadglass.archive.commit import Commit, CommitParts
from leadglass.archive.conflicts import Conflicts
from leadglass.archive.index import Index
from leadglass.archive.limits import ArchiveLimits
from leadglass.archive.objects import ObjectStore
from leadglass.archive.read import Reader
from leadglass.archive.recovery import JournalSide, NoJournal, Recovery
from leadglass.archive.segments import Segments
from leadglass.site.keyring import Keyring
from leadglass.site.sitekey import SiteKey
from leadglass.site.writer import Writer
from leadglass.terms import (
    Action,
    Arrived,
    Claimed,
    Device,
    Event,
    EventKind,
    HoldReason,
    Inspected,
    Instance,
    Offer,
    Outcome,
    PatientIdentity,
    Peer,
    Permit,
    Proposal,
    Settled,
    Subject,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.70"
ANNA, BERTA = PatientIdentity("P1", "HOSPITAL"), PatientIdentity("P2", "HOSPITAL")
HEADER_LENGTH = 300
_Answer = TypeVar("_Answer")


def driven(step: Coroutine[Any, Any, _Answer]) -> _Answer:
    """A stage blocks and never yields (ADR 0001)."""
    try:
        step.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("a stage yielded")


class HeaderOf:
    """A scanner for bytes that are no data set."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        self.length = 0

    def feed(self, data: memoryview) -> None:
        self.length += len(data)

    def finish(self) -> object:
        return self.length


def content(length: int, seed: str = "") -> bytes:
    """Bytes that look like nothing, the same for the same arguments."""
    return hashlib.shake_128(f"{length}/{seed}".encode()).digest(length)


class Fragments:
    """An `Incoming` that gives so many bytes at once, as a door does, and then ends with an error where there is one."""

    def __init__(self, data: bytes, length: int = 16 << 10, error: Exception | None = None) -> None:
        self._left, self._length, self._error = memoryview(data), length, error

    def read_into(self, into: memoryview) -> int:
        count = min(len(self._left), self._length, len(into))
        if not count and self._error is not None:
            raise self._error
        into[:count], self._left = self._left[:count], self._left[count:]
        return count


def subject(device: str = "CT1") -> Subject:
    proposal = Proposal(device, "LEADGLASS")
    return Subject(
        Device(device, "modalities", (), (device,), ()), Peer("127.0.0.1", 4242, "dimse"), proposal, "sha256:00"
    )


def permit(device: str = "CT1", action: Action = Action.STORE, sop_classes: frozenset[str] | None = None) -> Permit:
    return Permit(subject(device), action, "ct-stores", 1, sop_classes)


class Process:
    """A serving process of the site: a writer of its own, and the steps. `die` leaves everything as a kill would."""

    def __init__(self, place: Place, limits: ArchiveLimits, publish_within_seconds: float = 0.0) -> None:
        self.place = place
        self.dead = False
        self.writer = Writer.create(place.site_dir)
        self.keyring = Keyring.open(place.site_dir, place.site_key, self.writer)
        self.fatal: list[str] = []
        self.segments = Segments(place.store, self.writer.id, limits, self.fatal.append)
        self.receiver = Receiver(self.segments, limits, HeaderOf)
        self.barrier = Barrier(place.site_dir / "index", limits.barrier_wait_seconds)
        self.index = place.open_index()
        self.corrupted: list[object] = []
        self.reader = Reader(place.store, self.keyring, self.corrupted.append)
        self.recovery = place.recovery(self.index, self.keyring, self.barrier)
        parts = CommitParts(
            self.index, self.segments, self.keyring, self.reader, self.barrier, self.recovery.recover, limits
        )
        self.commit = Commit(parts, publish_within_seconds)
        self.conflicts = Conflicts(self.index, self.commit.claims, self.segments, self.keyring, self.barrier)

    def receive(self, uid: str, data: bytes, syntax: str = EXPLICIT, device: str = "CT1") -> Arrived:
        offer = Offer(subject(device), CT, uid, syntax)
        return driven(self.receiver.receive(offer, permit(device), Fragments(data)))

    def claim(
        self,
        uid: str,
        data: bytes,
        *,
        patient: PatientIdentity = ANNA,
        study: str = "1.2.3",
        syntax: str = EXPLICIT,
        findings: frozenset[HoldReason] = frozenset(),
        device: str = "CT1",
    ) -> Claimed:
        arrived = self.receive(uid, data, syntax, device)
        attributes = {0x00100020: patient.patient_id, 0x00100010: "DOE^JANE", 0x00080060: "CT", 0x00200013: "1"}
        instance = Instance(uid, CT, syntax, study, study + ".1", patient, attributes)
        inspected = Inspected(arrived.offer, arrived.arrival, instance, min(HEADER_LENGTH, len(data)), findings)
        return driven(self.commit.claim(inspected, permit(device)))

    def keep(self, claimed: Claimed) -> Settled:
        uid = claimed.inspected.instance.sop_instance_uid
        event = Event(EventKind.INSTANCE_STORED, Outcome.SUCCESS, actor="CT1", subject_uids=(uid,))
        return driven(self.commit.keep(claimed, event))

    def publish(self, settled: Settled) -> Settled:
        driven(self.commit.publish(settled))
        return settled

    def store(self, uid: str, data: bytes, **facts: Any) -> Settled:
        claimed = self.claim(uid, data, **facts)
        return claimed.settled or self.publish(self.keep(claimed))

    def read(self, settled: Settled) -> bytes:
        return b"".join(self.reader.read(settled))

    def die(self) -> None:
        """As a kill: the lock goes, nothing is sealed or flushed."""
        if self.dead:
            return
        self.dead = True
        publisher = self.commit._publisher
        publisher._stop = True
        publisher._wake.set()
        publisher._hurry.set()
        if publisher._thread.ident is not None:
            publisher._thread.join()
        self.receiver.close()
        self.barrier.close()
        self.index.close()
        self.keyring.close()
        self.writer.close()


class Place:
    """The site."""

    def __init__(self, site_dir: Path, store: ObjectStore, **limits: Any) -> None:
        (site_dir / "writers").mkdir(parents=True, exist_ok=True)
        if not (site_dir / "keys" / "site.key").exists():
            SiteKey.create(site_dir / "keys" / "site.key")
        self.site_dir, self.store = site_dir, store
        self.site_key = SiteKey.open("file:keys/site.key", site_dir)
        self.limits = ArchiveLimits(**{"disk_reserve_bytes": 0, "claim_wait_seconds": 0.3, **limits})
        self.journal: JournalSide = NoJournal()
        self.processes: list[Process] = []

    def process(self, publish_within_seconds: float = 0.0) -> Process:
        process = Process(self, self.limits, publish_within_seconds)
        self.processes.append(process)
        return process

    def open_index(self) -> Index:
        return Index.open("sqlite:index/index.db", self.site_dir, self.site_key.derive("index"))

    def recovery(self, index: Index, keyring: Keyring, barrier: Barrier) -> Recovery:
        return Recovery(self.site_dir, self.store, index, keyring, barrier, self.journal)

    def close(self) -> None:
        for process in self.processes:
            process.die()
