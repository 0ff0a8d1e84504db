"""May this operator change the site? At a shell: root, the owner of the site's directory, who the site file names. At the console: policy/people."""

from __future__ import annotations

from leadglass.policy.containment import own_and_fresh
from leadglass.policy.decide import outside_containment
from leadglass.policy.enrolment import KINDS, QUESTIONS, Asked, bound, collection
from leadglass.policy.enrolment import RULE as ENROLMENT
from leadglass.policy.network import QUESTIONS as NETWORK_QUESTIONS
from leadglass.policy.network import REPORT
from leadglass.policy.network import RULE as NETWORK
from leadglass.policy.people import authorise_person
from leadglass.policy.separation import Second, at_a_shell
from leadglass.site.model import Site, plain_address
from leadglass.terms import (
    AuditQuestion,
    Caller,
    Change,
    ChangeKind,
    ChangePermit,
    Contained,
    Containment,
    Device,
    NotPermitted,
    Operator,
    Permit,
    Proposal,
    Request,
)

# What a read-only site still lets people do: contain, let back in, keep certificates, index and backups going, start after a disk lost
# something, and care: who must see a patient does, for an hour and with a review.
WHILE_READ_ONLY = frozenset(
    {
        ChangeKind.ACCESS_CANCEL,
        ChangeKind.ACCOUNTS_REVIEW,
        ChangeKind.DEVICE_DECLINE,
        ChangeKind.DEVICE_DISABLE,
        ChangeKind.DEVICE_ENABLE,
        ChangeKind.DEVICE_LAPSE,
        ChangeKind.DEVICE_RENEW,
        ChangeKind.DEVICE_REVOKE,
        ChangeKind.DEVICE_SUPERSEDE,
        ChangeKind.DEVICE_WAIVE,
        ChangeKind.DEVICE_WITHDRAW,
        ChangeKind.DOOR_RENEW,
        ChangeKind.ERASURE_UNDO,
        ChangeKind.FACTOR_ENROLL,
        ChangeKind.FACTOR_REMOVE,
        ChangeKind.GLASS_BREAK,
        ChangeKind.GLASS_REVIEW,
        ChangeKind.INDEX_REBUILD,
        ChangeKind.KIT_LAPSE,
        ChangeKind.LEASE_END,
        ChangeKind.LEASE_OPEN,
        ChangeKind.LOSS_ACCEPT,
        ChangeKind.NETWORK_CONFIRM,
        ChangeKind.PERSON_DISABLE,
        ChangeKind.PERSON_RESET,
        ChangeKind.ROLE_REVOKE,
        ChangeKind.SESSION_END,
        ChangeKind.SITE_BACKUP,
        ChangeKind.SITE_CONTAIN,
        ChangeKind.SITE_RELEASE,
        ChangeKind.SITE_RESTORE,
        ChangeKind.TOKEN_MINT,
        ChangeKind.ZONE_CONTAIN,
        ChangeKind.ZONE_RELEASE,
    }
)

_OWN_RIGHT = "such a right is a person's own, and an operator at a shell is nobody's second person"
_ENROL_AT_A_SHELL = "at a shell there is `leadglass device enroll`"
_KITS_AT_A_SHELL = "whoever is at a shell has the keys' files"
# What nobody does at a shell, and why, or what there is instead.
AT_THE_CONSOLE = {
    ChangeKind.ACCESS_APPROVE: _OWN_RIGHT,
    ChangeKind.ACCESS_CANCEL: _OWN_RIGHT,
    ChangeKind.ACCESS_REQUEST: _OWN_RIGHT,
    ChangeKind.DEVICE_ASK: _ENROL_AT_A_SHELL,
    ChangeKind.DEVICE_COLLECT: _ENROL_AT_A_SHELL,
    ChangeKind.DEVICE_WITHDRAW: _ENROL_AT_A_SHELL,
    ChangeKind.GLASS_BREAK: _OWN_RIGHT,
    ChangeKind.GLASS_REVIEW: _OWN_RIGHT,
    ChangeKind.KIT_COLLECT: _KITS_AT_A_SHELL,
    ChangeKind.KIT_MAKE: _KITS_AT_A_SHELL,
    ChangeKind.LEASE_END: _OWN_RIGHT,
    ChangeKind.LEASE_OPEN: _OWN_RIGHT,
    ChangeKind.STUDY_ERASE: "nobody at a shell erases anything: it takes two people",
    ChangeKind.TOKEN_MINT: _OWN_RIGHT,
}

NOBODY = Second(0)  # could approve anything

# What says who sits at a device (`about`): only from there.
AT_A_DEVICE = frozenset({ChangeKind.LEASE_OPEN, ChangeKind.TOKEN_MINT})

# What everybody does to themselves. What a factor is proven by is sealed by identity/; nothing here gives more rights.
OWN = frozenset({ChangeKind.FACTOR_ENROLL, ChangeKind.FACTOR_REMOVE, ChangeKind.SESSION_END})


