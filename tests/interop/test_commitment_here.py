"""Storage commitment on the association that asked for it (PS3.4 J.3.3): the report comes in its turn, and the device goes on with its work meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from leadglass.lab.corpus import Image
from leadglass.lab.peers import (
    PUSH_INSTANCE,
    Archive,
    Identity,
    Message,
    Session,
    TurnedAway,
    associated,
    committing,
    echoing,
    getting,
    storing,
)
from leadglass.lab.peers import commitment as asked_for
from leadglass.wire import tags, uids
from leadglass.wire.dimse import Command, CommandField
from leadglass.wire.elements import parse
from tests.running import RunningSite, running, until
from tests.synthetic import image

LIMITS = "\n[limits]\nidle_seconds = 2.0\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("commitment"), LIMITS) as site:
        site.up()
        site.enroll("CT1", "echo,store,commit,get")
        yield site
        print(site.log())


def who(site: RunningSite) -> Identity:
    return Identity("CT1", "127.0.0.1", site.bundles["CT1"].directory)


def archive(site: RunningSite) -> Archive:
    return Archive("127.0.0.1", site.port)


class Device:
    """Says messages one by one, and hears whatever comes, in its order."""

    def __init__(self, session: Session) -> None:
        self.session, self._messages = session, session._messages

    def commits(self, transaction: str, *images: Image) -> None:
        context = self._context(uids.STORAGE_COMMITMENT_PUSH)
        action = Command(
            CommandField.N_ACTION_RQ,
            7,
            has_data_set=True,
            requested_sop_class_uid=uids.STORAGE_COMMITMENT_PUSH,
            requested_sop_instance_uid=PUSH_INSTANCE,
            action_type_id=1,
        )
        references = [(each.sop_class_uid, each.sop_instance_uid) for each in images]
        self._messages.send(context, action, asked_for(transaction, references, context.transfer_syntax))

    def stores(self, one: Image) -> None:
        command = Command.c_store_rq(8, one.sop_class_uid, one.sop_instance_uid)
        self._messages.send(self._context(one.sop_class_uid), command, one.data_set)

    def hears(self) -> Message:
        item = self._messages.next()
        assert isinstance(item, Message), item
        return item

    def answers(self, report: Message, status: int = 0) -> str:
        """The transaction that it was about."""
        assert report.command.field is CommandField.N_EVENT_REPORT_RQ
        self._messages.send(report.context, report.command.response(status))
        element = parse(report.data, report.context.transfer_syntax).get(tags.TRANSACTION_UID)
        assert element is not None and isinstance(element.value, bytes)
        return element.value.decode().rstrip("\0")

    def _context(self, abstract_syntax: str):  # type: ignore[no-untyped-def]
        return self.session._context(abstract_syntax)


@pytest.fixture
def device(site: RunningSite) -> Iterator[Device]:
    wanted = [*committing(), *echoing(), *storing([image(random.Random())])]
    with associated(who(site), archive(site), wanted) as session:
        yield Device(session)


def test_the_device_stores_on_before_it_answers_the_report(device: Device) -> None:
    first, second, third = (image(random.Random()) for _ in range(3))
    assert device.session.store(first).status == 0
    device.commits("2.25.1", first)
    assert device.hears().command.field is CommandField.N_ACTION_RSP
    device.stores(second)
    heard = [device.hears(), device.hears()]  # the report may come before the answer to that, or after it
    assert {each.command.field for each in heard} == {CommandField.C_STORE_RSP, CommandField.N_EVENT_REPORT_RQ}
    device.stores(third)
    stored = device.hears()
    assert (stored.command.field, stored.command.status) == (CommandField.C_STORE_RSP, 0)
    (report,) = [each for each in heard if each.command.field is CommandField.N_EVENT_REPORT_RQ]
    assert device.answers(report) == "2.25.1"
    assert device.session.echo().status == 0


def test_the_next_request_comes_before_anything_was_answered(device: Device) -> None:
    """More than the window allows, and some devices do it."""
    first, second = image(random.Random()), image(random.Random())
    assert device.session.store(first).status == 0
    device.commits("2.25.2", first)
    device.stores(second)
    heard = [device.hears() for _ in range(3)]
    assert [each.command.field for each in heard if each.command.field is not CommandField.N_EVENT_REPORT_RQ] == [
        CommandField.N_ACTION_RSP,
        CommandField.C_STORE_RSP,
    ]
    assert device.answers(next(each for each in heard if each.data)) == "2.25.2"
    assert device.session.echo().status == 0


def test_two_reports_come_one_after_the_other(device: Device) -> None:
    one = image(random.Random())
    assert device.session.store(one).status == 0
    device.commits("2.25.3", one)
    assert device.hears().command.field is CommandField.N_ACTION_RSP
    report = device.hears()
    device.commits("2.25.4", one)
    assert device.hears().command.field is CommandField.N_ACTION_RSP
    assert device.session.echo().status == 0, "no second report while the first is not answered"
    assert device.answers(report) == "2.25.3"
    assert device.answers(device.hears()) == "2.25.4"
    assert device.session.echo().status == 0


def test_a_device_that_asks_and_never_answers_is_told_to_wait(device: Device) -> None:
    """What it asks for is held here: so much of it, and no more."""
    one = image(random.Random())
    device.commits("2.25.30", one)
    first = [device.hears(), device.hears()]
    statuses = []
    for number in range(8):
        device.commits(f"2.25.{31 + number}", one)
        statuses.append(device.hears().command.status)
    assert statuses == [0] * 4 + [0xA700] * 4
    report = next(each for each in first if each.data)
    told = [device.answers(report)]
    while len(told) < 5:
        told.append(device.answers(device.hears()))
    assert told == [f"2.25.{30 + number}" for number in range(5)]
    device.commits("2.25.39", one)
    assert device.hears().command.status == 0
    assert device.answers(device.hears()) == "2.25.39"
    assert device.session.echo().status == 0


def test_a_device_that_releases_at_once_is_released_and_the_event_says_that_it_never_heard(site: RunningSite) -> None:
    one = image(random.Random())
    wanted = [*committing(), *storing([one])]
    with associated(who(site), archive(site), wanted) as session:
        assert session.store(one).status == 0
        assert session.commit("2.25.5", [(one.sop_class_uid, one.sop_instance_uid)]).status == 0
    assert until(lambda: "the peer released the association" in [row.get("reason") for row in ended(site)])
    assert [row["outcome"] for row in site.events("association:ended")][-1] == "success"


def ended(site: RunningSite) -> list[dict[str, object]]:
    return [row for row in site.events("release:ended") if row["action"] == "commit"]


def test_a_device_that_never_answers_is_idle_in_the_end(site: RunningSite) -> None:
    one = image(random.Random())
    with pytest.raises(TurnedAway), associated(who(site), archive(site), [*committing(), *storing([one])]) as session:
        device = Device(session)
        device.commits("2.25.6", one)
        assert device.hears().command.field is CommandField.N_ACTION_RSP
        assert device.hears().command.field is CommandField.N_EVENT_REPORT_RQ
        assert until(lambda: "idle for too long" in [row.get("reason") for row in ended(site)])


def test_what_the_device_thinks_of_the_report_is_told(site: RunningSite) -> None:
    one = image(random.Random())
    with associated(who(site), archive(site), [*committing(), *echoing(), *storing([one])]) as session:
        device = Device(session)
        device.commits("2.25.7", one)
        assert device.hears().command.field is CommandField.N_ACTION_RSP
        assert device.answers(device.hears(), 0x0110) == "2.25.7"
        assert session.echo().status == 0
    assert until(lambda: "the device answered the report with 0110H" in [row.get("reason") for row in ended(site)])


def test_an_answer_that_comes_while_images_are_on_their_way(site: RunningSite) -> None:
    """It belongs to the report, not to the image that was sent just before."""
    one = image(random.Random())
    pairs = [(one.sop_class_uid, one.transfer_syntax_uid)]
    with associated(who(site), archive(site), storing([one])) as session:
        assert session.store(one).status == 0
    with associated(who(site), archive(site), [*committing(), *getting(pairs), *echoing()]) as session:
        device = Device(session)
        device.commits("2.25.8", one)
        assert device.hears().command.field is CommandField.N_ACTION_RSP
        report, came = device.hears(), list[str]()

        def take(each: object) -> int:
            came.append(device.answers(report))  # before the C-STORE-RSP
            return 0

        answer = session.get("STUDY", {tags.STUDY_INSTANCE_UID: one.study_instance_uid}, take)
        assert (answer.status, answer.completed, came) == (0, 1, ["2.25.8"])
        assert session.echo().status == 0
