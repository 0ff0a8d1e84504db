"""Who a person is here, what may be asked of them and by them, and what they are to a study."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from leadglass.terms.parties import PatientIdentity, Peer, fingerprint_of


class Role(enum.StrEnum):
    """What somebody is at the hospital; `policy/cedar/` says what each may."""

    RADIOLOGIST = "radiologist"
    TECHNOLOGIST = "technologist"
    REFERRING_CLINICIAN = "referring-clinician"
    CLINICIAN_ELSEWHERE = "clinician-elsewhere"
    PACS_ADMINISTRATOR = "pacs-administrator"
    SECURITY_OFFICER = "security-officer"
    AUDITOR = "auditor"
    BIOMEDICAL_ENGINEER = "biomedical-engineer"
    VENDOR = "vendor"
    OUTSIDE_REVIEWER = "outside-reviewer"
    SERVICE_ACCOUNT = "service-account"


class Act(enum.StrEnum):
    """What a person can ask for; `<noun>-<verb>`, sorted. Each is an action of the Cedar schema, and a column of the matrix."""

    ACCESS_APPROVE = "access-approve"  # somebody else's request for access
    ACCESS_REQUEST = "access-request"
    AUDIT_READ = "audit-read"  # who saw this patient, what did this person see
    AUDIT_REPORT = "audit-report"  # disclosures and breach reports
    BACKUP_RUN = "backup-run"
    CONFLICT_RESOLVE = "conflict-resolve"
    CONTAINMENT_BEGIN = "containment-begin"  # of a device, a zone, the site
    CONTAINMENT_END = "containment-end"
    DEVICE_ENROLL = "device-enroll"
    DEVICE_LIST = "device-list"
    DEVICE_REVOKE = "device-revoke"
    FLOW_OPEN = "flow-open"  # a flow on demand, for a time
    GLASS_BREAK = "glass-break"
    GLASS_REVIEW = "glass-review"
    INDEX_REBUILD = "index-rebuild"
    KEY_USE = "key-use"
    LEASE_OPEN = "lease-open"
    PEOPLE_LIST = "people-list"
    PERSON_ADD = "person-add"
    PERSON_DISABLE = "person-disable"
    PERSON_RESET = "person-reset"  # take somebody's factors away, for a new enrolment link
    POLICY_APPLY = "policy-apply"
    POLICY_PROPOSE = "policy-propose"  # ask that a site file acts; say afterwards that one is still there
    POLICY_READ = "policy-read"
    RELATIONS_IMPORT = "relations-import"
    ROLE_GRANT = "role-grant"
    SESSION_END = "session-end"  # somebody else's
    STUDY_ERASE = "study-erase"
    STUDY_EXPORT = "study-export"
    STUDY_FIND = "study-find"
    STUDY_READ = "study-read"
    STUDY_STORE = "study-store"
    TRANSCRIPT_READ = "transcript-read"  # what somebody did under one grant


class Relation(enum.StrEnum):
    """What a person is to a study: why it is theirs to see. The first five are care; a window that somebody opened is the rest."""

    ORDERED = "ordered"
    SCHEDULED = "scheduled"
    CARE_TEAM = "care-team"
    PRIOR = "prior"  # of a study under their reading
    CLINICIAN = "clinician"  # the study itself names them as referring or requesting clinician
    DEPARTMENT = "department"  # the study itself was made in their department
    GLASS = "glass"  # they broke the glass for this patient, and the time is not over
    GRANTED = "granted"  # named in a request that somebody else approved


class Situation(enum.StrEnum):
    """Why a patient needs somebody now who is nothing to them: what breaks the glass with one press."""

    EMERGENCY = "emergency"
    ON_CALL = "on-call"  # for a colleague who is away
    CONSULT = "consult"  # a colleague asks them to look now
    TRANSFER = "transfer"  # the patient came from another ward or hospital, and nobody has told the archive yet
    OTHER = "other"  # in words


class Purpose(enum.StrEnum):
    """Why a study leaves the house."""

    TREATMENT = "treatment"  # whoever treats the patient elsewhere
    PATIENT = "patient"  # their own copy
    SECOND_OPINION = "second-opinion"
    INSURER = "insurer"
    COURT = "court"


class Factor(enum.StrEnum):
    """What was proven at a sign-in."""

    PASSKEY = "passkey"
    PASSWORD = "password"  # noqa: S105 - a name
    TOTP = "totp"
    RECOVERY_CODE = "recovery-code"
    CERTIFICATE = "certificate"  # of a machine client
    PROVIDER = "provider"  # an identity provider said that it asked for two factors


@dataclass(frozen=True, slots=True)
class Person:
    """One human, or one machine client (role `service-account`). `id`: 128 bits, hex, never used again.

    `name`: what they sign in with, folded; unique. `names`: how studies spell them, folded PN component groups such as `DOE^JANE`.
    `source`: `local`, or the provider or directory that vouches (`oidc:NAME`, `ldap:NAME`). `until_ns`: the account's end, 0: none.
    """

    id: str
    name: str
    display: str
    roles: frozenset[Role]
    departments: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    mail: str = ""
    source: str = "local"
    enabled: bool = True
    until_ns: int = 0


@dataclass(frozen=True, slots=True)
class Related:
    """One relationship, to every study of a patient or (`study_instance_uid`) to one. `until_ns` 0: no end. `source`: who said so."""

    person: str
    relation: Relation
    patient: PatientIdentity | None
    study_instance_uid: str = ""
    from_ns: int = 0
    until_ns: int = 0
    source: str = ""
    act: Act | None = None  # of a granted one: what for


STEP_UP_SECONDS = 300  # where the site does not say another


@dataclass(frozen=True, slots=True)
class Caller:
    """A person at a door, signed in. `session`: its public id, no secret. `peer.certificate`: of the workstation, where it has one.

    `stepped_up_ns`: when the last fresh passkey was, Unix nanoseconds, 0: never; it counts for `step_up_seconds`. `related`: what is in force for them now.
    `approved`: acts that somebody else approved for this person and that are in their window now, with the request's id.
    `session_hint`: at a sign-in, what the provider that vouched calls its own session of that browser.
    `until_ns`: at a workstation, when lease, session or account end by themselves, Unix nanoseconds; 0: it is asked anew with each request.
    """

    person: Person
    session: str
    peer: Peer
    factors: frozenset[Factor]
    stepped_up_ns: int = 0
    related: tuple[Related, ...] = ()
    approved: Mapping[Act, str] = field(default_factory=dict)
    exactly: frozenset[str] = frozenset()  # digests of what was approved for them: of changes, one each
    within: Mapping[Act, frozenset[str]] = field(default_factory=dict)  # devices that what was approved is confined to
    session_hint: str = ""
    until_ns: int = 0
    step_up_seconds: int = STEP_UP_SECONDS

    @property
    def actor(self) -> str:
        """As events name them."""
        return f"person:{self.person.name}"

    @property
    def name(self) -> str:
        return self.person.name

    @property
    def fingerprint(self) -> str:
        """Of the workstation's certificate, "" where it presented none."""
        return fingerprint_of(self.peer)


