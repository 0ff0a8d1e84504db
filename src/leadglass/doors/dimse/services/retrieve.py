"""Retrieve (PS3.4 C.4.2, C.4.3) as SCP: C-GET over the same association, C-MOVE over one to a registered device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from leadglass import gateway
from leadglass.doors.blocking import Entered
from leadglass.doors.dimse.conversation import Conversation
from leadglass.doors.dimse.identifiers import failed_list, keys_of, level_of
from leadglass.doors.dimse.services.query import CANCEL, PENDING, SUCCESS, Lasting, root_of
from leadglass.terms import Body, Fault, Found, KeyFault, Malformed, Outcome, Progress, Retrieval, Settled, StoreFault
from leadglass.wire.association import AcceptedContext
from leadglass.wire.dimse import Command, CommandField
from leadglass.wire.transcode import reencode
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

UNABLE_TO_PERFORM, WARNING_FAILURES = 0xA702, 0xB000
FAILED_UIDS_MAX = 1000
VERIFY_FIRST_MAX_BYTES = 32 << 20
_NATIVE = frozenset({EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN})


@dataclass(frozen=True, slots=True)
class Route:
    """How an instance can leave: in which presentation context, and from which transfer syntax it is re-encoded ("" as stored)."""

    context: AcceptedContext
    reencode_from: str = ""


def route(contexts: Mapping[int, AcceptedContext], settled: Settled) -> Route | None:
    """The context that takes the instance as stored; else, for native ones, explicit and implicit LE re-encoded into each other."""
    stored = settled.instance.transfer_syntax_uid
    usable = [
        context
        for context in contexts.values()
        if context.abstract_syntax == settled.instance.sop_class_uid and context.may_send_requests
    ]
    for context in usable:
        if context.transfer_syntax == stored:
            return Route(context)
    if stored in _NATIVE:
        for context in usable:
            if context.transfer_syntax in _NATIVE:
                return Route(context, reencode_from=stored)
    return None


def verified(body: Body) -> Iterable[memoryview]:
    """The body, read and verified before the first byte leaves where it fits in memory; a longer one is verified before its last byte.

    Raises StoreFault, KeyFault. A longer one that does not verify ends its association in the middle, so nobody takes it for whole.
    """
    return (
        [memoryview(bytes(piece)) for piece in body] if body.settled.data_set_length <= VERIFY_FIRST_MAX_BYTES else body
    )


def outgoing(body: Iterable[memoryview], way: Route) -> Iterator[memoryview]:
    """The data set's pieces in the route's transfer syntax."""
    if not way.reencode_from:
        return iter(body)
    pieces = reencode(iter(body), way.reencode_from, way.context.transfer_syntax)
    return (memoryview(piece) for piece in pieces)


class SubOperations:
    """Counts of a retrieval (PS3.7 9.1.3, 9.1.4) and the names of what failed."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.failed_uids: list[str] = []
        self.first_fault = ""

    def completed(self) -> None:
        self.progress.completed += 1

    def warned(self) -> None:
        self.progress.warned += 1

    def unreadable(self, uid: str, fault: Fault) -> None:
        """The operator's event says what the first of them was: a key that is lost fails in one file for many instances."""
        self.first_fault = self.first_fault or str(fault)
        self.failed(uid)

    def failed(self, uid: str) -> None:
        self.progress.failed += 1
        if len(self.failed_uids) < FAILED_UIDS_MAX:
            self.failed_uids.append(uid)

    def remaining(self) -> int:
        done = self.progress
        return max(0, done.total - done.completed - done.failed - done.warned)

    def counts(self, *, final: bool) -> dict[str, int]:
        done = self.progress
        counts = {"completed": done.completed, "failed": done.failed, "warning": done.warned}
        return counts if final else {"remaining": self.remaining(), **counts}


def retrieval_of(conversation: Conversation, context: AcceptedContext, destination: str) -> Retrieval:
    """The request of a C-GET or C-MOVE. Raises Malformed, Unsupported."""
    subject = conversation.subject
    assert subject is not None
    root = root_of(context)
    keys = keys_of(conversation.identifier(), context.transfer_syntax)
    return Retrieval(subject, root, level_of(keys, root), keys, destination)


def c_get(conversation: Conversation, context: AcceptedContext, command: Command) -> None:
    """C-GET (PS3.7 9.1.3): C-STORE sub-operations on this association, C-CANCEL looked for between them."""
    request = retrieval_of(conversation, context, "")
    with Entered(gateway.release(conversation.hall.do, request)) as found:
        tally, lasting = SubOperations(found.progress), Lasting(conversation, found)
        for number, settled in enumerate(found.instances(), start=1):
            if conversation.cancelled(command.message_id):
                found.progress.reason = "cancelled by the peer"
                conclude(conversation, context, command, tally, CANCEL)
                return
            lasting.still()
            _send_here(conversation, found, settled, tally, message_id=number % 0xFFFF or 1)
            conversation.respond(context, command, PENDING, fields=tally.counts(final=False))
        conclude(conversation, context, command, tally, final_status(tally))


def _send_here(
    conversation: Conversation, found: Found, settled: Settled, tally: SubOperations, *, message_id: int
) -> None:
    uid = settled.instance.sop_instance_uid
    way = route(conversation.contexts(), settled)
    if way is None:
        tally.failed(uid)
        return
    try:
        body = verified(found.read(settled))
    except (StoreFault, KeyFault) as fault:  # what does not verify, or does not open, is never sent; the others are
        tally.unreadable(uid, fault)
        return
    request = Command.c_store_rq(message_id, settled.instance.sop_class_uid, uid)
    conversation.send(way.context, request, outgoing(body, way))
    response = conversation.reply_from_peer()
    if response.field is not CommandField.C_STORE_RSP:
        raise Malformed(f"{response.field.name} where a C-STORE-RSP was due")
    count_response(tally, uid, response.status or 0)


def count_response(tally: SubOperations, uid: str, status: int) -> None:
    """Success, warning (0001, Bxxx, 0107, 0116) or failure (PS3.7 Annex C)."""
    if status == SUCCESS:
        tally.completed()
    elif status in (0x0001, 0x0107, 0x0116) or status & 0xF000 == 0xB000:
        tally.warned()
    else:
        tally.failed(uid)


def final_status(tally: SubOperations) -> int:
    """PS3.4 C.4.2.1.5, C.4.3.1.4: success only where every sub-operation was one."""
    done = tally.progress
    if done.failed and not done.completed and not done.warned:
        return UNABLE_TO_PERFORM
    return WARNING_FAILURES if done.failed or done.warned else SUCCESS


def conclude(
    conversation: Conversation, context: AcceptedContext, command: Command, tally: SubOperations, status: int
) -> None:
    """The final response, with the Failed SOP Instance UID List where something failed (PS3.4 C.4.2.1.4.2)."""
    data = failed_list(tally.failed_uids, context.transfer_syntax) if tally.failed_uids else None
    counts = tally.counts(final=status != CANCEL)
    conversation.respond(context, command, status, data=data, fields=counts)
    progress = tally.progress
    if status == CANCEL:
        return
    progress.outcome = Outcome.SUCCESS if status == SUCCESS else Outcome.FAILED
    why = f"; first: {tally.first_fault}" if tally.first_fault else ""
    progress.reason = "" if status == SUCCESS else f"{progress.failed} of {progress.total} could not be sent{why}"
