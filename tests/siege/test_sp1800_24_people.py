"""The checks of SP 1800-24 that concern people, over DIMSE from a workstation where somebody sits, and over HTTP where the console has it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import ssl
import time
import uuid
from collections.abc import Iterator, Sequence

import httpx2
import pytest

from leadglass.doors.web.pages import PAGES as EVERY_PAGE
from leadglass.lab.corpus import Image
from leadglass.lab.peers import Received, Session, TurnedAway, associated, committing, getting, querying, storing
from leadglass.lab.reader import Reader
from leadglass.lab.workstation import Workstation
from leadglass.policy.separation import GLASS_SECONDS
from leadglass.site.access import Lease
from leadglass.terms import Act, ChangeKind, EventKind, NotChanged, NotPermitted, Peer, Role
from leadglass.wire import tags
from leadglass.wire.dimse import Status
from leadglass.wire.elements import DataSet
from tests.lasting import answers
from tests.policy.test_matrix import WRITTEN
from tests.running import RunningSite, free_port, running, until
from tests.staff import REASON, Staff, staff
from tests.synthetic import image, uid

pytestmark = pytest.mark.xdist_group("sp1800_24_people")  # one site for all of it
NOT_AUTHORIZED, NO_SUCH_OBJECT_INSTANCE = 0x0124, 0x0112
ABSENT = uid(random.Random(99))
NO_DIRECTORY = "/proc/backups"  # that nobody can make
OWN, OTHERS = "CARE-1", "CARE-2"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("people"), f'\n[backup]\ndirectories = ["{NO_DIRECTORY}"]\n') as site:
        site.enroll("CT1", "echo,store")
        site.enroll("WS1", "echo,store,find,get,move,commit")
        site.enroll("SINK", "echo", "--address", f"127.0.0.1:{free_port()}")
        site.enroll("INSIDE", "echo,find", network="127.77.0.0/16")
        site.up()
        yield site
        print(site.log())


@pytest.fixture(scope="module")
def people(site: RunningSite) -> Iterator[Staff]:
    with staff(site) as people:
        for name, role in {
            "clinician": Role.REFERRING_CLINICIAN, "guard": Role.SECURITY_OFFICER, "guard2": Role.SECURITY_OFFICER,
            "vendor": Role.VENDOR, "engineer": Role.BIOMEDICAL_ENGINEER,
        }.items():  # fmt: skip
            people.hire(name, role)
        yield people


@pytest.fixture(scope="module")
def studies(people: Staff) -> tuple[Image, Image]:
    """One patient's, and another's."""
    own, others = (image(random.Random(seed), patient=patient) for seed, patient in ((1, OWN), (2, OTHERS)))
    with associated(people.at("CT1"), people.archive, storing([own, others])) as session:
        assert [session.store(each).status for each in (own, others)] == [Status.SUCCESS] * 2
    return own, others


# ---- what a workstation is given


@dataclasses.dataclass(frozen=True)
class Given:
    """Statuses by action, and what came: patients that a query showed, instances that came by C-GET and C-MOVE, the reason of a commitment."""

    find: int
    get: int
    move: int
    commit: int
    patients: frozenset[str] = frozenset()
    got: frozenset[str] = frozenset()
    moved: frozenset[str] = frozenset()
    reason: int = 0


def asked(session: Session, about: Image, sink: Workstation) -> Given:
    """Everything that may be asked of one instance's study, on one association."""
    study, got = {tags.STUDY_INSTANCE_UID: about.study_instance_uid}, set[str]()

    def take(instance: Received) -> int:
        got.add(instance.sop_instance_uid)
        return Status.SUCCESS

    find, rows = session.find("STUDY", {**study, tags.PATIENT_ID: ""})
    get, before = session.get("STUDY", study, take), set(sink.digests)
    move = session.move("STUDY", study, "SINK")
    commit = session.commit(f"2.25.{uuid.uuid4().int}", [(about.sop_class_uid, about.sop_instance_uid)])
    reason = _reason(session.report()) if commit.status == Status.SUCCESS else 0
    return Given(
        find.status, get.status, move.status, commit.status, frozenset(row.get(tags.PATIENT_ID, "") for row in rows), frozenset(got),
        frozenset(sink.digests.keys() - before), reason,
    )  # fmt: skip


