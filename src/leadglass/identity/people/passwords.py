"""Is this the password? argon2id, a bounded number at once, the same work for a name that nobody has; and which passwords may be chosen."""

from __future__ import annotations

import secrets
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from argon2.low_level import Type

from leadglass.terms import Overloaded, Person, Refused

PASSWORD_CHARACTERS_MIN = 12
PASSWORD_BYTES_MAX = 1024
PASSWORD_DIFFERENT_CHARACTERS_MIN = 5
ARGON2_MEMORY_KIBIBYTES = 65_536
ARGON2_PASSES = 3
ARGON2_LANES = 1
HASHES_AT_ONCE_MAX = 2  # a process: guessing costs at most so much memory and so many cores
HASH_WAIT_SECONDS = 3.0


class Unsuitable(Refused):
    """A password, code or name that may not be chosen; the reason is for whoever chose it, and says what would do."""


class Passwords:
    """Hashes and verifies, in the caller's thread."""

    def __init__(
        self, *, memory_kibibytes: int = ARGON2_MEMORY_KIBIBYTES, passes: int = ARGON2_PASSES, lanes: int = ARGON2_LANES
    ) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kibibytes, parallelism=lanes, type=Type.ID)
        self._room = threading.BoundedSemaphore(HASHES_AT_ONCE_MAX)
        self._nobodys = ""  # made when first needed: a command that checks no password need not wait for it

    def hash(self, password: str) -> str:
        """PHC form. Raises Overloaded."""
        with self._turn():
            return self._hasher.hash(_canonical(password))

    def verify(self, hash_: str, password: object) -> bool:
        """`hash_` "": nobody's, at the same cost, and never true. Raises Overloaded."""
        text = password if isinstance(password, str) else ""
        self._nobodys = self._nobodys or self.hash(secrets.token_urlsafe(32))
        fits = 0 < len(text.encode("utf-8", "replace")) <= PASSWORD_BYTES_MAX
        with self._turn():
            try:
                right = self._hasher.verify(hash_ or self._nobodys, _canonical(text) if fits else "-")
            except (Argon2Error, InvalidHashError):
                return False
        return right and fits and bool(hash_)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._room.acquire(timeout=HASH_WAIT_SECONDS):
            raise Overloaded("more sign-ins with a password at once than this machine checks: try again in a moment")
        try:
            yield
        finally:
            self._room.release()


def suitable(password: str, person: Person) -> str:
    """The password. Raises Unsuitable; no rule asks for a mix of characters, which only makes people write them down."""
    text = _canonical(password)
    if len(text) < PASSWORD_CHARACTERS_MIN:
        raise Unsuitable(f"a password has at least {PASSWORD_CHARACTERS_MIN} characters: a few words do")
    if len(text.encode("utf-8", "replace")) > PASSWORD_BYTES_MAX:
        raise Unsuitable(f"a password has at most {PASSWORD_BYTES_MAX} bytes")
    if any(unicodedata.category(each) in ("Cc", "Cs") for each in text):
        raise Unsuitable("a password has no control characters")
    plain = text.casefold()
    if len(set(plain)) < PASSWORD_DIFFERENT_CHARACTERS_MIN:
        raise Unsuitable("that is the same few characters again and again: choose a few words instead")
    for word in (person.name, person.display.casefold(), person.mail.casefold().partition("@")[0], "leadglass"):
        left = plain.replace(word, "") if len(word) > 2 else plain
        if len(left) < PASSWORD_CHARACTERS_MIN // 2:
            raise Unsuitable(f"that is little more than {word!r}: choose a few words that are not about you")
    return password


def _canonical(password: str) -> str:
    """However a keyboard composed it (NIST SP 800-63B 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)
