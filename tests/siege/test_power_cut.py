"""A power cut at any moment: the shipped program's own writes are replayed as a disk could hold them, and nothing acknowledged is lost.

One recording of `leadglass up` under load, with workers and the whole site killed on the way, serves all cuts.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from leadglass.lab.peers import Archive, Received, associated, getting
from leadglass.wire import tags
from leadglass.wire.dimse import Status
from tests.crash.test_kills import CT, LIMITS, Sender, Senders, identity, processes
from tests.running import RunningSite, running, until
from tests.siege.campaign import Campaign
from tests.siege.recorder import Recorder
from tests.siege.replay import Names, Operation, Replay
from tests.synthetic import digest

SENDERS = 3
ACKNOWLEDGED_A_RUN = 120
KILLS_A_RUN = 3
ACKNOWLEDGED_SECONDS_MAX = 180.0
CUTS = 3
SYNCS = "fdatasync,fsync"


class SmallSender(Sender):
    """Small instances, so that the trace stays small; some too large for memory, which are streamed."""

    sizes: ClassVar[tuple[list[int], list[int]]] = ([600, 8_000, 40_000, 1_500_000], [60, 30, 8, 2])


class SmallSenders(Senders):
    def __init__(self, site: RunningSite, seed: int, count: int) -> None:
        self.each = [SmallSender(site, number, seed) for number in range(count)]


@dataclass(frozen=True, slots=True)
class Recording:
    """What was there before, what was called, and what senders heard. `acknowledged`: microseconds by SOP Instance UID."""

    site: RunningSite
    base: Path
    operations: list[Operation]
    acknowledged: dict[str, int]
    digests: dict[str, str]
    studies: dict[str, str]

    @property
    def end(self) -> int:
        return max(each.exit for each in self.operations)

    def cut(self, rng: random.Random) -> int:
        """Any moment, or the moment after an answer of success, when it counts most."""
        moments = sorted(self.acknowledged.values())
        if rng.random() < 0.5:
            return rng.randint(moments[0], self.end)
        return rng.choice(moments) + rng.randint(1, 3_000)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was there after the power came back. `lost`: acknowledged before the cut, and not to be had or not what was sent."""

    acknowledged: int
    lost: list[str]
    unsent: list[str]


def made(place: Path) -> Iterator[RunningSite]:
    with running(place, LIMITS) as site:
        site.up()
        for number in range(SENDERS):
            site.enroll(f"S{number}", "echo,store")
        site.enroll("READER", "find,get")
        site.down()
        yield site


def record(site: RunningSite, place: Path, *, runs: int, kills: int, acknowledged: int, inject: str = "") -> Recording:
    """`runs` times up, loaded and ended; all but the last by SIGKILL of everything."""
    base = place / "base"
    shutil.copytree(site.directory, base, symlinks=True, ignore=lambda where, names: {"leadglass.sock"} & set(names))
    recorder, rng = Recorder(site, place, inject), random.Random(1)
    all_senders: list[Sender] = []
    for run in range(runs):
        with recorder.tracing(), SmallSenders(site, run, SENDERS) as senders:
            for _ in range(kills):
                wait_for(senders, senders.count() + acknowledged // (kills + 1))
                victim = rng.choice(processes(site)["dimse"])
                os.kill(victim, signal.SIGKILL)
            wait_for(senders, senders.count() + acknowledged // (kills + 1))
            if run + 1 < runs:
                site.kill()
        all_senders += senders.each
    refused = [text for sender in all_senders for text in sender.refused]
    assert not refused, refused[:5]
    sent = [each for sender in all_senders for each in sender.sent.values()]
    return Recording(
        site,
        base,
        recorder.operations(),
        {key: int(at * 1e6) for sender in all_senders for key, at in sender.acknowledged.items()},
        {each.sop_instance_uid: digest(each) for each in sent},
        {each.sop_instance_uid: each.study_instance_uid for each in sent},
    )


def wait_for(senders: Senders, count: int) -> None:
    assert until(lambda: senders.count() >= count, ACKNOWLEDGED_SECONDS_MAX), (
        f"{senders.count()} of {count} acknowledged"
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    place = tmp_path_factory.mktemp("power")
    for site in made(place):
        yield record(site, place, runs=2, kills=KILLS_A_RUN, acknowledged=ACKNOWLEDGED_A_RUN)


@contextlib.contextmanager
def after(recording: Recording, cut: int, place: Path, rng: random.Random) -> Iterator[RunningSite]:
    """The site as the power cut left it, at the same port, so that senders and readers know it; not started."""
    place.mkdir()
    names = rng.choice(list(Names))
    Replay(recording.base, recording.operations, cut).leave(place / "site", rng, names)
    site = RunningSite(place / "site", recording.site.port, bundles=recording.site.bundles)
    try:
        yield site
    finally:
        site.down()
        shutil.rmtree(place)


def judged(recording: Recording, site: RunningSite, cut: int) -> Verdict:
    """By C-GET of every study in which something had been acknowledged."""
    acknowledged = {key for key, at in recording.acknowledged.items() if at < cut}
    came = fetched(site, sorted({recording.studies[key] for key in acknowledged}))
    lost = [key for key in sorted(acknowledged) if came.get(key) != recording.digests[key]]
    unsent = [key for key, value in came.items() if recording.digests.get(key) != value]
    return Verdict(len(acknowledged), lost, unsent)


def fetched(site: RunningSite, studies: list[str]) -> dict[str, str]:
    """SOP Instance UID -> digest; what cannot be read does not come."""
    came: dict[str, str] = {}

    def take(instance: Received) -> int:
        came[instance.sop_instance_uid] = instance_digest(instance)
        return Status.SUCCESS

    for study in studies:
        with associated(identity(site, "READER"), Archive("127.0.0.1", site.port), getting([CT])) as session:
            session.get("STUDY", {tags.STUDY_INSTANCE_UID: study}, take)
    return came


def instance_digest(instance: Received) -> str:
    import hashlib

    return hashlib.sha256(instance.data_set).hexdigest()


def test_nothing_acknowledged_is_lost(recording: Recording, campaign: Campaign, tmp_path: Path) -> None:
    for seed in campaign.seeds("power-cuts", CUTS):
        rng = random.Random(seed)
        cut = recording.cut(rng)
        with after(recording, cut, tmp_path / f"cut-{seed}", rng) as site:
            site.up()
            verdict = judged(recording, site, cut)
            assert not verdict.lost, (
                f"seed {seed}: {len(verdict.lost)} of {verdict.acknowledged} lost: {verdict.lost[:3]}\n{site.log()}"
            )
            assert not verdict.unsent, f"seed {seed}: {len(verdict.unsent)} that nobody sent so"
        print(campaign.done("power-cuts", seed, cuts=1, acknowledged=verdict.acknowledged))
