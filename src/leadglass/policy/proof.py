"""Does the site file keep its own promises? Its tests against the compiled decision, its never rules through every chain of pivots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from leadglass.policy.decide import by_flows
from leadglass.policy.differences import (
    differences as differences,
)  # asked with `prove`: does it hold, what does it change?
from leadglass.policy.flows import compiled, zones_of
from leadglass.policy.on_demand import at_most
from leadglass.policy.reach import Graph, chains, graph_of, holding, nodes, step
from leadglass.site.model import ARCHIVE, Never, Origin, Site, Test
from leadglass.terms import (
    Action,
    Commitment,
    Containment,
    Device,
    Echo,
    Level,
    Offer,
    Peer,
    Proposal,
    Query,
    Refused,
    Request,
    Retrieval,
    Root,
    Subject,
)
from leadglass.wire.uids import IMPLICIT_VR_LITTLE_ENDIAN, storage_class_of, storage_classes

UNCOVERED_TOLD_MAX = 50


@dataclass(frozen=True, slots=True)
class Failure:
    """A promise that does not hold."""

    origin: Origin
    what: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.what}"


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was got, and the rule that gave or refused it."""

    allowed: bool
    by: str


def prove(site: Site) -> tuple[Failure, ...]:
    """Every failing promise; empty where the site may serve. An ordered zone pair that no test covers fails only a site that has tests."""
    return (*_tests(site), *_nevers(site), *_uncovered(site))


def holds(site: Site, test: Test) -> bool:
    """One test by itself, whether it stands in the site file or not."""
    return not any(_tests(replace(site, tests=(test,))))


# ---- tests


def _tests(site: Site) -> Iterator[Failure]:
    for test in site.tests:
        for expected, expressions in ((True, test.accept), (False, test.deny)):
            for expression in expressions:
                target, _, wanted = expression.partition(":")
                for each in _targets(site, test.who) if target == "*" else [target]:
                    told = _at_doors(site, test, wanted, expected) if each == ARCHIVE else None
                    yield from told if told is not None else _on_network(site, test, each, wanted, expected)


def _targets(site: Site, who: str) -> list[str]:
    """What `*` stands for: every zone but one's own, and archive."""
    return [*sorted(site.zones.keys() - zones_of(site, who)), ARCHIVE]


def _at_doors(site: Site, test: Test, wanted: str, expected: bool) -> Iterator[Failure] | None:
    """None where the words are a service's, which the network answers."""
    word, _, about = wanted.partition(" ")
    if word in site.services:
        return None
    return _decided(site, test, word, about, expected)


def _decided(site: Site, test: Test, word: str, about: str, expected: bool) -> Iterator[Failure]:
    if word != "*" and word not in set(Action):
        known = "archive:ACTION, archive:store CLASS, archive:move AE_TITLE, archive:SERVICE or archive:*"
        yield Failure(test.origin, f"{test.who} {ARCHIVE}:{word!r} is not understood: {known}")
        return
    actions = list(Action) if word == "*" else [Action(word)]
    whole, who = _sources(site, test.who, expected)
    for device in who:
        for action in actions:
            answer = _asked(whole, device, action, about)
            if answer is None:
                yield Failure(test.origin, f"{test.who} {ARCHIVE}:{action} {about!r} is not understood: no SOP class")
            elif answer.allowed != expected:
                what = f"{ARCHIVE}:{action}" + (f" {about}" if about else "")
                yield _failed(test, device.name, what, answer)


def _sources(site: Site, who: str, expected: bool) -> tuple[Site, list[Device]]:
    """A test of a zone is about each device in it, and about whoever else is or will be there: a device that no flow names."""
    if who in site.devices:
        return site, [site.devices[who]]
    inside = [device for device in site.devices.values() if device.zone == who]
    if expected and inside:
        return site, inside
    anyone = Device(f"anyone in {who}", who, site.zones[who].networks[:1], (), ())
    return replace(site, devices={**site.devices, anyone.name: anyone}), [*inside, anyone]


def _failed(test: Test, who: str, what: str, answer: _Answer) -> Failure:
    wanted, got = ("DENIED", "ALLOWED") if answer.allowed else ("ALLOWED", "DENIED")
    why = f" ({test.why})" if test.why else ""
    return Failure(test.origin, f"{who} {what}: expected {wanted}, got {got} by {answer.by}{why}")


def _asked(site: Site, device: Device, action: Action, about: str) -> _Answer | None:
    """The decision, for whatever the words leave open: allowed where any such request is. None where the words say nothing."""
    title = device.ae_titles[0] if device.ae_titles else ""
    proposal = Proposal(title, site.doors.dimse.ae_title)
    peer = Peer(str(device.networks[0].network_address), 0, "dimse", opened=at_most(site))
    subject = Subject(device, peer, proposal, "")
    titles = [about] if action is Action.MOVE and about in compiled(site).by_ae_title else []
    uid = storage_class_of(about) or (about if about in site.doors.dimse.private_sop_classes else None)
    if about and uid is None and not titles:
        return None
    answer = _Answer(False, "default")
    for request in _requests(site, subject, action, uid, titles):
        try:
            permit = by_flows(site, Containment(), subject, request, somebody=True)  # what it could get at most
        except Refused as refusal:
            answer = replace(answer, by=refusal.rule or answer.by)
        else:
            if uid is None or permit.sop_classes is None or uid in permit.sop_classes:
                return _Answer(True, permit.rule)
    return answer