def _reason(report: DataSet) -> int:
    """0 where it is committed."""
    failed = report.get(tags.FAILED_SOP_SEQUENCE)
    if failed is None or not isinstance(failed.value, tuple):
        return 0
    found = failed.value[0].get(tags.FAILURE_REASON)
    assert found is not None and isinstance(found.value, bytes)
    return int.from_bytes(found.value, "little")


def contexts(images: Sequence[Image]) -> list:  # type: ignore[type-arg]
    pairs = {(each.sop_class_uid, each.transfer_syntax_uid) for each in images}
    return [*querying(), *getting(pairs), *committing()]


@pytest.fixture
def sink(people: Staff) -> Iterator[Workstation]:
    host, port = people.house.site().devices["SINK"].address.rsplit(":")
    with Workstation((host, int(port)), people.at("SINK").credentials()) as sink:
        sink.digests.clear()
        yield sink


def given(people: Staff, about: Image, sink: Workstation, **changes: str) -> Given:
    sink.digests.clear()
    with associated(people.at("WS1", **changes), people.archive, contexts([about])) as session:
        return asked(session, about, sink)


NOTHING = Given(NOT_AUTHORIZED, NOT_AUTHORIZED, NOT_AUTHORIZED, NOT_AUTHORIZED)
UNSEEN = Given(Status.SUCCESS, NOT_AUTHORIZED, NOT_AUTHORIZED, Status.SUCCESS, reason=NO_SUCH_OBJECT_INSTANCE)


def all_of(about: Image) -> Given:
    own = frozenset({about.sop_instance_uid})
    return Given(
        Status.SUCCESS, Status.SUCCESS, Status.SUCCESS, Status.SUCCESS, frozenset({about.patient_id}), own, own
    )


# ---- T18


def test_t18_no_more_than_the_relationship_shows_and_the_glass_for_an_hour(
    people: Staff, studies: tuple[Image, Image], sink: Workstation
) -> None:
    own, others = studies
    absent = dataclasses.replace(own, study_instance_uid=ABSENT, sop_instance_uid=f"{ABSENT}.1")
    people.relate("clinician", "care-team", OTHERS)
    with people.browser("clinician") as browser:
        assert browser.sit("WS1") == 200
        # without a relationship the study is not there, over any service and any door, and the same is said of one that is not
        assert given(people, own, sink) == given(people, absent, sink) == UNSEEN
        assert given(people, others, sink) == all_of(others)
        assert browser.open(own.study_instance_uid) == browser.open(ABSENT) == 403
        assert browser.studies(OWN) == set() and browser.studies(OTHERS) == {others.study_instance_uid}
        # the glass, for one patient, in the workstation too
        assert browser.break_glass(own.study_instance_uid, REASON) == 200
        assert browser.open(own.study_instance_uid) == 200
        assert given(people, own, sink) == all_of(own)
        person = people.callers["clinician"].person
        (glass,) = people.house.people.access.glass_of(person.id)
        assert glass.patient.patient_id == OWN and glass.until_ns - glass.from_ns == GLASS_SECONDS * 1_000_000_000
        assert glass in people.house.people.access.glass(unreviewed=True), "somebody else has to look at it"
        broken = [each for each in people.events(EventKind.CHANGE_COMPLETED) if each.action == ChangeKind.GLASS_BREAK]
        assert broken[-1].actor == "person:clinician" and broken[-1].details["dicom"] == "110127"
        # its time is over: as the register will say in an hour
        register = people.house.register
        with register.transaction() as connection:
            connection.execute("UPDATE glass SET until_ns = ? WHERE id = ?", (time.time_ns(), glass.id))
        assert given(people, own, sink) == UNSEEN and browser.open(own.study_instance_uid) == 403
        assert browser.leave("WS1") == 200


