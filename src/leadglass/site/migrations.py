"""How does what is on disk grow older gracefully? Numbered steps, never reordered or changed; a newer version is refused in clear words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from leadglass.terms import Fault

Place = TypeVar("Place")


@dataclass(frozen=True, slots=True)
class Migration(Generic[Place]):
    """One step to version `number`; harmless to repeat, because a crash may come between its end and the new number."""

    number: int
    name: str
    run: Callable[[Place], None]


def pending(what: str, version: int, steps: Sequence[Migration[Place]]) -> Sequence[Migration[Place]]:
    """The steps that are left, in order. Raises Fault where `version` is newer than the last step."""
    known = steps[-1].number
    if version > known:
        raise Fault(
            f"this {what} was written by a newer Leadglass (format {version}); this one knows up to {known}",
            hint="upgrade the program",
        )
    return [step for step in steps if step.number > version]
