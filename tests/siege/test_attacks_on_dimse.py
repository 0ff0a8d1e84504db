"""Attacks on the DIMSE door, from outside over TLS: handshakes, association control, commands, queries, other people's images. Numbers as in docs/attacks.md.

What is said wrongly in one PDU is in test_hostile.py, who says nothing or says it slowly in test_crowd.py.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import random
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from leadglass.identity.authority import key_pem, pem
from leadglass.lab.peers import (
    Identity,
    TurnedAway,
    associated,
    echoing,
    storing,
)
from leadglass.wire import uids
from leadglass.wire.negotiation import RequestedContext, request
from leadglass.wire.pdu import AssociateRQ, encode
from leadglass.wire.user_information import ExtendedNegotiation, UserIdentity
from tests.programs import require
from tests.running import RunningSite, running, until
from tests.siege.parties import archive, same_processes, who
from tests.siege.raw import (
    CT,
    DATA_SET_TYPE,
    FIELD,
    HEARD_WITHIN_SECONDS,
    MESSAGE_ID,
    NO_DATA_SET,
    asking,
    command_set,
    p_data,
    pdu,
    raw,
    store_command,
)
from tests.synthetic import image

pytestmark = pytest.mark.xdist_group("attacks_on_dimse")  # one site for all of it
IDLE_SECONDS = 3.0
LIMITS = f"""
[limits]
handshake_seconds = 5
artim_seconds = 5
stall_seconds = 10
idle_seconds = {IDLE_SECONDS}
"""
NOW = dt.datetime.now(dt.UTC)
ECHO_RQ = {0x0002: uids.VERIFICATION, FIELD: 0x0030, MESSAGE_ID: 1, DATA_SET_TYPE: NO_DATA_SET}
RELEASE = pdu(0x05, bytes(4))
CALLING = slice(26, 42)  # of an A-ASSOCIATE-RQ (PS3.8 9.3.2)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("dimse-attacks"), LIMITS) as site:
        site.up()
        site.enroll("CT1", "echo,store,commit")
        site.enroll("CT2", "echo,store,commit")
        site.enroll("WS1", "echo,find,get,move")
        site.enroll("DUMB", "echo")
        yield site
        print(site.log())


@pytest.fixture(autouse=True)
def unharmed(site: RunningSite) -> Iterator[None]:
    """Whatever a test does, the same processes serve whoever behaves afterwards."""
    with same_processes(site):
        yield
        one = image(random.Random())
        with associated(who(site, "CT1"), archive(site), storing([one])) as session:
            assert session.store(one).status == 0


def refused(site: RunningSite, wanted: str, kind: str = "association:refused") -> bool:
    return any(wanted in row.get("reason", "") for row in site.events(kind))


# ---- 3, 4: handshakes


NO_TLS: dict[str, bytes] = {
    "an A-ASSOCIATE-RQ": encode(asking("CT1")),
    "HTTP": b"GET / HTTP/1.1\r\nHost: archive\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.9\r\n",
    "a TLS record that holds none": b"\x16\x03\x01\x40\x00" + bytes(0x4000),
    "a TLS record that is too long": b"\x16\x03\x01\xff\xff" + bytes(0xFFFF),
    "TLS 1.0 alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "zeros": bytes(64),
}


@pytest.mark.parametrize("said", NO_TLS.values(), ids=NO_TLS.keys())
def test_attack_03_what_is_no_tls_is_shown_out(site: RunningSite, said: bytes) -> None:
    source = f"127.4.{list(NO_TLS.values()).index(said)}.1"
    with socket.create_connection(("127.0.0.1", site.port), 10, (source, 0)) as sock:
        sock.sendall(said)
        sock.settimeout(10)
        heard = everything(sock)
    assert heard[:1] in (b"", b"\x15"), "an alert at most"
    assert until(lambda: any(row["address"] == source for row in site.events("association:refused")))


def everything(sock: socket.socket) -> bytes:
    heard = b""
    try:
        while piece := sock.recv(4096):
            heard += piece
    except ConnectionError:
        pass
    return heard


def test_attack_03_tls_where_plain_http_is_spoken(site: RunningSite) -> None:
    port = json.loads((site.directory / "state" / "ports.json").read_text())["console"]
    context = ssl.create_default_context()
    with socket.create_connection(("127.0.0.1", port), 10) as sock, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(sock, server_hostname="localhost")


def own(name: str, *, days_ago: int = 1, days: int = 30, usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None, digest: hashes.HashAlgorithm | None = None,
        ) -> tuple[ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, x509.Certificate]:  # fmt: skip
    """A certificate that signs itself, as a device comes with."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begins = NOW - dt.timedelta(days=days_ago)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + dt.timedelta(days=days))
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        .sign(key, digest or hashes.SHA256())
    )
    return key, made