def test_t18_what_somebody_was_given_at_a_workstation_is_told_under_their_name(
    people: Staff, studies: tuple[Image, Image], sink: Workstation
) -> None:
    _, others = studies
    people.relate("clinician", "care-team", OTHERS)
    people.sign_in("clinician")
    people.sit("clinician", "WS1")
    assert given(people, others, sink) == all_of(others)
    people.leave("clinician", "WS1")

    def by_them() -> list[str]:
        return [each.action for each in people.events(EventKind.RELEASE_ENDED, "WS1") if each.details.get("person") == "person:clinician"]  # fmt: skip

    assert until(lambda: {"find", "get", "move", "commit"} <= set(by_them()[-4:]), 5)
    told = people.site.rows("report", "disclosures", OTHERS)
    theirs = [row for row in told if row["who"] == "person:clinician" and row["device"] == "WS1"]
    assert {row["action"] for row in theirs} == {"find", "get", "move"}, "a commitment names no patient"
    assert {row["patient"] for row in theirs} == {OTHERS}
    assert not [row for row in told if row["who"] == "WS1" and row["what"] != "request:refused"]
    (breach,) = [row for row in people.site.rows("report", "breach", "--who", "person:clinician") if row["patient"] == OTHERS]  # fmt: skip
    assert breach["studies"] == [others.study_instance_uid] and breach["instances"] >= 2


# ---- T22


def test_t22_a_vendor_has_a_window_and_nothing_else(people: Staff) -> None:
    with pytest.raises(NotPermitted):
        people.sit("vendor", "WS1")
    with people.browser("vendor") as browser:
        assert browser.look("/devices") == 403 and browser.look("/people") == 403 and browser.sit("WS1") == 403
        begins = time.time_ns() + 2_000_000_000
        people.ask("vendor", Act.DEVICE_LIST, "guard", seconds=4, from_ns=begins, devices=["CT1"])
        assert browser.look("/devices") == 403, "approved, and not begun"
        assert until(lambda: browser.look("/devices") == 200, 10)
        assert time.time_ns() >= begins
        shown = browser.page("/devices")
        assert "CT1" in shown and "WS1" not in shown and "SINK" not in shown, "the device that was named"
        assert browser.look("/people") == 403 and browser.studies(OWN) == set()
        with pytest.raises(NotPermitted):
            people.sit("vendor", "WS1")
        assert until(lambda: browser.look("/devices") == 403, 10), "in the middle of their session"
        assert time.time_ns() >= begins + 4_000_000_000
        assert browser.look("/me") == 200
    seen = [
        each for each in people.events(EventKind.RELEASE_STARTED, "person:vendor") if each.action == Act.DEVICE_LIST
    ]
    assert seen, "what the vendor looked at is recorded"
    refused = [
        each for each in people.events(EventKind.REQUEST_REFUSED, "person:vendor") if each.action == Act.DEVICE_LIST
    ]
    assert len(refused) >= 3


# ---- T23


def test_t23_a_remote_reader_is_locked_when_idle_and_speaks_no_dimse(
    people: Staff, studies: tuple[Image, Image]
) -> None:
    people.relate("clinician", "care-team", OTHERS)
    with people.browser("clinician") as browser:
        assert browser.open(studies[1].study_instance_uid) == 200
        person = people.callers["clinician"].person
        session = people.house.desk.sessions(person.id)[0]
        idle_ns = time.time_ns() - people.house.site().sessions.idle_lock_minutes * 60 * 1_000_000_000
        people.house.people.sessions.seen(session.id, idle_ns)
        assert browser.lands(f"/studies/{studies[1].study_instance_uid}") == "/unlock"
        assert people.house.people.sessions.get(session.id).locked  # type: ignore[union-attr]
        assert browser.token("WS1") == ""
        browser.sit("WS1")
        assert people.house.people.access.lease_of("WS1", time.time_ns()) is None
    # no lease from outside, and with a lease inside no association from outside
    outside = Peer("192.0.2.7", 40_000, "web")
    away = dataclasses.replace(people.sign_in("clinician"), peer=outside)
    with pytest.raises(NotPermitted, match="open the console there"):
        people.change(away, ChangeKind.LEASE_OPEN, "INSIDE", {})
    with pytest.raises(NotPermitted, match="open the console there"):
        people.change(away, ChangeKind.TOKEN_MINT, "INSIDE", {})
    inside = dataclasses.replace(people.callers["clinician"], peer=Peer("127.77.0.5", 40_000, "web"))
    people.change(inside, ChangeKind.LEASE_OPEN, "INSIDE", {})
    token = str(people.change(inside, ChangeKind.TOKEN_MINT, "INSIDE", {})["token"])

    def refused() -> int:
        told = people.events(EventKind.ASSOCIATION_REFUSED, "INSIDE")
        return sum("it is enrolled for 127.77.0.0/16" in each.reason for each in told)

    for number, said in enumerate(("", token), start=1):
        with pytest.raises(TurnedAway), associated(people.at("INSIDE", token=said), people.archive, querying()):
            pass
        assert until(lambda number=number: refused() == number, 5)
        with associated(people.at("INSIDE", source="127.77.0.5", token=said), people.archive, querying()) as session:
            assert session.find("STUDY", {tags.PATIENT_ID: OTHERS})[1]
    people.order("clinician", ChangeKind.SESSION_END, session="all", why="went home")
    people.sign_in("clinician")


