"""`leadglass serve firewall`: the kernel's table of archive's own host, under a uid of its own, with CAP_NET_ADMIN and nothing else of the site's.

It opens no file of the site's, and asks the keeper's command socket which table it should be, where policy lets its uid do nothing else. What it
takes is a table of the compiler's own form, by its digest; what the kernel then reads back must be that. What was good last lies in a directory
of its own: at every start that is in force first, and where there is none, a table that lets nothing through. Where the site does not answer,
the table stays as it is. What is open for a time ends by this host's steady clock, whatever somebody sets the other to.
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from leadglass.doors.command.desk import Desk, RemoteDesk
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.kernel import conntrack, nft
from leadglass.doors.kernel.listening import Listening
from leadglass.doors.kernel.netlink import KernelFault
from leadglass.doors.kernel.news import TableNews
from leadglass.doors.kernel.traffic import Traffic
from leadglass.doors.processes.kept import Kept
from leadglass.doors.processes.notify import notify
from leadglass.policy.firewall.boxes import Box
from leadglass.policy.firewall.compile import closed, of_our_form
from leadglass.policy.firewall.handed import (
    NotHanded,
    Wanted,
    digest,
    from_json,
    opened_from_json,
    opened_to_json,
    to_json,
    wanted_from_json,
)
from leadglass.policy.firewall.lookup import Lookup
from leadglass.policy.firewall.readback import Kernel, NotUnderstood, drift, read
from leadglass.policy.firewall.ruleset import DROPPED_GROUP, PASSED_GROUP, Ruleset
from leadglass.policy.firewall.succession import Opened, closes, contained_as, elements
from leadglass.policy.network import REPORT

POLL_SECONDS = 0.5
ANSWER_SECONDS = 10.0
DRIFT_SECONDS = 60.0
RETRY_SECONDS, RETRY_SECONDS_MAX = 5.0, 60.0  # after the kernel did not take a table; twice as long each time
DIFFERENCES_TOLD_MAX = 10
FOREIGN_TOLD_MAX = 50
STATE_DIRECTORY = Path("/var/lib/leadglass-firewall")
GOOD_TABLE = "good.json"  # what this process reads
GOOD_TEXT = "good.nft"  # the same, for `nft -f` before any interface is up
DECLINED = "declined"  # which site file was taken back
OPENED = "opened.json"  # for a time: a restart ends nobody's session
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
        ears = Ears(Listening(DROPPED_GROUP, "drops"), Listening(PASSED_GROUP, "what passes by flows on demand"))
        print("ready firewall", flush=True)
        notify("READY=1")
        try:
            enforcer.until(stop, lambda: RemoteDesk(site_dir), ears)
        finally:
            ears.close()
            enforcer.close()
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


@dataclass(frozen=True, slots=True)
class Ears:
    """What the kernel tells of: packets that it dropped, and connections that it let begin by a flow on demand."""

    drops: Listening
    passes: Listening

    def close(self) -> None:
        self.drops.close()
        self.passes.close()


class Enforcer:
    """`state`: a directory of its own. What was good is in force when it is made. Raises NftFault."""

    def __init__(self, state: Path) -> None:
        self._kept = Kept(state)
        self._good = self._remembered()
        self._wanted: Ruleset | None = None
        self._loaded = self._good or closed()
        self._digests = "", digest(self._loaded)  # of what is wanted, and of what is loaded
        self._ends = (
            self._remembered_opened()
        )  # of what is open for a time, by the steady clock, as long as the keeper tells of it
        self._live = frozenset(self._left())
        self._site = self._refused = self._refused_site = self._drift = self._silent = ""
        self._declined = self._remembered_declined()  # digest of a site file
        self._waits_for, self._deadline = "", 0.0  # which must be confirmed, until when; 0: none
        self._retry, self._failures = 0.0, 0
        self._unread = ""  # what nft says and nobody understands
        self._traffic = Traffic()
        self._checked = time.monotonic()
        self._foreign: tuple[str, ...] = ()
        self._news = TableNews()
        if _there_is_one():
            self._retable()
            nft.load(elements(self._loaded, self._left()))
            self._news.heard()
        else:
            self._load(self._loaded)

    def close(self) -> None:
        """The table stays in force."""
        self._news.close()

    def until(self, stop: threading.Event, connect: Callable[[], Desk], ears: Ears) -> None:
        while not stop.is_set():
            try:
                self.once(connect(), ears)
                self._silent = ""
            except (Stopped, OSError, NotHanded) as error:
                if str(error) != self._silent:
                    log.warning("the site's command socket does not answer", reason=str(error), mend="is the site up?")
                self._silent = str(error)
            self._look()
            stop.wait(POLL_SECONDS)

    def once(self, desk: Desk, ears: Ears) -> None:
        """Asks, acts, tells. Raises Stopped, NotHanded."""
        known = self._digests[0] if self._wanted is not None else ""
        answer = next(iter(desk.ask("network-table", {"known": known})), None)
        if answer is None:
            raise NotHanded("there was no answer")
        wanted = wanted_from_json(answer)
        table = self._taken(wanted)
        self._follow(table, wanted)
        deaf = ears.passes.deaf
        self._open(tuple(each for each in wanted.opened if not (each.record and deaf)))
        with ears.drops.telling() as (drops, lost), ears.passes.telling() as (passes, unrecorded):
            report = {
                "digest": self._digests[1],
                "site": self._site if not self._refused else "",
                "refused": self._refused,
                "refused_site": self._refused_site,
                "drift": self._drift,
                "deaf": f"{deaf}; flows that must be recorded stay closed" if deaf else ears.drops.deaf,
                "unkept": self._kept.fault,
                "foreign": list(self._foreign),
                "unconfirmed_seconds": self._left_seconds(),
                "drops": drops,
                "lost": lost,
                "passes": passes,
                "unrecorded": unrecorded,
                "traffic": self._traffic.taken(),
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
        self._retry = 0.0  # another one: tried at once
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
        """The table is another one, and the kernel says the same when it is asked; or it is the former one, where whoever is contained by now is."""
        former = contained_as(self._loaded, table)
        try:
            self._load(table)
            if found := self._differences():
                raise nft.NftFault(f"it reads back something else: {'; '.join(found[:DIFFERENCES_TOLD_MAX])}")
        except nft.NftFault as fault:
            self._failures += 1
            self._retry = time.monotonic() + min(RETRY_SECONDS_MAX, RETRY_SECONDS * 2 ** (self._failures - 1))
            self._say(f"the kernel did not take it: {fault}", site)
            self._fall_back(former)
            return False
        self._failures = 0
        log.info("the kernel's table was exchanged", digest=self._digests[1], ended=self._end_connections())
        return True

    def _fall_back(self, former: Ruleset) -> None:
        """Where nft itself does not work nothing was changed, and nothing can be."""
        if former != self._loaded:
            try:
                self._load(former)
                self._end_connections()
            except nft.NftFault as fault:
                log.error("the former table could not be loaded again", reason=str(fault))

    def _load(self, table: Ruleset) -> None:
        """With what is open for a time, in one transaction. Raises NftFault."""
        nft.load(table.text() + elements(table, self._left()))
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
            self._kept.write(DECLINED, site.encode())
        self._say(why, site)

    def _forget_declined(self) -> None:
        if self._declined:
            self._declined = ""
            self._kept.write(DECLINED, b"")

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
        if set(opened) == self._ends.keys():
            return
        steady, now_ns, former = time.monotonic(), time.time_ns(), self._ends
        ends = {each: former.get(each, steady + (each.until_ns - now_ns) / 1e9) for each in opened}
        try:
            nft.load(elements(self._loaded, {each: end - steady for each, end in ends.items()}))
        except nft.NftFault as fault:
            log.error("what is open for a time could not be told to the kernel", reason=str(fault))
            return
        self._ends, self._live = ends, frozenset(each for each, end in ends.items() if end > steady)
        self._news.heard()
        self._kept.write(OPENED, json.dumps(opened_to_json(opened)).encode())
        if former.keys() - ends.keys():
            self._end_connections()

    def _left(self) -> Mapping[Opened, float]:
        """In seconds."""
        steady = time.monotonic()
        return {each: end - steady for each, end in self._ends.items() if end > steady}

    def _boxes(self) -> list[Box]:
        return [each.box for each in self._left()]

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
        self._kept.retry()
        if (live := frozenset(self._left())) != self._live:
            self._live = live
            self._end_connections()
        if self._news.heard() or time.monotonic() - self._checked >= DRIFT_SECONDS:
            self._checked = time.monotonic()
            self._retable()

    def _retable(self) -> None:
        """Reads the table back; where it says anything else, the right one is loaded again, and the difference told. What is still not understood then
        is nft's own doing, and told once."""
        try:
            found = self._differences()
            if not found:
                self._unread = ""
                return
            self._load(self._loaded)
            self._end_connections()
            unread = "; ".join(self._differences()[:DIFFERENCES_TOLD_MAX])
            if not unread or unread != self._unread:
                self._drift = unread or "; ".join(found[:DIFFERENCES_TOLD_MAX])
                log.error("the kernel's table was another one", differences=found[:DIFFERENCES_TOLD_MAX], still=unread)
            self._unread = unread
        except nft.NftFault as fault:
            log.error("the kernel's table cannot be read", reason=str(fault))
            self._drift = str(fault)

    def _differences(self) -> list[str]:
        """Of our table. Other programs' hooks are theirs; which there are is told. Raises NftFault."""
        try:
            kernel = read(nft.listing())
        except NotUnderstood as error:
            return [
                f"{error} (if nobody changed it: this nft says its tables otherwise than the versions that are known here)"
            ]
        self._foreign = kernel.foreign[:FOREIGN_TOLD_MAX]
        return list(drift(self._loaded, Kernel(kernel.ours, ()), self._boxes()))

    # ---- what was good

    def _remembered(self) -> Ruleset | None:
        """Of whatever form: a former version's own table is better than none, and the site says soon which it should be."""
        try:
            table = from_json(json.loads(self._kept.read(GOOD_TABLE)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, NotHanded) as error:
            what = "what was good last cannot be read: nothing is let through until the site answers"
            log.error(what, reason=str(error))
            return None
        if not of_our_form(table):
            log.warning("what was good last is of another version's form: it stays until the site answers")
        return table

    def _remembered_declined(self) -> str:
        try:
            return self._kept.read(DECLINED).decode()
        except (OSError, ValueError):
            return ""

    def _remembered_opened(self) -> dict[Opened, float]:
        try:
            opened = opened_from_json(json.loads(self._kept.read(OPENED)))
        except (OSError, ValueError, NotHanded):
            return {}
        steady, now_ns = time.monotonic(), time.time_ns()
        return {each: steady + (each.until_ns - now_ns) / 1e9 for each in opened if each.until_ns > now_ns}

    def _keep(self, table: Ruleset) -> None:
        if self._good != table:
            self._good = table
            self._kept.write(GOOD_TEXT, table.text().encode())
            self._kept.write(GOOD_TABLE, json.dumps(to_json(table)).encode())


def _there_is_one() -> bool:
    """Raises NftFault."""
    try:
        return read(nft.listing()).ours is not None
    except NotUnderstood:
        return True


def state_directory(named: Path | None) -> Path:
    """Where systemd says (STATE_DIRECTORY), unless it is named."""
    return named or Path(os.environ.get("STATE_DIRECTORY") or STATE_DIRECTORY)
