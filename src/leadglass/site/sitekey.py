"""Where does every other key come from? The site key: one secret, held outside the data, from which purposes derive their own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from leadglass.terms import KeyFault

KEY_LENGTH_BYTES = 32
NONCE_LENGTH_BYTES = 12
_MARK = "leadglass-site-key:1"


class SiteKey:
    """The site key, open. Its repr shows nothing."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_LENGTH_BYTES:
            raise KeyFault(f"a site key has {KEY_LENGTH_BYTES} bytes, this one {len(secret)}")
        self._secret = secret

    def __repr__(self) -> str:
        return "SiteKey(...)"

    @classmethod
    def create(cls, path: Path) -> SiteKey:
        """A new key in a file of its own, mode 0600. Raises KeyFault where one is there already."""
        key = cls(os.urandom(KEY_LENGTH_BYTES))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise KeyFault(
                f"{path} is there already", hint="a site key is never made over another: choose another path"
            ) from None
        with os.fdopen(descriptor, "w") as file:
            file.write(key.text() + "\n")
            file.flush()
            os.fsync(file.fileno())
        return key

    @classmethod
    def open(cls, reference: str, site_dir: Path) -> SiteKey:
        """From `file:PATH` (relative to the site) or `credential:NAME` (systemd). Raises KeyFault."""
        scheme, _, rest = reference.partition(":")
        match scheme:
            case "file":
                path = site_dir / rest
            case "credential":
                directory = os.environ.get("CREDENTIALS_DIRECTORY")
                if not directory:
                    raise KeyFault(f"no credential {rest}: this process has none", hint="LoadCredential= in the unit")
                return cls.parse(_read(Path(directory) / rest))
            case _:
                raise KeyFault(f"{scheme!r} is no way to a key here", hint="[site] key = file:PATH or credential:NAME")
        text = _read(path)
        if path.stat().st_mode & 0o077:
            raise KeyFault(
                f"others can read the site key {path}", hint=f"chmod 600 {path}; if they did, make a new site"
            )
        return cls.parse(text)

    def text(self) -> str:
        """The file's one line: mark, key, check value."""
        return f"{_MARK}:{base64.b64encode(self._secret).decode()}:{self._check()}"

    @classmethod
    def parse(cls, text: str) -> SiteKey:
        """From its line. Raises KeyFault where the check value does not fit."""
        mark, _, rest = text.strip().rpartition(f"{_MARK}:")
        encoded, _, check = rest.partition(":")
        try:
            key = cls(base64.b64decode(encoded, validate=True))
        except ValueError as error:
            raise KeyFault("this is not a site key", hint="restore it from the recovery kit") from error
        if mark or not hmac.compare_digest(check, key._check()):
            raise KeyFault(
                "the site key is damaged: its check value does not fit", hint="restore it from the recovery kit"
            )
        return key

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose: `index`, `register`, `journal/2026-11`, ..."""
        info = b"leadglass/1/" + purpose.encode()
        return HKDF(hashes.SHA256(), KEY_LENGTH_BYTES, salt=None, info=info).derive(self._secret)

    def seal(self, purpose: str, plaintext: bytes, context: bytes) -> bytes:
        """Nonce and AES-256-GCM ciphertext under the purpose's key, bound to its context."""
        return seal(self.derive(purpose), plaintext, context)

    def unseal(self, purpose: str, sealed: bytes, context: bytes) -> bytes:
        """Raises KeyFault."""
        return unseal(self.derive(purpose), sealed, context)

    def _check(self) -> str:
        return hashlib.sha256(b"leadglass site key check" + self._secret).hexdigest()[:8]


def seal(key: bytes, plaintext: bytes, context: bytes) -> bytes:
    """A random nonce, then the ciphertext with its tag."""
    nonce = os.urandom(NONCE_LENGTH_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Raises KeyFault: another key, another context, or other bytes."""
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_LENGTH_BYTES], sealed[NONCE_LENGTH_BYTES:], context)
    except Exception as error:
        raise KeyFault("what is sealed does not open with this key") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError as error:
        raise KeyFault(f"the site key {path} is missing", hint="restore it from the recovery kit") from error
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFault(f"the site key {path} cannot be read: {error}", hint="check owner and permissions") from error
