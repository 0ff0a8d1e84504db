"""Command sets: round trips, pynetdicom on the other side, and what lying ones get for an answer."""

from __future__ import annotations

import random
from io import BytesIO
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom import dimse_messages, dimse_primitives
from pynetdicom.dsutils import decode as oracle_decode
from pynetdicom.dsutils import encode as oracle_encode

from leadglass.wire.dimse import (
    Command,
    CommandField,
    CommandRefused,
    Priority,
    Status,
    decode_command,
    encode_command,
)
from leadglass.wire.errors import LocalProtocolError, RemoteProtocolError

CT = "1.2.840.10008.5.1.4.1.1.2"
WITH_PRIORITY = {CommandField.C_STORE_RQ, CommandField.C_FIND_RQ, CommandField.C_GET_RQ, CommandField.C_MOVE_RQ}

uids = st.just("") | st.from_regex(r"[12](\.(0|[1-9][0-9]{0,6})){1,7}", fullmatch=True)
printable = st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\")
titles = st.text(printable, max_size=16).map(lambda title: title.strip(" "))
number = st.integers(0, 0xFFFF)
maybe = st.none() | number
tags = st.lists(st.integers(0, 0xFFFF_FFFF), max_size=3).map(tuple)


@st.composite
def commands(draw: st.DrawFn) -> Command:
    field = draw(st.sampled_from(CommandField))
    answers = field.is_response or field is CommandField.C_CANCEL_RQ
    return Command(
        field,
        message_id=0 if answers else draw(number),
        message_id_responded_to=draw(number) if answers else 0,
        has_data_set=field is not CommandField.C_CANCEL_RQ and draw(st.booleans()),
        affected_sop_class_uid=draw(uids),
        requested_sop_class_uid=draw(uids),
        affected_sop_instance_uid=draw(uids),
        requested_sop_instance_uid=draw(uids),
        move_destination=draw(titles),
        priority=draw(st.sampled_from(Priority)) if field in WITH_PRIORITY else Priority.MEDIUM,
        status=draw(number) if field.is_response else None,
        offending_elements=draw(tags),
        error_comment=draw(st.text(printable, max_size=64).map(lambda comment: comment.strip(" "))),
        error_id=draw(maybe),
        event_type_id=draw(maybe),
        attribute_identifiers=draw(tags),
        action_type_id=draw(maybe),
        remaining=draw(maybe),
        completed=draw(maybe),
        failed=draw(maybe),
        warning=draw(maybe),
        move_originator_ae_title=draw(titles),
        move_originator_message_id=draw(maybe),
    )


def elements(*pairs: tuple[int, bytes], group: int = 0) -> bytes:
    return b"".join(pack("<HHL", group, element, len(value)) + value for element, value in pairs)


US = "<H"
FIELD, MESSAGE, ANSWERED = 0x0100, 0x0110, 0x0120
ECHO = ((FIELD, pack(US, 0x0030)), (MESSAGE, pack(US, 7)), (0x0800, pack(US, 0x0101)))


@given(commands())
def test_what_was_written_reads_the_same(command: Command) -> None:
    written = encode_command(command)
    assert len(written) % 2 == 0
    assert decode_command(written) == command
    assert encode_command(decode_command(written)) == written


@given(commands())
def test_the_oracle_reads_the_elements_and_the_group_length(command: Command) -> None:
    written = encode_command(command)
    data_set = oracle_decode(BytesIO(written), True, True)
    assert data_set.CommandGroupLength == len(written) - 12
    assert data_set.CommandField == command.field
    assert (data_set.CommandDataSetType != 0x0101) is command.has_data_set
    assert str(data_set.get("AffectedSOPInstanceUID", "")) == command.affected_sop_instance_uid
    assert data_set.get("ErrorComment", "") == command.error_comment
    assert data_set.get("Status") == command.status
    keys = list(data_set.keys())
    assert keys == sorted(keys)
    assert oracle_encode(data_set, True, True) == written


def test_the_oracle_s_messages() -> None:
    request = dimse_primitives.C_MOVE()
    request.MessageID, request.AffectedSOPClassUID = 9, "1.2.840.10008.5.1.4.1.2.2.2"
    request.MoveDestination, request.Priority = "VIEWER", 1
    request.Identifier = BytesIO(b"\0\0")
    message = dimse_messages.C_MOVE_RQ()
    message.primitive_to_message(request)
    theirs = oracle_encode(message.command_set, True, True)
    assert theirs is not None
    assert decode_command(theirs) == Command(
        CommandField.C_MOVE_RQ,
        9,
        has_data_set=True,
        affected_sop_class_uid="1.2.840.10008.5.1.4.1.2.2.2",
        move_destination="VIEWER",
        priority=Priority.HIGH,
    )


