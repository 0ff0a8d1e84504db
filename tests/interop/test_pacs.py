"""Every service with real clients over real sockets: DCMTK over its own TLS, pynetdicom for everything."""

from __future__ import annotations

import copy
import random
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from leadglass.lab.peers import Archive, Identity, associated, storing
from tests.programs import require
from tests.running import Bundle, RunningSite, free_port, running, until
from tests.synthetic import image

FILES = Path(pydicom.data.__file__).parent / "test_files"
CT, MR, JPEG = FILES / "CT_small.dcm", FILES / "MR_small.dcm", FILES / "JPEG2000.dcm"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("pacs")) as site:
        site.enroll("CT1", "echo,store,commit")
        site.enroll("CT2", "echo,store,commit", "--address", f"127.0.0.1:{free_port()}")
        site.enroll("WS1", "echo,find,get,move", "--address", f"127.0.0.1:{free_port()}")
        site.enroll("CTONLY", "echo,store,find,get,commit", "--sop-class", "CTImageStorage")
        site.enroll("SINK", "echo", "--address", f"127.0.0.1:{free_port()}")
        site.up()
        yield site
        assert site.down() == 0


def dicom(path: Path = CT, **changes: object) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = pydicom.dcmread(path)
    for keyword, value in changes.items():
        setattr(data_set, keyword, value)
    if "SOPInstanceUID" in changes:
        data_set.file_meta.MediaStorageSOPInstanceUID = changes["SOPInstanceUID"]
    return data_set


def fresh(path: Path = CT, **changes: object) -> Dataset:
    """An instance of a study of its own."""
    own = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "SOPInstanceUID": generate_uid()}
    return dicom(path, **{**own, **changes})


