"""What does an exit code mean? Scripts rely on these; they never change."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    PROBLEMS = 3
    UNREACHABLE = 4
    NOT_ALLOWED = 5
    INTERRUPTED = 130


class Stopped(Exception):
    """A command cannot go on: what to say (and what to do next), and the exit code."""

    def __init__(self, code: Exit, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.hint = code, hint
