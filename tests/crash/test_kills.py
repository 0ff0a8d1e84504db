"""Success means kept: processes are killed at any time and at any system call under four senders, and nothing acknowledged is lost or torn."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from leadglass.lab.corpus import Image
from leadglass.lab.peers import Archive, Identity, Received, Session, TurnedAway, associated, getting, storing
from leadglass.wire import tags, uids
from leadglass.wire.dimse import Status
from tests.programs import require
from tests.running import RunningSite, running, until
from tests.siege.campaign import Campaign
from tests.synthetic import digest, image, uid

SENDERS = 4
INSTANCES_A_STUDY = 40
SERVICE_SECONDS_MAX = 60.0
CT = (str(uids.storage_class_of("CTImageStorage")), uids.EXPLICIT_VR_LITTLE_ENDIAN)
# Small, so that instances that do not fit in memory and sealed segments are met within seconds.
LIMITS = """
[limits]
arrival_memory_max_bytes = 1048576
segment_length_max_bytes = 4194304
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("kills"), LIMITS) as site:
        site.up()  # a running site enrols without being opened each time
        for number in range(SENDERS):
            site.enroll(f"S{number}", "echo,store")
        site.enroll("READER", "find,get")
        yield site


@pytest.fixture
def site(made: RunningSite) -> Iterator[RunningSite]:
    if made.process is None or made.process.poll() is not None:
        made.process = None
        made.up()
    yield made
    print(made.log())  # shown where the test failed


def identity(site: RunningSite, name: str) -> Identity:
    return Identity(name, "127.0.0.1", site.bundles[name].directory)


class Sender(threading.Thread):
    """Sends one instance after the other until it is told to stop; what is not acknowledged is sent again, as a modality does."""

    sizes: ClassVar[tuple[list[int], list[int]]] = ([600, 30_000, 300_000, 3_000_000], [60, 30, 8, 2])  # and how often

    def __init__(self, site: RunningSite, number: int, seed: int) -> None:
        super().__init__(name=f"sender-{number}", daemon=True)
        self._rng, self._end = random.Random(seed * SENDERS + number), threading.Event()
        self._who, self._archive = identity(site, f"S{number}"), Archive("127.0.0.1", site.port)
        self._patient, self._study = f"PATIENT-{number}", ""
        self.sent: dict[str, Image] = {}
        self.acknowledged: dict[str, float] = {}  # and when, by the wall clock
        self.refused: list[str] = []

    def run(self) -> None:
        waiting: Image | None = None
        while not self._end.is_set():
            with (
                contextlib.suppress(TurnedAway),
                associated(self._who, self._archive, [*storing([_any_ct()])]) as session,
            ):
                while not self._end.is_set():
                    waiting = waiting or self._next()
                    answer = session.store(waiting)
                    if answer.status == Status.SUCCESS:
                        self.acknowledged[waiting.sop_instance_uid] = time.time()
                        waiting = None
                    elif answer.status != Status.OUT_OF_RESOURCES:
                        self.refused.append(str(answer))
                        waiting = None
            self._end.wait(0.02)

    def stop(self) -> None:
        self._end.set()
        self.join()

    def _next(self) -> Image:
        if len(self.sent) % INSTANCES_A_STUDY == 0:
            self._study = uid(self._rng)
        size = self._rng.choices(*self.sizes)[0]
        made = image(self._rng, study=self._study, patient=self._patient, pixels=size)
        self.sent[made.sop_instance_uid] = made
        return made


def _any_ct() -> Image:
    return image(random.Random(0))


class Senders:
    def __init__(self, site: RunningSite, seed: int) -> None:
        self.each = [Sender(site, number, seed) for number in range(SENDERS)]

    def __enter__(self) -> Senders:
        for sender in self.each:
            sender.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for sender in self.each:
            sender.stop()

    def count(self) -> int:
        return sum(len(sender.acknowledged) for sender in self.each)

    def until_served(self) -> None:
        """Until somebody is acknowledged again: whatever was killed, the site must come back by itself."""
        before = self.count()
        assert until(lambda: self.count() > before, SERVICE_SECONDS_MAX), "nothing is acknowledged any more"