class Client:
    """pynetdicom as one device."""

    def __init__(self, site: RunningSite, name: str, *contexts: object, **options: object) -> None:
        self.got: list[Dataset] = []
        self.ae = AE(name)
        self.ae.acse_timeout = self.ae.dimse_timeout = self.ae.network_timeout = 20
        for each in contexts:
            uid, syntaxes = (
                each if isinstance(each, tuple) else (each, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
            )
            self.ae.add_requested_context(uid, syntaxes)
        tls = (site.bundles[name].client_context(), "localhost")
        handlers = [(evt.EVT_C_STORE, self._stored), *options.pop("handlers", [])]  # type: ignore[misc]
        self.association = self.ae.associate(
            "127.0.0.1", site.port, ae_title="LEADGLASS", tls_args=tls, evt_handlers=handlers, **options
        )

    def _stored(self, event: evt.Event) -> int:
        self.got.append(event.dataset)
        return 0

    def __enter__(self) -> Client:
        assert self.association.is_established
        return self

    def __exit__(self, *_: object) -> None:
        if self.association.is_established:
            self.association.release()
        self.ae.shutdown()


def store(site: RunningSite, name: str, *data_sets: Dataset) -> list[int]:
    contexts = [(each.SOPClassUID, [each.file_meta.TransferSyntaxUID]) for each in data_sets]
    with Client(site, name, *dict.fromkeys((uid, tuple(syntaxes)) for uid, syntaxes in contexts)) as client:
        return [client.association.send_c_store(each).Status for each in data_sets]


def find(site: RunningSite, name: str, level: str = "STUDY", model: object = None, **keys: object) -> list[Dataset]:
    model = model or StudyRootQueryRetrieveInformationModelFind
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    with Client(site, name, model) as client:
        answers = list(client.association.send_c_find(query, model))
    assert answers[-1][0].Status == 0, hex(answers[-1][0].Status)
    return [identifier for status, identifier in answers[:-1]]


def get(site: RunningSite, name: str, study: str, *contexts: object) -> tuple[list[Dataset], Dataset]:
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study
    wanted = contexts or (CTImageStorage, MRImageStorage)
    roles = [build_role(each[0] if isinstance(each, tuple) else each, scp_role=True) for each in wanted]  # type: ignore[arg-type]
    with Client(site, name, StudyRootQueryRetrieveInformationModelGet, *wanted, ext_neg=roles) as client:
        *_, (status, _identifier) = client.association.send_c_get(query, StudyRootQueryRetrieveInformationModelGet)
        return client.got, status


def dcmtk(program: str, bundle: Bundle, site: RunningSite, *words: str) -> subprocess.CompletedProcess[str]:
    line = [require(program), "-v", *bundle.dcmtk(), "127.0.0.1", str(site.port), *words]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


# ---- DCMTK


def test_dcmtk_echo_store_find(site: RunningSite) -> None:
    assert dcmtk("echoscu", site.bundles["CT1"], site).returncode == 0
    done = dcmtk("storescu", site.bundles["CT1"], site, str(CT), str(MR))
    assert (
        done.returncode == 0
        and done.stderr.count("Received Store Response (Success)")
        + done.stdout.count("Received Store Response (Success)")
        == 2
    )
    query = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=1CT1", "-k", "StudyInstanceUID"]
    line = [require("findscu"), "-v", *site.bundles["WS1"].dcmtk(), *query, "127.0.0.1", str(site.port)]
    found = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322" in found.stdout + found.stderr


def test_dcmtk_as_the_target_of_a_move(site: RunningSite, tmp_path: Path) -> None:
    sent = fresh()
    assert store(site, "CT1", sent) == [0]
    address = device(site, "SINK")["address"]
    sink = site.bundles["SINK"]
    line = [
        require("storescp"),
        "+tls",
        sink.key,
        sink.certificate,
        "+cf",
        sink.authority,
        "-od",
        str(tmp_path),
        address.rpartition(":")[2],
    ]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as scp:
        try:
            assert until(lambda: listens(address))
            query = Dataset()
            query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", sent.StudyInstanceUID
            with Client(site, "WS1", StudyRootQueryRetrieveInformationModelMove) as client:
                *_, (status, _) = client.association.send_c_move(
                    query, "SINK", StudyRootQueryRetrieveInformationModelMove
                )
            assert (status.Status, status.NumberOfCompletedSuboperations) == (0, 1)
        finally:
            scp.terminate()
    arrived = [path for path in tmp_path.iterdir() if sent.SOPInstanceUID in path.name]
    assert len(arrived) == 1 and pydicom.dcmread(arrived[0]).PixelData == sent.PixelData


def device(site: RunningSite, name: str) -> dict[str, str]:
    return next(row for row in site.rows("device", "list") if row["name"] == name)


def listens(address: str) -> bool:
    import socket

    host, _, port = address.rpartition(":")
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex((host, int(port))) == 0


# ---- queries


def test_every_level_and_the_related_counts(site: RunningSite) -> None:
    study, series = generate_uid(), generate_uid()
    sent = [
        fresh(
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            PatientID="LEVELS",
            PatientName="Levels^Anna",
            InstanceNumber=str(n),
        )
        for n in range(3)
    ]
    other = fresh(MR, StudyInstanceUID=study, PatientID="LEVELS", PatientName="Levels^Anna")
    assert store(site, "CT1", *sent, other) == [0] * 4
    (answer,) = find(
        site, "WS1", PatientID="LEVELS", ModalitiesInStudy="", NumberOfStudyRelatedInstances="", NumberOfStudyRelatedSeries="",
        StudyInstanceUID="", NumberOfPatientRelatedStudies="",
    )  # fmt: skip
    assert (answer.StudyInstanceUID, sorted(answer.ModalitiesInStudy)) == (study, ["CT", "MR"])
    assert (
        answer.NumberOfStudyRelatedInstances,
        answer.NumberOfStudyRelatedSeries,
        answer.NumberOfPatientRelatedStudies,
    ) == (4, 2, 1)
    found = find(
        site,
        "WS1",
        "SERIES",
        StudyInstanceUID=study,
        SeriesInstanceUID="",
        NumberOfSeriesRelatedInstances="",
        Modality="CT",
    )
    assert [(each.SeriesInstanceUID, each.NumberOfSeriesRelatedInstances) for each in found] == [(series, 3)]
    images = find(
        site, "WS1", "IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID="", InstanceNumber=""
    )
    assert [each.SOPInstanceUID for each in images] == [each.SOPInstanceUID for each in sent]
    (patient,) = find(
        site, "WS1", "PATIENT", PatientRootQueryRetrieveInformationModelFind, PatientID="LEVELS", PatientName=""
    )
    assert patient.PatientName == "Levels^Anna"


@pytest.mark.parametrize(
    ("keys", "hit"),
    [
        ({"PatientName": "müller*"}, True),
        ({"PatientName": "MÜLLER^JÖRG"}, True),
        ({"PatientName": "M?ller^*"}, True),
        ({"PatientName": "M%ller*"}, False),
        ({"PatientName": "Mueller*"}, False),
        ({"StudyDate": "20200101-20200131"}, True),
        ({"StudyDate": "-20200115"}, True),
        ({"StudyDate": "20200116-"}, False),
        ({"StudyDate": "20200115", "StudyTime": "1000-1130"}, True),
        ({"StudyTime": "1130-1200"}, False),
        ({"AccessionNumber": "acc-7"}, True),
        ({"ModalitiesInStudy": "MR"}, False),
        ({"ModalitiesInStudy": "CT"}, True),
        ({"StudyDescription": "*chest*"}, True),
        ({"IllegalPrivateKey": None}, True),
    ],
    ids=str,
)
def test_matching(site: RunningSite, matching_study: str, keys: dict[str, str], hit: bool) -> None:
    if "IllegalPrivateKey" in keys:
        keys = {"RequestedProcedureDescription": "an attribute that the index does not know"}
    found = find(site, "WS1", StudyInstanceUID=matching_study, SpecificCharacterSet="ISO_IR 192", **keys)
    assert bool(found) is hit


@pytest.fixture(scope="module")
def matching_study(site: RunningSite) -> str:
    sent = fresh(
        SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg", PatientID="MATCH", StudyDate="20200115", StudyTime="110000",
        AccessionNumber="ACC-7", StudyDescription="CT Chest native",
    )  # fmt: skip
    assert store(site, "CT1", sent) == [0]
    return str(sent.StudyInstanceUID)


def test_a_query_below_its_level_needs_the_keys_above(site: RunningSite) -> None:
    query = Dataset()
    query.QueryRetrieveLevel, query.SeriesInstanceUID = "SERIES", ""
    with Client(site, "WS1", StudyRootQueryRetrieveInformationModelFind) as client:
        ((status, _),) = client.association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
    assert status.Status == 0xA900


# ---- keeping and giving back


def test_bytes_come_back_as_they_were_sent(site: RunningSite) -> None:
    sent = fresh()
    assert store(site, "CT1", sent) == [0]
    got, status = get(site, "WS1", sent.StudyInstanceUID)
    assert status.Status == 0 and len(got) == 1
    for element in sent:
        assert got[0][element.tag].value == element.value
    assert store(site, "CT1", sent) == [0], "the same again is success, and nothing is stored twice"
    assert [each["version"] for each in site.rows("conflicts", "show", sent.SOPInstanceUID)] == [1]


def test_a_peer_that_takes_only_implicit_gets_implicit(site: RunningSite) -> None:
    sent = fresh()
    assert store(site, "CT1", sent) == [0]
    got, status = get(site, "WS1", sent.StudyInstanceUID, (CTImageStorage, [ImplicitVRLittleEndian]))
    assert status.Status == 0 and got[0].PixelData == sent.PixelData and got[0].PatientName == sent.PatientName


def test_a_compressed_instance_is_kept_as_sent_and_named_where_it_cannot_go(site: RunningSite) -> None:
    sent = fresh(JPEG)
    syntax = sent.file_meta.TransferSyntaxUID
    assert syntax.is_compressed and store(site, "CT1", sent) == [0]
    got, status = get(site, "WS1", sent.StudyInstanceUID, (sent.SOPClassUID, [syntax]))
    assert status.Status == 0 and got[0].PixelData == sent.PixelData
    got, status = get(site, "WS1", sent.StudyInstanceUID, (sent.SOPClassUID, [ExplicitVRLittleEndian]))
    assert (got, status.Status, status.NumberOfFailedSuboperations) == ([], 0xA702, 1)


def test_big_endian_and_deflated_are_not_negotiated(site: RunningSite) -> None:
    contexts = [
        (CTImageStorage, [ExplicitVRBigEndian]),
        (MRImageStorage, [DeflatedExplicitVRLittleEndian]),
        Verification,
    ]
    with Client(site, "CT1", *contexts) as client:
        assert [each.abstract_syntax for each in client.association.accepted_contexts] == [Verification]


# ---- conflicts


def test_the_same_uid_with_other_bytes_is_held_and_told(site: RunningSite) -> None:
    first = fresh()
    second = copy.deepcopy(first)
    second.PatientComments = "altered"
    assert store(site, "CT1", first) == [0]
    assert store(site, "CT2", second) == [0x0111] and store(site, "CT2", second) == [0x0111], (
        "and the same again hears the same"
    )
    versions = site.rows("conflicts", "show", first.SOPInstanceUID)
    assert [(each["version"], each["standing"]) for each in versions] == [(1, "current"), (2, "held")]
    got, _ = get(site, "WS1", first.StudyInstanceUID)
    assert len(got) == 1 and "PatientComments" not in got[0]
    assert commit(site, "CT1", first) == ([first.SOPInstanceUID], [])
    assert commit(site, "CT2", first) == ([], [first.SOPInstanceUID]), "what CT2 sent is not current"
    assert any(row["kind"] == "instance:conflicted" for row in site.events())
    site.command("conflicts", "promote", first.SOPInstanceUID, "--version", "2")
    got, _ = get(site, "WS1", first.StudyInstanceUID)
    assert got[0].PatientComments == "altered"
    standings = [each["standing"] for each in site.rows("conflicts", "show", first.SOPInstanceUID)]
    assert standings == ["superseded", "current"]


def test_another_patients_study_is_not_added_to(site: RunningSite) -> None:
    first = fresh(PatientID="OWNER")
    stray = fresh(PatientID="STRANGER", StudyInstanceUID=first.StudyInstanceUID)
    assert store(site, "CT1", first) == [0] and store(site, "CT2", stray) == [0x0111]
    assert [
        each["holds"] for each in site.rows("conflicts", "list") if each["sop_instance_uid"] == stray.SOPInstanceUID
    ] == [["other-patient"]]
    images = find(site, "WS1", "SERIES", StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID="")
    assert [each.SeriesInstanceUID for each in images] == [first.SeriesInstanceUID]
    assert len(get(site, "WS1", first.StudyInstanceUID)[0]) == 1
    assert commit(site, "CT2", stray) == ([], [stray.SOPInstanceUID])


def test_a_command_that_lies_about_its_data_set(site: RunningSite) -> None:
    honest = image(random.Random(1))
    lie = replace(honest, sop_instance_uid=generate_uid())
    who = Identity("CT1", "127.0.0.1", site.bundles["CT1"].directory)
    with associated(who, Archive("127.0.0.1", site.port), storing([honest])) as session:
        assert session.store(lie).status == 0xA900
        assert session.store(honest).status == 0, "and the association goes on"


# ---- what a permit is confined to, on every service alike


def test_a_device_confined_to_ct_stores_finds_gets_and_commits_ct_only(site: RunningSite) -> None:
    study = generate_uid()
    ct, mr = fresh(StudyInstanceUID=study, PatientID="MIXED"), fresh(MR, StudyInstanceUID=study, PatientID="MIXED")
    assert store(site, "CT1", ct, mr) == [0, 0]
    assert store(site, "CTONLY", fresh(MR)) == [0x0124]
    (answer,) = find(site, "CTONLY", StudyInstanceUID=study, NumberOfStudyRelatedInstances="", ModalitiesInStudy="")
    assert (answer.NumberOfStudyRelatedInstances, answer.ModalitiesInStudy) == (1, "CT")
    assert len(find(site, "CTONLY", "SERIES", StudyInstanceUID=study, SeriesInstanceUID="")) == 1
    got, status = get(site, "CTONLY", study)
    assert [each.SOPInstanceUID for each in got] == [ct.SOPInstanceUID] and status.Status == 0
    assert commit(site, "CTONLY", ct, mr) == ([ct.SOPInstanceUID], [mr.SOPInstanceUID])


@pytest.mark.parametrize(
    ("model", "act"),
    [
        (StudyRootQueryRetrieveInformationModelFind, lambda a, q, m: list(a.send_c_find(q, m))),
        (StudyRootQueryRetrieveInformationModelGet, lambda a, q, m: list(a.send_c_get(q, m))),
        (StudyRootQueryRetrieveInformationModelMove, lambda a, q, m: list(a.send_c_move(q, "WS1", m))),
    ],
    ids=["find", "get", "move"],
)
def test_a_store_only_device_may_neither_find_nor_get_nor_move(site: RunningSite, model: object, act: object) -> None:
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", "1.2.3"
    before = len(site.events("request:refused"))
    with Client(site, "CT1", model) as client:
        answers = act(client.association, query, model)  # type: ignore[operator]
    assert answers[-1][0].Status == 0x0124
    (refused,) = site.events("request:refused")[before:]
    assert refused["actor"] == "CT1" and "--may" in refused["reason"]


def test_who_may_not_store_or_commit(site: RunningSite) -> None:
    assert store(site, "WS1", fresh()) == [0x0124]
    with Client(site, "WS1", StorageCommitmentPushModel) as client:
        status, _ = client.association.send_n_action(
            commitment_of(fresh()), 1, StorageCommitmentPushModel, COMMITMENT_INSTANCE
        )
    assert status.Status == 0x0124


@pytest.mark.parametrize("destination", ["STRANGER", "CT1"], ids=["unknown", "no-address"])
def test_a_move_to_nobody(site: RunningSite, destination: str) -> None:
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", "1.2.3"
    with Client(site, "WS1", StudyRootQueryRetrieveInformationModelMove) as client:
        answers = list(client.association.send_c_move(query, destination, StudyRootQueryRetrieveInformationModelMove))
    assert answers[-1][0].Status == 0xA801


def test_a_move_accepts_that_devices_certificate_only(site: RunningSite) -> None:
    sent = fresh()
    assert store(site, "CT1", sent) == [0]
    address = device(site, "WS1")["address"]
    ae = AE("WS1")
    ae.add_supported_context(CTImageStorage)
    impostor = site.bundles["CT2"].server_context()
    server = ae.start_server(("127.0.0.1", int(address.rpartition(":")[2])), block=False, ssl_context=impostor)
    try:
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", sent.StudyInstanceUID
        with Client(site, "WS1", StudyRootQueryRetrieveInformationModelMove) as client:
            answers = list(client.association.send_c_move(query, "WS1", StudyRootQueryRetrieveInformationModelMove))
        assert answers[-1][0].Status == 0x0110
    finally:
        server.shutdown()


# ---- commitment


def commitment_of(*data_sets: Dataset) -> Dataset:
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = []
    for each in data_sets:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = each.SOPClassUID, each.SOPInstanceUID
        request.ReferencedSOPSequence.append(item)
    return request


def commit(site: RunningSite, name: str, *data_sets: Dataset) -> tuple[list[str], list[str]]:
    """What the N-EVENT-REPORT said was kept, and what failed: on this association, or on a new one where the device has an address."""
    reports: list[Dataset] = []
    arrived = threading.Event()

    def heard(event: evt.Event) -> tuple[int, None]:
        reports.append(event.event_information)
        arrived.set()
        return 0, None

    handlers = [(evt.EVT_N_EVENT_REPORT, heard)]
    server = None
    address = device(site, name)["address"]
    if address:
        ae = AE(name)
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        context = site.bundles[name].server_context()
        port = int(address.rpartition(":")[2])
        server = ae.start_server(("127.0.0.1", port), block=False, ssl_context=context, evt_handlers=handlers)
    try:
        with Client(site, name, StorageCommitmentPushModel, handlers=handlers) as client:
            request = commitment_of(*data_sets)
            status, _ = client.association.send_n_action(request, 1, StorageCommitmentPushModel, COMMITMENT_INSTANCE)
            assert status.Status == 0
            assert arrived.wait(20), site.log()
            time.sleep(0.1)
    finally:
        if server is not None:
            server.shutdown()
    (report,) = reports
    assert report.TransactionUID == request.TransactionUID
    kept = [each.ReferencedSOPInstanceUID for each in report.get("ReferencedSOPSequence", [])]
    failed = [each.ReferencedSOPInstanceUID for each in report.get("FailedSOPSequence", [])]
    return kept, failed


@pytest.mark.parametrize("name", ["CT1", "CT2"], ids=["same-association", "new-association"])
def test_commitment_says_yes_to_what_is_kept_and_no_to_what_never_came(site: RunningSite, name: str) -> None:
    sent, never = fresh(), fresh()
    assert store(site, name, sent) == [0]
    assert commit(site, name, sent, never) == ([sent.SOPInstanceUID], [never.SOPInstanceUID])


# ---- identity


def test_a_stolen_ae_title_and_a_missing_certificate(site: RunningSite) -> None:
    before = len(site.events("association:refused"))
    stolen = Bundle("WS1", site.bundles["CT1"].directory)
    assert dcmtk("echoscu", stolen, site).returncode != 0
    plain = [require("echoscu"), "-aec", "LEADGLASS", "-aet", "CT1", "127.0.0.1", str(site.port)]
    assert subprocess.run(plain, capture_output=True, check=False, timeout=60).returncode != 0
    assert until(lambda: len(site.events("association:refused")) >= before + 2)
    reasons = [row.get("reason", "") for row in site.events("association:refused")[before:]]
    assert any("calls itself 'WS1'" in reason for reason in reasons)
    assert any("plain DICOM on the TLS port" in reason for reason in reasons)


def test_revocation_acts_on_a_living_association_and_on_the_next(site: RunningSite) -> None:
    site.enroll("LOST", "echo,store")
    with Client(site, "LOST", Verification) as client:
        assert client.association.send_c_echo().Status == 0
        site.command("device", "revoke", "LOST", "--reason", "stolen")
        assert until(lambda: not client.association.is_established, 10)
    with pytest.raises(AssertionError):
        Client(site, "LOST", Verification).__enter__()
    refused = [row for row in site.events("association:refused") if row.get("actor") == "LOST"]
    assert refused and "stolen" in refused[-1]["reason"]
    assert device(site, "LOST")["state"] == "revoked"


def test_disabling_is_undone_by_enabling(site: RunningSite) -> None:
    site.enroll("PAUSED", "echo")
    site.command("device", "disable", "PAUSED")
    assert until(lambda: dcmtk("echoscu", site.bundles["PAUSED"], site).returncode != 0)
    site.command("device", "enable", "PAUSED")
    assert until(lambda: dcmtk("echoscu", site.bundles["PAUSED"], site).returncode == 0)


def test_a_renewed_certificate_retires_the_old_one_when_it_is_used(site: RunningSite, tmp_path: Path) -> None:
    old = site.enroll("AGING", "echo")
    site.command("device", "renew", "AGING", "--out", str(tmp_path / "new"))
    assert until(lambda: dcmtk("echoscu", old, site).returncode == 0), "the old one still serves"
    assert until(lambda: dcmtk("echoscu", Bundle("AGING", tmp_path / "new"), site).returncode == 0)
    assert until(lambda: dcmtk("echoscu", old, site).returncode != 0), "until the new one was used"


def test_a_commitment_is_reported_after_a_restart_in_between(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        port = free_port()
        site.enroll("CT9", "echo,store,commit", "--address", f"127.0.0.1:{port}")
        site.up()
        sent = fresh()
        assert store(site, "CT9", sent) == [0]
        with Client(site, "CT9", StorageCommitmentPushModel) as client:
            status, _ = client.association.send_n_action(
                commitment_of(sent), 1, StorageCommitmentPushModel, COMMITMENT_INSTANCE
            )
            assert status.Status == 0
        site.kill()
        reports: list[Dataset] = []
        ae = AE("CT9")
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers = [(evt.EVT_N_EVENT_REPORT, lambda event: (reports.append(event.event_information), (0, None))[1])]
        context = site.bundles["CT9"].server_context()
        server = ae.start_server(("127.0.0.1", port), block=False, ssl_context=context, evt_handlers=handlers)
        try:
            site.up()
            assert until(lambda: bool(reports), 30), site.log()
        finally:
            server.shutdown()
        assert reports[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == sent.SOPInstanceUID