def carried(site: RunningSite, place: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, certificate: x509.Certificate) -> Path:  # fmt: skip
    place.mkdir(exist_ok=True)
    (place / "client.key").write_bytes(key_pem(key, None))
    (place / "client.pem").write_bytes(pem(certificate))
    (place / "ca.pem").write_bytes((site.bundles["CT1"].directory / "ca.pem").read_bytes())
    return place


PINNED = {
    "sound": ({}, "", ""),
    "not valid yet": ({"days_ago": -2}, "A-ASSOCIATE-RJ", "not valid before"),
    "expired": ({"days_ago": 60}, "A-ASSOCIATE-RJ", "expired"),
    "for servers only": ({"usage": ExtendedKeyUsageOID.SERVER_AUTH}, "TLS alert", "CERTIFICATE_VERIFY_FAILED"),
    "for signing mail": ({"usage": ExtendedKeyUsageOID.EMAIL_PROTECTION}, "TLS alert", "CERTIFICATE_VERIFY_FAILED"),
}  # fmt: skip


@pytest.mark.parametrize("what", PINNED)
def test_attack_04_a_pinned_certificate_that_will_not_do(site: RunningSite, tmp_path: Path, what: str) -> None:
    """Pinning says whose it is; its times and its purpose count all the same."""
    changes, heard, named = PINNED[what]
    name = "PIN" + str(list(PINNED).index(what))
    stick = carried(site, tmp_path / name, *own(name, **changes))  # type: ignore[arg-type]
    enrolling = ["device", "enroll", name, "--ae", name, "--network", "127.0.0.0/8", "--may", "echo"]
    site.command(*enrolling, "--certificate", str(stick / "client.pem"), "--out", str(tmp_path / "out"))
    identity = Identity(name, f"127.6.{name[3:]}.1", stick)
    if not heard:
        with associated(identity, archive(site), echoing()) as session:
            assert session.echo().status == 0
        return
    with pytest.raises(TurnedAway, match=heard), associated(identity, archive(site), echoing()):
        pass
    assert until(lambda: refused(site, named))


WEAK = {"RSA of 1024 bits": ["rsa:1024", "-sha256"], "signed with SHA-1": ["rsa:2048", "-sha1"]}


@pytest.mark.parametrize("what", WEAK)
def test_attack_04_a_weak_certificate_is_not_enrolled(site: RunningSite, tmp_path: Path, what: str) -> None:
    made = [require("openssl"), "req", "-x509", "-nodes", "-subj", "/CN=WEAK", "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "pem"), "-newkey"]  # fmt: skip
    subprocess.run([*made, *WEAK[what]], check=True, capture_output=True)
    enrolling = ["device", "enroll", "WEAK", "--ae", "WEAK", "--network", "127.0.0.0/8", "--may", "echo"]
    said = site.command(*enrolling, "--certificate", str(tmp_path / "pem"), "--out", str(tmp_path / "out"), check=False)
    assert said.returncode != 0 and "Traceback" not in said.stderr and said.stderr.strip()
    assert not any(row["name"] == "WEAK" for row in site.rows("device", "list"))


def test_attack_04_nothing_is_negotiated_anew(site: RunningSite) -> None:
    """A second ClientHello within TLS 1.2 gets no second handshake."""
    context = site.bundles["CT1"].client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    shaken = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", site.port), 10) as sock:
        while True:
            try:
                shaken.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(1 << 14))
        sock.sendall(outgoing.read() + b"\x16\x03\x03\x00\x30" + bytes(48))  # a handshake record, and no key fits
        assert everything(sock)[:1] in (b"", b"\x15")


# ---- 5: AE titles


AE_TITLES: dict[str, bytes] = {
    "another case": b"ct1",
    "another device's": b"CT2",
    "a NUL behind it": b"CT1\0",
    "a path": b"../CT1",
    "a separator": b"CT1\\CT2",
    "a pattern": b"*",
    "a pattern of SQL": b"CT%",
    "a control character": b"CT1\x1b",
    "a line": b"CT1\nCT2",
    "no ASCII": b"CT1\xff",
    "nothing": b"",
    "a space within": b"CT 1",
}


