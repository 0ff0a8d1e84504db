"""Attacks on identity and sessions, from outside: the console over HTTP, the DIMSE door over TLS, the program at a shell. Numbers as in the siege's list.

What a provider's tokens and a directory's answers may hide is tried in tests/identity/people (test_idtoken, test_oidc, test_directory).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import random
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pyotp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from leadglass.identity.people.tokens import ASSOCIATIONS, AUDIENCE, Tokens
from leadglass.lab.authenticator import Authenticator
from leadglass.lab.corpus import Image
from leadglass.lab.peers import TurnedAway, associated, querying, storing
from leadglass.policy.separation import GLASS_SECONDS
from leadglass.site.load import load
from leadglass.site.sitekey import SiteKey
from leadglass.terms import Act, ChangeKind, EventKind, NotChanged, NotPermitted, Role
from leadglass.wire.dimse import Status
from tests.lasting import answers
from tests.running import RunningSite, running, until
from tests.staff import REASON, Staff, staff
from tests.synthetic import image

pytestmark = pytest.mark.xdist_group("attacks_on_people")  # one site for all of it
PASSWORD = "four lamps under snow"
WITHIN_SECONDS = 1.0
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
PATIENT = "ATTACK-1"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("attacks")) as site:
        site.enroll("CT1", "echo,store")
        site.enroll("WS1", "echo,store,find,get,move,commit")
        site.enroll("WS2", "echo,store,find,get,move,commit")
        site.up()
        yield site
        print(site.log())


@pytest.fixture(scope="module")
def people(site: RunningSite) -> Iterator[Staff]:
    with staff(site) as people:
        for name, role in {
            "reader": Role.RADIOLOGIST, "keeper": Role.PACS_ADMINISTRATOR, "guard": Role.SECURITY_OFFICER, "guard2": Role.SECURITY_OFFICER,
            "auditor": Role.AUDITOR, "vendor": Role.VENDOR,
        }.items():  # fmt: skip
            people.hire(name, role)
        people.relate("reader", "care-team", PATIENT)
        yield people


@pytest.fixture(scope="module")
def study(people: Staff) -> Image:
    one = image(random.Random(49), patient=PATIENT)
    with associated(people.at("CT1"), people.archive, storing([one])) as session:
        assert session.store(one).status == Status.SUCCESS
    return one


def browser(people: Staff, source: str = "127.0.0.1", base: str = "") -> httpx2.Client:
    """A browser that nobody is signed in at; from an address of its own where guesses are counted."""
    verify = ssl.create_default_context(cafile=str(people.site.directory / "ca" / "serving-ca.pem"))
    transport = httpx2.HTTPTransport(verify=verify, trust_env=False, local_address=source)
    return httpx2.Client(base_url=base or people.console, transport=transport, timeout=30, headers=OWN_PAGE)


def web(people: Staff) -> str:
    ports = json.loads((people.site.directory / "state" / "ports.json").read_text())
    return f"https://localhost:{ports['web']}"


# ---- 49: tokens


def part(of: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(of).encode()).rstrip(b"=").decode()


def claims_of(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4))))


def forgeries(token: str, key: ECKey, other: str) -> dict[str, str]:
    """Each wrong in one thing, and signed by the site itself where that is not the thing."""
    good, now = claims_of(token), int(time.time())
    header = {"alg": "ES256", "typ": "at+jwt"}
    stranger = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()))
    body = f"{part({'alg': 'HS256', 'typ': 'at+jwt'})}.{part(good)}"
    public = json.dumps(key.as_dict(private=False)).encode()
    swapped = base64.urlsafe_b64encode(hmac.digest(public, body.encode(), "sha256")).rstrip(b"=").decode()

    def signed(changes: dict[str, Any], **more: Any) -> str:
        return jwt.encode({**header, **more}, {**good, **changes}, key, algorithms=["ES256"])

    return {
        "alg none": f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{part(good)}.",
        "alg none, signed": f"{part({'alg': 'none'})}.{part(good)}.{token.split('.')[2]}",
        "the public key as a secret": f"{body}.{swapped}",
        "a secret of their own": jwt.encode({"alg": "HS256", "typ": "at+jwt"}, good, OctKey.import_key("k" * 32)),
        "a key of their own": jwt.encode(header, good, stranger),
        "a key that it brings along": jwt.encode({**header, "jwk": stranger.as_dict(private=False)}, good, stranger),
        "kid is a path": signed({}, kid="../../../dev/null"),
        "kid is SQL": signed({}, kid="x' UNION SELECT 'k' --"),
        "expired": signed({"exp": now - 1}),
        "from the future": signed({"nbf": now + 60}),
        "issued in the future": signed({"iat": now + 60}),
        "lives long": signed({"exp": now + 3_600}),
        "another issuer": signed({"iss": "other.example"}),
        "another audience": signed({"aud": other}),
        "several audiences": signed({"aud": [good["aud"], other]}),
        "of nobody": signed({"sub": "f" * 32}),
        "of no session": signed({"jti": "f" * 32}),
        "bound to another": signed({"cnf": {"x5t#S256": part("x")}}),
        "a changed claim": f"{token.split('.')[0]}.{part({**good, 'sub': 'f' * 32})}.{token.split('.')[2]}",
        "huge": token + "A" * 60_000,
    }  # fmt: skip


def site_key(people: Staff) -> ECKey:
    site = load(people.site.directory)
    return Tokens(SiteKey.open(site.key, people.site.directory).derive("people"), site.name)._key


def test_attack_49_forged_tokens_at_the_dimse_door(people: Staff, study: Image) -> None:
    people.sign_in("reader")
    token = str(people.do("reader", ChangeKind.TOKEN_MINT, "WS1")["token"])
    for what, forged in forgeries(token, site_key(people), AUDIENCE).items():
        with pytest.raises(TurnedAway), associated(people.at("WS1", token=forged), people.archive, querying()):
            pytest.fail(f"let in: {what}")
    with pytest.raises(TurnedAway), associated(people.at("WS2", token=token), people.archive, querying()):
        pytest.fail("replayed from another workstation")
    with associated(people.at("WS1", token=token), people.archive, querying()) as session:
        assert answers(session, PATIENT), "the good one is good"


def test_attack_49_forged_tokens_at_the_web_door(people: Staff) -> None:
    bundle = people.site.enroll("ROBOT", "")
    people.site.command("people", "add", "robot", "--role", "service-account", "--certificate", bundle.certificate, "--why", "a test")  # fmt: skip
    verify = ssl.create_default_context(cafile=str(people.site.directory / "ca" / "serving-ca.pem"))
    verify.load_cert_chain(bundle.certificate, bundle.key)
    with httpx2.Client(base_url=web(people), verify=verify, trust_env=False, timeout=30) as robot:
        token = robot.post("/machine/token").json()["access_token"]

        def asked(said: str) -> int:
            return robot.get("/metrics", headers={"Authorization": f"Bearer {said}"}).status_code

        assert asked(token) == 200
        for what, forged in forgeries(token, site_key(people), ASSOCIATIONS).items():
            assert asked(forged) in (400, 401, 431), what
        with browser(people, base=web(people)) as bare:
            assert bare.get("/metrics", headers={"Authorization": f"Bearer {token}"}).status_code == 401, "replayed without its certificate"  # fmt: skip


# ---- 50: what goes on after it was taken away


@pytest.mark.parametrize("how", ["signed out", "role removed", "disabled", "session ended"])
def test_attack_50_nothing_goes_on_after_it_was_taken_away(people: Staff, study: Image, how: str) -> None:
    name = f"goes-{how.replace(' ', '-')}"
    people.hire(name, Role.RADIOLOGIST)
    people.relate(name, "care-team", PATIENT)
    with people.browser(name) as reader:
        reader.step_up()
        token = reader.token("WS1")
        assert token and reader.open(study.study_instance_uid) == 200
        seconds = 0.0
        with suppress(TurnedAway), associated(people.at("WS1", token=token), people.archive, querying()) as session:
            assert answers(session, PATIENT)
            begun = time.monotonic()
            if how == "signed out":
                reader.send("/sign-out")
            elif how == "role removed":
                people.order(name, ChangeKind.ROLE_REVOKE, role="radiologist", why="a test")
            elif how == "disabled":
                people.order(name, ChangeKind.PERSON_DISABLE, why="a test")
            else:
                people.order(name, ChangeKind.SESSION_END, session="all", why="a test")
            assert until(lambda: not answers(session, PATIENT), 5)
            seconds = time.monotonic() - begun
        assert 0.0 < seconds < WITHIN_SECONDS
        assert reader.lands("/me") == "/sign-in" or reader.open(study.study_instance_uid) == 403
    with pytest.raises(TurnedAway), associated(people.at("WS1", token=token), people.archive, querying()):
        pytest.fail("the token is good still")


# ---- 51: second factors


def hidden(page: str, name: str) -> str:
    """A field of a form that nobody sees."""
    return html.unescape(page.partition(f'name="{name}" value="')[2].partition('"')[0])


def with_password(people: Staff, name: str) -> pyotp.TOTP:
    """Somebody with a password and an authenticator app, enrolled by their link."""
    added = people.order(name, ChangeKind.PERSON_ADD, roles=[Role.RADIOLOGIST], why="works here")
    link = str(added["enrolment"]).rpartition("/")[2]
    with browser(people) as client:
        page = client.get(f"/enrol/{link}/password").text
        handle, uri = (hidden(page, name) for name in ("handle", "uri"))
        app = pyotp.parse_uri(uri)
        assert isinstance(app, pyotp.TOTP)
        fields = {
            "handle": handle,
            "uri": uri,
            "password": PASSWORD,
            "repeated": PASSWORD,
            "code": app.at(time.time() - 30),
        }
        done = client.post(f"/enrol/{link}/password", data=fields)
        assert done.status_code == 200 and "recovery codes" in done.text, done.text
    return app


def by_password(people: Staff, name: str, password: str, code: str, source: str) -> int:
    with browser(people, source) as client:
        done = client.post("/sign-in/password", data={"name": name, "password": password, "code": code})
        assert ("set-cookie" in done.headers) is (done.status_code == 303 and "/enrol/" not in done.headers["location"])
        return done.status_code


def test_attack_51_a_code_again_a_code_guessed_a_clock_that_is_wrong(people: Staff) -> None:
    app, now = with_password(people, "typist"), time.time()
    assert by_password(people, "typist", PASSWORD, app.at(now - 90), "127.51.0.1") == 401, "a clock that is wrong"
    assert by_password(people, "typist", PASSWORD, app.at(now + 120), "127.51.0.1") == 401
    code = app.at(now)
    assert by_password(people, "typist", PASSWORD, code, "127.51.0.2") == 303
    assert by_password(people, "typist", PASSWORD, code, "127.51.0.3") == 401, "replayed"
    heard = [by_password(people, "typist", PASSWORD, f"{number:06d}", "127.51.0.4") for number in range(12)]
    assert set(heard[:3]) == {401} and heard[-1] == 429, "brute force is slowed"
    for only in ((PASSWORD, ""), ("", app.at(time.time() + 30))):
        assert by_password(people, "typist", *only, "127.51.0.5") in (401, 429), "one of the two"


@pytest.mark.parametrize("wrong", ["origin", "relying party", "user verification", "counter", "another's key"])
def test_attack_51_a_passkey_that_is_wrong(people: Staff, wrong: str) -> None:
    key = people.passkeys["auditor"]
    with browser(people) as client:
        offer = client.post("/passkey/options", data={"purpose": "sign-in"}).json()
        options, counted = offer["options"], key.sign_count
        match wrong:
            case "origin":
                answer = key.get(options, origin="https://localhost.evil.example")
            case "relying party":
                answer = key.get(options, rp_id="evil.example")
            case "user verification":
                answer = key.get(options, verified=False)
            case "counter":
                key.sign_count = 0
                answer = key.get(options)
            case _:
                answer = key.get(options, key=ec.generate_private_key(ec.SECP256R1()))
        key.sign_count = counted + 1
        done = client.post("/sign-in", data={"handle": offer["handle"], "answer": json.dumps(answer)})
        assert done.status_code == 401 and "set-cookie" not in done.headers
    people.sign_in("auditor")


def test_attack_51_no_way_around_the_second_factor(people: Staff) -> None:
    """By an API's key, by what a browser kept, by a password that was reset, by a recovery code alone."""
    app = with_password(people, "forgets")
    with browser(people) as client:
        done = client.post("/sign-in/password", data={"name": "forgets", "password": PASSWORD, "code": app.now()})
        assert done.status_code == 303
        kept, cookie = dict(client.cookies), done.headers["set-cookie"].partition("=")[2].partition(";")[0]
        for header in (f"Bearer {cookie}", f"Basic {base64.b64encode(f'forgets:{PASSWORD}'.encode()).decode()}"):
            with browser(people) as machine:
                assert machine.get("/me", headers={"Authorization": header}).status_code == 303
        assert client.post("/sign-out").status_code == 303
        client.cookies.update(kept)
        assert client.get("/me").headers["location"].startswith("/sign-in"), "what the browser kept"
    link = str(people.order("forgets", ChangeKind.PERSON_RESET, why="a test")["enrolment"]).rpartition("/")[2]
    assert by_password(people, "forgets", PASSWORD, app.at(time.time() + 30), "127.51.1.1") == 401, (
        "reset: neither holds"
    )
    with browser(people) as client:
        page = client.get(f"/enrol/{link}/password").text
        fields = {"handle": hidden(page, "handle"), "password": PASSWORD, "repeated": PASSWORD, "code": ""}
        done = client.post(f"/enrol/{link}/password", data=fields)
        assert "recovery codes" not in done.text and client.get("/me").status_code == 303, (
            "a link without a second factor"
        )
    assert by_password(people, "forgets", "", "AAAA-BBBB-CCCC", "127.51.1.2") == 401


