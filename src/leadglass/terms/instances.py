"""An instance on its way in, where it rests, and on its way out."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from leadglass.terms.parties import PatientIdentity
from leadglass.terms.requests import Offer, Permit, Reference, Request


class Outcome(enum.StrEnum):
    SUCCESS = "success"
    REFUSED = "refused"
    FAILED = "failed"


class Standing(enum.StrEnum):
    """What a version of an object is."""

    CURRENT = "current"
    HELD = "held"
    RENDITION = "rendition"
    DERIVATIVE = "derivative"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"


class HoldReason(enum.StrEnum):
    """Why a version is held; each is cleared by a change of its own."""

    CONFLICT = "conflict"  # the UID is taken by other bytes
    OTHER_PATIENT = "other-patient"  # the header names another patient than its study
    HARMFUL = "harmful"  # inspection found something


@dataclass(frozen=True, slots=True)
class Instance:
    """The DICOM notion, as far as the index knows it. `attributes`: tag -> decoded text, multi-valued ones joined by a backslash."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    patient: PatientIdentity
    attributes: Mapping[int, str]


class Incoming(Protocol):
    """A data set that is still on its way. Whoever gives it ends it with an error where the rest never comes."""

    def read_into(self, into: memoryview) -> int:
        """At least one byte of it, waiting for that: how many; 0 at its end."""
        ...


class Arrival(Protocol):
    """Sealed bytes that wait to be claimed: in memory, or already in a segment of their own. Dropped by `discard`."""

    @property
    def digest(self) -> bytes: ...
    @property
    def data_set_length(self) -> int: ...
    def discard(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Arrived:
    """All bytes are here, sealed and hashed, and the header was scanned once. `header`: a `wire.dataset.Header`."""

    offer: Offer
    arrival: Arrival
    header: object


@dataclass(frozen=True, slots=True)
class Inspected:
    """It is what it says. `findings`: reasons to hold it."""

    offer: Offer
    arrival: Arrival
    instance: Instance
    header_length: int
    findings: frozenset[HoldReason] = frozenset()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What is already known where an instance wants to go; None where nothing is."""

    patient: PatientIdentity | None
    current_digest: bytes | None
    current_transfer_syntax_uid: str | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """The SOP Instance UID is ours until it settles: nobody else can be granted a version of it meanwhile.

    `settled` is there where this digest is kept already: nothing is stored twice, and who resends hears what was said before.
    """

    inspected: Inspected
    permit: Permit
    version: int
    standing: Standing
    holds: frozenset[HoldReason]
    parent_digest: bytes | None
    settled: Settled | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """Where a record lies: segment name under the object store, byte offset and length, record number within its writer."""

    segment: str
    offset: int
    length: int
    record: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A kept version, as its trailer says it; the index is a projection of these. `received_at_ns`: UTC, Unix nanoseconds."""

    instance: Instance
    digest: bytes
    data_set_length: int
    header_length: int
    version: int
    standing: Standing
    holds: frozenset[HoldReason]
    parent_digest: bytes | None
    sender: str
    fingerprint: str
    rule: str
    received_at_ns: int
    writer: bytes
    location: Location


@dataclass(slots=True)
class Progress:
    """What became of a release so far. The one mutable thing here: the door counts in it, the closing record reads it.

    As a context it takes the reason of whatever ends it early.
    """

    total: int = 0
    completed: int = 0
    failed: int = 0
    warned: int = 0
    outcome: Outcome = Outcome.FAILED
    reason: str = "the peer went away before the end"

    def succeed(self) -> None:
        self.outcome, self.reason = Outcome.SUCCESS, ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self.reason = str(error)


class Body(Protocol):
    """A kept data set being read back: plaintext pieces in order; the last one only after the digest held."""

    @property
    def settled(self) -> Settled: ...
    def __iter__(self) -> Iterator[memoryview]: ...


class Found(Protocol):
    """What a request may have.

    `rows`: answers of a query, tag -> text, paged inside. `instances`: what a retrieval selects, in series order. `read`: one of them.
    `still`: raises Refused where what was begun may not go on. `verdicts`: a commitment's references, each with its failure reason (PS3.3 C.14), 0 where the version this device sent is kept.
    """

    @property
    def progress(self) -> Progress: ...
    @property
    def permit(self) -> Permit: ...
    @property
    def request(self) -> Request: ...
    def rows(self) -> Iterator[Mapping[int, str]]: ...
    def instances(self) -> Iterator[Settled]: ...
    def read(self, settled: Settled) -> Body: ...
    def still(self) -> None: ...
    def verdicts(self) -> Iterator[tuple[Reference, int]]: ...
