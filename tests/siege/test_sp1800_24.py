"""The checks of SP 1800-24 that concern the path, under their names. T26 is test_hostile.py and test_crowd.py, T27 test_people_down.py, T28 test_time.py, T30 is measured by `make bench`."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyotp
import pytest

from bench.controls import paced
from leadglass import gateway
from leadglass.__main__ import assemble
from leadglass.doors.blocking import run
from leadglass.doors.house import House
from leadglass.doors.replies import reply_to
from leadglass.identity.authority import Authority, KeyKind, key_pem, new_key, pem
from leadglass.identity.people.guesses import Slowed
from leadglass.lab.peers import (
    Archive,
    Identity,
    Session,
    TurnedAway,
    associated,
    committing,
    echoing,
    getting,
    querying,
    storing,
)
from leadglass.policy.decide import decide
from leadglass.policy.people import may, permitted
from leadglass.site.layout import CA_DIRECTORY, DEVICE_CA
from leadglass.site.model import Site
from leadglass.terms import (
    Act,
    Action,
    Caller,
    Change,
    ChangeKind,
    Commitment,
    Containment,
    Dossier,
    Factor,
    Level,
    NotIdentified,
    NotPermitted,
    Offer,
    PatientIdentity,
    Peer,
    Person,
    Proposal,
    Query,
    Retrieval,
    Role,
    Root,
    SecondPersonNeeded,
    SignIn,
    StepUpNeeded,
    Subject,
)
from leadglass.wire import tags, uids
from leadglass.wire.elements import DataSet, parse
from leadglass.wire.elements import encode as encode_data_set
from leadglass.wire.negotiation import RequestedContext
from tests.programs import require
from tests.running import RunningSite, free_port, running, until
from tests.siege.parties import archive, who
from tests.synthetic import image, uid

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("sp1800-24")) as site:
        site.up()
        site.enroll("CT1", "echo,store,commit")
        site.enroll("CT2", "echo,store,commit")
        site.enroll("LOST", "echo,store")
        site.enroll("WS1", "echo,find,get,move")
        site.enroll("BARRED", "echo", "--address", f"127.0.0.1:{free_port()}")
        yield site
        print(site.log())


def heard(site: RunningSite, identity: Identity, wanted: Sequence[RequestedContext] = ()) -> str:
    """What a C-ECHO, or the association for it, came to."""
    try:
        with associated(identity, archive(site), wanted or echoing()) as session:
            return "" if wanted else f"{session.echo().status:04X}"
    except TurnedAway as away:
        return str(away)


def stick(place: Path, site: RunningSite, authority: Authority, *, days_ago: int = 0, days: int = 30) -> Path:
    """What a device would carry whose certificate that authority made."""
    place.mkdir()
    key = new_key(KeyKind.EC)
    leaf = authority.issue(key.public_key(), "CT1", ["CT1"], NOW - dt.timedelta(days=days_ago), days)
    (place / "client.key").write_bytes(key_pem(key, None))
    (place / "client.pem").write_bytes(pem(leaf))
    (place / "ca.pem").write_bytes((site.bundles["CT1"].directory / "ca.pem").read_bytes())
    return place


def refusals(site: RunningSite) -> list[str]:
    return [row["reason"] for row in site.events("association:refused")]


@pytest.fixture(scope="module")
def house(site: RunningSite) -> Iterator[House]:
    """Another process of the running site, as a web worker is."""
    house = assemble(site.directory)
    yield house
    house.close()


def by_password(house: House, name: str, password: str, code: str, address: str = "127.0.0.1") -> Caller:
    claim = SignIn(name, "password", "browser", evidence={"password": password, "code": code})
    return run(gateway.sign_in(house.do, Peer(address, 40_000, "web"), claim))


def refused_people(site: RunningSite) -> list[dict[str, Any]]:
    return site.events("person:refused")


def test_t03_two_factors_each_code_once_guesses_slowed_and_out_within_a_second(site: RunningSite) -> None:
    with closing(assemble(site.directory)) as house:
        two_factors(site, house)
    told = [each for each in refused_people(site) if each["details"].get("name") == "reader"]
    assert [each["details"]["refusal"] for each in told] == ["NotIdentified"] * 8 + ["Slowed"]
    assert told[-1]["details"]["count"] == 1, (
        "beyond five a minute and an address they are counted, and the last is told"
    )


def two_factors(site: RunningSite, house: House) -> None:
    (row,) = site.rows("people", "add", "reader", "--role", "radiologist")
    link = row["enrolment"].rpartition("/")[2]
    handle, uri = house.desk.totp_offer(link)
    app, password = pyotp.parse_uri(uri), "four lamps under snow"
    assert isinstance(app, pyotp.TOTP)
    before = time.time()
    proven = house.desk.enrolled_password(link, handle, password, app.at(before))
    enrolling = Change(
        "t03", house.desk.invitee(link, Peer("127.0.0.1", 1, "web")), ChangeKind.FACTOR_ENROLL, "reader", proven
    )
    run(gateway.change(house.do, enrolling))
    for wrong in [(password, ""), (password, "000000"), ("", app.at(before + 30))]:
        with pytest.raises(NotIdentified) as refused:
            by_password(house, "reader", *wrong, "127.6.0.1")
        assert reply_to(refused.value).http_status == 401
    code = app.at(before + 30)  # the next one: a clock may be half a minute off
    token, caller = house.desk.open_session(by_password(house, "reader", password, code), "browser")
    with pytest.raises(NotIdentified, match="used before"):
        by_password(house, "reader", password, code)
    for _ in range(4):
        with pytest.raises(NotIdentified):
            by_password(house, "reader", "guess", "000000")
    with pytest.raises(Slowed):
        by_password(house, "reader", "guess", "000000")
    assert house.desk.caller(token, caller.peer, "browser")
    site.command("people", "disable", "reader", "--reason", "left")
    with pytest.raises(NotIdentified, match="disabled: left"):
        house.desk.caller(token, caller.peer, "browser")


def test_t29_nothing_comes_with_a_password(site: RunningSite, house: House) -> None:
    """A fresh site lets nobody in: no account has a factor before somebody enrols one by a link that only the operator saw."""
    administrator = house.people.named("administrator")
    assert administrator is not None and administrator.id not in house.people.factors.enrolled()
    files = b"".join(each.read_bytes() for each in site.directory.rglob("*.toml"))
    assert files and b"password" not in files.lower()
    before = len(refused_people(site))
    defaults = [
        ("administrator", ""),
        ("administrator", "administrator"),
        ("admin", "admin"),
        ("admin", "password"),
        ("root", "root"),
        ("", ""),
    ]
    for number, (name, password) in enumerate(defaults):
        with pytest.raises(NotIdentified):
            by_password(house, name, password, "000000", f"127.7.0.{number}")
    assert len(refused_people(site)) == before + len(defaults)
    stranger = dataclasses.replace(who(site, "CT1"), stick=None, authorities=site.bundles["CT1"].directory / "ca.pem")
    assert heard(site, dataclasses.replace(stranger, source="127.7.1.1"), querying()) != ""


OPERATIONS = ("find", "get", "commit", "store")
OF_ROLES = {  # what each may ask of the archive's door, by hand
    Role.RADIOLOGIST: OPERATIONS,
    Role.TECHNOLOGIST: OPERATIONS,
    Role.REFERRING_CLINICIAN: ("find", "get", "commit"),
    Role.CLINICIAN_ELSEWHERE: ("find", "get", "commit"),
    Role.OUTSIDE_REVIEWER: ("find", "get", "commit"),
    Role.SERVICE_ACCOUNT: OPERATIONS,
    Role.PACS_ADMINISTRATOR: (),
    Role.SECURITY_OFFICER: (),
    Role.AUDITOR: (),
    Role.BIOMEDICAL_ENGINEER: (),
    Role.VENDOR: (),
}


def one_of_each(role: Role, fresh: bool = True) -> Caller:
    person = Person(f"t04-{role}", role, role, frozenset({role}))
    stepped_up = time.time_ns() if fresh else 0
    return Caller(person, "t04", Peer("127.0.0.1", 1, "web"), frozenset({Factor.PASSKEY}), stepped_up)


@pytest.mark.parametrize("role", list(Role))
def test_t04_each_role_at_each_operation(house: House, role: Role) -> None:
    """At a web door, and at a workstation that itself may do all of it: the person's right decides."""
    caller = one_of_each(role)
    everything = site_of_one_workstation(house)
    seated = Subject(
        everything.devices["WS"], Peer("127.0.0.1", 1, "dimse"), Proposal("WS", "LEADGLASS"), "sha256:0", caller=caller
    )
    for asker in (caller, seated):
        asked = {
            "find": Query(asker, Root.STUDY, Level.STUDY, {}),
            "get": Retrieval(asker, Root.STUDY, Level.STUDY, {tags.STUDY_INSTANCE_UID: "1.2"}),
            "commit": Commitment(asker, "1.2", ()),
            "store": Offer(asker, uids.storage_class_of("CTImageStorage") or "", "1.2", uids.EXPLICIT_VR_LITTLE_ENDIAN),
        }
        for operation, request in asked.items():
            allowed = True
            try:
                if isinstance(asker, Caller):
                    house.do.decide(asker, request)
                else:
                    decide(everything, Containment(), asker, request, now_ns=time.time_ns())
            except NotPermitted:
                allowed = False
            assert allowed == (operation in OF_ROLES[role]), (type(asker).__name__, operation)


