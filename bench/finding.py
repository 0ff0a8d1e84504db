"""How long does a query take, and how does that grow? findscu on one association; our index is filled by its own publish step.

Orthanc is filled by C-STORE, which is why it is asked at one size only; what it does at others is in docs/performance.md.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench import peers
from bench.corpus import write_corpus
from bench.ingest import send
from leadglass.lab.peers import Archive, Identity, Session, associated, querying
from leadglass.terms import Instance, Location, PatientIdentity, Settled, Standing
from leadglass.wire import tags

QUERIES = 200
TIMED = 100  # one by one, for a percentile
STUDIES_AT_ORTHANC = 10_000
CANCELLED = 5  # times, each in the middle of an answer that names every study
CANCELLED_STUDIES_MAX = 100_000
BATCH = 1_000
CLINICIANS, DEPARTMENTS = 2_000, 20  # that studies name, in turn


@dataclass(frozen=True, slots=True)
class Query:
    """Milliseconds a query: the mean over `QUERIES` by findscu, the 95th percentile over `TIMED` by our own client, 0 where it was not used."""

    peer: str
    studies: int
    key: str
    mean_ms: float
    p95_ms: float


def queries(scratch: Path, sizes: Sequence[int], *, orthanc: bool) -> Iterator[Query]:
    for studies in sizes:
        place = scratch / f"find-{studies}"
        place.mkdir()
        with peers.leadglass(place, filled=studies) as peer:
            for key, value in _keys(studies).items():
                mean = _findscu(peer, value)
                yield Query(peer.name, studies, key, mean, _percentile(peer, place, value))
            if studies <= CANCELLED_STUDIES_MAX:
                yield _cancelled(peer, place, studies)
        subprocess.run(["rm", "-rf", str(place)], check=True)
    if orthanc:
        yield from _orthanc(scratch)


def _keys(studies: int) -> dict[str, str]:
    number = studies // 2
    return {
        "Patient ID": f"0010,0020={patient_of(number)}",
        "Study Instance UID": f"0020,000D={study_of(number)}",
        "Study Date, a range of 50": f"0008,0020={date_of(number)}",
    }


def study_of(number: int) -> str:
    return f"2.25.9{number:09d}"


def patient_of(number: int) -> str:
    return f"SYN{number:07d}"


def clinician_of(number: int) -> str:
    return f"Clinician^C{number % CLINICIANS:04d}"


def department_of(number: int) -> str:
    return f"Department {number % DEPARTMENTS}"


def date_of(number: int) -> str:
    """About fifty studies share a day."""
    day = number // 50
    return f"{1900 + day // 336:04d}{day // 28 % 12 + 1:02d}{day % 28 + 1:02d}"


def settled(number: int, patient: str) -> Settled:
    """One synthetic study of one instance, as an index knows it."""
    study = study_of(number)
    attributes = {
        tags.PATIENT_ID: patient, tags.PATIENT_NAME: f"Synthetic^P{number:07d}", tags.STUDY_INSTANCE_UID: study,
        tags.STUDY_DATE: date_of(number), tags.MODALITY: "CT", tags.ACCESSION_NUMBER: f"A{number:07d}",
        tags.REFERRING_PHYSICIAN_NAME: clinician_of(number), tags.INSTITUTIONAL_DEPARTMENT_NAME: department_of(number),
    }  # fmt: skip
    instance = Instance(
        f"{study}.1.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", study, f"{study}.1", PatientIdentity(patient),
        attributes,
    )  # fmt: skip
    place = Location("synthetic", 0, 0, number + 1)
    return Settled(
        instance, number.to_bytes(32, "big"), 0, 0, 1, Standing.CURRENT, frozenset(), None, "BENCH", "", "", number,
        bytes(16), place,
    )  # fmt: skip


def fill(site_dir: Path, studies: int) -> None:
    """Publishes that many synthetic studies of one instance each into a stopped site's index."""
    from leadglass.__main__ import assemble

    house = assemble(site_dir)
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            for start in progress.track(range(0, studies, BATCH), description=f"publishing {studies:,} studies"):
                numbers = range(start, min(studies, start + BATCH))
                house.index.publish([settled(number, patient_of(number)) for number in numbers])
    finally:
        house.close()


