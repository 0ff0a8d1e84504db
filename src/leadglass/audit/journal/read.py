"""What was written, by everybody, in order? Every record's checksum, chain and seal is verified on the way; what does not hold is named.

Readers need no lock and disturb no writer. What a living writer is just writing is not there yet; what a dead one left half is cut by `recover`.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from leadglass.audit.codec import Recorded, decode_event, location_in, settled_in
from leadglass.audit.journal.cursors import Cursor, Cursors
from leadglass.audit.journal.ends import End
from leadglass.audit.journal.format import (
    HEAD_LENGTH_BYTES,
    RECORD_LENGTH_MIN_BYTES,
    TAIL_LENGTH_BYTES,
    FileHead,
    FormatBroken,
    Record,
    chain_before,
    decode_head,
    file_name,
    first_chain,
    follows,
    key_id_of,
    needed_at,
    open_record,
    parse_file_name,
    record_at,
    records_after,
)
from leadglass.site.keyring import Keyring
from leadglass.site.writer import DIRECTORY, Writer, directories, is_sealed, sync_directory
from leadglass.terms import Fault, JournalFault, KeyFault, Location, Settled

BLOCK_LENGTH_BYTES = 256 << 10
BREAKS_LOOKED_AT = 3  # a read beside a write may see its end before its beginning
_RESTORE = "keep the file as evidence, and restore it from a backup"


Broken = Callable[[Fault], None]
_BREAKS = (JournalFault, KeyFault)  # whoever changes a file's head may name another key there


def raised(fault: Fault) -> None:
    """For whom nothing may be missing."""
    raise fault


@dataclass(frozen=True, slots=True)
class RecoveredJournal:
    """What a dead writer's journal came to. Events `durable + 1` to `last` are there, but nobody knew that they were synced.

    `cut_bytes` were torn after the last one and are gone: nobody was told that they are durable.
    """

    writer: bytes
    durable: int
    last: int
    cut_bytes: int


@dataclass(slots=True)
class _Position:
    """Where one writer's journal is being read. `chain` and `head` belong to `file`, None before it is opened."""

    file: int = 1
    offset: int = 0
    sequence: int = 0
    head: FileHead | None = None
    chain: bytes = b""
    durable: int = 0
    done: bool = False  # sealed, and read to its end


@dataclass(frozen=True, slots=True)
class _Read:
    head: FileHead
    chain: bytes  # of what precedes the record
    record: Record
    end: int


