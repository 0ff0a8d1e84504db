"""What do the Cedar policies answer? One question with all its facts, or with the study left open. Pure: the same facts, the same answer.

Allowed is only what Cedar allows with no policy in error: one that fails to evaluate is left out by Cedar, a forbid too, which would open
what it should keep shut. Facts are built as the schema wants them, so a question that does not fit is an error, never an answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import cedarpy

from leadglass.terms import Act, Fault, Relation, Role

POLICY_FILES = ("roles.cedar", "separation.cedar")
ANSWERS_REMEMBERED_MAX = 16_384
STUDY_ACTS = frozenset((Act.STUDY_ERASE, Act.STUDY_EXPORT, Act.STUDY_FIND, Act.STUDY_READ))
MATTER_ACTS = frozenset((Act.ACCESS_APPROVE, Act.CONTAINMENT_END, Act.GLASS_REVIEW, Act.TRANSCRIPT_READ))
ACCOUNT_ACTS = frozenset((Act.PERSON_ADD, Act.PERSON_DISABLE, Act.PERSON_RESET, Act.ROLE_GRANT))
_ASKER, _OTHER = "asker", "other"


@dataclass(frozen=True, slots=True)
class Facts:
    """Of whoever asks. `approved`: this very act, for this person, by another, in its window. `bulk`: more than one patient's."""

    roles: frozenset[Role]
    stepped_up: bool = False
    approved: bool = False
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class OfStudy:
    """One study: what the asker is to it, and its modalities."""

    relations: frozenset[Relation] = frozenset()
    modalities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class OfSite:
    """No study, nobody's matter: the site."""


@dataclass(frozen=True, slots=True)
class OfMatter:
    """What another decides about: the act it would allow, whether it is the asker's own, and the roles of whose it is.

    `decided`: by the asker. `approver`: the role that a flow on demand names. `withdrawn`: it is taken back, not given.
    """

    act: str
    own: bool
    roles: frozenset[Role] = frozenset()
    decided: bool = False
    approver: str = ""
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class OfAccount:
    """An account: whether it is the asker's own, and the roles it is to have."""

    own: bool
    roles: frozenset[Role] = frozenset()


Matter = OfStudy | OfSite | OfMatter | OfAccount
SITE = OfSite()


@dataclass(frozen=True, slots=True)
class Answer:
    """`rules`: the `@id`s that decided: of the permits where it is allowed, of the forbids where one forbids; none: nothing allows it."""

    allowed: bool
    rules: tuple[str, ...]

    @property
    def rule(self) -> str:
        """As permits and events name it."""
        return "+".join(f"cedar:{each}" for each in self.rules)


class PolicyFault(Fault):
    """The policies cannot be asked, or gave no answer that may be believed: nothing is allowed then."""


@dataclass(frozen=True, slots=True)
class Policies:
    """A set of policies with the schema that it was validated against; ask it through `ask` and `residuals`."""

    schema: Any
    policies: Any

    @classmethod
    def parse(cls, schema: str, policies: str) -> Policies:
        """Raises PolicyFault where they do not fit each other."""
        try:
            found = cedarpy.validate_policies(policies, schema)
            parsed = cls(cedarpy.Schema.from_str(schema), cedarpy.PolicySet.from_str(policies))
        except ValueError as error:
            raise PolicyFault(f"the policies cannot be read: {error}", hint=_REINSTALL) from error
        if not found.validation_passed:
            told = "; ".join(str(each.error) for each in found.errors)
            raise PolicyFault(f"the policies do not fit their schema: {told}", hint=_REINSTALL)
        return parsed

    def ask(self, act: Act, facts: Facts, about: Matter) -> Answer:
        """Raises PolicyFault where a policy fails to evaluate: then neither yes nor no is to be believed."""
        answer = cedarpy.is_authorized(
            {**_request(act, facts), "resource": _name_of(about)}, self.policies, _entities(facts, about), self.schema
        )
        if answer.diagnostics.errors:
            raise PolicyFault(f"{act}: a policy failed: {answer.diagnostics.errors}", hint=_REINSTALL)
        named = answer.diagnostics.id_annotations_by_reason
        return Answer(
            answer.decision is cedarpy.Decision.Allow,
            tuple(sorted(named.get(each, each) for each in answer.diagnostics.reasons)),
        )

    def residuals(self, act: Act, facts: Facts) -> tuple[Mapping[str, Any], ...]:
        """What is left of each policy that may matter when all is known but the study, in Cedar's JSON form. Raises PolicyFault."""
        answer = cedarpy.is_authorized_partial(_request(act, facts), self.policies, _entities(facts, SITE), self.schema)
        if answer.diagnostics.errors or (not answer.residuals and answer.decision is cedarpy.Decision.NoDecision):
            raise PolicyFault(f"{act}: a policy failed: {answer.diagnostics.errors}", hint=_REINSTALL)
        return tuple(answer.residuals.values())


