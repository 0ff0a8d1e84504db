"""Who is signed in, from where, since when, and why did it end? Rows of the register; the secret itself is never kept, only its digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadglass.terms import Factor

if TYPE_CHECKING:
    import apsw

    from leadglass.site.register import Register

_COLUMNS = "id, person, browser, address, factors, opened_ns, seen_ns, stepped_up_ns, locked, until_ns, ended_ns, ended_why, hint"


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One sign-in and what became of it. `id`: public, names it in events; `browser`: digest of what it is bound to.

    `hint`: what the provider that vouched calls its own session of that browser, "" without one.

    Times are Unix nanoseconds, 0: never. `seen_ns`: the last request, a few seconds late; `until_ns`: its end, whatever happens.
    """

    id: str
    person: str
    browser: str
    address: str
    factors: frozenset[Factor]
    opened_ns: int
    seen_ns: int
    stepped_up_ns: int
    locked: bool
    until_ns: int
    ended_ns: int
    ended_why: str
    hint: str = ""

    def live(self, now_ns: int) -> bool:
        return not self.ended_ns and now_ns < self.until_ns


def end_everything(connection: apsw.Connection, person: str, why: str, now_ns: int) -> int:
    """Sessions and leases of a person, inside the caller's transaction; how many sessions."""
    connection.execute(
        "UPDATE sessions SET ended_ns = ?, ended_why = ? WHERE person = ? AND ended_ns = 0", (now_ns, why, person)
    )
    ended = connection.changes()
    connection.execute(
        "UPDATE leases SET ended_ns = ?, ended_why = ? WHERE person = ? AND ended_ns = 0", (now_ns, why, person)
    )
    return ended


class Sessions:
    """Thread-safe, as the register is."""

    def __init__(self, register: Register) -> None:
        self._register = register

    def open(self, row: SessionRow, digest: str, most: int) -> None:
        """At most `most` of a person at once: the oldest makes room. Raises StoreFault, also where the id was opened before."""
        factors = " ".join(sorted(row.factors))
        values = (
            row.id, digest, row.person, row.browser, row.address, factors, row.opened_ns, row.seen_ns, row.stepped_up_ns,
            int(row.locked), row.until_ns, row.ended_ns, row.ended_why, row.hint,
        )  # fmt: skip
        with self._register.transaction() as connection:
            connection.execute("INSERT INTO sessions VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)", values)
            connection.execute(
                "UPDATE sessions SET ended_ns = ?, ended_why = 'more sessions at once than allowed' WHERE id IN ("
                "SELECT id FROM sessions WHERE person = ? AND ended_ns = 0 AND until_ns > ? AND id != ? "
                "ORDER BY seen_ns DESC LIMIT -1 OFFSET ?)",
                (row.opened_ns, row.person, row.opened_ns, row.id, most - 1),
            )

    def by_digest(self, digest: str) -> SessionRow | None:
        rows = self._register.read(f"SELECT {_COLUMNS} FROM sessions WHERE digest = ?", (digest,))  # noqa: S608
        return _row(rows[0]) if rows else None

    def get(self, session_id: str) -> SessionRow | None:
        rows = self._register.read(f"SELECT {_COLUMNS} FROM sessions WHERE id = ?", (session_id,))  # noqa: S608
        return _row(rows[0]) if rows else None

    def of(self, person: str) -> list[SessionRow]:
        """Every one that is still kept, the newest first."""
        statement = f"SELECT {_COLUMNS} FROM sessions WHERE person = ? ORDER BY opened_ns DESC"  # noqa: S608
        return [_row(each) for each in self._register.read(statement, (person,))]

    def every(self) -> list[SessionRow]:
        return [_row(each) for each in self._register.read(f"SELECT {_COLUMNS} FROM sessions ORDER BY opened_ns DESC")]  # noqa: S608

    def vouched(self, source: str, person: str, hint: str, now_ns: int) -> list[SessionRow]:
        """The live ones of people of a provider: of one person, of one session there, or of that session of that person. Nobody's for neither."""
        if not person and not hint:
            return []
        columns = ", ".join(f"sessions.{each}" for each in _COLUMNS.split(", "))
        statement = (
            f"SELECT {columns} FROM sessions JOIN people ON people.id = sessions.person WHERE people.source = ?1 AND ended_ns = 0 "  # noqa: S608
            "AND sessions.until_ns > ?4 AND ?2 IN ('', person) AND ?3 IN ('', hint)"
        )
        return [_row(each) for each in self._register.read(statement, (source, person, hint, now_ns))]

    def seen(self, session_id: str, now_ns: int) -> None:
        self._set(session_id, "seen_ns = ?", (now_ns,))

    def lock(self, session_id: str) -> None:
        self._set(session_id, "locked = 1", ())

    def unlock(self, session_id: str, now_ns: int) -> None:
        self._set(session_id, "locked = 0, seen_ns = ?", (now_ns,))

    def step_up(self, session_id: str, now_ns: int) -> None:
        self._set(session_id, "stepped_up_ns = ?, locked = 0, seen_ns = ?", (now_ns, now_ns))

    def end(self, session_id: str, why: str, now_ns: int) -> None:
        """With the leases that were opened in it. Harmless to repeat: the first reason stays."""
        with self._register.transaction() as connection:
            for table, column in (("sessions", "id"), ("leases", "session")):
                connection.execute(
                    f"UPDATE {table} SET ended_ns = ?, ended_why = ? WHERE {column} = ? AND ended_ns = 0",  # noqa: S608
                    (now_ns, why, session_id),
                )

    def forget(self, before_ns: int) -> None:
        """Those that were over by then; the journal still tells of them."""
        with self._register.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE until_ns < ?", (before_ns,))

    def _set(self, session_id: str, what: str, values: tuple[int, ...]) -> None:
        with self._register.transaction() as connection:
            connection.execute(f"UPDATE sessions SET {what} WHERE id = ? AND ended_ns = 0", (*values, session_id))  # noqa: S608


def _row(found: tuple[str, str, str, str, str, int, int, int, int, int, int, str, str]) -> SessionRow:
    factors = frozenset(Factor(each) for each in found[4].split())
    return SessionRow(*found[:4], factors, *found[5:8], bool(found[8]), found[9], found[10], found[11], found[12])
