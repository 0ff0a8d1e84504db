"""Who loads the kernel's table when something is not as it should be: a former version's table, words of nft that nobody understands, a full disk,
a clock that was set back, a restart, somebody else who listens, a keeper that does not answer. With the real nft and kernel, in a namespace of its own."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from leadglass.doors.command.desk import Row
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.kernel import listening, nft
from leadglass.doors.kernel.listening import Listening
from leadglass.doors.kernel.nflog import PacketLog
from leadglass.doors.processes import firewall
from leadglass.doors.processes.firewall import GOOD_TABLE, Ears, Enforcer
from leadglass.policy.firewall.boxes import Box, Span
from leadglass.policy.firewall.compile import closed, ruleset
from leadglass.policy.firewall.handed import Wanted, digest, to_json, wanted_to_json
from leadglass.policy.firewall.readback import Kernel, drift, read
from leadglass.policy.firewall.ruleset import DROPPED_GROUP, PASSED_GROUP, Ruleset
from leadglass.policy.firewall.succession import Opened, contained_as
from leadglass.terms import Containment
from tests.policy.firewall.sites import lab
from tests.programs import require

CLONE_NEWNET = 0x40000000
HERE, THERE = "10.20.5.10", "10.20.5.99"  # archive's own host, and somebody on the same link
BOX = Box("udp", Span(4, int.from_bytes(socket.inet_aton(HERE)), int.from_bytes(socket.inet_aton(HERE))),
          Span(4, int.from_bytes(socket.inet_aton(THERE)), int.from_bytes(socket.inet_aton(THERE))), 4242, 4242)  # fmt: skip
DAY_NS = 86_400 * 1_000_000_000


@pytest.fixture(autouse=True)
def _needs() -> None:
    for program in ("ip", "nft"):
        require(program)
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")


def alone(body: Callable[[], None]) -> None:
    """In a thread of its own with a network of its own: an interface, and nobody else."""
    failed: list[BaseException] = []

    def inside() -> None:
        try:
            assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0
            for line in (
                "link add d0 type veth peer name d1",
                f"addr add {HERE}/24 dev d0",
                "link set d0 up",
                "link set d1 up",
            ):
                subprocess.run([require("ip"), *line.split()], check=True)
            body()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


@dataclass
class Keeper:
    """What the site says; and what it was told."""

    table: Ruleset
    site: str = "a site file"
    opened: tuple[Opened, ...] = ()
    silent: bool = False
    heard: list[dict[str, Any]] = field(default_factory=list)
    running: bool = True

    def ask(self, question: str, arguments: Row) -> Iterator[Row]:
        if question == "network-table":
            wanted = Wanted(self.table, digest(self.table), self.site, True, 60, "", self.opened)
            yield json.loads(json.dumps(wanted_to_json(wanted)))
            return
        if self.silent:
            raise Stopped(Exit.UNREACHABLE, "the site stopped answering")
        self.heard.append(json.loads(json.dumps(arguments)))

    def change(self, kind: object, about: str, arguments: Row) -> Row:
        raise AssertionError

    def close(self) -> None:
        return


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path


class listening_ears:  # noqa: N801 - reads as a block
    def __enter__(self) -> Ears:
        self.ears = Ears(Listening(DROPPED_GROUP, "drops"), Listening(PASSED_GROUP, "passes"))
        return self.ears

    def __exit__(self, *_: object) -> None:
        self.ears.close()


def kernel() -> Ruleset:
    found = read(nft.listing()).ours
    assert found is not None
    return found


def in_kernel(table: Ruleset, *opened: Opened) -> bool:
    return not list(drift(table, Kernel(kernel(), ()), [each.box for each in opened]))


def timeouts(name: str) -> list[int]:
    """Seconds that the elements of a set have left."""
    done = subprocess.run(
        [require("nft"), "-j", "list", "set", "inet", "leadglass", name], capture_output=True, text=True, check=True
    )
    (found,) = (each["set"] for each in json.loads(done.stdout)["nftables"] if "set" in each)
    return [each["elem"]["expires"] for each in found.get("elem", ())]


def said() -> None:
    """A packet to somebody on the link; what becomes of it is the kernel's to say."""
    code = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ({THERE!r}, 4242))"
    subprocess.run([sys.executable, "-S", "-c", code], check=False, capture_output=True)


