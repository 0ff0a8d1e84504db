from __future__ import annotations

import pytest

from leadglass.terms import HoldReason, Overloaded, Standing, Unsupported
from tests.archive.place import Place


def test_promoting_supersedes_and_keeps_both_readable(place: Place) -> None:
    process = place.process()
    first = process.store("1.2.1", b"first")
    second = process.store("1.2.1", b"second")
    assert [each.version for each in process.index.held(10, None)] == [2]
    result = process.conflicts.promote("1.2.1", 2)
    assert result["standings"] == {1: "superseded", 2: "current"}
    current = process.index.current("1.2.1")
    assert current is not None
    assert (current.version, current.holds) == (2, frozenset())
    assert process.read(current) == b"second"
    assert process.read(first) == b"first"
    assert process.index.held(10, None) == []
    third = process.store("1.2.1", b"third")
    assert (third.version, third.standing, third.parent_digest) == (3, Standing.HELD, second.digest)


def test_dismissing_rejects(place: Place) -> None:
    process = place.process()
    process.store("1.2.1", b"first")
    process.store("1.2.1", b"second")
    process.conflicts.dismiss("1.2.1", 2)
    rejected = process.index.versions("1.2.1")[1]
    assert (rejected.standing, rejected.holds) == (Standing.REJECTED, frozenset({HoldReason.CONFLICT}))
    assert process.store("1.2.1", b"second").standing is Standing.REJECTED
    with pytest.raises(Unsupported):
        process.conflicts.promote("1.2.1", 2)


@pytest.mark.parametrize("version", [1, 3])
def test_only_what_is_held_can_change(place: Place, version: int) -> None:
    process = place.process()
    process.store("1.2.1", b"first")
    process.store("1.2.1", b"second")
    with pytest.raises(Unsupported):
        process.conflicts.promote("1.2.1", version)
    with pytest.raises(Unsupported):
        process.conflicts.dismiss("1.2.1", version)


def test_no_change_while_a_transfer_of_the_same_instance_is_pending(place: Place) -> None:
    process, other = place.process(), place.process()
    process.store("1.2.1", b"harmful", findings=frozenset({HoldReason.HARMFUL}))
    claimed = other.claim("1.2.1", b"clean")
    with pytest.raises(Overloaded):
        process.conflicts.promote("1.2.1", 1)
    assert other.publish(other.keep(claimed)).standing is Standing.CURRENT
    process.conflicts.promote("1.2.1", 1)
    assert [each.standing for each in process.index.versions("1.2.1")] == [Standing.CURRENT, Standing.SUPERSEDED]
