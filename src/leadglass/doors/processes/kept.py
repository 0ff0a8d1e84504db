"""What must the next start know? Files in a directory of one's own; what cannot be written now is tried again until it can."""

from __future__ import annotations

from pathlib import Path

import structlog

from leadglass.site.write import durably

log = structlog.get_logger()


class Kept:
    """`fault`: why the next start would not know something, "" where it would know all of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._due: dict[str, bytes] = {}
        self.fault = ""

    def read(self, name: str) -> bytes:
        """Raises OSError."""
        return (self._directory / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        self._due[name] = content
        self.retry()

    def retry(self) -> None:
        fault = ""
        for name, content in [*self._due.items()]:
            try:
                durably(self._directory / name, content)
                del self._due[name]
            except OSError as error:
                fault = f"{name}: {error}"
        if fault and fault != self.fault:
            log.error("the next start will not know it: make room; it is tried again", reason=fault)
        self.fault = fault
