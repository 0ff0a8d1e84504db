"""The console as people use it: a real Chromium, a virtual authenticator, a running site. One browser for all of it."""

from __future__ import annotations

import json
import os
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pyotp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from leadglass.doors.command.desk import RemoteDesk
from leadglass.policy.firewall.handed import box_json
from leadglass.policy.firewall.openings import openings
from leadglass.policy.network import REPORT
from tests.interop.test_people import rows
from tests.policy.firewall.sites import lab
from tests.running import until
from tests.web.browser import Screen
from tests.web.people import PEOPLE, World, approve, lab_network, world

UID = "1.2.840.113619.2.1.1"
NO = "That did not work"


pytestmark = pytest.mark.xdist_group("console")  # one site is enough
MORE = """
[enrolment]
user = "leadglass-enroll"
[[flows]]
id = "visit"
from = ["loopback"]
to = ["archive"]
service = "https"
auth = "mfa"
on_demand = { approve = "security-officer", max = "2h", record = true }
why = "a visit"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("console"), MORE + lab_network()) as made:
        yield made


@pytest.fixture
def reader(made: World) -> Iterator[Screen]:
    screen = made.signed_in("reader")
    yield screen
    made.leave("reader", screen)
    assert screen.broken == [], "nothing breaks the content security policy, and no script fails"


@pytest.fixture
def guard(made: World) -> Iterator[Screen]:
    screen = made.signed_in("guard")
    yield screen
    made.leave("guard", screen)
    assert screen.broken == []


# ---- enrolment and sign-in


def test_a_link_enrols_once_and_gives_ten_recovery_codes(made: World) -> None:
    link, screen = made.invite("once", "technologist"), made.screen()
    codes = screen.enrol(link)
    assert len(set(codes)) == 10
    (key,) = screen.credentials()
    assert key["isResidentCredential"] and key["rpId"] == "localhost" and key["userName"] == "once"
    screen.open(link)
    assert screen.heading() == "A new link is needed"
    screen.close()


def test_a_sign_in_takes_two_actions_at_most(made: World) -> None:
    screen = made.screen("reader")
    begun = time.monotonic()
    screen.sign_in()  # one: the button; the gesture at the authenticator is the other
    took = time.monotonic() - begun
    (cookie,) = screen.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("leadglass", True, "Strict")
    assert screen.heading() == "Studies"
    print(f"signed in within {took:.2f} s")
    made.leave("reader", screen)


def test_a_sign_in_by_keyboard(made: World) -> None:
    screen = made.screen("reader")
    screen.verify_user(verified=False)  # the browser's own suggestion goes nowhere: the person's keys count
    screen.open("/sign-in")
    screen.page.wait_for_timeout(300)
    screen.verify_user(verified=True)
    for _ in range(10):
        screen.page.keyboard.press("Tab")
        if "Sign in with a passkey" in screen.page.evaluate("document.activeElement.textContent"):
            break
    screen.page.keyboard.press("Enter")
    screen.page.wait_for_url(lambda url: "/sign-in" not in url)
    screen.page.keyboard.press("Tab")
    assert screen.page.evaluate("document.activeElement.textContent") == "Skip to content"
    made.leave("reader", screen)


def test_a_cloned_key_is_refused(made: World) -> None:
    original = made.screen()
    original.enrol(made.invite("copied", "technologist"))
    copy = original.credentials()
    for _ in range(2):
        original.sign_in()
    original.close()
    screen = made.screen()
    screen.replace_authenticator(copy)
    screen.open("/sign-in")
    screen.page.wait_for_selector(f"text={NO}")
    assert not screen.context.cookies()
    screen.close()


def test_an_authenticator_that_verifies_nobody_is_refused(made: World) -> None:
    screen = made.screen()
    screen.enrol(made.invite("unverified", "technologist"))
    screen.verify_user(verified=False)
    screen.open("/sign-in")
    screen.page.get_by_role("button", name="Sign in with a passkey").click()
    screen.page.wait_for_selector("text=The passkey was not used")
    assert not screen.context.cookies() and "/sign-in" in screen.page.url
    screen.close()


def test_what_another_origin_got_out_of_the_passkey_is_refused(made: World) -> None:
    """A page on another port of the same host passes our challenge on, and our passkey answers it: for that page's origin, not for ours."""
    screen = made.screen("reader")
    screen.page.route(
        "http://localhost:1/",
        lambda route: route.fulfill(body="<!doctype html><title>x</title>", content_type="text/html"),
    )
    screen.page.goto("http://localhost:1/")
    with httpx2.Client(base_url=made.console, trust_env=False, headers={"Origin": made.console}) as relay:
        offered = relay.post("/passkey/options", data={"purpose": "sign-in"}).json()
        answer = screen.page.evaluate(
            "async (options) => JSON.stringify((await navigator.credentials.get({publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options)})).toJSON())",
            offered["options"],
        )
        done = relay.post("/sign-in", data={"handle": offered["handle"], "answer": answer})
    assert json.loads(answer)["response"]["signature"] and done.status_code == 401 and "set-cookie" not in done.headers
    made.leave("reader", screen)


