"""What do real clients say? A site, and DCMTK, pynetdicom and Orthanc in front of it: both directions of every conversation, as plain bytes.

A recorder stands where TLS begins: the client speaks to it in plain, it passes the bytes to the lab's relay, and the relay speaks mutual TLS
with the site. So what is kept is what the upper layer sees. Nothing recorded is in the repository: it is made when it is needed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import select
import socket
import subprocess
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pydicom.data
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from leadglass.lab.relay import Credentials, Direction, Relay
from tests.programs import require
from tests.running import RunningSite, free_port, running, until
from tests.synthetic import image, write

FILES = Path(pydicom.data.__file__).parent / "test_files"
NAME, SINK = "SIEGE", "SINK"
CLIENT_SECONDS_MAX = 60
# A file of each kind that storescu can be told to propose: option, file
STORED = (
    ("-xi", "MR_small_implicit.dcm"),
    ("-xe", "CT_small.dcm"),
    ("-xe", "rtplan.dcm"),
    ("-xe", "reportsi.dcm"),
    ("-xr", "SC_rgb_rle.dcm"),
    ("-xv", "MR_small_jp2klossless.dcm"),
    ("-xw", "JPEG2000.dcm"),
    ("-xs", "SC_rgb_jpeg_gdcm.dcm"),
    ("-xy", "SC_jpeg_no_color_transform.dcm"),
    ("-xt", "MR_small_jpeg_ls_lossless.dcm"),
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """One association: who was the client, and what each side said. `requestor` begins with the A-ASSOCIATE-RQ."""

    client: str
    requestor: bytes
    acceptor: bytes


def pdus(stream: bytes) -> list[bytes]:
    """A stream of one direction, cut before every PDU; a rest that is no whole PDU is the last piece."""
    found, offset = [], 0
    while offset < len(stream):
        end = offset + 6 + int.from_bytes(stream[offset + 2 : offset + 6], "big")
        found.append(stream[offset:end])
        offset = end
    return found


class Recorder:
    """Passes connections on to `to`, and keeps what passed."""

    def __init__(self, to: tuple[str, int], listen: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._to = to
        self._listener = socket.create_server(listen)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept, name="recorder")]
        self.client = ""
        self.conversations: list[Conversation] = []

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def __enter__(self) -> Recorder:
        self._listener.settimeout(0.2)
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client, self.client), name="recorded")
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket, name: str) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._to) as server:
            said: dict[socket.socket, bytearray] = {client: bytearray(), server: bytearray()}
            try:
                self._pass_on(client, server, said)
            finally:
                if said[client]:
                    self.conversations.append(Conversation(name, bytes(said[client]), bytes(said[server])))

    def _pass_on(self, client: socket.socket, server: socket.socket, said: dict[socket.socket, bytearray]) -> None:
        other = {client: server, server: client}
        for each in other:
            each.setblocking(True)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not self._stop.is_set():
            ready, _, _ = select.select([client, server], [], [], 0.2)
            for each in ready:
                data = each.recv(65536)
                if not data:
                    return
                said[each] += data
                other[each].sendall(data)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where clients speak: the recorder in front of a site, and a directory of their own."""

    recorder: Recorder
    place: Path

    def run(self, program: str, *words: str, after: Sequence[str] = ()) -> None:
        """One of DCMTK's programs. What it thinks of the answers does not matter here: that it was answered does."""
        self.recorder.client = program
        host, port = self.recorder.address
        line = [require(program), "-aet", NAME, "-aec", "LEADGLASS", *words, host, str(port), *after]
        subprocess.run(line, capture_output=True, check=False, timeout=CLIENT_SECONDS_MAX)


def record(place: Path) -> tuple[Conversation, ...]:
    """Every client's conversations with a site of their own, under `place`."""
    with running(place) as site:
        site.up()
        site.enroll(NAME, "echo,store,find,get,move,commit")
        sink = free_port()
        site.enroll(SINK, "echo", "--address", f"127.0.0.1:{sink}")
        scp = free_port()
        with (
            Relay(("127.0.0.1", 0), ("127.0.0.1", site.port), _credentials(site, NAME)) as relay,
            Recorder(relay.address) as recorder,
            Recorder(("127.0.0.1", scp)) as inward,
            Relay(("127.0.0.1", sink), inward.address, _credentials(site, SINK), direction=Direction.FROM_TLS),
        ):
            scene = Scene(recorder, place)
            inward.client = "storescp"
            study = _dcmtk(scene)
            _dcmtk_moves(scene, scp, study)
            _pynetdicom(scene, study)
            _orthanc(scene)
        return (*recorder.conversations, *inward.conversations)


def _credentials(site: RunningSite, name: str) -> Credentials:
    bundle = site.bundles[name]
    return Credentials(Path(bundle.certificate), Path(bundle.key), Path(bundle.authority))


# ---- DCMTK


def _dcmtk(scene: Scene) -> str:
    """The study that the others retrieve; small, for what is retrieved is replayed thousands of times."""
    rng = random.Random(1)
    first = image(rng, patient="SIEGE")
    second = image(rng, patient="SIEGE", study=first.study_instance_uid, pixels=3_000)
    files = [str(write(each, scene.place / f"{each.sop_instance_uid}.dcm")) for each in (first, second)]
    scene.run("echoscu")
    scene.run("echoscu", "--abort")
    scene.run("echoscu", "--repeat", "3")
    scene.run("storescu", "-pdu", "4096", after=files)
    for option, file in STORED:
        scene.run("storescu", option, "-R", after=[str(FILES / file)])
    keys = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID", "-k", "PatientID"]
    scene.run("findscu", *keys)
    scene.run("findscu", "--cancel", "1", *keys)
    scene.run("findscu", "-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=SI*", "-k", "PatientName")
    retrieved = scene.place / "retrieved"
    retrieved.mkdir()
    scene.run("getscu", "+B", "-od", str(retrieved), *_study_keys(first.study_instance_uid))
    return first.study_instance_uid


