"""Attacks on what a device may do once it is in: other devices' work, queries of every kind, other people's images and reports. Numbers as in docs/attacks.md."""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from leadglass.lab.corpus import Image
from leadglass.lab.peers import (
    Answer,
    associated,
    committing,
    echoing,
    getting,
    querying,
    storing,
)
from leadglass.wire import tags, uids
from leadglass.wire.elements import DataSet, Element, encode
from tests.interop.test_pacs import Client
from tests.running import RunningSite, running
from tests.siege.parties import archive, who
from tests.siege.raw import (
    DATA_SET_TYPE,
    FIELD,
    MESSAGE_ID,
    NO_DATA_SET,
    WITH_DATA_SET,
    asking,
    command_set,
    p_data,
    raw,
)
from tests.synthetic import image

pytestmark = pytest.mark.xdist_group("attacks_on_operations")  # one site for all of it
STUDIES = 12
NOT_AUTHORIZED, UNABLE, DOES_NOT_MATCH = 0x0124, 0xC000, 0xA900
MPPS = "1.2.840.10008.3.1.2.3.3"
UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"
PRIVATE_KEY, MANY_UIDS = 0x00111001, 10_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("operations")) as site:
        site.up()
        site.enroll("CT1", "echo,store,commit")
        site.enroll("CT2", "echo,store,commit")
        site.enroll("WS1", "echo,find,get,move")
        site.enroll("MRONLY", "echo,find,get", "--sop-class", "MRImageStorage")
        site.enroll("DUMB", "echo")
        yield site
        print(site.log())


@pytest.fixture(scope="module")
def images(site: RunningSite) -> list[Image]:
    """One for each of twelve patients, one study each."""
    rng = random.Random(13)
    made = [image(rng, patient=f"SYN_{number}%") for number in range(STUDIES)]
    with associated(who(site, "CT1"), archive(site), storing(made)) as session:
        assert {session.store(each).status for each in made} == {0}
    return made


# ---- 10: whoever may nothing


def test_attack_10_a_device_that_may_echo_does_nothing_else(site: RunningSite, images: list[Image]) -> None:
    study, pairs = images[0].study_instance_uid, [(images[0].sop_class_uid, images[0].transfer_syntax_uid)]
    wanted = [*echoing(), *storing(images), *querying(), *getting(pairs)[:1], *committing()]
    with associated(who(site, "DUMB"), archive(site), wanted) as session:
        assert session.store(images[0]).status == NOT_AUTHORIZED
        assert session.find("STUDY", {tags.STUDY_INSTANCE_UID: study})[0].status == NOT_AUTHORIZED
        assert session.get("STUDY", {tags.STUDY_INSTANCE_UID: study}, lambda each: 0).status == NOT_AUTHORIZED
        assert session.move("STUDY", {tags.STUDY_INSTANCE_UID: study}, "DUMB").status == NOT_AUTHORIZED
        references = [(images[0].sop_class_uid, images[0].sop_instance_uid)]
        assert session.commit("2.25.10", references).status == NOT_AUTHORIZED
        assert session.echo().status == 0
    told = [row for row in site.events("request:refused") if row["actor"] == "DUMB"]
    assert {row["action"] for row in told} == {"store", "find", "get", "move", "commit"}


@pytest.mark.parametrize("field", [0x0110, 0x0120, 0x0140, 0x0150], ids=["N-GET", "N-SET", "N-CREATE", "N-DELETE"])
def test_attack_10_a_service_that_nobody_offers(site: RunningSite, field: int) -> None:
    """No context for it is accepted; where it is said in another one, it is refused, and the association goes on."""
    with raw(site, "DUMB") as connection:
        assert connection.associate(rq=asking("DUMB", uids.VERIFICATION, MPPS, UPS_PUSH)) == "accepted"
        command = {0x0003: MPPS, 0x1001: "1.2.3", FIELD: field, MESSAGE_ID: 7, DATA_SET_TYPE: NO_DATA_SET}
        connection.say(p_data(1, command_set(command), command=True))
        assert connection.hear() == "status 0122H"
        assert connection.hear_echo() == "status 0000H"
        connection.say(p_data(3, command_set(command), command=True))
        assert connection.hear() == "aborted 2,6", "that context was not accepted"


# ---- 13: queries


