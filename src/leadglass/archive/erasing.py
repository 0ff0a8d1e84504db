"""How is a study erased? Nothing that it was sealed under is left. The steps, each harmless to repeat, with what a crash there costs:

1  close      From now on no worker grants a claim on anything of it; what is in flight settles. A crash costs waiting.
2  destroy    The ids of all its keys are written down, then each writer destroys its own in its keyring, the keeper those of the dead ones. A crash leaves
              some destroyed: the images are unreadable as far as that, and the rest is destroyed at the next look.
3  finish     When no keyring has any of them: its rows leave the index, and what names it leaves the register. A crash before it leaves rows that lead to
              nothing, which the next look takes away.

Segments and journals are not touched: what lies there of the study, boxes of events too, opens with no key that exists. A study has keys of its own, so
nothing that stays has to be wrapped anew. What backups hold is theirs: the next one into each directory lacks the keys, and takes the copy away that had them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from leadglass.archive.barrier import Barrier
from leadglass.archive.index import Index
from leadglass.site.erasures import Erasure, Erasures
from leadglass.site.keyring import Keyring
from leadglass.site.writer import Writer, writers


class Closing:
    """What is being erased, as one process sees it; asked before a claim is granted, and a few times a second. Thread-safe.

    `generation()`: of the containment state; it rises with each step.
    """

    def __init__(self, erasures: Erasures, keyring: Keyring, generation: Callable[[], int]) -> None:
        self._erasures, self._keyring, self._generation = erasures, keyring, generation
        self._seen, self._studies, self._going = -1, frozenset[str](), list[Erasure]()
        self._destroyed: set[str] = set()

    def closed(self, study_instance_uid: str) -> bool:
        """Whether nothing more is kept of that study."""
        self._look()
        return study_instance_uid in self._studies

    def destroy(self) -> None:
        """This writer's own keys of what is being destroyed. Raises StoreFault, JournalFault."""
        self._look()
        for erasure in self._going:
            if erasure.state == "destroying" and erasure.id not in self._destroyed:
                self._keyring.destroy(erasure.keys)
                self._destroyed.add(erasure.id)

    def _look(self) -> None:
        generation = self._generation()
        if generation != self._seen:
            going = [each for each in self._erasures.open() if each.state != "waiting"]
            self._studies = frozenset(study for each in going for study in each.studies)
            self._going, self._seen = going, generation


@dataclass(frozen=True, slots=True)
class Eraser:
    """What the keeper does about it. `recover`: of a dead writer, so that nothing of it is unpublished."""

    site_dir: Path
    index: Index
    keyring: Keyring
    barrier: Barrier
    recover: Callable[[bytes], object]

    def busy(self, studies: Collection[str]) -> bool:
        """Whether anything of them is in flight still."""
        return any(self.index.claimed(each) for each in studies)

    def keys(self, studies: Collection[str]) -> frozenset[bytes]:
        """Raises KeyFault."""
        return self.keyring.keys_of(studies)

    def destroy_left(self, keys: Collection[bytes]) -> None:
        """In the keyrings of writers that are no more. Raises StoreFault, KeyFault, OSError."""
        wanted = frozenset(keys)
        for state in writers(self.site_dir):
            if state.alive:
                continue
            if not state.sealed:
                self.recover(state.id)
            writer = Writer.adopt(self.site_dir, state.id)
            if writer is not None:
                with contextlib.closing(writer):
                    self.keyring.destroy_in(writer, wanted)

    def left(self, keys: Collection[bytes]) -> int:
        """How many of them are in some keyring still."""
        return len(self.keyring.remaining(frozenset(keys)))

    def finish(self, studies: Collection[str]) -> int:
        """How many versions left the index. Raises StoreFault."""
        with self.barrier.writing():
            return self.index.erase(studies)
