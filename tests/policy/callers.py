"""People as they stand at a door, for tests: whoever they are, with what is in force for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from leadglass.terms import Act, Caller, Factor, Peer, Person, Related, Role

NOW = 1_800_000_000_000_000_000  # Unix nanoseconds
SECOND = 1_000_000_000


def person(
    *roles: Role,
    name: str = "jane",
    departments: Iterable[str] = (),
    names: Iterable[str] = (),
    enabled: bool = True,
    until_ns: int = 0,
) -> Person:
    return Person(
        f"id-of-{name}",
        name,
        name,
        frozenset(roles),
        frozenset(departments),
        frozenset(names),
        enabled=enabled,
        until_ns=until_ns,
    )


def caller(
    who: Person,
    *,
    fresh: bool = False,
    related: Iterable[Related] = (),
    approved: Mapping[Act, str] | None = None,
    within: Mapping[Act, frozenset[str]] | None = None,
) -> Caller:
    peer = Peer("127.0.0.1", 4711, "web")
    since = NOW - 10 * SECOND if fresh else 0
    proven = frozenset({Factor.PASSKEY})
    return Caller(who, "s1", peer, proven, since, tuple(related), approved or {}, within=within or {})
