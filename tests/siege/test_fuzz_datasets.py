"""Mutants of real and made-up data sets: every reader of one raises its typed errors only, in pieces as at once, and writes what it can read again."""

from __future__ import annotations

import contextlib
import io
import json
import random
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pydicom
import pytest

from leadglass.wire import tags
from leadglass.wire.charset import _ESCAPES, decode_text, decode_value, normalise_for_matching
from leadglass.wire.dataset import LONG_VRS, SHORT_VRS, Header, MalformedDataSet, Scanner
from leadglass.wire.dicomjson import from_json, to_json
from leadglass.wire.elements import DataSet, Element, ElementLimits, _Open, _Parser, encode, padded, parse
from leadglass.wire.part10 import read_part10, write_part10
from leadglass.wire.transcode import canonical, reencode
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from leadglass.wire.values import date_of, integer_of, name_groups, time_of
from tests.siege.campaign import Campaign
from tests.siege.mutate import blunt, mutated_data_set, mutated_json
from tests.synthetic import image
from tests.wire.samples import samples

pytestmark = pytest.mark.xdist_group("fuzzed-datasets")
MUTANTS_A_SEED = 2_000
PAST_HEADER_MIN = 0.30
LENGTH_MAX_BYTES = 6_000  # a mutation in pixels is a mutation of nothing
PIXELS_KEPT_BYTES = 64
VRS = tuple(vr.decode() for vr in sorted(SHORT_VRS | LONG_VRS) if vr != b"SQ")
CHARACTER_SETS = (b"", b"\\ISO 2022 IR 87", b"ISO_IR 13\\ISO 2022 IR 149", b"ISO 2022 IR 149", b"ISO_IR 192")
IDENTIFYING = (
    tags.SOP_CLASS_UID,
    tags.SOP_INSTANCE_UID,
    tags.STUDY_INSTANCE_UID,
    tags.SERIES_INSTANCE_UID,
    tags.PATIENT_ID,
)
NATIVE = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)


@dataclass(frozen=True, slots=True)
class Original:
    name: str
    syntax: str
    data: bytes

    @property
    def explicit(self) -> bool:
        return self.syntax != IMPLICIT_VR_LITTLE_ENDIAN


@cache
def originals() -> tuple[Original, ...]:
    """Short ones as they are; of longer ones the header, with hardly any pixels where they are native."""
    found = []
    for sample in samples():
        try:
            length = sample.scanned().length
        except MalformedDataSet:
            length = len(sample.data_set)
        data = sample.data_set
        if len(data) > LENGTH_MAX_BYTES:
            data = data[:length] + (
                _few_pixels(sample.transfer_syntax_uid) if length < len(data) and sample.native else b""
            )
        if len(data) <= LENGTH_MAX_BYTES:
            found.append(Original(sample.path.name, sample.transfer_syntax_uid, data))
    rng = random.Random(2)
    made = ((syntax, image(rng, pixels=PIXELS_KEPT_BYTES, syntax=syntax)) for syntax in NATIVE)
    found += [Original("synthetic", syntax, each.data_set) for syntax, each in made]
    assert len(found) > 50 and {each.syntax for each in found} > set(NATIVE)
    return tuple(found)


def _few_pixels(syntax: str) -> bytes:
    head = b"\xe0\x7f\x10\x00" + (b"OW\0\0" if syntax == EXPLICIT_VR_LITTLE_ENDIAN else b"")
    return head + PIXELS_KEPT_BYTES.to_bytes(4, "little") + bytes(PIXELS_KEPT_BYTES)


