"""Which studies may somebody see? Cedar's partial evaluation, with the study left open, becomes a `StudyRule` that a query can filter by.

What comes out is a filter and never the last word: each study that passes it is decided again with all its facts. A residual in a form that is
not known here shows nothing, and says so loudly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from leadglass.policy.evaluation import Facts, Policies, PolicyFault, installed
from leadglass.policy.relationships import Ties
from leadglass.terms import (
    EVERY_STUDY,
    NO_STUDY,
    Act,
    AllOf,
    AnyOf,
    Dossier,
    Has,
    NotSo,
    Relation,
    StudyRule,
    key_of,
)

SCOPES_REMEMBERED_MAX = 4_096
RELATION = "relation"  # the field of a rule that still speaks of relations; `ground` puts patients, studies, names in its place


class UnknownResidual(PolicyFault):
    """Cedar left something of a policy that has no translation: nobody sees anything by it until it has one."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What an act reaches for somebody with these facts, with relations still unresolved, and the `@id`s of the permits that may give it."""

    rule: StudyRule
    rules: tuple[str, ...]


@lru_cache(maxsize=SCOPES_REMEMBERED_MAX)
def scope(act: Act, facts: Facts) -> Scope:
    """By the installed policies. Raises PolicyFault."""
    return scope_by(installed(), act, facts)


def scope_by(policies: Policies, act: Act, facts: Facts) -> Scope:
    """(any permit) and not (any forbid). Raises PolicyFault."""
    permits: list[StudyRule] = []
    forbids: list[StudyRule] = []
    named: set[str] = set()
    for residual in policies.residuals(act, facts):
        rule = all_of(_condition(each) for each in residual["conditions"])
        if residual["effect"] == "permit":
            permits.append(rule)
            if rule != NO_STUDY:
                named.add(str(residual.get("annotations", {}).get("id", "unnamed")))
        else:
            forbids.append(rule)
    shown = all_of([any_of(permits), not_so(any_of(forbids))])
    return Scope(shown, tuple(sorted(named)) if shown != NO_STUDY else ())


def ground(rule: StudyRule, ties: Ties, now_ns: int) -> StudyRule:
    """The rule with patients, studies, departments and names in the place of relations."""
    match rule:
        case Has(field, values) if field == RELATION:
            return any_of([ties.studies_of(frozenset(map(Relation, values)), now_ns)])
        case AnyOf(rules):
            return any_of(ground(each, ties, now_ns) for each in rules)
        case AllOf(rules):
            return all_of(ground(each, ties, now_ns) for each in rules)
        case NotSo(inner):
            # By its study a row may count that is of another patient: under a "not" that would hide what may be seen.
            return not_so(ground(inner, ties, now_ns)) if not _mentions_relation(inner) else EVERY_STUDY
        case _:
            return rule


def holds(rule: StudyRule, study: Dossier) -> bool:
    """Whether a study passes a rule: what a filter in SQL must agree with."""
    match rule:
        case Has("study", values):
            return study.study_instance_uid in values
        case Has("patient", values):
            return key_of(study.patient) in values
        case Has("department", values):
            return not values.isdisjoint(study.departments)
        case Has("clinician", values):
            return not values.isdisjoint(study.clinicians)
        case Has("modality", values):
            return not values.isdisjoint(study.modalities)
        case AnyOf(rules):
            return any(holds(each, study) for each in rules)
        case AllOf(rules):
            return all(holds(each, study) for each in rules)
        case NotSo(inner):
            return not holds(inner, study)
        case _:
            raise UnknownResidual(f"{rule} says nothing about a study", hint=_REPORT)


# ---- rules, put together; values of one field are joined, so that a filter stays short


def any_of(rules: Iterable[StudyRule]) -> StudyRule:
    found: dict[str, set[str]] = {}
    rest: list[StudyRule] = []
    for rule in rules:
        for each in rule.rules if isinstance(rule, AnyOf) else (rule,):
            if each == EVERY_STUDY:
                return EVERY_STUDY
            if isinstance(each, Has):
                found.setdefault(each.field, set()).update(each.values)
            elif each not in rest:
                rest.append(each)
    parts = [Has(field, frozenset(values)) for field, values in sorted(found.items()) if values] + rest
    return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))


def all_of(rules: Iterable[StudyRule]) -> StudyRule:
    parts: list[StudyRule] = []
    for rule in rules:
        for each in rule.rules if isinstance(rule, AllOf) else (rule,):
            if each == NO_STUDY:
                return NO_STUDY
            if each not in parts:
                parts.append(each)
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def not_so(rule: StudyRule) -> StudyRule:
    if rule == NO_STUDY:
        return EVERY_STUDY
    if rule == EVERY_STUDY:
        return NO_STUDY
    return rule.rule if isinstance(rule, NotSo) else NotSo(rule)


def _mentions_relation(rule: StudyRule) -> bool:
    match rule:
        case Has(field, _):
            return field == RELATION
        case NotSo(inner):
            return _mentions_relation(inner)
        case AnyOf(rules) | AllOf(rules):
            return any(_mentions_relation(each) for each in rules)


# ---- residuals (the JSON form of Cedar's policies)


def _condition(condition: Mapping[str, Any]) -> StudyRule:
    rule = _expression(condition["body"])
    match condition["kind"]:
        case "when":
            return rule
        case "unless":
            return not_so(rule)
        case other:
            raise UnknownResidual(f"a condition of the kind {other!r}", hint=_REPORT)


def _expression(node: Any) -> StudyRule:
    match node:
        case {"Value": True}:
            return EVERY_STUDY
        case {"Value": False}:
            return NO_STUDY
        case {"&&": {"left": left, "right": right}}:
            return all_of([_expression(left), _expression(right)])
        case {"||": {"left": left, "right": right}}:
            return any_of([_expression(left), _expression(right)])
        case {"!": {"arg": inner}}:
            return not_so(_expression(inner))
        case {"contains": {"left": attribute, "right": {"Value": str(value)}}}:
            return Has(_field(attribute), frozenset({value}))
        case {"containsAny": {"left": attribute, "right": values}}:
            return Has(_field(attribute), frozenset(_texts(values)))
        case {"containsAll": {"left": attribute, "right": values}}:
            return all_of(Has(_field(attribute), frozenset({value})) for value in _texts(values))
        case _:
            raise UnknownResidual(f"no translation for {str(node)[:200]}", hint=_REPORT)


def _field(node: Any) -> str:
    match node:
        case {".": {"left": {"unknown": [{"Value": "resource"}]}, "attr": "relations"}}:
            return RELATION
        case {".": {"left": {"unknown": [{"Value": "resource"}]}, "attr": "modalities"}}:
            return "modality"
        case _:
            raise UnknownResidual(f"no translation for {str(node)[:200]}", hint=_REPORT)


def _texts(node: Any) -> list[str]:
    match node:
        case {"Set": list(listed)} if all(
            isinstance(each, dict) and isinstance(each.get("Value"), str) for each in listed
        ):
            return [each["Value"] for each in listed]
        case _:
            raise UnknownResidual(f"no translation for {str(node)[:200]}", hint=_REPORT)


_REPORT = "nobody sees studies by this policy until it is mended: report it with the policies that are installed"
