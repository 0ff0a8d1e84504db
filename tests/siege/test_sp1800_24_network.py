"""T08 and T09 of SP 1800-24: what is spoken to the doors, and what somebody hears who listens on the way."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from leadglass.lab.peers import Archive, Identity, associated, getting, storing
from leadglass.wire import tags
from leadglass.wire.dimse import Status
from tests.running import RunningSite, running, until
from tests.synthetic import image, uid

pytestmark = pytest.mark.xdist_group("network")  # one site for all of it
PATIENT = "T09-SECRET-ID"
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
MODERN = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305")
REFUSED = (
    "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-NULL-SHA", "AES128-SHA", "AES128-GCM-SHA256", "NULL-SHA256",
    "AECDH-AES128-SHA", "PSK-AES128-GCM-SHA256",
)  # fmt: skip
A_ASSOCIATE_RQ = bytes.fromhex("0100000000440001000041524348495645202020202020202020435431") + bytes(45)
SECONDS = 5.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("network")) as site:
        site.enroll("CT1", "echo,store")
        site.enroll("WS1", "echo,find,get")
        site.up()
        yield site


def who(site: RunningSite, name: str) -> Identity:
    return Identity(name, "127.0.0.1", site.bundles[name].directory)


def web_port(site: RunningSite) -> int:
    return int(json.loads((site.directory / "state" / "ports.json").read_text())["web"])


def shaken(site: RunningSite, port: int, lowest: ssl.TLSVersion, highest: ssl.TLSVersion, cipher: str = "") -> str:
    """What was agreed on by an enrolled device; "" where nothing was."""
    stick = site.bundles["CT1"].directory
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(stick / "client.pem", stick / "client.key")
    try:
        context.set_ciphers(f"{cipher or 'ALL'}:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # that is why they are tried
            context.minimum_version, context.maximum_version = lowest, highest
    except (ssl.SSLError, ValueError):
        return ""  # this OpenSSL knows it no more, on either side
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as plain, context.wrap_socket(plain) as tls:
            return f"{tls.version()} {(tls.cipher() or ('',))[0]}"
    except (ssl.SSLError, OSError):
        return ""


@pytest.mark.parametrize("door", ["dimse", "web"])
def test_t08_modern_tls_is_spoken_and_nothing_older(site: RunningSite, door: str) -> None:
    port = site.port if door == "dimse" else web_port(site)
    assert shaken(site, port, TLS_1_3, TLS_1_3).startswith("TLSv1.3 ")
    for cipher in MODERN:
        assert shaken(site, port, TLS_1_2, TLS_1_2, cipher) == f"TLSv1.2 {cipher}"
    for older in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        assert shaken(site, port, older, older) == "", older


@pytest.mark.parametrize("cipher", REFUSED)
def test_t08_no_suite_without_forward_secrecy_and_authenticated_encryption(site: RunningSite, cipher: str) -> None:
    for port in (site.port, web_port(site)):
        assert shaken(site, port, TLS_1_2, TLS_1_2, cipher) == ""


def listening(site: RunningSite) -> set[int]:
    """Every TCP port that a process of the site listens on, whatever its address."""
    said = (Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()).splitlines()
    ports = {
        fields[9]: int(fields[1].rpartition(":")[2], 16) for fields in map(str.split, said) if fields[3:4] == ["0A"]
    }
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(site.directory).encode() in (process / "cmdline").read_bytes():
                for each in (process / "fd").iterdir():
                    with contextlib.suppress(OSError):
                        inode = re.fullmatch(r"socket:\[(\d+)\]", str(each.readlink()))
                        if inode and inode[1] in ports:
                            found.add(ports[inode[1]])
    return found


def test_t08_no_port_answers_dicom_in_clear(site: RunningSite) -> None:
    found = listening(site)
    assert {site.port, web_port(site)} <= found
    for port in found:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as plain:
            plain.settimeout(SECONDS)
            plain.sendall(A_ASSOCIATE_RQ)
            heard = b""
            with contextlib.suppress(OSError):
                while len(heard) < 4096 and (more := plain.recv(4096)):
                    heard += more
        assert not heard.startswith((b"\x02\x00", b"\x03\x00", b"\x07\x00")), (port, heard[:16])
    with associated(who(site, "CT1"), Archive("127.0.0.1", site.port), storing([image(random.Random(1))])):
        pass


# ---- T09


@dataclass
class Tap:
    """Stands on the way and keeps a copy of every byte in both directions."""

    port: int
    heard: bytearray = field(default_factory=bytearray)


@contextlib.contextmanager
def tapped(to: int) -> Iterator[Tap]:
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(0.2)
        tap, stop = Tap(door.getsockname()[1]), threading.Event()
        threads: list[threading.Thread] = []
        ends: list[socket.socket] = []

        def pass_on(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    tap.heard.extend(data)
                    target.sendall(data)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)

        def admit() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    near, _ = door.accept()
                    far = socket.create_connection(("127.0.0.1", to), SECONDS)
                    ends.extend((near, far))
                    for one, other in ((near, far), (far, near)):
                        threads.append(threading.Thread(target=pass_on, args=(one, other), daemon=True))
                        threads[-1].start()

        admitting = threading.Thread(target=admit, daemon=True)
        admitting.start()
        try:
            yield tap
        finally:
            stop.set()
            admitting.join()
            for each in ends:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for each in ends:
                each.close()


def told(heard: bytearray, study: str) -> list[str]:
    """Which words of a patient or of DICOM can be read in it."""
    words = ("DICM", PATIENT, study, "1.2.840.10008", "CT1", "WS1")
    return [word for word in words if word.encode() in heard]


def test_t09_who_listens_hears_no_patient_and_no_dicom(site: RunningSite) -> None:
    study = uid(random.Random(9))
    one = image(random.Random(10), study=study, patient=PATIENT)
    with tapped(site.port) as tap:
        by_way = Archive("127.0.0.1", tap.port)
        with associated(who(site, "CT1"), by_way, storing([one])) as session:
            assert session.store(one).status == Status.SUCCESS
        came: list[bytes] = []
        pairs = [(one.sop_class_uid, one.transfer_syntax_uid)]
        with associated(who(site, "WS1"), by_way, getting(pairs)) as session:
            session.get("STUDY", {tags.STUDY_INSTANCE_UID: study}, lambda each: came.append(each.data_set) or 0)
        assert len(came) == 1 and PATIENT.encode() in came[0], "it did go by here"
        assert until(lambda: len(tap.heard) > len(came[0]), 5)
    assert told(tap.heard, study) == []


def test_t09_a_tap_does_hear_what_is_said_in_clear(site: RunningSite) -> None:
    """The negative control."""
    with socket.create_server(("127.0.0.1", 0)) as deaf, tapped(deaf.getsockname()[1]) as tap:
        with socket.create_connection(("127.0.0.1", tap.port), SECONDS) as clear:
            clear.sendall(bytes(128) + b"DICM" + PATIENT.encode())
            assert until(lambda: told(tap.heard, "2.25.1") == ["DICM", PATIENT], 5)
