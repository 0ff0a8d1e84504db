"""What was kept, is it still that? Every chunk's tag is verified as it is read, and the digest over all before the last piece leaves."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from leadglass.archive.buffers import Spares
from leadglass.archive.objects import ObjectStore, Readable
from leadglass.archive.records import (
    FOOTER_LENGTH_BYTES,
    HEAD_LENGTH_BYTES,
    Facts,
    FormatBroken,
    RecordHead,
    RecordKind,
    StandingChange,
    decode_change,
    decode_facts,
    decode_footer,
    decode_record_head,
    decode_trailer,
    open_trailer,
    parse_segment_name,
)
from leadglass.archive.seal import (
    CHUNK_LENGTH_MAX_BYTES,
    FRAME_HEAD_LENGTH_BYTES,
    FRAME_LENGTH_MAX_BYTES,
    TAG_LENGTH_BYTES,
    InstanceSeal,
    SealBroken,
    frame_of,
)
from leadglass.site.keyring import Keyring
from leadglass.terms import Location, Settled, StoreFault

PIECE_CHUNKS = 16  # 1 MiB of plaintext at a time
EXPECTED_MAX, EXPECTED_MAX_BYTES = 64, 8 << 20  # of what is selected, on its way before its turn


class Corrupted(StoreFault):
    """What rests is not what was kept. Never served; the caller raises the event. `settled`: which instance."""

    def __init__(self, settled: Settled, what: str) -> None:
        uid = settled.instance.sop_instance_uid
        super().__init__(
            f"instance {uid}, version {settled.version}, in {settled.location.segment} at {settled.location.offset}: {what}",
            hint="restore this instance from the replica or a backup",
        )
        self.settled = settled


@dataclass(frozen=True, slots=True)
class OpenedRecord:
    """An instance's record whose trailer verified."""

    location: Location
    head: RecordHead
    seal: InstanceSeal
    facts: Facts


class SealedBody:
    """A `terms.Body`. Iterating reads and verifies; it may be done more than once."""

    def __init__(self, reader: Reader, settled: Settled) -> None:
        self._reader = reader
        self._settled = settled

    @property
    def settled(self) -> Settled:
        return self._settled

    def __iter__(self) -> Iterator[memoryview]:
        return self._reader.pieces(self._settled)


