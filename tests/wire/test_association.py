"""The association machine: two of ours through a fake wire, every byte alone, every broken peer, and time."""

from __future__ import annotations

import random
from collections.abc import Iterable
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadglass.wire.association import (
    Aborted,
    AcceptedContext,
    ArtimExpired,
    AssociateConfirmation,
    AssociateIndication,
    AssociateRejected,
    Association,
    DataFragment,
    Event,
    ReleaseConfirmation,
    ReleaseIndication,
    Role,
    State,
    TransportClosed,
)
from leadglass.wire.errors import AbortHint, LocalProtocolError, RemoteProtocolError
from leadglass.wire.limits import AssociationLimits
from leadglass.wire.negotiation import Supported, accept
from leadglass.wire.pdu import (
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    ContextResult,
    PData,
    Pdu,
    PduType,
    PresentationContext,
    PresentationContextResult,
    PresentationDataValue,
    ReleaseRP,
    ReleaseRQ,
    decode,
    encode,
)
from leadglass.wire.user_information import UserInformation

LIMITS = AssociationLimits()
SMALL = AssociationLimits(receive_buffer_bytes=140_000, pdu_length_max_bytes=1_024)
CT, MR, IMPLICIT, EXPLICIT = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
)
RQ = AssociateRQ(
    "ARCHIVE",
    "CT1",
    (PresentationContext(1, CT, (EXPLICIT, IMPLICIT)), PresentationContext(3, MR, (IMPLICIT,))),
    UserInformation(4_096, "1.2.3"),
)
SUPPORTED = {CT: Supported(frozenset({EXPLICIT, IMPLICIT}))}


def answer(rq: AssociateRQ = RQ, length: int = LIMITS.pdu_length_max_bytes) -> AssociateAC:
    return accept(rq, SUPPORTED.get, pdu_length_max_bytes=length)


def drain(association: Association) -> list[Event]:
    """All events; the pieces of data as bytes, for a view lives only until the next read."""
    events: list[Event] = []
    while (event := association.next_event()) is not None:
        if isinstance(event, DataFragment):
            event = event._replace(data=bytes(event.data))  # type: ignore[arg-type]
        events.append(event)
    return events


def feed(association: Association, data: bytes, size: int = 60_000, now: float = 0.0) -> list[Event]:
    events: list[Event] = []
    for start in range(0, len(data), size):
        association.receive_data(data[start : start + size], now)
        events += drain(association)
    return events


def said(association: Association) -> list[Pdu]:
    """What an association has queued, read back."""
    data, pdus = b"".join(association.data_to_send()), []
    while data:
        end = 6 + int.from_bytes(data[2:6], "big")
        pdus.append(decode(PduType(data[0]), data[6:end], LIMITS))
        data = data[end:]
    return pdus


class ConnectionPair:
    """A requestor and an acceptor with a wire between them that keeps order and loses nothing."""

    def __init__(self, limits: AssociationLimits = LIMITS, step: int = 60_000) -> None:
        self.requestor = Association(Role.REQUESTOR, limits, 0.0)
        self.acceptor = Association(Role.ACCEPTOR, limits, 0.0)
        self.step = step

    def to_acceptor(self) -> list[Event]:
        return feed(self.acceptor, b"".join(self.requestor.data_to_send()), self.step)

    def to_requestor(self) -> list[Event]:
        return feed(self.requestor, b"".join(self.acceptor.data_to_send()), self.step)

    def associate(self, rq: AssociateRQ = RQ) -> ConnectionPair:
        self.requestor.send(rq)
        assert self.to_acceptor() == [AssociateIndication(rq)]
        self.acceptor.send(answer(rq, self.acceptor.limits.pdu_length_max_bytes))
        (confirmation,) = self.to_requestor()
        assert isinstance(confirmation, AssociateConfirmation)
        return self


def joined(events: Iterable[Event]) -> list[tuple[int, bool, bytes]]:
    """Fragments put together up to each last one."""
    whole, data = [], b""
    for event in events:
        assert isinstance(event, DataFragment)
        data += bytes(event.data)
        if event.is_last:
            whole.append((event.context_id, event.is_command, data))
            data = b""
    assert not data
    return whole


def refused(association: Association, data: bytes, size: int = 60_000) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        feed(association, data, size)
    return caught.value


# ---- what should happen


