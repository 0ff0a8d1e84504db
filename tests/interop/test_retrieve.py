"""What is sent comes back: every image of the packages byte for byte, native ones in the other native transfer syntax value for value; and what is
moved goes where a flow leads, and nowhere else."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset

from leadglass.doors.dimse.connection import ConnectionLost
from leadglass.lab.corpus import Image, corpus
from leadglass.lab.peers import Answer, Archive, Identity, Received, TurnedAway, associated, getting, querying, storing
from leadglass.lab.workstation import Workstation
from leadglass.wire import tags
from leadglass.wire.part10 import write_part10
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, TRANSFER_SYNTAXES
from tests.running import RunningSite, free_port, running, until
from tests.synthetic import image, uid

OTHER = {
    EXPLICIT_VR_LITTLE_ENDIAN: IMPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN: EXPLICIT_VR_LITTLE_ENDIAN,
}


@pytest.fixture(scope="module")
def images() -> tuple[Image, ...]:
    return corpus()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, images: tuple[Image, ...]) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("bytes")) as site:
        site.up()
        site.enroll("CT1", "echo,store")
        site.enroll("WS1", "echo,find,get,move")
        site.enroll("SINK", "echo", "--address", f"127.0.0.1:{free_port()}")
        site.enroll("OTHER", "echo", "--address", f"127.0.0.1:{free_port()}")
        site.enroll("WS2", "")
        site.enroll("CTMOVE", "echo,move", "--sop-class", "CTImageStorage")
        with associated(identity(site, "CT1"), Archive("127.0.0.1", site.port), storing(images)) as session:
            answers = {image.name: session.store(image).status for image in images}
        assert set(answers.values()) == {0}, {name: hex(status) for name, status in answers.items() if status}
        yield site
        print(site.log())


def identity(site: RunningSite, name: str) -> Identity:
    return Identity(name, "127.0.0.1", site.bundles[name].directory)


def fetched(site: RunningSite, images: list[Image], syntaxes: dict[str, str]) -> dict[str, Received]:
    """The images' studies by C-GET, each SOP class in the transfer syntaxes that `syntaxes` makes of the stored ones."""
    came: dict[str, Received] = {}

    def take(each: Received) -> int:
        came[each.sop_instance_uid] = each
        return 0

    pairs = {(each.sop_class_uid, syntaxes.get(each.transfer_syntax_uid, each.transfer_syntax_uid)) for each in images}
    with associated(identity(site, "WS1"), Archive("127.0.0.1", site.port), getting(pairs)) as session:
        for study in sorted({each.study_instance_uid for each in images}):
            session.get("STUDY", {tags.STUDY_INSTANCE_UID: study}, take)
    return came


def test_every_image_comes_back_byte_for_byte(site: RunningSite, images: tuple[Image, ...]) -> None:
    came = fetched(site, list(images), {})
    assert len(images) >= 100
    assert sum(TRANSFER_SYNTAXES[each.transfer_syntax_uid].encapsulated for each in images) >= 10
    for each in images:
        back = came[each.sop_instance_uid]
        assert (back.transfer_syntax_uid, back.sop_class_uid) == (each.transfer_syntax_uid, each.sop_class_uid)
        assert back.data_set == each.data_set, each.name


@pytest.mark.parametrize(
    ("stored", "at_least"),
    [(EXPLICIT_VR_LITTLE_ENDIAN, 50), (IMPLICIT_VR_LITTLE_ENDIAN, 2)],
    ids=["explicit-to-implicit", "implicit-to-explicit"],
)
def test_native_images_in_the_other_transfer_syntax(
    site: RunningSite, images: tuple[Image, ...], stored: str, at_least: int
) -> None:
    native = [each for each in images if each.transfer_syntax_uid == stored]
    came = fetched(site, native, OTHER)
    assert len(native) >= at_least
    for each in native:
        back = came[each.sop_instance_uid]
        assert back.transfer_syntax_uid == OTHER[stored]
        original = pydicom_reads(each.sop_class_uid, each.sop_instance_uid, stored, each.data_set)
        again = pydicom_reads(back.sop_class_uid, back.sop_instance_uid, back.transfer_syntax_uid, back.data_set)
        assert difference(original, again) == "", each.name


def pydicom_reads(sop_class: str, instance: str, syntax: str, data_set: bytes) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(BytesIO(write_part10(sop_class, instance, syntax) + data_set))


