"""Journals whose bits change: the site starts and serves, says so wherever an operator looks, and what can be read of the others is read."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leadglass.wire.dimse import Status
from tests.crash.test_kills import LIMITS
from tests.running import RunningSite, running, until
from tests.siege.test_disk import Device, echoes, flip
from tests.siege.test_power_cut import fetched
from tests.synthetic import digest

NOTICED_SECONDS_MAX = 30.0  # a look every ten


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RunningSite]:
    with running(tmp_path, LIMITS) as site:
        site.up()
        site.enroll("S0", "echo,store")
        site.enroll("READER", "find,get")
        yield site


def journal_of_a_worker(site: RunningSite) -> Path:
    """Of the one that stored most."""
    worker = Counter(row["writer"] for row in site.events("instance:stored")).most_common(1)[0][0]
    (journal,) = (site.directory / "writers" / worker).glob("journal-*.ljn")
    return journal


def told_anyway(site: RunningSite) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """What `events` said of itself, and its rows."""
    told = site.command("events", "--json", check=False)
    return told, [json.loads(line) for line in told.stdout.splitlines()]


def alarmed(site: RunningSite, journal: Path) -> bool:
    rows = [row for row in told_anyway(site)[1] if row["kind"] == "journal:lost"]
    return any(str(journal) in str(row["reason"]) for row in rows)


def amber(site: RunningSite, journal: Path) -> bool:
    (status,) = site.rows("status")
    return any(str(journal) in each and "restore it" in each for each in status["amber"])


def stored(rows: list[dict[str, Any]]) -> set[str]:
    return {uid for row in rows if row["kind"] == "instance:stored" for uid in row["subject_uids"]}


def kept(device: Device) -> dict[str, str]:
    return {uid: digest(each) for uid, each in device.sent.items()}


def test_attack_62_a_changed_bit_of_an_old_journal_stops_nobody_and_is_named(site: RunningSite) -> None:
    before, after = Device(site, 81), Device(site, 82)
    for _ in range(6):
        assert before.store(before.new()) == Status.SUCCESS
    journal = journal_of_a_worker(site)
    site.down()
    flip(journal, journal.stat().st_size // 2)
    stopped = told_anyway(site)[0]
    assert stopped.returncode != 0 and journal.name in stopped.stderr and "Traceback" not in stopped.stderr
    site.up()
    assert echoes(site) and after.store(after.new()) == Status.SUCCESS
    assert until(lambda: alarmed(site, journal), NOTICED_SECONDS_MAX) and amber(site, journal)
    told, rows = told_anyway(site)
    assert told.returncode != 0 and journal.name in told.stderr and "keep the file as evidence" in told.stderr
    assert set(after.sent) <= stored(rows)
    assert fetched(site, [before.study, after.study]) == kept(before) | kept(after)
    site.enroll("NEW", "echo")  # commands are answered
    site.down()
    assert "a process ended" not in site.log()
    flip(journal, journal.stat().st_size // 2)
    site.up()
    assert told_anyway(site)[0].returncode == 0, "restored, everything is told again"
    assert not amber(site, journal)


def test_attack_62_a_changed_bit_of_a_killed_workers_journal_costs_no_image_and_no_event_of_one(
    site: RunningSite,
) -> None:
    device = Device(site, 83)
    for _ in range(12):
        assert device.store(device.new()) == Status.SUCCESS
    journal = journal_of_a_worker(site)
    assert site.events("instance:stored")
    site.kill(at_once=True)
    flip(journal, 600)  # long since durable
    site.up()
    assert fetched(site, [device.study]) == kept(device)
    assert alarmed(site, journal) and device.store(device.new()) == Status.SUCCESS
    assert set(device.sent) <= stored(told_anyway(site)[1]), "told again from the records"
