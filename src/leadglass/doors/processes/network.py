"""What does the keeper say to whoever loads the kernel's table, and what does it hear from them?

The table is compiled here, from the site file that serves and what is contained; there it becomes the kernel's, and what the kernel drops comes
back as detections.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from leadglass.doors.house import House
from leadglass.doors.processes.traffic import Traffic
from leadglass.policy.firewall.compile import ruleset
from leadglass.policy.firewall.handed import Wanted, digest, wanted_to_json
from leadglass.policy.firewall.openings import openings
from leadglass.policy.firewall.ruleset import Ruleset
from leadglass.policy.firewall.succession import Opened
from leadglass.site import network
from leadglass.site.model import Site
from leadglass.terms import Detection, EventKind, NotChanged, OpenFlow, Severity
from leadglass.watch.network import MINUTE_NS, SILENT_SECONDS, Drop, DropWatch
from leadglass.watch.passed import PassWatch

REPORTED_ROWS_MAX = 2000  # of one sort in one report; whoever tells more is not who we think
REPORTED_FOREIGN_MAX = 50
WORDS_CHARACTERS_MAX = 1000
_TOLD = ("digest", "site", "refused", "refused_site", "drift", "deaf", "unkept")
_CHAINS = ("input", "output", "forward")

Row = Mapping[str, Any]


class Network:
    """Thread-safe: commands ask and report, the keeper's own thread takes what was found."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._lock = threading.Lock()
        self._compiled: tuple[tuple[int, str], Ruleset, str] | None = None
        self._found: list[Detection] = []
        self._drops, self._passes = DropWatch(), PassWatch()
        self._traffic = Traffic()
        self._lost, self._unrecorded, self._lost_told_ns = 0, 0, 0
        self._heard = time.monotonic()
        self._told_silent = False
        self._state: dict[str, object] = {}

    # ---- what is asked

    def table(self, known: str) -> Row:
        """Which table it should be. `known`: the digest of the one that the asker has already; then it is not told again."""
        house = self._house
        site = house.site()
        if site.firewall is None:
            raise NotChanged("the site file does not say which addresses archive has: [firewall] addresses")
        compiled, name = self._compile(site)
        told = network.read(house.site_dir)
        approved = house.present.opened()
        wanted = Wanted(
            table=None if known == name else compiled,
            digest=name,
            site=site.digest,
            confirmed=told.confirmed == site.digest,
            confirm_seconds=site.firewall.confirm_seconds,
            connection=told.connection if told.applied == site.digest else "",
            opened=tuple(_opened(site, compiled, approved)) if approved else (),
        )
        return wanted_to_json(wanted)

    def _compile(self, site: Site) -> tuple[Ruleset, str]:
        containment = self._house.containment()
        key = (containment.generation, site.digest)
        with self._lock:
            if self._compiled is None or self._compiled[0] != key:
                made = ruleset(site, containment=containment)
                self._compiled = (key, made, digest(made))
            return self._compiled[1:]

    # ---- what is told

    def hear(self, report: Row) -> None:
        """Raises NotChanged where it is no report."""
        try:
            drops, passes = (
                [_drop(row) for row in report.get(each, ())[:REPORTED_ROWS_MAX]] for each in ("drops", "passes")
            )
            state: dict[str, object] = {name: _words(report.get(name, "")) for name in _TOLD}
            state["unconfirmed_seconds"] = int(report.get("unconfirmed_seconds", 0))
            state["foreign"] = [_words(each) for each in report.get("foreign", ())[:REPORTED_FOREIGN_MAX]]
            lost, unrecorded = int(report.get("lost", 0)), int(report.get("unrecorded", 0))
            passed = report.get("traffic")
            news = self._pass(state["digest"], passed) if passed else []
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotChanged(f"that is no report of a table: {error!r}") from error
        site, opened, now_ns = self._house.site(), self._house.present.opened(), time.time_ns()
        with self._lock:
            self._heard, self._told_silent = time.monotonic(), False
            before, self._state = self._state, state
            self._lost, self._unrecorded = self._lost + lost, self._unrecorded + unrecorded
            self._found += [*_changed(before, state), *news]
            self._found += self._drops.notice(site, drops, now_ns)
            self._found += self._passes.notice(site, passes, opened, now_ns)
            self._found += self._not_told(opened, now_ns)

    def _pass(self, digest: object, passed: Row) -> list[Detection]:
        with self._lock:
            return self._traffic.hear(self._house.site(), str(digest), passed, time.time_ns())

    def traffic(self) -> Row:
        """What passes the kernel's table, by flow."""
        with self._lock:
            return self._traffic.row()

    def _not_told(self, opened: tuple[OpenFlow, ...], now_ns: int) -> Iterator[Detection]:
        """Once a minute at most: whoever makes the kernel say too much makes no flood of events besides."""
        if 0 <= now_ns - self._lost_told_ns < MINUTE_NS or not (self._lost or self._unrecorded):
            return
        self._lost_told_ns = now_ns
        if self._lost:
            yield _lost(self._lost)
        if self._unrecorded:
            yield _unrecorded(self._unrecorded, opened)
        self._lost = self._unrecorded = 0

    def notice(self, *, last: bool = False) -> list[Detection]:
        """What was found since the last look. `last`: what was to be summed up later, too."""
        site, now_ns = self._house.site(), time.time_ns()
        loads = bool(site.filterer) and site.firewall is not None
        opened = self._house.present.opened() if loads else ()
        with self._lock:
            found, self._found = self._found, []
            if not loads:
                return found
            found += self._drops.notice(site, (), now_ns)
            found += self._passes.rest(site) if last else self._passes.notice(site, (), opened, now_ns)
            found += self._not_told(opened, now_ns)
            if self.silent_seconds() > SILENT_SECONDS and not self._told_silent:
                self._told_silent = True
                found.append(_silent(int(self.silent_seconds())))
            return found

    def silent_seconds(self) -> float:
        return time.monotonic() - self._heard

    def row(self) -> Row:
        """As `leadglass status` shows it."""
        return {**self._state, "heard_seconds_ago": round(self.silent_seconds(), 1)} if self._state else {}

    def amber(self) -> Iterator[str]:
        if not self._house.site().filterer:
            return
        if not self._state or self.silent_seconds() > SILENT_SECONDS:
            yield "who loads the kernel's table is not heard: systemctl status leadglass-firewall"
            return
        if refused := self._state["refused"]:
            yield f"the kernel's table is not the one of the site file: {refused}"
        if seconds := self._state["unconfirmed_seconds"]:
            yield f"the kernel's table is taken back in {seconds} s: `leadglass zones confirm` keeps it"
        if deaf := self._state["deaf"]:
            yield str(deaf)
        if unkept := self._state["unkept"]:
            yield f"the next start of this host would have a former table of the kernel's: {unkept}"


