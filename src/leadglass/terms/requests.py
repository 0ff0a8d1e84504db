"""Who is asking, what they ask, and the permit that allows it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from leadglass.terms.parties import OpenFlow, Operator, PatientIdentity, Peer
from leadglass.terms.people import EVERY_STUDY, Act, Caller, Purpose, Role, StudyRule


class Action(enum.StrEnum):
    """What a peer may ask of a door; the words of `may` in the site file."""

    ECHO = "echo"
    STORE = "store"
    FIND = "find"
    GET = "get"
    MOVE = "move"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an A-ASSOCIATE-RQ says of itself (PS3.8 9.3.2). `user_identity_type`: PS3.7 D.3.3.7, 0 where absent.

    `user_name`: what types 1 and 2 claim, and nobody proved. `token`: of type 5, bytes as they came; a secret, so in no text.
    """

    calling_ae_title: str
    called_ae_title: str
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    user_identity_type: int = 0
    user_name: str = ""
    token: bytes = field(default=b"", repr=False)
    abstract_syntaxes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """An enrolled device or clinical system. `certificates`: pins such as `sha256:<hex>` of the DER leaf or `spki-sha256:<hex>`.

    `ae_titles` is empty for a system that speaks no DIMSE; `address` is `HOST:PORT` where the archive may send to it.
    """

    name: str
    zone: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    ae_titles: tuple[str, ...]
    certificates: tuple[str, ...]
    address: str = ""
    enabled: bool = True
    owner: str = ""
    maker: str = ""
    model: str = ""
    software: str = ""
    location: str = ""
    criticality: str = ""
    end_of_support: str = ""
    weak: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is asking: certificate, calling AE title, called AE title and source network agreed on one device.

    `door_ae_title` is the called AE title; `fingerprint` is `sha256:<hex>` of the DER leaf that was presented.
    """

    device: Device
    peer: Peer
    proposal: Proposal
    fingerprint: str
    waiver: str = ""  # id of the recorded waiver where the certificate's time has run out
    caller: Caller | None = None  # who sits at it: an open lease, or a user identity that was proven

    @property
    def actor(self) -> str:
        """As events name it."""
        return self.device.name


Asker = Subject | Caller
"""Whoever a request comes from: a device, or a person at a web door."""


@dataclass(frozen=True, slots=True)
class Echo:
    """C-ECHO-RQ (PS3.7 9.1.5)."""

    subject: Asker

    @property
    def action(self) -> Action:
        return Action.ECHO


@dataclass(frozen=True, slots=True)
class Offer:
    """An instance that a peer wants us to keep, before its data set arrives (C-STORE-RQ, PS3.7 9.1.1)."""

    subject: Asker
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    warnings: tuple[str, ...] = ()

    @property
    def action(self) -> Action:
        return Action.STORE


class Level(enum.StrEnum):
    """Query/Retrieve Level (PS3.4 C.3)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


class Root(enum.StrEnum):
    """Which information model a query walks (PS3.4 C.3)."""

    PATIENT = "patient"
    STUDY = "study"


@dataclass(frozen=True, slots=True)
class Query:
    """C-FIND. `keys`: tag -> decoded matching value ("" = universal), multi-valued ones joined by a backslash."""

    subject: Asker
    root: Root
    level: Level
    keys: Mapping[int, str]

    @property
    def action(self) -> Action:
        return Action.FIND


@dataclass(frozen=True, slots=True)
class Retrieval:
    """C-GET and C-MOVE. `destination`: the move destination's AE title, "" for C-GET. `keys`: unique keys, as in `Query`."""

    subject: Asker
    root: Root
    level: Level
    keys: Mapping[int, str]
    destination: str = ""

    @property
    def action(self) -> Action:
        return Action.MOVE if self.destination else Action.GET


@dataclass(frozen=True, slots=True)
class Reference:
    """A referenced SOP instance of a storage commitment (PS3.4 J.3)."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Commitment:
    """N-ACTION of Storage Commitment Push (PS3.4 J.3.2)."""

    subject: Asker
    transaction_uid: str
    references: tuple[Reference, ...]

    @property
    def action(self) -> Action:
        return Action.COMMIT


@dataclass(frozen=True, slots=True)
class Grant:
    """One request for access, as the register knows it: whose it is, for which act, and who decided it (`deciders`: people's ids).

    `roles`: of whoever asked. Times are Unix nanoseconds: of the asking, and its window as far as it was open, empty where it never was.
    """

    request: str
    person: str
    name: str
    roles: frozenset[Role]
    act: Act
    deciders: Mapping[str, str]  # id to name
    asked_ns: int
    from_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class AuditQuestion:
    """Who saw this patient (`patient`), or what did this one do (`who`, as events name actors)? From when to when, Unix nanoseconds.

    `grant`: what was done under this one, and how it went with it; then its times count.

    `report`: for somebody outside, as a disclosure or breach report is.
    """

    subject: Caller | Operator
    patient: PatientIdentity | None = None
    who: str = ""
    from_ns: int = 0
    until_ns: int = (1 << 63) - 1
    report: bool = False
    grant: Grant | None = None

    @property
    def action(self) -> Act:
        if self.grant is not None:
            return Act.TRANSCRIPT_READ
        return Act.AUDIT_REPORT if self.report else Act.AUDIT_READ


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A person looks at what the site knows of people and devices: an act about no study. `about`: whom or what, "" for all of it."""

    subject: Caller
    act: Act
    about: str = ""

    @property
    def action(self) -> Act:
        return self.act


@dataclass(frozen=True, slots=True)
class Export:
    """One study leaves the house as files, in somebody's hands. `id`: of what leaves together; `patients`: whose studies are in that.

    `recipient`: who is to get it; it may name anybody, and stands in the register alone.
    """

    subject: Caller
    id: str
    study_instance_uid: str
    patient: PatientIdentity
    patients: frozenset[PatientIdentity]
    purpose: Purpose
    recipient: str

    @property
    def action(self) -> Act:
        return Act.STUDY_EXPORT


Request = Echo | Offer | Query | Retrieval | Commitment | AuditQuestion | Inquiry | Export


@dataclass(frozen=True, slots=True)
class Permit:
    """A decision that allows, and the rule that did.

    `generation`: of the containment state it was decided under; whoever holds it for longer decides again when that rises.
    `sop_classes`: what the rule is confined to, None where it is not; it confines what is stored and what is visible alike.
    `destination`: the device a C-MOVE may send to. `opened`: the flows on demand that it holds by.
    `devices`: which of them an inquiry may show, None for all. `bulk`: of an export: more than one person may take out alone.
    """

    subject: Asker | Operator
    action: Action | Act | None  # None: the association itself
    rule: str
    generation: int
    sop_classes: frozenset[str] | None = None
    destination: Device | None = None
    studies: StudyRule = EVERY_STUDY  # which a person may see: a filter, and each row of it is decided again
    opened: tuple[OpenFlow, ...] = ()
    devices: frozenset[str] | None = None
    bulk: bool = False