@dataclass(frozen=True, slots=True)
class SignIn:
    """Somebody says who they are, and proves it. `name`: as given, "" for a passkey that says it itself. `browser`: what a session is bound to.

    `evidence`: what the method needs: of a passkey its assertion; `password` and `code`; `recovery`; a provider's or directory's answer.
    """

    name: str
    method: str  # passkey, password, recovery, oidc, ldap; certificate for a machine's token
    browser: str = ""
    purpose: str = "sign-in"  # or "token"; or "step-up", "unlock": then `session` says of which session
    session: str = ""
    evidence: Mapping[str, object] = field(default_factory=dict, repr=False)


# ---- which studies a permit shows: an expression over a study's facts, which a query turns into SQL and policy checks again row by row


@dataclass(frozen=True, slots=True)
class Has:
    """The study's `field` is, or holds, one of `values`. Fields: study, patient (`key_of`), department, clinician, modality; folded."""

    field: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class AnyOf:
    rules: tuple[StudyRule, ...] = ()


@dataclass(frozen=True, slots=True)
class AllOf:
    rules: tuple[StudyRule, ...] = ()


@dataclass(frozen=True, slots=True)
class NotSo:
    rule: StudyRule


StudyRule = Has | AnyOf | AllOf | NotSo
EVERY_STUDY = AllOf()
NO_STUDY = AnyOf()


def key_of(patient: PatientIdentity) -> str:
    """A patient as one value of a `Has`."""
    return f"{patient.issuer}\x1f{patient.patient_id}"


@dataclass(frozen=True, slots=True)
class Dossier:
    """What a decision about one study is given of it. Text is folded as the index folds it; `modalities` as in ModalitiesInStudy."""

    study_instance_uid: str
    patient: PatientIdentity
    departments: frozenset[str] = frozenset()
    clinicians: frozenset[str] = frozenset()  # referring and requesting physicians
    modalities: frozenset[str] = frozenset()
