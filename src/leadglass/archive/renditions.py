"""Is what arrived the current instance in another transfer syntax? Only a proof counts: equal in canonical form, byte for byte."""

from __future__ import annotations

from leadglass.archive.read import Reader
from leadglass.terms import Inspected, Settled


def is_rendition(inspected: Inspected, current: Settled, reader: Reader) -> bool:
    return False