def test_an_association_from_request_to_release() -> None:
    pair = ConnectionPair().associate()
    assert (pair.requestor.state, pair.acceptor.state) == (State.STA6, State.STA6)
    assert pair.acceptor.contexts == {1: AcceptedContext(1, CT, EXPLICIT, as_scp=True, as_scu=False)}
    assert pair.requestor.contexts == {1: AcceptedContext(1, CT, EXPLICIT, as_scp=False, as_scu=True)}
    assert (pair.requestor.peer_maximum_length, pair.acceptor.peer_maximum_length) == (131_072, 4_096)
    payload = random.Random(1).randbytes(300_001)
    pair.requestor.send_data(1, True, b"command!", True)
    pair.requestor.send_data(1, False, payload, True)
    assert joined(pair.to_acceptor()) == [(1, True, b"command!"), (1, False, payload)]
    pair.requestor.send(ReleaseRQ())
    assert pair.to_acceptor() == [ReleaseIndication(collision=False)]
    pair.acceptor.send_data(1, True, b"late", True)
    pair.acceptor.send(ReleaseRP())
    assert [type(event) for event in pair.to_requestor()] == [DataFragment, ReleaseConfirmation]
    assert pair.requestor.state is State.STA1
    assert pair.requestor.close_due
    pair.acceptor.receive_eof(1.0)
    assert pair.acceptor.next_event() == TransportClosed(orderly=True)
    assert pair.acceptor.state is State.STA1


def test_fragments_keep_to_what_the_peer_takes_and_are_not_copied() -> None:
    pair = ConnectionPair().associate()
    payload = bytes(10_000)
    pair.acceptor.send_data(1, False, payload, False)
    pair.acceptor.send_data(1, False, b"", False)
    pair.acceptor.send_data(1, False, b"", True)
    output = pair.acceptor.data_to_send()
    assert pair.acceptor.data_to_send() == []
    views = [piece for piece in output if isinstance(piece, memoryview)]
    assert all(view.obj is payload for view in views)
    assert b"".join(views) == payload
    pdus = []
    data = b"".join(output)
    while data:
        end = 6 + int.from_bytes(data[2:6], "big")
        assert end - 6 <= 4_096
        pdus.append(decode(PduType.P_DATA_TF, data[6:end], LIMITS))
        data = data[end:]
    last = [value.is_last for pdu in pdus if isinstance(pdu, PData) for value in pdu.values]
    assert last == [False] * (len(last) - 1) + [True]


@pytest.mark.parametrize(("announced", "longest"), [(0, 131_072), (None, 16_384), (1 << 31, 131_072), (1_001, 1_000)])
def test_our_own_cap_where_the_peer_has_none(announced: int | None, longest: int) -> None:
    rq = AssociateRQ("A", "B", RQ.presentation_contexts, UserInformation(announced))
    pair = ConnectionPair().associate(rq)
    pair.acceptor.send_data(1, False, bytes(300_000), True)
    first = pair.acceptor.data_to_send()[0]
    assert int.from_bytes(first[2:6], "big") == longest


def test_release_collision() -> None:
    pair = ConnectionPair().associate()
    pair.requestor.send(ReleaseRQ())
    pair.acceptor.send(ReleaseRQ())
    assert pair.to_acceptor() == [ReleaseIndication(collision=True)]
    assert pair.to_requestor() == [ReleaseIndication(collision=True)]
    assert (pair.requestor.state, pair.acceptor.state) == (State.STA9, State.STA10)
    pair.requestor.send(ReleaseRP())
    assert pair.to_acceptor() == [ReleaseConfirmation()]
    assert (pair.requestor.state, pair.acceptor.state) == (State.STA11, State.STA12)
    pair.acceptor.send(ReleaseRP())
    assert pair.to_requestor() == [ReleaseConfirmation()]
    assert (pair.requestor.state, pair.acceptor.state) == (State.STA1, State.STA13)


def test_data_may_still_arrive_after_we_asked_for_release() -> None:
    pair = ConnectionPair().associate()
    pair.requestor.send(ReleaseRQ())
    pair.acceptor.send_data(1, True, b"still here", True)
    assert joined(pair.to_requestor()) == [(1, True, b"still here")]


def test_rejection() -> None:
    pair = ConnectionPair()
    pair.requestor.send(RQ)
    pair.to_acceptor()
    pair.acceptor.send(AssociateRJ(1, 1, 3), now=5.0)
    assert pair.to_requestor() == [AssociateRejected(AssociateRJ(1, 1, 3))]
    assert pair.requestor.close_due
    assert pair.acceptor.state is State.STA13
    assert pair.acceptor.deadline() == 5.0 + LIMITS.artim_seconds


