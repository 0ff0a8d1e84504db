"""Disks that are full, that fail, that lose or change what they hold: the shipped program refuses, names it, recovers, and loses nothing."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leadglass.archive.backends.local import LocalObjects
from leadglass.archive.walk import walk
from leadglass.audit.journal.format import RECORD_LENGTH_MIN_BYTES
from leadglass.lab.corpus import Image
from leadglass.lab.peers import Archive, TurnedAway, associated, echoing, querying, storing
from leadglass.wire import tags
from leadglass.wire.dimse import Status
from tests.crash.test_kills import LIMITS, SENDERS, Senders, alive, identity, processes, verify
from tests.programs import require
from tests.running import RunningSite, running, until
from tests.siege.campaign import Campaign
from tests.siege.test_power_cut import fetched
from tests.synthetic import digest, image, uid

DISK_LENGTH_BYTES = 96 << 20
RESERVE_BYTES = 8 << 20
SMALL_RESERVE = f"\n[limits]\nsegment_length_max_bytes = 4194304\ndisk_reserve_bytes = {RESERVE_BYTES}\n"
SECONDS_MAX = 60.0
WORKERS = 2
FAULTY_CALLS = 3  # at how many calls in `make test`; a soak goes on
CALLS_REACHED = 40  # a store and its answer take fewer calls of one kind
STORES_UNTIL_FULL_MAX = 400


# ---- a device and what it hears


class Device:
    """Sends instances of one study, one association each, and keeps count."""

    def __init__(self, site: RunningSite, seed: int) -> None:
        self._site, self._rng = site, random.Random(seed)
        self.study = uid(self._rng)
        self.sent: dict[str, Image] = {}
        self.acknowledged: set[str] = set()

    def new(self) -> Image:
        made = image(self._rng, study=self.study, pixels=self._rng.choice((600, 20_000)))
        self.sent[made.sop_instance_uid] = made
        return made

    def store(self, made: Image) -> int | None:
        """The status; None where the association ended without one."""
        archive = Archive("127.0.0.1", self._site.port)
        try:
            with associated(identity(self._site, "S0"), archive, storing([made])) as session:
                status = session.store(made).status
                if status == Status.SUCCESS:
                    self.acknowledged.add(made.sop_instance_uid)
                return status
        except TurnedAway:
            return None

    def check(self) -> None:
        """All that was acknowledged is there as it was sent, and what was not can be sent now."""
        for each in self.sent.values():
            assert until(lambda each=each: self.store(each) == Status.SUCCESS, SECONDS_MAX), "it is not taken any more"
        came = fetched(self._site, [self.study])
        assert came == {key: digest(each) for key, each in self.sent.items()}


def echoes(site: RunningSite) -> bool:
    with associated(identity(site, "S0"), Archive("127.0.0.1", site.port), echoing()) as session:
        return session.echo().status == Status.SUCCESS


def studies_found(site: RunningSite) -> set[str]:
    with associated(identity(site, "READER"), Archive("127.0.0.1", site.port), querying()) as session:
        answer, rows = session.find("STUDY", {tags.STUDY_INSTANCE_UID: ""})
    assert answer.status == Status.SUCCESS
    return {row[tags.STUDY_INSTANCE_UID] for row in rows}


def enrolled(site: RunningSite) -> RunningSite:
    site.up()
    for number in range(SENDERS):
        site.enroll(f"S{number}", "echo,store")
    site.enroll("READER", "find,get")
    return site


# ---- a full disk


class Disk:
    """A small file system of its own; where none can be mounted, strace answers who asks for room with ENOSPC."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_LENGTH_BYTES}", "leadglass-test", str(place)]
        self.mounted = not subprocess.run(mount, check=False, capture_output=True).returncode

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.place)], check=True)

    @contextlib.contextmanager
    def full(self, site: RunningSite, *, free_bytes: int) -> Iterator[None]:
        """No more than `free_bytes` are free within the block."""
        if not self.mounted:
            with injected([*processes(site)["dimse"]], "inject=statfs:error=ENOSPC"):
                yield
            return
        filler = self.place / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):  # others write meanwhile
            while (facts := os.statvfs(self.place)).f_bavail * facts.f_frsize > free_bytes:
                file.write(bytes(facts.f_frsize))
        try:
            yield
        finally:
            filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    yield made
    made.close()


