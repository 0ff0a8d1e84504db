"""What does a peer say of itself when it asks for an association? As it stands in the A-ASSOCIATE-RQ; nothing of it is believed yet."""

from __future__ import annotations

from leadglass.identity.people.seats import JWT, USERNAME, USERNAME_PASSCODE
from leadglass.identity.people.tokens import TOKEN_CHARACTERS_MAX
from leadglass.terms import Proposal
from leadglass.wire.pdu import AssociateRQ

USER_NAME_CHARACTERS_MAX = 64
# User identities that a positive response is given to where one is asked for: a token that held, and a name that is noted (PS3.15 B.4). For a
# Kerberos ticket or a SAML assertion there is no response that we could make (PS3.7 D.3.3.7.2).
ANSWERED = frozenset({USERNAME, USERNAME_PASSCODE, JWT})


def proposal_of(rq: AssociateRQ) -> Proposal:
    information = rq.user_information
    identity = information.user_identity
    kind = identity.type if identity is not None else 0
    primary = identity.primary if identity is not None else b""
    return Proposal(
        calling_ae_title=rq.calling_ae_title,
        called_ae_title=rq.called_ae_title,
        implementation_class_uid=information.implementation_class_uid,
        implementation_version_name=information.implementation_version_name,
        user_identity_type=kind,
        user_name=_shown(primary) if kind in (USERNAME, USERNAME_PASSCODE) else "",
        token=primary[: TOKEN_CHARACTERS_MAX + 1] if kind == JWT else b"",  # one longer than any is refused as too long
        abstract_syntaxes=tuple(context.abstract_syntax for context in rq.presentation_contexts),
    )


def _shown(name: bytes) -> str:
    text = name[: 4 * USER_NAME_CHARACTERS_MAX].decode("utf-8", "replace")
    return "".join(each if each.isprintable() else "?" for each in text.rstrip("\0 "))[:USER_NAME_CHARACTERS_MAX]