def _opened(site: Site, compiled: Ruleset, approved: tuple[OpenFlow, ...]) -> Iterator[Opened]:
    """Elements for the sets of what is open for a time."""
    open_now = {each.flow: each for each in approved}
    there = {each.name for each in compiled.sets}
    opened = openings(site)
    for chain, each in zip(_CHAINS, (opened.input, opened.output, opened.forward), strict=True):
        for one in each:
            name = f"{chain}{one.box.source.version}_on_demand"
            if one.on_demand and one.flow in open_now and name in there:
                yield Opened(name, one.box, open_now[one.flow].until_ns, open_now[one.flow].record)


def _changed(before: Row, now: Row) -> Iterator[Detection]:
    if now["digest"] and now["digest"] != before.get("digest"):
        details = {"digest": str(now["digest"]), "site": str(now["site"])}
        yield Detection(
            EventKind.NETWORK_LOADED, Severity.NOTICE, "kernel", "the kernel's table was exchanged", details
        )
    if now["refused"] and now["refused"] != before.get("refused"):
        yield Detection(EventKind.NETWORK_REFUSED, Severity.ALARM, "kernel", str(now["refused"]))
    known = before.get("foreign", ())
    for each in now["foreign"]:
        if each not in known:
            yield _joined(str(each))
    if now["drift"]:
        reason = f"the kernel let something else through, and has the right table again: {now['drift']}"
        yield Detection(EventKind.NETWORK_DRIFTED, Severity.ALARM, "kernel", reason)


def _joined(hook: str) -> Detection:
    reason = f"another program's table hangs in the kernel: {hook}"
    return Detection(EventKind.NETWORK_JOINED, Severity.WARNING, "kernel", reason)


def _silent(seconds: int) -> Detection:
    reason = (
        f"who loads the kernel's table was not heard for {seconds} s: the table stays, and learns of no containment"
    )
    return Detection(EventKind.NETWORK_SILENT, Severity.ALARM, "kernel", reason, {"seconds": seconds})


def _lost(count: int) -> Detection:
    reason = f"the kernel dropped more than could be listened to: {count} times some of it was not told"
    return Detection(EventKind.NETWORK_SWEPT, Severity.WARNING, "kernel", reason, {"count": count})


def _unrecorded(count: int, opened: tuple[OpenFlow, ...]) -> Detection:
    """It belongs to whatever is open."""
    reason = (
        f"more connections began by flows on demand than could be listened to: {count} times some of it was not told"
    )
    requests = sorted({request for each in opened if each.record for request in each.requests})
    details: dict[str, str | int] = {"count": count, "source": "many sources"}
    if requests:
        details["on_demand"] = " ".join(requests)
    return Detection(EventKind.NETWORK_PASSED, Severity.ALARM, "kernel", reason, details)


def _drop(row: Row) -> Drop:
    source, target, port = ip_address(str(row["source"])), ip_address(str(row["target"])), int(row["port"])
    if not 0 <= port < 65536 or int(row["count"]) < 1:
        raise ValueError("no port, or no count")
    return Drop(_words(row["why"])[:32], source, target, _words(row["protocol"])[:32], port, int(row["count"]))


def _words(of: object) -> str:
    if not isinstance(of, str):
        raise TypeError(f"{of!r} is no text")
    return of[:WORDS_CHARACTERS_MAX]
