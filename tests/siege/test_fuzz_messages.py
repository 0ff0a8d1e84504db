"""Conversations by chance with the shipped program: sound messages in any order, broken ones among them, answers to what was never asked.

What PDUs and data sets hide is tried without a socket in test_fuzz_pdus.py and test_fuzz_datasets.py; here it is what comes after what. Whatever is said, whoever behaves is served
afterwards by the same processes, every association's end has a reason that is the peer's doing, and no defect of ours is in the log.
"""

from __future__ import annotations

import random
import ssl
import struct
from collections import Counter
from collections.abc import Iterator

import pytest

from leadglass.lab.corpus import Image
from leadglass.lab.peers import PUSH_INSTANCE, Archive, Identity, associated, commitment, identifier, storing
from leadglass.wire import tags, uids
from leadglass.wire.negotiation import RequestedContext, request
from leadglass.wire.pdu import PDU_HEADER, encode
from leadglass.wire.user_information import RoleSelection
from tests.running import RunningSite, running, until
from tests.siege.campaign import Campaign
from tests.siege.mutate import blunt
from tests.siege.raw import (
    CT,
    DATA_SET_TYPE,
    FIELD,
    MESSAGE_ID,
    NO_DATA_SET,
    WITH_DATA_SET,
    command_set,
    p_data,
    pdu,
    tls,
)
from tests.synthetic import image

pytestmark = pytest.mark.xdist_group("fuzzed-messages")
ASSOCIATIONS_A_SEED, MESSAGES_MAX = 20, 25
QUIET_SECONDS = 0.1  # what has not come by then is not waited for
EXPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN
CONTEXTS = (uids.VERIFICATION, CT, uids.STUDY_ROOT_FIND, uids.PATIENT_ROOT_FIND, uids.STUDY_ROOT_GET, uids.STUDY_ROOT_MOVE, uids.STORAGE_COMMITMENT_PUSH)  # fmt: skip
FIELDS = (0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150, 0x0FFF, 0x8001, 0x8010, 0x8020, 0x8021, 0x8030, 0x8100, 0x8130, 0x0777)  # fmt: skip
SOUND: dict[int, bytes | int | str] = {
    0x0002: CT,
    0x0120: 1,
    0x0900: 0,
    0x1000: "1.2",
    0x0600: "GOOD",
    0x1002: 1,
    0x1008: 1,
}
LIMITS = "\n[limits]\nstall_seconds = 5\nidle_seconds = 5\nassociations_per_address_max = 100\n"
NOBODYS_DOING = "we failed: "


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("messages"), LIMITS) as site:
        site.up()
        site.enroll("CT1", "echo,store,commit,find,get,move")
        site.enroll("GOOD", "echo,store")
        yield site
        print(site.log())


@pytest.fixture(scope="module")
def kept(site: RunningSite) -> list[Image]:
    """Three studies of four images."""
    rng = random.Random(4)
    made = [image(rng, study=f"2.25.{100 + number % 3}", pixels=40_000) for number in range(12)]
    with associated(good(site), Archive("127.0.0.1", site.port), storing(made)) as session:
        assert {session.store(each).status for each in made} == {0}
    return made


def good(site: RunningSite) -> Identity:
    return Identity("GOOD", "127.0.0.1", site.bundles["GOOD"].directory)


