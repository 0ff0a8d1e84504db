"""Kept versions without bytes: what the index's tests publish, claim and ask for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from leadglass.archive.index import Index
from leadglass.terms import (
    HoldReason,
    Instance,
    Level,
    Location,
    PatientIdentity,
    Query,
    Retrieval,
    Root,
    Settled,
    Standing,
)
from leadglass.wire import tags
from tests.archive.place import ANNA, CT, EXPLICIT, subject

MR = "1.2.840.10008.5.1.4.1.1.4"
KEY = bytes(range(32))
WRITER = b"w" * 16


def opened(directory: Path, key: bytes = KEY) -> Index:
    return Index.open("sqlite:index/index.db", directory, key)


def instance(
    sop: str,
    *,
    study: str = "1.2.3",
    series: str = "",
    patient: PatientIdentity = ANNA,
    sop_class: str = CT,
    attributes: Mapping[int, str] | None = None,
) -> Instance:
    series = series or study + ".1"
    own = {tags.SOP_INSTANCE_UID: sop, tags.STUDY_INSTANCE_UID: study, tags.SERIES_INSTANCE_UID: series}
    named = {tags.PATIENT_ID: patient.patient_id, tags.ISSUER_OF_PATIENT_ID: patient.issuer, tags.MODALITY: "CT"}
    return Instance(sop, sop_class, EXPLICIT, study, series, patient, {**named, **(attributes or {}), **own})


def settled(
    of: Instance,
    *,
    version: int = 1,
    digest: bytes = b"",
    standing: Standing = Standing.CURRENT,
    holds: frozenset[HoldReason] = frozenset(),
    received: int = 1,
    writer: bytes = WRITER,
    record: int = 1,
) -> Settled:
    digest = digest or f"{of.sop_instance_uid}/{version}".encode().ljust(32, b"\0")
    where = Location("w-00000001.lgs", 4096 * record, 2000, record)
    return Settled(
        of, digest, 1000, 300, version, standing, holds, None, "CT1", "sha256:00", "r", received, writer, where
    )


def query(level: Level, keys: Mapping[int, str], root: Root = Root.STUDY) -> Query:
    return Query(subject(), root, level, keys)


def retrieval(level: Level, keys: Mapping[int, str], root: Root = Root.STUDY) -> Retrieval:
    return Retrieval(subject(), root, level, keys)