# ---- T04: each role, each action


@pytest.fixture(scope="module")
def roles(people: Staff, studies: tuple[Image, Image]) -> dict[Role, str]:
    """Somebody of each role, who has every relation that can be told to the one patient, and was granted their studies."""
    named: dict[Role, str] = {}
    for role in Role:
        if role is Role.SERVICE_ACCOUNT:
            continue
        name = named[role] = f"a-{role}"
        people.hire(name, role)
    told = [
        {"person": name, "relation": relation, "patient_id": OWN}
        for name in named.values()
        for relation in ("ordered", "scheduled", "care-team", "prior")
    ]
    people.order("the ward", ChangeKind.RELATIONS_IMPORT, rows=told)
    reviewer = named[Role.OUTSIDE_REVIEWER]
    people.ask(reviewer, Act.STUDY_READ, "guard", seconds=3600, patients=[["", OWN]], purpose="second opinion")
    return named


@pytest.fixture
def seat(people: Staff) -> Iterator[None]:
    yield
    now_ns = time.time_ns()
    if (lease := people.house.people.access.lease_of("WS1", now_ns)) is not None:
        people.house.people.access.end_lease(lease.id, "the test is over", now_ns)


def sit_down(people: Staff, name: str, role: Role) -> None:
    """As the table says; whoever may not is put there all the same, for a door relies on nobody having been stopped elsewhere."""
    if WRITTEN[Act.LEASE_OPEN, role] == "yes":
        people.sit(name, "WS1")
        return
    for kind in (ChangeKind.LEASE_OPEN, ChangeKind.TOKEN_MINT):
        with pytest.raises(NotPermitted):
            people.do(name, kind, "WS1")
    caller, now_ns = people.callers[name], time.time_ns()
    until_ns = now_ns + 600 * 1_000_000_000
    lease = Lease(uuid.uuid4().hex, caller.person.id, caller.session, "WS1", now_ns, until_ns)
    people.house.people.access.open_lease(lease)


@pytest.mark.parametrize("role", [each for each in Role if each is not Role.SERVICE_ACCOUNT])
def test_t04_at_a_workstation_each_role_has_what_the_table_says(
    people: Staff, studies: tuple[Image, Image], roles: dict[Role, str], sink: Workstation, seat: None, role: Role
) -> None:
    own, others = studies
    sit_down(people, roles[role], role)
    finds, reads, stores = (WRITTEN[act, role] == "yes" for act in (Act.STUDY_FIND, Act.STUDY_READ, Act.STUDY_STORE))
    assert given(people, own, sink) == (all_of(own) if finds and reads else NOTHING), "both or neither, in this table"
    assert given(people, others, sink) == (UNSEEN if finds and reads else NOTHING)
    made = image(random.Random(str(role)), patient=OWN)
    with associated(people.at("WS1"), people.archive, storing([made])) as session:
        assert session.store(made).status == (Status.SUCCESS if stores else NOT_AUTHORIZED)


# ---- T04: a machine client, at the DIMSE door


@pytest.fixture
def machine(people: Staff, studies: tuple[Image, Image]) -> Iterator[str]:
    """A device that pins its certificate for a service account: what flows give, as far as the account has that too."""
    name = f"ai{len(people.site.bundles)}"
    device = people.site.enroll(name.upper(), "echo,store,find,get,move,commit")
    words = ("--role", "service-account", "--certificate", device.certificate, "--why", "finds fractures")
    people.site.command("people", "add", name, *words)
    yield name
    people.order(name, ChangeKind.PERSON_DISABLE, why="the test is over")


def given_to(people: Staff, machine: str, about: Image, sink: Workstation) -> Given:
    sink.digests.clear()
    with associated(people.at(machine.upper()), people.archive, contexts([about])) as session:
        return asked(session, about, sink)


