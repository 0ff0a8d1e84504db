"""What do a modality and a workstation say? Simulated devices as SCU over mutual TLS, on the product's own wire core, from an address of their own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from leadglass.doors.dimse.connection import Connection, ConnectionLost
from leadglass.lab.corpus import Image
from leadglass.lab.relay import Credentials
from leadglass.wire import tags, uids
from leadglass.wire.association import (
    AcceptedContext,
    AssociateConfirmation,
    AssociateRejected,
    Association,
    DataFragment,
    ReleaseConfirmation,
    Role,
)
from leadglass.wire.charset import decode_value
from leadglass.wire.dictionary import vr_of
from leadglass.wire.dimse import Command, CommandField, Status, encode_command
from leadglass.wire.elements import DataSet, Element, encode, parse
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.limits import AssociationLimits
from leadglass.wire.messages import CommandReceived, DataSetEnd, DataSetFragment, MessageReader
from leadglass.wire.negotiation import PRESENTATION_CONTEXTS_MAX, RequestedContext, request
from leadglass.wire.pdu import Abort, ReleaseRQ
from leadglass.wire.user_information import UserIdentity

CONNECT_SECONDS = 10.0
STALL_SECONDS = 60.0
ALERT_SECONDS = 2.0  # how long somebody without a certificate waits to hear what is thought of that
JWT = 5  # user identity type (PS3.7 D.3.3.7.1)
NATIVE = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)
UTF_8 = b"ISO_IR 192"
PUSH_INSTANCE = uids.STORAGE_COMMITMENT_PUSH_INSTANCE


class TurnedAway(Exception):
    """There is no association (any more); the text is all that the peer heard."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Where the archive answers, and the title it answers to."""

    host: str
    port: int
    ae_title: str = "LEADGLASS"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a simulated device is: AE title, source address, and the stick it was given (None: it has no certificate).

    `token`: of whoever sits at it, where the console gave them one.
    """

    ae_title: str
    source: str
    stick: Path | None
    authorities: Path | None = None
    token: str = field(default="", repr=False)

    def credentials(self) -> Credentials:
        if self.stick is None:
            assert self.authorities is not None
            return Credentials(None, None, self.authorities)
        return Credentials(self.stick / "client.pem", self.stick / "client.key", self.stick / "ca.pem")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response's status with its comment, and the sub-operation counts of a retrieval."""

    status: int
    comment: str = ""
    completed: int = 0
    failed: int = 0

    def __str__(self) -> str:
        name = Status(self.status).name if self.status in set(Status) else "a failure"
        return f"{self.status:04X}H {self.comment or name}"


@dataclass(frozen=True, slots=True)
class Received:
    """An instance that came back."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes


@dataclass(frozen=True, slots=True)
class Message:
    context: AcceptedContext
    command: Command
    data: bytes


class Messages:
    """Whole messages over one association, either role; one thread."""

    def __init__(self, connection: Connection, association: Association) -> None:
        self.connection, self.association = connection, association
        self._reader = MessageReader(AssociationLimits())
        self._items: list[object] = []

    def send(self, context: AcceptedContext, command: Command, data: bytes | None = None) -> None:
        self.association.send_data(context.id, is_command=True, payload=encode_command(command), is_last=True)
        if data is not None:
            self.association.send_data(context.id, is_command=False, payload=data, is_last=True)
        self.flush()

    def flush(self) -> None:
        self.connection.write(self.association.data_to_send())

    def next(self) -> object:
        """A `Message`, or the association's own event that comes instead of one. Raises ConnectionLost, RemoteProtocolError."""
        item = self._item()
        if not isinstance(item, CommandReceived):
            return item
        context, data = self.association.contexts[item.context_id], bytearray()
        if item.command.has_data_set:
            while not isinstance(piece := self._item(), DataSetEnd):
                if not isinstance(piece, DataSetFragment):
                    raise ConnectionLost("the association ended in the middle of a data set")
                data += piece.data
        return Message(context, item.command, bytes(data))

    def _item(self) -> object:
        while not self._items:
            event = self.association.next_event()
            if event is None:
                count = self.connection.read(self.association.buffer(), wait=True)
                if not count:
                    raise ConnectionLost(self.connection.cut_reason or "the peer closed the connection")
                self.association.received(count, time.monotonic())
            elif isinstance(event, DataFragment):
                self._items.extend(self._reader.feed(event))
            else:
                return event
        return self._items.pop(0)


