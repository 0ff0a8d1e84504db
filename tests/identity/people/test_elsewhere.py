"""Through the web door of a running site: people whom a real OpenID provider or a real directory vouches for, and what their word ends."""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pyotp
import pytest

from leadglass.__main__ import assemble
from leadglass.doors.command.desk import ordered
from leadglass.doors.house import House
from leadglass.lab.authenticator import Authenticator
from leadglass.policy import containment
from leadglass.site.ports import web_address
from leadglass.site.write import load_proven
from leadglass.terms import ChangeKind, Event, EventKind, NotChanged, Person, Role
from tests.identity.people.domain import BASE, PASSWORD, READERS, STAFF, TECHNOLOGISTS, Domain
from tests.identity.people.openid import SECRET, OpenId, confirm, provider
from tests.running import RunningSite, running, until
from tests.web.browser import Screen, chromium

pytestmark = pytest.mark.xdist_group("domain")
BOTH = {"amr": "pwd,otp"}
POLL_SECONDS = 5
ACCOUNTS = {
    "id-alice": {"preferred_username": "Alice", "name": "Alice Doe", "groups": ["readers"]},
    "id-both": {"preferred_username": "both", "groups": ["readers", "watchers"]},
    "id-nobody": {"preferred_username": "nobody", "groups": ["staff"]},
    "id-late": {"preferred_username": "late", "groups": ["readers"]},
    "id-mover": {"preferred_username": "mover", "name": "Mover", "groups": ["readers", "technologists"]},
    "id-officer": {"preferred_username": "officer", "groups": ["officers"]},
    "id-off": {"preferred_username": "off", "groups": ["readers"]},
    "id-taken": {"preferred_username": "administrator", "groups": ["readers"]},
}  # fmt: skip


@dataclass
class Hospital:
    """A site, and the provider that it believes."""

    site: RunningSite
    openid: OpenId
    address: str
    house: House  # another process of the site
    ad: Domain
    desks: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def browser(self) -> httpx2.Client:
        """Each at a desk of its own: what strangers are refused is written one by one up to a few in a minute and an address."""
        browser = self.openid.browser(f"127.8.0.{next(self.desks)}")
        browser.headers["User-Agent"] = "a browser"
        return browser

    def away(self, browser: httpx2.Client, path: str = "/") -> str:
        """On to the provider: where the button of the sign-in page leads."""
        page = browser.get(f"{self.address}/sign-in", params={"next": path})
        button = re.search(r'href="(/sign-in/hospital/begin[^"]*)"[^>]*>The hospital<', page.text)
        assert button is not None, page.text
        answer = browser.get(self.address + button[1].replace("&amp;", "&"))
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def back(self, browser: httpx2.Client, url: str, **said: str) -> httpx2.Response:
        """Through the provider, and what we answer to whoever comes back."""
        for _ in range(12):
            mine = url.startswith(self.address)
            answer = browser.get(url, params=said if "/interaction/" in url else None)
            if mine:
                return answer
            assert answer.status_code in (302, 303), answer.text
            url = urljoin(url, answer.headers["location"])
        raise AssertionError("the provider sends us round in circles")

    def sign_in(self, browser: httpx2.Client, account: str, path: str = "/", **said: str) -> httpx2.Response:
        return self.back(browser, self.away(browser, path), account=account, **(said or BOTH))

    def by_directory(self, browser: httpx2.Client, name: str, password: str, code: str = "") -> httpx2.Response:
        form = {"name": name, "password": password, "code": code, "next": "/me"}
        return browser.post(f"{self.address}/sign-in/ad/password", data=form, headers={"Origin": self.address})

    def member(self, name: str, *groups: str) -> str:
        """Somebody new in the domain; their distinguished name."""
        dn = self.ad.add(name)
        for group in groups:
            self.ad.put(dn, group)
        return dn

    def person(self, name: str) -> Person:
        person = self.house.people.named(name)
        assert person is not None
        return person

    def within(self, browser: httpx2.Client) -> bool:
        return browser.get(f"{self.address}/me").status_code == 200

    def events(self, kind: EventKind) -> list[Event]:
        return [each.event for each in self.house.journal.read(None) if each.event.kind is kind]

    def refused(self) -> str:
        return self.events(EventKind.PERSON_REFUSED)[-1].reason

    def changed(self, kind: ChangeKind) -> list[object]:
        """Whom changes were about."""
        return [each.details["about"] for each in self.events(EventKind.CHANGE_COMPLETED) if each.action == kind]

    def change(self, kind: ChangeKind, about: str, **arguments: object) -> None:
        ordered(self.house.do, os.getuid(), kind, about, arguments)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory, ad: Domain) -> Iterator[Hospital]:
    place = tmp_path_factory.mktemp("elsewhere")
    with running(place) as site:
        address = web_address(load_proven(site.directory))
        client = {
            "client_id": "leadglass",
            "client_secret": SECRET,
            "redirect_uris": [f"{address}/sign-in/hospital"],
            "post_logout_redirect_uris": [f"{address}/signed-out"],
            "backchannel_logout_uri": f"{address}/back-channel/hospital",
            "backchannel_logout_session_required": True,
        }
        with provider(place, more={"client": client, "accounts": ACCOUNTS}) as openid:
            with (site.directory / "leadglass.toml").open("a") as file:
                file.write(settings(openid, place, ad))
            site.command("apply")
            site.up()
            house = assemble(site.directory)
            yield Hospital(site, openid, address, house, ad)
            house.close()
            print(site.log())