def difference(one: Dataset, other: Dataset) -> str:
    """The first element that another reader reads differently; group lengths (retired) and VRs that implicit VR cannot say aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tags_of_one, tags_of_other = ([tag for tag in each.keys() if tag.element] for each in (one, other))  # noqa: SIM118
        if tags_of_one != tags_of_other:
            return f"elements: {sorted(set(tags_of_one) ^ set(tags_of_other))}"
        for tag in tags_of_one:
            left, right = one[tag], other[tag]
            if left.VR == "SQ" and right.VR == "SQ":
                if len(left.value) != len(right.value):
                    return f"{tag}: {len(left.value)} and {len(right.value)} items"
                inner = next(filter(None, map(difference, left.value, right.value)), "")
                if inner:
                    return f"{tag}: {inner}"
            elif left.VR == right.VR and left.value != right.value:
                return f"{tag}: {left.value!r:.60} and {right.value!r:.60}"
    return ""


def may_associate(site: RunningSite, name: str) -> bool:
    try:
        with associated(identity(site, name), Archive("127.0.0.1", site.port), querying()):
            return True
    except TurnedAway:
        return False


def test_a_flow_with_destinations_leads_nowhere_else(site: RunningSite, images: tuple[Image, ...]) -> None:
    file = site.directory / "leadglass.toml"
    flow = {"id": "to-sink", "from": ["WS2"], "to": ["archive"], "service": "dicom-tls", "auth": "mtls", "may": ["move"],
            "destinations": ["SINK"], "why": "a reading room with one screen"}  # fmt: skip
    lines = [f"{key} = {value!r}".replace("'", '"') for key, value in flow.items()]
    assert not may_associate(site, "WS2")
    file.write_text(file.read_text() + "\n[[flows]]\n" + "\n".join(lines) + "\n")
    site.command("apply")
    assert all(may_associate(site, "WS2") for _ in range(8)), "an applied site file acts in every worker"
    keys = {tags.STUDY_INSTANCE_UID: images[0].study_instance_uid}
    with associated(identity(site, "WS2"), Archive("127.0.0.1", site.port), querying()) as session:
        assert session.move("STUDY", keys, "OTHER").status == 0xA801
        assert session.move("STUDY", keys, "SINK").status == 0x0110, "it may, but nobody listens there"
        assert session.find("STUDY", keys)[0].status == 0x0124
    reasons = [row["reason"] for row in site.events("request:refused") if row["actor"] == "WS2"]
    assert any("does not name OTHER in destinations" in reason for reason in reasons)


def moved(site: RunningSite, name: str, study: str) -> tuple[Answer, set[str]]:
    """C-MOVE of a study to SINK by that device, and what arrived there."""
    address = next(row for row in site.rows("device", "list") if row["name"] == "SINK")["address"]
    stick = identity(site, "SINK").credentials()
    with (
        Workstation(("127.0.0.1", int(address.rpartition(":")[2])), stick) as sink,
        associated(identity(site, name), Archive("127.0.0.1", site.port), querying()) as session,
    ):
        answer = session.move("STUDY", {tags.STUDY_INSTANCE_UID: study}, "SINK")
        return answer, set(sink.digests)


def test_a_move_is_confined_like_everything_else(site: RunningSite) -> None:
    rng = random.Random(5)
    study = uid(rng)
    ct, mr = (image(rng, study=study, sop_class=each) for each in ("CTImageStorage", "MRImageStorage"))
    other = image(rng, study=study, sop_instance=ct.sop_instance_uid)
    stray = image(rng, study=study, patient="SOMEBODY ELSE")
    with associated(identity(site, "CT1"), Archive("127.0.0.1", site.port), storing([ct, mr])) as session:
        assert [session.store(each).status for each in (ct, mr, other, stray)] == [0, 0, 0x0111, 0x0111]
    answer, arrived = moved(site, "WS1", study)
    assert (answer.status, answer.completed, arrived) == (0, 2, {ct.sop_instance_uid, mr.sop_instance_uid})
    answer, arrived = moved(site, "CTMOVE", study)
    assert (answer.status, answer.completed, arrived) == (0, 1, {ct.sop_instance_uid}), (
        "confined to CT, and no held version"
    )


class Failing(Workstation):
    """Goes away in the middle of the third instance."""

    def keep(self, instance: Received) -> int:
        if len(self.digests) == 2:
            raise ConnectionLost("switched off")
        return super().keep(instance)


def test_what_a_destination_never_took_is_counted_and_named(site: RunningSite) -> None:
    rng = random.Random(6)
    study = uid(rng)
    images = [image(rng, study=study) for _ in range(6)]
    with associated(identity(site, "CT1"), Archive("127.0.0.1", site.port), storing(images)) as session:
        assert {session.store(each).status for each in images} == {0}
    address = next(row for row in site.rows("device", "list") if row["name"] == "SINK")["address"]
    listen = ("127.0.0.1", int(address.rpartition(":")[2]))
    with (
        Failing(listen, identity(site, "SINK").credentials()) as sink,
        associated(identity(site, "WS1"), Archive("127.0.0.1", site.port), querying()) as session,
    ):
        answer = session.move("STUDY", {tags.STUDY_INSTANCE_UID: study}, "SINK")
        assert (answer.status, answer.completed, answer.failed) == (0xB000, 2, 4)
        assert len(sink.digests) == 2
    assert site.events("release:ended")[-1]["outcome"] == "failed"


def test_nothing_is_moved_to_a_device_that_is_contained(site: RunningSite, images: tuple[Image, ...]) -> None:
    study = images[0].study_instance_uid
    site.command("device", "disable", "SINK", "--reason", "being repaired")
    assert until(lambda: moved(site, "WS1", study)[0].status == 0xA801)
    site.command("device", "enable", "SINK")
    assert until(lambda: moved(site, "WS1", study)[0].status == 0)
