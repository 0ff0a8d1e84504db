"""A device is asked for at the console, signed by a process of another uid, collected once, and works; and what nobody gets that way."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pynetdicom.sop_class import Verification

from leadglass.__main__ import assemble
from leadglass.doors.house import House
from leadglass.doors.processes.enroll import Enroller
from leadglass.doors.processes.keeper import _lapse
from leadglass.identity.authority import Authority
from leadglass.lab.authenticator import Authenticator
from leadglass.site.enrolments import COLLECT_WITHIN_SECONDS, Enrolment
from leadglass.site.layout import CA_DIRECTORY, DEVICE_CA, anchors
from leadglass.site.write import apply_device, write_device
from tests.doors.web.test_web_door import OWN, Doors, enrolled, signed_in, token_of
from tests.interop.test_pacs import Client, fresh, store
from tests.interop.test_people import rows
from tests.running import Bundle, RunningSite, running, until

pytestmark = pytest.mark.xdist_group("enrolment")  # one site is enough

AS_ROOT = os.geteuid() == 0
UID = 61_234 if AS_ROOT else os.getuid()
other_uid = pytest.mark.skipif(not AS_ROOT, reason="only root can start a process of another uid")

# Loaded as root, because the interpreter may lie where nobody else can read; from then on it is the other user.
_DROPPED = """
import json, os, socket, struct, sys, encodings.idna
path, uid = sys.argv[1], int(sys.argv[2])
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
for line in sys.stdin:
    sock = socket.socket(socket.AF_UNIX); sock.connect(path)
    with sock, sock.makefile("rwb") as stream:
        stream.write(line.encode()); stream.flush()
        print(json.dumps([json.loads(each) for each in stream]), flush=True)
