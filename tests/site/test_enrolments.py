"""What was asked for at the console: durable, sealed, given once, over in time; and the facts of a device, checked and written the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leadglass.site import enrolments
from leadglass.site.device_facts import device_table, flow_table, settled
from leadglass.site.enrolments import COLLECT_WITHIN_SECONDS, SIGN_WITHIN_SECONDS, Enrolment, Enrolments
from leadglass.site.register import Register
from leadglass.terms import KeyFault, NotChanged

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
CERTIFICATE = {"fingerprint": "sha256:" + "ab" * 32, "pem": "x"}
BUNDLE = b"a private key"
ZONES = {"ct": ["10.1.0.0/16"], "mr": ["10.2.0.0/16", "fd00::/64"]}


def facts(**changes: Any) -> dict[str, Any]:
    return {
        "name": "CT1", "ae": ["CT1"], "network": "10.1.0.7", "zone": "", "may": ["echo"], "address": "", "sop_class": [], "why": "",
        "record": {}, **changes,
    }  # fmt: skip


@pytest.fixture
def register(tmp_path: Path) -> Register:
    return Register.open(tmp_path / "register.db", bytes(range(32)))


@pytest.fixture
def kept(register: Register) -> Enrolments:
    return Enrolments(register, bytes(32))


def asked(kept: Enrolments, enrolment_id: str = "e1", name: str = "CT1") -> Enrolment:
    kept.ask(Enrolment(enrolment_id, name, "p1", NOW, facts(name=name), ""))
    found = kept.get(enrolment_id)
    assert found is not None
    return found


def test_from_asked_to_collected(kept: Enrolments) -> None:
    enrolment = asked(kept)
    assert enrolment == Enrolment("e1", "CT1", "p1", NOW, facts(), "")
    kept.begin("e1", CERTIFICATE, BUNDLE)
    assert [each.certificate for each in kept.asked()] == [CERTIFICATE]
    with pytest.raises(NotChanged):
        kept.collect("e1", NOW)  # not yet
    kept.sign("e1", NOW)
    assert kept.asked() == [] and kept.collect("e1", NOW + 1) == BUNDLE
    with pytest.raises(NotChanged, match="given once"):
        kept.collect("e1", NOW + 1)
    for settle in (kept.sign, lambda *_: kept.fail("e1", "late", NOW), lambda *_: kept.lapse("e1", NOW)):
        with pytest.raises(NotChanged):
            settle("e1", NOW)


def test_the_digest_is_of_exactly_what_was_asked_for(kept: Enrolments) -> None:
    one = asked(kept)
    changed = [
        Enrolment("e1", "CT2", "p1", NOW, facts(), ""),
        Enrolment("e1", "CT1", "p1", NOW, facts(may=["echo", "find"]), ""),
        Enrolment("e1", "CT1", "p1", NOW, facts(), "a request"),
    ]
    assert len({each.digest for each in (one, *changed)}) == 4
    assert one.digest == Enrolment("other", "CT1", "p2", 1, facts(), "").digest


def test_time_runs_out(kept: Enrolments, register: Register) -> None:
    asked(kept)
    with pytest.raises(NotChanged, match="is not over"):
        kept.lapse("e1", NOW + SIGN_WITHIN_SECONDS * SECOND - 1)
    kept.begin("e1", CERTIFICATE, BUNDLE)
    kept.sign("e1", NOW)
    end = NOW + COLLECT_WITHIN_SECONDS * SECOND
    assert kept.overdue(end - 1) == [] and [each.id for each in kept.overdue(end)] == ["e1"]
    with pytest.raises(NotChanged):
        kept.collect("e1", end)
    kept.lapse("e1", end)
    assert register.read("SELECT state, bundle FROM enrolments") == [("lapsed", None)]
    asked(kept, "e2", "CT2")
    kept.lapse("e2", NOW + SIGN_WITHIN_SECONDS * SECOND)
    found = kept.get("e2")
    assert found is not None and (found.state, found.reason) == ("lapsed", "nobody signed it in time")


def test_a_bundle_is_sealed_for_its_own_enrolment(kept: Enrolments, register: Register) -> None:
    for each in ("e1", "e2"):
        asked(kept, each, each)
        kept.begin(each, CERTIFICATE, BUNDLE)
        kept.sign(each, NOW)
    ((sealed,),) = register.read("SELECT bundle FROM enrolments WHERE id = 'e1'")
    assert BUNDLE not in bytes(sealed)
    with register.transaction() as connection:
        connection.execute("UPDATE enrolments SET bundle = ? WHERE id = 'e2'", (sealed,))
    with pytest.raises(KeyFault):
        kept.collect("e2", NOW)
    with pytest.raises(KeyFault):
        Enrolments(register, bytes(31) + b"x").collect("e1", NOW)


def test_what_failed_keeps_nothing(kept: Enrolments, register: Register) -> None:
    asked(kept)
    kept.begin("e1", CERTIFICATE, BUNDLE)
    kept.fail("e1", "the name is taken", NOW)
    assert register.read("SELECT state, reason, bundle FROM enrolments") == [("failed", "the name is taken", None)]
    asked(kept, "e2")  # may be asked for again


def test_only_so_many_wait(kept: Enrolments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolments, "WAITING_MAX", 2)
    asked(kept, "e1", "CT1")
    with pytest.raises(NotChanged, match="asked for already"):
        asked(kept, "e2", "CT1")
    asked(kept, "e2", "CT2")
    with pytest.raises(NotChanged, match="2 enrolments wait"):
        asked(kept, "e3", "CT3")


# ---- the facts


@pytest.mark.parametrize(
    ("given", "network", "zone"),
    [
        ({}, "10.1.0.7/32", "ct"),
        ({"network": "10.2.0.0/24", "zone": "mr"}, "10.2.0.0/24", "mr"),
        ({"network": "fd00::1"}, "fd00::1/128", "mr"),
    ],
)
def test_settled(given: dict[str, Any], network: str, zone: str) -> None:
    found, wrong = settled(facts(**given), ZONES)
    assert (found["network"], found["zone"], wrong) == (network, zone, [])


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        ({"name": ""}, "name"),
        ({"name": "../CT1"}, "name"),
        ({"name": "archive"}, "name"),
        ({"network": ""}, "network"),
        ({"network": "10.1.0.7/16"}, "network"),
        ({"network": "192.168.0.1"}, "network"),
        ({"network": "10.0.0.0/8"}, "network"),
        ({"zone": "mr"}, "network"),
        ({"zone": "moon"}, "zone"),
        ({"ae": [" CT1"]}, "ae"),
        ({"ae": ["A\\B"]}, "ae"),
        ({"ae": ["SEVENTEENLETTERS1"]}, "ae"),
        ({"may": ["echo", "erase"]}, "may"),
        ({"address": "10.1.0.7"}, "address"),
        ({"address": "10.1.0.7:70000"}, "address"),
        ({"sop_class": ["NoSuchStorage"]}, "sop_class"),
        ({"why": "one\ntwo"}, "why"),
        ({"record": {"maker": "x" * 201}}, "maker"),
    ],
)
def test_each_mistake_names_its_fact(given: dict[str, Any], fact: str) -> None:
    _, wrong = settled(facts(**given), ZONES)
    assert [each.fact for each in wrong] == [fact]
    assert wrong[0].what and wrong[0].mend


def test_what_stands_in_the_device_file() -> None:
    found, _ = settled(facts(record={"maker": "Acme", "model": ""}, address="10.1.0.7:104"), ZONES)
    assert device_table(found, "sha256:x") == {
        "zone": "ct", "network": "10.1.0.7/32", "ae_titles": ["CT1"], "certificate": ["sha256:x"], "address": "10.1.0.7:104", "maker": "Acme",
    }  # fmt: skip
    flow = flow_table(found)
    assert flow is not None and (flow["from"], flow["may"], flow["why"]) == (
        ["CT1"],
        ["echo"],
        "CT1 was enrolled to echo",
    )
    assert flow_table(facts(may=[])) is None and flow_table(facts(ae=[])) is None
