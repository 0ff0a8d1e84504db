"""Whom does an LDAP directory vouch for, and is everybody still there? (RFC 4511; Active Directory's own rules where it has some)

A password is proven by a bind as the person, over TLS that is verified, on a connection of its own. Referrals are not followed: they would carry the
password to wherever they point.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
import ssl
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.utils.conv import escape_filter_chars

from leadglass.identity.people.deadline import Deadline
from leadglass.identity.people.upstream import CALL_SECONDS, trusted
from leadglass.identity.people.vouched import (
    DISPLAY_LENGTH_MAX_CHARACTERS,
    MAIL_LENGTH_MAX_CHARACTERS,
    Gone,
    Vouched,
    folded_name,
    person_id,
    spoken,
)
from leadglass.site.model import DirectorySettings
from leadglass.site.secret import read_secret
from leadglass.terms import Factor, NotIdentified, Person, Role, UpstreamFault

OPERATION_SECONDS = 5
PASSWORD_LENGTH_MAX_CHARACTERS = 1024
BATCH_MAX_PEOPLE = 50  # asked about at once
VANISHED_MAX_PEOPLE = (
    5  # at one poll, or half of them: more is a directory that answers wrongly, not a hospital that lost its staff
)
_LOOK = "look after the directory, or its entry in the site file; people sign in with passkeys meanwhile"
_IN_CHAIN = "1.2.840.113556.1.4.1941"  # LDAP_MATCHING_RULE_IN_CHAIN of Active Directory
_SUCCESS, _NO_SUCH_OBJECT, _INVALID_CREDENTIALS, _BUSY, _UNAVAILABLE = 0, 32, 49, 51, 52  # RFC 4511 A.1
_DISABLED = 0x2  # userAccountControl
_NEVER_EXPIRES = 0x7FFF_FFFF_FFFF_FFFF  # accountExpires; 0 says the same
_FILETIME_EPOCH = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)
_ATTRIBUTES = ("objectGUID", "entryUUID", "displayName", "cn", "mail", "userAccountControl", "accountExpires", "nsAccountLock", "pwdAccountLockedTime")  # fmt: skip
_WHY = {  # Active Directory's word in the answer to a bind
    "525": "no such account",
    "52e": "a wrong password",
    "530": "not at this time of day",
    "531": "not from this machine",
    "532": "the password has expired",
    "533": "the account is disabled",
    "701": "the account has expired",
    "773": "the password must be changed first",
    "775": "the account is locked",
}

Entry = Mapping[str, Sequence[bytes]]
"""Attribute, its name in small letters, to its values."""

Answer = TypeVar("Answer")


class Directory:
    """One `[directories.NAME]`."""

    def __init__(
        self, settings: DirectorySettings, password: str, context: ssl.SSLContext, seconds: float = CALL_SECONDS
    ) -> None:
        self.settings, self.source = settings, f"ldap:{settings.name}"
        self._password, self._context = password, context
        self._deadline = Deadline(f"the directory {settings.name}", seconds)

    @classmethod
    def open(cls, settings: DirectorySettings, site_dir: Path) -> Directory:
        """With its password and its authority read. Raises KeyFault."""
        password = read_secret(f"the password for the directory {settings.name}", settings.password, site_dir)
        return cls(settings, password, trusted(f"the directory {settings.name}", settings.authority, site_dir))

    def verify(self, name: str, password: str) -> Vouched:
        """Who that is, with the password proven: one factor. Raises NotIdentified, and UpstreamFault where the directory does not answer."""
        folded = folded_name(name)
        if not folded or not 0 < len(password) <= PASSWORD_LENGTH_MAX_CHARACTERS:
            raise NotIdentified(
                "no name that could be one, or no password"
            )  # an empty one binds as nobody: RFC 4513 5.1.2
        return self._call(lambda: self._verify(folded, password))

    def sweep(self, people: Iterable[Person]) -> list[Gone]:
        """Whose account here must follow what the directory says now. Raises UpstreamFault: then nobody is gone.

        A lock-out is none of it: whoever types somebody's password wrongly often enough could end their work here too.
        """
        ours = [each for each in people if each.source == self.source and each.enabled]
        gone: list[Gone] = []
        vanished = 0
        for start in range(0, len(ours), BATCH_MAX_PEOPLE):
            batch = ours[start : start + BATCH_MAX_PEOPLE]
            entries, roles = self._call(partial(self._asked_about, batch))
            for person in batch:
                entry = entries.get(person.id)
                vanished += entry is None
                if (found := _gone(person, entry, roles.get(person.id, frozenset()))) is not None:
                    gone.append(found)
        if vanished > max(VANISHED_MAX_PEOPLE, len(ours) // 2):
            what = f"the directory {self.settings.name} knows {vanished} of {len(ours)} people no more"
            raise UpstreamFault(what, hint="look at base and at what bind may read; disable by hand whoever is gone")
        return gone

    def examine(self) -> None:
        """Raises UpstreamFault where it does not let this site in, or has no such base."""

        def ask() -> None:
            with self._asking() as connection:
                self._search(connection, self.settings.base, "(objectClass=*)", (), ldap3.BASE)

        self._call(ask)

    # ---- the steps

    def _call(self, call: Callable[[], Answer]) -> Answer:
        try:
            return self._deadline.within(call)
        except (LDAPException, OSError) as error:
            what = f"the directory {self.settings.name} does not answer: {str(error)[:200] or type(error).__name__}"
            raise UpstreamFault(what, hint=_LOOK) from error

    def _verify(self, name: str, password: str) -> Vouched:
        with self._asking() as connection:
            found = list(self._entries(connection, [name]))
            roles = self._roles_at(connection, found[0][0]) if len(found) == 1 else frozenset()
        if len(found) != 1:
            self._prove(
                f"CN={secrets.token_hex(8)},{self.settings.base}", secrets.token_urlsafe()
            )  # as long as for others
            raise NotIdentified(f"the directory {self.settings.name} has {len(found) or 'no'} accounts named {name}")
        dn, entry = found[0]
        code, why = self._prove(dn, password)
        if code in (_BUSY, _UNAVAILABLE):
            raise UpstreamFault(f"the directory {self.settings.name} is busy", hint=_LOOK)
        if code != _SUCCESS:
            raise NotIdentified(f"the directory {self.settings.name} refuses {name}: {why}")
        if ended := _ended(entry, dt.datetime.now(dt.UTC)):
            raise NotIdentified(f"the directory {self.settings.name} refuses {name}: {ended}")
        canonical, subject = folded_name(_text(entry, self.settings.user)), _subject(entry)
        if not canonical or not subject:
            what = f"the directory {self.settings.name} gives {name} no objectGUID or entryUUID, or no usable name"
            raise NotIdentified(f"{what}: bind must be allowed to read them")
        return Vouched(
            source=self.source,
            subject=subject,
            name=canonical,
            display=spoken(_text(entry, "displayName") or _text(entry, "cn"), DISPLAY_LENGTH_MAX_CHARACTERS),
            mail=spoken(_text(entry, "mail"), MAIL_LENGTH_MAX_CHARACTERS),
            roles=roles,
            factors=frozenset({Factor.PASSWORD}),
        )

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """A connection that is bound as this site."""
        with self._connected(self.settings.bind, self._password) as connection:
            if not connection.bind(read_server_info=False):
                what = f"the directory {self.settings.name} does not let this site in: {_bind_answer(connection)[1]}"
                raise UpstreamFault(what, hint="bind and password are those of its account there?")
            yield connection

    def _prove(self, dn: str, password: str) -> tuple[int, str]:
        """The answer to a bind as somebody: its code, and why."""
        with self._connected(dn, password) as connection:
            connection.bind(read_server_info=False)
            return _bind_answer(connection)

    @contextmanager
    def _connected(self, user: str, password: str) -> Iterator[Any]:
        """TLS first, in whatever way; not a word of LDAP but StartTLS goes before it."""
        server = ldap3.Server(
            self.settings.host,
            port=self.settings.port,
            use_ssl=self.settings.tls_first,
            tls=_Tls(self._context, self.settings.host),
            get_info=ldap3.NONE,
            connect_timeout=OPERATION_SECONDS,
        )
        connection = ldap3.Connection(
            server,
            user=user,
            password=password.encode(),  # as it was typed: no preparation of ours between a person and their password
            authentication=ldap3.SIMPLE,
            client_strategy=ldap3.SYNC,
            auto_referrals=False,
            raise_exceptions=False,
            receive_timeout=OPERATION_SECONDS,
            read_only=True,
            check_names=False,
        )
        try:
            connection.open(read_server_info=False)
            if not self.settings.tls_first and not connection.start_tls(read_server_info=False):
                raise UpstreamFault(f"the directory {self.settings.name} does not start TLS", hint=_LOOK)
            yield connection
        finally:
            with suppress(LDAPException, OSError):  # it ends, whatever happened on it
                connection.unbind()
            if connection.socket is not None:  # ldap3 forgets it where the handshake fails
                connection.socket.close()

    def _search(
        self, connection: Any, base: str, condition: str, attributes: Sequence[str], scope: Any = ldap3.SUBTREE
    ) -> list[tuple[str, Entry]]:
        """Distinguished name and attributes of each entry. Raises UpstreamFault unless the answer is whole."""
        connection.search(base, condition, scope, ldap3.DEREF_NEVER, attributes=list(attributes) or ["1.1"])
        code = connection.result["result"]
        if code == _NO_SUCH_OBJECT:
            raise UpstreamFault(
                f"the directory {self.settings.name} has no {base[:128]}", hint="base, or who may read it"
            )
        if code != _SUCCESS:
            what = f"the directory {self.settings.name} does not answer a search: {connection.result['description']}"
            raise UpstreamFault(what, hint=_LOOK)
        entries = (each for each in connection.response or () if each.get("type") == "searchResEntry")
        return [
            (str(each["dn"]), {name.lower(): values for name, values in each["raw_attributes"].items()})
            for each in entries
        ]

    def _entries(self, connection: Any, names: Sequence[str], also: str = "") -> Iterator[tuple[str, Entry]]:
        """The accounts of people with these names. `also`: one more condition."""
        named = "".join(f"({self.settings.user}={escape_filter_chars(name)})" for name in names)
        condition = f"(&(objectClass=person)(!(objectClass=computer))(|{named}){also})"
        yield from self._search(connection, self.settings.base, condition, (self.settings.user, *_ATTRIBUTES))

    def _roles_at(self, connection: Any, dn: str) -> frozenset[Role]:
        """One question a group, and to that entry alone: exact, however many groups somebody is in."""
        return frozenset(
            role
            for group, role in self.settings.roles.items()
            if self._search(connection, dn, f"(&(objectClass=*){self._member_of(group)})", (), ldap3.BASE)
        )

    def _member_of(self, group: str) -> str:
        rule = f":{_IN_CHAIN}:" if self.settings.nested else ""
        return f"(memberOf{rule}={escape_filter_chars(group)})"

    def _asked_about(self, people: Sequence[Person]) -> tuple[dict[str, Entry], dict[str, frozenset[Role]]]:
        """Of each person who is there, by the register's id: the entry, and the roles that groups give."""
        names = [each.name for each in people]
        roles: dict[str, frozenset[Role]] = {}
        with self._asking() as connection:
            entries = {self._id(entry): entry for _, entry in self._entries(connection, names)}
            for group, role in self.settings.roles.items():
                for _, entry in self._entries(connection, names, self._member_of(group)):
                    roles[self._id(entry)] = roles.get(self._id(entry), frozenset()) | {role}
        return entries, roles

    def _id(self, entry: Entry) -> str:
        return person_id(self.source, _subject(entry))


