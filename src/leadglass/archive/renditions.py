"""Is what arrived the current instance in another transfer syntax? Only a proof counts: equal in canonical form, byte for byte.

Canonical is implicit VR little endian as we write it, so only native data sets can be proven. A compressed one would need a decoder
in a sandbox, a lossy one can never be: both are conflicts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from leadglass.archive.arrival import SealedArrival
from leadglass.archive.read import Corrupted, Reader
from leadglass.terms import Inspected, Settled
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.transcode import reencode
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

_NATIVE = frozenset({EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN})


def is_rendition(inspected: Inspected, current: Settled, reader: Reader) -> bool:
    """False wherever there is no proof, also where the current one cannot be read: then a person looks. Raises StoreFault, KeyFault."""
    ours, theirs = inspected.instance.transfer_syntax_uid, current.instance.transfer_syntax_uid
    arrival = inspected.arrival
    assert isinstance(arrival, SealedArrival)
    if ours == theirs or {ours, theirs} != _NATIVE or arrival.stream is not None:
        return False
    if inspected.instance.sop_class_uid != current.instance.sop_class_uid:
        return False
    try:
        return _canonical(arrival.plaintext(), ours) == _canonical(reader.read(current), theirs)
    except (RemoteProtocolError, Corrupted):
        return False


def _canonical(pieces: Iterable[memoryview], transfer_syntax_uid: str) -> bytes:
    digest = hashlib.sha256()
    for piece in reencode(pieces, transfer_syntax_uid, IMPLICIT_VR_LITTLE_ENDIAN):
        digest.update(piece)
    return digest.digest()
