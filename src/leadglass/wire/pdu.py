"""What are the seven protocol data units, and how do they read and write? (PS3.8 9.3)

`decode(kind, body, limits)` takes the bytes behind the six of the header. Whatever they are, it returns a PDU or raises
RemoteProtocolError, with a reject hint where an A-ASSOCIATE-RQ is legible but not acceptable, else with an abort hint. P-DATA-TF is here for
completeness: an association streams it and never holds one (`association.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from leadglass.wire.errors import LocalProtocolError, RejectHint, RemoteProtocolError
from leadglass.wire.items import invalid, read_ae_title, read_items, read_uid, write_ae_title, write_item, write_uid
from leadglass.wire.limits import PDV_HEADERS_LENGTH_BYTES, AssociationLimits
from leadglass.wire.user_information import UserInformation, read_user_information, write_user_information

APPLICATION_CONTEXT_NAME = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
PROTOCOL_VERSION = 1  # bit 0; the others are not tested (PS3.8 9.3.2)

PDU_HEADER = Struct(">BxL")  # PDU type, reserved, PDU length (PS3.8 9.3.1)
PDV_HEADER = Struct(">LBB")  # item length, presentation context ID, message control header (PS3.8 9.3.5.1, E.2)
P_DATA_HEADER = Struct(">BxLLBB")  # both, for a P-DATA-TF of one presentation data value
PDV_COUNTED_BYTES = 2  # of the PDV header, what the item length counts: context ID and message control header
COMMAND_FRAGMENT = 0x01  # message control header: command, not data set (PS3.8 E.2)
LAST_FRAGMENT = 0x02

_ASSOCIATE_FIXED = Struct(">H2x16s16s32x")  # PS3.8 9.3.2, bytes 7-74


class PduType(IntEnum):
    """PDU types (PS3.8 9.3.2 to 9.3.8)."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


class ContextResult(IntEnum):
    """Result/reason of a presentation context (PS3.8 9.3.3.2)."""

    ACCEPTANCE = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


class _Item(IntEnum):
    APPLICATION_CONTEXT = 0x10
    PRESENTATION_CONTEXT_RQ = 0x20
    PRESENTATION_CONTEXT_AC = 0x21
    ABSTRACT_SYNTAX = 0x30
    TRANSFER_SYNTAX = 0x40
    USER_INFORMATION = 0x50


_TOP_LEVEL = frozenset(
    {
        _Item.APPLICATION_CONTEXT,
        _Item.PRESENTATION_CONTEXT_RQ,
        _Item.PRESENTATION_CONTEXT_AC,
        _Item.USER_INFORMATION,
    }
)


@dataclass(frozen=True, slots=True)
class PresentationContext:
    """A proposed presentation context (PS3.8 9.3.2.2). `id` is odd, 1 to 255."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PresentationContextResult:
    """The answer to a proposed presentation context (PS3.8 9.3.3.2). `transfer_syntax` means nothing unless accepted."""

    id: int
    result: ContextResult
    transfer_syntax: str = ""


@dataclass(frozen=True, slots=True)
class AssociateRQ:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2)."""

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[PresentationContext, ...]
    user_information: UserInformation
    application_context_name: str = APPLICATION_CONTEXT_NAME
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class AssociateAC:
    """A-ASSOCIATE-AC (PS3.8 9.3.3). The AE titles repeat the request's and are not tested."""

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[PresentationContextResult, ...]
    user_information: UserInformation
    application_context_name: str = APPLICATION_CONTEXT_NAME
    protocol_version: int = PROTOCOL_VERSION


_REJECT_RESULTS = {1: "rejected-permanent", 2: "rejected-transient"}
_REJECT_SOURCES = {1: "service-user", 2: "service-provider (ACSE)", 3: "service-provider (presentation)"}
_REJECT_REASONS = {
    (1, 1): "no-reason-given",
    (1, 2): "application-context-name-not-supported",
    (1, 3): "calling-AE-title-not-recognized",
    (1, 7): "called-AE-title-not-recognized",
    (2, 1): "no-reason-given",
    (2, 2): "protocol-version-not-supported",
    (3, 1): "temporary-congestion",
    (3, 2): "local-limit-exceeded",
}


@dataclass(frozen=True, slots=True)
class AssociateRJ:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int

    def __str__(self) -> str:
        result, source = (_REJECT_RESULTS.get(self.result, "result ?"), _REJECT_SOURCES.get(self.source, "source ?"))
        reason = _REJECT_REASONS.get((self.source, self.reason), "reason ?")
        return f"{result}, {source}, {reason} ({self.result}, {self.source}, {self.reason})"


