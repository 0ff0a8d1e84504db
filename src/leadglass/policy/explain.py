"""Why is this allowed or not, and what would have to change? Answered by asking the same policies again with other facts, never from a table.

The smallest changes that make it allowed are found by trying each, then each two, then each three. What comes out is an answer for an
operator: it opens nothing by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from leadglass.policy.decide import by_flows
from leadglass.policy.evaluation import Facts, Matter, OfAccount, OfMatter, OfStudy, ask
from leadglass.policy.on_demand import at_most
from leadglass.policy.people import incompatible
from leadglass.site.model import Site
from leadglass.terms import (
    Act,
    Action,
    Commitment,
    Containment,
    Device,
    Echo,
    Level,
    Offer,
    OpenFlow,
    Peer,
    Permit,
    Proposal,
    Query,
    Refused,
    Relation,
    Request,
    Retrieval,
    Role,
    Root,
    Subject,
)
from leadglass.wire import tags
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN, storage_class_of

CHANGES_TOGETHER_MAX = 3

Facing = tuple[Facts, Matter]


@dataclass(frozen=True, slots=True)
class Explained:
    """`rules`: that allowed or forbade it; none where nothing allows it. `would`: sets of changes, each enough by itself, the smallest there are."""

    allowed: bool
    rules: tuple[str, ...]
    why: str
    would: tuple[tuple[str, ...], ...] = ()


def explain_person(act: Act, facts: Facts, about: Matter) -> Explained:
    """What somebody with these facts may of one act. Raises PolicyFault."""
    answer = ask(act, facts, about)
    rules = tuple(f"cedar:{each}" for each in answer.rules)
    if answer.allowed:
        return Explained(True, rules, "allowed by " + " and ".join(rules))
    why = "forbidden by " + " and ".join(rules) if rules else "no rule allows it"
    return Explained(False, rules, why, tuple(_would(act, facts, about)))


def explain_device(
    site: Site,
    containment: Containment,
    device: Device,
    action: Action,
    what: str = "",
    *,
    somebody: bool = False,
    opened: tuple[OpenFlow, ...] = (),
) -> Explained:
    """What the flows give a device. `somebody`: that a person is proven to sit at it. `what`: the SOP class of a store, the destination of a move; "" for any that a flow names. `opened`: the flows on demand that are open."""
    answer = _decided(site, containment, device, action, what, somebody, opened)
    if isinstance(answer, Permit):
        return Explained(True, tuple(answer.rule.split("+")), f"allowed by {answer.rule}")
    rules = (answer.rule,) if answer.rule else ()
    would: tuple[tuple[str, ...], ...] = ()
    sitting = "somebody who is proven to sit there: a lease, or a token in the association"
    if not somebody and isinstance(_decided(site, containment, device, action, what, True, opened), Permit):
        would = ((sitting,),)
    elif waits := tuple(_waits(site, containment, device, action, what, somebody)):
        would = waits
    elif not somebody and (waits := tuple(_waits(site, containment, device, action, what, True))):
        would = tuple((sitting, *each) for each in waits)
    elif _permits_enabled(site, containment, device, action, what):
        would = ((f"let {device.name} in again: leadglass device enable {device.name}",),)
    return Explained(False, rules, answer.reason, would)


# ---- people: other facts


def _would(act: Act, facts: Facts, about: Matter) -> Iterator[tuple[str, ...]]:
    changes = list(_changes(facts, about))
    for together in range(1, CHANGES_TOGETHER_MAX + 1):
        found = False
        for chosen in itertools.combinations(changes, together):
            now: Facing = (facts, about)
            for _, change in chosen:
                now = change(now)
            if not incompatible(now[0].roles) and ask(act, *now).allowed:
                found = True
                yield tuple(name for name, _ in chosen)
        if found:
            return


def _changes(facts: Facts, about: Matter) -> Iterator[tuple[str, Callable[[Facing], Facing]]]:
    """Each fact that could be another, with what it is called."""
    if not facts.stepped_up:
        yield "step up with a fresh passkey", lambda now: (replace(now[0], stepped_up=True), now[1])
    if not facts.approved:
        yield "an approval by somebody else", lambda now: (replace(now[0], approved=True), now[1])
    if facts.bulk:
        yield "one patient at a time", lambda now: (replace(now[0], bulk=False), now[1])
    if isinstance(about, OfStudy):
        for relation in Relation:
            if relation not in about.relations:
                yield f"the relation {relation}", _relating(relation)
    if isinstance(about, OfMatter | OfAccount) and about.own:
        yield "that it is somebody else's", _of_another
    for role in Role:
        if role in facts.roles:
            yield f"not the role {role}", _without(role)
        else:
            yield f"the role {role}", _with(role)


def _relating(relation: Relation) -> Callable[[Facing], Facing]:
    def change(now: Facing) -> Facing:
        facts, about = now
        assert isinstance(about, OfStudy)
        return facts, replace(about, relations=about.relations | {relation})

    return change


def _of_another(now: Facing) -> Facing:
    facts, about = now
    assert isinstance(about, OfMatter | OfAccount)
    return facts, replace(about, own=False)


def _with(role: Role) -> Callable[[Facing], Facing]:
    return lambda now: (replace(now[0], roles=now[0].roles | {role}), now[1])


def _without(role: Role) -> Callable[[Facing], Facing]:
    return lambda now: (replace(now[0], roles=now[0].roles - {role}), now[1])


# ---- devices: a request as it would come


def _waits(
    site: Site, containment: Containment, device: Device, action: Action, what: str, somebody: bool
) -> Iterator[tuple[str, ...]]:
    """The flows on demand each of which would be enough."""
    for each in at_most(site):
        if isinstance(_decided(site, containment, device, action, what, somebody, (each,)), Permit):
            yield (f"that {each.flow} is open: asked for at the console, Requests",)


def _decided(
    site: Site,
    containment: Containment,
    device: Device,
    action: Action,
    what: str,
    somebody: bool,
    opened: tuple[OpenFlow, ...] = (),
) -> Permit | Refused:
    title = device.ae_titles[0] if device.ae_titles else ""
    proposal = Proposal(title, site.doors.dimse.ae_title)
    subject = Subject(device, Peer("", 0, "dimse", opened=opened), proposal, "")
    refused: Refused | None = None
    for request in _requests(site, subject, action, what):
        try:
            return by_flows(site, containment, subject, request, somebody=somebody)
        except Refused as refusal:
            refused = refused or refusal
    assert refused is not None  # there is a request for each action
    return refused


def _requests(site: Site, subject: Subject, action: Action, what: str) -> Iterator[Request]:
    """Those that the action can mean: where the SOP class or the destination is left open, one for each that some flow names."""
    keys = {tags.STUDY_INSTANCE_UID: ""}
    match action:
        case Action.ECHO:
            yield Echo(subject)
        case Action.STORE:
            named = [what] if what else sorted({each for flow in site.flows for each in flow.sop_classes or ()})
            for sop_class in [*named, "CTImageStorage"] if not what else named:
                yield Offer(subject, storage_class_of(sop_class) or sop_class, "", EXPLICIT_VR_LITTLE_ENDIAN)
        case Action.FIND:
            yield Query(subject, Root.STUDY, Level.STUDY, keys)
        case Action.GET:
            yield Retrieval(subject, Root.STUDY, Level.STUDY, keys)
        case Action.MOVE:
            titles = (
                [what]
                if what
                else [title for each in site.devices.values() if each.address for title in each.ae_titles]
            )
            for title in titles or ["NOWHERE"]:
                yield Retrieval(subject, Root.STUDY, Level.STUDY, keys, title)
        case Action.COMMIT:
            yield Commitment(subject, "", ())


def _permits_enabled(site: Site, containment: Containment, device: Device, action: Action, what: str) -> bool:
    calm = replace(
        containment, disabled={name: why for name, why in containment.disabled.items() if name != device.name}
    )
    return calm != containment and isinstance(_decided(site, calm, device, action, what, False), Permit)
