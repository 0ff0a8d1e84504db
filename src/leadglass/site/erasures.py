"""Which studies are to be erased, from when on, and which were? The register's rows about that.

waiting      ordered and approved: everything is as it was, and whoever may undo it does
closing      its time has come: nothing more is stored of these studies
destroying   their keys are known, and each writer destroys its own
done         nothing opens them any more; what named them is gone from the row, a token stays by which somebody who knows a study finds it
undone       somebody undid it while it waited, or who ordered or approved it may not any more
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadglass.terms import NotChanged, PatientIdentity

if TYPE_CHECKING:
    from leadglass.site.register import Register

ERASURES = """
CREATE TABLE erasures(
    id TEXT PRIMARY KEY, request TEXT NOT NULL, person TEXT NOT NULL, issuer TEXT NOT NULL, patient_id TEXT NOT NULL, studies TEXT NOT NULL,
    count INTEGER NOT NULL, reason TEXT NOT NULL, ordered_ns INTEGER NOT NULL, due_ns INTEGER NOT NULL,
    state TEXT NOT NULL CHECK(state IN ('waiting', 'closing', 'destroying', 'done', 'undone')), keys TEXT NOT NULL, instances INTEGER NOT NULL,
    settled_ns INTEGER NOT NULL, settled_why TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX erasures_state ON erasures(state, due_ns);
CREATE INDEX erasures_ordered ON erasures(ordered_ns);
"""
DAY_NS = 24 * 3600 * 1_000_000_000
_NAMES_NOTHING = json.dumps({"devices": [], "studies": [], "patients": [], "purpose": ""})
OPEN = ("waiting", "closing", "destroying")
_COLUMNS = "id, request, person, issuer, patient_id, studies, count, reason, ordered_ns, due_ns, state, keys, instances, settled_ns, settled_why"


@dataclass(frozen=True, slots=True)
class Erasure:
    """`request`: whose approval it rests on; `person`: who ordered it, an id. `studies`: UIDs; of one that is done, tokens. Times: Unix nanoseconds.

    `keys`: ids of what is destroyed. `instances`: how many versions were erased, 0 until it is done. `settled_why`: of one that was undone.
    """

    id: str
    request: str
    person: str
    patient: PatientIdentity
    studies: tuple[str, ...]
    reason: str
    ordered_ns: int
    due_ns: int
    state: str = "waiting"
    keys: frozenset[bytes] = frozenset()
    instances: int = 0
    settled_ns: int = 0
    settled_why: str = ""
    count: int = 0


class Erasures:
    """Thread-safe, as the register is."""

    def __init__(self, register: Register) -> None:
        self._register = register

    def order(self, erasure: Erasure, judge: Callable[[int], None]) -> None:
        """`judge` is told how many studies were ordered within a day, undone ones not counted, and raises where that is enough.

        Raises NotChanged where one of the studies is to be erased already.
        """
        row = (
            erasure.id, erasure.request, erasure.person, erasure.patient.issuer, erasure.patient.patient_id, json.dumps(list(erasure.studies)),
            len(erasure.studies), erasure.reason, erasure.ordered_ns, erasure.due_ns, "waiting", "[]", 0, 0, "",
        )  # fmt: skip
        with self._register.transaction() as connection:
            known = {uid for (each,) in connection.execute(_OF_OPEN) for uid in json.loads(str(each))}
            if known & set(erasure.studies):
                raise NotChanged("one of these studies is to be erased already")
            counted = "SELECT coalesce(sum(count), 0) FROM erasures WHERE ordered_ns > ? AND state != 'undone'"
            judge(int(connection.execute(counted, (erasure.ordered_ns - DAY_NS,)).fetchall()[0][0]))  # type: ignore[arg-type]
            connection.execute(f"INSERT OR IGNORE INTO erasures VALUES({','.join('?' * len(row))})", row)

    def get(self, erasure_id: str) -> Erasure | None:
        found = self._select("id = ?", (erasure_id,))
        return found[0] if found else None

    def latest(self, limit: int) -> list[Erasure]:
        """The newest first."""
        return self._select("1", ())[:limit]

    def open(self) -> list[Erasure]:
        """What is not over: the oldest first."""
        return self._select(f"state IN {OPEN!r}", ())[::-1]

    def undo(self, erasure_id: str, why: str, now_ns: int) -> None:
        """Raises NotChanged where it does not wait any more."""
        self._move(erasure_id, "waiting", "undone", "settled_ns = ?, settled_why = ?", (now_ns, why))

    def close(self, erasure_id: str) -> None:
        self._move(erasure_id, "waiting", "closing", "settled_why = ''", ())

    def destroy(self, erasure_id: str, keys: Iterable[bytes]) -> None:
        self._move(erasure_id, "closing", "destroying", "keys = ?", (json.dumps(sorted(each.hex() for each in keys)),))

    def finish(self, erasure_id: str, tokens: Collection[str], instances: int, now_ns: int) -> None:
        """What named patient and studies goes with it, here and where else the register has it. Raises NotChanged."""
        erasure = self.get(erasure_id)
        if erasure is None or erasure.state != "destroying":
            raise NotChanged("that erasure is not at its end")
        with self._register.transaction() as connection:
            for uid in erasure.studies:
                connection.execute("DELETE FROM relations WHERE study_instance_uid = ?", (uid,))
                connection.execute("UPDATE exports SET study = ?, issuer = '', patient_id = '' WHERE study = ?", (f"erased:{erasure_id}", uid))  # fmt: skip
            connection.execute(
                "UPDATE access_requests SET facts = ?, about = '', why = '' WHERE id = ?",
                (_NAMES_NOTHING, erasure.request),
            )
            connection.execute(
                "UPDATE erasures SET state = 'done', issuer = '', patient_id = '', studies = ?, keys = '[]', reason = '', instances = ?,"
                " settled_ns = ? WHERE id = ?",
                (json.dumps(sorted(tokens)), instances, now_ns, erasure_id),
            )

    def _move(self, erasure_id: str, before: str, state: str, also: str, values: tuple[str | int, ...]) -> None:
        with self._register.transaction() as connection:
            statement = f"UPDATE erasures SET state = ?, {also} WHERE id = ? AND state = ?"  # noqa: S608 - our own words
            connection.execute(statement, (state, *values, erasure_id, before))
            if not connection.changes():
                raise NotChanged(f"that erasure is not {before} any more")

    def _select(self, where: str, values: tuple[str | int, ...]) -> list[Erasure]:
        statement = f"SELECT {_COLUMNS} FROM erasures WHERE {where} ORDER BY ordered_ns DESC, id"  # noqa: S608
        return [
            Erasure(
                id=row[0],
                request=row[1],
                person=row[2],
                patient=PatientIdentity(row[4], row[3]),
                studies=tuple(json.loads(row[5])),
                count=row[6],
                reason=row[7],
                ordered_ns=row[8],
                due_ns=row[9],
                state=row[10],
                keys=frozenset(map(bytes.fromhex, json.loads(row[11]))),
                instances=row[12],
                settled_ns=row[13],
                settled_why=row[14],
            )
            for row in self._register.read(statement, values)
        ]


_OF_OPEN = f"SELECT studies FROM erasures WHERE state IN {OPEN!r}"  # noqa: S608
