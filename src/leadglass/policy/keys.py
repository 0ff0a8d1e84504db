"""Who keeps a share of a recovery kit, how many of them open it, and who is given what of it? Pure."""

from __future__ import annotations

from collections.abc import Sequence

from leadglass.terms import Caller, NotPermitted, Person, Role, StepUpNeeded

CUSTODIANS_MAX = 9
FETCHED_WITHIN_SECONDS = 7 * 24 * 3600
_GUESTS = frozenset({Role.VENDOR, Role.OUTSIDE_REVIEWER, Role.SERVICE_ACCOUNT})


def misshared(custodians: Sequence[Person], threshold: int, now_ns: int) -> str:
    """Why these are no custodians of a kit that any `threshold` of them open; "" where they are."""
    if len({each.id for each in custodians}) != len(custodians) or not 2 <= len(custodians) <= CUSTODIANS_MAX:
        return f"a kit has 2 to {CUSTODIANS_MAX} custodians, each of them once"
    if not 2 <= threshold <= len(custodians):
        return f"between 2 and {len(custodians)} of these {len(custodians)} open it: nobody alone, and not more than there are"
    for each in custodians:
        if not each.enabled or (each.until_ns and now_ns >= each.until_ns):
            return f"{each.name} is not let in"
        if not each.roles or each.roles & _GUESTS:
            return f"{each.name} is a guest, a machine or without a role, and keeps no share"
    return ""


def collects(caller: Caller, *, fresh: bool) -> str:
    """The rule by which somebody fetches what is their own of a kit: which that is, only the register knows. Raises StepUpNeeded."""
    if caller.person.roles & _GUESTS or not caller.person.roles:
        raise NotPermitted(f"{caller.name} keeps no share of a recovery kit", rule="kit:custodians")
    if not fresh:
        raise StepUpNeeded(
            f"{caller.name} may not fetch a share of the recovery kit without a fresh passkey", rule="kit:own"
        )
    return "kit:own"