class JournalReader:
    """Thread-safe: it holds no state but keys. Every method raises JournalFault where a journal is broken or changed.

    Whoever gives `broken` hears of it instead, and reads on in all that can be read.
    """

    def __init__(self, site_dir: Path, keyring: Keyring) -> None:
        self._site_dir, self._keyring = site_dir, keyring
        self._ciphers: dict[str, AESGCM] = {}  # by month

    @classmethod
    def open(cls, site_dir: Path, keyring: Keyring) -> JournalReader:
        return cls(site_dir, keyring)

    def read(self, since: Cursors | None = None, broken: Broken = raised) -> Iterator[Recorded]:
        """Everything written after `since`, merged by time; each writer's events in their order."""
        yield from self._merged(self._positions(since or Cursors()), broken)

    def follow(
        self,
        poll_seconds: float,
        stop: threading.Event,
        since: Cursors | None = None,
        caught_up: Callable[[], None] = lambda: None,
        broken: Broken = raised,
    ) -> Iterator[Recorded]:
        """As `read`, then what comes next, until `stop`. `poll_seconds`: how late at most. `caught_up` is called whenever all was read.

        A journal that is broken is tried again, and told to `broken`, at each poll.
        """
        since = since or Cursors()
        positions: dict[bytes, _Position] = {}
        while not stop.is_set():
            fresh = {writer: position for writer, position in self._positions(since).items() if writer not in positions}
            positions |= fresh
            for recorded in self._merged({writer: each for writer, each in positions.items() if not each.done}, broken):
                yield recorded
                if stop.is_set():
                    return
            caught_up()
            stop.wait(poll_seconds)

    def end(self, noted: Mapping[bytes, End] | None = None) -> Cursors:
        """Where the journals end now, or break: what comes after is new.

        Nothing before what was `noted` is read; where nothing was, a writer's last file at most, and of one that closed in order its last record.
        """
        found = {}
        for writer, directory in directories(self._site_dir):
            known = (noted or {}).get(writer) or _closed(directory)
            position = _latest(directory, known)
            if known is None or not known.final:
                with contextlib.suppress(*_BREAKS):  # whoever reads on from there hears of it
                    for _ in self._advance(writer, position):
                        pass
            found[writer] = Cursor(position.file, position.offset, position.sequence)
        return Cursors(found)

    def written(self, writer: bytes) -> tuple[Cursor, int]:
        """Up to where its last file is whole now, and when that event was written (0 where there is none): what a copy may take of it."""
        numbers = _numbers(self._site_dir / DIRECTORY / writer.hex())
        position, at_ns, sequence = _Position(file=numbers[-1] if numbers else 1), 0, 0
        for read in self._advance(writer, position):
            if read.record.is_event:
                at_ns, sequence = read.record.at_ns, read.record.sequence
        return Cursor(position.file, position.offset, sequence), at_ns

    def ends(self, noted: Mapping[bytes, End]) -> tuple[dict[bytes, End], list[Fault]]:
        """How far each journal is known to be durable now, and what is broken: read is what `end` reads."""
        found, broken = dict(noted), list[Fault]()
        for writer, directory in directories(self._site_dir):
            before = noted.get(writer)
            if before is not None and before.final:
                continue
            try:
                if (end := self._end(writer, directory, before)) is not None:
                    found[writer] = end
            except _BREAKS as fault:
                broken.append(fault)
        return found, broken

    def _end(self, writer: bytes, directory: Path, noted: End | None) -> End | None:
        if noted is None and (closed := _closed(directory)) is not None:
            return closed
        position = _latest(directory, noted)
        end, waiting = noted, deque[End]()
        for read in self._advance(writer, position):
            waiting.append(End(read.head.number, read.end, read.record.sequence, read.record.chain))
            while waiting and waiting[0].sequence <= position.durable:
                end = waiting.popleft()
        if not position.done:
            return end
        end = waiting[-1] if waiting else end  # a writer is sealed when all that it left is durable
        return replace(end, final=True) if end is not None else None

    def verified(self, broken: Broken) -> Iterator[int]:
        """Reads all that is there, each seal too, and gives the bytes of each record; `broken` hears of each journal that does not hold."""
        for writer, _ in directories(self._site_dir):
            try:
                for read in self._advance(writer, _Position()):
                    self._body(read)
                    yield len(read.record.data)
            except _BREAKS as fault:
                broken(fault)

    def stored(self, writer: bytes) -> Iterator[list[Location]]:
        """Where each stored event of that writer says that its instance rests, a list for each file, the newest first; opens no patient's box.

        Of a file that is broken it is what comes before that.
        """
        for number in reversed(_numbers(self._site_dir / DIRECTORY / writer.hex())):
            found = list[Location]()
            with contextlib.suppress(*_BREAKS):  # `recover` and the keeper's watch name it
                found.extend(self._stored(writer, number))
            yield found

    def _stored(self, writer: bytes, number: int) -> Iterator[Location]:
        for read in itertools.takewhile(
            lambda each: each.head.number == number, self._advance(writer, _Position(file=number))
        ):
            location = location_in(self._body(read)) if read.record.is_event else None
            if location is not None:
                yield location

    def settled(self) -> Iterator[Settled]:
        """What stored events say was kept, one writer after the other: of such an event nothing else is made."""
        for writer, position in self._positions(Cursors()).items():
            for read in self._advance(writer, position):
                found = settled_in(self._body(read), self._keyring) if read.record.is_event else None
                if found is not None:
                    yield found

    def recover(self, writer: Writer) -> RecoveredJournal:
        """Of a dead writer that was adopted: verifies its last files and cuts the torn tail. Raises JournalFault where more is broken."""
        numbers = _numbers(writer.directory)
        if not numbers:
            return RecoveredJournal(writer.id, 0, 0, 0)
        position = _Position(
            file=max(numbers[0], numbers[-1] - 1)
        )  # files before these were synced when the last began
        last = None
        for read in self._advance(writer.id, position, recovering=True):
            last = read.record
        cut = _cut(writer.directory, position, numbers)
        events = position.sequence - 1 if last is not None and not last.is_event else position.sequence
        return RecoveredJournal(writer.id, min(position.durable, events), events, cut)

    # ---- all writers

    def _positions(self, since: Cursors) -> dict[bytes, _Position]:
        found = {}
        for writer, _ in directories(self._site_dir):
            cursor = since.get(writer)
            found[writer] = _Position(cursor.file, cursor.offset, cursor.sequence) if cursor else _Position()
        return found

    def _merged(self, positions: dict[bytes, _Position], broken: Broken) -> Iterator[Recorded]:
        heap: list[tuple[int, bytes, Recorded | None, Iterator[Recorded]]] = []
        for writer, position in positions.items():
            heap.append((self._begins(writer, position), writer, None, self._events(writer, position, broken)))
        heapq.heapify(heap)
        while heap:
            _, writer, recorded, events = heapq.heappop(heap)
            if recorded is not None:
                yield recorded
            following = next(events, None)
            if following is not None:
                heapq.heappush(heap, (following.at_ns, writer, following, events))

    def _begins(self, writer: bytes, position: _Position) -> int:
        """No event of it is older: so that a journal which begins later is not opened sooner."""
        if position.offset:
            return 0
        path = self._site_dir / DIRECTORY / writer.hex() / file_name(position.file)
        try:
            with path.open("rb") as file:
                return decode_head(file.read(HEAD_LENGTH_BYTES)).created_at_ns
        except (OSError, FormatBroken):
            return 0  # whoever opens it says what is wrong

    def _events(self, writer: bytes, position: _Position, broken: Broken) -> Iterator[Recorded]:
        try:
            for read in self._advance(writer, position):
                if read.record.is_event:
                    yield self._recorded(writer, read, position)
        except _BREAKS as fault:
            broken(fault)

    def _recorded(self, writer: bytes, read: _Read, position: _Position) -> Recorded:
        try:
            body = self._body(read)
            event, sealed = decode_event(body, self._keyring)
        except _BREAKS:  # it is not behind us: whoever follows tries it again
            position.offset, position.sequence = read.end - len(read.record.data), read.record.sequence - 1
            position.chain = read.chain
            raise
        return Recorded(
            event, read.record.at_ns, writer, read.record.sequence, read.head.number, read.end, sealed, body
        )

    def _body(self, read: _Read) -> bytes:
        try:
            return open_record(self._journal_key(read.head), read.head, read.chain, read.record)
        except FormatBroken as broken:
            raise JournalFault(
                f"{file_name(read.head.number)} of writer {read.head.writer.hex()} was changed: {broken}", hint=_RESTORE
            ) from None

    def _journal_key(self, head: FileHead) -> AESGCM:
        cipher = self._ciphers.get(head.month)
        if cipher is None:
            cipher = self._ciphers[head.month] = AESGCM(self._keyring.site_key.derive(f"journal/{head.month}"))
        return cipher

    # ---- one writer

    def _advance(self, writer: bytes, position: _Position, *, recovering: bool = False) -> Iterator[_Read]:
        """Every whole record from `position` on, which moves along; at the end of what is there it returns, to be called again.

        `recovering`: a break ends it, wherever it is. Otherwise one that is no torn tail raises JournalFault.
        """
        directory = self._site_dir / DIRECTORY / writer.hex()
        while True:
            # both are looked at first: what is read afterwards is then final
            sealed, following = is_sealed(directory), (directory / file_name(position.file + 1)).exists()
            path = directory / file_name(position.file)
            try:
                with path.open("rb") as file:
                    final = sealed or following
                    if position.head is None and not self._enter(writer, position, file.fileno(), path, final=final):
                        return
                    yield from self._records(position, file.fileno(), path)
                    broken = _is_broken(position, file.fileno(), final=final)
            except FileNotFoundError:
                position.done = sealed  # nothing was written, or recovery took it away
                return
            if broken and not recovering:
                raise JournalFault(f"{path}: the record at {position.offset} is broken", hint=_RESTORE)
            if broken or not following:
                position.done = sealed
                return
            position.file, position.offset, position.head = position.file + 1, 0, None

    def _enter(self, writer: bytes, position: _Position, file: int, path: Path, *, final: bool) -> bool:
        """Reads a file's head; False where it is not there yet, or torn."""
        data = os.pread(file, HEAD_LENGTH_BYTES, 0)
        try:
            head = decode_head(data)
        except FormatBroken as broken:
            if final or (len(data) == HEAD_LENGTH_BYTES and any(data)):
                raise JournalFault(f"{path}: {broken}", hint=_RESTORE) from None
            return False
        if head.writer != writer or head.number != position.file:
            raise JournalFault(f"{path} is another writer's journal, or was renamed", hint=_RESTORE)
        if head.key_id != key_id_of(self._keyring.site_key.derive(f"journal/{head.month}")):
            raise KeyFault(
                f"{path} was written under another site key",
                hint="name the right key in [site] key of leadglass.toml, or restore it from the recovery kit",
            )
        if position.chain and (head.chain != position.chain or head.first_sequence != position.sequence + 1):
            raise JournalFault(f"{path} does not continue the file before it", hint=_RESTORE)
        position.head = head
        if position.offset > HEAD_LENGTH_BYTES:  # resumed
            position.chain = chain_before(os.pread(file, TAIL_LENGTH_BYTES, position.offset - TAIL_LENGTH_BYTES))
            return position.offset <= os.fstat(file).st_size  # else it was read, and cut as torn afterwards
        position.chain, position.offset, position.sequence = (
            first_chain(data),
            HEAD_LENGTH_BYTES,
            head.first_sequence - 1,
        )
        return True

    def _records(self, position: _Position, file: int, path: Path) -> Iterator[_Read]:
        assert position.head is not None
        length = BLOCK_LENGTH_BYTES
        while True:
            block = os.pread(file, length, position.offset)
            at = 0
            while (record := record_at(block, at)) is not None:
                if record.sequence != position.sequence + 1 or not follows(record, position.chain):
                    raise JournalFault(
                        f"{path}: the record at {position.offset} does not follow the one before it", hint=_RESTORE
                    )
                at += len(record.data)
                read = _Read(position.head, position.chain, record, position.offset + len(record.data))
                position.offset, position.sequence, position.chain = read.end, record.sequence, record.chain
                position.durable = max(position.durable, record.durable_mark)
                yield read
            needed = needed_at(block, at)
            if not needed or len(block) - at >= needed or len(block) < length:
                return
            length = max(BLOCK_LENGTH_BYTES, needed)


