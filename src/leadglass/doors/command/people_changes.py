"""How are changes to people done? One function a kind. What takes a right away ends the sessions that used it, in the same transaction, and
raises the generation last, so that every process looks again within a second."""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from leadglass.identity.people.desk import Desk
from leadglass.identity.people.elsewhere import vouched_of
from leadglass.identity.people.links import link_address
from leadglass.identity.people.review import findings_digest, findings_of, findings_text
from leadglass.identity.people.vouched import person_of
from leadglass.policy.people import incompatible
from leadglass.site.model import OnDemand
from leadglass.site.people import People, Review, fold_name, folded_set, person_name_problem
from leadglass.terms import Caller, Change, ChangeKind, NotChanged, Person, Role

Result = Mapping[str, object]
Arguments = Mapping[str, Any]
TEXT_CHARACTERS_MAX = 512
ALL_SESSIONS = "all"
LOCAL = "local"  # nobody else vouches for them


@dataclass(frozen=True, slots=True)
class PeopleParts:
    """What changes to people act on. `web_address`: what links begin with; `raise_generation`: makes a change act everywhere; `on_demand`: the flows
    that may be asked for."""

    people: People
    desk: Desk
    web_address: Callable[[], str]
    raise_generation: Callable[[Change], None]
    clock: Callable[[], int] = time.time_ns  # Unix nanoseconds
    on_demand: Callable[[], Mapping[str, OnDemand]] = dict


