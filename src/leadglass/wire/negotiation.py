"""Which presentation contexts, in which roles, do the two sides have in common? Pure functions over A-ASSOCIATE-RQ and -AC.

`accept` answers a request by what a service supports; who may ask at all, and for what, the caller has decided before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from leadglass.wire.errors import LocalProtocolError
from leadglass.wire.pdu import AssociateAC, AssociateRQ, ContextResult, PresentationContext, PresentationContextResult
from leadglass.wire.transitions import Role
from leadglass.wire.user_information import (
    AsynchronousWindow,
    ExtendedNegotiation,
    RoleSelection,
    UserIdentity,
    UserInformation,
)

IMPLEMENTATION_CLASS_UID = "2.25.303794959446107376411638519240030535997"  # ours (PS3.7 D.3.3.2, PS3.5 B.2)
IMPLEMENTATION_VERSION_NAME = "LEADGLASS"

PRESENTATION_CONTEXTS_MAX = 128  # odd identifiers of one byte (PS3.8 9.3.2.2)

_DEFAULT_ROLES = (True, False)  # without role selection the requestor is SCU only (PS3.7 D.3.3.4)


@dataclass(frozen=True, slots=True)
class Supported:
    """What we do for an abstract syntax.

    `transfer_syntaxes`: a tuple is our order of preference; of a frozenset the peer's first wins, so that instances are stored as sent.
    `as_scp`, `as_scu`: roles that we are ready to take.
    """

    transfer_syntaxes: tuple[str, ...] | frozenset[str]
    as_scp: bool = True
    as_scu: bool = False


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context that both sides agreed on. `as_scu`, `as_scp`: the roles that *we* may take in it."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    as_scp: bool
    as_scu: bool

    @property
    def may_send_requests(self) -> bool:
        """True where we may invoke operations (SCU)."""
        return self.as_scu

    @property
    def may_receive_requests(self) -> bool:
        """True where the peer may invoke operations (SCP)."""
        return self.as_scp


@dataclass(frozen=True, slots=True)
class RequestedContext:
    """What we ask for: an abstract syntax in one of these transfer syntaxes, and the roles that *we* want in it."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    as_scu: bool = True
    as_scp: bool = False


def request(
    *,
    calling_ae_title: str,
    called_ae_title: str,
    contexts: Sequence[RequestedContext],
    pdu_length_max_bytes: int,
    user_identity: UserIdentity | None = None,
) -> AssociateRQ:
    """The A-ASSOCIATE-RQ for up to 128 contexts. Roles are proposed where they are not the default (PS3.7 D.3.3.4)."""
    if not 0 < len(contexts) <= PRESENTATION_CONTEXTS_MAX:
        raise LocalProtocolError(
            f"{len(contexts)} presentation contexts, 1 to {PRESENTATION_CONTEXTS_MAX} can be asked for"
        )
    roles: dict[str, RoleSelection] = {}
    for wanted in contexts:
        uid = wanted.abstract_syntax
        so_far = roles.get(uid, RoleSelection(uid, False, False))
        roles[uid] = RoleSelection(uid, so_far.scu_role or wanted.as_scu, so_far.scp_role or wanted.as_scp)
    information = UserInformation(
        maximum_length=pdu_length_max_bytes,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        role_selections=tuple(role for role in roles.values() if (role.scu_role, role.scp_role) != _DEFAULT_ROLES),
        user_identity=user_identity,
    )
    proposed = tuple(
        PresentationContext(2 * number + 1, wanted.abstract_syntax, wanted.transfer_syntaxes)
        for number, wanted in enumerate(contexts)
    )
    return AssociateRQ(called_ae_title, calling_ae_title, proposed, information)


def accept(
    rq: AssociateRQ,
    supported: Callable[[str], Supported | None],
    *,
    pdu_length_max_bytes: int,
    extended: Callable[[ExtendedNegotiation], bytes | None] | None = None,
    user_identity_response: bytes | None = b"",
) -> AssociateAC:
    """The A-ASSOCIATE-AC that grants of `rq` what `supported(abstract syntax)` says.

    `extended` answers SOP class extended negotiation, None where it has nothing to say (PS3.7 D.3.3.5); without it none is answered.
    `user_identity_response` is sent if the peer asked for one (PS3.7 D.3.3.7.2); None: the identity was not taken. An asynchronous window is answered with 1, 1.
    """
    information = rq.user_information
    roles = {role.sop_class_uid: role for role in information.role_selections}
    found = {context.abstract_syntax: supported(context.abstract_syntax) for context in rq.presentation_contexts}
    answered_roles = tuple(
        RoleSelection(uid, role.scu_role and ours.as_scp, role.scp_role and ours.as_scu)
        for uid, role in roles.items()
        if (ours := found.get(uid)) is not None
    )
    identity = information.user_identity
    answer = UserInformation(
        maximum_length=pdu_length_max_bytes,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        asynchronous_window=AsynchronousWindow(1, 1) if information.asynchronous_window is not None else None,
        role_selections=answered_roles,
        extended_negotiations=_extended(information, found, extended),
        user_identity_response=(
            user_identity_response if identity is not None and identity.positive_response_requested else None
        ),
    )
    results = tuple(
        _answer(context, found[context.abstract_syntax], roles.get(context.abstract_syntax))
        for context in rq.presentation_contexts
    )
    return AssociateAC(rq.called_ae_title, rq.calling_ae_title, results, answer)