def test_password_and_app_and_each_code_once(made: World) -> None:
    screen, page = (made_screen := made.screen()), made_screen.page
    screen.open(made.invite("typist", "technologist"))
    page.get_by_role("link", name="Use a password and an authenticator app instead").click()
    app = pyotp.TOTP(page.locator("code.secret").inner_text().replace(" ", ""))
    assert page.get_by_role("img", name="Code for an authenticator app").is_visible()
    for password, again, heard in (
        ("short", "short", "at least 12"),
        ("lead glass lets light through", "another", "not the same"),
        ("lead glass lets light through",) * 2 + ("",),
    ):
        page.get_by_label("The code that the app shows now").fill(app.now())
        page.get_by_label("Password", exact=False).nth(0).fill(password)
        page.get_by_label("The same password again").fill(again)
        page.get_by_role("button", name="Done").click()
        if heard:
            page.wait_for_selector(f"text={heard}")
    page.wait_for_selector("ol.codes")

    def attempt(code: str) -> None:
        screen.open("/sign-in")
        page.get_by_text("Other ways to sign in").click()
        form = page.locator("form[action='/sign-in/password']")
        form.get_by_label("Name").fill("typist")
        form.get_by_label("Password", exact=True).fill("lead glass lets light through")
        form.get_by_label("Code").fill(code)
        form.get_by_role("button").click()
        page.wait_for_load_state()

    code = app.at(time.time() + 30)
    attempt(code)
    assert "/sign-in" not in page.url
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    attempt(code)
    assert page.get_by_text(NO).is_visible() and not screen.context.cookies()
    screen.close()


# ---- studies


def test_a_search_shows_what_is_theirs_and_nothing_else(made: World, reader: Screen) -> None:
    page = reader.page
    page.get_by_label("Accession number").fill("AP*")
    page.get_by_role("button", name="Search").click()
    page.wait_for_selector("tbody tr")
    assert page.locator("tbody th").all_inner_texts() == ["Doe, Jane"]
    page.get_by_role("link", name="Doe, Jane").click()
    page.wait_for_selector("text=CT abdomen with contrast")
    said = []
    for uid in (made.studies["P3003"], UID):
        answer = page.goto(f"{made.console}/studies/{uid}")
        assert answer is not None and answer.status == 403
        said.append(page.locator("main").inner_text())
    assert said[0] == said[1]


def test_a_study_is_exported_with_a_fresh_passkey(made: World, reader: Screen, tmp_path: Path) -> None:
    page = reader.page
    reader.open(f"/studies/{made.studies['P1001']}")
    page.get_by_role("link", name="Export as files").click()
    page.get_by_role("button", name="Go on with your passkey").click()
    page.wait_for_selector("h1:has-text('Export as files')")
    page.get_by_label("Treatment").check()
    page.get_by_label("Who is to get it?").fill("St. Elsewhere")
    with page.expect_download() as leaving:
        page.get_by_role("button", name="Download").click()
    leaving.value.save_as(tmp_path / "export.zip")
    with zipfile.ZipFile(tmp_path / "export.zip") as packed:
        assert packed.testzip() is None
        assert [name for name in packed.namelist() if name.endswith(".dcm")] == ["study-001/series-001/000001.dcm"]
    assert leaving.value.suggested_filename.startswith("export-") and reader.heading() == "Export as files"


# ---- the lock


