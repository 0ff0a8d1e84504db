"""The web door over real sockets: what is answered without a name, what is refused before anybody is asked, cookies and tokens of a session."""

from __future__ import annotations

import base64
import itertools
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from leadglass.doors.web.connection import HEAD_LENGTH_MAX_BYTES
from leadglass.doors.web.security import BODY_LENGTH_MAX_BYTES, CONTENT_SECURITY_POLICY
from leadglass.identity.people.tokens import TOKEN_SECONDS_MAX, Tokens
from leadglass.lab.authenticator import Authenticator
from leadglass.policy import containment
from leadglass.site.sitekey import SiteKey
from leadglass.site.write import apply, load_proven
from leadglass.terms import Peer, fingerprint_of
from tests.interop.test_people import rows
from tests.running import RunningSite, running, until

OWN = {"Sec-Fetch-Site": "same-origin"}


pytestmark = pytest.mark.xdist_group("web-door")  # one site is enough


@dataclass
class Doors:
    site: RunningSite
    console: str
    https: str

    def client(self, base: str = "", source: str = "127.0.0.1") -> httpx2.Client:
        """`source`: of its own where a refusal must be an event, for only the first of a source are told one by one."""
        verify = ssl.create_default_context(cafile=str(self.site.directory / "ca" / "serving-ca.pem"))
        transport = httpx2.HTTPTransport(verify=verify, trust_env=False, local_address=source)
        return httpx2.Client(base_url=base or self.console, transport=transport, timeout=30)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with running(tmp_path_factory.mktemp("web")) as site:
        site.up()
        ports = json.loads((site.directory / "state" / "ports.json").read_text())
        yield Doors(site, f"http://localhost:{ports['console']}", f"https://localhost:{ports['web']}")
        assert site.down() == 0


@pytest.fixture(scope="module")
def keys(doors: Doors) -> dict[str, Authenticator]:
    return {}


def enrolled(doors: Doors, keys: dict[str, Authenticator], name: str, role: str) -> Authenticator:
    """Somebody with a passkey, enrolled over HTTP as a browser does it."""
    if name not in keys:
        link = rows(doors.site, "people", "add", name, "--role", role, "--why", "a test")[0]["enrolment"]
        path = link.removeprefix(doors.console)
        key = Authenticator(doors.console)
        with doors.client() as client:
            offered = client.post(f"{path}/options", headers=OWN).json()
            made = {"handle": offered["handle"], "answer": json.dumps(key.create(offered["options"])), "label": "soft"}
            done = client.post(path, data=made, headers=OWN)
        assert done.status_code == 200 and "recovery codes" in done.text
        keys[name] = key
    return keys[name]


@contextmanager
def signed_in(doors: Doors, key: Authenticator, source: str = "127.0.0.1") -> Iterator[httpx2.Client]:
    with doors.client(source=source) as client:
        offered = client.post("/passkey/options", data={"purpose": "sign-in"}, headers=OWN).json()
        answer = {"handle": offered["handle"], "answer": json.dumps(key.get(offered["options"])), "next": "/me"}
        done = client.post("/sign-in", data=answer, headers=OWN)
        assert (done.status_code, done.headers["location"]) == (303, "/me"), done.text
        yield client


def token_of(client: httpx2.Client) -> str:
    return client.get("/me").text.partition('<meta name="csrf" content="')[2].partition('"')[0]


def events(doors: Doors, kind: str) -> list[dict[str, Any]]:
    return [each for each in rows(doors.site, "events") if each["kind"] == kind]


def refused_there(doors: Doors, source: str) -> list[str]:
    return [each["reason"] for each in events(doors, "person:refused") if each["address"] == source]


# ---- without a name


@pytest.mark.parametrize("door", ["console", "https"])
def test_health_says_alive_and_ready_and_nothing_else(doors: Doors, door: str) -> None:
    with doors.client(getattr(doors, door)) as client:
        answer = client.get("/healthz", headers={"Host": "10.1.2.3"})
    assert (answer.status_code, answer.json()) == (200, {"alive": True, "ready": True})