def settings(openid: OpenId, place: Path, ad: Domain) -> str:
    return f"""
[providers.hospital]
label = "The hospital"
issuer = "{openid.issuer}"
client_id = "leadglass"
client_secret = "file:{place}/secret"
authority = "{place}/authority.pem"
amr = ["pwd+otp"]
roles = {{ "readers" = "radiologist", "watchers" = "auditor", "technologists" = "technologist", "officers" = "security-officer" }}

[directories.ad]
label = "The domain"
url = "ldaps://{ad.address}:636"
base = "{BASE}"
bind = "CN=leadglass,{STAFF}"
password = "file:{ad.place}/password"
authority = "{ad.place}/authority.pem"
poll_seconds = {POLL_SECONDS}

[directories.ad.roles]
"{READERS}" = "radiologist"
"{TECHNOLOGISTS}" = "technologist"
"""


def test_a_sign_in_opens_a_session_and_leads_on(hospital: Hospital) -> None:
    with hospital.browser() as browser:
        answer = hospital.sign_in(browser, "id-alice", "/me?from=there")
        assert answer.status_code == 200 and "/me?from=there" in answer.text, (
            "a page of ours leads on: a cookie for us alone goes along from there"
        )
        cookies = [each.lower() for each in answer.headers.get_list("set-cookie")]
        assert any(
            each.startswith("leadglass=") and "samesite=strict" in each and "httponly" in each for each in cookies
        )
        assert any(each.startswith("leadglass-sign-in=") and "max-age=0" in each for each in cookies), (
            "its handle is used up"
        )
        assert "form-action 'self';" in answer.headers["content-security-policy"]
        page = browser.get(f"{hospital.address}/me")
        assert "Alice Doe" in page.text and "radiologist" in page.text and "provider" in page.text
        alice = hospital.house.people.named("alice")
        assert alice is not None and (alice.source, alice.roles) == ("oidc:hospital", {Role.RADIOLOGIST})
        assert hospital.changed(ChangeKind.PERSON_VOUCH).count("alice") == 1
        assert hospital.sign_in(browser, "id-alice").status_code == 200
        assert hospital.changed(ChangeKind.PERSON_VOUCH).count("alice") == 1, "nothing new is said of her: no change"
        with pytest.raises(NotChanged, match="oidc:hospital alone says what alice is"):
            hospital.change(ChangeKind.ROLE_GRANT, "alice", role="technologist", why="help")


def test_what_it_does_not_vouch_for_opens_nothing(hospital: Hospital) -> None:
    cases = {
        ("id-alice", "pwd"): "amr",
        ("id-nobody", "pwd,otp"): "no group that gives a role",
        ("id-both", "pwd,otp"): "do not go together",
        ("id-taken", "pwd,otp"): "is somebody else already",
    }
    for (account, amr), reason in cases.items():
        with hospital.browser() as browser:
            answer = hospital.sign_in(browser, account, amr=amr)
            assert answer.status_code in (401, 409) and "hospital" not in answer.text.replace(
                "The hospital", ""
            ).replace("/sign-in/hospital", "")
            assert reason in hospital.refused()
            assert not hospital.within(browser)
    assert hospital.house.people.named("both") is hospital.house.people.named("nobody") is None


