"""Which promises of the site file are about a flow, and which of them hold only because of it? Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from leadglass.policy.flows import zones_of
from leadglass.policy.proof import holds
from leadglass.site.model import ARCHIVE, Flow, Origin, Site, Test


@dataclass(frozen=True, slots=True)
class Promise:
    """One expression of a test. `accepted`: that it is allowed. `by_it`: without the flow it would not hold."""

    origin: Origin
    who: str
    accepted: bool
    expression: str
    why: str
    by_it: bool


def promises(site: Site, flow: Flow) -> tuple[Promise, ...]:
    """Those about one of the flow's sources and one of its targets, by the order of the file."""
    without = replace(site, flows=tuple(each for each in site.flows if each.id != flow.id))
    found = []
    for test, accepted, expression in _about(site, flow):
        alone = replace(test, accept=(expression,), deny=())
        by_it = accepted and holds(site, alone) and not holds(without, alone)
        found.append(Promise(test.origin, test.who, accepted, expression, test.why, by_it))
    return tuple(found)


def _about(site: Site, flow: Flow) -> Iterator[tuple[Test, bool, str]]:
    for test in site.tests:
        if _meets(site, test.who, flow.sources):
            for accepted, expressions in ((True, test.accept), (False, test.deny)):
                for expression in expressions:
                    target = expression.partition(":")[0]
                    if target == "*" or _meets(site, target, flow.targets):
                        yield test, accepted, expression


def _meets(site: Site, name: str, names: tuple[str, ...]) -> bool:
    """Does a name stand for anybody for whom one of the others does?"""
    for other in names:
        if other == name:
            return True
        if ARCHIVE in (name, other) or (name in site.devices and other in site.devices):
            continue
        if zones_of(site, name) & zones_of(site, other):
            return True
    return False