def test_a_locked_screen_opens_in_one_gesture_as_it_was(made: World, reader: Screen) -> None:
    page = reader.page
    page.get_by_label("Patient", exact=True).fill("half a na")
    page.get_by_role("button", name="Lock").click()
    page.wait_for_selector("dialog[open]")
    cookies = {each["name"]: each["value"] for each in reader.context.cookies()}
    agent = page.evaluate("navigator.userAgent")
    with httpx2.Client(
        base_url=made.console, trust_env=False, cookies=cookies, headers={"User-Agent": agent}
    ) as client:
        assert until(lambda: client.get("/").headers.get("location", "").startswith("/unlock"))
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").is_visible(), "Escape opens nothing"
    page.get_by_role("button", name="Unlock with your passkey").click()
    page.wait_for_selector("dialog[open]", state="detached")
    assert page.get_by_label("Patient", exact=True).input_value() == "half a na"
    assert (
        page.evaluate("fetch('/still', {headers: {Accept: 'application/json'}}).then((answer) => answer.status)") == 200
    )


def test_whoever_comes_back_to_a_locked_session_lands_where_they_wanted_to(reader: Screen) -> None:
    page = reader.page
    page.get_by_role("button", name="Lock").click()
    page.wait_for_selector("dialog[open]")
    page.wait_for_timeout(300)
    reader.open("/?patient=doe")
    assert reader.heading() == "Locked"
    page.get_by_role("button", name="Unlock with your passkey").click()
    page.wait_for_url("**/?patient=doe")


def test_somebody_elses_passkey_unlocks_nothing(made: World, reader: Screen) -> None:
    page, own = reader.page, reader.credentials()
    page.get_by_role("button", name="Lock").click()
    page.wait_for_selector("dialog[open]")
    page.wait_for_timeout(300)
    reader.replace_authenticator(made.keys["guard"])
    try:
        page.get_by_role("button", name="Unlock with your passkey").click()
        page.wait_for_selector("#locked-said:not(:empty)")
        assert page.locator("dialog[open]").is_visible()
    finally:
        reader.replace_authenticator(own)


# ---- step up


def test_a_step_up_in_the_middle_of_a_form_loses_nothing(made: World, guard: Screen) -> None:
    made.invite("rising", "technologist")
    page = guard.page
    guard.open("/people/rising")
    page.get_by_label("Give the role").select_option("radiologist")
    page.get_by_label("because").first.fill("passed the board examination")
    page.get_by_role("button", name="Give", exact=True).click()
    page.wait_for_selector("h1:has-text('Is it you?')")
    page.get_by_role("button", name="Go on with your passkey").click()
    page.wait_for_selector("td:has-text('passed the board examination')")
    (row,) = [each for each in rows(made.site, "people", "list") if each["name"] == "rising"]
    assert row["roles"] == ["radiologist", "technologist"]


def test_another_passkey_is_added_after_a_step_up_and_named(made: World) -> None:
    link, screen = made.invite("two-keys", "technologist"), made.screen()
    screen.enrol(link)
    screen.sign_in()
    page = screen.page
    screen.open("/me")
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_role("button", name="Go on with your passkey").click()
    page.wait_for_selector("h1:has-text('Add a passkey')")
    screen.replace_authenticator([])  # one authenticator makes one passkey of a person here
    page.get_by_label("Name of the passkey").fill("Spare key")
    page.get_by_role("button", name="Make a passkey").click()
    page.wait_for_url("**/me")
    assert page.get_by_role("rowheader", name="Spare key").is_visible()
    page.get_by_role("row", name="Work laptop").get_by_role("button", name="Remove").click()
    page.wait_for_url("**/me")
    assert not page.get_by_role("rowheader", name="Work laptop").count()
    screen.close()


# ---- for a time, and afterwards


def test_glass_is_broken_from_the_refusal_seen_through_and_reviewed(made: World, reader: Screen, guard: Screen) -> None:
    page = reader.page
    reader.open("/?patient=P2002")
    page.get_by_role("link", name="break the glass").click()
    assert page.get_by_label("Patient ID", exact=False).first.input_value() == "P2002"
    page.get_by_text("For another reason").click()
    page.get_by_label("In your own words").fill("unconscious, earlier images wanted")
    page.get_by_role("button", name="Break the glass for this reason").click()
    page.wait_for_selector("tbody tr")
    page.get_by_role("link", name="Roe, Richard").click()
    page.wait_for_selector("text=CT heart")
    guard.open("/review")
    card = guard.page.get_by_role("article", name="Glass broken by reader")
    assert "unconscious, earlier images wanted" in card.inner_text()
    card.get_by_label("justified", exact=True).check()
    card.get_by_role("button", name="Sign the review").click()
    guard.page.wait_for_selector("text=Nothing waits.")
    assert guard.page.get_by_role("row", name="reader").get_by_text("justified").is_visible()


