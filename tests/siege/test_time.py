"""T28: the clock goes a day back and 400 days on, certificates end in the middle of the day: what that stops is said, and nothing is lost."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadglass.lab.corpus import Image
from leadglass.lab.peers import Archive, Identity, TurnedAway, associated, echoing, getting, storing
from leadglass.wire import tags
from tests.running import RunningSite, running, until
from tests.synthetic import image, uid

SHIFTED = Path(__file__).parent / "shifted"
DAY_SECONDS = 86_400
CALLS_IN_A_ROW = 8


class Clock:
    """What the site takes for the time: real time and an offset, which may change at any moment. Its monotonic clock is the real one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(0)
        self.before = ("env", f"PYTHONPATH={SHIFTED}:{os.environ.get('PYTHONPATH', '')}", f"SHIFTED_CLOCK={path}")

    def set(self, days: int) -> None:
        part = self._path.with_suffix(".part")
        part.write_text(str(days * DAY_SECONDS))
        part.replace(self._path)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "offset")


@pytest.fixture
def site(tmp_path: Path, clock: Clock) -> Iterator[RunningSite]:
    with running(tmp_path) as site:
        site.before = clock.before
        site.up()
        site.enroll("CT1", "echo,store")
        site.enroll("WS1", "echo,find,get")
        yield site
        print(site.log())


def who(site: RunningSite, name: str) -> Identity:
    return Identity(name, "127.0.0.1", site.bundles[name].directory)


def stored(site: RunningSite, rng: random.Random, study: str) -> Image:
    one = image(rng, study=study)
    with associated(who(site, "CT1"), Archive("127.0.0.1", site.port), storing([one])) as session:
        assert session.store(one).status == 0
    return one


def may(site: RunningSite, name: str) -> str:
    """ "" where it is let in, else what it heard."""
    try:
        with associated(who(site, name), Archive("127.0.0.1", site.port), echoing()) as session:
            assert session.echo().status == 0
        return ""
    except TurnedAway as away:
        return str(away)


def kept(site: RunningSite, study: str) -> set[str]:
    came: set[str] = set()
    pairs = [(image(random.Random(0)).sop_class_uid, image(random.Random(0)).transfer_syntax_uid)]
    with associated(who(site, "WS1"), Archive("127.0.0.1", site.port), getting(pairs)) as session:
        answer = session.get(
            "STUDY", {tags.STUDY_INSTANCE_UID: study}, lambda each: came.add(each.sop_instance_uid) or 0
        )
        assert not answer.failed
    return came


def came_back(site: RunningSite, study: str, one: Image) -> bool:
    """Several times in a row: whichever worker is called."""
    try:
        return all(kept(site, study) == {one.sop_instance_uid} for _ in range(CALLS_IN_A_ROW))
    except TurnedAway:
        return False


def stepped(site: RunningSite, words: str) -> bool:
    return any(words in row["reason"] for row in site.events("clock:stepped"))


def test_t28_a_clock_that_jumps_loses_nothing_and_says_so(site: RunningSite, clock: Clock) -> None:
    rng, study = random.Random(1), uid(random.Random(2))
    sent = [stored(site, rng, study)]
    clock.set(-1)
    assert until(lambda: stepped(site, "back"))
    sent.append(stored(site, rng, study))
    (status,) = site.rows("status")
    assert any("before the newest record" in each for each in status["clock_stops"])
    clock.set(0)
    assert until(lambda: stepped(site, "forward"))
    sent.append(stored(site, rng, study))
    assert kept(site, study) == {each.sop_instance_uid for each in sent}
    told = [row["subject_uids"][0] for row in site.events("instance:stored")]
    assert sorted(told) == sorted(each.sop_instance_uid for each in sent)
    writers = {row["writer"] for row in site.events("instance:stored")}
    for writer in writers:  # the order of a writer's events is that of their numbers, whatever the clock said
        numbers = [row["sequence"] for row in site.events("instance:stored") if row["writer"] == writer]
        assert len(set(numbers)) == len(numbers)


def test_t28_certificates_that_end_while_it_runs_are_refused_by_name(site: RunningSite, clock: Clock) -> None:
    rng, study = random.Random(3), uid(random.Random(4))
    sent = stored(site, rng, study)
    assert may(site, "CT1") == ""
    clock.set(2000)
    assert until(lambda: may(site, "CT1") != "")
    assert may(site, "CT1").startswith("A-ASSOCIATE-RJ")
    refused = [row["reason"] for row in site.events("association:refused") if "expired" in row["reason"]]
    assert refused and "CT1" in refused[-1]
    (status,) = site.rows("status")
    assert any("expired by this clock" in each and "CT1" in each for each in status["clock_stops"])
    assert until(lambda: bool(site.events("certificate:expiring")), 90), "said by itself"
    clock.set(0)
    assert until(lambda: may(site, "CT1") == "")
    assert until(lambda: may(site, "WS1") == "" and came_back(site, study, sent)), "every worker has its certificate"
    assert kept(site, study) == {sent.sop_instance_uid}