def test_t04_a_machine_has_what_was_granted_to_it_and_stores(
    people: Staff, studies: tuple[Image, Image], roles: dict[Role, str], sink: Workstation, machine: str
) -> None:
    own, others = studies
    assert given_to(people, machine, own, sink) == UNSEEN == given_to(people, machine, others, sink)
    for who, named in ((roles[Role.RADIOLOGIST], machine), (roles[Role.VENDOR], machine), (roles[Role.PACS_ADMINISTRATOR], "a-radiologist")):  # fmt: skip
        with pytest.raises((NotPermitted, NotChanged)):
            people.do(who, ChangeKind.ACCESS_REQUEST, Act.STUDY_READ, reason=REASON, seconds=60, machine=named, patients=[["", OWN]])  # fmt: skip
    with pytest.raises(NotChanged, match="and not study-export"):
        people.do(roles[Role.PACS_ADMINISTRATOR], ChangeKind.ACCESS_REQUEST, Act.STUDY_EXPORT, reason=REASON, seconds=60, machine=machine, patients=[["", OWN]])  # fmt: skip
    request = people.ask(roles[Role.PACS_ADMINISTRATOR], Act.STUDY_READ, "guard", seconds=3600, patients=[["", OWN]], machine=machine)  # fmt: skip
    assert given_to(people, machine, own, sink) == all_of(own) and given_to(people, machine, others, sink) == UNSEEN
    with people.browser(roles[Role.PACS_ADMINISTRATOR]) as browser:
        assert browser.open(own.study_instance_uid) == 403, "whoever asked for it sees nothing by that"
    made = image(random.Random(machine), patient=OTHERS)
    with associated(people.at(machine.upper()), people.archive, storing([made])) as session:
        assert session.store(made).status == Status.SUCCESS
    assert given_to(people, machine, made, sink) == UNSEEN, "what it stored is not thereby its own to read"
    ended = until(lambda: [each for each in people.events(EventKind.RELEASE_ENDED, machine.upper()) if each.details.get("person") == f"person:{machine}"], 5)  # fmt: skip
    assert ended, "under the account's name"
    with people.browser("guard") as browser:
        assert OWN in browser.page(f"/requests/{request}/transcript")
    people.do(roles[Role.PACS_ADMINISTRATOR], ChangeKind.ACCESS_CANCEL, request, requested_by=people.callers[roles[Role.PACS_ADMINISTRATOR]].person.id, requester_roles=["pacs-administrator"], act="study-read")  # fmt: skip
    assert given_to(people, machine, own, sink) == UNSEEN


def test_t04_a_machine_stays_confined_when_its_certificate_is_renewed_and_is_out_with_its_account(
    people: Staff, studies: tuple[Image, Image], sink: Workstation, machine: str
) -> None:
    own, _ = studies
    device = machine.upper()
    people.site.command("device", "renew", device, "--out", str(people.site.bundles[device].directory))
    assert given_to(people, machine, own, sink) == UNSEEN, "a new certificate is no way around the account"
    people.sign_in("clinician")
    with pytest.raises(TurnedAway):  # whoever says that they sit there, sits at no machine
        people.sit("clinician", device)
        given_to(people, machine, own, sink)
    people.leave("clinician", device)
    ended = False
    with contextlib.suppress(TurnedAway), associated(people.at(device), people.archive, querying()) as session:
        assert session.find("STUDY", {tags.PATIENT_ID: OWN})[1] == []
        people.order(machine, ChangeKind.PERSON_DISABLE, why="misbehaves")
        ended = until(lambda: not answers(session, OWN), 2)  # who is cut off cannot say goodbye
    assert ended, "in the middle of an association"
    with pytest.raises(TurnedAway):
        given_to(people, machine, own, sink)


PAGES = {
    "/": Act.STUDY_FIND, "/workstation": Act.LEASE_OPEN, "/requests": Act.ACCESS_REQUEST, "/review": Act.GLASS_REVIEW, "/who": Act.AUDIT_READ,
    "/archive": Act.INDEX_REBUILD, "/reports": Act.AUDIT_REPORT, "/people": Act.PEOPLE_LIST, "/accounts": Act.PEOPLE_LIST, "/devices": Act.DEVICE_LIST, "/containment": Act.CONTAINMENT_BEGIN,
    "/explain": Act.POLICY_READ, "/explain/site-file": Act.POLICY_READ, "/network": Act.POLICY_READ,
}  # fmt: skip


