"""Negotiation: which contexts are accepted, for what reason others are not, and which roles come out."""

from __future__ import annotations

import pytest

from leadglass.wire.errors import LocalProtocolError
from leadglass.wire.limits import AssociationLimits
from leadglass.wire.negotiation import (
    AcceptedContext,
    RequestedContext,
    Supported,
    accept,
    accepted_contexts,
    choose_transfer_syntax,
    disagreement,
)
from leadglass.wire.negotiation import request as our_request
from leadglass.wire.pdu import (
    AssociateAC,
    AssociateRQ,
    ContextResult,
    PduType,
    PresentationContext,
    PresentationContextResult,
    decode,
    encode,
)
from leadglass.wire.transitions import Role
from leadglass.wire.user_information import (
    AsynchronousWindow,
    ExtendedNegotiation,
    RoleSelection,
    UserIdentity,
    UserInformation,
)

CT, FIND, IMPLICIT, EXPLICIT, JPEG = "1.2.1", "1.2.2", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.4.70"
SUPPORTED = {CT: Supported(frozenset({IMPLICIT, EXPLICIT}), as_scu=True), FIND: Supported((EXPLICIT, IMPLICIT))}


def request(*contexts: PresentationContext, **information: object) -> AssociateRQ:
    return AssociateRQ("A", "B", contexts, UserInformation(0, **information))  # type: ignore[arg-type]


def answer(rq: AssociateRQ, **options: object) -> AssociateAC:
    return accept(rq, SUPPORTED.get, pdu_length_max_bytes=65_536, **options)  # type: ignore[arg-type]


def test_each_context_gets_its_own_answer() -> None:
    ac = answer(
        request(
            PresentationContext(1, CT, (JPEG, IMPLICIT, EXPLICIT)),
            PresentationContext(3, CT, (JPEG,)),
            PresentationContext(5, "1.2.3", (IMPLICIT,)),
            PresentationContext(7, FIND, (IMPLICIT, EXPLICIT)),
        )
    )
    assert ac.presentation_contexts == (
        PresentationContextResult(1, ContextResult.ACCEPTANCE, IMPLICIT),  # the peer's first that will do
        PresentationContextResult(3, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, JPEG),
        PresentationContextResult(5, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, IMPLICIT),
        PresentationContextResult(7, ContextResult.ACCEPTANCE, EXPLICIT),  # our order
    )
    assert ac.user_information.maximum_length == 65_536
    assert ac.user_information.implementation_class_uid
    assert (ac.called_ae_title, ac.calling_ae_title) == ("A", "B")
    read = decode(PduType.ASSOCIATE_AC, encode(ac)[6:], AssociationLimits())
    assert isinstance(read, AssociateAC)
    assert read.presentation_contexts[0] == ac.presentation_contexts[0]


def test_nothing_is_answered_that_was_not_asked() -> None:
    information = answer(request(PresentationContext(1, CT, (IMPLICIT,)))).user_information
    assert information.asynchronous_window is None
    assert information.role_selections == ()
    assert information.extended_negotiations == ()
    assert information.user_identity_response is None


@pytest.mark.parametrize(
    ("abstract", "asked", "granted", "as_scp", "as_scu"),
    [
        (CT, None, None, True, False),
        (CT, (True, True), (True, True), True, True),
        (CT, (False, True), (False, True), False, True),
        (CT, (True, False), (True, False), True, False),
        (FIND, (True, True), (True, False), True, False),
    ],
)
def test_roles(
    abstract: str, asked: tuple[bool, bool] | None, granted: tuple[bool, bool] | None, as_scp: bool, as_scu: bool
) -> None:
    roles = () if asked is None else (RoleSelection(abstract, *asked),)
    rq = request(PresentationContext(1, abstract, (IMPLICIT,)), role_selections=roles)
    ac = answer(rq)
    assert ac.user_information.role_selections == (() if granted is None else (RoleSelection(abstract, *granted),))
    ours = accepted_contexts(rq, ac, Role.ACCEPTOR)[1]
    assert ours == AcceptedContext(1, abstract, IMPLICIT, as_scp, as_scu)
    assert (ours.may_receive_requests, ours.may_send_requests) == (as_scp, as_scu)
    theirs = accepted_contexts(rq, ac, Role.REQUESTOR)[1]
    assert (theirs.as_scu, theirs.as_scp) == (as_scp, as_scu)


def test_no_role_in_common_is_a_user_rejection() -> None:
    rq = request(PresentationContext(1, FIND, (IMPLICIT,)), role_selections=(RoleSelection(FIND, False, True),))
    ac = answer(rq)
    assert ac.presentation_contexts[0].result is ContextResult.USER_REJECTION
    assert accepted_contexts(rq, ac, Role.ACCEPTOR) == {}


