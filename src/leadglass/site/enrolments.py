"""Which devices did people ask to have enrolled, and what became of it? The register's rows about that, each with its bundle until it is collected."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leadglass.site.sitekey import seal, unseal
from leadglass.terms import NotChanged

if TYPE_CHECKING:
    from leadglass.site.register import Register

ENROLMENTS = """
CREATE TABLE enrolments(
    id TEXT PRIMARY KEY, name TEXT NOT NULL, asked_by TEXT NOT NULL, asked_ns INTEGER NOT NULL, facts TEXT NOT NULL, csr TEXT NOT NULL,
    state TEXT NOT NULL CHECK(state IN ('asked', 'signed', 'failed', 'collected', 'lapsed')), reason TEXT NOT NULL,
    certificate TEXT NOT NULL, bundle BLOB, settled_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX enrolments_state ON enrolments(state, asked_ns);
"""
WITHDRAWN = """
CREATE TABLE enrolments_withdrawable(
    id TEXT PRIMARY KEY, name TEXT NOT NULL, asked_by TEXT NOT NULL, asked_ns INTEGER NOT NULL, facts TEXT NOT NULL, csr TEXT NOT NULL,
    state TEXT NOT NULL CHECK(state IN ('asked', 'signed', 'failed', 'collected', 'lapsed', 'withdrawn')), reason TEXT NOT NULL,
    certificate TEXT NOT NULL, bundle BLOB, settled_ns INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO enrolments_withdrawable SELECT * FROM enrolments;
DROP TABLE enrolments;
ALTER TABLE enrolments_withdrawable RENAME TO enrolments;
CREATE INDEX enrolments_state ON enrolments(state, asked_ns);
"""
COLLECT_WITHIN_SECONDS = 24 * 3600  # a key of somebody else's rests here no longer
SIGN_WITHIN_SECONDS = 7 * 24 * 3600
WAITING_MAX = 200  # asked or signed at once
SHOWN_MAX = 50
_COLUMNS = "id, name, asked_by, asked_ns, facts, csr, state, reason, certificate, settled_ns"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """`facts`: settled ones (`device_facts.py`); `csr`: PEM, "" where the key is made for the device. `asked_by`: a person's id.

    Of a new certificate for a device that is enrolled, `facts` say `renewal`, and what its sheet tells.
    `state`: asked, signed, failed, collected, lapsed, withdrawn; `reason`: why it failed. `certificate`: what was issued (fingerprint, serial, not_before,
    not_after, pem), empty before; there in state asked too, where the enrolment of the device was begun and did not end.
    `settled_ns`: when it was signed or failed, Unix nanoseconds; 0: not yet.
    """

    id: str
    name: str
    asked_by: str
    asked_ns: int
    facts: Mapping[str, Any]
    csr: str
    state: str = "asked"
    reason: str = ""
    certificate: Mapping[str, str] = field(default_factory=dict)
    settled_ns: int = 0

    @property
    def digest(self) -> str:
        """SHA-256, hex, over what was asked for, exactly."""
        exact = json.dumps([self.name, self.facts, self.csr], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(exact.encode()).hexdigest()

    @property
    def renewal(self) -> bool:
        """Of a device that is enrolled already."""
        return bool(self.facts.get("renewal"))

    @property
    def collect_until_ns(self) -> int:
        """Of a signed one."""
        return self.settled_ns + COLLECT_WITHIN_SECONDS * 1_000_000_000

    def over(self, now_ns: int) -> bool:
        """Nobody signed it, or nobody collected it, in time."""
        if self.state == "asked":
            return now_ns - self.asked_ns >= SIGN_WITHIN_SECONDS * 1_000_000_000
        return self.state == "signed" and now_ns >= self.collect_until_ns


class Enrolments:
    """Thread-safe, as the register is. `key`: seals the bundles, on top of the register's own cipher."""

    def __init__(self, register: Register, key: bytes) -> None:
        self._register, self._key = register, key

    def ask(self, enrolment: Enrolment) -> None:
        """Raises NotChanged where too many wait, or one of that name."""
        row = (
            enrolment.id, enrolment.name, enrolment.asked_by, enrolment.asked_ns, json.dumps(enrolment.facts, sort_keys=True), enrolment.csr,
            "asked", "", "", None, 0,
        )  # fmt: skip
        with self._register.transaction() as connection:
            open_ones = [
                each[0] for each in connection.execute("SELECT name FROM enrolments WHERE state IN ('asked', 'signed')")
            ]
            if len(open_ones) >= WAITING_MAX:
                raise NotChanged(f"{WAITING_MAX} enrolments wait already to be signed or collected")
            if connection.execute(
                "SELECT 1 FROM enrolments WHERE state = 'asked' AND name = ?", (enrolment.name,)
            ).fetchone():
                raise NotChanged(f"the enrolment of {enrolment.name} was asked for already, and waits to be signed")
            connection.execute("INSERT INTO enrolments VALUES(?,?,?,?,?,?,?,?,?,?,?)", row)

    def get(self, enrolment_id: str) -> Enrolment | None:
        found = self._select("id = ?", (enrolment_id,), 1)
        return found[0] if found else None

    def asked(self) -> list[Enrolment]:
        """The oldest first."""
        return self._select("state = 'asked'", (), WAITING_MAX)[::-1]

    def latest(self) -> list[Enrolment]:
        """In whatever state, the newest first."""
        return self._select("1", (), SHOWN_MAX)

    def overdue(self, now_ns: int) -> list[Enrolment]:
        waiting = self._select("state IN ('asked', 'signed')", (), WAITING_MAX)
        return [each for each in waiting if each.over(now_ns)]

    def begin(self, enrolment_id: str, certificate: Mapping[str, str], bundle: bytes) -> None:
        """What was issued, durable before the device is: a crash in between leaves what a repeat needs."""
        sealed = seal(self._key, bundle, enrolment_id.encode())
        with self._register.transaction() as connection:
            values = (json.dumps(dict(certificate), sort_keys=True), sealed, enrolment_id)
            connection.execute(
                "UPDATE enrolments SET certificate = ?, bundle = ? WHERE id = ? AND state = 'asked'", values
            )
            if not connection.changes():
                raise NotChanged("that enrolment is not asked any more")

    def sign(self, enrolment_id: str, now_ns: int) -> None:
        self._settle(enrolment_id, "asked", "signed", "", now_ns)

    def fail(self, enrolment_id: str, reason: str, now_ns: int) -> None:
        """Whatever was begun is forgotten."""
        self._settle(enrolment_id, "asked", "failed", reason, now_ns)

    def withdraw(self, enrolment_id: str, by: str, now_ns: int) -> None:
        """Raises NotChanged where it is settled, or being signed."""
        with self._register.transaction() as connection:
            connection.execute(
                "UPDATE enrolments SET state = 'withdrawn', reason = ?, settled_ns = ? WHERE id = ? AND state = 'asked' AND certificate = ''",
                (f"withdrawn by {by}", now_ns, enrolment_id),
            )
            if not connection.changes():
                raise NotChanged("that enrolment is signed already, or does not wait any more: look again")

    def lapse(self, enrolment_id: str, now_ns: int) -> None:
        """Raises NotChanged where its time is not over."""
        enrolment = self.get(enrolment_id)
        if enrolment is None or not enrolment.over(now_ns):
            raise NotChanged("that enrolment is not over")
        self._settle(
            enrolment_id, enrolment.state, "lapsed", "nobody signed it in time" if enrolment.state == "asked" else "", 0
        )

    def collect(self, enrolment_id: str, now_ns: int) -> bytes:
        """The bundle, which is here no longer. Raises NotChanged where there is none."""
        with self._register.transaction() as connection:
            oldest_ns = now_ns - COLLECT_WITHIN_SECONDS * 1_000_000_000
            statement = "SELECT bundle FROM enrolments WHERE id = ? AND state = 'signed' AND settled_ns > ? AND bundle IS NOT NULL"
            found = connection.execute(statement, (enrolment_id, oldest_ns)).fetchone()
            if found is None:
                raise NotChanged("that bundle is not here any more: it is given once, and kept for 24 hours at most")
            connection.execute("UPDATE enrolments SET state = 'collected', bundle = NULL WHERE id = ?", (enrolment_id,))
        return unseal(self._key, bytes(found[0]), enrolment_id.encode())

    def _settle(self, enrolment_id: str, before: str, state: str, reason: str, now_ns: int) -> None:
        """A bundle stays with a signed one alone. `now_ns` 0: the time stays."""
        with self._register.transaction() as connection:
            connection.execute(
                "UPDATE enrolments SET state = ?1, reason = ?2, settled_ns = iif(?3, ?3, settled_ns),"
                " bundle = iif(?1 = 'signed', bundle, NULL) WHERE id = ?4 AND state = ?5",
                (state, reason, now_ns, enrolment_id, before),
            )
            if not connection.changes():
                raise NotChanged(f"that enrolment is not {before} any more")

    def _select(self, where: str, values: tuple[str, ...], limit: int) -> list[Enrolment]:
        statement = f"SELECT {_COLUMNS} FROM enrolments WHERE {where} ORDER BY asked_ns DESC LIMIT {limit:d}"  # noqa: S608
        return [
            Enrolment(
                id=row[0],
                name=row[1],
                asked_by=row[2],
                asked_ns=row[3],
                facts=json.loads(row[4]),
                csr=row[5],
                state=row[6],
                reason=row[7],
                certificate=json.loads(row[8]) if row[8] else {},
                settled_ns=row[9],
            )
            for row in self._register.read(statement, values)
        ]
