"""Which images can we send? The real ones that come inside the packages pydicom and pydicom-data, read as files and never imported."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from leadglass.wire import tags, uids
from leadglass.wire.dataset import Header, Scanner
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.part10 import read_part10

PACKAGES = ("pydicom", "pydicom-data")
FILE_LENGTH_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Image:
    """One instance to send. `data_set`: as in its file, without group 2; `modality`: (0008,0060)."""

    name: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    patient_id: str
    modality: str
    data_set: bytes

    @property
    def sop_class(self) -> str:
        return uids.keyword_of_class(self.sop_class_uid)


def files() -> Iterator[Path]:
    """Every file of the packages that may be an image, in a stable order."""
    for package in PACKAGES:
        try:
            listed = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            continue
        for each in sorted(listed, key=str):
            path = Path(str(each.locate()))
            if path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts and path.is_file():
                yield path


def read_image(path: Path) -> Image | None:
    """The file as an image that can be stored as it is; None where it is none (broken, big endian, a DICOMDIR)."""
    if os.path.getsize(path) > FILE_LENGTH_MAX_BYTES:
        return None
    content = path.read_bytes()
    try:
        meta = read_part10(content)
        scanner = Scanner(meta.transfer_syntax_uid)
        data_set = content[meta.data_set_offset :]
        scanner.feed(data_set)
        header = scanner.finish()
    except RemoteProtocolError:
        return None
    image = _image(path.name, meta.transfer_syntax_uid, header, data_set)
    named = (meta.sop_class_uid, meta.sop_instance_uid) == (image.sop_class_uid, image.sop_instance_uid)
    whole = not any(
        map(uids.uid_problem, (image.sop_instance_uid, image.study_instance_uid, image.series_instance_uid))
    )
    return image if named and whole and uids.is_storage(image.sop_class_uid) else None


def _image(name: str, transfer_syntax_uid: str, header: Header, data_set: bytes) -> Image:
    return Image(
        name,
        header.uid(tags.SOP_CLASS_UID),
        header.uid(tags.SOP_INSTANCE_UID),
        transfer_syntax_uid,
        header.uid(tags.STUDY_INSTANCE_UID),
        header.uid(tags.SERIES_INSTANCE_UID),
        header.text(tags.PATIENT_ID),
        header.text(tags.MODALITY),
        data_set,
    )


def corpus(paths: Iterable[Path] | None = None) -> tuple[Image, ...]:
    """Each SOP instance once, each study with one patient: what a hospital without conflicts would send."""
    found: dict[str, Image] = {}
    patients: dict[str, str] = {}
    for path in files() if paths is None else paths:
        image = read_image(path)
        if image is None or image.sop_instance_uid in found:
            continue
        if patients.setdefault(image.study_instance_uid, image.patient_id) == image.patient_id:
            found[image.sop_instance_uid] = image
    return tuple(found.values())


def tampered(image: Image) -> Image:
    """The same SOP Instance UID with other bytes: the last byte of the data set is another one."""
    return dataclasses.replace(image, data_set=image.data_set[:-1] + bytes([image.data_set[-1] ^ 1]))
