"""May this operator change the site? At a shell: root, the owner of the site's directory, who the site file names. At the console: policy/people."""

from __future__ import annotations

from leadglass.policy.people import authorise_person
from leadglass.site.model import Site
from leadglass.terms import Caller, Change, ChangeKind, ChangePermit, Contained, Containment, NotPermitted

# What a read-only site still lets operators do: contain, let back in, keep certificates, index and backups going. Nothing here gives more rights.
WHILE_READ_ONLY = frozenset(
    {
        ChangeKind.ACCOUNTS_REVIEW,
        ChangeKind.DEVICE_DISABLE,
        ChangeKind.DEVICE_ENABLE,
        ChangeKind.DEVICE_RENEW,
        ChangeKind.DEVICE_REVOKE,
        ChangeKind.DEVICE_SUPERSEDE,
        ChangeKind.DEVICE_WAIVE,
        ChangeKind.DOOR_RENEW,
        ChangeKind.FACTOR_ENROLL,
        ChangeKind.FACTOR_REMOVE,
        ChangeKind.INDEX_REBUILD,
        ChangeKind.PERSON_DISABLE,
        ChangeKind.PERSON_RESET,
        ChangeKind.ROLE_REVOKE,
        ChangeKind.SESSION_END,
        ChangeKind.SITE_BACKUP,
        ChangeKind.SITE_RESTORE,
    }
)

# What everybody does to themselves. What a factor is proven by is sealed by identity/; nothing here gives more rights.
OWN = frozenset({ChangeKind.FACTOR_ENROLL, ChangeKind.FACTOR_REMOVE, ChangeKind.SESSION_END})


def authorise(site: Site, containment: Containment, change: Change, owner_uid: int) -> ChangePermit:
    """`site`: the one that serves. Raises NotPermitted, Contained."""
    rule = _rule(site, change, owner_uid)
    if not rule:
        raise NotPermitted(
            f"{change.operator.name} is no operator of this site: name them in [site] operators, then `leadglass apply`"
        )
    if containment.read_only and change.kind not in WHILE_READ_ONLY:
        raise Contained(f"the site is read-only ({containment.read_only}): no {change.kind} until that ends", rule=rule)
    return ChangePermit(change.operator, rule, containment.generation)


def _rule(site: Site, change: Change, owner_uid: int) -> str:
    operator = change.operator
    if isinstance(operator, Caller) and change.kind in OWN and change.about == operator.name:
        return "person:self"
    if isinstance(operator, Caller):
        return authorise_person(operator, change)
    if operator.uid == 0:
        return "operator:root"
    if operator.uid == owner_uid:
        return "operator:owner"
    if operator.name in site.operators or str(operator.uid) in site.operators:
        return "operator:named"
    return ""
