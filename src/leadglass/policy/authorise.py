"""May this operator change the site? At a shell: root, the owner of the site's directory, who the site file names. At the console: policy/people."""

from __future__ import annotations

from leadglass.policy.people import authorise_person
from leadglass.site.model import Site
from leadglass.terms import Caller, Change, ChangeKind, ChangePermit, Contained, Containment, NotPermitted

# What a read-only site still lets operators do: contain, let back in, keep certificates, index and backups going. Nothing here gives more rights.
WHILE_READ_ONLY = frozenset(
    {
        ChangeKind.DEVICE_DISABLE,
        ChangeKind.DEVICE_ENABLE,
        ChangeKind.DEVICE_RENEW,
        ChangeKind.DEVICE_REVOKE,
        ChangeKind.DEVICE_SUPERSEDE,
        ChangeKind.DEVICE_WAIVE,
        ChangeKind.DOOR_RENEW,
        ChangeKind.INDEX_REBUILD,
        ChangeKind.SITE_BACKUP,
        ChangeKind.SITE_RESTORE,
    }
)


def authorise(site: Site, containment: Containment, change: Change, owner_uid: int, now_ns: int = 0) -> ChangePermit:
    """`site`: the one that serves. `now_ns`: without it no person's step-up is fresh. Raises NotPermitted, Contained."""
    rule = _rule(site, change, owner_uid, now_ns)
    if not rule:
        raise NotPermitted(
            f"{change.operator.name} is no operator of this site: name them in [site] operators, then `leadglass apply`"
        )
    if containment.read_only and change.kind not in WHILE_READ_ONLY:
        raise Contained(f"the site is read-only ({containment.read_only}): no {change.kind} until that ends", rule=rule)
    return ChangePermit(change.operator, rule, containment.generation)


def _rule(site: Site, change: Change, owner_uid: int, now_ns: int) -> str:
    operator = change.operator
    if isinstance(operator, Caller):
        return authorise_person(operator, change, now_ns)
    if operator.uid == 0:
        return "operator:root"
    if operator.uid == owner_uid:
        return "operator:owner"
    if operator.name in site.operators or str(operator.uid) in site.operators:
        return "operator:named"
    return ""
