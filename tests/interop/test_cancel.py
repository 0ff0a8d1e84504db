"""A long answer is cancelled in the middle: the peer hears FE00 and no more answers than were on their way."""

from __future__ import annotations

import time
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from leadglass.__main__ import assemble
from leadglass.terms import Instance, Location, PatientIdentity, Settled, Standing
from leadglass.wire import tags
from tests.interop.test_pacs import Client
from tests.running import running

STUDIES = 100_000
SEEN_BEFORE_CANCEL = 20


def settled(number: int) -> Settled:
    study = f"1.2.{number}"
    attributes = {
        tags.PATIENT_ID: f"P{number}",
        tags.STUDY_INSTANCE_UID: study,
        tags.MODALITY: "CT",
        tags.STUDY_DATE: "20260101",
    }
    instance = Instance(
        f"{study}.1.1",
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.840.10008.1.2.1",
        study,
        f"{study}.1",
        PatientIdentity(f"P{number}"),
        attributes,
    )
    place = Location("made-up", 0, 0, number + 1)
    return Settled(
        instance,
        number.to_bytes(32, "big"),
        0,
        0,
        1,
        Standing.CURRENT,
        frozenset(),
        None,
        "CT1",
        "",
        "",
        number,
        bytes(16),
        place,
    )


def test_cancel(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        site.enroll("WS1", "find")
        house = assemble(site.directory)
        try:
            for start in range(0, STUDIES, 1000):
                house.index.publish([settled(number) for number in range(start, start + 1000)])
        finally:
            house.close()
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
        (ended,) = [row for row in site.events("release:ended") if row.get("action") == "find"]
        assert "cancelled" in ended["reason"]