@dataclass(frozen=True, slots=True)
class PresentationDataValue:
    """A fragment of a message (PS3.8 9.3.5.1, Annex E)."""

    context_id: int
    is_command: bool
    is_last: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class PData:
    """P-DATA-TF (PS3.8 9.3.5)."""

    values: tuple[PresentationDataValue, ...]


@dataclass(frozen=True, slots=True)
class ReleaseRQ:
    """A-RELEASE-RQ (PS3.8 9.3.6)."""


@dataclass(frozen=True, slots=True)
class ReleaseRP:
    """A-RELEASE-RP (PS3.8 9.3.7)."""


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT (PS3.8 9.3.8). `source`: 0 service-user, 2 service-provider; `reason` counts with 2 only."""

    source: int
    reason: int


Pdu = AssociateRQ | AssociateAC | AssociateRJ | PData | ReleaseRQ | ReleaseRP | Abort


# ---- bytes to PDU


def decode(kind: PduType, body: bytes, limits: AssociationLimits) -> Pdu:
    """The PDU of a type from the bytes behind its header; see the module's docstring for errors."""
    match kind:
        case PduType.ASSOCIATE_RQ:
            return _read_associate_rq(body, limits)
        case PduType.ASSOCIATE_AC:
            return _read_associate_ac(body, limits)
        case PduType.P_DATA_TF:
            return _read_p_data(body)
    if len(body) != FIXED_LENGTH_BYTES:
        raise invalid(f"{kind.name} of {len(body)} bytes, {FIXED_LENGTH_BYTES} are due")
    match kind:
        case PduType.ASSOCIATE_RJ:
            return AssociateRJ(body[1], body[2], body[3])
        case PduType.RELEASE_RQ:
            return ReleaseRQ()
        case PduType.RELEASE_RP:
            return ReleaseRP()
        case PduType.ABORT:
            return Abort(body[2], body[3])


FIXED_LENGTH_BYTES = 4  # body of A-ASSOCIATE-RJ, A-RELEASE-RQ, A-RELEASE-RP and A-ABORT


def unacceptable(message: str, source: int = 2, reason: int = 1) -> RemoteProtocolError:
    """The error for a request that reads well and cannot be granted: rejected-permanent, by default ACSE without a reason."""
    return RemoteProtocolError(message, reject=RejectHint(1, source, reason))


def _read_associate_rq(body: bytes, limits: AssociationLimits) -> AssociateRQ:
    version, called, calling, items = _associate_parts(body, "A-ASSOCIATE-RQ")
    if not version & PROTOCOL_VERSION:
        raise unacceptable(f"protocol version {version:04X}H, bit 0 is not set", 2, 2)
    application_context = _application_context(items)
    if application_context != APPLICATION_CONTEXT_NAME:
        raise unacceptable(f"application context name {application_context} is not DICOM's", 1, 2)
    called_ae_title, calling_ae_title = read_ae_title(called), read_ae_title(calling)
    if called_ae_title is None:
        raise unacceptable(f"the called AE title is none: {called!r}", 1, 7)
    if calling_ae_title is None:
        raise unacceptable(f"the calling AE title is none: {calling!r}", 1, 3)
    contexts = _read_contexts(items.get(_Item.PRESENTATION_CONTEXT_RQ, []), limits)
    information = _user_information(items, limits)
    return AssociateRQ(called_ae_title, calling_ae_title, contexts, information, application_context, version)


def _read_contexts(bodies: list[bytes], limits: AssociationLimits) -> tuple[PresentationContext, ...]:
    if not 0 < len(bodies) <= limits.presentation_contexts_max:
        raise unacceptable(f"{len(bodies)} presentation contexts, 1 to {limits.presentation_contexts_max} are allowed")
    contexts: list[PresentationContext] = []
    seen: set[int] = set()
    for body in bodies:
        context = _read_context(body, limits)
        if context.id in seen or context.id % 2 == 0:
            raise unacceptable(f"presentation context identifier {context.id} is used twice, or not odd")
        seen.add(context.id)
        contexts.append(context)
    return tuple(contexts)


def _read_associate_ac(body: bytes, limits: AssociationLimits) -> AssociateAC:
    version, called, calling, items = _associate_parts(body, "A-ASSOCIATE-AC")
    results: dict[int, PresentationContextResult] = {}
    for item in items.get(_Item.PRESENTATION_CONTEXT_AC, ()):
        result = _read_result(item)
        if result.id in results or result.id % 2 == 0:
            raise invalid(f"presentation context identifier {result.id} is answered twice, or not odd")
        results[result.id] = result
    called_ae_title, calling_ae_title = (read_ae_title(called) or "", read_ae_title(calling) or "")
    information = _user_information(items, limits)
    application_context = _application_context(items)
    return AssociateAC(
        called_ae_title, calling_ae_title, tuple(results.values()), information, application_context, version
    )


