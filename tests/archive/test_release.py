from __future__ import annotations

import pytest

from leadglass.archive import read
from leadglass.archive.release import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_OBJECT_INSTANCE,
    PROCESSING_FAILURE,
    Answer,
    Release,
)
from leadglass.terms import Action, Commitment, Echo, HoldReason, Level, Query, Reference, Retrieval, Root
from tests.archive.place import BERTA, CT, Place, Process, content, driven, permit, subject

STUDY = 0x0020000D


def opened(process: Process, request, *, device: str = "CT1", classes: frozenset[str] | None = None) -> Answer:
    release = Release(process.index, process.reader, lambda permit: None)
    return driven(release.open(request, permit(device, request.action, classes)))


def verdicts(process: Process, *uids: str, device: str = "CT1", classes=None, sop_class: str = CT) -> list[int]:
    references = tuple(Reference(sop_class, uid) for uid in uids)
    found = opened(process, Commitment(subject(device), "1.9", references), device=device, classes=classes)
    assert found.progress.total == len(uids)
    answers = list(found.verdicts())
    assert [reference for reference, _ in answers] == list(references)
    return [reason for _, reason in answers]


def test_commitment_says_yes_to_what_is_current_and_verified(place: Place) -> None:
    process = place.process()
    process.store("1.2.1", content(1000))
    assert verdicts(process, "1.2.1", "1.2.2") == [0, NO_SUCH_OBJECT_INSTANCE]
    assert verdicts(process, "1.2.1", sop_class="1.2.840.10008.5.1.4.1.1.4") == [CLASS_INSTANCE_CONFLICT]


def test_commitment_says_no_where_this_device_sent_other_bytes(place: Place) -> None:
    process = place.process()
    process.store("1.2.1", b"first", device="CT1")
    process.store("1.2.1", b"second", device="CT2")
    assert verdicts(process, "1.2.1", device="CT1") == [0]
    assert verdicts(process, "1.2.1", device="CT2") == [PROCESSING_FAILURE]
    process.conflicts.promote("1.2.1", 2)
    assert verdicts(process, "1.2.1", device="CT1") == [PROCESSING_FAILURE]
    assert verdicts(process, "1.2.1", device="CT2") == [0]


def test_commitment_says_no_to_what_only_lies_there_held(place: Place) -> None:
    process = place.process()
    process.store("1.2.1", b"first", findings=frozenset({HoldReason.HARMFUL}))
    assert verdicts(process, "1.2.1") == [NO_SUCH_OBJECT_INSTANCE]


def test_commitment_reads_what_it_promises(place: Place) -> None:
    process = place.process()
    settled = process.store("1.2.1", content(1000))
    with (place.site_dir / "objects" / settled.location.segment).open("r+b") as file:
        file.seek(settled.location.offset + 200)
        file.write(b"\0\0\0\0")
    assert verdicts(process, "1.2.1") == [PROCESSING_FAILURE]
    assert process.corrupted


def test_what_a_permit_is_confined_to_confines_everything(place: Place) -> None:
    process = place.process()
    settled = process.store("1.2.1", b"x")
    keys = {STUDY: "1.2.3"}
    for classes, seen in (
        (None, [settled]),
        (frozenset({CT}), [settled]),
        (frozenset({"1.2.840.10008.5.1.4.1.1.4"}), []),
    ):
        retrieval = opened(process, Retrieval(subject(), Root.STUDY, Level.STUDY, keys), classes=classes)
        assert list(retrieval.instances()) == seen
        assert retrieval.progress.total == len(seen)
        query = opened(process, Query(subject(), Root.STUDY, Level.STUDY, keys), classes=classes)
        assert len(list(query.rows())) == len(seen)
        assert verdicts(process, "1.2.1", classes=classes) == ([0] if seen else [NO_SUCH_OBJECT_INSTANCE])


def test_held_versions_are_not_retrieved(place: Place) -> None:
    process = place.process()
    first = process.store("1.2.1", b"first")
    process.store("1.2.1", b"second")
    process.store("1.2.2", b"of another patient", patient=BERTA)
    found = opened(process, Retrieval(subject(), Root.STUDY, Level.STUDY, {STUDY: "1.2.3"}))
    assert list(found.instances()) == [first]
    assert b"".join(found.read(first)) == b"first"


@pytest.mark.parametrize(
    ("most", "most_bytes", "ahead"), [(64, 1 << 30, 9), (3, 1 << 30, 3), (64, 9_000, 2), (64, 10, 1)]
)
def test_what_comes_next_is_on_its_way_before_its_turn(
    place: Place, monkeypatch: pytest.MonkeyPatch, most: int, most_bytes: int, ahead: int
) -> None:
    monkeypatch.setattr(read, "EXPECTED_MAX", most)
    monkeypatch.setattr(read, "EXPECTED_MAX_BYTES", most_bytes)
    process, expected = place.process(), list[tuple[str, int, int]]()
    kept = [process.store(f"1.2.{number}", bytes(3_000)) for number in range(1, 10)]
    monkeypatch.setattr(place.store, "expect", lambda *what: expected.append(what))
    found = opened(process, Retrieval(subject(), Root.STUDY, Level.STUDY, {STUDY: "1.2.3"})).instances()
    seen = [next(found)]
    assert len(expected) == ahead
    assert [*seen, *found] == kept
    length = kept[0].location.length
    assert expected == [(each.location.segment, each.location.offset, min(length, most_bytes)) for each in kept]


def test_an_answer_holds_only_what_was_asked(place: Place) -> None:
    process = place.process()
    process.store("1.2.1", b"x")
    echo = opened(process, Echo(subject()))
    assert echo.request.action is Action.ECHO
    assert [*echo.rows(), *echo.instances(), *echo.verdicts()] == []
