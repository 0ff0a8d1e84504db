"""An hour of everything at once: what a worker holds does not grow, in bytes or in descriptors."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from leadglass.lab.corpus import Image
from leadglass.lab.peers import Archive, Identity, TurnedAway, associated, echoing, getting, querying, storing
from leadglass.wire import tags, uids
from tests.running import RunningSite, running, until
from tests.siege.campaign import Campaign
from tests.synthetic import image, uid

CT = (str(uids.storage_class_of("CTImageStorage")), uids.EXPLICIT_VR_LITTLE_ENDIAN)
QUICK_SECONDS, SEED_SECONDS = 10.0, 300.0
SAMPLE_SECONDS = 2.0
PAUSE_SECONDS = 0.1  # between two things that one client does: a load, not a race
DESCRIPTORS_MORE_MAX = (
    24  # than at the start: associations that are open just now, read connections that were made since
)
SLOPE_JUDGED_AFTER_SECONDS = 1800.0
# Buffers in flight, and pages that go back every ten seconds, move it up and down by some MiB: a slope through all samples of an hour is uncertain by more than what is allowed.
HELD_WINDOW_SECONDS = 300.0
MIB = 1 << 20
SLOPE_MAX_BYTES_AN_HOUR = MIB
# Synthetic, in the index of a soak: more than its page caches hold, so that these fill at once and not for hours.
STUDIES_BEFORE = 50_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("hours")) as site:
        if float(request.config.getoption("--soak", 0.0)) > 0:
            filling = [sys.executable, "-m", "bench.finding", str(site.directory), str(STUDIES_BEFORE)]
            subprocess.run(filling, check=True, cwd=Path(__file__).parents[2])
        site.up()
        for name, may in (("CT1", "echo,store"), ("CT2", "echo,store"), ("WS1", "echo,find,get"), ("LATE", "echo")):
            site.enroll(name, may)
        yield site
        print(site.log())


@dataclass(frozen=True, slots=True)
class Sample:
    seconds: float
    resident_bytes: int
    descriptors: int


def sample(site: RunningSite, begun: float) -> Sample:
    """Of the supervisor and its children together."""
    assert site.process is not None
    resident = descriptors = 0
    for pid in (site.process.pid, *site.children(site.process.pid)):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        resident += pages * os.sysconf("SC_PAGESIZE")
        descriptors += len(os.listdir(f"/proc/{pid}/fd"))
    return Sample(time.monotonic() - begun, resident, descriptors)


def held(samples: list[Sample], window_seconds: float) -> list[Sample]:
    """The least of each window: what is kept, without what is in flight at a moment or was not given back yet. The last, unfinished one is left out."""
    windows: dict[int, Sample] = {}
    for each in samples:
        number = int(each.seconds / window_seconds)
        least = windows.setdefault(number, each)
        if each.resident_bytes < least.resident_bytes:
            windows[number] = each
    return [windows[number] for number in sorted(windows) if (number + 1) * window_seconds <= samples[-1].seconds]


def slope(samples: list[Sample]) -> float:
    """Bytes an hour, by least squares over the last two thirds: a program warms up first."""
    late = samples[len(samples) // 3 :]
    mean_x = sum(each.seconds for each in late) / len(late) if late else 0.0
    mean_y = sum(each.resident_bytes for each in late) / len(late) if late else 0.0
    spread = sum((each.seconds - mean_x) ** 2 for each in late)
    joint = sum((each.seconds - mean_x) * (each.resident_bytes - mean_y) for each in late)
    return 3600 * joint / spread if spread else 0.0


class Load:
    """Everybody at once, each in a thread of their own, until the block ends. `done`: what came of it; `failed`: what must not."""

    def __init__(self, site: RunningSite, seed: int) -> None:
        self._site, self._archive = site, Archive("127.0.0.1", site.port)
        self._end = threading.Event()
        self._studies: deque[str] = deque([uid(random.Random(seed))], maxlen=50)
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []
        acts: list[Callable[[random.Random], None]] = [
            lambda rng: self._store(rng, "CT1"), lambda rng: self._store(rng, "CT2"), self._query, self._get, self._echo,
            self._strange,
        ]  # fmt: skip
        self._threads = [
            threading.Thread(target=self._repeat, args=(act, random.Random(1_000 * seed + number)), daemon=True)
            for number, act in enumerate(acts)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, act: Callable[[random.Random], None], rng: random.Random) -> None:
        while not self._end.is_set():
            try:
                act(rng)
            except Exception as error:
                self.failed.append(repr(error))
                return

    def _who(self, name: str) -> Identity:
        return Identity(name, "127.0.0.1", self._site.bundles[name].directory)

    def _store(self, rng: random.Random, name: str) -> None:
        study = uid(rng)
        with associated(self._who(name), self._archive, storing([_any()])) as session:
            for _ in range(rng.randint(5, 60)):
                size = rng.choices([600, 30_000, 300_000, 3_000_000], [50, 30, 18, 2])[0]
                one: Image = image(rng, study=study, patient=name, pixels=size)
                if session.store(one).status == 0:
                    self.done["stored"] += 1
                if self._end.wait(PAUSE_SECONDS):
                    break
        self._studies.append(study)

    def _query(self, rng: random.Random) -> None:
        with associated(self._who("WS1"), self._archive, querying()) as session:
            for _ in range(20):
                keys = {tags.PATIENT_ID: rng.choice(["CT1", "CT2", "CT*"]), tags.STUDY_INSTANCE_UID: ""}
                session.find("STUDY", keys)
                self.done["queries"] += 1
                if self._end.wait(PAUSE_SECONDS):
                    break

    def _get(self, rng: random.Random) -> None:
        with associated(self._who("WS1"), self._archive, getting([CT])) as session:
            answer = session.get("STUDY", {tags.STUDY_INSTANCE_UID: rng.choice(list(self._studies))}, lambda each: 0)
            assert not answer.failed
            self.done["retrieved"] += answer.completed
        self._end.wait(10 * PAUSE_SECONDS)

    def _echo(self, rng: random.Random) -> None:
        with associated(self._who("LATE"), self._archive, echoing()) as session:
            assert session.echo().status == 0
        self.done["echoes"] += 1
        self._end.wait(rng.uniform(0, 4 * PAUSE_SECONDS))

    def _strange(self, rng: random.Random) -> None:
        """Whoever comes without a name: a silent one, a plain one, somebody with another's AE title."""
        with contextlib.suppress(OSError, TurnedAway):
            if rng.random() < 0.5:
                with socket.create_connection(("127.0.0.1", self._site.port), 5) as sock:
                    sock.sendall(rng.choice([b"", b"\1\0\0\0\0\4", b"GET / HTTP/1.1\r\n\r\n"]))
            else:
                thief = Identity("CT1", "127.0.0.1", self._site.bundles["LATE"].directory)
                with associated(thief, self._archive, storing([_any()])):
                    self.failed.append("a thief was let in")
        self.done["turned away"] += 1
        self._end.wait(5 * PAUSE_SECONDS)


