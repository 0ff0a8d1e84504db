"""`leadglass serve firewall`: the kernel's table of archive's own host, under a uid of its own, with CAP_NET_ADMIN and nothing else of the site's.

It opens no file of the site's, and asks the keeper's command socket which table it should be, where policy lets its uid do nothing else. What it
takes is a table of the compiler's own form, by its digest; what the kernel then reads back must be that. What was good last lies in a directory
of its own: at every start that is in force first, and where there is none, a table that lets nothing through. Where the site does not answer,
the table stays as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from leadglass.doors.command.desk import Desk, RemoteDesk
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.kernel import conntrack, nft
from leadglass.doors.kernel.listening import Listening
from leadglass.doors.kernel.netlink import KernelFault
from leadglass.doors.kernel.news import TableNews
from leadglass.doors.processes.notify import notify
from leadglass.policy.firewall.boxes import Box
from leadglass.policy.firewall.compile import closed, of_our_form
from leadglass.policy.firewall.handed import NotHanded, Wanted, digest, from_json, to_json, wanted_from_json
from leadglass.policy.firewall.lookup import Lookup
from leadglass.policy.firewall.readback import Kernel, NotUnderstood, drift, read
from leadglass.policy.firewall.ruleset import Ruleset
from leadglass.policy.firewall.succession import Opened, closes, contained_as, elements
from leadglass.policy.network import REPORT
from leadglass.site.write import durably

POLL_SECONDS = 0.5
ANSWER_SECONDS = 10.0
DRIFT_SECONDS = 60.0
RETRY_SECONDS = 5.0  # after the kernel did not take a table
DIFFERENCES_TOLD_MAX = 10
FOREIGN_TOLD_MAX = 50
STATE_DIRECTORY = Path("/var/lib/leadglass-firewall")
GOOD_TABLE = "good.json"  # what this process reads
GOOD_TEXT = "good.nft"  # the same, for `nft -f` before any interface is up
DECLINED = "declined"  # which site file was taken back
LOCK = "lock"
NOBODY_CONFIRMED = "nobody confirmed it in time: `leadglass zones confirm` loads it again"
TAKEN_BACK = "it was taken back, and nobody confirmed it since: `leadglass zones confirm` loads it again"
WOULD_CUT = "it would cut the connection of whoever applied it: `leadglass zones confirm` does so"

log = structlog.get_logger()


def serve(site_dir: Path, state: Path) -> int:
    """Until SIGTERM or SIGINT; the table stays in force after it. Raises Stopped where there can be none."""
    stop = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    socket.setdefaulttimeout(ANSWER_SECONDS)  # whoever does not answer keeps nobody from looking at the table
    with _alone(state):
        try:
            enforcer = Enforcer(state)
        except (nft.NftFault, KernelFault) as fault:
            hint = "as root, or with CAP_NET_ADMIN; apt install nftables"
            raise Stopped(Exit.PROBLEMS, str(fault), hint=hint) from fault
        listening = Listening()
        print("ready firewall", flush=True)
        notify("READY=1")
        try:
            enforcer.until(stop, lambda: RemoteDesk(site_dir), listening)
        finally:
            listening.close()
        notify("STOPPING=1")
    return 0


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Two that load tables would take each other's for drift. Raises Stopped."""
    try:
        lock = (state / LOCK).open("a")
    except OSError as error:
        raise Stopped(Exit.PROBLEMS, f"no directory to keep tables in: {error}", hint="--state DIR") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Stopped(Exit.UNREACHABLE, f"somebody loads tables from {state} already") from error
        yield


