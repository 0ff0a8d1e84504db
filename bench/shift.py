"""What do the controls cost somebody who reads? A scripted shift in Chromium by people's own gestures, and the same look-ups without the controls.

With them somebody signs in, says that they sit at the workstation, unlocks the screen whenever it locked itself, and breaks the glass once, by
the press that says why. Without them every study is theirs to see, nobody signs in and nothing locks. A browser that is driven takes no time to think, to point
or to type: `at a person's pace` adds that, by the keystroke-level model (Card, Moran and Newell 1980).
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator
from pydicom.dataset import Dataset
from rich.table import Table

from leadglass.lab.peers import Archive, Identity, Received, associated, getting
from leadglass.wire import tags
from leadglass.wire.dimse import Status
from tests.interop.test_pacs import fresh, store
from tests.interop.test_people import rows
from tests.running import RunningSite, running, until
from tests.web.browser import Screen, chromium
from tests.web.people import World

STUDIES, UNLOCKS = 20, 6
KEY_SECONDS, CLICK_SECONDS, GESTURE_SECONDS = (
    0.28,
    1.3,
    3.0,
)  # an average typist; pointing and clicking; a finger on the key
MORE_SECONDS_MAX, UNLOCK_SECONDS_MAX, GLASS_SECONDS_MAX = 60.0, 3.0, 10.0  # the goals
LOCK_HEARD_MILLISECONDS = 300  # the server hears of it after the page does


@dataclass
class Hands:
    """What a person did so far; `began`: when, on the monotonic clock."""

    screen: Screen
    clicks: int = 0
    keys: int = 0
    gestures: int = 0
    began: float = field(default_factory=time.monotonic)

    def click(self, what: Locator) -> None:
        self.clicks += 1
        what.click()

    def type(self, text: str) -> None:
        self.keys += len(text)
        self.screen.page.keyboard.type(text)

    def press(self, key: str) -> None:
        self.keys += 1
        self.screen.page.keyboard.press(key)

    def touch(self) -> None:
        """The gesture that the virtual authenticator makes by itself."""
        self.gestures += 1

    def took(self) -> Took:
        return Took(time.monotonic() - self.began, self.clicks, self.keys, self.gestures)


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds by the clock, with a person who loses no time, and what they did."""

    seconds: float
    clicks: int
    keys: int
    gestures: int

    @property
    def actions(self) -> int:
        return self.clicks + self.keys + self.gestures

    @property
    def paced_seconds(self) -> float:
        """At a person's pace."""
        hands = self.keys * KEY_SECONDS + self.clicks * CLICK_SECONDS + self.gestures * GESTURE_SECONDS
        return self.seconds + hands


@dataclass(frozen=True, slots=True)
class Shift:
    """`glass`: from the refused page to the images' page; `attributed`: the workstation's retrieval stands under the person's name; `queued`: the
    broken glass waits for its review."""

    studies: int
    controlled: Took
    without: Took
    unlocks: tuple[Took, ...]
    glass: Took
    attributed: bool
    queued: bool


def shift(scratch: Path, studies: int = STUDIES, unlocks: int = UNLOCKS) -> Shift:
    with running(scratch) as site, chromium() as browser:
        made, images = _made(site, browser, studies)
        emergency = images[-1]
        worked = Worked(made, made.screen("reader"))
        controlled = worked.through(images[:-1], emergency, unlocks)
        worked.hands.screen.close()
        opened = made.signed_in("everybody")
        hands = Hands(opened)  # whoever needs no sign-in has begun here
        for each in images[:-1]:
            _look_up(hands, each)
        _follow(hands, emergency)
        _is_shown(hands, emergency)
        without = hands.took()
        opened.close()
        return Shift(
            len(images) - 1, controlled, without, tuple(worked.unlocks), worked.glass, worked.attributed(), _queued(made)
        )  # fmt: skip


def _made(site: RunningSite, browser: Browser, studies: int) -> tuple[World, list[Dataset]]:
    site.enroll("CT1", "echo,store")
    site.enroll("WS1", "find,get")
    site.up()
    ports = _ports(site)
    made = World(site, browser, f"http://localhost:{ports['console']}", f"https://localhost:{ports['web']}")
    images = []
    for number in range(studies + 1):
        department = "Radiology" if number < studies else "Cardiology"
        facts: dict[str, Any] = {"PatientName": f"Synthetic^Number{number}", "InstitutionalDepartmentName": department}
        image = fresh(PatientID=f"SHIFT{number:04d}", AccessionNumber=f"A{number:04d}", **facts)
        if store(site, "CT1", image) != [Status.SUCCESS]:
            raise RuntimeError("a study was not stored")
        images.append(image)
    for name, role, departments in (
        ("reader", "radiologist", ["Radiology"]),
        ("everybody", "radiologist", ["Radiology", "Cardiology"]),
        ("guard", "security-officer", []),
    ):
        screen = made.screen()
        screen.enrol(made.invite(name, role, *(word for each in departments for word in ("--department", each))))
        made.leave(name, screen)
    return made, images


def _ports(site: RunningSite) -> dict[str, int]:
    found: dict[str, int] = json.loads((site.directory / "state" / "ports.json").read_text())
    return found