def _latest(directory: Path, noted: End | None) -> _Position:
    """After what was noted of a writer; where nothing was, before its last file."""
    if noted is not None:
        return _Position(noted.file, noted.offset, noted.sequence)
    return _Position(file=max(_numbers(directory), default=1))


def _closed(directory: Path) -> End | None:
    """How a writer ended that closed in order, by its last record, which has no body; None for any other."""
    number = max(_numbers(directory), default=0)
    if not number or not is_sealed(directory):
        return None
    with (directory / file_name(number)).open("rb") as file:
        offset = os.fstat(file.fileno()).st_size
        record = record_at(
            os.pread(file.fileno(), RECORD_LENGTH_MIN_BYTES, max(0, offset - RECORD_LENGTH_MIN_BYTES)), 0
        )
    if record is None or record.is_event:
        return None
    return End(number, offset, record.sequence, record.chain, final=True)


def _is_broken(position: _Position, file: int, *, final: bool) -> bool:
    """Whether what follows is neither nothing, nor room set aside, nor, where more may come, a tail being written or torn."""
    for _ in range(BREAKS_LOOKED_AT):
        if not any(os.pread(file, 4, position.offset)) and not final:
            return False
        rest = os.pread(file, os.fstat(file).st_size - position.offset, position.offset)
        if final:
            return any(rest)
        if record_at(rest, 0) is not None or _highest_mark(rest) <= position.sequence:
            return False
    return True