QUERIES: dict[str, tuple[dict[int, str], int | None]] = {  # and how many of the twelve match; None: refused
    "everything": ({tags.STUDY_INSTANCE_UID: ""}, STUDIES),
    "a star": ({tags.PATIENT_ID: "*", tags.STUDY_INSTANCE_UID: ""}, STUDIES),
    "no key at all": ({}, STUDIES),
    "a percent sign": ({tags.PATIENT_ID: "SYN_1%"}, 1),
    "which is no wildcard": ({tags.PATIENT_ID: "SYN%"}, 0),
    "nor is an underscore": ({tags.PATIENT_ID: "SYN__%"}, 0),
    "a question mark is": ({tags.PATIENT_ID: "SYN??%"}, 10),
    "a list with nothing in it": ({tags.PATIENT_ID: "SYN_1%\\"}, 1),
    "SQL": ({tags.PATIENT_ID: "' OR 1=1 --"}, 0),
    "more SQL": ({tags.PATIENT_NAME: '"; DROP TABLE studies; --'}, 0),
    "stars without end": ({tags.PATIENT_ID: "*S" * 5_000 + "*"}, None),
    "stars that meet no end": ({tags.PATIENT_NAME: "*n*" * 20 + "x"}, 0),
    "a range that ends before it begins": ({tags.STUDY_DATE: "20250101-20200101", tags.STUDY_INSTANCE_UID: ""}, 0),
    "a range of everything": ({tags.STUDY_DATE: "-", tags.STUDY_INSTANCE_UID: ""}, None),
    "a date that is none": ({tags.STUDY_DATE: "20241399", tags.STUDY_INSTANCE_UID: ""}, 0),
    "a private key": ({PRIVATE_KEY: "x", tags.STUDY_INSTANCE_UID: ""}, STUDIES),
    "ten thousand UIDs": ({tags.STUDY_INSTANCE_UID: "\\".join(f"2.25.{number}" for number in range(MANY_UIDS))}, 0),
    "one more than that": (
        {tags.STUDY_INSTANCE_UID: "\\".join(f"2.25.{number}" for number in range(MANY_UIDS + 1))},
        None,
    ),
    "UIDs with a wildcard": ({tags.STUDY_INSTANCE_UID: "2.25.*"}, 0),
    "no UID": ({tags.STUDY_INSTANCE_UID: "../../etc/passwd"}, 0),
}


@pytest.mark.parametrize("what", QUERIES)
def test_attack_13_a_query_means_what_the_standard_says(site: RunningSite, images: list[Image], what: str) -> None:
    keys, matches = QUERIES[what]
    with associated(who(site, "WS1"), archive(site), querying()) as session:
        answer, rows = session.find("STUDY", keys)
        assert session.find("STUDY", {tags.STUDY_INSTANCE_UID: images[0].study_instance_uid})[0].status == 0
    if matches is None:
        assert answer.status in (UNABLE, DOES_NOT_MATCH) and not rows
    else:
        assert (answer.status, len(rows)) == (0, matches)


def identifier(*elements: Element) -> bytes:
    level = Element(tags.QUERY_RETRIEVE_LEVEL, "CS", b"STUDY ")
    return encode(DataSet(sorted((level, *elements), key=lambda each: each.tag)), uids.EXPLICIT_VR_LITTLE_ENDIAN)


