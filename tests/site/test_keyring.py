"""Study keys: one for each study and writer, durable before use, found by everybody, and nothing in their files can be changed unseen."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import zlib
from pathlib import Path

import pytest

from leadglass.site import keyring as module
from leadglass.site.keyring import Keyring, StudyKey
from leadglass.site.sitekey import SiteKey
from leadglass.site.writer import Writer
from leadglass.terms import Erased, JournalFault, KeyFault, StoreFault


@pytest.fixture
def site_key(tmp_path: Path) -> SiteKey:
    return SiteKey.create(tmp_path / "site.key")


def left(site_dir: Path, site_key: SiteKey, studies: int, *, synced: bool = True) -> tuple[bytes, list[StudyKey]]:
    """A dead writer's keyring, each key synced for itself."""
    writer = Writer.create(site_dir)
    keyring = Keyring.open(site_dir, site_key, writer)
    made = []
    for number in range(studies):
        made.append(keyring.study_key(f"1.2.{number}"))
        if synced:
            keyring.sync()
    writer.close()
    return writer.id, made


def file_of(site_dir: Path, writer_id: bytes) -> Path:
    return site_dir / "writers" / writer_id.hex() / "keyring"


def recover(site_dir: Path, site_key: SiteKey, writer_id: bytes) -> int:
    writer = Writer.adopt(site_dir, writer_id)
    assert writer is not None
    try:
        return Keyring.open(site_dir, site_key, None).recover(writer)
    finally:
        writer.close()


def test_a_key_belongs_to_one_study_and_one_writer(tmp_path: Path, site_key: SiteKey) -> None:
    first, second = (Keyring.open(tmp_path, site_key, Writer.create(tmp_path)) for _ in range(2))
    key = first.study_key("1.2.3")
    assert first.study_key("1.2.3") is key
    others = [first.study_key("1.2.4"), second.study_key("1.2.3")]
    assert len({each.id for each in [key, *others]}) == len({each.key for each in [key, *others]}) == 3
    assert second.key(key.id) == key, "found before it is synced, by another process"
    assert first.key(others[1].id) == others[1]
    later = first.study_key("1.2.5")
    assert second.key(later.id) == later, "an open keyring reads on"
    assert Keyring.open(tmp_path, site_key, None).studies() == 4
    assert key.key.hex() not in repr(key) and str(key.key) not in repr(key)


def test_an_unknown_key_is_named(tmp_path: Path, site_key: SiteKey) -> None:
    with pytest.raises(KeyFault, match="00112233"):
        Keyring.open(tmp_path, site_key, None).key(bytes.fromhex("00112233" * 4))


def test_wrapping_is_bound_to_key_and_context() -> None:
    key, other = StudyKey(b"1" * 16, b"k" * 32), StudyKey(b"2" * 16, b"k" * 32)
    wrapped = key.wrap(b"i" * 32, b"record 7")
    assert key.unwrap(wrapped, b"record 7") == b"i" * 32
    assert key.wrap(b"i" * 32, b"record 7") != wrapped
    for wrong, context in ((key, b"record 8"), (other, b"record 7")):
        with pytest.raises(KeyFault):
            wrong.unwrap(wrapped, context)
    with pytest.raises(KeyFault):
        key.open(b"leadglass/patient-box/1", wrapped, b"record 7")


def test_nothing_in_the_file_is_readable(tmp_path: Path, site_key: SiteKey) -> None:
    writer_id, made = left(tmp_path, site_key, 1)
    data = file_of(tmp_path, writer_id).read_bytes()
    assert made[0].key not in data and b"1.2.0" not in data and made[0].id in data
    assert file_of(tmp_path, writer_id).stat().st_mode & 0o777 == 0o600


def test_sync_costs_nothing_where_nothing_is_pending(
    tmp_path: Path, site_key: SiteKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: synced.append(file) or real(file))  # type: ignore[func-returns-value]
    keyring = Keyring.open(tmp_path, site_key, Writer.create(tmp_path))
    keyring.sync()
    keyring.study_key("1.2.3")
    assert len(synced) == 1, "the head, before any entry"
    keyring.sync()
    keyring.study_key("1.2.3")
    keyring.sync()
    assert len(synced) == 2
    keyring.close()
    assert len(synced) == 2


