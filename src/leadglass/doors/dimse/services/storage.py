"""Verification (PS3.4 A) and Storage (PS3.4 B) as SCP."""

from __future__ import annotations

from leadglass import gateway
from leadglass.doors.blocking import Entered, run
from leadglass.doors.dimse.conversation import Conversation
from leadglass.terms import Echo, Malformed, Mismatched, Offer, Outcome
from leadglass.wire.association import AcceptedContext
from leadglass.wire.dimse import Command
from leadglass.wire.uids import uid_problem, uid_warning

SUCCESS = 0x0000


def c_echo(conversation: Conversation, context: AcceptedContext, command: Command) -> None:
    """C-ECHO (PS3.7 9.1.5)."""
    subject = conversation.subject
    assert subject is not None
    with Entered(gateway.release(conversation.hall.do, Echo(subject))) as found:
        conversation.respond(context, command, SUCCESS)
        found.progress.outcome, found.progress.reason = Outcome.SUCCESS, ""


def c_store(conversation: Conversation, context: AcceptedContext, command: Command) -> None:
    """C-STORE (PS3.7 9.1.1). Success leaves only for what is settled."""
    offer = _offer(conversation, context, command)
    settled = run(gateway.store(conversation.hall.do, offer, conversation))
    conversation.respond(
        context, command, SUCCESS, fields={"affected_sop_instance_uid": settled.instance.sop_instance_uid}
    )


def _offer(conversation: Conversation, context: AcceptedContext, command: Command) -> Offer:
    subject = conversation.subject
    assert subject is not None
    sop_class_uid, sop_instance_uid = command.affected_sop_class_uid, command.affected_sop_instance_uid
    if not sop_class_uid or not sop_instance_uid or not command.has_data_set:
        raise Malformed("a C-STORE-RQ without SOP Class UID, SOP Instance UID or data set")
    if problem := uid_problem(sop_instance_uid):
        raise Malformed(f"the Affected SOP Instance UID is not a UID: {problem}")
    if sop_class_uid != context.abstract_syntax:
        raise Mismatched("the Affected SOP Class UID is not the one that the presentation context was accepted for")
    warning = uid_warning(sop_instance_uid)
    return Offer(
        subject,
        sop_class_uid,
        sop_instance_uid,
        context.transfer_syntax,
        (f"SOP Instance UID: {warning}",) if warning else (),
    )
