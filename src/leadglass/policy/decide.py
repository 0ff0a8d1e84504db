"""May they? One pure function: a site, a containment state, a subject and what it asks, to a `Permit` with its rule, or a refusal.

Default deny: only a grant permits, grants have no order, and nothing here denies by rule. Every refusal says what an operator would change.
A flow on demand grants while it is open, which is a fact like any other (`peer.opened`): what is always granted is never owed to one.
The questions, in this order:
    (1) is the certificate or the device contained? Where that cannot be read any more: is this an association that stores, and nothing else?
    (2) is it still a device of this site, and let in?
    (3) does a flow to archive grant the action (any action, for an association), to whoever is proven to sit there, if it demands somebody?
    (4) does one of those reach as far as what is asked: the SOP class that is stored, the destination of a C-MOVE?
    (5) where somebody sits at the device: may they have that too, and of which studies (policy/people.py)?
What the grants show adds up: a query sees the SOP classes of all of them, and the permit names each that adds some.
Read-only containment refuses nothing here: new instances and reads are care, and an overwrite never was permitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from leadglass.policy.flows import Compiled, Grant, compiled, not_open
from leadglass.policy.people import confine
from leadglass.site.model import Site, plain_address
from leadglass.terms import (
    Action,
    AuditQuestion,
    Caller,
    Contained,
    Containment,
    Device,
    Export,
    Factor,
    Inquiry,
    NotPermitted,
    Offer,
    OpenFlow,
    Peer,
    Permit,
    Proposal,
    Request,
    Retrieval,
    Subject,
    UnknownDestination,
    Unsupported,
    fingerprint_of,
)
from leadglass.wire.uids import STORAGE_COMMITMENT_PUSH, VERIFICATION, is_storage, keyword_of_class

_BESIDE_STORING = frozenset({VERIFICATION, STORAGE_COMMITMENT_PUSH})


def decide(
    site: Site,
    containment: Containment,
    subject: Subject,
    request: Request | Proposal,
    *,
    unreadable: bool = False,
    now_ns: int = 0,
) -> Permit:
    """`unreadable`: the containment state is only the last known one. `now_ns`: Unix time, where somebody sits at the device.

    Raises NotPermitted, Contained, UnknownDestination, Unsupported.
    """
    caller = subject.caller
    somebody = caller is not None and Factor.CERTIFICATE not in caller.factors  # a machine is nobody who sits there
    permit = by_flows(site, containment, subject, request, somebody=somebody, unreadable=unreadable)
    return permit if caller is None else confine(permit, caller, request, now_ns)  # (5)


def by_flows(
    site: Site,
    containment: Containment,
    subject: Subject,
    request: Request | Proposal,
    *,
    somebody: bool,
    unreadable: bool = False,
) -> Permit:
    """What the flows alone give. `somebody`: that a person is proven to sit at the device, whoever it is. Raises as `decide` does."""
    # (1), (2)
    _not_contained(containment, subject)
    if unreadable and isinstance(request, Proposal):
        _only_stores(site, subject, request)
    _still_enrolled(site, containment, subject)
    lookup = compiled(site)
    grants = _granted(lookup, subject)
    generation = containment.generation
    # (3)
    if isinstance(request, Proposal):
        grant = _association(lookup, grants, subject, somebody)
        return Permit(subject, None, grant.rule, generation, opened=_held_by(subject, [grant]))
    if isinstance(request, AuditQuestion | Inquiry | Export):
        raise NotPermitted(f"{subject.device.name} is a device: people ask for that, at the console", subject=subject)
    action = request.action
    usable = [grant for grant in grants if action in grant.actions and (somebody or not grant.require_user_identity)]
    if not usable:
        raise _nobody_allows(lookup, subject, action, grants)
    # (4)
    match request:
        case Offer():
            grant = _store(site, usable, subject, request)
            opened = _held_by(subject, [grant])
            return Permit(subject, action, grant.rule, generation, grant.sop_classes, opened=opened)
        case Retrieval() if request.destination:
            reaching, device = _move(lookup, containment, usable, subject, request)
            return _together(subject, action, reaching, generation, device)
        case _:
            return _together(subject, action, usable, generation)


def _granted(lookup: Compiled, subject: Subject) -> tuple[Grant, ...]:
    """What is always granted first, then what is open."""
    name = subject.device.name
    always = lookup.grants[name]
    if name not in lookup.on_demand:
        return always
    opened = {each.flow for each in subject.peer.opened}
    return always + tuple(grant for grant in lookup.on_demand[name] if grant.rule in opened)


def _held_by(subject: Subject, grants: Iterable[Grant]) -> tuple[OpenFlow, ...]:
    """The flows on demand among them."""
    rules = {grant.rule for grant in grants if grant.on_demand is not None}
    return tuple(each for each in subject.peer.opened if each.flow in rules) if rules else ()


def _not_contained(containment: Containment, subject: Subject) -> None:
    name = subject.device.name
    if subject.fingerprint in containment.revoked:
        reason = containment.revoked[subject.fingerprint]
        raise Contained(f"{name}: its certificate is revoked: {reason}", subject=subject)
    if name in containment.disabled:
        raise Contained(f"{name} is disabled: {containment.disabled[name]}", subject=subject)
    zone = subject.device.zone
    if zone in containment.zones:
        raise Contained(f"{name} is in zone {zone}, which is contained: {containment.zones[zone]}", subject=subject)


def outside_containment(site: Site, containment: Containment, caller: Caller) -> None:
    """A person works from nowhere in a contained zone and from no contained device, whatever they are. Raises Contained."""
    if where := kept_out(site, containment, caller.peer):
        raise Contained(f"{caller.name} calls from {where}")


def kept_out(site: Site, containment: Containment, peer: Peer) -> str:
    """Where somebody calls from, and why that is contained; "" where it is not. A device is known by its certificate, or by an address of its own."""
    zone = site.zone_of(peer.address) if containment.zones else ""
    if zone in containment.zones:
        return f"zone {zone}, which is contained: {containment.zones[zone]}"
    shown = fingerprint_of(peer)
    if shown in containment.revoked:
        return f"a machine whose certificate is revoked: {containment.revoked[shown]}"
    for name, why in containment.disabled.items():
        device = site.devices.get(name)
        if device is not None and (shown in device.certificates or _alone_at(site, device, peer.address)):
            return f"{name}, which is contained: {why}"
    return ""


def cuts_off(site: Site, kind: str, name: str, peer: Peer) -> bool:
    """Whether somebody would be kept out themselves by keeping out this device, or zone."""
    alone = Containment(zones={name: ""}) if kind == "zone" else Containment(disabled={name: ""})
    return kind in ("device", "zone") and bool(kept_out(site, alone, peer))


def by_web(site: Site, peer: Peer, opened: Iterable[OpenFlow]) -> Peer:
    """Who comes to the web door, with the flows on demand by which they do. Where no flow leads there nobody is held to one; archive's own host is
    held to none. Raises NotPermitted."""
    ways, address = compiled(site).web, plain_address(peer.address)
    own = site.firewall.addresses if site.firewall is not None else ()
    if not ways or address is None or any(address in network for network in own):
        return peer
    if address.is_loopback and not site.loopback:
        return peer
    here = [way for way in ways if any(address in network for network in way.networks)]
    if any(way.on_demand is None for way in here):
        return peer
    is_open = {each.flow: each for each in opened}
    if by := tuple(is_open[way.rule] for way in here if way.rule in is_open):
        return replace(peer, opened=by)
    for way in here:
        if way.on_demand is not None:
            raise NotPermitted(f"from {address}: {not_open(way.rule, way.on_demand)}", rule=way.rule)
    zone = site.zone_of(peer.address)
    where = f"{address} in zone {zone}" if zone else f"{address}, which is in no zone"
    raise NotPermitted(
        f"no flow leads from {where} to the web door; from elsewhere: {', '.join(way.rule for way in ways)}"
    )


def _alone_at(site: Site, device: Device, address: str) -> bool:
    """On a loopback site several devices share an address."""
    found = plain_address(address) if not site.loopback else None
    return found is not None and any(each.num_addresses == 1 and found in each for each in device.networks)


def _still_enrolled(site: Site, containment: Containment, subject: Subject) -> None:
    """An association may outlive the site file under which it was admitted, and a pinned key the certificate that was revoked."""
    name = subject.device.name
    device = site.devices.get(name)
    if device is None:
        raise NotPermitted(
            f"{name} is no device of this site any more: enrol it again if it should be", subject=subject
        )
    if not device.enabled:
        raise Contained(f"{name} is disabled in the site file: enabled = true lets it in", subject=subject)
    if device.certificates and all(pin in containment.revoked for pin in device.certificates):
        raise Contained(f"{name}: every pin of it is revoked: renew it, or enrol it again", subject=subject)


def _only_stores(site: Site, subject: Subject, proposal: Proposal) -> None:
    """New images are care, and a modality's memory is short; whoever wants to read waits until it is known who is contained."""
    private = site.doors.dimse.private_sop_classes
    for uid in proposal.abstract_syntaxes:
        if not (is_storage(uid) or uid in private or uid in _BESIDE_STORING):
            name, what = subject.device.name, keyword_of_class(uid)
            raise Contained(
                f"{name} asks for {what}, and the containment state cannot be read: only what stores is let in until"
                " state/containment.copy.json, or the one of the backup, is in its place",
                subject=subject,
            )