def _any() -> Image:
    return image(random.Random(0))


def test_what_it_holds_does_not_grow(site: RunningSite, campaign: Campaign, request: pytest.FixtureRequest) -> None:
    soaking = float(request.config.getoption("--soak", 0.0)) > 0
    begun, samples = time.monotonic(), [sample(site, time.monotonic())]
    for seed in campaign.seeds("hours", quick=1):
        with Load(site, seed) as load:
            end = time.monotonic() + (SEED_SECONDS if soaking else QUICK_SECONDS)
            while time.monotonic() < end and not load.failed:
                time.sleep(SAMPLE_SECONDS)
                samples.append(sample(site, begun))
        assert not load.failed, load.failed
        assert all(load.done[each] for each in ("stored", "queries", "retrieved", "echoes", "turned away")), load.done
        most = samples[0].descriptors + DESCRIPTORS_MORE_MAX
        assert until(lambda most=most: sample(site, begun).descriptors <= most), (
            f"more than {most} descriptors when all is quiet"
        )
        print(
            f"seed {seed}: {dict(load.done)}; {samples[-1].resident_bytes / MIB:.1f} MiB, {samples[-1].descriptors} descriptors"
        )
        campaign.done("hours", seed, seconds=int(SEED_SECONDS if soaking else QUICK_SECONDS), **_words(load.done))
    kept = held(samples, HELD_WINDOW_SECONDS)
    grown = slope(kept)
    print(
        f"held: {', '.join(f'{each.resident_bytes / MIB:.1f}' for each in kept)} MiB, the least of each {HELD_WINDOW_SECONDS:.0f} s"
    )
    print(
        f"slope {grown / MIB:+.2f} MiB an hour of what is held, {slope(samples) / MIB:+.2f} of all samples, over {samples[-1].seconds:.0f} s"
    )
    if samples[-1].seconds >= SLOPE_JUDGED_AFTER_SECONDS:
        assert grown < SLOPE_MAX_BYTES_AN_HOUR


def _words(done: Counter[str]) -> dict[str, int]:
    return {key.replace(" ", "_"): value for key, value in done.items()}


def test_what_comes_and_goes_is_not_held_and_what_stays_is() -> None:
    busy = [Sample(float(second), 1_000 + (500 if second % 7 else 0), 1) for second in range(100)]
    assert [each.resident_bytes for each in held(busy, 10.0)] == [1_000] * 9
    leaking = [Sample(each.seconds, each.resident_bytes + int(each.seconds), 1) for each in busy]
    assert abs(slope(held(leaking, 10.0)) - 3_600) < 200


def test_the_slope_is_that_of_the_last_two_thirds() -> None:
    flat = [Sample(float(second), 1000 if second > 10 else 0, 1) for second in range(100)]
    rising = [Sample(float(second), 1000 + 2 * second, 1) for second in range(100)]
    assert slope(flat) == 0.0
    assert abs(slope(rising) - 7200) < 1e-6
