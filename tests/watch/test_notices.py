"""Alarms and broken glass reach people who are not looking: by a real mail server over TLS, and by a webhook that checks the signature."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import http.server
import json
import os
import random
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from leadglass.lab.peers import Archive, Identity, associated, storing
from leadglass.terms import ChangeKind, Event, EventKind, Outcome, PatientIdentity, Severity
from leadglass.watch.notices.compose import Notice, notice_of, subject_of, text_of, together
from tests.programs import require
from tests.running import RunningSite, free_port, running, until
from tests.synthetic import image, uid

NOW_NS = 1_700_000_000_000_000_000
SECRET = "synthetic-webhook-secret"


def certificate(directory: Path) -> tuple[Path, Path]:
    """For localhost, of a CA that nobody else knows: itself."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = directory / "tls.pem", directory / "tls.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return certificate, private


@contextmanager
def exim(place: Path, port: int, *, at_once: bool) -> Iterator[Path]:
    """A real mail server that keeps what it takes in one mailbox. It drops its privileges, so `place` is one that anybody can reach."""
    program = require("exim4")
    if os.getuid():
        pytest.skip("exim4 with a configuration of its own needs root")
    place.chmod(0o777)
    certificate_file, private = certificate(place)
    private.chmod(0o644)
    configuration, mailbox = place / "exim.conf", place / "in.mbox"
    configuration.write_text(
        f"primary_hostname = localhost\nspool_directory = {place}/spool\nlog_file_path = {place}/%slog\npid_file_path = {place}/pid\n"
        f"keep_environment =\nlocal_interfaces = 127.0.0.1\ndaemon_smtp_ports = {port}\ntls_advertise_hosts = *\n"
        + (f"tls_on_connect_ports = {port}\n" if at_once else "")
        + f"tls_certificate = {certificate_file}\ntls_privatekey = {private}\nhost_lookup =\nacl_smtp_rcpt = all\nacl_smtp_mail = encrypted\n"
        "begin acl\nall:\n  accept\nencrypted:\n  accept encrypted = *\n  deny message = TLS first\n"
        f"begin routers\nevery:\n  driver = accept\n  transport = file\n"
        f"begin transports\nfile:\n  driver = appendfile\n  file = {mailbox}\n"
    )
    (place / "spool").mkdir(mode=0o777)
    (place / "spool").chmod(0o777)
    with (place / "out").open("wb") as out:
        server = subprocess.Popen([program, "-bdf", "-C", str(configuration)], stdout=out, stderr=out)
    try:
        assert until(lambda: "daemon started" in _read(place / "mainlog"), 15), _read(place / "out")
        yield mailbox
    finally:
        server.terminate()
        server.wait(10)


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def webhook(directory: Path, port: int) -> Iterator[list[tuple[dict[str, str], bytes]]]:
    """Answers 503 once, then 200."""
    heard: list[tuple[dict[str, str], bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((dict(self.headers), body))
            self.send_response(503 if len(heard) == 1 else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    certificate_file, private = certificate(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, private)
    server = http.server.HTTPServer(("127.0.0.1", port), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def conflict(site: RunningSite) -> None:
    """The same SOP Instance UID with other bytes: an alarm."""
    archive, modality = (
        Archive("127.0.0.1", site.port),
        Identity("CT1", "127.0.0.1", site.bundles["CT1"].directory),
    )
    rng = random.Random(7)
    study, sop = uid(rng), uid(rng)
    images = [image(rng, study=study, sop_instance=sop) for _ in range(2)]
    with associated(modality, archive, storing(images)) as session:
        for each in images:
            session.store(each)


@pytest.mark.xdist_group("exim")
@pytest.mark.parametrize("at_once", [True, False], ids=["smtps", "starttls"])
def test_mail(tmp_path: Path, at_once: bool) -> None:
    port, scheme = free_port(), "smtps" if at_once else "smtp"
    with tempfile.TemporaryDirectory(prefix="leadglass-mail-") as name:
        place = Path(name)
        extra = (
            f'\n[notices.mail]\nserver = "{scheme}://localhost:{port}"\nfrom = "leadglass@hospital.example"\n'
            f'to = ["security@hospital.example"]\nauthority = "{place}/tls.pem"\n'
        )
        with exim(place, port, at_once=at_once) as mailbox, running(tmp_path, extra) as site:
            site.enroll("CT1", "store")
            site.up()
            conflict(site)
            assert until(lambda: "instance:conflicted" in _read(mailbox), 20), site.log()
            message = _read(mailbox)
        assert "To: security@hospital.example" in message and "alarm: " in message and "by CT1" in message
        assert "Synthetic" not in message and "^" not in message


def test_webhook_is_signed_and_tried_again_and_told_once(tmp_path: Path) -> None:
    port = free_port()
    extra = f'\n[notices.webhook]\nurl = "https://localhost:{port}/hook"\nsecret = "file:keys/webhook"\nauthority = "{tmp_path}/tls.pem"\n'
    with webhook(tmp_path, port) as heard, running(tmp_path, extra) as site:
        secret = site.directory / "keys" / "webhook"
        secret.write_text(SECRET + "\n")
        secret.chmod(0o600)
        site.enroll("CT1", "store")
        site.up()
        conflict(site)
        assert until(lambda: len(heard) >= 2, 20), site.log()
        site.down()
        site.up()  # the cursor is durable: nothing is told again
        time.sleep(1.5)
        told = [body for _, body in heard if b"instance:conflicted" in body]
        assert len(told) == 2
    (_, refused), (headers, taken) = heard[:2]
    at, _, signature = headers["Leadglass-Signature"].removeprefix("t=").partition(",v1=")
    assert signature == hmac.new(SECRET.encode(), at.encode() + b"." + taken, hashlib.sha256).hexdigest()
    told = json.loads(taken)
    assert told["id"] == json.loads(refused)["id"] and told["notices"][0]["kind"] == "instance:conflicted"
    assert "Synthetic" not in taken.decode()


def event(kind: EventKind, action: str = "", actor: str = "CT1") -> Event:
    return Event(
        kind, Outcome.SUCCESS, actor, action=action, reason="about Synthetic^Patient", details={"x": "Synthetic^Patient"},
        patient=PatientIdentity("SYN1"),
    )  # fmt: skip


def test_what_is_told_and_what_stays_behind() -> None:
    broken = notice_of(event(EventKind.CHANGE_COMPLETED, ChangeKind.GLASS_BREAK, "person:someone"), NOW_NS)
    assert broken is not None and broken.severity is Severity.WARNING
    assert notice_of(event(EventKind.INSTANCE_STORED), NOW_NS) is None
    assert notice_of(event(EventKind.CHANGE_COMPLETED, ChangeKind.DEVICE_ENROLL), NOW_NS) is None
    alarm = notice_of(event(EventKind.INSTANCE_CORRUPTED), NOW_NS)
    assert alarm is not None
    text = text_of("pacs.example", (broken, alarm))
    assert "glass-break" in text and "Synthetic" not in text and "SYN1" not in text
    assert subject_of("pacs.example", (broken, alarm)) == "[pacs.example] alarm: instance:corrupted and 1 more"


def test_a_storm_is_one_message() -> None:
    storm = [notice_of(event(EventKind.INSTANCE_CORRUPTED), NOW_NS + number) for number in range(1000)]
    (one,) = together([each for each in storm if isinstance(each, Notice)])
    assert one.count == 1000 and one.first_ns == NOW_NS and "1000 times" in text_of("s", (one,))


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ('[notices.mail]\nserver = "http://x:25"\nfrom = "a@b.example"\nto = ["c@d.example"]\n', "speaks TLS"),
        ('[notices.mail]\nserver = "smtps://x:465"\nfrom = "a@b.example"\nto = []\n', "no mail address"),
        ('[notices.webhook]\nurl = "http://x/hook"\n', "no https address"),
        ('[notices.webhook]\nurl = "https://x/hook"\nsecret = "hunter2"\n', "never the secret itself"),
    ],
)
def test_no_way_without_tls(tmp_path: Path, extra: str, said: str) -> None:
    site = RunningSite.make(tmp_path)
    file = site.directory / "leadglass.toml"
    file.write_text(file.read_text() + "\n" + extra)
    done = site.command("check", check=False)
    assert done.returncode == 3 and said in done.stdout + done.stderr and "hunter2" not in done.stdout + done.stderr