def _study_keys(study: str) -> list[str]:
    return ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]


def _dcmtk_moves(scene: Scene, port: int, study: str) -> None:
    """C-MOVE to a storescp: the site is the requestor there, and DCMTK the acceptor."""
    received = scene.place / "received"
    received.mkdir()
    line = [require("storescp"), "+B", "-od", str(received), str(port)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as scp:
        try:
            assert until(lambda: _listens(port))
            scene.run("movescu", "-aem", SINK, *_study_keys(study))
            scene.run("movescu", "-aem", "NOBODY", *_study_keys(study))
        finally:
            scp.terminate()


def _listens(port: int) -> bool:
    """Looks without connecting: a storescp takes one association at a time."""
    return any(
        int(words[1].rpartition(":")[2], 16) == port and words[3] == "0A"
        for table in ("tcp", "tcp6")
        for words in (line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:])
    )


# ---- pynetdicom


def _items() -> list[Any]:
    """Every sub-item of the user information that pynetdicom can write beside the usual ones."""
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field, identity.secondary_field = 2, b"siege", b"synthetic"
    identity.positive_response_requested = True
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 5, 5
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid = StudyRootQueryRetrieveInformationModelFind
    extended.service_class_application_information = b"\x01\x01\x00\x01"
    common = SOPClassCommonExtendedNegotiation()
    common.sop_class_uid, common.service_class_uid = MRImageStorage, "1.2.840.10008.4.2"
    common.related_general_sop_class_identification = [CTImageStorage]
    return [identity, window, extended, common]


@contextmanager
def _associated(scene: Scene, *contexts: str, ext_neg: Sequence[Any] = ()) -> Iterator[Any]:
    host, port = scene.recorder.address
    scene.recorder.client = "pynetdicom"
    ae = AE(NAME)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = CLIENT_SECONDS_MAX
    for each in contexts:
        ae.add_requested_context(each)
    stored = [(evt.EVT_C_STORE, lambda _: 0)]
    association = ae.associate(host, port, ae_title="LEADGLASS", ext_neg=list(ext_neg), evt_handlers=stored)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        ae.shutdown()


def _pynetdicom(scene: Scene, study: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the oracle's own, about files that are odd on purpose
        _pynetdicom_asks(scene, study)


def _pynetdicom_asks(scene: Scene, study: str) -> None:
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID, query.PatientName = "STUDY", study, ""
    find, get = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet
    with _associated(scene, Verification, find, MRImageStorage, ext_neg=_items()) as association:
        association.send_c_echo()
        list(association.send_c_find(query, find))
        association.send_c_store(pydicom.dcmread(FILES / "MR_small.dcm"))
    with _associated(scene, PatientRootQueryRetrieveInformationModelFind, CTImageStorage) as association:
        association.send_c_store(pydicom.dcmread(FILES / "CT_small.dcm"))
        list(association.send_c_find(query, PatientRootQueryRetrieveInformationModelFind))
        association.abort()
    with _associated(scene, get, CTImageStorage, ext_neg=[build_role(CTImageStorage, scp_role=True)]) as association:
        list(association.send_c_get(query, get))
    with _associated(scene, StorageCommitmentPushModel, Verification) as association:
        asked = Dataset()
        asked.TransactionUID, asked.ReferencedSOPSequence = "2.25.1", []
        association.send_n_action(asked, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
        association.send_c_echo()
    with _associated(scene, "1.2.3.4") as association:  # no context that anybody accepts
        pass


# ---- Orthanc


def _orthanc(scene: Scene) -> None:
    place, web = scene.place / "orthanc", free_port()
    place.mkdir()
    host, port = scene.recorder.address
    settings = {
        "Name": NAME,
        "DicomAet": NAME,
        "StorageDirectory": str(place),
        "IndexDirectory": str(place),
        "DicomServerEnabled": False,
        "HttpPort": web,
        "HttpBindAddresses": [
            "127.0.0.1"
        ],  # an older one that does not know it listens everywhere, and refuses who is not local
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpDescribeErrors": False,
        "Plugins": [],
        "DicomModalities": {"site": ["LEADGLASS", host, port]},
        "ConcurrentJobs": 1,
    }
    file = place / "orthanc.json"
    file.write_text(json.dumps(settings))
    scene.recorder.client = "Orthanc"
    with subprocess.Popen([require("Orthanc"), str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as it:
        try:
            assert until(lambda: it.poll() is not None or _listens(web), CLIENT_SECONDS_MAX)
            _orthanc_asks(web)
        finally:
            it.terminate()


def _orthanc_asks(web: int) -> None:
    stored = [_ask(web, "/instances", (FILES / name).read_bytes())["ID"] for name in ("MR_small.dcm", "JPEG2000.dcm")]
    _ask(web, "/modalities/site/echo", b"{}")
    _ask(web, "/modalities/site/store", json.dumps(stored).encode())
    wanted = {"Level": "Study", "Query": {"PatientID": "*", "StudyInstanceUID": ""}}
    found = _ask(web, "/modalities/site/query", json.dumps(wanted).encode())
    _ask(web, f"/queries/{found['ID']}/answers/0/retrieve", json.dumps({"TargetAet": SINK, "Timeout": 10}).encode())


def _ask(web: int, path: str, body: bytes) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", web, timeout=CLIENT_SECONDS_MAX)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse().read()
    finally:
        connection.close()
    with contextlib.suppress(ValueError):
        return json.loads(answer)
    return {}