class Enforcer:
    """`state`: a directory of its own. What was good is in force when it is made. Raises NftFault."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._good = self._remembered()
        self._wanted: Ruleset | None = None
        self._loaded = self._good or closed()
        self._digests = "", digest(self._loaded)  # of what is wanted, and of what is loaded
        self._opened: tuple[Opened, ...] = ()
        self._site = self._refused = self._refused_site = self._drift = self._silent = ""
        self._declined = self._remembered_declined()  # digest of a site file
        self._waits_for, self._deadline = "", 0.0  # which must be confirmed, until when; 0: none
        self._retry = 0.0
        self._checked = time.monotonic()
        self._foreign: tuple[str, ...] = ()
        self._news = TableNews()
        if _there_is_one():
            self._retable()
        else:
            nft.load(self._loaded.text())

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
        known = self._digests[0] if self._wanted is not None else ""
        wanted = wanted_from_json(next(iter(desk.ask("network-table", {"known": known}))))
        table = self._taken(wanted)
        self._follow(table, wanted)
        self._open(wanted.opened)
        drops, lost = listening.taken()
        report = {
            "digest": self._digests[1],
            "site": self._site if not self._refused else "",
            "refused": self._refused,
            "refused_site": self._refused_site,
            "drift": self._drift,
            "deaf": listening.deaf,
            "foreign": list(self._foreign),
            "unconfirmed_seconds": self._left_seconds(),
            "drops": drops,
            "lost": lost,
        }
        list(desk.ask(REPORT, report))
        self._drift = ""

    # ---- which table

    def _taken(self, wanted: Wanted) -> Ruleset:
        """Raises NotHanded where it is not what its digest names, or nothing that the compiler could have written."""
        if wanted.table is None and self._wanted is not None and wanted.digest == self._digests[0]:
            return self._wanted
        table, self._wanted = wanted.table, None
        if table is None or digest(table) != wanted.digest:
            raise NotHanded("the table is not the one that its digest names")
        if not of_our_form(table):
            raise NotHanded("the table is none that the compiler writes")
        self._wanted, self._digests = table, (wanted.digest, self._digests[1])
        return table

    def _follow(self, table: Ruleset, wanted: Wanted) -> None:
        site, confirmed = wanted.site, wanted.confirmed
        if self._deadline and not confirmed and time.monotonic() >= self._deadline:
            self._go_back(table)
            return
        whole = (confirmed or self._declined != site) and time.monotonic() >= self._retry
        if not whole:
            table = contained_as(self._loaded, table)  # whoever is contained meanwhile, is
            if not self._refused:
                self._say(TAKEN_BACK, site)  # before this process began
        elif not confirmed and self._cuts(table, wanted.connection):
            self._decline(site, WOULD_CUT)
            return
        if (table != self._loaded and not self._exchange(table, site)) or not whole:
            return
        self._site, self._refused, self._refused_site = site, "", ""
        self._forget_declined()
        good = self._good
        if good is None or good == table or confirmed or not closes(good, table):
            self._settle(table)
            return
        if self._waits_for != site:
            self._waits_for, self._deadline = site, time.monotonic() + wanted.confirm_seconds
        self._keep(contained_as(good, table))

    def _settle(self, table: Ruleset) -> None:
        """It is good: what is gone back to, and what is in force at the next start."""
        self._deadline, self._waits_for = 0.0, ""
        self._keep(table)

    def _left_seconds(self) -> int:
        return max(1, math.ceil(self._deadline - time.monotonic())) if self._deadline else 0

    def _exchange(self, table: Ruleset, site: str) -> bool:
        """The table is another one, and the kernel says the same when it is asked; or it is the former one."""
        former = self._loaded
        try:
            self._load(table)
            if found := self._differences():
                self._load(former)
                raise nft.NftFault(f"it reads back something else: {'; '.join(found[:DIFFERENCES_TOLD_MAX])}")
        except nft.NftFault as fault:
            self._retry = time.monotonic() + RETRY_SECONDS
            self._say(f"the kernel did not take it: {fault}", site)
            return False
        log.info("the kernel's table was exchanged", digest=self._digests[1], ended=self._end_connections())
        return True

    def _load(self, table: Ruleset) -> None:
        """With what is open for a time, in one transaction. Raises NftFault."""
        nft.load(table.text() + elements(table, self._opened, time.time_ns()))
        self._loaded, self._digests = table, (self._digests[0], digest(table))
        self._news.heard()  # that was us

    def _go_back(self, table: Ruleset) -> None:
        """Nobody confirmed: whoever applied it may have cut themselves off."""
        if self._good is not None and self._exchange(contained_as(self._good, table), self._waits_for):
            self._decline(self._waits_for, NOBODY_CONFIRMED)
            self._site, self._deadline, self._waits_for = "", 0.0, ""

    def _decline(self, site: str, why: str) -> None:
        if self._declined != site:
            self._declined = site
            self._write(DECLINED, site.encode())
        self._say(why, site)

    def _forget_declined(self) -> None:
        if self._declined:
            self._declined = ""
            self._write(DECLINED, b"")

    def _say(self, why: str, site: str) -> None:
        if self._refused != why:
            log.error("the kernel's table is not the one of the site file", reason=why)
        self._refused, self._refused_site = why, site

    def _cuts(self, table: Ruleset, connection: str) -> bool:
        """Would the connection end by which somebody applied it? Whoever is contained is cut off on purpose."""
        before, after = (
            Lookup(each, self._boxes()).opens_tcp(connection)
            for each in (self._loaded, contained_as(table, self._loaded))
        )
        return before is True and after is False

    # ---- what is open for a time

    def _open(self, opened: tuple[Opened, ...]) -> None:
        if opened == self._opened:
            return
        shut, former = set(self._opened) - set(opened), self._opened
        try:
            nft.load(elements(self._loaded, opened, time.time_ns()))
            self._opened = opened
            self._news.heard()
        except nft.NftFault as fault:
            self._opened = former
            log.error("what is open for a time could not be told to the kernel", reason=str(fault))
            return
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
        if self._news.heard() or time.monotonic() - self._checked >= DRIFT_SECONDS:
            self._checked = time.monotonic()
            self._retable()

    def _retable(self) -> None:
        """Reads the table back; where it says anything else, the right one is loaded again, and the difference told."""
        try:
            found = self._differences()
            if found:
                self._drift = "; ".join(found[:DIFFERENCES_TOLD_MAX])
                log.error("the kernel's table was another one", differences=found[:DIFFERENCES_TOLD_MAX])
                self._load(self._loaded)
                self._end_connections()
        except nft.NftFault as fault:
            log.error("the kernel's table cannot be read", reason=str(fault))
            self._drift = str(fault)

    def _differences(self) -> list[str]:
        """Of our table. Other programs' hooks are theirs; which there are is told. Raises NftFault."""
        try:
            kernel = read(nft.listing())
        except NotUnderstood as error:
            return [str(error)]
        self._foreign = kernel.foreign[:FOREIGN_TOLD_MAX]
        return list(drift(self._loaded, Kernel(kernel.ours, ()), self._boxes()))

    # ---- what was good

    def _remembered(self) -> Ruleset | None:
        try:
            table = from_json(json.loads((self._state / GOOD_TABLE).read_bytes()))
            if not of_our_form(table):
                raise NotHanded("it is none that the compiler writes")
            return table
        except FileNotFoundError:
            return None
        except (OSError, ValueError, NotHanded) as error:
            what = "what was good last cannot be read: nothing is let through until the site answers"
            log.error(what, reason=str(error))
            return None

    def _remembered_declined(self) -> str:
        try:
            return (self._state / DECLINED).read_bytes().decode()
        except (OSError, ValueError):
            return ""

    def _keep(self, table: Ruleset) -> None:
        if self._good != table:
            self._good = table
            self._write(GOOD_TEXT, table.text().encode())
            self._write(GOOD_TABLE, json.dumps(to_json(table)).encode())

    def _write(self, name: str, content: bytes) -> None:
        try:
            durably(self._state / name, content)
        except OSError as error:
            log.error("the next start will not know it", file=name, reason=str(error))


def _there_is_one() -> bool:
    """Raises NftFault."""
    try:
        return read(nft.listing()).ours is not None
    except NotUnderstood:
        return True


def state_directory(named: Path | None) -> Path:
    """Where systemd says (STATE_DIRECTORY), unless it is named."""
    return named or Path(os.environ.get("STATE_DIRECTORY") or STATE_DIRECTORY)
