"""Which recovery kits were made at the console, and who keeps a share of them? The register's rows about that.

A kit and its shares lie here sealed until they are handed over: the file to whoever had it made, each share to its custodian. What is kept is
forgotten here, as is everything after a week, and when a newer kit is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadglass.site.sitekey import seal, unseal
from leadglass.terms import NotChanged

if TYPE_CHECKING:
    from leadglass.site.register import Register

KITS = """
CREATE TABLE kits(
    id TEXT PRIMARY KEY, request TEXT NOT NULL, person TEXT NOT NULL, threshold INTEGER NOT NULL, lacks TEXT NOT NULL, file BLOB,
    made_ns INTEGER NOT NULL, until_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE kit_shares(
    kit TEXT NOT NULL, person TEXT NOT NULL, share BLOB, kept_ns INTEGER NOT NULL, PRIMARY KEY(kit, person)) WITHOUT ROWID;
"""
LATEST_MAX = 20
_COLUMNS = "id, request, person, threshold, lacks, made_ns, until_ns, file IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Custody:
    """Whose share it is, an id, and since when they have it (Unix nanoseconds); 0: it waits for them, or was never fetched."""

    person: str
    kept_ns: int = 0


@dataclass(frozen=True, slots=True)
class MadeKit:
    """`request`: whose approval it rests on; `person`: who had it made, an id. Any `threshold` of the shares open it. `here`: it can be fetched still, until `until_ns`."""

    id: str
    request: str
    person: str
    threshold: int
    lacks: str
    made_ns: int
    until_ns: int
    here: bool = True
    custodians: tuple[Custody, ...] = ()


class Kits:
    """Thread-safe, as the register is. `key`: seals files and shares, on top of the register's own cipher."""

    def __init__(self, register: Register, key: bytes) -> None:
        self._register, self._key = register, key

    def make(self, kit: MadeKit, file: str, shares: Sequence[str]) -> None:
        """`shares`: in the order of `kit.custodians`. Whatever earlier kits left here is forgotten."""
        with self._register.transaction() as connection:
            connection.execute("UPDATE kits SET file = NULL")
            connection.execute("UPDATE kit_shares SET share = NULL")
            sealed = seal(self._key, file.encode(), kit.id.encode())
            row = (kit.id, kit.request, kit.person, kit.threshold, kit.lacks, sealed, kit.made_ns, kit.until_ns)
            connection.execute("INSERT INTO kits VALUES(?,?,?,?,?,?,?,?)", row)
            for custody, share in zip(kit.custodians, shares, strict=True):
                box = seal(self._key, share.encode(), f"{kit.id}/{custody.person}".encode())
                connection.execute("INSERT INTO kit_shares VALUES(?,?,?,0)", (kit.id, custody.person, box))

    def get(self, kit_id: str) -> MadeKit | None:
        found = self._select("id = ?", (kit_id,))
        return found[0] if found else None

    def latest(self) -> list[MadeKit]:
        """The newest first."""
        return self._select("1", ())

    def waiting_for(self, person: str, now_ns: int) -> MadeKit | None:
        """The kit of which this person has a share to fetch."""
        statement = "SELECT kit FROM kit_shares WHERE person = ? AND share IS NOT NULL"
        found = [self.get(str(kit)) for (kit,) in self._register.read(statement, (person,))]
        return next((each for each in found if each is not None and now_ns < each.until_ns), None)

    def share(self, kit_id: str, person: str, now_ns: int) -> str:
        """Raises NotChanged where this person has none to fetch."""
        statement = "SELECT share FROM kit_shares JOIN kits ON id = kit WHERE kit = ? AND kit_shares.person = ? AND share IS NOT NULL AND until_ns > ?"
        found = self._register.read(statement, (kit_id, person, now_ns))
        if not found:
            raise NotChanged("no share of that kit waits for you: you have it already, or its time is over")
        return unseal(self._key, bytes(found[0][0]), f"{kit_id}/{person}".encode()).decode()

    def kept(self, kit_id: str, person: str, now_ns: int) -> None:
        """Whose it is has it, and it is here no longer. Raises NotChanged."""
        self.share(kit_id, person, now_ns)
        with self._register.transaction() as connection:
            statement = "UPDATE kit_shares SET share = NULL, kept_ns = ? WHERE kit = ? AND person = ?"
            connection.execute(statement, (now_ns, kit_id, person))

    def file(self, kit_id: str, person: str, now_ns: int) -> str:
        """To whoever had it made. Raises NotChanged."""
        statement = "SELECT file FROM kits WHERE id = ? AND person = ? AND file IS NOT NULL AND until_ns > ?"
        found = self._register.read(statement, (kit_id, person, now_ns))
        if not found:
            raise NotChanged("that kit is not here any more, or somebody else had it made")
        return unseal(self._key, bytes(found[0][0]), kit_id.encode()).decode()

    def overdue(self, now_ns: int) -> list[str]:
        """Ids of kits whose time is over and of which something is still here."""
        statement = "SELECT id FROM kits WHERE until_ns <= ? AND (file IS NOT NULL OR EXISTS(SELECT 1 FROM kit_shares WHERE kit = id AND share IS NOT NULL))"
        return [str(row[0]) for row in self._register.read(statement, (now_ns,))]

    def lapse(self, kit_id: str, now_ns: int) -> None:
        """Raises NotChanged where its time is not over."""
        if kit_id not in self.overdue(now_ns):
            raise NotChanged("that kit is not over")
        with self._register.transaction() as connection:
            connection.execute("UPDATE kits SET file = NULL WHERE id = ?", (kit_id,))
            connection.execute("UPDATE kit_shares SET share = NULL WHERE kit = ?", (kit_id,))

    def _select(self, where: str, values: tuple[str, ...]) -> list[MadeKit]:
        statement = f"SELECT {_COLUMNS} FROM kits WHERE {where} ORDER BY made_ns DESC LIMIT ?"  # noqa: S608
        return [self._made(row) for row in self._register.read(statement, (*values, LATEST_MAX))]

    def _made(self, row: Sequence[object]) -> MadeKit:
        identity, request, person, threshold, lacks, made_ns, until_ns, here = row
        statement = "SELECT person, kept_ns FROM kit_shares WHERE kit = ? ORDER BY person"
        kept = self._register.read(statement, (str(identity),))
        return MadeKit(
            str(identity), str(request), str(person), int(str(threshold)), str(lacks), int(str(made_ns)), int(str(until_ns)), bool(here),
            tuple(Custody(str(each[0]), int(each[1])) for each in kept),
        )  # fmt: skip
