"""What was somebody granted for a time? Relations to patients and studies, requests with their approvals, broken glass, leases of workstations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadglass.terms import Act, NotChanged, PatientIdentity, Related, Relation

if TYPE_CHECKING:
    import apsw

    from leadglass.site.register import Register


_OF_STUDIES = frozenset({Act.STUDY_EXPORT, Act.STUDY_FIND, Act.STUDY_READ})


@dataclass(frozen=True, slots=True)
class Decision:
    """One person's word on a request: approved, denied or cancelled."""

    person: str
    decision: str
    why: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """Who asks for what, exactly. `kind`: what sort of request; `digest`: SHA-256, hex, of the exact thing that is asked for.

    `facts`: JSON-able; `machine`: the id of the account that it is asked for, where it is not for whoever asks; `patients` as [issuer, id] pairs, `studies` and `devices` name what a window is about. `state`: requested, approved,
    denied, cancelled, expired, done. The window is `from_ns` to `until_ns`, Unix nanoseconds.
    """

    id: str
    kind: str
    person: str
    act: Act
    about: str
    digest: str
    facts: Mapping[str, object]
    why: str
    from_ns: int
    until_ns: int
    state: str
    asked_ns: int
    settled_ns: int
    decisions: tuple[Decision, ...] = ()

    @property
    def holder(self) -> str:
        """Whose right it is once it is approved: the machine's that it was asked for, else of whoever asked."""
        return str(self.facts.get("machine") or self.person)

    @property
    def devices(self) -> tuple[str, ...]:
        """Which the request names."""
        named = self.facts.get("devices", ())
        return tuple(map(str, named)) if isinstance(named, list | tuple) else ()

    @property
    def approver(self) -> str:
        """The role that must approve it, "" where policy alone says who may: of flows on demand the one that they name."""
        return str(self.facts.get("approver", ""))


@dataclass(frozen=True, slots=True)
class Glass:
    """Broken for one patient, for a time, with a reason, and with a review that must be done. `reviewed_ns` 0: not yet."""

    id: str
    person: str
    patient: PatientIdentity
    reason: str
    from_ns: int
    until_ns: int
    reviewed_by: str = ""
    verdict: str = ""
    note: str = ""
    reviewed_ns: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """Who sits at a device, for a time box. `session`: whose tap opened it."""

    id: str
    person: str
    session: str
    device: str
    from_ns: int
    until_ns: int
    ended_ns: int = 0
    ended_why: str = ""