@pytest.mark.parametrize("role", [each for each in Role if each is not Role.SERVICE_ACCOUNT])
def test_t04_at_the_console_each_role_has_what_the_table_says(
    people: Staff, studies: tuple[Image, Image], roles: dict[Role, str], role: Role
) -> None:
    own, others = studies
    with people.browser(roles[role]) as browser:
        for path, act in PAGES.items():
            if path == "/":
                shown = browser.lands("/") == "/"
            else:
                shown = browser.look(path) == 200
            reads = (
                path == "/requests" and role is Role.AUDITOR
            )  # asks for nothing; the way to what others were granted
            assert shown is (reads or WRITTEN[act, role] == "yes"), path
        reads = WRITTEN[Act.STUDY_READ, role] == "yes"
        assert (browser.open(own.study_instance_uid) == 200) is reads
        assert browser.open(others.study_instance_uid) == 403 == browser.open(ABSENT)
        assert (own.study_instance_uid in browser.studies(OWN)) is reads


# What a form of the console asks for, and fields with which nothing is changed where it is allowed: it is refused later, for what it says.
FORMS: dict[str, tuple[Act, dict[str, str]]] = {
    "/erasures": (Act.STUDY_ERASE, {"patient_id": "NOBODY", "reason": REASON}),
    "/studies/{uid}/export": (Act.STUDY_EXPORT, {"purpose": "treatment", "recipient": "somebody else"}),
    "/glass": (Act.GLASS_BREAK, {"reason": REASON}),
    "/review/{id}": (Act.GLASS_REVIEW, {"verdict": "none"}),
    "/archive/held/{uid}": (Act.CONFLICT_RESOLVE, {"version": "9", "word": "promote"}),
    "/archive/index": (Act.INDEX_REBUILD, {}),
    "/archive/backup": (Act.BACKUP_RUN, {"directory": NO_DIRECTORY}),
    "/archive/relations": (Act.RELATIONS_IMPORT, {"source": "a test", "rows": "no list"}),
    "/requests": (Act.ACCESS_REQUEST, {"act": "study-read", "reason": REASON}),
    "/requests/{id}": (Act.ACCESS_APPROVE, {"digest": "another", "word": "approve"}),
    "/requests/{id}/cancel": (Act.ACCESS_APPROVE, {}),
    "/keys": (Act.KEY_USE, {"custodians": "nobody-here", "threshold": "2", "reason": REASON}),
    "/requests/flows": (Act.ACCESS_REQUEST, {"flow": "none", "flow_reason": REASON}),
    "/containment/{kind}": (Act.CONTAINMENT_BEGIN, {"name": "none", "why": "a test"}),
    "/containment/{kind}/ask": (Act.CONTAINMENT_BEGIN, {"name": "SHUT", "why": "short"}),
    "/containment/{kind}/end": (Act.CONTAINMENT_END, {"name": "SHUT"}),
    "/explain/site-file/ask": (Act.POLICY_PROPOSE, {"digest": "another", "reason": REASON}),
    "/explain/site-file/apply": (Act.POLICY_APPLY, {"digest": "another"}),
    "/explain/site-file/confirm": (Act.POLICY_PROPOSE, {"digest": "another"}),
    "/accounts": (Act.ROLE_GRANT, {"digest": "another"}),
    "/people": (Act.PERSON_ADD, {"why": "a test"}),
    "/people/{name}/disable": (Act.PERSON_DISABLE, {"why": "a test"}),
    "/people/{name}/enable": (Act.PERSON_DISABLE, {"why": "a test"}),
    "/people/{name}/link": (Act.PERSON_RESET, {"why": "a test"}),
    "/people/{name}/grant": (Act.ROLE_GRANT, {"role": "technologist", "why": "a test"}),
    "/people/{name}/revoke": (Act.ROLE_GRANT, {"role": "technologist", "why": "a test"}),
    "/people/{name}/sessions": (Act.SESSION_END, {"session": "none", "why": "a test"}),
    "/devices/enrolments": (Act.DEVICE_ENROLL, {"name": "no name"}),
    "/devices/enrolments/{id}/withdraw": (Act.DEVICE_ENROLL, {}),
    "/devices/{name}/renew": (Act.DEVICE_ENROLL, {}),
    "/devices/{name}/revoke": (Act.DEVICE_REVOKE, {"why": "a test"}),
    "/workstation/{device}": (Act.LEASE_OPEN, {"hours": "1"}),
    "/workstation/{device}/leave": (Act.SESSION_END, {}),  # of somebody else; their own is where they sat down
    "/workstation/{device}/token": (Act.LEASE_OPEN, {}),
}
ASKED = ("/erasures", "/keys")
# What whoever asked for it collects, and nobody else (tests/doors/web/test_enrolment.py); and everybody's: how one gets in and out, one's own account, where somebody says whom the glass is broken for before it is asked who may.
NO_ACT = frozenset({
    "/sign-in", "/sign-in/password", "/passkey/options", "/unlock", "/step-up", "/lock", "/still", "/sign-out", "/sign-in/{source}/begin",
    "/sign-in/{source}", "/sign-in/{source}/password", "/signed-out", "/back-channel/{source}", "/enrol/{link}", "/enrol/{link}/options",
    "/enrol/{link}/password", "/me", "/me/passkeys", "/me/passkeys/options", "/me/factors/remove", "/me/recovery-codes", "/me/sessions/end",
    "/metrics", "/machine/token", "/machine/token/end", "GET /glass", "GET /erasures", "/erasures/{id}", "/erasures/{id}/undo", "GET /keys", "/keys/{id}", "/keys/{id}/file", "/keys/{id}/share", "/keys/{id}/kept", "/devices/enrolments/{id}/bundle", "/requests/{id}/export",
})  # fmt: skip
OF_A_NAME = {
    "/devices/{name}/renew": Act.DEVICE_ENROLL,
    "/people/{name}": Act.PEOPLE_LIST,
    "/reports/disclosures": Act.AUDIT_REPORT,
    "/reports/breach": Act.AUDIT_REPORT,
    "/studies/{uid}": Act.STUDY_READ,
    "/studies/{uid}/export": Act.STUDY_EXPORT,
    "/requests/{id}/transcript": Act.TRANSCRIPT_READ,
}
NO_DOOR = {
    Act.FLOW_OPEN: "the kernel opens it, once somebody approved what was asked for under Requests",
}


