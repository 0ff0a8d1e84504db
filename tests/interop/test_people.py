"""`leadglass people`, beside a running site and without one; what it takes away is gone everywhere within a second."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leadglass import gateway
from leadglass.__main__ import assemble
from leadglass.doors.blocking import run
from leadglass.doors.command.application import run_application
from leadglass.doors.house import House
from leadglass.identity.authority import Authority, KeyKind, new_key, pem
from leadglass.identity.people.passkeys import Origin
from leadglass.lab.authenticator import Authenticator
from leadglass.terms import (
    Caller,
    Change,
    ChangeKind,
    EventKind,
    NotIdentified,
    NotPermitted,
    Peer,
    Refused,
    Role,
    SignIn,
)
from tests.running import RunningSite, running
from tests.staff import staff

ORIGIN = Origin("http://localhost:8080", "localhost")
PEER = Peer("127.0.0.1", 40_000, "web")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("people")) as site:
        site.up()
        yield site
        print(site.log())


@pytest.fixture(scope="module")
def house(site: RunningSite) -> Iterator[House]:
    """Another process of the running site, as a web worker is."""
    house = assemble(site.directory)
    yield house
    house.close()


def command(site: RunningSite, *words: str, code: int = 0) -> tuple[str, str]:
    """A command line, in this process: what it said, and what it complained of."""
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        ended = run_application(assemble, ["--site", str(site.directory), *words])
    assert ended == code, (words, ended, said.getvalue(), complained.getvalue())
    return said.getvalue(), complained.getvalue()


def rows(site: RunningSite, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in command(site, *words, "--json")[0].splitlines()]


def happened(site: RunningSite, kind: str) -> list[dict[str, Any]]:
    return [row for row in rows(site, "events") if row["kind"] == kind]


def add(site: RunningSite, name: str, *roles: str) -> dict[str, Any]:
    (row,) = rows(
        site, "people", "add", name, *(word for role in roles for word in ("--role", role)), "--why", "works here"
    )
    return row


def secret(row: dict[str, Any]) -> str:
    return str(row["enrolment"]).rpartition("/")[2]


def enroll(house: House, link: str) -> Authenticator:
    """Through the gateway, as a door does it: by whoever holds the link."""
    device, caller = Authenticator(ORIGIN.scheme_host_port), house.desk.invitee(link, PEER)
    handle, options = house.desk.enrolment_options(link, ORIGIN)
    proven = house.desk.enrolled_passkey(link, handle, device.create(dict(options)), ORIGIN)
    order = Change(uuid.uuid4().hex, caller, ChangeKind.FACTOR_ENROLL, caller.name, proven)
    assert len(run(gateway.change(house.do, order))["recovery_codes"]) == 10  # type: ignore[arg-type]
    return device


def sign_in(house: House, device: Authenticator) -> tuple[str, Caller]:
    handle, options = house.desk.passkey_options(ORIGIN)
    evidence = {"handle": handle, "assertion": device.get(dict(options)), "origin": ORIGIN}
    caller = run(gateway.sign_in(house.do, PEER, SignIn("", "passkey", "browser", evidence=evidence)))
    return house.desk.open_session(caller, "browser")


def gone_within_a_second(house: House, token: str, why: str, generation: int) -> None:
    """At the next look; and the generation that makes every process look rose."""
    with pytest.raises(NotIdentified, match=why):
        house.desk.caller(token, PEER, "browser")
    end = time.monotonic() + 1
    while house.containment().generation <= generation and time.monotonic() < end:
        time.sleep(0.01)
    assert house.containment().generation > generation


def test_the_first_start_invites_an_administrator_and_nobody_else(site: RunningSite, house: House) -> None:
    address = site.hears("administrator enrolment=")
    assert address.startswith("http://localhost") and "/enrol/" in address
    invitation = house.desk.invited(address.rpartition("/")[2])
    assert invitation.person.name == "administrator" and invitation.person.roles == {Role.PACS_ADMINISTRATOR}
    (row,) = [each for each in rows(site, "people", "list") if each["name"] == "administrator"]
    assert row["state"] == "invited" and not row["password"] and not row["passkeys"]
    assert site.said.index("ready dimse=") < site.said.index("administrator enrolment="), "the ready line comes first"


def test_a_person_from_the_link_to_the_session(site: RunningSite, house: House) -> None:
    row = add(site, "Reader", "radiologist")
    assert row["person"] == "reader" and row["roles"] == ["radiologist"]
    assert dt.datetime.fromisoformat(row["until"]) > dt.datetime.now(dt.UTC) + dt.timedelta(hours=23)
    device = enroll(house, secret(row))
    token, caller = sign_in(house, device)
    assert house.desk.caller(token, PEER, "browser").session == caller.session
    (session,) = rows(site, "people", "sessions", "reader")
    assert session["session"] == caller.session and session["factors"] == ["passkey"]
    (listed,) = [each for each in rows(site, "people", "list") if each["name"] == "reader"]
    assert (listed["state"], listed["passkeys"], listed["recovery_codes"], listed["sessions"]) == ("enrolled", 1, 10, 1)
    assert listed["grants"][0]["why"] == "works here"
    recognised = [row for row in happened(site, "person:recognised") if row["actor"] == "person:reader"]
    assert recognised[-1]["details"]["session"] == caller.session
    assert secret(row) not in json.dumps(rows(site, "events")), "no secret is in the journal"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("disable", "{}", "--reason", "left"), "disabled: left"),
        (("role", "{}", "--revoke", "technologist", "--why", "moved"), "technologist was taken away: moved"),
        (("reset", "{}", "--why", "phone lost"), "factors were reset: phone lost"),
        (("sessions", "{}", "--end", "all", "--why", "asked"), "ended by .*: asked"),
    ],
)
def test_what_is_taken_away_is_gone_within_a_second(
    site: RunningSite, house: House, words: tuple[str, ...], why: str
) -> None:
    name = f"worker-{words[0]}"
    token, caller = sign_in(house, enroll(house, secret(add(site, name, "radiologist", "technologist"))))
    generation = house.containment().generation
    command(site, "people", *(word.format(name) for word in words))
    gone_within_a_second(house, token, why, generation)
    with pytest.raises(NotIdentified):
        house.desk.still(caller)
    changes = [row["action"] for row in happened(site, "change:completed") if row["details"]["about"] == name]
    assert changes[0] == "person-add" and len(changes) == 3, "each of them is an event"


def test_everybody_ends_their_own_sessions_and_nobody_elses(site: RunningSite, house: House) -> None:
    token, caller = sign_in(house, enroll(house, secret(add(site, "own", "radiologist"))))
    other, others = sign_in(house, enroll(house, secret(add(site, "others", "radiologist"))))

    def end(name: str, session: str) -> None:
        run(
            gateway.change(
                house.do, Change(uuid.uuid4().hex, caller, ChangeKind.SESSION_END, name, {"session": session})
            )
        )

    with pytest.raises(NotPermitted):
        end("others", others.session)
    assert house.desk.caller(other, PEER, "browser")
    end("own", caller.session)
    with pytest.raises(NotIdentified, match="ended by own"):
        house.desk.caller(token, PEER, "browser")


def test_bad_words_are_refused_with_what_to_mend(site: RunningSite) -> None:
    add(site, "there", "radiologist")
    for words, said in [
        (("add", "there", "--role", "radiologist"), "here already"),
        (("add", "two words", "--role", "radiologist"), "cannot name a person"),
        (("add", "new", "--role", "wizard"), "there is no role 'wizard': radiologist"),
        (("add", "new", "--role", "security-officer", "--role", "pacs-administrator"), "security-officer"),
        (("add", "new", "--role", "radiologist", "--until", "soon"), "is no date"),
        (("add", "new", "--role", "service-account"), "has the certificate"),
        (("disable", "nobody", "--reason", "x"), "nobody is called 'nobody'"),
        (("role", "there", "--revoke", "vendor", "--why", "x"), "is no vendor"),
        (("sessions", "there", "--end", "1234"), "no such session"),
    ]:
        assert said in " ".join(command(site, "people", *words, code=1)[1].split())
    for words in [
        ("role", "there", "--why", "x"),
        ("role", "there", "--grant", "vendor"),
        ("disable", "there"),
        ("add", "new"),
    ]:
        command(site, "people", *words, code=2)
    assert "new" not in [row["name"] for row in rows(site, "people", "list")]


def test_nobody_enrols_for_somebody_else(site: RunningSite, house: House) -> None:
    """Not with a link of their own, and not as root with a factor that nobody proved."""
    mine, theirs = secret(add(site, "mine", "radiologist")), secret(add(site, "theirs", "security-officer"))
    handle, options = house.desk.enrolment_options(mine, ORIGIN)
    proven = house.desk.enrolled_passkey(
        mine, handle, Authenticator(ORIGIN.scheme_host_port).create(dict(options)), ORIGIN
    )
    for operator, about in [(house.desk.invitee(mine, PEER), "theirs"), (house.desk.invitee(theirs, PEER), "theirs")]:
        with pytest.raises((NotPermitted, gateway.Refused)):
            run(gateway.change(house.do, Change(uuid.uuid4().hex, operator, ChangeKind.FACTOR_ENROLL, about, proven)))
    person = house.people.named("theirs")
    assert person is not None and house.people.factors.passkeys(person.id) == []


def test_a_machine_client_is_its_certificate(site: RunningSite, house: House, tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    made = Authority.create("hospital CA", now).issue(new_key(KeyKind.EC).public_key(), "reports", ["reports"], now, 30)
    (tmp_path / "reports.pem").write_bytes(pem(made))
    words = ("--role", "service-account", "--certificate", str(tmp_path / "reports.pem"))
    (row,) = rows(site, "people", "add", "reports", *words)
    assert "enrolment" not in row and row["certificates"][0].startswith("sha256:")
    from cryptography.hazmat.primitives.serialization import Encoding

    peer = Peer("127.0.0.1", 1, "web", made.public_bytes(Encoding.DER))
    assert house.desk.machine(peer).name == "reports"
    assert pem(made).decode() in house.anchors()
    command(site, "people", "disable", "reports", "--reason", "replaced")
    with pytest.raises(NotIdentified, match="is disabled"):
        house.desk.machine(peer)


def test_a_review_is_signed_for_what_was_seen(site: RunningSite) -> None:
    *_, summary = rows(site, "people", "review")
    assert summary["last_review"] == "" and not summary["overdue"]
    *_, signed = rows(site, "people", "review", "--sign")
    assert signed["digest"] and signed["reviewer"]
    *_, summary = rows(site, "people", "review")
    assert summary["last_review"] and summary["reviewer"] == signed["reviewer"]
    changed = [row for row in happened(site, "change:completed") if row["action"] == "accounts-review"]
    assert changed[-1]["details"]["about"] == signed["digest"]


def test_a_review_at_the_console(site: RunningSite) -> None:
    """An account that nobody uses is found, closed by the security officer, and the review signed for what is left; overdue it is said, too."""
    with staff(site) as people:
        people.hire("overseer", Role.SECURITY_OFFICER)
        people.hire("looks-on", Role.AUDITOR)
        people.order("forgotten", ChangeKind.PERSON_ADD, roles=["radiologist"], why="came for a summer")
        with people.house.register.transaction() as connection:
            long_ago = time.time_ns() - 100 * 86_400 * 1_000_000_000
            connection.execute("UPDATE people SET added_ns = ? WHERE name = 'forgotten'", (long_ago,))
            connection.execute("UPDATE reviews SET at_ns = ?", (long_ago,))
        with people.browser("overseer") as browser, people.browser("looks-on") as other:
            assert "overdue" in browser.page("/people")
            shown = browser.page("/accounts")
            assert "forgotten" in shown and "never enrolled" in shown and "overdue" in shown
            seen = shown.partition('name="digest" value="')[2].partition('"')[0]
            assert browser.send("/accounts", digest=seen) == 401, "without a fresh passkey"
            assert browser.step_up()
            assert browser.send("/people/forgotten/disable", why="nobody knows them") == 200
            assert browser.send("/accounts", digest=seen) == 409, "what was found is other than what was seen"
            shown = browser.page("/accounts")
            assert "forgotten" not in shown
            seen = shown.partition('name="digest" value="')[2].partition('"')[0]
            assert other.look("/accounts") == 200 and other.send("/accounts", digest=seen) == 403
            assert browser.send("/accounts", digest=seen) == 200
            assert "by overseer" in browser.page("/accounts") and "overdue" not in browser.page("/people")
    changed = [row for row in happened(site, "change:completed") if row["action"] == "accounts-review"]
    assert (changed[-1]["actor"], changed[-1]["details"]["about"]) == ("person:overseer", seen)


def test_relations_are_imported_whole_or_not_at_all(site: RunningSite, house: House, tmp_path: Path) -> None:
    add(site, "carer", "radiologist")
    person, file = house.people.named("carer"), tmp_path / "ward.csv"
    assert person is not None

    def told() -> set[tuple[str, str, str]]:
        related = house.people.access.related(person.id, time.time_ns())
        return {
            (each.relation, each.patient.patient_id if each.patient else each.study_instance_uid, each.source)
            for each in related
        }

    file.write_text("person,relation,patient_id,study\nCarer,care-team,4711,\ncarer,ordered,,1.2.3\n")
    (row,) = rows(site, "relations", "import", str(file))
    assert row["relations"] == 2 and told() == {("care-team", "4711", "ward.csv"), ("ordered", "1.2.3", "ward.csv")}
    file.write_text("person,relation,patient_id\ncarer,care-team,4712\nnobody,care-team,4713\n")
    assert "nobody is called" in command(site, "relations", "import", str(file), code=1)[1]
    file.write_text("person,relation,patient_id\ncarer,glass,4712\n")
    assert "line 2" in command(site, "relations", "import", str(file), code=1)[1]
    assert "cannot be read" in command(site, "relations", "import", str(tmp_path / "none.csv"), code=1)[1]
    assert len(told()) == 2, "what was wrong changed nothing"
    file.write_text("person,relation,patient_id\ncarer,scheduled,4714\n")
    rows(site, "relations", "import", str(file))
    assert told() == {("scheduled", "4714", "ward.csv")}


def test_without_a_running_site(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        assert command(site, "people", "list")[0].startswith("nobody is here")
        first, second = secret(add(site, "reader", "radiologist")), secret(rows(site, "people", "reset", "reader")[0])
        house = assemble(site.directory)
        try:
            assert house.desk.invited(second).purpose == "reset"
            with pytest.raises(NotIdentified, match="later one took its place"):
                house.desk.invited(first)
        finally:
            house.close()
        command(site, "people", "disable", "reader", "--reason", "left")
        assert "left" in json.dumps(rows(site, "people", "list"))
        assert any("no person is enrolled" in each for each in rows(site, "status")[0]["amber"])


def test_strangers_who_guess_write_a_few_lines_and_a_count(house: House) -> None:
    """Refusals before identity cannot fill the disk: five a minute of one address, then one summary."""
    stranger = Peer("10.99.9.9", 40_000, "web")
    for number in range(12):
        claim = SignIn(f"guess-{number}", "password", "browser", evidence={"password": "x" * 16, "code": "000000"})
        with pytest.raises(Refused):
            run(gateway.sign_in(house.do, stranger, claim))
    told = [each.event for each in house.journal.read() if each.event.address == "10.99.9.9"]
    assert [each.kind for each in told] == [EventKind.PERSON_REFUSED] * 5
