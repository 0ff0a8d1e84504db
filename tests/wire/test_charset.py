"""Character sets against pydicom's files and the Standard's own examples (PS3.5 Annexes H, I, J, K)."""

from __future__ import annotations

import warnings
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadglass.wire.charset import decode_text, decode_value, normalise_for_matching


def _with_a_name() -> list[Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = sorted((Path(pydicom.data.__file__).parent / "charset_files").glob("*.dcm"))
        return [path for path in files if "PatientName" in pydicom.dcmread(path)]


FILES = _with_a_name()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_names_of_pydicoms_charset_files(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = pydicom.dcmread(path)
        raw = pydicom.dcmread(path, defer_size=None)
        name = oracle.get("PatientName")
        assert name is not None
        charset = raw.get("SpecificCharacterSet", "")
        terms = charset if isinstance(charset, str) else "\\".join(charset)
        expected = str(name)
    assert name.original_string is not None
    original = name.original_string
    assert decode_value(original, "PN", terms.encode()).rstrip("^=") == expected.rstrip("^=")


@pytest.mark.parametrize(
    ("data", "charset", "expected"),
    [
        (b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B", b"\\ISO 2022 IR 87",
         "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf", b"\\ISO 2022 IR 149",
         "Hong^Gildong=洪^吉洞=홍^길동"),
        (b"Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe6\x9d\xb1=", b"ISO_IR 192", "Wang^XiaoDong=王^小東="),
        (b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", b"GB18030", "Wang^XiaoDong=王^小东="),
        (b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J", b"ISO 2022 IR 13\\ISO 2022 IR 87", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
        (b"Buc^J\xe9r\xf4me", b"ISO_IR 100", "Buc^Jérôme"),
        (b"\xc4neas^R\xfcdiger", b"ISO_IR 100", "Äneas^Rüdiger"),
        ("Люкceмбypг".encode("iso8859-5"), b"ISO_IR 144", "Люкceмбypг"),
    ],
)  # fmt: skip
def test_the_standards_examples(data: bytes, charset: bytes, expected: str) -> None:
    assert decode_value(data, "PN", charset) == expected


def test_bytes_without_a_character_set_are_replaced_not_guessed() -> None:
    assert decode_text(b"J\xe9r", "LO") == "J�r"


@given(
    st.binary(max_size=80),
    st.sampled_from(
        [b"", b"ISO_IR 100", b"\\ISO 2022 IR 87", b"nonsense", b"ISO 2022 IR 13\\ISO 2022 IR 159", b"ISO_IR 192"]
    ),
)
def test_no_bytes_are_too_strange(data: bytes, charset: bytes) -> None:
    for vr in ("PN", "LO", "UT", "US", "OB", "DS"):
        assert isinstance(decode_value(data, vr, charset), str)


def test_matching_folds_case_width_and_space() -> None:
    assert normalise_for_matching("  ＳＭＩＴＨ^John  ") == normalise_for_matching("smith^john")
    assert normalise_for_matching("Straße") == normalise_for_matching("STRASSE")


@pytest.mark.parametrize(
    ("data", "charset", "expected"),
    [
        ("乗".encode("gbk") + b"\\" + b"A", b"GBK", "乗\\A"),  # the second byte is a backslash's
        ("乗".encode("gb18030") + b"^B ", b"GB18030", "乗^B"),
        ("ทดสอบ".encode("tis-620"), b"ISO_IR 166", "ทดสอบ"),
        (b"\x1b-T" + "ทดสอบ".encode("tis-620"), b"\\ISO 2022 IR 166", "ทดสอบ"),
        (b"\x1b-F" + "Διον".encode("iso8859-7") + b"^\xc4", b"ISO 2022 IR 100\\ISO 2022 IR 126", "Διον^Ä"),
        (b"Wang=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab=", b"\\ISO 2022 IR 58", "Wang=王^小东="),
        (
            b"\x1b$B;3\xd4\xcf\x1b(J~",
            b"ISO 2022 IR 13\\ISO 2022 IR 87",
            "山ﾔﾏ‾",
        ),  # half-width kana between two-byte ones
        (b"\x1b$(D0!\x1b(B", b"\\ISO 2022 IR 159", "丂"),
        (b"\x1b$B;3ED", b"\\ISO 2022 IR 87", "山田"),  # no way back to ASCII at the end
        (b"\x1b$B;3E\x1b(BA", b"\\ISO 2022 IR 87", "山�A"),
        (b"A\x1b\x1b(Z", b"\\ISO 2022 IR 87", "A��(Z"),
        ("é".encode(), b"ISO_IR 192\\ISO 2022 IR 87", "é"),
        (b"\xc0\xaf\xed\xa0\x80", b"ISO_IR 192", "�����"),  # overlong, surrogate
        (b"J\xe9r", b"iso ir 100 ", "Jér"),
        (b"J\xe9r", b"ISO-IR-100", "Jér"),
        (b"J\xe9r", b"ISO 2022 IR 100", "Jér"),
        (b"J\xe9r", b"LATIN1", "J�r"),
    ],
)
def test_code_extensions_spellings_and_nonsense(data: bytes, charset: bytes, expected: str) -> None:
    assert decode_value(data, "PN", charset) == expected


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("CS", b" A\\ B \0", "A\\B"),
        ("LT", b" A\\ B ", " A\\ B"),
        ("UI", b"1.2\0", "1.2"),
        ("US", b"\1\0\2\0\3", "1\\2"),
        ("FD", b"\0" * 8, "0.0"),
        ("OB", b"AB", ""),
        ("CS", b"\xff", "�"),
    ],
)
def test_values_of_other_vrs(vr: str, value: bytes, expected: str) -> None:
    assert decode_value(value, vr) == expected


def test_a_character_set_of_no_end_is_cut() -> None:
    assert decode_text(b"\xe9", "LO", b"ISO_IR 100" + b"\\ISO 2022 IR 87" * 100_000) == "é"
