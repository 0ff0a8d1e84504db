"""What is asked, and what is the answer? Command sets of the DIMSE services (PS3.7 6.3.1, 9.3, 10.3, Annex E), both ways.

Tolerated, because real peers do it: a missing or wrong group length, elements out of order, retired and unknown elements of group 0000,
values padded the wrong way. Refused: any other group, an element twice, a length that does not fit its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from types import MappingProxyType
from typing import Any

from leadglass.wire.errors import LocalProtocolError, RemoteProtocolError
from leadglass.wire.items import ABORT_INVALID_PARAMETER, AE_TITLE_LENGTH_BYTES, UID_LENGTH_MAX, invalid

ERROR_COMMENT_LENGTH_MAX = 64  # LO (PS3.5 6.2)
NO_DATA_SET = 0x0101  # Command Data Set Type; any other value announces one (PS3.7 E.1)
DATA_SET_FOLLOWS = 0x0001
RESPONSE = 0x8000  # of the Command Field (PS3.7 E.1)

_ELEMENT_HEADER = Struct("<HHL")  # implicit VR little endian: group, element, length (PS3.7 6.3.1)
_UINT16 = Struct("<H")
_UINT32 = Struct("<L")
_TAG = Struct("<HH")
_UID = re.compile(r"[0-9.]{1,64}")


class CommandField(IntEnum):
    """Command Field (0000,0100) (PS3.7 E.1)."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RQ = 0x0110
    N_GET_RSP = 0x8110
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140
    N_DELETE_RQ = 0x0150
    N_DELETE_RSP = 0x8150
    C_CANCEL_RQ = 0x0FFF

    @property
    def is_response(self) -> bool:
        """True for the -RSP half."""
        return bool(self & RESPONSE)


class Priority(IntEnum):
    """Priority (0000,0700) (PS3.7 E.1)."""

    MEDIUM = 0
    HIGH = 1
    LOW = 2


class Status(IntEnum):
    """Status (0000,0900): PS3.7 Annex C, and where marked the service class of PS3.4."""

    SUCCESS = 0x0000
    WARNING = 0x0001
    NO_SUCH_ATTRIBUTE = 0x0105
    INVALID_ATTRIBUTE_VALUE = 0x0106
    ATTRIBUTE_LIST_ERROR = 0x0107
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    NO_SUCH_ARGUMENT = 0x0114
    INVALID_ARGUMENT_VALUE = 0x0115
    ATTRIBUTE_VALUE_OUT_OF_RANGE = 0x0116
    INVALID_OBJECT_INSTANCE = 0x0117
    NO_SUCH_SOP_CLASS = 0x0118
    CLASS_INSTANCE_CONFLICT = 0x0119
    MISSING_ATTRIBUTE = 0x0120
    MISSING_ATTRIBUTE_VALUE = 0x0121
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION_TYPE = 0x0123
    NOT_AUTHORIZED = 0x0124
    DUPLICATE_INVOCATION = 0x0210
    UNRECOGNIZED_OPERATION = 0x0211
    MISTYPED_ARGUMENT = 0x0212
    RESOURCE_LIMITATION = 0x0213
    OUT_OF_RESOURCES = 0xA700  # PS3.4 B.2.3, C.4
    OUT_OF_RESOURCES_MATCHES = 0xA701  # PS3.4 C.4.2.1.5: unable to calculate number of matches
    OUT_OF_RESOURCES_SUB_OPERATIONS = 0xA702  # PS3.4 C.4.2.1.5: unable to perform sub-operations
    MOVE_DESTINATION_UNKNOWN = 0xA801  # PS3.4 C.4.2.1.5
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900  # PS3.4 B.2.3, C.4
    COERCION_OF_DATA_ELEMENTS = 0xB000  # PS3.4 B.2.3; C.4.2.1.5: sub-operations complete, one or more failures
    ELEMENTS_DISCARDED = 0xB006  # PS3.4 B.2.3
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS_WARNING = 0xB007  # PS3.4 B.2.3
    CANNOT_UNDERSTAND = 0xC000  # PS3.4 B.2.3, C.4
    CANCEL = 0xFE00
    PENDING = 0xFF00  # PS3.4 C.4
    PENDING_OPTIONAL_KEYS_NOT_SUPPORTED = 0xFF01  # PS3.4 C.4.1.1.4


