"""Synthetic instances, made here and called synthetic: CT-like noise that no compressor helps with, and small objects."""

from __future__ import annotations

import random
import struct
from pathlib import Path

from leadglass.wire.elements import DataSet, Element, encode
from leadglass.wire.part10 import write_part10
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "2.25.90000000001"


def ct(number: int, side: int, study: int, seed: int) -> bytes:
    """A CT instance of side x side 16-bit pixels, as a Part 10 file."""
    pixels = random.Random(seed * 1_000_003 + number).randbytes(side * side * 2)
    data = data_set(number, side, study, seed, pixels)
    return write_part10(CT_IMAGE_STORAGE, uid_of(number, study, seed), EXPLICIT_VR_LITTLE_ENDIAN) + data


def uid_of(number: int, study: int, seed: int, series: int = 1) -> str:
    """The SOP Instance UID that `data_set` writes."""
    return f"{ROOT}.{seed}.{study}.{series}.{number}"


def data_set(number: int, side: int, study: int, seed: int, pixels: bytes, series: int = 1) -> bytes:
    """A CT instance's data set in Explicit VR Little Endian."""
    texts = {
        0x00080016: ("UI", CT_IMAGE_STORAGE),
        0x00080018: ("UI", uid_of(number, study, seed, series)),
        0x00080020: ("DA", "20260101"),
        0x00080030: ("TM", "120000"),
        0x00080050: ("SH", f"A{study:06d}"),
        0x00080060: ("CS", "CT"),
        0x00080070: ("LO", "Synthetic"),
        0x00080090: ("PN", "Referring^Synthetic"),
        0x00081030: ("LO", "Synthetic CT"),
        0x00100010: ("PN", f"Synthetic^Patient{study}"),
        0x00100020: ("LO", f"SYN{study:06d}"),
        0x00100030: ("DA", "19700101"),
        0x00100040: ("CS", "O"),
        0x0020000D: ("UI", f"{ROOT}.{seed}.{study}"),
        0x0020000E: ("UI", f"{ROOT}.{seed}.{study}.{series}"),
        0x00200010: ("SH", str(study)),
        0x00200011: ("IS", str(series)),
        0x00200013: ("IS", str(number)),
        0x00280004: ("CS", "MONOCHROME2"),
    }
    numbers = {
        0x00280002: 1,
        0x00280010: side,
        0x00280011: side,
        0x00280100: 16,
        0x00280101: 16,
        0x00280102: 15,
        0x00280103: 0,
    }
    elements = [Element(tag, vr, value.encode()) for tag, (vr, value) in texts.items()]
    elements += [Element(tag, "US", struct.pack("<H", value)) for tag, value in numbers.items()]
    elements.append(Element(0x7FE00010, "OW", pixels))
    return encode(DataSet(sorted(elements, key=lambda element: element.tag)), EXPLICIT_VR_LITTLE_ENDIAN)


def write_corpus(directory: Path, *, count: int, side: int, seed: int, per_study: int = 100) -> int:
    """`count` files; the bytes of one."""
    directory.mkdir(parents=True, exist_ok=True)
    size = 0
    for number in range(count):
        content = ct(number, side, number // per_study, seed)
        (directory / f"{number:05d}.dcm").write_bytes(content)
        size = len(content)
    return size


def write_multiframe(directory: Path, length: int) -> int:
    """One multi-frame instance of about `length` bytes of pixel data, written in pieces; its size."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "multiframe.dcm"
    frame = 512 * 512 * 2
    frames = length // frame
    whole = ct(0, 512, 0, 9)
    at = whole.index(struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OW", frame))
    of_frames = Element(0x00280008, "IS", str(frames).encode())
    count = encode(DataSet([of_frames]), EXPLICIT_VR_LITTLE_ENDIAN)
    header = whole[:at]
    behind = header.index(struct.pack("<HH2s", 0x0028, 0x0010, b"US"))
    noise = random.Random(9).randbytes(frame)
    with path.open("wb") as file:
        file.write(header[:behind] + count + header[behind:])
        file.write(struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OW", frame * frames))
        for _ in range(frames):
            file.write(noise)
    return path.stat().st_size