def processes(site: RunningSite) -> dict[str, list[int]]:
    """Process ids by role."""
    assert site.process is not None
    found: dict[str, list[int]] = {"supervisor": [site.process.pid], "dimse": [], "keeper": []}
    for pid in site.children(site.process.pid):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")  # none of one that has ended
            found.get(words[-2].decode() if len(words) > 1 else "", []).append(pid)
    return found


def some(rng: random.Random, living: dict[str, list[int]]) -> list[int]:
    """Any subset that is not empty; a supervisor less often, for all die with it."""
    chosen: list[int] = []
    while not chosen:
        for role, odds in (("supervisor", 0.3), ("keeper", 0.5), ("dimse", 0.5)):
            chosen += [pid for pid in living[role] if rng.random() < odds]
    return chosen


def kill(site: RunningSite, victims: list[int]) -> None:
    """SIGKILL to all of them at once; a killed supervisor is started again once its children have died with it, as an init system would."""
    assert site.process is not None
    supervisor = site.process.pid
    children = site.children(supervisor)
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if supervisor in victims:
        site.kill()
        assert until(lambda: not any(map(alive, children)), SERVICE_SECONDS_MAX), "children outlive their supervisor"
        site.up()


def alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def verify(site: RunningSite, senders: Senders) -> None:
    """Every acknowledged instance comes back by C-GET as it was sent, nothing comes back that was not sent, and the index is what was kept."""
    refused = [text for sender in senders.each for text in sender.refused]
    assert not refused, refused[:5]
    sent = {key: digest(value) for sender in senders.each for key, value in sender.sent.items()}
    acknowledged = set().union(*(sender.acknowledged for sender in senders.each))
    studies = sorted({each.study_instance_uid for sender in senders.each for each in sender.sent.values()})
    came = retrieved(site, studies)
    assert len(acknowledged) > SENDERS
    assert not acknowledged - set(came), f"{len(acknowledged - set(came))} of {len(acknowledged)} acknowledged are lost"
    wrong = [key for key, value in came.items() if sent.get(key) != value]
    assert not wrong, f"{len(wrong)} of {len(came)} are not what was sent"
    before = site.command("index", "rows").stdout
    site.command("index", "rebuild")
    assert site.command("index", "rows").stdout == before
    assert before.count("\n") > len(acknowledged)


def retrieved(site: RunningSite, studies: list[str]) -> dict[str, str]:
    """SOP Instance UID -> digest of everything that C-GET gives of the studies."""
    came: dict[str, str] = {}

    def take(instance: Received) -> int:
        key = Image("", *CT[:1], instance.sop_instance_uid, CT[1], "", "", "", "", instance.data_set)
        came[instance.sop_instance_uid] = digest(key)
        return Status.SUCCESS

    with associated(identity(site, "READER"), Archive("127.0.0.1", site.port), getting([CT])) as session:
        for study in studies:
            answer = session.get("STUDY", {tags.STUDY_INSTANCE_UID: study}, take)
            assert not answer.failed, f"{answer.failed} instances of {study} cannot be read"
    return came


KILLS, KILLS_AT_CALLS = 12, 8  # a seed


def test_attack_61_kills_at_any_time(site: RunningSite, campaign: Campaign) -> None:
    for seed in campaign.seeds("kills", quick=1):
        rng = random.Random(20_260 + seed)
        with Senders(site, 20_260 + seed) as senders:
            senders.until_served()
            for _ in range(KILLS):
                time.sleep(rng.uniform(0, 0.5))
                kill(site, some(rng, processes(site)))
                senders.until_served()
        verify(site, senders)
        campaign.done("kills", seed, kills=KILLS, acknowledged=senders.count())


# What a worker does on the way to an answer: segment and keyring and journal, index, and the answer itself.
TRACED_SECONDS_MAX = 3.0
SYSCALLS = ("fdatasync", "pwrite64", "sendto", "fsync", "ftruncate", "unlink")


def test_attack_61_kills_at_system_calls(site: RunningSite, campaign: Campaign) -> None:
    for seed in campaign.seeds("kills-at-calls", quick=1):
        exact, acknowledged = kills_at_calls(site, random.Random(4_711 + seed), 4_711 + seed)
        assert exact >= KILLS_AT_CALLS // 2, f"only {exact} of {KILLS_AT_CALLS} processes died at their system call"
        campaign.done("kills-at-calls", seed, kills=KILLS_AT_CALLS, exact=exact, acknowledged=acknowledged)


