"""Is this assertion of that passkey, made here and now, by somebody the authenticator verified? WebAuthn Level 3, sections 7.1 and 7.2.

What is checked, each of it always:
    (1) it answers our challenge, which is used up by it;
    (2) it was made for our origin and our relying-party id, so that another site's page is given nothing that works here;
    (3) the user was present and verified (PIN or biometric): a passkey is both factors;
    (4) the signature is of the key that was enrolled;
    (5) the sign count went on: one that did not is a copy's. Synchronised passkeys always say 0, and are let in while they do.

The library is imported where it is used: it costs a quarter of a second, which no command and no DIMSE worker should pay.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from leadglass.identity.people.handles import from_base64url, to_base64url
from leadglass.site.factors import Passkey
from leadglass.terms import Fault, NotIdentified, Person

if TYPE_CHECKING:
    from webauthn.helpers.structs import PublicKeyCredentialDescriptor

CREDENTIAL_CHARACTERS_MAX = 65_536  # of an answer as JSON
LABEL_CHARACTERS_MAX = 64
TIMEOUT_MILLISECONDS = 120_000


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a page of ours is, `https://HOST[:PORT]`, and the relying-party id of passkeys there: its host name, or a parent of it.

    Raises Fault where browsers would not use passkeys: an address instead of a name, no https except on localhost.
    """

    scheme_host_port: str
    rp_id: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.scheme_host_port)
        host = parts.hostname or ""
        if _is_address(host) or _is_address(self.rp_id) or not self.rp_id:
            raise Fault(f"passkeys belong to a host name, not to {self.rp_id or host}", hint="set [site] name to one")
        if host != self.rp_id and not host.endswith(f".{self.rp_id}"):
            raise Fault(f"{host} cannot use passkeys of {self.rp_id}", hint="set [site] name to the name people open")
        if parts.scheme != "https" and host != "localhost":
            raise Fault(
                f"browsers use passkeys over https only, not at {self.scheme_host_port}", hint="use the https door"
            )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def request_options(origin: Origin, allowed: Sequence[Passkey]) -> tuple[bytes, dict[str, Any]]:
    """Challenge and PublicKeyCredentialRequestOptionsJSON. `allowed`: empty for whatever passkey the browser knows for us."""
    from webauthn import generate_authentication_options
    from webauthn.helpers import options_to_json_dict
    from webauthn.helpers.structs import UserVerificationRequirement

    options = generate_authentication_options(
        rp_id=origin.rp_id,
        timeout=TIMEOUT_MILLISECONDS,
        allow_credentials=_descriptors(allowed),
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options.challenge, options_to_json_dict(options)


def creation_options(origin: Origin, person: Person, known: Sequence[Passkey]) -> tuple[bytes, dict[str, Any]]:
    """Challenge and PublicKeyCredentialCreationOptionsJSON; an authenticator that holds one of `known` makes no second one."""
    from webauthn import generate_registration_options
    from webauthn.helpers import options_to_json_dict
    from webauthn.helpers.structs import (
        AuthenticatorSelectionCriteria,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    options = generate_registration_options(
        rp_id=origin.rp_id,
        rp_name="Leadglass",
        user_name=person.name,
        user_id=bytes.fromhex(person.id),
        user_display_name=person.display or person.name,
        timeout=TIMEOUT_MILLISECONDS,
        exclude_credentials=_descriptors(known),
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            require_resident_key=True,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
    )
    return options.challenge, options_to_json_dict(options)


def credential_of(assertion: object) -> str:
    """The id that an assertion says of itself, to look the passkey up by. Raises NotIdentified."""
    credential = assertion.get("id") if isinstance(assertion, dict) else None
    if not isinstance(credential, str) or not credential.isascii():
        raise NotIdentified("the passkey's answer names no credential")
    return credential


def verify_assertion(passkey: Passkey, assertion: object, challenge: bytes, origin: Origin) -> tuple[int, bool]:
    """The new sign count, and whether the passkey is backed up by now. Raises NotIdentified; the reason names the check."""
    from webauthn import verify_authentication_response

    answer = _bounded(assertion)
    handle = answer.get("response", {}).get("userHandle") if isinstance(answer.get("response"), dict) else None
    if handle and handle != to_base64url(bytes.fromhex(passkey.person)):
        raise NotIdentified("the passkey says another person than the one it is enrolled for")
    try:
        verified = verify_authentication_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=origin.rp_id,
            expected_origin=origin.scheme_host_port,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=True,
        )
    except Exception as error:  # whatever a parser of hostile bytes raises is a no
        raise NotIdentified(
            f"the passkey {passkey.label or passkey.credential[:12]} does not verify: {error}"
        ) from error
    return verified.new_sign_count, verified.credential_backed_up


def verify_creation(
    person: Person, credential: object, challenge: bytes, origin: Origin, label: str, now_ns: int
) -> Passkey:
    """A new passkey of a person. Raises NotIdentified; the reason names the check."""
    from webauthn import verify_registration_response

    try:
        verified = verify_registration_response(
            credential=_bounded(credential),
            expected_challenge=challenge,
            expected_rp_id=origin.rp_id,
            expected_origin=origin.scheme_host_port,
            require_user_verification=True,
        )
    except NotIdentified:
        raise
    except Exception as error:  # whatever a parser of hostile bytes raises is a no
        raise NotIdentified(f"the new passkey does not verify: {error}") from error
    return Passkey(
        credential=to_base64url(verified.credential_id),
        person=person.id,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        label=" ".join(label.split())[:LABEL_CHARACTERS_MAX],
        aaguid=verified.aaguid,
        backed_up=verified.credential_backed_up,
        created_ns=now_ns,
        last_used_ns=0,
    )


def _bounded(answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise NotIdentified("the passkey's answer is no JSON object")
    try:
        length = len(json.dumps(answer))
    except (TypeError, ValueError, RecursionError) as error:
        raise NotIdentified("the passkey's answer is no JSON") from error
    if length > CREDENTIAL_CHARACTERS_MAX:
        raise NotIdentified(f"the passkey's answer is longer than {CREDENTIAL_CHARACTERS_MAX} characters")
    return answer


def _descriptors(passkeys: Sequence[Passkey]) -> list[PublicKeyCredentialDescriptor]:
    from webauthn.helpers.structs import PublicKeyCredentialDescriptor

    return [PublicKeyCredentialDescriptor(id=from_base64url(each.credential)) for each in passkeys]
