"""What did nobody use, and how would the site file read without it? Evidence gathered from the site, a draft of its files, and the draft's proof."""

from __future__ import annotations

import difflib
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from leadglass.audit.usage import DAY_NS, LOST, PACKETS, PEOPLE, Usage
from leadglass.doors.audit_rows import moment
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.command.reaching import ways
from leadglass.doors.house import House
from leadglass.policy.firewall.words import gains_and_losses
from leadglass.policy.on_demand import flows_of
from leadglass.policy.proof import differences, prove
from leadglass.policy.refusals import wanted
from leadglass.policy.tighten import Evidence, Finding, Tightened, tighten
from leadglass.site.draft import Edit, draft, edited
from leadglass.site.load import load_from
from leadglass.site.model import Site
from leadglass.site.since import since
from leadglass.site.write import proven_directory, texts
from leadglass.terms import Act, Role

DAYS_MAX = 730
CONTEXT_LINES = 3

Row = Mapping[str, Any]


def tightened(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """The question `tighten`: what the evidence is, what it says, what would be lost, the draft; then what was refused. Raises Stopped."""
    days = int(arguments["days"])
    if not 1 <= days <= DAYS_MAX:
        raise Stopped(Exit.USAGE, f"{days} days cannot be looked back on", hint=f"--days 1 to {DAYS_MAX}")
    now_ns, site = time.time_ns(), house.site()
    from_ns = now_ns - days * DAY_NS
    usage = _usage(house, from_ns)
    evidence = _evidence(house, site, usage, from_ns, now_ns)
    yield from _sources(site, usage, evidence, days, from_ns, now_ns)
    found = tighten(site, evidence)
    files = texts(proven_directory(house.site_dir))
    edits = found.edits
    after, by_hand = draft(files, site, edits)
    new = _loaded(house.site_dir, after)
    _same(new, edited(site, [each for each in edits if each not in by_hand]))
    yield from (_finding(each, by_hand) for each in found.findings)
    yield from ({"unknown": each.part, "name": each.name, "why": each.why} for each in found.unknown)
    yield from _lost(site, new)
    for name in sorted(after):
        if after[name] != files[name]:
            content = {"content": after[name]} if arguments.get("contents") else {}
            yield {"file": name, "diff": _diff(name, files[name], after[name]), **content}
    refused = list(_refused(house, site, usage))
    yield from refused
    yield _summary(found, by_hand, len(refused), not prove(new), days)


def _usage(house: House, from_ns: int) -> Usage:
    with closing(house.search()) as search:
        search.catch_up(house.journal)
        return search.usage(from_ns)


def _evidence(house: House, site: Site, usage: Usage, from_ns: int, now_ns: int) -> Evidence:
    rights: dict[str, dict[str, set[tuple[str, str]]]] = defaultdict(lambda: defaultdict(set))
    for each in usage.used:
        if each.who:
            rights[each.rule][each.who].add((each.action, each.what))
    opened = {
        flow
        for request in house.people.access.requests()
        if request.act == Act.FLOW_OPEN and request.from_ns < now_ns and request.until_ns > from_ns
        if any(word.decision == "approved" for word in request.decisions)
        for flow in flows_of(request)
    }
    return Evidence(
        from_ns=from_ns,
        journal_ns=usage.first_ns,
        since=since(house.site_dir),
        rights=rights,
        addresses={each.what for each in usage.used if each.action == PEOPLE},
        machines=any(Role.SERVICE_ACCOUNT in each.roles for each in house.people.every()),
        packets={each.rule for each in usage.used if each.action == PACKETS},
        watched=usage.watched >= set(_days(from_ns, now_ns)),
        opened=opened,
    )


def _days(from_ns: int, now_ns: int) -> range:
    return range(from_ns // DAY_NS, now_ns // DAY_NS + 1)


def _sources(site: Site, usage: Usage, evidence: Evidence, days: int, from_ns: int, now_ns: int) -> Iterator[Row]:
    """How far back each of those who could have seen something reaches, and what they cannot have seen."""
    began = usage.first_ns
    reaches = 0 < began <= from_ns
    lost = sum(each.times for each in usage.used if each.action == LOST)
    yield {"evidence": "journal", "since": moment(began) if began else "", "days": days, "reaches": reaches, "tails_lost": lost}  # fmt: skip
    watched = len(usage.watched & set(_days(from_ns, now_ns)))
    told = bool(site.filterer) and site.firewall is not None
    yield {"evidence": "kernel", "reported": told, "days": days, "days_heard": watched, "reaches": evidence.watched}


def _finding(each: Finding, by_hand: tuple[Edit, ...]) -> Row:
    left = each.edit is not None and each.edit in by_hand
    return {
        "finding": each.part,
        "name": each.name,
        "unused": list(each.unused),
        "drafted": each.edit is not None and not left,
        "kept": "it is written in a way that is left to a person" if left else each.kept,
    }


def _lost(site: Site, new: Site) -> Iterator[Row]:
    """Who would lose what, as `leadglass check` and `zones diff` say it."""
    yield from ({"change": line} for line in differences(site, new))
    if site.firewall is not None:
        yield from ({"packets": line} for line in gains_and_losses(site, new))
    for row, told in ways(site, new):
        yield {**row, "told": told}


def _diff(name: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), name, f"{name} (draft)", lineterm="", n=CONTEXT_LINES
    )
    return "\n".join(lines)


def _loaded(site_dir: Path, files: Mapping[str, str]) -> Site:
    """The draft, read as any site file is. Raises SiteInvalid."""
    with tempfile.TemporaryDirectory(prefix="leadglass-draft-") as place:
        write_files(Path(place), files)
        return load_from(Path(place), site_dir)


def write_files(place: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content, encoding="utf-8")


def _same(new: Site, meant: Site) -> None:
    """What the draft's text says is what was proven."""
    said = [(each.flows, each.devices, each.services) for each in (new, meant)]
    if said[0] != said[1]:
        raise Stopped(Exit.FAILED, "the draft does not say what was meant, and is not shown", hint="report this")


def _refused(house: House, site: Site, usage: Usage) -> Iterator[Row]:
    people = {f"person:{each.name}": each.roles for each in house.people.every()}
    for each in wanted(site, usage.denied, people):
        flow = {"flow": dict(each.flow)} if each.flow is not None else {}
        yield {
            "refused": list(each.asked),
            "times": each.times,
            "last": moment(each.last_ns),
            "would": each.would,
            **flow,
        }


def _summary(found: Tightened, by_hand: tuple[Edit, ...], refused: int, proven: bool, days: int) -> Row:
    return {
        "days": days,
        "findings": len(found.findings),
        "drafted": len(found.edits) - len(by_hand),
        "not_known": len(found.unknown),
        "refusals": refused,
        "proven": proven,
        "applied": False,
    }