class Reader:
    """Reads settled records. Thread-safe. Does not trust the index: a record must be the one that the index says.

    `on_corrupted` is told of each that does not verify, before the reader's caller is.
    """

    def __init__(
        self, store: ObjectStore, keyring: Keyring, on_corrupted: Callable[[Corrupted], None] = lambda corrupted: None
    ) -> None:
        self._store, self._keyring, self._on_corrupted = store, keyring, on_corrupted
        self._sealed = Spares(PIECE_CHUNKS * FRAME_LENGTH_MAX_BYTES)

    def read(self, settled: Settled) -> SealedBody:
        """The data set, as received. Iterating raises Corrupted, StoreFault, KeyFault."""
        return SealedBody(self, settled)

    def expecting(self, chosen: Iterable[Settled]) -> Iterator[Settled]:
        """The same in the same order, while what comes next is on its way from the disk: up to EXPECTED_MAX of them, of EXPECTED_MAX_BYTES in all."""
        waiting: deque[Settled] = deque()
        waiting_bytes = 0
        for settled in chosen:
            place = settled.location
            while waiting and (len(waiting) >= EXPECTED_MAX or waiting_bytes + place.length > EXPECTED_MAX_BYTES):
                waiting_bytes -= waiting[0].location.length
                yield waiting.popleft()
            self._store.expect(place.segment, place.offset, min(place.length, EXPECTED_MAX_BYTES))
            waiting.append(settled)
            waiting_bytes += place.length
        yield from waiting

    def header(self, settled: Settled) -> bytes:
        """The data set up to its pixel data: only the chunks that hold it are read. Raises Corrupted, StoreFault, KeyFault."""
        chunks = max(1, -(-settled.header_length // CHUNK_LENGTH_MAX_BYTES))
        piece, _ = next(self._verified(settled, chunks))
        return bytes(piece[: settled.header_length])

    def pieces(self, settled: Settled) -> Iterator[memoryview]:
        """The last piece only after the digest held; any piece only after its tags did. Each is memory of its own."""
        digest = hashlib.sha256()
        for piece, final in self._verified(settled, PIECE_CHUNKS):
            digest.update(piece)
            if final and digest.digest() != settled.digest:
                raise self._corrupted(settled, "its digest is not the one that was kept")
            yield piece

    def _verified(self, settled: Settled, piece_chunks: int) -> Iterator[tuple[memoryview, bool]]:
        try:
            with self._sealed.one() as whole:
                space = whole[: piece_chunks * FRAME_LENGTH_MAX_BYTES]
                place = AtOnce if settled.location.length <= len(space) else InParts
                sealed = place(self._store, settled.location, space)
                yield from _opened(self._record(settled, sealed), sealed, piece_chunks)
        except (FormatBroken, SealBroken) as error:
            raise self._corrupted(settled, str(error)) from error
        except FileNotFoundError as error:
            raise self._corrupted(settled, "its segment is not there") from error
        except OSError as error:
            raise StoreFault(
                f"the object store failed: {error}", hint="look at the disk and the kernel's log"
            ) from error

    def _record(self, settled: Settled, sealed: InParts) -> OpenedRecord:
        """Head and trailer of the record, verified and compared. Raises FormatBroken, SealBroken, KeyFault, OSError, Corrupted."""
        record = open_record(sealed, self._keyring, settled.location)
        same = record.facts.digest == settled.digest and record.facts.version == settled.version
        if not same or record.facts.instance.sop_instance_uid != settled.instance.sop_instance_uid:
            raise self._corrupted(settled, "another record lies there; `leadglass index rebuild` makes the index right")
        return record

    def _corrupted(self, settled: Settled, what: str) -> Corrupted:
        corrupted = Corrupted(settled, what)
        self._on_corrupted(corrupted)
        return corrupted


class InParts:
    """A record in its store, and space for what is read of it."""

    def __init__(self, store: ObjectStore, location: Location, space: memoryview) -> None:
        self._store, self._location, self._space = store, location, space

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Raises FileNotFoundError, OSError."""
        return self._store.read(name, offset, length)

    def part(self, offset: int, length: int) -> memoryview:
        """Valid until the next one is asked for. Raises FileNotFoundError, OSError."""
        into = self._space[:length]
        return into[: self._store.read_into(self._location.segment, offset, into)]


class AtOnce(InParts):
    """A record that was read whole: whatever is asked of it costs no further read."""

    def __init__(self, store: ObjectStore, location: Location, space: memoryview) -> None:
        super().__init__(store, location, space)
        self._whole = super().part(location.offset, location.length)

    def read(self, name: str, offset: int, length: int) -> bytes:
        assert name == self._location.segment
        return bytes(self.part(offset, length))

    def part(self, offset: int, length: int) -> memoryview:
        at = offset - self._location.offset
        return self._whole[at : at + length]


def _opened(record: OpenedRecord, sealed: InParts, piece_chunks: int) -> Iterator[tuple[memoryview, bool]]:
    """Pieces of so many chunks, and whether each is the last. Raises SealBroken, OSError."""
    position = record.location.offset + HEAD_LENGTH_BYTES
    end = position + record.head.body_length
    left, index, final = record.facts.data_set_length, 0, False
    while not final:
        part = sealed.part(position, min(end - position, piece_chunks * FRAME_LENGTH_MAX_BYTES))
        piece = memoryview(bytearray(min(left, piece_chunks * CHUNK_LENGTH_MAX_BYTES)))
        used, filled, index, final = open_frames(record.seal, part, piece, index, piece_chunks)
        position += used
        left -= filled
        if final and left:
            raise SealBroken("the length of the data set")
        yield piece, final


def open_frames(
    seal: InstanceSeal, sealed: memoryview, into: memoryview, index: int, count_max: int
) -> tuple[int, int, int, bool]:
    """Opens up to `count_max` frames: sealed bytes used, plaintext bytes made, next index, final. Raises SealBroken."""
    used = filled = 0
    final = False
    stop = index + count_max
    while index < stop and not final:
        if len(sealed) - used < FRAME_HEAD_LENGTH_BYTES:
            raise SealBroken(f"chunk {index}")
        length, final = frame_of(sealed, used)
        start = used + FRAME_HEAD_LENGTH_BYTES
        used = start + length + TAG_LENGTH_BYTES
        if used > len(sealed) or filled + length > len(into):
            raise SealBroken(f"chunk {index}")
        filled += seal.open_chunk(index, sealed[start:used], into[filled : filled + length], final=final)
        index += 1
    return used, filled, index, final


def open_record(store: Readable, keyring: Keyring, location: Location) -> OpenedRecord:
    """Raises FormatBroken, SealBroken, KeyFault, OSError."""
    head, seal, sealed = _open(store, keyring, location, RecordKind.INSTANCE)
    return OpenedRecord(location, head, seal, decode_facts(sealed))


def open_change(store: Readable, keyring: Keyring, location: Location) -> StandingChange:
    """Raises FormatBroken, SealBroken, KeyFault, OSError."""
    return decode_change(_open(store, keyring, location, RecordKind.STANDING_CHANGE)[2])


def _open(
    store: Readable, keyring: Keyring, location: Location, kind: RecordKind
) -> tuple[RecordHead, InstanceSeal, bytes]:
    head, ending, segment = raw_record(store, location)
    if head.kind is not kind:
        raise FormatBroken("a record: of another kind than it should be")
    footer = decode_footer(ending[-FOOTER_LENGTH_BYTES:])
    trailer = decode_trailer(ending[:-FOOTER_LENGTH_BYTES], footer)
    return head, *open_trailer(head, segment, trailer, keyring.key(trailer.key_id))


def raw_record(store: Readable, location: Location) -> tuple[RecordHead, bytes, int]:
    """Head, trailer with footer, and segment number, read without keys. Raises FormatBroken, OSError."""
    named = parse_segment_name(location.segment)
    if named is None:
        raise FormatBroken("a location: not a segment's name")
    writer, segment = named
    head = decode_record_head(store.read(location.segment, location.offset, HEAD_LENGTH_BYTES))
    ending_length = location.length - HEAD_LENGTH_BYTES - head.body_length
    if head.writer != writer or head.number != location.record or ending_length < FOOTER_LENGTH_BYTES:
        raise FormatBroken("a record: not the one that should lie here")
    start = location.offset + HEAD_LENGTH_BYTES + head.body_length
    return head, store.read(location.segment, start, ending_length), segment
