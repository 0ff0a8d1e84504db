"""Who may do what, and why? Turns the words of `leadglass policy explain` into facts, and the answer into rows.

WHO is a device's name, a person's, or a role's (`ROLE:name` where a person is called like a role). WHAT is a Study Instance UID, a Patient ID, or `-` for the site itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.house import House
from leadglass.policy.evaluation import SITE, STUDY_ACTS, Facts, OfStudy
from leadglass.policy.explain import Explained, explain_device, explain_person
from leadglass.policy.people import of_study
from leadglass.policy.relationships import Ties
from leadglass.terms import Act, Action, Caller, Dossier, PatientIdentity, Peer, Person, Role

Row = Mapping[str, object]
ROLE_PREFIX = "ROLE:"
NOTHING = ("", "-", "site")
DOSSIERS_MAX = 100
_ACTS_OF_DIMSE = {
    Action.STORE: Act.STUDY_STORE,
    Action.FIND: Act.STUDY_FIND,
    Action.GET: Act.STUDY_READ,
    Action.MOVE: Act.STUDY_READ,
    Action.COMMIT: Act.STUDY_READ,
}


def explain(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """The question `policy-explain`: a row, or of a patient's studies one each. Raises Stopped."""
    who, action, what = (str(arguments[name]) for name in ("who", "action", "what"))
    device = house.site().devices.get(who)
    if device is not None:
        named = "" if what in NOTHING else what
        now = (house.site(), house.containment(), device, _dimse(action), named)
        found = explain_device(*now, opened=house.present.opened_to(who))
        yield _row(who, action, what, found)
        return
    caller = _caller(house, who)
    act = act_of(action)
    if act not in STUDY_ACTS:
        yield _row(who, action, what, explain_person(act, _facts(caller, act), SITE))
        return
    ties, now_ns = Ties.of(caller, act), time.time_ns()
    for study in _dossiers(house, what):
        about = OfStudy(ties.to(study, now_ns), study.modalities)
        found = explain_person(act, of_study(_facts(caller, act), act, about), about)
        relations = sorted(about.relations)
        yield {**_row(who, action, study.study_instance_uid or what, found), "relations": relations}


def explain_role(who: str, action: str) -> Iterator[Row]:
    """`ROLE:name` about the site, or about a study that it has no relation to: what needs no site to be answered. Raises Stopped."""
    act = act_of(action)
    about = OfStudy() if act in STUDY_ACTS else SITE
    yield _row(who, action, "-", explain_person(act, Facts(frozenset({_role(who)})), about))


def act_of(action: str) -> Act:
    """Raises Stopped."""
    try:
        return Act(action)
    except ValueError:
        pass
    if action in _ACTS_OF_DIMSE:
        return _ACTS_OF_DIMSE[Action(action)]
    raise Stopped(Exit.USAGE, f"{action!r} is no act of a person", hint=f"one of {', '.join((*Act, *_ACTS_OF_DIMSE))}")


def _dimse(action: str) -> Action:
    try:
        return Action(action)
    except ValueError:
        raise Stopped(
            Exit.USAGE, f"{action!r} is nothing that a device does", hint=f"one of {', '.join(Action)}"
        ) from None


def _role(who: str) -> Role:
    name = who.removeprefix(ROLE_PREFIX)
    try:
        return Role(name)
    except ValueError:
        raise Stopped(Exit.USAGE, f"there is no role {name!r}", hint=f"one of {', '.join(Role)}") from None


def _caller(house: House, who: str) -> Caller:
    """As whoever it is would be at a door, with what is in force now; no passkey is fresh."""
    nowhere = Peer("", 0, "command")
    if who.startswith(ROLE_PREFIX):
        return Caller(Person("", who, who, frozenset({_role(who)})), "", nowhere, frozenset())
    person = house.people.named(who)
    if person is None and who in tuple(Role):
        return _caller(house, ROLE_PREFIX + who)
    if person is None:
        raise Stopped(
            Exit.FAILED,
            f"nobody and nothing is called {who!r} here",
            hint="a person's name, a device's name, or ROLE: and the name of a role",
        )
    if not person.enabled:
        raise Stopped(Exit.FAILED, f"{person.name} is disabled: they may do nothing until that ends")
    return house.desk.as_if_here(person, nowhere)


def _facts(caller: Caller, act: Act) -> Facts:
    return Facts(caller.person.roles, False, act in caller.approved)


def _dossiers(house: House, what: str) -> Iterator[Dossier]:
    """The study, or each study of the patients with that id; where there is none, one that says nothing of itself."""
    found = [] if what in NOTHING else house.index.dossiers(what, DOSSIERS_MAX)
    yield from found or [Dossier("", PatientIdentity(""))]


def _row(who: str, action: str, what: str, found: Explained) -> dict[str, object]:
    return {
        "who": who,
        "action": action,
        "what": what,
        "decision": "allow" if found.allowed else "deny",
        "allowed": found.allowed,
        "rules": list(found.rules),
        "why": found.why,
        "would": [list(each) for each in found.would],
    }
