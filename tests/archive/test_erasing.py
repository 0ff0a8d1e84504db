"""The steps of an erasure between processes that store: nothing is kept under a key that goes, dead writers' keys go too, and a rebuild knows what was erased."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from leadglass.archive.backends.memory import MemoryObjects
from leadglass.archive.erasing import Closing, Eraser
from leadglass.archive.rebuild import Rebuild
from leadglass.site.erasures import Erasure, Erasures
from leadglass.site.register import Register
from leadglass.site.writer import Writer
from leadglass.terms import Contained, Erased, HoldReason, PatientIdentity, Standing
from tests.archive.place import ANNA, Place, Process, content

STUDY, OTHER = "1.2.3", "1.2.4"


class Erasing:
    """One erasure as the register tells it, and a generation that rises with each step."""

    def __init__(self, place: Place) -> None:
        self.erasures = Erasures(Register.open(place.site_dir / "register.db", bytes(32)))
        self.generation = 0
        self.erasures.order(Erasure("e1", "r1", "keeper", ANNA, (STUDY,), "the law", 1, 2), lambda ordered: None)

    def closing(self, process: Process) -> Closing:
        return Closing(self.erasures, process.keyring, lambda: self.generation)

    def close(self) -> None:
        self.erasures.close("e1")
        self.generation += 1

    def destroy(self, eraser: Eraser) -> frozenset[bytes]:
        keys = eraser.keys({STUDY})
        self.erasures.destroy("e1", keys)
        self.generation += 1
        return keys


def eraser_of(process: Process) -> Eraser:
    return Eraser(process.place.site_dir, process.index, process.keyring, process.barrier, process.recovery.recover)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, MemoryObjects())


def test_from_its_closing_on_nothing_of_it_is_kept_and_what_was_in_flight_is_waited_for(place: Place) -> None:
    process, other = place.process(), place.process()
    erasing = Erasing(place)
    closing, eraser = erasing.closing(process), eraser_of(other)
    process.commit._parts = replace(process.commit._parts, closed=closing.closed)
    in_flight = process.claim("1.9.1", content(100), study=STUDY)
    erasing.close()
    with pytest.raises(Contained, match="being erased"):
        process.claim("1.9.2", content(100, "b"), study=STUDY)
    process.store("1.9.3", content(100, "d"), study=OTHER)
    assert eraser.busy({STUDY}), "what was claimed before is let settle"
    settled = process.publish(process.keep(in_flight))
    assert not eraser.busy({STUDY}) and other.index.current("1.9.1") is not None
    with pytest.raises(Contained):
        process.claim("1.9.1", content(100), study=STUDY)  # sent again: nobody is told that it is kept
    keys = erasing.destroy(eraser)
    assert len(keys) == 1
    closing.destroy()
    assert eraser.left(keys) == 0 and eraser.finish({STUDY}) == 1
    with pytest.raises(Erased):
        process.read(settled)
    assert other.index.versions("1.9.1") == []
    assert process.index.current("1.9.3") is not None


def test_the_keys_of_writers_that_are_no_more_go_too(place: Place) -> None:
    sealed, killed, living = place.process(), place.process(), place.process()
    for number, process in enumerate((sealed, killed, living)):
        process.store(f"1.9.{number}", content(100, str(number)), study=STUDY)
        process.store(f"1.8.{number}", content(100, f"other {number}"), study=OTHER)
    sealed.keyring.close()
    sealed.writer.seal()
    sealed.die()
    killed.die()
    erasing, eraser = Erasing(place), eraser_of(living)
    erasing.close()
    keys = erasing.destroy(eraser)
    assert len(keys) == 3
    eraser.destroy_left(keys)
    assert eraser.left(keys) == 1, "the living one's is its own to destroy"
    erasing.closing(living).destroy()
    assert eraser.left(keys) == 0 and eraser.finish({STUDY}) == 3 and eraser.finish({STUDY}) == 0
    for number in range(3):
        settled = living.index.current(f"1.8.{number}")
        assert settled is not None and living.read(settled) == content(100, f"other {number}")
        assert living.index.current(f"1.9.{number}") is None


def test_recovery_and_rebuild_pass_over_what_was_erased(place: Place) -> None:
    """Also where a version of it was superseded by one of another study, whose promotion is told of by a key that stays."""
    first, second = place.process(), place.process()
    first.store("1.9.1", content(100, "a"), study=STUDY)
    held = second.store("1.9.1", content(100, "b"), study=OTHER)
    assert held.standing is Standing.HELD and HoldReason.CONFLICT in held.holds
    second.conflicts.promote("1.9.1", held.version)
    first.store("1.9.2", content(100, "c"), study=STUDY, patient=PatientIdentity("someone", "else"))
    erasing, eraser = Erasing(place), eraser_of(second)
    erasing.close()
    keys = erasing.destroy(eraser)
    for process in (first, second):
        erasing.closing(process).destroy()
    assert eraser.left(keys) == 0 and eraser.finish({STUDY}) == 2, "what is superseded, and what is held"
    before = list(second.index.rows())
    first.die()
    assert second.recovery.recover_all()
    assert list(second.index.rows()) == before
    rebuild = Rebuild(place.site_dir, place.store, second.index, second.keyring, second.barrier)
    assert rebuild.run(lambda done, total: None)["erased"] == 2
    assert list(second.index.rows()) == before
    current = second.index.current("1.9.1")
    assert current is not None and second.read(current) == content(100, "b")


def test_a_crash_between_the_steps_costs_waiting(place: Place) -> None:
    process = place.process()
    process.store("1.9.1", content(100), study=STUDY)
    erasing, eraser = Erasing(place), eraser_of(process)
    erasing.close()
    keys = erasing.destroy(eraser)
    process.die()
    after = place.process()
    eraser = eraser_of(after)
    assert eraser.left(keys) == 1 and after.index.current("1.9.1") is not None
    eraser.destroy_left(keys)
    assert eraser.left(keys) == 0
    adopted = Writer.adopt(place.site_dir, process.writer.id)
    assert adopted is not None and adopted.is_sealed, "it was recovered first"
    adopted.close()
    assert eraser.finish({STUDY}) == 1
