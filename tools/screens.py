"""Pictures of every page of the console, light and dark, wide and narrow: `python -m tools.screens DIRECTORY`. A site is made for it and ended with it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from leadglass.doors.command.desk import RemoteDesk
from leadglass.doors.command.device import device_authority
from leadglass.doors.processes.enroll import Enroller
from leadglass.site.layout import anchors
from leadglass.terms import ChangeKind
from tests.web.browser import NARROW, WIDE, Screen
from tests.web.people import World, approve, lab_network, world

MORE = """
[enrolment]
user = "leadglass-enroll"
[zones.basement]
networks = ["10.77.0.0/24"]
[[flows]]
id = "visit"
from = ["basement"]
to = ["archive"]
service = "https"
auth = "mfa"
on_demand = { approve = "security-officer", max = "2h", record = true }
why = "a visit"
"""
ANYBODY = {"sign-in": "/sign-in", "link-over": "/enrol/none"}
PAGES = {
    "reader": {
        "studies": "/", "studies-found": "/?patient=doe", "studies-none": "/?patient=P2002", "study-refused": "/studies/1.2.3", "glass": "/glass?patient_id=P2002",
        "me": "/me", "workstation": "/workstation", "step-up": "/me/passkeys", "requests": "/requests", "not-mine": "/people",
        "no-such-page": "/none",
    },
    "guard": {
        "people": "/people", "person": "/people/reader", "devices": "/devices", "review": "/review", "who": "/who", "who-patient": "/who?patient=P1001",
        "who-person": "/who?person=reader", "explain": "/explain?who=reader&action=study-read&what=P2002", "requests-waiting": "/requests",
        "network": "/network", "network-flow": "/network?flow=modalities-store", "network-zone": "/network?zone=modalities",
        "network-traffic": "/network?layer=traffic", "network-attack": "/network?layer=attack&from=vendor-jump",
        "containment": "/containment", "accounts": "/accounts", "reports": "/reports", "report-disclosures": "/reports/disclosures?patient=P1001",
        "report-breach": "/reports/breach?person=reader", "keys": "/keys", "erasures-guard": "/erasures",
    },
    "keeper": {
        "devices-form": "/devices", "device-renew": "/devices/MR2/renew", "containment-another": "/containment", "site-file": "/explain/site-file",
        "archive": "/archive", "erasures": "/erasures", "requests-decided": "/requests",
    },
}  # fmt: skip


def _prepared(made: World) -> str:
    """Something on every page: broken glass, a request that waits, a link that is open."""
    for name, role in (("deputy", "pacs-administrator"), ("second-guard", "security-officer")):
        other = made.screen()
        other.enrol(made.invite(name, role))  # others who could approve, so that nothing waits a day
        other.close()
    screen = made.signed_in("reader")
    page = screen.page
    screen.open("/glass?patient_id=P2002")
    page.get_by_text("For another reason").click()
    page.get_by_label("In your own words").fill("Unconscious in the emergency room, earlier images wanted")
    page.get_by_role("button", name="Break the glass for this reason").click()
    page.wait_for_url("**/?patient=P2002")
    screen.open("/requests")
    page.get_by_label("Patients").fill("P2002")
    page.get_by_label("Why?").fill("Second opinion for the heart conference on Friday")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.wait_for_selector("article")
    made.leave("reader", screen)
    _ask_for_devices(made)
    _upkeep(made)
    _kit(made)
    made.site.command("contain", "zone", "basement", "--reason", "a worm in the ward's old scanners")
    guard = made.signed_in("guard")
    guard.open("/containment")
    guard.page.locator("#f-device-why").fill("it calls hosts that it never called")
    guard.page.locator("#f-device-name").fill("MR2")
    guard.page.get_by_role("button", name="Keep the device out").click()
    guard.page.get_by_role("rowheader", name="device MR2").wait_for()
    made.leave("guard", guard)
    file = made.site.directory / "leadglass.toml"
    file.write_text(file.read_text() + '\n[zones.attic]\nnetworks = ["10.66.0.0/24"]\n')
    return made.invite("newcomer", "technologist", "--display", "Newcomer")


def _upkeep(made: World) -> None:
    """A held version, an erasure that waits for its time, one that waits for somebody else."""
    made.hold("P1001")
    keeper, guard = made.signed_in("keeper"), made.signed_in("guard")
    for patient in ("P2002", "P3003"):
        keeper.open("/erasures")
        keeper.page.get_by_label("Patient ID", exact=False).first.fill(patient)
        keeper.page.get_by_label("Why?").fill("Ordered by the court of 12 November, number 3 C 114")
        keeper.page.get_by_role("button", name="Ask for the erasure").click()
        keeper.page.get_by_role("article").filter(has_text=patient).wait_for()
        if patient == "P2002":
            approve(guard, "keeper", "study erase")
            keeper.open("/erasures")
            keeper.page.get_by_role("button", name="Order the erasure").click()
            keeper.step_up()
            keeper.page.wait_for_selector("td:has-text('waiting')")
    keeper.open("/archive")
    keeper.page.get_by_role("button", name="Rebuild the index").click()
    keeper.page.wait_for_selector("table")
    made.leave("keeper", keeper)
    made.leave("guard", guard)


def _kit(made: World) -> None:
    """A recovery kit whose shares wait, and one that was asked for."""
    guard = made.signed_in("guard")
    for custodians in ("reader\nkeeper", "reader\nkeeper\nguard"):
        guard.open("/keys")
        guard.page.get_by_label("Custodians").fill(custodians)
        guard.page.get_by_label("Why?").fill("A custodian leaves at the end of the month")
        guard.page.get_by_role("button", name="Ask for the kit").click()
        guard.page.get_by_role("article").first.wait_for()
        if custodians.count("\n") == 1:
            keeper = made.signed_in("keeper")
            approve(keeper, "guard", "Recovery kit")
            made.leave("keeper", keeper)
            guard.open("/keys")
            guard.page.get_by_role("button", name="Make the kit").click()
            guard.step_up()
            guard.page.wait_for_selector("text=has not fetched it")
    made.leave("guard", guard)


def _ask_for_devices(made: World) -> None:
    """One that is signed and waits to be collected, one that cannot be, one that waits."""
    screen = made.signed_in("keeper")
    for name in ("MR2", "US4", "XA3"):
        screen.open("/devices")
        screen.page.get_by_label("Name required", exact=True).fill(name)
        screen.page.get_by_label("It comes from").fill("127.0.0.0/8")
        screen.page.get_by_label("AE titles").fill(name)
        screen.page.get_by_role("button", name="Ask for its enrolment").click()
        screen.page.wait_for_selector(f"th:has-text('{name}')")
        if name == "MR2":
            site_dir = made.site.directory
            Enroller(device_authority(site_dir, None), anchors(site_dir)).once(RemoteDesk(site_dir))
        elif name == "US4":
            (row,) = RemoteDesk(made.site.directory).ask("enrolments", {})
            told = {
                "enrolment": row["id"],
                "digest": row["digest"],
                "reason": "it was enrolled by somebody else meanwhile",
            }
            RemoteDesk(made.site.directory).change(ChangeKind.DEVICE_DECLINE, name, told)
    made.leave("keeper", screen)


def _shoot(screen: Screen, path: Path) -> None:
    screen.page.wait_for_load_state("networkidle")
    screen.page.screenshot(path=str(path), full_page=True)
    if screen.broken:
        print(f"{path.name}: {screen.broken}", file=sys.stderr)
        screen.broken.clear()
    wider = screen.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wider > 0:
        print(f"{path.name}: {wider} pixels wider than the window", file=sys.stderr)


def _round(made: World, out: Path, link: str, *, width: int, dark: bool) -> None:
    kind = f"{width}-{'dark' if dark else 'light'}"
    anybody = made.screen(width=width, dark=dark)
    for name, path in {**ANYBODY, "enrol": link, "enrol-password": f"{link}/password"}.items():
        anybody.open(path)
        _shoot(anybody, out / f"{name}-{kind}.png")
    anybody.close()
    for who, pages in PAGES.items():
        screen = made.signed_in(who, width=width, dark=dark)
        for name, path in {
            **pages,
            **(_of_a_study(made.studies["P1001"]) if who == "reader" else {}),
        }.items():
            screen.open(path)
            _shoot(screen, out / f"{name}-{kind}.png")
        if who == "reader":
            screen.open("/me")
            screen.page.get_by_role("button", name="Show my share").click()
            screen.step_up()
            screen.page.wait_for_selector("text=leadglass-share:")
            _shoot(screen, out / f"share-{kind}.png")
        screen.page.get_by_role("button", name="Lock").click()
        screen.page.wait_for_selector("dialog[open]")
        _shoot(screen, out / f"locked-{who}-{kind}.png")
        screen.open("/me")
        _shoot(screen, out / f"unlock-{who}-{kind}.png")
        made.leave(who, screen)


def _of_a_study(uid: str) -> dict[str, str]:
    return {"study": f"/studies/{uid}", "export": f"/studies/{uid}/export"}


def main() -> int:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as place,
        world(Path(place), MORE + lab_network("basement")) as made,
    ):
        link = _prepared(made)
        for width in (WIDE, NARROW):
            for dark in (False, True):
                _round(made, out, link, width=width, dark=dark)
    return 0


if __name__ == "__main__":
    sys.exit(main())
