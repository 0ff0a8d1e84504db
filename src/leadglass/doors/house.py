"""What does a process of the site have in its hands? The opened parts, and the stages made of them; `__main__` puts them together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from leadglass.archive.erasing import Eraser
from leadglass.archive.index import Index
from leadglass.audit.journal.ends import Ends
from leadglass.audit.journal.read import JournalReader
from leadglass.audit.search import AuditSearch
from leadglass.audit.usage import Usage
from leadglass.doors.present import Present
from leadglass.gateway import Stages
from leadglass.identity.people.desk import Desk
from leadglass.site.enrolments import Enrolments
from leadglass.site.erasures import Erasures
from leadglass.site.exports import Exports
from leadglass.site.kits import Kits
from leadglass.site.model import Site
from leadglass.site.people import People
from leadglass.site.register import Register
from leadglass.terms import Containment, Device, Operator


class Worker(Protocol):
    """One serving process. `generation`: of the containment state and site file it acts by; `pid` 0: none runs."""

    @property
    def pid(self) -> int: ...
    @property
    def connections(self) -> int: ...
    @property
    def generation(self) -> int: ...


class Network(Protocol):
    """The kernel's table: what whoever loads it asks and tells. `row`: as `status` shows it; `amber`: in words an operator can act on.

    `traffic`: what passes it, by flow.
    """

    def table(self, known: str) -> Mapping[str, object]: ...
    def hear(self, report: Mapping[str, Any]) -> None: ...
    def traffic(self) -> Mapping[str, object]: ...
    def row(self) -> Mapping[str, object]: ...
    def amber(self) -> Iterator[str]: ...


@dataclass(frozen=True, slots=True)
class Serving:
    """What only a running site knows. `lag_seconds`: by consumer of the journal, since it had last read everything; `metrics`: where they are.

    `silent()`, `broken()`: which directories do not answer, which journals do not hold, in words an operator can act on.
    """

    workers: Callable[[], Sequence[Worker]]
    lag_seconds: Callable[[], Mapping[str, float]]
    metrics: str
    network: Network
    silent: Callable[[], Sequence[str]] = tuple
    broken: Callable[[], Sequence[str]] = tuple


class Standings(Protocol):
    """What commands do to the archive itself."""

    def promote(self, sop_instance_uid: str, version: int) -> Mapping[str, object]: ...
    def dismiss(self, sop_instance_uid: str, version: int) -> Mapping[str, object]: ...
    def rebuild(self, progress: Callable[[int, int], None]) -> Mapping[str, object]: ...


class Backups(Protocol):
    """What `leadglass backup` does; `progress` is asked meanwhile: bytes done, bytes there."""

    def run(self, directory: Path, change: str) -> Mapping[str, object]: ...
    def progress(self) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class House:
    """`site()` and `containment()` give what holds now; `fatal` is set where acknowledging must stop.

    `present`: who is still welcome, and which flows on demand are open now.
    `search()` opens the audit search for feeding it, which is the keeper's; `usage()` says what it counted since then (Unix nanoseconds).
    `answers()`: the rule by which an operator has a question answered; raises NotPermitted.
    `web_address()`: what links for people begin with, `https://NAME[:PORT]`, on a loopback site `http://localhost:PORT`; "" without a web door.
    """

    site_dir: Path
    do: Stages
    register: Register
    people: People
    enrolments: Enrolments
    exports: Exports
    erasures: Erasures
    eraser: Eraser
    kits: Kits
    desk: Desk
    index: Index
    journal: JournalReader
    ends: Ends
    standings: Standings
    backups: Backups
    writer: str
    fatal: threading.Event
    site: Callable[[], Site]
    containment: Callable[[], Containment]
    present: Present
    accepts: Callable[[Device, bytes | None], bool]
    containment_unreadable: Callable[[], bool]
    oldest_unsynced_seconds: Callable[[], float]
    recover: Callable[[str], None]
    recover_all: Callable[[], int]
    upkeep: Callable[[], None]
    anchors: Callable[[], list[str]]
    usage: Callable[[int], Usage]
    search: Callable[[], AuditSearch]
    web_address: Callable[[], str]
    answers: Callable[[Operator, str], str]
    close: Callable[[], None]
    serving: Serving | None = None


Assemble = Callable[[Path], House]
Question = Callable[[House, Mapping[str, object]], Iterator[Mapping[str, object]]]