def test_abort_by_either_side() -> None:
    pair = ConnectionPair().associate()
    pair.requestor.send_data(1, False, bytes(3_000), True)
    half = b"".join(pair.requestor.data_to_send())
    feed(pair.acceptor, half[:1_000])
    pair.acceptor.send(Abort(0, 0))
    assert feed(pair.acceptor, half[1_000:]) == []  # Sta13 ignores the rest, and stays in step
    assert pair.to_requestor() == [Aborted(0, 0)]
    assert pair.requestor.close_due
    assert pair.requestor.state is State.STA1
    assert feed(pair.requestor, b"anything at all") == []
    assert feed(pair.acceptor, encode(Abort(2, 0))) == [Aborted(2, 0)]


def test_an_abort_is_always_welcome() -> None:
    for association in (Association(Role.ACCEPTOR, LIMITS, 0.0), Association(Role.REQUESTOR, LIMITS, 0.0)):
        association.send(Abort(0, 0))
        association.abort_for(RemoteProtocolError("twice"))
        assert association.close_due
        assert association.data_to_send() == []
    pair = ConnectionPair().associate()
    pair.acceptor.abort_for(RemoteProtocolError("from above", abort=AbortHint(2, 5)))
    pair.acceptor.abort_for(RemoteProtocolError("again"))
    assert pair.to_requestor() == [Aborted(2, 5)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.binary(max_size=2_000)), min_size=1, max_size=5),
    st.lists(st.integers(1, 700), min_size=1, max_size=20),
)
def test_all_at_once_equals_any_other_cut(messages: list[tuple[bool, bytes]], cuts: list[int]) -> None:
    whole, cut = ConnectionPair(SMALL).associate(), ConnectionPair(SMALL).associate()
    for is_command, payload in messages:
        whole.requestor.send_data(1, is_command, payload, True)
    whole.requestor.send(ReleaseRQ())
    stream = b"".join(whole.requestor.data_to_send())
    *at_once, released = feed(whole.acceptor, stream)
    bit_by_bit: list[Event] = []
    position = turn = 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        bit_by_bit += feed(cut.acceptor, stream[position : position + size])
        position, turn = position + size, turn + 1
    assert released == bit_by_bit.pop() == ReleaseIndication(collision=False)
    assert joined(bit_by_bit) == joined(at_once) == [(1, is_command, payload) for is_command, payload in messages]


def test_byte_by_byte_from_the_first() -> None:
    pair = ConnectionPair(SMALL, step=1).associate()
    pair.requestor.send_data(1, False, b"0123456789", True)
    assert joined(pair.to_acceptor()) == [(1, False, b"0123456789")]


def test_a_fragment_is_handed_out_before_it_is_whole_and_never_spans_values() -> None:
    pair = ConnectionPair().associate()
    values = (PresentationDataValue(1, True, True, b"abcd"), PresentationDataValue(1, False, True, b"efgh"))
    data = encode(PData(values))
    pair.acceptor.receive_data(data[:-2], 0.0)
    assert drain(pair.acceptor) == [DataFragment(1, True, True, b"abcd"), DataFragment(1, False, False, b"ef")]  # type: ignore[arg-type]
    assert feed(pair.acceptor, data[-2:]) == [DataFragment(1, False, True, b"gh")]  # type: ignore[arg-type]


def test_views_lie_in_the_buffer() -> None:
    pair = ConnectionPair().associate()
    data = encode(PData((PresentationDataValue(1, False, True, b"abcd"),)))
    space = pair.acceptor.buffer()
    space[: len(data)] = data
    pair.acceptor.received(len(data), 1.0)
    event = pair.acceptor.next_event()
    assert isinstance(event, DataFragment)
    assert event.data.obj is space.obj


def test_rest_gives_the_buffer_back_and_loses_nothing() -> None:
    pair = ConnectionPair().associate()
    pair.requestor.send_data(1, False, b"abcdef", True)
    stream = b"".join(pair.requestor.data_to_send())
    events: list[Event] = []
    for byte in stream:
        events += feed(pair.acceptor, bytes((byte,)))
        pair.acceptor.rest()
        assert len(pair.acceptor._bytes) < 16
        pair.acceptor.rest()
    assert joined(events) == [(1, False, b"abcdef")]


