"""What happened, what is odd, what people change, what is contained."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from leadglass.terms.instances import Outcome, Settled
from leadglass.terms.parties import Operator, PatientIdentity
from leadglass.terms.people import Caller


class EventKind(enum.StrEnum):
    """The event catalogue. Law of names: `<noun>:<past participle>`, the noun being what the event is about, sorted.

    `audit/catalogue.py` has a row for each: its severity, what it means and what to do. Kinds are never reused or renamed.
    """

    ASSOCIATION_ADMITTED = "association:admitted"
    ASSOCIATION_ENDED = "association:ended"
    ASSOCIATION_REFUSED = "association:refused"
    CERTIFICATE_EXPIRING = "certificate:expiring"
    CHANGE_ABANDONED = "change:abandoned"
    CHANGE_COMPLETED = "change:completed"
    CHANGE_INTENDED = "change:intended"
    CHANGE_REFUSED = "change:refused"
    CLOCK_STEPPED = "clock:stepped"
    CONTAINMENT_UNREADABLE = "containment:unreadable"
    GLASS_UNREVIEWED = "glass:unreviewed"
    INSTANCE_CONFLICTED = "instance:conflicted"
    INSTANCE_CORRUPTED = "instance:corrupted"
    INSTANCE_HELD = "instance:held"
    INSTANCE_REPEATED = "instance:repeated"
    INSTANCE_STORED = "instance:stored"
    JOURNAL_LOST = "journal:lost"
    JOURNAL_RECOVERED = "journal:recovered"
    NETWORK_DRIFTED = "network:drifted"
    NETWORK_DROPPED = "network:dropped"
    NETWORK_JOINED = "network:joined"
    NETWORK_LOADED = "network:loaded"
    NETWORK_PASSED = "network:passed"
    NETWORK_REFUSED = "network:refused"
    NETWORK_SILENT = "network:silent"
    NETWORK_SWEPT = "network:swept"
    NETWORK_USED = "network:used"
    NETWORK_WATCHED = "network:watched"
    PERSON_RECOGNISED = "person:recognised"
    PERSON_REFUSED = "person:refused"
    PROCESS_ENDED = "process:ended"
    PROCESS_STARTED = "process:started"
    RELEASE_ENDED = "release:ended"
    RELEASE_STARTED = "release:started"
    REQUEST_REFUSED = "request:refused"
    SITE_CONTAINED = "site:contained"
    STANDING_CHANGED = "standing:changed"
    WRITER_RECOVERED = "writer:recovered"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, without its time and number: the journal gives it those.

    `patient` is sealed under the study's key where there is a study; nothing else in an event identifies a patient.
    `subject_uids`: SOP Instance UIDs, bounded by `EVENT_UIDS_MAX`; `details`: further facts, by name.
    """

    kind: EventKind
    outcome: Outcome
    actor: str
    address: str = ""
    action: str = ""
    rule: str = ""
    reason: str = ""
    fingerprint: str = ""
    study_instance_uid: str = ""
    subject_uids: tuple[str, ...] = ()
    details: Mapping[str, str | int] = field(default_factory=dict)
    patient: PatientIdentity | None = None
    settled: Settled | None = None


EVENT_UIDS_MAX = 100


class Severity(enum.StrEnum):
    NOTICE = "notice"
    WARNING = "warning"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Detection:
    """Something odd, with what an operator should do about it."""

    kind: EventKind
    severity: Severity
    about: str
    reason: str
    details: Mapping[str, str | int] = field(default_factory=dict)


