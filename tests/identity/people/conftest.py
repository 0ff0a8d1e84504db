"""What takes long to start stands for all tests of one worker: those that use it name the same `xdist_group`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.identity.people.domain import Domain, domain


@pytest.fixture(scope="session")
def ad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    with domain(tmp_path_factory.mktemp("ad")) as running:
        yield running
