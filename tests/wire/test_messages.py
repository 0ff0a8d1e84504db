"""Messages: commands are put together within bounds, data sets pass, and fragments in the wrong place are refused."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadglass.wire.dimse import Command, CommandField, CommandRefused, encode_command
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.indications import DataFragment
from leadglass.wire.limits import AssociationLimits
from leadglass.wire.messages import CommandReceived, DataSetEnd, DataSetFragment, Message, MessageReader, with_last

LIMITS = AssociationLimits(command_set_length_max_bytes=500, command_fragments_max=200)
STORE = Command.c_store_rq(1, "1.2.840.10008.5.1.4.1.1.2", "1.2.3")
ECHO = Command.c_echo_rq(2)


def command(data: bytes, *, context: int = 1, last: bool = True) -> DataFragment:
    return DataFragment(context, True, last, memoryview(data))


def data_set(data: bytes, *, context: int = 1, last: bool = False) -> DataFragment:
    return DataFragment(context, False, last, memoryview(data))


def reading(*fragments: DataFragment) -> tuple[MessageReader, list[Message]]:
    reader = MessageReader(LIMITS)
    messages: list[Message] = []
    for fragment in fragments:
        messages += reader.feed(fragment)
    return reader, messages


def unknown(*, with_data_set: bool) -> bytes:
    values = ((0x0100, 0x0031), (0x0110, 5), (0x0800, 0 if with_data_set else 0x0101))
    return b"".join(pack("<HHLH", 0, element, 2, value) for element, value in values)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9))
def test_a_command_in_any_pieces(sizes: list[int]) -> None:
    data, pieces, turn = encode_command(ECHO), [], 0
    while data:
        size = sizes[turn % len(sizes)]
        pieces.append(command(data[:size], last=size >= len(data)))
        data, turn = data[size:], turn + 1
    reader, messages = reading(*pieces)
    assert messages == [CommandReceived(1, ECHO)]
    assert reader.idle


def test_a_data_set_passes_in_the_pieces_in_which_it_came() -> None:
    reader, messages = reading(
        command(encode_command(STORE), context=3),
        data_set(b"ab", context=3),
        data_set(b"cd", context=3, last=True),
        command(encode_command(ECHO)),
    )
    assert messages == [
        CommandReceived(3, STORE),
        DataSetFragment(3, memoryview(b"ab")),
        DataSetFragment(3, memoryview(b"cd")),
        DataSetEnd(3),
        CommandReceived(1, ECHO),
    ]
    assert reader.idle


def test_an_empty_last_fragment_is_only_an_end() -> None:
    _, messages = reading(command(encode_command(STORE)), data_set(b"", last=True))
    assert messages == [CommandReceived(1, STORE), DataSetEnd(1)]


def test_idle_between_messages_only() -> None:
    assert MessageReader(LIMITS).idle
    assert not reading(command(b"\0", last=False))[0].idle
    assert not reading(command(encode_command(STORE)))[0].idle


@pytest.mark.parametrize(
    ("before", "wrong"),
    [
        ((), data_set(b"ab")),
        ((command(encode_command(ECHO)),), data_set(b"ab", last=True)),
        ((command(encode_command(STORE)),), data_set(b"ab", context=3)),
        ((command(encode_command(STORE)), data_set(b"ab")), command(encode_command(ECHO))),
        ((command(encode_command(STORE)), data_set(b"", last=True)), data_set(b"ab")),
        ((command(b"\0", last=False),), command(b"\0", context=3)),
        ((command(b"\0", last=False),), data_set(b"ab")),
        ((command(bytes(400), last=False),), command(bytes(101), last=False)),
        (tuple(command(b"\0", last=False) for _ in range(200)), command(b"\0")),
        ((), command(b"not a command")),
    ],
)
def test_a_fragment_in_the_wrong_place_ends_the_association(
    before: tuple[DataFragment, ...], wrong: DataFragment
) -> None:
    reader, _ = reading(*before)
    with pytest.raises(RemoteProtocolError) as caught:
        reader.feed(wrong)
    assert caught.value.abort is not None
    assert not isinstance(caught.value, CommandRefused)


def test_a_refused_command_costs_its_data_set_and_nothing_more() -> None:
    reader = MessageReader(LIMITS)
    with pytest.raises(CommandRefused):
        reader.feed(command(unknown(with_data_set=True)))
    assert not reader.idle
    assert reader.feed(data_set(b"ab")) == ()
    assert reader.feed(data_set(b"cd", last=True)) == ()
    with pytest.raises(CommandRefused) as caught:
        reader.feed(command(unknown(with_data_set=False)))
    assert caught.value.message_id == 5
    assert reader.idle
    assert reader.feed(command(encode_command(STORE))) == (CommandReceived(1, STORE),)
    assert reader.feed(data_set(b"ef")) == (DataSetFragment(1, memoryview(b"ef")),)


def test_cancel_between_messages() -> None:
    cancel = Command(CommandField.C_CANCEL_RQ, message_id_responded_to=9)
    assert reading(command(encode_command(cancel)))[1] == [CommandReceived(1, cancel)]


def test_the_last_piece_is_known_before_it_is_sent() -> None:
    assert list(with_last(None)) == []
    assert list(with_last([])) == [(b"", True)], "a data set without bytes has an end all the same"
    assert list(with_last([b"ab"])) == [(b"ab", True)]
    assert list(with_last(iter([b"ab", b"cd", b"e"]))) == [(b"ab", False), (b"cd", False), (b"e", True)]
