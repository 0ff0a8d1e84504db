"""Sign-in through a real Active Directory domain, and who is noticed when an account there ends."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from dataclasses import replace
from typing import Any

import pytest

from leadglass.identity.people import directory
from leadglass.identity.people.directory import PASSWORD_LENGTH_MAX_CHARACTERS, Directory
from leadglass.identity.people.vouched import Gone, person_of
from leadglass.terms import Factor, KeyFault, NotIdentified, Person, Role, UpstreamFault
from tests.identity.people.domain import (
    CT_READERS,
    EVERYBODY,
    PASSWORD,
    READERS,
    STAFF,
    TECHNOLOGISTS,
    Domain,
    filetime,
)

pytestmark = pytest.mark.xdist_group("domain")


def ours(ad: Domain, **changes: Any) -> Directory:
    return Directory.open(ad.settings(**changes), ad.place)


def refusal(ad: Domain, name: str, password: str, **changes: Any) -> str:
    with pytest.raises(NotIdentified) as caught:
        ours(ad, **changes).verify(name, password)
    assert password not in caught.value.reason or not password
    return caught.value.reason


def person(ad: Domain, name: str) -> Person:
    return person_of(ours(ad).verify(name, PASSWORD + name), None)


def test_a_sign_in_with_groups_of_groups(ad: Domain) -> None:
    vouched = ours(ad).verify("alice", f"{PASSWORD}alice")
    assert (vouched.source, vouched.name, vouched.display) == ("ldap:ad", "alice", "The alice")
    assert vouched.mail == "alice@hosp.test"
    assert vouched.roles == {Role.RADIOLOGIST}
    assert vouched.factors == {Factor.PASSWORD}  # one: a second of this site's is still to come
    assert len(vouched.subject) == 36


def test_roles_are_of_the_groups_that_are_named(ad: Domain) -> None:
    assert ours(ad).verify("bob", f"{PASSWORD}bob").roles == {Role.TECHNOLOGIST}
    assert ours(ad).verify("erin", f"{PASSWORD}erin").roles == frozenset()
    every = {EVERYBODY: Role.AUDITOR, READERS: Role.RADIOLOGIST}
    assert ours(ad, roles=every).verify("alice", f"{PASSWORD}alice").roles == {Role.AUDITOR, Role.RADIOLOGIST}


def test_groups_of_groups_can_be_left_out(ad: Domain) -> None:
    direct = {READERS: Role.RADIOLOGIST, CT_READERS: Role.TECHNOLOGIST}  # with ( ) * in its name
    assert ours(ad, roles=direct, nested=False).verify("alice", f"{PASSWORD}alice").roles == {Role.TECHNOLOGIST}


def test_a_group_that_is_not_there_gives_nothing(ad: Domain) -> None:
    odd = {f"CN=none,{STAFF}": Role.RADIOLOGIST, "CN=*": Role.AUDITOR, "CN=x)(objectClass=*": Role.SECURITY_OFFICER}
    assert ours(ad, roles=odd).verify("alice", f"{PASSWORD}alice").roles == frozenset()


@pytest.mark.parametrize("name", ["ALICE", " alice ", "ａlice"])
def test_a_name_is_folded_and_the_directorys_own(ad: Domain, name: str) -> None:
    assert ours(ad).verify(name, f"{PASSWORD}alice") == ours(ad).verify("alice", f"{PASSWORD}alice")


def test_wrong_passwords_and_unknown_names(ad: Domain) -> None:
    assert "a wrong password" in refusal(ad, "alice", "guess")
    assert "a wrong password" in refusal(ad, "alice", f"{PASSWORD}alice ")
    assert "a wrong password" in refusal(ad, "alice", f"{PASSWORD}bob")
    assert "no accounts named nobody" in refusal(ad, "nobody", "guess")


@pytest.mark.parametrize("password", ["", "x" * (PASSWORD_LENGTH_MAX_CHARACTERS + 1)])
def test_no_password_binds_as_nobody_and_is_never_sent(ad: Domain, password: str) -> None:
    dead = ours(ad, host="127.0.0.1", port=1)
    with pytest.raises(NotIdentified, match="no password"):
        dead.verify("alice", password)


@pytest.mark.parametrize("password", ["\0", "\u00ad", "\ud7ff\u0221", "pässwörd", "x" * PASSWORD_LENGTH_MAX_CHARACTERS])
def test_odd_passwords_are_wrong_ones(ad: Domain, password: str) -> None:
    assert "a wrong password" in refusal(ad, "alice", password)


INJECTED = [
    "*",
    "ali*",
    "alice)(objectClass=*",
    "alice))(|(cn=*",
    "*)(sAMAccountName=alice",
    "alice\\2a",
    "\\61lice",
    "alice)(&",
    "(alice)",
    "CN=alice,OU=Staff,DC=hosp,DC=test",
]


@pytest.mark.parametrize("name", [*INJECTED, "alice\0", "alice@hosp.test", "HOSP\\alice"])
def test_injection(ad: Domain, name: str) -> None:
    why = refusal(ad, name, f"{PASSWORD}alice")
    assert "no name that could be one" in why or "no accounts named" in why


@pytest.mark.parametrize("name", INJECTED)
def test_injection_past_the_first_wall(ad: Domain, name: str) -> None:
    """Names that will not do never come so far; a filter holds without that."""
    made = ours(ad)
    with made._asking() as connection:
        assert len(list(made._entries(connection, ["alice", name]))) == 1
        assert list(made._entries(connection, [name])) == []


@pytest.mark.parametrize("name", ["", "alice\n", "a lice", "WS1$", "x" * 500])
def test_what_could_be_no_name(ad: Domain, name: str) -> None:
    if name.strip() == "alice":
        assert ours(ad).verify(name, f"{PASSWORD}alice").name == "alice"
    else:
        assert "no name" in refusal(ad, name, f"{PASSWORD}alice")


def test_a_distinguished_name_that_needs_escapes(ad: Domain) -> None:
    dn = ad.add("doe.j", rf"CN=Doe\, (John)* \+ #,{STAFF}")
    ad.put(dn, CT_READERS)
    assert ours(ad).verify("doe.j", f"{PASSWORD}doe.j").roles == {Role.RADIOLOGIST}


def test_a_disabled_account(ad: Domain) -> None:
    ad.put(ad.add("carol", control=0x202), READERS)
    assert "the account is disabled" in refusal(ad, "carol", f"{PASSWORD}carol")


def test_an_account_that_is_over(ad: Domain) -> None:
    now = dt.datetime.now(dt.UTC)
    dn = ad.add("dave", accountExpires=str(filetime(now - dt.timedelta(hours=1))))
    ad.put(dn, READERS)
    assert "the account has expired" in refusal(ad, "dave", f"{PASSWORD}dave")
    ad.set(dn, accountExpires=filetime(now + dt.timedelta(hours=1)))
    assert ours(ad).verify("dave", f"{PASSWORD}dave").name == "dave"


def test_a_password_that_must_be_changed_first(ad: Domain) -> None:
    ad.put(ad.add("fred", pwdLastSet="0"), READERS)
    assert "must be changed" in refusal(ad, "fred", f"{PASSWORD}fred")


def test_machines_are_nobody(ad: Domain) -> None:
    account = {
        "sAMAccountName": "WS1",
        "unicodePwd": f'"{PASSWORD}ws1"'.encode("utf-16-le"),
        "userAccountControl": "4096",
    }
    ad.does(ad.administrator.add, f"CN=WS1,{STAFF}", "computer", account)
    assert "no accounts named ws1" in refusal(ad, "WS1", f"{PASSWORD}ws1")


# ---- the wire


def test_starttls(ad: Domain) -> None:
    assert ours(ad, port=389, tls_first=False).verify("alice", f"{PASSWORD}alice").name == "alice"
    assert "a wrong password" in refusal(ad, "alice", "guess", port=389, tls_first=False)


@pytest.mark.parametrize(("port", "tls_first"), [(636, True), (389, False)])
@pytest.mark.parametrize("authority", ["other.pem", ""])
def test_a_wrong_authority_is_told_nothing(ad: Domain, port: int, tls_first: bool, authority: str) -> None:
    with pytest.raises(UpstreamFault, match="does not answer"):
        ours(ad, port=port, tls_first=tls_first, authority=authority).verify("alice", f"{PASSWORD}alice")


@pytest.mark.parametrize(("port", "tls_first"), [(636, True), (389, False)])
def test_a_certificate_for_another_name_is_told_nothing(ad: Domain, port: int, tls_first: bool) -> None:
    with pytest.raises(UpstreamFault, match="does not answer.*mismatch"):
        ours(ad, host=ad.other, port=port, tls_first=tls_first).examine()


def test_a_server_that_speaks_no_tls_hears_no_password(ad: Domain) -> None:
    heard = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                heard.extend(connection.recv(4096))
                connection.sendall(bytes.fromhex("300c02010178070a0102040004 00".replace(" ", "")))  # protocolError
                connection.settimeout(60)
                while piece := connection.recv(4096):
                    heard.extend(piece)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UpstreamFault):
            ours(ad, host="127.0.0.1", port=server.getsockname()[1], tls_first=False).verify(
                "alice", f"{PASSWORD}alice"
            )
        thread.join()
    assert b"1.3.6.1.4.1.1466.20037" in heard and b"leadglass" not in heard and PASSWORD.encode() not in heard


def test_a_directory_that_hangs(ad: Domain) -> None:
    settings = ad.settings(host="127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        slow = Directory(replace(settings, port=server.getsockname()[1]), "x", ours(ad)._context, seconds=0.05)
        with pytest.raises(UpstreamFault, match="has not answered within") as caught:
            slow.verify("alice", f"{PASSWORD}alice")
        assert "passkeys" in caught.value.hint


def test_a_directory_that_is_down(ad: Domain) -> None:
    for ask in (
        lambda made: made.verify("alice", "x"),
        lambda made: made.examine(),
        lambda made: made.sweep([replace(person(ad, "alice"), source=made.source)]),
    ):
        with pytest.raises(UpstreamFault, match="does not answer"):
            ask(ours(ad, port=1))


def test_this_sites_own_account_or_base_is_wrong(ad: Domain) -> None:
    ours(ad).examine()
    with pytest.raises(UpstreamFault, match="does not let this site in: a wrong password") as caught:
        ours(ad, bind=f"CN=alice,{STAFF}").examine()
    assert "bind" in caught.value.hint
    with pytest.raises(UpstreamFault, match="has no DC=nowhere|does not answer a search"):
        ours(ad, base="DC=nowhere").examine()
    with pytest.raises(KeyFault, match="the password for the directory ad"):
        ours(ad, password="file:none")


# ---- the sweep


def test_while_all_is_well_nobody_is_gone(ad: Domain) -> None:
    assert ours(ad).sweep([person(ad, "alice"), person(ad, "bob")]) == []
    assert ours(ad).sweep([]) == []


def test_only_this_directorys_enabled_people_are_asked_about(ad: Domain) -> None:
    others = [
        Person("0" * 32, "local", "", frozenset({Role.AUDITOR})),
        Person("1" * 32, "elsewhere", "", frozenset({Role.AUDITOR}), source="ldap:other"),
        Person("2" * 32, "long-gone", "", frozenset({Role.AUDITOR}), source="ldap:ad", enabled=False),
    ]
    assert ours(ad).sweep(others) == []


def test_accounts_that_end_are_noticed(ad: Domain) -> None:
    now = dt.datetime.now(dt.UTC)
    dns = {name: ad.add(name) for name in ("gina", "hans", "ina", "jan", "kim")}
    for dn in dns.values():
        ad.put(dn, CT_READERS)
    people = {name: person(ad, name) for name in dns}
    assert ours(ad).sweep(people.values()) == []
    ad.set(dns["gina"], userAccountControl=0x202)
    ad.set(dns["hans"], accountExpires=filetime(now - dt.timedelta(days=2)))
    ad.does(ad.administrator.delete, dns["ina"])
    ad.take(dns["jan"], CT_READERS)
    found = {gone.name: gone for gone in ours(ad).sweep([*people.values(), person(ad, "alice")])}
    assert set(found) == {"gina", "hans", "ina", "jan"}
    assert all(gone.person == people[name].id and gone.left == frozenset() for name, gone in found.items())
    assert "disabled" in found["gina"].why and "expired on" in found["hans"].why
    assert "no such account" in found["ina"].why and "no group" in found["jan"].why


def test_a_group_that_was_left_takes_its_role_along(ad: Domain) -> None:
    dn = ad.add("lena")
    ad.put(dn, READERS)
    ad.put(dn, TECHNOLOGISTS)
    lena = person(ad, "lena")
    assert lena.roles == {Role.RADIOLOGIST, Role.TECHNOLOGIST}
    ad.take(dn, READERS)
    (gone,) = ours(ad).sweep([lena])
    assert gone == Gone(
        lena.id,
        "lena",
        "ldap:ad puts them in no group any more that gives radiologist",
        lena.roles - {Role.RADIOLOGIST},
    )
    assert person_of(ours(ad).verify("lena", f"{PASSWORD}lena"), lena).roles == {Role.TECHNOLOGIST}


def test_a_name_given_to_somebody_else_is_not_the_same_person(ad: Domain) -> None:
    dn = ad.add("mia")
    ad.put(dn, READERS)
    mia = person(ad, "mia")
    ad.does(ad.administrator.delete, dn)
    ad.put(ad.add("mia"), READERS)
    (gone,) = ours(ad).sweep([mia])
    assert "no such account" in gone.why
    with pytest.raises(NotIdentified, match="somebody else already"):
        person_of(ours(ad).verify("mia", f"{PASSWORD}mia"), mia)


def test_a_directory_that_knows_nobody_any_more_is_not_believed(ad: Domain) -> None:
    """A base that was moved, or a right to read that was lost, must not end everybody's work."""
    alice = person(ad, "alice")
    people = [replace(alice, id=f"{n:032x}", name=f"person-{n}") for n in range(120)]
    with pytest.raises(UpstreamFault, match="knows 120 of 120 people no more"):
        ours(ad).sweep(people)
    assert len(ours(ad).sweep(people[:5])) == 5


def test_somebody_who_is_locked_out_there_keeps_their_work_here() -> None:
    """Else whoever types a password wrongly often enough could end it."""
    assert (
        directory._ended(
            {"useraccountcontrol": [b"528"], "lockouttime": [b"134400218788441610"]}, dt.datetime.now(dt.UTC)
        )
        == ""
    )


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({}, ""),
        ({"useraccountcontrol": [b"514"]}, "disabled"),
        ({"useraccountcontrol": [b"x"]}, ""),
        ({"nsaccountlock": [b"TRUE"]}, "disabled"),
        ({"pwdaccountlockedtime": [b"000001010000Z"]}, "disabled"),
        ({"pwdaccountlockedtime": [b"20260101000000Z"]}, ""),
        ({"accountexpires": [b"0"]}, ""),
        ({"accountexpires": [b"9223372036854775807"]}, ""),
        ({"accountexpires": [b"9223372036854775806"]}, ""),
        ({"accountexpires": [b"1"]}, "expired on 1601-01-01"),
    ],
)
def test_how_directories_say_that_an_account_is_over(entry: dict[str, list[bytes]], why: str) -> None:
    ended = directory._ended(entry, dt.datetime.now(dt.UTC))
    assert why in ended and bool(why) == bool(ended)
