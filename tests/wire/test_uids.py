"""Which UIDs are kept, which are odd, which are known."""

from __future__ import annotations

import pytest
from pydicom._uid_dict import UID_dictionary

from leadglass.wire import uids


@pytest.mark.parametrize(
    "text",
    ["", "..", "1.2/3", "CON", "..\\..", "1.2\0", "/etc/passwd", "1.2/../3", "1." + "2" * 64, "1.2 ", "1.2\n", "1.٣"],
)
def test_what_is_no_uid(text: str) -> None:
    assert uids.uid_problem(text)


@pytest.mark.parametrize("text", ["1.02.3", "1..2", "123", "1.2."])
def test_odd_but_legal_length_uids_are_warned_about(text: str) -> None:
    assert not uids.uid_problem(text) and uids.uid_warning(text)


def test_storage_classes() -> None:
    assert uids.storage_class_of("CTImageStorage") == "1.2.840.10008.5.1.4.1.1.2"
    assert not uids.is_storage(uids.VERIFICATION) and not uids.is_storage(uids.STORAGE_COMMITMENT_PUSH)
    assert len(uids.storage_classes()) > 180


def test_keywords_lead_to_uids_and_back() -> None:
    for uid, keyword in uids.storage_classes().items():
        assert uids.storage_class_of(keyword) == uid == uids.storage_class_of(uid)
        assert uids.keyword_of_class(uid) == keyword


def test_the_tables_hold_what_the_standard_has() -> None:
    for uid, (name, kind, _, retired, _) in UID_dictionary.items():
        if kind == "SOP Class" and name.endswith(" Storage") and "Directory" not in name:
            assert uids.is_storage(uid), name
        if kind == "Transfer Syntax" and not retired and "SMPTE" not in name:
            assert uid in uids.TRANSFER_SYNTAXES, name


def test_a_new_uid_comes_from_random_bytes_alone() -> None:
    uid = uids.uid_from(bytes(range(16)))
    assert uid == uids.uid_from(bytes(range(16))) == "2.25.5233100606242806050955395731361295"
    assert not uids.uid_problem(uids.uid_from(b"\xff" * 16)) and not uids.uid_warning(uid)
