"""Who may not decide about what? Dynamic separation of duties: nobody decides about their own, and one alone waits a day. Pure.

What each role may at all is Cedar's (`people.py`); this is about the two people of one act.
"""

from __future__ import annotations

from dataclasses import dataclass

from leadglass.terms import Act, Caller, NotPermitted

SECOND_NS = 1_000_000_000
ALONE_WAITS_SECONDS = 24 * 3600  # an approval where nobody else could have given it
GLASS_SECONDS = 3600
LEASE_SECONDS_MAX = 12 * 3600
WINDOW_SECONDS_MAX = {
    Act.STUDY_READ: 30 * 86_400,  # an outside reader or reviewer
    Act.STUDY_EXPORT: 24 * 3600,
}
WINDOW_SECONDS_MAX_ELSE = 8 * 3600  # a vendor, and whatever a second person opens


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when, Unix nanoseconds. `alone`: it waits, for there was nobody else to ask."""

    from_ns: int
    until_ns: int
    alone: bool = False


def must_be_another(caller: Caller, person_id: str, what: str) -> None:
    """Raises NotPermitted where somebody would decide about their own."""
    if caller.person.id == person_id:
        raise NotPermitted(f"{caller.name} would {what} of their own: somebody else must", rule="separation:own")


def window_max_seconds(act: Act) -> int:
    """How long a window for an act may be at most."""
    return WINDOW_SECONDS_MAX.get(act, WINDOW_SECONDS_MAX_ELSE)


def approved_window(from_ns: int, until_ns: int, now_ns: int, *, other_approvers: int) -> Window:
    """What an approval opens. Where the approver is the only one there is, it begins a day later: time to notice and to cancel."""
    begins = max(from_ns, now_ns)
    length = until_ns - from_ns
    if other_approvers > 0:
        return Window(begins, max(until_ns, begins))
    begins = max(begins, now_ns + ALONE_WAITS_SECONDS * SECOND_NS)
    return Window(begins, begins + length, alone=True)