@pytest.mark.parametrize("free_bytes", [RESERVE_BYTES - (1 << 20), 0], ids=["reserve", "nothing-left"])
def test_attack_61_a_full_disk_refuses_stores_and_nothing_else(disk: Disk, free_bytes: int) -> None:
    with running(disk.place, SMALL_RESERVE) as site:
        enrolled(site)
        started = processes(site)
        device = Device(site, 1)
        for _ in range(20):
            assert device.store(device.new()) == Status.SUCCESS
        with disk.full(site, free_bytes=free_bytes):
            for _ in range(10):
                assert device.store(device.new()) == Status.OUT_OF_RESOURCES
                assert echoes(site)
            assert studies_found(site) == {device.study}
            came = fetched(site, [device.study])
            assert came == {key: digest(device.sent[key]) for key in device.acknowledged}
            for _ in range(2):  # whoever fills the disk keeps nobody from containing them
                site.command("contain", "device", "READER", "--reason", "odd")
            with pytest.raises(TurnedAway):
                studies_found(site)
            told = site.command("apply", check=False)
            assert told.returncode == 0 or "disk is full" in told.stderr, told
        site.command("contain", "device", "READER", "--undo")
        device.check()
        assert processes(site) == started, "a full disk needs no restart"
        refused = [row["reason"] for row in site.events("request:refused")]
        assert len([why for why in refused if "object store" in why or "has no room" in why]) == 10, refused
        rows = site.command("index", "rows").stdout
        site.command("index", "rebuild")
        assert site.command("index", "rows").stdout == rows


# ---- writes and syncs that fail


@contextlib.contextmanager
def injected(pids: list[int], *what: str) -> Iterator[None]:
    """strace stands between these processes and the kernel within the block."""
    calls = ",".join(sorted({name for each in what for name in each.removeprefix("inject=").split(":")[0].split(",")}))
    line = [require("strace"), "-f", "-q", "-o", "/dev/null", "-e", f"trace={calls}"]
    for each in what:
        line += ["-e", each]
    for pid in pids:
        line += ["-p", str(pid)]
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tracer:
        try:
            assert until(lambda: all(traced(pid, tracer.pid) for pid in pids)), "strace does not attach"
            yield
        finally:
            ended(tracer, pids)


def ended(tracer: subprocess.Popen[bytes], pids: list[int]) -> None:
    """It ends by itself with what it traced. To be told to let go of a process that is just ending is what strace may wait for forever."""
    if all(map(alive, pids)):
        tracer.terminate()
    try:
        tracer.wait(SECONDS_MAX)
    except subprocess.TimeoutExpired:
        tracer.kill()


def traced(pid: int, tracer: int) -> bool:
    """Every thread of it: one that is not yet would be served honestly."""
    with contextlib.suppress(OSError):
        return all(
            f"TracerPid:\t{tracer}\n" in (task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()
        )
    return True


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("disk"), LIMITS) as site:
        yield enrolled(site)


def test_attack_61_no_space_at_any_write(faulty: RunningSite, campaign: Campaign) -> None:
    """One write of each thread, or all from there on; whoever hears success finds what was sent, and the same processes go on."""
    for seed in campaign.seeds("no-space", FAULTY_CALLS):
        rng = random.Random(seed)
        when = f"{rng.randint(1, CALLS_REACHED)}{rng.choice(('', '+'))}"
        device = Device(faulty, 1_000 + seed)
        before = processes(faulty)["dimse"]
        with injected(before, f"inject=pwrite64,fallocate:error=ENOSPC:when={when}"):
            heard = [device.store(device.new()) for _ in range(12)]
            while when.endswith("+") and heard[-1] == Status.SUCCESS and len(heard) < STORES_UNTIL_FULL_MAX:
                heard.append(
                    device.store(device.new())
                )  # writes are counted thread by thread, and a quick one does most
        assert set(heard) <= {Status.SUCCESS, Status.OUT_OF_RESOURCES, None}, (when, heard)
        assert when.endswith("+") <= (heard[-1] != Status.SUCCESS), (when, heard)
        acknowledged = len(device.acknowledged)
        device.check()
        assert processes(faulty)["dimse"] == before, f"at write {when}: a full disk needs no restart\n{faulty.log()}"
        print(campaign.done("no-space", seed, faults=1, acknowledged=acknowledged))


def test_attack_61_a_sync_that_fails_ends_the_worker_and_loses_nothing(faulty: RunningSite, campaign: Campaign) -> None:
    for seed in campaign.seeds("failed-syncs", FAULTY_CALLS):
        rng = random.Random(seed)
        with Senders(faulty, 5_000 + seed) as senders:
            senders.until_served()
            victim = rng.choice(processes(faulty)["dimse"])
            with injected([victim], f"inject=fdatasync,fsync:error=EIO:when={rng.randint(1, 12)}"):
                assert until(lambda victim=victim: not alive(victim), SECONDS_MAX), (
                    "it goes on after a sync that failed"
                )
            senders.until_served()
        verify(faulty, senders)
        print(campaign.done("failed-syncs", seed, faults=1, acknowledged=senders.count()))
    assert any("exit code 1" in row["reason"] for row in faulty.events("process:ended"))


