"""Does any key that exists open what was erased? Every key of a site, or of a backup of it, is tried on every record."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from leadglass.archive.objects import ObjectStore
from leadglass.archive.read import raw_record
from leadglass.archive.records import FOOTER_LENGTH_BYTES, decode_footer, decode_trailer, open_trailer, wrap_context
from leadglass.archive.seal import SealBroken
from leadglass.site.keyring import Keyring, StudyKey
from leadglass.site.sitekey import SiteKey
from leadglass.terms import KeyFault, Location

PURPOSES = (
    "keyring",
    "journal-box",
    "register",
    "index",
    "search",
    "search-token",
    "people",
    "enrolments",
    "backup",
    "backup/files",
)


def every_key(directory: Path, site_key: SiteKey) -> Iterator[StudyKey]:
    """Of each keyring file below a directory, whatever else lies there, and of the site key itself."""
    for path in directory.rglob("keyring"):
        with tempfile.TemporaryDirectory() as place:
            writer = Path(place) / "writers" / path.parent.name
            writer.mkdir(parents=True)
            shutil.copy(path, writer / "keyring")
            keyring = Keyring.open(Path(place), site_key, None)
            yield from (keyring.key(key_id) for key_id, _ in keyring._every())
    for purpose in PURPOSES:
        yield StudyKey(b"", site_key.derive(purpose))


def openers(store: ObjectStore, location: Location, keys: list[StudyKey]) -> list[StudyKey]:
    """Those that open a record: tried as what they are, and as the key that the record says it was sealed under."""
    head, ending, segment = raw_record(store, location)
    footer = decode_footer(ending[-FOOTER_LENGTH_BYTES:])
    trailer = decode_trailer(ending[:-FOOTER_LENGTH_BYTES], footer)
    found = []
    for each in keys:
        for key in (each, StudyKey(trailer.key_id, each.key)):
            try:
                key.unwrap(trailer.wrapped_key, wrap_context(head))
                open_trailer(head, segment, trailer, key)
            except (KeyFault, SealBroken):
                continue
            found.append(key)
    return found
