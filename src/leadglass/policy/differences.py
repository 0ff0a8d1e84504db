"""Who gains and who loses what when this site file acts instead of that one? In words, for whoever is about to apply it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace

from leadglass.policy.flows import Grant, compiled
from leadglass.site.model import DirectorySettings, Flow, ProviderSettings, SessionLimits, Site
from leadglass.terms import Action, Device
from leadglass.wire.uids import keyword_of_class

_ALL = "every SOP class"
_Sources = Mapping[str, ProviderSettings] | Mapping[str, DirectorySettings]


def differences(old: Site, new: Site) -> Iterator[str]:
    """`+` gains, `-` losses, `~` anything else that changes; nothing where both say the same."""
    for name in sorted({*old.devices, *new.devices}):
        yield from _device(old.devices.get(name), new.devices.get(name))
        before, after = _rights(old, name), _rights(new, name)
        yield from (f"+ {name} may {right}" for right in sorted(_beyond(after, before)))
        yield from (f"- {name} may no longer {right}" for right in sorted(_beyond(before, after)))
    yield from _listed("flow", map(_route, old.flows), map(_route, new.flows))
    yield from _listed("operator", old.operators, new.operators)
    yield from _listed("service", _services(old), _services(new))
    yield from _listed("enroller", filter(None, [old.enroller]), filter(None, [new.enroller]))
    yield from _listed("who loads the kernel's table:", filter(None, [old.filterer]), filter(None, [new.filterer]))
    yield from _listed("kernel", _firewall(old), _firewall(new))
    yield from _listed("zone", _zones(old), _zones(new))
    yield from _promises(old, new)
    yield from _sources(old, new)
    for key in fields(SessionLimits):
        if (now := getattr(new.sessions, key.name)) != (was := getattr(old.sessions, key.name)):
            yield f"~ sessions.{key.name} changes from {was} to {now}"
    if old.doors != new.doors:
        yield "~ doors change at the next start"
    if old.notices != new.notices:
        yield "~ who is told of alarms changes at the next start"
    if old.limits != new.limits:
        yield "~ limits change at the next start"
    for part in ("name", "loopback", "objects", "index", "key"):
        if (now := getattr(new, part)) != (was := getattr(old, part)):
            yield f"~ {part} changes from {was} to {now} at the next start"


def _device(old: Device | None, new: Device | None) -> Iterator[str]:
    if old is None or new is None:
        if old is not None:
            yield f"- {old.name} is no device of this site any more"
        if new is not None:
            yield f"+ {new.name} is a device of zone {new.zone}, from {_said(new.networks)}"
        return
    if old.enabled != new.enabled:
        yield f"+ {new.name} is let in again" if new.enabled else f"- {new.name} is kept out"
    for what, was, now in (
        ("is let in with the certificate", old.certificates, new.certificates),
        ("may call itself", old.ae_titles, new.ae_titles),
        ("may come from", tuple(map(str, old.networks)), tuple(map(str, new.networks))),
    ):
        yield from (f"+ {new.name} {what} {each}" for each in sorted(set(now) - set(was)))
        yield from (f"- {new.name} {what} {each} no longer" for each in sorted(set(was) - set(now)))
    if old.address != new.address:
        yield f"~ {new.name} is sent to at {new.address or 'no address'} instead of {old.address or 'none'}"
    if old.zone != new.zone:
        yield f"~ {new.name} moves from zone {old.zone} to {new.zone}"


_Rights = frozenset[tuple[Action, str, str, str]]  # action, SOP class, destination, condition


def _rights(site: Site, name: str) -> _Rights:
    device = site.devices.get(name)
    if device is None or not device.enabled:
        return frozenset()
    return frozenset(right for grant in compiled(site).grants[name] for right in _of(grant))


def _of(grant: Grant) -> Iterator[tuple[Action, str, str, str]]:
    condition = " with somebody proven to sit there" if grant.require_user_identity else ""
    for action in grant.actions:
        ends = sorted(grant.destinations) if action is Action.MOVE and grant.destinations is not None else [""]
        for sop_class in sorted(grant.sop_classes) if grant.sop_classes is not None else [_ALL]:
            yield from ((action, sop_class, end, condition) for end in ends)


def _beyond(rights: _Rights, others: _Rights) -> set[str]:
    """What the first holds and the second does not already, in words: who has every SOP class gains nothing with one of them."""
    return {_right(each) for each in rights if not any(other in others for other in _wider(each))}


def _wider(right: tuple[Action, str, str, str]) -> Iterator[tuple[Action, str, str, str]]:
    action, sop_class, end, condition = right
    for each in {sop_class, _ALL}:
        for where in {end, ""}:
            yield from ((action, each, where, said) for said in {condition, ""})


def _right(right: tuple[Action, str, str, str]) -> str:
    action, sop_class, end, condition = right
    what = "" if sop_class == _ALL else f" {keyword_of_class(sop_class)}"
    return f"{action}{what}{f' to {end}' if end else ''}{condition}"


def _route(flow: Flow) -> str:
    """What the kernel sees of a flow; what the doors see is told for each device."""
    on_demand = ""
    if flow.on_demand is not None:
        on_demand = f", on demand of {flow.on_demand.approve} for {flow.on_demand.max_seconds // 60} minutes"
    return f"{flow.id}: {_said(flow.sources)} to {_said(flow.targets)} by {flow.service} ({flow.auth}{on_demand})"


def _services(site: Site) -> Iterator[str]:
    yield from (f"{each.name}: {each.protocol}/{each.port}" for each in site.services.values())


def _firewall(site: Site) -> Iterator[str]:
    if site.firewall is not None:
        yield from (f"address {each} of archive" for each in site.firewall.addresses)
        yield f"waits {site.firewall.confirm_seconds} s to be confirmed"
        if site.firewall.forwards:
            yield "routes between the zones"


def _zones(site: Site) -> Iterator[str]:
    for zone in site.zones.values():
        isolated = ", isolated" if zone.isolated else ""
        tags = "".join(f" #{tag}" for tag in sorted(zone.tags))
        yield f"{zone.name}: {_said(zone.networks)}{tags}{isolated}"


def _promises(old: Site, new: Site) -> Iterator[str]:
    """A promise that is taken back no longer protects anybody."""
    yield from _listed(
        "never",
        (_pair(each.sources, each.targets) for each in old.never),
        (_pair(each.sources, each.targets) for each in new.never),
    )
    was = {(test.who, said, each) for test in old.tests for said, each in _said_by(test.accept, test.deny)}
    now = {(test.who, said, each) for test in new.tests for said, each in _said_by(test.accept, test.deny)}
    yield from (f"- no test holds that {who} {said} {each}" for who, said, each in sorted(was - now))


def _said_by(accept: Iterable[str], deny: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from (("may", each) for each in accept)
    yield from (("may not", each) for each in deny)


def _sources(old: Site, new: Site) -> Iterator[str]:
    """Who else vouches for people, and for which roles."""
    yield from _listed("role", _vouched(old), _vouched(new))
    kinds: tuple[tuple[str, _Sources, _Sources], ...] = (
        ("provider", old.providers, new.providers),
        ("directory", old.directories, new.directories),
    )
    for kind, was, now in kinds:
        for name in sorted(set(was) & set(now)):
            if replace(was[name], roles={}) != replace(now[name], roles={}):
                yield f"~ {kind} {name} changes"


def _vouched(site: Site) -> Iterator[str]:
    for kind, sources in (("provider", site.providers), ("directory", site.directories)):
        for name, source in sources.items():
            yield from (f"{role} for {group} of {kind} {name}" for group, role in source.roles.items())


def _pair(sources: Iterable[str], targets: Iterable[str]) -> str:
    return f"{_said(sources)} to {_said(targets)}"


def _listed(noun: str, old: Iterable[str], new: Iterable[str]) -> Iterator[str]:
    was, now = set(old), set(new)
    yield from (f"+ {noun} {each}" for each in sorted(now - was))
    yield from (f"- {noun} {each}" for each in sorted(was - now))


def _said(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))
