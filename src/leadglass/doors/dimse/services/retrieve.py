"""Retrieve (PS3.4 C.4.2, C.4.3) as SCP: C-GET over the same association, C-MOVE over one to a registered device."""

from __future__ import annotations

from leadglass import gateway
from leadglass.doors.blocking import Entered
from leadglass.doors.dimse.conversation import Conversation
from leadglass.doors.dimse.identifiers import failed_list, keys_of, level_of
from leadglass.doors.dimse.services.ahead import Ahead, Ready
from leadglass.doors.dimse.services.query import CANCEL, PENDING, SUCCESS, Lasting, root_of
from leadglass.terms import Fault, Malformed, Outcome, Progress, Retrieval
from leadglass.wire.association import AcceptedContext
from leadglass.wire.dimse import Command, CommandField

UNABLE_TO_PERFORM, WARNING_FAILURES = 0xA702, 0xB000
FAILED_UIDS_MAX = 1000


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
    request = conversation.request = Retrieval(subject, root, level_of(keys, root), keys, destination)
    return request


def c_get(conversation: Conversation, context: AcceptedContext, command: Command) -> None:
    """C-GET (PS3.7 9.1.3): C-STORE sub-operations on this association, C-CANCEL looked for between them."""
    request = retrieval_of(conversation, context, "")
    with Entered(gateway.release(conversation.hall.do, request)) as found:
        tally, lasting = SubOperations(found.progress), Lasting(conversation, found)
        ahead = Ahead(found, found.instances(), conversation.contexts())
        for number, ready in enumerate(ahead, start=1):
            if conversation.cancelled(command.message_id):
                found.progress.reason = "cancelled by the peer"
                conclude(conversation, context, command, tally, CANCEL)
                return
            lasting.still()
            if sendable(ready, tally) and ready.way is not None:
                instance = ready.settled.instance
                offer = Command.c_store_rq(number % 0xFFFF or 1, instance.sop_class_uid, instance.sop_instance_uid)
                conversation.send(ready.way.context, offer, ready.pieces)
                ahead.look()
                count_response(tally, ready, conversation.reply_from_peer(command.message_id))
            conversation.respond(context, command, PENDING, fields=tally.counts(final=False), more=True)
        conclude(conversation, context, command, tally, final_status(tally))


def sendable(ready: Ready, tally: SubOperations) -> bool:
    """Whether there is something to send; if not, that it could not be is counted."""
    uid = ready.settled.instance.sop_instance_uid
    if ready.fault is not None:
        tally.unreadable(uid, ready.fault)
    elif ready.way is None:
        tally.failed(uid)
    return ready.fault is None and ready.way is not None


def count_response(tally: SubOperations, ready: Ready, response: Command) -> None:
    """Success, warning (0001, Bxxx, 0107, 0116) or failure (PS3.7 Annex C). Raises Malformed where it is none of a C-STORE."""
    if response.field is not CommandField.C_STORE_RSP:
        raise Malformed(f"{response.field.name} where a C-STORE-RSP was due")
    status = response.status or 0
    if status == SUCCESS:
        tally.completed()
    elif status in (0x0001, 0x0107, 0x0116) or status & 0xF000 == 0xB000:
        tally.warned()
    else:
        tally.failed(ready.settled.instance.sop_instance_uid)


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
