"""How far had each journal come? Noted beside them, so that a file that goes, an end that is cut or an older copy in its place is found and named.

What is noted was durable, so a torn tail is no loss. The note is sealed; whoever puts back all of it, journals and note as they were on one day, is not found out by
it: for that it takes a witness elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from leadglass.audit.journal.format import TAIL_LENGTH_BYTES, chain_before, file_name
from leadglass.site.layout import STATE_DIRECTORY
from leadglass.site.sitekey import SiteKey, seal, unseal
from leadglass.site.write import durably
from leadglass.site.writer import DIRECTORY
from leadglass.terms import JournalFault, KeyFault

NOTE = Path(STATE_DIRECTORY) / ".journal-ends"  # in no backup: what is restored begins anew
_PURPOSE, _CONTEXT = "journal-ends", b"leadglass/journal-ends/1"
_RESTORE = f"restore it from a backup; where none has it, remove {NOTE}, and that is told too"


@dataclass(frozen=True, slots=True)
class End:
    """After record `sequence`, which ends at `offset` of `file` with that chain. `final`: its writer wrote nothing more."""

    file: int
    offset: int
    sequence: int
    chain: bytes
    final: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """A journal that no longer holds what it held."""

    writer: bytes
    fault: JournalFault


class Ends:
    """Any process reads the note, the keeper alone writes it."""

    def __init__(self, site_dir: Path, site_key: SiteKey) -> None:
        self._site_dir, self._key = site_dir, site_key.derive(_PURPOSE)

    def noted(self) -> dict[bytes, End] | None:
        """By writer; None where nothing ever was. Raises JournalFault where the note was changed."""
        try:
            sealed = (self._site_dir / NOTE).read_bytes()
            return msgspec.msgpack.decode(unseal(self._key, sealed, _CONTEXT), type=dict[bytes, End])
        except FileNotFoundError:
            return None
        except (OSError, KeyFault, msgspec.MsgspecError) as error:
            raise JournalFault(f"{NOTE} cannot be read: {error}", hint=_RESTORE) from error

    def note(self, ends: Mapping[bytes, End]) -> None:
        """Durable when it returns. Raises OSError."""
        durably(self._site_dir / NOTE, seal(self._key, msgspec.msgpack.encode(dict(ends)), _CONTEXT))

    def lost(self, noted: Mapping[bytes, End] | None = None, *, final: bool = True) -> Iterator[Lost]:
        """What is no longer there of what was noted; without `noted`, of what the note says, which raises JournalFault where it was changed.

        `final`: of writers too that had ended by then.
        """
        for writer, end in (self.noted() or {} if noted is None else noted).items():
            if (final or not end.final) and (what := _missing(self._site_dir / DIRECTORY / writer.hex(), end)):
                had = f"the journal of writer {writer.hex()} had come to event {end.sequence}"
                yield Lost(writer, JournalFault(f"{had}: {what}", hint=_RESTORE))


def _missing(directory: Path, end: End) -> str:
    for number in range(1, end.file + 1):
        if not (directory / file_name(number)).exists():
            return f"{file_name(number)} is gone"
    path = directory / file_name(end.file)
    with path.open("rb") as file:
        tail = os.pread(file.fileno(), TAIL_LENGTH_BYTES, end.offset - TAIL_LENGTH_BYTES)
    if len(tail) < TAIL_LENGTH_BYTES:
        return f"{path.name} ends before it"
    return "" if chain_before(tail) == end.chain else f"{path.name} is not the file that it was"
