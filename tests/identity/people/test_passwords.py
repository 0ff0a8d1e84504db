"""Password and code: both, each code once; a name that nobody has costs the same; guesses are slowed and lock nobody out."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import argon2
import pyotp
import pytest

from leadglass.identity.people import passwords as module
from leadglass.identity.people.codes import counter_of, recovery_digest
from leadglass.identity.people.guesses import FREE_PER_ADDRESS, FREE_PER_NAME, FREE_PER_NAME_AND_ADDRESS, Slowed
from leadglass.identity.people.passwords import Passwords, Unsuitable, suitable
from leadglass.terms import Factor, NotIdentified, Overloaded, Person
from tests.identity.people.place import PASSWORD, QUICK, SECOND, Place, by_password, peer


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.at(tmp_path)


def now(place: Place, app: pyotp.TOTP, steps: int = 0) -> str:
    return app.at(place.clock() // SECOND + 30 * steps)


def test_password_and_code_sign_in(place: Place) -> None:
    app, _ = place.password(place.person())
    place.clock.wait(30)
    caller = place.desk.recognise(peer(), by_password(" READER ", PASSWORD, now(place, app)))
    assert caller.name == "reader" and caller.factors == {Factor.PASSWORD, Factor.TOTP}
    assert place.desk.open_session(caller, "browser")


def test_one_of_the_two_is_not_enough(place: Place) -> None:
    app, _ = place.password(place.person())
    place.clock.wait(30)
    for password, code in [
        (PASSWORD, ""),
        (PASSWORD, "000000"),
        ("", now(place, app)),
        (PASSWORD + " ", now(place, app)),
    ]:
        with pytest.raises(NotIdentified):
            place.desk.recognise(peer(), by_password("reader", password, code))
    assert place.desk.recognise(peer(), by_password("reader", PASSWORD, now(place, app)))


def test_a_code_is_good_once_and_none_before_it_afterwards(place: Place) -> None:
    app, _ = place.password(place.person())
    with pytest.raises(NotIdentified, match="used before"):
        place.desk.recognise(peer(), by_password("reader", PASSWORD, now(place, app)))
    place.clock.wait(60)
    code = now(place, app)
    assert place.desk.recognise(peer(), by_password("reader", PASSWORD, code))
    for replayed in (code, now(place, app, -1)):
        with pytest.raises(NotIdentified, match="used before"):
            place.another_process().recognise(peer(), by_password("reader", PASSWORD, replayed))
    place.clock.wait(30)
    assert place.desk.recognise(peer(), by_password("reader", PASSWORD, now(place, app)))


@pytest.mark.parametrize(("steps", "good"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_half_a_minute_off(steps: int, good: bool) -> None:
    secret = pyotp.random_base32()
    at = 1_800_000_015
    code = pyotp.TOTP(secret).at(at + 30 * steps)
    assert (counter_of(secret, code, at * SECOND) is not None) == good


@pytest.mark.parametrize(
    "code", ["", "12345", "1234567", "abcdef", "１２３４５６", None, 123456, "-" * 6, "1" * 10_000]
)
def test_what_is_no_code_is_none(code: object) -> None:
    assert counter_of(pyotp.random_base32(), code, 1_800_000_000 * SECOND) is None


def test_spaces_in_a_code_are_no_matter() -> None:
    secret, at = pyotp.random_base32(), 1_800_000_000
    code = pyotp.TOTP(secret).at(at)
    assert counter_of(secret, f" {code[:3]} {code[3:]} ", at * SECOND) == at // 30


def test_a_recovery_code_takes_the_place_of_the_app_once(place: Place) -> None:
    _, codes = place.password(place.person())
    assert len(set(codes)) == 10
    caller = place.desk.recognise(
        peer(), by_password("reader", PASSWORD, codes[3].upper().replace("-", " "), "recovery")
    )
    assert caller.factors == {Factor.PASSWORD, Factor.RECOVERY_CODE} and place.desk.open_session(caller, "browser")
    for password, code in [
        (PASSWORD, codes[3]),
        (PASSWORD, "aaaa-bbbb-cccc-dddd"),
        ("", codes[4]),
        ("wrong words here", codes[5]),
    ]:
        with pytest.raises(NotIdentified):
            place.desk.recognise(peer("10.9.9.9"), by_password("reader", password, code, "recovery"))
    assert place.people.factors.recovery_codes_left(caller.person.id) == 9, "a wrong password uses none up"


def test_a_recovery_code_alone_opens_no_session_but_a_link(place: Place) -> None:
    person = place.person()
    device = place.passkey(person)
    codes = place.desk.accept(person.name, place.desk.more_recovery_codes(place.stepped_up(device)))["recovery_codes"]
    caller = place.desk.recognise(peer(), by_password("reader", "", codes[0], "recovery"))
    assert caller.factors == {Factor.RECOVERY_CODE}
    with pytest.raises(NotIdentified, match="opens no session"):
        place.desk.open_session(caller, "browser")
    assert place.desk.invited(place.desk.recovery_link(caller)).purpose == "recover"
    with pytest.raises(NotIdentified):
        place.desk.recovery_link(place.desk.recognise(peer(), place.claim(device)))


def test_all_refusals_look_alike_outside_and_are_told_apart_inside(place: Place) -> None:
    app, _ = place.password(place.person())
    place.passkey(place.person("keyed"))
    gone = place.person("gone")
    place.password(gone)
    place.people.disable(gone.id, "left", place.clock())
    place.clock.wait(30)
    reasons = set()
    for name, password, code in [
        ("reader", "wrong", now(place, app)), ("reader", PASSWORD, "000000"), ("nobody", PASSWORD, "000000"),
        ("keyed", PASSWORD, "000000"), ("gone", PASSWORD, "000000"),
    ]:  # fmt: skip
        with pytest.raises(NotIdentified) as refused:
            place.desk.recognise(peer(), by_password(name, password, code))
        assert type(refused.value) is NotIdentified
        reasons.add(str(refused.value))
    assert len(reasons) == 4


def test_an_unknown_name_costs_the_same_work(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """One hash each, with the same parameters."""
    place.password(place.person())
    place.passkey(place.person("keyed"))
    worked: list[str] = []
    real = argon2.PasswordHasher.verify

    def verify(self: argon2.PasswordHasher, hash_: str, password: str) -> bool:
        worked.append("$".join(hash_.split("$")[1:4]))
        return real(self, hash_, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", verify)
    for name in ("reader", "keyed", "nobody", "", "x" * 5000, "\ud800"):
        with pytest.raises(NotIdentified):
            place.desk.recognise(peer(f"10.1.1.{len(worked)}"), by_password(name, "wrong", "000000"))
    assert worked == ["argon2id$v=19$m=64,t=1,p=1"] * 6


def test_nobodys_password_is_never_right_and_takes_as_long() -> None:
    passwords = Passwords(memory_kibibytes=8192, passes=2)
    kept = passwords.hash(PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=8192,t=2,p=1$")
    assert passwords.verify(kept, PASSWORD) and not passwords.verify(kept, PASSWORD.upper())
    assert not passwords.verify("", PASSWORD)

    def cost(hash_: str, password: str) -> int:
        """Of the thread's own processor time: the machine's other work does not count."""
        took = []
        for _ in range(5):
            before = time.thread_time_ns()
            passwords.verify(hash_, password)
            took.append(time.thread_time_ns() - before)
        return min(took)

    right, wrong, nobodys = cost(kept, PASSWORD), cost(kept, "wrong"), cost("", "wrong")
    assert max(right, wrong, nobodys) < 3 * min(right, wrong, nobodys)


def test_a_long_password_counts_to_its_end() -> None:
    passwords = Passwords(**QUICK)
    kept = passwords.hash("correct " * 20 + "end")
    assert passwords.verify(kept, "correct " * 20 + "end") and not passwords.verify(kept, "correct " * 20 + "eng")
    assert (
        not passwords.verify(kept, "x" * 2_000_000)
        and not passwords.verify(kept, None)
        and not passwords.verify(kept, b"x")
    )
    assert not passwords.verify("no hash at all", "x")


def test_however_it_was_typed() -> None:
    passwords = Passwords(**QUICK)
    assert passwords.verify(passwords.hash("caf\u00e9 au lait noir"), "cafe\u0301 au lait noir")


def test_only_so_many_hashes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HASH_WAIT_SECONDS", 0.05)
    passwords = Passwords(**QUICK)
    kept = passwords.hash(PASSWORD)
    inside, leave = threading.Barrier(module.HASHES_AT_ONCE_MAX + 1), threading.Event()

    def hold() -> None:
        with passwords._turn():
            inside.wait(10)
            leave.wait(10)

    threads = [threading.Thread(target=hold) for _ in range(module.HASHES_AT_ONCE_MAX)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    with pytest.raises(Overloaded):
        passwords.verify(kept, PASSWORD)
    leave.set()
    for thread in threads:
        thread.join()
    assert passwords.verify(kept, PASSWORD)


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("short", "at least 12"), ("x" * 1025, "at most 1024"), ("aaaaaaaaaaaaaaaa", "same few"), ("reader-reader-1", "little more than"),
        ("line\nfeed and more", "control"), ("reading.room2024", "little more than"), ("leadglass1234", "little more than"),
    ],
)  # fmt: skip
def test_what_is_no_password(password: str, said: str) -> None:
    person = Person("00", "reader", "Reading Room", frozenset(), mail="reading.room@hospital.example")
    with pytest.raises(Unsuitable, match=said):
        suitable(password, person)


@pytest.mark.parametrize(
    "password", [PASSWORD, "correct horse battery staple", "四つの灯りと雪の夜明け前の静", "the reader of four lamps"]
)
def test_a_few_words_do(password: str) -> None:
    assert suitable(password, Person("00", "reader", "Reader", frozenset())) == password


# ---- guesses


def test_guesses_are_slowed_and_the_passkey_is_not(place: Place) -> None:
    person = place.person()
    app, _ = place.password(person)
    device = place.passkey(person)
    place.clock.wait(30)
    for _ in range(FREE_PER_NAME_AND_ADDRESS):
        with pytest.raises(NotIdentified, match="password is wrong"):
            place.desk.recognise(peer(), by_password("reader", "guess", "000000"))
    with pytest.raises(Slowed, match="looked at in 5 s") as slowed:
        place.another_process().recognise(peer(), by_password("reader", PASSWORD, now(place, app)))
    assert slowed.value.seconds == 5
    assert place.desk.recognise(peer(), place.claim(device)), "a passkey always works"
    assert place.desk.recognise(peer("10.20.1.6"), by_password("reader", PASSWORD, now(place, app))), (
        "so does another place"
    )
    place.clock.wait(60)
    assert place.desk.recognise(peer(), by_password("reader", PASSWORD, now(place, app)))
    with pytest.raises(NotIdentified, match="password is wrong"):
        place.desk.recognise(peer(), by_password("reader", "guess", "000000"))


def test_each_wait_is_longer_up_to_five_minutes(place: Place) -> None:
    waits = []
    for _ in range(FREE_PER_NAME_AND_ADDRESS + 9):
        while True:
            try:
                place.desk.recognise(peer(), by_password("nobody", "guess", "000000"))
            except Slowed as slowed:
                waits.append(slowed.seconds)
                place.clock.wait(slowed.seconds)
            except NotIdentified:
                break
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_stuffing_many_names_from_one_place_is_slowed(place: Place) -> None:
    for number in range(FREE_PER_ADDRESS):
        with pytest.raises(NotIdentified, match="nobody"):
            place.desk.recognise(peer(f"2001:db8::{number:x}"), by_password(f"name{number}", "guess", "0"))
    with pytest.raises(Slowed):
        place.desk.recognise(peer("2001:db8::ffff"), by_password("another", "guess", "0"))
    with pytest.raises(NotIdentified, match="nobody"):
        place.desk.recognise(peer("2001:db8:0:1::1"), by_password("another", "guess", "0"))


def test_guessing_from_everywhere_slows_strangers_and_not_where_the_person_works(place: Place) -> None:
    app, _ = place.password(place.person())
    place.clock.wait(30)
    place.desk.open_session(place.desk.recognise(peer(), by_password("reader", PASSWORD, now(place, app))), "browser")
    for number in range(FREE_PER_NAME):
        with pytest.raises(NotIdentified, match="password is wrong"):
            place.desk.recognise(peer(f"10.30.{number}.1"), by_password("reader", "guess", "0"))
    with pytest.raises(Slowed, match="2 s"):
        place.desk.recognise(peer("10.99.1.1"), by_password("reader", PASSWORD, now(place, app)))
    place.clock.wait(1)
    with pytest.raises(Slowed):
        place.desk.recognise(peer("10.99.1.1"), by_password("reader", PASSWORD, now(place, app)))
    place.clock.wait(30)
    assert place.desk.recognise(peer(), by_password("reader", PASSWORD, now(place, app)))


def test_many_guesses_at_once_count_as_many(place: Place) -> None:
    place.password(place.person())
    looked_at: list[str] = []

    def guess() -> None:
        try:
            place.desk.recognise(peer(), by_password("reader", "guess", "000000"))
        except Slowed:
            return
        except NotIdentified as refusal:
            looked_at.append(str(refusal))

    threads = [threading.Thread(target=guess) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looked_at) == FREE_PER_NAME_AND_ADDRESS


def test_recovery_codes_are_kept_as_digests(place: Place, tmp_path: Path) -> None:
    _, codes = place.password(place.person())
    kept = {str(row[0]) for row in place.register.read("SELECT digest FROM recovery_codes")}
    assert kept == {recovery_digest(code) for code in codes} and not kept & set(codes)