def site_of_one_workstation(house: House) -> Site:
    """As the running one, with one more device that flows let do everything."""
    now = house.site()
    flow = dataclasses.replace(
        now.flows[0], id="t04", sources=("WS",), may=frozenset(Action), sop_classes=None, destinations=None
    )
    device = dataclasses.replace(now.devices["WS1"], name="WS", ae_titles=("WS",))
    return dataclasses.replace(now, devices={**now.devices, "WS": device}, flows=(*now.flows, flow))


def test_t04_nobody_edits_audit_or_approves_their_own_deletion(house: House) -> None:
    words = {str(each) for each in (*Act, *ChangeKind)}
    assert {each for each in words if "audit" in each or "journal" in each} == {"audit-read", "audit-report"}
    administrator, officer = one_of_each(Role.PACS_ADMINISTRATOR), one_of_each(Role.SECURITY_OFFICER)
    for act in (Act.AUDIT_READ, Act.AUDIT_REPORT):
        with pytest.raises(NotPermitted):
            may(administrator, act, time.time_ns())
        assert may(officer, act, time.time_ns())

    def approves(approver: Caller, requester: Caller) -> None:
        told = {
            "act": Act.STUDY_ERASE,
            "requested_by": requester.person.id,
            "requester_roles": sorted(requester.person.roles),
        }
        house.do.authorise(Change("t04", approver, ChangeKind.ACCESS_APPROVE, "t04", told))

    approves(officer, administrator)
    for asker in (administrator, officer):
        with pytest.raises(NotPermitted):
            approves(asker, asker)
    with pytest.raises(StepUpNeeded):
        approves(one_of_each(Role.SECURITY_OFFICER, fresh=False), administrator)
    with pytest.raises(SecondPersonNeeded):
        permitted(administrator, Act.STUDY_ERASE, Dossier("1.2", PatientIdentity("P1")), time.time_ns())