def kills_at_calls(site: RunningSite, rng: random.Random, seed: int) -> tuple[int, int]:
    """How many processes died at their system call, and how many instances were acknowledged meanwhile; all of them are there."""
    strace, exact = require("strace"), 0
    with Senders(site, seed) as senders:
        senders.until_served()
        for number in range(KILLS_AT_CALLS):
            call = SYSCALLS[number % 3] if number % 4 else SYSCALLS[rng.randrange(len(SYSCALLS))]
            when = rng.randint(1, 12)
            assert until(lambda: bool(processes(site)["dimse"]))
            victim = rng.choice(processes(site)["dimse"])
            exact += kill_at(strace, victim, call, when)
            senders.until_served()
    verify(site, senders)
    return exact, senders.count()


def kill_at(strace: str, pid: int, call: str, when: int) -> bool:
    """The process dies at the `when`-th call of one of its threads; False where it makes no such call, and dies at any time instead."""
    inject = f"inject={call}:signal=KILL:when={when}"
    line = [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, "-p", str(pid)]
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as tracer:
        exact = True
        try:
            tracer.wait(TRACED_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            exact = False
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            tracer.wait(10)
        assert tracer.stderr is not None
        assert "ptrace(" not in tracer.stderr.read(), (
            "it may not trace here"
        )  # what it says of a dying process is no matter
    return exact


# ---- the same names from two sides


EQUAL_UIDS = 1000
ASSOCIATIONS_TRIED_MAX = 40


def test_attack_60_two_senders_of_equal_uids(site: RunningSite) -> None:
    rng = random.Random(7)
    study = uid(rng)
    first = [image(rng, study=study, pixels=64) for _ in range(EQUAL_UIDS)]
    second = [image(rng, study=study, sop_instance=each.sop_instance_uid, pixels=64) for each in first]
    with contextlib.ExitStack() as stack:
        left, right = on_different_workers(site, stack)
        start, heard = threading.Barrier(2), {}

        def send(side: str, session: Callable[[Image], int], images: list[Image]) -> None:
            start.wait()
            heard[side] = [session(each) for each in images]

        for attempt in ("", " again"):
            threads = [
                threading.Thread(target=send, args=("left" + attempt, left, first)),
                threading.Thread(target=send, args=("right" + attempt, right, second)),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    pairs = set(zip(heard["left"], heard["right"], strict=True))
    assert pairs <= {(0x0000, 0x0111), (0x0111, 0x0000)}, pairs
    assert (heard["left again"], heard["right again"]) == (heard["left"], heard["right"])
    held = site.rows("conflicts", "list")
    assert {each["sop_instance_uid"] for each in held} == {each.sop_instance_uid for each in first}
    assert len(held) == EQUAL_UIDS
    won = {each.sop_instance_uid: digest(each if status == 0 else other)
           for each, other, status in zip(first, second, heard["left"], strict=True)}  # fmt: skip
    assert {each["sop_instance_uid"]: each["current_digest"] for each in held} == won
    assert retrieved(site, [study]) == won


def on_different_workers(site: RunningSite, stack: contextlib.ExitStack) -> list[Callable[[Image], int]]:
    """Two senders whose associations are served by different processes."""
    found: dict[int, Callable[[Image], int]] = {}
    for _ in range(ASSOCIATIONS_TRIED_MAX):
        who = identity(site, f"S{len(found)}")
        session = stack.enter_context(associated(who, Archive("127.0.0.1", site.port), storing([_any_ct()])))
        worker = worker_of(site, session.source_port)
        found.setdefault(worker, partial(_status, session))
        if len(found) == 2:
            return list(found.values())
    raise AssertionError(f"{ASSOCIATIONS_TRIED_MAX} associations, all served by one worker")


def _status(session: Session, each: Image) -> int:
    return session.store(each).status


def worker_of(site: RunningSite, source_port: int) -> int:
    """The process that serves the connection from this port: the one that holds the socket's inode."""
    inode = ""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        local, remote = (int(words[at].rpartition(":")[2], 16) for at in (1, 2))
        if (local, remote) == (site.port, source_port):
            inode = words[9]
    for pid in processes(site)["dimse"]:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(descriptor) == f"socket:[{inode}]":
                    return pid
    raise AssertionError(f"no worker holds the connection from port {source_port}")