class Access:
    """Thread-safe, as the register is."""

    def __init__(self, register: Register) -> None:
        self._register = register

    # ---- what a person is to patients and studies

    def related(self, person: str, now_ns: int) -> tuple[Related, ...]:
        """Whatever is in force: what was imported, glass that is broken, and what approved requests name."""
        rows = self._register.read(
            "SELECT relation, issuer, patient_id, study_instance_uid, from_ns, until_ns, source FROM relations"
            " WHERE person = ? AND from_ns <= ? AND (until_ns = 0 OR until_ns > ?)",
            (person, now_ns, now_ns),
        )
        found = [
            Related(person, Relation(row[0]), PatientIdentity(row[2], row[1]) if row[2] else None, *row[3:])
            for row in rows
        ]
        found += [
            Related(person, Relation.GLASS, each.patient, "", each.from_ns, each.until_ns, f"glass:{each.id}")
            for each in self.glass_of(person)
            if each.from_ns <= now_ns < each.until_ns
        ]
        for request in self.in_window(person, now_ns):
            found += _granted(request)
        return tuple(found)

    def relate(self, rows: Iterable[Related], source: str) -> int:
        """Takes the place of everything the same source said before; how many."""
        with self._register.transaction() as connection:
            connection.execute("DELETE FROM relations WHERE source = ?", (source,))
            values = [
                (
                    each.person, each.relation, each.patient.issuer if each.patient else "", each.patient.patient_id if each.patient else "",
                    each.study_instance_uid, each.from_ns, each.until_ns, source,
                )
                for each in rows
            ]  # fmt: skip
            connection.executemany("INSERT OR REPLACE INTO relations VALUES(?,?,?,?,?,?,?,?)", values)
        return len(values)

    # ---- requests

    def ask(self, request: AccessRequest) -> None:
        row = (
            request.id, request.kind, request.person, request.act, request.about, request.digest, json.dumps(request.facts, sort_keys=True),
            request.why, request.from_ns, request.until_ns, request.state, request.asked_ns, request.settled_ns,
        )  # fmt: skip
        with self._register.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO access_requests VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)", row)

    def request(self, request_id: str) -> AccessRequest | None:
        found = self._requests("id = ?", (request_id,))
        return found[0] if found else None

    def requests(self, *, state: str = "") -> list[AccessRequest]:
        """The newest first."""
        return self._requests("?1 = '' OR state = ?1", (state,))

    def decide(self, request_id: str, decision: Decision, state: str, from_ns: int, until_ns: int) -> None:
        """One word of one person, what the request is then, and its window. Raises NotChanged where it waits for nobody any more."""
        with self._register.transaction() as connection:
            if not list(
                connection.execute("SELECT 1 FROM access_requests WHERE id = ? AND state = 'requested'", (request_id,))
            ):
                raise NotChanged("that request does not wait for anybody any more")
            row = (request_id, decision.person, decision.decision, decision.why, decision.at_ns)
            connection.execute("INSERT OR REPLACE INTO decisions VALUES(?,?,?,?,?)", row)
            _settle(connection, request_id, state, decision.at_ns)
            window = (from_ns, until_ns, request_id)
            connection.execute("UPDATE access_requests SET from_ns = ?, until_ns = ? WHERE id = ?", window)

    def settle(self, request_id: str, state: str, now_ns: int) -> None:
        """Cancelled while it was in force, expired, or done."""
        with self._register.transaction() as connection:
            _settle(connection, request_id, state, now_ns)

    def in_window(self, person: str, now_ns: int) -> list[AccessRequest]:
        """Approved, and their time is now: what they asked for themselves, and of a machine what somebody asked for it."""
        window = "state = 'approved' AND from_ns <= ? AND until_ns > ?"
        own = self._requests(
            f"person = ? AND json_extract(facts, '$.machine') IS NULL AND {window}", (person, now_ns, now_ns)
        )
        return own + self._requests(f"json_extract(facts, '$.machine') = ? AND {window}", (person, now_ns, now_ns))

    def exactly(self, person: str, act: Act, digest: str, now_ns: int) -> AccessRequest:
        """Policy has seen that there is one; this is the register's word on which it is. Raises NotChanged."""
        for request in self.in_window(person, now_ns):
            if request.act is act and request.digest == digest:
                return request
        raise NotChanged("exactly that was not approved, or its time is over")

    def approved(self, act: Act, now_ns: int) -> list[AccessRequest]:
        """Every request for this act that is approved and whose time is now, whoever asked."""
        where = "act = ? AND state = 'approved' AND from_ns <= ? AND until_ns > ?"
        return self._requests(where, (act, now_ns, now_ns))

    def _requests(self, where: str, values: tuple[str | int, ...]) -> list[AccessRequest]:
        statement = (
            "SELECT id, kind, person, act, about, digest, facts, why, from_ns, until_ns, state, asked_ns, settled_ns"  # noqa: S608
            f" FROM access_requests WHERE {where} ORDER BY asked_ns DESC"
        )
        found = []
        for row in self._register.read(statement, values):
            told = self._register.read(
                "SELECT person, decision, why, at_ns FROM decisions WHERE request = ? ORDER BY at_ns", (row[0],)
            )
            decisions = tuple(Decision(*each) for each in told)
            found.append(
                AccessRequest(
                    id=row[0],
                    kind=row[1],
                    person=row[2],
                    act=Act(row[3]),
                    about=row[4],
                    digest=row[5],
                    facts=json.loads(row[6]),
                    why=row[7],
                    from_ns=row[8],
                    until_ns=row[9],
                    state=row[10],
                    asked_ns=row[11],
                    settled_ns=row[12],
                    decisions=decisions,
                )
            )
        return found

    # ---- glass

    def break_glass(self, glass: Glass) -> None:
        row = (
            glass.id, glass.person, glass.patient.issuer, glass.patient.patient_id, glass.reason, glass.from_ns, glass.until_ns, "", "",
            "", 0,
        )  # fmt: skip
        with self._register.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO glass VALUES(?,?,?,?,?,?,?,?,?,?,?)", row)

    def review_glass(self, glass_id: str, by: str, verdict: str, note: str, now_ns: int) -> None:
        """Raises NotChanged where it was reviewed, or is none."""
        with self._register.transaction() as connection:
            connection.execute(
                "UPDATE glass SET reviewed_by = ?, verdict = ?, note = ?, reviewed_ns = ? WHERE id = ? AND reviewed_ns = 0",
                (by, verdict, note, now_ns, glass_id),
            )
            if not connection.changes():
                raise NotChanged("that was reviewed already, or is none")

    def glass(self, *, unreviewed: bool = False) -> list[Glass]:
        """The newest first."""
        return self._glass("reviewed_ns = 0 OR NOT ?", (int(unreviewed),))

    def glass_of(self, person: str) -> list[Glass]:
        return self._glass("person = ?", (person,))

    def _glass(self, where: str, values: tuple[str | int, ...]) -> list[Glass]:
        statement = (
            "SELECT id, person, issuer, patient_id, reason, from_ns, until_ns, reviewed_by, verdict, note, reviewed_ns"  # noqa: S608
            f" FROM glass WHERE {where} ORDER BY from_ns DESC"
        )
        rows = self._register.read(statement, values)
        return [Glass(row[0], row[1], PatientIdentity(row[3], row[2]), *row[4:]) for row in rows]

    # ---- leases

    def open_lease(self, lease: Lease) -> None:
        """Whoever sat there before sits there no longer."""
        with self._register.transaction() as connection:
            connection.execute(
                "UPDATE leases SET ended_ns = ?, ended_why = 'somebody else sat down' WHERE device = ? AND ended_ns = 0",
                (lease.from_ns, lease.device),
            )
            row = (lease.id, lease.person, lease.session, lease.device, lease.from_ns, lease.until_ns, 0, "")
            connection.execute("INSERT OR IGNORE INTO leases VALUES(?,?,?,?,?,?,?,?)", row)

    def end_lease(self, lease_id: str, why: str, now_ns: int) -> None:
        with self._register.transaction() as connection:
            connection.execute(
                "UPDATE leases SET ended_ns = ?, ended_why = ? WHERE id = ? AND ended_ns = 0", (now_ns, why, lease_id)
            )

    def lease_of(self, device: str, now_ns: int) -> Lease | None:
        """Who sits there now."""
        rows = self._register.read(
            "SELECT * FROM leases WHERE device = ? AND ended_ns = 0 AND from_ns <= ? AND until_ns > ?",
            (device, now_ns, now_ns),
        )
        return Lease(*rows[0]) if rows else None

    def certificates_of(self, device: str) -> list[str]:
        """Fingerprints of the certificates that serve it, the newest first."""
        statement = "SELECT fingerprint FROM certificates WHERE device = ? AND state IN ('issued', 'active') ORDER BY issued_ns DESC"
        return [row[0] for row in self._register.read(statement, (device,))]

    def leases(self) -> list[Lease]:
        """The newest first."""
        return [Lease(*row) for row in self._register.read("SELECT * FROM leases ORDER BY from_ns DESC")]


def _settle(connection: apsw.Connection, request_id: str, state: str, now_ns: int) -> None:
    connection.execute("UPDATE access_requests SET state = ?, settled_ns = ? WHERE id = ?", (state, now_ns, request_id))


def _granted(request: AccessRequest) -> list[Related]:
    """What an approved request names, for its window."""
    if request.act not in _OF_STUDIES:
        return []
    facts, source, person = request.facts, f"request:{request.id}", request.holder
    window = (request.from_ns, request.until_ns, source, request.act)
    patients, studies = facts.get("patients", []), facts.get("studies", [])
    found = []
    if isinstance(patients, list):
        found += [
            Related(person, Relation.GRANTED, PatientIdentity(str(pair[1]), str(pair[0])), "", *window)
            for pair in patients
        ]
    if isinstance(studies, list):
        found += [Related(person, Relation.GRANTED, None, str(uid), *window) for uid in studies]
    return found