"""
_SERVE = """
import os, sys
import leadglass.doors.processes.enroll
from leadglass.__main__ import assemble, main
from leadglass.doors.command.application import run_application
run_application(assemble, ["--site", "/", "serve", "nothing"])  # says so, and has loaded what a command needs
uid = int(sys.argv.pop(1))
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
sys.exit(main())
"""


@dataclass
class Place:
    """A running site whose device CA's key only the other uid can read."""

    doors: Doors
    house: House
    key: Path

    @property
    def site(self) -> RunningSite:
        return self.doors.site

    @contextmanager
    def enroller(self) -> Iterator[subprocess.Popen[bytes]]:
        line = [sys.executable, "-c", _SERVE, str(UID), "--site", str(self.site.directory), "serve", "enroll"]
        environment = {**os.environ, "CREDENTIALS_DIRECTORY": str(self.key.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        with (self.key.parent.parent / "enroll.log").open("ab") as log:
            process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, env=environment)
        try:
            assert process.stdout is not None and process.stdout.readline() == b"ready enroll\n", self.said()
            yield process
            process.terminate()
            assert process.wait(20) == 0, self.said()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]

    def said(self) -> str:
        return (self.key.parent.parent / "enroll.log").read_text() + self.site.log()

    def says(self, *requests: dict[str, Any]) -> list[list[dict[str, Any]]]:
        """What the command socket answers to that uid."""
        line = [sys.executable, "-c", _DROPPED, str(self.site.directory / "run" / "leadglass.sock"), str(UID)]
        told = "".join(json.dumps(each) + "\n" for each in requests)
        done = subprocess.run(line, input=told, capture_output=True, text=True, check=True, timeout=60)
        return [json.loads(each) for each in done.stdout.splitlines()]

    def find(self, name: str) -> Enrolment:
        return next(each for each in self.house.enrolments.latest() if each.name == name)

    def settled(self, name: str) -> Enrolment:
        assert until(lambda: self.find(name).state != "asked", 30), self.said()
        return self.find(name)

    def refused(self, reason: str) -> list[dict[str, Any]]:
        kinds = ("change:refused", "request:refused")
        return [each for each in rows(self.site, "events") if each["kind"] in kinds and reason in each["reason"]]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """As deploy/README.md says: a group reaches the socket and the certificates, a uid the key."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running(Path(directory), f'\n[enrolment]\nuser = "{UID}"\n') as site,
    ):
        os.chmod(directory, 0o711)
        credentials = Path(directory) / "credentials"
        credentials.mkdir(mode=0o711)
        key = shutil.move(site.directory / CA_DIRECTORY / f"{DEVICE_CA}.key", credentials / "leadglass-device-ca")
        key.chmod(0o400)
        for path, mode in ((site.directory, 0o710), (site.directory / "run", 0o2710), (site.directory / "ca", 0o750)):
            if AS_ROOT:
                os.chown(path, 0, UID)
            path.chmod(mode)
        if AS_ROOT:
            os.chown(key, UID, UID)
        for each in ("leadglass.toml", "format", "register.db"):
            (site.directory / each).chmod(0o600)
        site.up()
        ports = json.loads((site.directory / "state" / "ports.json").read_text())
        doors = Doors(site, f"http://localhost:{ports['console']}", f"https://localhost:{ports['web']}")
        house = assemble(site.directory)
        try:
            yield Place(doors, house, key)
        finally:
            house.close()


@pytest.fixture(scope="module")
def keys() -> dict[str, Authenticator]:
    return {}


@pytest.fixture
def engineer(place: Place, keys: dict[str, Authenticator]) -> Iterator[httpx2.Client]:
    with signed_in(place.doors, enrolled(place.doors, keys, "bio", "biomedical-engineer")) as client:
        yield client


def ask(client: httpx2.Client, name: str, **words: Any) -> httpx2.Response:
    form = {"csrf": token_of(client), "name": name, "ae": name, "network": "127.0.0.0/8", "may": ["echo", "store"]}
    return client.post("/devices/enrolments", data={**form, **words}, headers=OWN)


def collect(client: httpx2.Client, enrolment: Enrolment) -> httpx2.Response:
    form = {"csrf": token_of(client)}
    return client.post(f"/devices/enrolments/{enrolment.id}/bundle", data=form, headers=OWN)


def request() -> tuple[ec.EllipticCurvePrivateKey, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whatever it says")])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return key, made.public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class OneRun:
    """What was asked for while nobody signed, and what was begun before a crash: name → certificate. `key`: of the one that made its own."""

    key: ec.EllipticCurvePrivateKey
    begun: dict[str, Any]


@pytest.fixture(scope="module")
def one_run(place: Place, keys: dict[str, Authenticator]) -> OneRun:
    key, csr = request()
    names = ("CR1", "CR2", "CR3", "DX1", "XA1")
    with signed_in(place.doors, enrolled(place.doors, keys, "bio", "biomedical-engineer")) as client:
        assert {ask(client, name).status_code for name in names} == {303}
        assert ask(client, "MR1", csr=csr).status_code == 303
    with signed_in(place.doors, enrolled(place.doors, keys, "gone", "biomedical-engineer")) as client:
        assert ask(client, "CT8").status_code == 303
    place.site.command("people", "disable", "gone", "--reason", "left")
    environment = {**os.environ, "CREDENTIALS_DIRECTORY": str(place.key.parent)}
    line = [sys.executable, "-m", "leadglass", "--site", str(place.site.directory), "device", "enroll", "XA1"]
    words = ["--ae", "XA1", "--network", "127.0.0.0/8", "--out", str(place.key.parent.parent / "xa1")]
    subprocess.run([*line, *words], check=True, capture_output=True, env=environment, timeout=60)
    begun = _begun(place, "CR1", "CR2", "CR3")
    with place.enroller():
        for name in (*names, "MR1", "CT8"):
            place.settled(name)
    return OneRun(key, begun)


def _begun(place: Place, *names: str) -> dict[str, Any]:
    """As a kill leaves them: the first before anything of the device was written, the second with its file, the last serving already."""
    authority = Authority.open(place.site.directory / CA_DIRECTORY, DEVICE_CA, None, place.key)
    enroller = Enroller(authority, anchors(place.site.directory))
    waiting = {row["name"]: row for row in _questions(place)}
    issued: dict[str, Any] = {name: enroller.signed(waiting[name]) for name in names}
    for name, told in issued.items():
        place.house.enrolments.begin(waiting[name]["id"], told["certificate"], f"bundle of {name}".encode())
    for name in names[1:]:
        write_device(place.site.directory, name, issued[name]["device"], issued[name]["flow"])
    apply_device(place.site.directory, names[-1])
    return {name: told["certificate"] for name, told in issued.items()}


# ---- asked for, signed, collected, used


def test_a_device_from_the_form_to_its_first_image(
    place: Place, keys: dict[str, Authenticator], engineer: httpx2.Client
) -> None:
    assert "Enrol a device" in engineer.get("/devices").text
    with place.enroller():
        asked = ask(engineer, "CT1", why="the new scanner", maker="Acme")
        assert (asked.status_code, asked.headers["location"]) == (303, "/devices"), asked.text
        signed = place.settled("CT1")
    assert (signed.state, signed.csr) == ("signed", "")
    with signed_in(place.doors, enrolled(place.doors, keys, "bea", "biomedical-engineer")) as another:
        assert "Download once" in engineer.get("/devices").text
        assert "Download once" not in another.get("/devices").text
        assert collect(another, signed).status_code == 403  # theirs is the right, but not the bundle
    assert place.refused("did not ask for that bundle")

    given = collect(engineer, signed)
    assert given.status_code == 200 and given.headers["content-disposition"] == 'attachment; filename="CT1.zip"'
    assert given.headers["cache-control"] == "no-store"
    stick = place.key.parent.parent / "stick"
    with zipfile.ZipFile(io.BytesIO(given.content)) as packed:
        packed.extractall(stick)
    assert sorted(each.name for each in (stick / "CT1").iterdir()) == [
        "ca.pem", "client-legacy.p12", "client.key", "client.p12", "client.pem", "sheet.txt",
    ]  # fmt: skip
    assert "PKCS#12 passphrase" in (stick / "CT1" / "sheet.txt").read_text()
    place.site.bundles["CT1"] = Bundle("CT1", stick / "CT1")
    with Client(place.site, "CT1", Verification) as client:
        assert client.association.send_c_echo().Status == 0
    assert store(place.site, "CT1", fresh()) == [0]

    again = collect(engineer, signed)
    assert again.status_code == 409 and "given once" in again.text
    assert place.find("CT1").state == "collected"
    done = [each for each in rows(place.site, "events") if each["kind"] == "change:completed"]
    mine = {each["action"]: each["actor"] for each in done if each["details"]["about"] == "CT1"}
    assert mine["device-ask"] == mine["device-collect"] == "person:bio" and mine["device-enroll"] == f"uid:{UID}"
    if AS_ROOT:
        assert {each["rule"] for each in done if each["action"] == "device-enroll"} == {"operator:enrolment"}


def test_a_key_that_never_leaves_the_device(place: Place, engineer: httpx2.Client, one_run: OneRun) -> None:
    signed = place.find("MR1")
    with zipfile.ZipFile(io.BytesIO(collect(engineer, signed).content)) as packed:
        assert sorted(packed.namelist()) == ["MR1/ca.pem", "MR1/client.pem", "MR1/sheet.txt"]
        certificate = x509.load_pem_x509_certificate(packed.read("MR1/client.pem"))
    assert certificate.public_key() == one_run.key.public_key()
    assert certificate.subject.rfc4514_string() == "CN=MR1"
    certificate.verify_directly_issued_by(
        x509.load_pem_x509_certificate((place.site.directory / CA_DIRECTORY / f"{DEVICE_CA}.pem").read_bytes())
    )


# ---- what is wrong is said at once


def test_each_mistake_stands_beside_its_field(place: Place, engineer: httpx2.Client) -> None:
    said = ask(
        engineer, "no name", network="10.9.9.9", ae="A TITLE THAT IS MUCH TOO LONG", may=["echo", "erase"], address="nowhere",
        sop_class="NoSuchStorage", csr="-----BEGIN CERTIFICATE REQUEST-----", zone="moon", why="x" * 201,
    )  # fmt: skip
    assert said.status_code == 422
    for field in ("name", "network", "ae", "may", "address", "sop_class", "csr", "why"):
        assert f'id="e-{field}"' in said.text, field
    assert "No zone holds 10.9.9.9/32" in said.text and 'value="no name"' in said.text
    assert 'aria-describedby="e-name h-name" aria-invalid="true"' in said.text
    elsewhere = ask(engineer, "US1", zone="moon")
    assert elsewhere.status_code == 422 and 'id="e-zone"' in elsewhere.text
    assert not [each for each in place.house.enrolments.latest() if each.name in ("no name", "US1")]


def test_a_name_that_is_taken(place: Place, engineer: httpx2.Client) -> None:
    assert ask(engineer, "US2").status_code == 303
    twice = ask(engineer, "US2")
    assert twice.status_code == 409 and "asked for already" in twice.text
    place.house.enrolments.fail(place.find("US2").id, "for this test", time.time_ns())
    write_device(place.site.directory, "US3", {"zone": "loopback", "network": "127.0.0.1/32"}, None)
    taken = ask(engineer, "US3")
    assert taken.status_code == 422 and "is there already" in taken.text
    (place.site.directory / "devices.d" / "US3.toml").unlink()


def test_whoever_may_enrol_nothing_gets_nothing(place: Place, keys: dict[str, Authenticator]) -> None:
    for name, role in (("guard", "security-officer"), ("tech", "technologist")):
        with signed_in(place.doors, enrolled(place.doors, keys, name, role)) as client:
            assert "Enrol a device" not in client.get("/devices").text
            assert ask(client, "EVIL").status_code == 403
            assert ask(client, "", network="x").status_code == 403  # and learns nothing of what would be wrong
    assert {each["actor"] for each in place.refused("may not device-enroll")} >= {"person:guard", "person:tech"}
    assert "EVIL" not in [each.name for each in place.house.enrolments.latest()]


# ---- what cannot be signed


def test_a_name_taken_meanwhile_fails_with_a_reason(place: Place, engineer: httpx2.Client, one_run: OneRun) -> None:
    failed = place.find("XA1")
    assert failed.state == "failed" and "enrolled by somebody else meanwhile" in failed.reason
    assert failed.reason in engineer.get("/devices").text


@other_uid
def test_who_may_no_longer_ask_gets_nothing_signed(place: Place, one_run: OneRun) -> None:
    failed = place.find("CT8")
    assert failed.state == "failed" and "may enrol no device any more" in failed.reason
    assert "CT8" not in place.house.site().devices


def test_a_kill_between_signing_and_the_device_is_completed_by_a_repeat(
    place: Place, engineer: httpx2.Client, one_run: OneRun
) -> None:
    """What was issued and registered is not signed again; where the device's file is there already too."""
    for name, certificate in one_run.begun.items():
        signed = place.find(name)
        assert (signed.state, signed.certificate) == ("signed", certificate), signed.reason
        known = [each.fingerprint for each in place.house.register.certificates() if each.device == name]
        assert known == [certificate["fingerprint"]]
        assert collect(engineer, signed).content == f"bundle of {name}".encode()