class _Tls(ldap3.Tls):  # type: ignore[misc]
    """ldap3's TLS with a context of ours: chain and name are verified by OpenSSL, in the handshake."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context, self._host = context, host

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        connection.socket = self._context.wrap_socket(
            connection.socket, server_hostname=self._host, do_handshake_on_connect=True
        )


def _bind_answer(connection: Any) -> tuple[int, str]:
    """Code and reason in words; Active Directory says why in `data 52e` and the like."""
    result = connection.result
    data = re.search(r"\bdata ([0-9a-f]{3,8})\b", str(result.get("message", "")))
    why = _WHY.get(data[1]) if data else None
    return int(result["result"]), why or spoken(result.get("description"), 64) or "no reason"


def _gone(person: Person, entry: Entry | None, roles: frozenset[Role]) -> Gone | None:
    if entry is None:
        return Gone(person.id, person.name, f"{person.source} has no such account any more under this name")
    if ended := _ended(entry, dt.datetime.now(dt.UTC)):
        return Gone(person.id, person.name, f"{person.source}: {ended}")
    if not roles:
        return Gone(person.id, person.name, f"{person.source} puts them in no group any more that gives a role")
    if lost := person.roles - roles:
        why = f"{person.source} puts them in no group any more that gives {', '.join(sorted(lost))}"
        return Gone(person.id, person.name, why, roles)
    return None


def _ended(entry: Entry, now: dt.datetime) -> str:
    """Why an account no longer holds, "" where it does."""
    if _number(entry, "userAccountControl") & _DISABLED or _text(entry, "nsAccountLock").lower() == "true":
        return "the account is disabled"
    if _text(entry, "pwdAccountLockedTime").startswith(
        "000001010000"
    ):  # for ever: draft-behera-ldap-password-policy 5.3.3
        return "the account is disabled"
    expires = _number(entry, "accountExpires")
    if expires not in (0, _NEVER_EXPIRES):
        try:
            until = _FILETIME_EPOCH + dt.timedelta(microseconds=expires // 10)
        except OverflowError:
            return ""  # later than any calendar
        if until <= now:
            return f"the account expired on {until:%Y-%m-%d}"
    return ""


def _subject(entry: Entry) -> str:
    """What the directory never gives to another account; "" where it shows none."""
    guid = entry.get("objectguid") or ()
    if len(guid) == 1 and len(guid[0]) == 16:
        return str(uuid.UUID(bytes_le=bytes(guid[0])))
    return _text(entry, "entryUUID").lower()


def _text(entry: Entry, attribute: str) -> str:
    values = entry.get(attribute.lower()) or ()
    return bytes(values[0]).decode("utf-8", "replace") if values else ""


def _number(entry: Entry, attribute: str) -> int:
    text = _text(entry, attribute)
    return int(text) if re.fullmatch(r"-?\d{1,20}", text) else 0