def _association(lookup: Compiled, grants: tuple[Grant, ...], subject: Subject, somebody: bool) -> Grant:
    name = subject.device.name
    for grant in grants:
        if somebody or not grant.require_user_identity:
            return grant
    if grants:
        raise NotPermitted(
            f"{grants[0].rule} requires somebody who is proven to sit at {name}: {_unproven(subject.proposal)}",
            rule=grants[0].rule,
            subject=subject,
        )
    for waiting in lookup.on_demand.get(name, ()):
        assert waiting.on_demand is not None
        what = f"{name} is not let in: {not_open(waiting.rule, waiting.on_demand)}"
        raise NotPermitted(what, rule=waiting.rule, subject=subject)
    for closed in lookup.closed[name]:
        raise NotPermitted(f"{name} has only {closed.rule}, which {closed.why}", rule=closed.rule, subject=subject)
    raise NotPermitted(
        f"{name} is enrolled, but no flow leads from it to archive; add one with a why, or enrol it with --may",
        subject=subject,
    )


def _unproven(proposal: Proposal) -> str:
    """What is lacking, and how to mend it."""
    mend = "open a lease at the console, or negotiate a token of it (PS3.7 D.3.3.7, type 5)"
    if proposal.user_identity_type:
        return f"a user identity of type {proposal.user_identity_type} is said, not proven; {mend}"
    return mend