def _questions(place: Place) -> list[dict[str, Any]]:
    from leadglass.doors.command.enrolling import enrolments

    return [dict(each) for each in enrolments(place.house, {})]


def test_after_a_day_the_bundle_is_gone(place: Place, engineer: httpx2.Client, one_run: OneRun) -> None:
    signed = place.find("DX1")
    with place.house.register.transaction() as connection:
        early = signed.settled_ns - COLLECT_WITHIN_SECONDS * 1_000_000_000
        connection.execute("UPDATE enrolments SET settled_ns = ? WHERE id = ?", (early, signed.id))
    late = collect(engineer, signed)
    assert late.status_code == 409 and "24 hours at most" in late.text
    _lapse(place.house)
    assert place.find("DX1").state == "lapsed"
    assert place.house.register.read("SELECT bundle FROM enrolments WHERE id = ?", (signed.id,)) == [(None,)]
    until(lambda: any(each["action"] == "device-lapse" for each in rows(place.site, "events")), 5)
    lapsed = [each for each in rows(place.site, "events") if each["action"] == "device-lapse"]
    assert [each["kind"] for each in lapsed] == ["change:intended", "change:completed"]


# ---- what that uid may not


@other_uid
def test_that_uid_may_sign_what_was_asked_for_and_nothing_else(
    place: Place, engineer: httpx2.Client, one_run: OneRun
) -> None:
    assert ask(engineer, "PX1").status_code == 303
    (row,) = [each for each in _questions(place) if each["name"] == "PX1"]
    authority = Authority.open(place.site.directory / CA_DIRECTORY, DEVICE_CA, None, place.key)
    told = {
        "enrolment": row["id"],
        "digest": row["digest"],
        **Enroller(authority, anchors(place.site.directory)).signed(row),
    }
    device = told["device"]

    def change(kind: str, about: str, /, **arguments: Any) -> dict[str, Any]:
        return {"change": kind, "about": about, "arguments": arguments}

    wrong = {
        "may site-apply nothing": change("site-apply", "site"),
        "may device-revoke nothing": change("device-revoke", "CT1", fingerprints=[], reason="x"),
        "may person-add nothing": change("person-add", "mallory", roles=["security-officer"], why="x"),
        "may device-lapse nothing": change("device-lapse", "PX1", enrolment=row["id"]),
        "may device-ask nothing": change("device-ask", "PX2", facts=row["facts"]),
        "nobody asked for this": change("device-enroll", "PX9", **{**told, "enrolment": "f" * 32}),
        "or it is settled already": change("device-enroll", "DX1", **{**told, "enrolment": place.find("DX1").id}),
        "what was asked for": change("device-enroll", "PX1", **{**told, "digest": "0" * 64}),
        "the device and what it may": change("device-enroll", "PX1", **{**told, "device": {**device, "network": "0.0.0.0/0"}}),  # type: ignore[dict-item]
        "a certificate of the site's own": change("device-enroll", "PX1", **{**told, "kind": "pinned"}),
        "asks for nothing else: not for 'status'": {"ask": "status", "arguments": {}},
        "asks for nothing else: not for 'events'": {"ask": "events", "arguments": {}},
        "asks for nothing else: not for 'people'": {"ask": "people", "arguments": {}},
    }  # fmt: skip
    wrong["the device and what it may are"] = change(
        "device-enroll", "PX1", **{**told, "flow": {**told["flow"], "may": ["find"]}}
    )  # type: ignore[dict-item]
    for (reason, _), answers in zip(wrong.items(), place.says(*wrong.values()), strict=True):
        assert len(answers) == 1 and reason in answers[0]["stopped"], (reason, answers)
    until(lambda: len(place.refused("signs enrolments")) >= 8, 5)
    for reason in wrong:
        assert [each for each in place.refused(reason) if each["actor"] == f"uid:{UID}"], reason
    assert place.find("PX1").state == "asked" and "PX1" not in place.house.site().devices
    (asked,) = place.says({"ask": "enrolments", "arguments": {}})
    assert "PX1" in [each["row"]["name"] for each in asked if "row" in each]
    assert os.stat(place.site.directory / "run" / "leadglass.sock").st_mode & 0o777 == 0o660


