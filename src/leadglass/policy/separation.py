"""Who may not decide about what? Dynamic separation of duties: nobody decides about their own, and one alone waits a day. Pure.

What each role may at all is Cedar's (`people.py`); this is about the two people of one act.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from leadglass.terms import Act, Caller, NotPermitted, SecondPersonNeeded

SECOND_NS = 1_000_000_000
ALONE_WAITS_SECONDS = 24 * 3600  # an approval where nobody else could have given it
NEVER_WAITS = frozenset((Act.CONTAINMENT_END,))  # whoever is let in again may be needed for care
GLASS_SECONDS = 3600
LEASE_SECONDS_MAX = 12 * 3600
WINDOW_SECONDS_MAX = {
    Act.STUDY_READ: 30 * 86_400,  # an outside reader or reviewer
    Act.STUDY_EXPORT: 24 * 3600,
    Act.POLICY_APPLY: 7 * 86_400,  # of one site file, by its digest: a night in which it acts is planned ahead
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


def approved_window(act: Act, from_ns: int, until_ns: int, now_ns: int, *, other_approvers: int) -> Window:
    """What an approval opens. Where the approver is the only one there is, it begins a day later: time to notice and to cancel."""
    begins = max(from_ns, now_ns)
    length = until_ns - from_ns
    if other_approvers > 0 or act in NEVER_WAITS:
        return Window(begins, max(until_ns, begins))
    begins = max(begins, now_ns + ALONE_WAITS_SECONDS * SECOND_NS)
    return Window(begins, begins + length, alone=True)


@dataclass(frozen=True, slots=True)
class Second:
    """Of one site file that an operator applies at a shell: how many people could approve it, whether somebody did and that is in force, and since when
    it is asked for (Unix nanoseconds, 0: it is not). `serving`: digest of the one that serves at this moment, which needs nobody."""

    approvers: int
    approved: bool = False
    asked_ns: int = 0
    serving: str = ""


def at_a_shell(second: Second, digest: str, now_ns: int) -> None:
    """An operator acts alone while nobody could approve; where one alone could, a day after it was asked for; else once somebody approved just this.

    Raises SecondPersonNeeded.
    """
    if digest and digest == second.serving:
        return
    acts_ns = second.asked_ns + ALONE_WAITS_SECONDS * SECOND_NS
    if second.approvers == 0 or second.approved or (second.approvers == 1 and second.asked_ns and now_ns >= acts_ns):
        return
    if not second.asked_ns:
        how = "approves it" if second.approvers > 1 else "could deny it for 24 h: one alone may approve here"
        what = f"a site file acts once somebody else {how}: `leadglass apply --ask --why WORDS` asks for {digest[:12]}"
    elif second.approvers == 1:
        at = dt.datetime.fromtimestamp(acts_ns / SECOND_NS, dt.UTC).isoformat(timespec="seconds")
        what = f"site file {digest[:12]} is asked for, and acts after {at}: `leadglass apply` again then"
    else:
        what = f"site file {digest[:12]} is asked for, and nobody approved it yet: at the console, Requests"
    raise SecondPersonNeeded(what, rule="separation:second-person")
