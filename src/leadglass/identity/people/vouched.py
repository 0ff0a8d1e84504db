"""What does a provider or directory say of a person, and which person of ours is that?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from leadglass.site.people import NAME_CHARACTERS_MAX, fold_name, person_name_problem
from leadglass.terms import Factor, NotIdentified, Person, Role

DISPLAY_LENGTH_MAX_CHARACTERS = 128
MAIL_LENGTH_MAX_CHARACTERS = 254  # RFC 5321 4.5.3.1.3, without the angle brackets
PERSON_ID_LENGTH_BYTES = 16


@dataclass(frozen=True, slots=True)
class Vouched:
    """What was proven, and said, elsewhere. `source`: `oidc:NAME` or `ldap:NAME`. `subject`: what the source never gives to another person.

    `name`: folded. `factors`: what the source proved; a directory's password is one. `session_hint`: the source's own name of the session
    there, "" where it has none. `return_to`: the path of ours that the person was on the way to.
    """

    source: str
    subject: str
    name: str
    display: str
    mail: str
    roles: frozenset[Role]
    factors: frozenset[Factor]
    session_hint: str = ""
    return_to: str = "/"

    @property
    def person_id(self) -> str:
        return person_id(self.source, self.subject)


@dataclass(frozen=True, slots=True)
class Gone:
    """A person of ours whose account elsewhere no longer holds what it did. `why`: for the operator and the event.

    `left`: the roles that the source still gives; with none, the person is to be disabled here, else to keep those alone.
    """

    person: str
    name: str
    why: str
    left: frozenset[Role] = frozenset()


def person_id(source: str, subject: str) -> str:
    """The register's id of whoever a source means by a subject: 128 bits, hex. The same person comes back to the same row, and nobody else does."""
    digest = hashlib.sha256(b"leadglass/person/1\0" + source.encode() + b"\0" + subject.encode()).digest()
    return digest[:PERSON_ID_LENGTH_BYTES].hex()


def folded_name(said: str) -> str:
    """A name as the register keeps it; "" where it will not do."""
    name = fold_name(said[: 4 * NAME_CHARACTERS_MAX])
    return "" if person_name_problem(name) else name


def spoken(said: object, most: int) -> str:
    """A text of somebody else's for our pages and events: printable, and no longer than `most` characters; "" where there is none."""
    if not isinstance(said, str):
        return ""
    return "".join(each for each in said[: 2 * most] if each.isprintable()).strip()[:most]


def roles_of(groups: Iterable[str], given: Mapping[str, Role]) -> frozenset[Role]:
    return frozenset(given[group] for group in groups if group in given)


def person_of(vouched: Vouched, known: Person | None, *, gone: bool = False) -> Person:
    """The person as the register should hold them from now on. `known`: the row of that id or else of that name, None for a first sign-in.

    `gone`: they are disabled because the source had lost sight of them, and for nothing else; now it vouches for them again.

    Roles are the source's alone, so a group that was left takes its role along. Departments and spellings of the name in studies are never the
    source's, for many let people write them themselves, and they decide what is seen. Raises NotIdentified.
    """
    if known is not None and known.id != vouched.person_id:
        what = f"{vouched.name} is somebody else already, whom {known.source} vouches for"
        raise NotIdentified(f"{what}: rename one of them, or disable the account that is not used")
    if known is not None and not known.enabled and not gone:
        raise NotIdentified(f"{vouched.name} is disabled here: `leadglass people enable {vouched.name}`")
    if not vouched.roles:
        raise NotIdentified(f"{vouched.source} puts {vouched.name} in no group that gives a role: [roles] names them")
    base = known or Person(vouched.person_id, vouched.name, "", frozenset())
    return replace(
        base,
        name=vouched.name,
        display=vouched.display or vouched.name,
        mail=vouched.mail,
        roles=vouched.roles,
        source=vouched.source,
        enabled=True,
    )