def test_an_empty_last_value_ends_a_message() -> None:
    pair = ConnectionPair().associate()
    pair.requestor.send_data(1, False, b"", True)
    assert joined(pair.to_acceptor()) == [(1, False, b"")]


# ---- time


def test_artim_before_a_request_and_not_after() -> None:
    association = Association(Role.ACCEPTOR, LIMITS, 100.0)
    assert association.deadline() == 130.0
    feed(association, encode(RQ)[:50], now=120.0)
    assert association.deadline() == 130.0  # bytes that trickle in do not push it
    association.expire(129.9)
    assert association.next_event() is None
    association.expire(130.0)
    assert association.next_event() == ArtimExpired(State.STA2)
    assert association.close_due
    assert (association.state, association.deadline()) == (State.STA1, None)
    association.expire(999.0)
    assert association.next_event() is None
    other = Association(Role.ACCEPTOR, LIMITS, 0.0)
    feed(other, encode(RQ))
    assert other.deadline() is None


def test_artim_after_our_last_word() -> None:
    pair = ConnectionPair().associate()
    pair.requestor.send(ReleaseRQ())
    pair.to_acceptor()
    pair.acceptor.send(ReleaseRP(), now=7.0)
    assert pair.acceptor.deadline() == 7.0 + LIMITS.artim_seconds
    pair.acceptor.expire(99.0)
    assert pair.acceptor.next_event() == ArtimExpired(State.STA13)


@pytest.mark.parametrize("associated", [False, True])
def test_the_transport_closes_unasked(associated: bool) -> None:
    pair = ConnectionPair()
    if associated:
        pair.associate()
        feed(pair.acceptor, pack(">BxLLBB", 4, 12, 8, 1, 0) + b"ab")
    pair.acceptor.receive_eof(3.0)
    assert drain(pair.acceptor) == [TransportClosed(orderly=False)]
    pair.acceptor.receive_eof(4.0)
    assert drain(pair.acceptor) == []
    assert pair.acceptor.state is State.STA1


# ---- what peers do wrong


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH", "SSH"),
        (bytes(6), "unknown PDU type 00H"),
        (pack(">BxL", 8, 4), "unknown PDU type 08H"),
    ],
)
def test_what_is_not_dicom_is_named(data: bytes, word: str) -> None:
    association = Association(Role.ACCEPTOR, LIMITS, 0.0)
    assert word in refused(association, data).message
    assert said(association) == [Abort(0, 0)]  # AA-1
    assert association.state is State.STA13


@pytest.mark.parametrize("length", [0, 1, 67])
def test_a_request_too_short(length: int) -> None:
    association = Association(Role.ACCEPTOR, LIMITS, 0.0)
    refused(association, pack(">BxL", 1, length) + bytes(length))
    assert said(association) == [Abort(0, 0)]


@pytest.mark.parametrize("length", [65_537, 0xFFFF_FFFE])
def test_a_length_over_the_limit_is_refused_at_the_header(length: int) -> None:
    association = Association(Role.ACCEPTOR, LIMITS, 0.0)
    assert str(length) in refused(association, pack(">BxL", 1, length)).message
    assert said(association) == [AssociateRJ(1, 2, 1)]
    assert association.state is State.STA13
    for _ in range(50):
        assert feed(association, bytes(100_000)) == []  # thrown away
    assert association.data_to_send() == []


def test_a_request_that_cannot_be_granted_is_rejected_not_aborted() -> None:
    association = Association(Role.ACCEPTOR, LIMITS, 0.0)
    error = refused(association, encode(AssociateRQ("A", "B", (), UserInformation(0))))
    assert error.reject is not None
    assert said(association) == [AssociateRJ(1, 2, 1)]


def test_a_maximum_length_of_no_use() -> None:
    association = Association(Role.ACCEPTOR, LIMITS, 0.0)
    assert (
        "maximum length of 7"
        in refused(association, encode(AssociateRQ("A", "B", RQ.presentation_contexts, UserInformation(7)))).message
    )
    assert said(association) == [AssociateRJ(1, 2, 1)]


