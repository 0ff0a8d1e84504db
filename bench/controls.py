"""What does each control cost? The same program with one of them taken out at a time, and with all, on one association and on four.

Durability stays on in every row but its own. And T30: would a clinician notice? 500 images at a modality's own pace, and one study read back.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from bench import peers
from bench.corpus import write_corpus
from bench.ingest import Run, corpora, measure, send
from bench.reading import read
from leadglass.lab.corpus import Image
from leadglass.lab.peers import Archive, Identity, associated, storing
from leadglass.wire.part10 import read_part10

CONTROLS = ("tls", "policy", "encryption", "digest", "event")
ROWS = ("", *CONTROLS, ",".join(CONTROLS), "durability")
PACE_SECONDS = 1 / 20  # between two images of a modality
PACED_IMAGES = 500
READS, READ_PDU_BYTES = 9, 131_072


def runs(scratch: Path, *, rounds: int, instances: int, associations: Sequence[int]) -> Iterator[Run]:
    places, files = corpora(scratch, "ct", instances)
    for turn in range(rounds):
        for count in associations:
            for without in ROWS:
                place = scratch / f"controls-{turn}-{count}-{without or 'none'}"
                place.mkdir()
                with peers.leadglass(place, without=without) as peer:
                    send(peer, [places[0]], 1)
                    yield measure(
                        "controls", peer, places[:count], files, max(1, instances // (files * count)), scratch
                    )
                subprocess.run(["rm", "-rf", str(place)], check=True)


def table(found: Sequence[Run]) -> Table:
    """Each row's share of the throughput of the program with all controls: what is above 1 is what that control costs."""
    shown = Table(
        "without", "assoc", "instances/s", "CPU ms", "of all controls' rate", title="cost of controls", box=None
    )
    grouped: dict[tuple[int, str], list[Run]] = {}
    for run in found:
        if not run.void:
            grouped.setdefault((run.associations, run.peer), []).append(run)
    for (associations, name), each in grouped.items():
        rate = statistics.median(run.per_second for run in each)
        base = statistics.median(run.per_second for run in grouped.get((associations, "leadglass"), each))
        cpu = statistics.median(run.cpu_ms for run in each)
        without = name.removeprefix("leadglass").removeprefix(" without ") or "nothing"
        shown.add_row(without, str(associations), f"{rate:.1f}", f"{cpu:.2f}", f"{rate / base:.2f}")
    return shown


@dataclass(frozen=True, slots=True)
class Paced:
    """Seconds until the last image was acknowledged, the answers' mean and 99th percentile in milliseconds, and how long a workstation
    waits for the study after that: the median of `READS` C-GETs, seconds."""

    without: str
    seconds: float
    mean_ms: float
    p99_ms: float
    get_seconds: float


def paced(scratch: Path, count: int = PACED_IMAGES) -> Iterator[Paced]:
    """A modality that makes 20 images a second, so many in all, and waits for each answer."""
    place = scratch / "paced"
    write_corpus(place, count=100, side=512, seed=5, per_study=100)
    images = [_image(path) for path in sorted(place.iterdir())]
    for number, without in enumerate(("", ",".join(each for each in CONTROLS if each != "tls"))):
        place = scratch / f"paced-{number}"  # a comma in a path means something to the relay
        place.mkdir()
        with peers.leadglass(place, without=without) as peer:
            yield _send_paced(peer, place, images, without, count)
        subprocess.run(["rm", "-rf", str(place)], check=True)


def _send_paced(peer: peers.Peer, place: Path, images: list[Image], without: str, count: int) -> Paced:
    identity, answers = Identity("BENCH", "127.0.0.1", place / "stick"), []
    with associated(identity, Archive("127.0.0.1", peer.port), storing(images[:1])) as session:
        begun = time.perf_counter()
        for number in range(count):
            due = begun + number * PACE_SECONDS
            time.sleep(max(0.0, due - time.perf_counter()))
            sent = time.perf_counter()
            if (answer := session.store(_renamed(images[number % len(images)], number))).status:
                raise RuntimeError(f"{peer.name} answered {answer}")
            answers.append(1000 * (time.perf_counter() - sent))
        seconds = time.perf_counter() - begun
    with peers.relayed(peer, place) as port:
        reads = [read(peer, port, READ_PDU_BYTES, number, count) for number in range(READS)]
    return Paced(
        without,
        seconds,
        statistics.mean(answers),
        statistics.quantiles(answers, n=100)[98],
        statistics.median(count / each.per_second for each in reads),
    )


def _image(path: Path) -> Image:
    data = path.read_bytes()
    meta = read_part10(data)
    names = (meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid)
    return Image(path.name, *names, "", "", "", "", data[meta.data_set_offset :])


def _renamed(image: Image, number: int) -> Image:
    """Another SOP Instance UID of the same length in the same place."""
    old = image.sop_instance_uid
    new = old[:-6] + f"{100_000 + number}" if len(old) > 12 else f"{old}.{number}"
    data = image.data_set.replace(old.encode(), new.encode(), 1)
    return Image(image.name, image.sop_class_uid, new, image.transfer_syntax_uid, "", "", "", "", data)
