"""What the packages hold becomes images that a hospital without conflicts would send; what is broken is left out."""

from __future__ import annotations

import random
from pathlib import Path

import pydicom

from leadglass.lab.corpus import corpus, files, read_image, tampered
from leadglass.wire.uids import TRANSFER_SYNTAXES
from tests.synthetic import image, write


def test_the_packages_have_images_of_many_kinds() -> None:
    images = corpus()
    assert len(images) >= 100
    assert len({each.sop_instance_uid for each in images}) == len(images)
    assert {"CTImageStorage", "MRImageStorage", "ComputedRadiographyImageStorage"} <= {
        each.sop_class for each in images
    }
    syntaxes = [TRANSFER_SYNTAXES[each.transfer_syntax_uid] for each in images]
    assert any(each.encapsulated for each in syntaxes) and not any(
        each.big_endian or each.deflated for each in syntaxes
    )
    patients: dict[str, str] = {}
    assert all(patients.setdefault(each.study_instance_uid, each.patient_id) == each.patient_id for each in images)


def test_an_image_is_what_another_reader_reads() -> None:
    path = next(each for each in files() if each.name == "CT_small.dcm")
    ours, theirs = read_image(path), pydicom.dcmread(path)
    assert ours is not None
    assert ours.sop_instance_uid == theirs.SOPInstanceUID and ours.sop_class_uid == theirs.SOPClassUID
    assert ours.study_instance_uid == theirs.StudyInstanceUID and ours.patient_id == theirs.PatientID
    assert ours.transfer_syntax_uid == theirs.file_meta.TransferSyntaxUID and ours.modality == theirs.Modality
    assert theirs.PixelData in ours.data_set


def test_what_is_broken_or_there_twice_is_left_out(tmp_path: Path) -> None:
    rng = random.Random(1)
    good, other = image(rng, study="1.2.3", patient="A"), image(rng, study="1.2.3", patient="B")
    paths = [write(good, tmp_path / "1"), write(good, tmp_path / "2"), write(other, tmp_path / "3")]
    (tmp_path / "4").write_bytes(b"no image")
    (tmp_path / "5").write_bytes((tmp_path / "1").read_bytes()[:-10])
    assert [each.sop_instance_uid for each in corpus([*paths, tmp_path / "4", tmp_path / "5"])] == [
        good.sop_instance_uid
    ]


def test_a_tampered_image_has_the_same_name_and_other_bytes() -> None:
    good = image(random.Random(2))
    bad = tampered(good)
    assert bad.sop_instance_uid == good.sop_instance_uid
    assert len(bad.data_set) == len(good.data_set) and bad.data_set != good.data_set
