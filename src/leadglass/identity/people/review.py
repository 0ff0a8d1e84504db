"""Whose account should somebody look at? Dormant, never used, shared-looking, orphaned, expired; and when the next review is due."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from leadglass.site.people import Account, People, Review
from leadglass.site.sessions import SessionRow
from leadglass.terms import Role

DORMANT_DAYS = 90
NEVER_USED_DAYS = 30
REVIEW_EVERY_DAYS = 90
_DAY = 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One account, or one right of it, that should be looked at. `kind`: dormant, never-used, shared, orphaned, ended, invited."""

    person: str
    kind: str
    role: str
    reason: str
    mend: str


def findings_of(people: People, now_ns: int) -> list[Finding]:
    """Of everybody in the register."""
    return findings(people.accounts(), people.sessions.every(), people.factors.enrolled(), now_ns)


def findings(
    accounts: Sequence[Account], sessions: Sequence[SessionRow], enrolled: Collection[str], now_ns: int
) -> list[Finding]:
    """By name. `enrolled`: ids of people who have a factor."""
    own: dict[str, list[SessionRow]] = {}
    for each in sessions:
        own.setdefault(each.person, []).append(each)
    found: list[Finding] = []
    for account in accounts:
        found += _of(account, own.get(account.person.id, []), account.person.id in enrolled, now_ns)
    return found


def _of(account: Account, sessions: Sequence[SessionRow], enrolled: bool, now_ns: int) -> list[Finding]:
    person, found = account.person, []

    def note(kind: str, reason: str, mend: str, role: str = "") -> None:
        found.append(Finding(person.name, kind, role, reason, mend))

    off = f"leadglass people disable {person.name} --reason ..."
    if not person.enabled:
        return [] if not account.gone_ns else [_orphaned(account)]
    machine = Role.SERVICE_ACCOUNT in person.roles
    if person.until_ns and now_ns >= person.until_ns:
        note("ended", "its time is over and it is still enabled", off)
    seen_ns = max((each.seen_ns for each in sessions), default=0)
    since_ns = max(seen_ns, account.added_ns)
    if not machine and not enrolled and now_ns - account.added_ns >= NEVER_USED_DAYS * _DAY:
        note("invited", f"added {_days(account.added_ns, now_ns)} days ago and never enrolled", off)
    elif not machine and now_ns - since_ns >= DORMANT_DAYS * _DAY:
        note("dormant", f"not seen for {_days(since_ns, now_ns)} days", off)
    for grant in account.grants:
        if not grant.last_used_ns and now_ns - grant.at_ns >= NEVER_USED_DAYS * _DAY:
            reason = f"granted {_days(grant.at_ns, now_ns)} days ago by {grant.granted_by} ({grant.why}) and never used"
            mend = f"leadglass people role {person.name} --revoke {grant.role} --why ..."
            note("never-used", reason, mend, grant.role)
    if places := _at_once(sessions):
        reason = f"in use from {' and '.join(places)} at the same time"
        note("shared", reason, f"give each person an account of their own; then {off}")
    return found


def _orphaned(account: Account) -> Finding:
    name = account.person.name
    reason = f"{account.person.source} does not know them any more; disabled here"
    return Finding(name, "orphaned", "", reason, f"leadglass people enable {name} if they are still here")


def _at_once(sessions: Sequence[SessionRow]) -> list[str]:
    """Two addresses, each of which was used while the other was; none where everybody moved from one to the next."""
    spans = sorted((each.opened_ns, each.seen_ns, each.address) for each in sessions)
    for at, (_, last_ns, address) in enumerate(spans):
        for opened_ns, seen_ns, other in spans[at + 1 :]:
            if other != address and opened_ns < last_ns and seen_ns > opened_ns:
                return sorted({address, other})
    return []


def findings_digest(found: Sequence[Finding]) -> str:
    """SHA-256, hex, over what the reviewer saw: what a signature stands for."""
    return hashlib.sha256(findings_text(found).encode()).hexdigest()


def findings_text(found: Sequence[Finding]) -> str:
    rows: list[Mapping[str, str]] = [asdict(each) for each in found]
    return json.dumps(rows, sort_keys=True, separators=(",", ":"))


def review_due(accounts: Sequence[Account], last: Review | None, now_ns: int) -> bool:
    """Every 90 days; counted from the first account where none was signed yet."""
    began_ns = last.at_ns if last else min((each.added_ns for each in accounts), default=now_ns)
    return now_ns - began_ns >= REVIEW_EVERY_DAYS * _DAY


def _days(then_ns: int, now_ns: int) -> int:
    return (now_ns - then_ns) // _DAY
