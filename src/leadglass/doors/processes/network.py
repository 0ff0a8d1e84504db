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
from leadglass.policy.firewall.compile import ruleset
from leadglass.policy.firewall.handed import Wanted, digest, wanted_to_json
from leadglass.policy.firewall.openings import openings
from leadglass.policy.firewall.ruleset import Ruleset
from leadglass.policy.firewall.succession import Opened
from leadglass.policy.on_demand import OpenFlow, open_flows
from leadglass.site import network
from leadglass.site.model import Site
from leadglass.terms import Act, Detection, EventKind, NotChanged, Severity
from leadglass.watch.network import SILENT_SECONDS, Drop, DropWatch

REPORTED_DROPS_MAX = 2000  # rows of one report; whoever tells more is not who we think
REPORTED_FOREIGN_MAX = 50
WORDS_CHARACTERS_MAX = 1000
_TOLD = ("digest", "site", "refused", "refused_site", "drift", "deaf")
_CHAINS = ("input", "output", "forward")

Row = Mapping[str, Any]


class Network:
    """Thread-safe: commands ask and report, the keeper's own thread takes what was found."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._lock = threading.Lock()
        self._compiled: tuple[tuple[int, str], Ruleset, str] | None = None
        self._found: list[Detection] = []
        self._drops = DropWatch()
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
        told, now_ns = network.read(house.site_dir), time.time_ns()
        asked = house.people.access.approved(Act.FLOW_OPEN, now_ns)
        people = {each.id: each for each in house.people.every()} if asked else {}
        approved = open_flows(site, asked, people, now_ns)
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
            drops = [_drop(row) for row in report.get("drops", ())[:REPORTED_DROPS_MAX]]
            state: dict[str, object] = {name: _words(report.get(name, "")) for name in _TOLD}
            state["unconfirmed_seconds"] = int(report.get("unconfirmed_seconds", 0))
            state["foreign"] = [_words(each) for each in report.get("foreign", ())[:REPORTED_FOREIGN_MAX]]
            lost = int(report.get("lost", 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotChanged(f"that is no report of a table: {error!r}") from error
        with self._lock:
            self._heard, self._told_silent = time.monotonic(), False
            before, self._state = self._state, state
            self._found += _changed(before, state)
            self._found += self._drops.notice(self._house.site(), drops, time.time_ns())
            if lost:
                self._found.append(_lost(lost))

    def notice(self) -> list[Detection]:
        """What was found since the last look."""
        site = self._house.site()
        with self._lock:
            found, self._found = self._found, []
            if not site.filterer or site.firewall is None:
                return found
            found += self._drops.notice(site, (), time.time_ns())
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


def _opened(site: Site, compiled: Ruleset, approved: tuple[OpenFlow, ...]) -> Iterator[Opened]:
    """Elements for the sets of what is open for a time."""
    until = {each.flow: each.until_ns for each in approved}
    there = {each.name for each in compiled.sets}
    opened = openings(site)
    for chain, each in zip(_CHAINS, (opened.input, opened.output, opened.forward), strict=True):
        for one in each:
            name = f"{chain}{one.box.source.version}_on_demand"
            if one.on_demand and one.flow in until and name in there:
                yield Opened(name, one.box, until[one.flow])


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


def _drop(row: Row) -> Drop:
    source, target, port = ip_address(str(row["source"])), ip_address(str(row["target"])), int(row["port"])
    if not 0 <= port < 65536 or int(row["count"]) < 1:
        raise ValueError("no port, or no count")
    return Drop(_words(row["why"])[:32], source, target, _words(row["protocol"])[:32], port, int(row["count"]))


def _words(of: object) -> str:
    if not isinstance(of, str):
        raise TypeError(f"{of!r} is no text")
    return of[:WORDS_CHARACTERS_MAX]
