"""Segments as files of one directory. Direct I/O where the file system takes it, buffered where it refuses (ADR 0002)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from leadglass.archive.objects import NoSpace, SegmentFile
from leadglass.archive.records import BLOCK_LENGTH_BYTES, parse_segment_name

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class LocalSegment:
    """A file being appended to. Created anew, never reopened for writing."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._fd, self._direct = os.open(path, flags | os.O_DIRECT, 0o600), True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise _told(error) from error
            path.unlink(missing_ok=True)  # Linux may have created it before it refused
            self._fd, self._direct = os.open(path, flags, 0o600), False
        self._directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._named = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def direct(self) -> bool:
        return self._direct

    def write(self, offset: int, data: memoryview) -> None:
        done = 0
        while done < len(data):
            try:
                count = os.pwrite(self._fd, data[done:], offset + done)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise _told(error) from error
                self._go_buffered()
                continue
            if count == 0:
                raise NoSpace(errno.ENOSPC, "nothing was written")
            done += count
            if self._direct and done < len(data):  # a short write may end anywhere: begin its last block again
                done -= done % BLOCK_LENGTH_BYTES

    def _go_buffered(self) -> None:
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        self._direct = False

    def sync(self) -> None:
        os.fdatasync(self._fd)
        if not self._named:  # the name is durable with the first bytes that are
            os.fsync(self._directory)
            self._named = True

    def truncate(self, length: int) -> None:
        os.ftruncate(self._fd, length)

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._directory)


class LocalObjects:
    """One directory. Reading is buffered; a file is opened for each read, which costs microseconds and holds nothing open."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, name: str) -> SegmentFile:
        return LocalSegment(self._path(name))

    def read(self, name: str, offset: int, length: int) -> bytes:
        fd = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, length, offset)
        finally:
            os.close(fd)

    def read_into(self, name: str, offset: int, into: memoryview) -> int:
        fd = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            done = 0
            while done < len(into):
                count = os.preadv(fd, [into[done:]], offset + done)
                if count == 0:
                    break
                done += count
            return done
        finally:
            os.close(fd)

    def expect(self, name: str, offset: int, length: int) -> None:
        with contextlib.suppress(OSError):  # whoever reads it then hears what is wrong
            fd = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(fd, offset, length, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(fd)

    def size(self, name: str) -> int:
        return self._path(name).stat().st_size

    def names(self) -> Iterable[str]:
        return sorted(name for name in os.listdir(self._directory) if parse_segment_name(name))

    def truncate(self, name: str, length: int) -> None:
        path = self._path(name)
        path.chmod(0o600)  # a crash may have come between sealing and this
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, length)
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync(self, name: str) -> None:
        fd = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self._sync_names()

    def seal(self, name: str) -> None:
        self._path(name).chmod(0o400)

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)
        self._sync_names()  # a power cut must not bring it back

    def free_bytes(self) -> int:
        facts = os.statvfs(self._directory)
        return facts.f_bavail * facts.f_frsize

    def _sync_names(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _path(self, name: str) -> Path:
        if parse_segment_name(name) is None:  # names come from counters; nothing else ever becomes a path
            raise FileNotFoundError(errno.ENOENT, "not a segment's name", name)
        return self._directory / name


def _told(error: OSError) -> OSError:
    return NoSpace(error.errno, os.strerror(error.errno or 0)) if error.errno in _NO_SPACE else error
