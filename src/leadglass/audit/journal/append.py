"""How does an event become durable? Appended at once to this writer's file, synced within a second, or before `record` returns.

Any thread appends; a lock is held for sealing and one write into the page cache, never for a sync. One fdatasync serves all who wait.
A sync that fails is final: nobody can know what reached the disk, so from then on everybody hears JournalFault and recovery decides.
A full disk is not: space is set aside ahead of what is written, and an append that finds none takes nothing and may be tried again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from leadglass.audit.codec import encode_event
from leadglass.audit.journal.budget import OTHERS, RefusalBudget, Suppressed
from leadglass.audit.journal.format import (
    BODY_LENGTH_MAX_BYTES,
    CHAIN_LENGTH_BYTES,
    HEAD_LENGTH_BYTES,
    RECORD_LENGTH_MIN_BYTES,
    FileHead,
    encode_head,
    encode_record,
    file_name,
    first_chain,
    key_id_of,
)
from leadglass.site.groupsync import GroupSync, Sync
from leadglass.site.keyring import Keyring
from leadglass.site.writer import Writer, sync_directory
from leadglass.terms import Event, Fault, JournalFault, StoreFault

FILE_LENGTH_MAX_BYTES = 16 << 20  # some 30,000 events: recovery reads the last two, and a few of the others
RESERVE_BYTES = 4 << 20  # set aside ahead of the last record: some 6000 refusals and reads on a full disk
FLUSH_EVERY_SECONDS = 1.0
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(slots=True)
class _File:
    """The file being written. `offset`: where the next record goes; `reserved`: up to where there is room for certain. `month_ns`: its month, from and to."""

    descriptor: int
    head: FileHead
    journal: AESGCM
    chain: bytes
    month_ns: range
    offset: int = HEAD_LENGTH_BYTES
    reserved: int = HEAD_LENGTH_BYTES


class JournalWriter:
    """One writer's pen. Thread-safe; `close` before its writer."""

    def __init__(
        self,
        writer: Writer,
        keyring: Keyring,
        clock: Callable[[], int],
        on_fatal: Callable[[], None],
        file_length_max_bytes: int,
        reserve_bytes: int,
    ) -> None:
        self._writer, self._keyring, self._clock, self._on_fatal = writer, keyring, clock, on_fatal
        self._file_length_max_bytes, self._reserve_bytes = file_length_max_bytes, reserve_bytes
        self._lock = threading.Lock()
        self._file: _File | None = None
        self._full: list[int] = []  # descriptors of files that are full and not yet synced
        self._files_named = self._files_made = 0
        self._sequence = 0
        self._unsynced_since = self._syncing_since = 0.0
        self._group = GroupSync(self._snapshot, self._broken)
        self._budget, self._budget_lock = RefusalBudget(), threading.Lock()
        self._stop, self._closed = threading.Event(), False
        self._flusher = threading.Thread(target=self._flush, name="journal", daemon=True)

    @classmethod
    def open(
        cls,
        writer: Writer,
        keyring: Keyring,
        clock: Callable[[], int],
        *,
        on_fatal: Callable[[], None] = lambda: None,
        file_length_max_bytes: int = FILE_LENGTH_MAX_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> JournalWriter:
        """`clock`: UTC in Unix nanoseconds. `on_fatal` is called once acknowledging must stop. A file is made with the first event."""
        opened = cls(writer, keyring, clock, on_fatal, file_length_max_bytes, reserve_bytes)
        opened._flusher.start()
        return opened

    def append(self, event: Event) -> int:
        """Its sequence; durable within a second. Raises StoreFault where there is no room, JournalFault where the journal is broken."""
        body = encode_event(event, self._keyring)
        if len(body) > BODY_LENGTH_MAX_BYTES:
            raise StoreFault(f"an event of {len(body)} bytes, more than {BODY_LENGTH_MAX_BYTES}", hint="report this")
        with self._lock:
            return self._append(body)

    def sync(self) -> None:
        """Everything appended so far is durable. Raises JournalFault, and then forever."""
        self._group.through(self._sequence)

    def record(self, event: Event) -> int:
        """`append`, and durable when it returns; its sequence."""
        sequence = self.append(event)
        self._group.through(sequence)
        return sequence

    def note_refusal(self, event: Event) -> None:
        """A refusal before there was a request: the first of a source one by one, then counted and told once a minute.

        A source is an address, and a device that was identified there is one of its own. Nobody without a name costs a sync.
        """
        with self._budget_lock:
            alone = self._budget.admit(f"{event.address} {event.actor}".strip(), event, time.monotonic())
        if alone:
            (self.record if event.actor else self.append)(event)

    def oldest_unsynced_seconds(self) -> float:
        """The age of the oldest event that is not yet durable; 0 where all are."""
        oldest = self._syncing_since or self._unsynced_since
        return max(0.0, time.monotonic() - oldest) if oldest else 0.0

    def close(self) -> None:
        """Makes all of it durable and gives the reserve back. Harmless to repeat. Raises JournalFault."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._flusher.join()
        try:
            self._tell_suppressed(all_of_them=True)
            self.sync()
            with (
                self._lock,
                contextlib.suppress(OSError, StoreFault),
            ):  # without them recovery says that it was not closed
                if self._file is not None:
                    self._append(b"")
                    os.ftruncate(self._file.descriptor, self._file.offset)
                    os.fdatasync(
                        self._file.descriptor
                    )  # a sealed writer is not recovered: its last record must not be torn
        finally:
            with self._lock:
                self._closed = True
                if self._file is not None:
                    os.close(self._file.descriptor)
                    self._file = None

    # ---- appending: the lock is held

    def _append(self, body: bytes) -> int:
        if self._closed:
            raise JournalFault("the journal is closed: this process is ending", hint="try again once it has restarted")
        self._group.raise_if_broken()
        at_ns = self._clock()
        try:
            file = self._file_for(at_ns, RECORD_LENGTH_MIN_BYTES + len(body))
            sequence = self._sequence + 1
            record, chain = encode_record(
                file.journal, file.head, file.chain, sequence, at_ns, self._group.durable, body
            )
            self._set_aside(file, file.offset + len(record))
            self._write(file, record)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StoreFault(f"no room for the journal in {self._writer.directory}", hint="free space") from error
            fault = self._group.break_down(error)
            raise fault from error
        file.offset, file.chain, self._sequence = file.offset + len(record), chain, sequence
        self._unsynced_since = self._unsynced_since or time.monotonic()
        return sequence

    def _file_for(self, at_ns: int, length: int) -> _File:
        file = self._file
        if file is not None and at_ns in file.month_ns and file.offset + length <= self._file_length_max_bytes:
            return file
        try:
            fresh = self._begin(at_ns, file.chain if file is not None else bytes(CHAIN_LENGTH_BYTES))
        except OSError as error:
            if file is None or error.errno not in _NO_ROOM:
                raise
            return file  # no room for another: this one grows into what was set aside for it
        if file is not None:
            os.ftruncate(file.descriptor, file.offset)
            self._full.append(file.descriptor)
        self._file = fresh
        return fresh

    def _begin(self, at_ns: int, chain: bytes) -> _File:
        month, month_ns = _month(at_ns)
        key = self._keyring.site_key.derive(f"journal/{month}")
        number = self._files_made + 1
        head = FileHead(self._writer.id, number, at_ns, month, key_id_of(key), self._sequence + 1, chain)
        path = self._writer.directory / file_name(number)
        encoded = encode_head(head)
        file = _File(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600),
            head,
            AESGCM(key),
            first_chain(encoded),
            month_ns,
        )
        try:
            _write(file.descriptor, encoded, 0)
        except OSError:
            os.close(file.descriptor)
            path.unlink()
            raise
        self._files_made = number
        return file

    def _set_aside(self, file: _File, end: int) -> None:
        """Room for what comes while there still is some; where there is none, what was set aside before is used up first."""
        if end + self._reserve_bytes // 2 <= file.reserved:
            return
        wanted = end + self._reserve_bytes
        try:
            os.posix_fallocate(file.descriptor, file.reserved, wanted - file.reserved)
            file.reserved = wanted
        except OSError as error:
            if error.errno not in _NO_ROOM and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise

    def _write(self, file: _File, record: bytes) -> None:
        try:
            _write(file.descriptor, record, file.offset)
        except OSError:
            os.ftruncate(file.descriptor, file.offset)  # nothing of it stays
            file.reserved = file.offset
            raise

    # ---- syncing: no lock that an appender needs

    def _snapshot(self) -> tuple[int, Sync]:
        with self._lock:
            full, self._full = self._full, []
            current, made = self._file, self._files_made
            reached = self._sequence
            self._syncing_since, self._unsynced_since = self._unsynced_since, 0.0

        def sync() -> None:
            try:
                self._keyring.sync()  # a box is never durable before the key that opens it
            except JournalFault:
                self._on_fatal()
                raise
            for descriptor in full:
                os.fdatasync(descriptor)
                os.close(descriptor)
            if current is not None:
                os.fdatasync(current.descriptor)
            if made > self._files_named:
                sync_directory(self._writer.directory)
                self._files_named = made
            self._syncing_since = 0.0

        return reached, sync

    def _broken(self, error: OSError) -> Fault:
        self._on_fatal()
        return JournalFault(
            f"the journal cannot be made durable: {error.strerror}",
            hint="look at the disk, then start again: recovery follows",
        )

    def _flush(self) -> None:
        while not self._stop.wait(FLUSH_EVERY_SECONDS):
            with contextlib.suppress(Fault):  # told to everybody who appends, and to `on_fatal`
                self._tell_suppressed()
                self.sync()

    def _tell_suppressed(self, *, all_of_them: bool = False) -> None:
        with self._budget_lock:
            due = self._budget.due(time.monotonic(), all_of_them=all_of_them)
        for suppressed in due:
            self.append(_summary(suppressed))


def _month(at_ns: int) -> tuple[str, range]:
    """As `2026-11`, and when it is, UTC, Unix nanoseconds."""
    first = dt.datetime.fromtimestamp(at_ns // 1_000_000_000, dt.UTC).replace(day=1, hour=0, minute=0, second=0)
    following = (first + dt.timedelta(days=31)).replace(day=1)
    return f"{first:%Y-%m}", range(*(int(each.timestamp()) * 1_000_000_000 for each in (first, following)))


def _summary(suppressed: Suppressed) -> Event:
    details = {**suppressed.last.details, "count": suppressed.count}
    reason = f"{suppressed.count} further refusals within a minute; the last: {suppressed.last.reason}"
    address = OTHERS if suppressed.source == OTHERS else suppressed.last.address
    return dataclasses.replace(suppressed.last, address=address, reason=reason, details=details)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
