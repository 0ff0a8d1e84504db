"""How much may be ordered to be erased in a day, when is it done, and who may undo it until then? Pure."""

from __future__ import annotations

from leadglass.policy.evaluation import Facts, OfMatter, OfStudy, ask
from leadglass.site.model import Limits
from leadglass.terms import Act, Caller, NotPermitted, Overloaded

HOUR_NS = 3600 * 1_000_000_000


def judge(limits: Limits, ordered: int, more: int) -> None:
    """`ordered`: studies within the last 24 hours. Raises Overloaded."""
    if ordered + more > limits.erased_studies_per_day_max:
        raise Overloaded(
            f"{ordered} studies were ordered to be erased within 24 hours, and limits.erased_studies_per_day_max lets {more} more wait for another day",
            rule="erasure:budget",
        )


def due_ns(limits: Limits, now_ns: int) -> int:
    """When what is ordered now is done."""
    return now_ns + limits.erasure_delay_hours * HOUR_NS


def undoes(caller: Caller) -> str:
    """The rule by which somebody undoes an erasure: whoever may order one or approve one, without asking anybody. Raises NotPermitted."""
    roles = caller.person.roles
    for act, about in ((Act.STUDY_ERASE, OfStudy()), (Act.ACCESS_APPROVE, OfMatter(Act.STUDY_ERASE, own=False))):
        answer = ask(act, Facts(roles, stepped_up=True, approved=True), about)
        if answer.allowed:
            return answer.rule
    raise NotPermitted(f"{caller.name} may neither erase nor approve that, and so not undo it")