def _findscu(peer: peers.Peer, key: str) -> float:
    line = [peers.program("findscu"), "-S", "-aet", "BENCH", "-aec", peer.called_ae_title, "--repeat", str(QUERIES)]
    if peer.credentials is not None:
        private, certificate, authority = peer.credentials
        line += ["+tls", str(private), str(certificate), "+cf", str(authority)]
    wanted = [key] if key.startswith("0020,000D") else [key, "0020,000D"]
    line += ["-k", "0008,0052=STUDY", *(word for each in wanted for word in ("-k", each)), "127.0.0.1", str(peer.port)]
    begun = time.perf_counter()
    done = subprocess.run(line, capture_output=True, text=True, timeout=600, env=peers.environment(), check=False)
    if done.returncode:
        raise RuntimeError(f"findscu at {peer.name}: {done.stderr[-500:]}")
    return 1000 * (time.perf_counter() - begun) / QUERIES


def _percentile(peer: peers.Peer, place: Path, key: str) -> float:
    identity = Identity("BENCH", "127.0.0.1", place / "stick")
    tag, _, value = key.partition("=")
    group, _, element = tag.partition(",")
    keys = {int(group, 16) << 16 | int(element, 16): value, tags.STUDY_INSTANCE_UID: ""}
    if int(element, 16) == 0x000D:
        keys = {tags.STUDY_INSTANCE_UID: value}
    with associated(identity, Archive("127.0.0.1", peer.port), querying()) as session:
        return statistics.quantiles([_timed(session, keys) for _ in range(TIMED)], n=20)[18]


def _timed(session: Session, keys: dict[int, str]) -> float:
    begun = time.perf_counter()
    session.find("STUDY", keys)
    return 1000 * (time.perf_counter() - begun)


def _cancelled(peer: peers.Peer, place: Path, studies: int) -> Query:
    """From C-CANCEL, sent after half the answers, to the final status."""
    taken = []
    with associated(
        Identity("BENCH", "127.0.0.1", place / "stick"), Archive("127.0.0.1", peer.port), querying()
    ) as session:
        for _ in range(CANCELLED):
            answer, _ = session.find("STUDY", {tags.STUDY_INSTANCE_UID: ""}, enough=studies // 2)
            if answer.status != 0xFE00:
                raise RuntimeError(f"a cancelled query ended with {answer}")
            taken.append(1000 * (time.monotonic() - session.cancelled_at))
    return Query(peer.name, studies, "C-CANCEL to FE00", statistics.mean(taken), max(taken))


def _orthanc(scratch: Path) -> Iterator[Query]:
    corpus, place = scratch / "studies", scratch / "find-orthanc"
    write_corpus(corpus, count=STUDIES_AT_ORTHANC, side=4, seed=7, per_study=1)
    place.mkdir()
    with peers.orthanc(place, tls=True) as peer:
        send(peer, [corpus], 1, invent=False)
        number = STUDIES_AT_ORTHANC // 2
        for key, value in (
            ("Patient ID", f"0010,0020=SYN{number:06d}"),
            ("Study Instance UID", f"0020,000D=2.25.90000000001.7.{number}"),
        ):
            yield Query(peer.name, STUDIES_AT_ORTHANC, key, _findscu(peer, value), 0.0)
    subprocess.run(["rm", "-rf", str(place), str(corpus)], check=True)


def table(found: Sequence[Query]) -> Table:
    shown = Table(
        "archive", "studies", "key", "mean ms (findscu)", "p95 ms (our client)", title="study C-FIND over TLS", box=None
    )
    for each in found:
        p95 = f"{each.p95_ms:.2f}" if each.p95_ms else "-"
        shown.add_row(each.peer, f"{each.studies:,}", each.key, f"{each.mean_ms:.2f}", p95)
    return shown


if __name__ == "__main__":  # in a process of its own: `python -m bench.finding SITE STUDIES`
    fill(Path(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps({"published": int(sys.argv[2])}))
