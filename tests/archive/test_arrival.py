from __future__ import annotations

import hashlib

import pytest

from leadglass.archive.arrival import Receiver
from leadglass.terms import Malformed, Offer, Overloaded, Standing
from leadglass.wire import tags
from leadglass.wire.dataset import Header, Scanner
from leadglass.wire.elements import DataSet, Element, encode
from tests.archive.place import CT, EXPLICIT, IMPLICIT, JPEG, Fragments, Place, content, driven, permit, subject


def data_set(pixels: bytes, patient: bytes = b"P1") -> DataSet:
    return DataSet(
        [
            Element(tags.SOP_CLASS_UID, "UI", CT.encode() + b"\0"),
            Element(tags.PATIENT_ID, "LO", patient),
            Element(0x00280103, "US", b"\0\0"),
            Element(tags.PIXEL_DATA, "OW", pixels),
        ]
    )


@pytest.mark.parametrize("helpers", [0, 1])
@pytest.mark.parametrize("length", [0, 100, 131_072, 131_073, 700_001])
def test_digest_length_and_header_are_of_the_bytes_that_came(place: Place, helpers: int, length: int) -> None:
    process = place.process()
    receiver = Receiver(process.segments, place.limits, lambda syntax: Scanner(syntax), helpers_max=helpers)
    data = encode(data_set(content(length + length % 2)), EXPLICIT)
    offer = Offer(subject(), CT, "1.2.3", EXPLICIT)
    for size in (1 << 20, 16_378, 4_099):
        arrived = driven(receiver.receive(offer, permit(), Fragments(data, size)))
        assert arrived.arrival.digest == hashlib.sha256(data).digest()
        assert arrived.arrival.data_set_length == len(data)
        assert isinstance(arrived.header, Header)
        assert arrived.header.text(tags.PATIENT_ID) == "P1"
        assert b"".join(bytes(piece) for piece in arrived.arrival.plaintext()) == data
        arrived.arrival.discard()
    receiver.close()


def test_what_is_no_data_set_is_malformed_and_leaves_nothing(make_place) -> None:
    place = make_place(arrival_memory_max_bytes=0)
    process = place.process()
    receiver = Receiver(process.segments, place.limits, lambda syntax: Scanner(syntax))
    whole = encode(data_set(content(1 << 20)), EXPLICIT)
    for syntax, data in ((EXPLICIT, whole[:-10]), (EXPLICIT, b"\0" * 300_000), ("1.2.3.4.5", whole)):
        with pytest.raises(Malformed):
            driven(receiver.receive(Offer(subject(), CT, "1.2.3", syntax), permit(), Fragments(data)))
    assert list(place.store.names()) == []


def test_a_sender_that_goes_away_leaves_nothing(make_place) -> None:
    place = make_place(arrival_memory_max_bytes=0)
    process = place.process()

    cut = Fragments(content(400_000), error=ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError):
        driven(process.receiver.receive(Offer(subject(), CT, "1.2.3", EXPLICIT), permit(), cut))
    assert list(place.store.names()) == []


def test_the_length_of_an_instance_is_limited(make_place) -> None:
    process = make_place(instance_length_max_bytes=100_000).process()
    process.store("1.2.1", content(100_000))
    with pytest.raises(Overloaded, match="instance_length_max_bytes"):
        process.receive("1.2.2", content(100_001))


def test_a_preamble_is_kept_apart_from_the_digest(place: Place) -> None:
    process = place.process()
    offer = Offer(subject(), CT, "1.2.3", EXPLICIT)
    arrived = driven(process.receiver.receive(offer, permit(), Fragments(b"data"), b"preamble and group 2"))
    assert arrived.arrival.digest == hashlib.sha256(b"data").digest()
    assert [bytes(piece) for piece in arrived.arrival.plaintext()] == [b"data"]
    arrived.arrival.discard()


def test_the_same_native_instance_in_another_transfer_syntax_is_a_rendition(place: Place) -> None:
    process = place.process()
    instance = data_set(content(200_000))
    first = process.store("1.2.1", encode(instance, EXPLICIT), syntax=EXPLICIT)
    second = process.store("1.2.1", encode(instance, IMPLICIT), syntax=IMPLICIT)
    assert (second.standing, second.parent_digest) == (Standing.RENDITION, first.digest)
    assert process.index.current("1.2.1") == first
    assert process.store("1.2.1", encode(instance, IMPLICIT), syntax=IMPLICIT) == second


@pytest.mark.parametrize(
    ("other", "syntax"),
    [
        (encode(data_set(content(2_000, "other")), IMPLICIT), IMPLICIT),
        (encode(data_set(content(2_000), b"P9"), IMPLICIT), IMPLICIT),
        (encode(data_set(content(2_000)), IMPLICIT)[:-1], IMPLICIT),
        (encode(data_set(content(2_000)), IMPLICIT), JPEG),
        (b"", IMPLICIT),
    ],
    ids=["pixels", "header", "cut", "compressed", "empty"],
)
def test_what_cannot_be_proven_equal_is_a_conflict(place: Place, other: bytes, syntax: str) -> None:
    process = place.process()
    process.store("1.2.1", encode(data_set(content(2_000)), EXPLICIT), syntax=EXPLICIT)
    assert process.store("1.2.1", other, syntax=syntax).standing is Standing.HELD