def authorise(
    site: Site,
    containment: Containment,
    change: Change,
    owner_uid: int,
    now_ns: int = 0,
    asked: Asked | None = None,
    second: Second = NOBODY,
) -> ChangePermit:
    """`site`: the one that serves. `now_ns`: without it no person's step-up is fresh. `asked`: the enrolment that the change names, `second`: who could
    approve the site file that it names, both as the register has them. Raises NotPermitted, Contained."""
    operator = change.operator
    if isinstance(operator, Caller) and change.kind is not ChangeKind.SESSION_END:  # one may always leave
        outside_containment(site, containment, operator)
    if isinstance(operator, Operator):
        rule = _rule(site, operator, owner_uid)
        if rule == NETWORK:
            raise NotPermitted(f"{operator.name} loads the kernel's table, and may {change.kind} nothing", rule=rule)
        if rule == ENROLMENT or (change.kind in KINDS and "enrolment" in change.arguments):
            bound(change, asked, now_ns)  # whoever signs, signs what was asked for
        if change.kind is ChangeKind.SITE_APPLY:
            at_a_shell(second, str(change.arguments.get("digest", "")), now_ns)
    elif change.kind in OWN and change.about == operator.name:
        rule = "person:self"
    else:
        rule = authorise_person(operator, change, now_ns, takes_back=own_and_fresh(containment, change, now_ns))
    if isinstance(operator, Caller):
        if change.kind in AT_A_DEVICE:
            _at(site, operator, change.about)
        elif change.kind is ChangeKind.SITE_BACKUP:
            _into(site, operator, change)
        elif change.kind is ChangeKind.DEVICE_COLLECT:
            collection(operator, change, asked)
    if containment.read_only and change.kind not in WHILE_READ_ONLY:
        raise Contained(f"the site is read-only ({containment.read_only}): no {change.kind} until that ends", rule=rule)
    if isinstance(operator, Operator) and (why := AT_THE_CONSOLE.get(change.kind)):
        raise NotPermitted(f"{change.kind} is for somebody who is signed in: {why}", rule=rule)
    return ChangePermit(change.operator, rule, containment.generation)


def _into(site: Site, caller: Caller, change: Change) -> None:
    """Nobody has the site copied to a place of their own choice. Raises NotPermitted."""
    if change.about not in site.backups or change.arguments.get("directory") != change.about:
        raise NotPermitted(
            f"{caller.name} may have backups made into what backup.directories names, and not into {change.about[:64]!r}",
            rule="backup:directories",
        )


def at_hand(site: Site, address: str) -> list[Device]:
    """The devices that somebody at this address may be sitting at."""
    found = plain_address(address)
    return [each for each in site.devices.values() if found and any(found in network for network in each.networks)]


def _at(site: Site, caller: Caller, name: str) -> None:
    """Nobody says from elsewhere that they sit at a workstation. Raises NotPermitted."""
    if name not in [each.name for each in at_hand(site, caller.peer.address)]:
        raise NotPermitted(
            f"{caller.name} calls from {caller.peer.address}, which is no address of {name[:64]!r}: open the console there",
            rule="lease:at-the-device",
        )


def decide_operator(
    site: Site, containment: Containment, operator: Operator, request: Request | Proposal, owner_uid: int
) -> Permit:
    """An operator reads the audit; images reach people by doors alone. Raises NotPermitted."""
    rule = _rule(site, operator, owner_uid)
    if rule == ENROLMENT:
        raise NotPermitted(f"{operator.name} signs enrolments, and reads nothing", rule=rule)
    if rule == NETWORK:
        raise NotPermitted(f"{operator.name} loads the kernel's table, and reads nothing", rule=rule)
    if not isinstance(request, AuditQuestion):
        raise NotPermitted(f"{operator.name} is at a shell: images leave by the doors", rule=rule)
    return Permit(operator, request.action, rule, containment.generation)


def inquire(site: Site, operator: Operator, question: str, owner_uid: int) -> str:
    """The rule by which an operator is answered at the command socket. Raises NotPermitted."""
    rule = _rule(site, operator, owner_uid)
    if rule == ENROLMENT and question not in QUESTIONS:
        what = f"{operator.name} signs enrolments, and asks for nothing else: not for {question[:64]!r}"
        raise NotPermitted(what, rule=rule)
    if rule == NETWORK and question not in NETWORK_QUESTIONS:
        what = f"{operator.name} loads the kernel's table, and asks for nothing else: not for {question[:64]!r}"
        raise NotPermitted(what, rule=rule)
    if rule not in (NETWORK, "operator:root") and question == REPORT:
        raise NotPermitted(f"{operator.name} loads no table: [firewall] user names who does", rule=rule)
    return rule


def _rule(site: Site, operator: Operator, owner_uid: int) -> str:
    if operator.uid == 0:
        return "operator:root"
    if operator.uid == owner_uid:
        return "operator:owner"
    if site.enroller and site.enroller in (operator.name, str(operator.uid)):
        return ENROLMENT
    if site.filterer and site.filterer in (operator.name, str(operator.uid)):
        return NETWORK
    if operator.name in site.operators or str(operator.uid) in site.operators:
        return "operator:named"
    raise NotPermitted(
        f"{operator.name} is no operator of this site: name them in [site] operators, then `leadglass apply`"
    )
