"""What are the index's tables, and which attributes live at which level? (PS3.4 C.3.1.1, C.3.2.1; PS3.3 C.7)"""

from __future__ import annotations

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

# What is counted from the current versions that a permit shows.
PATIENT_COUNTS = frozenset(
    (tags.NUMBER_OF_PATIENT_RELATED_STUDIES, tags.NUMBER_OF_PATIENT_RELATED_SERIES, tags.NUMBER_OF_PATIENT_RELATED_INSTANCES)
)  # fmt: skip
STUDY_COUNTS = frozenset(
    (tags.MODALITIES_IN_STUDY, tags.SOP_CLASSES_IN_STUDY, tags.NUMBER_OF_STUDY_RELATED_SERIES, tags.NUMBER_OF_STUDY_RELATED_INSTANCES)
)  # fmt: skip
SERIES_COUNTS = frozenset((tags.NUMBER_OF_SERIES_RELATED_INSTANCES,))

# Columns that queries narrow by, as `matching.column_text` makes them: tag -> column of `studies`; the first two of `patients` too.
COLUMNS = {
    tags.PATIENT_ID: "patient_id",
    tags.PATIENT_NAME: "patient_name",
    tags.STUDY_DATE: "study_date",
    tags.ACCESSION_NUMBER: "accession",
    tags.STUDY_ID: "study_id",
}

# What cannot be made again from the other tables: it is replayed from segments.
# `versions` has a rowid because its rows are long: without one, all beyond 1,002 bytes takes an overflow page each.
KEPT_TABLES = """
CREATE TABLE applied(writer BLOB PRIMARY KEY, record INTEGER NOT NULL, location BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE versions(sop TEXT NOT NULL, version INTEGER NOT NULL, standing TEXT NOT NULL, holds TEXT NOT NULL, digest BLOB NOT NULL,
    received INTEGER NOT NULL, size INTEGER NOT NULL, settled BLOB NOT NULL, PRIMARY KEY(sop, version));
CREATE INDEX versions_held ON versions(sop, version) WHERE standing = 'held';
CREATE INDEX versions_received ON versions(received, size);
"""

# What is current. `source` and `received`: the instance that a row's attributes are from. `counts`: what there is, by SOP class, so that
# what a permit is confined to is counted without looking at an instance. A name stands in a table of its own, with each of its groups. Clinicians
# and departments, folded, are what a study says of who may see it: `study_clinicians` has each group of the referring and requesting physicians' names.
PROJECTED_TABLES = """
CREATE TABLE patients(raw_id TEXT NOT NULL, issuer TEXT NOT NULL, patient_id TEXT NOT NULL, patient_name TEXT NOT NULL,
    received INTEGER NOT NULL, source TEXT NOT NULL, attributes BLOB NOT NULL, PRIMARY KEY(raw_id, issuer)) WITHOUT ROWID;
CREATE INDEX patients_patient_id ON patients(patient_id);
CREATE TABLE patient_names(name TEXT NOT NULL, raw_id TEXT NOT NULL, issuer TEXT NOT NULL, PRIMARY KEY(name, raw_id, issuer)) WITHOUT ROWID;
CREATE TABLE studies(study TEXT PRIMARY KEY, raw_id TEXT NOT NULL, issuer TEXT NOT NULL, patient_id TEXT NOT NULL,
    patient_name TEXT NOT NULL, study_date TEXT NOT NULL, accession TEXT NOT NULL, study_id TEXT NOT NULL, received INTEGER NOT NULL,
    source TEXT NOT NULL, attributes BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX studies_owner ON studies(raw_id, issuer, received, source);
CREATE INDEX studies_patient_id ON studies(patient_id);
CREATE INDEX studies_study_date ON studies(study_date);
CREATE INDEX studies_accession ON studies(accession);
CREATE INDEX studies_study_id ON studies(study_id);
CREATE TABLE study_names(name TEXT NOT NULL, study TEXT NOT NULL, PRIMARY KEY(name, study)) WITHOUT ROWID;
CREATE TABLE study_clinicians(name TEXT NOT NULL, study TEXT NOT NULL, PRIMARY KEY(name, study)) WITHOUT ROWID;
CREATE TABLE series(study TEXT NOT NULL, series TEXT NOT NULL, modality TEXT NOT NULL, received INTEGER NOT NULL, source TEXT NOT NULL,
    attributes BLOB NOT NULL, department TEXT NOT NULL, PRIMARY KEY(study, series)) WITHOUT ROWID;
CREATE INDEX series_series ON series(series);
CREATE INDEX series_modality ON series(modality);
CREATE INDEX series_department ON series(department) WHERE department != '';
CREATE TABLE counts(study TEXT NOT NULL, series TEXT NOT NULL, sop_class TEXT NOT NULL, instances INTEGER NOT NULL,
    PRIMARY KEY(study, series, sop_class)) WITHOUT ROWID;
CREATE TABLE instances(study TEXT NOT NULL, series TEXT NOT NULL, number INTEGER NOT NULL, sop TEXT NOT NULL, sop_class TEXT NOT NULL,
    received INTEGER NOT NULL, attributes BLOB NOT NULL, PRIMARY KEY(study, series, number, sop)) WITHOUT ROWID;
CREATE UNIQUE INDEX instances_sop ON instances(sop);
"""
