"""Who is known here, as what, since when and why? The register's rows about people; what they prove, where they are signed in, and what they
were granted for a time are in `factors.py`, `sessions.py` and `access.py`, over the same connection."""

from __future__ import annotations

import datetime as dt
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadglass.site.access import Access
from leadglass.site.factors import Factors
from leadglass.site.sessions import Sessions, end_everything
from leadglass.terms import NotChanged, Person, Role
from leadglass.wire.charset import normalise_for_matching

if TYPE_CHECKING:
    import apsw

    from leadglass.site.register import Register

NAME_CHARACTERS_MAX = 64
_NAME = re.compile(r"[\w](?:[\w.@+'-]*[\w])?")
_COLUMNS = "id, name, display, mail, source, departments, names, enabled, until_ns"


@dataclass(frozen=True, slots=True)
class Grant:
    """A role that somebody has, by whom and why. Times are Unix nanoseconds; `last_used_ns` 0: never."""

    role: Role
    granted_by: str
    why: str
    at_ns: int
    last_used_ns: int


@dataclass(frozen=True, slots=True)
class Account:
    """A person and how they came to be here. `gone_ns`: when their directory no longer knew them, 0: it does, or there is none."""

    person: Person
    grants: tuple[Grant, ...]
    certificates: frozenset[str]
    added_by: str
    why: str
    added_ns: int
    disabled_why: str
    changed_ns: int
    gone_ns: int


@dataclass(frozen=True, slots=True)
class Review:
    """A periodic review of accounts. `digest`: SHA-256, hex, of the findings that the reviewer saw and signed for."""

    id: str
    reviewer: str
    at_ns: int
    digest: str
    findings: str


def fold_name(name: str) -> str:
    """As it is kept and compared: two spellings that look alike are one name."""
    plain = name.encode("utf-8", "replace").decode()  # a lone surrogate is no text
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", plain).casefold()).strip()


def person_name_problem(folded: str) -> str:
    """Why this cannot name a person; "" where it can. Letters of one script only, so that no name looks like another's."""
    if not folded or len(folded) > NAME_CHARACTERS_MAX or not _NAME.fullmatch(folded):
        return f"1 to {NAME_CHARACTERS_MAX} letters, digits, and . _ - @ + ' between them"
    scripts = {unicodedata.name(each, "?").split()[0] for each in folded if each.isalpha()}
    if len(scripts) > 1:
        return f"letters of one script only, not of {' and '.join(sorted(scripts)).lower()} together"
    return ""


