"""How long may a campaign run? A few seeds in `make test`; in `make soak` until its share of the time is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.siege.campaign import LEDGER, Campaign, Ledger


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Campaign:
    seconds = float(request.config.getoption("--soak", 0.0))
    return Campaign(seconds, Ledger(Path(request.config.rootpath) / LEDGER))
