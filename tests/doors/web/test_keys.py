"""A recovery kit from the console: asked for by one, approved by another as exactly that, each share to its custodian alone; enough of them restore the site."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadglass.doors.processes import keeper
from leadglass.lab.peers import associated, storing
from leadglass.lab.reader import Reader
from leadglass.site.kit import open_kit, opened
from leadglass.site.kits import MadeKit
from leadglass.terms import Act, ChangeKind, EventKind, Fault, NotPermitted, Role, SecondPersonNeeded
from leadglass.wire.dimse import Status
from tests.running import RunningSite, running
from tests.staff import REASON, Staff, staff
from tests.synthetic import image

pytestmark = pytest.mark.xdist_group("keys")  # one site for all of it
CUSTODIANS = ("keeper", "chief", "reader")
SHARE = re.compile(r"leadglass-share:1:\S+?(?=<)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("keys")) as site:
        site.enroll("CT1", "echo,store")
        site.up()
        yield site
        print(site.log())


@pytest.fixture(scope="module")
def people(site: RunningSite) -> Iterator[Staff]:
    with staff(site) as people:
        for name, role in {
            "guard": Role.SECURITY_OFFICER, "guard2": Role.SECURITY_OFFICER, "keeper": Role.PACS_ADMINISTRATOR, "keeper2": Role.PACS_ADMINISTRATOR,
            "chief": Role.RADIOLOGIST, "reader": Role.RADIOLOGIST, "vendor": Role.VENDOR,
        }.items():  # fmt: skip
            people.hire(name, role)
        with associated(people.at("CT1"), people.archive, storing([one := image(random.Random(1))])) as session:
            assert session.store(one).status == Status.SUCCESS
        yield people


def asks(browser: Reader, *custodians: str, threshold: str = "2") -> int:
    return browser.send("/keys", custodians="\n".join(custodians), threshold=threshold, reason=REASON)


def approved(people: Staff, by: str = "keeper") -> str:
    """The latest request for it, approved: its id."""
    request = next(each for each in people.house.people.access.requests() if each.act is Act.KEY_USE)
    people.step_up(by)
    told = {"requested_by": request.person, "requester_roles": ["security-officer"], "act": "key-use", "digest": request.digest, "approve": True}  # fmt: skip
    people.do(by, ChangeKind.ACCESS_APPROVE, request.id, **told)
    return request.id


def made(people: Staff) -> MadeKit:
    with people.browser("guard") as browser:
        assert asks(browser, *CUSTODIANS) == 200
        request = approved(people)
        assert browser.send(f"/keys/{request}") == 401, "approved, and without a fresh passkey"
        assert browser.step_up() and browser.send(f"/keys/{request}") == 200
    kit = people.house.kits.get(request)
    assert kit is not None and kit.here
    return kit


def fetched(browser: Reader, path: str, **fields: str) -> tuple[int, str]:
    with browser.sending(path, fields) as answer:
        return answer.status_code, answer.read().decode()


def share_of(browser: Reader, kit: MadeKit) -> str:
    status, shown = fetched(browser, f"/keys/{kit.id}/share")
    found = SHARE.search(shown)
    return found[0] if status == 200 and found else str(status)


def test_two_people_make_a_kit_that_two_of_three_open_and_a_backup_is_restored_by(
    people: Staff, tmp_path: Path
) -> None:
    kit, shares = made(people), {}
    with people.browser("guard") as browser:
        assert browser.step_up()
        status, file = fetched(browser, f"/keys/{kit.id}/file", part="file")
        assert status == 200
        status, sheet = fetched(browser, f"/keys/{kit.id}/file", part="sheet")
        assert status == 200
        assert share_of(browser, kit) == "409", "who had it made keeps no share, for they were not named"
    for name in CUSTODIANS:
        with people.browser(name) as browser:
            assert "waits for you" in browser.page("/me")
            assert share_of(browser, kit) == "401", "without a fresh passkey"
            assert browser.step_up()
            shares[name] = share_of(browser, kit)
            assert share_of(browser, kit) == shares[name], "until they say that they have it"
            assert browser.send(f"/keys/{kit.id}/kept") == 200
            assert share_of(browser, kit) == "409" and "waits for you" not in browser.page("/me")
            assert fetched(browser, f"/keys/{kit.id}/file", part="file")[0] in (403, 409), "of whoever had it made"
    assert len(set(shares.values())) == 3
    for line in (shares["keeper"], shares["chief"]):
        with pytest.raises(Fault, match="does not open"):
            opened(file, shares=[line])
    place = tmp_path / "kit"
    place.mkdir()
    (place / "recovery-kit.json").write_text(file)
    few = tmp_path / "shares"
    few.write_text(f"{shares['keeper']}\n{shares['reader']}\n")
    proved = people.site.command("key", "verify", "--kit", str(place), "--shares-file", str(few)).stdout
    assert "site key" in proved and "keyring" in proved and "device-ca.key" in proved
    (place / "recovery-kit.json").rename(tmp_path / "elsewhere")
    (place / "recovery-kit.txt").write_text(sheet)
    people.site.command("backup", str(tmp_path / "backup"))
    restored = tmp_path / "restored"
    words = ("restore", str(tmp_path / "backup"), str(restored), "--kit", str(place), "--shares-file", str(few))
    people.site.command(*words, site=False)
    assert (restored / "register.db").exists()
    assert str(open_kit(place, shares=few.read_text().split())["site_key"]).startswith("leadglass")
    done = [each for each in people.events(EventKind.CHANGE_COMPLETED) if each.action == ChangeKind.KIT_COLLECT]
    assert {each.actor for each in done} == {"person:guard", *(f"person:{name}" for name in CUSTODIANS)}
    secrets = [part for line in shares.values() for part in line.split(":")[4:5]]
    told = "".join(repr(each) for each in people.events(EventKind.CHANGE_COMPLETED)) + people.site.log()
    assert not [part for part in secrets if part in told]
    with people.browser("guard") as browser:
        shown = browser.page("/keys")
        assert shown.count("has it") == 3 and not [part for part in secrets if part in shown]


def test_nobody_makes_a_kit_alone_nor_another_than_was_approved(people: Staff) -> None:
    with people.browser("guard") as browser:
        assert browser.step_up()
        assert asks(browser, *CUSTODIANS) == 200
        request = next(each for each in people.house.people.access.requests() if each.act is Act.KEY_USE)
        assert browser.send(f"/keys/{request.id}") == 403, "nobody approved it"
        told = {"requested_by": request.person, "requester_roles": ["security-officer"], "act": "key-use", "digest": request.digest, "approve": True}  # fmt: skip
        people.step_up("guard")
        with pytest.raises(NotPermitted, match="may not access-approve"):  # one's own
            people.do("guard", ChangeKind.ACCESS_APPROVE, request.id, **told)
        approved(people)
        few = {**request.facts, "threshold": 3}
        people.step_up("guard")
        with pytest.raises(SecondPersonNeeded, match="somebody else approved"):
            people.do(
                "guard", ChangeKind.KIT_MAKE, request.id, **{name: few[name] for name in ("custodians", "threshold")}
            )
        for custodians, threshold in (
            (("keeper",), "1"), (("keeper",), "2"), (("keeper", "chief"), "1"), (("keeper", "chief"), "3"), (("keeper", "vendor"), "2"),
            (("keeper", "nobody"), "2"), (("keeper", "keeper"), "2"), ((), "2"), (("keeper", "chief"), "x"),
        ):  # fmt: skip
            assert asks(browser, *custodians, threshold=threshold) == 422, (custodians, threshold)
    for name in ("keeper", "reader", "vendor"):
        with people.browser(name) as browser:
            assert browser.look("/keys") == 403 and asks(browser, *CUSTODIANS) == 403
            assert browser.send(f"/keys/{request.id}") == 403


def test_a_newer_kit_and_time_forget_what_was_not_fetched(people: Staff) -> None:
    first, second = made(people), made(people)
    assert people.house.kits.get(first.id).here is False  # type: ignore[union-attr]
    with people.browser("chief") as browser:
        assert browser.step_up()
        assert share_of(browser, first) == "409" and share_of(browser, second).startswith("leadglass-share:")
        with people.house.register.transaction() as connection:
            connection.execute("UPDATE kits SET until_ns = ? WHERE id = ?", (time.time_ns(), second.id))
        assert share_of(browser, second) == "409" and browser.send(f"/keys/{second.id}/kept") == 409
    keeper._lapse(people.house)  # which it does each minute
    left = "SELECT count(*) FROM kits LEFT JOIN kit_shares ON kit = id WHERE file IS NOT NULL OR share IS NOT NULL"
    assert people.house.register.read(left)[0][0] == 0
    with people.browser("guard") as browser:
        assert browser.step_up() and fetched(browser, f"/keys/{second.id}/file", part="file")[0] == 409
        assert "never fetched it" in browser.page("/keys")


def test_a_read_only_site_gives_no_key(people: Staff) -> None:
    with people.browser("guard") as browser:
        assert browser.step_up() and asks(browser, *CUSTODIANS) == 200
        request = approved(people)
        people.site.command("contain", "site", "--reason", "a test")
        try:
            assert browser.send(f"/keys/{request}") == 403
        finally:
            people.site.command("contain", "site", "--undo")
