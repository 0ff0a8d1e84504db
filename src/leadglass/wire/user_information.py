"""What do the two sides tell each other about themselves? The user information item and its sub-items (PS3.7 D.3.3, PS3.8 D.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct

from leadglass.wire.errors import LocalProtocolError
from leadglass.wire.items import invalid, read_items, read_prefixed, read_uid, write_item, write_prefixed, write_uid

VERSION_NAME_LENGTH_MAX_BYTES = 64  # PS3.7 D.3.3.2.3 says 16; longer ones are met and harmless

_UINT32 = Struct(">L")
_WINDOW = Struct(">HH")


class SubItem(IntEnum):
    """Sub-item types of the user information item."""

    MAXIMUM_LENGTH = 0x51  # PS3.8 D.1.1
    IMPLEMENTATION_CLASS_UID = 0x52  # PS3.7 D.3.3.2.1
    ASYNCHRONOUS_OPERATIONS_WINDOW = 0x53  # PS3.7 D.3.3.3
    ROLE_SELECTION = 0x54  # PS3.7 D.3.3.4
    IMPLEMENTATION_VERSION_NAME = 0x55  # PS3.7 D.3.3.2.3
    EXTENDED_NEGOTIATION = 0x56  # PS3.7 D.3.3.5
    COMMON_EXTENDED_NEGOTIATION = 0x57  # PS3.7 D.3.3.6
    USER_IDENTITY = 0x58  # PS3.7 D.3.3.7.1
    USER_IDENTITY_RESPONSE = 0x59  # PS3.7 D.3.3.7.2


@dataclass(frozen=True, slots=True)
class AsynchronousWindow:
    """Operations that may be outstanding, 0 for any number (PS3.7 D.3.3.3)."""

    invoked: int
    performed: int


@dataclass(frozen=True, slots=True)
class RoleSelection:
    """Roles of the association *requestor* for a SOP class: as proposed, or as accepted (PS3.7 D.3.3.4)."""

    sop_class_uid: str
    scu_role: bool
    scp_role: bool


@dataclass(frozen=True, slots=True)
class ExtendedNegotiation:
    """Service-class application information of a SOP class (PS3.7 D.3.3.5)."""

    sop_class_uid: str
    information: bytes


@dataclass(frozen=True, slots=True)
class CommonExtendedNegotiation:
    """The service class, and the related general SOP classes, of a SOP class (PS3.7 D.3.3.6)."""

    sop_class_uid: str
    service_class_uid: str
    related_general_sop_class_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """Who is at the requestor: 1 user name, 2 with passcode, 3 Kerberos, 4 SAML, 5 JWT (PS3.7 D.3.3.7.1). Secrets stay out of repr."""

    type: int
    positive_response_requested: bool
    primary: bytes = field(repr=False)
    secondary: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class UserInformation:
    """The user information item. `maximum_length`: longest P-DATA-TF its sender receives, 0 for any, None where it said nothing."""

    maximum_length: int | None
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    asynchronous_window: AsynchronousWindow | None = None
    role_selections: tuple[RoleSelection, ...] = ()
    extended_negotiations: tuple[ExtendedNegotiation, ...] = ()
    common_extended_negotiations: tuple[CommonExtendedNegotiation, ...] = ()
    user_identity: UserIdentity | None = None
    user_identity_response: bytes | None = field(default=None, repr=False)


_REPEATABLE = frozenset({SubItem.ROLE_SELECTION, SubItem.EXTENDED_NEGOTIATION, SubItem.COMMON_EXTENDED_NEGOTIATION})
_KNOWN = frozenset(SubItem)


def read_user_information(data: bytes, items_max: int) -> UserInformation:
    """Decodes the item's body, `items_max` sub-items at most. Unknown sub-items are skipped (PS3.8 9.3.1); a second one where one is allowed is refused."""
    bodies: dict[int, list[bytes]] = {}
    for number, (kind, body) in enumerate(read_items(data, "user information")):
        if number == items_max:
            raise invalid(f"user information: more than {items_max} sub-items")
        if kind not in _KNOWN:
            continue
        if kind in bodies and kind not in _REPEATABLE:
            raise invalid(f"user information: a second {SubItem(kind).name} sub-item")
        bodies.setdefault(kind, []).append(body)

    def one(kind: SubItem) -> bytes | None:
        return bodies[kind][0] if kind in bodies else None

    maximum, window = (one(SubItem.MAXIMUM_LENGTH), one(SubItem.ASYNCHRONOUS_OPERATIONS_WINDOW))
    class_uid, version = (one(SubItem.IMPLEMENTATION_CLASS_UID), one(SubItem.IMPLEMENTATION_VERSION_NAME))
    identity, response = one(SubItem.USER_IDENTITY), one(SubItem.USER_IDENTITY_RESPONSE)
    roles = tuple(_read_role(body) for body in bodies.get(SubItem.ROLE_SELECTION, ()))
    if len({role.sop_class_uid for role in roles}) != len(roles):
        raise invalid("user information: two role selections for one SOP class")
    return UserInformation(
        None if maximum is None else int(_fixed(_UINT32, maximum, "maximum length")[0]),
        "" if class_uid is None else read_uid(class_uid, "implementation class UID"),
        "" if version is None else _read_version_name(version),
        None if window is None else AsynchronousWindow(*_fixed(_WINDOW, window, "asynchronous operations window")),
        roles,
        tuple(_read_extended(body) for body in bodies.get(SubItem.EXTENDED_NEGOTIATION, ())),
        tuple(_read_common_extended(body) for body in bodies.get(SubItem.COMMON_EXTENDED_NEGOTIATION, ())),
        None if identity is None else _read_identity(identity),
        None
        if response is None
        else _ends(*read_prefixed(response, 0, "server response"), response, "server response"),
    )


