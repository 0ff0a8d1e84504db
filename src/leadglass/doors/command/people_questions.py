"""What can be asked about people? Accounts with their rights, sessions, and what a review of accounts finds."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Mapping
from typing import Any

from leadglass.doors.house import House, Question
from leadglass.identity.people.review import findings_digest, findings_of, review_due
from leadglass.site.people import Account

Row = Mapping[str, object]


def people(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """Everybody, by name: roles with who granted them and why, how they prove themselves, when last seen."""
    now_ns = time.time_ns()
    for account in house.people.accounts():
        yield _described(house, account, now_ns)


def sessions(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """The live ones, the newest first; of one person where `name` says so."""
    now_ns = time.time_ns()
    names = {each.id: each.name for each in house.people.every()}
    for each in house.people.sessions.every():
        name = names.get(each.person, each.person)
        if each.live(now_ns) and arguments.get("name", "") in ("", name):
            yield {
                "session": each.id,
                "person": name,
                "address": each.address,
                "factors": sorted(each.factors),
                "opened": _iso(each.opened_ns),
                "seen": _iso(each.seen_ns),
                "locked": each.locked,
                "until": _iso(each.until_ns),
            }


def review(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """What should be looked at, a row each; then one with the digest that a signature stands for, and when it was last given."""
    now_ns = time.time_ns()
    found = findings_of(house.people, now_ns)
    for each in found:
        yield {"person": each.person, "finding": each.kind, "role": each.role, "reason": each.reason, "mend": each.mend}
    last = house.people.last_review()
    yield {
        "digest": findings_digest(found),
        "last_review": _iso(last.at_ns) if last else "",
        "reviewer": last.reviewer if last else "",
        "overdue": review_due(house.people.accounts(), last, now_ns),
    }


PEOPLE_QUESTIONS: Mapping[str, Question] = {"people": people, "people-review": review, "sessions": sessions}


def amber_people(house: House) -> Iterator[str]:
    """What `status` says about people, in words an operator can act on."""
    accounts, now_ns = house.people.accounts(), time.time_ns()
    if not house.people.factors.enrolled():
        yield "no person is enrolled: one operator changes the site alone"
    site, sources = house.site(), sorted({each.person.source for each in accounts if each.person.enabled} - {"local"})
    for source in sources:
        kind, _, name = source.partition(":")
        if name not in (site.providers if kind == "oidc" else site.directories):
            yield f"{source} is no longer in the site file, and people whom it vouched for still have accounts: `leadglass people list`"
    if accounts and review_due(accounts, house.people.last_review(), now_ns):
        yield "the review of accounts is overdue: `leadglass people review`, then sign it with --sign"


def _described(house: House, account: Account, now_ns: int) -> Row:
    person, factors = account.person, house.people.factors
    password = factors.password(person.id)
    own = house.people.sessions.of(person.id)
    return {
        "name": person.name,
        "display": person.display,
        "roles": [str(each.role) for each in account.grants],
        "state": _state(
            account, now_ns, enrolled=bool(password or factors.passkeys(person.id) or account.certificates)
        ),
        "departments": sorted(person.departments),
        "names": sorted(person.names),
        "mail": person.mail,
        "source": person.source,
        "passkeys": len(factors.passkeys(person.id)),
        "password": bool(password and password.hash),
        "app": password is not None,
        "recovery_codes": factors.recovery_codes_left(person.id),
        "certificates": sorted(account.certificates),
        "sessions": sum(each.live(now_ns) for each in own),
        "last_seen": _iso(max((each.seen_ns for each in own), default=0)),
        "added": _iso(account.added_ns),
        "added_by": account.added_by,
        "why": account.why,
        "until": _iso(person.until_ns),
        "disabled_why": account.disabled_why,
        "grants": [
            {
                "role": each.role,
                "by": each.granted_by,
                "why": each.why,
                "at": _iso(each.at_ns),
                "last_used": _iso(each.last_used_ns),
            }
            for each in account.grants
        ],
    }


def _state(account: Account, now_ns: int, *, enrolled: bool) -> str:
    if not account.person.enabled:
        return "gone" if account.gone_ns else "disabled"
    if account.person.until_ns and now_ns >= account.person.until_ns:
        return "ended"
    return "enrolled" if enrolled else "invited"


def _iso(nanoseconds: int) -> str:
    return dt.datetime.fromtimestamp(nanoseconds / 1e9, dt.UTC).isoformat(timespec="seconds") if nanoseconds else ""