def _associate_parts(body: bytes, what: str) -> tuple[int, bytes, bytes, dict[int, list[bytes]]]:
    """Protocol version, called and calling AE title field, and the bodies of the items by type."""
    if len(body) < _ASSOCIATE_FIXED.size:
        raise invalid(f"{what} of {len(body)} bytes, its fixed fields alone have {_ASSOCIATE_FIXED.size}")
    version, called, calling = _ASSOCIATE_FIXED.unpack_from(body)
    items: dict[int, list[bytes]] = {}
    for kind, item in read_items(body[_ASSOCIATE_FIXED.size :], what):
        if kind in _TOP_LEVEL:
            items.setdefault(kind, []).append(item)
    for single in (_Item.APPLICATION_CONTEXT, _Item.USER_INFORMATION):
        if len(items.get(single, ())) != 1:
            raise invalid(f"{what} has {len(items.get(single, ()))} {single.name} items, one is due")
    return version, called, calling, items


def _application_context(items: dict[int, list[bytes]]) -> str:
    return read_uid(items[_Item.APPLICATION_CONTEXT][0], "application context name")


def _user_information(items: dict[int, list[bytes]], limits: AssociationLimits) -> UserInformation:
    body = items[_Item.USER_INFORMATION][0]
    if len(body) > limits.user_information_length_max_bytes:
        raise unacceptable(f"user information of {len(body)} bytes, {limits.user_information_length_max_bytes} at most")
    return read_user_information(body, limits.user_information_items_max)


def _read_context(body: bytes, limits: AssociationLimits) -> PresentationContext:
    """PS3.8 9.3.2.2: identifier and three reserved bytes, then one abstract and one or more transfer syntaxes."""
    if len(body) < 4:
        raise invalid("a presentation context without an identifier")
    where = f"presentation context {body[0]}"
    abstract_syntaxes: list[str] = []
    transfer_syntaxes: list[str] = []
    for kind, item in read_items(body[4:], where):
        if kind == _Item.ABSTRACT_SYNTAX:
            abstract_syntaxes.append(read_uid(item, f"{where}, abstract syntax"))
        elif kind == _Item.TRANSFER_SYNTAX:
            if len(transfer_syntaxes) == limits.transfer_syntaxes_per_context_max:
                raise unacceptable(f"{where}: more than {limits.transfer_syntaxes_per_context_max} transfer syntaxes")
            transfer_syntaxes.append(read_uid(item, f"{where}, transfer syntax"))
    if len(abstract_syntaxes) != 1 or not transfer_syntaxes:
        raise invalid(f"{where} has {len(abstract_syntaxes)} abstract and {len(transfer_syntaxes)} transfer syntaxes")
    return PresentationContext(body[0], abstract_syntaxes[0], tuple(transfer_syntaxes))


def _read_result(body: bytes) -> PresentationContextResult:
    """PS3.8 9.3.3.2: identifier, reserved, result, reserved, then one transfer syntax, which counts if accepted."""
    if len(body) < 4:
        raise invalid("a presentation context without an identifier")
    where = f"presentation context {body[0]}"
    try:
        result = ContextResult(body[2])
    except ValueError:
        raise invalid(f"{where} has the unknown result {body[2]}") from None
    if result is not ContextResult.ACCEPTANCE:
        return PresentationContextResult(body[0], result)
    syntaxes = [item for kind, item in read_items(body[4:], where) if kind == _Item.TRANSFER_SYNTAX]
    if len(syntaxes) != 1:
        raise invalid(f"{where} was accepted with {len(syntaxes)} transfer syntaxes, one is due")
    return PresentationContextResult(body[0], result, read_uid(syntaxes[0], f"{where}, transfer syntax"))


def _read_p_data(body: bytes) -> PData:
    values: list[PresentationDataValue] = []
    offset = 0
    while offset < len(body) or not values:
        context_id, control, length = read_pdv_header(body, offset, len(body) - offset)
        offset += PDV_HEADER.size
        is_command, is_last = (bool(control & COMMAND_FRAGMENT), bool(control & LAST_FRAGMENT))
        values.append(PresentationDataValue(context_id, is_command, is_last, body[offset : offset + length]))
        offset += length
    return PData(tuple(values))