def test_everything_else_needs_one(doors: Doors) -> None:
    with doors.client() as client:
        for path in ("/", "/me", "/people", "/devices", "/who", "/studies/1.2.3", "/requests", "/review", "/explain"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in"), path
        for path in ("/lock", "/people", "/glass", "/requests", "/devices/CT1/revoke"):
            assert client.post(path, headers=OWN).headers["location"].startswith("/sign-in"), path
        assert client.get("/still", headers={"Accept": "application/json"}).status_code == 401
        assert client.get("/nowhere").status_code == 404


def test_what_every_answer_says(doors: Doors) -> None:
    for base in (doors.console, doors.https):
        with doors.client(base) as client:
            for path in ("/sign-in", "/healthz", "/nowhere", "/static/site.css", "/people"):
                headers = client.get(path).headers
                assert (
                    headers["content-security-policy"] == CONTENT_SECURITY_POLICY
                    and "unsafe" not in CONTENT_SECURITY_POLICY
                )
                assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
                assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")
                assert "server" not in headers and "set-cookie" not in headers
                assert "strict-transport-security" not in headers  # localhost, where the console stands beside it


def test_pages_hold_no_script_and_no_style_of_their_own(doors: Doors) -> None:
    with doors.client() as client:
        text = client.get("/sign-in").text
    assert "<script" in text and "<style" not in text and " style=" not in text and " onclick=" not in text
    assert all(' src="/static/' in part.partition(">")[0] for part in text.split("<script")[1:])


# ---- before anybody is asked


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/sign-in", {"Host": "127.0.0.1"}, 421),
        ("GET", "/sign-in", {"Host": "evil.example"}, 421),
        ("DELETE", "/sign-in", {}, 405),
        ("OPTIONS", "/sign-in", {}, 405),
        ("POST", "/sign-in", {}, 403),
        ("POST", "/sign-in", {"Origin": "http://evil.example"}, 403),
        ("POST", "/sign-in", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "/sign-in", {"Sec-Fetch-Site": "same-site"}, 403),
        ("GET", "/sign-in", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("POST", "/sign-in", {**OWN, "Content-Type": "application/json"}, 400),
        ("POST", "/sign-in", {**OWN, "Content-Type": "multipart/form-data; boundary=x"}, 400),
        ("GET", "/sign-in", {"X-Long": "x" * 20_000}, 431),
    ],
)
def test_refused(doors: Doors, method: str, path: str, headers: dict[str, str], status: int) -> None:
    with doors.client() as client:
        body = b"{}" if "Content-Type" in headers else b""
        assert client.request(method, path, headers=headers, content=body).status_code == status


def test_a_browser_that_says_only_its_origin_is_taken_at_its_word(doors: Doors) -> None:
    with doors.client() as client:
        answer = client.post("/passkey/options", data={"purpose": "sign-in"}, headers={"Origin": doors.console})
        assert answer.status_code == 200 and set(answer.json()) == {"handle", "options"}


def test_what_a_proxy_claims_is_believed_in_nothing(doors: Doors) -> None:
    with doors.client(source="127.0.0.21") as client:
        claims = {"X-Forwarded-Host": "evil.example", "X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7"}
        client.get("/sign-in", headers={"Host": "evil.example", **claims})
    assert until(lambda: any("evil.example" in each for each in refused_there(doors, "127.0.0.21")))
    assert not refused_there(doors, "203.0.113.7")


def test_a_long_body_is_not_read(doors: Doors) -> None:
    with doors.client() as client:
        answer = client.post("/sign-in", content=b"a=" + b"b" * BODY_LENGTH_MAX_BYTES, headers=OWN)
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