class CommandRefused(RemoteProtocolError):
    """A command that cannot be carried out, from a peer that can be told so.

    `message_id`, `command_field` as received; `status` says why; `answer` is the encoded response, to be sent in the command's context;
    `has_data_set`: one follows and is to be dropped.
    """

    def __init__(
        self, message: str, *, message_id: int, command_field: int, status: Status, has_data_set: bool
    ) -> None:
        super().__init__(message, abort=ABORT_INVALID_PARAMETER)
        self.message_id = message_id
        self.command_field = command_field
        self.status = status
        self.has_data_set = has_data_set
        elements = {
            _COMMAND_FIELD: _UINT16.pack(command_field | RESPONSE),
            _MESSAGE_ID_RESPONDED_TO: _UINT16.pack(message_id),
            _DATA_SET_TYPE: _UINT16.pack(NO_DATA_SET),
            _STATUS: _UINT16.pack(status),
        }
        self.answer = _encode_elements(elements)


@dataclass(frozen=True, slots=True)
class Command:
    """One command set; what it does not have is "", 0, () or None.

    `message_id` counts in requests, `message_id_responded_to` in responses and C-CANCEL. `remaining`, `completed`, `failed` and `warning`
    are the Numbers of ... Sub-operations (0000,1020 to 1023). `offending_elements` and `attribute_identifiers` are tags, group << 16 |
    element. `error_comment` is cut to 64 ASCII characters on its way out.
    """

    field: CommandField
    message_id: int = 0
    message_id_responded_to: int = 0
    has_data_set: bool = False
    affected_sop_class_uid: str = ""
    requested_sop_class_uid: str = ""
    affected_sop_instance_uid: str = ""
    requested_sop_instance_uid: str = ""
    move_destination: str = ""
    priority: int = Priority.MEDIUM
    status: int | None = None
    offending_elements: tuple[int, ...] = ()
    error_comment: str = ""
    error_id: int | None = None
    event_type_id: int | None = None
    attribute_identifiers: tuple[int, ...] = ()
    action_type_id: int | None = None
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None
    move_originator_ae_title: str = ""
    move_originator_message_id: int | None = None

    @classmethod
    def c_echo_rq(cls, message_id: int) -> Command:
        """PS3.7 9.3.5.1."""
        return cls(CommandField.C_ECHO_RQ, message_id, affected_sop_class_uid="1.2.840.10008.1.1")

    @classmethod
    def c_store_rq(
        cls,
        message_id: int,
        sop_class_uid: str,
        sop_instance_uid: str,
        *,
        move_originator_ae_title: str = "",
        move_originator_message_id: int | None = None,
    ) -> Command:
        """PS3.7 9.3.1.1; the originator where a C-MOVE caused it."""
        return cls(
            CommandField.C_STORE_RQ,
            message_id,
            has_data_set=True,
            affected_sop_class_uid=sop_class_uid,
            affected_sop_instance_uid=sop_instance_uid,
            move_originator_ae_title=move_originator_ae_title,
            move_originator_message_id=move_originator_message_id,
        )

    @classmethod
    def n_event_report_rq(
        cls,
        message_id: int,
        sop_class_uid: str,
        sop_instance_uid: str,
        event_type_id: int,
        *,
        has_data_set: bool = True,
    ) -> Command:
        """PS3.7 10.3.1.1."""
        return cls(
            CommandField.N_EVENT_REPORT_RQ,
            message_id,
            has_data_set=has_data_set,
            affected_sop_class_uid=sop_class_uid,
            affected_sop_instance_uid=sop_instance_uid,
            event_type_id=event_type_id,
        )

    def response(self, status: int, *, has_data_set: bool = False, comment: str = "", **fields: Any) -> Command:
        """The response to this request: its message ID, SOP class, and for what concerns one instance its SOP Instance UID.

        `fields`: others of `Command`, by name. Raises LocalProtocolError for a command that is never answered.
        """
        if self.field.is_response or self.field is CommandField.C_CANCEL_RQ:
            raise LocalProtocolError(f"{self.field.name} is not answered")
        said = {
            "message_id_responded_to": self.message_id,
            "has_data_set": has_data_set,
            "affected_sop_class_uid": self.affected_sop_class_uid or self.requested_sop_class_uid,
            "affected_sop_instance_uid": self.affected_sop_instance_uid or self.requested_sop_instance_uid,
            "status": status,
            "error_comment": comment,
            "event_type_id": self.event_type_id,
            "action_type_id": self.action_type_id,
            **fields,
        }
        return Command(CommandField(self.field | RESPONSE), **said)


# ---- values


def _read_us(value: bytes) -> int:
    if len(value) != _UINT16.size:
        raise ValueError(f"{len(value)} bytes, US has {_UINT16.size}")
    return int(_UINT16.unpack(value)[0])