ITEM = (DataSet([Element(tags.PATIENT_ID, "LO", b"X ")]),)
UNTOLD: dict[str, tuple[bytes, str]] = {
    "a UID as bytes": (identifier(Element(tags.STUDY_INSTANCE_UID, "OB", b"1.2.3\0")), "status C000H"),
    "items for a UID": (identifier(Element(tags.STUDY_INSTANCE_UID, "SQ", ITEM)), "status C000H"),
    "a name as an attribute's tag": (identifier(Element(tags.PATIENT_NAME, "AT", b"\x10\0\x10\0")), "status C000H"),
    "a key twice": (identifier(Element(tags.PATIENT_ID, "LO", b"A ")) + b"\x10\0\x20\0LO\2\0B ", "status C000H"),
    "no level": (encode(DataSet([Element(tags.PATIENT_ID, "LO", b"A ")]), uids.EXPLICIT_VR_LITTLE_ENDIAN), "status C000H"),
    "cut off": (identifier(Element(tags.PATIENT_ID, "LO", b"ABCD"))[:-2], "status C000H"),
    "nothing": (b"", "status C000H"),
    "two MiB of it": (identifier(Element(PRIVATE_KEY, "OB", bytes(2 << 20))), "status C000H"),
    "257 keys": (identifier(*(Element(0x00110000 + number, "LO", b"x ") for number in range(0x10, 0x111))), "status C000H"),
    "nested 1,000 deep": (identifier() + struct.pack("<HH2s2xL", 0x0040, 0xA730, b"SQ", 0xFFFFFFFF) * 1_000, "status C000H"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNTOLD)
def test_attack_13_a_key_that_leaves_open_what_it_asks_for_finds_nothing(
    site: RunningSite, images: list[Image], what: str
) -> None:
    """Above all it is not taken for a universal key, which would find everything."""
    said, heard = UNTOLD[what]
    query = {0x0002: uids.STUDY_ROOT_FIND, FIELD: 0x0020, MESSAGE_ID: 3, 0x0700: 0, DATA_SET_TYPE: WITH_DATA_SET}
    with raw(site, "WS1") as connection:
        assert connection.associate(rq=asking("WS1", uids.STUDY_ROOT_FIND)) == "accepted"
        connection.say(p_data(1, command_set(query), command=True))
        for start in range(0, max(len(said), 1), 65_000):
            connection.say(p_data(1, said[start : start + 65_000], command=False, last=start + 65_000 >= len(said)))
        assert connection.hear() == heard
        assert connection.hear_echo().startswith("status")


def test_attack_13_a_list_too_long_for_its_vr_means_what_it_says(site: RunningSite, images: list[Image]) -> None:
    """It comes as UN in explicit VR (PS3.5 6.2.2)."""
    wanted = [each.study_instance_uid for each in images[:3]]
    others = [f"2.25.{number}" for number in range(9_000)]
    with associated(who(site, "WS1"), archive(site), querying()) as session:
        answer, rows = session.find("STUDY", {tags.STUDY_INSTANCE_UID: "\\".join([*others, *wanted])})
    assert answer.status == 0 and {row[tags.STUDY_INSTANCE_UID] for row in rows} == set(wanted)


@pytest.mark.parametrize("level", ["PATIENT", "SERIES", "IMAGE", "study", "EVERYTHING", ""])
def test_attack_13_a_level_that_its_root_or_its_keys_do_not_have(site: RunningSite, level: str) -> None:
    with associated(who(site, "WS1"), archive(site), querying()) as session:
        answer, rows = session.find(level, {tags.PATIENT_ID: "*"})
        assert answer.status in (0x0122, UNABLE, DOES_NOT_MATCH) and not rows
        assert session.find("STUDY", {tags.PATIENT_ID: "*"})[0].status == 0


def test_attack_13_pynetdicom_asks_for_sequences_and_by_the_other_root(site: RunningSite, images: list[Image]) -> None:
    query, item = Dataset(), Dataset()
    query.QueryRetrieveLevel, query.PatientID = "PATIENT", "SYN_1%"
    item.AccessionNumber, query.RequestAttributesSequence = "", Sequence([Dataset()])
    query.RequestAttributesSequence = Sequence([item])
    query.add_new(PRIVATE_KEY, "SQ", Sequence([item]))
    with Client(site, "WS1", uids.PATIENT_ROOT_FIND, uids.STUDY_ROOT_FIND) as client:
        by_patient = list(client.association.send_c_find(query, uids.PATIENT_ROOT_FIND))
        assert [status.Status for status, _ in by_patient] == [0xFF00, 0x0000]
        assert by_patient[0][1].PatientID == "SYN_1%"
        assert [status.Status for status, _ in client.association.send_c_find(query, uids.STUDY_ROOT_FIND)][-1] != 0


# ---- 14, 15, 16, 17: what is somebody else's


@pytest.mark.parametrize(
    "keys",
    [{tags.PATIENT_ID: "SYN_1%"}, {tags.STUDY_INSTANCE_UID: ""}, {tags.STUDY_INSTANCE_UID: "*"}, {}],
    ids=["by the patient alone", "empty", "a star", "none"],
)
def test_attack_14_a_retrieval_names_what_it_wants(
    site: RunningSite, images: list[Image], keys: dict[int, str]
) -> None:
    pairs, came = {(each.sop_class_uid, each.transfer_syntax_uid) for each in images}, list[str]()
    with associated(who(site, "WS1"), archive(site), getting(pairs)) as session:
        answer = session.get("STUDY", keys, lambda each: came.append(each.sop_instance_uid) or 0)
    assert answer.status in (UNABLE, DOES_NOT_MATCH) and not came


def test_attack_14_a_device_confined_to_other_sop_classes_sees_none_of_it(
    site: RunningSite, images: list[Image]
) -> None:
    one, came = images[0], list[str]()
    keys = {tags.STUDY_INSTANCE_UID: one.study_instance_uid}
    pairs = {(one.sop_class_uid, one.transfer_syntax_uid)}
    with associated(who(site, "MRONLY"), archive(site), [*querying(), *getting(pairs)]) as session:
        assert session.find("STUDY", keys) == (Answer(0), [])
        below = {**keys, tags.SERIES_INSTANCE_UID: one.series_instance_uid, tags.SOP_INSTANCE_UID: one.sop_instance_uid}
        assert session.find("IMAGE", below) == (Answer(0), [])
        for level, unique in (
            ("STUDY", keys),
            ("SERIES", {tags.SERIES_INSTANCE_UID: one.series_instance_uid}),  # without the study that it is of
            ("IMAGE", {tags.SOP_INSTANCE_UID: one.sop_instance_uid}),
        ):
            answer = session.get(level, unique, lambda each: came.append(each.sop_instance_uid) or 0)
            assert answer.completed == 0, level
    assert not came


@pytest.mark.parametrize("whose", ["another patient's study", "a name of no patient"])
def test_attack_15_an_image_smuggled_into_a_study_is_held(site: RunningSite, images: list[Image], whose: str) -> None:
    """Whoever may store chooses what its images say of themselves: what contradicts the study is kept, held and shown to nobody."""
    there = images[1]
    patient = "DECOY" if whose.startswith("another") else ""
    decoy = image(random.Random(), study=there.study_instance_uid, patient=patient)
    with associated(who(site, "CT2"), archive(site), storing([decoy])) as session:
        assert session.store(decoy).status == 0x0111
    pairs, came = {(there.sop_class_uid, there.transfer_syntax_uid)}, list[str]()
    with associated(who(site, "WS1"), archive(site), [*querying(), *getting(pairs)]) as session:
        session.get("STUDY", {tags.STUDY_INSTANCE_UID: there.study_instance_uid}, lambda each: came.append(each.sop_instance_uid) or 0)  # fmt: skip
        _, rows = session.find("STUDY", {tags.STUDY_INSTANCE_UID: there.study_instance_uid, tags.PATIENT_ID: ""})
    assert came == [there.sop_instance_uid] and [row[tags.PATIENT_ID] for row in rows] == [there.patient_id]
    assert any(row["sop_instance_uid"] == decoy.sop_instance_uid for row in site.rows("conflicts", "list"))


def test_attack_16_an_instance_under_another_name_than_its_own(site: RunningSite) -> None:
    one, two = image(random.Random()), image(random.Random())
    disguised = dataclasses.replace(one, sop_instance_uid=two.sop_instance_uid)
    other_class = dataclasses.replace(one, sop_class_uid=str(uids.storage_class_of("MRImageStorage")))
    with associated(who(site, "CT1"), archive(site), storing([one, other_class])) as session:
        assert session.store(disguised).status == DOES_NOT_MATCH
        assert session.store(other_class).status == DOES_NOT_MATCH
        assert session.store(one).status == 0, "what it is really called is free"


def test_attack_17_nobody_is_told_of_an_instance_that_never_came(site: RunningSite, images: list[Image]) -> None:
    """What another device sent is kept, whoever asks: images reach an archive by routers, and their senders ask for themselves."""
    never = image(random.Random())
    references = [(each.sop_class_uid, each.sop_instance_uid) for each in (never, images[0])]
    with associated(who(site, "CT2"), archive(site), committing()) as session:
        assert session.commit("2.25.17", references).status == 0
        report = session.report()
    told = {}
    for tag in (tags.REFERENCED_SOP_SEQUENCE, tags.FAILED_SOP_SEQUENCE):
        element = report.get(tag)
        for item in element.value if element is not None else ():
            told[item.get(tags.REFERENCED_SOP_INSTANCE_UID).value.decode().rstrip("\0")] = tag
    assert told == {
        never.sop_instance_uid: tags.FAILED_SOP_SEQUENCE,
        images[0].sop_instance_uid: tags.REFERENCED_SOP_SEQUENCE,
    }


def test_attack_17_a_report_that_a_device_makes_up(site: RunningSite) -> None:
    """N-EVENT-REPORT is ours to say: as a request it is refused, as an answer to nothing it ends the association."""
    report = {0x0002: uids.STORAGE_COMMITMENT_PUSH, FIELD: 0x0100, MESSAGE_ID: 9, 0x1000: "1.2.840.10008.1.20.1.1", 0x1002: 1, DATA_SET_TYPE: NO_DATA_SET}  # fmt: skip
    with raw(site) as connection:
        assert connection.associate(uids.STORAGE_COMMITMENT_PUSH) == "accepted"
        connection.say(p_data(1, command_set(report), command=True))
        assert connection.hear() == "status 0122H"
        connection.say(p_data(1, command_set({**report, FIELD: 0x8100, 0x0120: 9, 0x0900: 0}), command=True))
        assert connection.hear() == "aborted 2,2"