def raw(doors: Doors, data: bytes, *, wait: float = 10.0) -> bytes:
    port = int(doors.console.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as sock:
        sock.sendall(data)
        heard = b""
        while part := sock.recv(65536):
            heard += part
        return heard


def test_heads_that_are_no_heads(doors: Doors) -> None:
    host = doors.console.removeprefix("http://").encode()
    assert b" 431 " in raw(doors, b"GET / HTTP/1.1\r\nX: " + b"y" * (HEAD_LENGTH_MAX_BYTES + 1))
    assert b" 400 " in raw(doors, b"GET http://evil.example/ HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert b" 400 " in raw(doors, b"\x16\x03\x01\x00\x05hello\r\n\r\n")
    chunked = b"POST /sign-in HTTP/1.1\r\nHost: " + host + b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert b" 411 " in raw(doors, chunked)
    both = chunked.replace(b"Transfer", b"Content-Length: 5\r\nTransfer")
    assert b" 400 " in raw(doors, both)
    assert b" 421 " in raw(
        doors, b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
    )


def test_plain_words_to_the_tls_door_are_an_event(doors: Doors) -> None:
    port = int(doors.https.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 10, ("127.0.0.22", 0)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert sock.recv(100) == b""
    assert until(lambda: any("no TLS with it" in each for each in refused_there(doors, "127.0.0.22")))


@pytest.mark.parametrize("link", ["none", "x" * 5_000, "%00", "..%2f..%2fetc%2fpasswd"])
def test_a_link_that_was_never_made(doors: Doors, link: str) -> None:
    with doors.client() as client:
        answer = client.get(f"/enrol/{link}")
        assert answer.status_code in (404, 410)
        assert client.post(f"/enrol/{link}/options", headers=OWN).status_code in (303, 401, 404)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"handle": "x", "answer": "{"},
        {"handle": "x", "answer": "[" * 10_000},
        {"handle": "\N{SNOWMAN}", "answer": '{"id": 1}'},
        {
            "handle": "x",
            "answer": json.dumps({"id": "x", "rawId": "x", "response": {"clientDataJSON": "!"}, "type": "public-key"}),
        },
    ],
    ids=["nothing", "half", "deep", "snowman", "no-client-data"],
)
def test_an_answer_that_is_no_passkeys(doors: Doors, fields: dict[str, str]) -> None:
    with doors.client() as client:
        answer = client.post("/sign-in", data=fields, headers=OWN)
    assert answer.status_code == 401 and "set-cookie" not in answer.headers and "That did not work" in answer.text


def test_a_wrong_name_and_a_wrong_password_hear_the_same(doors: Doors, keys: dict[str, Authenticator]) -> None:
    enrolled(doors, keys, "known", "radiologist")
    with doors.client() as client:
        said = [
            client.post("/sign-in/password", data={"name": name, "password": "x" * 12, "code": "123456"}, headers=OWN)
            for name in ("known", "nobody-at-all")
        ]
    assert [each.status_code for each in said] == [401, 401] and said[0].text == said[1].text


# ---- machines


def test_metrics_are_for_a_machine_with_a_name(doors: Doors) -> None:
    stick = doors.site.directory.parent / "stick-PROM"
    enrol = (
        "device",
        "enroll",
        "PROM",
        "--ae",
        "PROM",
        "--network",
        "127.0.0.0/8",
        "--may",
        "echo",
        "--out",
        str(stick),
    )
    rows(doors.site, *enrol)
    named = ("--role", "service-account", "--certificate", str(stick / "client.pem"), "--why", "a test")
    rows(doors.site, "people", "add", "prometheus", *named)
    verify = ssl.create_default_context(cafile=str(doors.site.directory / "ca" / "serving-ca.pem"))
    with httpx2.Client(base_url=doors.https, verify=verify, trust_env=False) as nobody:
        assert (nobody.get("/metrics").status_code, nobody.get("/metrics").text) == (401, "401 Unauthorized\n")
    verify.load_cert_chain(stick / "client.pem", stick / "client.key")
    with httpx2.Client(base_url=doors.https, verify=verify, trust_env=False) as machine:
        answer = machine.get("/metrics")
        assert (
            answer.status_code == 200
            and "leadglass_workers 2.0" in answer.text
            and "leadglass_instances" in answer.text
        )
        assert machine.get("/people").status_code == 303, "a certificate is no session"
        rows(doors.site, "people", "disable", "prometheus", "--reason", "retired")
        assert machine.get("/metrics").status_code == 401


@pytest.fixture(scope="module")
def sticks(doors: Doors) -> dict[str, Path]:
    """Certificates of two machines, each a service account's, by the account's name."""
    made = {}
    for device, account in (("PROM2", "scraper"), ("PROM3", "scraper3")):
        stick = made[account] = doors.site.directory.parent / f"stick-{device}"
        where = ("--ae", device, "--network", "127.0.0.0/8", "--may", "echo", "--out", str(stick))
        rows(doors.site, "device", "enroll", device, *where)
        named = ("--role", "service-account", "--certificate", str(stick / "client.pem"), "--why", "a test")
        rows(doors.site, "people", "add", account, *named)
    return made


@contextmanager
def machine(doors: Doors, stick: Path | None) -> Iterator[httpx2.Client]:
    """A program at the TLS door, with a certificate or none. Each from an address of its own: its refusals are told one by one."""
    verify = ssl.create_default_context(cafile=str(doors.site.directory / "ca" / "serving-ca.pem"))
    if stick is not None:
        verify.load_cert_chain(stick / "client.pem", stick / "client.key")
    transport = httpx2.HTTPTransport(verify=verify, trust_env=False, local_address=f"127.9.0.{next(_desks)}")
    with httpx2.Client(base_url=doors.https, transport=transport, timeout=30) as client:
        yield client


