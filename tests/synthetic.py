"""Made-up instances for tests that need many of them, small and alike: as `lab` sends them, without any other DICOM library."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from leadglass.lab.corpus import Image
from leadglass.wire import tags
from leadglass.wire.elements import DataSet, Element, encode
from leadglass.wire.part10 import write_part10
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN, storage_class_of, uid_from


def uid(rng: random.Random) -> str:
    return uid_from(rng.randbytes(16))


def image(
    rng: random.Random,
    *,
    study: str = "",
    patient: str = "SYNTHETIC",
    sop_class: str = "CTImageStorage",
    sop_instance: str = "",
    pixels: int = 512,
    syntax: str = EXPLICIT_VR_LITTLE_ENDIAN,
) -> Image:
    """One instance with `pixels` bytes of noise, in a native transfer syntax."""
    sop_class_uid, instance, series = storage_class_of(sop_class), sop_instance or uid(rng), uid(rng)
    assert sop_class_uid is not None
    study = study or uid(rng)
    text = {
        tags.SOP_CLASS_UID: ("UI", sop_class_uid),
        tags.SOP_INSTANCE_UID: ("UI", instance),
        tags.STUDY_DATE: ("DA", "20240229"),
        tags.MODALITY: ("CS", sop_class[:2]),
        tags.PATIENT_NAME: ("PN", "Synthetic^Instance"),
        tags.PATIENT_ID: ("LO", patient),
        tags.STUDY_INSTANCE_UID: ("UI", study),
        tags.SERIES_INSTANCE_UID: ("UI", series),
        tags.INSTANCE_NUMBER: ("IS", "1"),
    }
    elements = [Element(tag, vr, value.encode()) for tag, (vr, value) in text.items()]
    elements.append(Element(tags.BITS_ALLOCATED, "US", b"\x10\0"))
    elements.append(Element(tags.PIXEL_DATA, "OW", rng.randbytes(pixels)))
    content = encode(DataSet(elements), syntax)
    return Image("synthetic", sop_class_uid, instance, syntax, study, series, patient, sop_class[:2], content)


def digest(image: Image) -> str:
    return hashlib.sha256(image.data_set).hexdigest()


def write(image: Image, path: Path) -> Path:
    """As a Part 10 file, for programs that send files."""
    head = write_part10(image.sop_class_uid, image.sop_instance_uid, image.transfer_syntax_uid)
    path.write_bytes(head + image.data_set)
    return path