@pytest.mark.parametrize(
    "data",
    [
        pack(">BxL", 4, 4_294_967_294),
        pack(">BxL", 4, 131_073),
        pack(">BxL", 4, 0),
        pack(">BxL", 4, 5),
        pack(">BxLLBB", 4, 8, 1, 1, 0),
        pack(">BxLLBB", 4, 8, 5, 1, 0),
        pack(">BxLLBB", 4, 8, 0xFFFF_FFFF, 1, 0),
        pack(">BxLLBB", 4, 8, 4, 3, 0),  # rejected context
        pack(">BxLLBB", 4, 8, 4, 0, 0),  # no context
        pack(">BxLLBB", 4, 10, 2, 1, 0) + bytes(4),  # four bytes left where a header should be
        pack(">BxL", 5, 5),
        pack(">BxL", 7, 3) + bytes(3),
        pack(">BxLLBB", 4, 6, 2, 1, 0) * 33,  # a flood of nothing
    ],
)
@pytest.mark.parametrize("size", [1, 60_000])
def test_broken_data_is_aborted_with_invalid_parameter(data: bytes, size: int) -> None:
    pair = ConnectionPair().associate()
    error = refused(pair.acceptor, data, size)
    assert (error.abort_source, error.abort_reason) == (2, 6)
    assert said(pair.acceptor) == [Abort(2, 6)]
    assert pair.acceptor.state is State.STA13
    assert pair.acceptor.deadline() is not None
    assert feed(pair.acceptor, encode(RQ)) == []


def test_empty_values_that_do_something_are_no_flood() -> None:
    pair = ConnectionPair().associate()
    empty, full = pack(">BxLLBB", 4, 6, 2, 1, 0), pack(">BxLLBB", 4, 8, 4, 1, 0) + b"ab"
    assert len(feed(pair.acceptor, (empty * 32 + full) * 3)) == 3


@pytest.mark.parametrize("pdu", [RQ, answer(), AssociateRJ(1, 1, 1), ReleaseRP()])
def test_a_pdu_out_of_place_is_aborted(pdu: Pdu) -> None:
    pair = ConnectionPair().associate()
    assert "STA6" in refused(pair.acceptor, encode(pdu)).message
    assert said(pair.acceptor) == [Abort(2, 2)]


def test_data_before_an_association() -> None:
    association = Association(Role.ACCEPTOR, LIMITS, 0.0)
    refused(association, encode(PData((PresentationDataValue(1, True, True, b"ab"),))))
    assert said(association) == [Abort(0, 0)]


def test_after_our_last_word_a_peer_is_ignored_whatever_it_claims() -> None:
    pair = ConnectionPair().associate()
    pair.acceptor.send(Abort(0, 0))
    said(pair.acceptor)
    assert feed(pair.acceptor, pack(">BxL", 4, 100_000) + bytes(100_000)) == []
    assert feed(pair.acceptor, encode(ReleaseRQ()) + encode(answer())) == []
    assert feed(pair.acceptor, encode(RQ) * 100) == []
    assert said(pair.acceptor) == [Abort(2, 2)]  # AA-7, once
    assert feed(pair.acceptor, bytes(100)) == []


def test_garbage_after_our_last_word() -> None:
    pair = ConnectionPair().associate()
    pair.acceptor.send(Abort(0, 0))
    said(pair.acceptor)
    refused(pair.acceptor, bytes(6))
    assert said(pair.acceptor) == [Abort(2, 1)]


@pytest.mark.parametrize(
    "results",
    [
        (PresentationContextResult(5, ContextResult.ACCEPTANCE, IMPLICIT),),
        (PresentationContextResult(1, ContextResult.ACCEPTANCE, "1.2.3"),),
    ],
)
def test_an_answer_to_something_else(results: tuple[PresentationContextResult, ...]) -> None:
    ac = AssociateAC("ARCHIVE", "CT1", results, UserInformation(0))
    requestor = Association(Role.REQUESTOR, LIMITS, 0.0)
    requestor.send(RQ)
    said(requestor)
    refused(requestor, encode(ac))
    assert said(requestor) == [Abort(2, 6)]
    acceptor = Association(Role.ACCEPTOR, LIMITS, 0.0)
    feed(acceptor, encode(RQ))
    with pytest.raises(LocalProtocolError):
        acceptor.send(ac)


def test_an_acceptor_with_a_useless_maximum_length() -> None:
    requestor = Association(Role.REQUESTOR, LIMITS, 0.0)
    requestor.send(RQ)
    said(requestor)
    refused(requestor, encode(AssociateAC("A", "B", (), UserInformation(8))))
    assert said(requestor) == [Abort(2, 0)]


def test_a_server_that_speaks_first_waits_for_our_request() -> None:
    requestor = Association(Role.REQUESTOR, LIMITS, 0.0)
    assert feed(requestor, b"220 mail") == []
    requestor.send(RQ)
    with pytest.raises(RemoteProtocolError):
        requestor.next_event()


