"""Every page of the console against axe-core, light and dark, wide and narrow: no violation of any of its rules. One site and one browser for all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from leadglass.doors.web import rendering
from tests.running import free_port
from tests.web.axe import source, violations
from tests.web.browser import Screen
from tests.web.people import World, approve, lab_network, world

pytestmark = pytest.mark.xdist_group("accessibility")
FRAMES = {"frame.html", "forms.html", "again.html", "network_picture.html"}  # what pages are made of
FROM_ELSEWHERE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
# On the sign-in page; both answer nowhere, and the page asks neither.
VOUCHING = """
[providers.hospital]
label = "Hospital sign-in"
issuer = "http://127.0.0.1:{port}"
client_id = "leadglass"
client_secret = "credential:oidc"
amr = ["pwd+otp"]
roles = {{ readers = "radiologist" }}

[directories.staff]
label = "Staff directory"
url = "ldaps://127.0.0.1:{port}"
base = "DC=hospital,DC=example"
bind = "CN=leadglass,DC=hospital,DC=example"
password = "credential:ad"
[directories.staff.roles]
"CN=Readers,DC=hospital,DC=example" = "radiologist"

[[flows]]
id = "visit"
from = ["loopback"]
to = ["archive"]
service = "https"
auth = "mfa"
on_demand = {{ approve = "security-officer", max = "2h", record = true }}
why = "a visit"
"""


class Looked:
    """What was found, by the template that was looked at and which state of it."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}
        self.templates: set[str] = set()

    def look(self, screen: Screen, template: str, heading: str, state: str = "") -> None:
        """At the page that stands there; `heading` says that it is the one."""
        screen.page.wait_for_selector(f"h1:has-text({heading!r})")
        self.templates.add(template)
        if wrong := violations(screen):
            self.found[f"{template} {state}".strip()] = wrong


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    source()
    with world(tmp_path_factory.mktemp("axe"), VOUCHING.format(port=free_port()) + lab_network()) as made:
        made.hold("P1001")
        yield made


def test_a_violation_would_be_found(made: World) -> None:
    screen = made.screen()
    screen.verify_user(verified=False)
    screen.open("/sign-in")
    screen.page.evaluate("document.querySelector('label[for=f-who]').remove()")
    screen.page.evaluate("document.querySelector('h1').style.color = 'color-mix(in srgb, CanvasText 20%, Canvas)'")
    told = " ".join(violations(screen))
    assert "label: #f-who" in told and "color-contrast: h1" in told
    screen.close()


def _pages_for_anybody(made: World, looked: Looked) -> None:
    screen = made.screen()
    screen.verify_user(verified=False)
    page = screen.page
    screen.open("/sign-in")
    assert page.get_by_role("link", name="Hospital sign-in").is_visible()
    looked.look(screen, "sign_in.html", "Sign in")
    for each in page.locator("summary").all():
        each.click()
    looked.look(screen, "sign_in.html", "Sign in", "with every way open")
    form = page.locator("form[action='/sign-in/password']")
    form.get_by_label("Name").fill("nobody")
    form.get_by_label("Code").fill("000000")
    form.get_by_role("button").click()
    page.wait_for_selector("text=That did not work")
    looked.look(screen, "sign_in.html", "Sign in", "after a failure")
    screen.open("/signed-out")
    looked.look(screen, "signed_out.html", "You are signed out")
    screen.open("/nowhere")
    looked.look(screen, "no_page.html", "There is no such page")
    screen.open("/enrol/none")
    looked.look(screen, "link_over.html", "A new link is needed")
    with httpx2.Client(base_url=made.console, trust_env=False, headers=FROM_ELSEWHERE) as elsewhere:
        passing = elsewhere.get("/me").text
    still = re.sub(r'<meta http-equiv="refresh"[^>]*>', "", passing)  # it goes on by itself sooner than anybody looks
    assert still != passing
    page.route("**/passing", lambda route: route.fulfill(body=still, content_type="text/html"))
    screen.open("/passing")
    looked.look(screen, "continue.html", "One moment")
    link = made.invite("newcomer", "technologist", "--display", "Newcomer")
    screen.open(f"{link}/password")
    looked.look(screen, "enrol_password.html", "Password and app")
    screen.open(link)
    looked.look(screen, "enrol.html", "Welcome, Newcomer")
    screen.verify_user(verified=True)
    page.get_by_role("button", name="Make a passkey").click()
    looked.look(screen, "recovery_codes.html", "Your recovery codes")
    screen.close()


