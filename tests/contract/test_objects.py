"""One suite over every object store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadglass.archive.backends import open_objects
from leadglass.archive.backends.memory import MemoryObjects
from leadglass.archive.buffers import Buffer
from leadglass.archive.objects import ObjectStore
from leadglass.archive.records import BLOCK_LENGTH_BYTES, segment_name
from leadglass.terms import StoreFault
from tests.running import until

WRITER = bytes(range(16))
NAME = segment_name(WRITER, 1)


@pytest.fixture(params=["file:objects", "file:///ABSOLUTE", "memory:"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return open_objects(request.param.replace("/ABSOLUTE", str(tmp_path / "elsewhere")), tmp_path)


@pytest.fixture
def block() -> Iterator[Buffer]:
    buffer = Buffer(2 * BLOCK_LENGTH_BYTES, budgeted=False)
    buffer.view[:] = bytes(range(256)) * 32
    yield buffer
    buffer.close()


def test_what_was_written_is_read(store: ObjectStore, block: Buffer) -> None:
    file = store.create(NAME)
    file.write(0, block.view)
    file.write(2 * BLOCK_LENGTH_BYTES, block.view[:BLOCK_LENGTH_BYTES])
    file.sync()
    assert file.name == NAME
    assert store.size(NAME) == 3 * BLOCK_LENGTH_BYTES
    assert store.read(NAME, 5, 300) == bytes(block.view[5:305])
    into = bytearray(4 * BLOCK_LENGTH_BYTES)
    assert store.read_into(NAME, BLOCK_LENGTH_BYTES, memoryview(into)) == 2 * BLOCK_LENGTH_BYTES
    assert into[:256] == bytes(range(256))
    assert store.read(NAME, 3 * BLOCK_LENGTH_BYTES - 2, 10) == b"\xfe\xff"
    assert store.read(NAME, 1 << 30, 10) == b""
    file.close()


def test_what_is_expected_is_read_as_it_is_and_nothing_is_no_error(store: ObjectStore, block: Buffer) -> None:
    file = store.create(NAME)
    file.write(0, block.view)
    file.close()
    for offset, length in ((0, 100), (5, 1 << 30), (1 << 30, 10)):
        store.expect(NAME, offset, length)
    store.expect(segment_name(WRITER, 2), 0, 10)
    store.expect("../../etc/passwd", 0, 10)
    assert store.read(NAME, 0, 2 * BLOCK_LENGTH_BYTES) == bytes(block.view)


def test_what_is_expected_comes_into_memory_before_it_is_read(tmp_path: Path) -> None:
    place, length = tmp_path / "objects", 1 << 20
    store = open_objects("file:objects", tmp_path)
    (place / NAME).write_bytes(bytes(length))
    with (place / NAME).open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if _at_hand(file.fileno(), length) is not False:
            pytest.skip("the file system of temporary files forgets nothing, or does not tell what it has in memory")
        store.expect(NAME, 0, length)
        assert until(lambda: _at_hand(file.fileno(), length))


def _at_hand(descriptor: int, length: int) -> bool | None:
    """Whether all of it can be read without a disk; None where the file system does not say."""
    try:
        return os.preadv(descriptor, [bytearray(length)], 0, os.RWF_NOWAIT) == length
    except BlockingIOError:
        return False
    except OSError:
        return None


def test_a_name_is_created_once(store: ObjectStore) -> None:
    store.create(NAME).close()
    with pytest.raises(FileExistsError):
        store.create(NAME)


def test_names_are_sorted(store: ObjectStore) -> None:
    for number in (10, 2, 1):
        store.create(segment_name(WRITER, number)).close()
    assert list(store.names()) == [segment_name(WRITER, number) for number in (1, 2, 10)]


def test_a_block_may_be_written_again_while_the_segment_is_open(store: ObjectStore, block: Buffer) -> None:
    file = store.create(NAME)
    file.write(0, block.view)
    block.view[0] = 0xAA
    file.write(0, block.view[:BLOCK_LENGTH_BYTES])
    file.sync()
    assert store.read(NAME, 0, 1) == b"\xaa"
    assert store.size(NAME) == 2 * BLOCK_LENGTH_BYTES
    file.close()


def test_truncating_while_open_and_after(store: ObjectStore, block: Buffer) -> None:
    file = store.create(NAME)
    file.write(0, block.view)
    file.truncate(BLOCK_LENGTH_BYTES)
    file.sync()
    file.close()
    assert store.size(NAME) == BLOCK_LENGTH_BYTES
    store.seal(NAME)
    store.truncate(NAME, 100)
    assert store.size(NAME) == 100
    store.seal(NAME)
    store.seal(NAME)


def test_what_another_left_is_synced(store: ObjectStore, block: Buffer) -> None:
    file = store.create(NAME)
    file.write(0, block.view)
    file.close()
    store.seal(NAME)
    store.sync(NAME)
    if isinstance(store, MemoryObjects):
        store = store.power_cut()
    assert store.read(NAME, 0, 2 * BLOCK_LENGTH_BYTES) == bytes(block.view)
    with pytest.raises(FileNotFoundError):
        store.sync(segment_name(WRITER, 2))


def test_removing_twice_is_harmless(store: ObjectStore) -> None:
    store.create(NAME).close()
    store.remove(NAME)
    store.remove(NAME)
    assert list(store.names()) == []
    with pytest.raises(FileNotFoundError):
        store.size(NAME)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a.lgs", NAME + "/..", NAME.upper() + "x", ""])
def test_only_segment_names_are_names(store: ObjectStore, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        store.read(name, 0, 10)


def test_there_is_room(store: ObjectStore) -> None:
    assert store.free_bytes() > 0


def test_an_unknown_scheme_is_a_clear_fault(tmp_path: Path) -> None:
    with pytest.raises(StoreFault, match="carrier-pigeon"):
        open_objects("carrier-pigeon:x", tmp_path)