_desks = itertools.count(1)


def asked(client: httpx2.Client, token: str, scheme: str = "Bearer") -> int:
    answer = client.get("/metrics", headers={"Authorization": f"{scheme} {token}"})
    assert answer.status_code != 401 or answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    return answer.status_code


def test_a_token_for_a_machine_with_its_certificate_alone(doors: Doors, sticks: dict[str, Path]) -> None:
    with machine(doors, sticks["scraper"]) as mine, machine(doors, sticks["scraper3"]) as other:
        given = mine.post("/machine/token")
        assert given.status_code == 200 and given.headers["cache-control"] == "no-store", given.text
        told = given.json()
        token = told["access_token"]
        assert (told["token_type"], told["expires_in"]) == ("Bearer", 300)
        assert asked(mine, token) == 200 and asked(mine, token, "bearer") == 200
        assert asked(other, token) == 401, "another certificate"
        with machine(doors, None) as bare:
            assert asked(bare, token) == 401, "no certificate"
            assert bare.post("/machine/token").status_code == 401
        for wrong in (".", "x.y.z", token[:-4] + "AAAA"):
            assert asked(mine, wrong) == 401, "who presents one is its token, whatever their certificate"
        assert asked(mine, token, "Basic") == 401
        assert mine.get("/people", headers={"Authorization": f"Bearer {token}"}).status_code == 303, "no page of people"
        assert mine.post("/machine/token", headers={"Origin": "https://else.example"}).status_code == 403
    (listed,) = [row for row in rows(doors.site, "people", "sessions", "scraper") if row["session"] == told["session"]]
    assert listed["person"] == "scraper"
    (minted,) = [row for row in events(doors, "person:recognised") if row["actor"] == "person:scraper"]
    assert (minted["action"], minted["details"]["session"]) == ("token", told["session"])
    assert 0 < minted["details"]["until_ns"] - time.time_ns() <= 300 * 1_000_000_000
    reasons = [row["reason"] for row in events(doors, "person:refused")]
    for said in ("belongs to another certificate", "none was presented", "is not ours", "no Bearer token"):
        assert any(said in reason for reason in reasons), (said, reasons)


def test_a_token_that_is_revoked_or_given_back(doors: Doors, sticks: dict[str, Path]) -> None:
    with machine(doors, sticks["scraper"]) as mine:
        first, second = (mine.post("/machine/token").json() for _ in range(2))
        assert asked(mine, first["access_token"]) == asked(mine, second["access_token"]) == 200
        rows(doors.site, "people", "sessions", "scraper", "--end", first["session"], "--why", "a stolen token")
        assert asked(mine, first["access_token"]) == 401 and asked(mine, second["access_token"]) == 200
        back = {"Authorization": f"Bearer {second['access_token']}"}
        assert mine.post("/machine/token/end").status_code == 400, "a certificate is no token"
        assert mine.post("/machine/token/end", headers=back).status_code == 200
        assert asked(mine, second["access_token"]) == mine.post("/machine/token/end", headers=back).status_code == 401
    ends = [row for row in events(doors, "change:completed") if row["action"] == "session-end"]
    assert [row["actor"] for row in ends if row["details"]["about"] == "scraper"][-1] == "person:scraper"


def test_a_token_that_is_over(doors: Doors, sticks: dict[str, Path]) -> None:
    """As the site itself made it, five minutes ago."""
    directory = doors.site.directory
    key = SiteKey.open(load_proven(directory).key, directory).derive("people")
    stick = sticks["scraper"]
    der = x509.load_pem_x509_certificate((stick / "client.pem").read_bytes()).public_bytes(Encoding.DER)
    with machine(doors, stick) as mine:
        told = mine.post("/machine/token").json()
        person = json.loads(base64.urlsafe_b64decode(told["access_token"].split(".")[1] + "=="))["sub"]
        fingerprint = fingerprint_of(Peer("", 0, "web", der))
        tokens, ago = Tokens(key, load_proven(directory).name), TOKEN_SECONDS_MAX * 1_000_000_000
        for since, status in ((0, 200), (ago + 1_000_000_000, 401)):
            made, _ = tokens.make(person, told["session"], fingerprint, time.time_ns() - since)
            assert asked(mine, made) == status
    assert "the token is over" in events(doors, "person:refused")[-1]["reason"]