def test_a_sign_in_belongs_to_the_browser_that_began_it(hospital: Hospital) -> None:
    with hospital.browser() as browser, hospital.browser() as other:
        url = hospital.away(browser)
        assert hospital.back(other, url, account="id-alice", **BOTH).status_code == 401, (
            "no handle: somebody else's sign-in"
        )
        url = hospital.away(browser)
        assert hospital.back(browser, url, account="id-alice", error="access_denied").status_code == 401
        assert "access_denied" in hospital.refused()
        browser.headers["User-Agent"] = "another browser"
        assert hospital.back(browser, hospital.away(other), account="id-alice", **BOTH).status_code == 401
        assert not hospital.within(browser) and not hospital.within(other)
        assert browser.get(f"{hospital.address}/sign-in/nobody/begin").status_code == 401
        assert browser.get(f"{hospital.address}/sign-in/hospital").status_code == 401


def test_who_is_disabled_here_is_not_let_in_by_others(hospital: Hospital) -> None:
    with hospital.browser() as browser:
        hospital.sign_in(browser, "id-off")
        assert hospital.within(browser)
        hospital.change(ChangeKind.PERSON_DISABLE, "off", why="left")
        assert not hospital.within(browser)
        assert hospital.sign_in(browser, "id-off").status_code == 401
        assert "off is disabled here" in hospital.refused()


def test_signing_out_here_is_signing_out_there_and_there_is_here(hospital: Hospital) -> None:
    own = {"Origin": hospital.address}
    with hospital.browser() as browser, hospital.browser() as elsewhere:
        hospital.sign_in(browser, "id-alice")
        page = browser.post(f"{hospital.address}/sign-out", headers=own)
        address = re.search(r'href="(https://[^"]*)"', page.text)
        assert page.status_code == 200 and address is not None and not hospital.within(browser)
        assert confirm(browser, address[1].replace("&amp;", "&")) == f"{hospital.address}/signed-out"
        assert browser.get(f"{hospital.address}/signed-out").status_code == 200
        # Two browsers, two sessions there: the end of one there ends that one here, by the provider's own word, and no other.
        hospital.sign_in(browser, "id-alice")
        hospital.sign_in(elsewhere, "id-alice")
        assert hospital.within(browser) and hospital.within(elsewhere)
        confirm(browser, f"{hospital.openid.issuer}/session/end")
        assert until(lambda: not hospital.within(browser))
        assert hospital.within(elsewhere)
        assert hospital.changed(ChangeKind.SESSION_END) == ["alice"]