def _nobody_allows(lookup: Compiled, subject: Subject, action: Action, grants: tuple[Grant, ...]) -> NotPermitted:
    name = subject.device.name
    for grant in grants:
        if action in grant.actions:
            what = f"{name} may {action} by {grant.rule} only with somebody who is proven to sit there: {_unproven(subject.proposal)}"
            return NotPermitted(what, rule=grant.rule, subject=subject)
    for waiting in lookup.on_demand.get(name, ()):
        if action in waiting.actions and waiting.on_demand is not None:
            what = f"{name} may not {action}: {not_open(waiting.rule, waiting.on_demand)}"
            return NotPermitted(what, rule=waiting.rule, subject=subject)
    for closed in lookup.closed[name]:
        if action in closed.actions:
            what = f"{name} may not {action}: {closed.rule} {closed.why}"
            return NotPermitted(what, rule=closed.rule, subject=subject)
    return NotPermitted(
        f"{name} may not {action}: no flow from {name} to archive has {action} in `may`; add one with a why, or enrol with --may {action}",
        subject=subject,
    )


def _together(
    subject: Subject, action: Action, usable: Sequence[Grant], generation: int, destination: Device | None = None
) -> Permit:
    """What several grants show together. One that is not confined needs no other, but none on demand where another always shows as much."""
    for grant in usable:
        if grant.sop_classes is None:
            opened = _held_by(subject, [grant])
            return Permit(subject, action, grant.rule, generation, None, destination, opened=opened)
    seen: frozenset[str] = frozenset()
    used: list[Grant] = []
    widest_first = sorted(
        usable, key=lambda each: (each.on_demand is not None, -len(each.sop_classes or ()), each.rule)
    )
    for grant in widest_first:
        if not used or not (grant.sop_classes or frozenset()) <= seen:
            used.append(grant)
            seen |= grant.sop_classes or frozenset()
    rule = "+".join(grant.rule for grant in used)
    return Permit(subject, action, rule, generation, seen, destination, opened=_held_by(subject, used))


def _store(site: Site, usable: Sequence[Grant], subject: Subject, offer: Offer) -> Grant:
    uid = offer.sop_class_uid
    if not is_storage(uid) and uid not in site.doors.dimse.private_sop_classes:
        raise Unsupported(
            f"{uid} is no Storage SOP class; a private one is named in doors.dimse.private_sop_classes", subject=subject
        )
    for grant in usable:
        if grant.sop_classes is None or uid in grant.sop_classes:
            return grant
    raise NotPermitted(
        f"{subject.device.name} may store, but not {keyword_of_class(uid)}: add it to sop_classes of {usable[0].rule}",
        rule=usable[0].rule,
        subject=subject,
    )


def _move(
    lookup: Compiled, containment: Containment, usable: Sequence[Grant], subject: Subject, request: Retrieval
) -> tuple[Sequence[Grant], Device]:
    """The grants that reach the destination, and the device that it is."""
    title = request.destination
    found = lookup.by_ae_title.get(title, ())
    if not found:
        raise UnknownDestination(f"C-MOVE to {title!r}: no enrolled device has that AE title", subject=subject)
    reachable = [device for device in found if device.address]
    if len(reachable) != 1:
        how = "no address: enrol it with --address HOST:PORT" if not reachable else "several devices with an address"
        raise UnknownDestination(f"C-MOVE to {title!r}: there is {how}", subject=subject)
    device = reachable[0]
    contained = device.name in containment.disabled or device.zone in containment.zones
    if contained or not device.enabled or _revoked(device, containment):
        raise UnknownDestination(
            f"C-MOVE to {title!r}: {device.name} is disabled or revoked, or its zone is contained", subject=subject
        )
    reaching = [grant for grant in usable if grant.destinations is None or device.name in grant.destinations]
    if not reaching:
        raise UnknownDestination(
            f"C-MOVE to {title!r}: {usable[0].rule} does not name {device.name} in destinations",
            rule=usable[0].rule,
            subject=subject,
        )
    return reaching, device


def _revoked(device: Device, containment: Containment) -> bool:
    """Only pins of whole certificates can be held against the list; whoever answers the call is held against all of it."""
    gone = containment.revoked.keys() | containment.superseded.keys()
    return bool(device.certificates) and all(pin in gone for pin in device.certificates)
