"""Query (PS3.4 C.4.1) as SCP: C-FIND in the patient and the study root, cancellable between any two answers."""

from __future__ import annotations

import time
from collections.abc import Mapping

from leadglass import gateway
from leadglass.doors.blocking import Entered
from leadglass.doors.dimse.conversation import Conversation
from leadglass.doors.dimse.identifiers import answer_of, keys_of, level_of
from leadglass.policy.people import DECIDE_AGAIN_SECONDS
from leadglass.terms import Found, Outcome, Query, Root, Unsupported
from leadglass.wire import uids
from leadglass.wire.association import AcceptedContext
from leadglass.wire.dimse import Command

SUCCESS, CANCEL, PENDING, PENDING_KEYS_UNSUPPORTED = 0x0000, 0xFE00, 0xFF00, 0xFF01

ROOTS: Mapping[str, Root] = {
    uids.PATIENT_ROOT_FIND: Root.PATIENT,
    uids.PATIENT_ROOT_MOVE: Root.PATIENT,
    uids.PATIENT_ROOT_GET: Root.PATIENT,
    uids.STUDY_ROOT_FIND: Root.STUDY,
    uids.STUDY_ROOT_MOVE: Root.STUDY,
    uids.STUDY_ROOT_GET: Root.STUDY,
}


def root_of(context: AcceptedContext) -> Root:
    """The information model of a presentation context (PS3.4 C.3)."""
    try:
        return ROOTS[context.abstract_syntax]
    except KeyError:
        raise Unsupported(
            f"{context.abstract_syntax} is not a query or retrieve SOP class that is offered here"
        ) from None


class Lasting:
    """What lasts is decided again a few times a second, by what holds then."""

    def __init__(self, conversation: Conversation, found: Found) -> None:
        self._do, self._request = conversation.hall.do, found.request
        self._decided = time.monotonic()

    def still(self) -> None:
        """Raises Refused where it would not be allowed any more."""
        now = time.monotonic()
        if now - self._decided >= DECIDE_AGAIN_SECONDS:
            self._do.decide(self._request.subject, self._request)
            self._decided = now


def c_find(conversation: Conversation, context: AcceptedContext, command: Command) -> None:
    """C-FIND (PS3.7 9.1.2): pending answers one by one, C-CANCEL looked for between them, then the final status."""
    subject = conversation.subject
    assert subject is not None
    root = root_of(context)
    identifier = conversation.identifier()
    keys = keys_of(identifier, context.transfer_syntax)
    query = Query(subject, root, level_of(keys, root), keys)
    with Entered(gateway.release(conversation.hall.do, query)) as found:
        progress, lasting = found.progress, Lasting(conversation, found)
        for row in found.rows():
            lasting.still()
            if conversation.cancelled(command.message_id):
                progress.reason = "cancelled by the peer"
                conversation.respond(context, command, CANCEL)
                return
            data = answer_of(row, query, context.transfer_syntax)
            conversation.respond(context, command, PENDING, data=data, more=True)
            progress.completed += 1
        progress.total = progress.completed
        conversation.respond(context, command, SUCCESS)
        progress.outcome, progress.reason = Outcome.SUCCESS, ""
