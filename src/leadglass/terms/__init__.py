"""The nouns that travel between the steps of the path, the two error families, and the glossary.

Every step takes what the step before returned, so an order violation is a type error: `keep` takes a `Claimed`, only `claim` makes
one, and only a `Settled` can be answered with success. Everything here is frozen; nothing here does I/O or knows the time.

Glossary: the words with a special meaning here
    conflict      the same SOP Instance UID with another digest: the first stays current, the second is held, its sender hears a failure
    current       the one version of an object that is found, retrieved and committed
    held          kept, but never found, retrieved or committed until every reason of the hold is cleared by a change
    rendition     the same instance in another transfer syntax: kept, never served in place of the current version
    standing      which of these (and derivative, superseded, rejected) a version is
    digest        SHA-256 over the data set without group 2, exactly as received
    settled       durable together with its event; the only thing that may be answered with success
    generation    the number of the containment state; it rises with every revocation, quarantine or proven site file
    writer        a serving process, known by a random 128-bit id, that holds the lock on its own files
    hold          the act of keeping something as held, with its set of reasons
    lease         who sits at a device, for a time box
    act           what a person asks for; an action is what a peer asks of the DIMSE door
    relation      what a person is to a study; without one, most roles see none
    break-glass   seeing a patient without a relation: with a reason, for an hour, and with a review that must be done
    read-only     no overwrite, merge, erasure, bulk export or change; new instances are still kept and care still reads
"""

from __future__ import annotations

from leadglass.terms.happenings import (
    EVENT_UIDS_MAX,
    Change,
    ChangeKind,
    ChangePermit,
    Containment,
    Detection,
    Event,
    EventKind,
    Severity,
)
from leadglass.terms.instances import (
    Arrival,
    Arrived,
    Body,
    Claimed,
    Found,
    HoldReason,
    Inspected,
    Instance,
    Location,
    Outcome,
    Progress,
    Settled,
    Standing,
    StudyFacts,
)
from leadglass.terms.parties import Operator, PatientIdentity, Peer, fingerprint_of
from leadglass.terms.people import (
    EVERY_STUDY,
    NO_STUDY,
    Act,
    AllOf,
    AnyOf,
    Caller,
    Dossier,
    Factor,
    Has,
    NotSo,
    Person,
    Related,
    Relation,
    Role,
    SignIn,
    StudyRule,
    key_of,
)
from leadglass.terms.refusals import (
    Conflicting,
    Contained,
    Fault,
    Harmful,
    JournalFault,
    KeyFault,
    Malformed,
    Mismatched,
    NotChanged,
    NotIdentified,
    NotPermitted,
    Overloaded,
    Refused,
    SecondPersonNeeded,
    StepUpNeeded,
    StoreFault,
    Unenrollable,
    UnknownDestination,
    Unsupported,
    UpstreamFault,
)
from leadglass.terms.requests import (
    Action,
    Asker,
    AuditQuestion,
    Commitment,
    Device,
    Echo,
    Grant,
    Inquiry,
    Level,
    Offer,
    Permit,
    Proposal,
    Query,
    Reference,
    Request,
    Retrieval,
    Root,
    Subject,
)

__all__ = [
    "EVENT_UIDS_MAX",
    "EVERY_STUDY",
    "NO_STUDY",
    "Act",
    "Action",
    "AllOf",
    "AnyOf",
    "Arrival",
    "Arrived",
    "Asker",
    "AuditQuestion",
    "Body",
    "Caller",
    "Change",
    "ChangeKind",
    "ChangePermit",
    "Claimed",
    "Commitment",
    "Conflicting",
    "Contained",
    "Containment",
    "Detection",
    "Device",
    "Dossier",
    "Echo",
    "Event",
    "EventKind",
    "Factor",
    "Fault",
    "Found",
    "Grant",
    "Harmful",
    "Has",
    "HoldReason",
    "Inquiry",
    "Inspected",
    "Instance",
    "JournalFault",
    "KeyFault",
    "Level",
    "Location",
    "Malformed",
    "Mismatched",
    "NotChanged",
    "NotIdentified",
    "NotPermitted",
    "NotSo",
    "Offer",
    "Operator",
    "Outcome",
    "Overloaded",
    "PatientIdentity",
    "Peer",
    "Permit",
    "Person",
    "Progress",
    "Proposal",
    "Query",
    "Reference",
    "Refused",
    "Related",
    "Relation",
    "Request",
    "Retrieval",
    "Role",
    "Root",
    "SecondPersonNeeded",
    "Settled",
    "Severity",
    "SignIn",
    "Standing",
    "StepUpNeeded",
    "StoreFault",
    "StudyFacts",
    "StudyRule",
    "Subject",
    "Unenrollable",
    "UnknownDestination",
    "Unsupported",
    "UpstreamFault",
    "fingerprint_of",
    "key_of",
]
