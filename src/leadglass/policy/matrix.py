"""What may each role, on the whole? Found by asking the policies with every combination of facts that a decision can be given; never written down here.

docs/roles.md holds the same table written by hand, with the reasons; a test compares the two cell by cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from leadglass.policy.evaluation import (
    Facts,
    Matter,
    OfAccount,
    OfMatter,
    OfSite,
    OfStudy,
    ask,
    matters_of,
)
from leadglass.terms import Act, Relation, Role


@dataclass(frozen=True, slots=True)
class Cell:
    """What one role may of one act. `relations`: to a study, any one of which is enough; none where no relation matters.

    `needs_second_person`: somebody else approves first, at least in some cases; `always`: in all of them. `self_approval`: whether who asks
    could be that somebody, whatever other role they hold.
    """

    role: Role
    act: Act
    allowed: bool
    relations: tuple[Relation, ...]
    needs_step_up: bool
    needs_second_person: bool
    always: bool
    self_approval: bool


def matrix() -> Iterator[Cell]:
    """A cell for each role and act, in the order of both."""
    for role in Role:
        for act in Act:
            yield cell(role, act)


@lru_cache(maxsize=1024)
def cell(role: Role, act: Act) -> Cell:
    roles = frozenset({role})
    possible = {about for about in _abouts(act) if _allowed(act, roles, about, approved=True)}
    alone = {about for about in possible if _allowed(act, roles, about, approved=False)}
    in_bulk = {about for about in alone if _allowed(act, roles, about, approved=False, bulk=True)}
    needs_second = possible != in_bulk
    return Cell(
        role,
        act,
        allowed=bool(possible),
        relations=_relations(possible),
        needs_step_up=bool(possible)
        and not any(_allowed(act, roles, about, approved=True, stepped_up=False) for about in possible),
        needs_second_person=needs_second,
        always=bool(possible) and not alone,
        self_approval=needs_second and _approves_own(role, act),
    )


def needs_step_up(act: Act) -> bool:
    """Whether whoever may at all must show a fresh passkey first."""
    return any(cell(role, act).needs_step_up for role in Role)


def needs_second_person(act: Act, *, bulk: bool = False) -> bool:
    """Whether somebody else must approve first: always, or where more than one patient is concerned."""
    return any(found.always or (bulk and found.needs_second_person) for found in _standing(act))


def _standing(act: Act) -> Iterator[Cell]:
    """The cells of those who may for themselves: what a visitor may is by appointment, whatever it is."""
    visitors = (Role.OUTSIDE_REVIEWER, Role.VENDOR)
    return (found for role in Role if role not in visitors and (found := cell(role, act)).allowed)


def _allowed(
    act: Act, roles: frozenset[Role], about: Matter, *, approved: bool, stepped_up: bool = True, bulk: bool = False
) -> bool:
    return ask(act, Facts(roles, stepped_up, approved, bulk), about).allowed


def _abouts(act: Act) -> Iterator[Matter]:
    """Every kind of thing that an act can be about: each relation by itself and none, somebody else's matters and accounts."""
    for kind in matters_of(act):
        if kind is OfStudy:
            yield OfStudy()
            yield from (OfStudy(frozenset({relation})) for relation in Relation)
        elif kind is OfSite:
            yield OfSite()
        elif kind is OfMatter:
            yield from (OfMatter(of, False) for of in Act)
            yield OfMatter("", False, decided=True)
            yield from (OfMatter("", False, frozenset({role})) for role in Role)
        elif kind is OfAccount:
            yield from (OfAccount(False, frozenset({role})) for role in Role)


def _relations(abouts: set[Matter]) -> tuple[Relation, ...]:
    if OfStudy() in abouts:
        return ()
    found = {relation for about in abouts if isinstance(about, OfStudy) for relation in about.relations}
    return tuple(relation for relation in Relation if relation in found)


def _approves_own(role: Role, act: Act) -> bool:
    return any(
        _allowed(Act.ACCESS_APPROVE, frozenset({role, other}), OfMatter(act, True, approver=other), approved=approved)
        for other in Role
        for approved in (False, True)
    )
