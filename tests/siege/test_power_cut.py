"""A power cut at any moment: the shipped program's own writes are replayed as a disk could hold them, and nothing acknowledged is lost.

One recording of `leadglass up` under load, with workers and the whole site killed on the way, serves all cuts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from leadglass.lab.peers import Archive, Received, associated, getting
from leadglass.wire import tags
from leadglass.wire.dimse import Status
from tests.crash.test_kills import CT, LIMITS, Sender, Senders, identity, processes
from tests.running import RunningSite, running, until
from tests.siege.campaign import Campaign
from tests.siege.recorder import Recorder
from tests.siege.replay import Kind, Names, Operation, Replay
from tests.synthetic import digest

SENDERS = 3
ACKNOWLEDGED_A_RUN = 120
KILLS_A_RUN = 3
ACKNOWLEDGED_SECONDS_MAX = 180.0
CUTS = 3
CUTS_WITHOUT_SYNC = 2
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
        came[instance.sop_instance_uid] = hashlib.sha256(instance.data_set).hexdigest()
        return Status.SUCCESS

    for study in studies:
        with associated(identity(site, "READER"), Archive("127.0.0.1", site.port), getting([CT])) as session:
            session.get("STUDY", {tags.STUDY_INSTANCE_UID: study}, take)
    return came


def test_attack_61_a_power_cut_loses_nothing_acknowledged(
    recording: Recording, campaign: Campaign, tmp_path: Path
) -> None:
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


def test_with_sync_off_it_is_lost(tmp_path: Path) -> None:
    """The negative control: the same program, whose syncs strace answers without carrying them out. What the judge calls lost, is."""
    lost = 0
    for site in made(tmp_path):
        recording = record(site, tmp_path, runs=1, kills=0, acknowledged=30, inject=f"{SYNCS}:retval=0")
        assert not [each for each in recording.operations if each.kind is Kind.SYNC]
        for seed in range(CUTS_WITHOUT_SYNC):
            rng = random.Random(seed)
            with after(recording, recording.end, tmp_path / f"cut-{seed}", rng) as left:
                try:
                    left.up()
                except AssertionError:  # what is left is not even a site any more
                    left.down()
                    lost += len(recording.acknowledged)
                    continue
                lost += len(judged(recording, left, recording.end).lost)
    assert lost > 0


# ---- the replay itself


AT = 1_000  # when a call begins; each takes 10, the next begins 100 later
CUT = 10_000


def played(
    tmp_path: Path, calls: list[tuple[Kind, str, dict[str, Any]]], names: Names
) -> set[tuple[tuple[str, bytes], ...]]:
    """Every directory that 60 draws leave, as names and contents."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "old").write_bytes(b"old")
    operations = [
        Operation(kind, AT + 100 * number, AT + 100 * number + 10, path, **more)
        for number, (kind, path, more) in enumerate(calls)
    ]
    left = set()
    for seed in range(60):
        place = tmp_path / str(seed)
        Replay(base, operations, CUT).leave(place, random.Random(seed), names)
        left.add(
            tuple(
                (str(path.relative_to(place)), path.read_bytes()) for path in sorted(place.rglob("*")) if path.is_file()
            )
        )
    return left


@pytest.mark.parametrize("names", list(Names))
def test_what_was_synced_is_there(tmp_path: Path, names: Names) -> None:
    new = b"n" * 3_000
    calls = [
        (Kind.CREATE, "new", {}),
        (Kind.WRITE, "new", {"data": new}),
        (Kind.SYNC, "new", {}),
        (Kind.SYNC, "", {}),
        (Kind.WRITE, "old", {"data": b"x"}),
    ]
    left = played(tmp_path, calls, names)
    assert left == {(("new", new), ("old", old)) for old in (b"old", b"xld")}


def test_the_name_of_a_synced_file_needs_its_directory_where_names_come_in_any_order(tmp_path: Path) -> None:
    calls = [(Kind.CREATE, "new", {}), (Kind.WRITE, "new", {"data": b"n"}), (Kind.SYNC, "new", {})]
    there, old = ("new", b"n"), ("old", b"old")
    for names, wanted in ((Names.ORDERED, {(there, old)}), (Names.ANY, {(there, old), (old,)})):
        (tmp_path / names.value).mkdir()
        assert played(tmp_path / names.value, calls, names) == wanted


def test_what_was_not_synced_is_torn_in_every_way(tmp_path: Path) -> None:
    new = bytes([1]) * 512 + bytes([2]) * 512
    left = played(tmp_path, [(Kind.WRITE, "old", {"data": new})], Names.ORDERED)
    contents = {dict(each)["old"] for each in left}
    second = b"old" + bytes(509) + new[512:]
    assert {b"old", new, new[:512], second, b"old".ljust(1024, b"\0")} <= contents


def test_a_sync_that_began_before_the_write_returned_promises_nothing(tmp_path: Path) -> None:
    write = Operation(Kind.WRITE, 1_000, 1_500, "old", data=b"x")
    for sync, wanted in ((1_400, {b"old", b"xld"}), (1_501, {b"xld"})):
        place = tmp_path / str(sync)
        place.mkdir()
        (place / "base").mkdir()
        (place / "base" / "old").write_bytes(b"old")
        operations = [write, Operation(Kind.SYNC, sync, 2_000, "old")]
        found = set()
        for seed in range(40):
            Replay(place / "base", operations, CUT).leave(place / str(seed), random.Random(seed), Names.ORDERED)
            found.add((place / str(seed) / "old").read_bytes())
        assert found == wanted


def test_a_renamed_file_keeps_what_was_synced_of_it(tmp_path: Path) -> None:
    calls = [
        (Kind.CREATE, "part", {}),
        (Kind.WRITE, "part", {"data": b"whole"}),
        (Kind.SYNC, "part", {}),
        (Kind.RENAME, "part", {"target": "old"}),
    ]
    left = played(tmp_path, calls, Names.ORDERED)
    assert left == {(("old", b"old"), ("part", b"whole")), (("old", b"whole"),)}
