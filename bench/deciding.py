"""What does a decision cost, and what that a query shows a person only what is theirs? At 100,000 people and a million studies.

Decisions are timed in this process, one by one, each for another person. Queries go to an index that was filled by its own publish step, through
filter and recheck, without a wire: what a client and its association cost is in `find`. Whatever else the machine does is in every figure.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from rich.table import Table

from bench.finding import DEPARTMENTS, clinician_of, date_of, department_of, patient_of, study_of
from leadglass.archive.index import Index
from leadglass.archive.visibility import Visibility
from leadglass.policy import evaluation, studies
from leadglass.policy.decide import decide
from leadglass.policy.people import decide_person, permitted, rechecker
from leadglass.site.model import Site
from leadglass.terms import (
    Act,
    Caller,
    Containment,
    Dossier,
    Factor,
    Level,
    PatientIdentity,
    Peer,
    Permit,
    Person,
    Proposal,
    Query,
    Related,
    Relation,
    Role,
    Root,
    Subject,
)
from leadglass.wire import tags

PEOPLE = 100_000
PATIENTS_OF_ONE = 20
DECISIONS = 20_000
COLD_DECISIONS = 2_000  # with nothing remembered
QUERIES = 200
PAGE = 100  # answers that a person looks at
MATCHES = 100_000
NOW_NS = 1_800_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds of `times` repetitions: median, 95th and 99th percentile, by the clock and of this thread's processor time.

    `studies`: in the index, 0 where it is not asked.
    """

    what: str
    times: int
    studies: int
    median_ms: float
    p95_ms: float
    p99_ms: float
    cpu_median_ms: float
    cpu_p95_ms: float
    cpu_p99_ms: float


def runs(scratch: Path, sizes: Sequence[int]) -> Iterator[Took]:
    from leadglass.__main__ import assemble

    for size in sizes:
        place = scratch / f"policy-{size}"
        base = [sys.executable, "-m", "leadglass"]
        for line in (
            [*base, "init", str(place), "--loopback"],
            [*base, "--site", str(place), *_ENROLL, str(place / "stick")],
        ):
            subprocess.run(line, check=True, capture_output=True)
        subprocess.run([sys.executable, "-m", "bench.finding", str(place), str(size)], check=True, capture_output=True)
        house = assemble(place)
        try:
            yield from _decisions(house.site(), size)
            yield from _queries(house.index, size)
            yield from _rechecked(house.index, size)
        finally:
            house.close()
        subprocess.run(["rm", "-rf", str(place)], check=True)


_ENROLL = (
    "device",
    "enroll",
    "BENCH",
    "--ae",
    "BENCH",
    "--network",
    "127.0.0.0/8",
    "--may",
    "echo,store,find,get",
    "--out",
)


# ---- decisions


def _decisions(site: Site, size: int) -> Iterator[Took]:
    chance = random.Random(7)
    subject = Subject(site.devices["BENCH"], Peer("127.0.0.1", 1, "dimse"), Proposal("BENCH", "LEADGLASS"), "")
    device_asks = Query(subject, Root.STUDY, Level.STUDY, {})
    calm = Containment()
    yield _timed("a device's flow", DECISIONS, lambda: decide(site, calm, subject, device_asks))

    def anybody() -> Caller:
        return _caller(chance.randrange(PEOPLE), size)

    def asked(who: Caller) -> Permit:
        return decide_person(who, Query(who, Root.STUDY, Level.STUDY, {}), 0, NOW_NS)

    def about(who: Caller) -> bool:
        number = chance.randrange(size)
        dossier = Dossier(
            study_of(number), PatientIdentity(patient_of(number)), frozenset({department_of(number).lower()}),
            frozenset({clinician_of(number).lower()}), frozenset({"CT"}),
        )  # fmt: skip
        return rechecker(asked(who), lambda: NOW_NS)([dossier])[0]  # type: ignore[misc]

    yield _timed("a person's query: rule and filter", DECISIONS, asked, anybody)
    yield _timed("a person's query, then one study decided again", DECISIONS, about, anybody)
    yield _timed("a person's query, nothing remembered", COLD_DECISIONS, asked, lambda: _forgetting(anybody))
    theirs = Dossier(study_of(1), PatientIdentity(patient_of(1)))
    yield _timed(
        "a person and one study, nothing remembered",
        COLD_DECISIONS,
        lambda who: permitted(who, Act.STUDY_READ, theirs, NOW_NS),
        lambda: _forgetting(lambda: _with(_caller(1, size), patient_of(1))),
    )


def _forgetting(make: Callable[[], Caller]) -> Caller:
    evaluation.ask.cache_clear()
    studies.scope.cache_clear()
    return make()


def _caller(number: int, size: int) -> Caller:
    """One of the people: a clinician, or a radiologist or technologist of a department, with patients of their own."""
    role = (Role.REFERRING_CLINICIAN, Role.RADIOLOGIST, Role.TECHNOLOGIST)[number % 3]
    chance = random.Random(number)
    patients = [chance.randrange(size) for _ in range(PATIENTS_OF_ONE)]
    departments = frozenset() if role is Role.REFERRING_CLINICIAN else frozenset({department_of(number)})
    names = frozenset({clinician_of(number)}) if role is Role.REFERRING_CLINICIAN else frozenset[str]()
    name = f"person{number}"
    related = tuple(Related(name, Relation.CARE_TEAM, PatientIdentity(patient_of(each))) for each in patients)
    person = Person(name, name, name, frozenset({role}), departments, names)
    return Caller(person, "", Peer("127.0.0.1", 1, "web"), frozenset({Factor.PASSKEY}), 0, related)


