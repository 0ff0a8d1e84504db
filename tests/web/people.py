"""Who uses the console in tests? A running site with studies and people, each with a passkey made in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from leadglass.site.load import SP1800_24, load
from tests.interop.test_pacs import fresh, store
from tests.interop.test_people import rows
from tests.running import RunningSite, running
from tests.web.browser import WIDE, Screen, chromium

PEOPLE = {
    "reader": ("radiologist", "Reader in Radiology"),
    "guard": ("security-officer", "Guard"),
    "keeper": ("pacs-administrator", "Keeper of the PACS"),
}


@dataclass
class World:
    """`keys`: the passkeys of each person, as their authenticator held them after enrolment. `studies`: UID by patient ID."""

    site: RunningSite
    browser: Browser
    console: str
    https: str
    keys: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    studies: dict[str, str] = field(default_factory=dict)

    def invite(self, name: str, role: str, *options: str) -> str:
        """Adds somebody; their link."""
        return str(rows(self.site, "people", "add", name, "--role", role, "--why", "a test", *options)[0]["enrolment"])

    def screen(self, name: str = "", *, width: int = WIDE, dark: bool = False) -> Screen:
        """A browser of its own, with the passkeys that this person has now."""
        screen = Screen(self.browser, self.console, width=width, dark=dark)
        if name:
            screen.replace_authenticator(self.keys[name])
        return screen

    def signed_in(self, name: str, **options: Any) -> Screen:
        screen = self.screen(name, **options)
        screen.sign_in()
        self.keys[name] = screen.credentials()
        return screen

    def hold(self, patient: str) -> None:
        """An image of theirs comes twice, the second time with another content: a held version."""
        image = fresh(PatientID=patient, StudyInstanceUID=self.studies[patient])
        assert store(self.site, "CT1", image) == [0]
        image.StudyDescription = "CT abdomen, corrected"
        store(self.site, "CT1", image)

    def leave(self, name: str, screen: Screen) -> None:
        """What the passkey counted meanwhile is known to the next browser too."""
        self.keys[name] = screen.credentials()
        screen.close()


def lab_network(*more: str) -> str:
    """Zones, devices and flows of the lab's site file, and promises about them, for the map to have something to show. `more`: zones besides."""
    text = (SP1800_24 / "leadglass.toml").read_text()
    text = text[text.index("[firewall]") :].replace("[services]", '[services]\ntelnet = "tcp/23"')
    text = text.replace("[firewall]", '[firewall]\nuser = "leadglass-firewall"')
    zones = [*load(SP1800_24).zones, "loopback", *more]
    for zone in zones:
        denied = [f"{other}:telnet" for other in (*zones, "archive") if other != zone]
        text += f"[[tests]]\nwho = {json.dumps(zone)}\ndeny = {json.dumps(denied)}\n"
    text += '[[tests]]\nwho = "CT01"\naccept = ["archive:store CTImageStorage"]\ndeny = ["archive:find"]\nwhy = "a scanner"\n'
    return f"\n{text}"


def approve(approver: Screen, who: str, what: str) -> None:
    approver.open("/requests")
    card = approver.page.get_by_role("article", name=f"Request of {who}").filter(has_text=what)
    card.get_by_role("button", name="Approve").click()
    if not approver.page.get_by_role("heading", name="Decided").is_visible():
        approver.step_up()
    approver.page.wait_for_selector("h2:has-text('Decided')")


@contextmanager
def world(place: Path, extra: str = "") -> Iterator[World]:
    """`extra`: appended to the site file."""
    with running(place, extra) as site, chromium() as browser:
        site.enroll("CT1", "echo,store", "--address", "127.0.0.1:10104")
        site.up()
        ports = json.loads((site.directory / "state" / "ports.json").read_text())
        made = World(site, browser, f"http://localhost:{ports['console']}", f"https://localhost:{ports['web']}")
        own = {
            "PatientName": "Doe^Jane",
            "PatientBirthDate": "19710304",
            "StudyDescription": "CT abdomen with contrast",
        }
        other = {"PatientName": "Roe^Richard", "PatientBirthDate": "19580612", "StudyDescription": "CT heart"}
        third = {**other, "PatientName": "Poe^Edgar"}
        studies = (("P1001", own, "Radiology"), ("P2002", other, "Cardiology"), ("P3003", third, "Cardiology"))
        for patient, facts, department in studies:
            image = fresh(
                PatientID=patient, AccessionNumber=f"A{patient}", InstitutionalDepartmentName=department, **facts
            )
            assert store(site, "CT1", image) == [0]
            made.studies[patient] = str(image.StudyInstanceUID)
        for name, (role, display) in PEOPLE.items():
            link = made.invite(name, role, "--display", display, "--department", "Radiology")
            screen = made.screen()
            screen.enrol(link)
            made.leave(name, screen)
        yield made