def test_a_back_channel_takes_signed_tokens_from_programs_alone(hospital: Hospital) -> None:
    url = f"{hospital.address}/back-channel/hospital"
    with hospital.browser() as browser:
        for token in ("", "x.y.z"):
            answer = browser.post(url, data={"logout_token": token})
            assert answer.status_code == 400 and answer.headers["cache-control"] == "no-store"
        assert (
            browser.post(url, data={"logout_token": "x"}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        )
        assert (
            browser.post(url, data={"logout_token": "x"}, headers={"Origin": "https://else.example"}).status_code == 403
        )
        assert browser.post(f"{hospital.address}/sign-out").status_code == 403, "only there"


def enrolled_app(hospital: Hospital, browser: httpx2.Client, link: str) -> tuple[pyotp.TOTP, list[str]]:
    """By the link that a first sign-in led to: the app, and the recovery codes."""
    page = browser.get(f"{hospital.address}{link}/password")
    assert "Choose a password" not in page.text, "there is no second password beside the directory's"
    fields = dict(re.findall(r'name="(handle|uri)" value="([^"]*)"', page.text))
    app = pyotp.parse_uri(fields["uri"].replace("&amp;", "&"))
    assert isinstance(app, pyotp.TOTP)
    form = {**fields, "code": app.at(time.time() - 30)}  # the one before: the next one is for the sign-in
    done = browser.post(f"{hospital.address}{link}/password", data=form, headers={"Origin": hospital.address})
    assert done.status_code == 200, done.text
    return app, re.findall(r"<li><code>([^<]+)</code>", done.text)


def test_a_directorys_password_and_a_code_of_ours(hospital: Hospital) -> None:
    """The first sign-in leads to enrolment and opens nothing; from then on the password alone leads nowhere."""
    hospital.member("marta", READERS)
    right = f"{PASSWORD}marta"
    with hospital.browser() as browser:
        assert hospital.by_directory(browser, "marta", "wrong").status_code == 401
        assert hospital.house.people.named("marta") is None
        first = hospital.by_directory(browser, "Marta", right)
        link = first.headers["location"]
        assert first.status_code == 303 and link.startswith("/enrol/") and not browser.cookies, first.text
        person = hospital.person("marta")
        assert (person.source, person.roles, person.display) == ("ldap:ad", {Role.RADIOLOGIST}, "The marta")
        app, codes = enrolled_app(hospital, browser, link)
        assert browser.get(f"{hospital.address}{link}").status_code == 410
        for code in ("", "000000"):
            assert hospital.by_directory(browser, "marta", right, code).status_code == 401, code
        assert hospital.by_directory(browser, "marta", "wrong", codes[0]).status_code == 401
        code = app.at(time.time())
        own = {"name": "marta", "password": right, "code": code}
        answer = browser.post(f"{hospital.address}/sign-in/password", data=own, headers={"Origin": hospital.address})
        assert answer.status_code == 401 and not browser.cookies, "her password is the directory's to prove"
        answer = hospital.by_directory(browser, "marta", right, code)
        assert (answer.status_code, answer.headers.get("location")) == (303, "/me"), answer.text
        assert "Authenticator app, beside your password" in browser.get(f"{hospital.address}/me").text
    with hospital.browser() as other:
        assert hospital.by_directory(other, "marta", right, code).status_code == 401, "a code is good once"
        assert "used before" in hospital.refused()
        assert hospital.by_directory(other, "marta", right, codes[0]).status_code == 303
        hospital.change(ChangeKind.PERSON_RESET, "marta", why="a lost telephone")
        assert not hospital.within(other)
        assert hospital.by_directory(other, "marta", right).status_code == 401, "the link is another's to hand over"
        assert "the link that was made then" in hospital.refused()


def test_guesses_are_slowed_before_the_directory_hears_of_them(hospital: Hospital) -> None:
    hospital.member("gustav", READERS)
    with hospital.browser() as browser:
        said = [hospital.by_directory(browser, "gustav", f"guess {number}").status_code for number in range(7)]
        assert said == [401] * 5 + [429] * 2
        assert hospital.by_directory(browser, "gustav", f"{PASSWORD}gustav").status_code == 429
    refused = [each for each in hospital.events(EventKind.PERSON_REFUSED) if each.details.get("name") == "gustav"]
    assert [each.details["refusal"] for each in refused] == ["NotIdentified"] * 5, "one address: the rest are counted"
    assert all("a wrong password" in each.reason for each in refused), "those the directory heard of"


def test_who_is_gone_there_is_gone_here_and_comes_back_by_its_word(hospital: Hospital) -> None:
    """Within a poll: a group that was left takes its role along, an account that vanished is disabled. Renamed, it is the same person."""
    dn, right = hospital.member("rosa", READERS, TECHNOLOGISTS), f"{PASSWORD}rosa"
    poll = POLL_SECONDS + 25.0
    with hospital.browser() as browser:
        app, codes = enrolled_app(hospital, browser, hospital.by_directory(browser, "rosa", right).headers["location"])
        first = hospital.person("rosa")
        assert first.roles == {Role.RADIOLOGIST, Role.TECHNOLOGIST}
        assert hospital.by_directory(browser, "rosa", right, app.at(time.time())).status_code == 303
        assert hospital.within(browser)
        hospital.ad.take(dn, READERS)
        assert until(lambda: hospital.person("rosa").roles == {Role.TECHNOLOGIST}, poll)
        assert not hospital.within(browser), "a session does not outlive the role it was opened with"
        hospital.ad.set(dn, sAMAccountName="rosalie")
        assert until(lambda: not hospital.person("rosa").enabled, poll)
        assert until(lambda: "rosa" in hospital.changed(ChangeKind.PERSON_DISABLE))
        assert hospital.changed(ChangeKind.ROLE_REVOKE) == ["rosa"]
        hospital.ad.put(dn, READERS)
        assert hospital.by_directory(browser, "rosalie", right, codes[0]).status_code == 303
        assert hospital.within(browser)
        again = hospital.person("rosalie")
        assert (again.id, again.enabled, again.roles) == (first.id, True, first.roles)
        assert hospital.house.people.named("rosa") is None
        hospital.change(ChangeKind.PERSON_DISABLE, "rosalie", why="on leave")
        assert hospital.by_directory(browser, "rosalie", right, codes[1]).status_code == 401, (
            "whom we disabled stays so"
        )


# ---- step-up: nobody else's word is a passkey of ours


def own_passkey(hospital: Hospital, browser: httpx2.Client, device: Authenticator, label: str) -> httpx2.Response:
    """As /me adds one."""
    form = {"csrf": csrf(hospital, browser)}
    offered = browser.post(f"{hospital.address}/me/passkeys/options", data=form, headers={"Origin": hospital.address})
    if offered.status_code != 200:
        return offered
    answer = {
        **form,
        "handle": offered.json()["handle"],
        "answer": json.dumps(device.create(offered.json()["options"])),
    }
    return browser.post(
        f"{hospital.address}/me/passkeys", data={**answer, "label": label}, headers={"Origin": hospital.address}
    )


def csrf(hospital: Hospital, browser: httpx2.Client) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', browser.get(f"{hospital.address}/me").text)
    assert found is not None
    return found[1]


def step_up(hospital: Hospital, browser: httpx2.Client, device: Authenticator) -> int:
    own = {"Origin": hospital.address}
    offered = browser.post(f"{hospital.address}/passkey/options", data={"purpose": "step-up"}, headers=own).json()
    form = {"csrf": csrf(hospital, browser), "handle": offered["handle"], "next": "/me"}
    answer = {**form, "answer": json.dumps(device.get(offered["options"]))}
    return browser.post(f"{hospital.address}/step-up", data=answer, headers=own).status_code


def steps_up(hospital: Hospital, browser: httpx2.Client, name: str) -> None:
    """From a session without a passkey of ours: the first is added while the sign-in is fresh, and from then on it alone makes anything fresh."""
    device, stranger = Authenticator(hospital.address), Authenticator(hospital.address)
    assert own_passkey(hospital, browser, device, "first").status_code == 303
    assert browser.get(f"{hospital.address}/me/passkeys").status_code == 401, "not by the sign-in any more"
    assert own_passkey(hospital, browser, stranger, "second").status_code == 403
    assert step_up(hospital, browser, stranger) == 401, "of nobody"
    assert step_up(hospital, browser, device) == 303
    assert browser.get(f"{hospital.address}/me/passkeys").status_code == 200
    row = hospital.house.desk.sessions(hospital.person(name).id)[0]
    assert 0 < time.time_ns() - row.stepped_up_ns < 60 * 1_000_000_000
    told = [each for each in hospital.events(EventKind.PERSON_RECOGNISED) if each.actor == f"person:{name}"]
    assert told[-1].action == "step-up" and told[-1].details["session"] == row.id


def test_whom_a_provider_vouched_for_steps_up_with_a_passkey_of_ours(hospital: Hospital) -> None:
    with hospital.browser() as browser:
        hospital.sign_in(browser, "id-officer")
        form = {"csrf": csrf(hospital, browser), "why": "a lost key"}
        own = {"Origin": hospital.address}
        reset = f"{hospital.address}/people/administrator/link"
        assert browser.post(reset, data=form, headers=own).status_code == 401, (
            "the provider's two factors are no step-up"
        )
        steps_up(hospital, browser, "officer")
        assert browser.post(reset, data=form, headers=own).status_code in (200, 303)
    assert hospital.changed(ChangeKind.PERSON_RESET)[-1] == "administrator"


def test_whom_a_directory_vouched_for_steps_up_with_a_passkey_of_ours(hospital: Hospital) -> None:
    hospital.member("petra", READERS)
    right = f"{PASSWORD}petra"
    with hospital.browser() as browser:
        link = hospital.by_directory(browser, "petra", right).headers["location"]
        app, _ = enrolled_app(hospital, browser, link)
        assert hospital.by_directory(browser, "petra", right, app.at(time.time())).status_code == 303
        steps_up(hospital, browser, "petra")


# ---- what changes between sign-ins


def test_a_secret_that_was_rotated_is_taken_up_by_a_running_site(hospital: Hospital) -> None:
    secret = hospital.openid.place / "secret"
    with hospital.browser() as browser:
        assert hospital.sign_in(browser, "id-alice").status_code == 200
        hospital.openid.reload(lambda config: config["client"].update(client_secret="another of the tests"))
        try:
            assert hospital.sign_in(browser, "id-alice").status_code == 502, "the old one is worth nothing there"
            secret.write_text("another of the tests\n")
            assert hospital.sign_in(browser, "id-alice").status_code == 200, "without a start or an apply"
        finally:
            hospital.openid.reload(lambda config: config["client"].update(client_secret=SECRET))
            secret.write_text(f"{SECRET}\n")


def groups(hospital: Hospital, account: str, *groups: str) -> None:
    hospital.openid.reload(lambda config: config["accounts"][account].update(groups=groups))


def test_who_is_in_no_group_any_more_is_out_everywhere(hospital: Hospital) -> None:
    """Learned at their next sign-in; a session that is there already ends with it, and never lasts longer than `sessions.provider_hours`."""
    groups(hospital, "id-mover", "readers", "technologists")
    with hospital.browser() as browser, hospital.browser() as another:
        hospital.sign_in(browser, "id-mover")
        (row,) = hospital.house.desk.sessions(hospital.person("mover").id)
        hours = hospital.house.site().sessions.provider_hours
        assert row.until_ns - row.opened_ns == hours * 3600 * 1_000_000_000
        assert hospital.within(browser)
        groups(hospital, "id-mover")
        assert hospital.sign_in(another, "id-mover").status_code == 401
        assert not hospital.within(browser) and not hospital.person("mover").enabled
        groups(hospital, "id-mover", "readers")
        assert hospital.sign_in(another, "id-mover").status_code == 200
        assert hospital.person("mover").roles == {Role.RADIOLOGIST}


@contextmanager
def read_only(hospital: Hospital) -> Iterator[None]:
    def say(why: str) -> None:
        containment.replace(hospital.site.directory, lambda state: replace(state, read_only=why))
        time.sleep(3 * containment.LOOK_EVERY_SECONDS)

    say("a drill")
    try:
        yield
    finally:
        say("")


def test_a_read_only_site_lets_in_whom_it_knows_and_gives_nobody_more(hospital: Hospital) -> None:
    groups(hospital, "id-mover", "readers", "technologists")
    with hospital.browser() as browser, hospital.browser() as late:
        hospital.sign_in(browser, "id-mover")
        assert hospital.person("mover").roles == {Role.RADIOLOGIST, Role.TECHNOLOGIST}
        with read_only(hospital):
            assert hospital.sign_in(late, "id-late").status_code == 403, "nobody new"
            assert hospital.house.people.named("late") is None and not hospital.within(late)
            assert "read-only" in hospital.refused()
            assert hospital.sign_in(browser, "id-mover").status_code == 200, "as they were"
            groups(hospital, "id-mover", "readers")
            assert hospital.sign_in(browser, "id-mover").status_code == 200 and hospital.within(browser)
            assert hospital.person("mover").roles == {Role.RADIOLOGIST}, "what was taken away there is gone here"
            groups(hospital, "id-mover", "readers", "technologists")
            assert hospital.sign_in(browser, "id-mover").status_code == 200
            assert hospital.person("mover").roles == {Role.RADIOLOGIST}, "and is not given while nothing is"
            groups(hospital, "id-mover", "technologists")
            assert hospital.sign_in(browser, "id-mover").status_code == 403, "nothing of what they had is left"
            assert hospital.person("mover").roles == frozenset() and not hospital.within(browser)
        assert hospital.sign_in(browser, "id-mover").status_code == 200
        assert hospital.person("mover").roles == {Role.TECHNOLOGIST}, "at the first sign-in afterwards"
        assert hospital.sign_in(late, "id-late").status_code == 200


def test_in_a_real_browser(hospital: Hospital) -> None:
    """Cookies that other sites' pages do not carry along, and a policy of what pages may lead to: there and back all the same."""
    with chromium() as browser:
        screen = Screen(browser, hospital.address)
        page = screen.page
        page.goto(f"{hospital.address}/sign-in?next=/me")
        page.get_by_role("link", name="The hospital").click()
        page.wait_for_url(f"{hospital.openid.issuer}/interaction/*")
        page.evaluate(
            "location.search = '?account=id-alice&amr=pwd,otp'"
        )  # the provider's own page leads on, not somebody who types
        page.wait_for_url(f"{hospital.address}/me")
        assert page.get_by_role("heading", name="Alice Doe").is_visible()
        page.get_by_role("button", name="Sign out").first.click()
        page.wait_for_url(f"{hospital.openid.issuer}/session/end*")
        screen.broken.clear()  # of the provider's own pages
        page.evaluate("document.forms[0].querySelector('[name=logout]')?.click() ?? document.forms[0].submit()")
        page.wait_for_url(f"{hospital.address}/signed-out")
        page.goto(f"{hospital.address}/me")
        assert page.url.startswith(f"{hospital.address}/sign-in") and screen.broken == []
        screen.close()
