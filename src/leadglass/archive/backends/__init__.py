"""Which place does the site file name? One `match` over the scheme; chosen by `__main__` alone."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from leadglass.archive.backends.local import LocalObjects
from leadglass.archive.backends.memory import MemoryObjects
from leadglass.archive.objects import ObjectStore
from leadglass.terms import StoreFault


def open_objects(url: str, site_dir: Path) -> ObjectStore:
    """`file:objects` (below the site), `file:///srv/objects`, `memory:` (gone with the process; for tests). Raises StoreFault."""
    parts = urlsplit(url)
    match parts.scheme:
        case "file":
            return LocalObjects(site_dir / parts.path)
        case "memory":
            return MemoryObjects()
        case scheme:
            raise StoreFault(
                f"[site] objects: no store speaks {scheme or 'a URL without scheme'!r}",
                hint='write objects = "file:objects"',
            )
