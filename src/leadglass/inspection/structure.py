"""Does the data set say what its command said? The header that was scanned on arrival becomes an `Instance`, or is refused."""

from __future__ import annotations

from leadglass.terms import Arrived, Inspected, Instance, Malformed, Mismatched, PatientIdentity, Refused
from leadglass.wire import tags
from leadglass.wire.dataset import Header
from leadglass.wire.uids import uid_problem, uid_warning

ATTRIBUTE_LENGTH_MAX_CHARACTERS = 4096  # what the index keeps of one attribute; the stored instance keeps all of it
_REQUIRED = (
    (tags.STUDY_INSTANCE_UID, "Study Instance UID"),
    (tags.SERIES_INSTANCE_UID, "Series Instance UID"),
)


def inspect(arrived: Arrived) -> Inspected:
    """Raises Mismatched where data set and command disagree, Malformed where an identifying UID is absent or none."""
    try:
        return _inspect(arrived)
    except Refused:
        arrived.arrival.discard()
        raise


def _inspect(arrived: Arrived) -> Inspected:
    offer, header = arrived.offer, arrived.header
    assert isinstance(header, Header)
    if header.uid(tags.SOP_INSTANCE_UID) != offer.sop_instance_uid:
        raise Mismatched("the SOP Instance UID of the data set is not the Affected SOP Instance UID of the command")
    if header.uid(tags.SOP_CLASS_UID) != offer.sop_class_uid:
        raise Mismatched("the SOP Class UID of the data set is not the Affected SOP Class UID of the command")
    warnings = list(offer.warnings) + list(header.warnings)
    for tag, name in _REQUIRED:
        uid = header.uid(tag)
        if problem := uid_problem(uid):
            raise Malformed(f"the {name} is absent or not a UID: {problem}")
        if warning := uid_warning(uid):
            warnings.append(f"{name}: {warning}")
    attributes = {tag: text[:ATTRIBUTE_LENGTH_MAX_CHARACTERS] for tag, text in header.texts(tags.INDEXED) if text}
    instance = Instance(
        sop_instance_uid=offer.sop_instance_uid,
        sop_class_uid=offer.sop_class_uid,
        transfer_syntax_uid=offer.transfer_syntax_uid,
        study_instance_uid=header.uid(tags.STUDY_INSTANCE_UID),
        series_instance_uid=header.uid(tags.SERIES_INSTANCE_UID),
        patient=PatientIdentity(header.text(tags.PATIENT_ID), header.text(tags.ISSUER_OF_PATIENT_ID)),
        attributes=attributes,
    )
    return Inspected(offer, arrived.arrival, instance, header.length, frozenset(), tuple(warnings))
