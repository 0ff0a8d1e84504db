"""T27 of SP 1800-24 for people: provider, directory and keeper are down. Modalities go on storing, a passkey of ours lets people in and breaks the
glass, what others would have vouched for is refused calmly, and nothing opens that was shut."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from leadglass import gateway
from leadglass.__main__ import assemble
from leadglass.doors.blocking import run
from leadglass.doors.house import House
from leadglass.identity.people.passkeys import Origin
from leadglass.lab.peers import Archive, Identity, associated, storing
from leadglass.site.ports import web_address
from leadglass.site.write import load_proven
from leadglass.terms import Change, ChangeKind, EventKind, Peer
from tests.identity.people.authenticator import Authenticator
from tests.running import RunningSite, free_port, running, until
from tests.synthetic import image

PATIENT = "DOWN"
AWAY = "does not work just now"


def sources(place: Path) -> str:
    """A provider and a directory at addresses where nobody listens."""
    (place / "secret").write_text("of the tests alone\n")
    (place / "secret").chmod(0o600)
    return f"""
[providers.hospital]
issuer = "https://127.0.0.1:{free_port()}"
client_id = "leadglass"
client_secret = "file:{place}/secret"
amr = ["mfa"]
roles = {{ "readers" = "radiologist" }}

[directories.ad]
url = "ldaps://127.0.0.1:{free_port()}"
base = "DC=hosp,DC=test"
bind = "CN=leadglass,DC=hosp,DC=test"
password = "file:{place}/secret"
poll_seconds = 5

[directories.ad.roles]
"CN=Readers,DC=hosp,DC=test" = "radiologist"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    place = tmp_path_factory.mktemp("people-down")
    with running(place, sources(place)) as site:
        site.up()
        site.enroll("CT1", "echo,store")
        yield site
        print(site.log())


@pytest.fixture(scope="module")
def house(site: RunningSite) -> Iterator[House]:
    """Another process of the running site."""
    house = assemble(site.directory)
    yield house
    house.close()


def keepers(site: RunningSite) -> list[int]:
    assert site.process is not None
    found = []
    for pid in site.children(site.process.pid):
        line = Path(f"/proc/{pid}/cmdline")
        if line.exists() and line.read_bytes().rstrip(b"\0").endswith(b"serve\0keeper"):
            found.append(pid)
    return found


@contextmanager
def no_keeper(site: RunningSite) -> Iterator[None]:
    """Whenever the supervisor starts one it is killed, as a program that cannot start any more ends."""
    over = threading.Event()

    def kill() -> None:
        while not over.is_set():
            for pid in keepers(site):
                os.kill(pid, signal.SIGKILL)
            over.wait(0.02)

    (first,) = keepers(site)
    thread = threading.Thread(target=kill)
    thread.start()
    try:
        assert until(lambda: first not in keepers(site))
        yield
    finally:
        over.set()
        thread.join()


class Console:
    """A browser with a passkey in it, at the web door."""

    def __init__(self, address: str, passkey: Authenticator) -> None:
        self.address, self.passkey = address, passkey
        self.client = httpx2.Client(trust_env=False, timeout=60.0, headers={"Origin": address, "User-Agent": "browser"})

    def get(self, path: str) -> httpx2.Response:
        return self.client.get(self.address + path)

    def post(self, path: str, **form: str) -> httpx2.Response:
        return self.client.post(self.address + path, data=form)

    def proven(self, path: str, purpose: str, **form: str) -> httpx2.Response:
        """A form that goes with an answer of the passkey's."""
        asked = self.post("/passkey/options", purpose=purpose).json()
        answer = json.dumps(self.passkey.get(dict(asked["options"])))
        return self.post(path, handle=asked["handle"], answer=answer, **form)

    def csrf(self) -> str:
        return self.get("/glass").text.partition('name="csrf" content="')[2].partition('"')[0]


def enrolled(site: RunningSite, house: House, address: str) -> Authenticator:
    """A radiologist, by the link that the operator was shown."""
    (row,) = site.rows("people", "add", "reader", "--role", "radiologist")
    link, origin = row["enrolment"].rpartition("/")[2], Origin(address, "localhost")
    passkey = Authenticator(address)
    handle, options = house.desk.enrolment_options(link, origin)
    proven = house.desk.enrolled_passkey(link, handle, passkey.create(dict(options)), origin)
    invitee = house.desk.invitee(link, Peer("127.0.0.1", 1, "web"))
    run(gateway.change(house.do, Change("t27", invitee, ChangeKind.FACTOR_ENROLL, "reader", proven)))
    return passkey


def store(site: RunningSite, number: int) -> int:
    one = image(random.Random(number), patient=PATIENT)
    identity = Identity("CT1", "127.0.0.1", site.bundles["CT1"].directory)
    with associated(identity, Archive("127.0.0.1", site.port), storing([one])) as session:
        return session.store(one).status


def test_t27_provider_directory_and_keeper_down(site: RunningSite, house: House) -> None:
    address = web_address(load_proven(site.directory))
    browser = Console(address, enrolled(site, house, address))
    assert until(lambda: any("ad does not answer" in each for each in site.rows("status")[0]["amber"])), (
        "amber, and no more"
    )
    with browser.client, no_keeper(site):
        assert store(site, 1) == 0
        assert browser.get("/").headers["location"].startswith("/sign-in")
        for answer in (
            browser.get("/sign-in/hospital/begin"),
            browser.post("/sign-in/ad/password", name="alice", password="of the hospital", code="123456"),
        ):
            assert answer.status_code == 502 and AWAY in answer.text and "Sign in with a passkey" in answer.text
            assert not browser.client.cookies and "127.0.0.1" not in answer.text
        assert browser.get("/me").headers["location"].startswith("/sign-in"), "nothing opened"
        answer = browser.proven("/sign-in", "sign-in", next="/me")
        assert (answer.status_code, answer.headers.get("location")) == (303, "/me"), answer.text
        assert browser.get("/me").status_code == 200
        form = {"patient_id": PATIENT, "issuer": "", "reason": "they bleed, and their referrer is away"}
        assert browser.get(f"/?patient={PATIENT}").status_code == 200
        csrf = browser.csrf()
        answer = browser.post("/glass", csrf=csrf, **form)
        if answer.status_code == 401:  # a fresh passkey first
            assert browser.proven("/step-up", "step-up", csrf=csrf, next="/glass").status_code == 303
            answer = browser.post("/glass", csrf=csrf, **form)
        assert answer.status_code == 303, answer.text
        assert store(site, 2) == 0
        (glass,) = house.people.access.glass()
        assert (glass.patient.patient_id, glass.reason) == (PATIENT, form["reason"])
        told = [each.event for each in house.journal.read(None)]
    refused = [each for each in told if each.kind is EventKind.PERSON_REFUSED]
    assert [(each.details["method"], each.details["refusal"]) for each in refused] == [
        ("oidc", "UpstreamFault"),
        ("ldap", "UpstreamFault"),
    ]
    done = [each for each in told if each.kind is EventKind.CHANGE_COMPLETED]
    assert [each.actor for each in done if each.action == ChangeKind.GLASS_BREAK] == ["person:reader"]
    assert not [each for each in done if each.action in (ChangeKind.PERSON_VOUCH, ChangeKind.PERSON_DISABLE)]
    assert until(lambda: len(keepers(site)) == 1, 30.0), "the supervisor never gave up on it"
