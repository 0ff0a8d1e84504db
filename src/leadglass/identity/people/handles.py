"""How does one step of a sign-in remember the other, whichever process answers? In a sealed handle that the browser carries.

Nothing is written for a stranger who only looks at the sign-in page. A handle is sealed (AES-256-GCM, the step's name as context), ends by the
clock, and its nonce is used up in the register by whatever it leads to.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from leadglass.site.factors import Nonce
from leadglass.terms import NotIdentified

HANDLE_SECONDS = 300
HANDLE_CHARACTERS_MAX = 8192
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Opened:
    """What a handle holds, and what uses it up."""

    facts: Mapping[str, Any]
    nonce: Nonce


class Handles:
    """`key`: 32 bytes, the same in every process of the site."""

    def __init__(self, key: bytes) -> None:
        self._sealing = AESGCM(key)

    def seal(self, step: str, facts: Mapping[str, object], now_ns: int) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        content = json.dumps({"until_ns": now_ns + HANDLE_SECONDS * 1_000_000_000, **facts}).encode()
        return base64.urlsafe_b64encode(nonce + self._sealing.encrypt(nonce, content, step.encode())).decode()

    def open(self, step: str, handle: object, now_ns: int) -> Opened:
        """Raises NotIdentified: not ours, of another step, or too old."""
        if not isinstance(handle, str) or len(handle) > HANDLE_CHARACTERS_MAX:
            raise NotIdentified(f"the {step} carries no handle of ours")
        try:
            sealed = base64.b64decode(handle, altchars=b"-_", validate=True)
            content = self._sealing.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], step.encode())
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise NotIdentified(f"the {step} carries a handle that is not ours, or of another step") from error
        facts = json.loads(content)
        until_ns = int(facts.pop("until_ns"))
        if now_ns >= until_ns:
            raise NotIdentified(f"the {step} took longer than {HANDLE_SECONDS} s: begin again")
        return Opened(facts, Nonce(sealed[:_NONCE_BYTES].hex(), until_ns))


def to_base64url(content: bytes) -> str:
    """RFC 4648 5, without padding: how WebAuthn writes bytes."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Of what we wrote ourselves. Raises ValueError."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
