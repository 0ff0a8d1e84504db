"""The DICOM files that pydicom ships, as bytes with their meta: real input for everything that reads data sets."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pydicom
import pydicom.data
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from leadglass.wire.dataset import Header, Scanner
from leadglass.wire.elements import parse
from leadglass.wire.errors import RemoteProtocolError
from leadglass.wire.part10 import read_part10
from leadglass.wire.uids import TRANSFER_SYNTAXES

SIZE_MAX_BYTES = 2 << 20


@dataclass(frozen=True)
class Sample:
    path: Path
    transfer_syntax_uid: str
    data_set: bytes

    @property
    def native(self) -> bool:
        return self.transfer_syntax_uid in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

    def scanned(self) -> Header:
        scanner = Scanner(self.transfer_syntax_uid)
        scanner.feed(self.data_set)
        return scanner.finish()

    def oracle(self) -> pydicom.Dataset:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(self.path, stop_before_pixels=False)


@cache
def samples() -> tuple[Sample, ...]:
    """Every file whose data set is little endian and not deflated, and that pydicom itself reads whole."""
    found = []
    for path in sorted((Path(pydicom.data.__file__).parent / "test_files").rglob("*.dcm")):
        if path.stat().st_size > SIZE_MAX_BYTES:
            continue
        data = path.read_bytes()
        try:
            meta = read_part10(data)
        except RemoteProtocolError:
            continue
        syntax = TRANSFER_SYNTAXES.get(meta.transfer_syntax_uid)
        if syntax is None or syntax.big_endian or syntax.deflated:
            continue
        found.append(Sample(path, meta.transfer_syntax_uid, data[meta.data_set_offset :]))
    assert len(found) > 50, "pydicom's test files are not there"
    return tuple(found)


@cache
def readable(sample: Sample) -> bool:
    """False for the few that are broken on purpose, as their names say."""
    try:
        parse(sample.data_set[: sample.scanned().length], sample.transfer_syntax_uid)
    except RemoteProtocolError:
        return False
    return True