# ---- 52: sessions


def signed_in(people: Staff, client: httpx2.Client, key: Authenticator) -> httpx2.Response:
    offer = client.post("/passkey/options", data={"purpose": "sign-in"}).json()
    answer = key.get(offer["options"], origin=str(client.base_url).rstrip("/"))
    return client.post("/sign-in", data={"handle": offer["handle"], "answer": json.dumps(answer)})


def test_attack_52_a_session_is_neither_fixed_nor_carried_off(people: Staff) -> None:
    key = people.passkeys["auditor"]
    with browser(people) as client:
        client.cookies.set("leadglass", "fixed-by-somebody-else", domain="localhost.local", path="/")
        cookie = signed_in(people, client, key).headers["set-cookie"]
        assert "fixed-by-somebody-else" not in cookie
        assert {"httponly", "samesite=strict", "path=/"} <= {each.strip().lower() for each in cookie.split(";")}
        stolen = client.get("/me", headers={"User-Agent": "another"})
        assert stolen.headers["location"].startswith("/sign-in")
    with browser(people, base=web(people)) as client:
        cookie = signed_in(people, client, key).headers["set-cookie"]
        assert cookie.startswith("__Host-") and "secure" in cookie.lower() and "domain" not in cookie.lower()
    people.sign_in("auditor")