def write_user_information(information: UserInformation) -> bytes:
    """Encodes the item's body, sub-items in ascending order of their types."""
    return b"".join(_sub_items(information))


def _sub_items(information: UserInformation) -> Iterator[bytes]:
    if information.maximum_length is not None:
        yield write_item(SubItem.MAXIMUM_LENGTH, _UINT32.pack(information.maximum_length))
    if information.implementation_class_uid:
        uid = write_uid(information.implementation_class_uid, "implementation class UID")
        yield write_item(SubItem.IMPLEMENTATION_CLASS_UID, uid)
    if (window := information.asynchronous_window) is not None:
        yield write_item(SubItem.ASYNCHRONOUS_OPERATIONS_WINDOW, _WINDOW.pack(window.invoked, window.performed))
    for role in information.role_selections:
        uid = write_prefixed(write_uid(role.sop_class_uid, "role selection"), "role selection")
        yield write_item(SubItem.ROLE_SELECTION, uid + bytes((role.scu_role, role.scp_role)))
    if information.implementation_version_name:
        yield write_item(
            SubItem.IMPLEMENTATION_VERSION_NAME, _write_version_name(information.implementation_version_name)
        )
    for extended in information.extended_negotiations:
        uid = write_prefixed(write_uid(extended.sop_class_uid, "extended negotiation"), "extended negotiation")
        yield write_item(SubItem.EXTENDED_NEGOTIATION, uid + extended.information)
    for common in information.common_extended_negotiations:
        yield write_item(SubItem.COMMON_EXTENDED_NEGOTIATION, _write_common_extended(common))
    if (identity := information.user_identity) is not None:
        head = bytes((identity.type, identity.positive_response_requested))
        fields = write_prefixed(identity.primary, "primary field") + write_prefixed(
            identity.secondary, "secondary field"
        )
        yield write_item(SubItem.USER_IDENTITY, head + fields)
    if (response := information.user_identity_response) is not None:
        yield write_item(SubItem.USER_IDENTITY_RESPONSE, write_prefixed(response, "server response"))


def _fixed(layout: Struct, body: bytes, what: str) -> tuple[int, ...]:
    if len(body) != layout.size:
        raise invalid(f"{what}: {len(body)} bytes where {layout.size} are due")
    return layout.unpack(body)


def _ends(value: bytes, offset: int, body: bytes, what: str) -> bytes:
    if offset != len(body):
        raise invalid(f"{what}: {len(body) - offset} bytes follow its end")
    return value


def _read_role(body: bytes) -> RoleSelection:
    uid, offset = read_prefixed(body, 0, "role selection")
    if len(body) - offset != 2 or body[offset] > 1 or body[offset + 1] > 1:
        raise invalid("role selection: two bytes of 0 or 1 are due after the UID")
    return RoleSelection(read_uid(uid, "role selection"), bool(body[offset]), bool(body[offset + 1]))


def _read_extended(body: bytes) -> ExtendedNegotiation:
    uid, offset = read_prefixed(body, 0, "extended negotiation")
    return ExtendedNegotiation(read_uid(uid, "extended negotiation"), body[offset:])


def _read_common_extended(body: bytes) -> CommonExtendedNegotiation:
    what = "common extended negotiation"
    sop_class, offset = read_prefixed(body, 0, what)
    service_class, offset = read_prefixed(body, offset, what)
    related, _ = read_prefixed(body, offset, what)  # what follows is reserved
    uids, offset = [], 0
    while offset < len(related):
        uid, offset = read_prefixed(related, offset, what)
        uids.append(read_uid(uid, what))
    return CommonExtendedNegotiation(read_uid(sop_class, what), read_uid(service_class, what), tuple(uids))


def _write_common_extended(common: CommonExtendedNegotiation) -> bytes:
    what = "common extended negotiation"
    related = b"".join(write_prefixed(write_uid(uid, what), what) for uid in common.related_general_sop_class_uids)
    sop_class, service_class = (write_uid(common.sop_class_uid, what), write_uid(common.service_class_uid, what))
    return write_prefixed(sop_class, what) + write_prefixed(service_class, what) + write_prefixed(related, what)


def _read_identity(body: bytes) -> UserIdentity:
    if len(body) < 2:
        raise invalid("user identity: type and response flag are missing")
    primary, offset = read_prefixed(body, 2, "user identity, primary field")
    secondary, offset = read_prefixed(body, offset, "user identity, secondary field")
    return UserIdentity(body[0], body[1] == 1, primary, _ends(secondary, offset, body, "user identity"))


def _read_version_name(body: bytes) -> str:
    if len(body) > VERSION_NAME_LENGTH_MAX_BYTES:
        raise invalid(f"implementation version name: {len(body)} bytes, {VERSION_NAME_LENGTH_MAX_BYTES} at most")
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "?" for byte in body.rstrip(b"\0 "))
    return text.strip(" ")


def _write_version_name(name: str) -> bytes:
    data = name.encode("ascii", "replace")
    if len(data) > VERSION_NAME_LENGTH_MAX_BYTES:
        raise LocalProtocolError(f"implementation version name {name!r} is longer than {VERSION_NAME_LENGTH_MAX_BYTES}")
    return data