def _cut(directory: Path, position: _Position, numbers: list[int]) -> int:
    """Cuts what follows `position`. Raises JournalFault where a later mark says that it was durable."""
    path = directory / file_name(position.file)
    rest = path.read_bytes()[position.offset :]
    later = [directory / file_name(number) for number in numbers if number > position.file]
    marks = [_highest_mark(rest), *(_highest_mark(each.read_bytes()) for each in later)]
    if max(marks) > position.sequence:
        raise JournalFault(f"{path}: the record at {position.offset} was durable, and is broken", hint=_RESTORE)
    torn = len(rest.rstrip(b"\0")) + sum(each.stat().st_size for each in later)
    for each in later:
        each.unlink()
    if position.head is None:
        path.unlink()
    elif rest:
        os.truncate(path, position.offset)
    for number in numbers[-2:]:  # what stays too: its writer may have been killed before it synced
        with contextlib.suppress(FileNotFoundError), (directory / file_name(number)).open("rb") as file:
            os.fsync(file.fileno())
    sync_directory(directory)
    return torn


def _highest_mark(data: bytes) -> int:
    return max((record.durable_mark for record in records_after(data, 0)), default=0)


def _numbers(directory: Path) -> list[int]:
    try:
        return sorted(number for name in os.listdir(directory) if (number := parse_file_name(name)) is not None)
    except FileNotFoundError:  # it left nothing but segments
        return []
