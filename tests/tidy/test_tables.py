"""Every table is full: a reply for each refusal, a catalogue row for each event, a sentence for each key of the site file."""

from __future__ import annotations

import importlib
import re

from leadglass import terms
from tests.tidy.repository import MODULES, ROOT, module_name, text_of

ERROR_COMMENT_CHARACTERS_MAX = 64  # (0000,0902) is LO


def family(base: type[Exception]) -> set[type[Exception]]:
    """The base and every class below it, wherever in the product it is written."""
    for path in MODULES:
        importlib.import_module(module_name(path))
    found, waiting = set(), [base]
    while waiting:
        found.add(each := waiting.pop())
        waiting += each.__subclasses__()
    return {each for each in found if each.__module__.startswith("leadglass.")}


def test_every_refusal_and_fault_has_a_full_row() -> None:
    from leadglass.doors.replies import FAULTS, REPLIES

    assert family(terms.Refused) == set(REPLIES)
    assert family(terms.Fault) == set(FAULTS)
    for row in [*REPLIES.values(), *FAULTS.values()]:
        assert row.associate_rj[0] in (1, 2) and row.associate_rj[1] in (1, 2, 3)  # PS3.8 table 9-21
        assert row.dimse_status >> 12 in (0x0, 0xA, 0xC) and row.dimse_status not in (0x0000, 0x0001), (
            "a failure (PS3.7 C.1)"
        )
        assert 0 < len(row.comment) <= ERROR_COMMENT_CHARACTERS_MAX
        assert 400 <= row.http_status < 600
        assert row.hl7_ack in ("AE", "AR")


def test_what_a_peer_hears_does_not_say_which_check_failed() -> None:
    from leadglass.doors.replies import REPLIES

    outsiders = [REPLIES[each] for each in (terms.NotIdentified, terms.NotPermitted, terms.Contained)]
    assert len({(row.associate_rj, row.dimse_status, row.comment) for row in outsiders}) == 1


def test_event_kinds_keep_their_naming_law() -> None:
    kinds = [kind.value for kind in terms.EventKind]
    assert kinds == sorted(kinds)
    assert all(re.fullmatch(r"[a-z]+:[a-z]+", kind) for kind in kinds)


def test_every_event_kind_is_catalogued() -> None:
    from leadglass.audit.catalogue import CATALOGUE

    assert set(CATALOGUE) == set(terms.EventKind)


def test_every_key_of_the_site_file_is_documented() -> None:
    from leadglass.site.schema import KEYS

    page = text_of(ROOT / "docs" / "site-file.md")
    assert [key for key in KEYS if not re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.]*\w)", page)] == []
    assert [key for key, sentence in KEYS.items() if not sentence.endswith(".")] == []