class Worked:
    """One shift with every control. The clock stands still while a screen locks itself: nobody waits for that."""

    def __init__(self, made: World, screen: Screen) -> None:
        self.made, self.hands, self.unlocks = made, Hands(screen), list[Took]()
        self.glass = Took(0, 0, 0, 0)

    def through(self, images: Sequence[Dataset], emergency: Dataset, unlocks: int) -> Took:
        hands, page = self.hands, self.hands.screen.page
        self.hands.clicks += 1
        self.hands.screen.sign_in()
        hands.touch()
        hands.click(page.get_by_role("link", name="Workstation"))
        card = page.get_by_role("article", name="WS1")
        hands.click(card.get_by_role("button", name="I sit here"))
        page.wait_for_selector("text=You sit here until")
        hands.click(page.get_by_role("link", name="Studies"))
        every = max(1, len(images) // max(1, unlocks))
        for number, each in enumerate(images):
            if number % every == 0 and len(self.unlocks) < unlocks:
                self._locked()
            _look_up(hands, each)
        self._retrieved(images[0])
        self._broken(emergency)
        return hands.took()

    def _locked(self) -> None:
        """Nobody was at the screen; then somebody is again."""
        hands, page = self.hands, self.hands.screen.page
        away = time.monotonic()
        page.get_by_role("button", name="Lock").click()
        page.wait_for_selector("dialog[open]")
        page.wait_for_timeout(LOCK_HEARD_MILLISECONDS)
        hands.began += time.monotonic() - away
        before = Hands(hands.screen)
        before.press("Enter")  # the button has the focus
        before.touch()
        page.wait_for_selector("dialog[open]", state="detached")
        self.unlocks.append(before.took())
        hands.keys, hands.gestures = hands.keys + before.keys, hands.gestures + before.gestures

    def _retrieved(self, image: Dataset) -> None:
        """By the workstation's own software, which costs the person nothing."""
        identity = Identity("WS1", "127.0.0.1", self.made.site.bundles["WS1"].directory)
        pairs = [(str(image.SOPClassUID), str(image.file_meta.TransferSyntaxUID))]

        def take(instance: Received) -> int:
            return Status.SUCCESS

        with associated(identity, Archive("127.0.0.1", self.made.site.port), getting(pairs)) as session:
            answer = session.get("STUDY", {tags.STUDY_INSTANCE_UID: str(image.StudyInstanceUID)}, take)
        if answer.status != Status.SUCCESS:
            raise RuntimeError(f"the workstation was given nothing: {answer}")

    def _broken(self, image: Dataset) -> None:
        _follow(self.hands, image)
        page = self.hands.screen.page
        page.wait_for_selector("h1:has-text('This study is not shown')")
        before = Hands(self.hands.screen)
        before.click(page.get_by_role("link", name="Break the glass"))
        before.click(page.get_by_role("button", name="Emergency"))
        _is_shown(before, image)
        self.glass = before.took()
        self.hands.clicks, self.hands.keys = self.hands.clicks + before.clicks, self.hands.keys + before.keys

    def attributed(self) -> bool:
        """Whether the events name the person for what the workstation retrieved."""

        def told() -> bool:
            ended = [each for each in rows(self.made.site, "events") if each["kind"] == "release:ended"]
            return any(
                each["actor"] == "WS1" and each["action"] == "get" and each["details"].get("person") == "person:reader"
                for each in ended
            )

        return until(told)


def _look_up(hands: Hands, image: Dataset) -> None:
    """A study by its Patient ID, from the list and back to it."""
    page = hands.screen.page
    hands.click(page.get_by_label("Patient", exact=True))
    hands.type(str(image.PatientID))
    hands.press("Enter")
    hands.click(page.locator(f"a[href='/studies/{image.StudyInstanceUID}']"))
    _is_shown(hands, image)
    hands.click(page.get_by_role("link", name="Studies"))
    page.wait_for_selector("h1:has-text('Studies')")


def _follow(hands: Hands, image: Dataset) -> None:
    """A link that somebody sent."""
    hands.clicks += 1
    hands.screen.open(f"/studies/{image.StudyInstanceUID}")


def _is_shown(hands: Hands, image: Dataset) -> None:
    hands.screen.page.wait_for_selector(f"main:has-text({str(image.PatientID)!r}) table")


def _queued(made: World) -> bool:
    guard = made.signed_in("guard")
    guard.open("/review")
    card = guard.page.get_by_role("article", name="Glass broken by reader")
    waits = card.count() == 1 and "emergency" in card.inner_text()
    guard.close()
    return waits


def table(found: Sequence[Shift]) -> Table:
    shown = Table("what", "seconds", "at a person's pace", "clicks", "keys", "gestures", title="a shift", box=None)
    for each in found:
        unlocks = [took.seconds for took in each.unlocks]
        told = (
            (f"{each.studies} look-ups, with the controls", each.controlled),
            ("the same without them", each.without),
            ("from the refused page to the images", each.glass),
            ("an unlock, the slowest", max(each.unlocks, key=lambda took: took.seconds)),
        )
        for what, took in told:
            counts = (str(took.clicks), str(took.keys), str(took.gestures))
            shown.add_row(what, f"{took.seconds:.2f}", f"{took.paced_seconds:.1f}", *counts)
        more = each.controlled.paced_seconds - each.without.paced_seconds
        shown.caption = (
            f"{each.controlled.seconds - each.without.seconds:.1f} s more by the clock, {more:.1f} s at a person's pace (goal {MORE_SECONDS_MAX:.0f}), "
            f"{each.controlled.actions - each.without.actions} actions more; unlock {statistics.median(unlocks):.2f} s median, {max(unlocks):.2f} worst "
            f"(goal {UNLOCK_SECONDS_MAX:.0f}); glass goal {GLASS_SECONDS_MAX:.0f} s; the retrieval is {'' if each.attributed else 'NOT '}under the "
            f"person's name; the glass is {'' if each.queued else 'NOT '}in the queue of reviews"
        )
    return shown