def cuts(rng: random.Random, data: bytes) -> Iterator[memoryview]:
    """The data in pieces: every byte alone where there are few, else anything."""
    longest = 1 if len(data) < 500 and rng.random() < 0.3 else max(2, len(data) // rng.choice((2, 4, 12, 40)))
    view, at = memoryview(data), 0
    while at < len(data):
        size = rng.randint(1, longest)
        yield view[at : at + size]
        at += size


# ---- one mutant, each reader


def scanned(original: Original, pieces: Iterator[memoryview]) -> Header | str:
    try:
        scanner = Scanner(original.syntax)
        for piece in pieces:
            scanner.feed(piece)
        return scanner.finish()
    except MalformedDataSet as error:
        return str(error)


def check_scanner(original: Original, data: bytes, rng: random.Random) -> Header | None:
    whole = scanned(original, iter([memoryview(data)]))
    assert scanned(original, cuts(rng, data)) == whole
    if isinstance(whole, str):
        return None
    assert 0 <= whole.length <= whole.data_set_length == len(data)
    for tag in tags.INDEXED:
        text = whole.text(tag)
        assert isinstance(text, str) and isinstance(whole.uid(tag), str)
        whole.strings(tag), whole.number(tag), date_of(text), time_of(text), integer_of(text), name_groups(text)
        normalise_for_matching(text)
    return whole


def first_accepted(original: Original, data: bytes) -> bool:
    """True where a reader got behind the first element, or into it."""
    root = _Open(len(data), len(data), explicit=original.explicit, holds_items=False)
    parser = _Parser(data, ElementLimits(), encapsulated=original.syntax not in NATIVE)
    with contextlib.suppress(MalformedDataSet):
        parser.run(root)
    return bool(root.elements) or len(parser._stack) > 1


def check_elements(original: Original, data: bytes) -> DataSet | None:
    try:
        read = parse(data, original.syntax)
    except MalformedDataSet:
        return None
    written = encode(read, original.syntax)
    again = parse(written, original.syntax)
    assert again == even(read)
    assert encode(again, original.syntax) == written
    for other in NATIVE:
        encode(read, other)
    return read


def even(data_set: DataSet) -> DataSet:
    """As it is written: values padded to even length (PS3.5 7.1)."""
    return DataSet(
        each._replace(value=padded(each.value, each.vr)) if isinstance(each.value, bytes)
        else each._replace(value=tuple(map(even, each.value))) if isinstance(each.value, tuple)
        else each
        for each in data_set
    )  # fmt: skip


def check_json(data_set: DataSet, rng: random.Random) -> None:
    told = to_json(data_set)
    text = json.dumps(told, allow_nan=False)
    for model in (json.loads(text), mutated_json(rng, told)):
        try:
            read = from_json(model)  # type: ignore[arg-type]
        except MalformedDataSet:
            continue
        once = to_json(read)
        assert to_json(from_json(once)) == once


def check_transcode(original: Original, data: bytes, rng: random.Random) -> bool:
    if original.syntax not in NATIVE:
        return False
    accepted = False
    for target in NATIVE:
        outcomes = []
        for pieces in ([data], cuts(rng, data)):
            try:
                outcomes.append(b"".join(map(bytes, reencode(pieces, original.syntax, target))))
            except MalformedDataSet as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]
        if isinstance(outcomes[0], bytes):
            accepted = True
            if target == IMPLICIT_VR_LITTLE_ENDIAN:
                assert canonical(outcomes[0], IMPLICIT_VR_LITTLE_ENDIAN) == outcomes[0]
    return accepted


def check_text(data: bytes, rng: random.Random) -> None:
    """Text never fails: whatever the bytes, whatever the character set says. Nor does its JSON."""
    at = rng.randrange(len(data) + 1)
    value, character_set = data[at : at + 40], rng.choice((*CHARACTER_SETS, data[-20:]))
    for _ in range(rng.randrange(4)):
        value = (
            rng.choice((b"\x1b" + rng.choice(tuple(_ESCAPES)), rng.randbytes(3), b"^=\\", b"1e999", value[:3])) + value
        )
    for vr in VRS:
        text = decode_value(value, vr, character_set)
        json.dumps(to_json(DataSet([Element(0x00091010, vr, value)]), character_set=character_set), allow_nan=False)
        normalise_for_matching(text)
    assert isinstance(decode_text(value, "PN", character_set), str)