class People:
    """Thread-safe, as the register is. Names are folded by whoever asks (`fold_name`)."""

    def __init__(self, register: Register) -> None:
        self._register = register
        self.factors = Factors(register)
        self.sessions = Sessions(register)
        self.access = Access(register)

    # ---- who

    def named(self, name: str) -> Person | None:
        return self._one("name = ?", fold_name(name))

    def get(self, person_id: str) -> Person | None:
        return self._one("id = ?", person_id)

    def with_certificate(self, fingerprint: str) -> Person | None:
        """The machine client that pins it; None where none does, or several do."""
        statement = (
            f"SELECT {_COLUMNS} FROM people WHERE EXISTS (SELECT 1 FROM json_each(certificates) WHERE value = ?)"  # noqa: S608
        )
        found = self._persons(self._register.read(statement, (fingerprint,)))
        return found[0] if len(found) == 1 else None

    def machines_of(self, device: str) -> list[Person]:
        """The machine clients that pin a certificate which the device has or had: whoever renews it takes nothing from that."""
        statement = (
            f"SELECT {_COLUMNS} FROM people INDEXED BY people_machines WHERE certificates != '[]' AND EXISTS"  # noqa: S608
            " (SELECT 1 FROM json_each(people.certificates) WHERE value IN (SELECT fingerprint FROM certificates WHERE device = ?))"
        )
        return self._persons(self._register.read(statement, (device,)))

    def every(self) -> list[Person]:
        """By name."""
        return self._persons(self._register.read(f"SELECT {_COLUMNS} FROM people ORDER BY name"))  # noqa: S608

    def accounts(self) -> list[Account]:
        """By name."""
        more = {
            str(row[0]): row[1:]
            for row in self._register.read(
                "SELECT id, certificates, added_by, why, added_ns, disabled_why, changed_ns, gone_ns FROM people"
            )
        }
        grants: dict[str, list[Grant]] = {}
        for row in self._register.read(
            "SELECT person, role, granted_by, why, at_ns, last_used_ns FROM roles ORDER BY role"
        ):
            grants.setdefault(str(row[0]), []).append(Grant(Role(row[1]), *row[2:]))
        return [
            Account(each, tuple(grants.get(each.id, ())), frozenset(json.loads(more[each.id][0])), *more[each.id][1:])
            for each in self.every()
            if each.id in more
        ]

    def account(self, person_id: str) -> Account | None:
        return next((each for each in self.accounts() if each.person.id == person_id), None)

    # ---- changes

    def add(self, person: Person, by: str, why: str, now_ns: int, certificates: Iterable[str] = ()) -> None:
        """With its roles, granted by the same. Raises NotChanged where the name is taken."""
        row = (
            person.id, person.name, person.display, person.mail, person.source, _json(person.departments), _json(person.names),
            _json(certificates), int(person.enabled), person.until_ns, by, why, now_ns, "", now_ns, 0,
        )  # fmt: skip
        with self._register.transaction() as connection:
            if list(connection.execute("SELECT 1 FROM people WHERE name = ?", (person.name,))):
                raise NotChanged(f"{person.name} is here already: `leadglass people list` shows who is")
            connection.execute("INSERT INTO people VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", row)
            for role in sorted(person.roles):
                _grant(connection, person.id, role, by, why, now_ns)

    def pin(self, name: str, certificate: Mapping[str, object]) -> None:
        """A machine client's certificate among those that may vouch for a peer, and that are warned of before they end; that of an enrolled device stays
        the device's, which is that machine from then on. Raises Taken."""
        known = "SELECT 1 FROM certificates WHERE fingerprint = ? AND device NOT LIKE 'person:%' AND state IN ('issued', 'active')"
        if self._register.read(known, (str(certificate["fingerprint"]),)):
            return
        begins, ends = (dt.datetime.fromisoformat(str(certificate[key])) for key in ("not_before", "not_after"))
        self._register.add_certificate(
            device=f"person:{name}",
            fingerprint=str(certificate["fingerprint"]),
            serial=str(certificate["serial"]),
            not_before_ns=int(begins.timestamp()) * 1_000_000_000,
            not_after_ns=int(ends.timestamp()) * 1_000_000_000,
            kind="pinned",
            pem=str(certificate["pem"]),
        )

    def describe(self, person: Person, now_ns: int) -> None:
        """Name, display name, mail, departments, names in studies, the account's end: what its owner says anew. Raises NotChanged."""
        with self._register.transaction() as connection:
            _describe(connection, person, now_ns)

    def vouch(self, person: Person, why: str, now_ns: int) -> int:
        """What a provider or directory says of somebody from now on, whom it may have lost sight of: added where they are new, else described anew,
        enabled, with these roles and no others. Where one is lost, sessions and leases end; how many sessions. Raises NotChanged."""
        if self.get(person.id) is None:
            self.add(person, person.source, why, now_ns)
            return 0
        with self._register.transaction() as connection:
            _describe(connection, person, now_ns)
            connection.execute(
                "UPDATE people SET enabled = 1, disabled_why = '', gone_ns = 0 WHERE id = ?", (person.id,)
            )
            had = {Role(row[0]) for row in connection.execute("SELECT role FROM roles WHERE person = ?", (person.id,))}
            lost = sorted(had - person.roles)
            for role in lost:
                connection.execute("DELETE FROM roles WHERE person = ? AND role = ?", (person.id, role))
            for role in sorted(person.roles - had):
                _grant(connection, person.id, role, person.source, why, now_ns)
            if not lost:
                return 0
            return end_everything(connection, person.id, f"{person.source} no longer gives {', '.join(lost)}", now_ns)

    def gone(self, person_id: str) -> bool:
        """Disabled because the directory that vouched for them no longer did, and for nothing else."""
        return bool(self._register.read("SELECT 1 FROM people WHERE id = ? AND enabled = 0 AND gone_ns", (person_id,)))

    def disable(self, person_id: str, why: str, now_ns: int, *, gone: bool = False) -> int:
        """Sessions, leases and the open link end with it; how many sessions. `gone`: from the directory that vouched."""
        with self._register.transaction() as connection:
            connection.execute(
                "UPDATE people SET enabled = 0, disabled_why = ?, changed_ns = ?, gone_ns = ? WHERE id = ?",
                (why, now_ns, now_ns if gone else 0, person_id),
            )
            connection.execute(
                "UPDATE invitations SET ended_ns = ? WHERE person = ? AND ended_ns = 0", (now_ns, person_id)
            )
            return end_everything(connection, person_id, f"the account was disabled: {why}", now_ns)

    def enable(self, person_id: str, now_ns: int) -> None:
        with self._register.transaction() as connection:
            connection.execute(
                "UPDATE people SET enabled = 1, disabled_why = '', gone_ns = 0, changed_ns = ? WHERE id = ?",
                (now_ns, person_id),
            )

    def grant(self, person_id: str, role: Role, by: str, why: str, now_ns: int) -> None:
        with self._register.transaction() as connection:
            _grant(connection, person_id, role, by, why, now_ns)

    def revoke(self, person_id: str, role: Role, why: str, now_ns: int) -> int:
        """Sessions and leases end with it; how many sessions. Raises NotChanged where the person has no such role."""
        with self._register.transaction() as connection:
            connection.execute("DELETE FROM roles WHERE person = ? AND role = ?", (person_id, role))
            if not connection.changes():
                raise NotChanged(f"that person is no {role}")
            return end_everything(connection, person_id, f"the role {role} was taken away: {why}", now_ns)

    def used(self, person_id: str, roles: Iterable[Role], now_ns: int) -> None:
        """These roles allowed something just now."""
        with self._register.transaction() as connection:
            for role in roles:
                connection.execute(
                    "UPDATE roles SET last_used_ns = ? WHERE person = ? AND role = ?", (now_ns, person_id, role)
                )

    # ---- reviews

    def add_review(self, review: Review) -> None:
        row = (review.id, review.reviewer, review.at_ns, review.digest, review.findings)
        with self._register.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO reviews VALUES(?,?,?,?,?)", row)

    def last_review(self) -> Review | None:
        rows = self._register.read(
            "SELECT id, reviewer, at_ns, digest, findings FROM reviews ORDER BY at_ns DESC LIMIT 1"
        )
        return Review(*rows[0]) if rows else None

    # ---- rows

    def _one(self, where: str, value: str) -> Person | None:
        found = self._persons(self._register.read(f"SELECT {_COLUMNS} FROM people WHERE {where}", (value,)))  # noqa: S608
        return found[0] if found else None

    def _persons(self, rows: Sequence[tuple[str, str, str, str, str, str, str, int, int]]) -> list[Person]:
        if not rows:
            return []
        one = (rows[0][0],) if len(rows) == 1 else ()
        statement = "SELECT person, role FROM roles WHERE person = ?" if one else "SELECT person, role FROM roles"
        roles: dict[str, set[Role]] = {}
        for person, role in self._register.read(statement, one):
            roles.setdefault(person, set()).add(Role(role))
        return [
            Person(
                id=row[0], name=row[1], display=row[2], roles=frozenset(roles.get(row[0], ())), departments=frozenset(json.loads(row[5])),
                names=frozenset(json.loads(row[6])), mail=row[3], source=row[4], enabled=bool(row[7]), until_ns=row[8],
            )
            for row in rows
        ]  # fmt: skip


def folded_set(texts: Iterable[str]) -> frozenset[str]:
    """Departments and names in studies, as the index folds what studies say."""
    return frozenset(folded for each in texts if (folded := normalise_for_matching(each)))


def _json(texts: Iterable[str]) -> str:
    return json.dumps(sorted(texts))


def _describe(connection: apsw.Connection, person: Person, now_ns: int) -> None:
    if list(connection.execute("SELECT 1 FROM people WHERE name = ? AND id != ?", (person.name, person.id))):
        raise NotChanged(f"{person.name} is somebody else's name here: `leadglass people list` shows who is")
    row = (
        person.name, person.display, person.mail, _json(person.departments), _json(person.names), person.until_ns, now_ns, person.id,
    )  # fmt: skip
    connection.execute(
        "UPDATE people SET name = ?, display = ?, mail = ?, departments = ?, names = ?, until_ns = ?, changed_ns = ? WHERE id = ?",
        row,
    )


def _grant(connection: apsw.Connection, person: str, role: Role, by: str, why: str, now_ns: int) -> None:
    connection.execute("INSERT OR IGNORE INTO roles VALUES(?,?,?,?,?,0)", (person, role, by, why, now_ns))
