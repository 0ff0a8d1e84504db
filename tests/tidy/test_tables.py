"""Every table is full: a reply for each refusal, a catalogue row for each event, a sentence for each key of the site file."""

from __future__ import annotations

from pathlib import Path

from leadglass import terms
from leadglass.audit.catalogue import CATALOGUE
from leadglass.doors.replies import FAULTS, REPLIES
from leadglass.site.schema import KEYS

ROOT = Path(__file__).parents[2]


def family(base: type[Exception]) -> set[type[Exception]]:
    return {each for each in vars(terms).values() if isinstance(each, type) and issubclass(each, base)}


def test_every_refusal_and_fault_has_a_row() -> None:
    assert family(terms.Refused) == set(REPLIES)
    assert family(terms.Fault) == set(FAULTS)
    for row in [*REPLIES.values(), *FAULTS.values()]:
        assert len(row.associate_rj) == 3 and row.dimse_status and row.comment and row.http_status and row.hl7_ack
        assert len(row.comment) <= 64, "Error Comment is LO"


def test_what_a_peer_hears_does_not_say_which_check_failed() -> None:
    outsiders = [REPLIES[each] for each in (terms.NotIdentified, terms.NotPermitted, terms.Contained)]
    assert len({(row.associate_rj, row.dimse_status, row.comment) for row in outsiders}) == 1


def test_every_event_kind_is_catalogued() -> None:
    assert set(CATALOGUE) == set(terms.EventKind)
    for kind in terms.EventKind:
        noun, _, verb = kind.value.partition(":")
        assert noun.isalpha() and verb.isalpha()
    assert [kind.value for kind in terms.EventKind] == sorted(kind.value for kind in terms.EventKind)


def test_every_key_of_the_site_file_is_documented() -> None:
    page = (ROOT / "docs" / "site-file.md").read_text()
    missing = [key for key in KEYS if key.rpartition(".")[2] not in page]
    assert not missing