def check_part10(original: Original, data: bytes, rng: random.Random) -> None:
    start = write_part10("1.2.840.10008.5.1.4.1.1.2", "2.25.1", original.syntax)
    if data[:2] != b"\2\0":  # such an element would go on with what is before it
        meta = read_part10(start + data)
        assert (meta.transfer_syntax_uid, meta.data_set_offset) == (original.syntax, len(start))
    mutated = start[:132] + blunt(rng, start[132:]) + data
    with contextlib.suppress(MalformedDataSet):
        assert read_part10(mutated).data_set_offset <= len(mutated)


def told_by_pydicom(original: Original, data: bytes) -> dict[int, bytes] | None:
    """The raw values of identifying attributes; None where pydicom does not read the data set, or only with a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            file = io.BytesIO(write_part10("1.2", "1.2", original.syntax) + data)
            oracle = pydicom.dcmread(file, stop_before_pixels=True)
            found = {tag: oracle.get_item(tag) for tag in IDENTIFYING if tag in oracle}
        except Exception:  # whatever an oracle raises: it has no opinion then
            return None
    return {tag: _raw(each.value) for tag, each in found.items() if each is not None}


def _raw(value: object) -> bytes:
    """Most are raw as they were read; an empty one may have been made into a value already."""
    return value.rstrip(b"\0 ") if isinstance(value, bytes) else str(value or "").encode()


def check_oracle(original: Original, data: bytes, header: Header) -> bool:
    told = told_by_pydicom(original, data)
    if told is None:
        return False
    assert {tag: header.values[tag].rstrip(b"\0 ") for tag in IDENTIFYING if tag in header.values} == told
    return True


def check(original: Original, data: bytes, rng: random.Random, counts: Counter[str]) -> None:
    header = check_scanner(original, data, rng)
    read = check_elements(original, data if header is None else data[: header.length])
    if read is not None:
        check_json(read, rng)
    if header is not None:
        counts["compared"] += check_oracle(original, data, header)
        if (
            read is not None
        ):  # two readers of ours, written apart: the same attributes, and nothing else behind the header's end
            assert header.values == {each.tag: each.value for each in read if each.tag in header.values}
            assert not tags.INDEXED & {each.tag for each in read} - set(header.values)
    counts["transcoded"] += check_transcode(original, data, rng)
    check_text(data, rng)
    check_part10(original, data, rng)
    counts["mutants"] += 1
    counts["past_header"] += first_accepted(original, data)
    counts["scanned"] += header is not None
    counts["parsed"] += read is not None


# ---- tests


def test_unchanged_originals_say_what_pydicom_says() -> None:
    compared = 0
    for original in originals():
        header = scanned(original, iter([memoryview(original.data)]))
        if isinstance(header, str):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = io.BytesIO(write_part10("1.2", "1.2", original.syntax) + original.data)
            oracle = pydicom.dcmread(file, stop_before_pixels=True)
            for tag in (tags.SOP_INSTANCE_UID, tags.STUDY_INSTANCE_UID, tags.SERIES_INSTANCE_UID, tags.SOP_CLASS_UID):
                assert header.uid(tag) == str(oracle[tag].value if tag in oracle else ""), original.name
            assert header.text(tags.PATIENT_ID) == str(oracle.get("PatientID") or "").strip(), original.name
        compared += 1
    assert compared > 50


def test_mutated_data_sets(campaign: Campaign) -> None:
    for seed in campaign.seeds("datasets", quick=1):
        rng, counts = random.Random(seed), Counter[str]()
        for number in range(MUTANTS_A_SEED):
            original = rng.choice(originals())
            other = rng.choice([each for each in originals() if each.explicit == original.explicit])
            data = mutated_data_set(rng, original.data, other.data, explicit=original.explicit)
            try:
                check(original, data, rng, counts)
            except BaseException:
                print(f"seed {seed}, mutant {number}: {original.name}, {original.syntax}: {data[:8000].hex()}")
                raise
        assert counts["past_header"] >= PAST_HEADER_MIN * counts["mutants"], counts
        print(f"seed {seed}: {dict(counts)}; so far: {dict(campaign.done('datasets', seed, **counts))}")
