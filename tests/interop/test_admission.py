"""What is said when somebody comes in: extended negotiation is answered, and where nobody knows any more who is contained only stores are let in."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import ssl
import time
from collections.abc import Iterator

import pytest
from pydicom.uid import CTImageStorage
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from leadglass.lab.peers import Archive, Identity, TurnedAway, associated, querying, storing
from leadglass.policy import containment
from tests.interop.test_pacs import Client
from tests.running import RunningSite, running, until
from tests.synthetic import image

FIRST_BYTE_OF_TLS = b"\x16"
CLOSING = (b"", b"\x15")  # the end of the stream, or an alert


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("admission")) as site:
        site.up()
        site.enroll("CT1", "echo,store")
        site.enroll("WS1", "echo,find")
        site.enroll("GONE", "echo,store")
        yield site
        print(site.log())


def asking(uid: str, information: bytes) -> SOPClassExtendedNegotiation:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = uid, information
    return item


def test_extended_negotiation_is_answered(site: RunningSite) -> None:
    """PS3.4 C.5.1.1.1: every option of a query is declined; B.3.1: everything is kept, bit for bit, and nothing coerced."""
    find = asking(StudyRootQueryRetrieveInformationModelFind, b"\1\1\1")
    with Client(site, "WS1", StudyRootQueryRetrieveInformationModelFind, Verification, ext_neg=[find]) as client:
        answered = client.association.acceptor.sop_class_extended
        assert answered == {StudyRootQueryRetrieveInformationModelFind: b"\0\0\0"}
    store = [asking(CTImageStorage, b"\3\0\0\0\2\0"), asking(Verification, b"\1")]
    with Client(site, "CT1", CTImageStorage, Verification, ext_neg=store) as client:
        assert client.association.acceptor.sop_class_extended == {CTImageStorage: b"\2\0\3\0\0\0"}


@pytest.mark.parametrize("door", ["dimse", "web"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_resumed(site: RunningSite, door: str, version: ssl.TLSVersion) -> None:
    """Whoever comes again is verified again; a client that offers its last session gets a new one."""
    port = json.loads((site.directory / "state" / "ports.json").read_text())["web"] if door == "web" else site.port
    context, session = site.bundles["WS1"].client_context(), None
    context.minimum_version = context.maximum_version = version
    for _ in range(12):  # more than there are workers
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            with context.wrap_socket(sock, server_hostname="localhost", session=session) as tls:
                assert tls.version() and not tls.session_reused
                session = tls.session
                with contextlib.suppress(OSError):
                    tls.unwrap()  # a session that was not ended well is not offered again


@pytest.mark.parametrize("door", ["dimse", "web"])
def test_a_session_begun_meanwhile_is_not_resumed_either(site: RunningSite, door: str) -> None:
    """Who says the first byte of a handshake, waits for somebody else's to end and then offers that session: turned away, with an event."""
    port = json.loads((site.directory / "state" / "ports.json").read_text())["web"] if door == "web" else site.port
    context = site.bundles["WS1"].client_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with contextlib.ExitStack() as stack:
        early = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(6)]
        for each in early:  # with every worker there is one
            each.sendall(FIRST_BYTE_OF_TLS)
        time.sleep(0.5)  # for the door to give each its context
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            with context.wrap_socket(sock, server_hostname="localhost") as tls:
                taken_up = [each for each in early if resumes(each, context, tls.session)]
                assert taken_up, "no two met in one worker"
        for each in taken_up:
            assert each.recv(1 << 14)[:1] in CLOSING, "nothing is said to it"
    kind = "person:refused" if door == "web" else "association:refused"
    assert until(lambda: any("resumed a TLS session" in each["reason"] for each in site.events(kind)))


def resumes(sock: socket.socket, context: ssl.SSLContext, session: ssl.SSLSession | None) -> bool:
    """Ends the handshake that its first byte began; whether the session was taken up."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost", session=session)
    said = 0
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read()[0 if said else len(FIRST_BYTE_OF_TLS) :])
            said += 1
            incoming.write(sock.recv(1 << 14))
        else:
            sock.sendall(outgoing.read())
            return bool(tls.session_reused)


def test_an_unreadable_containment_state_lets_in_what_stores_and_nothing_else(site: RunningSite) -> None:
    site.command("device", "revoke", "GONE", "--reason", "stolen")
    image_of_now, state = image(random.Random(1)), site.directory / containment.STATE_FILE
    reading, writing = (identity(site, name) for name in ("WS1", "CT1"))
    archive = Archive("127.0.0.1", site.port)
    kept = state.read_bytes()
    try:
        with associated(reading, archive, querying()) as session:
            state.write_text("{")
            assert until(lambda: not may(reading, archive)), "nobody new reads"
            assert session.find("STUDY", {0x0020000D: ""})[0].status == 0, "whoever reads goes on"
        site.down()
        site.up()  # a process that starts now knows the last state too
        assert not may(reading, archive)
        with associated(writing, archive, storing([image_of_now])) as sender:
            assert sender.store(image_of_now).status == 0
        with pytest.raises(TurnedAway), associated(identity(site, "GONE"), archive, storing([image_of_now])):
            pass
        assert until(lambda: bool(site.events("containment:unreadable")))
        assert any("cannot be read" in each for each in site.rows("status")[0]["amber"])
    finally:
        state.write_bytes(kept)
    assert until(lambda: may(reading, archive))


def identity(site: RunningSite, name: str) -> Identity:
    return Identity(name, "127.0.0.1", site.bundles[name].directory)


def may(who: Identity, archive: Archive) -> bool:
    try:
        with associated(who, archive, querying()):
            return True
    except TurnedAway:
        return False
