"""Several who read at once, and what they read into."""

from __future__ import annotations

import contextlib
from itertools import zip_longest

from leadglass.archive.buffers import SPARE_MAX, Spares
from tests.archive.place import Place, content


def test_bodies_that_are_read_in_turns_do_not_disturb_each_other(place: Place) -> None:
    process = place.process()
    data = [content(length, "turns") for length in (3_500_000, 2_200_000, 40_000)]
    bodies = [process.reader.read(process.store(f"1.2.{number}", each)) for number, each in enumerate(data)]
    came = [bytearray() for _ in data]
    for pieces in zip_longest(*bodies, fillvalue=memoryview(b"")):
        for into, piece in zip(came, pieces, strict=True):
            into += piece
    assert came == data


def test_who_reads_later_reads_into_what_the_last_one_read_into() -> None:
    spares, seen = Spares(8192), set[int]()
    for _ in range(10):
        with spares.one() as space:
            seen.add(id(space))
            assert len(space) == 8192
    assert len(seen) == 1
    with spares.one() as one, spares.one() as another:
        one[:1], another[:1] = b"1", b"2"
        assert bytes(one[:1]) + bytes(another[:1]) == b"12"


def test_a_crowd_leaves_no_more_than_a_few_behind() -> None:
    spares = Spares(8192)
    with contextlib.ExitStack() as crowd:
        parts = [crowd.enter_context(spares.one())[:10] for _ in range(SPARE_MAX + 20)]
        for number, part in enumerate(parts):
            part[:] = b"%10d" % number
        assert [int(bytes(part)) for part in parts] == list(range(SPARE_MAX + 20))
    assert len(spares._idle) == SPARE_MAX