def test_a_response_repeats_what_identifies_its_request() -> None:
    store = Command.c_store_rq(3, CT, "1.2.3", move_originator_ae_title="WS", move_originator_message_id=8)
    assert store.response(Status.SUCCESS) == Command(
        CommandField.C_STORE_RSP,
        message_id_responded_to=3,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid="1.2.3",
        status=0,
    )
    action = Command(
        CommandField.N_ACTION_RQ, 4, requested_sop_class_uid="1.2", requested_sop_instance_uid="1.2.4", action_type_id=1
    )
    said = action.response(0x0123, comment="no")
    assert (said.affected_sop_class_uid, said.affected_sop_instance_uid) == ("1.2", "1.2.4")
    assert (said.action_type_id, said.error_comment) == (1, "no")
    found = Command(CommandField.C_GET_RQ, 5).response(0xFF00, remaining=1, completed=2, failed=3, warning=4)
    assert (found.remaining, found.completed, found.failed, found.warning) == (1, 2, 3, 4)
    assert Command.c_echo_rq(1).response(0).field is CommandField.C_ECHO_RSP


def test_an_event_report_names_its_instance() -> None:
    report = Command.n_event_report_rq(6, "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1", 2)
    read = oracle_decode(BytesIO(encode_command(report)), True, True)
    assert (read.CommandField, read.MessageID, read.EventTypeID) == (0x0100, 6, 2)
    assert (read.AffectedSOPClassUID, read.AffectedSOPInstanceUID) == ("1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1")
    assert report.response(0).event_type_id == 2


@pytest.mark.parametrize("field", [CommandField.C_CANCEL_RQ, CommandField.C_STORE_RSP])
def test_some_commands_are_never_answered(field: CommandField) -> None:
    with pytest.raises(LocalProtocolError):
        Command(field).response(0)


@pytest.mark.parametrize(
    "field", [field for field in CommandField if not field.is_response and field is not CommandField.C_CANCEL_RQ]
)
def test_every_request_can_be_answered(field: CommandField) -> None:
    said = Command(field, 1).response(Status.SOP_CLASS_NOT_SUPPORTED)
    assert decode_command(encode_command(said)) == said
    assert said.field == field | 0x8000


def test_comments_are_made_harmless_on_both_ways() -> None:
    written = encode_command(Command(CommandField.C_ECHO_RSP, status=0x0110, error_comment="é\n\\" + "x" * 100))
    assert decode_command(written).error_comment == "???" + "x" * 61
    rude = elements(
        (FIELD, pack(US, 0x8030)), (ANSWERED, pack(US, 7)), (0x0800, pack(US, 0x0101)), (0x0900, pack(US, 1))
    )
    assert decode_command(rude + elements((0x0902, b"\x1b[2J\0" + b"y" * 999))).error_comment == "?[2J?" + "y" * 59


