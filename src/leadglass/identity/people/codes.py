"""Is this the code of the moment (RFC 6238), or a recovery code? Each is good once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

import pyotp

TOTP_STEP_SECONDS = 30
TOTP_DIGITS = 6
TOTP_STEPS_EITHER_WAY = 1  # a phone's clock may be so far off
RECOVERY_CODES = 10
RECOVERY_CODE_BYTES = 10
RECOVERY_CODE_CHARACTERS_MAX = 64


def new_secret() -> str:
    """Of an authenticator app: 160 bits, base32."""
    return pyotp.random_base32()


def otpauth(secret: str, name: str, site: str) -> str:
    """What the app reads from a picture."""
    return pyotp.TOTP(secret, interval=TOTP_STEP_SECONDS, digits=TOTP_DIGITS).provisioning_uri(
        name=name, issuer_name=f"Leadglass {site}"
    )


def counter_of(secret: str, code: object, now_ns: int) -> int | None:
    """The time step whose code this is, None where it is none. Every step is compared, whichever it is."""
    given = "".join(code.split()) if isinstance(code, str) else ""
    well_formed = len(given) == TOTP_DIGITS and given.isascii() and given.isdigit()
    made = pyotp.HOTP(secret, digits=TOTP_DIGITS)
    now = now_ns // 1_000_000_000 // TOTP_STEP_SECONDS
    found = None
    for counter in range(max(0, now - TOTP_STEPS_EITHER_WAY), now + TOTP_STEPS_EITHER_WAY + 1):
        same = hmac.compare_digest(made.at(counter), given if well_formed else "-" * TOTP_DIGITS)
        found = counter if same else found
    return found


def new_recovery_codes() -> list[str]:
    """Ten, of 80 bits each, to be printed: `abcd-efgh-ijkl-mnop`."""
    made = [base64.b32encode(secrets.token_bytes(RECOVERY_CODE_BYTES)).decode().lower() for _ in range(RECOVERY_CODES)]
    return ["-".join(each[at : at + 4] for at in range(0, len(each), 4)) for each in made]


def recovery_digest(code: object) -> str:
    """As it is kept: SHA-256, hex. A code of 80 random bits needs no slow hash."""
    given = code[:RECOVERY_CODE_CHARACTERS_MAX] if isinstance(code, str) else ""
    plain = "".join(each for each in given.casefold() if each.isalnum())
    return hashlib.sha256(plain.encode()).hexdigest()
