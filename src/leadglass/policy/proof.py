"""Does the site file keep its own promises? Its tests against the compiled decision, its never rules through every chain of pivots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from leadglass.policy.decide import decide
from leadglass.policy.flows import compiled, flow_ends, zones_of
from leadglass.site.model import ARCHIVE, Flow, Never, Origin, Site, Test
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
from leadglass.wire.uids import IMPLICIT_VR_LITTLE_ENDIAN, keyword_of_class, storage_class_of, storage_classes


@dataclass(frozen=True, slots=True)
class Failure:
    """A promise that does not hold."""

    origin: Origin
    what: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.what}"


def prove(site: Site) -> tuple[Failure, ...]:
    """Every failing promise; empty where the site may serve. An ordered zone pair that no test covers fails only a site that has tests."""
    return (*_tests(site), *_nevers(site), *_uncovered(site))


# ---- tests


def _tests(site: Site) -> Iterator[Failure]:
    for test in site.tests:
        for expression in test.accept:
            yield from _hold(site, test, expression, expected=True)
        for expression in test.deny:
            yield from _hold(site, test, expression, expected=False)


def _hold(site: Site, test: Test, expression: str, *, expected: bool) -> Iterator[Failure]:
    target, _, wanted = expression.partition(":")
    devices = [site.devices[test.who]] if test.who in site.devices else [
        device for device in site.devices.values() if device.zone == test.who
    ]  # fmt: skip
    if target == ARCHIVE and wanted:
        for device in devices:
            for word in _words(wanted):
                got = _allowed(site, device, word)
                if got is None:
                    yield Failure(
                        test.origin, f"{expression!r} is not understood: archive:ACTION or archive:store CLASS"
                    )
                elif got != expected:
                    yield _failed(test, device.name, f"archive:{word}", expected=expected)
        return
    zones = zones_of(site, target)
    if not zones:
        yield Failure(test.origin, f"{expression!r} names no zone or device")
        return
    sources = {device.zone for device in devices} or zones_of(site, test.who)
    reached = any(
        sources & flow_ends(site, flow)[0] and zones & flow_ends(site, flow)[1] and wanted in ("*", flow.service)
        for flow in site.flows
    )
    if reached != expected:
        yield _failed(test, test.who, expression, expected=expected)


def _words(wanted: str) -> tuple[str, ...]:
    return tuple(str(action) for action in Action) if wanted == "*" else (wanted,)


def _failed(test: Test, who: str, what: str, *, expected: bool) -> Failure:
    told = ("ALLOWED", "DENIED") if expected else ("DENIED", "ALLOWED")
    return Failure(test.origin, f"{who} {what}: expected {told[0]}, got {told[1]} ({test.why})")


def _allowed(site: Site, device: Device, word: str) -> bool | None:
    name, _, sop_class = word.partition(" ")
    try:
        action = Action(name)
    except ValueError:
        return None
    peer = Peer(str(device.networks[0].network_address) if device.networks else "", 0, "dimse")
    subject = Subject(
        device, peer, Proposal(device.ae_titles[0] if device.ae_titles else "", site.doors.dimse.ae_title), ""
    )
    requests = list(_requests(site, subject, action, sop_class))
    if not requests:
        return None
    return any(_permits(site, subject, request) for request in requests)


def _permits(site: Site, subject: Subject, request: Request) -> bool:
    try:
        decide(site, Containment(), subject, request)
    except Refused:
        return False
    return True


def _requests(site: Site, subject: Subject, action: Action, sop_class: str) -> Iterator[Request]:
    match action:
        case Action.ECHO:
            yield Echo(subject)
        case Action.STORE:
            uid = storage_class_of(sop_class) if sop_class else None
            for each in [uid] if uid else ([] if sop_class else storage_classes()):
                yield Offer(subject, each, "1.2.3", IMPLICIT_VR_LITTLE_ENDIAN)
        case Action.FIND:
            yield Query(subject, Root.STUDY, Level.STUDY, {})
        case Action.GET:
            yield Retrieval(subject, Root.STUDY, Level.STUDY, {})
        case Action.MOVE:
            for title in compiled(site).by_ae_title:
                yield Retrieval(subject, Root.STUDY, Level.STUDY, {}, title)
            yield Retrieval(subject, Root.STUDY, Level.STUDY, {}, "NOBODY")
        case Action.COMMIT:
            yield Commitment(subject, "1.2.3", ())


# ---- never


def _nevers(site: Site) -> Iterator[Failure]:
    edges = [
        (source, target, flow)
        for flow in site.flows
        for source in flow_ends(site, flow)[0]
        for target in flow_ends(site, flow)[1]
    ]
    for rule in site.never:
        yield from _never(site, rule, edges)


def _never(site: Site, rule: Never, edges: list[tuple[str, str, Flow]]) -> Iterator[Failure]:
    """Whoever holds one member of a zone can go on from there: reachability over all flows, with a witness path."""
    sources = {zone for name in rule.sources for zone in (zones_of(site, name) or {name})}
    targets = {zone for name in rule.targets for zone in ({ARCHIVE} if name == ARCHIVE else zones_of(site, name))}
    came: dict[str, tuple[str, Flow] | None] = dict.fromkeys(sources)
    queue = list(sources)
    while queue:
        here = queue.pop(0)
        for source, target, flow in edges:
            if source == here and target not in came:
                came[target] = (here, flow)
                queue.append(target)
    for hit in sorted((targets & set(came)) - sources):
        steps, at = [hit], hit
        while (step := came[at]) is not None:
            at = step[0]
            steps.append(f"{at} -[{step[1].id}]->")
        yield Failure(rule.origin, f"never is broken: {' '.join(reversed(steps))}")


# ---- coverage


def _uncovered(site: Site) -> Iterator[Failure]:
    if not site.tests:
        return
    covered = {(source, target) for test in site.tests for source, target in _covers(site, test)}
    for source in sorted(site.zones):
        for target in sorted({*site.zones, ARCHIVE} - {source}):
            if (source, target) not in covered:
                origin = site.tests[0].origin
                yield Failure(
                    origin, f'no test says what {source} may reach in {target}: add one (deny = ["{target}:*"])'
                )


def _covers(site: Site, test: Test) -> Iterator[tuple[str, str]]:
    for source in zones_of(site, test.who):
        for expression in (*test.accept, *test.deny):
            target = expression.partition(":")[0]
            for zone in {ARCHIVE} if target == ARCHIVE else zones_of(site, target):
                yield source, zone


# ---- who gains and loses what


def differences(old: Site, new: Site) -> Iterator[str]:
    """In words: each device with what it may now, and what no longer."""
    for name in sorted({*old.devices, *new.devices}):
        before, after = _rights(old, name), _rights(new, name)
        for right in sorted(after - before):
            yield f"+ {name} may {right}"
        for right in sorted(before - after):
            yield f"- {name} may no longer {right}"
    if old.doors != new.doors:
        yield "~ doors change at the next start"
    if old.limits != new.limits:
        yield "~ limits change at the next start"


def _rights(site: Site, name: str) -> set[str]:
    rights = set()
    for grant in compiled(site).grants.get(name, ()):
        for action in grant.actions:
            if grant.sop_classes is None:
                rights.add(str(action))
            else:
                rights |= {f"{action} {keyword_of_class(uid)}" for uid in grant.sop_classes}
    return rights