def read_pdv_header(data: bytes | bytearray, offset: int, left: int) -> tuple[int, int, int]:
    """Context identifier, message control header and data length of the value that starts at `offset`.

    `left`: bytes that the P-DATA-TF has from there on. `data` must hold the header unless `left` is too small for one.
    """
    if left < PDV_HEADER.size:
        raise invalid(f"P-DATA-TF: {left} bytes where a presentation data value should start")
    length, context_id, control = PDV_HEADER.unpack_from(data, offset)
    length -= PDV_COUNTED_BYTES
    if not 0 <= length <= left - PDV_HEADER.size:
        raise invalid(f"P-DATA-TF: a value of {length} bytes where {left - PDV_HEADER.size} are left")
    return context_id, control, length


# ---- PDU to bytes


def encode(pdu: Pdu) -> bytes:
    """The whole PDU, header included. Raises LocalProtocolError for what cannot be said."""
    match pdu:
        case AssociateRQ():
            return _write_pdu(PduType.ASSOCIATE_RQ, _write_associate_rq(pdu))
        case AssociateAC():
            return _write_pdu(PduType.ASSOCIATE_AC, _write_associate_ac(pdu))
        case AssociateRJ(result, source, reason):
            return _write_pdu(PduType.ASSOCIATE_RJ, bytes((0, result, source, reason)))
        case PData(values):
            return _write_pdu(PduType.P_DATA_TF, b"".join(_write_pdv(value) for value in values))
        case ReleaseRQ():
            return _write_pdu(PduType.RELEASE_RQ, bytes(FIXED_LENGTH_BYTES))
        case ReleaseRP():
            return _write_pdu(PduType.RELEASE_RP, bytes(FIXED_LENGTH_BYTES))
        case Abort(source, reason):
            return _write_pdu(PduType.ABORT, bytes((0, 0, source, reason)))


def p_data_header(length: int, context_id: int, control: int) -> bytes:
    """Both headers of a P-DATA-TF with one value of `length` data bytes."""
    pdu_length, value_length = length + PDV_HEADERS_LENGTH_BYTES, length + PDV_COUNTED_BYTES
    return P_DATA_HEADER.pack(PduType.P_DATA_TF, pdu_length, value_length, context_id, control)


def _write_pdu(kind: PduType, body: bytes) -> bytes:
    return PDU_HEADER.pack(kind, len(body)) + body


def _write_pdv(value: PresentationDataValue) -> bytes:
    control = COMMAND_FRAGMENT * value.is_command | LAST_FRAGMENT * value.is_last
    return PDV_HEADER.pack(len(value.data) + PDV_COUNTED_BYTES, value.context_id, control) + value.data


def _write_associate_rq(rq: AssociateRQ) -> bytes:
    if not rq.called_ae_title or not rq.calling_ae_title:
        raise LocalProtocolError("an A-ASSOCIATE-RQ needs both AE titles")
    contexts = b"".join(_write_context(context) for context in rq.presentation_contexts)
    return _write_associate(rq, contexts)


def _write_associate_ac(ac: AssociateAC) -> bytes:
    contexts = b"".join(_write_result(result) for result in ac.presentation_contexts)
    return _write_associate(ac, contexts)


def _write_associate(pdu: AssociateRQ | AssociateAC, contexts: bytes) -> bytes:
    called, calling = (write_ae_title(pdu.called_ae_title), write_ae_title(pdu.calling_ae_title))
    name = write_item(_Item.APPLICATION_CONTEXT, write_uid(pdu.application_context_name, "application context name"))
    information = write_item(_Item.USER_INFORMATION, write_user_information(pdu.user_information))
    return _ASSOCIATE_FIXED.pack(pdu.protocol_version, called, calling) + name + contexts + information


def _write_context(context: PresentationContext) -> bytes:
    body = bytes((context.id, 0, 0, 0)) + write_item(
        _Item.ABSTRACT_SYNTAX, write_uid(context.abstract_syntax, "abstract syntax")
    )
    for uid in context.transfer_syntaxes:
        body += write_item(_Item.TRANSFER_SYNTAX, write_uid(uid, "transfer syntax"))
    return write_item(_Item.PRESENTATION_CONTEXT_RQ, body)


def _write_result(result: PresentationContextResult) -> bytes:
    uid = write_uid(result.transfer_syntax, "transfer syntax") if result.transfer_syntax else b""
    body = bytes((result.id, 0, result.result, 0)) + write_item(_Item.TRANSFER_SYNTAX, uid)
    return write_item(_Item.PRESENTATION_CONTEXT_AC, body)