def test_a_token_of_an_account_that_is_disabled(doors: Doors, sticks: dict[str, Path]) -> None:
    with machine(doors, sticks["scraper3"]) as mine:
        token = mine.post("/machine/token").json()["access_token"]
        assert asked(mine, token) == 200
        rows(doors.site, "people", "disable", "scraper3", "--reason", "retired")
        assert asked(mine, token) == mine.post("/machine/token").status_code == 401


# ---- a session


def test_the_cookie(doors: Doors, keys: dict[str, Authenticator]) -> None:
    key = enrolled(doors, keys, "baker", "radiologist")
    with doors.client() as client:
        client.cookies.set("leadglass", "fixed-by-somebody-else", domain="localhost.local", path="/")
        offered = client.post("/passkey/options", data={"purpose": "sign-in"}, headers=OWN).json()
        answer = {"handle": offered["handle"], "answer": json.dumps(key.get(offered["options"]))}
        done = client.post("/sign-in", data=answer, headers=OWN)
        again = client.post("/sign-in", data=answer, headers=OWN)
    cookie = done.headers["set-cookie"]
    assert cookie.startswith("leadglass=") and "fixed-by-somebody-else" not in cookie
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    assert "secure" not in cookie.lower()  # http://localhost
    assert again.status_code == 401 and "set-cookie" not in again.headers, "an answer is good once"


def test_on_https_the_cookie_is_the_hosts_alone(doors: Doors, keys: dict[str, Authenticator]) -> None:
    key = enrolled(doors, keys, "baker", "radiologist")
    with doors.client(doors.https) as client:
        offered = client.post("/passkey/options", data={"purpose": "sign-in"}, headers=OWN).json()
        made = key.get(offered["options"], origin=doors.https)
        done = client.post("/sign-in", data={"handle": offered["handle"], "answer": json.dumps(made)}, headers=OWN)
    cookie = done.headers["set-cookie"]
    assert cookie.startswith("__Host-leadglass=") and "secure" in cookie.lower() and "domain" not in cookie.lower()


def test_a_passkey_used_at_another_origin_is_none(doors: Doors, keys: dict[str, Authenticator]) -> None:
    key = enrolled(doors, keys, "baker", "radiologist")
    for origin in ("http://localhost:1", "https://localhost.evil.example", doors.https):
        with doors.client() as client:
            offered = client.post("/passkey/options", data={"purpose": "sign-in"}, headers=OWN).json()
            made = key.get(offered["options"], origin=origin)
            done = client.post("/sign-in", data={"handle": offered["handle"], "answer": json.dumps(made)}, headers=OWN)
        assert done.status_code == 401, origin


def test_a_change_needs_the_sessions_token(doors: Doors, keys: dict[str, Authenticator]) -> None:
    with signed_in(doors, enrolled(doors, keys, "baker", "radiologist")) as client:
        for token in ("", "0" * 64):
            assert client.post("/lock", data={"csrf": token}, headers=OWN).status_code == 403
        assert client.get("/me").status_code == 200
        assert client.post("/lock", data={"csrf": token_of(client)}, headers=OWN).status_code == 303
        locked = client.get("/me?a=b")
        assert (locked.status_code, locked.headers["location"]) == (303, "/unlock?next=%2Fme%3Fa%3Db")
        assert client.get("/still", headers={"Accept": "application/json"}).json() == {"locked": True}
    told = events(doors, "request:refused")
    assert any(each["actor"] == "person:baker" and "token" in each["reason"] for each in told)


def test_a_cookie_in_another_browser_opens_nothing(doors: Doors, keys: dict[str, Authenticator]) -> None:
    with signed_in(doors, enrolled(doors, keys, "baker", "radiologist"), "127.0.0.23") as client:
        assert client.get("/me").status_code == 200
        stolen = client.get("/me", headers={"User-Agent": "another"})
        assert (stolen.status_code, stolen.headers["location"][:8]) == (303, "/sign-in")
    assert until(lambda: any("another browser" in each for each in refused_there(doors, "127.0.0.23")))


def test_signing_out_ends_it_for_good(doors: Doors, keys: dict[str, Authenticator]) -> None:
    with signed_in(doors, enrolled(doors, keys, "baker", "radiologist")) as client:
        kept = dict(client.cookies)
        client.post("/sign-out", headers=OWN)
        assert not client.cookies
        client.cookies.update(kept)
        assert client.get("/me").status_code == 303


