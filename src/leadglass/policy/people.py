"""May this person? Pure: a caller and what they ask, to a rule, or a refusal. Default deny."""

from __future__ import annotations

from collections.abc import Mapping

from leadglass.terms import Act, Caller, Change, ChangeKind, NotPermitted, Permit, Proposal, Request, Role

ACTS: Mapping[ChangeKind, Act] = {}
"""What a change asks for, where a person may ask for it at all."""


def decide_person(caller: Caller, request: Request | Proposal, generation: int) -> Permit:
    """What the caller may have of what they ask. Raises NotPermitted."""
    raise NotPermitted(f"{caller.name} may not: no rule allows it")


def may(caller: Caller, act: Act) -> str:
    """The rule that allows an act that is about no study. Raises NotPermitted."""
    raise NotPermitted(f"{caller.name} may not {act}: no rule allows it")


def authorise_person(caller: Caller, change: Change) -> str:
    """The rule that allows a change. Raises NotPermitted."""
    act = ACTS.get(change.kind)
    if act is None:
        raise NotPermitted(f"{change.kind} is a command's alone: no person may ask for it at a door")
    return may(caller, act)


def incompatible(roles: frozenset[Role]) -> str:
    """Which two of these nobody may have together; "" where they go together. Whoever watches is not whoever is watched."""
    watchers = {Role.SECURITY_OFFICER, Role.AUDITOR}
    if (len(roles & watchers) and roles - watchers) or watchers <= roles:
        return f"nobody is {' and '.join(sorted(roles))} at once: who watches is not who is watched"
    return ""