class Babbler:
    """One association with every context accepted, and whatever comes into its head."""

    def __init__(self, site: RunningSite, rng: random.Random, kept: list[Image]) -> None:
        self._rng, self._kept = rng, kept
        self._sock = tls(site, site.bundles["CT1"], f"127.{rng.randint(20, 120)}.0.{rng.randint(1, 250)}")
        self._sock.settimeout(QUIET_SECONDS)
        self.heard: Counter[str] = Counter()
        self._bytes = b""
        self._waiting: list[
            tuple[int, dict[int, int]]
        ] = []  # requests of the archive that were not answered: context and command
        wanted = [RequestedContext(each, (EXPLICIT,)) for each in CONTEXTS]
        rq = request(calling_ae_title="CT1", called_ae_title="LEADGLASS", contexts=wanted, pdu_length_max_bytes=65_536)
        both = (RoleSelection(CT, True, True),)
        information = rq.user_information.__class__(
            **{name: getattr(rq.user_information, name) for name in rq.user_information.__slots__}
            | {"role_selections": both}
        )
        self._say(
            encode(
                rq.__class__(**{name: getattr(rq, name) for name in rq.__slots__} | {"user_information": information})
            )
        )
        self.listen()

    def babble(self) -> None:
        rng = self._rng
        for _ in range(rng.randint(1, MESSAGES_MAX)):
            match rng.randint(0, 19):
                case 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7:
                    self._request()
                case 8 | 9 | 10 | 11 | 12:
                    self._answer()
                case 13 | 14:
                    self._say(
                        p_data(
                            5,
                            command_set({FIELD: 0x0FFF, 0x0120: rng.randint(0, 4), DATA_SET_TYPE: NO_DATA_SET}),
                            command=True,
                        )
                    )
                case 15:
                    self._nonsense()
                case _:
                    self.listen()
            if rng.random() < 0.6:
                self.listen()
            if self.heard["the end"]:
                return
        ending = rng.randint(0, 3)
        if ending == 0:
            self._say(pdu(0x05, bytes(4)))
            self.listen()
        elif ending == 1:
            self._say(pdu(0x07, bytes(4)))

    def close(self) -> None:
        self._sock.close()

    def listen(self) -> None:
        """Whatever comes until it is quiet."""
        while not self.heard["the end"]:
            try:
                piece = self._sock.recv(1 << 16)
            except TimeoutError:
                return
            except (OSError, ssl.SSLError):
                piece = b""
            if not piece:
                self.heard["the end"] += 1
                return
            self._bytes += piece
            self._read()

    # ---- what it says

    def _request(self) -> None:
        rng, one = self._rng, self._rng.choice(self._kept)
        number = rng.randint(1, 4)
        base: dict[int, bytes | int | str] = {MESSAGE_ID: number, 0x0700: 0, DATA_SET_TYPE: WITH_DATA_SET}
        keys = {tags.STUDY_INSTANCE_UID: rng.choice(["", "*", one.study_instance_uid]), tags.PATIENT_ID: ""}
        match rng.randint(0, 5):
            case 0:
                made = image(rng, pixels=rng.choice((10, 3_000, 200_000)))
                context, data = 3, made.data_set
                base |= {0x0002: CT, FIELD: 0x0001, 0x1000: made.sop_instance_uid}
            case 1:
                context, data = rng.choice(((5, b""), (7, b"")))
                base |= {0x0002: CONTEXTS[context // 2], FIELD: 0x0020}
                data = identifier(rng.choice(["STUDY", "PATIENT", "SERIES", "IMAGE"]), keys, EXPLICIT)
            case 2:
                context, data = 9, identifier("STUDY", {tags.STUDY_INSTANCE_UID: one.study_instance_uid}, EXPLICIT)
                base |= {0x0002: uids.STUDY_ROOT_GET, FIELD: 0x0010}
            case 3:
                context, data = 11, identifier("STUDY", {tags.STUDY_INSTANCE_UID: one.study_instance_uid}, EXPLICIT)
                base |= {0x0002: uids.STUDY_ROOT_MOVE, FIELD: 0x0021, 0x0600: rng.choice(["GOOD", "CT1", "NOBODY", ""])}
            case 4:
                context, data = 13, commitment("2.25.9", [(one.sop_class_uid, one.sop_instance_uid)], EXPLICIT)
                base |= {0x0003: uids.STORAGE_COMMITMENT_PUSH, 0x1001: PUSH_INSTANCE, 0x1008: 1, FIELD: 0x0130}
            case _:
                context, data = 1, b""
                base |= {0x0002: uids.VERIFICATION, FIELD: 0x0030, DATA_SET_TYPE: NO_DATA_SET}
        command = command_set(base)
        if rng.random() < 0.04:
            command = blunt(rng, command)
        if data and rng.random() < 0.15:
            data = blunt(rng, data)
        if rng.random() < 0.04:
            context = rng.choice((1, 3, 5, 7, 9, 11, 13, 15))
        self._message(context, command, data)

    def _message(self, context: int, command: bytes, data: bytes) -> None:
        rng, said = self._rng, [p_data(context, command, command=True)] if command else []
        size = rng.choice((60_000, 60_000, 4_000))
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        said += [
            p_data(context, each, command=False, last=number == len(pieces))
            for number, each in enumerate(pieces, start=1)
        ]
        if rng.random() < 0.02 and said:
            said.pop(rng.randrange(len(said)))
        if rng.random() < 0.03:
            said.insert(
                rng.randint(0, len(said)),
                p_data(
                    1,
                    command_set({FIELD: 0x0030, 0x0002: uids.VERIFICATION, MESSAGE_ID: 9, DATA_SET_TYPE: NO_DATA_SET}),
                    command=True,
                ),
            )
        self._say(b"".join(said))

    def _answer(self) -> None:
        """To something that the archive asked, or to nothing."""
        rng = self._rng
        if not self._waiting and rng.random() < 0.9:
            self.listen()
            return
        if self._waiting and rng.random() < 0.97:
            context, asked = self._waiting.pop(0)
            field, number = asked[FIELD] | 0x8000, asked.get(MESSAGE_ID, 1)
        else:
            context, field, number = rng.choice((1, 3, 9, 13)), rng.choice(FIELDS[-7:-1]), rng.randint(0, 3)
        status = rng.choice((0, 0, 0, 0xA700, 0xB000, 0x0110, 0xFE00, 0xFF00, 0x7777))
        answer = {0x0002: CT, FIELD: field, 0x0120: number, DATA_SET_TYPE: NO_DATA_SET, 0x0900: status, 0x1000: "1.2.3"}
        self._say(p_data(context, command_set(answer), command=True))

    def _nonsense(self) -> None:
        rng = self._rng
        some = {each: SOUND[each] for each in SOUND if rng.random() < 0.5}
        elements = {**some, FIELD: rng.choice(FIELDS), MESSAGE_ID: rng.randint(0, 9)}
        elements[DATA_SET_TYPE] = rng.choice((NO_DATA_SET, NO_DATA_SET, WITH_DATA_SET))
        data = rng.randbytes(rng.randint(0, 300)) if elements[DATA_SET_TYPE] == WITH_DATA_SET else b""
        self._message(rng.choice((1, 3, 5, 9, 13)), command_set(elements), data)

    def _say(self, data: bytes) -> None:
        self._sock.settimeout(10)
        try:
            self._sock.sendall(data)
        except (OSError, ssl.SSLError):
            self.heard["the end"] += 1
        self._sock.settimeout(QUIET_SECONDS)

    # ---- what it hears

    def _read(self) -> None:
        while len(self._bytes) >= PDU_HEADER.size:
            kind, length = PDU_HEADER.unpack_from(self._bytes)
            end = PDU_HEADER.size + length
            if len(self._bytes) < end:
                return
            body, self._bytes = self._bytes[PDU_HEADER.size : end], self._bytes[end:]
            if kind == 0x04:
                self._values(body)
            else:
                self.heard[f"PDU {kind:02X}H"] += 1

    def _values(self, body: bytes) -> None:
        while body:
            length, context, control = struct.unpack_from(">LBB", body)
            value, body = body[6 : 4 + length], body[4 + length :]
            if not control & 1:
                continue
            command = _numbers(value)
            field = command[FIELD]
            self.heard[f"{field:04X}H"] += 1
            if not field & 0x8000:
                self._waiting.append((context, command))


def _numbers(value: bytes) -> dict[int, int]:
    """The elements of two bytes of a command set."""
    found, at = {}, 0
    while at + 8 <= len(value):
        _, element, length = struct.unpack_from("<HHL", value, at)
        if length == 2:
            found[element] = struct.unpack_from("<H", value, at + 8)[0]
        at += 8 + length
    return found


def test_whatever_is_said_after_whatever(site: RunningSite, kept: list[Image], campaign: Campaign) -> None:
    assert site.process is not None
    before, heard = site.children(site.process.pid), Counter[str]()
    for seed in campaign.seeds("messages", quick=2):
        rng = random.Random(seed)
        for _ in range(ASSOCIATIONS_A_SEED):
            babbler = Babbler(site, rng, kept)
            babbler.babble()
            babbler.close()
            heard += babbler.heard
        one = image(rng)
        with associated(good(site), Archive("127.0.0.1", site.port), storing([one])) as session:
            assert session.store(one).status == 0, seed
        assert site.children(site.process.pid) == before, f"a process died at seed {seed}"
        assert "met a defect" not in site.log(), seed
        print(seed, campaign.done("messages", seed, associations=ASSOCIATIONS_A_SEED))
    print(dict(heard))
    assert all(
        heard[each]
        for each in ("PDU 02H", "PDU 07H", "8001H", "8020H", "8010H", "8021H", "8030H", "8130H", "0100H", "0001H")
    ), heard
    assert until(lambda: not site.rows("status")[0]["open_associations"], 30)
    reasons = [row.get("reason", "") for row in site.events("association:ended")]
    assert not [each for each in reasons if NOBODYS_DOING in each]