def test_t05_only_the_device_that_a_certificate_belongs_to(site: RunningSite, tmp_path: Path) -> None:
    ours = Authority.open(site.directory / CA_DIRECTORY, DEVICE_CA, None)
    site.command("device", "revoke", "LOST", "--reason", "stolen")
    cases = {
        "no certificate": (who(site, "CT1", stick=None, authorities=site.bundles["CT1"].directory / "ca.pem"), "did not return a certificate"),
        "of another authority": (who(site, "CT1", stick=stick(tmp_path / "self", site, Authority.create("nobody's CA", NOW))), "certificate verify failed"),
        "expired": (who(site, "CT1", stick=stick(tmp_path / "old", site, ours, days_ago=400)), ""),
        "never enrolled": (who(site, "CT1", stick=stick(tmp_path / "new", site, ours)), ""),
        "revoked": (who(site, "LOST"), "is revoked: stolen"),
        "another's AE title": (who(site, "CT2", ae_title="CT1"), "calls itself 'CT1'"),
    }  # fmt: skip
    for name, (identity, said) in cases.items():
        before = len(refusals(site))
        assert heard(site, dataclasses.replace(identity, source=f"127.5.{len(name)}.1")) not in ("0000", ""), name
        assert until(lambda before=before: len(refusals(site)) > before), name
        assert (
            said.replace(" ", "").replace("_", "").lower()
            in refusals(site)[-1].replace(" ", "").replace("_", "").lower()
        ), name
    assert heard(site, who(site, "CT1")) == "0000"


def test_t06_a_device_does_its_own_work_and_no_other(site: RunningSite) -> None:
    one = image(random.Random(6))
    with associated(who(site, "CT1"), archive(site), [*storing([one]), *querying()]) as session:
        assert session.store(one).status == 0
        assert session.find("STUDY", {tags.STUDY_INSTANCE_UID: ""})[0].status == 0x0124
        assert session.move("STUDY", {tags.STUDY_INSTANCE_UID: one.study_instance_uid}, "WS1").status == 0x0124
    with associated(who(site, "WS1"), archive(site), storing([one])) as session:
        assert session.store(one).status == 0x0124
    called = Archive("127.0.0.1", site.port, "ELSEWHERE")
    with pytest.raises(TurnedAway, match="A-ASSOCIATE-RJ"), associated(who(site, "CT1"), called, echoing()):
        pass
    assert heard(site, who(site, "CT1", ae_title="UNKNOWN")).startswith("A-ASSOCIATE-RJ")


def test_t07_a_move_is_no_way_out(site: RunningSite) -> None:
    one = image(random.Random(7))
    with associated(who(site, "CT1"), archive(site), storing([one])) as session:
        assert session.store(one).status == 0
    site.command("device", "disable", "BARRED")
    keys = {tags.STUDY_INSTANCE_UID: one.study_instance_uid}
    with associated(who(site, "WS1"), archive(site), querying()) as session:
        for destination in ("NOWHERE", "CT1", "BARRED"):
            assert session.move("STUDY", keys, destination).status == 0xA801, destination
    refused = [row["reason"] for row in site.events("request:refused") if row["actor"] == "WS1"]
    for words in ("no enrolled device has that AE title", "there is no address", "is disabled or revoked"):
        assert any(words in reason for reason in refused), words


