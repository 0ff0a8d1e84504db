"""The Standard's facts against pydicom's."""

from __future__ import annotations

import pytest
from pydicom.datadict import dictionary_keyword, dictionary_VR

from leadglass.wire import tags
from leadglass.wire.dictionary import choices_of, keyword_of, sequences, tag_of, vr_of


@pytest.mark.parametrize("tag", [*sorted(tags.INDEXED), 0x60000010, 0x60023000, 0x601E0022, 0x50040010, 0x00280106])
def test_it_says_what_pydicom_says(tag: int) -> None:
    assert choices_of(tag) == tuple(dictionary_VR(tag).split(" or "))
    assert vr_of(tag) == dictionary_VR(tag)[:2]
    assert keyword_of(tag) == dictionary_keyword(tag)


def test_what_the_dictionary_does_not_hold() -> None:
    assert [vr_of(tag) for tag in (0x00090010, 0x000900FF, 0x00091010, 0x00090000, 0x60011010, 0x12345678)] == [
        "LO", "LO", "UN", "UL", "UN", "UN",
    ]  # fmt: skip
    assert keyword_of(0x00091010) == "" and tag_of("NoSuchThing") is None
    assert tag_of("PatientName") == tags.PATIENT_NAME
    assert tags.REFERENCED_SOP_SEQUENCE in sequences() and tags.PATIENT_NAME not in sequences()