def test_in_an_emergency_two_presses_break_the_glass(made: World, reader: Screen, guard: Screen) -> None:
    page, study = reader.page, made.studies["P3003"]
    reader.open(f"/studies/{study}")
    page.get_by_role("link", name="Break the glass").click()
    page.get_by_role("button", name="Emergency").click()
    page.wait_for_selector("text=P3003")
    assert page.url.endswith(f"/studies/{study}")
    guard.open("/review")
    card = guard.page.get_by_role("article", name="Glass broken by reader")
    assert "emergency" in card.inner_text() and "P3003" in card.inner_text()
    assert "by 1 person" in guard.page.get_by_role("main").inner_text()
    card.get_by_label("justified", exact=True).check()
    card.get_by_role("button", name="Sign the review").click()
    guard.page.wait_for_selector("text=Nothing waits.")


def test_somebody_says_at_the_workstation_that_they_sit_there(made: World, reader: Screen) -> None:
    page = reader.page
    reader.open("/workstation")
    card = page.get_by_role("article", name="CT1")
    assert "Nobody sits here." in card.inner_text()
    card.get_by_label("For how many hours?").select_option("4")
    card.get_by_role("button", name="I sit here").click()
    page.wait_for_selector("text=You sit here until")
    card.get_by_role("button", name="Token for its software").click()
    assert page.get_by_label("Token").input_value().count(".") == 2, "for software that says itself who asks"
    reader.open("/workstation")
    card.get_by_role("button", name="Get up").click()
    page.wait_for_selector("text=Nobody sits here.")


def test_who_saw_this_patient_and_what_did_this_person_see(made: World, reader: Screen, guard: Screen) -> None:
    reader.open(f"/studies/{made.studies['P1001']}")
    page = guard.page

    def seen() -> bool:
        guard.open("/who?patient=P1001")
        return bool(page.get_by_role("rowheader", name="person:reader").count())

    assert until(seen)
    guard.open("/who")
    page.get_by_label("Person or device").fill("reader")
    page.get_by_role("button", name="What did this person see").click()
    page.wait_for_selector("tbody tr")
    assert made.studies["P1001"] and "P1001" in page.locator("tbody").inner_text()


def test_a_request_waits_for_a_second_person(made: World, reader: Screen, guard: Screen) -> None:
    page = reader.page
    reader.open("/requests")
    page.get_by_label("Patients").fill("P3003")
    page.get_by_label("Why?").fill("second opinion for the conference")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.wait_for_selector("text=second opinion for the conference")
    guard.open("/requests")
    card = guard.page.get_by_role("article", name="Request of reader").filter(
        has_text="second opinion for the conference"
    )
    card.get_by_label("Your note").fill("for Friday")
    card.get_by_role("button", name="Approve").click()
    guard.page.wait_for_selector("h1:has-text('Is it you?')")
    guard.page.get_by_role("button", name="Go on with your passkey").click()
    guard.page.wait_for_selector("h2:has-text('Decided')")
    reader.open("/requests")
    assert "approved" in page.get_by_role("article").filter(has_text="second opinion for the conference").inner_text()


@pytest.fixture
def keeper(made: World) -> Iterator[Screen]:
    screen = made.signed_in("keeper")
    yield screen
    made.leave("keeper", screen)
    assert screen.broken == []


