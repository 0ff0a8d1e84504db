"""How long do "who saw this patient" and "what did this person see" take, in a hospital's years of events? The audit search is filled by its own
feeding step and asked at the console, over HTTP, as an auditor asks.

The events are synthetic and come from no journal: what is timed is the feeding step, not the reading of a journal before it. They lie in a
directory that is kept, so that filling goes on where it was broken off.
"""

from __future__ import annotations

import random
import re
import statistics
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.finding import BATCH, patient_of, settled, study_of
from leadglass.audit.codec import Recorded, encode_event
from leadglass.audit.journal.cursors import Cursor, Cursors
from leadglass.audit.journal.read import Broken, raised
from leadglass.audit.search import FILE, AuditSearch
from leadglass.site.keyring import Keyring, StudyKey
from leadglass.site.load import load
from leadglass.site.sitekey import SiteKey
from leadglass.site.writer import Writer
from leadglass.terms import Event, EventKind, Outcome, PatientIdentity, Role
from tests.running import RunningSite
from tests.staff import staff

PLACE = Path(".bench") / "audit"
PATIENTS, PEOPLE, WORKSTATIONS = 50_000, 500, 120
STUDIES_OF_ONE = 3
APART_NS = 3_150_000_000  # ten million events a year
BEGIN_NS = 1_750_000_000_000_000_000
BLOCK_EVENTS = 1_000  # made from one seed: filling goes on at any of them
STEP_EVENTS = 100_000  # between two looks at the bar
QUESTIONS = 200
GOAL_SECONDS = 2.0
WRITER = bytes.fromhex("5e" * 16)  # of the events that no journal holds


