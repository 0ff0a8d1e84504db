"""A disk loses part of what had settled, and nothing has it any more: the site says so and does not start, until somebody goes on without it."""

from __future__ import annotations

import json
from pathlib import Path

from leadglass.archive.backends.local import LocalObjects
from leadglass.archive.walk import Found, walk
from leadglass.wire.dimse import Status
from tests.crash.test_kills import LIMITS
from tests.running import RunningSite, running
from tests.siege.test_disk import Device, flip
from tests.siege.test_power_cut import fetched
from tests.synthetic import digest


def records(site: RunningSite) -> list[Found]:
    """Of the segment that has most of them."""
    store = LocalObjects(site.directory / "objects")
    return max((walk(store, name).records for name in store.names()), key=len)


def test_a_site_that_lost_what_had_settled_starts_without_it_when_somebody_says_so(tmp_path: Path) -> None:
    with running(tmp_path, LIMITS) as site:
        site.up()
        site.enroll("S0", "echo,store")
        site.enroll("READER", "find,get")
        device = Device(site, 91)
        for _ in range(12):
            assert device.store(device.new()) == Status.SUCCESS
        assert site.command("accept-loss", "--reason", "none", check=False).returncode == 1, "it runs"
        site.kill(at_once=True)
        victim = records(site)[1].location
        flip(site.directory / "objects" / victim.segment, victim.offset + 5)

        refused = site.command("up", check=False)
        assert refused.returncode != 0 and "Traceback" not in refused.stderr
        assert victim.segment in refused.stderr and "accept-loss" in refused.stderr
        assert site.command("accept-loss", check=False).returncode == 2, "nobody does that without a reason"
        accepted = json.loads(site.command("accept-loss", "--reason", "the disk died", "--json").stdout)
        assert victim.segment in str(accepted["lost"])
        again = site.command("accept-loss", "--reason", "the disk died", check=False)
        assert again.returncode == 1 and "nothing that had settled is lost" in again.stderr

        site.up()
        came, sent = fetched(site, [device.study]), {uid: digest(each) for uid, each in device.sent.items()}
        assert came.items() < sent.items() and len(sent) - len(came) == 1
        rows = site.rows("events")
        assert any(row["kind"] == "change:completed" and row["action"] == "loss-accept" for row in rows)
        told = [row["reason"] for row in rows if row["kind"] == "instance:corrupted"]
        assert any(victim.segment in each and "goes on without it (the disk died)" in each for each in told)
        (lost,) = sent.keys() - came.keys()
        assert device.store(device.sent[lost]) == Status.PROCESSING_FAILURE, "nobody is told that it is kept"
        assert device.store(device.new()) == Status.SUCCESS