def test_t04_every_page_and_every_act_has_its_row() -> None:
    """Whoever adds a page says here what it asks for; an act that gets a door leaves the list of those without one."""
    for each in EVERY_PAGE:
        for method in each.methods:
            asked = FORMS if method == "POST" else {**PAGES, **OF_A_NAME}
            assert (each.path in asked) ^ bool({each.path, f"{method} {each.path}"} & NO_ACT), (method, each.path)
    behind = {*PAGES.values(), *OF_A_NAME.values(), *(act for act, _ in FORMS.values())}
    assert behind | {Act.STUDY_STORE} | NO_DOOR.keys() == set(Act), "storing: at a workstation"
    assert not behind & NO_DOOR.keys()


@pytest.fixture(scope="module")
def matters(people: Staff, studies: tuple[Image, Image], roles: dict[Role, str]) -> dict[Role, dict[str, str]]:
    """What the forms are about, by role: matters that the role decides about where it decides about any, and nobody's account."""
    vendor, officer = roles[Role.VENDOR], roles[Role.SECURITY_OFFICER]
    glass = people.do(roles[Role.RADIOLOGIST], ChangeKind.GLASS_BREAK, uuid.uuid4().hex, patient_id=OTHERS, reason=REASON)  # fmt: skip

    def asked(name: str, act: Act, **facts: object) -> str:
        return str(people.do(name, ChangeKind.ACCESS_REQUEST, act, reason=REASON, seconds=600, **facts)["request"])

    visit, use = (
        asked(vendor, Act.DEVICE_LIST),
        asked(officer, Act.KEY_USE, custodians=[roles[Role.RADIOLOGIST], "clinician"], threshold=2),
    )
    people.site.enroll("SHUT", "echo")
    people.order("SHUT", ChangeKind.DEVICE_DISABLE, reason="somebody else kept it out")
    for role in (Role.SECURITY_OFFICER, Role.PACS_ADMINISTRATOR, Role.BIOMEDICAL_ENGINEER):
        people.site.enroll(f"OLD-{role.value[:8].upper()}", "echo")
    found = {}
    for role in roles:
        old = f"OLD-{role.value[:8].upper()}"
        found[role] = {
            "uid": studies[0].study_instance_uid,
            "/review/{id}": str(glass["glass"]),
            "/requests/{id}": use if role in (Role.PACS_ADMINISTRATOR, Role.VENDOR) else visit,
            "/devices/{name}/revoke": old if old in people.site.bundles else "SINK",
        }
    return found


