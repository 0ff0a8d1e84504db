"""How does an event become bytes, and what of it is sealed apart? What identifies a patient is one box under the study's own key.

The body is a MessagePack map with short names, empty fields left out; a later version adds names, it changes none. Beside the box stand keyed
search tokens of Patient ID and Study Instance UID: whoever has the site key finds a patient's events without opening every box.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec

from leadglass.audit.catalogue import CATALOGUE
from leadglass.site.keyring import Keyring, StudyKey
from leadglass.terms import Event, EventKind, JournalFault, KeyFault, Location, Outcome, PatientIdentity, Settled

NO_STUDY = bytes(16)  # the key id of a box that belongs to no study: the journal's own key seals it
TOKEN_LENGTH_BYTES = 16
_PURPOSE = b"leadglass/patient-box/1"
_UID = re.compile(r"[0-9][0-9.]{0,63}")  # PS3.5 9.1; a list of them, or nonsense, is no study


class _Box(msgspec.Struct, omit_defaults=True, rename={"patient": "p", "study": "u", "instances": "i", "settled": "s"}):
    patient: PatientIdentity | None = None
    study: str = ""
    instances: tuple[str, ...] = ()
    settled: Settled | None = None


class _Body(
    msgspec.Struct,
    omit_defaults=True,
    rename={
        "kind": "k", "outcome": "o", "actor": "a", "address": "n", "action": "c", "rule": "r", "reason": "w", "fingerprint": "f",
        "details": "d", "key_id": "y", "box": "b", "patient_token": "tp", "study_token": "ts", "location": "l",
    },
):  # fmt: skip
    kind: str
    outcome: str
    actor: str = ""
    address: str = ""
    action: str = ""
    rule: str = ""
    reason: str = ""
    fingerprint: str = ""
    details: dict[str, str | int] = {}
    key_id: bytes = b""
    box: bytes = b""
    patient_token: bytes = b""
    study_token: bytes = b""
    location: Location | None = None


class _Told(msgspec.Struct, rename={"kind": "k", "key_id": "y", "box": "b", "location": "l"}):
    """Of a body what leads to the settled version in its box: whoever reads a million of them reads no more."""

    kind: str
    key_id: bytes = b""
    box: bytes = b""
    location: Location | None = None


class _Kept(msgspec.Struct, rename={"settled": "s"}):
    settled: Settled | None = None


_ENCODER = msgspec.msgpack.Encoder()
_BODY = msgspec.msgpack.Decoder(_Body)
_BOX = msgspec.msgpack.Decoder(_Box)
_TOLD = msgspec.msgpack.Decoder(_Told)
_KEPT = msgspec.msgpack.Decoder(_Kept)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as the journal has it. `at_ns`: UTC, Unix nanoseconds; `sequence` counts within `writer`; `(file, offset)` is where it ends.

    `sealed` says why what identifies the patient is missing from `event`, "" where all of it is there: its study's key may be erased.
    """

    event: Event
    at_ns: int
    writer: bytes
    sequence: int
    file: int
    offset: int
    sealed: str = ""
    body: bytes = field(default=b"", repr=False, compare=False)  # as it was written, its box still sealed


def encode_event(event: Event, keyring: Keyring) -> bytes:
    """The body of a record. A new study key may have been appended to the keyring: sync it first. Raises StoreFault."""
    body = _Body(
        event.kind,
        event.outcome,
        event.actor,
        event.address,
        event.action,
        event.rule,
        event.reason,
        event.fingerprint,
        dict(event.details),
        location=event.settled.location if event.settled else None,
    )
    if event.patient or event.study_instance_uid or event.subject_uids or event.settled:
        key = _key_for(event.study_instance_uid, keyring)
        box = _Box(event.patient, event.study_instance_uid, event.subject_uids, event.settled)
        body.key_id, body.box = key.id, key.seal(_PURPOSE, _ENCODER.encode(box), event.kind.encode())
        if event.patient:
            body.patient_token = patient_token(keyring, event.patient.patient_id)
        if event.study_instance_uid:
            body.study_token = study_token(keyring, event.study_instance_uid)
    return _ENCODER.encode(body)


def decode_event(data: bytes, keyring: Keyring) -> tuple[Event, str]:
    """The event, and why its patient's box stays shut, "" where it opened. Raises JournalFault."""
    try:
        body = _BODY.decode(data)
        box, sealed = _open_box(body, keyring)
        event = Event(
            EventKind(body.kind),
            Outcome(body.outcome),
            body.actor,
            body.address,
            body.action,
            body.rule,
            body.reason,
            body.fingerprint,
            box.study,
            box.instances,
            body.details,
            box.patient,
            box.settled,
        )
    except ValueError as error:
        raise JournalFault(f"an event cannot be read: {error}", hint="upgrade, if a newer program wrote it") from None
    return event, sealed