@pytest.mark.parametrize("title", AE_TITLES.values(), ids=AE_TITLES.keys())
def test_attack_05_a_calling_ae_title_is_the_devices_own_letter_by_letter(site: RunningSite, title: bytes) -> None:
    before = len(site.events("association:refused"))
    with raw(site) as connection:
        connection.say(titled(title))
        heard = connection.hear()
    assert heard.startswith("rejected 1,"), heard
    assert until(lambda: len(site.events("association:refused")) == before + 1)
    shown = site.command("events").stdout
    assert "\x1b" not in shown and all(line.isprintable() for line in shown.splitlines())


def titled(title: bytes) -> bytes:
    whole = bytearray(encode(asking("CT1")))
    whole[CALLING] = title.ljust(16)
    return bytes(whole)


def test_attack_05_spaces_around_an_ae_title_mean_nothing(site: RunningSite) -> None:
    """PS3.8 9.3.2, PS3.5 6.2: leading and trailing spaces are not significant."""
    with raw(site) as connection:
        connection.say(titled(b"  CT1"))
        assert connection.hear() == "accepted"


# ---- 6, 8: PDUs and commands in pieces, in the wrong place, again and again


def test_attack_06_split_at_every_byte_it_is_the_same(site: RunningSite) -> None:
    said = encode(asking("CT1", uids.VERIFICATION)) + p_data(1, command_set(ECHO_RQ), command=True) + RELEASE
    with raw(site) as connection:
        connection.say(said)
        at_once = [connection.hear() for _ in range(4)]
    assert at_once == ["accepted", "status 0000H", "released", "closed"]
    with raw(site) as connection:
        for at in range(len(said)):
            connection.say(said[at : at + 1])
        assert [connection.hear() for _ in range(4)] == at_once


@pytest.mark.parametrize("length", [0, 1, 5])
def test_attack_06_a_p_data_tf_without_room_for_a_value(site: RunningSite, length: int) -> None:
    with raw(site) as connection:
        assert connection.associate() == "accepted"
        connection.say(pdu(0x04, bytes(length)))
        assert [connection.hear(), connection.hear()] == ["aborted 2,6", "closed"]


def test_attack_06_a_release_in_the_middle_of_a_data_set_keeps_nothing(site: RunningSite) -> None:
    one = image(random.Random(6))
    with raw(site) as connection:
        assert connection.associate() == "accepted"
        connection.say(p_data(1, store_command(one.sop_instance_uid), command=True))
        connection.say(p_data(1, one.data_set[:600], command=False, last=False) + RELEASE)
        assert connection.hear() in ("closed", "aborted 2,2", "aborted 2,0")
    assert not stored(site, one.sop_instance_uid)


def stored(site: RunningSite, sop_instance_uid: str) -> bool:
    return any(sop_instance_uid in row["subject_uids"] for row in site.events("instance:stored"))


def test_attack_08_a_data_set_a_byte_at_a_time(site: RunningSite) -> None:
    """One byte in each P-DATA-TF, two at a time in one segment: costs its sender twelve bytes for one, and is kept as it is."""
    one = image(random.Random(8), pixels=20_000)
    with raw(site) as connection:
        assert connection.associate() == "accepted"
        connection.say(p_data(1, store_command(one.sop_instance_uid), command=True))
        last = len(one.data_set) - 1
        connection.say(b"".join(p_data(1, one.data_set[at : at + 1], command=False, last=at == last) for at in range(last + 1)))  # fmt: skip
        assert connection.hear() == "status 0000H"
    assert stored(site, one.sop_instance_uid)


def test_attack_08_a_message_id_again_and_again(site: RunningSite) -> None:
    """Messages are answered one after the other: an identifier that was used before means nothing."""
    with raw(site) as connection:
        assert connection.associate(uids.VERIFICATION) == "accepted"
        connection.say(p_data(1, command_set(ECHO_RQ), command=True) * 50)
        assert [connection.hear() for _ in range(50)] == ["status 0000H"] * 50