def test_a_device_is_kept_out_by_keyboard_and_let_in_again_by_two(made: World, guard: Screen, keeper: Screen) -> None:
    page = keeper.page
    keeper.open("/containment")
    page.get_by_label("Which required", exact=True).first.focus()
    page.keyboard.type("CT1")
    page.keyboard.press("Tab")
    page.keyboard.type("it behaves oddly")
    page.keyboard.press("Enter")
    row = page.locator("tr", has=page.get_by_role("rowheader", name="device CT1"))
    row.wait_for()
    assert "it behaves oddly" in row.inner_text() and "keeper" in row.inner_text()
    assert until(lambda: made.site.rows("status")[0]["disabled"] == ["CT1"], 5)
    guard.open("/containment")
    of_guard = guard.page.locator("tr", has=guard.page.get_by_role("rowheader", name="device CT1"))
    assert of_guard.get_by_role("button", name="Take it back").count() == 0, "that is for who did it"
    of_guard.get_by_label("Why should device CT1 be let in again?").fill("it was a cable after all")
    of_guard.get_by_role("button", name="Ask").click()
    of_guard.get_by_role("link", name="asked for").wait_for()
    guard.open("/requests")
    own = guard.page.get_by_role("article", name="Your request for containment end")
    own.get_by_role("button", name="Withdraw").click()
    keeper.open("/containment")
    row.get_by_role("button", name="Take it back").click()
    keeper.step_up()
    page.wait_for_selector("text=Nobody and nothing.")
    guard.open("/containment?kind=device&name=CT1")
    guard.page.locator("#f-device-why").fill("odd again")
    guard.page.get_by_role("button", name="Keep the device out").click()
    of_guard.wait_for()
    keeper.open("/containment")
    row.get_by_label("Why should device CT1 be let in again?").fill("it was a cable after all")
    row.get_by_role("button", name="Ask").click()
    row.get_by_role("link", name="asked for").wait_for()
    approve(guard, "keeper", "it was a cable after all")
    keeper.open("/containment")
    row.get_by_role("button", name="Let in again, as approved").click()
    page.wait_for_selector("text=Nobody and nothing.")
    assert until(lambda: made.site.rows("status")[0]["disabled"] == [], 5)


def test_a_read_only_site_says_so_and_is_let_go_by_who_said_it(made: World, guard: Screen, reader: Screen) -> None:
    guard.open("/containment")
    guard.page.locator("#f-site-why").fill("ransomware suspected")
    guard.page.get_by_role("button", name="Make the site read-only").click()
    guard.page.get_by_role("rowheader", name="the whole site, read-only").wait_for()
    reader.open(f"/studies/{made.studies['P1001']}")
    assert "Doe" in reader.heading(), "the treating team keeps reading"
    made.site.command("device", "enroll", "CT2", "--network", "127.0.0.0/8", "--out", "/nonexistent", check=False)
    assert made.site.rows("status")[0]["read_only"] == "ransomware suspected"
    guard.page.get_by_role("button", name="Take it back").click()
    guard.step_up()
    guard.page.wait_for_selector("text=Nobody and nothing.")


def test_a_flow_on_demand_is_asked_for_and_decided_by_its_role(made: World, keeper: Screen, guard: Screen) -> None:
    page = keeper.page
    keeper.open("/requests")
    page.get_by_label("visit").check()
    page.get_by_label("For how many minutes?").fill("121")
    page.get_by_label("Why should it be open?").fill("somebody visits on Monday")
    page.get_by_role("button", name="Ask for it").click()
    page.wait_for_selector("text=may be open for 120 minutes at most")
    assert page.get_by_label("Why should it be open?").input_value() == "somebody visits on Monday"
    page.get_by_label("visit").check()
    page.get_by_label("For how many minutes?").fill("60")
    page.get_by_role("button", name="Ask for it").click()
    page.wait_for_selector("text=somebody visits on Monday")
    approve(guard, "keeper", "somebody visits on Monday")
    keeper.open("/requests")
    assert "approved" in page.get_by_role("article").filter(has_text="somebody visits on Monday").inner_text()


def test_an_edited_site_file_is_shown_and_asked_for_and_waits_a_day_where_one_alone_approves(
    made: World, keeper: Screen, guard: Screen
) -> None:
    file = made.site.directory / "leadglass.toml"
    before = file.read_text()
    page = keeper.page
    keeper.open("/explain")
    page.get_by_role("link", name="Site file").click()
    page.wait_for_selector("text=The files on disk say what serves")
    try:
        file.write_text(before + "\n[sessions]\nidle_lock_minutes = 0\n")
        keeper.open("/explain/site-file")
        assert "leadglass.toml:" in page.locator("main").inner_text(), "what is wrong, and where"
        file.write_text(before + "\n[sessions]\nidle_lock_minutes = 3\n")
        keeper.open("/explain/site-file")
        assert "sessions.idle_lock_minutes changes from 10 to 3" in page.locator("main").inner_text()
        page.get_by_label("Why?").fill("screens stay open in the ward")
        page.get_by_role("button", name="Ask for it").click()
        page.wait_for_selector("text=It waits for somebody else")
        guard.open("/requests")
        assert "sessions.idle_lock_minutes changes from 10 to 3" in guard.page.locator("main").inner_text()
        approve(guard, "keeper", "screens stay open in the ward")
        keeper.open("/explain/site-file")
        assert "by one who alone may approve here" in page.locator("main").inner_text(), "a day to notice and to deny"
    finally:
        file.write_text(before)
    guard.open("/explain/site-file")
    assert guard.page.get_by_role("button", name="Ask for it").count() == 0, "that is not theirs to do"