def _add(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    name = fold_name(change.about)
    if problem := person_name_problem(name):
        raise NotChanged(f"{change.about[:64]!r} cannot name a person: {problem}")
    roles = frozenset(_role(each) for each in arguments.get("roles", ()))
    if not roles:
        raise NotChanged("somebody without a role may do nothing: name one")
    if clash := incompatible(roles):
        raise NotChanged(clash)
    person = Person(
        id=secrets.token_hex(16),
        name=name,
        display=_text(arguments, "display") or name,
        roles=roles,
        departments=folded_set(arguments.get("departments", ())),
        names=folded_set(arguments.get("names", ())),
        mail=_text(arguments, "mail"),
        until_ns=_until(arguments.get("until")),
    )
    certificate = arguments.get("certificate")
    certificates = [str(certificate["fingerprint"])] if certificate else []
    if (Role.SERVICE_ACCOUNT in roles) != bool(certificates):
        raise NotChanged(
            f"a {Role.SERVICE_ACCOUNT} has the certificate that its machine presents, and nobody else has one"
        )
    if certificate:
        parts.people.pin(name, certificate)
    parts.people.add(person, change.operator.name, _why(arguments), time.time_ns(), certificates)
    parts.raise_generation(change)
    if certificates:
        return {"person": name, "roles": sorted(roles), "certificates": certificates}
    return {"person": name, "roles": sorted(roles), **_link(parts, person, "enroll")}


def _disable(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    person = person_named(parts, change.about)
    ended = parts.people.disable(person.id, _why(arguments), time.time_ns(), gone=bool(arguments.get("gone")))
    parts.raise_generation(change)
    return {"person": person.name, "enabled": False, "sessions_ended": ended}


def _enable(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    person = person_named(parts, change.about)
    parts.people.enable(person.id, time.time_ns())
    parts.raise_generation(change)
    return {"person": person.name, "enabled": True}


def _reset(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    """Every factor gone, every session ended, a new link."""
    person = person_named(parts, change.about)
    if not person.enabled:
        raise NotChanged(f"{person.name} is disabled: `leadglass people enable {person.name}` first")
    parts.people.factors.reset(person.id, f"factors were reset: {_why(arguments)}", time.time_ns())
    parts.raise_generation(change)
    return {"person": person.name, **_link(parts, person, "reset")}


def _vouch(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    """What a provider or directory said at a sign-in: who that is, with the roles that it gives and no others. Repeated, it changes nothing."""
    vouched = vouched_of(change.about, arguments)
    known = parts.people.get(vouched.person_id) or parts.people.named(vouched.name)
    person = person_of(vouched, known, gone=known is not None and parts.people.gone(known.id))
    if clash := incompatible(person.roles):
        raise NotChanged(f"{vouched.source} gives {person.name} roles of which {clash}")
    ended = parts.people.vouch(person, f"{vouched.source} vouches for them", time.time_ns())
    parts.raise_generation(change)
    return {"person": person.name, "roles": sorted(person.roles), "sessions_ended": ended}


def _grant(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    person, role = person_named(parts, change.about), _role(arguments.get("role"))
    if person.source != LOCAL:
        raise NotChanged(
            f"{person.source} alone says what {person.name} is: put them in a group there that gives {role}"
        )
    if clash := incompatible(person.roles | {role}):
        raise NotChanged(clash)
    parts.people.grant(person.id, role, change.operator.name, _why(arguments), time.time_ns())
    parts.raise_generation(change)
    return {"person": person.name, "roles": sorted(person.roles | {role})}


def _revoke(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    person, role = person_named(parts, change.about), _role(arguments.get("role"))
    ended = parts.people.revoke(person.id, role, _why(arguments), time.time_ns())
    parts.raise_generation(change)
    return {"person": person.name, "roles": sorted(person.roles - {role}), "sessions_ended": ended}


def _enroll_factor(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    """Only what the desk sealed as proven; whoever orders it."""
    return parts.desk.accept(fold_name(change.about), arguments)


def _remove_factor(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    person = person_named(parts, change.about)
    session = ""
    if isinstance(change.operator, Caller):
        parts.desk.must_be_fresh(change.operator)
        session = change.operator.session
    credential = str(arguments.get("credential", ""))
    if credential == "password":
        parts.people.factors.remove_password(person.id)
    else:
        parts.people.factors.remove_passkey(person.id, credential, session, time.time_ns())
    parts.raise_generation(change)
    return {"person": person.name, "removed": credential}


def _end_session(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    """One of a person's sessions, or all of them."""
    person, wanted = person_named(parts, change.about), str(arguments.get("session", ""))
    why = f"ended by {change.operator.name}: {_text(arguments, 'why') or 'no reason given'}"
    ended = [each.id for each in parts.desk.sessions(person.id) if wanted in (each.id, ALL_SESSIONS)]
    if not ended and wanted != ALL_SESSIONS:
        raise NotChanged(f"{person.name} has no such session: `leadglass people sessions {person.name}` shows them")
    for each in ended:
        parts.desk.end_session(each, why)
    parts.raise_generation(change)
    return {"person": person.name, "ended": ended}


def _review(parts: PeopleParts, change: Change, arguments: Arguments) -> Result:
    """Signed for what the reviewer saw, and for nothing else: what was found since is looked at again."""
    now_ns = time.time_ns()
    found = findings_of(parts.people, now_ns)
    if findings_digest(found) != change.about:
        raise NotChanged("the findings are others than those that you saw: `leadglass people review` shows them anew")
    parts.people.add_review(Review(change.id, change.operator.name, now_ns, change.about, findings_text(found)))
    return {"digest": change.about, "findings": len(found), "reviewer": change.operator.name}


def _link(parts: PeopleParts, person: Person, purpose: str) -> dict[str, object]:
    secret, until_ns = parts.desk.invite(person, purpose)
    return {"enrolment": link_address(parts.web_address(), secret), "until": _iso(until_ns)}


def person_named(parts: PeopleParts, name: str) -> Person:
    """Raises NotChanged."""
    person = parts.people.named(name)
    if person is None:
        raise NotChanged(f"nobody is called {name[:64]!r} here: `leadglass people list` shows who is")
    return person


def _role(text: object) -> Role:
    try:
        return Role(str(text))
    except ValueError:
        raise NotChanged(f"there is no role {str(text)[:64]!r}: {', '.join(Role)}") from None


def _why(arguments: Arguments) -> str:
    why = _text(arguments, "why")
    if not why:
        raise NotChanged("say why: it stands beside the change for whoever reviews it")
    return why


def _text(arguments: Arguments, key: str) -> str:
    text = str(arguments.get(key) or "").encode("utf-8", "replace").decode()
    return " ".join(text.split())[:TEXT_CHARACTERS_MAX]


def _until(text: object) -> int:
    if not text:
        return 0
    try:
        at = dt.datetime.fromisoformat(str(text))
    except ValueError:
        raise NotChanged(f"{str(text)[:64]!r} is no date: write 2026-12-31") from None
    return int((at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp()) * 1_000_000_000


def _iso(nanoseconds: int) -> str:
    return dt.datetime.fromtimestamp(nanoseconds / 1e9, dt.UTC).isoformat(timespec="seconds")


PEOPLE_KINDS: Mapping[ChangeKind, Callable[[PeopleParts, Change, Arguments], Result]] = {
    ChangeKind.ACCOUNTS_REVIEW: _review,
    ChangeKind.FACTOR_ENROLL: _enroll_factor,
    ChangeKind.FACTOR_REMOVE: _remove_factor,
    ChangeKind.PERSON_ADD: _add,
    ChangeKind.PERSON_DISABLE: _disable,
    ChangeKind.PERSON_ENABLE: _enable,
    ChangeKind.PERSON_RESET: _reset,
    ChangeKind.PERSON_VOUCH: _vouch,
    ChangeKind.ROLE_GRANT: _grant,
    ChangeKind.ROLE_REVOKE: _revoke,
    ChangeKind.SESSION_END: _end_session,
}
