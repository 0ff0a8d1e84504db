"""Storage Commitment Push Model (PS3.4 J) as SCP: N-ACTION is written down, N-EVENT-REPORT follows from a fresh read.

The request is durable in the register before the peer hears that it was taken, so the report still comes after a restart in between.
A device with an `address` hears it on a new association from the keeper; one without hears it on this association.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from leadglass import gateway
from leadglass.doors.blocking import Entered
from leadglass.doors.dimse.asides import WAITING_MAX, Aside
from leadglass.doors.dimse.conversation import Conversation
from leadglass.doors.dimse.requestor import Requestor
from leadglass.terms import (
    Commitment,
    Device,
    Found,
    Malformed,
    Outcome,
    Overloaded,
    Reference,
    Subject,
    Unsupported,
    UpstreamFault,
)
from leadglass.wire import tags
from leadglass.wire.association import AcceptedContext
from leadglass.wire.dimse import Command
from leadglass.wire.elements import DataSet, Element, encode, parse
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.negotiation import RequestedContext
from leadglass.wire.uids import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    STORAGE_COMMITMENT_PUSH,
    STORAGE_COMMITMENT_PUSH_INSTANCE,
)

REQUEST_STORAGE_COMMITMENT = 1  # action type id, PS3.4 J.3.2
ALL_SUCCESSFUL, FAILURES_EXIST = 1, 2  # event type ids, PS3.4 J.3.3
SUCCESS, NO_SUCH_SOP_INSTANCE, NO_SUCH_ACTION = 0x0000, 0x0112, 0x0123
REFERENCES_MAX = 100_000


class Pending(Protocol):
    """Commitments that were asked for and not yet reported: durable when `add` returns."""

    def add(
        self,
        device: str,
        transaction_uid: str,
        references: tuple[Reference, ...],
        calling_ae_title: str,
        session: str = "",
    ) -> None: ...


def n_action_into(pending: Pending) -> Callable[[Conversation, AcceptedContext, Command], None]:
    """The N-ACTION service of a door that writes requests down in `pending`."""

    def n_action(conversation: Conversation, context: AcceptedContext, command: Command) -> None:
        if context.abstract_syntax != STORAGE_COMMITMENT_PUSH:
            raise Unsupported(f"N-ACTION on {context.abstract_syntax}")
        subject = conversation.subject
        assert subject is not None
        payload = conversation.identifier()
        if command.action_type_id != REQUEST_STORAGE_COMMITMENT:
            conversation.respond(context, command, NO_SUCH_ACTION)
            return
        if command.requested_sop_instance_uid != STORAGE_COMMITMENT_PUSH_INSTANCE:
            conversation.respond(context, command, NO_SUCH_SOP_INSTANCE)
            return
        request = conversation.request = request_of(subject, payload, context.transfer_syntax)
        if not subject.device.address:
            if conversation.asides.full:
                raise Overloaded(
                    f"{WAITING_MAX} reports of storage commitment wait for the device to answer the one before: mend that at the device, or enrol it with an --address to be called at"
                )
            aside = _told_here(conversation, context, command, request)
            next(aside)
            conversation.asides.add(aside)
            return
        with Entered(gateway.release(conversation.hall.do, request)) as found:
            pending.add(
                subject.device.name,
                request.transaction_uid,
                request.references,
                subject.proposal.calling_ae_title,
                subject.caller.session if subject.caller is not None else "",
            )
            conversation.respond(context, command, SUCCESS)
            found.progress.outcome = Outcome.SUCCESS
            found.progress.reason = "the report follows on an association of its own"

    return n_action


def request_of(subject: Subject, payload: bytes, transfer_syntax_uid: str) -> Commitment:
    """Transaction UID and Referenced SOP Sequence (PS3.4 table J.3-1). Raises Malformed."""
    try:
        data_set = parse(payload, transfer_syntax_uid)
    except RemoteProtocolError as error:
        raise Malformed(f"the N-ACTION information: {error}") from error
    transaction_uid = _uid(data_set, tags.TRANSACTION_UID)
    sequence = data_set.get(tags.REFERENCED_SOP_SEQUENCE)
    items = sequence.value if sequence is not None and isinstance(sequence.value, tuple) else ()
    if not transaction_uid or not items:
        raise Malformed("a storage commitment request without Transaction UID or Referenced SOP Sequence")
    if len(items) > REFERENCES_MAX:
        raise Malformed(f"more than {REFERENCES_MAX} references in one storage commitment request")
    references = tuple(
        Reference(_uid(item, tags.REFERENCED_SOP_CLASS_UID), _uid(item, tags.REFERENCED_SOP_INSTANCE_UID))
        for item in items
    )
    return Commitment(subject, transaction_uid, references)


def report_of(transaction_uid: str, verdicts: Iterable[tuple[Reference, int]], syntax: str) -> tuple[int, bytes, int]:
    """Event type id, N-EVENT-REPORT information (PS3.4 table J.3-2), and how many failed."""
    kept: list[DataSet] = []
    failed: list[DataSet] = []
    for reference, reason in verdicts:
        elements = [
            Element(tags.REFERENCED_SOP_CLASS_UID, "UI", reference.sop_class_uid.encode()),
            Element(tags.REFERENCED_SOP_INSTANCE_UID, "UI", reference.sop_instance_uid.encode()),
        ]
        if reason:
            elements.append(Element(tags.FAILURE_REASON, "US", reason.to_bytes(2, "little")))
        (failed if reason else kept).append(DataSet(elements))
    information = [Element(tags.TRANSACTION_UID, "UI", transaction_uid.encode())]
    if failed:
        information.append(Element(tags.FAILED_SOP_SEQUENCE, "SQ", tuple(failed)))
    if kept:
        information.append(Element(tags.REFERENCED_SOP_SEQUENCE, "SQ", tuple(kept)))
    event_type = FAILURES_EXIST if failed else ALL_SUCCESSFUL
    data_set = DataSet(sorted(information, key=lambda element: element.tag))
    return event_type, encode(data_set, syntax), len(failed)


def _told_here(conversation: Conversation, context: AcceptedContext, command: Command, request: Commitment) -> Aside:
    """Takes the request; in its turn reports on this association, whose peer may have said more meanwhile."""
    with Entered(gateway.release(conversation.hall.do, request)) as found:
        conversation.respond(context, command, SUCCESS)
        yield
        event_type, information, failed = report_of(_transaction(found), found.verdicts(), context.transfer_syntax)
        found.progress.failed = failed
        report = Command.n_event_report_rq(1, STORAGE_COMMITMENT_PUSH, STORAGE_COMMITMENT_PUSH_INSTANCE, event_type)
        conversation.send(context, report, information)
        answer = yield
        status = answer.status if answer is not None else None
        found.progress.outcome = Outcome.SUCCESS
        found.progress.reason = f"the device answered the report with {status:04X}H" if status else ""


def _transaction(found: Found) -> str:
    request = found.request
    assert isinstance(request, Commitment)
    return request.transaction_uid


def report_there(
    found: Found, device: Device, dial: Callable[[Device, list[RequestedContext]], AbstractContextManager[Requestor]]
) -> int:
    """N-EVENT-REPORT on a new association, we as SCP by role selection (PS3.4 J.3.3): the status that the device answered.

    Raises UpstreamFault where it cannot be reached or takes no such context.
    """
    wanted = [
        RequestedContext(
            STORAGE_COMMITMENT_PUSH, (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN), as_scu=False, as_scp=True
        )
    ]
    with dial(device, wanted) as requestor:
        if not requestor.contexts:
            raise UpstreamFault(f"{device.name} takes no Storage Commitment with us as SCP")
        context = next(iter(requestor.contexts.values()))
        event_type, information, failed = report_of(_transaction(found), found.verdicts(), context.transfer_syntax)
        found.progress.failed = failed
        command = Command.n_event_report_rq(
            requestor.message_id(), STORAGE_COMMITMENT_PUSH, STORAGE_COMMITMENT_PUSH_INSTANCE, event_type
        )
        response = requestor.call(context, command, [information])
    return response.status or 0


def _uid(data_set: DataSet, tag: int) -> str:
    element = data_set.get(tag)
    value = element.value if element is not None else b""
    return value.rstrip(b"\0 ").decode("ascii", "replace") if isinstance(value, bytes) else ""
