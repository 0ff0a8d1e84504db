"""How far did somebody read? One place for each writer, kept durably by whoever reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from leadglass.site.writer import sync_directory
from leadglass.terms import JournalFault


@dataclass(frozen=True, slots=True)
class Cursor:
    """After record `sequence`, which ends at `offset` of `file`."""

    file: int
    offset: int
    sequence: int


class Read(Protocol):
    """What was read: a `Recorded`."""

    @property
    def writer(self) -> bytes: ...
    @property
    def file(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def sequence(self) -> int: ...


class Cursors(Mapping[bytes, Cursor]):
    """Writer -> cursor. Never changes; `after` makes the next."""

    __slots__ = ("_places",)

    def __init__(self, places: Mapping[bytes, Cursor] | None = None) -> None:
        self._places = dict(places or {})

    def __getitem__(self, writer: bytes) -> Cursor:
        return self._places[writer]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def after(self, read: Iterable[Read]) -> Cursors:
        """With all of these read too."""
        return Cursors(
            {**self._places, **{each.writer: Cursor(each.file, each.offset, each.sequence) for each in read}}
        )

    def to_json(self) -> dict[str, list[int]]:
        return {writer.hex(): [each.file, each.offset, each.sequence] for writer, each in self._places.items()}

    @classmethod
    def from_json(cls, told: Mapping[str, list[int]]) -> Cursors:
        return cls({bytes.fromhex(writer): Cursor(*places) for writer, places in told.items()})

    @classmethod
    def load(cls, path: Path) -> Cursors:
        """None read where there is no such file. Raises JournalFault where it is broken."""
        try:
            return cls.from_json(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError, AttributeError):
            raise JournalFault(
                f"{path} does not say how far the journal was read", hint="remove it: what reads begins again"
            ) from None

    def save(self, path: Path) -> None:
        """Durable when it returns. Raises OSError."""
        part = path.with_name(f".{path.name}.part")
        with part.open("w") as file:
            json.dump(self.to_json(), file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_directory(path.parent)