def test_attack_52_only_so_many_sessions_at_once(people: Staff) -> None:
    people.hire("busy", Role.RADIOLOGIST)
    clients = [browser(people) for _ in range(12)]
    try:
        for client in clients:
            assert signed_in(people, client, people.passkeys["busy"]).status_code == 303
        let_in = [client.get("/me").status_code == 200 for client in clients]
        assert let_in[-1] and 0 < sum(let_in) < len(clients), "the oldest make room"
    finally:
        for client in clients:
            client.close()


def test_attack_52_stuffing_and_names(people: Staff) -> None:
    with_password(people, "long-winded")
    heard = [by_password(people, f"name{number}", "leaked password 1", "123456", "127.52.0.1") for number in range(40)]
    assert heard[0] == 401 and heard[-1] == 429, "many names from one place"
    with browser(people, "127.52.0.2") as client:
        said = [
            client.post("/sign-in/password", data={"name": name, "password": "x" * 12, "code": "123456"})
            for name in ("long-winded", "nobody-at-all", "long-winded)(uid=*", "*", "ｌong-winded")
        ]
    assert {each.status_code for each in said} == {401} and len({each.text for each in said}) == 1, "all hear the same"
    for lookalike in (
        "аuditor",
        "Auditor",
        "AUDITOR ",
        "aud\u200bitor",
        "auditor)(uid=*",
        "a" * 300,
        "",
    ):  # the first begins in Cyrillic
        with pytest.raises(NotChanged):
            people.order(lookalike, ChangeKind.PERSON_ADD, roles=["radiologist"], why="a test")