def test_who_is_disabled_is_out_within_a_second(doors: Doors, keys: dict[str, Authenticator]) -> None:
    with signed_in(doors, enrolled(doors, keys, "leaver", "radiologist")) as client:
        assert client.get("/me").status_code == 200
        rows(doors.site, "people", "disable", "leaver", "--reason", "left the house")
        begun = time.monotonic()
        assert until(lambda: client.get("/me").status_code == 303, 5) and time.monotonic() - begun < 1.0


def applied(site: RunningSite) -> None:
    """As `leadglass apply`, whoever could approve it here."""
    apply(site.directory)
    containment.replace(site.directory, lambda state: state)


def test_how_long_a_screen_stays_open_holds_as_soon_as_it_is_applied(
    doors: Doors, keys: dict[str, Authenticator]
) -> None:
    file = doors.site.directory / "leadglass.toml"
    before = file.read_text()

    def idle_seconds(client: httpx2.Client) -> str:
        found = re.search(r'name="idle-seconds" content="(\d+)"', client.get("/me").text)
        return found[1] if found else ""

    with signed_in(doors, enrolled(doors, keys, "known", "radiologist")) as client:
        assert idle_seconds(client) == "600"
        try:
            file.write_text(before + "\n[sessions]\nidle_lock_minutes = 3\n")
            applied(doors.site)
            assert until(lambda: idle_seconds(client) == "180", 5), "in a session that is open"
        finally:
            file.write_text(before)
            applied(doors.site)
        assert until(lambda: idle_seconds(client) == "600", 5)


def test_pages_by_role(doors: Doors, keys: dict[str, Authenticator]) -> None:
    with signed_in(doors, enrolled(doors, keys, "baker", "radiologist")) as client:
        statuses = {
            path: client.get(path).status_code
            for path in ("/", "/requests", "/people", "/devices", "/who", "/review", "/explain")
        }
    assert statuses == {
        "/": 200,
        "/requests": 200,
        "/people": 403,
        "/devices": 403,
        "/who": 403,
        "/review": 403,
        "/explain": 403,
    }
    with signed_in(doors, enrolled(doors, keys, "watch", "auditor")) as client:
        assert client.get("/").headers["location"] == "/who"
        for path in ("/people", "/devices", "/who?patient=P1", "/explain", "/people/baker", "/who?person=baker"):
            assert client.get(path).status_code == 200, path
        assert client.get("/people/nobody").status_code == 404
        token = token_of(client)
        add = {"csrf": token, "name": "friend", "role": "radiologist", "why": "because"}
        assert client.post("/people", data=add, headers=OWN).status_code == 403
    looked = [each for each in events(doors, "release:started") if each["actor"] == "person:watch"]
    assert {"people-list", "device-list", "audit-read", "policy-read"} <= {each["action"] for each in looked}


def test_where_a_link_leads_is_never_elsewhere(doors: Doors, keys: dict[str, Authenticator]) -> None:
    key = enrolled(doors, keys, "baker", "radiologist")
    for wanted in (
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "/%0d%0aX: y\r\nSet-Cookie: a=b",
    ):
        with doors.client() as client:
            offered = client.post("/passkey/options", data={"purpose": "sign-in"}, headers=OWN).json()
            answer = {"handle": offered["handle"], "answer": json.dumps(key.get(offered["options"])), "next": wanted}
            assert client.post("/sign-in", data=answer, headers=OWN).headers["location"] == "/", wanted


def test_a_study_that_is_not_theirs_and_one_that_is_none_are_answered_alike(
    doors: Doors, keys: dict[str, Authenticator]
) -> None:
    with signed_in(doors, enrolled(doors, keys, "baker", "radiologist")) as client:
        said = [client.get(f"/studies/{uid}") for uid in ("1.2.3", "1.2.840.99999", "not-a-uid", "1" * 80)]
    without = {each.text.replace(each.url.path.rpartition("/")[2], "") for each in said}
    assert [each.status_code for each in said] == [403] * 4 and len(without) == 1


def test_where_nobody_signs_the_page_says_what_to_add(doors: Doors, keys: dict[str, Authenticator]) -> None:
    with signed_in(doors, enrolled(doors, keys, "keeps", "pacs-administrator")) as client:
        said = client.get("/devices").text
        assert "[enrolment] user" in said and "leadglass serve enroll" in said and 'name="network"' not in said
        form = {"csrf": token_of(client), "name": "CT1", "network": "127.0.0.1/32", "may": "echo"}
        asked = client.post("/devices/enrolments", data=form, headers=OWN)
        assert asked.status_code == 409 and "Nobody signs for the console here" in asked.text
