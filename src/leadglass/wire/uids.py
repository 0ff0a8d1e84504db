"""Which UIDs have a meaning here, and what is a UID at all? SOP classes, transfer syntaxes (PS3.6 A), and PS3.5 9."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

VERIFICATION = "1.2.840.10008.1.1"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
STORAGE_COMMITMENT_PUSH = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_PUSH_INSTANCE = "1.2.840.10008.1.20.1.1"

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

UID_LENGTH_MAX_CHARACTERS = 64
_LEGAL = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """PS3.5 10, Annex A. `encapsulated`: pixel data in fragments. `lossy`: True where the syntax always loses or may."""

    uid: str
    name: str
    explicit: bool = True
    big_endian: bool = False
    deflated: bool = False
    encapsulated: bool = True
    lossy: bool = False


def _compressed(suffix: str, name: str, *, lossy: bool) -> TransferSyntax:
    return TransferSyntax(f"1.2.840.10008.1.2.{suffix}", name, lossy=lossy)


TRANSFER_SYNTAXES: Mapping[str, TransferSyntax] = {
    syntax.uid: syntax
    for syntax in (
        TransferSyntax(IMPLICIT_VR_LITTLE_ENDIAN, "ImplicitVRLittleEndian", explicit=False, encapsulated=False),
        TransferSyntax(EXPLICIT_VR_LITTLE_ENDIAN, "ExplicitVRLittleEndian", encapsulated=False),
        TransferSyntax(
            DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "DeflatedExplicitVRLittleEndian", deflated=True, encapsulated=False
        ),
        TransferSyntax(EXPLICIT_VR_BIG_ENDIAN, "ExplicitVRBigEndian", big_endian=True, encapsulated=False),
        TransferSyntax("1.2.840.10008.1.2.1.98", "EncapsulatedUncompressedExplicitVRLittleEndian"),
        *(
            _compressed(f"4.{number}", name, lossy=lossy)
            for number, name, lossy in (
                ("50", "JPEGBaseline8Bit", True),
                ("51", "JPEGExtended12Bit", True),
                ("52", "JPEGExtended35", True),
                ("53", "JPEGSpectralSelectionNonHierarchical68", True),
                ("54", "JPEGSpectralSelectionNonHierarchical79", True),
                ("55", "JPEGFullProgressionNonHierarchical1012", True),
                ("56", "JPEGFullProgressionNonHierarchical1113", True),
                ("57", "JPEGLossless", False),
                ("58", "JPEGLosslessNonHierarchical15", False),
                ("59", "JPEGExtendedHierarchical1618", True),
                ("60", "JPEGExtendedHierarchical1719", True),
                ("61", "JPEGSpectralSelectionHierarchical2022", True),
                ("62", "JPEGSpectralSelectionHierarchical2123", True),
                ("63", "JPEGFullProgressionHierarchical2426", True),
                ("64", "JPEGFullProgressionHierarchical2527", True),
                ("65", "JPEGLosslessHierarchical28", False),
                ("66", "JPEGLosslessHierarchical29", False),
                ("70", "JPEGLosslessSV1", False),
                ("80", "JPEGLSLossless", False),
                ("81", "JPEGLSNearLossless", True),
                ("90", "JPEG2000Lossless", False),
                ("91", "JPEG2000", True),
                ("92", "JPEG2000MCLossless", False),
                ("93", "JPEG2000MC", True),
                ("100", "MPEG2MPML", True),
                ("100.1", "MPEG2MPMLF", True),
                ("101", "MPEG2MPHL", True),
                ("101.1", "MPEG2MPHLF", True),
                ("102", "MPEG4HP41", True),
                ("102.1", "MPEG4HP41F", True),
                ("103", "MPEG4HP41BD", True),
                ("103.1", "MPEG4HP41BDF", True),
                ("104", "MPEG4HP422D", True),
                ("104.1", "MPEG4HP422DF", True),
                ("105", "MPEG4HP423D", True),
                ("105.1", "MPEG4HP423DF", True),
                ("106", "MPEG4HP42STEREO", True),
                ("106.1", "MPEG4HP42STEREOF", True),
                ("107", "HEVCMP51", True),
                ("108", "HEVCM10P51", True),
                ("110", "JPEGXLLossless", False),
                ("111", "JPEGXLJPEGRecompression", True),
                ("112", "JPEGXL", True),
                ("201", "HTJ2KLossless", False),
                ("202", "HTJ2KLosslessRPCL", False),
                ("203", "HTJ2K", True),
            )
        ),
        _compressed("4.94", "JPIPReferenced", lossy=True),
        _compressed("4.204", "JPIPHTJ2KReferenced", lossy=True),
        TransferSyntax("1.2.840.10008.1.2.4.95", "JPIPReferencedDeflate", deflated=True, lossy=True),
        TransferSyntax("1.2.840.10008.1.2.4.205", "JPIPHTJ2KReferencedDeflate", deflated=True, lossy=True),
        _compressed("5", "RLELossless", lossy=False),
        _compressed("8.1", "DeflatedImageFrameCompression", lossy=False),  # frames are deflated, the data set is not
    )
}


@cache
def storage_classes() -> Mapping[str, str]:
    """UID -> keyword of every Storage SOP class, retired ones too (PS3.4 B.5, PS3.6 A)."""
    text = resources.files("leadglass.wire").joinpath("sop_classes.tsv").read_text(encoding="ascii")
    return {uid: keyword for uid, keyword, _ in (line.split("\t") for line in text.splitlines())}


@cache
def _storage_keywords() -> Mapping[str, str]:
    return {keyword: uid for uid, keyword in storage_classes().items()}


def is_storage(uid: str) -> bool:
    return uid in storage_classes()


def storage_class_of(word: str) -> str | None:
    """The UID that a keyword such as `CTImageStorage`, or a UID itself, stands for."""
    return word if word in storage_classes() else _storage_keywords().get(word)


def keyword_of_class(uid: str) -> str:
    """The keyword, the UID itself where the Standard has none."""
    return storage_classes().get(uid, uid)


def uid_problem(text: str) -> str:
    """Why this cannot be kept as a UID; "" where it can. Odd but harmless ones are kept: see `uid_warning`."""
    if not text:
        return "it is empty"
    if len(text) > UID_LENGTH_MAX_CHARACTERS:
        return f"longer than {UID_LENGTH_MAX_CHARACTERS} characters"
    if not _LEGAL.fullmatch(text):
        return "other characters than digits and dots"
    if not text.strip("."):
        return "nothing but dots"
    return ""


def uid_warning(text: str) -> str:
    """What is odd about a UID of legal length and characters (PS3.5 9.1); "" where nothing is."""
    components = text.split(".")
    if any(not component for component in components):
        return "an empty component"
    if any(len(component) > 1 and component[0] == "0" for component in components):
        return "a component with a leading zero"
    if len(components) < 2:
        return "a single component"
    return ""


def uid_from(random_bytes: bytes) -> str:
    """A UID under 2.25 from 16 random bytes (PS3.5 B.2)."""
    return f"2.25.{int.from_bytes(random_bytes[:16], 'big')}"
