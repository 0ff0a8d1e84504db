"""Dates, times, numbers and names out of text, bounded."""

from __future__ import annotations

from leadglass.wire.values import date_of, integer_of, name_groups, text_vr, time_of


def test_dates_times_numbers_and_names() -> None:
    assert (date_of("20260131"), date_of("2026.01.31"), date_of("2026"), date_of("x" * 10**6)) == (
        "20260131",
        "20260131",
        "",
        "",
    )
    assert (time_of("1203"), time_of("12:03:04.5"), time_of("123")) == ("120300.000000", "120304.500000", "")
    assert (integer_of(" 12 "), integer_of("9" * 10**6), integer_of("1e9")) == (12, None, None)
    assert name_groups("Smith^John^^^=山田^太郎") == (("Smith", "John"), ("山田", "太郎"))


def test_what_python_would_take_for_a_number_but_dicom_would_not() -> None:
    assert [integer_of(text) for text in ("1_000", "١٢", "", "0x10", "12.0")] == [None] * 5
    assert (integer_of("-12"), integer_of("+12"), integer_of("18446744073709551615")) == (-12, 12, 2**64 - 1)


def test_which_values_the_character_set_is_about() -> None:
    assert [vr for vr in ("PN", "LO", "UI", "CS", "OB") if text_vr(vr)] == ["PN", "LO"]
