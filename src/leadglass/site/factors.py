"""What can a person prove themselves with? Passkeys, password, authenticator app, recovery codes; invitations; what was used and may not be again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadglass.site.sessions import end_everything
from leadglass.terms import NotChanged

if TYPE_CHECKING:
    import apsw

    from leadglass.site.register import Register

GUESS_ROWS_MAX = 20_000  # what strangers can make us remember
CLOCK_BACK_MAX_NS = 86_400 * 1_000_000_000  # a clock that is set back by less makes nothing good again that was used


@dataclass(frozen=True, slots=True)
class Passkey:
    """One authenticator of a person. `credential`: its id, base64url; `public_key`: COSE. Times are Unix nanoseconds, 0: never."""

    credential: str
    person: str
    public_key: bytes
    sign_count: int
    label: str
    aaguid: str
    backed_up: bool
    created_ns: int
    last_used_ns: int


@dataclass(frozen=True, slots=True)
class Password:
    """`hash`: argon2id in PHC form. `totp`: the shared secret of the authenticator app, base32; the two are enrolled together.

    Of somebody whose password is a directory's there is the app alone: `hash` is "".
    """

    hash: str
    totp: str
    created_ns: int
    last_used_ns: int


@dataclass(frozen=True, slots=True)
class InvitationRow:
    """A one-time link. `purpose`: enroll, reset or recover; `ended_ns`: when it was used, or another took its place."""

    person: str
    purpose: str
    made_ns: int
    until_ns: int
    ended_ns: int


class Factors:
    """Thread-safe, as the register is."""

    def __init__(self, register: Register) -> None:
        self._register = register

    # ---- invitations

    def invite(self, person: str, digest: str, purpose: str, until_ns: int, now_ns: int) -> None:
        """The one link of a person: those before it are over."""
        with self._register.transaction() as connection:
            _end_invitations(connection, person, now_ns)
            row = (digest, person, purpose, now_ns, until_ns, 0)
            connection.execute("INSERT INTO invitations VALUES(?,?,?,?,?,?)", row)

    def invitation(self, digest: str) -> InvitationRow | None:
        statement = "SELECT person, purpose, made_ns, until_ns, ended_ns FROM invitations WHERE digest = ?"
        rows = self._register.read(statement, (digest,))
        return InvitationRow(*rows[0]) if rows else None

    def was_reset(self, person: str) -> bool:
        """Somebody took away what the person had, and gave out a link."""
        statement = "SELECT 1 FROM invitations WHERE person = ? AND purpose = 'reset'"
        return bool(self._register.read(statement, (person,)))

    # ---- what a person has

    def passkey(self, credential: str) -> Passkey | None:
        rows = self._register.read("SELECT * FROM passkeys WHERE credential = ?", (credential,))
        return _passkey(rows[0]) if rows else None

    def passkeys(self, person: str) -> list[Passkey]:
        """In the order of enrolment."""
        rows = self._register.read("SELECT * FROM passkeys WHERE person = ? ORDER BY created_ns", (person,))
        return [_passkey(row) for row in rows]

    def password(self, person: str) -> Password | None:
        rows = self._register.read(
            "SELECT ifnull(hash, ''), secret, totps.created_ns, totps.last_used_ns FROM totps LEFT JOIN passwords USING(person) WHERE person = ?",
            (person,),
        )
        return Password(*rows[0]) if rows else None

    def recovery_codes_left(self, person: str) -> int:
        rows = self._register.read("SELECT count(*) FROM recovery_codes WHERE person = ? AND used_ns = 0", (person,))
        return int(rows[0][0])

    def enrolled(self) -> frozenset[str]:
        """Ids of everybody who can prove who they are."""
        rows = self._register.read("SELECT person FROM passkeys UNION SELECT person FROM totps")
        return frozenset(str(row[0]) for row in rows)

    # ---- enrolment: all of it or nothing

    def enroll_passkey(self, passkey: Passkey, invitation: str, codes: Sequence[str], nonce: Nonce) -> None:
        """`invitation`: digest of the link that is used up by it, "" for a further one of somebody signed in. Raises NotChanged."""
        with self._register.transaction() as connection:
            _enrolling(connection, passkey.person, invitation, codes, nonce, passkey.created_ns)
            if list(connection.execute("SELECT 1 FROM passkeys WHERE credential = ?", (passkey.credential,))):
                raise NotChanged("that passkey is enrolled already")
            row = (
                passkey.credential, passkey.person, passkey.public_key, passkey.sign_count, passkey.label, passkey.aaguid,
                int(passkey.backed_up), passkey.created_ns, passkey.last_used_ns,
            )  # fmt: skip
            connection.execute("INSERT INTO passkeys VALUES(?,?,?,?,?,?,?,?,?)", row)

    def enroll_password(
        self, person: str, password: Password, counter: int, invitation: str, codes: Sequence[str], nonce: Nonce
    ) -> None:
        """`counter`: the time step of the code that proved the authenticator app, which is used up by it. Raises NotChanged."""
        with self._register.transaction() as connection:
            now = password.created_ns
            _enrolling(connection, person, invitation, codes, nonce, now)
            connection.execute("DELETE FROM passwords WHERE person = ?", (person,))
            if password.hash:
                connection.execute("INSERT INTO passwords VALUES(?,?,?,0)", (person, password.hash, now))
            connection.execute("INSERT OR REPLACE INTO totps VALUES(?,?,?,0)", (person, password.totp, now))
            connection.execute("DELETE FROM used_codes WHERE person = ?", (person,))  # another secret's
            connection.execute("INSERT INTO used_codes VALUES(?,?)", (person, counter))

    def renew_recovery_codes(self, person: str, codes: Sequence[str], nonce: Nonce, now_ns: int) -> None:
        """Raises NotChanged."""
        with self._register.transaction() as connection:
            _enrolling(connection, person, "", codes, nonce, now_ns)

    def remove_passkey(self, person: str, credential: str, but_session: str, now_ns: int) -> None:
        """Ends every session of the person except the named one. Raises NotChanged where nothing else would be left to sign in with."""
        with self._register.transaction() as connection:
            kept = list(
                connection.execute(
                    "SELECT 1 FROM passkeys WHERE person = ?1 AND credential != ?2 UNION ALL SELECT 1 FROM totps WHERE person = ?1",
                    (person, credential),
                )
            )
            if not kept:
                raise NotChanged("that is the last way to sign in: add another passkey first")
            connection.execute("DELETE FROM passkeys WHERE person = ? AND credential = ?", (person, credential))
            if not connection.changes():
                raise NotChanged("no such passkey is enrolled")
            connection.execute(
                "UPDATE sessions SET ended_ns = ?, ended_why = 'a passkey was removed' WHERE person = ? AND id != ? AND ended_ns = 0",
                (now_ns, person, but_session),
            )

    def remove_password(self, person: str) -> None:
        """With the authenticator app. Raises NotChanged where no passkey is left."""
        with self._register.transaction() as connection:
            if not list(connection.execute("SELECT 1 FROM passkeys WHERE person = ?", (person,))):
                raise NotChanged("that is the last way to sign in: add a passkey first")
            for table in ("passwords", "totps", "used_codes"):
                connection.execute(f"DELETE FROM {table} WHERE person = ?", (person,))  # noqa: S608

    def reset(self, person: str, why: str, now_ns: int) -> None:
        """Everything that a person could prove themselves with is gone, and their sessions with it."""
        with self._register.transaction() as connection:
            for table in ("passkeys", "passwords", "totps", "recovery_codes", "used_codes"):
                connection.execute(f"DELETE FROM {table} WHERE person = ?", (person,))  # noqa: S608
            _end_invitations(connection, person, now_ns)
            end_everything(connection, person, why, now_ns)

    # ---- use: once

    def use_handle(self, nonce: Nonce, now_ns: int) -> bool:
        """False where it was used before, or is over."""
        with self._register.transaction() as connection:
            return _fresh(connection, nonce, now_ns)

    def use_passkey(self, passkey: Passkey, sign_count: int, backed_up: bool, nonce: Nonce, now_ns: int) -> bool:
        """False where the challenge was answered before, or the passkey was used meanwhile: of two that race, one loses."""
        with self._register.transaction() as connection:
            if not _fresh(connection, nonce, now_ns):
                return False
            connection.execute(
                "UPDATE passkeys SET sign_count = ?, backed_up = ?, last_used_ns = ? WHERE credential = ? AND sign_count = ?",
                (sign_count, int(backed_up), now_ns, passkey.credential, passkey.sign_count),
            )
            return bool(connection.changes())

    def use_code(self, person: str, counter: int, now_ns: int) -> bool:
        """False where this code, or a later one, was used: a code is good once (RFC 6238 5.2)."""
        with self._register.transaction() as connection:
            later = "SELECT 1 FROM used_codes WHERE person = ? AND counter >= ?"
            if list(connection.execute(later, (person, counter))):
                return False
            connection.execute("DELETE FROM used_codes WHERE person = ?", (person,))
            connection.execute("INSERT INTO used_codes VALUES(?,?)", (person, counter))
            for table in ("passwords", "totps"):
                connection.execute(f"UPDATE {table} SET last_used_ns = ? WHERE person = ?", (now_ns, person))  # noqa: S608
            return True

    def use_recovery_code(self, person: str, digest: str, now_ns: int) -> bool:
        with self._register.transaction() as connection:
            connection.execute(
                "UPDATE recovery_codes SET used_ns = ? WHERE person = ? AND digest = ? AND used_ns = 0",
                (now_ns, person, digest),
            )
            return bool(connection.changes())

    # ---- guesses

    def attempt(
        self, keys: Sequence[str], now_ns: int, forgotten_ns: int, admit: Callable[[Sequence[tuple[int, int]]], None]
    ) -> None:
        """One more attempt of each key, counted before it is looked at, so that many at once count as many.

        `admit` is given how often and when last, of each key, and raises where it comes too soon: then nothing is counted. What is older
        than `forgotten_ns` is forgotten.
        """
        with self._register.transaction() as connection:
            connection.execute("DELETE FROM guesses WHERE last_ns < ?", (forgotten_ns,))
            told = [
                connection.execute("SELECT failures, last_ns FROM guesses WHERE key = ?", (key,)).fetchone()
                for key in keys
            ]
            admit([(int(row[0]), int(row[1])) if row else (0, 0) for row in told])
            for key in keys:
                connection.execute(
                    "INSERT INTO guesses VALUES(?, 1, ?) ON CONFLICT(key) DO UPDATE SET failures = failures + 1, last_ns = excluded.last_ns",
                    (key, now_ns),
                )
            connection.execute(
                "DELETE FROM guesses WHERE key IN (SELECT key FROM guesses ORDER BY last_ns DESC LIMIT -1 OFFSET ?)",
                (GUESS_ROWS_MAX,),
            )

    def took_back(self, keys: Sequence[str], forget: Sequence[str] = ()) -> None:
        """That attempt was no failure; and those of `forget` are forgotten altogether."""
        with self._register.transaction() as connection:
            for key in keys:
                connection.execute("UPDATE guesses SET failures = failures - 1 WHERE key = ?", (key,))
            for key in forget:
                connection.execute("DELETE FROM guesses WHERE key = ?", (key,))
            connection.execute("DELETE FROM guesses WHERE failures <= 0")


@dataclass(frozen=True, slots=True)
class Nonce:
    """Of a challenge or an offer: good once, and not after `until_ns`."""

    value: str
    until_ns: int


def _passkey(row: tuple[str, str, bytes, int, str, str, int, int, int]) -> Passkey:
    return Passkey(*row[:6], bool(row[6]), *row[7:])


def _end_invitations(connection: apsw.Connection, person: str, now_ns: int) -> None:
    connection.execute("UPDATE invitations SET ended_ns = ? WHERE person = ? AND ended_ns = 0", (now_ns, person))


def _fresh(connection: apsw.Connection, nonce: Nonce, now_ns: int) -> bool:
    """Marks it as used; False where it was, or its time is over. Those that nobody could present any more are forgotten."""
    if now_ns >= nonce.until_ns:
        return False
    connection.execute("DELETE FROM used_handles WHERE until_ns < ?", (now_ns - CLOCK_BACK_MAX_NS,))
    connection.execute("INSERT OR IGNORE INTO used_handles VALUES(?,?)", (nonce.value, nonce.until_ns))
    return bool(connection.changes())


def _enrolling(
    connection: apsw.Connection, person: str, invitation: str, codes: Sequence[str], nonce: Nonce, now_ns: int
) -> None:
    """What every enrolment does besides: the link is used up, the person enabled, new recovery codes take the place of the old."""
    if not list(connection.execute("SELECT 1 FROM people WHERE id = ? AND enabled", (person,))):
        raise NotChanged("that person is disabled, or none")
    if invitation:
        connection.execute(
            "UPDATE invitations SET ended_ns = ? WHERE digest = ? AND person = ? AND ended_ns = 0",
            (now_ns, invitation, person),
        )
        if not connection.changes():
            raise NotChanged("that link was used, or another took its place: ask for a new one")
    if not _fresh(connection, nonce, now_ns):
        raise NotChanged("that was done before, or took too long: begin again")
    if codes:
        connection.execute("DELETE FROM recovery_codes WHERE person = ?", (person,))
        connection.executemany("INSERT INTO recovery_codes VALUES(?,?,0)", [(person, code) for code in codes])
