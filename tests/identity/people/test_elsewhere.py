"""Through the web door of a running site: people whom a real OpenID provider vouches for, and what a provider's word ends."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest

from leadglass.__main__ import assemble
from leadglass.doors.command.desk import ordered
from leadglass.doors.house import House
from leadglass.site.ports import web_address
from leadglass.site.write import load_proven
from leadglass.terms import ChangeKind, Event, EventKind, NotChanged, Role
from tests.identity.people.openid import SECRET, OpenId, confirm, provider
from tests.running import RunningSite, running, until

pytestmark = pytest.mark.xdist_group("elsewhere")
BOTH = {"amr": "pwd,otp"}
ACCOUNTS = {
    "id-alice": {"preferred_username": "Alice", "name": "Alice Doe", "groups": ["readers"]},
    "id-both": {"preferred_username": "both", "groups": ["readers", "watchers"]},
    "id-nobody": {"preferred_username": "nobody", "groups": ["staff"]},
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

    def browser(self) -> httpx2.Client:
        browser = self.openid.browser()
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
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
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
                file.write(settings(openid, place))
            site.command("apply")
            site.up()
            house = assemble(site.directory)
            yield Hospital(site, openid, address, house)
            house.close()
            print(site.log())


def settings(openid: OpenId, place: Path) -> str:
    return f"""
[providers.hospital]
label = "The hospital"
issuer = "{openid.issuer}"
client_id = "leadglass"
client_secret = "file:{place}/secret"
authority = "{place}/authority.pem"
amr = ["pwd+otp"]
roles = {{ "readers" = "radiologist", "watchers" = "auditor" }}
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