def filled(path: str, matters: dict[str, str]) -> str:
    about = matters.get(path) or matters["/requests/{id}"]
    name = about if path.startswith("/devices") else "nobody-here"
    return path.format(id=about, name=name, device="WS1", uid=matters.get("uid", ABSENT), kind="device")


def ends_a_lease(people: Staff, browser: Reader, where: str) -> bool:
    """Whether the form ends the lease of somebody else."""
    access, now_ns, other = people.house.people.access, time.time_ns(), people.callers["clinician"]
    access.open_lease(Lease(uuid.uuid4().hex, other.person.id, other.session, "WS1", now_ns, now_ns + 60 * 1_000_000_000))  # fmt: skip
    browser.send(where)
    return access.lease_of("WS1", time.time_ns()) is None


@pytest.mark.parametrize("role", [each for each in Role if each is not Role.SERVICE_ACCOUNT])
def test_t04_each_form_of_the_console_is_taken_from_whom_the_table_says(
    people: Staff, roles: dict[Role, str], matters: dict[Role, dict[str, str]], seat: None, role: Role
) -> None:
    with people.browser(roles[role]) as browser:
        for path, (act, fields) in FORMS.items():
            written, where = WRITTEN[act, role], filled(path, matters[role])
            if path in ASKED:  # asking is not doing: that takes somebody else's word and a passkey
                assert browser.send(where, **fields) == (422 if written else 403)
                continue
            if path.endswith("/leave"):
                assert ends_a_lease(people, browser, where) is (written == "yes")
                continue
            heard = browser.send(where, **fields)
            if written in ("", "2nd", "key 2nd"):  # without the second person's word it is as if there were nothing
                assert heard == 403, (path, heard)
                continue
            if written in ("key", "key bulk 2nd"):
                assert heard == 401, (path, heard)
                continue
            assert written == "yes" and heard in (200, 404, 409, 422), (path, heard)
        assert browser.step_up()
        for path, (act, fields) in FORMS.items():
            if WRITTEN[act, role] in ("key", "key bulk 2nd") and "cancel" not in path:
                assert browser.send(filled(path, matters[role]), **fields) in (200, 404, 409), path
            elif WRITTEN[act, role] in ("", "2nd", "key 2nd") and path not in ASKED and not path.endswith("/leave"):
                assert browser.send(filled(path, matters[role]), **fields) == 403, (path, "a passkey gives no right")


def test_t04_a_machines_certificate_opens_no_page(people: Staff, roles: dict[Role, str]) -> None:
    """A service account has no session: what the table gives it, it is given by no page and at no workstation."""
    site = people.site
    bundle = site.enroll("MACHINE", "")
    named = ("--role", "service-account", "--certificate", bundle.certificate, "--why", "a test")
    site.command("people", "add", "machine", *named)
    context = ssl.create_default_context(cafile=str(site.directory / "ca" / "serving-ca.pem"))
    context.load_cert_chain(bundle.certificate, bundle.key)
    port = json.loads((site.directory / "state" / "ports.json").read_text())["web"]
    own = {"Sec-Fetch-Site": "same-origin"}
    with httpx2.Client(
        base_url=f"https://localhost:{port}", verify=context, trust_env=False, headers=own, timeout=30
    ) as machine:
        assert machine.get("/metrics").status_code == 200
        for path in (*PAGES, "/people/reader", f"/studies/{ABSENT}"):
            assert machine.get(path).headers["location"].startswith("/sign-in?"), path
        for path, (_, fields) in FORMS.items():
            answer = machine.post(filled(path, {"/requests/{id}": "none"}), data=fields)
            assert answer.headers["location"].startswith("/sign-in?"), path
    with pytest.raises(TurnedAway), associated(people.at("MACHINE"), people.archive, querying()):
        pass