def test_a_failed_sync_is_final(tmp_path: Path, site_key: SiteKey, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = Keyring.open(tmp_path, site_key, Writer.create(tmp_path))
    keyring.study_key("1.2.3")

    def fails(file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fails)
        with pytest.raises(JournalFault):
            keyring.sync()
    with pytest.raises(JournalFault):
        keyring.sync()


def test_a_full_disk_takes_nothing_and_storing_goes_on(
    tmp_path: Path, site_key: SiteKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer.create(tmp_path)
    keyring = Keyring.open(tmp_path, site_key, writer)
    keyring.study_key("1.2.3")
    real, room = os.pwrite, [10]

    def full(file: int, data: bytes, offset: int) -> int:
        if not room:
            raise OSError(28, "No space left on device")
        return real(file, data[: room.pop()], offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(StoreFault):
            keyring.study_key("1.2.4")
    after = keyring.study_key("1.2.4")
    keyring.sync()
    assert Keyring.open(tmp_path, site_key, None).key(after.id) == after
    writer.close()
    assert recover(tmp_path, site_key, writer.id) == 0


def test_torn_at_every_byte_of_the_last_entry(tmp_path: Path, site_key: SiteKey) -> None:
    writer_id, made = left(tmp_path, site_key, 2)
    path = file_of(tmp_path, writer_id)
    whole = path.read_bytes()
    begins = whole.index(made[1].id) - 10
    for end in range(begins, len(whole)):
        path.write_bytes(whole[:end])
        reading = Keyring.open(tmp_path, site_key, None)
        assert reading.key(made[0].id) == made[0]
        with pytest.raises(KeyFault):
            reading.key(made[1].id)
        assert recover(tmp_path, site_key, writer_id) == end - begins
        assert path.read_bytes() == whole[:begins]
    for end in range(40):  # the head itself
        path.write_bytes(whole[:end])
        assert recover(tmp_path, site_key, writer_id) == end


def test_a_tail_of_zeros_is_cut(tmp_path: Path, site_key: SiteKey) -> None:
    writer_id, made = left(tmp_path, site_key, 2)
    path = file_of(tmp_path, writer_id)
    path.write_bytes(path.read_bytes() + bytes(5000))
    assert recover(tmp_path, site_key, writer_id) == 5000
    path.write_bytes(bytes(4096))
    assert recover(tmp_path, site_key, writer_id) == 4096
    with pytest.raises(KeyFault):
        Keyring.open(tmp_path, site_key, None).key(made[0].id)


def test_what_was_durable_and_is_broken_is_a_loss_not_a_tail(tmp_path: Path, site_key: SiteKey) -> None:
    writer_id, made = left(tmp_path, site_key, 3)
    path = file_of(tmp_path, writer_id)
    whole = bytearray(path.read_bytes())
    whole[whole.index(made[1].id) + 30] ^= 1
    path.write_bytes(whole)
    with pytest.raises(KeyFault, match="was durable"):
        recover(tmp_path, site_key, writer_id)


def test_a_hole_in_what_was_never_synced_is_a_tail(tmp_path: Path, site_key: SiteKey) -> None:
    """After a power cut a later page may have reached the disk and an earlier one not."""
    writer_id, made = left(tmp_path, site_key, 3, synced=False)
    path = file_of(tmp_path, writer_id)
    whole = bytearray(path.read_bytes())
    begins = whole.index(made[1].id) - 10
    whole[begins : begins + 40] = bytes(40)
    path.write_bytes(whole)
    assert recover(tmp_path, site_key, writer_id) == len(whole) - begins
    assert Keyring.open(tmp_path, site_key, None).key(made[0].id) == made[0]


def test_every_flipped_bit_is_found(tmp_path: Path, site_key: SiteKey) -> None:
    writer_id, made = left(tmp_path, site_key, 2)
    path = file_of(tmp_path, writer_id)
    whole = path.read_bytes()
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        reading = Keyring.open(tmp_path, site_key, None)
        with pytest.raises(KeyFault):
            for key in made:
                assert reading.key(key.id) == key


def test_entries_cannot_be_moved_or_left_out_even_with_the_right_checksums(tmp_path: Path, site_key: SiteKey) -> None:
    writer_id, made = left(tmp_path, site_key, 3)
    path = file_of(tmp_path, writer_id)
    whole = path.read_bytes()
    starts = [whole.index(key.id) - 10 for key in made] + [len(whole)]
    first, _, third = (whole[start:end] for start, end in itertools.pairwise(starts))
    path.write_bytes(whole[: starts[0]] + first + third)
    with pytest.raises(KeyFault, match="changed or moved"):
        Keyring.open(tmp_path, site_key, None).key(made[2].id)
    other = Writer.create(tmp_path)
    shutil.copy(path, other.directory / "keyring")
    with pytest.raises(KeyFault, match="not that writer's"):
        Keyring.open(tmp_path, site_key, None).studies()


def test_another_site_key_is_named(tmp_path: Path, site_key: SiteKey) -> None:
    _, made = left(tmp_path, site_key, 1)
    other = SiteKey.create(tmp_path / "other.key")
    with pytest.raises(KeyFault, match="another site key"):
        Keyring.open(tmp_path, other, None).key(made[0].id)


def test_two_threads_make_one_key_for_one_study(tmp_path: Path, site_key: SiteKey) -> None:
    writer = Writer.create(tmp_path)
    keyring = Keyring.open(tmp_path, site_key, writer)
    found: list[list[StudyKey]] = []

    def meet() -> None:
        keys = []
        for number in range(200):
            keys.append(keyring.study_key(f"1.2.{number}"))
            if number % 20 == 0:
                keyring.sync()
        found.append(keys)

    threads = [threading.Thread(target=meet) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(keys == found[0] for keys in found) and len(found) == 4
    assert Keyring.open(tmp_path, site_key, None).studies() == 200
    writer.close()
    assert recover(tmp_path, site_key, writer.id) == 0


def test_memory_is_bounded_and_every_key_still_opens(
    tmp_path: Path, site_key: SiteKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYS_MINE_MAX", 3)
    monkeypatch.setattr(module, "KEYS_OPENED_MAX", 2)
    keyring = Keyring.open(tmp_path, site_key, Writer.create(tmp_path))
    made = [keyring.study_key(f"1.2.{number}") for number in range(5)]
    assert [keyring.key(key.id) for key in made] == made
    assert (len(keyring._mine), len(keyring._at_hand)) == (3, 2)
    assert keyring.study_key("1.2.0") != made[0], "one more key of that study"
    with pytest.raises(KeyFault, match="length"):
        keyring.study_key("1" * 600)
    with pytest.raises(KeyFault, match="only reads"):
        Keyring.open(tmp_path, site_key, None).study_key("1.2.3")


# ---- destroyed


def test_a_destroyed_key_is_nowhere_and_its_neighbours_are_where_they_were(tmp_path: Path, site_key: SiteKey) -> None:
    dead, keys = left(tmp_path, site_key, 5)
    mine = Keyring.open(tmp_path, site_key, Writer.create(tmp_path))
    own = [mine.study_key(f"1.2.{number}") for number in range(3)]
    mine.sync()
    other = Keyring.open(tmp_path, site_key, None)
    assert other.key(keys[1].id) == keys[1] and other.key(own[1].id) == own[1], "in its hands, and read from its file"
    gone = mine.keys_of({"1.2.1"})
    assert gone == {keys[1].id, own[1].id} == mine.remaining(gone)

    assert mine.destroy(gone) == 1 and mine.remaining(gone) == {keys[1].id}
    adopted = Writer.adopt(tmp_path, dead)
    assert adopted is not None and mine.destroy_in(adopted, gone) == 1
    adopted.close()
    assert mine.remaining(gone) == frozenset() == mine.keys_of({"1.2.1"})
    other.forget(gone)
    for keyring in (mine, other, Keyring.open(tmp_path, site_key, None)):
        for key_id in gone:
            with pytest.raises(Erased):
                keyring.key(key_id)
        for kept in (*keys[:1], *keys[2:], own[0], own[2]):
            assert keyring.key(kept.id) == kept
        assert keyring.studies() == 6
    for path in tmp_path.rglob("keyring*"):
        content = path.read_bytes()
        assert keys[1].key not in content and b"1.2.1" not in content
    assert mine.destroy(gone) == 0, "harmless to repeat"


def test_a_writer_goes_on_after_it_destroyed_and_a_study_that_comes_again_gets_a_new_key(
    tmp_path: Path, site_key: SiteKey
) -> None:
    writer = Writer.create(tmp_path)
    keyring = Keyring.open(tmp_path, site_key, writer)
    old = keyring.study_key("1.2.3")
    keyring.study_key("1.2.4")  # pending: durable with the destroying
    assert keyring.destroy({old.id}) == 1
    fresh, later = keyring.study_key("1.2.3"), keyring.study_key("1.2.5")
    assert fresh.id != old.id and fresh.key != old.key
    keyring.sync()
    keyring.close()
    writer.close()
    assert recover(tmp_path, site_key, writer.id) == 0
    again = Keyring.open(tmp_path, site_key, None)
    assert again.studies() == 3 and again.key(later.id) == later and again.keys_of({"1.2.3"}) == {fresh.id}


def test_what_lay_there_is_overwritten_where_it_lay(tmp_path: Path, site_key: SiteKey) -> None:
    dead, (key, _) = left(tmp_path, site_key, 2)
    with file_of(tmp_path, dead).open("rb") as before:
        old = before.read()
        adopted = Writer.adopt(tmp_path, dead)
        assert adopted is not None
        Keyring.open(tmp_path, site_key, None).destroy_in(adopted, {key.id})
        adopted.close()
        before.seek(0)
        assert before.read() == bytes(len(old)), "the file that has no name any more"


def test_a_destroyed_entry_is_sealed_and_stays_one(tmp_path: Path, site_key: SiteKey) -> None:
    """Whoever writes to the file destroys no key unseen, and makes no key of a destroyed one."""
    dead, (key, _) = left(tmp_path, site_key, 2)
    path, before = file_of(tmp_path, dead), file_of(tmp_path, dead).read_bytes()
    adopted = Writer.adopt(tmp_path, dead)
    assert adopted is not None
    Keyring.open(tmp_path, site_key, None).destroy_in(adopted, {key.id})
    adopted.close()
    destroyed = path.read_bytes()
    assert len(destroyed) == len(before)
    start = module._HEAD.size
    length = module._entry_length(destroyed, start)
    assert length is not None
    for forged, kind in ((before, module._DESTROYED), (destroyed, module._STUDY_KEY)):
        entry = bytearray(forged[start : start + length])
        entry[5] = kind
        entry[-4:] = module._CRC.pack(zlib.crc32(entry[:-4]))
        path.write_bytes(forged[:start] + bytes(entry) + forged[start + length :])
        with pytest.raises(KeyFault, match="changed or moved"):
            recover(tmp_path, site_key, dead)


@pytest.mark.parametrize("step", ["fsync", "replace", "sync_directory"])
def test_a_crash_while_destroying_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, site_key: SiteKey, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    dead, keys = left(tmp_path, site_key, 3)
    adopted = Writer.adopt(tmp_path, dead)
    assert adopted is not None

    def fails(*_: object) -> None:
        raise OSError(5, "the power went")

    if step == "replace":
        monkeypatch.setattr(Path, "replace", fails)
    elif step == "fsync":
        monkeypatch.setattr(module.os, "fsync", fails)
    else:
        monkeypatch.setattr(module, "sync_directory", fails)
    with pytest.raises(OSError, match="the power went"):
        Keyring.open(tmp_path, site_key, None).destroy_in(adopted, {keys[0].id})
    monkeypatch.undo()
    adopted.close()
    assert recover(tmp_path, site_key, dead) == 0
    there = Keyring.open(tmp_path, site_key, None)
    assert [there.key(each.id) for each in keys[1:]] == keys[1:]
    assert there.studies() == (2 if step == "sync_directory" else 3)
    again = Writer.adopt(tmp_path, dead)
    assert again is not None
    there.destroy_in(again, {keys[0].id})
    again.close()
    assert there.remaining({keys[0].id}) == frozenset()