@pytest.mark.parametrize("many", [1, 10_000])
def test_attack_08_cancels_where_nothing_is_left_to_cancel(site: RunningSite, many: int) -> None:
    """A C-CANCEL that met our last answer on its way means nothing and has no answer (PS3.7 9.3.2.3); nor do very many."""
    cancel = command_set({FIELD: 0x0FFF, 0x0120: 1, DATA_SET_TYPE: NO_DATA_SET})
    with raw(site) as connection:
        assert connection.associate(uids.VERIFICATION) == "accepted"
        connection.say(p_data(1, command_set(ECHO_RQ), command=True))
        assert connection.hear() == "status 0000H"
        connection.say(p_data(1, cancel, command=True) * many)
        assert connection.hear_echo() == "status 0000H"


@pytest.mark.parametrize("field", [0x8001, 0x8010, 0x8020, 0x8021, 0x8030, 0x8100, 0x8130])
def test_attack_08_an_answer_to_nothing(site: RunningSite, field: int) -> None:
    answer = {0x0002: CT, FIELD: field, 0x0120: 1, DATA_SET_TYPE: NO_DATA_SET, 0x0900: b"\0\0"}
    with raw(site) as connection:
        assert connection.associate(uids.VERIFICATION) == "accepted"
        connection.say(p_data(1, command_set(answer), command=True))
        assert [connection.hear(), connection.hear()] == ["aborted 2,2", "closed"]
    assert until(lambda: refused(site, "where we asked for nothing", "association:ended"))


