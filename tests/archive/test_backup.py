from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from leadglass.__main__ import assemble
from leadglass.archive import backup as backup_module
from leadglass.archive.backends.local import LocalObjects
from leadglass.archive.backup import Backup, refuse_place
from leadglass.archive.copying import Planned
from leadglass.archive.manifest import MANIFEST, MARK, Manifest, problems, read_manifest
from leadglass.archive.restore import restore
from leadglass.audit.journal.append import JournalWriter
from leadglass.audit.journal.read import JournalReader
from leadglass.doors.command.application import run_application
from leadglass.policy import containment
from leadglass.site.keyring import Keyring
from leadglass.site.register import Register
from leadglass.site.sitekey import SiteKey
from leadglass.site.write import load_proven
from leadglass.terms import Event, EventKind, Fault, KeyFault, Location, NotChanged, Outcome, Settled, StoreFault
from tests.archive.place import Place, Process


class Journals:
    """The journals' side of recovery, as a process of the site has it."""

    def __init__(self, place: Place) -> None:
        self.told = 0
        self._reader = JournalReader.open(place.site_dir, Keyring.open(place.site_dir, place.site_key, None))

    def stored(self, writer: bytes) -> Iterable[Sequence[Location]] | None:
        return self._reader.stored(writer)

    def lacks(self, settled: Settled, event: Event) -> None:
        self.told += 1


class Serving:
    """A serving process: what it stores stands in its journal too."""

    def __init__(self, place: Place, journal_length_max_bytes: int) -> None:
        self.process: Process = place.process()
        self.journal = JournalWriter.open(
            self.process.writer,
            self.process.keyring,
            lambda: 1_700_000_000 * 10**9,
            file_length_max_bytes=journal_length_max_bytes,
        )
        self.stored: dict[str, bytes] = {}

    def store(self, *, study: str = "", length: int = 3_000) -> None:
        uid = f"1.2.{int.from_bytes(self.process.writer.id[:6], 'big')}.{len(self.stored) + 1}"
        data = uid.encode().ljust(length, b".")
        settled = self.process.store(uid, data, study=study or f"{uid}.0")
        event = Event(EventKind.INSTANCE_STORED, Outcome.SUCCESS, actor="CT1", subject_uids=(uid,), settled=settled)
        self.journal.append(event)
        self.stored[uid] = data

    def die(self) -> None:
        self.journal._stop.set()
        self.journal._flusher.join()
        self.process.die()


class Made:
    """A site with everything that a backup meets, and what it takes to make one."""

    def __init__(self, tmp_path: Path, laid_out: Path) -> None:
        self.site_dir, self.directory = tmp_path / "site", tmp_path / "backup"
        shutil.copytree(laid_out, self.site_dir, symlinks=True)
        self.place = Place(self.site_dir, LocalObjects(self.site_dir / "objects"), segment_length_max_bytes=40_000)
        self.key = self.place.site_key
        Register.open(self.site_dir / "register.db", self.key.derive("register")).close()
        self.serving: list[Serving] = []
        self.still = threading.Lock()

    def serve(self, instances: int = 0, journal_length_max_bytes: int = 6_000) -> Serving:
        serving = Serving(self.place, journal_length_max_bytes)
        self.serving.append(serving)
        for _ in range(instances):
            serving.store()
        return serving

    def backup(self) -> dict[str, object]:
        journal = JournalReader.open(self.site_dir, Keyring.open(self.site_dir, self.key, None))
        made = Backup(
            self.site_dir, self.place.store, self.key, journal, lambda: load_proven(self.site_dir), self.still
        )
        return made.run(self.directory, "change-1")

    def manifest(self) -> Manifest:
        return read_manifest(self.directory, self.key)

    def restored(self, target: Path) -> Place:
        restore(self.directory, self.manifest(), self.key, target, key_out=None, advance=lambda done: None)
        place = Place(target, LocalObjects(target / "objects"))
        place.journal = Journals(place)
        return place

    def comes_back(self, target: Path, expected: dict[str, bytes]) -> Process:
        """From a restored copy, after recovery, everything reads as it was stored; the process that read it."""
        place = self.restored(target)
        process = place.process()
        process.recovery.recover_all()
        for uid, data in expected.items():
            settled = process.index.current(uid)
            assert settled is not None, f"{uid} is lost"
            assert process.read(settled) == data
        list(JournalReader.open(target, process.keyring).read())
        place.close()
        return process


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site_dir = tmp_path_factory.mktemp("init") / "site"
    assert run_application(assemble, ["init", str(site_dir), "--loopback", "--json"]) == 0
    return site_dir


