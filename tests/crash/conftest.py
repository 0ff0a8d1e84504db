"""How many kills? Twenty in `make test`, as many as you like in `make soak ARGS="--kills N"`."""

from __future__ import annotations

import pytest

KILLS = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=KILLS, help="how often tests/crash kills a serving process")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--kills", KILLS))
