"""THE COMMIT. Between an inspected instance and an answer of success lie these numbered steps, each with what a crash there costs.

1  claim      SOP Instance UID -> version, writer: the one place where workers meet
2  keep       the record with its event in one append, then one sync: image and event are durable together or not at all
3             (the gateway notes the event in the journal, for its consumers)
4  publish    handed to the publisher: one index transaction for all that landed within a few milliseconds, in the order of their records;
              whoever looks before it is done waits for it
5             (the door answers; only a `Settled` can be answered with success)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from leadglass.archive.arrival import SealedArrival
from leadglass.archive.barrier import Barrier
from leadglass.archive.claims import Claims
from leadglass.archive.index import Granted, Index, Known
from leadglass.archive.limits import ArchiveLimits
from leadglass.archive.read import Reader
from leadglass.archive.records import Facts, RecordHead, RecordKind, encode_ending, encode_sealed
from leadglass.archive.renditions import is_rendition
from leadglass.archive.segments import Entry, Segments, Unsure
from leadglass.policy.standing import judge
from leadglass.site.keyring import Keyring
from leadglass.terms import Claimed, Contained, Event, Inspected, Location, Overloaded, Permit, Settled

PUBLISH_WITHIN_SECONDS = 0.05  # how long what landed waits for company
LOOKED_EVERY_SECONDS = 0.005  # whether somebody waits to find it
TRIED_AGAIN_AFTER_SECONDS = 0.5
UNPUBLISHED_MAX = 256
PUBLISHED_TOGETHER_MAX = 256  # at once, so that no other worker waits long for its turn


@dataclass(frozen=True, slots=True)
class CommitParts:
    """What committing stands on. `recover`: recovers that writer where it is dead, and says (truthy) whether it did.

    `closed`: whether nothing more is kept of a study, because it is being erased.
    """

    index: Index
    segments: Segments
    keyring: Keyring
    reader: Reader
    barrier: Barrier
    recover: Callable[[bytes], object]
    limits: ArchiveLimits
    closed: Callable[[str], bool] = lambda study_instance_uid: False


class Commit:
    """The steps `claim`, `keep` and `publish`. Thread-safe; they block."""

    def __init__(self, parts: CommitParts, publish_within_seconds: float = PUBLISH_WITHIN_SECONDS) -> None:
        self._parts = parts
        self._writer = parts.segments.writer_id
        self._publisher = Publisher(parts.index, parts.barrier, publish_within_seconds)
        self.claims = Claims(
            parts.index,
            self._writer,
            parts.recover,
            self._publisher.flush,
            parts.limits.claim_wait_seconds,
        )
        self._publisher.published = self.claims.published

    async def claim(self, inspected: Inspected, permit: Permit) -> Claimed:
        """Step 1. Raises Overloaded where another claim does not settle in time, StoreFault, Corrupted; then the arrival is discarded."""
        instance, arrival = inspected.instance, inspected.arrival
        try:
            self._publisher.check_room()
            # 1. One slot of the claims, then one look at the index, outside any group and holding no other claim. A crash before it
            #    costs nothing: the sender heard nothing and sends again. A crash after it leaves the claim of a dead writer, which
            #    its recovery drops, and until then nobody is granted a version of this UID.
            answer = self.claims.take(instance, arrival.digest)
            if self._parts.closed(
                instance.study_instance_uid
            ):  # asked under the claim: whoever erases waits for those that are held
                if isinstance(answer, Granted):
                    self.claims.release(instance.sop_instance_uid)
                raise Contained(
                    "the study that it belongs to is being erased: nothing more is kept of it until that is done"
                )
            if isinstance(answer, Known):
                settled = answer.settled
                for _ in self._parts.reader.pieces(settled):
                    pass  # success means kept: the sender may delete its own, so what lies here is read first
                arrival.discard()
                return Claimed(
                    inspected, permit, settled.version, settled.standing, settled.holds, settled.parent_digest, settled
                )
            return self._granted(inspected, permit, answer)
        except BaseException:
            arrival.discard()
            raise

    def _granted(self, inspected: Inspected, permit: Permit, granted: Granted) -> Claimed:
        facts = granted.facts
        try:
            current = None
            if facts.current_digest is not None:
                current = self._parts.index.current(inspected.instance.sop_instance_uid)
            rendition = current is not None and is_rendition(inspected, current, self._parts.reader)
            standing, holds = judge(inspected, facts, rendition=rendition)
        except BaseException:
            self.claims.release(inspected.instance.sop_instance_uid)
            raise
        return Claimed(inspected, permit, granted.version, standing, holds, facts.current_digest)

    async def keep(self, claimed: Claimed, event: Event) -> Settled:
        """Step 2: durable with its event when it returns.

        Raises Overloaded on a full disk, StoreFault, KeyFault; the claim is released unless the record is, or may be, durable.
        """
        arrival = claimed.inspected.arrival
        assert isinstance(arrival, SealedArrival)
        landed: list[Settled] = []
        try:
            self._parts.segments.append(self._entry(claimed, event, arrival, landed))
        except Unsure:
            raise  # recovery decides; until then nobody may be granted this UID
        except Exception:
            if not landed:
                arrival.discard()
                self.claims.release(claimed.inspected.instance.sop_instance_uid)
            raise
        arrival.settle()
        return landed[0]

    def _entry(self, claimed: Claimed, event: Event, arrival: SealedArrival, landed: list[Settled]) -> Entry:
        facts = facts_of(claimed, event, arrival)
        sealed = encode_sealed(facts)
        # 2a. The study's key is durable before anything is sealed under it. A crash here costs a key that nothing uses.
        key = self._parts.keyring.study_key(facts.instance.study_instance_uid)
        self._parts.keyring.sync()

        def ending(head: RecordHead, segment: int) -> bytes:
            return encode_ending(head, segment, arrival.chunks, arrival.seal, key, sealed)

        def land(location: Location) -> None:
            settled = facts.settled(self._writer, location)
            landed.append(settled)
            self._publisher.add(settled)

        # 2b. Append and sync, in `segments.py`. A crash during the append leaves a torn tail, which recovery cuts: the sender heard
        #     nothing. A crash after the sync leaves a record that is whole: recovery publishes it, with its event; the sender, who
        #     heard nothing, sends again and hears success, and nothing is stored twice.
        return Entry(
            kind=RecordKind.INSTANCE,
            instance_id=arrival.seal.instance_id,
            body=arrival.body,
            body_length=arrival.body_length,
            ending=ending,
            landed=land,
            buffer=arrival.buffer,
            stream=arrival.stream,
        )

    async def publish(self, settled: Settled) -> None:
        """Step 4: whoever looks after it returns finds it. The record stays whatever becomes of it; recovery makes up for the index."""
        # 3. The gateway has noted the event. A crash here costs the journal its unsynced tail: recovery reads the event from the
        #    record's trailer and appends it.
        # 4. The sender may be answered: the claim says that this landed, and every look at what is kept waits for the transaction that
        #    drops it. A crash before that leaves the claim of a dead writer: recovery publishes what the index lacks, then drops its
        #    claims, and whoever looks meanwhile waits. A crash before the answer costs the sender a second transfer.
        self._publisher.publish(settled)

    def close(self) -> None:
        """Nothing is kept afterwards. Raises StoreFault where the index does not take what landed last."""
        self._publisher.close()


class Publisher:
    """Publishes what landed, in record order and together: the applied offset in the index never runs past a record that it lacks.

    With `within_seconds` a thread of its own publishes what came together in that time, at once where somebody waits for it; with 0 whoever
    calls `publish` does. Whatever is not published yet is marked as landed in the claims, so that nobody misses it.
    """

    def __init__(self, index: Index, barrier: Barrier, within_seconds: float) -> None:
        self._index, self._barrier, self._within_seconds = index, barrier, within_seconds
        self.published: Callable[[Sequence[str]], None] = lambda uids: None
        self._landed: list[Settled] = []
        self._published = 0  # the last record number
        self._failed = ""
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._wake, self._hurry, self._stop = threading.Event(), threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        if within_seconds:
            self._thread.start()

    def check_room(self) -> None:
        """Raises Overloaded where so much waits for the index that no more may be kept."""
        if len(self._landed) >= UNPUBLISHED_MAX:
            raise Overloaded(
                f"{UNPUBLISHED_MAX} instances wait for the index: {self._failed or 'it is slow'}; `leadglass status` and the disk under [site] index say more"
            )

    def add(self, settled: Settled) -> None:
        """Called in record order, before anybody hears of it."""
        self._index.land(settled.instance.sop_instance_uid, settled.writer)
        with self._lock:
            self._landed.append(settled)

    def publish(self, settled: Settled) -> None:
        """To be found by whoever looks after this returns."""
        if self._within_seconds:
            self._wake.set()
            return
        with self._turn:  # whoever comes first publishes for all who wait
            if self._published < settled.location.record:
                self._publish_landed()

    def flush(self) -> None:
        """Published when it returns. Raises StoreFault."""
        with self._turn:
            self._publish_landed()

    def close(self) -> None:
        """What landed is published, if the index takes it; else recovery makes up for it."""
        self._stop = True
        self._wake.set()
        self._hurry.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait()
            self._wake.clear()
            end = time.monotonic() + self._within_seconds
            while time.monotonic() < end and not self._stop and not self._index.wanted():
                self._hurry.wait(LOOKED_EVERY_SECONDS)
            if self._stop:
                return  # what is left is `close`'s, or recovery's
            try:
                self.flush()
                self._failed = ""
            except Exception as failure:  # whatever it is: what landed waits, and stores are refused with the reason
                self._failed = str(failure)
                self._hurry.wait(TRIED_AGAIN_AFTER_SECONDS)
                self._wake.set()

    def _publish_landed(self) -> None:
        with self._lock:
            batch = self._landed[:PUBLISHED_TOGETHER_MAX]
        if not batch:
            return
        with self._barrier.writing():
            self._index.publish(batch)
        with self._lock:
            del self._landed[: len(batch)]
        self.published([each.instance.sop_instance_uid for each in batch])
        self._published = batch[-1].location.record


def facts_of(claimed: Claimed, event: Event, arrival: SealedArrival) -> Facts:
    inspected, permit, stamp = claimed.inspected, claimed.permit, arrival.stamp
    return Facts(
        instance=inspected.instance,
        digest=arrival.digest,
        data_set_length=arrival.data_set_length,
        header_length=inspected.header_length,
        version=claimed.version,
        standing=claimed.standing,
        holds=tuple(sorted(claimed.holds)),
        parent_digest=claimed.parent_digest,
        sender=permit.subject.actor,
        fingerprint=permit.subject.fingerprint,
        rule=permit.rule,
        received_at_ns=stamp.received_at_ns,
        utc_offset_minutes=stamp.utc_offset_minutes,
        monotonic_ns=stamp.monotonic_ns,
        sequence=stamp.sequence,
        event=event,
    )