def test_attack_52_a_long_password_counts_to_its_end(people: Staff) -> None:
    added = people.order("wordy", ChangeKind.PERSON_ADD, roles=["radiologist"], why="works here")
    link = str(added["enrolment"]).rpartition("/")[2]
    long = "lamps under snow " * 6
    handle, uri = people.house.desk.totp_offer(link)
    app = pyotp.parse_uri(uri)
    assert isinstance(app, pyotp.TOTP) and len(long) > 72
    proven = people.house.desk.enrolled_password(link, handle, long, app.at(time.time() - 30))
    people.change(
        people.house.desk.invitee(link, people.callers["auditor"].peer), ChangeKind.FACTOR_ENROLL, "wordy", proven
    )
    assert by_password(people, "wordy", long[:72], app.at(time.time()), "127.52.1.1") == 401
    assert by_password(people, "wordy", long[:-2] + "x ", app.at(time.time()), "127.52.1.1") == 401
    assert by_password(people, "wordy", long, app.at(time.time()), "127.52.1.1") == 303


# ---- 53: defaults


def program(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "leadglass", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def test_attack_53_what_is_blank_or_anybodys_does_not_start(tmp_path: Path) -> None:
    place = tmp_path / "site"
    assert program("init", place, "--name", "pacs.example", "--key", tmp_path / "k").returncode == 2, "no passphrase"
    phrase = tmp_path / "phrase"
    for weak in ("", "\n", "password", "leadglass1234", "aaaaaaaaaaaaaaaa", "pacs.example1"):
        phrase.write_text(weak)
        done = program("init", place, "--name", "pacs.example", "--key", tmp_path / "k", "--passphrase-file", phrase)
        assert done.returncode == 2 and not place.exists(), weak
    site = RunningSite.make(tmp_path / "made")
    key = site.directory / "keys" / "site.key"
    good = key.read_text()
    for secret in (bytes(32), b"\xff" * 32, bytes([1, 2]) * 16):
        check = hashlib.sha256(b"leadglass site key check" + secret).hexdigest()[:8]
        key.write_text(f"leadglass-site-key:1:{base64.b64encode(secret).decode()}:{check}\n")
        done = program("--site", site.directory, "up")
        assert done.returncode != 0 and "by chance" in done.stderr, done.stderr
    key.write_text("")
    assert program("--site", site.directory, "up").returncode != 0
    key.write_text(good)
    file = site.directory / "leadglass.toml"
    before = file.read_text()
    for inside in ('[site.x]\npassword = "admin"\n', '[providers.p]\nlabel = "P"\nissuer = "https://p.example"\nclient_id = "x"\nclient_secret = "admin"\namr = ["pwd"]\nroles = {r = "radiologist"}\n'):  # fmt: skip
        file.write_text(before + "\n" + inside)
        assert program("--site", site.directory, "check").returncode != 0, inside


# ---- 54: four eyes


def test_attack_54_nobody_approves_their_own_and_nobody_twice(people: Staff) -> None:
    access = people.house.people.access
    with people.browser("guard") as guard, people.browser("guard2") as other:
        assert guard.step_up() and other.step_up()
        own = people.do("keeper", ChangeKind.ACCESS_REQUEST, Act.BACKUP_RUN, reason=REASON, seconds=600)["request"]
        with people.browser("keeper") as keeper:
            keeper.step_up()
            digest = access.request(str(own)).digest  # type: ignore[union-attr]
            assert keeper.send(f"/requests/{own}", digest=digest, word="approve") == 403, "one's own"
        asked = str(
            people.do("vendor", ChangeKind.ACCESS_REQUEST, Act.DEVICE_LIST, reason=REASON, seconds=600)["request"]
        )
        digest = access.request(asked).digest  # type: ignore[union-attr]
        assert guard.send(f"/requests/{asked}", digest="f" * 64, word="approve") == 409, "not what was shown"
        assert guard.send(f"/requests/{asked}", digest=digest, word="deny") == 200
        assert other.send(f"/requests/{asked}", digest=digest, word="approve") == 409, "settled, and approved again"
    with people.browser("vendor") as vendor:
        assert vendor.look("/devices") == 403


def test_attack_54_an_approver_who_lost_the_right_meanwhile(people: Staff) -> None:
    people.hire("fleeting", Role.SECURITY_OFFICER)
    people.ask("vendor", Act.DEVICE_LIST, "fleeting", seconds=600)
    with people.browser("vendor") as vendor:
        assert until(lambda: vendor.look("/devices") == 200, 5)
        people.order("fleeting", ChangeKind.ROLE_REVOKE, role="security-officer", why="a test")
        begun = time.monotonic()
        assert until(lambda: vendor.look("/devices") == 403, 5) and time.monotonic() - begun < WITHIN_SECONDS
        people.order("fleeting", ChangeKind.ROLE_GRANT, role="security-officer", why="a test")
        people.order("fleeting", ChangeKind.PERSON_DISABLE, why="a test")
        assert vendor.look("/devices") == 403


def test_attack_54_the_glass_without_a_reason_for_ever_or_unseen(people: Staff) -> None:
    people.hire("hasty", Role.RADIOLOGIST)
    with people.browser("hasty") as hasty:
        for reason in ("", "   ", "x"):
            assert hasty.send("/glass", patient_id="ATTACK-9", reason=reason) in (409, 422), reason
        assert hasty.send("/glass", patient_id="ATTACK-9", reason=REASON, seconds="999999", until="2099-01-01") == 200
        (glass,) = people.house.people.access.glass_of(people.callers["hasty"].person.id)
        assert glass.until_ns - glass.from_ns == GLASS_SECONDS * 1_000_000_000
        assert hasty.send(f"/review/{glass.id}", verdict="justified") == 403, "by themselves"
    with people.browser("guard") as guard:
        assert "hasty" in guard.page("/review"), "it waits to be seen"


# ---- 55: more than one's work


def test_attack_55_each_keeps_to_their_work(people: Staff, study: Image) -> None:
    with people.browser("keeper") as keeper:
        assert keeper.open(study.study_instance_uid) == 403 and keeper.studies(PATIENT) == set(), "images"
        assert keeper.send("/glass", patient_id=PATIENT, reason=REASON) == 403
        assert keeper.send("/people/keeper/grant", role="radiologist", why="I wish to") in (401, 403)
        keeper.step_up()
        assert keeper.send("/people/keeper/grant", role="radiologist", why="I wish to") == 403
    with people.browser("reader") as reader:
        reader.step_up()
        for path, fields in {
            "/explain/site-file/apply": {"digest": "x"}, "/explain/site-file/ask": {"digest": "x", "reason": REASON}, "/people": {"name": "friend", "role": "vendor", "why": "x"},
            "/people/reader/grant": {"role": "pacs-administrator", "why": "x"}, "/devices/enrolments": {"name": "MINE"}, "/containment/device": {"name": "CT1", "why": "x"},
        }.items():  # fmt: skip
            assert reader.send(path, **fields) == 403, path
    journals = {path: path.stat().st_size for path in people.site.directory.rglob("*.journal")}
    with people.browser("auditor") as auditor:
        auditor.step_up()
        assert auditor.look("/who") == 200
        for method in ("DELETE", "PUT", "PATCH", "POST"):
            assert auditor._client.request(method, "/who").status_code in (403, 404, 405), method
        assert auditor.send("/archive/index") == auditor.send("/erasures", patient_id=PATIENT, reason=REASON) == 403
    assert all(path.stat().st_size >= size for path, size in journals.items())
    with pytest.raises(NotPermitted):
        people.do("auditor", ChangeKind.SITE_APPLY, "site")
    refused = {each.actor for each in people.events(EventKind.CHANGE_REFUSED)}
    assert {"person:keeper", "person:reader", "person:auditor"} <= refused, "each try is an event"
