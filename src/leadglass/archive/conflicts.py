"""Which versions wait for a person, and what did the person say? A standing change is a record like any other: sealed, durable, replayed.

A standing only moves forward: held -> current -> superseded, or held -> rejected. So standing changes need no order among each other: on
replay what is further wins, whoever wrote it and wherever it lies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from leadglass.archive.barrier import Barrier
from leadglass.archive.claims import Claims
from leadglass.archive.index import Index
from leadglass.archive.records import (
    RecordHead,
    RecordKind,
    StandingChange,
    VersionStanding,
    encode_ending,
    encode_sealed,
)
from leadglass.archive.seal import INSTANCE_ID_LENGTH_BYTES, KEY_LENGTH_BYTES, InstanceSeal, sealed_empty
from leadglass.archive.segments import Entry, Segments
from leadglass.site.keyring import Keyring
from leadglass.terms import Location, Settled, Standing, StoreFault, Unsupported

_RANK = {
    Standing.HELD: 0,
    Standing.CURRENT: 1,
    Standing.RENDITION: 1,
    Standing.DERIVATIVE: 1,
    Standing.SUPERSEDED: 2,
    Standing.REJECTED: 2,
}


class Conflicts:
    """Held versions and what becomes of them. Thread-safe; blocks."""

    def __init__(
        self,
        index: Index,
        claims: Claims,
        segments: Segments,
        keyring: Keyring,
        barrier: Barrier,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._index, self._claims, self._segments, self._keyring = index, claims, segments, keyring
        self._barrier, self._wall_ns = barrier, wall_ns

    def promote(self, sop_instance_uid: str, version: int) -> Mapping[str, object]:
        """The held version becomes current, its reasons are cleared; the former current is superseded and stays readable.

        Raises Unsupported where that version is not held, Overloaded, StoreFault.
        """

        def decided(held: Settled, versions: Sequence[Settled]) -> list[VersionStanding]:
            former = [each for each in versions if each.standing is Standing.CURRENT]
            superseded = [VersionStanding(each.version, Standing.SUPERSEDED) for each in former]
            return [*superseded, VersionStanding(held.version, Standing.CURRENT)]

        return self._change(sop_instance_uid, version, decided)

    def dismiss(self, sop_instance_uid: str, version: int) -> Mapping[str, object]:
        """The held version is rejected, for the reasons it was held for; it stays readable and is never found.

        Raises Unsupported where that version is not held, Overloaded, StoreFault.
        """

        def decided(held: Settled, versions: Sequence[Settled]) -> list[VersionStanding]:
            del versions
            return [VersionStanding(held.version, Standing.REJECTED, tuple(sorted(held.holds)))]

        return self._change(sop_instance_uid, version, decided)

    def _change(
        self, uid: str, version: int, decide: Callable[[Settled, Sequence[Settled]], list[VersionStanding]]
    ) -> Mapping[str, object]:
        # 1. The claim on the UID, with a digest that nothing has: until it is released nobody is granted a version of it. A crash
        #    here costs what a crash after any claim costs.
        self._claims.take(self._held(uid, version).instance, os.urandom(32))
        try:
            held = self._held(uid, version)
            study = held.instance.study_instance_uid
            change = StandingChange(uid, study, tuple(decide(held, self._index.versions(uid))), self._wall_ns())
            # 2. Append and sync. A crash before it: nothing happened, and the change is found abandoned.
            location = self._append(change)
            # 3. The index. A crash before it: recovery replays the record, then drops the claim.
            with self._barrier.writing():
                forward(self._index, change)
        finally:
            self._claims.release(uid)
        after = {each.version: str(each.standing) for each in self._index.versions(uid)}
        return {"sop_instance_uid": uid, "version": version, "standings": after, "record": location.record}

    def _held(self, uid: str, version: int) -> Settled:
        for each in self._index.versions(uid):
            if each.version == version and each.standing is Standing.HELD:
                return each
        raise Unsupported(f"version {version} of {uid} is not held; `leadglass conflicts list` shows what is")

    def _append(self, change: StandingChange) -> Location:
        key = self._keyring.study_key(change.study_instance_uid)
        self._keyring.sync()
        seal = InstanceSeal(os.urandom(INSTANCE_ID_LENGTH_BYTES), os.urandom(KEY_LENGTH_BYTES))
        body, sealed = sealed_empty(seal), encode_sealed(change)

        def ending(head: RecordHead, segment: int) -> bytes:
            return encode_ending(head, segment, 1, seal, key, sealed)

        return self._segments.append(
            Entry(
                kind=RecordKind.STANDING_CHANGE,
                instance_id=seal.instance_id,
                body=memoryview(body),
                body_length=len(body),
                ending=ending,
                landed=lambda location: None,
            )
        )


def forward(index: Index, change: StandingChange, *, lacking: bool = False) -> None:
    """Applies what moves a version forward; doing it again is harmless. `lacking`: some versions were erased, whose that is nobody can tell any more.

    Raises StoreFault where the index has no such version, and nothing was erased.
    """
    known = {each.version: each for each in index.versions(change.sop_instance_uid)}
    for each in sorted(change.versions, key=lambda each: each.standing is Standing.CURRENT):  # one current at a time
        version = known.get(each.version)
        if version is None and lacking:
            continue
        if version is None:
            raise StoreFault(
                f"version {each.version} of {change.sop_instance_uid} changed its standing, but no segment has it",
                hint="restore the missing segment from the replica or a backup, then `leadglass index rebuild`",
            )
        if _RANK[each.standing] > _RANK[version.standing]:
            index.change_standing(change.sop_instance_uid, each.version, each.standing, frozenset(each.holds))


def forwarded(index: Index, change: StandingChange, *, lacking: bool = False) -> bool:
    """Whether every version stands where the change wants it, or further. `lacking`: as in `forward`."""
    known = {each.version: _RANK[each.standing] for each in index.versions(change.sop_instance_uid)}
    there = [each for each in change.versions if each.version in known or not lacking]
    return all(known.get(each.version, -1) >= _RANK[each.standing] for each in there)