def test_t16_commitment_says_the_truth(site: RunningSite) -> None:
    rng = random.Random(16)
    kept, gone = (image(rng, pixels=200_000) for _ in range(2))
    with associated(who(site, "CT1"), archive(site), storing([kept])) as session:
        assert [session.store(each).status for each in (kept, gone)] == [0, 0]
    damage(site, gone.sop_instance_uid)
    never = image(rng)
    report = committed(site, "CT1", kept, gone, never)
    assert _named(report, tags.REFERENCED_SOP_SEQUENCE) == {kept.sop_instance_uid}
    assert _named(report, tags.FAILED_SOP_SEQUENCE) == {gone.sop_instance_uid, never.sop_instance_uid}
    assert until(lambda: any(row["kind"] == "instance:corrupted" for row in site.events()))


def damage(site: RunningSite, sop_instance_uid: str) -> None:
    """One bit of what rests of it."""
    (stored,) = [row for row in site.events("instance:stored") if row["subject_uids"] == [sop_instance_uid]]
    (path,) = site.directory.glob(f"objects/{stored['segment']}")
    data = bytearray(path.read_bytes())
    at = next(at for at in range(len(data) - 100_000, len(data) - 90_000) if data[at])
    data[at] ^= 1
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(data)


def committed(site: RunningSite, name: str, *images: object) -> DataSet:
    references = [(each.sop_class_uid, each.sop_instance_uid) for each in images]  # type: ignore[attr-defined]
    with associated(who(site, name), archive(site), committing()) as session:
        assert session.commit("2.25.16", references).status == 0
        return _report(session)


def _report(session: Session) -> DataSet:
    return session.report()


def _named(report: DataSet, sequence: int) -> set[str]:
    element = report.get(sequence)
    items = element.value if element is not None else ()
    return {item.get(tags.REFERENCED_SOP_INSTANCE_UID).value.decode().rstrip("\0") for item in items}


def test_t17_an_image_that_contradicts_its_study_waits_for_a_person(site: RunningSite) -> None:
    rng = random.Random(17)
    study = uid(rng)
    right, wrong = image(rng, study=study, patient="RIGHT"), image(rng, study=study, patient="WRONG")
    with associated(who(site, "CT1"), archive(site), storing([right])) as session:
        assert session.store(right).status == 0
        assert session.store(wrong).status == 0x0111, "kept, held, and the sender is told"
    held = [row for row in site.rows("conflicts", "list") if row["sop_instance_uid"] == wrong.sop_instance_uid]
    assert [row["holds"] for row in held] == [["other-patient"]]
    came: list[str] = []
    pairs = [(right.sop_class_uid, right.transfer_syntax_uid)]
    with associated(who(site, "WS1"), archive(site), getting(pairs)) as session:
        session.get("STUDY", {tags.STUDY_INSTANCE_UID: study}, lambda each: came.append(each.sop_instance_uid) or 0)
    assert came == [right.sop_instance_uid]


def test_attack_60_a_uid_cannot_be_taken_over_by_a_second_device(site: RunningSite) -> None:
    """Attack 60 of those on storage: the same name and the same bytes twice are one, other bytes are held, from whoever they come."""
    first = image(random.Random(60))
    again = parse(first.data_set, uids.EXPLICIT_VR_LITTLE_ENDIAN)
    changed = dataclasses.replace(
        first, data_set=encode_data_set(DataSet([*again]), uids.EXPLICIT_VR_LITTLE_ENDIAN)[:-1] + b"\x7f"
    )
    assert changed.data_set != first.data_set
    with associated(who(site, "CT1"), archive(site), storing([first])) as session:
        assert [session.store(each).status for each in (first, first, changed)] == [0, 0, 0x0111]
    with associated(who(site, "CT2"), archive(site), storing([first])) as session:
        assert [session.store(each).status for each in (first, changed)] == [0, 0x0111]


def test_t30_a_modality_at_its_own_pace_with_every_control_and_with_none(tmp_path: Path) -> None:
    """What `make bench` compares is the same work both times: a study sent at 20 images a second, each answered with success, then retrieved by another's program."""
    require("getscu")
    require("socat")
    with_all, with_none = paced(tmp_path, count=20)
    assert (with_all.without, with_none.without) == ("", "policy,encryption,digest,event")
    for each in (with_all, with_none):
        assert each.seconds >= 19 / 20 and 0 < each.mean_ms <= each.p99_ms and each.get_seconds > 0