def _requests(site: Site, subject: Subject, action: Action, uid: str | None, titles: list[str]) -> Iterator[Request]:
    match action:
        case Action.ECHO:
            yield Echo(subject)
        case Action.STORE:
            stores = any(Action.STORE in grant.actions for grant in compiled(site).at_most(subject.device.name))
            anything = (
                [*storage_classes(), *site.doors.dimse.private_sop_classes] if stores else [*storage_classes()][:1]
            )
            for each in [uid] if uid else anything:
                yield Offer(subject, each, "1.2.3", IMPLICIT_VR_LITTLE_ENDIAN)
        case Action.FIND:
            yield Query(subject, Root.STUDY, Level.STUDY, {})
        case Action.GET:
            yield Retrieval(subject, Root.STUDY, Level.STUDY, {})
        case Action.MOVE:
            for title in titles or compiled(site).by_ae_title:
                yield Retrieval(subject, Root.STUDY, Level.STUDY, {}, title)
        case Action.COMMIT:
            yield Commitment(subject, "1.2.3", ())


def _on_network(site: Site, test: Test, target: str, wanted: str, expected: bool) -> Iterator[Failure]:
    """What the kernel would let through: service, from, to. Who shares a zone that is not isolated is let through by nobody."""
    if wanted != "*" and wanted not in site.services:
        yield Failure(test.origin, f"{test.who} {target}:{wanted!r} is not understood: a service, or *")
        return
    inside = [] if test.who in site.devices else [each.name for each in site.devices.values() if each.zone == test.who]
    whole, each = _through(site, test.who, target, wanted), [_through(site, one, target, wanted) for one in inside]
    by = whole or ((each[0] if each and all(each) else "") if expected else next(filter(None, each), ""))
    if bool(by) != expected:
        yield _failed(test, test.who, f"{target}:{wanted}", _Answer(bool(by), by or "default"))


def _through(site: Site, who: str, target: str, service: str) -> str:
    """The flow, or the shared zone, that lets a device or a whole zone through; "" where none does."""
    for flow in site.flows:
        if service in ("*", flow.service) and step(site, flow, who, target):
            return flow.id
    shared = [zone for zone in sorted(zones_of(site, who) & zones_of(site, target)) if not site.zones[zone].isolated]
    return f"zone {shared[0]}, which is not isolated" if shared else ""


# ---- never


def _nevers(site: Site) -> Iterator[Failure]:
    graph = graph_of(site)
    for rule in site.never:
        yield from _never(graph, rule)


def _never(graph: Graph, rule: Never) -> Iterator[Failure]:
    """Whoever holds one member of a zone can go on from there: reachability over all flows, with a shortest way as witness."""
    site = graph.site
    sources, targets = nodes(site, rule.sources), holding(site, rule.targets)
    for one in rule.sources:
        for other in rule.targets:
            if (
                one in site.devices
                and other in site.devices
                and one != other
                and nodes(site, [one]) & nodes(site, [other])
            ):
                zone = site.devices[one].zone
                yield Failure(rule.origin, f"never is broken: {one} and {other} share {zone}, which is not isolated")
    for way in chains(graph, sources, targets - sources):
        told = " ".join(f"-[{word}]->" if number % 2 else word for number, word in enumerate(way))
        yield Failure(rule.origin, f"never is broken: {told}")


# ---- coverage


def _uncovered(site: Site) -> Iterator[Failure]:
    """A site that promises something says it for every ordered pair of zones, so that a forgotten one shows."""
    if not site.tests:
        return
    covered = {(source, target) for test in site.tests for source, target in _covers(site, test)}
    pairs = [(source, target) for source in sorted(site.zones) for target in sorted({*site.zones, ARCHIVE} - {source})]
    missing = [pair for pair in pairs if pair not in covered]
    for source, target in missing[:UNCOVERED_TOLD_MAX]:
        what = f'no test says what {source} may reach in {target}: add one (who = "{source}", deny = ["{target}:*"])'
        yield Failure(site.tests[-1].origin, what)
    if more := missing[UNCOVERED_TOLD_MAX:]:
        yield Failure(site.tests[-1].origin, f"and {len(more)} more pairs of zones that no test covers")


def _covers(site: Site, test: Test) -> Iterator[tuple[str, str]]:
    for source in zones_of(site, test.who):
        for expression in (*test.accept, *test.deny):
            target = expression.partition(":")[0]
            for each in _targets(site, test.who) if target == "*" else [target]:
                for zone in {ARCHIVE} if each == ARCHIVE else zones_of(site, each):
                    yield source, zone