@dataclass(frozen=True, slots=True)
class Filled:
    """`events` of `there` were fed now, in `seconds` by the clock and `cpu_seconds` of this process, making them not counted; `size_bytes` on disk."""

    events: int
    there: int
    seconds: float
    cpu_seconds: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Seconds of a page of the console, over `times` questions, `rows` the mean number of events shown."""

    what: str
    times: int
    rows: float
    p50: float
    p95: float
    worst: float


def runs(place: Path, events: int) -> Iterator[Filled | Asked]:
    site = _site(place)
    yield _filled(site, events)
    site.up()
    try:
        yield from _questions(site)
    finally:
        site.down()


def _site(place: Path) -> RunningSite:
    """The one that is kept there, or a new one whose index knows the patients' studies."""
    config = place / "site" / "leadglass.toml"
    if config.exists():
        port = re.search(r'"127\.0\.0\.1:(\d+)"', config.read_text())
        assert port is not None
        return RunningSite(place / "site", int(port[1]))
    place.mkdir(parents=True, exist_ok=True)
    from leadglass.__main__ import assemble

    site = RunningSite.make(place)
    house = assemble(site.directory)
    try:
        known = PATIENTS * STUDIES_OF_ONE
        for start in range(0, known, BATCH):
            numbers = range(start, min(known, start + BATCH))
            house.index.publish([settled(number, patient_of(number // STUDIES_OF_ONE)) for number in numbers])
    finally:
        house.close()
    return site


# ---- filling


def _filled(site: RunningSite, events: int) -> Filled:
    key = SiteKey.open(load(site.directory).key, site.directory)
    writer = Writer.create(site.directory)
    keyring = _EveryKey(site.directory, key, writer)
    search = AuditSearch.open(site.directory, keyring, feeds=True)
    happened = Happened(keyring, events)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    begun, working = time.perf_counter(), time.process_time()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("feeding the audit search", total=events)
        while search.catch_up(happened):
            progress.update(bar, completed=happened.there)
    search.close()
    seconds, worked = time.perf_counter() - begun, time.process_time() - working
    keyring.close()
    writer.seal()
    writer.close()
    size = sum(each.stat().st_size for each in site.directory.glob(f"{FILE}*"))
    return Filled(
        happened.made, happened.there, seconds - happened.seconds, worked - happened.cpu_seconds, size
    )  # fmt: skip


class _EveryKey(Keyring):
    """Holds every study's key: one each, as a process would have that met each study once."""

    def study_key(self, study_instance_uid: str) -> StudyKey:
        held: dict[str, StudyKey] = self.__dict__.setdefault("held", {})
        found = held.get(study_instance_uid)
        if found is None:
            found = held[study_instance_uid] = super().study_key(study_instance_uid)
        return found


@dataclass
class Happened:
    """Where the synthetic events come from, in the place of the journal. `seconds`, `cpu_seconds`: what making them took.

    Of one number the event is always the same: a patient and a person of their own, some far more often than others.
    """

    keyring: Keyring
    events: int
    made: int = 0
    there: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    _names: dict[int, tuple[str, str]] = field(default_factory=dict)

    def read(self, since: Cursors | None = None, broken: Broken = raised) -> Iterator[Recorded]:
        """At most `STEP_EVENTS` of what comes after."""
        cursor = (since or Cursors()).get(WRITER) or Cursor(1, 0, 0)
        self.there = cursor.sequence
        for first in range(cursor.sequence, min(self.events, cursor.sequence + STEP_EVENTS), BLOCK_EVENTS):
            begun, working = time.perf_counter(), time.process_time()
            block = list(self._block(first, min(BLOCK_EVENTS, self.events - first)))
            self.seconds += time.perf_counter() - begun
            self.cpu_seconds += time.process_time() - working
            self.made, self.there = self.made + len(block), self.there + len(block)
            yield from block

    def _block(self, first: int, count: int) -> Iterator[Recorded]:
        chance = random.Random(first)
        told = islice((each for _ in range(count) for each in _visit(chance)), count)
        for number, event in enumerate(told, first + 1):
            body = encode_event(event, self.keyring)
            yield Recorded(event, BEGIN_NS + number * APART_NS, WRITER, number, 1, number, body=body)


def _visit(chance: random.Random) -> Iterator[Event]:
    """What somebody does at one moment: mostly searching, opening, retrieving; now and then a sign-in, or something that is not theirs."""
    person, patient = _person(chance), _patient(chance)
    study = study_of(patient * STUDIES_OF_ONE + chance.randrange(STUDIES_OF_ONE))
    address, kind = f"10.20.{person % 8}.{person % 250}", chance.random()
    who = f"person:{name_of(person)}"
    if kind < 0.02:
        details: dict[str, str | int] = {"method": "passkey", "factors": "passkey", "session": f"{person:032x}"}
        yield Event(
            EventKind.PERSON_RECOGNISED, Outcome.SUCCESS, who, address, "sign-in", "factors:passkey", details=details
        )
    elif kind < 0.03:
        yield Event(
            EventKind.REQUEST_REFUSED, Outcome.REFUSED, who, address, "find", reason="not theirs", details={"refusal": "NotPermitted"}
        )  # fmt: skip
    elif kind < 0.48:
        yield from _released(who, address, "find", "cedar:radiologist-sees", {}, patient=patient_of(patient))
    elif kind < 0.83:
        yield from _released(who, address, "find", "cedar:radiologist-sees", {}, study=study)
    else:
        device = f"WS{person % WORKSTATIONS}"
        yield from _released(device, address, "get", "ws-get+cedar:radiologist-sees", {"person": who}, study=study)


def _released(
    actor: str, address: str, action: str, rule: str, told: dict[str, str | int], *, patient: str = "", study: str = ""
) -> Iterator[Event]:
    about = PatientIdentity(patient) if patient else None
    details: dict[str, str | int] = {"root": "study", "level": "STUDY", **told, "total": 120}
    for kind in (EventKind.RELEASE_STARTED, EventKind.RELEASE_ENDED):
        if kind is EventKind.RELEASE_ENDED:
            details = {**details, "completed": 120, "failed": 0, "warned": 0}
        yield Event(
            kind, Outcome.SUCCESS, actor, address, action, rule, study_instance_uid=study, details=details, patient=about
        )  # fmt: skip


def name_of(person: int) -> str:
    return f"person{person:03d}"


def _patient(chance: random.Random) -> int:
    """Of 50,000 the first is one visit in 220, the last one in 100,000."""
    return int(PATIENTS * chance.random() ** 2)


def _person(chance: random.Random) -> int:
    return int(PEOPLE * chance.random() ** 1.5)


# ---- asking


def _questions(site: RunningSite) -> Iterator[Asked]:
    chance = random.Random(3)
    patients = [patient_of(0), *(patient_of(_patient(chance)) for _ in range(QUESTIONS - 1))]
    persons = [name_of(_person(chance)) for _ in range(QUESTIONS)]
    with staff(site) as people:
        name = f"auditor-{uuid.uuid4().hex[:8]}"
        people.hire(name, Role.AUDITOR)
        with people.browser(name) as reader:
            for what, field_name, values in (
                ("who saw this patient", "patient", patients),
                ("who saw this patient, of an issuer", "patient", [f"{each}&issuer=HOSPITAL" for each in patients]),
                ("what did this person see", "person", [f"person:{each}" for each in persons]),
            ):
                taken, rows = [], []
                for value in values:
                    begun = time.perf_counter()
                    text = reader.page(f"/who?{field_name}={value}")
                    taken.append(time.perf_counter() - begun)
                    if not text:
                        raise RuntimeError(f"the console refused {what!r} of {value}")
                    rows.append(text.count('<th scope="row" data-label="When"'))
                p95 = statistics.quantiles(taken, n=20, method="inclusive")[18]
                yield Asked(what, len(taken), statistics.mean(rows), statistics.median(taken), p95, max(taken))


def table(found: Sequence[Filled | Asked]) -> Table:
    shown = Table("question", "times", "rows, mean", "p50 s", "p95 s", "worst s", title="the audit, asked", box=None)
    for each in found:
        if isinstance(each, Asked):
            seconds = (f"{value:.3f}" for value in (each.p50, each.p95, each.worst))
            shown.add_row(each.what, str(each.times), f"{each.rows:.0f}", *seconds)
    told = [each for each in found if isinstance(each, Filled)]
    shown.caption = "; ".join(_said(each) for each in told)
    return shown


def _said(filled: Filled) -> str:
    fed = (
        f"{filled.events:,} fed now in {filled.seconds:.0f} s ({filled.cpu_seconds:.0f} s of CPU)"
        if filled.events
        else "none fed now"
    )
    pace = f", {filled.events / filled.seconds:,.0f} a second" if filled.events else ""
    return f"{filled.there:,} events, {fed}{pace}; {filled.size_bytes / 1e9:.2f} GB; the goal is {GOAL_SECONDS:.0f} s at p95"