def location_in(data: bytes) -> Location | None:
    """Where the instance of a stored event rests, without opening its box. Raises JournalFault."""
    try:
        return _BODY.decode(data).location
    except ValueError as error:
        raise JournalFault(f"an event cannot be read: {error}", hint="upgrade, if a newer program wrote it") from None


def tokens_in(data: bytes) -> frozenset[bytes]:
    """The search tokens that stand beside an event's box. Raises JournalFault."""
    try:
        body = _BODY.decode(data)
    except ValueError as error:
        raise JournalFault(f"an event cannot be read: {error}", hint="upgrade, if a newer program wrote it") from None
    return frozenset({body.patient_token, body.study_token} - {b""})


def settled_in(data: bytes, keyring: Keyring) -> Settled | None:
    """What a stored event says was kept; None for any other, and where the box stays shut. Raises JournalFault."""
    try:
        told = _TOLD.decode(data)
        box = _unsealed(told, keyring) if told.location is not None else b""
        return _KEPT.decode(box).settled if box else None
    except KeyFault:
        return None
    except ValueError as error:
        raise JournalFault(f"an event cannot be read: {error}", hint="upgrade, if a newer program wrote it") from None


def patient_token(keyring: Keyring, patient_id: str) -> bytes:
    """What stands beside the box of every event about that Patient ID, whoever issued it."""
    return _token(keyring, b"patient-id", patient_id)


def study_token(keyring: Keyring, study_instance_uid: str) -> bytes:
    """What stands beside the box of every event about that study."""
    return _token(keyring, b"study-instance-uid", study_instance_uid)


def matter_token(keyring: Keyring, name: str) -> bytes:
    """What changes are found by that are about a person or a request: stands in the search alone, never in the journal."""
    return _token(keyring, b"matter", name)


def passage_token(keyring: Keyring, request: str) -> bytes:
    """What is found by that passed by a flow on demand, as this request opened it."""
    return _token(keyring, b"passage", request)


def to_json(recorded: Recorded) -> dict[str, object]:
    """What `leadglass events --json` prints: JSON-able, empty facts left out."""
    event = recorded.event
    told: dict[str, object] = {
        "at": dt.datetime.fromtimestamp(recorded.at_ns / 1e9, dt.UTC).isoformat(timespec="milliseconds"),
        "writer": recorded.writer.hex(),
        "sequence": recorded.sequence,
        "kind": event.kind.value,
        "severity": event.details.get("severity", CATALOGUE[event.kind].severity.value),
        "outcome": event.outcome.value,
        "actor": event.actor,
        "address": event.address,
        "action": event.action,
        "rule": event.rule,
        "reason": event.reason,
        "fingerprint": event.fingerprint,
        "study_instance_uid": event.study_instance_uid,
        "subject_uids": list(event.subject_uids),
        "details": dict(event.details),
        "sealed": recorded.sealed,
    }
    if event.patient is not None:
        told["patient"] = {"patient_id": event.patient.patient_id, "issuer": event.patient.issuer}
    if event.settled is not None:
        told["version"] = event.settled.version
        told["digest"] = event.settled.digest.hex()
        told["segment"] = event.settled.location.segment
        told["record"] = event.settled.location.record
    return {name: value for name, value in told.items() if value not in ("", [], {})}


def _open_box(body: _Body, keyring: Keyring) -> tuple[_Box, str]:
    """An empty box, and why, where its key is gone. Raises ValueError where what it holds cannot be read."""
    try:
        opened = _unsealed(body, keyring)
    except KeyFault as fault:
        return _Box(), str(fault)
    return (_BOX.decode(opened) if opened else _Box()), ""


def _unsealed(body: _Body | _Told, keyring: Keyring) -> bytes:
    """What the box holds, nothing where there is none. Raises KeyFault."""
    if not body.box:
        return b""
    key = keyring.key(body.key_id) if body.key_id != NO_STUDY else _journal_box(keyring)
    return key.open(_PURPOSE, body.box, body.kind.encode())


def _key_for(study_instance_uid: str, keyring: Keyring) -> StudyKey:
    """The study's key; the journal's own where what was asked for names no study."""
    return keyring.study_key(study_instance_uid) if _UID.fullmatch(study_instance_uid) else _journal_box(keyring)


def _journal_box(keyring: Keyring) -> StudyKey:
    return StudyKey(NO_STUDY, keyring.site_key.derive("journal-box"))


def _token(keyring: Keyring, what: bytes, value: str) -> bytes:
    return _tokenised(keyring.site_key.derive("search-token"), what, value)


@lru_cache(maxsize=512)  # a study's events come together
def _tokenised(key: bytes, what: bytes, value: str) -> bytes:
    return hmac.digest(key, what + b"\0" + value.encode(), hashlib.sha256)[:TOKEN_LENGTH_BYTES]
