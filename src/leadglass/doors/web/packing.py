"""What is in the ZIP that a study leaves in? Part 10 files as they are kept (PS3.10), what they are, and their digests; made while it leaves.

Names are counters: nothing that a peer sent names a file. The digests come last, in the form that `sha256sum --check` reads, so that whoever gets
the files can tell that nothing happened to them on the way.
"""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from leadglass.terms import Found, Settled
from leadglass.wire.part10 import write_part10

ZIP32_LENGTH_MAX_BYTES = (1 << 31) - 1
_MODE = 0o100644 << 16


@dataclass(slots=True)
class _Sink:
    """A file that is only written to, and never sought in."""

    parts: list[bytes] = field(default_factory=list)

    def write(self, data: bytes | memoryview) -> int:
        self.parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        parts, self.parts = self.parts, []
        return b"".join(parts)


@dataclass(slots=True)
class Packing:
    """`founds`: what leaves, a study each. `cover`: what the file README.txt says. Iterated once."""

    founds: Sequence[Found]
    cover: str
    _current: int = 0
    _sums: list[str] = field(default_factory=list)

    def still(self) -> None:
        """Raises Refused where the study that is leaving may not any more."""
        self.founds[self._current].still()

    def __iter__(self) -> Iterator[bytes]:
        """Raises Refused, Fault."""
        sink = _Sink()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as packed:  # type: ignore[call-overload]
            self._text(packed, "README.txt", self.cover)
            for place, found in enumerate(self.founds):
                self._current = place
                series: dict[str, int] = {}
                for number, settled in enumerate(found.instances(), start=1):
                    of = series.setdefault(settled.instance.series_instance_uid, len(series) + 1)
                    name = f"study-{place + 1:03d}/series-{of:03d}/{number:06d}.dcm"
                    yield from self._instance(packed, sink, name, found, settled)
                    found.progress.completed += 1
                found.progress.succeed()
            self._text(packed, "SHA256SUMS", "".join(self._sums))
        yield sink.taken()

    def _instance(
        self, packed: zipfile.ZipFile, sink: _Sink, name: str, found: Found, settled: Settled
    ) -> Iterator[bytes]:
        instance, digest = settled.instance, hashlib.sha256()
        head = write_part10(instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax_uid)
        entry = _entry(name)
        large = len(head) + settled.data_set_length > ZIP32_LENGTH_MAX_BYTES
        with packed.open(entry, "w", force_zip64=large) as file:
            digest.update(head)
            file.write(head)
            for piece in found.read(settled):
                digest.update(piece)
                file.write(piece)
                yield sink.taken()
                found.still()
        self._sums.append(f"{digest.hexdigest()}  {name}\n")

    def _text(self, packed: zipfile.ZipFile, name: str, text: str) -> None:
        packed.writestr(_entry(name), text.encode())


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, time.gmtime()[:6])
    entry.external_attr = _MODE
    return entry
