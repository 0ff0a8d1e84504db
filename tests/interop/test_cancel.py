"""A long answer is cancelled in the middle: the peer hears FE00 and no more answers than were on their way. Whenever it comes, a C-CANCEL ends no association."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import build_role
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from bench.finding import fill
from leadglass.lab.corpus import Image
from leadglass.lab.peers import Archive, Identity, Received, associated, echoing, getting, querying, storing
from leadglass.wire import tags, uids
from tests.interop.test_pacs import Client
from tests.running import RunningSite, running
from tests.synthetic import image

STUDIES = 100_000
SEEN_BEFORE_CANCEL = 20


def test_cancel(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        site.enroll("WS1", "find")
        fill(site.directory, STUDIES)
        site.up()
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", ""
        with Client(site, "WS1", StudyRootQueryRetrieveInformationModelFind) as client:
            pending, final, asked = 0, 0, 0.0
            for status, _ in client.association.send_c_find(
                query, StudyRootQueryRetrieveInformationModelFind, msg_id=7
            ):
                final = status.Status
                pending += final == 0xFF00
                if pending == SEEN_BEFORE_CANCEL and not asked:
                    client.association.send_c_cancel(7, None, StudyRootQueryRetrieveInformationModelFind)
                    asked = time.monotonic()
        assert final == 0xFE00 and pending < STUDIES
        identity = Identity("WS1", "127.0.0.1", site.bundles["WS1"].directory)
        with associated(identity, Archive("127.0.0.1", site.port), querying()) as session:
            answer, rows = session.find("STUDY", {tags.STUDY_INSTANCE_UID: ""}, enough=STUDIES // 2)
            assert answer.status == 0xFE00 and STUDIES // 2 <= len(rows) < STUDIES
            answer, rows = session.find("STUDY", {tags.STUDY_INSTANCE_UID: "2.25.9000000001"})
            assert answer.status == 0 and len(rows) == 1  # the association goes on
        ended = [row for row in site.events("release:ended") if row.get("action") == "find"]
        assert ["cancelled" in row.get("reason", "") for row in ended] == [True, True, False]


RETRIEVED = 12


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("cancel")) as site:
        site.up()
        site.enroll("CT1", "echo,store")
        site.enroll("WS1", "echo,find,get")
        yield site


def of_a_study(site: RunningSite) -> list[Image]:
    rng = random.Random()
    images = [image(rng, study="2.25.4242", pixels=100_000) for _ in range(RETRIEVED)]
    with associated(identity(site, "CT1"), Archive("127.0.0.1", site.port), storing(images)) as session:
        assert {session.store(each).status for each in images} == {0}
    return images


def identity(site: RunningSite, name: str) -> Identity:
    return Identity(name, "127.0.0.1", site.bundles[name].directory)


@pytest.mark.parametrize("answered", [1, 5])
def test_a_retrieval_is_cancelled_before_an_instance_is_answered(site: RunningSite, answered: int) -> None:
    """The archive waits for a C-STORE-RSP then, and hears a C-CANCEL first."""
    images = of_a_study(site)
    pairs = {(each.sop_class_uid, each.transfer_syntax_uid) for each in images}
    came: list[str] = []
    with associated(identity(site, "WS1"), Archive("127.0.0.1", site.port), [*getting(pairs), *echoing()]) as session:

        def take(each: Received) -> int:
            came.append(each.sop_instance_uid)
            if len(came) == answered:
                session.cancel(uids.STUDY_ROOT_GET)
            return 0

        answer = session.get("STUDY", {tags.STUDY_INSTANCE_UID: "2.25.4242"}, take)
        assert (answer.status, answer.failed) == (0xFE00, 0)
        assert answer.completed == len(came) == answered
        assert session.echo().status == 0, "the association goes on"
        session.cancel(uids.STUDY_ROOT_GET)  # when it is long over
        again = session.get("STUDY", {tags.STUDY_INSTANCE_UID: "2.25.4242"}, lambda each: 0)
        assert again.status == 0 and again.completed >= RETRIEVED, "and what was cancelled before is not cancelled now"
    assert "cancelled by the peer" in [row.get("reason") for row in site.events("release:ended")]


def test_pynetdicom_cancels_a_retrieval_while_it_takes_an_instance(site: RunningSite) -> None:
    of_a_study(site)
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", "2.25.4242"
    model, roles = StudyRootQueryRetrieveInformationModelGet, [build_role(CTImageStorage, scp_role=True)]
    with Client(site, "WS1", model, CTImageStorage, Verification, ext_neg=roles) as client:
        statuses = []
        for status, _ in client.association.send_c_get(query, model, msg_id=9):
            statuses.append(status.Status)
            if len(statuses) == 2:
                client.association.send_c_cancel(9, None, model)
        assert statuses[-1] in (0xFE00, 0x0000), "cancelled, or it was over before the C-CANCEL came"
        assert client.association.send_c_echo().Status == 0
        client.association.send_c_cancel(9, None, model)
        assert client.association.send_c_echo().Status == 0
