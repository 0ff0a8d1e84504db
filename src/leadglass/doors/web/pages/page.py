"""What is a page? A path, who it is for, and a function."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadglass.doors.web.visit import Visit

if TYPE_CHECKING:
    from starlette.responses import Response


class Who(enum.StrEnum):
    """Whom a page is for. `LOCKED_TOO`: of a locked session it gets no caller."""

    ANYBODY = "anybody"
    SIGNED_IN = "signed-in"
    LOCKED_TOO = "locked-too"


@dataclass(frozen=True, slots=True)
class Page:
    """`path` in the form of Starlette's routes."""

    path: str
    show: Callable[[Visit], Response]
    methods: tuple[str, ...] = ("GET",)
    who: Who = Who.SIGNED_IN