# ---- what we do wrong


def test_what_the_state_does_not_allow_is_our_defect() -> None:
    association = Association(Role.ACCEPTOR, LIMITS, 0.0)
    for pdu in (RQ, answer(), AssociateRJ(1, 1, 1), ReleaseRQ(), ReleaseRP()):
        with pytest.raises(LocalProtocolError):
            association.send(pdu)
    with pytest.raises(LocalProtocolError):
        association.send_data(1, True, b"", True)
    pair = ConnectionPair().associate()
    with pytest.raises(LocalProtocolError):
        pair.acceptor.send_data(3, True, b"", True)


def test_the_buffer_is_drained_before_it_is_filled() -> None:
    pair = ConnectionPair().associate()
    space = pair.acceptor.buffer()
    with pytest.raises(LocalProtocolError):
        pair.acceptor.received(len(space) + 1, 0.0)
    with pytest.raises(LocalProtocolError):
        pair.acceptor.received(0, 0.0)
    with pytest.raises(LocalProtocolError):
        pair.acceptor.receive_data(bytes(len(space) + 1), 0.0)
    pair.acceptor.receive_data(b"", 0.0)
    pair.acceptor.receive_data(bytes(200_000), 0.0)
    with pytest.raises(LocalProtocolError):
        pair.acceptor.buffer()


def test_the_buffer_moves_what_is_left_to_its_front() -> None:
    pair = ConnectionPair().associate()
    filler = pack(">BxLLBB", 4, 100_006, 100_002, 1, 0) + bytes(100_000)
    assert len(joined(feed(pair.acceptor, filler[:-1] + b"\0" + pack(">BxLLBB", 4, 8, 4, 1, 2) + b"ab"))) == 1
    pair.acceptor.receive_data(filler, 0.0)
    drain(pair.acceptor)
    pair.acceptor.receive_data(filler + b"\4\0\0", 0.0)
    drain(pair.acceptor)
    pair.acceptor.receive_data(b"\0\0\x08\0\0\0\4\1\2ab", 0.0)
    assert joined(drain(pair.acceptor)) == [(1, False, b"ab")]


def test_a_buffer_that_was_read_to_its_middle_begins_again() -> None:
    association = ConnectionPair().associate().acceptor
    space = association.buffer()
    half = len(space) // 2 + 1
    whole = encode(PData((PresentationDataValue(1, False, False, bytes(half - 12 - 3)),)))
    association.receive_data(whole + b"\4\0\0", 0.0)
    drain(association)
    assert len(association.buffer()) == len(association._bytes) - 3
    association.receive_data(b"\0\0\x08\0\0\0\4\1\2ab", 0.0)
    assert joined(drain(association)) == [(1, False, b"ab")]


# ---- whatever the bytes


def test_mutated_streams_raise_nothing_but_typed_errors() -> None:
    pair = ConnectionPair(SMALL)
    pair.requestor.send(RQ)
    stream = b"".join(pair.requestor.data_to_send())
    other = ConnectionPair(SMALL).associate()
    other.requestor.send_data(1, True, b"a command", True)
    other.requestor.send_data(1, False, bytes(3_000), True)
    other.requestor.send(ReleaseRQ())
    stream += b"".join(other.requestor.data_to_send())
    dice, broken = random.Random(4), 0
    for _ in range(2_000):
        data = bytearray(stream)
        for _ in range(dice.randint(1, 3)):
            position = dice.randrange(len(data))
            match dice.randrange(3):
                case 0:
                    data[position] = dice.randrange(256)
                case 1:
                    del data[position : position + dice.randint(1, 40)]
                case _:
                    data[position:position] = dice.randbytes(dice.randint(1, 9))
        association = Association(Role.ACCEPTOR, SMALL, 0.0)
        for start in range(0, len(data), size := dice.choice((7, 100, 5_000))):
            try:
                for event in feed(association, bytes(data[start : start + size])):
                    if isinstance(event, AssociateIndication):
                        association.send(answer(event.rq, SMALL.pdu_length_max_bytes))
                    elif isinstance(event, ReleaseIndication):
                        association.send(ReleaseRP())
            except RemoteProtocolError as error:
                broken += 1
                assert error.abort or error.reject
                assert association.state in (State.STA1, State.STA13)
        association.receive_eof(9.0)
        drain(association)
        assert association.state is State.STA1
    assert broken > 500
