"""Where does every other key come from? The site key: one secret, held outside the data, from which purposes derive their own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from leadglass.site.writer import sync_directory
from leadglass.terms import KeyFault

KEY_LENGTH_BYTES = 32
NONCE_LENGTH_BYTES = 12
ID_LENGTH_BYTES = 8
DIFFERENT_BYTES_MIN = 12  # of 32 that chance drew about 30 differ; fewer than this in one of 10^25 keys
_FILE_LENGTH_MAX_BYTES = 4096
_NAME, _VERSION = "leadglass-site-key", "1"
_RESTORE = "restore it from the recovery kit"


class SiteKey:
    """The site key, open. `id` names it in files without telling anything about it; its repr shows nothing else."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_LENGTH_BYTES:
            raise KeyFault(f"a site key has {KEY_LENGTH_BYTES} bytes, this one {len(secret)}", hint=_RESTORE)
        if len(set(secret)) < DIFFERENT_BYTES_MIN:
            raise KeyFault("that site key was not drawn by chance: anybody may guess it", hint=_RESTORE)
        self._secret = secret
        self._derived: dict[str, bytes] = {}
        self.id = self.derive("id")[:ID_LENGTH_BYTES]

    def __repr__(self) -> str:
        return f"SiteKey({self.id.hex()})"

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
        sync_directory(path.parent)
        return key

    @classmethod
    def open(cls, reference: str, site_dir: Path) -> SiteKey:
        """From `file:PATH` (relative to the site) or `credential:NAME` (systemd). Raises KeyFault."""
        scheme, _, rest = reference.partition(":")
        match scheme:
            case "file" if rest:
                return cls.parse(_read(site_dir / rest.removeprefix("//"), private=True))
            case "credential" if rest and "/" not in rest:
                directory = os.environ.get("CREDENTIALS_DIRECTORY")
                if not directory:
                    raise KeyFault(f"no credential {rest}: this process has none", hint="LoadCredential= in the unit")
                return cls.parse(_read(Path(directory) / rest, private=False))
        raise KeyFault(f"{reference!r} names no site key", hint="[site] key = file:PATH or credential:NAME")

    def text(self) -> str:
        """The file's one line: mark, key, check value."""
        return f"{_NAME}:{_VERSION}:{base64.b64encode(self._secret).decode()}:{self._check()}"

    @classmethod
    def parse(cls, text: str) -> SiteKey:
        """From its line. Raises KeyFault where the check value does not fit."""
        name, _, rest = text.strip().partition(":")
        version, _, rest = rest.partition(":")
        encoded = rest.partition(":")[0]
        if name != _NAME:
            raise KeyFault("this is not a site key", hint=_RESTORE)
        if version != _VERSION:
            raise KeyFault(f"a site key in format {version}; this program knows {_VERSION}", hint="upgrade the program")
        try:
            key = cls(base64.b64decode(encoded, validate=True))
        except ValueError:
            raise KeyFault("the site key is damaged", hint=_RESTORE) from None
        # The last letter of the base64 has bits that mean nothing: only the one spelling is the key's own line.
        if not hmac.compare_digest(text.strip().encode(), key.text().encode()):
            raise KeyFault("the site key is damaged: its check value does not fit", hint=_RESTORE)
        return key

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose: `index`, `register`, `journal/2026-11`, ..."""
        found = self._derived.get(purpose)
        if found is None:
            info = b"leadglass/1/" + purpose.encode()  # RFC 5869
            found = HKDF(hashes.SHA256(), KEY_LENGTH_BYTES, salt=None, info=info).derive(self._secret)
            self._derived[purpose] = found
        return found

    def _check(self) -> str:
        return hashlib.sha256(b"leadglass site key check" + self._secret).hexdigest()[:8]


@lru_cache(maxsize=256)  # a study's keys are used many times in a row; each takes 2.6 KiB
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)


def forget_ciphers() -> None:
    """None that was made stays in memory: whatever keys were destroyed are in no cache."""
    _cipher.cache_clear()


def seal(key: bytes, plaintext: bytes, context: bytes) -> bytes:
    """A random nonce, then the ciphertext with its tag."""
    nonce = os.urandom(NONCE_LENGTH_BYTES)
    return nonce + _cipher(key).encrypt(nonce, plaintext, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Raises KeyFault: another key, another context, or other bytes."""
    try:
        return _cipher(key).decrypt(sealed[:NONCE_LENGTH_BYTES], sealed[NONCE_LENGTH_BYTES:], context)
    except (InvalidTag, ValueError) as error:
        raise KeyFault(
            "what is sealed does not open with this key", hint="it is changed, or another key sealed it"
        ) from error


def _read(path: Path, *, private: bool) -> str:
    try:
        with path.open("rb") as file:
            if private and os.fstat(file.fileno()).st_mode & 0o077:
                raise KeyFault(
                    f"others can read the site key {path}", hint=f"chmod 600 {path}; if they did, make a new site"
                )
            return file.read(_FILE_LENGTH_MAX_BYTES).decode("ascii", "replace")
    except FileNotFoundError as error:
        raise KeyFault(f"the site key {path} is missing", hint=_RESTORE) from error
    except OSError as error:
        raise KeyFault(
            f"the site key {path} cannot be read: {error.strerror}", hint="check owner and permissions"
        ) from error
