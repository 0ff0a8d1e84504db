"""The simulated devices against another implementation: our SCU with pynetdicom as SCP, our SCP with pynetdicom as SCU."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from leadglass.identity.authority import Authority, KeyKind, key_pem, new_key, pem
from leadglass.lab.corpus import Image
from leadglass.lab.peers import (
    Archive,
    Identity,
    Received,
    TurnedAway,
    associated,
    committing,
    echoing,
    getting,
    querying,
    storing,
)
from leadglass.lab.workstation import Workstation
from leadglass.wire import tags
from leadglass.wire.part10 import write_part10
from tests.synthetic import digest, image

STUDY = {tags.STUDY_INSTANCE_UID: "1.2.3"}
SENT = image(random.Random(3), study="1.2.3", pixels=200_000)


def as_pydicom(image: Image) -> Dataset:
    head = write_part10(image.sop_class_uid, image.sop_instance_uid, image.transfer_syntax_uid)
    return dcmread(BytesIO(head + image.data_set))


@pytest.fixture(scope="module")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, now = tmp_path_factory.mktemp("stick"), datetime.now(UTC)
    authority, key = Authority.create("lab", now), new_key(KeyKind.EC)
    certificate = authority.issue(key.public_key(), "peer", ["127.0.0.1"], now, 2)
    (place / "client.pem").write_bytes(pem(certificate))
    (place / "client.key").write_bytes(key_pem(key, None))
    (place / "ca.pem").write_bytes(pem(authority.certificate))
    return place


@pytest.fixture(scope="module")
def archive(stick: Path) -> Iterator[Archive]:
    """pynetdicom as an archive that has one study of one instance."""

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        answer = Dataset()
        answer.QueryRetrieveLevel, answer.StudyInstanceUID = "STUDY", event.identifier.StudyInstanceUID
        answer.SpecificCharacterSet, answer.PatientName = "ISO_IR 192", "Müller^Anna"
        yield 0xFF00, answer
        yield 0xFF00, answer

    def get(event: evt.Event) -> Iterator[object]:
        yield 1
        yield 0xFF00, as_pydicom(SENT)

    def move(event: evt.Event) -> Iterator[object]:
        yield None, None  # an unknown destination

    ae = AE("LEADGLASS")
    ae.supported_contexts = [*AllStoragePresentationContexts]
    ae.add_supported_context(CTImageStorage, scu_role=True, scp_role=True)
    for each in (
        Verification,
        StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelGet,
        StudyRootQueryRetrieveInformationModelMove,
        StorageCommitmentPushModel,
    ):
        ae.add_supported_context(each)
    handlers = [
        (evt.EVT_C_STORE, lambda event: 0 if event.request.DataSet.getvalue() == SENT.data_set else 0xC001),
        (evt.EVT_C_FIND, find),
        (evt.EVT_C_GET, get),
        (evt.EVT_C_MOVE, move),
        (evt.EVT_N_ACTION, lambda event: (0, None)),
    ]
    context = Identity("A", "", stick).credentials().server_context()
    server = ae.start_server(("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=handlers)
    yield Archive(*server.server_address)
    server.shutdown()


@pytest.fixture
def modality(stick: Path) -> Identity:
    return Identity("CT1", "127.50.0.1", stick)


def test_echo_store_find(modality: Identity, archive: Archive) -> None:
    with associated(modality, archive, [*echoing(), *storing([SENT]), *querying()]) as session:
        assert session.echo().status == 0
        assert session.store(SENT).status == 0
        assert str(
            session.store(dataclasses.replace(SENT, data_set=SENT.data_set + b"\xfc\xff\xfc\xffOB\0\0\0\0\0\0"))
        ).startswith("C001H")
        answer, rows = session.find("STUDY", {**STUDY, tags.PATIENT_NAME: ""})
        assert answer.status == 0
        assert [row[tags.PATIENT_NAME] for row in rows] == ["Müller^Anna"] * 2
        assert session.move("STUDY", STUDY, "NOBODY").status == 0xA801


def test_get_brings_every_byte(modality: Identity, archive: Archive) -> None:
    came: list[Received] = []

    def take(each: Received) -> int:
        came.append(each)
        return 0

    with associated(modality, archive, getting([(SENT.sop_class_uid, SENT.transfer_syntax_uid)])) as session:
        answer = session.get("STUDY", STUDY, take)
    assert (answer.status, answer.completed) == (0, 1)
    assert [(each.sop_instance_uid, each.data_set) for each in came] == [(SENT.sop_instance_uid, SENT.data_set)]


def test_commitment_is_asked_for(modality: Identity, archive: Archive) -> None:
    with associated(modality, archive, committing()) as session:
        assert session.commit("1.2.3.4", [(SENT.sop_class_uid, SENT.sop_instance_uid)]).status == 0


def test_what_was_heard_of_a_refusal(modality: Identity, archive: Archive) -> None:
    with (
        associated(modality, archive, echoing()) as session,
        pytest.raises(TurnedAway, match="no presentation context"),
    ):
        session.store(SENT)
    nameless = dataclasses.replace(modality, stick=None, authorities=modality.credentials().authorities)
    with pytest.raises(TurnedAway, match="certificate required"), associated(nameless, archive, echoing()):
        raise AssertionError("nobody without a certificate comes here")
    with pytest.raises(TurnedAway, match="nobody answers"), associated(modality, Archive("127.0.0.1", 1), echoing()):
        raise AssertionError("nobody is there")


def test_our_workstation_takes_what_another_implementation_sends(stick: Path) -> None:
    credentials = Identity("WS1", "", stick).credentials()
    with Workstation(("127.0.0.1", 0), credentials) as workstation:
        ae = AE("SENDER")
        ae.add_requested_context(Verification)
        ae.add_requested_context(CTImageStorage, SENT.transfer_syntax_uid)
        context = credentials.client_context()
        host, port = workstation.address
        association = ae.associate(host, port, tls_args=(context, "localhost"))
        assert association.is_established
        assert association.send_c_echo().Status == 0
        assert association.send_c_store(as_pydicom(SENT)).Status == 0
        association.release()
        assert workstation.digests == {SENT.sop_instance_uid: digest(SENT)}
        assert workstation.syntaxes == {SENT.sop_instance_uid: SENT.transfer_syntax_uid}
