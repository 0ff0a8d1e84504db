"""May they? One pure function: a site, a containment state, a subject and what it asks, to a `Permit` with its rule, or a refusal.

Default deny: only a grant permits, grants have no order, and nothing here denies by rule. Every refusal says what an operator would change.
"""

from __future__ import annotations

from leadglass.policy.flows import Compiled, Grant, compiled
from leadglass.site.model import Site
from leadglass.terms import (
    Action,
    Contained,
    Containment,
    Device,
    NotPermitted,
    Offer,
    Permit,
    Proposal,
    Request,
    Retrieval,
    Subject,
    UnknownDestination,
    Unsupported,
)
from leadglass.wire.uids import is_storage, keyword_of_class


def decide(site: Site, containment: Containment, subject: Subject, request: Request | Proposal) -> Permit:
    """Raises NotPermitted, Contained, UnknownDestination, Unsupported."""
    _not_contained(containment, subject)
    lookup = compiled(site)
    grants = lookup.grants.get(subject.device.name, ())
    if isinstance(request, Proposal):
        return Permit(subject, None, _association(grants, subject, request).rule, containment.generation)
    usable = [grant for grant in grants if request.action in grant.actions and _identified(grant, subject.proposal)]
    if not usable:
        raise _nobody_allows(subject, request.action, grants)
    match request:
        case Offer():
            grant = _store(site, usable, subject, request)
        case Retrieval() if request.destination:
            grant, device = _move(site, lookup, containment, usable, subject, request)
            return Permit(subject, request.action, grant.rule, containment.generation, grant.sop_classes, device)
        case _:
            grant = _widest(usable)
    return Permit(subject, request.action, grant.rule, containment.generation, grant.sop_classes)


def _not_contained(containment: Containment, subject: Subject) -> None:
    name = subject.device.name
    if subject.fingerprint in containment.revoked:
        reason = containment.revoked[subject.fingerprint]
        raise Contained(f"{name}: its certificate is revoked: {reason}", subject=subject)
    if name in containment.disabled:
        raise Contained(f"{name} is disabled: {containment.disabled[name]}", subject=subject)


def _association(grants: tuple[Grant, ...], subject: Subject, proposal: Proposal) -> Grant:
    if not grants:
        raise NotPermitted(
            f"{subject.device.name} is enrolled, but no flow leads from it to archive; add one with a why, or enrol it with --may",
            subject=subject,
        )
    for grant in grants:
        if _identified(grant, proposal):
            return grant
    raise NotPermitted(
        f"{grants[0].rule} requires a user identity, and {subject.device.name} negotiates none (PS3.7 D.3.3.7)",
        rule=grants[0].rule,
        subject=subject,
    )


def _identified(grant: Grant, proposal: Proposal) -> bool:
    return not grant.require_user_identity or proposal.user_identity_type > 0


def _nobody_allows(subject: Subject, action: Action, grants: tuple[Grant, ...]) -> NotPermitted:
    name = subject.device.name
    waiting = [grant for grant in grants if action in grant.actions]
    if waiting:
        return NotPermitted(
            f"{name} may {action} by {waiting[0].rule} only with a user identity", rule=waiting[0].rule, subject=subject
        )
    return NotPermitted(
        f"{name} may not {action}: no flow from {name} to archive has {action} in `may`; add one with a why, or enrol with --may {action}",
        subject=subject,
    )


def _widest(usable: list[Grant]) -> Grant:
    """The grant that shows most: grants add up, so one that is not confined wins."""
    return min(usable, key=lambda grant: (grant.sop_classes is not None, -len(grant.sop_classes or ()), grant.rule))


def _store(site: Site, usable: list[Grant], subject: Subject, offer: Offer) -> Grant:
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
    site: Site, lookup: Compiled, containment: Containment, usable: list[Grant], subject: Subject, request: Retrieval
) -> tuple[Grant, Device]:
    title = request.destination
    found = lookup.by_ae_title.get(title, ())
    if not found:
        raise UnknownDestination(f"C-MOVE to {title!r}: no enrolled device has that AE title", subject=subject)
    reachable = [device for device in found if device.address]
    if len(reachable) != 1:
        how = "no address: enrol it with --address HOST:PORT" if not reachable else "several devices with an address"
        raise UnknownDestination(f"C-MOVE to {title!r}: there is {how}", subject=subject)
    device = reachable[0]
    if device.name in containment.disabled or not device.enabled or _revoked(device, containment):
        raise UnknownDestination(f"C-MOVE to {title!r}: {device.name} is disabled or revoked", subject=subject)
    for grant in usable:
        if grant.destinations is None or device.name in grant.destinations:
            return grant, device
    raise UnknownDestination(
        f"C-MOVE to {title!r}: {usable[0].rule} does not name {device.name} in destinations",
        rule=usable[0].rule,
        subject=subject,
    )


def _revoked(device: Device, containment: Containment) -> bool:
    pins = [pin for pin in device.certificates if pin.startswith("sha256:")]
    return bool(pins) and all(pin in containment.revoked or pin in containment.superseded for pin in pins)
