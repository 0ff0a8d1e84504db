from __future__ import annotations

import fnmatch
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadglass.archive.matching import (
    KEYS_MAX,
    LIST_LENGTH_MAX_CHARACTERS,
    LIST_VALUES_MAX,
    PATTERNS_MAX,
    TEXT_KEY_LENGTH_MAX_CHARACTERS,
    column_text,
    keys_to_match,
    unique_values,
)
from leadglass.terms import Malformed
from leadglass.wire import tags

NAME, DESCRIPTION, DATE, TIME, WHEN = (
    tags.PATIENT_NAME,
    tags.STUDY_DESCRIPTION,
    tags.STUDY_DATE,
    tags.STUDY_TIME,
    tags.ACQUISITION_DATETIME,
)
UID, SERIES_NUMBER = tags.STUDY_INSTANCE_UID, tags.SERIES_NUMBER
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


def hits(tag: int, key: str, value: str) -> bool:
    return all(each.matches(value) for each in keys_to_match({tag: key}, {tag}))


@pytest.mark.parametrize(
    ("tag", "key", "value", "expected"),
    [
        # universal (C.2.2.2.3)
        (NAME, "", "Smith", True),
        (NAME, "*", "", True),
        (DESCRIPTION, "**", "", True),
        (UID, "\\", "1.2", True),
        # single value (C.2.2.2.1)
        (DESCRIPTION, "Head", "HEAD", True),
        (DESCRIPTION, "Head", "Head CT", False),
        (DESCRIPTION, "Ｈead", "head", True),
        (DESCRIPTION, "caf\u00e9", "cafe\u0301", True),
        (DESCRIPTION, "Head  CT", "head ct", True),
        # nothing but * and ? means anything
        (DESCRIPTION, "100%", "100%", True),
        (DESCRIPTION, "100%", "1000", False),
        (DESCRIPTION, "a_b", "axb", False),
        (DESCRIPTION, "[ab]*", "a", False),
        (DESCRIPTION, "[ab]*", "[ab]c", True),
        (DESCRIPTION, "a.c", "abc", False),
        (DESCRIPTION, "' OR 1=1 --", "Head", False),
        # wildcards (C.2.2.2.4)
        (DESCRIPTION, "h?ad", "head", True),
        (DESCRIPTION, "h?ad", "had", False),
        (DESCRIPTION, "*ead", "head", True),
        (DESCRIPTION, "*e*d*", "head", True),
        (DESCRIPTION, "h*d", "hea", False),
        (DESCRIPTION, "a*ab", "aab", True),
        (DESCRIPTION, "ab*ba", "aba", False),
        (DESCRIPTION, "山*", "山田", True),
        # several values: any of them (C.2.2.2.8)
        (tags.IMAGE_TYPE, "AXIAL", "ORIGINAL\\PRIMARY\\AXIAL", True),
        (tags.MODALITIES_IN_STUDY, "MR\\CT", "CT\\SR", True),
        (tags.MODALITIES_IN_STUDY, "MR\\P?", "CT\\PT", True),
        (tags.MODALITIES_IN_STUDY, "MR\\US", "CT\\SR", False),
        # empty value (C.2.2.2.7)
        (DESCRIPTION, '""', "", True),
        (DESCRIPTION, '""', "Head", False),
        (NAME, '""', "^^", True),
        # lists of UIDs (C.2.2.2.2); wildcards mean nothing in them
        (UID, "1.2\\1.3", "1.3", True),
        (UID, "1.2", "1.2.3", False),
        (UID, "1.2*", "1.2.3", False),
        # ranges (C.2.2.2.5)
        (DATE, "20240101-20241231", "20240101", True),
        (DATE, "20240101-20241231", "20241231", True),
        (DATE, "20240101-20241231", "20250101", False),
        (DATE, "20240101 - 20241231", "2024.06.01", True),
        (DATE, "-20241231", "19000101", True),
        (DATE, "-20241231", "", False),
        (DATE, "20240101-", "20990101", True),
        (DATE, "20240101-", "20231231", False),
        (DATE, "20241231-20240101", "20240601", False),
        (DATE, "20240101", "20240101", True),
        (DATE, "20240101", "20240102", False),
        (DATE, "20240101\\20240103", "20240103", True),
        (DATE, "20240101\\20240103", "20240102", False),
        (TIME, "1000-1800", "180000.5", True),
        (TIME, "1000-1800", "180001", False),
        (TIME, "10-", "095959", False),
        (TIME, "-10", "09", True),
        (TIME, "101500", "1015", True),
        (TIME, "10:15:00", "101500.000", True),
        (WHEN, "2024-2025", "20251231235959", True),
        (WHEN, "2024-2025", "2026", False),
        (WHEN, "20240101120000-0500", "20240101120000", True),
        (WHEN, "20240101-0500-20240102-0500", "20240101130000-0500", True),
        (WHEN, "-20240101", "20240101235959.9", True),
        # numbers
        (SERIES_NUMBER, "7", "007", True),
        (SERIES_NUMBER, "7\\8", "+8", True),
        (SERIES_NUMBER, "7", "70", False),
        (SERIES_NUMBER, "nan", "nan", False),
    ],
)
def test_matching(tag: int, key: str, value: str, expected: bool) -> None:
    assert hits(tag, key, value) is expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("SMI*", "Smith^John", True),
        ("smith^john", "SMITH^JOHN", True),
        ("Smith^John^^", "Smith^John", True),
        ("Smith^John", "Smith^John^^^", True),
        ("Smith", "Smith^John", False),
        ("Smith^J", "Smith^John", False),
        ("Smith^*", "Smith", True),
        ("Smith^?", "Smith", False),
        ("*John*", "Smith^John^^Dr", True),
        ("Smith^^^Dr", "Smith^John^^Dr", False),
        ("Smith ^ John", "Smith^John", True),
        ("Yamada*", JAPANESE, True),
        ("山田*", JAPANESE, True),
        ("やまだ^たろう", JAPANESE, True),
        ("=山田*", JAPANESE, True),
        ("Yamada*=山田*", JAPANESE, True),
        ("Yamada*=田中*", JAPANESE, False),
        ("==やまだ*", JAPANESE, True),
        ("==やまだ*", "Yamada^Tarou", False),
        ("Yam*太郎*", JAPANESE, True),
        ("Smith*\\Yamada*", JAPANESE, True),
        ("Müller", "MU\u0308LLER", True),
        ("Straße", "STRASSE", True),
        ("^", "Smith", True),
    ],
)
def test_names(key: str, value: str, expected: bool) -> None:
    assert hits(NAME, key, value) is expected