def _answer(
    context: PresentationContext, ours: Supported | None, role: RoleSelection | None
) -> PresentationContextResult:
    """One proposed context: 1. abstract syntax, 2. a role for us, 3. a transfer syntax (PS3.8 9.3.3.2)."""
    first = context.transfer_syntaxes[0]  # of no meaning in a rejection, and some peers want one there
    if ours is None:
        return PresentationContextResult(context.id, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, first)
    scu, scp = _DEFAULT_ROLES if role is None else (role.scu_role, role.scp_role)
    if not ((scu and ours.as_scp) or (scp and ours.as_scu)):
        return PresentationContextResult(context.id, ContextResult.USER_REJECTION, first)
    chosen = choose_transfer_syntax(context.transfer_syntaxes, ours.transfer_syntaxes)
    if chosen is None:
        return PresentationContextResult(context.id, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, first)
    return PresentationContextResult(context.id, ContextResult.ACCEPTANCE, chosen)


def choose_transfer_syntax(proposed: tuple[str, ...], ours: tuple[str, ...] | frozenset[str]) -> str | None:
    """By our order of preference where we have one, else the peer's first that we know."""
    if isinstance(ours, tuple):
        return next((uid for uid in ours if uid in proposed), None)
    return next((uid for uid in proposed if uid in ours), None)


def _extended(
    information: UserInformation,
    found: dict[str, Supported | None],
    extended: Callable[[ExtendedNegotiation], bytes | None] | None,
) -> tuple[ExtendedNegotiation, ...]:
    if extended is None:
        return ()
    answers = (
        (proposed.sop_class_uid, extended(proposed))
        for proposed in information.extended_negotiations
        if found.get(proposed.sop_class_uid) is not None
    )
    return tuple(ExtendedNegotiation(uid, answer) for uid, answer in answers if answer is not None)


def disagreement(rq: AssociateRQ, ac: AssociateAC) -> str:
    """How an answer does not belong to its request, in words; "" where it does (PS3.8 9.3.3.2)."""
    proposed = {context.id: context for context in rq.presentation_contexts}
    for result in ac.presentation_contexts:
        context = proposed.get(result.id)
        if context is None:
            return f"presentation context {result.id} was answered and never proposed"
        if result.result is ContextResult.ACCEPTANCE and result.transfer_syntax not in context.transfer_syntaxes:
            return (
                f"presentation context {result.id} was accepted with {result.transfer_syntax}, which was not proposed"
            )
    return ""


def accepted_contexts(rq: AssociateRQ, ac: AssociateAC, role: Role) -> dict[int, AcceptedContext]:
    """The agreed presentation contexts by identifier, roles as `role` has them (PS3.7 D.3.3.4)."""
    proposed = {context.id: context for context in rq.presentation_contexts}
    asked = {selection.sop_class_uid: selection for selection in rq.user_information.role_selections}
    granted = {selection.sop_class_uid: selection for selection in ac.user_information.role_selections}
    contexts: dict[int, AcceptedContext] = {}
    for result in ac.presentation_contexts:
        if result.result is not ContextResult.ACCEPTANCE:
            continue
        abstract_syntax = proposed[result.id].abstract_syntax
        scu, scp = _DEFAULT_ROLES
        if abstract_syntax in asked and abstract_syntax in granted:
            ask, grant = asked[abstract_syntax], granted[abstract_syntax]
            scu, scp = ask.scu_role and grant.scu_role, ask.scp_role and grant.scp_role
        as_scp, as_scu = (scu, scp) if role is Role.ACCEPTOR else (scp, scu)
        contexts[result.id] = AcceptedContext(result.id, abstract_syntax, result.transfer_syntax, as_scp, as_scu)
    return contexts
