"""How fast does revocation act? On an association in the middle of a C-GET, from the moment it is ordered until nothing more comes."""

from __future__ import annotations

import random
import statistics
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from leadglass.lab.corpus import Image
from leadglass.lab.peers import associated, storing
from leadglass.policy.containment import LOOK_EVERY_SECONDS
from leadglass.site.access import Glass
from leadglass.terms import ChangeKind, PatientIdentity, Role
from tests.running import running
from tests.staff import REASON, Staff, staff
from tests.synthetic import image, uid
from tests.transfer import Transfer, get

INSTANCES = 400
PATIENT = "BENCH"
CLOCK_SECONDS = 2.0  # how long a right lasts that ends by its time
GOAL_SECONDS = 1.0

Change = Callable[[Staff], object]
CHANGES: dict[str, Change] = {
    "person disabled": lambda people: people.order("reader", ChangeKind.PERSON_DISABLE, why="left"),
    "role taken away": lambda people: people.order(
        "reader", ChangeKind.ROLE_REVOKE, role=Role.RADIOLOGIST, why="moved"
    ),
    "session ended": lambda people: people.order("reader", ChangeKind.SESSION_END, session="all", why="asked"),
    "session ended, by token": lambda people: people.order(
        "reader", ChangeKind.SESSION_END, session="all", why="asked"
    ),
    "lease ended": lambda people: people.leave("reader", "WS1"),
    "somebody else sat down": lambda people: people.sit("other", "WS1"),
    "relation withdrawn": lambda people: people.relate("reader", "care-team", "SOMEBODY-ELSE"),
    "device disabled": lambda people: people.order("WS1", ChangeKind.DEVICE_DISABLE, reason="odd"),
}
GLASS = "broken glass, by its time"


@dataclass(frozen=True, slots=True)
class Revoked:
    """Seconds from the order, or from the end of its time, until the transfer had ended; `instances`: that had come by then."""

    what: str
    seconds: float
    instances: int


def revocations(scratch: Path, rounds: int) -> Iterator[Revoked]:
    rng = random.Random(1)
    study = uid(rng)
    images = [image(rng, study=study, patient=PATIENT) for _ in range(INSTANCES)]
    with running(scratch) as site:
        site.enroll("CT1", "store")
        site.enroll("WS1", "get")
        site.up()
        with staff(site) as people:
            for name in ("reader", "other"):
                people.hire(name, Role.RADIOLOGIST)
            with associated(people.at("CT1"), people.archive, storing(images)) as session:
                for each in images:
                    session.store(each)
            for _ in range(rounds):
                for what, change in CHANGES.items():
                    _seated(people)
                    transfer = get(people, images, token=_token(people) if "token" in what else "")
                    transfer.after(lambda change=change: change(people))  # type: ignore[misc]
                    yield Revoked(what, transfer.ended - transfer.ordered, transfer.taken)
                yield _glass(people, images)


def _seated(people: Staff) -> None:
    """The reader sits at WS1 and treats the patient; whatever was taken away is given back."""
    people.seat("reader", "WS1", PATIENT)
    time.sleep(2 * LOOK_EVERY_SECONDS)


def _token(people: Staff) -> str:
    """In the place of the lease."""
    token = str(people.do("reader", ChangeKind.TOKEN_MINT, "WS1")["token"])
    people.leave("reader", "WS1")
    time.sleep(2 * LOOK_EVERY_SECONDS)
    return token


def _glass(people: Staff, images: Sequence[Image]) -> Revoked:
    _seated(people)
    people.relate("reader", "care-team", "SOMEBODY-ELSE")
    time.sleep(2 * LOOK_EVERY_SECONDS)
    now_ns = time.time_ns()
    until_ns = now_ns + int(CLOCK_SECONDS * 1e9)
    person = people.callers["reader"].person.id
    people.house.people.access.break_glass(
        Glass(uuid.uuid4().hex, person, PatientIdentity(PATIENT), REASON, now_ns, until_ns)
    )
    transfer: Transfer = get(people, images)
    seconds = transfer.after(lambda: time.sleep(max(0.0, (until_ns - time.time_ns()) / 1e9)))
    return Revoked(GLASS, seconds, transfer.taken)


def table(found: Sequence[Revoked]) -> Table:
    shown = Table("what", "runs", "median s", "worst s", title="revocation in the middle of a C-GET", box=None)
    for what in (*CHANGES, GLASS):
        taken = [each.seconds for each in found if each.what == what]
        if taken:
            shown.add_row(what, str(len(taken)), f"{statistics.median(taken):.2f}", f"{max(taken):.2f}")
    late = sum(each.seconds > GOAL_SECONDS for each in found)
    shown.caption = f"{late} of {len(found)} took more than {GOAL_SECONDS:.0f} s"
    return shown