def test_signing_out_leaves_nothing(made: World, reader: Screen) -> None:
    page = reader.page
    reader.verify_user(verified=False)  # else the browser's own suggestion signs in again at once
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in*")
    assert not reader.context.cookies()
    reader.open("/me")
    assert reader.heading() == "Sign in"


# ---- every page, as programs see them


@pytest.mark.parametrize("name", sorted(PEOPLE))
def test_pages_have_one_heading_labels_for_every_field_and_fit_a_narrow_window(made: World, name: str) -> None:
    screen = made.signed_in(name, width=400)
    page = screen.page
    paths = [
        "/",
        "/me",
        *(
            f"/{each}"
            for each in (
                "requests",
                "review",
                "who",
                "people",
                "people/reader",
                "devices",
                "containment",
                "network",
                "explain",
                "explain/site-file",
                "glass",
            )
        ),
    ]
    for path in paths:
        screen.open(path)
        assert page.locator("h1").count() == 1 and page.locator("main").count() == 1, path
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), path
        unlabelled = page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')].filter((each) => !each.labels?.length).map((each) => each.name)"
        )
        assert unlabelled == [], path
        same = page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
        assert len(same) == len(set(same)), path
    assert screen.broken == []
    made.leave(name, screen)


def test_a_device_is_asked_for_by_keyboard_with_the_request_it_wrote(made: World, tmp_path: Path) -> None:
    written = tmp_path / "mr9.csr"
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    written.write_bytes(request.public_bytes(serialization.Encoding.PEM))
    screen = made.signed_in("keeper")
    page = screen.page
    screen.open("/devices")
    page.get_by_label("Name required", exact=True).focus()
    page.keyboard.type("MR 9")
    page.keyboard.press("Tab")
    page.keyboard.type("127.0.0.0/8")
    page.get_by_label("Or from a file").set_input_files(str(written))
    page.wait_for_function("document.getElementById('f-csr').value.includes('BEGIN CERTIFICATE REQUEST')")
    page.get_by_label("Name required", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#e-name")
    assert page.evaluate("document.activeElement.id") == "f-name", "the first mistake has the focus"
    assert "BEGIN CERTIFICATE REQUEST" in page.get_by_label("Certificate request").input_value(), (
        "nothing typed is lost"
    )
    page.keyboard.press("Control+A")
    page.keyboard.type("MR9")
    page.keyboard.press("Enter")
    row = page.locator("tr", has=page.get_by_role("rowheader", name="MR9"))
    row.wait_for()
    assert "asked" in row.inner_text() and "with a key of its own" in row.inner_text()
    made.leave("keeper", screen)
    assert screen.broken == []


# ---- the map

HALF_WAY = """(line) => {
    const point = line.getPointAtLength(line.getTotalLength() / 2).matrixTransform(line.getScreenCTM());
    return [point.x, point.y];
}"""


def test_a_flow_on_the_map_is_one_click_from_its_rule_tests_counters_and_last_use(guard: Screen) -> None:
    page = guard.page
    guard.open("/network")
    line = page.locator("a.flow[aria-label^='flow CT1-enrolled:'] path.hit").first
    line.scroll_into_view_if_needed()
    x, y = line.evaluate(HALF_WAY)
    page.mouse.click(x, y)
    page.wait_for_url("**flow=CT1-enrolled#chosen")
    card = page.get_by_role("article", name="Flow CT1-enrolled")
    told = card.inner_text()
    assert "echo, store" in told and "devices.d/CT1.toml:" in told and "CT1: store CTImageStorage" in told
    assert "the DIMSE door's journal" in told and "not known: it passes no kernel that tells" in told
    guard.open("/network?flow=modalities-store")
    rows = page.get_by_role("article", name="Flow modalities-store").locator("tbody tr").all_inner_texts()
    assert any("archive:store CTImageStorage" in row and "by this flow alone" in row for row in rows)
    assert any("archive:find" in row and "may not" in row for row in rows)


def test_the_map_is_walked_by_keyboard_in_three_layers(guard: Screen) -> None:
    page = guard.page
    guard.open("/network?layer=traffic")
    states = {
        each.get_attribute("aria-label") or "": each.get_attribute("class") or ""
        for each in page.locator("a.flow").all()
    }
    by_id = {
        label.removeprefix("flow ").partition(":")[0]: look.removeprefix("flow ") for label, look in states.items()
    }
    assert (
        by_id["CT1-enrolled"] == "used" and by_id["modalities-store"] == "quiet" and by_id["maintenance"] == "unknown"
    )
    page.locator("a.zone").first.focus()
    for _ in range(len(states) + 20):
        page.keyboard.press("Tab")
        if "flow vendor:" in (page.evaluate("document.activeElement.getAttribute('aria-label')") or ""):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**layer=traffic&flow=vendor#chosen")
    assert "nobody who tells us" in page.get_by_role("article", name="Flow vendor").inner_text()
    guard.open("/network?layer=attack")
    page.get_by_label("Somebody holds").select_option("vendor-jump")
    page.get_by_role("button", name="Show how far they get").click()
    page.wait_for_selector("text=From vendor-jump: 9 hosts, 3 studies")
    assert "close or guard vendor" in page.locator("main").inner_text()
    assert page.locator("a.flow.way").count() == 3 and page.locator("a.flow.cut").count() == 1
    assert page.locator(".map circle.fallen").count() == 8 and page.locator("g.archive.fallen").count() == 1


def test_what_passes_the_kernel_is_on_the_map_once_somebody_tells(made: World, guard: Screen) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root, and who loads the table, may tell what passes it")
    guard.open("/network?layer=traffic")
    assert "Nobody tells of the kernel's table here" in guard.page.locator("main").inner_text()
    assert "unknown" in (guard.page.locator("a.flow[aria-label^='flow orders:']").get_attribute("class") or "")
    (opened,) = (each for each in openings(lab()).input if each.flow == "orders" and each.box.source.version == 4)
    spoken = [4, opened.box.source.first, opened.box.target.first, "tcp", 2575, 3]
    dropped = {"why": "input", "source": "10.20.9.9", "target": "10.20.5.10", "protocol": "tcp", "port": 22, "count": 5}
    traffic = {"counters": [["input4", box_json(opened.box), 1234]], "connections": [spoken], "more": 0}
    report = {"digest": "x", "site": "", "refused": "", "drift": "", "drops": [dropped], "lost": 0, "traffic": traffic}
    list(RemoteDesk(made.site.directory).ask(REPORT, report))
    guard.open("/network?layer=traffic&flow=orders")
    told = guard.page.get_by_role("article", name="Flow orders").inner_text()
    assert "1,234" in told and "the kernel's counters" in told and "Connections now\n3" in told
    assert "used" in (guard.page.locator("a.flow[aria-label^='flow orders:']").get_attribute("class") or "").split()
    assert "heard" in guard.page.locator("section[aria-labelledby='passing']").inner_text()

    def drawn() -> bool:
        guard.open("/network?layer=traffic")
        return guard.page.locator("g.flow.dropped").count() == 1

    assert until(drawn)  # the keeper counts what it told


def test_whoever_may_not_read_the_policy_sees_no_map(made: World, reader: Screen, guard: Screen) -> None:
    reader.open("/network")
    assert reader.heading() == "That is not yours to do" and reader.page.locator("svg.network").count() == 0
    guard.open("/network")
    told = [row for row in made.site.events("release:started") if row.get("action") == "policy-read"]
    assert any(row["actor"] == "person:guard" and row["details"]["about"] == "network" for row in told)


def test_pictures_can_be_made_of_every_page() -> None:
    """What `tools/screens.py` walks are pages that there are."""
    from leadglass.doors.web.pages import PAGES as PATHS
    from tools.screens import PAGES

    known = re.compile("|".join(re.sub(r"\{\w+\}", "[^/]+", each.path) for each in PATHS))
    asked = {path.partition("?")[0] for pages in PAGES.values() for path in pages.values()}
    assert {path for path in asked if not known.fullmatch(path)} == {"/none"}, "and one that there is not"