# ---- what rests is lost or changed


@pytest.fixture(scope="module")
def rested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningSite, Device, str]]:
    """A stopped site, what was stored there, and its index's rows; and a copy, from which each test begins again."""
    with running(tmp_path_factory.mktemp("rested"), LIMITS) as site:
        device = Device(enrolled(site), 77)
        for _ in range(30):
            assert device.store(device.new()) == Status.SUCCESS
        rows = site.command("index", "rows").stdout
        site.down()
        copied(site.directory, original(site))
        yield site, device, rows


@pytest.fixture
def stopped(rested: tuple[RunningSite, Device, str]) -> Iterator[RunningSite]:
    site = rested[0]
    shutil.rmtree(site.directory)
    copied(original(site), site.directory)
    yield site
    site.down()


def original(site: RunningSite) -> Path:
    return site.directory.with_name("original")


def copied(source: Path, target: Path) -> None:
    """Without its socket, which is no file."""
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("*.sock"))


def flip(path: Path, *offsets: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 0x10]))


def halved(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flipped_everywhere(path: Path) -> None:
    """One bit of each page but the first."""
    flip(path, *range(8192 + 77, path.stat().st_size, 8192))


LOST_INDEX: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "cut-to-100": lambda path: os.truncate(path, 100),
    "halved": halved,
    "every-page": flipped_everywhere,
}


@pytest.mark.parametrize("how", LOST_INDEX)
def test_attack_61_an_index_that_is_lost_is_made_again(
    stopped: RunningSite, rested: tuple[RunningSite, Device, str], how: str
) -> None:
    """At the start, or by what the refusal to start says, or by the command that a refused question names."""
    _, device, rows = rested
    index = stopped.directory / "index" / "index.db"
    LOST_INDEX[how](index)
    try:
        stopped.up()
    except AssertionError as refused:
        assert "move it away: it is rebuilt" in str(refused)
        assert "Traceback" not in str(refused)
        stopped.down()
        index.rename(index.with_name("moved-away"))
        stopped.up()
    if (shown := stopped.command("index", "rows", check=False)).returncode:
        assert "`leadglass index rebuild` makes it again" in shown.stderr
        stopped.command("index", "rebuild")
    assert stopped.command("index", "rows").stdout == rows
    assert fetched(stopped, [device.study]) == {key: digest(each) for key, each in device.sent.items()}


def test_attack_61_a_log_of_the_index_that_is_lost_costs_nothing(
    stopped: RunningSite, rested: tuple[RunningSite, Device, str]
) -> None:
    """After a kill the last transactions are in SQLite's log alone."""
    _, device, rows = rested
    stopped.up()
    later = Device(stopped, 78)
    for _ in range(10):
        assert later.store(later.new()) == Status.SUCCESS
    stopped.kill()
    (stopped.directory / "index" / "index.db-wal").unlink()
    stopped.up()
    wanted = {key: digest(value) for each in (device, later) for key, value in each.sent.items()}
    assert fetched(stopped, [device.study, later.study]) == wanted
    shown = stopped.command("index", "rows").stdout
    stopped.command("index", "rebuild")
    assert stopped.command("index", "rows").stdout == shown != rows


