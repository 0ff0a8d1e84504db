"""Mutants of what real clients said, PDU by PDU: typed errors only, the same however the bytes are cut, and what reads is written and read again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import pytest

import leadglass.wire.association as machine
from leadglass.wire.association import Role
from leadglass.wire.dimse import Command, decode_command, encode_command
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.limits import AssociationLimits
from leadglass.wire.pdu import AssociateRQ, Pdu, PduType, decode, encode
from tests.siege.campaign import Campaign
from tests.siege.door import Door, Heard
from tests.siege.mutate import mutated_pdu
from tests.siege.recordings import Conversation, pdus, record

pytestmark = pytest.mark.xdist_group("fuzzed-pdus")  # one recording is enough
MUTANTS_A_SEED = 5_000
PAST_HEADER_MIN = 0.30
BYTE_BY_BYTE_MAX_BYTES = 800
TAKEN_AT_ONCE_MAX_BYTES = 3_000
LONG_REQUEST_BYTES = 2_000  # such a request is mutated itself, and seldom read only to come to what follows it
# Reads split a command set too, and this compares reads of one byte: their number is not what is asked here.
LIMITS = AssociationLimits(command_fragments_max=1 << 20)
WHOLE = LIMITS.receive_buffer_bytes // 2


@dataclass(frozen=True, slots=True)
class Side:
    """What one side of a conversation said, PDU by PDU, and who we are to it. `rq`: what we asked, where we are the requestor."""

    client: str
    role: Role
    said: tuple[bytes, ...]
    rq: AssociateRQ | None


def sides(conversations: tuple[Conversation, ...]) -> Iterator[Side]:
    for each in conversations:
        asked = pdus(each.requestor)
        yield Side(each.client, Role.ACCEPTOR, tuple(asked), None)
        if each.acceptor:
            rq = decode(PduType.ASSOCIATE_RQ, asked[0][6:], LIMITS)
            assert isinstance(rq, AssociateRQ)
            yield Side(each.client, Role.REQUESTOR, tuple(pdus(each.acceptor)), rq)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Side, ...]:
    return tuple(sides(record(tmp_path_factory.mktemp("recorded"))))


class Targets:
    """Which PDU is mutated next? Each kind has its share, whatever the recordings have most of."""

    SHARES = ((1, 20), (2, 14), (4, 56), (5, 4), (6, 3), (7, 3))

    def __init__(self, recorded: tuple[Side, ...]) -> None:
        self.pool = [pdu for side in recorded for pdu in side.said if len(pdu) < LONG_REQUEST_BYTES]
        self._by_kind: dict[int, list[tuple[Side, int]]] = {}
        for side in recorded:
            for index, pdu in enumerate(side.said):
                if len(pdu if not index else side.said[0]) < LONG_REQUEST_BYTES or not index:
                    self._by_kind.setdefault(pdu[0], []).append((side, index))
        self._kinds = [kind for kind, _ in self.SHARES if kind in self._by_kind]
        self._weights = [share for kind, share in self.SHARES if kind in self._by_kind]

    def pick(self, rng: random.Random) -> tuple[Side, int]:
        while True:
            (kind,) = rng.choices(self._kinds, self._weights)
            side, index = rng.choice(self._by_kind[kind])
            if len(side.said[index]) < LONG_REQUEST_BYTES or rng.random() < 0.2:
                return side, index


@dataclass(frozen=True, slots=True)
class Mutant:
    side: Side
    before: bytes
    pdu: bytes
    after: bytes
    script: dict[int, str]


def mutants(targets: Targets, rng: random.Random, count: int) -> Iterator[Mutant]:
    for _ in range(count):
        side, index = targets.pick(rng)
        pdu = mutated_pdu(rng, side.said[index], targets.pool)
        before, after = b"".join(side.said[:index]), b"".join(side.said[index + 1 : index + 4])
        yield Mutant(side, before, pdu, after, script(rng, side, index, len(before), len(pdu)))


def script(rng: random.Random, side: Side, index: int, before: int, length: int) -> dict[int, str]:
    """Our user: releases where the conversation did, now and then at another time, now and then aborts."""
    acts: dict[int, str] = {}
    if side.role is Role.REQUESTOR and side.said[-1][0] == PduType.RELEASE_RP:
        if index == len(side.said) - 1:
            acts[before] = "release"
        elif len(side.said) - index <= 4:
            acts[before + length + sum(map(len, side.said[index + 1 : -1]))] = "release"
    if rng.random() < 0.06:
        acts[rng.choice((before, before + length // 2, before + length))] = rng.choice(("release", "release", "abort"))
    return acts


class Entrances:
    """Counts how often the association went behind a header, and writes and reads again what it read."""

    def __init__(self) -> None:
        self.entered = 0
        self.armed = False

    def decode(self, kind: PduType, body: bytes, limits: AssociationLimits) -> Pdu:
        self.entered += 1
        pdu = decode(kind, body, limits)
        if self.armed:
            written = encode(pdu)
            assert written[0] == kind and len(written) == 6 + int.from_bytes(written[2:6], "big")
            assert decode(kind, written[6:], limits) == pdu
        return pdu

    def read_pdv_header(self, data: bytearray, offset: int, left: int) -> tuple[int, int, int]:
        header = machine_read_pdv_header(data, offset, left)
        self.entered += 1
        return header


machine_read_pdv_header = machine.read_pdv_header


@pytest.fixture
def entrances(monkeypatch: pytest.MonkeyPatch) -> Entrances:
    entrances = Entrances()
    monkeypatch.setattr(machine, "decode", entrances.decode)
    monkeypatch.setattr(machine, "read_pdv_header", entrances.read_pdv_header)
    return entrances


def pieces(rng: random.Random, total: int) -> Iterator[int]:
    """Sizes of reads: every byte alone where there are few, else anything."""
    if total <= BYTE_BY_BYTE_MAX_BYTES and rng.random() < 0.3:
        return repeat(1)
    longest = max(8, total // rng.choice((2, 3, 8, 20)))
    return iter(lambda: rng.randint(1, longest), 0)


def at_once(mutant: Mutant) -> Heard:
    door = Door(mutant.side.role, LIMITS, mutant.side.rq, mutant.script)
    door.feed(mutant.before + mutant.pdu + mutant.after, repeat(WHOLE))
    return door.close()


def in_pieces(mutant: Mutant, rng: random.Random, entrances: Entrances) -> tuple[Heard, bool]:
    """And whether the mutated PDU was entered."""
    taken = repeat(0) if rng.random() < 0.5 else iter(lambda: rng.randint(1, TAKEN_AT_ONCE_MAX_BYTES), 0)
    door = Door(mutant.side.role, LIMITS, mutant.side.rq, mutant.script, taken)
    sizes = pieces(rng, len(mutant.pdu))
    door.feed(mutant.before, repeat(WHOLE))
    entrances.entered, entrances.armed = 0, True
    door.feed(mutant.pdu, sizes)
    entered, entrances.armed = entrances.entered > 0, False
    door.feed(mutant.after, sizes if len(mutant.after) < BYTE_BY_BYTE_MAX_BYTES else pieces(rng, len(mutant.after)))
    return door.close(), entered


def read_alone(pdu: bytes) -> bool:
    """A PDU that reads is written and read again as what it was; True where it reads. P-DATA-TF too, which an association never holds."""
    try:
        kind = PduType(pdu[0])
        read = decode(kind, pdu[6:], LIMITS)
    except (ValueError, IndexError):
        return False
    except RemoteProtocolError:
        return False
    assert decode(kind, encode(read)[6:], LIMITS) == read
    return True


def check(mutant: Mutant, rng: random.Random, entrances: Entrances, counts: Counter[str]) -> None:
    whole = at_once(mutant)
    cut, entered = in_pieces(mutant, rng, entrances)
    assert whole == cut
    for one in whole.messages:
        if isinstance(one, tuple) and isinstance(one[1], Command):
            written = encode_command(one[1])
            assert encode_command(decode_command(written)) == written
    counts["mutants"] += 1
    counts["past_header"] += entered
    counts["refused"] += bool(whole.refused)
    counts["commands"] += whole.commands
    counts["read_whole"] += read_alone(mutant.pdu)


def test_recordings_hold_every_client_and_every_kind_of_pdu(recorded: tuple[Side, ...]) -> None:
    clients = {side.client for side in recorded}
    assert {"echoscu", "storescu", "findscu", "getscu", "movescu", "storescp", "pynetdicom", "Orthanc"} <= clients
    assert {pdu[0] for side in recorded for pdu in side.said} >= set(PduType) - {PduType.ASSOCIATE_RJ}


def test_what_clients_said_unchanged_is_heard_without_a_refusal(
    recorded: tuple[Side, ...], entrances: Entrances
) -> None:
    """The recordings are what they should be, and the door of this test speaks as the site did."""
    rng, entrances.armed = random.Random(0), True
    for side in recorded:
        mutant = Mutant(
            side, b"", b"".join(side.said), b"", script(rng, side, len(side.said) - 1, len(b"".join(side.said[:-1])), 0)
        )
        heard = at_once(mutant)
        assert not heard.refused, (side.client, heard.refused)
        assert all(map(read_alone, side.said))


def test_mutated_pdus(recorded: tuple[Side, ...], entrances: Entrances, campaign: Campaign) -> None:
    targets = Targets(recorded)
    for seed in campaign.seeds("pdus", quick=2):
        rng, counts = random.Random(seed), Counter[str]()
        for number, mutant in enumerate(mutants(targets, rng, MUTANTS_A_SEED)):
            try:
                check(mutant, rng, entrances, counts)
            except BaseException:
                print(f"seed {seed}, mutant {number}: {mutant.side.client}, {mutant.side.role}, {mutant.script}")
                print(f"{mutant.before[-200:].hex()} | {mutant.pdu[:4000].hex()} | {mutant.after[:200].hex()}")
                raise
        assert counts["past_header"] >= PAST_HEADER_MIN * counts["mutants"], counts
        print(f"seed {seed}: {dict(counts)}; so far: {dict(campaign.done('pdus', seed, **counts))}")