def test_a_role_for_an_unknown_class_is_not_answered() -> None:
    rq = request(PresentationContext(1, "1.2.3", (IMPLICIT,)), role_selections=(RoleSelection("1.2.3", True, True),))
    assert answer(rq).user_information.role_selections == ()


def test_a_granted_role_that_was_not_asked_is_none() -> None:
    rq = request(PresentationContext(1, CT, (IMPLICIT,)))
    result = PresentationContextResult(1, ContextResult.ACCEPTANCE, IMPLICIT)
    ac = AssociateAC("A", "B", (result,), UserInformation(0, role_selections=(RoleSelection(CT, True, True),)))
    assert accepted_contexts(rq, ac, Role.REQUESTOR)[1] == AcceptedContext(1, CT, IMPLICIT, as_scp=False, as_scu=True)


def test_one_operation_at_a_time() -> None:
    rq = request(PresentationContext(1, CT, (IMPLICIT,)), asynchronous_window=AsynchronousWindow(0, 8))
    assert answer(rq).user_information.asynchronous_window == AsynchronousWindow(1, 1)


@pytest.mark.parametrize(("wanted", "given"), [(True, b"ticket"), (False, None)])
def test_a_user_identity_is_answered_if_it_asks(wanted: bool, given: bytes | None) -> None:
    rq = request(PresentationContext(1, CT, (IMPLICIT,)), user_identity=UserIdentity(3, wanted, b"token"))
    assert answer(rq, user_identity_response=b"ticket").user_information.user_identity_response == given
    assert answer(rq, user_identity_response=None).user_information.user_identity_response is None


def test_extended_negotiation_is_answered_by_who_knows() -> None:
    asked = tuple(ExtendedNegotiation(uid, b"\1\1") for uid in (CT, FIND, "1.2.3"))
    rq = request(
        PresentationContext(1, CT, (IMPLICIT,)), PresentationContext(3, FIND, (IMPLICIT,)), extended_negotiations=asked
    )
    assert answer(rq).user_information.extended_negotiations == ()
    said = answer(rq, extended=lambda proposed: b"\1\0" if proposed.sop_class_uid == FIND else None)
    assert said.user_information.extended_negotiations == (ExtendedNegotiation(FIND, b"\1\0"),)


def test_choice_of_transfer_syntax() -> None:
    assert choose_transfer_syntax((JPEG, IMPLICIT), frozenset({IMPLICIT, JPEG})) == JPEG
    assert choose_transfer_syntax((JPEG, IMPLICIT), (IMPLICIT, JPEG)) == IMPLICIT
    assert choose_transfer_syntax((JPEG,), ()) is None
    assert choose_transfer_syntax((JPEG,), frozenset()) is None


def test_an_answer_that_does_not_belong_to_the_request() -> None:
    rq = request(PresentationContext(1, CT, (IMPLICIT,)))
    for result, word in (
        (PresentationContextResult(3, ContextResult.ACCEPTANCE, IMPLICIT), "never proposed"),
        (PresentationContextResult(1, ContextResult.ACCEPTANCE, JPEG), "not proposed"),
        (PresentationContextResult(1, ContextResult.USER_REJECTION, JPEG), ""),
    ):
        said = disagreement(rq, AssociateAC("A", "B", (result,), UserInformation(0)))
        assert word in said
        assert bool(word) is bool(said)


def ask(*contexts: RequestedContext) -> AssociateRQ:
    return our_request(calling_ae_title="US", called_ae_title="THEM", contexts=contexts, pdu_length_max_bytes=131_072)


def test_what_we_ask_for() -> None:
    rq = ask(
        RequestedContext(CT, (EXPLICIT,)),
        RequestedContext(FIND, (IMPLICIT,), as_scu=False, as_scp=True),
        RequestedContext(CT, (JPEG,)),
    )
    assert decode(PduType.ASSOCIATE_RQ, encode(rq)[6:], AssociationLimits()) == rq
    assert (rq.calling_ae_title, rq.called_ae_title) == ("US", "THEM")
    assert [context.id for context in rq.presentation_contexts] == [1, 3, 5]
    assert rq.user_information.role_selections == (RoleSelection(FIND, False, True),)


def test_roles_of_one_class_are_asked_for_together() -> None:
    rq = ask(RequestedContext(CT, (EXPLICIT,)), RequestedContext(CT, (JPEG,), as_scu=False, as_scp=True))
    assert rq.user_information.role_selections == (RoleSelection(CT, True, True),)


@pytest.mark.parametrize("count", [0, 129])
def test_as_many_contexts_as_there_are_identifiers(count: int) -> None:
    with pytest.raises(LocalProtocolError):
        ask(*[RequestedContext(CT, (EXPLICIT,))] * count)
    assert len(ask(*[RequestedContext(CT, (EXPLICIT,))] * 128).presentation_contexts) == 128
