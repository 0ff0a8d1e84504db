"""How does an edited site file come to act? Asked for where somebody else must approve it, by the digest of the files; then applied, exactly those."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from leadglass.policy.differences import differences
from leadglass.policy.firewall.words import gains_and_losses
from leadglass.policy.people import still_approves
from leadglass.policy.separation import ALONE_WAITS_SECONDS, SECOND_NS, Second, window_max_seconds
from leadglass.site.access import AccessRequest
from leadglass.site.load import SITE_FILE, load
from leadglass.site.model import Site
from leadglass.site.people import People
from leadglass.site.write import draft_digest, load_proven, proven_directory
from leadglass.terms import Act, Caller, Change, Fault, NotChanged, Operator, Person

CHANGES_SHOWN_MAX = 200
OPERATOR = "uid:"  # begins what a request calls somebody who asked at a shell
REASON_CHARACTERS_MIN, REASON_CHARACTERS_MAX = 8, 500


def ask(
    people: People, site_dir: Path, prove: Callable[[Site], None], change: Change, now_ns: int
) -> Mapping[str, Any]:
    """That the files as they lie there act: what they change is kept beside their digest, for whoever decides. Raises NotChanged, SiteInvalid."""
    digest, reason = str(change.arguments.get("digest", "")), " ".join(str(change.arguments.get("reason", "")).split())
    if not REASON_CHARACTERS_MIN <= len(reason) <= REASON_CHARACTERS_MAX:
        raise NotChanged(f"say why, in {REASON_CHARACTERS_MIN} to {REASON_CHARACTERS_MAX} characters")
    draft = load(site_dir)
    if not digest or digest != draft_digest(site_dir):
        raise NotChanged("the files are others than those that you saw: look at them again")
    prove(draft)
    told = list(changed(site_dir, draft))
    if not told:
        raise NotChanged("these files say what serves already")
    who = change.operator.person.id if isinstance(change.operator, Caller) else change.operator.actor
    seconds = window_max_seconds(Act.POLICY_APPLY) + ALONE_WAITS_SECONDS
    request = AccessRequest(
        id=change.id,
        kind="site",
        person=who,
        act=Act.POLICY_APPLY,
        about=SITE_FILE,
        digest=digest,
        facts={"changes": told[:CHANGES_SHOWN_MAX], "more": max(0, len(told) - CHANGES_SHOWN_MAX)},
        why=reason,
        from_ns=now_ns,
        until_ns=now_ns + seconds * SECOND_NS,
        state="requested",
        asked_ns=now_ns,
        settled_ns=0,
    )
    people.access.ask(request)
    return {"request": request.id, "digest": digest, "approvers": len(approvers(people, request, now_ns))}


def changed(site_dir: Path, draft: Site) -> Iterator[str]:
    """What acts otherwise than now, at the doors and in packets, a line each."""
    try:
        serving = load_proven(site_dir)
    except Fault:
        return
    yield from map(str, differences(serving, draft))
    if serving.firewall is not None and draft.firewall is not None:
        yield from (f"{line} (in packets)" for line in gains_and_losses(serving, draft))


def approvers(people: People, request: AccessRequest, now_ns: int) -> list[Person]:
    """Whoever could decide it today: let in, able to prove who they are, with a role that may, and not who asks."""
    asks, enrolled = asker(people, request), people.factors.enrolled()
    return [
        each
        for each in people.every()
        if (each.id in enrolled or each.source.startswith("oidc:"))
        and still_approves(each, request.act, asks, now_ns, request.approver)
    ]


def asker(people: People, request: AccessRequest) -> Person:
    """Whoever asked; an operator at a shell is a person without a role."""
    return people.get(request.person) or Person(request.person, request.person, request.person, frozenset())


def second_of(people: People, site_dir: Path, change: Change, now_ns: int) -> Second:
    """Who could approve the site file that an operator would apply, whether somebody did, and since when it is asked for."""
    digest = str(change.arguments.get("digest", ""))
    unasked = AccessRequest(
        "", "site", _actor(change), Act.POLICY_APPLY, "", digest, {}, "", now_ns, now_ns, "requested", 0, 0
    )
    found = [each for each in _of_file(people, digest) if each.until_ns > now_ns]
    return Second(
        approvers=len(approvers(people, unasked, now_ns)),
        approved=any(_approved(people, each, now_ns) for each in found),
        asked_ns=min((each.asked_ns for each in found), default=0),
        serving=_serving(site_dir),
    )


def _serving(site_dir: Path) -> str:
    """Read now: what a process knows of the site may be a moment old."""
    try:
        return proven_directory(site_dir).name
    except Fault:
        return ""


def _actor(change: Change) -> str:
    return change.operator.actor if isinstance(change.operator, Operator) else change.operator.person.id


def _of_file(people: People, digest: str) -> list[AccessRequest]:
    """Requests that wait, or were approved."""
    every = people.access.requests(state="requested") + people.access.requests(state="approved")
    return [each for each in every if each.act == Act.POLICY_APPLY and digest and each.digest == digest]


def _approved(people: People, request: AccessRequest, now_ns: int) -> bool:
    if request.state != "approved" or request.from_ns > now_ns:
        return False
    by = [people.get(each.person) for each in request.decisions if each.decision == "approved"]
    return any(each and still_approves(each, request.act, asker(people, request), now_ns) for each in by)


def settle(people: People, digest: str, now_ns: int) -> None:
    """It acts: what was approved for it is used up."""
    for each in _of_file(people, digest):
        people.access.settle(each.id, "done", now_ns)