def test_a_passphrase_that_does_not_open_the_key(place: Place, tmp_path: Path) -> None:
    authority = Authority.open(place.site.directory / CA_DIRECTORY, DEVICE_CA, None, place.key)
    authority.save(tmp_path, "leadglass-device-ca", b"right")
    (tmp_path / "leadglass-device-ca.key").rename(tmp_path / "leadglass-device-ca")
    (tmp_path / "wrong").write_text("wrong\n")
    line = [sys.executable, "-m", "leadglass", "--site", str(place.site.directory), "serve", "enroll"]
    environment = {**os.environ, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    for words, said in (
        ([], "the device CA's key is sealed"),
        (["--passphrase-file", str(tmp_path / "wrong")], "does not open"),
    ):
        done = subprocess.run([*line, *words], capture_output=True, text=True, timeout=60, env=environment, check=False)
        assert done.returncode != 0 and said in done.stderr and "--passphrase-file" in done.stderr, done.stderr


# ---- renewed, withdrawn


def fingerprints(place: Place, name: str) -> list[str]:
    return [each.fingerprint for each in place.house.register.certificates() if each.device == name]


def test_a_certificate_is_renewed_from_the_console(place: Place, engineer: httpx2.Client) -> None:
    """The old one stays good until the new one is first used; the device's own key never leaves it where it made one."""
    with place.enroller():
        assert ask(engineer, "NM1").status_code == 303
        first = place.settled("NM1")
        old = _unpacked(place, collect(engineer, first), "NM1", "old")
        assert until(lambda: 'href="/devices/NM1/renew"' in engineer.get("/devices").text, 5)
        assert "gets a new certificate" in engineer.get("/devices/NM1/renew").text
        asked = engineer.post("/devices/NM1/renew", data={"csrf": token_of(engineer)}, headers=OWN)
        assert (asked.status_code, asked.headers["location"]) == (303, "/devices"), asked.text
        renewed = place.settled("NM1")
        assert (renewed.state, renewed.renewal) == ("signed", True), renewed.reason
        both = fingerprints(place, "NM1")
        assert len(both) == 2
        assert until(lambda: list(place.house.site().devices["NM1"].certificates) == both, 5), "by the next generation"
        new = _unpacked(place, collect(engineer, renewed), "NM1", "new")
        assert "as before" in (new.directory / "sheet.txt").read_text()
        for bundle in (old, new):
            place.site.bundles["NM1"] = bundle
            with Client(place.site, "NM1", Verification) as client:
                assert client.association.send_c_echo().Status == 0
        key, csr = request()
        told = {"csrf": token_of(engineer), "csr": csr}
        assert engineer.post("/devices/NM1/renew", data=told, headers=OWN).status_code == 303
        own = place.settled("NM1")
        with zipfile.ZipFile(io.BytesIO(collect(engineer, own).content)) as packed:
            assert "NM1/client.key" not in packed.namelist()
            assert x509.load_pem_x509_certificate(packed.read("NM1/client.pem")).public_key() == key.public_key()
    done = [each for each in rows(place.site, "events") if each["kind"] == "change:completed"]
    renewals = [each for each in done if each["action"] == "device-renew" and each["details"]["about"] == "NM1"]
    assert [each["actor"] for each in renewals] == [f"uid:{UID}"] * 2


def _unpacked(place: Place, given: httpx2.Response, name: str, where: str) -> Bundle:
    assert given.status_code == 200, given.text
    stick = place.key.parent.parent / where
    with zipfile.ZipFile(io.BytesIO(given.content)) as packed:
        packed.extractall(stick)
    return Bundle(name, stick / name)


def test_nothing_is_renewed_that_is_not_there_or_by_whoever_may_not(
    place: Place, keys: dict[str, Authenticator], engineer: httpx2.Client, one_run: OneRun
) -> None:
    told = {"csrf": token_of(engineer)}
    assert engineer.post("/devices/NOWHERE/renew", data=told, headers=OWN).status_code == 404
    wrong = {**told, "csr": "-----BEGIN CERTIFICATE REQUEST-----"}
    refused = engineer.post("/devices/DX1/renew", data=wrong, headers=OWN)
    assert refused.status_code == 409 and "not a PEM certificate request" in refused.text
    with signed_in(place.doors, enrolled(place.doors, keys, "guard", "security-officer")) as client:
        assert client.get("/devices/DX1/renew").status_code == 403
        assert client.post("/devices/DX1/renew", data={"csrf": token_of(client)}, headers=OWN).status_code == 403
    assert not [each for each in place.house.enrolments.latest() if each.name == "DX1" and each.renewal]


@other_uid
def test_who_signs_renews_what_was_asked_for_and_names_no_other_certificate(
    place: Place, engineer: httpx2.Client, one_run: OneRun
) -> None:
    told = {"csrf": token_of(engineer)}
    assert engineer.post("/devices/DX1/renew", data=told, headers=OWN).status_code == 303
    assert ask(engineer, "PX3").status_code == 303
    waiting = {row["name"]: row for row in _questions(place)}
    authority = Authority.open(place.site.directory / CA_DIRECTORY, DEVICE_CA, None, place.key)
    enroller = Enroller(authority, anchors(place.site.directory))
    signed = {
        name: {"enrolment": waiting[name]["id"], "digest": waiting[name]["digest"], **enroller.signed(waiting[name])}
        for name in ("DX1", "PX3")
    }
    wrong = [
        ("device-renew", "DX1", {**signed["DX1"], "pins": ["sha256:" + "0" * 64]}),
        ("device-renew", "DX1", {**signed["DX1"], "device": {}}),
        ("device-enroll", "DX1", signed["DX1"]),
        ("device-renew", "PX3", signed["PX3"]),
        ("device-renew", "CT1", signed["DX1"]),
        ("device-renew", "CT1", {"certificate": signed["DX1"]["certificate"], "pins": []}),
    ]
    for kind, about, arguments in wrong:
        (answers,) = place.says({"change": kind, "about": about, "arguments": arguments})
        assert len(answers) == 1 and "stopped" in answers[0], answers
    assert {place.find(name).state for name in ("DX1", "PX3")} == {"asked"}
    assert len(fingerprints(place, "DX1")) == 1
    for name in ("DX1", "PX3"):
        withdrawn(place, engineer, name)


def withdrawn(place: Place, client: httpx2.Client, name: str) -> httpx2.Response:
    told = {"csrf": token_of(client)}
    return client.post(f"/devices/enrolments/{place.find(name).id}/withdraw", data=told, headers=OWN)


def test_what_was_asked_for_is_withdrawn_while_nobody_signed_it(
    place: Place, keys: dict[str, Authenticator], engineer: httpx2.Client
) -> None:
    assert ask(engineer, "OT1").status_code == 303
    assert "Withdraw" in engineer.get("/devices").text
    with signed_in(place.doors, enrolled(place.doors, keys, "tech", "technologist")) as client:
        assert withdrawn(place, client, "OT1").status_code == 403
    assert withdrawn(place, engineer, "OT1").status_code == 303
    gone = place.find("OT1")
    assert (gone.state, gone.reason) == ("withdrawn", "withdrawn by bio") and gone.reason in engineer.get(
        "/devices"
    ).text
    again = withdrawn(place, engineer, "OT1")
    assert again.status_code == 409 and "does not wait any more" in again.text
    with place.enroller():
        assert ask(engineer, "OT2").status_code == 303
        place.settled("OT2")
    assert withdrawn(place, engineer, "OT2").status_code == 409
    assert "OT1" not in place.house.site().devices and "OT2" in place.house.site().devices
    assert ask(engineer, "OT1").status_code == 303, "and may be asked for again"
    withdrawn(place, engineer, "OT1")
