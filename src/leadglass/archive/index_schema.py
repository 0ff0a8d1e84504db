"""What are the index's tables, and which attributes live at which level? (PS3.4 C.3.1.1, C.3.2.1; PS3.3 C.7)"""

from __future__ import annotations

import apsw

from leadglass.site.migrations import Migration
from leadglass.wire import tags

PATIENT_TAGS = frozenset(
    (tags.PATIENT_NAME, tags.PATIENT_ID, tags.ISSUER_OF_PATIENT_ID, tags.PATIENT_BIRTH_DATE, tags.PATIENT_BIRTH_TIME,
     tags.PATIENT_SEX, tags.OTHER_PATIENT_IDS, tags.PATIENT_COMMENTS)
)  # fmt: skip
STUDY_TAGS = frozenset(
    (tags.STUDY_INSTANCE_UID, tags.STUDY_DATE, tags.STUDY_TIME, tags.ACCESSION_NUMBER, tags.STUDY_ID, tags.STUDY_DESCRIPTION,
     tags.REFERRING_PHYSICIAN_NAME, tags.NAME_OF_PHYSICIANS_READING_STUDY, tags.REQUESTING_PHYSICIAN, tags.PATIENT_AGE,
     tags.PATIENT_SIZE, tags.PATIENT_WEIGHT)
)  # fmt: skip
SERIES_TAGS = frozenset(
    (tags.SERIES_INSTANCE_UID, tags.MODALITY, tags.SERIES_NUMBER, tags.SERIES_DATE, tags.SERIES_TIME, tags.SERIES_DESCRIPTION,
     tags.BODY_PART_EXAMINED, tags.LATERALITY, tags.PROTOCOL_NAME, tags.PERFORMING_PHYSICIAN_NAME, tags.OPERATORS_NAME,
     tags.MANUFACTURER, tags.MANUFACTURER_MODEL_NAME, tags.INSTITUTION_NAME, tags.INSTITUTIONAL_DEPARTMENT_NAME, tags.STATION_NAME,
     tags.DEVICE_SERIAL_NUMBER, tags.SOFTWARE_VERSIONS, tags.FRAME_OF_REFERENCE_UID, tags.PERFORMED_PROCEDURE_STEP_START_DATE,
     tags.PERFORMED_PROCEDURE_STEP_START_TIME, tags.REQUESTED_PROCEDURE_ID)
)  # fmt: skip

# Columns that queries narrow by: tag -> column of `studies` or `patients`.
STUDY_COLUMNS = {
    tags.PATIENT_ID: "patient_id",
    tags.PATIENT_NAME: "patient_name",
    tags.STUDY_INSTANCE_UID: "study",
    tags.STUDY_DATE: "study_date",
    tags.ACCESSION_NUMBER: "accession",
    tags.STUDY_ID: "study_id",
}
PATIENT_COLUMNS = {tags.PATIENT_ID: "patient_id", tags.PATIENT_NAME: "patient_name"}

TABLES = """
CREATE TABLE claims(sop TEXT PRIMARY KEY, digest BLOB NOT NULL, writer BLOB NOT NULL, version INTEGER NOT NULL,
    study TEXT NOT NULL, patient_id TEXT NOT NULL, issuer TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX claims_study ON claims(study);
CREATE TABLE applied(writer BLOB PRIMARY KEY, record INTEGER NOT NULL, location BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE versions(sop TEXT NOT NULL, version INTEGER NOT NULL, standing TEXT NOT NULL, holds TEXT NOT NULL, digest BLOB NOT NULL,
    received INTEGER NOT NULL, size INTEGER NOT NULL, settled BLOB NOT NULL, PRIMARY KEY(sop, version)) WITHOUT ROWID;
CREATE INDEX versions_held ON versions(sop, version) WHERE standing = 'held';
CREATE INDEX versions_received ON versions(received, size);
CREATE TABLE patients(patient_id TEXT NOT NULL, issuer TEXT NOT NULL, patient_name TEXT NOT NULL, received INTEGER NOT NULL,
    source TEXT NOT NULL, attributes BLOB NOT NULL, raw_id TEXT NOT NULL, PRIMARY KEY(raw_id, issuer)) WITHOUT ROWID;
CREATE INDEX patients_id ON patients(patient_id);
CREATE INDEX patients_name ON patients(patient_name);
CREATE TABLE studies(study TEXT PRIMARY KEY, raw_id TEXT NOT NULL, issuer TEXT NOT NULL, patient_id TEXT NOT NULL,
    patient_name TEXT NOT NULL, study_date TEXT NOT NULL, accession TEXT NOT NULL, study_id TEXT NOT NULL, received INTEGER NOT NULL,
    source TEXT NOT NULL, attributes BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX studies_patient ON studies(patient_id);
CREATE INDEX studies_raw ON studies(raw_id, issuer);
CREATE INDEX studies_name ON studies(patient_name);
CREATE INDEX studies_date ON studies(study_date);
CREATE INDEX studies_accession ON studies(accession);
CREATE INDEX studies_id ON studies(study_id);
CREATE TABLE series(series TEXT NOT NULL, study TEXT NOT NULL, modality TEXT NOT NULL, received INTEGER NOT NULL, source TEXT NOT NULL,
    attributes BLOB NOT NULL, PRIMARY KEY(study, series)) WITHOUT ROWID;
CREATE INDEX series_modality ON series(modality, study);
CREATE TABLE instances(study TEXT NOT NULL, series TEXT NOT NULL, number INTEGER NOT NULL, sop TEXT NOT NULL, sop_class TEXT NOT NULL,
    received INTEGER NOT NULL, attributes BLOB NOT NULL, PRIMARY KEY(study, series, number, sop)) WITHOUT ROWID;
CREATE UNIQUE INDEX instances_sop ON instances(sop);
CREATE INDEX instances_class ON instances(study, sop_class);
"""


def _tables(connection: apsw.Connection) -> None:
    if not list(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'versions'")):
        connection.execute(TABLES)


MIGRATIONS: tuple[Migration[apsw.Connection], ...] = (Migration(1, "the first tables", _tables),)
