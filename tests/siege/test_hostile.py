"""T26 and the attacks on DIMSE: whatever is said, the answer is in the protocol's own words, an event names it, and whoever behaves is served."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from leadglass.lab.peers import associated, echoing, storing
from leadglass.wire import uids
from leadglass.wire.elements import DataSet, parse
from leadglass.wire.elements import encode as encode_data_set
from leadglass.wire.negotiation import RequestedContext, request
from leadglass.wire.pdu import AssociateRQ, encode
from tests.running import RunningSite, running, until
from tests.siege.parties import archive, same_processes, who
from tests.siege.raw import (
    CT,
    DATA_SET_TYPE,
    FIELD,
    MESSAGE_ID,
    NO_DATA_SET,
    asking,
    command_set,
    p_data,
    pdu,
    raw,
    store_command,
)
from tests.synthetic import image, uid

GIB4 = 0xFFFF_FFFE
LIMITS = """
[limits]
handshake_seconds = 3
artim_seconds = 3
stall_seconds = 3
instance_length_max_bytes = 8388608
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("hostile"), LIMITS) as site:
        site.up()
        site.enroll("CT1", "echo,store,find")
        site.enroll("GOOD", "echo,store")
        yield site
        print(site.log())


@pytest.fixture(autouse=True)
def unharmed(site: RunningSite) -> Iterator[None]:
    """Whatever a test does, somebody who was there before and somebody who comes afterwards are served, by the same processes."""
    with same_processes(site):
        with associated(who(site, "GOOD"), archive(site), echoing()) as present:
            yield
            assert present.echo().status == 0
        one = image(random.Random())
        with associated(who(site, "GOOD"), archive(site), storing([one])) as session:
            assert session.store(one).status == 0


def ended(site: RunningSite, wanted: str) -> bool:
    """Whether an event about CT1 names what happened."""
    kinds = ("association:refused", "association:ended", "request:refused")
    return any(wanted in row.get("reason", "") for row in site.events() if row["kind"] in kinds)


# ---- before an association


def _duplicate(rq: AssociateRQ) -> bytes:
    whole = bytearray(encode(rq))
    at = whole.index(b"\x20\0", 74)  # behind the AE titles
    length = 4 + struct.unpack_from(">H", whole, at + 2)[0]
    doubled = whole[: at + length] + whole[at : at + length] + whole[at + length :]
    return bytes(doubled[:2] + struct.pack(">L", len(doubled) - 6) + doubled[6:])


def _oversize(rq: AssociateRQ) -> bytes:
    whole = encode(rq)
    role = struct.pack(">BxHH", 0x54, 4 + len(CT), len(CT)) + CT.encode() + b"\0\1"
    information = b"".join(
        struct.pack(">BxHH", 0x54, 4 + len(one), len(one)) + one + b"\0\1"
        for one in (f"1.2.{number}".encode() for number in range(2_000))
    )
    at = whole.index(b"\x50\0")
    length = struct.unpack_from(">H", whole, at + 2)[0]
    item = whole[at + 4 : at + 4 + length] + role + information
    body = whole[6:at] + struct.pack(">BxH", 0x50, len(item)) + item
    return pdu(0x01, body)


BEFORE: list[tuple[str, Callable[[], bytes], str, str]] = [
    ("a PDU of 4 GiB", lambda: pdu(0x01, b"", GIB4), "rejected 1,2,1", "ASSOCIATE_RQ of 4294967294 bytes"),
    ("an unknown PDU", lambda: pdu(0x2A, b"what?"), "aborted 0,0", "unknown PDU type 2AH"),
    ("P-DATA first", lambda: p_data(1, command_set({FIELD: 0x30}), command=True), "aborted 0,0", "P_DATA_TF"),
    ("a release first", lambda: pdu(0x05, bytes(4)), "aborted 0,0", "RELEASE_RQ"),
    ("nothing in it", lambda: pdu(0x01, b""), "aborted 0,0", "the peer broke the protocol"),
    ("duplicate contexts", lambda: _duplicate(asking("CT1")), "rejected 1,2,1", "presentation context"),
    ("oversize user information", lambda: _oversize(asking("CT1")), "aborted 0,0", "user information"),
    ("HTTP inside TLS", lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "aborted 0,0", "HTTP"),
]


