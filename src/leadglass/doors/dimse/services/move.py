"""C-MOVE (PS3.7 9.1.4) as SCP: sub-operations go to a registered device that policy allows, over its TLS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from leadglass import gateway
from leadglass.doors.blocking import Entered
from leadglass.doors.dimse.conversation import Conversation
from leadglass.doors.dimse.requestor import PRESENTATION_CONTEXTS_MAX, Requestor
from leadglass.doors.dimse.services.ahead import Ahead, Ready
from leadglass.doors.dimse.services.query import CANCEL, PENDING, Lasting
from leadglass.doors.dimse.services.retrieve import (
    SubOperations,
    conclude,
    count_response,
    final_status,
    retrieval_of,
    sendable,
)
from leadglass.terms import Device, Found, Malformed, Settled, UpstreamFault
from leadglass.wire.association import AcceptedContext
from leadglass.wire.dimse import Command
from leadglass.wire.negotiation import RequestedContext
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

BATCH_MAX = 500  # instances an association to the destination is opened for


class Dial(Protocol):
    """Opens an association to a device (`requestor.associated` with this site's credentials)."""

    def __call__(self, device: Device, wanted: list[RequestedContext]) -> AbstractContextManager[Requestor]: ...


def c_move_through(dial: Dial) -> Callable[[Conversation, AcceptedContext, Command], None]:
    """The C-MOVE service of a door that calls devices through `dial`."""

    def c_move(conversation: Conversation, context: AcceptedContext, command: Command) -> None:
        if not command.move_destination:
            raise Malformed("a C-MOVE-RQ without a Move Destination (0000,0600)")
        request = retrieval_of(conversation, context, command.move_destination)
        with Entered(gateway.release(conversation.hall.do, request)) as found:
            tally = SubOperations(found.progress)
            status = CANCEL
            if _move(conversation, context, command, found, tally, dial):
                status = final_status(tally)
            conclude(conversation, context, command, tally, status)

    return c_move


def _move(
    conversation: Conversation,
    context: AcceptedContext,
    command: Command,
    found: Found,
    tally: SubOperations,
    dial: Dial,
) -> bool:
    """False where the peer cancelled."""
    destination = found.permit.destination
    assert destination is not None  # decide() permits no C-MOVE without one
    subject = conversation.subject
    assert subject is not None
    instances, lasting = found.instances(), Lasting(conversation, found)
    while batch := [settled for _, settled in zip(range(BATCH_MAX), instances, strict=False)]:
        left = iter(batch)
        try:
            with dial(destination, wanted_for(batch)) as requestor, conversation.calling(requestor):
                ahead = Ahead(found, left, requestor.contexts)
                left = ahead.left()
                for ready in ahead:
                    if conversation.cancelled(command.message_id):
                        found.progress.reason = "cancelled by the peer"
                        return False
                    lasting.still()
                    if sendable(ready, tally):
                        _send(requestor, ready, tally, ahead, (command.message_id, subject.proposal.calling_ae_title))
                    conversation.respond(context, command, PENDING, fields=tally.counts(final=False))
        except UpstreamFault as fault:
            if not tally.progress.completed and not tally.progress.failed:
                raise
            tally.first_fault = tally.first_fault or str(fault)
            for settled in left:
                tally.failed(settled.instance.sop_instance_uid)
    return True


def _send(requestor: Requestor, ready: Ready, tally: SubOperations, ahead: Ahead, originator: tuple[int, str]) -> None:
    assert ready.way is not None
    message_id, ae_title = originator
    command = Command.c_store_rq(
        requestor.message_id(),
        ready.settled.instance.sop_class_uid,
        ready.settled.instance.sop_instance_uid,
        move_originator_ae_title=ae_title,
        move_originator_message_id=message_id,
    )
    try:
        requestor.say(ready.way.context, command, ready.pieces)
        ahead.look()
        count_response(tally, ready, requestor.response())
    except BaseException:
        tally.failed(ready.settled.instance.sop_instance_uid)
        raise


def wanted_for(batch: Iterable[Settled]) -> list[RequestedContext]:
    """One presentation context for each SOP class and stored transfer syntax, and one in implicit and explicit LE as the way out."""
    pairs = {(each.instance.sop_class_uid, each.instance.transfer_syntax_uid) for each in batch}
    native = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
    wanted = [RequestedContext(sop_class, (syntax,)) for sop_class, syntax in sorted(pairs)]
    wanted += [
        RequestedContext(sop_class, (other,))
        for sop_class, syntax in sorted(pairs)
        for other in native
        if syntax in native and syntax != other and (sop_class, other) not in pairs
    ]
    return wanted[:PRESENTATION_CONTEXTS_MAX]
