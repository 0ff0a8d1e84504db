"""Where do images go? A small storage SCP over mutual TLS: C-MOVE destination, and listener for storage commitment reports."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import socket
import ssl
import threading
import time

from leadglass.doors.dimse.connection import Connection, ConnectionLost
from leadglass.doors.dimse.supported import NATIVE, STORED
from leadglass.lab.peers import Message, Messages, Received, received
from leadglass.lab.relay import Credentials
from leadglass.wire import uids
from leadglass.wire.association import Aborted, AssociateIndication, Association, ReleaseIndication, Role
from leadglass.wire.dimse import CommandField, Status
from leadglass.wire.elements import DataSet, parse
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.limits import AssociationLimits
from leadglass.wire.negotiation import Supported, accept
from leadglass.wire.pdu import ReleaseRP

ASSOCIATIONS_MAX = 16
STALL_SECONDS = 60.0
POLL_SECONDS = 0.2


class Workstation:
    """Takes what comes: `digests` by SOP Instance UID, SHA-256 over the data set; `reports` of storage commitment, in order."""

    def __init__(self, listen: tuple[str, int], credentials: Credentials) -> None:
        self.digests: dict[str, str] = {}
        self.syntaxes: dict[str, str] = {}
        self.reports: queue.Queue[tuple[int, DataSet]] = queue.Queue()
        self._context = credentials.server_context()
        self._listener = socket.create_server(listen)
        self._listener.settimeout(POLL_SECONDS)
        self._stop = threading.Event()
        self._room = threading.BoundedSemaphore(ASSOCIATIONS_MAX)
        self._connections: set[Connection] = set()
        self._threads: set[threading.Thread] = set()
        self._accepting = threading.Thread(target=self._accept, name="workstation")
        self._accepting.start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def close(self) -> None:
        self._stop.set()
        self._accepting.join()
        for connection in list(self._connections):
            connection.cut("the workstation is switched off")
        for thread in list(self._threads):
            thread.join()
        self._listener.close()

    def __enter__(self) -> Workstation:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            if not self._room.acquire(timeout=POLL_SECONDS):
                continue
            try:
                sock, _ = self._listener.accept()
            except OSError:  # the time is over
                self._room.release()
                continue
            thread = threading.Thread(target=self._serve, args=(sock,), name="workstation-association")
            self._threads.add(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        connection = Connection(sock, self._context, server_side=True, stall_seconds=STALL_SECONDS)
        self._connections.add(connection)
        try:
            with contextlib.suppress(ssl.SSLError, ConnectionLost, RemoteProtocolError):
                connection.handshake(wait=True)
                self._converse(Messages(connection, Association(Role.ACCEPTOR, AssociationLimits(), time.monotonic())))
        finally:
            connection.close()
            self._connections.discard(connection)
            self._threads.discard(threading.current_thread())
            self._room.release()

    def _converse(self, messages: Messages) -> None:
        while True:
            item = messages.next()
            match item:
                case AssociateIndication(rq):
                    limit = AssociationLimits().pdu_length_max_bytes
                    messages.association.send(accept(rq, _supported, pdu_length_max_bytes=limit))
                    messages.flush()
                case Message():
                    messages.send(item.context, item.command.response(self._take(item)))
                case ReleaseIndication():
                    messages.association.send(ReleaseRP())
                    messages.flush()
                    return
                case Aborted():
                    return
                case _:
                    raise ConnectionLost(f"{type(item).__name__} in the middle")

    def _take(self, message: Message) -> int:
        match message.command.field:
            case CommandField.C_ECHO_RQ:
                return Status.SUCCESS
            case CommandField.C_STORE_RQ:
                self.keep(received(message))
                return Status.SUCCESS
            case CommandField.N_EVENT_REPORT_RQ:
                report = parse(message.data, message.context.transfer_syntax)
                self.reports.put((message.command.event_type_id or 0, report))
                return Status.SUCCESS
            case _:
                return Status.UNRECOGNIZED_OPERATION

    def keep(self, instance: Received) -> int:
        """Notes one instance; the status for its sender."""
        self.syntaxes[instance.sop_instance_uid] = instance.transfer_syntax_uid
        self.digests[instance.sop_instance_uid] = hashlib.sha256(instance.data_set).hexdigest()
        return Status.SUCCESS


def _supported(abstract_syntax: str) -> Supported | None:
    if abstract_syntax == uids.STORAGE_COMMITMENT_PUSH:
        return Supported(NATIVE, as_scp=False, as_scu=True)  # the archive is its SCP, by role selection (PS3.4 J.3.3)
    if abstract_syntax == uids.VERIFICATION:
        return Supported(NATIVE)
    return Supported(STORED) if uids.is_storage(abstract_syntax) else None