class Session:
    """One association that a simulated device asked for."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._message_id = 0
        self.cancelled_at = 0.0  # monotonic seconds, of the last C-CANCEL

    @property
    def contexts(self) -> Mapping[int, AcceptedContext]:
        return self._messages.association.contexts

    @property
    def source_port(self) -> int:
        return int(self._messages.connection.socket.getsockname()[1])

    # ---- services

    def echo(self) -> Answer:
        context = self._context(uids.VERIFICATION)
        self._messages.send(context, Command.c_echo_rq(self._next_id()))
        return _answer(self._response(CommandField.C_ECHO_RSP))

    def store(self, image: Image) -> Answer:
        context = self._context(image.sop_class_uid, image.transfer_syntax_uid)
        command = Command.c_store_rq(self._next_id(), image.sop_class_uid, image.sop_instance_uid)
        self._messages.send(context, command, image.data_set)
        return _answer(self._response(CommandField.C_STORE_RSP))

    def find(
        self,
        level: str,
        keys: Mapping[int, str],
        *,
        enough: int = 0,
        take: Callable[[Mapping[int, str]], None] = lambda row: None,
    ) -> tuple[Answer, list[dict[int, str]]]:
        """C-FIND in the study root; keys as text, "" for what shall come back. After `enough` answers (0: never) it is cancelled.

        `take` is shown each answer as it comes.
        """
        context = self._context(uids.STUDY_ROOT_FIND)
        rows: list[dict[int, str]] = []
        self._ask(CommandField.C_FIND_RQ, context, identifier(level, keys, context.transfer_syntax))
        while True:
            message = self._response(CommandField.C_FIND_RSP)
            if (message.command.status or 0) & 0xFF00 != Status.PENDING:
                return _answer(message), rows
            rows.append(_texts(message.data, context.transfer_syntax))
            take(rows[-1])
            if len(rows) == enough:
                self.cancel(uids.STUDY_ROOT_FIND)

    def get(self, level: str, keys: Mapping[int, str], take: Callable[[Received], int]) -> Answer:
        """C-GET in the study root; `take` answers each instance that comes with a status."""
        context = self._context(uids.STUDY_ROOT_GET)
        self._ask(CommandField.C_GET_RQ, context, identifier(level, keys, context.transfer_syntax))
        while True:
            message = self._message()
            if message.command.field is CommandField.C_STORE_RQ:
                self._messages.send(message.context, message.command.response(take(received(message))))
            elif message.command.status != Status.PENDING:
                return _answer(message)

    def cancel(self, abstract_syntax: str) -> None:
        """C-CANCEL of what was asked last in that context. It has no answer of its own."""
        self.cancelled_at = time.monotonic()
        cancel = Command(CommandField.C_CANCEL_RQ, message_id_responded_to=self._message_id)
        self._messages.send(self._context(abstract_syntax), cancel)

    def move(self, level: str, keys: Mapping[int, str], destination: str) -> Answer:
        context = self._context(uids.STUDY_ROOT_MOVE)
        self._ask(CommandField.C_MOVE_RQ, context, identifier(level, keys, context.transfer_syntax), destination)
        while (message := self._response(CommandField.C_MOVE_RSP)).command.status == Status.PENDING:
            continue
        return _answer(message)

    def commit(self, transaction_uid: str, references: Iterable[tuple[str, str]]) -> Answer:
        """N-ACTION with (SOP class, SOP instance) pairs; its report comes later, see `report`."""
        context = self._context(uids.STORAGE_COMMITMENT_PUSH)
        command = Command(
            CommandField.N_ACTION_RQ,
            self._next_id(),
            has_data_set=True,
            requested_sop_class_uid=uids.STORAGE_COMMITMENT_PUSH,
            requested_sop_instance_uid=PUSH_INSTANCE,
            action_type_id=1,
        )
        self._messages.send(context, command, commitment(transaction_uid, references, context.transfer_syntax))
        return _answer(self._response(CommandField.N_ACTION_RSP))

    def report(self) -> DataSet:
        """Waits for the N-EVENT-REPORT of a commitment on this association and answers it."""
        message = self._message()
        if message.command.field is not CommandField.N_EVENT_REPORT_RQ:
            raise ConnectionLost(f"{message.command.field.name} where an N-EVENT-REPORT-RQ was due")
        self._messages.send(message.context, message.command.response(Status.SUCCESS))
        return parse(message.data, message.context.transfer_syntax)

    # ---- the end

    def release(self) -> None:
        self._messages.association.send(ReleaseRQ())
        self._messages.flush()
        while not isinstance(self._messages.next(), ReleaseConfirmation):
            continue

    def abort(self) -> None:
        with contextlib.suppress(ConnectionLost):
            self._messages.association.send(Abort(0, 0))
            self._messages.flush()

    # ---- within

    def _ask(self, field: CommandField, context: AcceptedContext, data: bytes, destination: str = "") -> None:
        command = Command(
            field,
            self._next_id(),
            has_data_set=True,
            affected_sop_class_uid=context.abstract_syntax,
            move_destination=destination,
        )
        self._messages.send(context, command, data)

    def _context(self, abstract_syntax: str, transfer_syntax: str = "") -> AcceptedContext:
        for context in self.contexts.values():
            if context.abstract_syntax == abstract_syntax and transfer_syntax in ("", context.transfer_syntax):
                return context
        raise TurnedAway(f"no presentation context was accepted for {uids.keyword_of_class(abstract_syntax)}")

    def _response(self, field: CommandField) -> Message:
        message = self._message()
        if message.command.field is not field:
            raise ConnectionLost(f"{message.command.field.name} where {field.name} was due")
        return message

    def _message(self) -> Message:
        item = self._messages.next()
        if not isinstance(item, Message):
            raise ConnectionLost(f"the association ended ({type(item).__name__})")
        return item

    def _next_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id


@contextmanager
def associated(identity: Identity, archive: Archive, wanted: Sequence[RequestedContext]) -> Iterator[Session]:
    """An association for the time of the block. Raises TurnedAway with what was heard, at the door or later."""
    try:
        sock = socket.create_connection((archive.host, archive.port), CONNECT_SECONDS, (identity.source, 0))
    except OSError as error:
        raise TurnedAway(f"nobody answers: {error.strerror or error}") from error
    context = identity.credentials().client_context()
    connection = Connection(sock, context, server_side=False, stall_seconds=STALL_SECONDS)
    try:
        connection.handshake(wait=True)
        if identity.stick is None:
            connection.readable_within(ALERT_SECONDS)
            connection.read(memoryview(bytearray(1)), wait=False)
        session = Session(_ask_for(connection, identity, archive, wanted))
        try:
            yield session
        except BaseException:
            session.abort()
            raise
        session.release()
    except ssl.SSLError as error:
        raise TurnedAway(f"TLS alert: {_alert(error.reason or str(error))}") from error
    except ConnectionLost as lost:
        raise TurnedAway(_alert(str(lost))) from lost
    except RemoteProtocolError as broken:
        raise TurnedAway(str(broken)) from broken
    finally:
        connection.close()


def _alert(text: str) -> str:
    return (
        text.replace("TLS broke: ", "TLS alert: ")
        .replace("TLSV13_ALERT_", "")
        .replace("_", " ")
        .lower()
        .replace("tls ", "TLS ")
    )


def _ask_for(
    connection: Connection, identity: Identity, archive: Archive, wanted: Sequence[RequestedContext]
) -> Messages:
    limits = AssociationLimits()
    association = Association(Role.REQUESTOR, limits, time.monotonic())
    rq = request(
        calling_ae_title=identity.ae_title,
        called_ae_title=archive.ae_title,
        contexts=wanted[:PRESENTATION_CONTEXTS_MAX],
        pdu_length_max_bytes=limits.pdu_length_max_bytes,
        user_identity=UserIdentity(JWT, True, identity.token.encode()) if identity.token else None,
    )
    association.send(rq)
    messages = Messages(connection, association)
    messages.flush()
    answer = messages.next()
    if isinstance(answer, AssociateRejected):
        raise TurnedAway(f"A-ASSOCIATE-RJ ({answer.rj.result}, {answer.rj.source}, {answer.rj.reason})")
    if not isinstance(answer, AssociateConfirmation):
        raise TurnedAway(f"{type(answer).__name__} instead of an A-ASSOCIATE-AC")
    return messages


# ---- what is asked for


def echoing() -> list[RequestedContext]:
    return [RequestedContext(uids.VERIFICATION, NATIVE)]


def storing(images: Iterable[Image]) -> list[RequestedContext]:
    """One context for each SOP class and transfer syntax, so that everything is sent as it is."""
    pairs = sorted({(image.sop_class_uid, image.transfer_syntax_uid) for image in images})
    return [RequestedContext(sop_class, (syntax,)) for sop_class, syntax in pairs]


def querying() -> list[RequestedContext]:
    return [RequestedContext(uids.STUDY_ROOT_FIND, NATIVE), RequestedContext(uids.STUDY_ROOT_MOVE, NATIVE)]


def getting(pairs: Iterable[tuple[str, str]]) -> list[RequestedContext]:
    """C-GET, and SCP of Storage by role selection for each SOP class and transfer syntax."""
    back = [RequestedContext(each, (syntax,), as_scu=False, as_scp=True) for each, syntax in sorted(set(pairs))]
    return [RequestedContext(uids.STUDY_ROOT_GET, NATIVE), *back]


def committing() -> list[RequestedContext]:
    return [RequestedContext(uids.STORAGE_COMMITMENT_PUSH, NATIVE)]


def identifier(level: str, keys: Mapping[int, str], transfer_syntax_uid: str) -> bytes:
    """A query's or retrieval's data set (PS3.4 C.4.1.1.3)."""
    elements = [Element(tag, vr_of(tag), text.encode()) for tag, text in keys.items()]
    elements += [
        Element(tags.SPECIFIC_CHARACTER_SET, "CS", UTF_8),
        Element(tags.QUERY_RETRIEVE_LEVEL, "CS", level.encode()),
    ]
    return encode(DataSet(elements), transfer_syntax_uid)


def commitment(transaction_uid: str, references: Iterable[tuple[str, str]], transfer_syntax_uid: str) -> bytes:
    """Table J.3-1 of PS3.4."""
    items = tuple(
        DataSet(
            [
                Element(tags.REFERENCED_SOP_CLASS_UID, "UI", sop_class.encode()),
                Element(tags.REFERENCED_SOP_INSTANCE_UID, "UI", instance.encode()),
            ]
        )
        for sop_class, instance in references
    )
    elements = [
        Element(tags.TRANSACTION_UID, "UI", transaction_uid.encode()),
        Element(tags.REFERENCED_SOP_SEQUENCE, "SQ", items),
    ]
    return encode(DataSet(elements), transfer_syntax_uid)


def received(message: Message) -> Received:
    """The instance of a C-STORE-RQ."""
    command, context = message.command, message.context
    return Received(
        command.affected_sop_class_uid, command.affected_sop_instance_uid, context.transfer_syntax, message.data
    )


def _answer(message: Message) -> Answer:
    command = message.command
    return Answer(command.status or 0, command.error_comment, command.completed or 0, command.failed or 0)


def _texts(data: bytes, transfer_syntax_uid: str) -> dict[int, str]:
    row = parse(data, transfer_syntax_uid)
    charset = row.get(tags.SPECIFIC_CHARACTER_SET)
    terms = charset.value if charset is not None and isinstance(charset.value, bytes) else b""
    return {each.tag: decode_value(each.value, each.vr, terms) for each in row if isinstance(each.value, bytes)}