def largest(stopped: RunningSite, pattern: str) -> Path:
    return max(stopped.directory.glob(pattern), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("seed", range(3))
def test_attack_62_a_changed_bit_of_a_segment_is_never_served(
    stopped: RunningSite, rested: tuple[RunningSite, Device, str], seed: int
) -> None:
    _, device, _ = rested
    segment = largest(stopped, "objects/*.lgs")
    block = segment.read_bytes()
    rng = random.Random(seed)
    offset = next(at for at in iter(lambda: rng.randrange(8192, len(block)), None) if any(block[at : at + 64]))
    flip(segment, offset)
    stopped.up()
    came = fetched(stopped, [device.study])
    assert len(came) == len(device.sent) - 1, "one record was changed"
    assert came.items() <= {key: digest(each) for key, each in device.sent.items()}.items()
    corrupted = stopped.events("instance:corrupted")
    assert corrupted and all(segment.name in str(row) for row in corrupted)


def test_attack_62_two_images_that_change_places_are_not_served_for_each_other(
    stopped: RunningSite, rested: tuple[RunningSite, Device, str]
) -> None:
    _, device, _ = rested
    objects, places = LocalObjects(stopped.directory / "objects"), dict[tuple[str, int], list[int]]()
    for segment_name in objects.names():
        for each in walk(objects, segment_name).records:
            places.setdefault((segment_name, each.location.length), []).append(each.location.offset)
    (name, length), offsets = max(places.items(), key=lambda item: len(item[1]))
    assert len(offsets) > 1, "no two of equal length"
    segment = stopped.directory / "objects" / name
    whole = bytearray(segment.read_bytes())
    first, second = (slice(offset, offset + length) for offset in offsets[:2])
    whole[first], whole[second] = whole[second], whole[first]
    segment.chmod(0o600)
    segment.write_bytes(whole)
    stopped.up()
    came = fetched(stopped, [device.study])
    assert len(came) == len(device.sent) - 2
    assert came.items() <= {key: digest(each) for key, each in device.sent.items()}.items()
    assert len(stopped.events("instance:corrupted")) >= 2


@pytest.mark.parametrize("what", ["removed", "halved"])
def test_attack_62_a_segment_that_is_gone_is_named_for_each_image(
    stopped: RunningSite, rested: tuple[RunningSite, Device, str], what: str
) -> None:
    _, device, _ = rested
    segment = largest(stopped, "objects/*.lgs")
    segment.chmod(0o600)
    if what == "removed":
        segment.unlink()
    else:
        halved(segment)
    stopped.up()
    came = fetched(stopped, [device.study])
    lost = len(device.sent) - len(came)
    assert lost > 0 and came.items() < {key: digest(each) for key, each in device.sent.items()}.items()
    corrupted = stopped.events("instance:corrupted")
    assert len(corrupted) == lost and all(segment.name in str(row) for row in corrupted)


def test_attack_62_an_index_of_yesterday_is_brought_up_to_today(
    stopped: RunningSite, rested: tuple[RunningSite, Device, str]
) -> None:
    """It is derived from what rests: whoever puts back an old one hides nothing."""
    _, device, rows = rested
    yesterday = (stopped.directory / "index" / "index.db").read_bytes()
    stopped.up()
    later = Device(stopped, 79)
    for _ in range(5):
        assert later.store(later.new()) == Status.SUCCESS
    stopped.down()
    (stopped.directory / "index" / "index.db").write_bytes(yesterday)
    stopped.up()
    wanted = {key: digest(value) for each in (device, later) for key, value in each.sent.items()}
    assert fetched(stopped, [device.study, later.study]) == wanted
    assert studies_found(stopped) == {device.study, later.study}
    assert stopped.command("index", "rows").stdout != rows


@pytest.mark.parametrize("how", ["removed", "cut at a record", "of yesterday"])
def test_attack_62_a_journal_that_lost_events_is_named_everywhere(stopped: RunningSite, how: str) -> None:
    """Where what is left is a sound journal by itself."""
    stopped.up()
    device = Device(stopped, 80)
    for _ in range(6):
        assert device.store(device.new()) == Status.SUCCESS
    worker = stopped.events("instance:stored")[-1]["writer"]
    journal = stopped.directory / "writers" / worker / "journal-00000001.ljn"
    yesterday = journal.read_bytes()
    for _ in range(6):
        assert device.store(device.new()) == Status.SUCCESS
    stopped.down()
    match how:
        case "removed":
            journal.unlink()
        case "cut at a record":
            os.truncate(journal, journal.stat().st_size - RECORD_LENGTH_MIN_BYTES)  # that it was closed
        case _:
            journal.write_bytes(yesterday)
    told = stopped.command("events", "--json", check=False)
    assert told.returncode != 0 and "had come to event" in told.stderr and "Traceback" not in told.stderr
    assert next(row for row in stopped.rows_anyway("doctor") if row["about"] == "journals")["state"] == "red"
    stopped.up()
    (status,) = stopped.rows("status")
    assert any("had come to event" in each for each in status["amber"])
    assert until(lambda: any('"journal:lost"' in line for line in stopped.command("events", "--json", check=False).stdout.splitlines()))  # fmt: skip


def test_attack_62_a_changed_bit_of_a_keyring_is_named_and_what_other_keys_open_is_served(
    stopped: RunningSite, rested: tuple[RunningSite, Device, str]
) -> None:
    """Each worker had a key of its own for the study: what one of them sealed is lost with it, and only that."""
    _, device, _ = rested
    keyrings = sorted(stopped.directory.glob("writers/*/keyring"))
    flip(keyrings[0], keyrings[0].stat().st_size - 30)
    stopped.up()
    came = fetched(stopped, [device.study])
    assert came.items() < {key: digest(each) for key, each in device.sent.items()}.items()
    assert bool(came) == (len(keyrings) > 1)
    reason = stopped.events("release:ended")[-1]["reason"]
    assert f"{len(device.sent) - len(came)} of {len(device.sent)} could not be sent" in reason
    assert "no keyring has the key" in reason
