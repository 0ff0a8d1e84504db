"""Attack 12 from the other side: whoever a C-MOVE goes to is hostile, over its own certificate. Numbers as in docs/attacks.md."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import threading
from collections.abc import Iterator

import pytest

from leadglass.lab.corpus import Image
from leadglass.lab.peers import associated, echoing, querying, storing
from leadglass.wire import tags, uids
from leadglass.wire.limits import AssociationLimits
from leadglass.wire.negotiation import Supported, accept
from leadglass.wire.pdu import AssociateRQ, PduType, decode, encode
from tests.running import RunningSite, free_port, running
from tests.siege.parties import archive, who
from tests.siege.raw import CT, DATA_SET_TYPE, FIELD, MESSAGE_ID, NO_DATA_SET, command_set, p_data, pdu
from tests.synthetic import image

pytestmark = pytest.mark.xdist_group("attacks_by_destinations")  # one site, one address
SINK_PORT = free_port()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("destinations")) as site:
        site.up()
        site.enroll("CT1", "echo,store")
        site.enroll("WS1", "echo,find,move")
        site.enroll("SINK", "echo", "--address", f"127.0.0.1:{SINK_PORT}")
        yield site
        print(site.log())


class Hostile(threading.Thread):
    """A device that answers at its address, over its own certificate, with whatever it was given; the first answers are sound."""

    def __init__(self, site: RunningSite, sound: int, says: bytes, *, accepts: bool = True) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", SINK_PORT))
        self._context = site.bundles["SINK"].server_context()
        self._sound, self._says, self._accepts = sound, says, accepts
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError), self._listener:
            sock, _ = self._listener.accept()
            with self._context.wrap_socket(sock, server_side=True) as tls:
                tls.settimeout(20)
                rq = decode(PduType.ASSOCIATE_RQ, self._pdu(tls), AssociationLimits())
                assert isinstance(rq, AssociateRQ)
                if self._accepts:
                    tls.sendall(encode(accept(rq, lambda _: Supported((uids.EXPLICIT_VR_LITTLE_ENDIAN,), True, True), pdu_length_max_bytes=16_384)))  # fmt: skip
                for number in range(self._sound):
                    self._message(tls)
                    answer = {
                        0x0002: CT,
                        FIELD: 0x8001,
                        0x0120: number + 1,
                        DATA_SET_TYPE: NO_DATA_SET,
                        0x0900: 0,
                        0x1000: "1.2",
                    }
                    tls.sendall(p_data(1, command_set(answer), command=True))
                if self._accepts:
                    self._message(tls)
                tls.sendall(self._says)
                while tls.recv(65_536):
                    continue

    def _message(self, tls: ssl.SSLSocket) -> None:
        """Past the end of a data set."""
        while True:
            body = self._pdu(tls)
            if not body[5] & 1 and body[5] & 2:
                return

    def _pdu(self, tls: ssl.SSLSocket) -> bytes:
        head = self._exactly(tls, 6)
        return self._exactly(tls, struct.unpack(">xxL", head)[0])

    @staticmethod
    def _exactly(tls: ssl.SSLSocket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = tls.recv(count - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data


def answering(field: int, message: int = 1) -> bytes:
    elements = {
        0x0002: CT,
        FIELD: field,
        0x0120: message,
        MESSAGE_ID: 1,
        DATA_SET_TYPE: NO_DATA_SET,
        0x0900: 0,
        0x1000: "1.2",
    }
    return p_data(1, command_set(elements), command=True)


HOSTILE: dict[str, bytes] = {
    "closes": b"",
    "aborts": pdu(0x07, bytes(4)),
    "releases": pdu(0x05, bytes(4)),
    "asks for another association": pdu(0x01, bytes(80)),
    "says nothing that there is": pdu(0x99, b"?"),
    "a PDU of 4 GiB": pdu(0x04, b"", 0xFFFFFFFE),
    "another answer": answering(0x8020),
    "the answer to another message": answering(0x8001, message=99),
    "a command that nobody knows": answering(0x0777),
    "a request": answering(0x0030),
    "a cancel": answering(0x0FFF),
    "an answer without a status": p_data(1, command_set({0x0002: CT, FIELD: 0x8001, 0x0120: 1, DATA_SET_TYPE: NO_DATA_SET}), command=True),
    "a command set that is none": p_data(1, b"\xff" * 50, command=True),
    "in another context": p_data(77, b"x", command=True),
    "data without a command": p_data(1, b"x", command=False),
}  # fmt: skip


@pytest.fixture(scope="module")
def several(site: RunningSite) -> list[Image]:
    """One study of five."""
    rng = random.Random(12)
    made = [image(rng, study="2.25.1212", patient="SYN_MANY") for _ in range(5)]
    with associated(who(site, "CT1"), archive(site), storing(made)) as session:
        assert {session.store(each).status for each in made} == {0}
    return made


@pytest.mark.parametrize("sound", [0, 2])
@pytest.mark.parametrize("what", HOSTILE)
def test_attack_12_a_destination_that_breaks_the_protocol_harms_nobody_else(
    site: RunningSite, several: list[Image], what: str, sound: int
) -> None:
    """Whoever asked for the move hears how much came, and why it ended is the destination's doing, by name."""
    Hostile(site, sound, HOSTILE[what])
    with associated(who(site, "WS1"), archive(site), [*querying(), *echoing()]) as session:
        answer = session.move("STUDY", {tags.STUDY_INSTANCE_UID: several[0].study_instance_uid}, "SINK")
        assert session.echo().status == 0, "the association of whoever asked goes on"
    assert (answer.completed, answer.failed) == (sound, len(several) - sound), answer
    assert answer.status == (0xB000 if sound else 0xA702)
    told = [
        row
        for row in site.events()
        if row["kind"] in ("release:ended", "request:refused") and row.get("action") == "move"
    ]
    assert told[-1]["outcome"] != "success" and "SINK" in told[-1]["reason"], told[-1]
    assert "met a defect" not in site.log()
