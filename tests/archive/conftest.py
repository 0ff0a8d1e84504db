from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from leadglass.archive.backends.local import LocalObjects
from tests.archive.place import Place


class MakePlace(Protocol):
    def __call__(self, **limits: Any) -> Place: ...


@pytest.fixture
def make_place(tmp_path: Path) -> Iterator[MakePlace]:
    """Places on a real file system, closed at the end."""
    made: list[Place] = []

    def make(**limits: Any) -> Place:
        place = Place(tmp_path, LocalObjects(tmp_path / "objects"), **limits)
        made.append(place)
        return place

    yield make
    for place in made:
        place.close()


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    return make_place()
