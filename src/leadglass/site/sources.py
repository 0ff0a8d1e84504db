"""Who else vouches for people? `[providers.NAME]` (OpenID Connect) and `[directories.NAME]` (LDAP, Active Directory) of the site file."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from leadglass.site.document import Values, nearest
from leadglass.site.model import DirectorySettings, ProviderSettings, name_problem
from leadglass.terms import Role

SOURCES_MAX = 16  # of each kind
GROUPS_MAX = 200  # of one provider or directory: each costs a question at a sign-in
POLL_SECONDS_MIN, POLL_SECONDS_MAX = 5, 86_400
AGE_SECONDS_MIN, AGE_SECONDS_MAX = 60, 7 * 86_400
_HUMAN = frozenset(str(role) for role in Role) - {str(Role.SERVICE_ACCOUNT)}
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")  # RFC 4512 1.4, descr
_CLAIM = re.compile(r"[!-~]{1,128}")
_NAMED_BY = re.compile(r"\s*[A-Za-z][A-Za-z0-9-]*\s*=.+")  # how every distinguished name begins
_GROUP = 'roles = { "GROUP" = "radiologist" }'


def providers(values: Values, loopback: bool) -> Iterator[tuple[str, ProviderSettings]]:
    """Each `[providers.NAME]`; what is wrong becomes a problem of `values`. `loopback`: the site is one that only this machine reaches."""
    for name in _names(values, "providers"):
        where = f"providers.{name}"
        acr, amr = values.words(f"{where}.acr"), values.words(f"{where}.amr")
        if not acr and not amr:
            what = f"provider {name} proves no second factor"
            values.bad(where, what, 'amr = ["mfa"] or acr = ["VALUE"]: what its tokens say after two factors')
        client_id = values.text(f"{where}.client_id", "")
        if not client_id:
            values.bad(where, f"provider {name} has no client_id", "the id it registered this site under")
        age = values.number(f"{where}.max_age_seconds", 28_800)
        if not AGE_SECONDS_MIN <= age <= AGE_SECONDS_MAX:
            values.bad(f"{where}.max_age_seconds", f"{age} seconds", f"between {AGE_SECONDS_MIN} and {AGE_SECONDS_MAX}")
        yield (
            name,
            ProviderSettings(
                name=name,
                issuer=_issuer(values, where, loopback),
                client_id=client_id,
                client_secret=reference_to_secret(values, where, "client_secret"),
                acr=frozenset(acr),
                amr=frozenset(amr),
                roles=_roles(values, where, distinguished=False),
                label=values.text(f"{where}.label", "") or name,
                scopes=values.words(f"{where}.scopes") or ("profile", "email"),
                name_claim=_claim(values, f"{where}.name_claim", "preferred_username"),
                groups_claim=_claim(values, f"{where}.groups_claim", "groups"),
                authority=values.text(f"{where}.authority", ""),
                max_age_seconds=age,
                end_session=values.flag(f"{where}.end_session", True),
            ),
        )


def directories(values: Values) -> Iterator[tuple[str, DirectorySettings]]:
    """Each `[directories.NAME]`; what is wrong becomes a problem of `values`."""
    for name in _names(values, "directories"):
        where = f"directories.{name}"
        base, bind = values.text(f"{where}.base", ""), values.text(f"{where}.bind", "")
        if not _NAMED_BY.fullmatch(base):
            values.bad(f"{where}.base", f"{base[:64]!r} is no distinguished name", 'base = "DC=hospital,DC=example"')
        if not bind:
            what = f"directory {name} is asked by nobody"
            values.bad(where, what, "bind = the distinguished name of an account of this site's that may read it")
        user = values.text(f"{where}.user", "sAMAccountName")
        if not _ATTRIBUTE.fullmatch(user):
            values.bad(f"{where}.user", f"{user[:64]!r} is no attribute", "sAMAccountName, userPrincipalName, uid")
        poll = values.number(f"{where}.poll_seconds", 60)
        if not POLL_SECONDS_MIN <= poll <= POLL_SECONDS_MAX:
            values.bad(f"{where}.poll_seconds", f"{poll} seconds", f"between {POLL_SECONDS_MIN} and {POLL_SECONDS_MAX}")
        host, port, tls_first = _ldap_url(values, where)
        yield (
            name,
            DirectorySettings(
                name=name,
                host=host,
                port=port,
                tls_first=tls_first,
                base=base,
                bind=bind,
                password=reference_to_secret(values, where, "password"),
                roles=_roles(values, where, distinguished=True),
                label=values.text(f"{where}.label", "") or name,
                user=user,
                nested=values.flag(f"{where}.nested", True),
                authority=values.text(f"{where}.authority", ""),
                poll_seconds=poll,
            ),
        )


def _names(values: Values, table: str) -> Iterator[str]:
    for number, (name, _) in enumerate(values.tables(table)):
        if number >= SOURCES_MAX:
            values.bad(f"{table}.{name}", f"more than {SOURCES_MAX} {table}", "keep those that people use")
            return
        if problem := name_problem(name):
            values.bad(f"{table}.{name}", f"{name[:64]!r} is no name", problem)
        yield name


def reference_to_secret(values: Values, where: str, key: str) -> str:
    reference = values.text(f"{where}.{key}", "")
    if not reference.startswith(("file:", "credential:")) or reference.endswith(":"):
        mend = f'{key} = "credential:NAME" or "file:PATH"'
        values.bad(f"{where}.{key}", f"{where}.{key} is a reference, never the secret itself", mend)
    return reference


def _roles(values: Values, where: str, *, distinguished: bool) -> dict[str, Role]:
    """Group → role. `distinguished`: groups are distinguished names, for a common name can be there twice."""
    roles: dict[str, Role] = {}
    given = values.table(f"{where}.roles")
    if not given:
        values.bad(where, f"{where} gives nobody a role", _GROUP)
    if len(given) > GROUPS_MAX:
        values.bad(f"{where}.roles", f"more than {GROUPS_MAX} groups", "make groups of groups there")
    for group, role in list(given.items())[:GROUPS_MAX]:
        if not isinstance(role, str) or role not in _HUMAN:
            mend = nearest(role, _HUMAN) if isinstance(role, str) else _GROUP
            values.bad(f"{where}.roles", f"{str(role)[:64]!r} is no person's role", mend)
        elif distinguished and not _NAMED_BY.fullmatch(group):
            mend = '"CN=Radiologists,OU=Groups,DC=hospital,DC=example"'
            values.bad(f"{where}.roles", f"the group {group[:64]!r} is no distinguished name", mend)
        else:
            roles[group] = Role(role)
    return roles


def _claim(values: Values, key: str, default: str) -> str:
    claim = values.text(key, default)
    if not _CLAIM.fullmatch(claim):
        values.bad(key, f"{claim[:64]!r} is no claim", default)
    return claim


def _issuer(values: Values, where: str, loopback: bool) -> str:
    """An issuer as OpenID Connect Discovery 3 wants it: https, no query, no fragment."""
    key = f"{where}.issuer"
    issuer = values.text(key, "")
    mend = 'issuer = "https://login.hospital.example", as its own discovery document spells it'
    try:
        parts = urlsplit(issuer)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        values.bad(key, f"{issuer[:64]!r} is no address", mend)
        return issuer
    odd = parts.query or parts.fragment or parts.username is not None or not re.fullmatch(r"[!-~]{1,512}", issuer)
    if parts.scheme not in ("https", "http") or not host or odd:
        values.bad(key, f"{issuer[:64]!r} is no issuer", mend)
    elif parts.scheme == "http" and not (loopback and is_loopback(host)):
        values.bad(key, f"{issuer[:64]!r} is not https", "https; http is for a loopback site's own machine alone")
    return issuer


def is_loopback(host: str) -> bool:
    """True where a host, as a URL spells it, is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _ldap_url(values: Values, where: str) -> tuple[str, int, bool]:
    """Host, port, and whether TLS comes before the first word of LDAP (else StartTLS is the first word)."""
    key = f"{where}.url"
    url = values.text(key, "")
    mend = "ldaps://HOST:636, or ldap://HOST:389, which says StartTLS before anything else"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    else:
        if parts.scheme not in ("ldaps", "ldap") or parts.path.strip("/") or parts.query or parts.username is not None:
            host = ""
    if not host or not re.fullmatch(r"[0-9A-Za-z.:-]{1,253}", host):
        values.bad(key, f"{url[:64]!r} is no address of a directory", mend)
        return "", 0, True
    tls_first = parts.scheme == "ldaps"
    return host, port or (636 if tls_first else 389), tls_first
