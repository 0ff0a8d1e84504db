"""`leadglass serve firewall`: the kernel's table of archive's own host, under a uid of its own, with CAP_NET_ADMIN and nothing else of the site's.

It opens no file of the site's, and asks the keeper's command socket which table it should be, where policy lets its uid do nothing else. What
was good last lies in a directory of its own: at every start that is in force first, and where there is none, a table that lets nothing through.
Where the site does not answer, the table stays as it is.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import structlog

from leadglass.doors.command.desk import Desk, RemoteDesk
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.kernel import conntrack, nft
from leadglass.doors.kernel.listening import Listening
from leadglass.doors.kernel.netlink import KernelFault
from leadglass.doors.kernel.traffic import Traffic
from leadglass.doors.processes.notify import notify
from leadglass.policy.firewall.boxes import Box
from leadglass.policy.firewall.compile import closed
from leadglass.policy.firewall.handed import NotHanded, box_of, digest, from_json, to_json
from leadglass.policy.firewall.lookup import Lookup
from leadglass.policy.firewall.readback import NotUnderstood, drift, read
from leadglass.policy.firewall.ruleset import Ruleset
from leadglass.policy.firewall.succession import Opened, closes, contained_as, elements
from leadglass.policy.network import REPORT
from leadglass.site.write import durably

POLL_SECONDS = 0.5
CONFIRM_SECONDS = 60.0
DRIFT_SECONDS = 60.0
RETRY_SECONDS = 10.0  # after the kernel did not take a table
DIFFERENCES_TOLD_MAX = 10
STATE_DIRECTORY = Path("/var/lib/leadglass-firewall")
GOOD_TABLE = "good.json"  # what this process reads
GOOD_TEXT = "good.nft"  # the same, for `nft -f` before any interface is up

log = structlog.get_logger()
Row = Mapping[str, Any]


def serve(site_dir: Path, state: Path) -> int:
    """Until SIGTERM or SIGINT; the table stays in force after it. Raises Stopped where there can be none."""
    stop = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    try:
        enforcer = Enforcer(state)
        listening = Listening()
    except (nft.NftFault, KernelFault) as fault:
        raise Stopped(Exit.PROBLEMS, str(fault), hint="as root, or with CAP_NET_ADMIN; apt install nftables") from fault
    print("ready firewall", flush=True)
    notify("READY=1")
    try:
        enforcer.until(stop, lambda: RemoteDesk(site_dir), listening)
    finally:
        listening.close()
    notify("STOPPING=1")
    return 0


class Enforcer:
    """`state`: a directory of its own. What was good is in force when it is made. Raises NftFault."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._good = self._remembered()
        self._wanted: Ruleset | None = None
        self._loaded = self._good or closed()
        self._opened: tuple[Opened, ...] = ()
        self._site = self._refused = self._drift = self._silent = ""
        self._declined = ""  # digest of a site file that nobody confirmed in time, or that would cut who applied it
        self._waits_for, self._deadline = "", 0.0  # which must be confirmed, until when; 0: none
        self._retry = 0.0
        self._traffic = Traffic()
        self._checked = time.monotonic()
        if read(nft.listing()).ours is None:
            nft.load(self._loaded.text())
        else:
            self._retable()

    def until(self, stop: threading.Event, connect: Callable[[], Desk], listening: Listening) -> None:
        while not stop.is_set():
            try:
                self.once(connect(), listening)
                self._silent = ""
            except (Stopped, OSError, NotHanded) as error:
                if str(error) != self._silent:
                    log.warning("the site's command socket does not answer", reason=str(error), mend="is the site up?")
                self._silent = str(error)
            self._look()
            stop.wait(POLL_SECONDS)

    def once(self, desk: Desk, listening: Listening) -> None:
        """Asks, acts, tells. Raises Stopped, NotHanded."""
        known = digest(self._wanted) if self._wanted is not None else ""
        row = next(iter(desk.ask("network-table", {"known": known})))
        if "table" in row:
            self._wanted = from_json(row["table"])
        if self._wanted is None or digest(self._wanted) != row["digest"]:
            self._wanted = None
            raise NotHanded("the table is not the one that its digest names")
        self._follow(self._wanted, row)
        self._open(tuple(Opened(str(each["set"]), box_of(each["box"]), int(each["until_ns"])) for each in row["open"]))
        drops, lost = listening.taken()
        report = {
            "digest": digest(self._loaded),
            "site": self._site if not self._refused else "",
            "refused": self._refused,
            "drift": self._drift,
            "unconfirmed_seconds": max(0, int(self._deadline - time.monotonic())) if self._deadline else 0,
            "drops": drops,
            "lost": lost,
            "traffic": self._traffic.taken(),
        }
        list(desk.ask(REPORT, report))
        self._drift = ""

    # ---- which table

    def _follow(self, wanted: Ruleset, row: Row) -> None:
        site, confirmed = str(row["site"]), bool(row["confirmed"])
        if self._deadline and not confirmed and time.monotonic() >= self._deadline:
            self._go_back(wanted)
            return
        whole = (confirmed or self._declined != site) and time.monotonic() >= self._retry
        if not whole:
            wanted = contained_as(self._loaded, wanted)  # whoever is contained meanwhile, is
        elif not confirmed and self._cuts(wanted, str(row["connection"])):
            self._decline(site, "it would cut the connection of whoever applied it: `leadglass zones confirm` does so")
            return
        if (wanted != self._loaded and not self._exchange(wanted)) or not whole:
            return
        self._site, self._refused, self._declined = site, "", ""
        if self._good is None or confirmed or not closes(self._good, wanted):
            self._settle(wanted)
        elif self._waits_for != site:
            self._waits_for, self._deadline = site, time.monotonic() + CONFIRM_SECONDS

    def _settle(self, table: Ruleset) -> None:
        """It is good: what is gone back to, and what is in force at the next start."""
        self._deadline, self._waits_for = 0.0, ""
        if self._good != table:
            self._good = table
            self._remember(table)

    def _exchange(self, table: Ruleset) -> bool:
        try:
            nft.load(table.text() + elements(table, self._opened, time.time_ns()))
        except nft.NftFault as fault:
            self._retry = time.monotonic() + RETRY_SECONDS
            self._say(f"the kernel did not take it: {fault}")
            return False
        self._loaded = table
        log.info("the kernel's table was exchanged", digest=digest(table), ended=self._end_connections())
        return True

    def _go_back(self, wanted: Ruleset) -> None:
        """Nobody confirmed: whoever applied it may have cut themselves off."""
        if self._good is not None and self._exchange(contained_as(self._good, wanted)):
            self._decline(
                self._waits_for,
                f"nobody confirmed it within {CONFIRM_SECONDS:.0f} s: `leadglass zones confirm` loads it again",
            )
            self._site, self._deadline, self._waits_for = "", 0.0, ""

    def _decline(self, site: str, why: str) -> None:
        self._declined = site
        self._say(why)

    def _say(self, why: str) -> None:
        if self._refused != why:
            log.error("the kernel's table is not the one of the site file", reason=why)
        self._refused = why

    def _cuts(self, table: Ruleset, connection: str) -> bool:
        """Would the connection end by which somebody applied it? Whoever is contained is cut off on purpose."""
        words = connection.split()
        if len(words) != 3 or not closes(self._loaded, table):
            return False
        source, target = ip_address(words[0]), ip_address(words[1])
        lookup = Lookup(contained_as(table, self._loaded), self._boxes())
        return not lookup.opens(source.version, int(source), int(target), "tcp", int(words[2]))

    # ---- what is open for a time

    def _open(self, opened: tuple[Opened, ...]) -> None:
        if opened == self._opened:
            return
        shut = set(self._opened) - set(opened)
        try:
            nft.load(elements(self._loaded, opened, time.time_ns()))
        except nft.NftFault as fault:
            log.error("what is open for a time could not be told to the kernel", reason=str(fault))
            return
        self._opened = opened
        if shut:
            self._end_connections()

    def _boxes(self) -> list[Box]:
        now_ns = time.time_ns()
        return [each.box for each in self._opened if each.until_ns > now_ns]

    def _end_connections(self) -> int:
        """Of whatever the table does not open any more: their answers would pass for as long as they are known."""
        lookup = Lookup(self._loaded, self._boxes())
        try:
            return conntrack.end(
                lambda each: not lookup.opens(each.version, each.source, each.target, each.protocol, each.port)
            )
        except KernelFault as fault:
            log.error("connections of what was closed could not be ended", reason=str(fault))
            return 0

    # ---- does the kernel still say so?

    def _look(self) -> None:
        over = [each for each in self._opened if each.until_ns <= time.time_ns()]
        if over:
            self._opened = tuple(each for each in self._opened if each not in over)
            self._end_connections()
        if time.monotonic() - self._checked >= DRIFT_SECONDS:
            self._checked = time.monotonic()
            self._retable()

    def _retable(self) -> None:
        """Reads the table back; where it says anything else, the right one is loaded again, and the difference told."""
        try:
            found = self._differences()
            if found:
                self._drift = "; ".join(found[:DIFFERENCES_TOLD_MAX])
                log.error("the kernel's table was another one", differences=found[:DIFFERENCES_TOLD_MAX])
                nft.load(self._loaded.text() + elements(self._loaded, self._opened, time.time_ns()))
                self._end_connections()
        except nft.NftFault as fault:
            log.error("the kernel's table cannot be read", reason=str(fault))
            self._drift = str(fault)

    def _differences(self) -> list[str]:
        """Of our table: other programs' hooks are theirs, and `zones verify` names them."""
        try:
            kernel = read(nft.listing())
        except NotUnderstood as error:
            return [str(error)]
        return [
            each for each in drift(self._loaded, kernel, self._boxes()) if not each.endswith("a hook that is not ours")
        ]

    # ---- what was good

    def _remembered(self) -> Ruleset | None:
        try:
            return from_json(json.loads((self._state / GOOD_TABLE).read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, NotHanded) as error:
            log.error(
                "what was good last cannot be read: nothing is let through until the site answers", reason=str(error)
            )
            return None

    def _remember(self, table: Ruleset) -> None:
        try:
            durably(self._state / GOOD_TEXT, table.text().encode())
            durably(self._state / GOOD_TABLE, json.dumps(to_json(table)).encode())
        except OSError as error:
            log.error("what is good cannot be kept for the next start", reason=str(error))


def state_directory(named: Path | None) -> Path:
    """Where systemd says (STATE_DIRECTORY), unless it is named."""
    return named or Path(os.environ.get("STATE_DIRECTORY") or STATE_DIRECTORY)
