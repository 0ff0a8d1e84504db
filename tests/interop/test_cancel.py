"""A long answer is cancelled in the middle: the peer hears FE00 and no more answers than were on their way."""

from __future__ import annotations

import time
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from bench.finding import fill
from leadglass.lab.peers import Archive, Identity, associated, querying
from leadglass.wire import tags
from tests.interop.test_pacs import Client
from tests.running import running

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
