"""What does a passkey say? A software authenticator: real ES256 keys and signatures, CBOR, attestation "none"; it does wrong what it is told to."""

from __future__ import annotations

import hashlib
import json
import secrets
import struct
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


@dataclass
class Authenticator:
    """One passkey. `counts` False: a synchronised one, whose sign count stays 0."""

    origin: str
    counts: bool = True
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    sign_count: int = 0
    user: str = ""

    @property
    def id(self) -> str:
        return bytes_to_base64url(self.credential)

    def create(
        self, options: dict[str, Any], *, verified: bool = True, origin: str = "", rp_id: str = ""
    ) -> dict[str, Any]:
        """Answers `navigator.credentials.create`."""
        self.user = options["user"]["id"]
        numbers = self.key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + struct.pack(">H", len(self.credential)) + self.credential + cbor2.dumps(cose)
        data = self._data(rp_id or options["rp"]["id"], ATTESTED, verified) + attested
        return self._answer(
            {
                "clientDataJSON": self._client("webauthn.create", options["challenge"], origin),
                "attestationObject": bytes_to_base64url(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})),
                "transports": ["internal"],
            }
        )

    def get(
        self, options: dict[str, Any], *, verified: bool = True, origin: str = "", rp_id: str = "", key: Any = None
    ) -> dict[str, Any]:
        """Answers `navigator.credentials.get`."""
        data = self._data(rp_id or options["rpId"], 0, verified)
        client = self._client("webauthn.get", options["challenge"], origin)
        signed = data + hashlib.sha256(base64url_to_bytes(client)).digest()
        signature = (key or self.key).sign(signed, ec.ECDSA(hashes.SHA256()))
        return self._answer(
            {
                "clientDataJSON": client,
                "authenticatorData": bytes_to_base64url(data),
                "signature": bytes_to_base64url(signature),
                "userHandle": self.user,
            }
        )

    def _data(self, rp_id: str, flags: int, verified: bool) -> bytes:
        self.sign_count += int(self.counts)
        flags |= PRESENT | (VERIFIED if verified else 0)
        return hashlib.sha256(rp_id.encode()).digest() + bytes([flags]) + struct.pack(">I", self.sign_count)

    def _client(self, kind: str, challenge: str, origin: str) -> str:
        said = {"type": kind, "challenge": challenge, "origin": origin or self.origin, "crossOrigin": False}
        return bytes_to_base64url(json.dumps(said).encode())

    def _answer(self, response: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self.id,
            "rawId": self.id,
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        }
