"""How much may leave the house in a day, and when nothing in bulk? Pure: what left already and the limits, to nothing, or a refusal.

One person alone takes out the studies of a few patients a day, each to whoever treats them next; more is bulk, and bulk is approved by somebody else. What leaves
in all has a limit of its own that no approval lifts: two people who do it together are slow.
"""

from __future__ import annotations

from leadglass.site.exports import Spent
from leadglass.site.model import Limits
from leadglass.terms import Contained, Containment, Export, NotPermitted, Overloaded, SecondPersonNeeded

RULE = "export:budget"
STUDIES_MAX = 100  # of one download
RECIPIENT_CHARACTERS_MIN, RECIPIENT_CHARACTERS_MAX = 3, 200


def over_budget(limits: Limits, spent: Spent) -> bool:
    """Whether another patient is more than one person may export alone today."""
    return spent.by_person >= limits.exported_patients_per_day_max


def judge(export: Export, limits: Limits, spent: Spent, *, bulk: bool) -> None:
    """`bulk`: it was decided as bulk, so somebody else approved it. Raises SecondPersonNeeded, Overloaded."""
    if not bulk and over_budget(limits, spent):
        name = export.subject.name
        raise SecondPersonNeeded(
            f"{name} exported studies of {spent.by_person} patients within 24 hours, as many as one may alone: ask for access",
            rule=RULE,
        )
    if spent.by_all >= limits.exported_patients_of_all_per_day_max:
        raise Overloaded(
            f"studies of {spent.by_all} patients left within 24 hours, and limits.exported_patients_of_all_per_day_max lets no more go:"
            " find out why so much leaves",
            rule=RULE,
        )


def well_said(export: Export) -> None:
    """Raises NotPermitted where it is not said who is to get it."""
    if not RECIPIENT_CHARACTERS_MIN <= len(export.recipient) <= RECIPIENT_CHARACTERS_MAX:
        raise NotPermitted(
            f"an export says who is to get it, in {RECIPIENT_CHARACTERS_MIN} to {RECIPIENT_CHARACTERS_MAX} characters"
        )


def not_in_bulk(containment: Containment, *, bulk: bool) -> None:
    """A site that is read-only gives nothing in bulk; one patient's study still goes where they are treated. Raises Contained."""
    if bulk and containment.read_only:
        raise Contained(f"the site is read-only ({containment.read_only}): nothing leaves in bulk until that ends")