@pytest.mark.parametrize(("says", "hears", "named"), [row[1:] for row in BEFORE], ids=[row[0] for row in BEFORE])
def test_t26_attack_06_before_an_association(
    site: RunningSite, says: Callable[[], bytes], hears: str, named: str
) -> None:
    with raw(site) as connection:
        connection.say(says())
        assert connection.hear() == hears
        assert connection.hear() == "closed"
    assert until(lambda: ended(site, named))


def test_t26_attack_07_many_contexts_are_answered_one_by_one(site: RunningSite) -> None:
    with raw(site) as connection:
        assert connection.associate(*(f"1.2.840.{number}" for number in range(120)), CT) == "accepted"
        connection.say(pdu(0x05, bytes(4)))
        assert connection.hear() == "released"


# ---- in the middle of one


def _nested(depth: int) -> bytes:
    return b"".join(
        struct.pack("<HH2s2xL", 0x0040, 0xA730, b"SQ", 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
        for _ in range(depth)
    )


def _stored(data: bytes, instance: str = "1.2.3.4") -> bytes:
    sent = p_data(1, store_command(instance), command=True)
    for start in range(0, len(data), 65_536):
        sent += p_data(1, data[start : start + 65_536], command=False, last=start + 65_536 >= len(data))
    return sent


def _data_set(*more: bytes) -> bytes:
    """Sound up to the end of its header, and then what is not."""
    whole = parse(image(random.Random(3), sop_instance="1.2.3.4").data_set, uids.EXPLICIT_VR_LITTLE_ENDIAN)
    header = DataSet([each for each in whole if each.tag < 0x7FE00010])
    return encode_data_set(header, uids.EXPLICIT_VR_LITTLE_ENDIAN) + b"".join(more)


def _element(group: int, element: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    length = len(value) if length is None else length
    if vr in (b"OB", b"UN", b"UT", b"SQ", b"OW"):
        return struct.pack("<HH2s2xL", group, element, vr, length) + value
    return struct.pack("<HH2sH", group, element, vr, length) + value


DURING: list[tuple[str, Callable[[], bytes], tuple[str, ...], str]] = [
    ("a PDU of 4 GiB", lambda: pdu(0x04, b"", GIB4), ("aborted 2,6",), "we announced"),
    ("another A-ASSOCIATE-RQ", lambda: encode(asking("CT1")), ("aborted 2,2",), "ASSOCIATE_RQ in"),
    ("an unknown PDU", lambda: pdu(0x99, b""), ("aborted 2,1",), "unknown PDU type 99H"),
    ("a context that was not accepted", lambda: p_data(77, b"xx", command=True), ("aborted 2,6",), "which was not accepted"),
    ("a data set without a command", lambda: p_data(1, b"xx", command=False), ("aborted 2,6", "aborted 2,2"), ""),
    ("a PDV longer than its PDU", lambda: pdu(0x04, struct.pack(">LBB", 9_999, 1, 3) + b"x"), ("aborted 2,6",), ""),
    ("a command set that lies about its length", lambda: p_data(1, command_set({FIELD: 0x30}, 99_999), command=True), ("aborted 2,6", "status 0110H"), ""),
    ("a command set without a field", lambda: p_data(1, command_set({MESSAGE_ID: 1, DATA_SET_TYPE: NO_DATA_SET}), command=True), ("aborted 2,6",), ""),
    ("a command that nobody knows", lambda: p_data(1, command_set({FIELD: 0x0777, MESSAGE_ID: 1, DATA_SET_TYPE: NO_DATA_SET, 0x0002: CT}), command=True), ("status 0211H",), "no such command"),
    ("a UID that is a path", lambda: _stored(_data_set(), "../../etc/passwd"), ("status 0212H",), "UID"),
    ("another UID in the data set", lambda: _stored(_data_set(), "1.2.3.5"), ("status A900H",), "not the Affected SOP Instance UID"),
    ("sequences 10,000 deep", lambda: _stored(_data_set(_nested(10_000))), ("status C000H",), "data set"),
    ("a length past the end", lambda: _stored(_data_set(_element(0x0040, 0xA160, b"UT", b"x", 0x7FFFFFFF))), ("status C000H",), "data set"),
    ("a length of 4 GiB", lambda: _stored(_data_set(_element(0x0040, 0xA160, b"UT", b"x", 0xFFFFFFF0))), ("status C000H",), "data set"),
    ("a command element inside", lambda: _stored(_data_set(_element(0x0000, 0x0100, b"US", b"\1\0"))), ("status C000H",), "data set"),
    ("no data set at all", lambda: p_data(1, store_command("1.2.3.4", _0800=NO_DATA_SET), command=True), ("status C000H", "status 0120H"), ""),
    ("more than an instance may have", lambda: _stored(_data_set(_element(0x7FE0, 0x0010, b"OW", bytes(9 << 20)))), ("status A700H",), "instance_length_max_bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("says", "hears", "named"), [row[1:] for row in DURING], ids=[row[0] for row in DURING])
def test_t26_attack_08_in_the_middle(
    site: RunningSite, says: Callable[[], bytes], hears: tuple[str, ...], named: str
) -> None:
    with raw(site) as connection:
        assert connection.associate() == "accepted"
        connection.say(says())
        heard = connection.hear()
        assert heard in hears, heard
        if heard.startswith("aborted"):
            assert connection.hear() == "closed"
        else:  # this request is refused, and the association goes on
            assert connection.hear_echo() == "status 0000H"
    assert until(lambda: ended(site, named))


def test_t26_attack_25_a_deflate_bomb_finds_no_reader(site: RunningSite) -> None:
    """Deflated transfer syntaxes have no budgeted path here, so none is accepted; nor is retired big endian."""
    contexts = [RequestedContext(CT, (syntax,)) for syntax in ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")]
    rq = request(calling_ae_title="CT1", called_ae_title="LEADGLASS", contexts=contexts, pdu_length_max_bytes=16_384)
    with raw(site) as connection:
        assert connection.associate(rq=rq) == "accepted"
        connection.say(p_data(1, store_command("1.2.3.4"), command=True))
        assert connection.hear() == "aborted 2,6"
    assert until(lambda: ended(site, "which was not accepted"))


def test_t26_attack_08_fragments_that_never_end(site: RunningSite) -> None:
    """A data set whose last fragment never comes: the sender is lost after a while, and nothing of it is kept."""
    name = uid(random.Random(9))
    with raw(site) as connection:
        assert connection.associate() == "accepted"
        connection.say(p_data(1, store_command(name), command=True))
        connection.say(p_data(1, image(random.Random(9), sop_instance=name).data_set, command=False, last=False))
        assert connection.hear() == "closed"
    assert until(lambda: ended(site, "stalled"))
    assert not site.rows("conflicts", "list")


def test_t26_attack_08_a_hundred_thousand_empty_values(site: RunningSite) -> None:
    with raw(site) as connection:
        assert connection.associate() == "accepted"
        empty = p_data(1, b"", command=True, last=False)
        for _ in range(100):
            connection.say(empty * 1_000)
        assert connection.hear() == "aborted 2,6"
    assert until(lambda: ended(site, "values without data in a row"))


def test_t26_attack_02_a_peer_that_drips_is_lost(site: RunningSite) -> None:
    """One byte now and then keeps nobody's thread: below the least rate the sender is cut off."""
    with raw(site) as connection:
        assert connection.associate() == "accepted"
        connection.say(p_data(1, store_command("1.2.3.9"), command=True))
        connection.say(pdu(0x04, struct.pack(">LBB", 60_002, 1, 2), 60_006))
        heard: list[str] = []
        connection.sock.settimeout(0.4)
        for _ in range(200):
            connection.say(b"x")
            try:
                heard.append(connection.hear())
                break
            except TimeoutError:
                time.sleep(0.1)
        assert heard == ["closed"]
    assert until(lambda: ended(site, "slowest_bytes_per_second"))


def test_t26_attack_38_nothing_leaves_the_store(site: RunningSite) -> None:
    """Names come from counters: whatever peers said, no file has any of it in its name."""
    names = [path.name for path in site.directory.rglob("*") if path.is_file()]
    assert names and not any("passwd" in name or "1.2.3" in name for name in names)


def test_attack_09_said_to_a_stranger_is_less_than_written_for_the_operator(site: RunningSite) -> None:
    with raw(site) as connection:
        assert connection.associate(rq=asking("NOBODY")) == "rejected 1,1,1"
    assert until(lambda: ended(site, "calls itself 'NOBODY'"))