PIECES = st.text(alphabet="ab*?", max_size=12)


@given(PIECES, st.text(alphabet="ab", max_size=12))
def test_wildcards_mean_what_they_mean_elsewhere(key: str, value: str) -> None:
    assert hits(DESCRIPTION, key, value) == (not key or bool(re.fullmatch(fnmatch.translate(key), value)))


@given(st.text(alphabet="ab^=*? ñ山", min_size=1, max_size=10), st.text(alphabet="ab^= ñ山", max_size=10))
def test_what_narrows_a_name_leaves_out_no_match(key: str, value: str) -> None:
    for each in keys_to_match({NAME: key}, {NAME}):
        if each.matches(value):
            column = column_text(NAME, value)
            assert any(form.startswith(each.prefix) for form in column.split("="))
            assert each.piece in column and not each.exact


@given(st.text(alphabet="ab*? ñß", min_size=1, max_size=8), st.text(alphabet="ab ñßS", max_size=8))
def test_what_narrows_text_leaves_out_no_match(key: str, value: str) -> None:
    for each in keys_to_match({tags.ACCESSION_NUMBER: key}, {tags.ACCESSION_NUMBER}):
        if each.matches(value):
            column = column_text(tags.ACCESSION_NUMBER, value)
            assert column.startswith(each.prefix) and each.piece in column
            assert not each.exact or column in each.exact


@given(st.dates(), st.dates(), st.dates())
def test_a_range_of_dates(low: object, high: object, date: object) -> None:
    first, last, day = (f"{each:%Y%m%d}".zfill(8) for each in (low, high, date))
    assert hits(DATE, f"{first}-{last}", day) == (first <= day <= last)
    (key,) = keys_to_match({DATE: f"{first}-{last}"}, {DATE})
    assert key.span == (first, last)


def test_no_pattern_takes_long() -> None:
    """In a process of its own, so that one that does is stopped."""
    code = (
        "from leadglass.archive.matching import keys_to_match as k; t = 0x00081030\n"
        "assert not k({t: '*a' * 200 + '*b'}, {t})[0].matches('a' * 4096)\n"
        "assert not k({0x00100010: '*a?' * 100 + 'b'}, {0x00100010})[0].matches('a' * 4096)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_keys_that_are_not_known_are_not_matched() -> None:
    assert keys_to_match({0x00091001: "x", DATE: "never"}, {NAME}) == ()


@pytest.mark.parametrize(
    ("tag", "key"),
    [
        (DATE, "yesterday"),
        (DATE, "-"),
        (DATE, "2024"),
        (DATE, "20240101-2024"),
        (TIME, "1-2"),
        (WHEN, "202-"),
        (UID, "\\".join(f"1.{number}" for number in range(LIST_VALUES_MAX + 1))),
        (UID, "1" * (LIST_LENGTH_MAX_CHARACTERS + 1)),
        (DESCRIPTION, "a" * (TEXT_KEY_LENGTH_MAX_CHARACTERS + 1)),
        (DESCRIPTION, "\\".join(["a"] * (LIST_VALUES_MAX + 1))),
        (DESCRIPTION, "\\".join(["a*"] * (PATTERNS_MAX + 1))),
        (NAME, "\\".join(["a"] * (PATTERNS_MAX + 1))),
    ],
)
def test_what_means_nothing_or_is_too_much_is_refused(tag: int, key: str) -> None:
    with pytest.raises(Malformed):
        keys_to_match({tag: key}, {tag})


def test_the_limits_themselves_are_allowed() -> None:
    uids = [f"1.{number}" for number in range(LIST_VALUES_MAX)]
    assert len(keys_to_match({UID: "\\".join(uids)}, {UID})[0].exact) == LIST_VALUES_MAX
    assert keys_to_match(dict.fromkeys(range(KEYS_MAX), ""), set()) == ()
    with pytest.raises(Malformed):
        keys_to_match(dict.fromkeys(range(KEYS_MAX + 1), ""), set())


def test_unique_values() -> None:
    assert unique_values({UID: "1.3\\1.2\\ 1.3 \\"}, UID) == ("1.2", "1.3")
    assert unique_values({UID: "*"}, UID) == unique_values({}, UID) == ()
    with pytest.raises(Malformed):
        unique_values({UID: "1\\" * LIST_VALUES_MAX}, UID)