@pytest.mark.parametrize(
    "data",
    [
        elements(*ECHO),  # no group length
        elements((0, pack("<L", 99_999)), *ECHO),  # a wrong one
        elements(*reversed(ECHO)),
        elements((0x0001, b"old!"), *ECHO, (0x0010, b"ACR-NEMA"), (0x5678, b"")),
        elements(*ECHO, (0x0002, b"1.2.840.10008.1.1 ")),
        elements(*ECHO, (0x0002, b"")),
    ],
)
def test_what_real_peers_do_is_tolerated(data: bytes) -> None:
    command = decode_command(data)
    assert (command.field, command.message_id, command.has_data_set) == (CommandField.C_ECHO_RQ, 7, False)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "Command Field"),
        (b"\0\0\0", "left over"),
        (elements(*ECHO)[:-1], "claims"),
        (pack("<HHL", 0, FIELD, 0xFFFF_FFFF), "claims"),
        (elements(*ECHO, *ECHO[:1]), "twice"),
        (elements(*ECHO) + elements((0x0010, b"name"), group=0x0010), "not of group 0000"),
        (elements(*ECHO[1:]), "Command Field"),
        (elements(ECHO[0], ECHO[2]), "Message ID"),
        (elements(*ECHO[:2]), "Data Set Type"),
        (elements((FIELD, b"\x30\0\0\0"), *ECHO[1:]), "4 bytes"),
        (elements((FIELD, pack(US, 0x8030)), *ECHO[1:]), "Message ID Being Responded To"),
        (elements((FIELD, pack(US, 0x8030)), (ANSWERED, pack(US, 7)), ECHO[2]), "Status"),
        (elements((FIELD, pack(US, 0x8888)), (ANSWERED, pack(US, 7)), ECHO[2]), "no such command"),
        (elements((FIELD, pack(US, 0x0FFF)), (ANSWERED, pack(US, 7)), (0x0800, b"\0\0")), "data set"),
        (elements((FIELD, pack(US, 0x0FFF)), (ANSWERED, pack(US, 7)), ECHO[2], (0x0002, b"x")), "not a UID"),
    ],
)
def test_what_cannot_be_answered_ends_the_association(data: bytes, word: str) -> None:
    with pytest.raises(RemoteProtocolError, match=word) as caught:
        decode_command(data)
    assert not isinstance(caught.value, CommandRefused)
    assert caught.value.abort is not None


@pytest.mark.parametrize(
    ("data", "field", "status"),
    [
        (elements((FIELD, pack(US, 0x0031)), *ECHO[1:]), 0x0031, Status.UNRECOGNIZED_OPERATION),
        (elements(*ECHO, (0x0002, b"../../etc")), 0x0030, Status.MISTYPED_ARGUMENT),
        (elements(*ECHO, (0x1000, b"1" * 65)), 0x0030, Status.MISTYPED_ARGUMENT),
        (elements(*ECHO, (0x0600, b"A\\B")), 0x0030, Status.MISTYPED_ARGUMENT),
        (elements(*ECHO, (0x0600, b"A\nB")), 0x0030, Status.MISTYPED_ARGUMENT),
        (elements(*ECHO, (0x0600, b"SEVENTEEN LETTERS")), 0x0030, Status.MISTYPED_ARGUMENT),
        (elements(*ECHO, (0x0600, b"\xc3\x84")), 0x0030, Status.MISTYPED_ARGUMENT),
        (elements(*ECHO, (0x1002, b"\1")), 0x0030, Status.MISTYPED_ARGUMENT),
        (elements(*ECHO, (0x1005, b"\1\2\3")), 0x0030, Status.MISTYPED_ARGUMENT),
    ],
)
def test_what_can_be_answered_brings_its_answer(data: bytes, field: int, status: Status) -> None:
    with pytest.raises(CommandRefused) as caught:
        decode_command(data)
    refused = caught.value
    assert (refused.message_id, refused.command_field, refused.status, refused.has_data_set) == (
        7,
        field,
        status,
        False,
    )
    read: Dataset = oracle_decode(BytesIO(refused.answer), True, True)
    assert (read.CommandField, read.MessageIDBeingRespondedTo) == (field | 0x8000, 7)
    assert (read.Status, read.CommandDataSetType) == (status, 0x0101)


@pytest.mark.parametrize(
    "fields",
    [{"affected_sop_class_uid": "x"}, {"move_destination": "SEVENTEEN LETTERS"}, {"move_destination": "A\\B"}],
)
def test_what_cannot_be_written_is_our_defect(fields: dict[str, str]) -> None:
    with pytest.raises(LocalProtocolError):
        encode_command(Command(CommandField.C_ECHO_RQ, 1, **fields))  # type: ignore[arg-type]


def test_mutated_commands_raise_nothing_but_typed_errors() -> None:
    dice, refused = random.Random(0), 0
    seed = encode_command(
        Command.c_store_rq(3, CT, "1.2.3", move_originator_ae_title="WS", move_originator_message_id=8)
    )
    for _ in range(3_000):
        data = bytearray(seed)
        for _ in range(dice.randint(1, 4)):
            position = dice.randrange(len(data))
            match dice.randrange(3):
                case 0:
                    data[position] = dice.randrange(256)
                case 1:
                    del data[position : position + dice.randint(1, 5)]
                case _:
                    data[position:position] = dice.randbytes(dice.randint(1, 5))
        try:
            decode_command(bytes(data))
        except RemoteProtocolError:
            refused += 1
    assert refused > 1_000