def _pages_of_a_reader(made: World, looked: Looked) -> None:
    screen = made.signed_in("reader")
    page = screen.page

    def at(path: str, template: str, heading: str, state: str = "") -> None:
        screen.open(path)
        looked.look(screen, template, heading, state)

    at("/", "studies.html", "Studies")
    at("/?accession=AP*", "studies.html", "Studies", "found")
    at("/?patient=P2002", "studies.html", "Studies", "nothing found")
    at(f"/studies/{made.studies['P1001']}", "study.html", "Doe")
    at("/studies/1.2.3", "study_refused.html", "This study is not shown")
    at(f"/studies/{made.studies['P1001']}/export", "step_up.html", "Is it you?")
    page.get_by_role("button", name="Go on with your passkey").click()
    looked.look(screen, "export.html", "Export as files")
    at("/people", "refused.html", "That is not yours to do")
    at("/me", "me.html", "Reader in Radiology")
    at("/glass?patient_id=P2002", "glass.html", "Break the glass")
    page.get_by_text("For another reason").click()
    page.get_by_label("In your own words").fill("Unconscious in the emergency room, earlier images wanted")
    page.get_by_role("button", name="Break the glass for this reason").click()
    page.wait_for_selector("tbody tr")
    at("/requests", "requests.html", "Requests", "none")
    page.get_by_label("Patients").fill("P3003")
    page.get_by_label("Why?").fill("second opinion for the conference")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.wait_for_selector("article")
    looked.look(screen, "requests.html", "Requests", "own")
    at("/workstation", "workstation.html", "Who sits at this workstation?")
    page.get_by_role("button", name="I sit here").click()
    page.wait_for_selector("text=You sit here until")
    looked.look(screen, "workstation.html", "Who sits at this workstation?", "seated")
    page.get_by_role("button", name="Token for its software").click()
    looked.look(screen, "workstation_token.html", "Your token for CT1")
    at("/me/passkeys", "add_passkey.html", "Add a passkey")
    screen.open("/")
    page.get_by_role("button", name="Lock").click()
    page.wait_for_selector("dialog[open]")
    page.wait_for_timeout(300)  # the server hears of it after the page does
    looked.look(screen, "studies.html", "Studies", "locked")
    at("/me", "unlock.html", "Locked")
    screen.replace_authenticator(
        made.keys["reader"]
    )  # as it was at the sign-in: since then it counted on, so this is a copy
    page.get_by_role("button", name="Unlock with your passkey").click()
    looked.look(screen, "again_refused.html", "That was not verified")
    assert screen.broken == []
    screen.close()


def _pages_of_a_security_officer(made: World, looked: Looked) -> None:
    screen = made.signed_in("guard")
    page = screen.page
    pages: tuple[tuple[str, str, str, str], ...] = (
        ("/people", "people.html", "People", ""),
        ("/accounts", "accounts.html", "Review of accounts", ""),
        ("/people/reader", "person.html", "Reader in Radiology", ""),
        ("/people/nobody-here", "nobody.html", "Nobody is called so", ""),
        ("/devices", "devices.html", "Devices", ""),
        ("/review", "review.html", "Broken glass", "waiting"),
        ("/requests", "requests.html", "Requests", "waiting"),
        ("/who", "who.html", "Who saw what", ""),
        ("/who?patient=P1001", "who.html", "Who saw what", "of a patient"),
        ("/who?person=reader", "who.html", "Who saw what", "of a person"),
        ("/network", "network.html", "Network", ""),
        ("/network?flow=modalities-store", "network.html", "Network", "a flow"),
        ("/network?zone=modalities", "network.html", "Network", "a zone"),
        ("/network?layer=traffic", "network.html", "Network", "traffic"),
        ("/network?layer=attack&from=vendor-jump", "network.html", "Network", "attack paths"),
        ("/network?layer=attack&from=nobody", "network.html", "Network", "attack paths of nobody"),
        ("/reports", "reports.html", "Reports", ""),
        ("/reports/disclosures?patient=P1001", "reports.html", "Who was given", "of a patient"),
        ("/reports/breach?person=reader", "reports.html", "Whom an access touched", "of a person"),
        ("/explain", "explain.html", "Who may do what", ""),
        ("/explain?who=reader&action=study-read&what=P2002", "explain.html", "Who may do what", "answered"),
    )
    for path, template, heading, state in pages:
        screen.open(path)
        looked.look(screen, template, heading, state)
    screen.open("/containment?kind=device&name=CT1")
    looked.look(screen, "containment.html", "Containment")
    page.locator("#f-zone-name").select_option("loopback")
    page.locator("#f-zone-why").fill("odd traffic")
    page.get_by_role("button", name="Keep the zone out").click()
    page.get_by_label("Sign me out too").wait_for()
    looked.look(screen, "containment.html", "Containment", "that would sign oneself out")
    page.locator("#f-device-name").fill("CT1")
    page.locator("#f-device-why").fill("it behaves oddly")
    page.get_by_role("button", name="Keep the device out").click()
    page.get_by_role("rowheader", name="device CT1").wait_for()
    looked.look(screen, "containment.html", "Containment", "of a device, that may be taken back")
    screen.open("/requests")
    asked = page.locator("form[action^='/requests/']").first.get_attribute("action")
    screen.open(f"{asked}/transcript")
    looked.look(screen, "transcript.html", "Transcript")
    screen.open("/people")
    form = page.locator("form[action='/people']")
    form.get_by_label("Sign-in name").fill("later")
    form.get_by_label("technologist").check()
    form.get_by_label("Why").fill("begins on Monday")
    form.get_by_role("button").click()
    looked.look(screen, "link.html", "A link for later")
    screen.open("/review")
    card = page.get_by_role("article", name="Glass broken by reader")
    card.get_by_label("justified", exact=True).check()
    card.get_by_role("button", name="Sign the review").click()
    page.wait_for_selector("h2:has-text('Reviewed')")
    looked.look(screen, "review.html", "Broken glass", "reviewed")
    assert screen.broken == []
    made.leave("guard", screen)


