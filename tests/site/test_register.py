"""The register: encrypted, durable, shared by processes; certificates only move onward; what is pending survives a restart."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from leadglass.site.register import MIGRATIONS, Register, Taken
from leadglass.terms import Fault, KeyFault, Reference, StoreFault

KEY = bytes(range(32))


@pytest.fixture
def register(tmp_path: Path) -> Register:
    return Register.open(tmp_path / "register.db", KEY)


def add(register: Register, device: str, fingerprint: str, kind: str = "issued") -> None:
    register.add_certificate(
        device=device, fingerprint=fingerprint, serial="1f", not_before_ns=1, not_after_ns=2, kind=kind, pem="PEM"
    )


def states(register: Register) -> dict[str, tuple[str, str]]:
    return {each.fingerprint: (each.device, each.state) for each in register.certificates()}


def test_nothing_in_its_files_is_readable(tmp_path: Path, register: Register) -> None:
    add(register, "CT-EMERGENCY", "sha256:4711")
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        assert b"CT-EMERGENCY" not in data and b"SQLite format" not in data and KEY not in data
    register.close()
    assert b"CT-EMERGENCY" not in (tmp_path / "register.db").read_bytes()
    with pytest.raises(KeyFault, match="site key"):
        Register.open(tmp_path / "register.db", bytes(32))
    with pytest.raises(KeyFault):
        Register.open(tmp_path / "register.db", b"short")
    assert states(Register.open(tmp_path / "register.db", KEY)) == {"sha256:4711": ("CT-EMERGENCY", "issued")}


def test_full_sync_and_wal(register: Register) -> None:
    assert register._connection.pragma("journal_mode") == "wal"
    assert register._connection.pragma("synchronous") == 2


def test_a_newer_one_is_refused(tmp_path: Path, register: Register) -> None:
    newer = MIGRATIONS[-1].number + 1
    register._connection.execute(f"INSERT INTO migrations VALUES({newer}, 'later', '', 0)")
    register.close()
    with pytest.raises(Fault, match=rf"newer Leadglass \(format {newer}\)"):
        Register.open(tmp_path / "register.db", KEY)


def test_a_place_that_cannot_hold_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreFault):
        Register.open(tmp_path / "nowhere" / "register.db", KEY)


def test_certificates_in_the_order_of_issue(register: Register) -> None:
    for number in range(3):
        add(register, "CT1", f"sha256:{number}")
    add(register, "CT1", "sha256:1")
    assert [each.fingerprint for each in register.certificates()] == ["sha256:0", "sha256:1", "sha256:2"]
    first, second, _ = register.certificates()
    assert first.issued_ns < second.issued_ns and first.issued_ns == first.changed_ns
    assert (first.device, first.serial, first.not_before_ns, first.not_after_ns) == ("CT1", "1f", 1, 2)
    assert (first.kind, first.pem, first.state) == ("issued", "PEM", "issued")


@pytest.mark.parametrize(
    ("steps", "ends"),
    [
        (("active",), "active"),
        (("active", "superseded"), "superseded"),
        (("revoked", "active"), "revoked"),
        (("revoked", "superseded"), "revoked"),
        (("superseded", "active", "issued"), "superseded"),
        (("superseded", "revoked"), "revoked"),
    ],
)
def test_a_state_only_moves_onward(register: Register, steps: tuple[str, ...], ends: str) -> None:
    add(register, "CT1", "sha256:1")
    add(register, "CT2", "sha256:2")
    for state in steps:
        register.set_certificate_state("sha256:1", state)
        register.set_certificate_state("sha256:unknown", state)
    assert states(register) == {"sha256:1": ("CT1", ends), "sha256:2": ("CT2", "issued")}
    assert register.certificates()[0].changed_ns > register.certificates()[0].issued_ns


def test_a_certificate_vouches_for_one_device(register: Register) -> None:
    add(register, "CT1", "sha256:1", "pinned")
    add(register, "CT2", "sha256:1", "pinned")
    assert states(register) == {"sha256:1": ("CT2", "issued")}, "an enrolment that was abandoned holds nothing back"
    register.set_certificate_state("sha256:1", "active")
    with pytest.raises(Taken, match="CT2"):
        add(register, "CT3", "sha256:1", "pinned")
    add(register, "CT2", "sha256:1", "pinned")
    assert states(register) == {"sha256:1": ("CT2", "active")}


def test_a_word_that_is_none_is_never_kept(register: Register) -> None:
    with pytest.raises(StoreFault):
        add(register, "CT1", "sha256:1", "borrowed")
    with pytest.raises(ValueError):
        register.set_certificate_state("sha256:1", "lost")
    assert register.certificates() == []


def test_a_waiver_ends(register: Register) -> None:
    register.add_waiver("w1", "CT1", "sha256:1", 2**62, "renewal is late", "ada")
    register.add_waiver("w2", "CT1", "sha256:2", 1, "long ago", "ada")
    (waiver,) = register.waivers()
    assert (waiver.id, waiver.device, waiver.fingerprint, waiver.until_ns) == ("w1", "CT1", "sha256:1", 2**62)
    assert (waiver.reason, waiver.operator) == ("renewal is late", "ada")


def test_an_intent_without_an_end_is_named(tmp_path: Path, register: Register) -> None:
    for change in ("one", "two", "three"):
        register.change_intended(change, "00" * 32, "device-enroll", "CT1")
    register.change_intended("one", "00" * 32, "device-enroll", "CT1")
    register.change_settled("one", "completed")
    register.change_settled("three", "abandoned")
    again = Register.open(tmp_path / "register.db", KEY)
    assert again.unfinished_changes() == [("two", "device-enroll", "CT1")]


def test_commitments_survive_a_restart(tmp_path: Path, register: Register) -> None:
    references = tuple(Reference("1.2.840.10008.5.1.4.1.1.2", f"1.2.{number}") for number in range(1000))
    register.add("CT1", "1.2.3", references[:1], "CT1AE")
    register.add("CT2", "1.2.3", references[:2], "CT2AE")
    register.add("CT1", "1.2.3", references, "CT1AE")
    register.close()
    again = Register.open(tmp_path / "register.db", KEY)
    other, mine = again.pending_commitments()
    assert (mine.device, mine.transaction_uid, mine.calling_ae_title) == ("CT1", "1.2.3", "CT1AE")
    assert mine.references == references and other.references == references[:2]
    again.commitment_reported(mine.id)
    assert again.pending_commitments() == [other]


def test_a_budget_is_one_for_all(tmp_path: Path, register: Register) -> None:
    other = Register.open(tmp_path / "register.db", KEY)
    spent: list[bool] = []

    def spend(of: Register) -> None:
        spent.extend(of.spend("export", 3, limit=30, window_seconds=86400) for _ in range(10))

    threads = [threading.Thread(target=spend, args=(each,)) for each in (register, register, other, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spent.count(True) == 10
    assert not register.spend("export", 1, limit=30, window_seconds=86400)
    assert register.spend("erasure", 30, limit=30, window_seconds=86400), "each budget for itself"
    assert register.spend("export", 30, limit=30, window_seconds=0), "its window is over"


def test_threads_and_processes_meet_in_it(tmp_path: Path, register: Register) -> None:
    other = Register.open(tmp_path / "register.db", KEY)

    def enroll(of: Register, name: str) -> None:
        for number in range(20):
            add(of, name, f"sha256:{name}{number}")

    threads = [
        threading.Thread(target=enroll, args=(of, name))
        for of, name in ((register, "A"), (register, "B"), (other, "C"), (other, "D"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(register.certificates()) == len(other.certificates()) == 80


def test_a_change_that_fails_changes_nothing(register: Register) -> None:
    with pytest.raises(StoreFault):
        with register.transaction() as connection:
            connection.execute("INSERT INTO proven VALUES('d', 'ada', 1)")
            connection.execute("INSERT INTO nothing VALUES(1)")
    assert list(register._connection.execute("SELECT * FROM proven")) == []
    register.add_proven("d", "ada")
    assert len(list(register._connection.execute("SELECT * FROM proven"))) == 1
