"""Taking data sets in one loop: the same bytes, events and refusals as event by event, whatever comes in between."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from leadglass.wire.association import Association, DataFragment, Role
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.limits import AssociationLimits
from leadglass.wire.negotiation import Supported, accept
from leadglass.wire.passing import copy_values
from leadglass.wire.pdu import (
    Abort,
    AssociateRQ,
    PData,
    PresentationContext,
    PresentationDataValue,
    ReleaseRQ,
    encode,
    p_data_header,
)
from leadglass.wire.user_information import UserInformation

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
LIMITS = AssociationLimits(receive_buffer_bytes=140_000, pdu_length_max_bytes=1_024)
RQ = AssociateRQ(
    "ARCHIVE",
    "CT1",
    tuple(PresentationContext(number, CT, (EXPLICIT,)) for number in (1, 3)),
    UserInformation(4_096, "1.2.3"),
)

values = st.builds(
    PresentationDataValue,
    st.sampled_from([1, 1, 1, 1, 1, 3, 5]),
    st.sampled_from([False] * 6 + [True]),
    st.sampled_from([False] * 6 + [True]),
    st.binary(max_size=40),
)
pdus = st.one_of(
    *[st.lists(values, min_size=1, max_size=1)] * 6,
    st.lists(values, min_size=2, max_size=3),
).map(lambda each: encode(PData(tuple(each))))
ends = st.sampled_from([b"", b"", encode(ReleaseRQ()), encode(Abort(0, 0)), b"\xff" * 20, p_data_header(2_000, 1, 0)])


def associated() -> Association:
    association = Association(Role.ACCEPTOR, LIMITS, 0.0)
    association.receive_data(encode(RQ), 0.0)
    association.next_event()
    supported = {CT: Supported(frozenset({EXPLICIT}))}
    association.send(accept(RQ, supported.get, pdu_length_max_bytes=LIMITS.pdu_length_max_bytes))
    association.data_to_send()
    return association


def heard(data: bytes, reads: list[int], taken: list[int]) -> list[object]:
    """What an association says of these bytes, read in such pieces, data sets in context 1 taken into such buffers where there are any."""
    association, found, turn = associated(), [], 0
    try:
        while data:
            size = reads[len(data) % len(reads)]
            association.receive_data(data[:size], 0.0)
            data = data[size:]
            while True:
                into = bytearray(taken[turn % len(taken)] if taken else 0)
                turn += 1
                while count := association.take_data(1, memoryview(into)):
                    found.append((1, False, False, bytes(into[:count])))
                event = association.next_event()
                if event is None:
                    break
                found.append((*event[:3], bytes(event.data)) if isinstance(event, DataFragment) else event)
    except RemoteProtocolError as error:
        found.append(str(error))
    return together(found)


def together(found: list[object]) -> list[object]:
    """Pieces of one value, or of several that follow each other, are one: where the bytes were cut says nothing."""
    whole: list[object] = []
    for each in found:
        before = whole[-1] if whole else None
        if isinstance(each, tuple) and isinstance(before, tuple) and before[:2] == each[:2] and not before[2]:
            whole[-1] = (*each[:3], before[3] + each[3])
        else:
            whole.append(each)
    return whole


@settings(max_examples=400)
@given(
    st.lists(pdus, max_size=12),
    ends,
    st.lists(st.integers(1, 90), min_size=1, max_size=5),
    st.lists(st.integers(1, 70), min_size=1, max_size=5),
)
def test_taken_or_told_it_is_the_same(stream: list[bytes], end: bytes, reads: list[int], taken: list[int]) -> None:
    data = b"".join(stream) + end
    assert heard(data, reads, taken) == heard(data, reads, [])


def test_what_most_p_data_tf_look_like_is_taken_whole() -> None:
    association, into = associated(), memoryview(bytearray(100))
    stream = b"".join(p_data_header(10, 1, 0) + bytes([number]) * 10 for number in range(9))
    association.receive_data(stream, 0.0)
    assert association.take_data(3, into) == 0
    assert association.take_data(1, into) == 90
    assert bytes(into[:90]) == b"".join(bytes([number]) * 10 for number in range(9))
    assert association.take_data(1, into) == 0


def test_a_header_without_its_value_is_read_and_remembered() -> None:
    association, into = associated(), memoryview(bytearray(100))
    association.receive_data(p_data_header(10, 1, 0), 0.0)
    assert association.take_data(1, into) == 0
    association.receive_data(b"abcdefghij" + encode(PData((PresentationDataValue(1, False, True, b"!"),))), 0.0)
    assert association.take_data(3, into) == 0
    assert association.take_data(1, into) == 10
    assert association.next_event() == (1, False, True, b"!")


def test_nothing_is_copied_beyond_what_there_is() -> None:
    view, into = memoryview(p_data_header(4, 1, 0) + b"abcd"), memoryview(bytearray(2))
    assert copy_values(view, 0, len(view), 0, 1, 100, into) == (2, 14, 2)
    assert copy_values(view, 14, len(view), 2, 1, 100, into) == (2, 16, 0)
    assert copy_values(view, 0, 11, 0, 1, 100, into) == (0, 0, 0)
    assert copy_values(view, 0, len(view), 0, 1, 9, into) == (0, 0, 0)