def _with(who: Caller, patient: str) -> Caller:
    person = Person("one", "one", "one", frozenset({Role.RADIOLOGIST}))
    return Caller(person, "", who.peer, who.factors, 0, (Related("one", Relation.CARE_TEAM, PatientIdentity(patient)),))


# ---- queries


def _queries(index: Index, size: int) -> Iterator[Took]:
    """The first page of what a person looks at, as the study list asks for it."""
    shown = dict.fromkeys(
        (tags.STUDY_INSTANCE_UID, tags.PATIENT_ID, tags.PATIENT_NAME, tags.STUDY_DATE, tags.ACCESSION_NUMBER, tags.MODALITIES_IN_STUDY), ""
    )  # fmt: skip
    chance = random.Random(11)

    def days() -> str:
        number = chance.randrange(size)
        return f"{date_of(number)}-{date_of(min(size - 1, number + 500))}"

    kinds: tuple[tuple[str, int, Callable[[Caller], dict[int, str]]], ...] = (
        ("clinician: everything theirs", 0, lambda who: {}),
        ("clinician: ten days", 0, lambda who: {tags.STUDY_DATE: days()}),
        ("clinician: a patient of somebody else", 0, lambda who: {tags.PATIENT_ID: patient_of(chance.randrange(size))}),
        ("radiologist: the department's and their patients'", 1, lambda who: {}),
        ("radiologist: ten days", 1, lambda who: {tags.STUDY_DATE: days()}),
        ("radiologist: a name that everybody has", 1, lambda who: {tags.PATIENT_NAME: "SYN*"}),
        ("technologist: since a day", 2, lambda who: {tags.STUDY_DATE: f"{date_of(chance.randrange(size))}-"}),
    )
    for what, kind, keys in kinds:
        yield _timed(
            what, QUERIES, partial(_first_page, index, shown, keys), partial(_of_kind, chance, kind, size), studies=size
        )


def _first_page(index: Index, shown: dict[int, str], keys: Callable[[Caller], dict[int, str]], who: Caller) -> int:
    query = Query(who, Root.STUDY, Level.STUDY, {**shown, **keys(who)})
    return len(list(islice(index.find(query, _visible(who, query)), PAGE)))


def _of_kind(chance: random.Random, kind: int, size: int) -> Caller:
    return _caller(chance.randrange(PEOPLE // 3) * 3 + kind, size)


def _visible(who: Caller, query: Query) -> Visibility:
    permit = decide_person(who, query, 0, NOW_NS)
    return Visibility(permit.sop_classes, permit.studies, rechecker(permit, lambda: NOW_NS))


def _rechecked(index: Index, size: int) -> Iterator[Took]:
    """A query of as many matches as departments have that make up `MATCHES`, whole: filtered alone, and rechecked."""
    mine = frozenset(department_of(number) for number in range(max(1, min(DEPARTMENTS, DEPARTMENTS * MATCHES // size))))
    person = Person("one", "one", "one", frozenset({Role.RADIOLOGIST}), mine)
    who = Caller(person, "", Peer("127.0.0.1", 1, "web"), frozenset())
    query = Query(who, Root.STUDY, Level.STUDY, {tags.STUDY_INSTANCE_UID: ""})
    both = _visible(who, query)
    matches = sum(1 for _ in index.find(query, both))

    def whole(visible: Visibility) -> int:
        return sum(1 for _ in index.find(query, visible))

    alone = Visibility(both.sop_classes, both.studies)
    yield _timed(f"{matches:,} matches, filtered", 3, partial(whole, alone), studies=size)
    yield _timed(f"{matches:,} matches, filtered and rechecked", 3, partial(whole, both), studies=size)
    known = [
        Dossier(study_of(number), PatientIdentity(patient_of(number)), frozenset({department_of(number).lower()}))
        for number in range(matches)
    ]

    def again() -> int:
        recheck = _visible(who, query).recheck
        assert recheck is not None
        return sum(sum(recheck(known[start : start + PAGE])) for start in range(0, matches, PAGE))

    yield _timed(f"{matches:,} matches, policy's part of the recheck", 3, again)


def _timed(
    what: str, times: int, act: Callable[..., object], made: Callable[[], Caller] | None = None, *, studies: int = 0
) -> Took:
    """`made`: whom each repetition is for; making them is not timed."""
    taken, worked = [], []
    for _ in range(times):
        arguments = (made(),) if made is not None else ()
        begun, working = time.perf_counter(), time.thread_time()
        act(*arguments)
        worked.append(1000 * (time.thread_time() - working))
        taken.append(1000 * (time.perf_counter() - begun))
    return Took(what, times, studies, *_percentiles(taken), *_percentiles(worked))


def _percentiles(taken: Sequence[float]) -> tuple[float, float, float]:
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    return statistics.median(taken), cuts[94], cuts[98]


def table(found: Sequence[Took]) -> Table:
    shown = Table(
        "what", "studies", "times", "median ms", "p95", "p99", "CPU median ms", "p95", "p99", title="policy for people", box=None
    )  # fmt: skip
    for each in found:
        clock, cpu = (each.median_ms, each.p95_ms, each.p99_ms), (each.cpu_median_ms, each.cpu_p95_ms, each.cpu_p99_ms)
        studies_there = f"{each.studies:,}" if each.studies else "-"
        shown.add_row(each.what, studies_there, f"{each.times:,}", *(f"{value:.3f}" for value in (*clock, *cpu)))
    return shown