COMMANDS: dict[str, bytes] = {
    "an element twice": command_set(ECHO_RQ) + struct.pack("<HHLH", 0, MESSAGE_ID, 2, 9),
    "out of order": struct.pack("<HHLH", 0, DATA_SET_TYPE, 2, NO_DATA_SET) + command_set(ECHO_RQ),
    "of another group": command_set(ECHO_RQ) + struct.pack("<HHL", 8, 0x18, 4) + b"1.2\0",
    "a field of three bytes": command_set({**ECHO_RQ, MESSAGE_ID: b"\1\0\0"}),
    "a data set type of no data set, and one follows": b"",
    "nothing at all": b"",
    "longer than any": command_set({**ECHO_RQ, 0x0902: b"x" * 200_000}),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_attack_08_a_command_set_that_is_none(site: RunningSite, what: str) -> None:
    with raw(site) as connection:
        assert connection.associate(uids.VERIFICATION) == "accepted"
        match what:
            case "a data set type of no data set, and one follows":
                connection.say(p_data(1, command_set(ECHO_RQ), command=True))
                assert connection.hear() == "status 0000H"
                connection.say(p_data(1, b"\x08\0\x16\0UI\4\0" + b"1.2\0", command=False))
            case "nothing at all":
                connection.say(p_data(1, b"", command=True))
            case _:
                connection.say(p_data(1, COMMANDS[what][:60_000], command=True, last=len(COMMANDS[what]) < 60_000))
                for at in range(60_000, len(COMMANDS[what]), 60_000):
                    connection.say(p_data(1, COMMANDS[what][at : at + 60_000], command=True, last=at + 60_000 >= len(COMMANDS[what])))  # fmt: skip
        heard = connection.hear()
    assert heard.startswith("aborted") or heard in ("status 0110H", "status 0211H", "status 0106H"), heard


def test_attack_08_an_association_that_is_never_released_ends(site: RunningSite) -> None:
    with raw(site) as connection:
        assert connection.associate(uids.VERIFICATION) == "accepted"
        begun = time.monotonic()
        assert [connection.hear(), connection.hear()] == ["aborted 2,0", "closed"]
        assert time.monotonic() - begun < HEARD_WITHIN_SECONDS
    assert until(lambda: refused(site, "idle for too long", "association:ended"))


# ---- 7: negotiation


def asked(name: str = "CT1", **more: object) -> AssociateRQ:
    contexts = [RequestedContext(uids.VERIFICATION, (uids.IMPLICIT_VR_LITTLE_ENDIAN,))]
    return request(calling_ae_title=name, called_ae_title="LEADGLASS", contexts=contexts, pdu_length_max_bytes=16_384, **more)  # type: ignore[arg-type] # fmt: skip


USER_IDENTITIES = {
    "a name": UserIdentity(1, True, b"root"),
    "a name without end": UserIdentity(1, True, b"A" * 60_000),
    "a name that is none": UserIdentity(1, True, b"\0\x1b[2J\xff"),
    "name and password": UserIdentity(2, True, b"admin", b"admin"),
    "a ticket": UserIdentity(3, True, b"\x60\x82" + bytes(500)),
    "an assertion": UserIdentity(4, True, b"<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><x>&y;</x>"),
    "a token that is none": UserIdentity(5, True, b"a.b.c"),
    "a token without end": UserIdentity(5, True, b"e" * 60_000),
    "an empty token": UserIdentity(5, False, b""),
    "of no known type": UserIdentity(9, True, b"who"),
}


@pytest.mark.parametrize("what", USER_IDENTITIES)
def test_attack_07_a_user_identity_opens_nothing(site: RunningSite, what: str) -> None:
    """Whoever is said to sit there: the device may what it may, or the association is refused; the site is not searched for a file."""
    with raw(site, "DUMB") as connection:
        heard = connection.associate(rq=dataclasses.replace(asked("DUMB", user_identity=USER_IDENTITIES[what])))
        if heard == "accepted":
            assert connection.hear_echo() == "status 0000H"
        else:
            assert heard.startswith(("rejected", "aborted")), heard
    assert "\x1b" not in site.command("events").stdout


def test_attack_07_extended_negotiation_of_anything(site: RunningSite) -> None:
    junk = tuple(
        ExtendedNegotiation(sop_class, random.Random(7).randbytes(length))
        for sop_class, length in ((CT, 0), (uids.STUDY_ROOT_FIND, 3_000), ("1.2.3", 10), (uids.VERIFICATION, 1))
    )
    rq = asked()
    information = dataclasses.replace(rq.user_information, extended_negotiations=junk)
    with raw(site) as connection:
        assert connection.associate(rq=dataclasses.replace(rq, user_information=information)) == "accepted"
        assert connection.hear_echo() == "status 0000H"


def test_attack_07_ten_thousand_transfer_syntaxes(site: RunningSite) -> None:
    """What does not fit into the longest request is refused at its header; what fits is answered context by context."""
    many = tuple(f"1.2.840.1.{number}" for number in range(10_000))
    rq = request(calling_ae_title="CT1", called_ae_title="LEADGLASS", contexts=[RequestedContext(CT, many[:1_000])], pdu_length_max_bytes=16_384)  # fmt: skip
    with raw(site) as connection:
        assert connection.associate(rq=rq).startswith(("accepted", "rejected", "aborted"))
    for number in range(4):  # of the greatest length each, and all of it is the same item
        one = b"\x40\0" + struct.pack(">H", len(many[0])) + many[0].encode()
        body = bytearray(encode(asking("CT1"))[6:])
        at = body.index(b"\x20\0", 68)
        grown = body[: at + 8] + body[at + 8 : at + 4 + struct.unpack_from(">H", body, at + 2)[0]] + one * 3_000
        struct.pack_into(">H", grown, at + 2, min(len(grown) - at - 4, 0xFFFF))
        with raw(site) as connection:
            connection.say(pdu(0x01, bytes(grown)))
            assert connection.hear().startswith(("rejected", "aborted")), number


@pytest.mark.parametrize("identifier", [0, 2, 254])
def test_attack_07_a_presentation_context_with_an_even_identifier(site: RunningSite, identifier: int) -> None:
    whole = bytearray(encode(asking("CT1")))
    whole[whole.index(b"\x20\0", 74) + 4] = identifier
    with raw(site) as connection:
        connection.say(bytes(whole))
        assert connection.hear().startswith(("rejected", "aborted"))


# ---- 9: guessing


def test_attack_09_guessed_titles_all_sound_alike_and_lock_nobody_out(site: RunningSite) -> None:
    """With somebody's certificate every title but its own is refused in the same words, whether or not such a device exists."""
    guesses = ["CT2", "WS1", "DUMB", "LEADGLASS", "ANY-SCP", "ORTHANC", *(f"PACS{number}" for number in range(30))]
    heard = set()
    for name in guesses:
        with raw(site) as connection:
            heard.add(connection.associate(rq=asking(name)))
    called = dataclasses.replace(asking("CT1"), called_ae_title="ELSEWHERE")
    with raw(site) as connection:
        heard.add(connection.associate(rq=called))
    assert heard == {"rejected 1,1,1"}
    with associated(who(site, "CT1"), archive(site), echoing()) as session:
        assert session.echo().status == 0, "whose certificate it is may still come in"