def until(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


def open_for(seconds: float, *, record: bool = True) -> Opened:
    return Opened("output4_on_demand", BOX, time.time_ns() + int(seconds * 1e9), record)


@contextmanager
def enforcing(state: Path) -> Iterator[Enforcer]:
    enforcer = Enforcer(state)
    try:
        yield enforcer
    finally:
        enforcer.close()


def former_form() -> Ruleset:
    """As a version wrote it that did not tell of what passes."""
    table = ruleset(lab())
    chains = tuple(
        replace(each, rules=tuple(rule for rule in each.rules if "passed" not in rule.log)) for each in table.chains
    )
    return replace(table, chains=chains)


def test_after_an_upgrade_the_former_versions_table_stays_until_the_site_answers(state: Path) -> None:
    former = former_form()
    (state / GOOD_TABLE).write_text(json.dumps(to_json(former)))

    def body() -> None:
        nft.load(former.text())  # as the boot unit does
        keeper = Keeper(ruleset(lab()))
        with enforcing(state) as enforcer, listening_ears() as ears:
            assert in_kernel(former)
            enforcer.once(keeper, ears)
        assert in_kernel(keeper.table) and keeper.heard[-1]["drift"] == ""

    alone(body)


def test_without_anything_to_remember_nothing_is_let_through(state: Path) -> None:
    (state / GOOD_TABLE).write_text('{"half a')

    def body() -> None:
        with enforcing(state):
            assert in_kernel(closed())

    alone(body)


STRANGE = (
    '{"nftables": [{"table": {"family": "inet", "name": "leadglass"}}, {"set": {"family": "inet", "table": "leadglass", "name": "input4",'
    ' "type": "ipv4_addr", "flavour": 1}}]}'
)


def test_what_nft_says_and_nobody_understands_is_told_once_and_containment_acts_all_the_same(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = nft.listing

    def body() -> None:
        keeper = Keeper(ruleset(lab()))
        with enforcing(state) as enforcer, listening_ears() as ears:
            enforcer.once(keeper, ears)
            monkeypatch.setattr(nft, "listing", lambda: STRANGE)
            keeper.site = "another site file"
            keeper.table = ruleset(replace(lab(), flows=()), containment=Containment(zones={"guest": "odd"}))
            enforcer.once(keeper, ears)
            monkeypatch.setattr(nft, "listing", known)
            assert in_kernel(contained_as(ruleset(lab()), keeper.table)), (
                "who is contained is; else it is the former one"
            )
            refused = keeper.heard[-1]["refused"]
            assert "this nft says its tables otherwise" in refused and "flavour" in refused
            monkeypatch.setattr(nft, "listing", lambda: STRANGE)
            monkeypatch.setattr(firewall, "DRIFT_SECONDS", 0.0)
            for _ in range(3):
                enforcer._look()
                enforcer.once(keeper, ears)
            assert len([each for each in keeper.heard if each["drift"]]) == 1
            monkeypatch.setattr(nft, "listing", known)
            enforcer._look()
            enforcer._retry = 0.0
            enforcer.once(keeper, ears)
            assert in_kernel(keeper.table) and keeper.heard[-1]["refused"] == ""

    alone(body)


def test_what_cannot_be_kept_is_said_and_kept_as_soon_as_there_is_room(state: Path) -> None:
    (state / GOOD_TABLE / "in the way").mkdir(parents=True)

    def body() -> None:
        keeper = Keeper(ruleset(lab()))
        with enforcing(state) as enforcer, listening_ears() as ears:
            enforcer.once(keeper, ears)
            assert in_kernel(keeper.table) and GOOD_TABLE in keeper.heard[-1]["unkept"]
            (state / GOOD_TABLE / "in the way").rmdir()
            (state / GOOD_TABLE).rmdir()
            enforcer._look()
            enforcer.once(keeper, ears)
        assert keeper.heard[-1]["unkept"] == ""
        assert json.loads((state / GOOD_TABLE).read_text()) == to_json(keeper.table)

    alone(body)


def test_a_clock_that_is_set_back_leaves_nothing_open_for_longer(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> None:
        with enforcing(state) as enforcer, listening_ears() as ears:
            keeper = Keeper(ruleset(lab()))
            enforcer.once(keeper, ears)
            keeper.opened = (open_for(2.9),)
            enforcer.once(keeper, ears)
            assert timeouts("output4_on_demand")
            day_ago = time.time_ns() - DAY_NS
            monkeypatch.setattr(firewall.time, "time_ns", lambda: day_ago)
            nft.load("flush ruleset")
            enforcer._look()  # the right table is loaded again
            assert all(each <= 2 for each in timeouts("output4_on_demand"))
            assert until(lambda: timeouts("output4_on_demand") == [])
            assert until(lambda: enforcer._boxes() == [])
            enforcer._look()
            enforcer.once(keeper, ears)  # which tells of it still
            assert timeouts("output4_on_demand") == [] and enforcer._boxes() == []

    alone(body)


def test_a_restart_ends_no_session_and_is_no_drift(state: Path) -> None:
    def body() -> None:
        keeper = Keeper(ruleset(lab()), opened=(open_for(100),))
        with listening_ears() as ears:
            with enforcing(state) as enforcer:
                enforcer.once(keeper, ears)
            with enforcing(state) as again:
                assert 90 < timeouts("output4_on_demand")[0] <= 100, "before the site is asked"
                again.once(keeper, ears)
                assert keeper.heard[-1]["drift"] == "" and in_kernel(keeper.table, *keeper.opened)
                keeper.opened = ()
                again.once(keeper, ears)
                assert timeouts("output4_on_demand") == []
            nft.load("flush ruleset")  # as a reboot does, with what is over by then
            with enforcing(state):
                assert timeouts("output4_on_demand") == []

    alone(body)


def test_what_must_be_recorded_is_open_only_where_it_is(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "RETRY_SECONDS", 0.1)
    other = replace(open_for(100, record=False), box=replace(BOX, first_port=4243, last_port=4243))

    def body() -> None:
        keeper = Keeper(ruleset(lab()), opened=(open_for(100), other))
        with enforcing(state) as enforcer:
            with PacketLog(PASSED_GROUP), listening_ears() as ears:
                assert ears.passes.deaf
                enforcer.once(keeper, ears)
                assert len(timeouts("output4_on_demand")) == 1, "the other one"
                assert "flows that must be recorded stay closed" in keeper.heard[-1]["deaf"]
            with listening_ears() as ears:
                enforcer.once(keeper, ears)
                assert len(timeouts("output4_on_demand")) == 2 and keeper.heard[-1]["deaf"] == ""

    alone(body)


def test_what_passes_by_a_flow_on_demand_and_what_is_dropped_is_told_once_though_the_keeper_was_away(
    state: Path,
) -> None:
    def told(keeper: Keeper, what: str) -> list[tuple[str, str, int, int]]:
        return [(row["why"], row["target"], row["port"], row["count"]) for each in keeper.heard for row in each[what]]

    def body() -> None:
        keeper = Keeper(ruleset(lab()))
        with enforcing(state) as enforcer, listening_ears() as ears:
            enforcer.once(keeper, ears)
            keeper.silent = True
            said()
            assert until(lambda: ears.drops._counted)
            with pytest.raises(Stopped):
                enforcer.once(keeper, ears)
            keeper.silent, keeper.opened = False, (open_for(100),)
            enforcer.once(keeper, ears)
            assert ("output", THERE, 4242, 1) in told(keeper, "drops")
            keeper.silent = True
            said()
            assert until(lambda: ears.passes._counted)
            with pytest.raises(Stopped):
                enforcer.once(keeper, ears)
            keeper.silent = False
            enforcer.once(keeper, ears)
            enforcer.once(keeper, ears)
            assert told(keeper, "passes") == [("passed", THERE, 4242, 1)]
            assert told(keeper, "drops").count(("output", THERE, 4242, 1)) == 1

    alone(body)