@pytest.fixture
def made(tmp_path: Path, laid_out: Path) -> Iterator[Made]:
    site = Made(tmp_path, laid_out)
    yield site
    for serving in site.serving:
        serving.die()


def stored(site: Made) -> dict[str, bytes]:
    return {uid: data for serving in site.serving for uid, data in serving.stored.items()}


def seen(site: Made, monkeypatch: pytest.MonkeyPatch, happens: Callable[[str], None]) -> None:
    """`happens` before, in the middle of and after each copy of a growing file, with its path."""
    original = backup_module.copy

    def copying(planned: Planned, place: Path, advance: Callable[[int], None]) -> tuple[int, str]:
        def read(offset: int, into: memoryview) -> int:
            if offset:
                return planned.read(offset, into)
            count = planned.read(0, into)
            if (
                "/journal-" in planned.path
            ):  # a little into the room set aside, where the next event goes, if that is to be copied
                count = min(count, len(bytes(into[:count]).rstrip(b"\0")) + 100)
            else:
                count = max(1, count // 2)
            happens(planned.path)
            return count

        happens(planned.path)
        copied = original(Planned(planned.path, planned.length, planned.final, read), place, advance)
        happens(planned.path)
        return copied

    monkeypatch.setattr(backup_module, "copy", copying)


# ---- a copy beside the work


def test_what_lives_and_what_died_comes_back(made: Made, tmp_path: Path) -> None:
    made.serve(30).die()
    made.serve(30)
    result = made.backup()
    assert result["copied"] == result["files"]
    process = made.comes_back(tmp_path / "new", stored(made))
    assert isinstance(process.place.journal, Journals) and process.place.journal.told == 0


def test_whatever_is_stored_at_whichever_moment(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes store at each step and in the middle of each file, now and then under a new study key and into a new segment."""
    one, two = made.serve(20), made.serve(20)
    promised = stored(made)
    turn = iter(range(1_000_000))

    def happens(path: str) -> None:
        number = next(turn)
        for serving in (one, two):
            serving.store(length=(200, 9_000, 70_000)[number % 3])
            serving.journal.sync()
            serving.store(length=200)

    with monkeypatch.context() as patch:
        seen(made, patch, happens)
        made.backup()
    assert len(stored(made)) > len(promised) + 20
    made.comes_back(tmp_path / "first", promised)
    made.backup()
    made.comes_back(tmp_path / "second", stored(made))


def test_a_promotion_is_copied_with_the_version_that_it_concerns(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writers: at each moment one keeps another version of an object, and the other promotes it at once."""
    made.place.limits = dataclasses.replace(
        made.place.limits, segment_length_max_bytes=1 << 20
    )  # one each, which grows
    first, second = made.serve(3), made.serve(3)
    versions: dict[str, int] = {}

    def happens(path: str) -> None:
        keeping, promoting = (first, second) if len(versions) % 2 else (second, first)
        uid = f"1.9.{len(versions)}"
        for content in (b"one", b"two"):
            keeping.process.store(uid, content, study="1.9")
        promoting.process.conflicts.promote(uid, 2)
        versions[uid] = 2

    with monkeypatch.context() as patch:
        seen(made, patch, happens)
        made.backup()
    assert len(versions) > 12
    made.comes_back(tmp_path / "new", {})
    made.backup()
    process = made.comes_back(tmp_path / "later", dict.fromkeys(versions, b"two"))
    assert process.place.site_dir == tmp_path / "later"


def test_lengths_are_taken_while_no_standing_changes(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    made.serve(3)
    held: list[bool] = []
    original = LocalObjects.size

    def size(store: LocalObjects, name: str) -> int:
        held.append(made.still.locked())
        return original(store, name)

    monkeypatch.setattr(LocalObjects, "size", size)
    made.backup()
    assert held == [False, True], "the first look says what is final and how much room is needed"
    assert not made.still.locked()


def test_a_journal_is_copied_to_its_last_event_and_not_into_the_room_set_aside(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the beginning of an event is read before it is written and its end after that, the copy would hold neither it nor a torn tail."""
    serving = made.serve(5, journal_length_max_bytes=1 << 20)
    promised = stored(made)

    def happens(path: str) -> None:
        for _ in range(2):
            serving.store(length=200)
            serving.journal.sync()

    with monkeypatch.context() as patch:
        seen(made, patch, happens)
        made.backup()
    (journal,) = (each for each in made.manifest().files if "/journal-" in each.path)
    source = made.site_dir / journal.path
    assert journal.length < source.stat().st_size - (1 << 20), "there is room set aside"
    made.comes_back(tmp_path / "new", promised)


def test_a_writer_that_is_recovered_meanwhile(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each step in turn: it dies, another process cuts, publishes and seals it, and what it leaves is no longer as it was noted."""
    step, steps = 0, 1
    while step < steps:
        steps = dies_at(step, made, tmp_path, monkeypatch)
        step += 1
    assert step > 8


def dies_at(step: int, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many steps that backup had."""
    dying, other = made.serve(12), made.serve(2)
    made.place.journal = Journals(made.place)
    steps: list[str] = []

    def happens(path: str) -> None:
        steps.append(path)
        if len(steps) == step + 1:
            dying.die()
            other.process.recovery.recover(dying.process.writer.id)

    with monkeypatch.context() as patch:
        seen(made, patch, happens)
        made.directory = tmp_path / f"backup-{step}"
        made.backup()
    if len(steps) > step:
        assert not made.manifest().writers[dying.process.writer.id.hex()].sealed, "it was not, when that was noted"
    made.comes_back(tmp_path / f"new-{step}", {**dying.stored, **other.stored})
    dying.die()
    other.die()
    for folder in ("objects", "writers"):
        shutil.rmtree(made.site_dir / folder)
        (made.site_dir / folder).mkdir()
    shutil.rmtree(made.site_dir / "index")
    return len(steps)


def test_what_was_final_is_not_copied_again_and_what_changed_is(made: Made, tmp_path: Path) -> None:
    serving = made.serve(30)
    first, before = made.backup(), made.manifest()
    serving.store()
    second, after = made.backup(), made.manifest()
    assert second["copied"] < first["copied"]
    changed = {each.path for each in after.files} - {each.path for each in before.files if each in after.files}
    name = serving.process.writer.id.hex()
    assert all(path == "register.db" or name in path for path in changed), changed
    final = [each for each in before.files if each.final]
    assert final and all(each in after.files for each in final)
    assert list(problems(made.directory, after)) == []
    named = {each.at for each in after.files} | {MANIFEST, MARK}
    lying = {str(path.relative_to(made.directory)) for path in made.directory.rglob("*") if path.is_file()}
    assert lying == named, "no former copy stays"
    made.comes_back(tmp_path / "new", stored(made))


def test_what_is_not_final_is_looked_at_whatever_its_length(made: Made) -> None:
    """A large instance's segment gets its first block last."""
    made.serve(2)
    made.backup()
    (segment,) = (made.site_dir / "objects").iterdir()
    with segment.open("r+b") as file:
        file.seek(5_000)
        byte = file.read(1)[0]
        file.seek(5_000)
        file.write(bytes([byte ^ 1]))
    made.backup()
    entry = made.manifest().by_path()[f"objects/{segment.name}"]
    assert (made.directory / entry.at).read_bytes() == segment.read_bytes()


def test_a_removed_device_stays_removed_and_a_revoked_one_revoked(made: Made, tmp_path: Path) -> None:
    device = made.site_dir / "devices.d" / "CT9.toml"
    device.write_text('[devices.CT9]\nae_titles = ["CT9"]\nnetworks = ["10.0.0.0/8"]\n')
    made.backup()
    assert "devices.d/CT9.toml" in made.manifest().by_path()
    device.unlink()
    containment.replace(made.site_dir, lambda state: containment.revoke(state, ["sha256:aa"], "stolen"))
    made.backup()
    assert made.manifest().kept == (), "what people remove is removed"
    made.restored(tmp_path / "new").close()
    assert not (tmp_path / "new" / "devices.d" / "CT9.toml").exists()
    assert containment.read(tmp_path / "new").revoked == {"sha256:aa": "stolen"}
    (tmp_path / "new" / "state" / "containment.json").unlink()
    with pytest.raises(Fault, match="it was there and is gone"):
        containment.read(tmp_path / "new")


def test_a_backup_alone_opens_nothing(made: Made) -> None:
    made.serve(3)
    made.backup()
    kept = b"".join(path.read_bytes() for path in made.directory.rglob("*") if path.is_file())
    for secret in (b"PRIVATE KEY", made.key.text().encode(), b"leadglass-site-key", b"[site]", b"SQLite format"):
        assert secret not in kept, secret
    tops = {path.partition("/")[0] for path in made.manifest().by_path()}
    assert tops == {"ca", "doors", "format", "leadglass.toml", "objects", "register.db", "state", "writers"}
    phrase = (made.site_dir / "kit" / "passphrase.txt").read_bytes().strip()
    assert phrase not in kept


def test_what_the_site_lost_stays_in_the_backup(made: Made, tmp_path: Path) -> None:
    serving = made.serve(30)
    made.backup()
    segments = sorted((made.site_dir / "objects").iterdir())
    segments[0].unlink()  # closed long ago
    segments[-1].unlink()  # being written
    result = made.backup()
    assert result["kept"] == 1
    assert [warning for warning in result["warnings"] if segments[0].name in warning]  # type: ignore[attr-defined]
    assert f"objects/{segments[0].name}" in made.manifest().by_path()
    (kept,) = made.manifest().kept
    assert kept.path == f"objects/{segments[-1].name}" and (made.directory / kept.at).exists()
    made.backup()
    assert made.manifest().kept == (kept,) and (made.directory / kept.at).exists()
    made.restored(tmp_path / "new").close()
    assert (tmp_path / "new" / "objects" / segments[0].name).exists()
    assert not (tmp_path / "new" / "objects" / segments[-1].name).exists(), "it may be what recovery removed"
    assert serving.stored


# ---- interrupted


def test_interrupted_at_any_sync_the_former_backup_holds_and_the_next_goes_on(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = made.serve(25)
    made.backup()
    former = stored(made)
    for _ in range(25):
        serving.store()
    fsync, counted = os.fsync, 0

    def failing(descriptor: int) -> None:
        nonlocal counted
        counted += 1
        if counted == step:
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    for step in range(1, 500):
        counted = 0
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            try:
                made.backup()
                break
            except StoreFault as fault:
                assert "goes on" in fault.hint
        if made.manifest().number == 1:
            assert list(problems(made.directory, made.manifest())) == []
            if step % 5 == 0:
                made.comes_back(tmp_path / f"former-{step}", former)
                shutil.rmtree(tmp_path / f"former-{step}")
    assert step > 8
    assert not list(made.directory.rglob("*.part"))
    made.comes_back(tmp_path / "new", stored(made))


def test_a_first_backup_that_was_interrupted_is_none_and_is_finished_by_the_next(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.serve(25)
    original, left = backup_module.copy, [4]

    def dies(planned: Planned, place: Path, advance: Callable[[int], None]) -> tuple[int, str]:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device", str(place))
        return original(planned, place, advance)

    with monkeypatch.context() as patch:
        patch.setattr(backup_module, "copy", dies)
        with pytest.raises(StoreFault, match="No space left"):
            made.backup()
    with pytest.raises(StoreFault, match="never finished"):
        read_manifest(made.directory)
    result = made.backup()
    assert result["number"] == 1
    made.comes_back(tmp_path / "new", stored(made))


# ---- damage


KINDS = (
    "objects/*.lgs",
    "writers/*/journal-*",
    "writers/*/keyring",
    "register.db",
    "site/leadglass.toml",
    "site/ca/*.key",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
def test_damage_is_named_and_nothing_is_left(made: Made, tmp_path: Path, kind: str, how: str) -> None:
    made.serve(3)
    made.backup()
    (victim, *_) = sorted(made.directory.glob(f"*/{kind}"))
    data = bytearray(victim.read_bytes())
    if how == "missing":
        victim.unlink()
    elif how == "cut":
        os.truncate(victim, len(data) - 1)
    else:
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    (named,) = problems(made.directory, made.manifest())
    assert victim.name in named
    with pytest.raises(StoreFault, match=victim.name):
        made.restored(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_manifest_that_is_cut_changed_or_anothers(made: Made) -> None:
    made.backup()
    path = made.directory / MANIFEST
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreFault, match="damaged"):
            read_manifest(made.directory)
    path.write_bytes(whole.replace(b'"number":1', b'"number":7'))
    assert read_manifest(made.directory).number == 7, "well formed"
    with pytest.raises(StoreFault, match="not as this site wrote it"):
        read_manifest(made.directory, made.key)
    with pytest.raises(StoreFault, match="outside"):
        path.write_bytes(whole.replace(b'"path":"register.db"', b'"path":"../etc/cron"'))
        read_manifest(made.directory)
    with pytest.raises(Fault, match="format 2"):
        path.write_bytes(whole.replace(b'"format":1', b'"format":2'))
        read_manifest(made.directory)
    path.write_bytes(whole)
    with pytest.raises(KeyFault, match="is of the site with key"):
        read_manifest(made.directory, SiteKey(bytes(range(32))))


# ---- where it may be


def test_places_that_are_refused(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for inside in (made.site_dir, made.site_dir / "backup", made.site_dir / "objects", tmp_path):
        with pytest.raises(NotChanged, match="inside each other"):
            refuse_place(made.site_dir, inside)
    other = tmp_path / "other"
    other.mkdir()
    refuse_place(made.site_dir, other)
    (other / "holiday.jpg").write_bytes(b"")
    with pytest.raises(NotChanged, match="something else"):
        refuse_place(made.site_dir, other)
    with pytest.raises(NotChanged, match="no directory"):
        refuse_place(made.site_dir, other / "holiday.jpg")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(StoreFault, match="free"):
        made.backup()


def test_a_site_is_restored_into_an_empty_place_only(made: Made, tmp_path: Path) -> None:
    made.backup()
    with pytest.raises(NotChanged, match="not empty"):
        made.restored(made.site_dir)
    with pytest.raises(NotChanged, match="lies in the backup"):
        made.restored(made.directory / "new")
    empty = tmp_path / "empty"
    empty.mkdir()
    made.restored(empty).close()
    assert load_proven(empty).name == "localhost"


def test_segments_elsewhere_are_not_mixed_with_a_living_sites(made: Made, tmp_path: Path) -> None:
    """The site file may name a place outside the site: the original's own."""
    outside = tmp_path / "srv" / "objects"
    file = made.site_dir / "leadglass.toml"
    text = file.read_text()
    file.write_text(text.replace('"file:objects"', f'"file://{outside}"', 1))
    assert run_application(assemble, ["--site", str(made.site_dir), "apply"]) == 0
    made.place.store = LocalObjects(outside)
    serving = made.serve(3)
    made.backup()
    with pytest.raises(NotChanged, match="living site"):
        made.restored(tmp_path / "new")
    assert not (tmp_path / "new").exists() and list(outside.iterdir())
    segments = sorted(path.name for path in outside.iterdir())
    serving.die()
    shutil.rmtree(outside)
    made.restored(tmp_path / "new").close()
    assert sorted(path.name for path in outside.iterdir()) == segments
    assert not list((tmp_path / "new" / "objects").iterdir())


def test_two_at_once_do_not_share_a_place(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    def happens(path: str) -> None:
        with contextlib.suppress(NotChanged):
            made.backup()
            heard.append("made")

    made.serve(1)
    with monkeypatch.context() as patch:
        seen(made, patch, happens)
        made.backup()
    assert not heard and made.manifest().number == 1
