"""An event comes back whole; what identifies a patient is nowhere but in its box; without the study's key the rest is still told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leadglass.audit.catalogue import CATALOGUE
from leadglass.audit.codec import (
    Recorded,
    decode_event,
    encode_event,
    location_in,
    patient_token,
    study_token,
    to_json,
)
from leadglass.site.keyring import Keyring
from leadglass.site.writer import Writer
from leadglass.terms import Event, EventKind, JournalFault, Outcome
from tests.audit.happened import PATIENT, SOP, STUDY, Site, about, admitted, asked, refused, stored


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    site = Site(tmp_path)
    return Keyring.open(tmp_path, site.key, Writer.create(tmp_path))


@pytest.mark.parametrize("event", [admitted(), stored(), asked(), refused(), about(stored(), settled=None)])
def test_an_event_comes_back_whole(keyring: Keyring, event: Event) -> None:
    assert decode_event(encode_event(event, keyring), keyring) == (event, "")


@pytest.mark.parametrize("kind", list(EventKind))
def test_every_kind_is_written_read_and_told(keyring: Keyring, kind: EventKind) -> None:
    event = Event(kind, Outcome.FAILED, actor="CT1", details={"n": 1, "text": "ü"})
    assert decode_event(encode_event(event, keyring), keyring) == (event, "")
    told = to_json(Recorded(event, 1_795_000_000_000_000_000, b"w" * 16, 7, 1, 500))
    assert json.loads(json.dumps(told))["severity"] == CATALOGUE[kind].severity
    assert CATALOGUE[kind].means.endswith(".") and CATALOGUE[kind].mend.endswith(".")


@pytest.mark.parametrize("event", [stored(), asked(), about(asked(), study_instance_uid=STUDY)])
def test_no_patient_outside_the_box(keyring: Keyring, event: Event) -> None:
    body = encode_event(event, keyring)
    for secret in (PATIENT.patient_id, PATIENT.issuer, STUDY, SOP, "DOE^JANE", "Süd"):
        assert secret.encode() not in body


def test_tokens_find_a_patient_and_a_study_and_nobody_else(keyring: Keyring, tmp_path: Path) -> None:
    mine, study = patient_token(keyring, PATIENT.patient_id), study_token(keyring, STUDY)
    body = encode_event(stored(), keyring)
    assert mine in body and study in body
    assert mine in encode_event(asked(), keyring)
    assert mine not in encode_event(about(asked(), patient=None, study_instance_uid=STUDY), keyring)
    assert patient_token(keyring, "PAT-4712") not in body
    assert patient_token(keyring, STUDY) != study
    other = tmp_path / "other"
    other.mkdir()
    elsewhere = Keyring.open(other, Site(other).key, None)
    assert patient_token(elsewhere, PATIENT.patient_id) != mine, "keyed: nobody tries patient ids without the site key"


def test_what_names_no_study_makes_no_study_key(keyring: Keyring, tmp_path: Path) -> None:
    for uid in ("", "1.2\\1.3", "*", "1.2.3 OR 1=1", "9" * 65):
        event = about(asked(), study_instance_uid=uid)
        assert decode_event(encode_event(event, keyring), keyring) == (event, "")
    assert Keyring.open(tmp_path, keyring.site_key, None).studies() == 0


def test_without_the_study_key_the_rest_is_told(keyring: Keyring, tmp_path: Path) -> None:
    body = encode_event(stored(), keyring)
    assert keyring._writer is not None
    (keyring._writer.directory / "keyring").unlink()
    event, sealed = decode_event(body, Keyring.open(tmp_path, keyring.site_key, None))
    assert event == about(stored(), patient=None, settled=None, study_instance_uid="", subject_uids=())
    assert "no keyring has the key" in sealed
    assert to_json(Recorded(event, 0, b"w" * 16, 1, 1, 1, sealed))["sealed"] == sealed


def test_a_location_needs_no_box(keyring: Keyring) -> None:
    event = stored(7)
    assert event.settled is not None
    assert location_in(encode_event(event, keyring)) == event.settled.location
    assert location_in(encode_event(admitted(), keyring)) is None


def test_what_is_told_is_whole_and_without_empty_facts(keyring: Keyring) -> None:
    told = to_json(Recorded(stored(), 1_795_000_000_123_456_789, b"w" * 16, 7, 1, 500))
    assert told == json.loads(json.dumps(told))
    assert told["at"] == "2026-11-18T11:06:40.123+00:00" and told["sequence"] == 7
    assert told["patient"] == {"patient_id": "PAT-4711", "issuer": "HOSPITAL"}
    assert (told["version"], told["record"], told["digest"]) == (2, 1, "64" * 32)
    assert "sealed" not in told and "" not in told.values()
    detected = about(admitted(), details={"severity": "alarm"})
    assert to_json(Recorded(detected, 0, b"w" * 16, 1, 1, 1))["severity"] == "alarm"


def test_a_body_that_is_none_is_a_journal_fault(keyring: Keyring) -> None:
    body = encode_event(stored(), keyring)
    unknown = encode_event(admitted(), keyring).replace(b"association:admitted", b"association:whatever")
    for broken in (b"", b"\x80", body[:-1], unknown):
        with pytest.raises(JournalFault):
            decode_event(broken, keyring)