def _read_uid(value: bytes) -> str:
    text = value.rstrip(b"\0 ").decode("ascii", "replace")
    if text and not _UID.fullmatch(text):
        raise ValueError(f"not a UID: {text[:UID_LENGTH_MAX]!r}")
    return text


def _read_text(value: bytes, longest: int) -> str:
    text = value.rstrip(b"\0 ").decode("ascii", "replace").strip(" ")
    if len(text) > longest or not text.isprintable():
        raise ValueError(f"not {longest} printable characters: {text[:longest]!r}")
    return text


def _read_ae(value: bytes) -> str:
    title = _read_text(value, AE_TITLE_LENGTH_BYTES)
    if not title.isascii() or "\\" in title:
        raise ValueError(f"not an AE title: {title!r}")
    return title


def _read_comment(value: bytes) -> str:
    """For people only, so it is made harmless instead of being refused."""
    return _ascii(value.rstrip(b"\0 ").decode("ascii", "replace"))


def _read_tags(value: bytes) -> tuple[int, ...]:
    if len(value) % _TAG.size:
        raise ValueError(f"{len(value)} bytes, AT has {_TAG.size} each")
    return tuple(group << 16 | element for group, element in _TAG.iter_unpack(value))


def _write_uid(uid: str) -> bytes:
    if not _UID.fullmatch(uid):
        raise LocalProtocolError(f"not a UID: {uid[:UID_LENGTH_MAX]!r}")
    return uid.encode("ascii")


def _write_ae(title: str) -> bytes:
    if len(title) > AE_TITLE_LENGTH_BYTES or not title.isascii() or not title.isprintable() or "\\" in title:
        raise LocalProtocolError(f"not an AE title: {title!r}")
    return title.encode("ascii")


def _write_comment(comment: str) -> bytes:
    return _ascii(comment).encode("ascii")


def _ascii(text: str) -> str:
    """Printable ASCII without the value separator, cut to an LO's length."""
    safe = "".join(character if " " <= character <= "~" and character != "\\" else "?" for character in text)
    return safe[:ERROR_COMMENT_LENGTH_MAX].strip(" ")


def _write_tags(tags: tuple[int, ...]) -> bytes:
    return b"".join(_TAG.pack(tag >> 16, tag & 0xFFFF) for tag in tags)


# ---- elements

_COMMAND_FIELD, _MESSAGE_ID, _MESSAGE_ID_RESPONDED_TO = 0x0100, 0x0110, 0x0120
_PRIORITY, _DATA_SET_TYPE, _STATUS = 0x0700, 0x0800, 0x0900


@dataclass(frozen=True, slots=True)
class _Codec:
    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]
    padding: bytes = b""


_US = _Codec(_read_us, _UINT16.pack)
_UI = _Codec(_read_uid, _write_uid, b"\0")
_AE = _Codec(_read_ae, _write_ae, b" ")
_LO = _Codec(_read_comment, _write_comment, b" ")
_AT = _Codec(_read_tags, _write_tags)

# Elements of group 0000 that become fields of `Command` as they are (PS3.7 E.1), in ascending order
_FIELDS: Mapping[int, tuple[str, _Codec]] = MappingProxyType(
    {
        0x0002: ("affected_sop_class_uid", _UI),
        0x0003: ("requested_sop_class_uid", _UI),
        0x0110: ("message_id", _US),
        0x0120: ("message_id_responded_to", _US),
        0x0600: ("move_destination", _AE),
        0x0700: ("priority", _US),
        0x0900: ("status", _US),
        0x0901: ("offending_elements", _AT),
        0x0902: ("error_comment", _LO),
        0x0903: ("error_id", _US),
        0x1000: ("affected_sop_instance_uid", _UI),
        0x1001: ("requested_sop_instance_uid", _UI),
        0x1002: ("event_type_id", _US),
        0x1005: ("attribute_identifiers", _AT),
        0x1008: ("action_type_id", _US),
        0x1020: ("remaining", _US),
        0x1021: ("completed", _US),
        0x1022: ("failed", _US),
        0x1023: ("warning", _US),
        0x1030: ("move_originator_ae_title", _AE),
        0x1031: ("move_originator_message_id", _US),
    }
)
# Those that are written wherever they have a value
_SAID = tuple(
    (element, name, codec)
    for element, (name, codec) in _FIELDS.items()
    if element not in (_MESSAGE_ID, _MESSAGE_ID_RESPONDED_TO, _PRIORITY)
)
_WITH_PRIORITY = frozenset(
    {CommandField.C_STORE_RQ, CommandField.C_FIND_RQ, CommandField.C_GET_RQ, CommandField.C_MOVE_RQ}
)


