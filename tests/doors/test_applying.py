"""A changed site file acts alone where nobody could approve it, a day later where one could, and else by two: beside a running site. T13 of SP 1800-24."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from leadglass.doors.command.applying import second_of
from leadglass.site.access import AccessRequest
from leadglass.site.write import draft_digest
from leadglass.terms import Change, ChangeKind, NotChanged, Operator, Role, SecondPersonNeeded
from tests.interop.test_people import command, rows
from tests.running import RunningSite, running
from tests.staff import Staff, staff

pytestmark = pytest.mark.xdist_group("applying")
DAY_NS = 24 * 3600 * 1_000_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("applying")) as site:
        site.up()
        yield site


@pytest.fixture(scope="module")
def people(site: RunningSite) -> Iterator[Staff]:
    with staff(site) as people:
        yield people


@pytest.fixture(autouse=True)
def _as_it_was(site: RunningSite, people: Staff) -> Iterator[None]:
    file = site.directory / "leadglass.toml"
    before = file.read_text()
    yield
    file.write_text(before)
    for each in people.house.people.every():
        if each.enabled:
            people.order(each.name, ChangeKind.PERSON_DISABLE, why="the test is over")
    command(site, "apply")


def edit(site: RunningSite, minutes: int) -> str:
    """The digest of the files as they lie there then."""
    file = site.directory / "leadglass.toml"
    head = file.read_text().partition("\n[sessions]")[0]
    file.write_text(f"{head}\n[sessions]\nidle_lock_minutes = {minutes}\n")
    return draft_digest(site.directory)


def serving(site: RunningSite) -> str:
    return (site.directory / "state" / "proven" / "current").resolve().name


def officers(people: Staff, *names: str) -> None:
    for each in names:
        people.hire(f"{each}-{uuid.uuid4().hex[:6]}", Role.SECURITY_OFFICER)


def hired(people: Staff, prefix: str) -> str:
    return next(name for name in reversed(people.callers) if name.startswith(prefix))


def waiting(people: Staff, digest: str) -> AccessRequest:
    return next(each for each in people.house.people.access.requests() if each.digest == digest)


def decide(people: Staff, officer: str, request: AccessRequest, *, approve: bool = True, **wrong: object) -> str:
    asks = people.house.people.get(request.person)
    told = {
        "requested_by": request.person,
        "requester_roles": sorted(asks.roles) if asks is not None else [],
        "act": request.act,
        "digest": request.digest,
        "approve": approve,
    }
    people.step_up(officer)
    people.do(officer, ChangeKind.ACCESS_APPROVE, request.id, **{**told, **wrong})
    return waiting(people, request.digest).state


def test_while_nobody_could_approve_it_an_operator_applies_alone(site: RunningSite, people: Staff) -> None:
    people.hire(f"reader-{uuid.uuid4().hex[:6]}", Role.RADIOLOGIST)
    digest = edit(site, 3)
    (asked,) = rows(site, "apply", "--ask", "--why", "screens stay open")
    assert asked["approvers"] == 0 and asked["digest"] == digest
    command(site, "apply")
    assert serving(site) == digest and waiting(people, digest).state == "done"


def test_t13_a_changed_site_file_needs_somebody_elses_word_on_exactly_it_and_is_kept(
    site: RunningSite, people: Staff
) -> None:
    officers(people, "guard", "second")
    before, digest = serving(site), edit(site, 4)
    said = command(site, "apply", code=5)[1]
    assert "--ask --why" in said and serving(site) == before
    assert "why?" in command(site, "apply", "--ask", code=2)[1]
    assert command(site, "zones", "apply", "--ask", "--why", "screens stay open in the ward")[0].startswith("asked for")
    request = waiting(people, digest)
    assert request.facts["changes"] == ["~ sessions.idle_lock_minutes changes from 10 to 4"]
    assert "nobody approved it yet" in command(site, "apply", code=5)[1]
    with pytest.raises(NotChanged):
        decide(people, hired(people, "guard"), request, digest="0" * 64)
    assert decide(people, hired(people, "guard"), request) == "approved"
    edited = edit(site, 5)
    command(site, "apply", code=5)
    assert serving(site) == before, "what was edited since is another file"
    edit(site, 4)
    command(site, "apply")
    assert serving(site) == digest and waiting(people, digest).state == "done"
    kept = {each.name for each in (site.directory / "state" / "proven").iterdir()}
    assert {before, digest} <= kept and edited not in kept
    edit(site, 10)
    assert "--ask" in command(site, "apply", code=5)[1]
    command(site, "contain", "site", "--reason", "containing waits for nobody")
    command(site, "contain", "site", "--undo")


def test_what_was_approved_is_used_up_and_ends_with_its_approver(site: RunningSite, people: Staff) -> None:
    officers(people, "guard", "second", "third")
    first, one = serving(site), edit(site, 6)
    command(site, "apply", "--ask", "--why", "screens stay open")
    decide(people, hired(people, "guard"), waiting(people, one))
    command(site, "apply")
    two = edit(site, 7)
    command(site, "apply", "--ask", "--why", "screens stay open")
    decide(people, hired(people, "second"), waiting(people, two))
    command(site, "apply")
    edit(site, 6)
    command(site, "apply", code=5)  # the first approval was for the first time
    assert serving(site) == two != first
    command(site, "apply", "--ask", "--why", "back to what it was")
    decide(people, hired(people, "third"), waiting(people, one))
    people.order(hired(people, "third"), ChangeKind.PERSON_DISABLE, why="left")
    command(site, "apply", code=5)
    assert serving(site) == two


def test_where_one_alone_could_approve_it_acts_a_day_later_unless_denied(site: RunningSite, people: Staff) -> None:
    officers(people, "guard")
    before, digest = serving(site), edit(site, 8)
    (asked,) = rows(site, "apply", "--ask", "--why", "screens stay open")
    assert asked["approvers"] == 1
    assert "acts after" in command(site, "apply", code=5)[1]
    assert decide(people, hired(people, "guard"), waiting(people, digest), approve=False) == "denied"
    assert "--ask" in command(site, "apply", code=5)[1]
    command(site, "apply", "--ask", "--why", "asked once more")
    later = waiting(people, digest)
    with people.house.register.transaction() as connection:
        connection.execute(
            "UPDATE access_requests SET asked_ns = asked_ns - ?, from_ns = from_ns - ? WHERE id = ?",
            (DAY_NS, DAY_NS, later.id),
        )
    assert serving(site) == before
    command(site, "apply")
    assert serving(site) == digest


def test_the_person_who_asked_applies_it_at_the_console_and_nobody_else(site: RunningSite, people: Staff) -> None:
    officers(people, "guard", "second")
    keeper, other = (f"{name}-{uuid.uuid4().hex[:6]}" for name in ("keeper", "other"))
    for name in (keeper, other):
        people.hire(name, Role.PACS_ADMINISTRATOR)
    digest = edit(site, 9)
    people.do(keeper, ChangeKind.SITE_ASK, "leadglass.toml", digest=digest, reason="screens stay open")
    decide(people, hired(people, "guard"), waiting(people, digest))
    for name in (keeper, other):
        people.step_up(name)
    with pytest.raises(SecondPersonNeeded):
        people.do(other, ChangeKind.SITE_APPLY, "leadglass.toml", digest=digest)
    people.do(keeper, ChangeKind.SITE_APPLY, "leadglass.toml", digest=digest, connection="")
    assert serving(site) == digest
    people.do(keeper, ChangeKind.NETWORK_CONFIRM, digest)
    with pytest.raises(NotChanged):
        people.do(keeper, ChangeKind.SITE_ASK, "leadglass.toml", digest=digest, reason="nothing changes by it")


def test_somebody_who_never_enrolled_approves_nothing(site: RunningSite, people: Staff) -> None:
    """Else whoever may add people could make a single approver two."""
    order = Change("1", Operator(0, "root"), ChangeKind.SITE_APPLY, "leadglass.toml", {"digest": edit(site, 11)})
    people.order(f"invited-{uuid.uuid4().hex[:6]}", ChangeKind.PERSON_ADD, roles=[Role.SECURITY_OFFICER], why="a test")
    assert second_of(people.house.people, site.directory, order, 0).approvers == 0
    officers(people, "guard")
    assert second_of(people.house.people, site.directory, order, 0).approvers == 1
