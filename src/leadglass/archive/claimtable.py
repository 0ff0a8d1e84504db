"""Where do workers meet? One small file that every process of the site maps: whose turn it is with a UID, and what landed and is not yet to be found.

A slot is free, claimed, or landed (durable, answered, its publish still to come). Slots change under a lock that ends with its process, and
a slot counts from the moment its one state byte says so, which is written last: whoever is killed in between leaves nothing half done.
The file is derived and precious to nobody: what dead writers left in it is dropped when they are recovered. UIDs stand in it as digests.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from leadglass.terms import Instance, Overloaded, PatientIdentity, StoreFault

CLAIMS_MAX = 4096  # all that many workers can have in flight and unpublished
_MAGIC = b"LGCLAIM\1"
_USED = struct.Struct("<I")  # slots below this one were used at some time
_USED_AT, _WANTED_AT = 8, 12
_FIELD_BYTES = 16
_STATES = 4096
_SOPS = _STATES + CLAIMS_MAX
_STUDIES, _OWNERS, _WRITERS = (_SOPS + CLAIMS_MAX * _FIELD_BYTES * number for number in (1, 2, 3))
_LENGTH = _WRITERS + CLAIMS_MAX * _FIELD_BYTES
_FREE, _CLAIMED, _LANDED = b"\0", b"\1", b"\2"
POLL_SECONDS = 0.001


class ClaimTable:
    """One per process. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._threads = threading.Lock()
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            if os.fstat(self._file).st_size != _LENGTH or os.pread(self._file, len(_MAGIC), 0) != _MAGIC:
                os.ftruncate(self._file, 0)
                os.ftruncate(self._file, _LENGTH)
                os.pwrite(self._file, _MAGIC, 0)
            self._map = mmap.mmap(self._file, _LENGTH)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Harmless to repeat."""
        if not self._map.closed:
            self._map.close()
            os.close(self._file)

    def take(self, instance: Instance, writer: bytes) -> bytes | None:
        """None where the UID is now that writer's; else the writer whose claim must settle first: on the UID, or on its study for another patient.

        Raises Overloaded where no slot is free.
        """
        sop, (study, owner) = (
            _mark(instance.sop_instance_uid),
            _study_marks(instance.study_instance_uid, instance.patient),
        )
        with self._locked():
            for slot in self._found(_SOPS, sop):
                return self._field(_WRITERS, slot)
            if self._fields(_STUDIES).count(study) != self._fields(_OWNERS).count(owner):
                for slot in self._found(_STUDIES, study):
                    if self._field(_OWNERS, slot) != owner:
                        return self._field(_WRITERS, slot)
            slot = self._map.find(_FREE, _STATES, _STATES + CLAIMS_MAX) - _STATES
            if slot < 0:
                raise Overloaded(
                    f"{CLAIMS_MAX} instances are in flight: the index is slow, or workers died; `leadglass status` says which"
                )
            for region, value in ((_SOPS, sop), (_STUDIES, study), (_OWNERS, owner), (_WRITERS, writer)):
                at = region + slot * _FIELD_BYTES
                self._map[at : at + _FIELD_BYTES] = value
            if slot >= self._used():
                _USED.pack_into(self._map, _USED_AT, slot + 1)
            self._map[_STATES + slot] = _CLAIMED[0]
        return None

    def claimed(self, study_instance_uid: str) -> bool:
        """Whether there is a claim on anything of that study, landed ones included."""
        with self._locked():
            return any(True for _ in self._found(_STUDIES, _mark(study_instance_uid)))

    def land(self, sop_instance_uid: str, writer: bytes) -> None:
        """Durable, and on its way into the index: whoever looks from now on waits for it."""
        for slot in self._of(sop_instance_uid, writer):
            self._map[_STATES + slot] = _LANDED[0]

    def release(self, sop_instance_uids: Iterable[str], writer: bytes) -> None:
        """Published, or nothing of it settled."""
        for uid in sop_instance_uids:
            for slot in self._of(uid, writer):
                self._free(slot)

    def drop(self, writers: Iterable[bytes] | None = None, *, but: Iterable[bytes] = ()) -> int:
        """All claims of these writers, of any where None is said, but not of those: how many."""
        wanted, kept, dropped = None if writers is None else set(writers), set(but), 0
        with self._locked():
            for slot in range(self._used()):
                owner = self._field(_WRITERS, slot)
                if self._map[_STATES + slot] != _FREE[0] and owner not in kept and (wanted is None or owner in wanted):
                    self._free(slot)
                    dropped += 1
        return dropped

    def catch_up(self, seconds: float) -> None:
        """Returns when all that has landed by now is to be found. Raises StoreFault where that takes longer."""
        states = self._map[_STATES : _STATES + self._used()]
        if _LANDED not in states:
            return
        waited = {slot: self._field(_SOPS, slot) for slot, state in enumerate(states) if state == _LANDED[0]}
        self._map[_WANTED_AT] = 1
        end = time.monotonic() + seconds
        while waited := {slot: sop for slot, sop in waited.items() if self._is_landed(slot, sop)}:
            if time.monotonic() >= end:
                raise StoreFault(
                    f"{len(waited)} instances are kept and cannot be found yet",
                    hint="try again; `leadglass status` says how it is",
                )
            time.sleep(POLL_SECONDS)

    def wanted(self) -> bool:
        """Whether somebody waits for what has landed; asking takes the wish."""
        if not self._map[_WANTED_AT]:
            return False
        self._map[_WANTED_AT] = 0
        return True

    # ---- within

    def _is_landed(self, slot: int, sop: bytes) -> bool:
        return self._map[_STATES + slot] == _LANDED[0] and self._field(_SOPS, slot) == sop

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _used(self) -> int:
        return min(CLAIMS_MAX, int(_USED.unpack_from(self._map, _USED_AT)[0]))

    def _of(self, uid: str, writer: bytes) -> Iterator[int]:
        """Slots of that UID and writer: only their own writer changes them, so no lock is needed."""
        for slot in self._found(_SOPS, _mark(uid)):
            if self._field(_WRITERS, slot) == writer:
                yield slot

    def _found(self, region: int, value: bytes) -> Iterator[int]:
        fields = self._fields(region)
        at = fields.find(value)
        while at >= 0:
            slot, aside = divmod(at, _FIELD_BYTES)
            if not aside and self._map[_STATES + slot] != _FREE[0]:
                yield slot
            at = fields.find(value, at + 1)

    def _fields(self, region: int) -> bytes:
        """Copied: bytes are searched much faster than a map."""
        return self._map[region : region + self._used() * _FIELD_BYTES]

    def _free(self, slot: int) -> None:
        for region in (_SOPS, _STUDIES, _OWNERS):  # before the state: a free slot is somebody else's to fill
            at = region + slot * _FIELD_BYTES
            self._map[at : at + _FIELD_BYTES] = bytes(_FIELD_BYTES)
        self._map[_STATES + slot] = _FREE[0]

    def _field(self, region: int, slot: int) -> bytes:
        at = region + slot * _FIELD_BYTES
        return self._map[at : at + _FIELD_BYTES]


def _mark(uid: str) -> bytes:
    return hashlib.blake2b(uid.encode(), digest_size=_FIELD_BYTES).digest()


@lru_cache(maxsize=256)
def _study_marks(study: str, patient: PatientIdentity) -> tuple[bytes, bytes]:
    """Of a study, and of it as that patient's."""
    return _mark(study), _mark(f"{study}\\{len(patient.patient_id)}\\{patient.patient_id}{patient.issuer}")