def _pages_of_an_administrator(made: World, looked: Looked) -> None:
    screen = made.signed_in("keeper")
    screen.open("/devices")
    looked.look(screen, "enrolments.html", "Devices", "with the form that asks for one")
    screen.open("/devices/CT1/renew")
    looked.look(screen, "renewal.html", "Renew CT1")
    screen.open("/erasures")
    looked.look(screen, "erasures.html", "Erasure", "none")
    screen.page.get_by_label("Patient ID", exact=False).first.fill("P1001")
    screen.page.get_by_label("Why?").fill("the patient asked for it, by the law")
    screen.page.get_by_role("button", name="Ask for the erasure").click()
    screen.page.wait_for_selector("article")
    looked.look(screen, "erasures.html", "Erasure", "asked")
    screen.open("/archive")
    looked.look(screen, "archive.html", "Archive", "with a held version")
    screen.page.get_by_role("button", name="Reject it").click()
    screen.page.wait_for_selector("text=Nothing is held")
    screen.page.get_by_role("button", name="Rebuild the index").click()
    screen.page.wait_for_selector("table")
    looked.look(screen, "archive.html", "Archive", "with nothing held, and a rebuild")
    screen.open("/containment")
    looked.look(screen, "containment.html", "Containment", "that another must approve the end of")
    screen.open("/explain/site-file")
    looked.look(screen, "site_file.html", "Site file", "the same")
    file = made.site.directory / "leadglass.toml"
    before = file.read_text()
    file.write_text(before + "\n[sessions]\nidle_lock_minutes = 3\n")
    screen.open("/explain/site-file")
    looked.look(screen, "site_file.html", "Site file", "that changes something")
    screen.page.get_by_label("Why?").fill("screens stay open in the ward")
    screen.page.get_by_role("button", name="Ask for it").click()
    screen.page.wait_for_selector("text=It waits for somebody else")
    looked.look(screen, "site_file.html", "Site file", "asked for")
    screen.open("/requests")
    looked.look(screen, "requests.html", "Requests", "with a site file and a flow on demand")
    file.write_text(before)
    assert screen.broken == []
    made.leave("keeper", screen)


def _pages_of_custodians(made: World, looked: Looked) -> None:
    """A recovery kit is asked for, approved, made, and one of its shares fetched."""
    deputy = made.screen()
    deputy.enrol(made.invite("deputy", "pacs-administrator"))  # another who could approve it: it may be made at once
    deputy.close()
    guard = made.signed_in("guard")
    guard.open("/keys")
    looked.look(guard, "keys.html", "Keys", "none")
    guard.page.get_by_label("Custodians").fill("reader\nkeeper")
    guard.page.get_by_label("Why?").fill("a custodian leaves")
    guard.page.get_by_role("button", name="Ask for the kit").click()
    guard.page.wait_for_selector("article")
    keeper = made.signed_in("keeper")
    approve(keeper, "guard", "Recovery kit")
    made.leave("keeper", keeper)
    guard.open("/keys")
    looked.look(guard, "keys.html", "Keys", "approved")
    guard.page.get_by_role("button", name="Make the kit").click()
    guard.step_up()
    guard.page.wait_for_selector("text=has not fetched it")
    looked.look(guard, "keys.html", "Keys", "made")
    made.leave("guard", guard)
    reader = made.signed_in("reader")
    reader.open("/me")
    looked.look(reader, "me.html", "Reader in Radiology", "with a share that waits")
    reader.page.get_by_role("button", name="Show my share").click()
    reader.step_up()
    reader.page.wait_for_selector("text=leadglass-share:")
    looked.look(reader, "share.html", "Your share")
    assert guard.broken == reader.broken == []
    made.leave("reader", reader)


def test_no_page_has_a_violation_and_none_is_left_out(made: World) -> None:
    looked = Looked()
    for pages in (
        _pages_for_anybody,
        _pages_of_a_reader,
        _pages_of_a_security_officer,
        _pages_of_an_administrator,
        _pages_of_custodians,
    ):
        pages(made, looked)
    assert looked.found == {}
    there = {each.name for each in (Path(rendering.__file__).parent / "templates").iterdir()}
    assert looked.templates == there - FRAMES, "each is looked at: add a new one to its person's pages above"