def decode_command(data: bytes) -> Command:
    """A command set from its bytes, implicit VR little endian.

    Raises `CommandRefused` where the peer can be told by a response, plain RemoteProtocolError where it cannot.
    """
    elements = _read_elements(data)
    number = _required(elements, _COMMAND_FIELD, "Command Field")
    has_data_set = _required(elements, _DATA_SET_TYPE, "Command Data Set Type") != NO_DATA_SET
    answers = bool(number & RESPONSE) or number == CommandField.C_CANCEL_RQ
    if answers:
        _required(elements, _MESSAGE_ID_RESPONDED_TO, "Message ID Being Responded To")
        message_id = 0
    else:
        message_id = _required(elements, _MESSAGE_ID, "Message ID")

    def refused(message: str, status: Status) -> RemoteProtocolError:
        if answers:
            return invalid(f"command {number:04X}H: {message}")
        return CommandRefused(
            f"command {number:04X}H, message {message_id}: {message}",
            message_id=message_id,
            command_field=number,
            status=status,
            has_data_set=has_data_set,
        )

    try:
        field = CommandField(number)
    except ValueError:
        raise refused("no such command", Status.UNRECOGNIZED_OPERATION) from None
    if field.is_response and _STATUS not in elements:
        raise invalid(f"{field.name} without a Status")
    if field is CommandField.C_CANCEL_RQ and has_data_set:
        raise invalid("a C-CANCEL-RQ that announces a data set")
    values: dict[str, Any] = {}
    for element, value in elements.items():
        if (known := _FIELDS.get(element)) is not None:
            name, codec = known
            try:
                values[name] = codec.read(value)
            except ValueError as error:
                raise refused(f"{name} (0000,{element:04X}): {error}", Status.MISTYPED_ARGUMENT) from None
    return Command(field, has_data_set=has_data_set, **values)


def encode_command(command: Command) -> bytes:
    """The bytes of a command set, group length first. Raises LocalProtocolError for values that cannot be written."""
    field = command.field
    elements = {
        _COMMAND_FIELD: _UINT16.pack(field),
        _DATA_SET_TYPE: _UINT16.pack(DATA_SET_FOLLOWS if command.has_data_set else NO_DATA_SET),
    }
    if field & RESPONSE or field is CommandField.C_CANCEL_RQ:
        elements[_MESSAGE_ID_RESPONDED_TO] = _UINT16.pack(command.message_id_responded_to)
    else:
        elements[_MESSAGE_ID] = _UINT16.pack(command.message_id)
    if field in _WITH_PRIORITY:
        elements[_PRIORITY] = _UINT16.pack(command.priority)
    for element, name, codec in _SAID:
        value = getattr(command, name)
        if value is not None and value != "" and value != ():
            written = codec.write(value)
            elements[element] = written + codec.padding * (len(written) % 2)
    return _encode_elements(elements)


def _read_elements(data: bytes) -> dict[int, bytes]:
    """Values by element number, group 0000 only, the group length left out."""
    elements: dict[int, bytes] = {}
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < _ELEMENT_HEADER.size:
            raise invalid(f"command set: {end - offset} bytes are left over where an element should start")
        group, element, length = _ELEMENT_HEADER.unpack_from(data, offset)
        offset += _ELEMENT_HEADER.size
        if group != 0:
            raise invalid(f"command set: ({group:04X},{element:04X}) is not of group 0000")
        if length > end - offset:
            raise invalid(f"command set: (0000,{element:04X}) claims {length} bytes, {end - offset} are there")
        if element in elements:
            raise invalid(f"command set: (0000,{element:04X}) is there twice")
        elements[element] = data[offset : offset + length]
        offset += length
    return elements


def _required(elements: dict[int, bytes], element: int, name: str) -> int:
    try:
        return _read_us(elements[element])
    except KeyError:
        raise invalid(f"command set without {name} (0000,{element:04X})") from None
    except ValueError as error:
        raise invalid(f"command set: {name} (0000,{element:04X}): {error}") from None


def _encode_elements(elements: Mapping[int, bytes]) -> bytes:
    """Ascending elements behind their group length (PS3.7 6.3.1)."""
    body = b"".join(_ELEMENT_HEADER.pack(0, element, len(value)) + value for element, value in sorted(elements.items()))
    return _ELEMENT_HEADER.pack(0, 0, _UINT32.size) + _UINT32.pack(len(body)) + body
