"""What lies in a segment? Read from its structures alone, without any key: forward by lengths, backward by footers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from leadglass.archive.objects import ObjectStore, Readable
from leadglass.archive.records import (
    BLOCK_LENGTH_BYTES,
    FOOTER_LENGTH_BYTES,
    FOOTER_MAGIC,
    GROUP_LENGTH_BYTES,
    GROUP_MAGIC,
    HEAD_LENGTH_BYTES,
    RECORD_MAGIC,
    TRAILER_HEAD_LENGTH_BYTES,
    FormatBroken,
    GroupHead,
    RecordHead,
    decode_footer,
    decode_group_head,
    decode_record_head,
    decode_segment_head,
    decode_trailer,
    padding,
    parse_segment_name,
    trailer_length,
)
from leadglass.archive.window import Window
from leadglass.terms import Location

SCAN_LENGTH_BYTES = 256 * BLOCK_LENGTH_BYTES


@dataclass(frozen=True, slots=True)
class Found:
    """A record whose head, trailer checksum and footer are right. Its chunks were not looked at."""

    location: Location
    head: RecordHead


@dataclass(slots=True)
class Walked:
    """A segment, walked from its start. `broken_at`: where the first thing lies that is not as it should be, and `what` it is.

    `durable_mark`: the highest that a group before it says; `lost`: a later group says that the broken place had been synced.
    """

    name: str
    writer: bytes
    number: int
    records: list[Found] = field(default_factory=list)
    durable_mark: int = 0
    end: int = BLOCK_LENGTH_BYTES
    closed: bool = False
    broken_at: int | None = None
    what: str = ""
    lost: bool = False

    def breaks(self, offset: int, what: str) -> None:
        """From `offset` on nothing counts."""
        self.broken_at, self.what = offset, what
        self.records = [record for record in self.records if record.location.offset < offset]


def walk(store: Readable, name: str) -> Walked:
    """Raises OSError."""
    named = parse_segment_name(name)
    assert named is not None
    walked = Walked(name, *named)
    walk_on(store, walked)
    return walked


def walk_on(store: Readable, walked: Walked) -> None:
    """Again from the end of the last whole group, where a segment has grown. Raises OSError."""
    walked.records = [record for record in walked.records if record.location.offset < walked.end]
    walked.broken_at, walked.what, walked.lost = None, "", False
    try:
        head = decode_segment_head(store.read(walked.name, 0, BLOCK_LENGTH_BYTES))
        if (head.writer, head.number) != (walked.writer, walked.number):
            raise FormatBroken("a segment's head: another segment's")
    except FormatBroken as error:
        walked.breaks(0, str(error))
    else:
        _walk_groups(Window(store, walked.name), walked)
    if walked.broken_at is not None:
        walked.lost = any(group.durable_mark > walked.broken_at for _, group in _later_groups(store, walked))


def _walk_groups(window: Window, walked: Walked) -> None:
    position, doubted = walked.end, -1
    in_group = False
    while True:
        data = window.read(walked.name, position, max(GROUP_LENGTH_BYTES, HEAD_LENGTH_BYTES))
        if not data:
            return
        try:
            if data.startswith(GROUP_MAGIC) and position % BLOCK_LENGTH_BYTES == 0:
                group = decode_group_head(data)
                if (group.writer, group.segment) != (walked.writer, walked.number):
                    raise FormatBroken("a group's head: another segment's")
                walked.durable_mark, walked.closed, in_group = group.durable_mark, group.closes, True
                position += GROUP_LENGTH_BYTES
            elif data.startswith(RECORD_MAGIC) and in_group:
                record = _record(window, walked, position, data)
                walked.records.append(record)
                position += record.location.length
            elif in_group and not any(data[: padding(position)]):
                position += padding(position)
                in_group = False
                walked.end = position
            else:
                raise FormatBroken("neither a group's head nor a record's")
        except FormatBroken as error:
            if doubted != position:  # written since the window was read, perhaps: a later mark would make a loss of it
                doubted = position
                window.forget()
                continue
            walked.breaks(position, str(error))
            return


def _record(store: Readable, walked: Walked, position: int, data: bytes) -> Found:
    head = decode_record_head(data)
    if head.writer != walked.writer:
        raise FormatBroken("a record's head: another writer's")
    ending = position + HEAD_LENGTH_BYTES + head.body_length
    length = trailer_length(store.read(walked.name, ending, TRAILER_HEAD_LENGTH_BYTES))
    rest = store.read(walked.name, ending, length + FOOTER_LENGTH_BYTES)
    footer = decode_footer(rest[length:])
    if footer.body_length != head.body_length:
        raise FormatBroken("a record's footer: not of the head before it")
    decode_trailer(rest[:length], footer)
    return Found(Location(walked.name, position, footer.record_length, head.number), head)


def behind(store: Readable, walked: Walked) -> list[Found]:
    """What stands in whole groups behind the first thing that is broken. Raises OSError."""
    found: list[Found] = []
    reached = 0
    for offset, _ in _later_groups(store, walked) if walked.broken_at is not None else ():
        if offset >= reached:
            part = Walked(walked.name, walked.writer, walked.number, end=offset)
            _walk_groups(Window(store, walked.name), part)
            found += part.records
            reached = part.end if part.broken_at is None else part.broken_at
    return found


def _later_groups(store: Readable, walked: Walked) -> Iterator[tuple[int, GroupHead]]:
    """Those behind the broken place, and where each begins: at block boundaries, whatever lies between."""
    assert walked.broken_at is not None
    position = walked.broken_at - walked.broken_at % BLOCK_LENGTH_BYTES
    while data := store.read(walked.name, position, SCAN_LENGTH_BYTES):
        for offset in range(0, len(data), BLOCK_LENGTH_BYTES):
            if data.startswith(GROUP_MAGIC, offset):
                try:
                    group = decode_group_head(memoryview(data)[offset : offset + GROUP_LENGTH_BYTES])
                except FormatBroken:
                    continue
                if (group.writer, group.segment) == (walked.writer, walked.number):
                    yield position + offset, group
        position += len(data)


def last_record(store: ObjectStore, name: str) -> RecordHead | None:
    """The last record of a segment that was closed, found from its end; None where only a walk can tell. Raises OSError."""
    end = store.size(name)
    if end < 3 * BLOCK_LENGTH_BYTES or end % BLOCK_LENGTH_BYTES:
        return None
    try:
        if not decode_group_head(store.read(name, end - BLOCK_LENGTH_BYTES, GROUP_LENGTH_BYTES)).closes:
            return None
        found = record_before(store, name, end - BLOCK_LENGTH_BYTES)
    except FormatBroken:
        return None
    return found.head if found else None


def record_before(store: ObjectStore, name: str, end: int) -> Found | None:
    """The record that ends before `end`, in the same group or where padding begins; None at a group's start. Raises FormatBroken."""
    start = max(0, end - BLOCK_LENGTH_BYTES)
    data = store.read(name, start, end - start).rstrip(b"\0")
    end = start + len(data)
    if not data.endswith(FOOTER_MAGIC):
        return None
    footer = decode_footer(store.read(name, end - FOOTER_LENGTH_BYTES, FOOTER_LENGTH_BYTES))
    offset = end - footer.record_length
    if offset < BLOCK_LENGTH_BYTES:
        raise FormatBroken("a record's footer: longer than its segment")
    head = decode_record_head(store.read(name, offset, HEAD_LENGTH_BYTES))
    return Found(Location(name, offset, footer.record_length, head.number), head)