@cache
def installed() -> Policies:
    """The policies that come with the program."""
    here = files("leadglass.policy.cedar")
    text = "\n".join((here / name).read_text(encoding="utf-8") for name in POLICY_FILES)
    return Policies.parse((here / "leadglass.cedarschema").read_text(encoding="utf-8"), text)


@lru_cache(maxsize=ANSWERS_REMEMBERED_MAX)
def ask(act: Act, facts: Facts, about: Matter) -> Answer:
    """The answer of the installed policies. Raises PolicyFault."""
    return installed().ask(act, facts, about)


def matters_of(act: Act) -> tuple[type[Matter], ...]:
    """What an act is about, as the schema has it."""
    if act in STUDY_ACTS:
        return (OfStudy,)
    if act in MATTER_ACTS:
        return (OfSite, OfMatter)
    return (OfSite, OfAccount) if act in ACCOUNT_ACTS else (OfSite,)


# ---- in Cedar's words


def _request(act: Act, facts: Facts) -> dict[str, Any]:
    context = {"stepped_up": facts.stepped_up, "approved": facts.approved, "bulk": facts.bulk}
    return {"principal": f'Person::"{_ASKER}"', "action": f'Action::"{act}"', "context": context}


def _entities(facts: Facts, about: Matter) -> str:
    entities = [_entity("Person", _ASKER, {"roles": sorted(facts.roles)})]
    match about:
        case OfStudy(relations, modalities):
            own = {"relations": sorted(relations), "modalities": sorted(modalities)}
            entities.append(_entity("Study", "this", own))
        case OfMatter(act, own_matter, roles, decided, approver, withdrawn):
            entities += _others(own_matter, roles)
            deciders = [{"__entity": _person(True)}] if decided else []
            by = {"__entity": _person(own_matter)}
            matter = {"act": act, "by": by, "deciders": deciders, "approver": approver, "withdrawn": withdrawn}
            entities.append(_entity("Matter", "this", matter))
        case OfAccount(own_account, roles):
            entities += _others(own_account, frozenset())
            account = {"holder": {"__entity": _person(own_account)}, "roles": sorted(roles)}
            entities.append(_entity("Account", "this", account))
        case OfSite():
            entities.append(_entity("Site", "this", {}))
    return json.dumps(entities)


def _others(own: bool, roles: frozenset[Role]) -> list[dict[str, Any]]:
    return [] if own else [_entity("Person", _OTHER, {"roles": sorted(roles)})]


def _person(own: bool) -> dict[str, str]:
    return _uid("Person", _ASKER if own else _OTHER)


def _name_of(about: Matter) -> str:
    kind = {OfStudy: "Study", OfSite: "Site", OfMatter: "Matter", OfAccount: "Account"}[type(about)]
    return f'{kind}::"this"'


def _uid(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "id": str(name)}


def _entity(kind: str, name: str, attributes: dict[str, Any]) -> dict[str, Any]:
    return {"uid": _uid(kind, name), "attrs": attributes, "parents": []}


_REINSTALL = "these files come with the program: install it again, and report this"