class ChangeKind(enum.StrEnum):
    """What a `change` can do; `<noun>-<verb>`, sorted."""

    ACCESS_APPROVE = "access-approve"
    ACCESS_CANCEL = "access-cancel"
    ACCESS_REQUEST = "access-request"
    ACCOUNTS_REVIEW = "accounts-review"
    CONFLICT_DISMISS = "conflict-dismiss"
    CONFLICT_PROMOTE = "conflict-promote"
    DEVICE_ASK = "device-ask"  # to have one enrolled, or its certificate renewed
    DEVICE_COLLECT = "device-collect"  # the bundle of one that was asked for
    DEVICE_DECLINE = "device-decline"  # what was asked for cannot be signed
    DEVICE_DISABLE = "device-disable"
    DEVICE_ENABLE = "device-enable"
    DEVICE_ENROLL = "device-enroll"
    DEVICE_LAPSE = "device-lapse"  # what was asked for and nobody signed or collected in time
    DEVICE_RENEW = "device-renew"
    DEVICE_REVOKE = "device-revoke"
    DEVICE_SUPERSEDE = "device-supersede"
    DEVICE_WAIVE = "device-waive"
    DEVICE_WITHDRAW = "device-withdraw"  # what was asked for and is wanted no longer
    DOOR_RENEW = "door-renew"
    ERASURE_CLOSE = "erasure-close"  # its time has come: nothing more is kept of its studies
    ERASURE_DESTROY = "erasure-destroy"  # their keys
    ERASURE_FINISH = "erasure-finish"
    ERASURE_UNDO = "erasure-undo"  # before its time
    FACTOR_ENROLL = "factor-enroll"
    FACTOR_REMOVE = "factor-remove"
    GLASS_BREAK = "glass-break"
    GLASS_REVIEW = "glass-review"
    INDEX_REBUILD = "index-rebuild"
    KIT_COLLECT = "kit-collect"  # a share by its custodian, the file by whoever had it made
    KIT_LAPSE = "kit-lapse"  # what nobody fetched in time
    KIT_MAKE = "kit-make"  # a recovery kit that several open together, approved by somebody else
    LEASE_END = "lease-end"
    LEASE_OPEN = "lease-open"
    LOSS_ACCEPT = "loss-accept"  # what had settled and cannot be read any more: the site starts without it
    NETWORK_CONFIRM = "network-confirm"  # whoever applied is still there: the kernel's table stays
    PERSON_ADD = "person-add"
    PERSON_DISABLE = "person-disable"
    PERSON_ENABLE = "person-enable"
    PERSON_RESET = "person-reset"
    PERSON_VOUCH = "person-vouch"
    RELATIONS_IMPORT = "relations-import"
    ROLE_GRANT = "role-grant"
    ROLE_REVOKE = "role-revoke"
    SESSION_END = "session-end"
    SITE_APPLY = "site-apply"
    SITE_ASK = "site-ask"  # that somebody else approves a site file, by its digest
    SITE_BACKUP = "site-backup"
    SITE_CONTAIN = "site-contain"  # read-only: new images and reading go on, nothing is changed
    SITE_RELEASE = "site-release"
    SITE_RESTORE = "site-restore"
    STUDY_ERASE = "study-erase"  # ordered, and approved by somebody else: done after a delay
    TOKEN_MINT = "token-mint"  # noqa: S105 - a name
    ZONE_CONTAIN = "zone-contain"
    ZONE_RELEASE = "zone-release"


@dataclass(frozen=True, slots=True)
class Change:
    """One act on the site itself. `arguments`: JSON-able facts, all of them; the digest of a change is taken over them.

    `operator`: who asks, at a shell or signed in at the console.
    """

    id: str
    operator: Operator | Caller
    kind: ChangeKind
    about: str
    arguments: Mapping[str, object]

    @property
    def caller(self) -> Caller:
        """Who is signed in and orders it. Raises TypeError for an operator: policy lets none come to where this is asked."""
        if isinstance(self.operator, Caller):
            return self.operator
        raise TypeError(f"{self.kind} was ordered at a shell")

    @property
    def digest(self) -> str:
        """SHA-256, hex, over kind, subject and arguments in canonical JSON."""
        exact = json.dumps(
            [self.kind, self.about, self.arguments],
            sort_keys=True,
            separators=(",", ":"),
        )
        return hashlib.sha256(exact.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ChangePermit:
    """A change that is allowed, and by which rule."""

    operator: Operator | Caller
    rule: str
    generation: int


@dataclass(frozen=True, slots=True)
class Begun:
    """By whom, as events name actors, and when, Unix nanoseconds."""

    by: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Containment:
    """What is contained right now. `revoked`: certificate fingerprints with the reason; `disabled`: device names; `zones`: whose devices and people.

    `superseded`: fingerprints of renewed certificates whose successor was used. `applied`: id of the last change it holds. `begun`: of `device:NAME`,
    `zone:NAME` and `site`, as far as it is known.
    """

    generation: int = 0
    revoked: Mapping[str, str] = field(default_factory=dict)
    superseded: Mapping[str, str] = field(default_factory=dict)
    disabled: Mapping[str, str] = field(default_factory=dict)
    zones: Mapping[str, str] = field(default_factory=dict)
    read_only: str = ""
    applied: str = ""
    begun: Mapping[str, Begun] = field(default_factory=dict)
